"""What happens to one block of samples: numba functions on rows, all of it in cache.

A block holds `BLOCK` samples, transposed, so that samples lie along the SIMD axis: row a of
``rows`` (`skgmmot.samples.interface.Features`) has the a-th coordinate of every sample. The last
block of the data is
filled up with samples of weight zero, so that loops have a constant length.

Two loops do nearly all of the work, `linear_forms` (Σ_f η_kf φ_f) and `weighted_sums`
(Σ_i γ_ik φ_fi), together with `pull_back`, the transpose of the first with respect to the
sample. They are tiled by four features, and by two components or four: what a tile adds up stays
in the sixteen registers that every processor with vectors of four has. φ itself is never stored
beyond the tile.
"""

import numpy as np
from numba.extending import register_jitable

from .compilation import inner
from .elementary import exp, log

BLOCK = 256
TILE = 4  # features are padded to a multiple of this: the register tile
PAIR = 2  # and components to one of this
ALIGNMENT = 8  # in float64: a cache line, the widest vector there is
# Rows a power of two apart would compete for the same few lines of the cache.
ROW_LENGTH = BLOCK + ALIGNMENT


@register_jitable
def padded(size, tile):
    """The next multiple of a tile."""
    return -(-size // tile) * tile


@inner
def aligned(n_rows):
    """Uninitialized rows of BLOCK numbers (and a little room) that start on cache lines."""
    flat = np.empty(n_rows * ROW_LENGTH + ALIGNMENT)
    start = (-(flat.ctypes.data // 8)) % ALIGNMENT
    return flat[start : start + n_rows * ROW_LENGTH].reshape((n_rows, ROW_LENGTH))


@inner
def load_rows(X, start, reference, has_squared_norm, rows):
    """rows[1 + a, i] = X[start + i, a] - reference[a], zero beyond the last sample."""
    n_features = X.shape[1]
    count = min(BLOCK, X.shape[0] - start)
    rows[0, :] = 1.0
    if n_features > 16:
        # Read the block once in order, which the processor foresees, before it is read by
        # columns. (The sum keeps the compiler from leaving this out.)
        touched = 0.0
        for i in range(count):
            for a in range(n_features):
                touched += X[start + i, a]
        rows[0, BLOCK] = touched
    # eight samples at a time: reads follow the rows of X, writes fill cache lines
    for first in range(0, count - count % 8, 8):
        for a in range(n_features):
            origin = reference[a]
            for i in range(first, first + 8):
                rows[1 + a, i] = X[start + i, a] - origin
    for a in range(n_features):
        for i in range(count - count % 8, count):
            rows[1 + a, i] = X[start + i, a] - reference[a]
        rows[1 + a, count:] = 0.0
    if has_squared_norm:
        squared_norm = rows[1 + n_features]
        squared_norm[:] = 0.0
        for a in range(1, 1 + n_features):
            for i in range(BLOCK):
                squared_norm[i] += rows[a, i] * rows[a, i]


@inner
def load_tangent_rows(X_dot, start, has_squared_norm, rows, rows_dot):
    """Tangents of ``rows`` (already loaded) when the samples move by X_dot."""
    n_features = X_dot.shape[1]
    count = min(BLOCK, X_dot.shape[0] - start)
    rows_dot[0, :] = 0.0
    for a in range(n_features):
        for i in range(count):
            rows_dot[1 + a, i] = X_dot[start + i, a]
        rows_dot[1 + a, count:] = 0.0
    if has_squared_norm:
        norm_dot = rows_dot[1 + n_features]
        norm_dot[:] = 0.0
        for a in range(1, 1 + n_features):
            for i in range(BLOCK):
                norm_dot[i] += 2.0 * rows[a, i] * rows_dot[a, i]


@inner
def load_weights(sample_weight, start, n_samples, weight):
    """The block's sample weights: ones where none are given, zero beyond the last sample."""
    count = min(BLOCK, n_samples - start)
    for i in range(count):
        weight[i] = sample_weight[start + i] if sample_weight.size else 1.0
    weight[count:] = 0.0


@inner
def _load_tile(pairs, f, left, right, tile):
    for j in range(4):
        x = left[pairs[0, f + j]]
        y = right[pairs[1, f + j]]
        for i in range(BLOCK):
            tile[j, i] = x[i] * y[i]


@inner
def linear_forms(coefficients, pairs, left, right, tile, forms):
    """forms[k, i] += Σ_f coefficients[k, f] φ_f(x_i), with φ_f = left[l] · right[r]."""
    n_components, n_features = coefficients.shape
    for f in range(0, n_features, 4):
        _load_tile(pairs, f, left, right, tile)
        t0, t1, t2, t3 = tile[0], tile[1], tile[2], tile[3]
        for k in range(0, n_components, 2):
            a00, a01, a02, a03 = (
                coefficients[k, f],
                coefficients[k, f + 1],
                coefficients[k, f + 2],
                coefficients[k, f + 3],
            )
            a10, a11, a12, a13 = (
                coefficients[k + 1, f],
                coefficients[k + 1, f + 1],
                coefficients[k + 1, f + 2],
                coefficients[k + 1, f + 3],
            )
            for i in range(BLOCK):
                x0, x1, x2, x3 = t0[i], t1[i], t2[i], t3[i]
                forms[k, i] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
                forms[k + 1, i] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3


@inner
def weighted_sums(weights, pairs, left, right, tile, sums):
    """sums[k, f] += Σ_i weights[k, i] φ_f(x_i), with φ_f = left[l] · right[r]."""
    n_components, n_features = sums.shape
    for f in range(0, n_features, 4):
        _load_tile(pairs, f, left, right, tile)
        t0, t1, t2, t3 = tile[0], tile[1], tile[2], tile[3]
        for k in range(0, n_components, 2):
            w0, w1 = weights[k], weights[k + 1]
            s00 = s01 = s02 = s03 = 0.0
            s10 = s11 = s12 = s13 = 0.0
            for i in range(BLOCK):  # one row of φ after the other: they share a register
                g0, g1 = w0[i], w1[i]
                x = t0[i]
                s00 += g0 * x
                s10 += g1 * x
                x = t1[i]
                s01 += g0 * x
                s11 += g1 * x
                x = t2[i]
                s02 += g0 * x
                s12 += g1 * x
                x = t3[i]
                s03 += g0 * x
                s13 += g1 * x
            s = sums[k : k + 2, f : f + 4]
            s[0, 0] += s00
            s[0, 1] += s01
            s[0, 2] += s02
            s[0, 3] += s03
            s[1, 0] += s10
            s[1, 1] += s11
            s[1, 2] += s12
            s[1, 3] += s13


@inner
def pull_back(weights, coefficients, pairs, rows, tile, rows_bar):
    """rows_bar += ∂/∂rows of Σ_k weights[k, i] Σ_f coefficients[k, f] φ_f, weights held fixed.

    With g_f = Σ_k weights[k] coefficients[k, f] and φ_f = z_l z_r, each feature adds g_f z_r to
    row l and g_f z_l to row r. ``tile`` holds four g_f at a time. Components come in fours.
    """
    n_components, n_features = coefficients.shape
    for f in range(0, n_features, 4):
        tile[:] = 0.0
        for k in range(0, n_components, 4):
            a00, a01, a02, a03 = (
                coefficients[k, f],
                coefficients[k, f + 1],
                coefficients[k, f + 2],
                coefficients[k, f + 3],
            )
            a10, a11, a12, a13 = (
                coefficients[k + 1, f],
                coefficients[k + 1, f + 1],
                coefficients[k + 1, f + 2],
                coefficients[k + 1, f + 3],
            )
            a20, a21, a22, a23 = (
                coefficients[k + 2, f],
                coefficients[k + 2, f + 1],
                coefficients[k + 2, f + 2],
                coefficients[k + 2, f + 3],
            )
            a30, a31, a32, a33 = (
                coefficients[k + 3, f],
                coefficients[k + 3, f + 1],
                coefficients[k + 3, f + 2],
                coefficients[k + 3, f + 3],
            )
            w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
            for i in range(BLOCK):
                x0, x1, x2, x3 = w0[i], w1[i], w2[i], w3[i]
                tile[0, i] += a00 * x0 + a10 * x1 + a20 * x2 + a30 * x3
                tile[1, i] += a01 * x0 + a11 * x1 + a21 * x2 + a31 * x3
                tile[2, i] += a02 * x0 + a12 * x1 + a22 * x2 + a32 * x3
                tile[3, i] += a03 * x0 + a13 * x1 + a23 * x2 + a33 * x3
        for j in range(4):
            first, second = pairs[0, f + j], pairs[1, f + j]
            g = tile[j]
            for i in range(BLOCK):
                x, y = rows[first, i], rows[second, i]
                rows_bar[first, i] += g[i] * y
                rows_bar[second, i] += g[i] * x


@inner
def row_of(k, n_near, n_padded):
    """The row of a component where those from ``n_near`` to ``n_padded`` are padding."""
    return k if k < n_near else k - n_near + n_padded


@inner
def softmax(n_near, n_padded, weight, logits, log_sum):
    """logits[k] becomes weight · exp(logits[k] - log_sum); rows of padding become zero."""
    buffer = aligned(3)
    top, higher, total = buffer[0], buffer[1], buffer[2]
    n_components = logits.shape[0] - n_padded + n_near
    top[:] = logits[0]
    for k in range(1, n_components):
        own = logits[row_of(k, n_near, n_padded)]
        for i in range(BLOCK):  # into another row: in place it would be a store under a mask
            higher[i] = max(own[i], top[i])
        top, higher = higher, top
    total[:] = 0.0
    for k in range(n_components):
        own = logits[row_of(k, n_near, n_padded)]
        for i in range(BLOCK):
            e = exp(own[i] - top[i])
            own[i] = e
            total[i] += e
    for i in range(BLOCK):
        log_sum[i] = top[i] + log(total[i])
        total[i] = weight[i] / total[i]
    for k in range(n_components):
        own = logits[row_of(k, n_near, n_padded)]
        for i in range(BLOCK):
            own[i] *= total[i]
    logits[n_near:n_padded] = 0.0


# The centered way: every component has its own reference point, its mean, and its quadratic form
# is a sum of squares ‖Uᵀz‖², P = U Uᵀ. Nothing cancels, however far apart the components are.


@inner
def centered_logits(X, start, means, factors, constants, rows, logits):
    """logits[k, i] = constants[k] - ‖U_kᵀ (x_i - m_k)‖² / 2.

    ``factors`` is (K, d, d) with upper triangular U_k, or (K, 1, d) with diagonal ones.
    """
    n_features = X.shape[1]
    diagonal = factors.shape[1] == 1 and n_features > 1
    y = aligned(1)[0]
    for k in range(constants.size):
        load_rows(X, start, means[k], False, rows)
        squares = logits[k]
        squares[:] = 0.0
        for a in range(n_features):
            y[:] = 0.0
            for b in range(a if diagonal else 0, a + 1):
                u = factors[k, 0, a] if diagonal else factors[k, b, a]
                z = rows[1 + b]
                for i in range(BLOCK):
                    y[i] += u * z[i]
            for i in range(BLOCK):
                squares[i] += y[i] * y[i]
        constant = constants[k]
        for i in range(BLOCK):
            squares[i] = constant - 0.5 * squares[i]


@inner
def single_sums(weights, pairs, left, right, sums):
    """sums[f] += Σ_i weights[i] φ_f(x_i): `weighted_sums` for one component."""
    for f in range(sums.size):
        x, y = left[pairs[0, f]], right[pairs[1, f]]
        s = 0.0
        for i in range(BLOCK):
            s += weights[i] * x[i] * y[i]
        sums[f] += s


@inner
def single_form(coefficients, pairs, left, right, form):
    """form[i] += Σ_f coefficients[f] φ_f(x_i): `linear_forms` for one component."""
    for f in range(coefficients.size):
        c = coefficients[f]
        x, y = left[pairs[0, f]], right[pairs[1, f]]
        for i in range(BLOCK):
            form[i] += c * x[i] * y[i]


@inner
def single_pull_back(weights, coefficients, pairs, rows, rows_bar):
    """`pull_back` for one component."""
    for f in range(coefficients.size):
        c = coefficients[f]
        first, second = pairs[0, f], pairs[1, f]
        for i in range(BLOCK):
            g = c * weights[i]
            x, y = rows[first, i], rows[second, i]
            rows_bar[first, i] += g * y
            rows_bar[second, i] += g * x
