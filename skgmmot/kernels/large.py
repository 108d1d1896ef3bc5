"""The centered way of full covariances where there are many features: products of matrices.

Let Z (d × B) hold the rows of a block about the point of one component, and γ its weights. With
the upper triangular U, P = U Uᵀ, and a quadratic part packed as lower triangular L,

    logits     c - ½ Σ_a y_a²,  Y = Uᵀ Z           sums       S² = (Z γ) Zᵀ, the lower half
    forms      c + Σ_a z_a (l_a + (L z)_a)
               c + Σ_a z_a (l_a + ½ v_a),  V = (L + Lᵀ) Z
    pull-back  of forms γ (l + V), of logits -γ U Y

The functions of `blocks` go through these feature by feature, and read two rows for every
product. Here they are products of matrices, by BLAS, panel by panel: so many rows of a triangle at
a time that little is computed of its other half. BLAS is to have one thread (`samples.cpu`).

The block is loaded once for all components, about zero: what is subtracted after that is each
component's own point, in one rounding. Where samples are to get a cotangent, Y and V
of all components are kept from logits and forms to the pull-back.

Products are of whole rows, with what `aligned` adds to their end: there, factors are zero.
"""

import numpy as np

from .blocks import BLOCK
from .compilation import inner

LARGE = 64  # features, from which this is faster than `blocks.centered_logits`
PANEL = 64  # rows of a product at a time: of longer ones more is wasted, shorter ones are slow


@inner
def is_large(n_features, pairs):
    """Whether the features are those of full covariances, and many."""
    return n_features >= LARGE and 2 * pairs.shape[1] > n_features * n_features


@inner
def n_rows_for(n_features):
    """How many rows of a block the kernels need; with many features for Z, Z γ, and a panel."""
    if n_features < LARGE:
        return n_features + 2
    return 3 * n_features + 2 + PANEL


@inner
def n_rows_to_keep(n_features, n_components):
    """… and to keep Y and V."""
    if n_features < LARGE:
        return n_features + 2
    return n_rows_for(n_features) + 2 * n_components * n_features


@inner
def _parts(n_features, rows):
    """What `n_rows_for` counts: the block, Z, Z γ and a panel."""
    first, second, third = n_features + 2, 2 * n_features + 2, 3 * n_features + 2
    return rows[1 : 1 + n_features], rows[first:second], rows[second:third], rows[third:][:PANEL]


@inner
def kept_products(n_features, k, rows):
    """Y and V of component k; without rows where there is no room."""
    first = n_rows_for(n_features) + 2 * k * n_features
    return rows[first:][:n_features], rows[first + n_features :][:n_features]


@inner
def _about(block, count, point, Z):
    """Z = x - point, zero beyond the last sample."""
    for a in range(point.size):
        origin = point[a]
        for i in range(BLOCK):
            Z[a, i] = block[a, i] - origin
        Z[a, count:] = 0.0


@inner
def _add_triangle(W, Z, sums):
    """sums[ab] += Σ_i W[a, i] Z[b, i] over the packed lower half, b ≤ a."""
    n_features = Z.shape[0]
    for a in range(0, n_features, PANEL):
        end = min(a + PANEL, n_features)
        product = np.dot(W[a:end], Z[:end].T)
        for p in range(a, end):
            f = 1 + n_features + p * (p + 1) // 2
            for b in range(p + 1):
                sums[f + b] += product[p - a, b]


@inner
def large_logits(count, mean, factor, constant, rows, all_Y, logits):
    """logits[i] = constant - ‖Uᵀ (x_i - mean)‖² / 2: `centered_logits` for one component.

    Uᵀ (x_i - mean) is kept in ``all_Y``, if that has room.
    """
    n_features = mean.size
    block, Z, _, own = _parts(n_features, rows)
    _about(block, count, mean, Z)
    logits[:] = 0.0
    for a in range(0, n_features, PANEL):
        end = min(a + PANEL, n_features)
        Y = all_Y[a:end] if all_Y.shape[0] else own[: end - a]
        columns = np.ascontiguousarray(factor[:end, a:end])  # U is zero below its diagonal
        np.dot(columns.T, Z[:end], Y)
        for p in range(end - a):
            for i in range(BLOCK):
                logits[i] += Y[p, i] * Y[p, i]
    for i in range(BLOCK):
        logits[i] = constant - 0.5 * logits[i]


@inner
def large_pull_back(weights, factor, Y, rows, rows_bar):
    """rows_bar += ∂/∂rows of Σ_i weights[i] logits[i], weights held fixed: -γ U Y."""
    n_features = factor.shape[0]
    own = _parts(n_features, rows)[3]
    for a in range(0, n_features, PANEL):
        end = min(a + PANEL, n_features)
        out = own[: end - a]
        np.dot(np.ascontiguousarray(factor[a:end, a:]), Y[a:], out)
        for p in range(end - a):
            for i in range(BLOCK):
                rows_bar[1 + a + p, i] -= weights[i] * out[p, i]


@inner
def large_form(count, coefficients, point, rows, V, form):
    """form[i] += Σ_f coefficients[f] φ_f(x_i - point): `single_form`.

    If ``V`` has room the symmetric product is taken, and kept there.
    """
    n_features = point.size
    block, Z, _, own = _parts(n_features, rows)
    _about(block, count, point, Z)
    constant, linear = coefficients[0], coefficients[1 : 1 + n_features]
    symmetric = V.shape[0] > 0
    share = 0.5 if symmetric else 1.0
    for i in range(BLOCK):
        form[i] += constant
    for a in range(0, n_features, PANEL):
        end = min(a + PANEL, n_features)
        Y = V[a:end] if symmetric else own[: end - a]
        rows_of_L = _unpacked(coefficients[1 + n_features :], a, end, symmetric, n_features)
        np.dot(rows_of_L, Z[: rows_of_L.shape[1]], Y)
        for p in range(end - a):
            slope = linear[a + p]
            for i in range(BLOCK):
                form[i] += Z[a + p, i] * (slope + share * Y[p, i])


@inner
def _unpacked(packed, begin, end, symmetric, n_features):
    """Rows of L, as far as they go, of which the lower half is packed; or of L + Lᵀ."""
    out = np.zeros((end - begin, n_features if symmetric else end))
    for a in range(begin, end):
        row, first = out[a - begin], a * (a + 1) // 2
        for b in range(a + 1):
            row[b] = packed[first + b]
        if symmetric:
            row[a] *= 2.0
            for b in range(a + 1, n_features):
                row[b] = packed[b * (b + 1) // 2 + a]
    return out


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
    block, Z, W, _ = _parts(n_features, rows)
    _about(block, count, point, Z)
    mass = 0.0
    for i in range(BLOCK):
        mass += weights[i]
    sums[0] += mass
    _add_linear(_weighted(weights, Z, W), sums)
    _add_triangle(W, Z, sums)


@inner
def large_moved_sums(count, weights, point, rows, rows_dot, sums):
    """sums += their tangent when samples move: Σ γ ż, and S² of Ż γ and Z, and of Z γ and Ż."""
    n_features = point.size
    block, Z, W, _ = _parts(n_features, rows)
    Z_dot = rows_dot[1 : 1 + n_features]
    _about(block, count, point, Z)
    _add_linear(_weighted(weights, Z_dot, W), sums)
    _add_triangle(W, Z, sums)
    _add_triangle(_weighted(weights, Z, W), Z_dot, sums)


@inner
def _weighted(weights, Z, W):
    """W = Z γ."""
    for a in range(Z.shape[0]):
        for i in range(BLOCK):
            W[a, i] = Z[a, i] * weights[i]
        W[a, BLOCK:] = 0.0
    return W


@inner
def _add_linear(W, sums):
    """sums[a] += Σ_i W[a, i]."""
    for a in range(W.shape[0]):
        total = 0.0
        for i in range(BLOCK):
            total += W[a, i]
        sums[1 + a] += total
