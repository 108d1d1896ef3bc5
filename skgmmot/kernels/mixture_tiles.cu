// What does not depend on components: a first look at the samples, and sums of partial sums; and
// what stands between products of matrices where a mixture is too large for the fused kernels
// (`cuda_tiles.py`). Tiles of `count` samples are transposed: a row for each feature, a column for
// each sample, and a thread for each entry.

// Of each feature sum_i s_i x_i, a sum that tells other data apart, and the extremes, by block.
extern "C" __global__ void summary(const REAL *X, const double *weight, long long n_samples, int d,
                                   double *partials) {
    extern __shared__ double shared[];
    place first = n_samples * blockIdx.x / gridDim.x;
    place last = n_samples * (blockIdx.x + 1) / gridDim.x;
    int n_threads = blockDim.x, t = threadIdx.x;
    double *out = partials + (place)blockIdx.x * 4 * d;
    for (int start = 0; start < d; start += n_threads) {
        int width = d - start < n_threads ? d - start : n_threads, n_lanes = n_threads / width;
        int lane = t / width, a = start + t % width;
        double sum = 0.0, check = 0.0;
        double least = (double)X[first * d + a], most = least;
        for (place i = first + lane; i < last && lane < n_lanes; i += n_lanes) {
            double x = (double)X[i * d + a], s = weight ? weight[i] : 1.0;
            unsigned long long hash = (unsigned long long)i * 2654435761ULL & 0xFFFF;
            sum += s * x;
            check += s * (1.0 + (double)hash) * x;  // Knuth's multiplicative hash
            least = x < least ? x : least;
            most = x > most ? x : most;
        }
        shared[t] = sum, shared[n_threads + t] = check;
        shared[2 * n_threads + t] = least, shared[3 * n_threads + t] = most;
        __syncthreads();
        if (t < width) {
            for (int other = t + width; other < n_lanes * width; other += width) {
                sum += shared[other], check += shared[n_threads + other];
                double low = shared[2 * n_threads + other], high = shared[3 * n_threads + other];
                least = low < least ? low : least;
                most = high > most ? high : most;
            }
            out[a] = sum, out[d + a] = check, out[2 * d + a] = least, out[3 * d + a] = most;
        }
        __syncthreads();
    }
}

#define COLUMNS 8

// The sums of the columns of an array, in an order that its shape alone determines: a block for
// COLUMNS of them.
extern "C" __global__ void add_up(const double *array, int n_rows, int n_columns, double *sums) {
    extern __shared__ double shared[];
    int t = threadIdx.x, n_lanes = blockDim.x / COLUMNS, lane = t / COLUMNS;
    int column = blockIdx.x * COLUMNS + t % COLUMNS;
    double sum = 0.0;
    for (int row = lane; row < n_rows && column < n_columns; row += n_lanes)
        sum += array[(place)row * n_columns + column];
    shared[t] = sum;
    __syncthreads();
    for (int half = n_lanes / 2; half > 0; half /= 2) {
        if (lane < half) shared[t] += shared[t + half * COLUMNS];
        __syncthreads();
    }
    if (lane == 0 && column < n_columns) sums[column] = shared[t];
}

static __device__ place entry() { return (place)blockIdx.x * blockDim.x + threadIdx.x; }

// Rows of a tile: 1, x - point, and the squared norm of these.
extern "C" __global__ void tile_rows(const REAL *X, int count, const double *point, int d,
                                     double *rows) {
    place e = entry();
    if (e >= (place)(d + 2) * count) return;
    int row = (int)(e / count);
    const REAL *x = X + e % count * d;
    if (row == 0)
        rows[e] = 1.0;
    else if (row <= d)
        rows[e] = (double)x[row - 1] - point[row - 1];
    else {
        double square = 0.0;
        for (int a = 0; a < d; a++) {
            double z = (double)x[a] - point[a];
            square += z * z;
        }
        rows[e] = square;
    }
}

// Tangents of these rows.
extern "C" __global__ void tile_rows_dot(const double *X_dot, int count, const double *rows, int d,
                                         double *rows_dot) {
    place e = entry();
    if (e >= (place)(d + 2) * count) return;
    int row = (int)(e / count), i = (int)(e % count);
    const double *x_dot = X_dot + (place)i * d;
    if (row == 0)
        rows_dot[e] = 0.0;
    else if (row <= d)
        rows_dot[e] = x_dot[row - 1];
    else {
        double sum = 0.0;
        for (int a = 0; a < d; a++) sum += rows[(place)(1 + a) * count + i] * x_dot[a];
        rows_dot[e] = 2.0 * sum;
    }
}

// All features of a tile, (p, count).
extern "C" __global__ void tile_features(const double *rows, const int *pairs, int p, int count,
                                         double *phi) {
    place e = entry();
    if (e >= (place)p * count) return;
    int f = (int)(e / count), i = (int)(e % count);
    phi[e] = rows[(place)pairs[2 * f] * count + i] * rows[(place)pairs[2 * f + 1] * count + i];
}

// Tangents of these features.
extern "C" __global__ void tile_features_dot(const double *rows, const double *rows_dot,
                                             const int *pairs, int p, int count,
                                             double *phi_dot) {
    place e = entry();
    if (e >= (place)p * count) return;
    int f = (int)(e / count), i = (int)(e % count);
    place l = (place)pairs[2 * f] * count + i, r = (place)pairs[2 * f + 1] * count + i;
    phi_dot[e] = rows_dot[l] * rows[r] + rows[l] * rows_dot[r];
}

// Logits (K, count) become responsibilities; log of the sums of their exponentials.
extern "C" __global__ void tile_softmax(double *logits, int K, int count, double *log_density) {
    place i = entry();
    if (i < count) log_density[i] = softmax(logits + i, K, count);
}

// Forms (K, count) less their means sum_k gamma_k form_k, which are added to, if wanted.
extern "C" __global__ void tile_center(const double *gamma, double *form, int K, int count,
                                       double *mean) {
    place i = entry();
    if (i >= count) return;
    double own = center_forms(gamma + i, form + i, K, count);
    if (mean) mean[i] += own;
}

// As `densities`, from logits (K, count).
extern "C" __global__ void tile_answers(double *logits, int K, int count, const int *order,
                                        int is_completed, double *log_density,
                                        double *responsibilities, long long *labels) {
    place i = entry();
    if (i < count)
        answer(logits + i, K, count, i, order, is_completed, log_density, responsibilities,
               labels);
}

// X_bar_ia += sum_f C_fi d phi_f / d x_a, the features and other rows of row a standing from
// starts[a] on; (p, count) and (d + 2, count) to (count, d).
extern "C" __global__ void tile_pull_back(const double *C, const double *rows, const int *starts,
                                          const int *features, const int *others, int d, int count,
                                          double *X_bar) {
    place e = entry();
    if (e >= (place)d * count) return;
    int a = (int)(e / count), i = (int)(e % count);
    double sum = 0.0;
    for (int j = starts[a]; j < starts[a + 1]; j++)
        sum += C[(place)features[j] * count + i] * rows[(place)others[j] * count + i];
    X_bar[(place)i * d + a] += sum;
}
