// The derivatives of the statistics (conventions as in `mixture.cu`, formulas of
// `compiled_derivatives.py`). With z_ik = <eta_k, phi(x_i - point_k)>, phi_ik = phi(x_i - origin_k),
//
//     S_k = sum_i s_i gamma_ik phi_ik,    gamma_ik' = gamma_ik (z_ik' - sum_l gamma_il z_il').

// <direction_k, phi(x - points_k)> of the sample of this thread, for all components.
static __device__ void forms(const Mixture &m, const double *points, Columns c, double *out) {
    int w = c.width;
    clear(out, m.n_near, w);
    near_forms(m, m.direction, c.features, out);
    for (int k = 0; k < m.n_apart; k++) {
        About own = about(m, c, points, k, threadIdx.x);
        const double *direction = m.direction.of_apart(k);
        double sum = 0.0;
        for (int f = 0; f < m.p; f++) sum += direction[f] * own.feature(m.pairs[f]);
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

// The rows of a sample about the common point.
struct Rows {
    const double *rows;
    int width;

    __device__ double operator[](int row) const { return rows[row * width]; }
};

// What a row receives goes on to the sample: x_bar += amount * (d row / d x).
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
static __device__ void pull_feature(int2 pair, double amount, const Sample &sample, int d,
                                    double *x_bar, int width) {
    pull_row(pair.x, amount * sample[pair.y], sample, d, x_bar, width);
    pull_row(pair.y, amount * sample[pair.x], sample, d, x_bar, width);
}

// sum_k gamma_k direction_kf + form_k eta_kf over the components that are near.
static __device__ double near_cotangent(const Mixture &m, const double *gamma, const double *form,
                                        int f, int width) {
    double sum = 0.0, direction[PART], eta[PART];
    for (int first = 0; first < m.n_near; first += PART) {
        m.direction.part(first)[f].get(direction);
        m.coefficients.part(first)[f].get(eta);
#pragma unroll
        for (int j = 0; j < PART; j++) {
            int k = (first + j < m.n_near ? first + j : m.n_near - 1) * width;  // times zero
            sum += gamma[k] * direction[j] + form[k] * eta[j];
        }
    }
    return sum;
}

// x_bar = J_phi(x)' sum_k (gamma_k direction_k + form_k eta_k), the two about their own points.
static __device__ void pull_back(const Mixture &m, Columns c, const double *gamma,
                                 const double *form, double *x_bar) {
    int t = threadIdx.x, w = c.width;
    clear(x_bar, m.d, w);
    Rows rows;
    rows.rows = c.rows + t, rows.width = w;
    for (int f = 0; m.n_near && f < m.p; f++)
        pull_feature(m.pairs[f], near_cotangent(m, gamma, form, f, w), rows, m.d, x_bar, w);
    for (int k = 0; k < m.n_apart; k++) {
        double g = gamma[(m.n_near + k) * w], b = form[(m.n_near + k) * w];
        About origin = about(m, c, m.origins, k, t), point = about(m, c, m.points, k, t);
        const double *direction = m.direction.of_apart(k), *eta = m.coefficients.of_apart(k);
        for (int f = 0; f < m.p; f++) {
            pull_feature(m.pairs[f], g * direction[f], origin, m.d, x_bar, w);
            pull_feature(m.pairs[f], b * eta[f], point, m.d, x_bar, w);
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
                                          int flags, double *X_bar, double *weight_bar,
                                          double *partials) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    Role role = role_of(m.pairs, p, m.n_near, m.n_apart);
    int t = threadIdx.x, K = m.n_components(), w = c.width;
    double *gamma = c.gamma + t, *all_forms = c.next(end, K), *form = all_forms + t;
    double *x_bar = c.next(end, d) + t;
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
        if (partials) add_sums(role, m, m.points, all_forms, c, c.features, 0, sums);
        __syncthreads();
    }
    if (partials) write_partials(role, sums, 0.0, K * p, shared, partials);
}

// How the samples of a tile move: rows of tangents, 0 ... d + 1 about the common point.
static __device__ void load_dot(const double *X_dot, place i, const Mixture &m, Columns c,
                                double *rows_dot) {
    int t = threadIdx.x, w = c.width;
    double norm_dot = 0.0;
    rows_dot[t] = 0.0;
    for (int a = 0; a < m.d; a++) {
        double x_dot = X_dot[i * m.d + a];
        rows_dot[(1 + a) * w + t] = x_dot;
        norm_dot += 2.0 * c.rows[(1 + a) * w + t] * x_dot;
    }
    rows_dot[(m.d + 1) * w + t] = norm_dot;
}

// Add <eta_k, phi'> to the forms.
static __device__ void add_moved_logits(const Mixture &m, Columns c, const Features &moved,
                                        const double *x_dot, double *form) {
    int t = threadIdx.x;
    near_forms(m, m.coefficients, moved, form);
    for (int k = 0; k < m.n_apart; k++) {
        AboutDot dot;
        dot.about = about(m, c, m.points, k, t), dot.x_dot = x_dot + t;
        const double *eta = m.coefficients.of_apart(k);
        double sum = 0.0;
        for (int f = 0; f < m.p; f++) sum += eta[f] * dot.feature(m.pairs[f]);
        form[(m.n_near + k) * c.width] += sum;
    }
}

// The tangent of the statistics: with eta' the direction, z_ik' = <eta_k', phi> + <eta_k, phi'>,
//
//     S_k' = sum_i (s_i' gamma_ik + s_i gamma_ik') phi_ik + s_i gamma_ik phi_ik'.
extern "C" __global__ void statistics_jvp(const REAL *X, const double *weight,
                                          long long n_samples, const double *numbers,
                                          const int *pairs, int d, int p, int n_near, int n_apart,
                                          int flags, const double *X_dot,
                                          const double *weight_dot, double *partials) {
    extern __shared__ double shared[];
    double *end = shared;
    Mixture m = mixture_of(numbers, pairs, d, p, n_near, n_apart, flags);
    Columns c = columns_in(end, m);
    Role role = role_of(m.pairs, p, m.n_near, m.n_apart);
    int t = threadIdx.x, K = m.n_components(), w = c.width;
    double *gamma = c.gamma + t, *all_forms = c.next(end, K), *form = all_forms + t;
    double *rows_dot = c.next(end, d + 2), *x_dot = rows_dot + w;
    Features moved = c.features;
    moved.rows_dot = rows_dot;
    if (moved.kept) moved.kept = c.next(end, p);
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
            load_dot(X_dot, i, m, c, rows_dot);
            if (m.n_near) keep(m, moved);
            add_moved_logits(m, c, moved, x_dot, form);
        }
        center_forms(gamma, form, K, w);
        double s = weight_of(weight, tile, n_samples);
        double s_dot = weight_dot && is_sample ? weight_dot[i] : 0.0;
        for (int k = 0; k < K; k++) {
            form[k * w] = gamma[k * w] * (s_dot + s * form[k * w]);
            gamma[k * w] *= s;
        }
        __syncthreads();
        add_sums(role, m, m.origins, all_forms, c, c.features, 0, sums);
        if (X_dot) add_sums(role, m, m.origins, c.gamma, c, moved, x_dot, sums);
        __syncthreads();
    }
    write_partials(role, sums, 0.0, K * p, shared, partials);
}
