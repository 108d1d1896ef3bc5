"""Small matrices, many at once: precisions, and what both maps of EM do with them.

Of the size of a mixture, not of the data; they stand among the kernels because for small mixtures
the overhead of a handful of calls of NumPy would exceed the whole pass over the samples.
"""

import math

import numpy as np

from .compilation import inner, kernel

LOG_ZERO = -1e300  # log 0, in logits: finite, so that no product with it is NaN
_LOG_2PI = math.log(2.0 * math.pi)


@kernel
def precisions(covariances, factors, inverses, log_det):
    """Fill in L⁻¹, Σ⁻¹ = L⁻ᵀ L⁻¹ and log det L⁻¹ for Σ = L Lᵀ.

    Returns the number of the first matrix that is not positive definite, or -1. Only the lower
    halves of the covariances are read.
    """
    n_matrices, d, _ = covariances.shape
    lower = np.empty((d, d))
    for k in range(n_matrices):
        sigma, inverse, factor = covariances[k], inverses[k], factors[k]
        total = 0.0
        for a in range(d):
            for b in range(a + 1):
                s = sigma[a, b]
                for c in range(b):
                    s -= lower[a, c] * lower[b, c]
                if a == b:
                    if not 0.0 < s < math.inf:
                        return k
                    lower[a, a] = math.sqrt(s)
                else:
                    lower[a, b] = s / lower[b, b]
            total -= math.log(lower[a, a])
        log_det[k] = total
        for a in range(d):  # row a of L L⁻¹ = I
            factor[a, :] = 0.0
            for c in range(a):
                x = lower[a, c]
                for b in range(c + 1):
                    factor[a, b] -= x * factor[c, b]
            x = 1.0 / lower[a, a]
            for b in range(a):
                factor[a, b] *= x
            factor[a, a] = x
        inverse[:] = 0.0
        for c in range(d):
            for a in range(c + 1):
                x = factor[c, a]
                for b in range(a + 1):
                    inverse[a, b] += x * factor[c, b]
        for a in range(d):
            for b in range(a):
                inverse[b, a] = inverse[a, b]
    return -1


@inner
def _constant(weight, log_det, square, d, temperature):
    """log w + (log det U - ½ d log 2π - ½ square) / ε."""
    log_weight = math.log(weight) if weight != 0.0 else LOG_ZERO
    return log_weight + (log_det - 0.5 * (d * _LOG_2PI + square)) / temperature


@kernel
def quadratic_coefficients(
    weights, log_det, precisions, means, references, temperature, coefficients
):
    """Fill in the natural parameters about points r_k, or a single one, with μ_k = m_k - r_k.

        c_k = log w_k + (log det U_k - ½ d log 2π - ½ ⟨P_k μ_k, μ_k⟩) / ε,    b_k = P_k μ_k / ε,

    and, if there is room, -P_ab / ε for b < a, then -½ P_aa / ε, in the order of the features of
    full covariances. A single precision is shared by all components.
    """
    n_components, d = means.shape
    has_quadratic = coefficients.shape[1] > 1 + d
    shift = np.empty(d)
    for k in range(n_components):
        own, row = k if len(precisions) > 1 else 0, coefficients[k]
        precision, reference = precisions[own], references[k if len(references) > 1 else 0]
        for a in range(d):
            shift[a] = means[k, a] - reference[a]
        square = 0.0
        f = 1 + d
        for a in range(d):
            linear = 0.0
            for b in range(d):
                linear += precision[a, b] * shift[b]
            square += linear * shift[a]
            row[1 + a] = linear / temperature
            if has_quadratic:
                for b in range(a):
                    row[f + b] = -precision[a, b] / temperature
                row[f + a] = -0.5 * precision[a, a] / temperature
                f += a + 1
        row[0] = _constant(weights[k], log_det[own], square, d, temperature)


@kernel
def quadratic_pull_back(precisions, shifts, coefficients_bar, means_bar, covariances_bar):
    """Fill in the cotangents of m_k and Σ_k from that of `quadratic_coefficients`.

    With c̄, l̄ and Q̄ the constant, linear and quadratic parts (the last may be missing),

        m̄ = P (l̄ - c̄ μ),    Σ̄ = -P P̄ P - ½ c̄ P,    P̄ = sym((l̄ - ½ c̄ μ) μᵀ) - ½ Q̄.

    A single precision is shared by all components, and its P̄ and c̄ are their sums.
    """
    n_components, d = shifts.shape
    shared = len(precisions) == 1
    precision_bar, product = np.empty((d, d)), np.empty((d, d))
    half = np.empty(d)
    constant = 0.0
    for k in range(n_components):
        precision, shift, bar = precisions[0 if shared else k], shifts[k], coefficients_bar[k]
        if k == 0 or not shared:
            precision_bar[:] = 0.0
            constant = 0.0
        constant += bar[0]
        for a in range(d):
            half[a] = bar[1 + a] - 0.5 * bar[0] * shift[a]
        for a in range(d):
            total = 0.0
            for b in range(d):
                total += precision[a, b] * (bar[1 + b] - bar[0] * shift[b])
                precision_bar[a, b] += 0.5 * (half[a] * shift[b] + half[b] * shift[a])
            means_bar[k, a] = total
        if len(bar) > 1 + d:
            f = 1 + d
            for a in range(d):
                for b in range(a):
                    precision_bar[a, b] -= 0.5 * bar[f + b]
                    precision_bar[b, a] -= 0.5 * bar[f + b]
                precision_bar[a, a] -= 0.5 * bar[f + a]
                f += a + 1
        if k == n_components - 1 or not shared:
            covariance_bar = covariances_bar[0 if shared else k]
            for a in range(d):
                product[a] = 0.0
                for c in range(d):
                    for b in range(d):
                        product[a, b] += precision_bar[a, c] * precision[c, b]
            for a in range(d):
                for b in range(d):
                    covariance_bar[a, b] = -0.5 * constant * precision[a, b]
                for c in range(d):
                    for b in range(d):
                        covariance_bar[a, b] -= precision[a, c] * product[c, b]


@kernel
def weighted_means(sums, references, lost_share, weights, divisors, shifts, means):
    """Fill in w = N / Σ_l N_l, δ = S¹ / N and m = r + δ, and the divisors N.

    Returns whether there are components with no more than ``lost_share`` of the mass, for which N
    is taken as 1.
    """
    n_components, d = means.shape
    total = 0.0
    for k in range(n_components):
        total += sums[k, 0]
    any_lost = False
    for k in range(n_components):
        mass = sums[k, 0]
        weights[k] = mass / total
        if not mass > lost_share * total:
            any_lost, mass = True, 1.0
        divisors[k] = mass
        reference = references[k if len(references) > 1 else 0]
        for a in range(d):
            shifts[k, a] = sums[k, 1 + a] / mass
            means[k, a] = reference[a] + shifts[k, a]
    return any_lost


@kernel
def central_moments(sums, divisors, shifts, reg_covar, covariances):
    """Fill in Σ = S² / N - δ δᵀ + reg_covar I from packed sums, symmetric bit by bit."""
    n_components, d = shifts.shape
    for k in range(n_components):
        shift, covariance = shifts[k], covariances[k]
        f = 1 + d
        for a in range(d):
            for b in range(a + 1):
                x = sums[k, f + b] / divisors[k] - shift[a] * shift[b]
                covariance[a, b] = covariance[b, a] = x
            covariance[a, a] += reg_covar
            f += a + 1


@kernel
def shared_central_moment(sums, second_moment, shifts, reg_covar, covariance):
    """Fill in Σ = (T - Σ_k N_k δ_k δ_kᵀ) / Σ_k N_k + reg_covar I, symmetric bit by bit."""
    n_components, d = shifts.shape
    total = 0.0
    for k in range(n_components):
        total += sums[k, 0]
    for a in range(d):
        for b in range(a + 1):
            x = second_moment[a, b]
            for k in range(n_components):
                x -= sums[k, 0] * shifts[k, a] * shifts[k, b]
            covariance[a, b] = covariance[b, a] = x / total
        covariance[a, a] += reg_covar


@kernel
def largest_form(matrix, reach):
    """The largest sum of sizes of z_a P_ab z_b where |z| ≤ ``reach``."""
    total = 0.0
    for a in range(reach.size):
        for b in range(reach.size):
            total += reach[a] * abs(matrix[a, b]) * reach[b]
    return total


# Diagonal matrices are rows of d entries, or of a single one for all features: of w entries, a
# stands for the features a, a + w, …


@kernel
def diagonal_precisions(variances, n_features, factors, inverses, log_det):
    """`precisions` of diagonal matrices."""
    n_matrices, width = variances.shape
    for k in range(n_matrices):
        total = 0.0
        for a in range(width):
            if not 0.0 < variances[k, a] < math.inf:
                return k
            x = 1.0 / math.sqrt(variances[k, a])
            factors[k, a] = x
            inverses[k, a] = x * x
            total += math.log(x)
        log_det[k] = n_features // width * total
    return -1


@kernel
def diagonal_coefficients(
    weights, log_det, precisions, means, references, temperature, coefficients
):
    """`quadratic_coefficients` of diagonal matrices: the quadratic part is -½ P_a / ε."""
    n_components, d = means.shape
    width = precisions.shape[1]
    for k in range(n_components):
        row, reference = coefficients[k], references[k if len(references) > 1 else 0]
        square = 0.0
        for a in range(width):
            precision = precisions[k, a]
            for b in range(a, d, width):
                shift = means[k, b] - reference[b]
                square += precision * shift * shift
                row[1 + b] = precision * shift / temperature
            row[1 + d + a] = -0.5 * precision / temperature
        row[0] = _constant(weights[k], log_det[k], square, d, temperature)


@kernel
def diagonal_central_moments(sums, divisors, shifts, reg_covar, variances):
    """`central_moments` of diagonal matrices: means over the features of an entry."""
    n_components, d = shifts.shape
    width = variances.shape[1]
    for k in range(n_components):
        for a in range(width):
            square = 0.0
            for b in range(a, d, width):
                square += shifts[k, b] * shifts[k, b]
            variance = (sums[k, 1 + d + a] / divisors[k] - square) / (d // width)
            variances[k, a] = (0.0 if variance < 0.0 else variance) + reg_covar


# Which components are to be seen to: they are marked, and the answer is whether there are any.


@kernel
def mark_beyond(means, references, variances, limit, marks):
    """Mark where a (m_ka - r_ka)² is more than so many times the variance σ²_ka.

    A single row or column of variances is for all components or features.
    """
    n_components, d = means.shape
    any_marked = False
    for k in range(n_components):
        reference = references[k if len(references) > 1 else 0]
        own = variances[k if len(variances) > 1 else 0]
        marks[k] = False
        for a in range(d):
            shift = means[k, a] - reference[a]
            if shift * shift > limit * own[a if len(own) > 1 else 0]:
                marks[k] = any_marked = True
    return any_marked


@kernel
def mark_outweighed(coefficients, sizes, hidden, weights, limit, marks):
    """Mark where Σ_f |η_kf| sizes_f + hidden is not less than a limit, and the weight not zero."""
    any_marked = False
    for k in range(len(coefficients)):
        total = hidden
        for f in range(sizes.size):
            total += abs(coefficients[k, f]) * sizes[f]
        marks[k] = not total < limit and weights[k] > 0.0
        any_marked = any_marked or marks[k]
    return any_marked
