"""Costs of transport between mixtures: squared W2 distances between Gaussians.

By formulas (1) and (2) of `bures`, in whose symbols

    W2² = ‖m − m'‖² + ‖L − L' V Uᵀ‖²                                                     (1)
        = ‖m − m'‖² + tr Σ + tr Σ' − 2 ‖M‖_*                                             (2)

The components of one mixture, or of many, are `Gaussians`. What is said of a pair of them does not
depend on the others, bit by bit.
"""

from typing import NamedTuple

import numpy as np

from ..families import FULL, family_of
from ..kernels.gaussians import nuclear_norms, small_nuclear_norms, squared_distances
from ..numerics.packing import plain
from ..numerics.threads import effective_n_threads, run
from ..parameters import MixtureParameters
from .bures import (
    BLOCK_SIZE,
    few_threads,
    mapped_factors,
    reduced,
    square_root_factors,
    squared_norms,
    standard_deviations,
    transposed,
)

# Formula (2) subtracts traces and loses eps · (tr Σ + tr Σ'). Where W2² is below this
# fraction of the traces formula (1), a sum of squares, replaces it: W2 then vanishes to
# rounding for equal Gaussians, and formula (2) keeps a relative error of 1e4 · eps elsewhere.
NEAR = 1e-4

# Products of up to eight deviations, of 1e-37 to 1e37 each, neither underflow nor overflow.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-74, 1e74

# Singular values of matrices with this many numbers times d in all are worth threads.
WORTH_THREADS = 1e6

# Up to this many features nuclear norms have closed forms, and up to as many as the second number
# rotations of ours find them in half the time that LAPACK takes, or less. Norms of matrices with
# this many numbers times d in all are worth threads.
SMALL, ROTATED = 3, 6
WORTH_ROTATING = 1e5

# Largest distance between Gaussians whose square, with some room, float64 can represent.
LARGEST_DISTANCE = 1e153


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
        squares = squared_norms(factors)
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
        with few_threads(factors.shape[-1]):
            images = mapped_factors(near, target_near)
        costs[pairs] = between_means[pairs] + squared_norms(near - images)
    return costs


def _reduced(gaussians):
    """With `reduced` factors, and exponents."""
    factors, exponents = reduced(gaussians.factors)
    determinants = gaussians.determinants
    if determinants is not None:
        determinants = np.abs(np.linalg.det(factors))
    return gaussians._replace(factors=factors, determinants=determinants), exponents


def _nuclear_norms(source, target, n_threads):
    """‖M‖_* for every pair, of shape (n, m)."""
    d = source.factors.shape[-1]
    norms = np.empty((len(source.factors), len(target.factors)))
    if n_threads is None:
        n_threads = effective_n_threads()
    if d > ROTATED:
        rows = max(1, _pairs_in_a_block(d) // norms.shape[1])
        for start in range(0, len(norms), rows):
            block = slice(start, start + rows)
            _singular_value_sums(source.factors[block], target.factors, n_threads, norms[block])
        return norms

    def task(first, last):
        few = source[first:last]
        if d > SMALL:
            nuclear_norms(few.factors, target.factors, norms[first:last])
        else:
            parts = few.factors, few.determinants, target.factors, target.determinants
            small_nuclear_norms(*parts, norms[first:last])

    run(task, len(norms), n_threads if norms.size * d**3 > WORTH_ROTATING else 1)
    for row, column in np.argwhere(np.isnan(norms)):
        products = transposed(source.factors[row]) @ target.factors[column]
        norms[row, column] = np.linalg.svd(products, compute_uv=False).sum()
    return norms


def _singular_value_sums(factors, target_factors, n_threads, norms):
    """Fill in nuclear norms from singular values, by threads of ours with one of BLAS each."""

    def task(first, last):
        # One small product per pair: a single large one wakes BLAS threads that slow the rest.
        products = transposed(factors[first:last])[:, None] @ target_factors
        norms[first:last] = np.linalg.svd(products, compute_uv=False).sum(axis=-1)

    size = norms.size * factors.shape[-1] ** 3
    with few_threads(factors.shape[-1]):
        run(task, len(factors), n_threads if size > WORTH_THREADS else 1)


def _pairs_in_a_block(n_features):
    return max(1, BLOCK_SIZE // n_features**2)
