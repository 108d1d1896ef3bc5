"""Flows to samples that are read in chunks: those to the same samples in memory."""

import numpy as np
import pytest

from skgmmot import ChunkedRows, DifferentiableGaussianMixture, mixture_flow
from skgmmot.functions import flow_targets
from skgmmot.samples import rows as rows_module

N, M, D = 60, 500, 2


def clouds(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.array([[0.0, 0.0], [0.0, 6.0]])
    X, Y = (
        centers[rng.integers(2, size=n)] + shift + rng.normal(size=(n, D))
        for n, shift in ((N, 0.0), (M, [5.0, 1.0]))
    )
    return X.astype(dtype), Y.astype(dtype)


def flow(X, Y, **options):
    estimator = DifferentiableGaussianMixture(2, random_state=0, reg_covar=1e-4, init_size=200)
    options = {"n_steps": 5, "random_state": 0, "batch_fraction": 0.5} | options
    return mixture_flow(X, target_samples=Y, estimator=estimator, **options)


def assert_same(mine, theirs, rtol=1e-11):
    np.testing.assert_allclose(mine.X, theirs.X, rtol=0, atol=rtol * np.abs(theirs.X).max())
    np.testing.assert_allclose(mine.losses, theirs.losses, rtol=10 * rtol)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_samples_are_fitted_as_in_memory(dtype, warm_start):
    X, Y = clouds(dtype)
    whole, chunked = (
        flow(X, own, warm_start=warm_start) for own in (Y, ChunkedRows(Y, chunk_size=77))
    )
    assert_same(chunked, whole, 1e-11 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("warm_start", [False, True])
def test_batches_are_fitted_as_in_memory(warm_start, monkeypatch):
    """Of many rows others are drawn than in memory: there let the same be."""
    X, Y = clouds()
    options = {"target_batch_fraction": 0.1, "warm_start": warm_start}
    chunked = [ChunkedRows(Y, chunk_size=n) for n in (77, 333)]
    few = flow(X, Y, **options)
    for own in chunked:
        assert_same(flow(X, own, **options), few)
    monkeypatch.setattr(flow_targets, "_BLOCK", 60)
    monkeypatch.setattr(flow_targets, "batch_of", flow_targets.ordered_batch_of)
    many = flow(X, Y, **options)
    for own in chunked:
        assert_same(flow(X, own, **options), many)
    assert not np.allclose(few.losses, many.losses, rtol=1e-3)
    assert not np.allclose(flow(X, chunked[0]).losses, many.losses, rtol=1e-3)


@pytest.mark.parametrize("block", [7, 100])
def test_rows_of_a_batch_are_any_and_each_once(block, monkeypatch):
    monkeypatch.setattr(flow_targets, "_BLOCK", block)
    rng = np.random.RandomState(0)
    together = np.zeros((20, 20))
    for _ in range(4000):
        rows = flow_targets.ordered_batch_of(20, 6, rng)
        assert len(rows) == 6 and (np.diff(rows) > 0).all()
        together[np.ix_(rows, rows)] += 1
    # binomial, with standard deviations of 29 and 17
    np.testing.assert_allclose(np.diag(together), 4000 * 6 / 20, atol=5 * 29)
    pairs = together[np.triu_indices(20, 1)]
    np.testing.assert_allclose(pairs, 4000 * (6 * 5) / (20 * 19), atol=5 * 17)


def test_rows_are_drawn_of_more_than_have_numbers_in_memory():
    rng = np.random.RandomState(0)
    rows = flow_targets.ordered_batch_of(10**10, 1000, rng)
    assert len(np.unique(rows)) == 1000 and rows.max() < 10**10
    # uniform: the largest distance of 1000 from a straight line is below 1.63 / sqrt(1000) in 99%
    assert np.abs(rows / 1e10 - np.arange(1000) / 1000).max() < 0.06


def test_of_a_memory_map_a_batch_reads_its_rows_only(tmp_path, monkeypatch):
    X, Y = clouds()
    Y.tofile(tmp_path / "Y")
    file = np.memmap(tmp_path / "Y", dtype=Y.dtype, mode="r", shape=Y.shape)
    read, whole_read = [], ChunkedRows.read
    monkeypatch.setattr(
        ChunkedRows, "read", lambda self, number: read.append(number) or whole_read(self, number)
    )
    options = {"target_batch_fraction": 0.02, "warm_start": False}
    flow(X, file, **options)
    assert not read  # small
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 77 * D * 8)
    counts = []
    for n_steps in (2, 4):
        read.clear()
        flow(X, file, **options, n_steps=n_steps)
        counts.append(len(read))
    assert counts[0] == counts[1] > 7  # of the fit to all samples


def test_what_cannot_be_used_is_refused_with_the_cure():
    X, Y = clouds()
    wrong = Y.copy()
    wrong[321, 1] = np.inf
    with pytest.raises(ValueError, match=r"target_samples: X contains NaN .* first in row 321\."):
        flow(X, ChunkedRows(wrong, chunk_size=77))
    with pytest.raises(ValueError, match="target_samples must have the 2 features of X"):
        flow(X, ChunkedRows(Y[:, :1]))
    with pytest.raises(ValueError, match="target_batch_fraction: a batch must have 2 points"):
        flow(X, ChunkedRows(Y), target_batch_fraction=0.001)
    with pytest.raises(ValueError, match=r"ChunkedRows are not in memory.* X\[:\] reads them all"):
        flow(ChunkedRows(X), Y)
    assert flow(ChunkedRows(X)[:], Y).X.shape == X.shape
