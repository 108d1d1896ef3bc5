"""Coupled fits to what Dask holds: those to chunks in this process, and lazy answers."""

import pickle
import warnings

import numpy as np
import pytest
from stand_ins import ShownRows

from skgmmot import ChunkedRows, CoupledGMMFitter

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

N, M, D, K = 900, 700, 3, 3
CENTERS = np.array([[0.0, 0, 1], [5, 0, 0], [0, 5, 2]])
METHODS = (
    "transform",
    "inverse_transform",
    "mass_factors",
    "predict",
    "predict_proba",
    "score_samples",
)


def sent(graph, keys, **options):
    """A scheduler that sends our tasks to another process, and this is the other one."""
    from dask.local import get_sync

    ours = isinstance(graph, dict)
    return get_sync(pickle.loads(pickle.dumps(graph)) if ours else graph, keys)


@pytest.fixture(autouse=True)
def scheduler():
    with dask.config.set(scheduler=sent):
        yield


def clouds():
    rng = np.random.default_rng(0)
    return [
        CENTERS[rng.integers(K, size=n)] + shift + rng.normal(size=(n, D))
        for n, shift in ((N, 0.0), (M, 0.7))
    ]


def rows_and_domains():
    rng = np.random.default_rng(2)
    order, domain = rng.permutation(N + M), np.repeat([1, -1], [N, M])
    weight = rng.uniform(0.2, 2.0, N + M)
    weight[::5] = 0.0
    return np.concatenate(clouds())[order], domain[order], weight


def held(X, size=100):
    return da.from_array(X, chunks=(size, *X.shape[1:])).map_blocks(np.copy)


def fitter(**options):
    return CoupledGMMFitter(**{"n_components": K, "random_state": 0, "init_size": 300} | options)


def numbers(fitted):
    return [*fitted.source_mixture_.parameters_, *fitted.target_mixture_.parameters_]


def close(actual, expected, rtol=1e-12):
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=rtol * np.abs(theirs).max())


def test_pair_has_the_bits_of_chunks_in_this_process():
    X, Y = clouds()
    weight = np.random.default_rng(1).uniform(0.2, 2.0, N)
    weight[::5] = 0.0
    local = fitter().fit_pair(
        *(ChunkedRows(own, chunk_size=100) for own in (X, Y)), sample_weight_source=weight
    )
    for own in (weight, held(weight, 70)):
        lazy = fitter().fit_pair(held(X), held(Y), sample_weight_source=own)
        close(numbers(lazy), numbers(local), 0.0)
        assert lazy.lower_bounds_ == local.lower_bounds_
    # of other kinds: one in memory, or in chunks
    for own in (Y, ChunkedRows(Y, chunk_size=130)):
        other = fitter().fit_pair(held(X), own, sample_weight_source=weight)
        close(numbers(other), numbers(local))


def test_domains_may_be_held_too():
    X, domain, weight = rows_and_domains()
    whole = fitter().fit(X, domain, sample_weight=weight)
    for labels in (domain, held(domain, 170)):
        lazy = fitter().fit(held(X), labels, sample_weight=held(weight, 70))
        close(numbers(lazy), numbers(whole))
        assert lazy.domains_ == (1, -1)
        for method in ("score", "aic", "bic", "icl"):
            for given in ({}, {"sample_weight": weight}):
                found = getattr(whole, method)(held(X), labels, **given)
                expected = getattr(whole, method)(X, domain, **given)
                assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_lazy(method):
    X, domain, _ = rows_and_domains()
    fitted = fitter(n_components=(2, 3), reg_m=1.0, transport_weight=0.05).fit(X, domain)
    ask, rows = getattr(fitted, method), held(X)
    for labels in (None, 1, domain, held(domain, 170)):
        mine = ask(rows, sample_domain=labels)
        theirs = ask(X, sample_domain=domain if isinstance(labels, da.Array) else labels)
        assert isinstance(mine, da.Array)
        assert (mine.shape, mine.dtype, mine.chunks[0]) == (*_like(theirs), rows.chunks[0])
        close([mine.compute()], [theirs])


def _like(array):
    return array.shape, array.dtype


def test_gradients_are_lazy_or_written():
    X, Y = clouds()
    fitted = fitter().fit_pair(X, Y)
    cotangent = None, np.ones((K, D)), None
    expected = fitted.gradient_wrt_data(X, Y, cotangent)
    lazy = fitted.gradient_wrt_data(held(X), held(Y), cotangent)
    assert all(isinstance(own, da.Array) for own in lazy)
    close([own.compute() for own in lazy], expected, 1e-10)
    out = np.zeros(X.shape)
    by_source, by_target = fitted.gradient_wrt_data(held(X), Y, cotangent, out_source=out)
    assert by_source is out and isinstance(by_target, np.ndarray)
    close([by_source, by_target], expected, 1e-10)


def test_data_frames_and_their_names():
    dd, pd = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    X, domain, _ = rows_and_domains()
    names = ["a", "b", "c"]
    frame = pd.DataFrame(X, columns=names).assign(domain=domain)
    lazy = dd.from_pandas(frame, npartitions=5)
    whole = fitter().fit(frame[names], frame["domain"])
    fitted = fitter().fit(lazy[names], lazy["domain"])
    close(numbers(fitted), numbers(whole))
    assert list(fitted.feature_names_in_) == names
    moved = fitted.transform(lazy[names], sample_domain=lazy["domain"])
    close([moved.compute()], [whole.transform(frame[names], sample_domain=domain)])
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(lazy[names[::-1]])
    pair = fitter().fit_pair(lazy[names], lazy[names])
    assert list(pair.feature_names_in_) == names


def test_callbacks_are_shown_dask_arrays():
    callback = pytest.importorskip("sklearn.callback")
    if not hasattr(callback, "ProgressBar"):
        pytest.skip("no callbacks")
    recorder = ShownRows()
    X, Y = clouds()
    both = np.concatenate([X, Y])
    for other in (Y, held(Y), ChunkedRows(Y, chunk_size=130)):
        fitter(max_iter=50).set_callbacks(recorder).fit_pair(held(X), other)
        assert isinstance(recorder.shown[-1][0], da.Array)
        np.testing.assert_array_equal(recorder.shown[-1][0].compute(), both)
    domain = np.repeat([1, -1], [N, M])
    fitter(max_iter=50).set_callbacks(recorder).fit(held(both), held(domain))
    np.testing.assert_array_equal(recorder.shown[-1][0].compute(), both)
    np.testing.assert_array_equal(recorder.shown[-1][1]["sample_domain"].compute(), domain)


def test_what_cannot_be_used_is_refused_with_the_cure():
    X, domain, weight = rows_and_domains()
    rows = held(X)
    with pytest.raises(ValueError, match=r"sample_domain has 10 labels, and X has 1600 rows"):
        fitter().fit(rows, sample_domain=held(domain[:10]))
    with pytest.raises(ValueError, match="y must have two distinct labels.* 1 class: 1"):
        fitter().fit(rows, held(np.abs(domain)))
    with pytest.raises(ValueError, match="y must have one label for each row"):
        fitter().fit(rows, held(np.stack([domain, domain], axis=1)))
    with pytest.raises(ValueError, match="y contains NaN"):
        fitter().fit(rows, held(np.where(np.arange(N + M) == 5, np.nan, domain)))
    labels = held(domain)
    with pytest.raises(ValueError, match=r"y has chunks of unknown sizes\. Call y\.compute_"):
        fitter().fit(rows, labels[labels < 5])
    with pytest.raises(ValueError, match="domain -1 must be positive"):
        fitter().fit(rows, labels, sample_weight=np.maximum(domain, 0))
    fitted = fitter().fit(X, domain)
    with pytest.raises(ValueError, match="the label 3 is not one of the fit"):
        fitted.predict(rows, sample_domain=held(np.where(np.arange(N + M) == 5, 3, domain)))
    X[1234, 0] = np.nan
    with pytest.raises(ValueError, match=r"X_target: X contains NaN .* first in row 1234\."):
        fitter().fit_pair(X[:100], held(X))
    moved = fitted.transform(held(X), sample_domain=1)
    with pytest.raises(ValueError, match=r"X contains NaN .* first in row 1234\."):
        moved.compute()


def test_small_chunks_are_warned_of():
    X, Y = clouds()
    with pytest.warns(da.PerformanceWarning, match="X has 90 chunks of 10 rows"):
        fitter().fit_pair(held(X, 10), Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitter().fit_pair(held(X), Y)
