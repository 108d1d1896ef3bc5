"""Exact transport between many mixtures at once: costs in few calls, plans in compiled code.

The components of all mixtures stand one after the other. The pairs are taken in blocks: some
mixtures of the first list with all those of the second that they need. What is computed for a pair
does not depend on its block, nor on who computes the block.
"""

from typing import NamedTuple

import numpy as np

from ..kernels.transportation import exact_plans
from ..numerics.threads import one_blas_thread, run
from .bures import standard_deviations
from .costs import Gaussians, costs_between, gaussians_of
from .plans import LARGEST_COMPILED, of_mass_one

# Costs in this range are computed without underflow or overflow, others in another unit of length.
SMALLEST_COST, LARGEST_COST = 1e-100, 1e100

# A block has about this many costs (1 MiB): some arrays of this size fit the cache.
BLOCK_SIZE = 2**17

NOTHING = np.empty((0, 0))


class Stack(NamedTuple):
    """Mixtures of a list, those of their components that have weight one after the other.

    numbers : ndarray, places of the mixtures in the list, in their order
    starts : ndarray of shape (n_mixtures + 1,), where their components begin, and the last end
    weights : ndarray of shape (n,), with a sum of one for each mixture
    gaussians : Gaussians
    """

    numbers: np.ndarray
    starts: np.ndarray
    weights: np.ndarray
    gaussians: Gaussians

    def part(self, first, last):
        """The same of the mixtures ``first`` to ``last``."""
        starts = self.starts[first : last + 1]
        rows = slice(starts[0], starts[-1])
        return Stack(
            self.numbers[first:last],
            starts - starts[0],
            self.weights[rows],
            self.gaussians[rows],
        )


class Block(NamedTuple):
    """Some pairs of mixtures, and all components of both sides.

    source, target : Stack
    pairs : ndarray of shape (n_pairs, 2), numbers of mixtures in these two
    """

    source: Stack
    target: Stack
    pairs: np.ndarray


def stacks_of(mixtures, with_factors=False):
    """`Stack` of the mixtures, in float64, that are diagonal by type, and of the others.

    Mixtures with more components than are solved in compiled code are left out. Square root factors
    of diagonal ones are found only if they are asked for: where others are among the mixtures that
    they are compared with.
    """
    diagonal = np.array([standard_deviations(mixture) is not None for mixture in mixtures])
    small = np.array([(mixture.weights > 0).sum() <= LARGEST_COMPILED for mixture in mixtures])
    groups = [np.flatnonzero(group & small) for group in (diagonal, ~diagonal)]
    return [_stack(mixtures, group, with_factors) for group in groups if len(group)]


def _stack(mixtures, numbers, with_factors):
    chosen = [mixtures[number] for number in numbers]
    weights = [of_mass_one(mixture.weights) for mixture in chosen]
    gaussians = gaussians_of(chosen, with_factors=with_factors)
    weights, live = np.concatenate(weights), np.concatenate(weights) > 0
    starts = np.cumsum([0, *((mixture.weights > 0).sum() for mixture in chosen)])
    if not live.all():
        weights, gaussians = weights[live], gaussians[live]
    return Stack(numbers, starts, weights, gaussians)


def blocks_of(stacks, target_stacks, needed):
    """The `Block` s of the pairs (i, j) of mixtures that are marked in ``needed``."""
    blocks = []
    for source in stacks:
        for target in target_stacks:
            marks = needed[np.ix_(source.numbers, target.numbers)]
            first = 0
            while first < len(marks):
                size = target.starts[-1]
                room = source.starts[first] + BLOCK_SIZE // size
                last = max(first + 1, np.searchsorted(source.starts, room, side="right") - 1)
                columns = np.flatnonzero(marks[first:last].any(axis=0))
                if len(columns):
                    begin, end = columns[0], columns[-1] + 1
                    pairs = np.argwhere(marks[first:last, begin:end])
                    blocks.append(Block(source.part(first, last), target.part(begin, end), pairs))
                first = last
    return blocks


def exact_values(A, B, needed, n_threads):
    """MW2² between mixtures in float64, of the pairs that are marked in ``needed``.

    NaN where another way is to be taken: for more components than are solved in compiled code,
    costs out of the range in which they are accurate, and plans that are not proven to be optimal.
    """
    with_factors = len({standard_deviations(mixture) is None for mixture in (*A, *B)}) > 1
    stacks = stacks_of(A, with_factors)
    blocks = blocks_of(stacks, stacks if B is A else stacks_of(B, with_factors), needed)
    values = np.full(needed.shape, np.nan)

    def task(first, last):
        for block in blocks[first:last]:
            costs = block_costs(block)
            found, certified, *_ = solve_block(block, costs)
            rows, columns = block.pairs[certified].T
            numbers = block.source.numbers[rows], block.target.numbers[columns]
            values[numbers] = found[certified]

    if blocks:
        with one_blas_thread():
            run(task, len(blocks), n_threads)
    return values


def block_costs(block):
    """Costs between all components of a block."""
    with np.errstate(over="ignore", invalid="ignore"):
        return costs_between(block.source.gaussians, block.target.gaussians, n_threads=1)


def solve_block(block, costs, with_plans=False):
    """Values of the pairs of a block, which are certified, and plans and potentials, or nothing."""
    values, certified = np.empty(len(block.pairs)), np.empty(len(block.pairs), dtype=bool)
    plans = potentials = target_potentials = NOTHING
    if with_plans:
        plans = np.zeros(costs.shape)
        potentials = np.zeros((len(costs), len(block.target.numbers)))
        target_potentials = np.zeros((len(block.source.numbers), costs.shape[1]))
    exact_plans(
        costs, block.source.weights, block.target.weights, block.source.starts,
        block.target.starts, block.pairs, SMALLEST_COST, LARGEST_COST, values, certified, plans,
        potentials, target_potentials,
    )  # fmt: skip
    return values, certified, plans, potentials, target_potentials
