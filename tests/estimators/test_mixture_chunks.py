"""Fits, predictions and gradients of data that are read in chunks are those of data in memory."""

import warnings
from functools import partial

import naive
import numpy as np
import pytest
from peak_memory import peaks_of
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skgmmot import ChunkedRows, DifferentiableGaussianMixture
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples import rows as rows_module

N, D, K, SIZE = 1200, 3, 3, 170
MODES = "implicit", "unrolled", "one_step"
PREDICTIONS = "predict", "predict_proba", "score_samples"
SCORES = "score", "free_energy", "aic", "bic", "icl"
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def data(kind, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, D, kind)
    X, weight = naive.sample(rng, theta, N).astype(dtype), rng.uniform(0.2, 2.0, N)
    weight[100:600:2] = 0.0
    weight[SIZE : 2 * SIZE] = 0.0  # all of a chunk
    return X, weight, rng


def mixture(**options):
    defaults = {"random_state": 0, "init_size": 300, "n_components": K}
    return DifferentiableGaussianMixture(**defaults | options)


def in_chunks(X):
    return ChunkedRows(X, chunk_size=SIZE)


def end(fitted):
    return fitted._record.end


def close(actual, expected, rtol):
    for mine, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=rtol * np.abs(theirs).max())


@all_types
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_and_gradients_are_those_in_memory(kind, dtype, weighted):
    X, weight, rng = data(kind, dtype)
    given = {"sample_weight": weight} if weighted else {}
    rows = in_chunks(X)
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
        chunked = mixture(**options).fit(rows, **given)
    close(end(chunked), end(whole), 1e-12)
    assert chunked.means_.dtype == dtype
    np.testing.assert_allclose(chunked.lower_bounds_, whole.lower_bounds_, rtol=1e-12)

    cotangent = naive.random_cotangent(rng, end(whole))
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=N) if weighted else None
    # what was rounded to single precision may differ by a last digit
    rtol = 1e-10 if dtype == np.float64 else 1e-6
    for mode in MODES:
        found = []
        for fitted, own in ((whole, X), (chunked, rows)):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "mode='implicit' differentiates a fixed point")
                pulled = fitted.vjp(own, cotangent, mode=mode, **given)
                pushed = fitted.jvp(
                    own, X_dot, mode=mode, sample_weight_tangent=weight_dot, **given
                )
            assert pulled.data.dtype == pulled.sample_weight.dtype == dtype
            found.append([pulled.data, pulled.sample_weight, *pushed])
        close(found[1], found[0], rtol)


@all_types
def test_predictions_and_scores_are_those_in_memory(kind):
    X, weight, _ = data(kind, np.float32)
    rows = in_chunks(X)
    fitted = mixture(covariance_type=kind, temperature=1.5).fit(X)
    for method in PREDICTIONS:
        mine, theirs = (getattr(fitted, method)(own) for own in (rows, X))
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    for method in SCORES:
        for given in ({}, {"sample_weight": weight}):
            mine, theirs = (getattr(fitted, method)(own, **given) for own in (rows, X))
            assert mine == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_start_looks_at_the_same_rows_whatever_the_chunks(init_params):
    X, weight, _ = data("tied")
    options = {"init_params": init_params, "max_iter": 0, "covariance_type": "tied"}
    ends = [
        end(mixture(**options).fit(ChunkedRows(X, chunk_size=size), sample_weight=weight))
        for size in (1000, 77)
    ]
    close(*ends, 1e-12)
    if init_params.startswith("k"):
        close(ends[0], end(mixture(**options).fit(X, sample_weight=weight)), 1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"acceleration": "lbfgs"},
        {"acceleration": "newton"},
        {"acceleration": "anderson"},
        {"temperature": [4.0, 2.0, 1.0]},
        {"temperature": 2e3, "max_iter": 3},
        {"e_step": "sinkhorn", "temperature": 2.0},
        {"fixed_weights": True, "n_init": 2},
        {"reg_covar": 0.1, "n_jobs": 1},
    ],
    ids=str,
)
def test_options_work_as_in_memory(options):
    X, weight, _ = data("full")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole, chunked = (
            mixture(**options).fit(own, sample_weight=weight) for own in (X, in_chunks(X))
        )
    assert chunked.n_iter_ == whole.n_iter_
    close(end(chunked), end(whole), 1e-8)  # of what converges, to its tolerance
    assert chunked.lower_bound_ == pytest.approx(whole.lower_bound_, rel=1e-10)


def test_groups_of_incremental_em_are_chunks():
    """Other groups than in memory, and so another way, to the same end."""
    X, weight, rng = data("full")
    X += 4.0 * rng.integers(K, size=(N, 1))  # clusters of one maximum
    whole, chunked = (
        mixture(acceleration="incremental").fit(own, sample_weight=weight)
        for own in (X, in_chunks(X))
    )
    assert chunked.converged_
    close(end(chunked), end(whole), 1e-5)
    assert (np.diff(chunked.lower_bounds_) > -1e-12).all()


def test_warm_start_goes_on():
    X, _, _ = data("full")
    rows = in_chunks(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        steps = mixture(warm_start=True, max_iter=1, acceleration=None)
        for _ in range(4):
            steps.fit(rows)
        whole = mixture(max_iter=4, acceleration=None).fit(X)
    close(end(steps), end(whole), 1e-12)
    # one step from a warm start is what one_step differentiates, whatever holds the data
    cotangent = (None, np.ones((K, D)), None)
    mine = steps.gradient_wrt_data(rows, cotangent, mode="one_step")
    close([mine], [steps.gradient_wrt_data(X, cotangent, mode="one_step")], 1e-10)


@pytest.mark.parametrize("in_memory", [False, True])
def test_gradient_is_written_where_it_is_wanted(tmp_path, in_memory):
    X, weight, rng = data("full")
    fitted = mixture().fit(X, sample_weight=weight)
    cotangent = naive.random_cotangent(rng, end(fitted))
    gradient = partial(fitted.gradient_wrt_data, cotangent=cotangent, sample_weight=weight)
    expected = gradient(X)
    out = np.memmap(tmp_path / "gradient", mode="w+", dtype=np.float32, shape=X.shape)
    assert gradient(X if in_memory else in_chunks(X), out=out) is out
    close([out], [expected], 1e-6)
    with pytest.raises(ValueError, match="out must have the shape of X"):
        gradient(X, out=out[:10])


def test_tangents_may_be_read_in_chunks_too():
    X, _, rng = data("full")
    fitted, X_dot = mixture().fit(X), rng.normal(size=(N, D))
    expected = fitted.jvp(X, X_dot)
    close(fitted.jvp(in_chunks(X), ChunkedRows(X_dot, chunk_size=333)), expected, 1e-10)
    X_dot[700, 1] = np.inf
    with pytest.raises(ValueError, match="tangent contains NaN or infinity"):
        fitted.jvp(in_chunks(X), X_dot)
    with pytest.raises(ValueError, match="tangent contains NaN or infinity, first in row 700"):
        fitted.jvp(in_chunks(X), ChunkedRows(X_dot, chunk_size=333))
    with pytest.raises(ValueError, match="tangent must have shape"):
        fitted.jvp(in_chunks(X), ChunkedRows(X_dot[1:]))


def test_weights_in_any_unit_are_those_in_memory():
    X, weight, rng = data("full")
    weight *= 2.0**400
    rows, given = in_chunks(X), {"sample_weight": weight}
    whole, chunked = (mixture().fit(own, **given) for own in (X, rows))
    close(end(chunked), end(whole), 1e-8)
    cotangent = naive.random_cotangent(rng, end(whole))
    found = [
        [pulled.data, pulled.sample_weight]
        for pulled in (whole.vjp(own, cotangent, **given) for own in (X, rows))
    ]
    close(found[1], found[0], 1e-10)
    tangent = np.zeros_like(X)
    pushed = [
        whole.jvp(own, tangent, sample_weight_tangent=2.0**400 * np.arange(N), **given)
        for own in (X, rows)
    ]
    close(pushed[1], pushed[0], 1e-10)


def test_searches_read_the_rows_of_each_fold():
    X, _, _ = data("full")
    X = X[np.random.default_rng(1).permutation(N)]
    found = [
        GridSearchCV(mixture(), {"n_components": [1, 3]}, cv=3).fit(own).cv_results_
        for own in (X, in_chunks(X))
    ]
    np.testing.assert_array_equal(*(own["mean_test_score"] for own in found))


def test_files_are_read_in_chunks_where_they_are_large(tmp_path, monkeypatch):
    X, _, _ = data("full")
    X.tofile(tmp_path / "X")
    file = np.memmap(tmp_path / "X", dtype=X.dtype, mode="r", shape=X.shape)
    read = []
    whole_read = ChunkedRows.read
    monkeypatch.setattr(
        ChunkedRows, "read", lambda self, number: read.append(number) or whole_read(self, number)
    )
    expected = mixture().fit(X)
    np.testing.assert_array_equal(mixture().fit(file).means_, expected.means_)
    assert not read  # small
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", SIZE * D * 8)
    close(end(mixture().fit(file)), end(expected), 1e-8)
    assert max(read) == 7
    np.testing.assert_array_equal(expected.predict(file), expected.predict(X))


def test_what_cannot_be_used_is_refused_with_the_cure():
    X, _, _ = data("full")
    fitted = mixture().fit(X)
    wrong = X.copy()
    wrong[1000, 2] = np.nan
    calls = [mixture().fit, *(getattr(fitted, name) for name in (*PREDICTIONS, *SCORES))]
    calls.append(partial(fitted.gradient_wrt_data, cotangent=(None, np.ones((K, D)), None)))
    for call in calls:
        with pytest.raises(ValueError, match="X contains NaN or infinity, first in row 1000"):
            call(in_chunks(wrong))
    with pytest.raises(ValueError, match="X has 2 features, but .* is expecting 3 features"):
        fitted.predict(in_chunks(X[:, :2]))
    with pytest.raises(ValueError, match="init_size=None .* Pass the number of random rows"):
        mixture(init_size=None).fit(in_chunks(X))
    with pytest.raises(ValueError, match="minimum of 2"):
        mixture().fit(ChunkedRows(X[:1]))
    with pytest.raises(ValueError, match="Expected at least n_components=3"):
        mixture().fit(ChunkedRows(X[:2]))
    with pytest.raises(ValueError, match="inconsistent|sample_weight.shape"):
        mixture().fit(in_chunks(X), sample_weight=np.ones(5))
    start = naive.random_mixture(np.random.default_rng(0), K, D, "full")
    given = {
        "weights_init": start.weights,
        "means_init": start.means,
        "precisions_init": np.linalg.inv(start.covariances),
    }
    assert mixture(init_size=None, **given).fit(in_chunks(X)).n_features_in_ == D


def test_failed_fit_leaves_the_last_one():
    X, _, _ = data("full")
    fitted = mixture().fit(in_chunks(X))
    before = clone(fitted).fit(in_chunks(X)).means_
    X[-1, 0] = np.inf
    with pytest.raises(ValueError, match="row 1199"):
        fitted.fit(in_chunks(X))
    np.testing.assert_array_equal(fitted.means_, before)


def test_far_rows_of_weight_zero_count_for_weights_only():
    X, weight, rng = data("full")
    X[np.flatnonzero(weight == 0)[::3]] *= 1e200
    given = {"sample_weight": weight}
    whole, chunked = (mixture().fit(own, **given) for own in (X, in_chunks(X)))
    cotangent = (None, rng.normal(size=(K, D)), None)
    mine, theirs = (
        fitted.vjp(own, cotangent, **given).data
        for fitted, own in ((chunked, in_chunks(X)), (whole, X))
    )
    close([mine], [theirs], 1e-8)
    assert not mine[weight == 0].any()


SCRIPT = """
from skgmmot.samples import rows

rows.CHUNK_BYTES = 2**22

def calls(X, out):
    mixture = DifferentiableGaussianMixture(
        3, random_state=0, max_iter=3, acceleration=None, tol=0, n_jobs=2
    )
    cotangent = (None, np.ones((3, 3)), None)
    return {
        "fit": lambda: mixture.fit(X),
        "score": lambda: mixture.score(X),
        **{mode: lambda mode=mode: mixture.gradient_wrt_data(X, cotangent, mode=mode, out=out)
           for mode in ("implicit", "unrolled")},
    }

X = np.memmap(sys.argv[1], mode="w+", dtype=np.float64, shape=(2_000_000, 3))
rng = np.random.default_rng(0)
for start in range(0, len(X), 100_000):
    X[start : start + 100_000] = rng.normal(size=(100_000, 3)) + rng.integers(0, 3, (100_000, 1))
X.flush()
X = np.memmap(sys.argv[1], mode="r", dtype=np.float64, shape=X.shape)
out = np.memmap(sys.argv[1] + ".out", mode="w+", dtype=np.float64, shape=X.shape)
small = slice(0, 200_000)
for call in calls(X[small], out[small]).values():
    call()
print(json.dumps({name: peak_of(call) for name, call in calls(X, out).items()}))
"""


def test_memory_is_that_of_two_chunks(tmp_path):
    """A file of 48 MB in chunks of 4 MB."""
    peaks = peaks_of(SCRIPT, tmp_path / "X")
    assert peaks["fit"] < 2 * 4.2 + 3, peaks
    assert peaks["score"] < 2 * 4.2 + 3, peaks
    for mode in ("implicit", "unrolled"):
        assert peaks[mode] < 2 * 4.2 + 3 * 4.2 + 3, peaks
