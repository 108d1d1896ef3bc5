"""Exact transport between many mixtures at once, against one pair after the other."""

import naive
import numpy as np
import ot
import pytest

from skgmmot.functions.distances import mixture_wasserstein, pairwise_mixture_wasserstein
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.results.transport_result import transport_between
from skgmmot.transport import many


def random_mixture(rng, n_components, d, covariance_type="full"):
    covariances = {
        "full": lambda: naive.random_spd(rng, n_components, d),
        "tied": lambda: naive.random_spd(rng, 1, d)[0],
        "diag": lambda: rng.uniform(0.3, 3, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.3, 3, size=n_components),
    }[covariance_type]()
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = rng.normal(size=(n_components, d))
    return MixtureParameters(weights, means, covariances, covariance_type)


def some_mixtures(rng, d, n=9):
    """Of all types and of 1 to 6 components, with some of weight zero, singular or duplicate."""
    mixtures = []
    for i in range(n):
        K = int(rng.integers(1, 7))
        mixture = random_mixture(rng, K, d, COVARIANCE_TYPES[rng.integers(4)])
        if K > 2 and i % 3 == 0:
            mixture.weights[1] = 0
            mixture.weights[:] /= mixture.weights.sum()
        if K > 1 and i % 3 == 1:
            mixture.means[1] = mixture.means[0]
            mixture.weights[:] = 1 / K
        if mixture.covariance_type == "full" and i % 2:
            mixture.covariances[0] = np.outer(mixture.means[0], mixture.means[0])
        mixtures.append(mixture)
    return mixtures


def counted(monkeypatch):
    """The pairs that are left to one pair after the other, as they come."""
    from skgmmot.functions import distances

    pairs = []

    def counting(a, b, reg, reg_m):
        pairs.append((a, b))
        return transport_between(a, b, reg, reg_m)

    monkeypatch.setattr(distances, "transport_between", counting)
    return pairs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("d", [1, 2, 3, 5, 8])
def test_values_are_those_of_single_pairs_bit_by_bit(d, seed, monkeypatch):
    rng = np.random.default_rng(10 * d + seed)
    A, B = some_mixtures(rng, d), some_mixtures(rng, d, 7)
    expected = [[mixture_wasserstein(a, b) for b in B] for a in A]
    left = counted(monkeypatch)
    np.testing.assert_array_equal(pairwise_mixture_wasserstein(A, B), expected)
    assert not left
    distances = pairwise_mixture_wasserstein(A)
    expected = [[mixture_wasserstein(a, b) for b in A] for a in A]
    np.testing.assert_array_equal(np.triu(distances, 1), np.triu(expected, 1))
    np.testing.assert_array_equal(distances, distances.T)


@pytest.mark.parametrize("d", [1, 3, 4])
def test_values_are_those_of_pot(d):
    rng = np.random.default_rng(d)
    mixtures = [random_mixture(rng, int(rng.integers(1, 6)), d) for _ in range(6)]
    for i, a in enumerate(mixtures):
        for b in mixtures[:i]:
            costs = [
                [
                    ot.gaussian.bures_wasserstein_distance(m, n, S, R) ** 2
                    for _, n, R in zip(*b, strict=True)
                ]
                for _, m, S in zip(*a, strict=True)
            ]
            peer = ot.emd2(a.weights, b.weights, np.array(costs), check_marginals=False)
            found = pairwise_mixture_wasserstein([a], [b], squared=True).item()
            np.testing.assert_allclose(found, peer, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 60, 2**17])
def test_blocks_and_threads_change_no_bit(size, monkeypatch):
    mixtures = some_mixtures(np.random.default_rng(0), 3, 20)
    expected = pairwise_mixture_wasserstein(mixtures, n_jobs=1)
    monkeypatch.setattr(many, "BLOCK_SIZE", size)
    for n_jobs in (1, 2, 5, None, -1):
        found = pairwise_mixture_wasserstein(mixtures, n_jobs=n_jobs)
        np.testing.assert_array_equal(found, expected)


def test_order_of_the_mixtures_changes_no_bit():
    mixtures = some_mixtures(np.random.default_rng(0), 3, 12)
    expected = pairwise_mixture_wasserstein(mixtures, mixtures)
    order = np.random.default_rng(1).permutation(12)
    shuffled = [mixtures[i] for i in order]
    found = pairwise_mixture_wasserstein(shuffled, shuffled)
    off = ~np.eye(12, dtype=bool)
    np.testing.assert_array_equal(found[off], expected[np.ix_(order, order)][off])


def test_blocks_hold_the_pairs_that_are_needed_once(monkeypatch):
    monkeypatch.setattr(many, "BLOCK_SIZE", 50)
    mixtures = some_mixtures(np.random.default_rng(0), 2, 13)
    needed = np.random.default_rng(1).uniform(size=(13, 13)) < 0.3
    stacks = many.stacks_of(mixtures)
    found = np.zeros((13, 13), dtype=int)
    blocks = many.blocks_of(stacks, stacks, needed)
    for block in blocks:
        rows, columns = block.pairs.T
        np.add.at(found, (block.source.numbers[rows], block.target.numbers[columns]), 1)
    np.testing.assert_array_equal(found, needed)
    assert len(stacks) == 2 and len(blocks) > 6


def test_what_is_not_proven_is_left_to_single_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    mixtures = some_mixtures(rng, 2, 4)
    large = random_mixture(rng, many.LARGEST_COMPILED + 1, 2)
    tiny = [
        MixtureParameters(
            m.weights, m.means * 2.0**-250, m.covariances * 2.0**-500, m.covariance_type
        )
        for m in mixtures[:2]
    ]
    mixtures += [large, *tiny]
    expected = [[mixture_wasserstein(a, b) for b in mixtures] for a in mixtures]
    left = counted(monkeypatch)
    distances = pairwise_mixture_wasserstein(mixtures)
    np.testing.assert_array_equal(np.triu(distances, 1), np.triu(expected, 1))
    assert len(left) == 6 + 1  # with the large one, and both of the tiny ones
    assert 0 < distances[5, 6] < 1e-70


def test_plans_without_proof_are_made_again(monkeypatch):
    mixtures = some_mixtures(np.random.default_rng(0), 2, 5)
    expected = pairwise_mixture_wasserstein(mixtures)
    kernel = many.exact_plans

    def doubted(*arguments):
        kernel(*arguments)
        arguments[8][:] += 1.0  # values
        arguments[9][:] = False

    monkeypatch.setattr(many, "exact_plans", doubted)
    left = counted(monkeypatch)
    np.testing.assert_array_equal(pairwise_mixture_wasserstein(mixtures), expected)
    assert len(left) == 10


def test_single_precision_is_read_as_double():
    mixtures = some_mixtures(np.random.default_rng(0), 3, 5)
    singles = [
        MixtureParameters(*(part.astype(np.float32) for part in m), m.covariance_type)
        for m in mixtures
    ]
    distances = pairwise_mixture_wasserstein(singles)
    expected = [[mixture_wasserstein(a, b) for b in singles] for a in singles]
    np.testing.assert_array_equal(np.triu(distances, 1), np.triu(expected, 1))
