// The GPU kernels, for X of type REAL (float or double); all sums are of doubles. With APART=0 they
// are compiled for mixtures of which no component goes the centered way: fewer registers do.
//
// Logits come one of two ways, as on the CPU (`compiled.py`): of the first n_near components about
// one common point, features being products of two rows of a sample (the matrix way); of the
// n_apart others about their own means (the centered way).
//
// Fused kernels. A block of threads goes through consecutive tiles of samples, as many as it has
// threads. First each thread has a sample: its rows, if there is room its features, its logits and
// responsibilities stand in its column of shared memory. Then the threads change roles: each has
// PART x PART sums, of PART components and PART features, over every n-th sample, and adds to them
// in registers for the whole range of samples. At the end the block writes one partial sum of each,
// and `add_up` adds those of all blocks. There are no atomics, all sums have a fixed order, and the
// number of blocks does not depend on the device: the same compiled code gives the same bits.
//
// By count of instructions, reads of shared memory and of coefficients take longest. So features are
// kept where that is less than to make them again, and coefficients of PART components come in one
// read.
//
// Tile kernels serve what is too large for that, between products of matrices (`cuda_tiles.py`).

#define PART 4
#define DIAGONAL 1  // flags: factors are diagonals
#define KEEPS 2     // features are kept in shared memory

typedef long long place;  // of a sample

static __device__ int n_parts(int n) { return (n + PART - 1) / PART; }

static __device__ int n_threads() { return (int)blockDim.x; }

// Numbers of PART components, read at once.
struct Four {
    double2 low, high;

    __device__ void get(double (&numbers)[PART]) const {
        numbers[0] = low.x, numbers[1] = low.y, numbers[2] = high.x, numbers[3] = high.y;
    }
};

// Numbers for each component and feature. Those of components that are near stand part by part,
// (n_parts, p, PART), with zeros for the components that the last part lacks; the others (n, p).
struct Table {
    const double *near, *apart;
    int p;

    __device__ const Four *part(int first) const {
        return (const Four *)(near + (place)first * p);  // first: a multiple of PART
    }
    __device__ const double *of_apart(int k) const { return apart + (place)k * p; }
};

// A mixture, from one array of doubles:
//     coefficients and direction of those near, points (1 + n_apart, d), origins (1 + n_apart, d),
//     coefficients and direction of those apart, factors
// The first point and the first origin are those of all components that are near.
struct Mixture {
    int d, p, n_near, n_apart, flags;
    const int2 *pairs;  // the rows that features are products of
    Table coefficients, direction;
    const double *points, *origins, *factors;

    __device__ int n_components() const { return n_near + n_apart; }
};

static __device__ Mixture mixture_of(const double *numbers, const int *pairs, int d, int p,
                                     int n_near, int n_apart, int flags) {
    Mixture m;
    m.d = d, m.p = p, m.n_near = n_near, m.n_apart = APART ? n_apart : 0, m.flags = flags;
    m.pairs = (const int2 *)pairs;
    m.coefficients.p = m.direction.p = p;
    place near = (place)n_parts(n_near) * PART * p;
    m.coefficients.near = numbers, m.direction.near = numbers + near;
    m.points = numbers + 2 * near, m.origins = m.points + (1 + m.n_apart) * d;
    m.coefficients.apart = m.origins + (1 + m.n_apart) * d;
    m.direction.apart = m.coefficients.apart + (place)m.n_apart * p;
    m.factors = m.direction.apart + (place)m.n_apart * p;
    return m;
}

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

// Few mixtures need the two, and calls take less time to compile than copies.
static __device__ __noinline__ double square(const double *x, const double *point, int d,
                                             int width) {
    double sum = 0.0;
    for (int a = 0; a < d; a++) {
        double z = x[a * width] - point[a];
        sum += z * z;
    }
    return sum;
}

static __device__ __noinline__ double square_dot(const double *x, const double *point,
                                                 const double *x_dot, int d, int width) {
    double sum = 0.0;
    for (int a = 0; a < d; a++) sum += (x[a * width] - point[a]) * x_dot[a * width];
    return 2.0 * sum;
}

// One sample, about a point: row 0 is one, rows 1 ... d are x - point, row d + 1 is the squared
// norm of these.
struct About {
    const double *x, *point;  // x stands in a column, `width` apart
    int d, width;

    __device__ double difference(int a) const { return x[a * width] - point[a]; }

    __device__ double operator[](int row) const {
        if (row == 0) return 1.0;
        return row <= d ? difference(row - 1) : square(x, point, d, width);
    }

    __device__ double feature(int2 pair) const { return (*this)[pair.x] * (*this)[pair.y]; }
};

// A sample that moves: the tangents of its rows. That of x stands in a column as well.
struct AboutDot {
    About about;
    const double *x_dot;

    __device__ double operator[](int row) const {
        if (row == 0) return 0.0;
        return row <= about.d ? x_dot[(row - 1) * about.width]
                              : square_dot(about.x, about.point, x_dot, about.d, about.width);
    }

    __device__ double feature(int2 pair) const {
        return (*this)[pair.x] * about[pair.y] + about[pair.x] * (*this)[pair.y];
    }
};

// Features of samples about the common point: kept, or products of rows; of samples that move
// their tangents, if there are rows_dot.
struct Features {
    const double *kept, *rows, *rows_dot;
    int width;  // from one row to the next

    __device__ double made(int2 pair, int i) const {
        int l = pair.x * width + i, r = pair.y * width + i;
        return rows_dot ? rows_dot[l] * rows[r] + rows[l] * rows_dot[r] : rows[l] * rows[r];
    }
};

// What threads have of their samples in shared memory, a column each.
struct Columns {
    int width;      // one more than threads, which spreads the banks
    double *rows;   // 0 ... d + 1 about the common point, if there is one
    double *x;      // the samples themselves, 0 ... d - 1
    double *gamma;  // logits, then responsibilities, of n_components
    Features features;

    // Another `n_rows` columns, from `end` on.
    __device__ double *next(double *&end, int n_rows) const {
        double *own = end;
        end += n_rows * width;
        return own;
    }
};

static __device__ Columns columns_in(double *&end, const Mixture &m) {
    Columns c;
    c.width = n_threads() + 1;
    c.rows = c.next(end, m.d + 2);
    c.x = m.n_near && m.n_apart ? c.next(end, m.d) : c.rows + c.width;
    c.features.rows = c.rows, c.features.rows_dot = 0, c.features.width = c.width;
    c.features.kept = m.flags & KEEPS ? c.next(end, m.p) : 0;
    c.gamma = c.next(end, m.n_components());
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

// Keep the features of the sample of this thread, if there is room for them.
static __device__ void keep(const Mixture &m, const Features &features) {
    double *kept = const_cast<double *>(features.kept);
    for (int f = 0; kept && f < m.p; f++)
        kept[f * features.width + threadIdx.x] = features.made(m.pairs[f], threadIdx.x);
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
    if (is_near) keep(m, c.features);
}

// sum_f table_kf phi_f of the sample of this thread for all components that are near, added to out.
static __device__ void near_forms(const Mixture &m, const Table &table, const Features &features,
                                  double *out) {
    int t = threadIdx.x, w = features.width;
    for (int first = 0; first < m.n_near; first += PART) {
        double sum[PART] = {0.0, 0.0, 0.0, 0.0}, own[PART];
        const Four *part = table.part(first);
        for (int f = 0; f < m.p; f++) {
            double phi = features.kept ? features.kept[f * w + t] : features.made(m.pairs[f], t);
            part[f].get(own);
#pragma unroll
            for (int j = 0; j < PART; j++) sum[j] += own[j] * phi;
        }
#pragma unroll
        for (int j = 0; j < PART; j++)
            if (first + j < m.n_near) out[(first + j) * w] += sum[j];
    }
}

static __device__ void clear(double *column, int n_rows, int width) {
    for (int r = 0; r < n_rows; r++) column[r * width] = 0.0;
}

static __device__ About about(const Mixture &m, Columns c, const double *points, int apart, int i) {
    About own;
    own.x = c.x + i, own.point = points + (1 + apart) * m.d;
    own.d = m.d, own.width = c.width;
    return own;
}

// c_k - |U_k' (x - m_k)|^2 / 2
static __device__ double centered_logit(const Mixture &m, const About &sample, int apart) {
    int d = m.d;
    const double *U = m.factors + (place)apart * d * (m.flags & DIAGONAL ? 1 : d);
    double squares = 0.0;
    for (int a = 0; a < d; a++) {
        double y = 0.0;
        if (m.flags & DIAGONAL)
            y = U[a] * sample.difference(a);
        else
            for (int b = 0; b <= a; b++) y += U[b * d + a] * sample.difference(b);
        squares += y * y;
    }
    return m.coefficients.of_apart(apart)[0] - 0.5 * squares;
}

static __device__ void logits(const Mixture &m, Columns c) {
    int t = threadIdx.x, w = c.width;
    clear(c.gamma + t, m.n_near, w);
    near_forms(m, m.coefficients, c.features, c.gamma + t);
    for (int k = 0; k < m.n_apart; k++)
        c.gamma[(m.n_near + k) * w + t] = centered_logit(m, about(m, c, m.points, k, t), k);
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
