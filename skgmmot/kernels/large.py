"""The centered way of full covariances where there are many features: products of matrices.

Let Z (d × B) hold the rows of a block about the point of one component, and γ its weights. With
the upper triangular U, P = U Uᵀ, and a quadratic part packed as lower triangular L,

    logits     c - ½ Σ_a y_a²,  Y = Uᵀ Z           sums       S² = (Z γ) Zᵀ, the lower half
    forms      c + Σ_a z_a (l_a + (L z)_a)
               c + Σ_a z_a (l_a + ½ v_a),  V = (L + Lᵀ) Z
    pull-back  of forms γ (l + V), of logits -γ U Y

The functions of `blocks` go through these feature by feature, and read two rows for every
product. Here they are products of matrices by BLAS (`blas`), which is to have one thread
(`samples.cpu`). The weights of an E-step are not negative: with W = Z √γ, S² is the Gram matrix of
W, of which half is computed. For other weights it is made panel by panel: so many rows at a time
that little is computed of the other half.

The block is loaded once for all components, about zero: what is subtracted after that is each
component's own point, in one rounding. Where samples are to get a cotangent, Y and V of all
components are kept from logits and forms to the pull-back.

Products by np.dot are of whole rows, with what `aligned` adds to their end: there, factors are
zero.
"""

import numpy as np

from .blas import lower_gram, multiply_lower, multiply_upper, multiply_upper_transposed
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
    """How many rows of a block the kernels need; with many features also for Z and W."""
    return n_features + 2 if n_features < LARGE else 3 * n_features + 2


@inner
def n_rows_to_keep(n_features, n_components):
    """… and to keep Y and V."""
    if n_features < LARGE:
        return n_features + 2
    return n_rows_for(n_features) + 2 * n_components * n_features


@inner
def _parts(n_features, rows):
    """What `n_rows_for` counts: the block, Z and W."""
    first, second, third = n_features + 2, 2 * n_features + 2, 3 * n_features + 2
    return rows[1 : 1 + n_features], rows[first:second], rows[second:third]


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
def large_logits(count, mean, factor, constant, rows, kept, logits):
    """logits[i] = constant - ‖Uᵀ (x_i - mean)‖² / 2: `centered_logits` for one component.

    Uᵀ (x_i - mean) is kept, if there is room for it.
    """
    n_features = mean.size
    block, Y, _ = _parts(n_features, rows)
    if kept.shape[0]:
        Y = kept
    _about(block, count, mean, Y)
    multiply_upper_transposed(factor, BLOCK, Y)
    logits[:] = 0.0
    for a in range(n_features):
        for i in range(BLOCK):
            logits[i] += Y[a, i] * Y[a, i]
    for i in range(BLOCK):
        logits[i] = constant - 0.5 * logits[i]


@inner
def large_pull_back(weights, factor, Y, rows_bar):
    """rows_bar += ∂/∂rows of Σ_i weights[i] logits[i], weights held fixed: -γ U Y.

    Y is overwritten.
    """
    multiply_upper(factor, BLOCK, Y)
    for a in range(factor.shape[0]):
        for i in range(BLOCK):
            rows_bar[1 + a, i] -= weights[i] * Y[a, i]


@inner
def large_form(count, coefficients, point, rows, V, form):
    """form[i] += Σ_f coefficients[f] φ_f(x_i - point): `single_form`.

    If ``V`` has room the symmetric product is taken, and kept there.
    """
    n_features = point.size
    block, Z, Y = _parts(n_features, rows)
    _about(block, count, point, Z)
    constant, linear = coefficients[0], coefficients[1 : 1 + n_features]
    symmetric = V.shape[0] > 0
    share = 0.5 if symmetric else 1.0
    matrix = _unpacked(coefficients[1 + n_features :], symmetric, n_features)
    if symmetric:
        Y = V
        np.dot(matrix, Z, Y)
    else:
        Y[:] = Z
        multiply_lower(matrix, BLOCK, Y)
    for i in range(BLOCK):
        form[i] += constant
    for a in range(n_features):
        slope = linear[a]
        for i in range(BLOCK):
            form[i] += Z[a, i] * (slope + share * Y[a, i])


@inner
def _unpacked(packed, symmetric, n_features):
    """L, of which the lower half is packed; or L + Lᵀ."""
    out = np.empty((n_features, n_features))
    for a in range(n_features):
        first = a * (a + 1) // 2
        for b in range(a + 1):
            out[a, b] = packed[first + b]
    if symmetric:
        for a in range(n_features):
            out[a, a] *= 2.0
            for b in range(a):
                out[b, a] = out[a, b]
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
    block, Z, W = _parts(n_features, rows)
    _about(block, count, point, Z)
    mass, least = 0.0, 0.0
    for i in range(BLOCK):
        mass += weights[i]
        least = min(least, weights[i])
    sums[0] += mass
    _add_linear(_weighted(weights, Z, W), sums)
    if least < 0.0:
        _add_triangle(W, Z, sums)
        return
    product = np.empty((n_features, n_features))
    lower_gram(BLOCK, _weighted(np.sqrt(weights), Z, W), product)
    for a in range(n_features):
        f = 1 + n_features + a * (a + 1) // 2
        for b in range(a + 1):
            sums[f + b] += product[a, b]


@inner
def large_moved_sums(count, weights, point, rows, rows_dot, sums):
    """sums += their tangent when samples move: Σ γ ż, and S² of Ż γ and Z, and of Z γ and Ż."""
    n_features = point.size
    block, Z, W = _parts(n_features, rows)
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
