// What does not depend on components: a first look at the samples, and sums of partial sums; and
// steps of a pass where a mixture is too large for the fused kernels (`cuda_tiles.py`). Tiles of
// `count` samples are transposed: a row for each feature or component, a column for each sample.
// Where nothing else is said a thread makes one entry.

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

// Features of a tile, or their tangents, are made where they are multiplied, and are nowhere in
// memory: CHUNK of them, or of samples, at a time in shared memory. A thread has PART x PART sums.
#define CHUNK 16

// One feature of a sample, or its tangent if there are rows_dot.
static __device__ double tile_feature(const double *rows, const double *rows_dot, int2 pair,
                                      int count, int i) {
    place l = (place)pair.x * count + i, r = (place)pair.y * count + i;
    return rows_dot ? rows_dot[l] * rows[r] + rows[l] * rows_dot[r] : rows[l] * rows[r];
}

static __device__ void multiply(const Four &left, const Four &right, double (&sums)[PART][PART]) {
    double x[PART], y[PART];
    left.get(x), right.get(y);
#pragma unroll
    for (int j = 0; j < PART; j++)
#pragma unroll
        for (int i = 0; i < PART; i++) sums[j][i] += x[j] * y[i];
}

// forms_ki (+)= sum_f table_kf phi_f(x_i), for a table (p, K padded to parts). A block has so many
// parts of components, and of samples as its other threads are; blocks are numbered by components
// first.
extern "C" __global__ void tile_forms(const double *rows, const double *rows_dot, int count,
                                      const int *pairs, int p, const double *table, int K,
                                      int n_parts_of_block, int adds, double *forms) {
    extern __shared__ double shared[];
    int t = threadIdx.x, T = n_threads(), n_own = n_parts_of_block * PART;
    int n_samples = T / n_parts_of_block * PART, n_padded = n_parts(K) * PART;
    int n_groups = (K + n_own - 1) / n_own;
    int first_k = (int)(blockIdx.x % n_groups) * n_own;
    int first_i = (int)(blockIdx.x / n_groups) * n_samples;
    int k = t % n_parts_of_block * PART, i = t / n_parts_of_block * PART;
    double *phi = shared, *own = shared + CHUNK * n_samples;
    double sums[PART][PART] = NO_SUMS;
    for (int start = 0; start < p; start += CHUNK) {
        for (int e = t; e < CHUNK * n_samples; e += T) {
            int f = start + e / n_samples, at = first_i + e % n_samples;
            phi[e] = f < p && at < count
                         ? tile_feature(rows, rows_dot, ((const int2 *)pairs)[f], count, at)
                         : 0.0;
        }
        for (int e = t; e < CHUNK * n_own; e += T) {
            int f = start + e / n_own, at = first_k + e % n_own;
            own[e] = f < p && at < n_padded ? table[(place)f * n_padded + at] : 0.0;
        }
        __syncthreads();
        for (int f = 0; f < CHUNK; f++)
            multiply(*(const Four *)(own + f * n_own + k), *(const Four *)(phi + f * n_samples + i),
                     sums);
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < PART; j++)
#pragma unroll
        for (int at = 0; at < PART; at++) {
            if (first_k + k + j >= K || first_i + i + at >= count) continue;
            double *out = forms + (place)(first_k + k + j) * count + first_i + i + at;
            *out = adds ? *out + sums[j][at] : sums[j][at];
        }
}

// sum_i weights_ki phi_f(x_i) over n_ranges of the samples of a tile, (n_ranges, K, p). A block has
// so many parts of components, and of features as its other threads are; blocks are numbered by
// components first, ranges last.
extern "C" __global__ void tile_sums(const double *rows, const double *rows_dot, int count,
                                     const int *pairs, int p, const double *weights, int K,
                                     int n_parts_of_block, int n_ranges, double *partials) {
    extern __shared__ double shared[];
    int t = threadIdx.x, T = n_threads(), n_own = n_parts_of_block * PART;
    int n_features = T / n_parts_of_block * PART;
    int n_groups = (K + n_own - 1) / n_own, n_strips = (p + n_features - 1) / n_features;
    int group = blockIdx.x % n_groups, rest = blockIdx.x / n_groups;
    int first_k = group * n_own, first_f = rest % n_strips * n_features, range = rest / n_strips;
    int first = (int)((place)count * range / n_ranges);
    int last = (int)((place)count * (range + 1) / n_ranges);
    int k = t % n_parts_of_block * PART, f = t / n_parts_of_block * PART;
    int width = n_features + 2, own_width = n_own + 2;  // spread the banks, in pairs
    double *phi = shared, *own = shared + CHUNK * width;
    double sums[PART][PART] = NO_SUMS;
    for (int start = first; start < last; start += CHUNK) {
        for (int e = t; e < CHUNK * n_features; e += T) {
            int i = start + e % CHUNK, at = first_f + e / CHUNK;
            phi[e % CHUNK * width + e / CHUNK] =
                i < last && at < p
                    ? tile_feature(rows, rows_dot, ((const int2 *)pairs)[at], count, i)
                    : 0.0;
        }
        for (int e = t; e < CHUNK * n_own; e += T) {
            int i = start + e % CHUNK, at = first_k + e / CHUNK;
            own[e % CHUNK * own_width + e / CHUNK] =
                i < last && at < K ? weights[(place)at * count + i] : 0.0;
        }
        __syncthreads();
        for (int i = 0; i < CHUNK; i++)
            multiply(*(const Four *)(own + i * own_width + k), *(const Four *)(phi + i * width + f),
                     sums);
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < PART; j++)
#pragma unroll
        for (int at = 0; at < PART; at++) {
            if (first_k + k + j >= K || first_f + f + at >= p) continue;
            partials[((place)range * K + first_k + k + j) * p + first_f + f + at] = sums[j][at];
        }
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

#define STRIP 32   // features, and
#define COLUMN 64  // samples of a block of the next kernel

// What rows receive: rows_bar += amount_f d phi_f / d rows, of cotangents of features
//
//     amount_fi = sum_k gamma_ki direction_kf + form_ki eta_kf,
//
// which are nowhere in memory: the two tables are one, (2 K, p), a strip of features at a time.
extern "C" __global__ void tile_pull_back(const double *rows, int count, const int *pairs, int p,
                                          const double *table, int K, const double *gamma,
                                          const double *form, double *rows_bar) {
    extern __shared__ double shared[];
    int t = threadIdx.x, T = n_threads(), first_i = blockIdx.x * COLUMN, i = first_i + t;
    int f = t % (STRIP / PART) * PART, column = t / (STRIP / PART) * PART;
    double *amounts = shared, *weights = amounts + STRIP * COLUMN, *own = weights + CHUNK * COLUMN;
    int row = 0;  // what it has received is kept until the features are those of another one
    double kept = 0.0, z = 1.0;
    for (int start = 0; start < p; start += STRIP) {
        double sums[PART][PART] = NO_SUMS;
        for (int first = 0; first < 2 * K; first += CHUNK) {
            for (int e = t; e < CHUNK * COLUMN; e += T) {
                int k = first + e / COLUMN, at = first_i + e % COLUMN;
                const double *given = k < K ? gamma + (place)k * count
                                            : form + (place)(k - K) * count;
                weights[e] = k < 2 * K && at < count ? given[at] : 0.0;
            }
            for (int e = t; e < CHUNK * STRIP; e += T) {
                int k = first + e / STRIP, at = start + e % STRIP;
                own[e] = k < 2 * K && at < p ? table[(place)k * p + at] : 0.0;
            }
            __syncthreads();
            for (int k = 0; k < CHUNK; k++)
                multiply(*(const Four *)(own + k * STRIP + f),
                         *(const Four *)(weights + k * COLUMN + column), sums);
            __syncthreads();
        }
#pragma unroll
        for (int j = 0; j < PART; j++)
#pragma unroll
            for (int at = 0; at < PART; at++) amounts[(f + j) * COLUMN + column + at] = sums[j][at];
        __syncthreads();
        for (int j = 0; t < COLUMN && i < count && j < STRIP && start + j < p; j++) {
            int2 pair = ((const int2 *)pairs)[start + j];
            double amount = amounts[j * COLUMN + t];
            if (pair.x != row) {
                rows_bar[(place)row * count + i] += kept;
                row = pair.x, kept = 0.0, z = rows[(place)row * count + i];
            }
            kept += amount * rows[(place)pair.y * count + i];
            rows_bar[(place)pair.y * count + i] += amount * z;
        }
    }
    if (t < COLUMN && i < count) rows_bar[(place)row * count + i] += kept;
}

// What samples receive of that: X_bar (count, d) += of their rows, and of their squared norms.
extern "C" __global__ void tile_samples_bar(const double *rows, const double *rows_bar, int count,
                                            int d, double *X_bar) {
    place e = entry();
    if (e >= (place)d * count) return;
    place i = e / d, row = (place)(1 + e % d) * count + i;
    X_bar[e] += rows_bar[row] + 2.0 * rows[row] * rows_bar[(place)(1 + d) * count + i];
}
