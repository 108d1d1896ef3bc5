"""Chunks: sums over them are those of all rows, and what goes wrong is told with its place."""

import operator
import time
from functools import reduce

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import OnDisk

from skgmmot import ChunkedRows
from skgmmot.em.e_steps import E_STEPS
from skgmmot.em.em_map import EMMap
from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples import pruning, samples_of
from skgmmot.samples.chunks import LocalChunks, first_look
from skgmmot.samples.interface import DataTangent
from skgmmot.samples.sums import FAN, added, tree_sum

SIZE = 70  # rows of a chunk


def problem(seed=0, n=490, d=2, K=3, kind="full", zeros=True):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind)
    X, weight = naive.sample(rng, theta, n), rng.uniform(0.2, 2.0, n)
    if zeros:
        weight[: SIZE + 20 : 3] = 0.0  # some of a chunk, …
        weight[2 * SIZE : 3 * SIZE] = 0.0  # … and all of one
    return theta, X, weight, rng


def pair(X, weight, exponent=0):
    """`Samples` in chunks that are read, and all of them at once in their own order."""
    chunked = samples_of(ChunkedRows(OnDisk(X), chunk_size=SIZE), weight, exponent=exponent)
    return chunked, samples_of(X, weight)


def close(actual, expected, rtol=1e-12):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_all_rows(weighted):
    theta, X, weight, rng = problem()
    chunked, whole = pair(X, weight if weighted else None)
    logits = FAMILIES["full"].natural(theta, X.mean(axis=0))
    assert chunked.shape == whole.shape
    mine, theirs = chunked.summary(), whole.summary()
    for name in ("n_samples", "total_weight", "sums", "lowest", "highest"):
        close(getattr(mine, name), getattr(theirs, name))
    for method in ("statistics", "overlaps"):
        for own, other in zip(
            getattr(chunked, method)(logits), getattr(whole, method)(logits), strict=True
        ):
            close(own, other)
    dot = rng.normal(size=logits.coefficients.shape)
    close(chunked.statistics_jvp(logits, dot), whole.statistics_jvp(logits, dot))
    close(chunked.statistics_vjp(logits, dot), whole.statistics_vjp(logits, dot))
    assert chunked.statistics_vjp(logits, dot, wrt_logits=False) is None
    assert chunked.total(lambda samples: samples.shape[0]) == whole.shape[0]


def test_same_rows_are_drawn_whatever_the_chunks():
    _, X, weight, rng = problem()
    chunked, whole = pair(X, weight)
    active = np.flatnonzero(weight)
    for index in (
        rng.permutation(len(active))[:50],
        np.arange(len(active)) % 7 == 2,
        slice(None),
        np.array([], dtype=int),
    ):
        found, found_weight = chunked.subset(index).rows()
        expected, expected_weight = whole.subset(index).rows()
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found_weight, expected_weight)
        np.testing.assert_array_equal(found, X[active][index])


def test_only_chunks_of_the_rows_that_are_drawn_are_read():
    _, X, _, _ = problem()
    disk = OnDisk(X)
    samples = samples_of(ChunkedRows(disk, chunk_size=98))
    samples.summary()
    assert disk.starts == [0, 98, 196, 294, 392]
    samples.subset([250, 120, 190])
    assert disk.starts[5:] == [98, 196]
    samples.summary()  # known
    assert len(disk.asked) == 7


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("e_step", ["softmax", "sinkhorn"])
def test_derivatives_of_a_step_are_those_of_all_rows(kind, e_step):
    theta, X, weight, rng = problem(kind=kind, zeros=False)
    maps = [EMMap.of(own, kind, e_step=E_STEPS[e_step]) for own in pair(X, weight)]
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=len(X))
    theta_dot = naive.random_cotangent(rng, theta)
    cotangent = naive.random_cotangent(rng, theta)
    found = []
    for em_map in maps:
        step = em_map.step(theta)
        pushed = em_map.jvp(step, theta_dot, DataTangent(X_dot, weight_dot))
        data_bar = em_map.zero_cotangent(wrt_weight=True)
        pulled = em_map.vjp(step, cotangent, data_bar)
        gradients = em_map.finish(data_bar).found()
        if gradients[1] is None:
            gradients = gradients[0].collected(np.dtype(np.float64))
        found.append([*step.parameters, step.lower_bound, *pushed, *pulled, *gradients])
        one = naive.inner_product(cotangent, pushed)
        other = naive.inner_product(pulled, theta_dot)
        other += (gradients[0] * X_dot).sum() + gradients[1] @ weight_dot
        assert abs(one - other) < 1e-10 * (abs(one) + 1)
    for mine, theirs in zip(*found, strict=True):
        close(mine, theirs, 1e-10)


def test_tangents_and_cotangents_of_weights_are_in_their_unit():
    """Weights that were shrunk by 2^e move, and are moved by, 2^-e as much."""
    theta, X, weight, rng = problem(zeros=True)
    logits = FAMILIES["full"].natural(theta, X.mean(axis=0))
    sums_bar, weight_dot = rng.normal(size=logits.coefficients.shape), rng.normal(size=len(X))
    plain, scaled = (pair(X, weight, exponent)[0] for exponent in (0, 5))
    moved = [
        own.statistics_jvp(logits, 0.0, data_dot=DataTangent(None, weight_dot))
        for own in (plain, scaled)
    ]
    close(*moved)  # who passes the tangents has scaled them
    gradients = []
    for own in (plain, scaled):
        data_bar = own.zero_cotangent(wrt_weight=True)
        own.statistics_vjp(logits, sums_bar, wrt_logits=False, data_bar=data_bar)
        gradients.append(data_bar.collected(np.dtype(np.float64))[1])
    close(32.0 * gradients[1], gradients[0])


def test_gradients_go_where_they_are_wanted():
    theta, X, weight, rng = problem()
    logits = FAMILIES["full"].natural(theta, X.mean(axis=0))
    chunked, _ = pair(X, weight)
    data_bar = chunked.zero_cotangent()
    chunked.statistics_vjp(
        logits, rng.normal(size=logits.coefficients.shape), wrt_logits=False, data_bar=data_bar
    )
    out = np.full(X.shape, np.nan, dtype=np.float32)
    found, weight_bar = data_bar.collected(np.dtype(np.float32), out)
    assert found is out and weight_bar is None
    expected, _ = data_bar.collected(np.dtype(np.float64))
    np.testing.assert_array_equal(out, expected.astype(np.float32))
    assert not expected[weight == 0].any() and expected[weight > 0].all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_row(wrong):
    _, X, _, _ = problem()
    X[3 * SIZE + 5, 1] = wrong
    X[4 * SIZE, 0] = wrong
    chunked, _ = pair(X, None)
    with pytest.raises(ValueError, match=f"first in row {3 * SIZE + 5}") as caught:
        chunked.summary()
    (note,) = caught.value.__notes__
    assert note == f"This was in chunk 3, rows {3 * SIZE} to {4 * SIZE - 1}."


def test_sums_that_overflow_are_no_numbers_that_are_not_finite():
    X = np.full((10, 2), 3e38, dtype=np.float32)
    X[::2] *= -1
    first_look(next(_chunks(X)))
    first_look(next(_chunks(X.astype(np.float64) * 5e269)))


def _chunks(X):
    yield from LocalChunks(ChunkedRows(X)).each(lambda chunk: chunk)


def test_an_error_in_a_chunk_names_it():
    _, X, _, _ = problem()

    def question(chunk):
        if chunk.first == 2 * SIZE:
            raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError) as caught:
        list(LocalChunks(ChunkedRows(OnDisk(X), chunk_size=SIZE)).each(question))
    assert "chunk 2" in caught.value.__notes__[0]

    class Broken(OnDisk):
        def __getitem__(self, rows):
            if rows.start == 3 * SIZE:
                raise OSError("cannot read")
            return super().__getitem__(rows)

    with pytest.raises(OSError) as caught:
        list(LocalChunks(ChunkedRows(Broken(X), chunk_size=SIZE)).each(len_of))
    assert "chunk 3" in caught.value.__notes__[0]


def len_of(chunk):
    return len(chunk.X)


def test_next_chunk_is_read_while_one_is_computed():
    _, X, _, _ = problem()
    disk, seen = OnDisk(X), []
    chunks = LocalChunks(ChunkedRows(disk, chunk_size=SIZE))

    def question(chunk):
        patience = 5000
        while len(disk.asked) < min(len(seen) + 2, 7) and patience:
            time.sleep(0.001)  # the reader has a thread of its own
            patience -= 1
        seen.append(chunk.first)
        return len(disk.asked)

    ahead = list(chunks.each(question))
    assert seen == sorted(disk.starts)
    assert max(a - i for i, a in enumerate(ahead)) == 2  # and no more than that


def test_chunks_in_memory_are_kept_and_not_copied():
    _, X, _, _ = problem()
    chunks = LocalChunks(ChunkedRows([X[:200], X[200:]], chunk_size=300))
    first, again = (list(chunks.each(lambda chunk: chunk)) for _ in range(2))
    assert all(one is other for one, other in zip(first, again, strict=True))
    assert all(np.shares_memory(chunk.X, X) for chunk in first)


@given(n=st.integers(1, 3 * FAN**2))
def test_a_tree_adds_up_everything_once_in_an_order_of_its_own(n):
    assert tree_sum(range(n), sum) == sum(range(n))
    # nested lists show the tree
    shape = tree_sum(range(n), list)

    def leaves(node):
        return [node] if isinstance(node, int) else reduce(operator.add, map(leaves, node), [])

    assert sorted(leaves(shape)) == list(range(n))


def test_nothing_is_added_where_there_is_nothing():
    assert added([None, None]) is None
    assert added([None, 2.0, None, 3.0]) == 5.0


def test_groups_are_whole_chunks_and_all_of_them():
    theta, X, weight, _ = problem()
    chunked, whole = pair(X, weight)
    logits = FAMILIES["full"].natural(theta, X.mean(axis=0))
    for n_groups in (1, 3, 50):
        groups = chunked.groups(n_groups)
        assert len(groups) == min(n_groups, 6)  # one chunk has no weight
        close(sum(group.statistics(logits).sums for group in groups), whole.statistics(logits).sums)
        close(sum(group.summary().sums for group in groups), whole.summary().sums)


def test_groups_are_not_looked_at_again():
    _, X, _, _ = problem()
    disk = OnDisk(X)
    samples = samples_of(ChunkedRows(disk, chunk_size=SIZE))
    for group in samples.groups(3):
        group.summary()
    assert len(disk.asked) == 7


def test_rows_that_are_read_anew_are_put_in_order_for_many_components_only(monkeypatch):
    """Which is what takes longest of a pass where few are evaluated."""
    ordered = []
    whole = pruning._ordered
    monkeypatch.setattr(pruning, "_LEAST_PAIRS", 0)
    monkeypatch.setattr(pruning, "_ordered", lambda *data: ordered.append(1) or whole(*data))
    rng = np.random.default_rng(0)
    for K, n_read in ((100, 0), (200, 6)):
        theta = naive.random_mixture(rng, K, 2, "full", spread=100.0)
        X = naive.sample(rng, theta, 60_000)
        logits = FAMILIES["full"].natural(theta, X.mean(axis=0))
        kept = samples_of(ChunkedRows(X, chunk_size=20_000))
        read = samples_of(ChunkedRows(OnDisk(X), chunk_size=20_000))
        for samples, expected in ((kept, 3), (read, n_read)):
            ordered.clear()
            found = [samples.statistics(logits).sums for _ in range(2)]
            assert len(ordered) == expected
            close(found[0], samples_of(X).statistics(logits).sums, 1e-10)
