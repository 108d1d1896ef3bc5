"""Small matrices, many at once: precisions, and the quadratic parts of both maps of EM.

Of the size of a mixture, not of the data; they stand among the kernels because for small mixtures
the overhead of a handful of calls of NumPy would exceed the whole pass over the samples.
"""

import math

import numpy as np

from .compilation import kernel


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


@kernel
def quadratic_coefficients(constants, precisions, shifts, coefficients):
    """Fill in c_k - ½ ⟨P_k μ_k, μ_k⟩, P_k μ_k and the packed P_k, for the shifts μ_k.

    In the order of the features of full covariances: -P_ab for b < a, then -½ P_aa.
    """
    n_components, d = shifts.shape
    for k in range(n_components):
        precision, shift, row = precisions[k], shifts[k], coefficients[k]
        square = 0.0
        f = 1 + d
        for a in range(d):
            linear = 0.0
            for b in range(d):
                linear += precision[a, b] * shift[b]
            square += linear * shift[a]
            row[1 + a] = linear
            for b in range(a):
                row[f + b] = -precision[a, b]
            row[f + a] = -0.5 * precision[a, a]
            f += a + 1
        row[0] = constants[k] - 0.5 * square


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
def maximization(sums, references, reg_covar, lost_share, weights, means, covariances):
    """Fill in the M-step of full covariances from packed sums.

        w = N / Σ_l N_l,  m = r + δ,  Σ = S² / N - δ δᵀ + reg_covar I,  δ = S¹ / N,

    the covariances symmetric bit by bit. Returns whether there are components with no more than
    ``lost_share`` of the mass, for which N is taken as 1.
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
        reference, mean = references[k if len(references) > 1 else 0], means[k]
        covariance = covariances[k]
        f = 1 + d
        for a in range(d):
            mean[a] = sums[k, 1 + a] / mass
            for b in range(a + 1):
                x = sums[k, f + b] / mass - mean[a] * mean[b]
                covariance[a, b] = covariance[b, a] = x
            covariance[a, a] += reg_covar
            f += a + 1
        for a in range(d):
            mean[a] += reference[a]
    return any_lost


@kernel
def exceeds(means, references, covariances, limit):
    """Whether a (m_ka - r_ka)² is more than so many times Σ_kaa."""
    n_components, d = means.shape
    for k in range(n_components):
        reference = references[k if len(references) > 1 else 0]
        for a in range(d):
            shift = means[k, a] - reference[a]
            if shift * shift > limit * covariances[k, a, a]:
                return True
    return False
