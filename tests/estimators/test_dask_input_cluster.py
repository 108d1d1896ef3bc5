"""Dask with several processes: the same bits on any number of workers, also when one dies.

All on one cluster, because it takes seconds to start.
"""

import contextlib
import gc
import io
import os
import signal
import warnings

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import ChunkedRows, DifferentiableGaussianMixture
from skgmmot.samples import chunks_of
from skgmmot.samples.dask_chunks import DaskRows

pytest.importorskip("distributed")
da = pytest.importorskip("dask.array")
psutil = pytest.importorskip("psutil")  # distributed needs it

N, D, K, SIZE = 4500, 3, 3, 500  # more chunks than the tree adds up at a time


def data():
    rng = np.random.default_rng(0)
    X = naive.sample(rng, naive.random_mixture(rng, K, D, "full"), N)
    weight = rng.uniform(0.2, 2.0, N)
    weight[100:600:2] = 0.0
    return X, weight, rng


@pytest.fixture(scope="module")
def client():
    """Of a cluster of one worker, which leaves no process behind."""
    from distributed import Client, LocalCluster

    before = {process.pid for process in psutil.Process().children(recursive=True)}
    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, silence_logs=50, **options) as cluster, Client(cluster) as own:
        yield own
    left = [own for own in psutil.Process().children(recursive=True) if own.pid not in before]
    assert [own.cmdline() for own in left if "resource_tracker" not in str(own.cmdline())] == []


def with_workers(client, number):
    client.cluster.scale(number)
    client.wait_for_workers(number)


def mixture(**options):
    defaults = {"random_state": 0, "n_components": K, "max_iter": 8, "acceleration": None}
    never = {"tol": 0.0, "residual_tol": 0.0}
    return DifferentiableGaussianMixture(**defaults | never | options)


def end(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture(**options).fit(*arguments)._record.end


def same(actual, expected):
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Killing(io.StringIO):
    """Kills a worker when the third step is printed."""

    def __init__(self, client):
        super().__init__()
        self.client, self.killed = client, []

    def write(self, text):
        if text.endswith("Iteration 3") and not self.killed:
            self.killed += list(self.client.run(os.getpid).values())[-1:]
            os.kill(self.killed[0], signal.SIGKILL)
        return super().write(text)


def test_bits_on_one_two_and_three_workers_and_when_one_dies(client):
    X, weight, _ = data()
    expected = end(ChunkedRows([X], chunk_size=SIZE), None)
    weighted = mixture(max_iter=3)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        weighted.fit(ChunkedRows([X], chunk_size=SIZE), sample_weight=weight)
    rows = da.from_array(X, chunks=(SIZE, D))
    for number in (1, 2, 3):
        with_workers(client, number)
        persisted = rows.persist()
        same(end(persisted, None), expected)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        found = mixture(max_iter=3).fit(persisted, sample_weight=weight)
    same(found._record.end, weighted._record.end)
    gc.collect()
    assert [key for key in client.futures if "skgmmot" in str(key)] == []  # nothing stays behind
    for own in (persisted, rows):  # whose chunks are kept, and made for each step
        with contextlib.redirect_stdout(Killing(client)) as out:
            found = end(own, None, verbose=1, verbose_interval=1)
        assert len(out.killed) == 1 and not psutil.pid_exists(out.killed[0])
        assert "Iteration 8" in out.getvalue()
        same(found, expected)


def test_answers_are_lazy_and_their_errors_tell_the_chunk(client):
    X, weight, rng = data()
    rows = da.from_array(X, chunks=(SIZE, D)).persist()
    given, lazily = {"sample_weight": weight}, {"sample_weight": da.from_array(weight, chunks=999)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = mixture(max_iter=3).fit(X, **given)
        lazy = mixture(max_iter=3).fit(rows, **lazily)
    np.testing.assert_array_equal(whole.predict_proba(rows).compute(), whole.predict_proba(X))
    assert whole.bic(rows, **lazily) == pytest.approx(whole.bic(X, **given), rel=1e-12)
    cotangent = naive.random_cotangent(rng, whole._record.end)
    expected = whole.vjp(X, cotangent, mode="unrolled", **given)
    found = lazy.vjp(rows, cotangent, mode="unrolled", **lazily)
    out = np.zeros_like(X)  # in this process, which no worker could write to
    lazy.gradient_wrt_data(rows, cotangent, mode="unrolled", **lazily, out=out)
    scale = np.abs(expected.data).max()
    for own in (out, found.data.compute()):
        np.testing.assert_allclose(own, expected.data, rtol=0, atol=1e-10 * scale)
    np.testing.assert_allclose(
        found.sample_weight.compute(), expected.sample_weight, rtol=0, atol=1e-9 * scale
    )
    X[4321, 1] = np.nan
    with pytest.raises(ValueError, match="first in row 4321") as caught:
        mixture().fit(da.from_array(X, chunks=(SIZE, D)))
    assert caught.value.__notes__ == ["This was in chunk 8, rows 4000 to 4499."]


def test_large_questions_are_sent_ahead(client, monkeypatch):
    X, _, _ = data()
    chunks = chunks_of(DaskRows(da.from_array(X, chunks=(SIZE, D)).persist()))
    sent = []
    scatter = type(client).scatter
    monkeypatch.setattr(
        type(client), "scatter", lambda *args, **more: sent.append(1) or scatter(*args, **more)
    )

    def ask(numbers):
        return chunks.total(lambda chunk: numbers[:2] * len(chunk.X))

    np.testing.assert_array_equal(ask(np.ones(10)), [N, N])
    assert not sent
    np.testing.assert_array_equal(ask(np.ones(200_000)), [N, N])
    assert sent == [1]


def test_chunks_are_kept_where_their_blocks_are(client):
    from distributed import Future

    X, _, _ = data()
    rows = da.from_array(X, chunks=(SIZE, D))
    for own, is_kept in ((rows.persist(), True), (rows, False), (rows.persist() + 0.0, False)):
        chunks = chunks_of(DaskRows(own))
        assert sum(chunks.each(lambda chunk: len(chunk.X))) == N
        graph, made = chunks._hold()
        found = [isinstance(graph[keys[0]], Future) for keys in made.values()]
        assert found == [is_kept] * (N // SIZE)
