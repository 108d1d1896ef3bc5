"""Precisions of small covariance matrices, many at once.

Of the size of a mixture, not of the data; it stands among the kernels because for small mixtures
the overhead of a handful of LAPACK calls would exceed the whole pass over the samples.
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
                    if not s > 0.0:
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
