// The sums of an E-step, and what a mixture says of single samples: the fused kernels but for
// derivatives (`mixture.cu`).

#define NO_SUMS {{0.0}}

// What `densities` answers for one sample, of whose logits responsibilities become.
static __device__ void answer(double *gamma, int K, place width, place i, const int *order,
                              int is_completed, double *log_density, double *responsibilities,
                              long long *labels) {
    if (labels) {
        int best = 0;
        for (int k = 1; k < K; k++) {
            double own = gamma[k * width], most = gamma[best * width];
            if (own > most || (own == most && order[k] < order[best])) best = k;
        }
        labels[i] = order[best];
    }
    if (!log_density && !responsibilities) return;
    double density = softmax(gamma, K, width);
    for (int k = 0; k < K; k++) {
        double own = gamma[k * width];
        if (responsibilities) responsibilities[i * K + order[k]] = own;
        if (is_completed && own > 0.0) density += own * log(own);
    }
    if (log_density) log_density[i] = density;
}

// S_k = sum_i s_i gamma_ik phi(x_i - origin_k), and sum_i s_i log p(x_i).
extern "C" __global__ void statistics(const REAL *X, const double *weight, long long n_samples,
                                      const double *numbers, const int *pairs, int d, int p,
                                      int n_near, int n_apart, int is_diagonal,
                                      double *partials) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    Role role = role_of(m.left, m.right, p, n_near, n_apart);
    int t = threadIdx.x, K = m.n_components();
    double sums[PART][PART] = NO_SUMS, log_likelihood = 0.0;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        load(X, sample_of(tile, n_samples), m, c);
        logits(m, c);
        double s = weight_of(weight, tile, n_samples);
        log_likelihood += s * softmax(c.gamma + t, K, c.width);
        scale(c.gamma + t, K, c.width, s);
        __syncthreads();
        add_sums(role, m, m.origins, c.gamma, c, sums);
        __syncthreads();
    }
    write_partials(role, sums, log_likelihood, K * p, shared, partials);
}

// The same sums for responsibilities that are given, an array (n_samples, K).
extern "C" __global__ void assigned_statistics(const REAL *X, const double *weight,
                                               long long n_samples, const double *numbers,
                                               const int *pairs, int d, int p, int n_near,
                                               int n_apart, int is_diagonal,
                                               const double *responsibilities,
                                               double *partials) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    Role role = role_of(m.left, m.right, p, n_near, n_apart);
    int K = m.n_components();
    double sums[PART][PART] = NO_SUMS;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        place i = sample_of(tile, n_samples);
        load(X, i, m, c);
        double s = weight_of(weight, tile, n_samples);
        for (int k = 0; k < K; k++)
            c.gamma[k * c.width + threadIdx.x] = s * responsibilities[i * K + k];
        __syncthreads();
        add_sums(role, m, m.origins, c.gamma, c, sums);
        __syncthreads();
    }
    write_partials(role, sums, 0.0, K * p, shared, partials);
}

// sum_i s_i gamma_ik and sum_i s_i gamma_ik gamma_il for all k and l, as sums of the K + 1
// features 1, gamma_i1 ... gamma_iK, which are products of the rows that `own_pairs` says.
extern "C" __global__ void overlaps(const REAL *X, const double *weight, long long n_samples,
                                    const double *numbers, const int *pairs, int d, int p,
                                    int n_near, int n_apart, int is_diagonal,
                                    const int *own_pairs, double *partials) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    int t = threadIdx.x, K = m.n_components();
    double *features = c.gamma, *weighted = features + (K + 1) * c.width;
    c.gamma = features + c.width;
    Role role = role_of(own_pairs, own_pairs + K + 1, K + 1, K, 0);
    double sums[PART][PART] = NO_SUMS, log_likelihood = 0.0;
    features[t] = 1.0;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        load(X, sample_of(tile, n_samples), m, c);
        logits(m, c);
        double s = weight_of(weight, tile, n_samples);
        log_likelihood += s * softmax(c.gamma + t, K, c.width);
        for (int k = 0; k < K; k++) weighted[k * c.width + t] = s * c.gamma[k * c.width + t];
        __syncthreads();
        if (!role.is_idle) add_near(role, weighted, features, c.width, sums);
        __syncthreads();
    }
    write_partials(role, sums, log_likelihood, K * (K + 1), shared, partials);
}

// log p(x_i), with sum_k gamma_ik log gamma_ik added if it is to be completed; gamma_ik (n, K);
// argmax_k gamma_ik: those that are wanted. Component k of the mixture is order[k] of the user's.
extern "C" __global__ void densities(const REAL *X, long long n_samples, const double *numbers,
                                     const int *pairs, int d, int p, int n_near, int n_apart,
                                     int is_diagonal, const int *order, int is_completed,
                                     double *log_density, double *responsibilities,
                                     long long *labels) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    int K = m.n_components();
    double *gamma = c.gamma + threadIdx.x;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        place i = tile * blockDim.x + threadIdx.x;
        if (i >= n_samples) break;
        load(X, i, m, c);
        logits(m, c);
        answer(gamma, K, c.width, i, order, is_completed, log_density, responsibilities, labels);
    }
}
