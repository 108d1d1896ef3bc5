"""W2 between Gaussians: square root factors, and the matrix of the optimal map.

For Gaussians N(m, Σ) and N(m', Σ') with square root factors Σ = L Lᵀ and Σ' = L' L'ᵀ, let

    M = Lᵀ L' = U S Vᵀ                  (singular value decomposition)
    ‖M‖_* = tr S                        (nuclear norm)

An optimal coupling of the two is x = m + L z, y = m' + L' Q z with z standard normal and Q
orthogonal; the cost is ‖m − m'‖² + ‖L − L' Q‖², and the best Q is V Uᵀ, so that

    W2² = ‖m − m'‖² + ‖L − L' V Uᵀ‖²                                                     (1)
        = ‖m − m'‖² + tr Σ + tr Σ' − 2 ‖M‖_*                                             (2)

The optimal map is x → m' + T (x − m), where T is symmetric, positive semi-definite and
satisfies T Σ T = Σ'. From y = m' + T L z follows T L = L' V Uᵀ, hence

    T = L' V Uᵀ L⁻¹                     where Σ is regular,                              (3)
    T = L' V S⁺ Vᵀ L'ᵀ                  of least norm, where it is singular.             (4)

(4) is the derivative of 2 ‖Lᵀ L'‖_* = 2 tr (L'ᵀ Σ L')^{1/2} with respect to Σ. It exists
where M has the rank of L'; elsewhere variance added to Σ is gained at an infinite rate.
In all, ∂W2²/∂Σ = I − T: no matrix square root is ever differentiated.

References: Takatsu, "Wasserstein geometry of Gaussian measures", Osaka J. Math. 48 (2011);
Bhatia, Jain & Lim, "On the Bures-Wasserstein distance between positive definite matrices",
Expo. Math. 37 (2019).
"""

from contextlib import nullcontext

import numpy as np

from ..families import DIAGONAL, family_of
from ..numerics.threads import one_blas_thread

# A Cholesky pivot of a correlation matrix below this is looked at again by eigenvalues,
# which tell a small variance from one that is rounding.
SMALL_PIVOT = 1e-10

# Matrices are formed for as many pairs at a time as fit this many numbers (8 MiB).
BLOCK_SIZE = 2**20

# Matrices from this many features on are worth several threads of BLAS each.
LARGE = 256

EPS = np.finfo(np.float64).eps


def reduced(factors):
    """Factors divided by powers of two, one for each, that leave them of size one; exponents."""
    exponents = np.frexp(np.abs(factors).max(axis=(-2, -1)))[1]
    return np.ldexp(factors, -exponents[:, None, None]), exponents


def gaussian_maps(source, target, rows, columns):
    """Matrices T (n_pairs, d, d) of the maps x → m' + T (x − m) between pairs of components.

    ``rows`` and ``columns`` hold the component of the source and of the target of each pair. T is
    symmetric, positive semi-definite; of least norm where Σ is singular. Where Σ is singular in a
    direction in which Σ' is not, W2² has no derivative with respect to Σ: a ValueError.
    """
    n_features = source.n_features
    deviations, target_deviations = standard_deviations(source), standard_deviations(target)
    if deviations is not None and target_deviations is not None:
        deviations, target_deviations = deviations[rows], target_deviations[columns]
        zero = deviations == 0
        _refuse((zero & (target_deviations > 0)).any(axis=-1), rows, columns)
        scales = np.divide(target_deviations, deviations, out=np.zeros(zero.shape), where=~zero)
        return DIAGONAL.matrices(scales, len(rows), n_features)

    with few_threads(n_features):
        factors = take(square_root_factors(source), rows)
        target_factors = take(square_root_factors(target), columns)
        maps = np.empty((len(rows), n_features, n_features))
        singular = ~factors.any(axis=-2).all(axis=-1)
        maps[~singular] = _regular_maps(factors[~singular], target_factors[~singular])
        if singular.any():
            maps[singular], lost = _least_maps(factors[singular], target_factors[singular])
            _refuse(lost, rows[singular], columns[singular])
    return maps


def gaussian_geodesics(source, target, rows, columns, t):
    """Covariances at time t of the geodesics between pairs of components.

    They are F Fᵀ with F = (1 − t) L + t L' V Uᵀ, for singular covariances as well: F is L at
    t = 0, and a square root factor of Σ' at t = 1. Their shape is (n_pairs, d) where both mixtures
    are diagonal by type, else (n_pairs, d, d).
    """
    deviations, target_deviations = standard_deviations(source), standard_deviations(target)
    if deviations is not None and target_deviations is not None:
        return ((1 - t) * deviations[rows] + t * target_deviations[columns]) ** 2
    with few_threads(source.n_features):
        factors = take(square_root_factors(source), rows)
        images = mapped_factors(factors, take(square_root_factors(target), columns))
        factors = (1 - t) * factors + t * images
        return factors @ transposed(factors)


def square_root_factors(mixture):
    """Factors L (K, d, d) with Σ = L Lᵀ, a single one (1, d, d) for tied covariances.

    Cholesky factors of the correlation matrices, so that the units of the features play no
    part. Where one of those is singular to rounding, factors from eigenvectors take their
    place, with the eigenvalues that are rounding (as in `numpy.linalg.matrix_rank`) set to 0:
    kept, they would be noise of size eps that the square root raises to 1e-8. There is one column
    of zeros for each lost rank.
    """
    covariances, family = mixture.covariances, family_of(mixture)
    if family.is_diagonal:
        return family.matrices(np.sqrt(covariances), *mixture.means.shape)
    covariances = family.batch(covariances)
    deviations = np.sqrt(np.einsum("kaa->ka", covariances))[:, :, None]
    units = deviations if deviations.all() else np.where(deviations > 0, deviations, 1.0)
    correlations = covariances / units / transposed(units)
    factors, regular = _cholesky(correlations)
    factors *= deviations
    if not regular.all():
        singular = ~regular
        eigenvalues, eigenvectors = np.linalg.eigh(correlations[singular])
        rounding = mixture.n_features * EPS * eigenvalues[:, -1:]
        eigenvalues = np.where(eigenvalues > rounding, eigenvalues, 0.0)
        roots = eigenvectors * np.sqrt(eigenvalues)[:, None, :]
        factors[singular] = deviations[singular] * roots
    return factors


def _cholesky(matrices):
    """Cholesky factors, and which of them are there and have no small pivot."""
    try:
        factors = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:  # one of them is singular: which one is not told
        if len(matrices) == 1:
            return np.zeros(matrices.shape), np.zeros(1, dtype=bool)
        parts = [_cholesky(matrix[None]) for matrix in matrices]
        return tuple(map(np.concatenate, zip(*parts, strict=True)))
    return factors, np.einsum("kaa->ka", factors).min(axis=1) ** 2 > SMALL_PIVOT


def standard_deviations(mixture):
    """Standard deviations (K, d) where all covariances are diagonal by type, else None."""
    shape, family = mixture.means.shape, family_of(mixture)
    if not family.is_diagonal and shape[1] > 1:
        return None
    return np.broadcast_to(np.sqrt(family.variances(mixture.covariances)), shape)


def nearest_rotations(factors, target_factors):
    """Q = V Uᵀ of formula (1): of all L' Q with Q orthogonal, this one is nearest to L.

    Leading dimensions of the factors are broadcast.
    """
    U, _, Vt = np.linalg.svd(transposed(factors) @ target_factors)
    return transposed(U @ Vt)


def mapped_factors(factors, target_factors):
    """T L = L' V Uᵀ, the point of the orbit of L' that is nearest to L."""
    return target_factors @ nearest_rotations(factors, target_factors)


def _regular_maps(factors, target_factors):
    """Formula (3), which is symmetric to rounding, made symmetric."""
    images = mapped_factors(factors, target_factors)
    maps = np.linalg.solve(transposed(factors), transposed(images))
    return (maps + transposed(maps)) / 2


def _least_maps(factors, target_factors):
    """Formula (4), and for which pairs M has a lower rank than L'."""
    rounding = factors.shape[-1] * EPS
    (factors, exponents), (target_factors, target_exponents) = map(
        reduced, (factors, target_factors)
    )
    _, s, Vt = np.linalg.svd(transposed(factors) @ target_factors)
    images = target_factors @ transposed(Vt)
    target_traces = squared_norms(target_factors)
    reached = s > rounding * np.sqrt(squared_norms(factors) * target_traces)[:, None]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=reached)
    maps = (images * inverse[:, None, :]) @ transposed(images)
    maps = np.ldexp(maps, (target_exponents - exponents)[:, None, None])
    missed = ((images**2).sum(axis=-2) * ~reached).sum(axis=-1)
    return maps, missed > rounding * target_traces


def _refuse(lost, rows, columns):
    """Raise for the first pair for which there is no derivative."""
    if lost.any():
        pair = np.argmax(lost)
        raise ValueError(
            f"The covariance of component {rows[pair]} is singular in a direction in which "
            f"component {columns[pair]} of the other mixture varies: the distance has no "
            "derivative there. Regularize the covariances of the mixture that the gradient is "
            "taken of (reg_covar)."
        )


def few_threads(n_features):
    """Many products of matrices this small: threads of BLAS would wait more than they work."""
    return one_blas_thread() if 3 < n_features < LARGE else nullcontext()


def take(factors, components):
    """Factors of some components; a single factor stands for all of them."""
    return factors[components if len(factors) > 1 else np.zeros_like(components)]


def squared_norms(matrices):
    """Squared Frobenius norms of a stack of matrices."""
    return np.einsum("kab,kab->k", matrices, matrices)


def transposed(matrices):
    return np.swapaxes(matrices, -1, -2)
