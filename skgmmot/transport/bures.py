"""W2 between Gaussians: the squared distance, and the matrix of the optimal map.

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
from typing import NamedTuple

import numpy as np

from ..families import DIAGONAL, FULL, family_of
from ..kernels.gaussians import small_nuclear_norms, squared_distances
from ..numerics.packing import plain
from ..numerics.threads import effective_n_threads, one_blas_thread, run
from ..parameters import MixtureParameters

# Formula (2) subtracts traces and loses eps · (tr Σ + tr Σ'). Where W2² is below this
# fraction of the traces formula (1), a sum of squares, replaces it: W2 then vanishes to
# rounding for equal Gaussians, and formula (2) keeps a relative error of 1e4 · eps elsewhere.
NEAR = 1e-4

# A Cholesky pivot of a correlation matrix below this is looked at again by eigenvalues,
# which tell a small variance from one that is rounding.
SMALL_PIVOT = 1e-10

# Products of up to eight deviations, of 1e-37 to 1e37 each, neither underflow nor overflow.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-74, 1e74

# Matrices are formed for as many pairs at a time as fit this many numbers (8 MiB).
BLOCK_SIZE = 2**20

# Singular values of matrices with this many numbers times d in all are worth threads.
WORTH_THREADS = 1e6

# Up to this many features nuclear norms have closed forms, of which this many are worth threads.
SMALL = 3
MANY_NORMS = 2000

# Matrices from this many features on are worth several threads of BLAS each.
LARGE = 256

# Largest distance between Gaussians whose square, with some room, float64 can represent.
LARGEST_DISTANCE = 1e153

EPS = np.finfo(np.float64).eps


def unit_of_length(source, target):
    """A power of two close to the largest distance of means or standard deviation."""
    with np.errstate(over="ignore"):
        between_means = np.abs(source.means[:, None] - target.means).max()
    variance = max(source.covariances.max(), target.covariances.max())  # on a diagonal
    extent = max(between_means, np.sqrt(variance))
    if not extent * np.sqrt(source.n_features) < LARGEST_DISTANCE:
        raise ValueError(
            "a and b: the squared distances between their components exceed the range of float64, "
            f"as means differ by up to {between_means:.3g} and standard deviations are up to "
            f"{np.sqrt(variance):.3g}. Divide the features by a common factor."
        )
    return float(np.ldexp(1.0, np.frexp(extent)[1]))


class Gaussians(NamedTuple):
    """Components of one mixture, or of many, one after the other, as their costs need them.

    means : ndarray of shape (n, d)
    deviations : ndarray of shape (n, d), where all covariances are diagonal by type, or None
    factors : ndarray of shape (n, d, d), square root factors, or None where deviations will do
    squares : ndarray of shape (n,), tr Σ, where there are factors
    determinants : ndarray of shape (n,), |det L|, where there are factors and d ≤ 3
    """

    means: np.ndarray
    deviations: np.ndarray | None
    factors: np.ndarray | None
    squares: np.ndarray | None
    determinants: np.ndarray | None

    def __getitem__(self, components):
        return Gaussians(*(None if part is None else part[components] for part in self))


def gaussians_of(mixtures, unit=1.0, with_factors=False):
    """The `Gaussians` of mixtures in float64; all but means in units of length, a power of two.

    What is said of a component does not depend on the others. With factors in any case, or else
    where some of the mixtures are not diagonal by type.
    """
    means = np.concatenate([mixture.means for mixture in mixtures])
    deviations, factors, squares, determinants = None, None, None, None
    parts = [standard_deviations(mixture) for mixture in mixtures]
    if all(part is not None for part in parts):
        deviations = np.concatenate(parts) / unit
    if with_factors or deviations is None:
        factors = plain(_all_factors(mixtures, means.shape) / unit)
        squares = _squares(factors)
        if means.shape[1] <= SMALL:
            determinants = np.abs(np.linalg.det(factors))
    parts = means, deviations, factors, squares, determinants
    return Gaussians(*(None if part is None else plain(part) for part in parts))


def _all_factors(mixtures, shape):
    """Square root factors of mixtures; one call for many takes far less time than many."""
    if all(family_of(mixture) is FULL for mixture in mixtures):
        covariances = np.concatenate([mixture.covariances for mixture in mixtures])
        means = np.broadcast_to(0.0, shape)  # for the number of features
        return square_root_factors(MixtureParameters(None, means, covariances, "full"))
    factors = [
        np.broadcast_to(square_root_factors(mixture), (len(mixture.means), *2 * shape[1:]))
        for mixture in mixtures
    ]
    return np.concatenate(factors)


def gaussian_costs(source, target, unit=1.0):
    """Squared W2 distances (K, L) between the components of two mixtures in float64.

    With a ``unit`` of length, a power of two, the costs are in units of its square.
    """
    both, n_source = gaussians_of((source, target), unit), len(source.means)
    return costs_between(both[:n_source], both[n_source:], unit)


def costs_between(source, target, unit=1.0, n_threads=None):
    """Squared W2 distances (n, m) between `Gaussians`.

    Those between two of them do not depend on the others. Several threads, of as many as there are
    for None, are taken where that pays.
    """
    between_means = np.empty((len(source.means), len(target.means)))
    if unit == 1.0:
        squared_distances(source.means, target.means, between_means)
    else:  # far from the origin the means themselves may be beyond the range of float64
        between = (source.means[:, None] - target.means) / unit
        between_means = (between**2).sum(axis=-1)
    if source.deviations is not None and target.deviations is not None:  # Σ and Σ' commute
        between_deviations = np.empty_like(between_means)
        squared_distances(source.deviations, target.deviations, between_deviations)
        return between_means + between_deviations

    factors, target_factors = source.factors, target.factors
    traces = source.squares[:, None] + target.squares
    if traces.min() > SMALLEST_SQUARE and traces.max() < LARGEST_SQUARE:
        norms = _nuclear_norms(source, target, n_threads)
    else:  # ‖M‖_* is homogeneous in each of L and L'
        (source, exponents), (target, target_exponents) = map(_reduced, (source, target))
        norms = _nuclear_norms(source, target, n_threads)
        norms = np.ldexp(norms, exponents[:, None] + target_exponents)
    costs = between_means + traces - 2 * norms

    rows, columns = np.nonzero(costs < NEAR * traces)
    size = _pairs_in_a_block(factors.shape[-1])
    for start in range(0, len(rows), size):
        pairs = rows[start : start + size], columns[start : start + size]
        near, target_near = factors[pairs[0]], target_factors[pairs[1]]
        costs[pairs] = between_means[pairs] + _squares(near - mapped_factors(near, target_near))
    return costs


def _reduced(gaussians):
    """With `reduced` factors, and exponents."""
    factors, exponents = reduced(gaussians.factors)
    determinants = gaussians.determinants
    if determinants is not None:
        determinants = np.abs(np.linalg.det(factors))
    return gaussians._replace(factors=factors, determinants=determinants), exponents


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

    with _few_threads(n_features):
        factors = _take(square_root_factors(source), rows)
        target_factors = _take(square_root_factors(target), columns)
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
    with _few_threads(source.n_features):
        factors = _take(square_root_factors(source), rows)
        images = mapped_factors(factors, _take(square_root_factors(target), columns))
        factors = (1 - t) * factors + t * images
        return factors @ _transpose(factors)


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
    correlations = covariances / units / _transpose(units)
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


def _nuclear_norms(source, target, n_threads):
    """‖M‖_* for every pair, of shape (n, m)."""
    d = source.factors.shape[-1]
    norms = np.empty((len(source.factors), len(target.factors)))
    if n_threads is None:
        n_threads = effective_n_threads()
    if d > SMALL:
        rows = max(1, _pairs_in_a_block(d) // norms.shape[1])
        for start in range(0, len(norms), rows):
            block = slice(start, start + rows)
            _singular_value_sums(source.factors[block], target.factors, n_threads, norms[block])
        return norms

    def task(first, last):
        few = source[first:last]
        small_nuclear_norms(
            few.factors, few.determinants, target.factors, target.determinants, norms[first:last]
        )

    run(task, len(norms), n_threads if norms.size > MANY_NORMS else 1)
    return norms


def _singular_value_sums(factors, target_factors, n_threads, norms):
    """Fill in nuclear norms from singular values, by threads of ours with one of BLAS each."""

    def task(first, last):
        # One small product per pair: a single large one wakes BLAS threads that slow the rest.
        products = _transpose(factors[first:last])[:, None] @ target_factors
        norms[first:last] = np.linalg.svd(products, compute_uv=False).sum(axis=-1)

    size = norms.size * factors.shape[-1] ** 3
    with _few_threads(factors.shape[-1]):
        run(task, len(factors), n_threads if size > WORTH_THREADS else 1)


def nearest_rotations(factors, target_factors):
    """Q = V Uᵀ of formula (1): of all L' Q with Q orthogonal, this one is nearest to L.

    Leading dimensions of the factors are broadcast.
    """
    U, _, Vt = np.linalg.svd(_transpose(factors) @ target_factors)
    return _transpose(U @ Vt)


def mapped_factors(factors, target_factors):
    """T L = L' V Uᵀ, the point of the orbit of L' that is nearest to L."""
    return target_factors @ nearest_rotations(factors, target_factors)


def _regular_maps(factors, target_factors):
    """Formula (3), which is symmetric to rounding, made symmetric."""
    images = mapped_factors(factors, target_factors)
    maps = np.linalg.solve(_transpose(factors), _transpose(images))
    return (maps + _transpose(maps)) / 2


def _least_maps(factors, target_factors):
    """Formula (4), and for which pairs M has a lower rank than L'."""
    rounding = factors.shape[-1] * EPS
    (factors, exponents), (target_factors, target_exponents) = map(
        reduced, (factors, target_factors)
    )
    _, s, Vt = np.linalg.svd(_transpose(factors) @ target_factors)
    images = target_factors @ _transpose(Vt)
    target_traces = _squares(target_factors)
    reached = s > rounding * np.sqrt(_squares(factors) * target_traces)[:, None]
    inverse = np.divide(1.0, s, out=np.zeros_like(s), where=reached)
    maps = (images * inverse[:, None, :]) @ _transpose(images)
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


def _few_threads(n_features):
    """Many products of matrices this small: threads of BLAS would wait more than they work."""
    return one_blas_thread() if 3 < n_features < LARGE else nullcontext()


def _take(factors, components):
    """Factors of some components; a single factor stands for all of them."""
    return factors[components if len(factors) > 1 else np.zeros_like(components)]


def _squares(matrices):
    """Squared Frobenius norms of a stack of matrices."""
    return np.einsum("kab,kab->k", matrices, matrices)


def _transpose(matrices):
    return np.swapaxes(matrices, -1, -2)


def _pairs_in_a_block(n_features):
    return max(1, BLOCK_SIZE // n_features**2)
