// The GPU kernels, for X of type REAL (float or double); all sums are of doubles. With APART=0 they
// are compiled for mixtures of which no component goes the centered way: fewer registers do.
//
// Logits come one of two ways, as on the CPU (`compiled.py`): of the first n_near components about
// one common point, features being products of two rows of a sample (the matrix way); of the
// n_apart others about their own means (the centered way).
//
// Fused kernels. A block of threads goes through consecutive tiles of samples, as many as it has
// threads. First each thread has a sample: its rows, logits and responsibilities stand in its
// column of shared memory. Then the threads change roles: each has PART x PART sums, of PART
// components and PART features, over every n-th sample, and adds to them in registers for the
// whole range of samples. At the end the block writes one partial sum of each, and `add_up` adds
// those of all blocks. There are no atomics, all sums have a fixed order, and the number of blocks
// does not depend on the device: the same compiled code gives the same bits.
//
// Tile kernels serve what is too large for that, between products of matrices (`cuda_tiles.py`).

#define PART 4

typedef long long place;  // of a sample

// A mixture, from one array of doubles:
//     points (1 + n_apart, d), coefficients (K, p), factors, origins (1 + n_apart, d), direction
// The first point and the first origin are those of all components that are near.
struct Mixture {
    int d, p, n_near, n_apart, is_diagonal;
    const int *left, *right;  // the rows that features are products of
    const double *points, *coefficients, *factors, *origins, *direction;

    __device__ int n_components() const { return n_near + n_apart; }
};

static __device__ Mixture mixture_of(const double *numbers, const int *pairs, int d, int p,
                                     int n_near, int n_apart, int is_diagonal) {
    Mixture m;
    m.d = d, m.p = p, m.is_diagonal = is_diagonal;
    m.n_near = n_near, m.n_apart = APART ? n_apart : 0;
    m.left = pairs, m.right = pairs + p;
    m.points = numbers;
    m.coefficients = m.points + (1 + n_apart) * d;
    m.factors = m.coefficients + (n_near + n_apart) * p;
    m.origins = m.factors + n_apart * d * (is_diagonal ? 1 : d);
    m.direction = m.origins + (1 + n_apart) * d;
    return m;
}

static __device__ int n_threads() { return (int)blockDim.x; }

// The samples of a block: tiles first, first + 1, ..., last - 1 of all.
struct Range {
    place first, last;
};

static __device__ Range tiles_of_block(place n_samples) {
    place n_tiles = (n_samples + blockDim.x - 1) / blockDim.x;
    Range range;
    range.first = n_tiles * blockIdx.x / gridDim.x;
    range.last = n_tiles * (blockIdx.x + 1) / gridDim.x;
    return range;
}

// One sample, about a point: row 0 is one, rows 1 ... d are x - point, row d + 1 is the squared
// norm of these.
struct About {
    const double *x, *point;  // x stands in a column, `width` apart
    int d, width;

    __device__ double difference(int a) const { return x[a * width] - point[a]; }

    __device__ double operator[](int row) const {
        if (row == 0) return 1.0;
        if (row <= d) return difference(row - 1);
        double square = 0.0;
        for (int a = 0; a < d; a++) square += difference(a) * difference(a);
        return square;
    }

    __device__ double product(int l, int r) const { return (*this)[l] * (*this)[r]; }
};

// A sample that moves: the tangents of its rows. That of x stands in a column as well.
struct AboutDot {
    About about;
    const double *x_dot;

    __device__ double operator[](int row) const {
        if (row == 0) return 0.0;
        if (row <= about.d) return x_dot[(row - 1) * about.width];
        double sum = 0.0;
        for (int a = 0; a < about.d; a++) sum += about.difference(a) * x_dot[a * about.width];
        return 2.0 * sum;
    }

    __device__ double product(int l, int r) const {
        return (*this)[l] * about[r] + about[l] * (*this)[r];
    }
};

// A sample about the common point, whose rows are kept.
struct Kept {
    const double *rows;
    int width;

    __device__ double operator[](int row) const { return rows[row * width]; }
};

// What a thread has of its sample in shared memory, column by column.
struct Columns {
    int width;      // from one row to the next: one more than threads, which spreads the banks
    double *rows;   // 0 ... d + 1 about the common point, if there is one
    double *x;      // the sample itself, 0 ... d - 1
    double *gamma;  // logits, then responsibilities, of n_components
};

// Room: d + 2 rows; d more where components go both ways; then the responsibilities.
static __device__ int rows_of_sample(const Mixture &m) {
    return m.d + 2 + (m.n_near && m.n_apart ? m.d : 0);
}

static __device__ Columns columns_in(double *room, const Mixture &m) {
    Columns c;
    c.width = blockDim.x + 1;
    c.rows = room;
    c.x = m.n_near && m.n_apart ? room + (m.d + 2) * c.width : room + c.width;
    c.gamma = room + rows_of_sample(m) * c.width;
    return c;
}

// Beyond the last sample there are copies of it, of weight zero.
static __device__ place sample_of(place tile, place n_samples) {
    place i = tile * blockDim.x + threadIdx.x;
    return i < n_samples ? i : n_samples - 1;
}

static __device__ double weight_of(const double *weight, place tile, place n_samples) {
    place i = tile * blockDim.x + threadIdx.x;
    if (i >= n_samples) return 0.0;
    return weight ? weight[i] : 1.0;
}

static __device__ void load(const REAL *X, place i, const Mixture &m, Columns c) {
    int t = threadIdx.x, w = c.width;
    bool is_near = m.n_near > 0, is_both = is_near && m.n_apart > 0;
    double square = 0.0;
    for (int a = 0; a < m.d; a++) {
        double x = (double)X[i * m.d + a];
        double z = is_near ? x - m.points[a] : x;
        c.rows[(1 + a) * w + t] = z;
        if (is_both) c.x[a * w + t] = x;
        square += z * z;
    }
    c.rows[t] = 1.0;
    c.rows[(m.d + 1) * w + t] = square;
}

// <coefficients_k, phi> for all near components of the sample of this thread, added to out.
static __device__ void near_forms(const Mixture &m, const double *coefficients, const double *left,
                                  const double *right, int width, double *out) {
    for (int first = 0; first < m.n_near; first += PART) {
        double sum[PART] = {0.0, 0.0, 0.0, 0.0};
        const double *own[PART];
#pragma unroll
        for (int j = 0; j < PART; j++)
            own[j] = coefficients + (first + j < m.n_near ? first + j : m.n_near - 1) * m.p;
        for (int f = 0; f < m.p; f++) {
            double phi = left[m.left[f] * width] * right[m.right[f] * width];
#pragma unroll
            for (int j = 0; j < PART; j++) sum[j] += own[j][f] * phi;
        }
        for (int j = 0; j < PART && first + j < m.n_near; j++) out[(first + j) * width] += sum[j];
    }
}

static __device__ void clear(double *column, int n_rows, int width) {
    for (int r = 0; r < n_rows; r++) column[r * width] = 0.0;
}

static __device__ About about(const Mixture &m, Columns c, const double *points, int apart) {
    About own;
    own.x = c.x + threadIdx.x, own.point = points + (1 + apart) * m.d;
    own.d = m.d, own.width = c.width;
    return own;
}

// c_k - |U_k' (x - m_k)|^2 / 2
static __device__ double centered_logit(const Mixture &m, const About &sample, int apart) {
    int d = m.d;
    const double *U = m.factors + (place)apart * d * (m.is_diagonal ? 1 : d);
    double squares = 0.0;
    for (int a = 0; a < d; a++) {
        double y = 0.0;
        if (m.is_diagonal)
            y = U[a] * sample.difference(a);
        else
            for (int b = 0; b <= a; b++) y += U[b * d + a] * sample.difference(b);
        squares += y * y;
    }
    return m.coefficients[(m.n_near + apart) * m.p] - 0.5 * squares;
}

static __device__ void logits(const Mixture &m, Columns c) {
    int t = threadIdx.x, w = c.width;
    clear(c.gamma + t, m.n_near, w);
    near_forms(m, m.coefficients, c.rows + t, c.rows + t, w, c.gamma + t);
    for (int k = 0; k < m.n_apart; k++)
        c.gamma[(m.n_near + k) * w + t] = centered_logit(m, about(m, c, m.points, k), k);
}

// A column of logits becomes responsibilities; log of the sum of their exponentials.
static __device__ double softmax(double *gamma, int n_components, place width) {
    double top = gamma[0], total = 0.0;
    for (int k = 1; k < n_components; k++) {
        double own = gamma[k * width];
        top = own > top ? own : top;
    }
    for (int k = 0; k < n_components; k++) {
        double e = exp(gamma[k * width] - top);
        gamma[k * width] = e;
        total += e;
    }
    double inverse = 1.0 / total;
    for (int k = 0; k < n_components; k++) gamma[k * width] *= inverse;
    return top + log(total);
}

static __device__ void scale(double *column, int n_rows, place width, double factor) {
    for (int r = 0; r < n_rows; r++) column[r * width] *= factor;
}

// The role of a thread when sums are taken: which of them, and of which samples.
struct Role {
    int task, n_tasks, slice, n_slices;
    bool is_near, is_idle;
    int p, n_components, first_component, first_feature;
    int left[PART], right[PART];

    // Where a component stands; beyond the last there are copies of it.
    __device__ int component(int j) const {
        int k = first_component + j;
        return k < n_components ? k : n_components - 1;
    }
};

static __device__ int n_parts(int n) { return (n + PART - 1) / PART; }

static __device__ Role role_of(const int *left, const int *right, int p, int n_near, int n_apart) {
    Role role;
    int of_features = n_parts(p), n_near_tasks = n_parts(n_near) * of_features;
    role.n_tasks = n_near_tasks + n_parts(n_apart) * of_features;
    role.n_slices = blockDim.x / role.n_tasks;
    role.task = threadIdx.x / role.n_slices, role.slice = threadIdx.x % role.n_slices;
    role.is_idle = role.task >= role.n_tasks;
    role.is_near = !APART || role.task < n_near_tasks;
    int own = role.is_near ? role.task : role.task - n_near_tasks;
    role.first_component = own / of_features * PART + (role.is_near ? 0 : n_near);
    role.n_components = role.is_near ? n_near : n_near + n_apart;
    role.p = p;
    role.first_feature = own % of_features * PART;
#pragma unroll
    for (int j = 0; j < PART; j++) {
        int f = role.first_feature + j < p ? role.first_feature + j : p - 1;
        role.left[j] = left[f], role.right[j] = right[f];
    }
    return role;
}

// sums += weights_k phi_f over the samples of the tile, rows being common to all components.
static __device__ void add_near(const Role &role, const double *weights, const double *rows,
                                int width, double (&sums)[PART][PART]) {
    for (int i = role.slice; i < n_threads(); i += role.n_slices) {
        double phi[PART];
#pragma unroll
        for (int f = 0; f < PART; f++)
            phi[f] = rows[role.left[f] * width + i] * rows[role.right[f] * width + i];
#pragma unroll
        for (int j = 0; j < PART; j++) {
            double weight = weights[role.component(j) * width + i];
#pragma unroll
            for (int f = 0; f < PART; f++) sums[j][f] += weight * phi[f];
        }
    }
}

// The same where the rows move: sums += weights_k phi_f'.
static __device__ void add_near_moved(const Role &role, const double *weights, const double *rows,
                                      const double *rows_dot, int width,
                                      double (&sums)[PART][PART]) {
    for (int i = role.slice; i < n_threads(); i += role.n_slices) {
        double phi[PART];
#pragma unroll
        for (int f = 0; f < PART; f++) {
            int l = role.left[f] * width + i, r = role.right[f] * width + i;
            phi[f] = rows_dot[l] * rows[r] + rows[l] * rows_dot[r];
        }
#pragma unroll
        for (int j = 0; j < PART; j++) {
            double weight = weights[role.component(j) * width + i];
#pragma unroll
            for (int f = 0; f < PART; f++) sums[j][f] += weight * phi[f];
        }
    }
}

// Of components that have points of their own: sums += weights_k phi_f, or weights_k phi_f' of
// samples that move.
static __device__ void add_apart(const Role &role, const Mixture &m, const double *points,
                                 const double *weights, Columns c, const double *x_dot,
                                 double (&sums)[PART][PART]) {
    for (int i = role.slice; i < n_threads(); i += role.n_slices) {
#pragma unroll
        for (int j = 0; j < PART; j++) {
            int k = role.component(j);
            double weight = weights[k * c.width + i];
            AboutDot dot;
            dot.about.x = c.x + i, dot.about.point = points + (1 + k - m.n_near) * m.d;
            dot.about.d = m.d, dot.about.width = c.width, dot.x_dot = x_dot + i;
#pragma unroll
            for (int f = 0; f < PART; f++)
                sums[j][f] += weight * (x_dot ? dot.product(role.left[f], role.right[f])
                                              : dot.about.product(role.left[f], role.right[f]));
        }
    }
}

static __device__ void add_sums(const Role &role, const Mixture &m, const double *points,
                                const double *weights, Columns c, double (&sums)[PART][PART]) {
    if (role.is_idle) return;
    if (!APART || role.is_near)
        add_near(role, weights, c.rows, c.width, sums);
    else
        add_apart(role, m, points, weights, c, 0, sums);
}

// The same where the rows move, by rows_dot: of components that are near 0 ... d + 1, of the others
// those of the sample itself.
static __device__ void add_moved_sums(const Role &role, const Mixture &m, const double *points,
                                      const double *weights, Columns c, const double *rows_dot,
                                      double (&sums)[PART][PART]) {
    if (role.is_idle) return;
    if (!APART || role.is_near)
        add_near_moved(role, weights, c.rows, rows_dot, c.width, sums);
    else
        add_apart(role, m, points, weights, c, rows_dot + c.width, sums);
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
