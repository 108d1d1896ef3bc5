"""Gradients of exact transport between many mixtures: one cotangent for each of them.

With the cotangents G of values V = MW2², and the plans, potentials and maps of each pair,

    w̄_k = Σ G u_k,   m̄_k = 2 Σ G Σ_l P_kl (m_k − m'_l),   Σ̄_k = Σ G Σ_l P_kl (I − T_kl),

where the first sum is over all mixtures of the other list; and the same the other way. Those of
distances are G / (2 MW2) for the values, and nothing where the distance is zero.
"""

from typing import NamedTuple

import numpy as np

from ..kernels.gaussians import add_maps
from ..numerics.threads import one_blas_thread, run
from .bures import EPS, reduced
from .many import block_costs, blocks_of, solve_block, stacks_of

# Maps between Gaussians with more features are left to LAPACK, for one pair of mixtures at a time.
LARGEST_ROTATED = 16

# Blocks of which the sums are kept at a time, before they are added up, in their order.
BLOCKS_AT_ONCE = 16


class Sums(NamedTuple):
    """Cotangents of the components of a stack: of weights, means and covariance matrices."""

    weights: np.ndarray
    means: np.ndarray
    matrices: np.ndarray

    def add(self, rows, other):
        """Add those of some rows."""
        for mine, its in zip(self, other, strict=True):
            mine[rows] += its


def exact_gradients(A, B, cotangents, squared, n_threads):
    """Cotangents of mixtures in float64, of cotangents (len(A), len(B)) of distances or values.

    Returns
    -------
    gradients, target_gradients : list of Sums or None, for each mixture of A and of B
    left : ndarray of bool, the pairs that are left out, to be found in another way
    """
    stacks = stacks_of(A, with_factors=True)
    target_stacks = stacks if B is A else stacks_of(B, with_factors=True)
    wanted = cotangents != 0
    done = wanted & _are_smooth(A, stacks)[:, None] & _are_smooth(B, target_stacks)
    blocks = blocks_of(stacks, target_stacks, done)
    sums = [_zeros(stack) for stack in stacks]
    target_sums = [_zeros(stack) for stack in target_stacks]
    found = [None] * len(blocks)

    def task(first, last):
        for b in range(first, last):
            block = blocks[b]
            pairs = np.ix_(block.source.numbers, block.target.numbers)
            found[b] = _gradients(block, cotangents[pairs], squared)

    with one_blas_thread():
        for start in range(0, len(blocks), BLOCKS_AT_ONCE):
            part = range(start, min(start + BLOCKS_AT_ONCE, len(blocks)))
            run(lambda first, last, s=start: task(s + first, s + last), len(part), n_threads)
            for b in part:
                source, target, certified = found[b]
                block, found[b] = blocks[b], None
                _add(sums, stacks, block.source, source)
                _add(target_sums, target_stacks, block.target, target)
                rows, columns = block.pairs[~certified].T
                done[block.source.numbers[rows], block.target.numbers[columns]] = False
    return _split(sums, stacks, len(A)), _split(target_sums, target_stacks, len(B)), wanted & ~done


def _are_smooth(mixtures, stacks):
    """Which mixtures have weights above rounding only, and regular covariances, not too large."""
    smooth = np.zeros(len(mixtures), dtype=bool)
    if mixtures[0].n_features > LARGEST_ROTATED:
        return smooth
    for stack in stacks:
        factors = stack.gaussians.factors
        regular = (np.einsum("kaa->ka", factors) > 0).all(axis=1)
        regular &= ~np.triu(factors, 1).any(axis=(1, 2))  # those from eigenvectors are full
        smooth[stack.numbers] = np.logical_and.reduceat(regular, stack.starts[:-1])
    return smooth & [mixture.weights.min() > EPS for mixture in mixtures]


def _gradients(block, cotangents, squared):
    """`Sums` of the components of both sides of a block, and which pairs are certified."""
    source, target, pairs = block
    costs = block_costs(block)
    values, certified, plans, potentials, target_potentials = solve_block(block, costs, True)
    rows, columns = pairs[certified].T
    given = cotangents[rows, columns]
    if not squared:
        distances = np.sqrt(values[certified])
        given = np.divide(0.5 * given, distances, out=np.zeros_like(given), where=distances > 0)
    rates = np.zeros(cotangents.shape)
    rates[rows, columns] = given
    sizes, target_sizes = np.diff(source.starts), np.diff(target.starts)
    of_rows, of_columns = np.repeat(rates, sizes, axis=0), np.repeat(rates.T, target_sizes, axis=0)
    plans = np.where(plans > EPS, plans, 0.0) * np.repeat(of_rows, target_sizes, axis=1)

    gaussians, target_gaussians = source.gaussians, target.gaussians
    sums, target_sums = _zeros(source), _zeros(target)
    scaled = [_scaled(side.factors) for side in (gaussians, target_gaussians)]
    if not add_maps(plans, *scaled[0], *scaled[1], sums.matrices, target_sums.matrices):
        return _zeros(source), _zeros(target), np.zeros(len(pairs), dtype=bool)
    center = target_gaussians.means.mean(axis=0)
    means, target_means = gaussians.means - center, target_gaussians.means - center
    for total, plan, own, other, potential, rate, starts in (
        (sums, plans, means, target_means, potentials, of_rows, source.starts),
        (target_sums, plans.T, target_means, means, target_potentials.T, of_columns, target.starts),
    ):
        masses = plan.sum(axis=1)
        total.means[:] = 2 * (masses[:, None] * own - plan @ other)
        np.subtract(masses[:, None, None] * np.eye(own.shape[1]), total.matrices, total.matrices)
        total.weights[:] = (rate * _of_mean_zero(potential, starts)).sum(axis=1)
    return sums, target_sums, certified


def _scaled(factors):
    """Factors of size one, and the powers of two that they were divided by."""
    factors, exponents = reduced(factors)
    return factors, np.ldexp(1.0, exponents)


def _of_mean_zero(potentials, starts):
    """Potentials less their mean over the components of each mixture: slopes in the weights."""
    sizes = np.diff(starts)
    means = np.add.reduceat(potentials, starts[:-1], axis=0) / sizes[:, None]
    return potentials - np.repeat(means, sizes, axis=0)


def _zeros(stack):
    n, d = stack.gaussians.means.shape
    return Sums(np.zeros(n), np.zeros((n, d)), np.zeros((n, d, d)))


def _add(sums, stacks, part, found):
    """Add what was found of a part of a stack to the sums of that stack."""
    for total, stack in zip(sums, stacks, strict=True):
        place = np.searchsorted(stack.numbers, part.numbers[0])
        if place < len(stack.numbers) and stack.numbers[place] == part.numbers[0]:
            first = stack.starts[place]
            total.add(slice(first, first + part.starts[-1]), found)


def _split(sums, stacks, n_mixtures):
    """The sums of each mixture; None where it is in no stack."""
    parts = [None] * n_mixtures
    for total, stack in zip(sums, stacks, strict=True):
        for number, first, last in zip(stack.numbers, stack.starts, stack.starts[1:], strict=False):
            parts[number] = Sums(*(part[first:last] for part in total))
    return parts
