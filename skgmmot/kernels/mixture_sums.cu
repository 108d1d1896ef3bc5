// Sums over samples, and the fused kernels but for derivatives (`mixture.cu`).

// The role of a thread when sums are taken: which PART x PART of them, and of which samples.
struct Role {
    int task, slice, n_slices;
    bool is_near, is_idle;
    int p, n_components, first_component, first_feature;
    int2 pairs[PART];

    // Beyond the last component, or feature, there are copies of it.
    __device__ int component(int j) const {
        int k = first_component + j;
        return k < n_components ? k : n_components - 1;
    }
    __device__ int feature(int j) const {
        int f = first_feature + j;
        return f < p ? f : p - 1;
    }
};

static __device__ Role role_of(const int2 *pairs, int p, int n_near, int n_apart) {
    Role role;
    int of_features = n_parts(p), n_near_tasks = n_parts(n_near) * of_features;
    int n_tasks = n_near_tasks + n_parts(n_apart) * of_features;
    role.n_slices = n_threads() / n_tasks;
    role.task = threadIdx.x / role.n_slices, role.slice = threadIdx.x % role.n_slices;
    role.is_idle = role.task >= n_tasks;
    role.is_near = !APART || role.task < n_near_tasks;
    int own = role.is_near ? role.task : role.task - n_near_tasks;
    role.first_component = own / of_features * PART + (role.is_near ? 0 : n_near);
    role.n_components = role.is_near ? n_near : n_near + n_apart;
    role.p = p, role.first_feature = own % of_features * PART;
#pragma unroll
    for (int j = 0; j < PART; j++)
        if (pairs) role.pairs[j] = pairs[role.feature(j)];
    return role;
}

// sums += weights_k phi_f over the samples of the tile, phi being common to all components.
static __device__ void add_near(const Role &role, const double *weights, const Features &features,
                                double (&sums)[PART][PART]) {
    int w = features.width;
    for (int i = role.slice; i < n_threads(); i += role.n_slices) {
        double phi[PART];
#pragma unroll
        for (int f = 0; f < PART; f++)
            phi[f] = features.kept ? features.kept[role.feature(f) * w + i]
                                   : features.made(role.pairs[f], i);
#pragma unroll
        for (int j = 0; j < PART; j++) {
            double weight = weights[role.component(j) * w + i];
#pragma unroll
            for (int f = 0; f < PART; f++) sums[j][f] += weight * phi[f];
        }
    }
}

// Of components that have points of their own; if samples move by x_dot, of tangents of features.
static __device__ void add_apart(const Role &role, const Mixture &m, const double *points,
                                 const double *weights, Columns c, const double *x_dot,
                                 double (&sums)[PART][PART]) {
    for (int i = role.slice; i < n_threads(); i += role.n_slices) {
#pragma unroll
        for (int j = 0; j < PART; j++) {
            int k = role.component(j);
            double weight = weights[k * c.width + i];
            AboutDot dot;
            dot.about = about(m, c, points, k - m.n_near, i), dot.x_dot = x_dot + i;
#pragma unroll
            for (int f = 0; f < PART; f++)
                sums[j][f] += weight * (x_dot ? dot.feature(role.pairs[f])
                                              : dot.about.feature(role.pairs[f]));
        }
    }
}

// Add weights_k phi_f, components apart having phi about some points of theirs; or tangents of phi
// where samples move by x_dot, and the features are those of the movement.
static __device__ void add_sums(const Role &role, const Mixture &m, const double *points,
                                const double *weights, Columns c, const Features &features,
                                const double *x_dot, double (&sums)[PART][PART]) {
    if (role.is_idle) return;
    if (!APART || role.is_near)
        add_near(role, weights, features, sums);
    else
        add_apart(role, m, points, weights, c, x_dot, sums);
}

// One partial sum of the block for each of n_sums, of components and features, and one of what
// threads have of a total. The room has PART * PART + 1 numbers for each thread.
static __device__ void write_partials(const Role &role, double (&sums)[PART][PART], double total,
                                      int n_sums, double *room, double *partials) {
    int t = threadIdx.x, T = n_threads();
    double *totals = room + PART * PART * T;
    double *out = partials + (place)blockIdx.x * (n_sums + 1);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < PART; j++)
#pragma unroll
        for (int f = 0; f < PART; f++) room[(j * PART + f) * T + t] = sums[j][f];
    totals[t] = total;
    __syncthreads();
    for (int e = role.slice; !role.is_idle && e < PART * PART; e += role.n_slices) {
        int k = role.first_component + e / PART, f = role.first_feature + e % PART;
        if (k >= role.n_components || f >= role.p) continue;
        const double *own = room + e * T + role.task * role.n_slices;
        double sum = 0.0;
        for (int s = 0; s < role.n_slices; s++) sum += own[s];
        out[k * role.p + f] = sum;
    }
    for (int half = T / 2; half > 0; half /= 2) {
        if (t < half) totals[t] += totals[t + half];
        __syncthreads();
    }
    if (t == 0) out[n_sums] = totals[0];
}

#define NO_SUMS {{0.0}}

// S_k = sum_i s_i gamma_ik phi(x_i - origin_k), and sum_i s_i log p(x_i).
extern "C" __global__ void statistics(const REAL *X, const double *weight, long long n_samples,
                                      const double *numbers, const int *pairs, int d, int p,
                                      int n_near, int n_apart, int flags, double *partials) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    Role role = role_of(m.pairs, p, m.n_near, m.n_apart);
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
        add_sums(role, m, m.origins, c.gamma, c, c.features, 0, sums);
        __syncthreads();
    }
    write_partials(role, sums, log_likelihood, K * p, shared, partials);
}

// The same sums for responsibilities that are given, an array (n_samples, K).
extern "C" __global__ void assigned_statistics(const REAL *X, const double *weight,
                                               long long n_samples, const double *numbers,
                                               const int *pairs, int d, int p, int n_near,
                                               int n_apart, int flags,
                                               const double *responsibilities,
                                               double *partials) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    Role role = role_of(m.pairs, p, m.n_near, m.n_apart);
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
        add_sums(role, m, m.origins, c.gamma, c, c.features, 0, sums);
        __syncthreads();
    }
    write_partials(role, sums, 0.0, K * p, shared, partials);
}

// sum_i s_i gamma_ik and sum_i s_i gamma_ik gamma_il for all k and l: sums of weights s_i gamma_ik
// of the K + 1 features 1, gamma_i1 ... gamma_iK.
extern "C" __global__ void overlaps(const REAL *X, const double *weight, long long n_samples,
                                    const double *numbers, const int *pairs, int d, int p,
                                    int n_near, int n_apart, int flags, double *partials) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    int t = threadIdx.x, K = m.n_components();
    double *ones = c.gamma, *weighted = c.next(end, K + 1);
    c.gamma = ones + c.width;  // the last of which is the first row of what was next
    weighted += c.width;
    Features own;
    own.kept = ones, own.rows = own.rows_dot = 0, own.width = c.width;
    Role role = role_of(0, K + 1, K, 0);
    double sums[PART][PART] = NO_SUMS, log_likelihood = 0.0;
    ones[t] = 1.0;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        load(X, sample_of(tile, n_samples), m, c);
        logits(m, c);
        double s = weight_of(weight, tile, n_samples);
        log_likelihood += s * softmax(c.gamma + t, K, c.width);
        for (int k = 0; k < K; k++) weighted[k * c.width + t] = s * c.gamma[k * c.width + t];
        __syncthreads();
        if (!role.is_idle) add_near(role, weighted, own, sums);
        __syncthreads();
    }
    write_partials(role, sums, log_likelihood, K * (K + 1), shared, partials);
}

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

// log p(x_i), with sum_k gamma_ik log gamma_ik added if it is to be completed; gamma_ik (n, K);
// argmax_k gamma_ik: those that are wanted. Component k of the mixture is order[k] of the user's.
extern "C" __global__ void densities(const REAL *X, long long n_samples, const double *numbers,
                                     const int *pairs, int d, int p, int n_near, int n_apart,
                                     int flags, const int *order, int is_completed,
                                     double *log_density, double *responsibilities,
                                     long long *labels) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    double *gamma = c.gamma + threadIdx.x;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        place i = tile * blockDim.x + threadIdx.x;
        if (i >= n_samples) break;
        load(X, i, m, c);
        logits(m, c);
        answer(gamma, m.n_components(), c.width, i, order, is_completed, log_density,
               responsibilities, labels);
    }
}
