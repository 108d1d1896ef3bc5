"""The centered way of full covariances where there are many features: products of matrices.

Let Z (d × B) hold the rows of a block about the point of one component, and γ its weights. With
the upper triangular U, P = U Uᵀ, and a quadratic part packed as lower triangular L,

    logits     c - ½ Σ_a y_a²,  Y = Uᵀ Z           sums       S² = (Z γ) Zᵀ, the lower half
    forms      c + Σ_a z_a (l_a + (L z)_a)
               c + Σ_a z_a (l_a + ½ v_a),  V = (L + Lᵀ) Z
    pull-back  of forms γ (l + V), of logits -γ U Y

The functions of `blocks` go through these feature by feature, and read two rows for every
product. Here rows are multiplied by tiles that stay in registers, and triangles cost what
triangles cost: four rows of a product by four rows of Z (`_four_rows`), and three rows of a sum by
four (`_triangle`, whose twelve sums leave registers for what they are made of).

The block is loaded once for all components, about zero: what is subtracted after that is each
component's own point, in one rounding. Where samples are to get a cotangent, Y and V
of all components are kept from logits and forms to the pull-back.
"""

import numpy as np

from .blocks import BLOCK
from .compilation import inner

LARGE = 64  # features, from which this is faster than the matrix way


@inner
def is_large(n_features, pairs):
    """Whether the features are those of full covariances, and many."""
    return n_features >= LARGE and 2 * pairs.shape[1] > n_features * n_features


@inner
def _padded(n_features):
    return (n_features + 11) // 12 * 12  # whole tiles of three and of four


@inner
def n_rows_for(n_features):
    """How many rows of a block the kernels need; with many features for Z and Z γ as well."""
    if n_features < LARGE:
        return n_features + 2
    return n_features + 2 + 2 * _padded(n_features) + 4


@inner
def n_rows_to_keep(n_features, n_components):
    """… and to keep Y and V."""
    if n_features < LARGE:
        return n_features + 2
    return n_rows_for(n_features) + 2 * n_components * _padded(n_features)


@inner
def _parts(n_features, rows):
    """What `n_rows_for` counts: the block, Z, Z γ and four rows."""
    first, size = n_features + 2, _padded(n_features)
    return (
        rows[1 : 1 + n_features],
        rows[first : first + size],
        rows[first + size : first + 2 * size],
        rows[first + 2 * size : first + 2 * size + 4],
    )


@inner
def kept_products(n_features, k, rows):
    """Y and V of component k; without rows where there is no room."""
    size = _padded(n_features)
    first = n_rows_for(n_features) + 2 * k * size
    return rows[first : first + size], rows[first + size : first + 2 * size]


@inner
def _about(block, count, point, Z):
    """Z = x - point, zero beyond the last sample and feature."""
    n_features = point.size
    for a in range(n_features):
        origin = point[a]
        for i in range(BLOCK):
            Z[a, i] = block[a, i] - origin
        if count < BLOCK:
            Z[a, count:] = 0.0
    Z[n_features:] = 0.0


@inner
def _four_rows(panel, begin, end, Z, Y):
    """Y[p] = Σ_b panel[b, p] Z[b] over begin ≤ b < end, multiples of four, for four p."""
    y0, y1, y2, y3 = Y[0], Y[1], Y[2], Y[3]
    Y[:4] = 0.0
    for b in range(begin, end, 4):
        z0, z1, z2, z3 = Z[b], Z[b + 1], Z[b + 2], Z[b + 3]
        c0, c1, c2, c3 = panel[b], panel[b + 1], panel[b + 2], panel[b + 3]
        a00, a01, a02, a03 = c0[0], c1[0], c2[0], c3[0]
        a10, a11, a12, a13 = c0[1], c1[1], c2[1], c3[1]
        a20, a21, a22, a23 = c0[2], c1[2], c2[2], c3[2]
        a30, a31, a32, a33 = c0[3], c1[3], c2[3], c3[3]
        for i in range(BLOCK):
            x0, x1, x2, x3 = z0[i], z1[i], z2[i], z3[i]
            y0[i] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
            y1[i] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
            y2[i] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
            y3[i] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3


@inner
def _triangle(W, Z, n_features, tile, sums):
    """sums[ab] += Σ_i W[a, i] Z[b, i] over the packed lower half, b ≤ a."""
    for a in range(0, n_features, 3):
        w0, w1, w2 = W[a], W[a + 1], W[a + 2]
        for b in range(0, min(a + 3, n_features), 4):
            z0, z1, z2, z3 = Z[b], Z[b + 1], Z[b + 2], Z[b + 3]
            s00 = s01 = s02 = s03 = 0.0
            s10 = s11 = s12 = s13 = 0.0
            s20 = s21 = s22 = s23 = 0.0
            for i in range(BLOCK):  # one row after the other: they share a register
                g0, g1, g2 = w0[i], w1[i], w2[i]
                x = z0[i]
                s00 += g0 * x
                s10 += g1 * x
                s20 += g2 * x
                x = z1[i]
                s01 += g0 * x
                s11 += g1 * x
                s21 += g2 * x
                x = z2[i]
                s02 += g0 * x
                s12 += g1 * x
                s22 += g2 * x
                x = z3[i]
                s03 += g0 * x
                s13 += g1 * x
                s23 += g2 * x
            t0, t1, t2 = tile[0], tile[1], tile[2]
            t0[0], t0[1], t0[2], t0[3] = s00, s01, s02, s03
            t1[0], t1[1], t1[2], t1[3] = s10, s11, s12, s13
            t2[0], t2[1], t2[2], t2[3] = s20, s21, s22, s23
            for p in range(min(3, n_features - a)):
                f = 1 + n_features + (a + p) * (a + p + 1) // 2
                for q in range(min(4, a + p + 1 - b)):
                    sums[f + b + q] += tile[p, q]


@inner
def large_logits(count, mean, factor, constant, rows, all_Y, logits):
    """logits[i] = constant - ‖Uᵀ (x_i - mean)‖² / 2: `centered_logits` for one component.

    Uᵀ (x_i - mean) is kept in ``all_Y``, if that has room.
    """
    n_features = mean.size
    block, Z, _, Y = _parts(n_features, rows)
    _about(block, count, mean, Z)
    panel = np.zeros((n_features + 3, 4))
    logits[:] = 0.0
    for a in range(0, n_features, 4):
        columns = min(4, n_features - a)
        if columns < 4:
            panel[:] = 0.0
        for b in range(a + columns):  # U is zero below its diagonal
            for p in range(columns):
                panel[b, p] = factor[b, a + p]
        _four_rows(panel, 0, a + 4, Z, Y)
        for p in range(4):
            for i in range(BLOCK):
                logits[i] += Y[p, i] * Y[p, i]
            if all_Y.shape[0]:
                all_Y[a + p] = Y[p]
    for i in range(BLOCK):
        logits[i] = constant - 0.5 * logits[i]


@inner
def large_pull_back(weights, factor, Y, rows, rows_bar):
    """rows_bar += ∂/∂rows of Σ_i weights[i] logits[i], weights held fixed: -γ U Y."""
    n_features = factor.shape[0]
    out = _parts(n_features, rows)[3]
    end = (n_features + 3) // 4 * 4
    panel = np.zeros((end, 4))
    for a in range(0, n_features, 4):
        if a + 4 > n_features:
            panel[:] = 0.0
        for p in range(min(4, n_features - a)):
            for b in range(a, n_features):
                panel[b, p] = factor[a + p, b]
        _four_rows(panel, a, end, Y, out)
        for p in range(min(4, n_features - a)):
            for i in range(BLOCK):
                rows_bar[1 + a + p, i] -= weights[i] * out[p, i]


@inner
def large_form(count, coefficients, point, rows, V, form):
    """form[i] += Σ_f coefficients[f] φ_f(x_i - point): `single_form`.

    If ``V`` has room the symmetric product is taken, and kept there.
    """
    n_features = point.size
    block, Z, _, Y = _parts(n_features, rows)
    _about(block, count, point, Z)
    constant, linear = coefficients[0], coefficients[1 : 1 + n_features]
    packed = coefficients[1 + n_features :]
    symmetric = V.shape[0] > 0
    share = 0.5 if symmetric else 1.0
    end = (n_features + 3) // 4 * 4
    panel = np.zeros((end, 4))
    for i in range(BLOCK):
        form[i] += constant
    for a in range(0, n_features, 4):
        if a + 4 > n_features:
            panel[:] = 0.0
        for p in range(min(4, n_features - a)):
            c = a + p
            for b in range(c + 1):
                panel[b, p] = packed[c * (c + 1) // 2 + b]
            if symmetric:
                panel[c, p] *= 2.0
                for b in range(c + 1, n_features):
                    panel[b, p] = packed[b * (b + 1) // 2 + c]
            else:
                panel[c + 1 : a + 4, p] = 0.0
        _four_rows(panel, 0, end if symmetric else a + 4, Z, Y)
        for p in range(min(4, n_features - a)):
            slope = linear[a + p]
            for i in range(BLOCK):
                form[i] += Z[a + p, i] * (slope + share * Y[p, i])
            if symmetric:
                V[a + p] = Y[p]


@inner
def large_slope(weights, coefficients, V, rows_bar):
    """rows_bar += γ (l + V): `single_pull_back` of the form whose V this is."""
    for a in range(1, rows_bar.shape[0] - 1):
        slope = coefficients[a]
        for i in range(BLOCK):
            rows_bar[a, i] += weights[i] * (slope + V[a - 1, i])


@inner
def large_moved_form(coefficients, V, n_features, rows_dot, form):
    """form += the tangent of the form whose V this is, when samples move."""
    for a in range(n_features):
        slope = coefficients[1 + a]
        for i in range(BLOCK):
            form[i] += rows_dot[1 + a, i] * (slope + V[a, i])


@inner
def large_sums(count, weights, point, rows, sums):
    """sums[f] += Σ_i weights[i] φ_f(x_i - point): `single_sums`."""
    n_features = point.size
    block, Z, W, tile = _parts(n_features, rows)
    _about(block, count, point, Z)
    mass = 0.0
    for i in range(BLOCK):
        mass += weights[i]
    sums[0] += mass
    _add_linear(_weighted(weights, Z, n_features, W), n_features, sums)
    _triangle(W, Z, n_features, tile, sums)


@inner
def large_moved_sums(count, weights, point, rows, rows_dot, sums):
    """sums += their tangent when samples move: Σ γ ż, and S² of Ż γ and Z, and of Z γ and Ż."""
    n_features = point.size
    block, Z, W, tile = _parts(n_features, rows)
    Z_dot = rows_dot[1:]
    _about(block, count, point, Z)
    _add_linear(_weighted(weights, Z_dot, n_features, W), n_features, sums)
    for turn in range(2):
        _triangle(W, Z if turn == 0 else Z_dot, n_features, tile, sums)
        _weighted(weights, Z, n_features, W)


@inner
def _weighted(weights, Z, n_features, W):
    """W = Z γ."""
    for a in range(n_features):
        for i in range(BLOCK):
            W[a, i] = Z[a, i] * weights[i]
    return W


@inner
def _add_linear(W, n_features, sums):
    """sums[a] += Σ_i W[a, i]."""
    for a in range(n_features):
        total = 0.0
        for i in range(BLOCK):
            total += W[a, i]
        sums[1 + a] += total
