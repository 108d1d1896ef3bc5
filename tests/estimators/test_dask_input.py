"""Dask arrays and data frames as data of the estimator, on threads: results, and what is refused.

`test_dask_input_cluster.py` has a cluster.
"""

import warnings

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import ChunkedRows, DifferentiableGaussianMixture
from skgmmot.estimators.dask_input import warn_of_small_chunks
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.dask_chunks import DaskRows

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

N, D, K, SIZE = 1190, 3, 3, 170
MODES = "implicit", "unrolled", "one_step"
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def data(kind="full", dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, D, kind)
    X, weight = naive.sample(rng, theta, N).astype(dtype), rng.uniform(0.2, 2.0, N)
    weight[100:600:2] = 0.0
    weight[SIZE : 2 * SIZE] = 0.0  # all of a chunk
    return X, weight, rng


def in_dask(X, size=SIZE):
    return da.from_array(X, chunks=(size, *X.shape[1:]))


def mixture(**options):
    defaults = {"random_state": 0, "init_size": 300, "n_components": K}
    return DifferentiableGaussianMixture(**defaults | options)


def fitted(*arguments, **options):
    """A fit that may end early."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture(**options).fit(*arguments)


def end(estimator):
    return estimator._record.end


def close(actual, expected, rtol):
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=rtol * np.abs(theirs).max())


def same(actual, expected):
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@all_types
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_and_gradients_are_those_in_memory(kind, dtype, weighted):
    X, weight, rng = data(kind, dtype)
    rows, given, lazily = in_dask(X), {}, {}
    if weighted:
        given, lazily = {"sample_weight": weight}, {"sample_weight": in_dask(weight, 333)}
    start = naive.random_mixture(rng, K, D, kind)
    options = {
        "covariance_type": kind,
        "weights_init": start.weights,
        "means_init": start.means,
        "max_iter": 20,
        "tol": 0.0,
        "residual_tol": 0.0,
        "acceleration": None,
    }
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        whole = mixture(**options).fit(X, **given)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        local = mixture(**options).fit(ChunkedRows([X], chunk_size=SIZE), **given)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        lazy = mixture(**options).fit(rows, **lazily)
    close(end(lazy), end(whole), 1e-12)
    same(end(lazy), end(local))
    assert type(lazy.means_) is np.ndarray and lazy.means_.dtype == dtype
    assert lazy.lower_bounds_ == local.lower_bounds_

    cotangent = naive.random_cotangent(rng, end(whole))
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=N) if weighted else None
    # what was rounded to single precision may differ by a last digit
    rtol = 1e-10 if dtype == np.float64 else 1e-6
    for mode in MODES:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "mode='implicit' differentiates a fixed point")
            theirs = whole.vjp(X, cotangent, mode=mode, tol=1e-12, **given)
            mine = lazy.vjp(rows, cotangent, mode=mode, tol=1e-12, **lazily)
            given_dot = {"mode": mode, "sample_weight_tangent": weight_dot, "tol": 1e-12}
            pushed = whole.jvp(X, X_dot, **given_dot, **given)
            if weighted:
                given_dot["sample_weight_tangent"] = in_dask(weight_dot)
            lazily_pushed = lazy.jvp(rows, in_dask(X_dot, 99), **given_dot, **lazily)
            same(lazy.jvp(rows, X_dot, **given_dot, **lazily), lazily_pushed)
        close(lazily_pushed, pushed, rtol)
        assert mine.data.chunks == rows.chunks and mine.sample_weight.chunks == rows.chunks[:1]
        assert mine.data.dtype == mine.sample_weight.dtype == dtype
        found = dask.compute(mine.data, mine.sample_weight)
        close(found, (theirs.data, theirs.sample_weight), rtol)
        if dtype == np.float64 and not weighted:  # ⟨Jᵀ u, ẋ⟩ = ⟨u, J ẋ⟩
            inner = sum(np.vdot(u, v) for u, v in zip(cotangent, lazily_pushed, strict=True))
            assert np.vdot(found[0], X_dot) == pytest.approx(inner, rel=1e-9)


@all_types
def test_predictions_are_lazy_and_scores_are_numbers(kind):
    X, weight, _ = data(kind, np.float32)
    whole, rows = fitted(X, covariance_type=kind, temperature=1.5), in_dask(X)  # fitted on NumPy
    for method in ("predict", "predict_proba", "score_samples"):
        lazy, theirs = getattr(whole, method)(rows), getattr(whole, method)(X)
        assert isinstance(lazy, da.Array)
        assert lazy.chunks == (rows.chunks[0], *((size,) for size in theirs.shape[1:]))
        assert lazy.dtype == lazy._meta.dtype == theirs.dtype
        np.testing.assert_array_equal(lazy, theirs)
    for method in ("score", "free_energy", "aic", "bic", "icl"):
        for own, others in ((None, None), (weight, in_dask(weight))):
            mine = getattr(whole, method)(rows, sample_weight=others)
            theirs = getattr(whole, method)(X, sample_weight=own)
            assert isinstance(mine, float)
            assert mine == pytest.approx(theirs, rel=1e-12)


def test_labels_of_a_fit_are_lazy():
    X, _, _ = data()
    labels = mixture().fit_predict(in_dask(X))
    assert isinstance(labels, da.Array)
    np.testing.assert_array_equal(labels, mixture().fit_predict(X))


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_start_looks_at_the_same_rows_whatever_the_chunks(init_params):
    X, weight, _ = data("tied")
    options = {"init_params": init_params, "max_iter": 0, "covariance_type": "tied"}
    ends = [end(fitted(in_dask(X, size), None, **options)) for size in (1000, 77)]
    close(*ends, 1e-12)
    if init_params.startswith("k"):
        close(ends[0], end(fitted(X, **options)), 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"acceleration": "lbfgs"},
        {"acceleration": "newton"},
        {"acceleration": "anderson"},
        {"acceleration": "incremental"},
        {"temperature": [4.0, 2.0, 1.0]},
        {"temperature": 2e3, "max_iter": 3},
        {"e_step": "sinkhorn", "temperature": 2.0},
        {"fixed_weights": True, "n_init": 2},
    ],
    ids=str,
)
def test_options_have_the_bits_of_chunks_in_this_process(options):
    X, weight, _ = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        local, lazy = (
            mixture(**options).fit(own, sample_weight=weight)
            for own in (ChunkedRows([X], chunk_size=SIZE), in_dask(X))
        )
    same(end(lazy), end(local))
    assert lazy.n_iter_ == local.n_iter_ and lazy.lower_bound_ == local.lower_bound_


def test_warm_start_and_verbose_go_on(capsys):
    X, _, _ = data()
    ends = []
    for own in (ChunkedRows([X], chunk_size=SIZE), in_dask(X)):
        going = mixture(max_iter=2, warm_start=True, verbose=1, verbose_interval=1)
        with pytest.warns(ConvergenceWarning, match="did not converge"):
            going.fit(own).fit(own)
        ends.append(end(going))
    same(*ends)
    told = capsys.readouterr().out
    assert told.count("Iteration 2") == 4


class Stopping:
    """A callback that keeps the data it is given, and stops after the second step."""

    def __init__(self):
        self.given = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None, metadata=None):
        self.given.append((X, metadata["sample_weight"]))

    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        return context.task_name == "EM step" and context.task_id + 1 >= 2


def test_callbacks_see_dask_arrays_and_stop_the_fit():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has them from version 1.9")
    X, weight, _ = data()
    rows, callback = in_dask(X), Stopping()
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        stopped = mixture().set_callbacks(callback).fit(rows, sample_weight=in_dask(weight))
    assert stopped.n_iter_ == 2
    assert all(X is rows and isinstance(own, da.Array) for X, own in callback.given)


@pytest.mark.parametrize("scheduler", ["threads", "sync", 3])
def test_bits_are_those_of_any_number_of_threads(scheduler):
    X, weight, _ = data()
    local = mixture().fit(ChunkedRows([X], chunk_size=SIZE), sample_weight=weight)
    chosen = {"num_workers": 3} if scheduler == 3 else {"scheduler": scheduler}
    with dask.config.set(**chosen):
        for rows in (in_dask(X), in_dask(X).persist(), in_dask(X) + 0.0):
            same(end(mixture().fit(rows, sample_weight=weight)), end(local))


def delayed_rows(X):
    parts = [dask.delayed(X[start : start + SIZE]) for start in range(0, N, SIZE)]
    return da.concatenate([da.from_delayed(part, (SIZE, D), X.dtype) for part in parts])


@pytest.mark.parametrize(
    "wrapped",
    [
        delayed_rows,
        lambda X: in_dask(X).map_blocks(np.copy),
        lambda X: in_dask(np.asfortranarray(X)),
        lambda X: in_dask(X, 500).rechunk((SIZE, -1)),
        lambda X: da.concatenate([in_dask(X[:0]), in_dask(X)]),
    ],
    ids=["delayed", "map_blocks", "columns", "rechunked", "empty"],
)
def test_arrays_however_they_came_about(wrapped):
    X, _, _ = data()
    local = mixture().fit(ChunkedRows([X], chunk_size=SIZE))
    rows = wrapped(X)
    lazy = mixture().fit(rows)
    same(end(lazy), end(local))
    np.testing.assert_array_equal(lazy.predict(rows), local.predict(X))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, bool, np.float16])
def test_other_numbers_become_double_precision(dtype):
    X = np.clip(3.0 * data()[0] + 9.0, 0.0, 200.0).astype(dtype)
    if dtype is bool:
        X[::2] = False
    start = {"means_init": np.arange(6.0).reshape(2, 3), "n_components": 2, "max_iter": 5}
    lazy, whole = fitted(in_dask(X), **start), fitted(X, **start)
    close(end(lazy), end(whole), 1e-11)
    assert lazy.means_.dtype == np.float64 and lazy.score_samples(in_dask(X)).dtype == np.float64


# Weights


def test_weights_take_the_chunks_of_the_rows():
    X, weight, _ = data()
    whole = mixture().fit(X, sample_weight=weight)
    for own in (in_dask(weight, 400), weight, weight.tolist(), in_dask(weight) + 0.0):
        close(end(mixture().fit(in_dask(X), sample_weight=own)), end(whole), 1e-10)
    counts = (10 * weight).astype(np.int32)
    lazy = mixture().fit(in_dask(X), sample_weight=in_dask(counts))
    close(end(lazy), end(mixture().fit(X, sample_weight=counts)), 1e-10)


@pytest.mark.parametrize("exponent", [-1060, 1020])
def test_extreme_weights_have_a_unit_of_their_own(exponent):
    X, weight, rng = data()
    extreme, rows = np.ldexp(weight + 0.5, exponent), in_dask(X)
    whole = mixture().fit(X, sample_weight=extreme)
    lazy = mixture().fit(rows, sample_weight=in_dask(extreme))
    close(end(lazy), end(whole), 1e-10)
    assert lazy.score(rows, sample_weight=in_dask(extreme)) == pytest.approx(
        whole.score(X, sample_weight=extreme)
    )
    given = {"mode": "one_step", "sample_weight_tangent": extreme}
    pushed = whole.jvp(X, X, sample_weight=extreme, **given)
    close(lazy.jvp(rows, in_dask(X), sample_weight=in_dask(extreme), **given), pushed, 1e-9)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda w: in_dask(w[1:]), r"sample_weight must have shape \(1190,\)"),
        (lambda w: in_dask(w)[:, None], r"sample_weight must have shape \(1190,\)"),
        (lambda w: w[1:], r"sample_weight must have shape \(1190,\)"),
        (lambda w: in_dask(w - 1.0), "sample_weight must not be negative; the lowest is -1"),
        (lambda w: in_dask(0.0 * w), "at least one weight must be positive"),
        (lambda w: in_dask(np.where(w > 1, np.nan, w)), "sample_weight contains NaN or infinity"),
        (lambda w: in_dask(np.where(w > 1, np.inf, w)), "sample_weight contains NaN or infinity"),
        (lambda w: np.where(w > 1, np.nan, w), "sample_weight contains NaN or infinity"),
        (lambda w: in_dask(w + 1j), "sample_weight must hold real numbers"),
        (lambda w: in_dask(w)[in_dask(w) >= 0], r"sample_weight.compute_chunk_sizes\(\)"),
    ],
)
def test_weights_that_mean_nothing_are_refused(wrong, message):
    X, weight, _ = data()
    with pytest.raises(ValueError, match=message):
        mixture().fit(in_dask(X), sample_weight=wrong(weight))


# What is refused


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda X: in_dask(X)[in_dask(X)[:, 0] > 0], r"unknown sizes. Call X.compute_chunk_sizes"),
        (lambda X: in_dask(X)[:, 0], "Expected 2D array, got 1D array"),
        (lambda X: in_dask(X)[None], "Expected 2D array, got 3D array"),
        (lambda X: in_dask(X)[:, :0], r"Found array with 0 feature\(s\)"),
        (lambda X: in_dask(X)[:1], r"Found array with 1 sample\(s\)"),
        (lambda X: in_dask(X.astype(object)), "X must hold real numbers; its dtype is object"),
        (lambda X: in_dask(X + 1j), "X must hold real numbers; its dtype is complex128"),
        (lambda X: da.ma.masked_greater(in_dask(X), 1.0), "its blocks are MaskedArray"),
        (lambda X: in_dask(np.where(X > 3, np.nan, X)), "X contains NaN or infinity, first in row"),
    ],
)
def test_data_that_cannot_be_used_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        mixture().fit(wrong(data()[0]))


def test_known_chunk_sizes_are_enough():
    X, _, _ = data()
    rows = in_dask(X)
    some = rows[rows[:, 0] > 0]
    some.compute_chunk_sizes()
    close(end(mixture().fit(some)), end(mixture().fit(X[X[:, 0] > 0])), 1e-10)


def test_refused_fit_leaves_the_last_one():
    X, _, _ = data()
    kept = mixture().fit(in_dask(X))
    means = kept.means_
    X[700, 1] = np.inf
    with pytest.raises(ValueError, match="first in row 700") as caught:
        kept.fit(in_dask(X))
    assert caught.value.__notes__ == ["This was in chunk 4, rows 680 to 849."]
    assert kept.means_ is means


def test_predictions_see_what_is_not_finite_when_they_are_computed():
    X, _, _ = data()
    whole = mixture().fit(X)
    X[700, 1] = np.nan
    for method in ("predict", "predict_proba", "score_samples"):
        lazy = getattr(whole, method)(in_dask(X))
        with pytest.raises(ValueError, match="first in row 700"):
            lazy.compute()
        assert np.isfinite(lazy[:600].compute()).all()
    with pytest.raises(ValueError, match="first in row 700"):
        whole.score(in_dask(X))


def test_other_number_of_features_is_refused():
    X, _, _ = data()
    with pytest.raises(ValueError, match="expecting 3 features"):
        mixture().fit(in_dask(X)).predict(in_dask(X[:, :2]))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda X: in_dask(X[1:]), r"tangent must have shape \(1190, 3\)"),
        (lambda X: ChunkedRows([X]), "tangent is read in chunks, and X is a dask array"),
        (lambda X: np.where(X > 1, np.nan, X), "tangent contains NaN or infinity"),
        (lambda X: in_dask(np.where(X > 3, np.nan, X)), "tangent contains NaN or infinity, first"),
    ],
)
def test_tangents_that_mean_nothing_are_refused(wrong, message):
    X, _, _ = data()
    whole = mixture().fit(X)
    with pytest.raises(ValueError, match=message):
        whole.jvp(in_dask(X), wrong(X))
    with pytest.raises(ValueError, match=r"tangent is held by Dask, and X is not"):
        whole.jvp(X, in_dask(X))


# Gradients


def test_gradient_is_written_where_it_is_wanted(tmp_path):
    X, _, rng = data()
    lazy = mixture().fit(in_dask(X))
    cotangent = naive.random_cotangent(rng, end(lazy))
    expected = lazy.gradient_wrt_data(in_dask(X), cotangent)
    assert isinstance(expected, da.Array)
    file = np.lib.format.open_memmap(tmp_path / "gradient.npy", "w+", np.float64, X.shape)
    assert lazy.gradient_wrt_data(in_dask(X), cotangent, out=file) is file
    np.testing.assert_array_equal(np.load(tmp_path / "gradient.npy"), expected)
    with pytest.raises(ValueError, match=r"out must have the shape of X, \(1190, 3\)"):
        lazy.gradient_wrt_data(in_dask(X), cotangent, out=file[1:])


def test_cotangents_tell_what_they_are_without_computing():
    X, _, rng = data()
    lazy = mixture().fit(in_dask(X))
    cotangent = naive.random_cotangent(rng, end(lazy))
    gradients = lazy.vjp(in_dask(X), cotangent)

    def never(*arguments, **options):
        raise AssertionError("computed")

    with dask.config.set(scheduler=never):
        assert "data of shape (1190, 3), sample_weight of shape (1190,)" in repr(gradients)
        assert "dask.array" in gradients._repr_html_()


def test_jacobian_is_computed():
    X, _, _ = data()
    whole = mixture(n_components=1).fit(X[:40])
    lazy = whole.jacobian_wrt_data(in_dask(X[:40], 15))
    close(lazy, whole.jacobian_wrt_data(X[:40]), 1e-12)


# Data frames


def frames(X, weight):
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe", exc_type=ImportError)  # it asks for more packages
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    return (
        frame,
        dd.from_pandas(frame, npartitions=5),
        dd.from_pandas(pandas.Series(weight), npartitions=3),
    )


def test_data_frames_have_names():
    X, weight, rng = data()
    frame, lazy_frame, lazy_weight = frames(X, weight)
    whole = mixture().fit(frame, sample_weight=weight)
    lazy = mixture().fit(lazy_frame, sample_weight=lazy_weight)
    close(end(lazy), end(whole), 1e-10)
    assert lazy.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(lazy.predict(lazy_frame), whole.predict(frame))
    cotangent = naive.random_cotangent(rng, end(whole))
    given = {"mode": "one_step"}
    expected = whole.gradient_wrt_data(frame, cotangent, sample_weight=weight, **given)
    found = lazy.gradient_wrt_data(lazy_frame, cotangent, sample_weight=lazy_weight, **given)
    close([found.compute()], [expected], 1e-9)
    out = np.empty_like(X)
    lazy.gradient_wrt_data(lazy_frame, cotangent, sample_weight=lazy_weight, out=out, **given)
    np.testing.assert_array_equal(out, found)
    with pytest.raises(ValueError, match="feature names should match"):
        lazy.predict(lazy_frame.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        lazy.predict(in_dask(X))


def test_data_frames_without_numbers_are_refused():
    X, weight, _ = data()
    _, lazy_frame, lazy_weight = frames(X, weight)
    with pytest.raises(ValueError, match="X must hold real numbers"):
        mixture().fit(lazy_frame.assign(a="text"))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        mixture().fit(lazy_weight)


# Speed


def test_blocks_of_columns_are_put_together_with_a_warning():
    X, _, _ = data()
    wide = da.from_array(X, chunks=(SIZE, 2))
    with pytest.warns(da.PerformanceWarning, match=r"2 blocks of columns, .* 0\.0272 MiB") as told:
        lazy = mixture().fit(wide)
    assert told[0].filename == __file__
    same(end(lazy), end(mixture().fit(in_dask(X))))
    with pytest.warns(da.PerformanceWarning, match="blocks of columns") as told:
        labels = lazy.predict(wide)
    assert told[0].filename == __file__
    assert labels.chunks == wide.chunks[:1]


def test_small_chunks_are_warned_of_with_the_size_to_take():
    X, _, _ = data()
    rows = in_dask(X, 17)
    with pytest.warns(da.PerformanceWarning, match=r"70 chunks of 17 rows.*of 1190 rows") as told:
        fitted(rows)
    assert told[0].filename == __file__
    few, large = da.zeros((10, D), chunks=(1, D)), da.zeros((10**9, D), chunks=(10**6, D))
    for own in (few, large):
        warn_of_small_chunks(DaskRows(own), K, "full")  # warnings are errors
    per_row = K * (0.05 * 10 + 0.7) + D  # nanoseconds: 10 features of a full covariance
    size = 0.9 * 0.5e6 / per_row
    small = DaskRows(da.zeros((10**9, D), chunks=(int(size), D)))
    with pytest.warns(da.PerformanceWarning, match=r"rechunk\(\(800000, -1\)\)"):
        warn_of_small_chunks(small, K, "full")
    assert 10 * 0.5e6 / per_row == pytest.approx(800_000, rel=0.1)
    warn_of_small_chunks(small, 2 * K, "full")
