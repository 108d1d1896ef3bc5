// The derivatives of the statistics (conventions as in `mixture.cu`, formulas of
// `compiled_derivatives.py`). With z_ik = <eta_k, phi(x_i - point_k)>, phi_ik = phi(x_i - origin_k),
//
//     S_k = sum_i s_i gamma_ik phi_ik,    gamma_ik' = gamma_ik (z_ik' - sum_l gamma_il z_il').

// <direction_k, phi(x - points_k)> of the sample of this thread, for all components.
static __device__ void forms(const Mixture &m, const double *points, Columns c, double *out) {
    int w = c.width;
    clear(out, m.n_components(), w);
    const double *rows = c.rows + threadIdx.x;
    near_forms(m, m.direction, rows, rows, w, out);
    for (int k = 0; k < m.n_apart; k++) {
        About own = about(m, c, points, k);
        const double *coefficients = m.direction + (m.n_near + k) * m.p;
        double sum = 0.0;
        for (int f = 0; f < m.p; f++) sum += coefficients[f] * own.product(m.left[f], m.right[f]);
        out[(m.n_near + k) * w] = sum;
    }
}

// Subtract sum_k gamma_k form_k from the forms, and return it.
static __device__ double center_forms(const double *gamma, double *form, int K, place width) {
    double mean = 0.0;
    for (int k = 0; k < K; k++) mean += gamma[k * width] * form[k * width];
    for (int k = 0; k < K; k++) form[k * width] -= mean;
    return mean;
}

// What a row receives goes on to the sample: x_bar += c * (d row / d x) * other.
template <class Sample>
static __device__ void pull_row(int row, double amount, const Sample &sample, int d, double *x_bar,
                                int width) {
    if (row == 0) return;
    if (row <= d) {
        x_bar[(row - 1) * width] += amount;
        return;
    }
    for (int a = 0; a < d; a++) x_bar[a * width] += 2.0 * amount * sample[1 + a];
}

template <class Sample>
static __device__ void pull_feature(int l, int r, double amount, const Sample &sample, int d,
                                    double *x_bar, int width) {
    pull_row(l, amount * sample[r], sample, d, x_bar, width);
    pull_row(r, amount * sample[l], sample, d, x_bar, width);
}

// x_bar = J_phi(x)' sum_k (gamma_k direction_k + form_k eta_k), the two about their own points.
static __device__ void pull_back(const Mixture &m, Columns c, const double *gamma,
                                 const double *form, double *x_bar) {
    int t = threadIdx.x, w = c.width;
    clear(x_bar, m.d, w);
    Kept kept;
    kept.rows = c.rows + t, kept.width = w;
    for (int f = 0; f < m.p && m.n_near; f++) {
        double sum = 0.0;
        for (int k = 0; k < m.n_near; k++)
            sum += gamma[k * w] * m.direction[k * m.p + f] +
                   form[k * w] * m.coefficients[k * m.p + f];
        pull_feature(m.left[f], m.right[f], sum, kept, m.d, x_bar, w);
    }
    for (int k = m.n_near; k < m.n_components(); k++) {
        About origin = about(m, c, m.origins, k - m.n_near);
        About point = about(m, c, m.points, k - m.n_near);
        for (int f = 0; f < m.p; f++) {
            pull_feature(m.left[f], m.right[f], gamma[k * w] * m.direction[k * m.p + f], origin,
                         m.d, x_bar, w);
            pull_feature(m.left[f], m.right[f], form[k * w] * m.coefficients[k * m.p + f], point,
                         m.d, x_bar, w);
        }
    }
}

// Pull a cotangent U of the statistics back: with u_ik = <U_k, phi_ik>, u_i = sum_k gamma_ik u_ik
// and b_ik = gamma_ik (u_ik - u_i),
//
//     eta_bar_k = sum_i s_i b_ik phi(x_i - point_k),    s_bar_i = u_i,
//     x_bar_i = s_i J_phi(x_i)' sum_k (gamma_ik U_k + b_ik eta_k).
//
// Those that have room are added to; the first as partial sums.
extern "C" __global__ void statistics_vjp(const REAL *X, const double *weight,
                                          long long n_samples, const double *numbers,
                                          const int *pairs, int d, int p, int n_near, int n_apart,
                                          int is_diagonal, double *X_bar, double *weight_bar,
                                          double *partials) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    Role role = role_of(m.left, m.right, p, n_near, n_apart);
    int t = threadIdx.x, K = m.n_components(), w = c.width;
    double *gamma = c.gamma + t, *forms_of_all = c.gamma + K * w, *form = forms_of_all + t;
    double *x_bar = form + K * w;
    double sums[PART][PART] = NO_SUMS;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        place i = sample_of(tile, n_samples);
        bool is_sample = tile * blockDim.x + t < n_samples;
        load(X, i, m, c);
        logits(m, c);
        softmax(gamma, K, w);
        forms(m, m.origins, c, form);
        double mean = center_forms(gamma, form, K, w);
        if (weight_bar && is_sample) weight_bar[i] += mean;
        double s = weight_of(weight, tile, n_samples);
        for (int k = 0; k < K; k++) {
            gamma[k * w] *= s;
            form[k * w] *= gamma[k * w];
        }
        if (X_bar && is_sample) {
            pull_back(m, c, gamma, form, x_bar);
            for (int a = 0; a < d; a++) X_bar[i * d + a] += x_bar[a * w];
        }
        __syncthreads();
        if (partials) add_sums(role, m, m.points, forms_of_all, c, sums);
        __syncthreads();
    }
    if (partials) write_partials(role, sums, 0.0, K * p, shared, partials);
}

// The tangent of the statistics: with eta' the direction, z_ik' = <eta_k', phi> + <eta_k, phi'>,
//
//     S_k' = sum_i (s_i' gamma_ik + s_i gamma_ik') phi_ik + s_i gamma_ik phi_ik'.
extern "C" __global__ void statistics_jvp(const REAL *X, const double *weight,
                                          long long n_samples, const double *numbers,
                                          const int *pairs, int d, int p, int n_near, int n_apart,
                                          int is_diagonal, const double *X_dot,
                                          const double *weight_dot, double *partials) {
    extern __shared__ double shared[];
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, is_diagonal);
    Columns c = columns_in(shared, m);
    Role role = role_of(m.left, m.right, p, n_near, n_apart);
    int t = threadIdx.x, K = m.n_components(), w = c.width;
    double *gamma = c.gamma + t, *forms_of_all = c.gamma + K * w, *form = forms_of_all + t;
    double *rows_dot = forms_of_all + K * w, *x_dot = rows_dot + w;
    double sums[PART][PART] = NO_SUMS;
    Range range = tiles_of_block(n_samples);
    for (place tile = range.first; tile < range.last; tile++) {
        place i = sample_of(tile, n_samples);
        bool is_sample = tile * blockDim.x + t < n_samples;
        load(X, i, m, c);
        logits(m, c);
        softmax(gamma, K, w);
        forms(m, m.points, c, form);
        if (X_dot) {
            double norm_dot = 0.0;
            rows_dot[t] = 0.0;
            for (int a = 0; a < d; a++) {
                x_dot[a * w + t] = X_dot[i * d + a];
                norm_dot += 2.0 * c.rows[(1 + a) * w + t] * x_dot[a * w + t];
            }
            rows_dot[(d + 1) * w + t] = norm_dot;
            near_forms(m, m.coefficients, rows_dot + t, c.rows + t, w, form);
            near_forms(m, m.coefficients, c.rows + t, rows_dot + t, w, form);
            for (int k = 0; k < m.n_apart; k++) {
                AboutDot dot;
                dot.about = about(m, c, m.points, k), dot.x_dot = x_dot + t;
                const double *eta = m.coefficients + (n_near + k) * p;
                for (int f = 0; f < p; f++)
                    form[(n_near + k) * w] += eta[f] * dot.product(m.left[f], m.right[f]);
            }
        }
        center_forms(gamma, form, K, w);
        double s = weight_of(weight, tile, n_samples);
        double s_dot = weight_dot && is_sample ? weight_dot[i] : 0.0;
        for (int k = 0; k < K; k++) {
            form[k * w] = gamma[k * w] * (s_dot + s * form[k * w]);
            gamma[k * w] *= s;
        }
        __syncthreads();
        add_sums(role, m, m.origins, forms_of_all, c, sums);
        if (X_dot) add_moved_sums(role, m, m.origins, c.gamma, c, rows_dot, sums);
        __syncthreads();
    }
    write_partials(role, sums, 0.0, K * p, shared, partials);
}
