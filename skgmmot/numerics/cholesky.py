"""Precisions of large matrices, by LAPACK."""

import numpy as np
from scipy.linalg.lapack import dlauum, dpotrf, dtrtri

from .threads import one_blas_thread


def precisions(covariances, factors, inverses, log_det):
    """`kernels.small_matrices.precisions`, for matrices that are worth calls of LAPACK.

    With Σ = L Lᵀ fills in L⁻¹, Σ⁻¹ = L⁻ᵀ L⁻¹ and log det L⁻¹. LAPACK has columns for rows: what it
    reads and writes as an upper half is a lower one here.
    """
    with one_blas_thread():
        for k, covariance in enumerate(covariances):
            root, failed = dpotrf(covariance.T, lower=0, clean=1)
            diagonal = root.diagonal()
            if failed or not (diagonal > 0).all() or not np.isfinite(diagonal).all():
                return k
            log_det[k] = -np.log(diagonal).sum()
            factor, _ = dtrtri(root, lower=0, overwrite_c=1)
            factors[k] = factor.T
            inverse, _ = dlauum(factor, lower=0, overwrite_c=1)
            np.add(inverse, inverse.T, out=inverses[k])  # one of the two is zero,
            inverses[k].flat[:: len(inverse) + 1] *= 0.5  # but on the diagonal
    return -1
