"""Coupled fits to data in chunks: the same as in memory, whichever way the rows come."""

import warnings
from functools import partial

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from stand_ins import OnDisk, ShownRows

from skgmmot import ChunkedRows, CoupledGMMFitter
from skgmmot.estimators.callbacks import has_callbacks
from skgmmot.estimators.coupled_starts import Cloud, thinned
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples import rows as rows_module

N, M, D, K, SIZE = 900, 700, 3, 3, 130
CENTERS = np.array([[0.0, 0, 1], [5, 0, 0], [0, 5, 2]])
OPTIONS = {
    "all rows": {"init_size": 1000},
    "some rows": {"init_size": 200},
    "no coupling": {"transport_weight": 0.0},
    "frozen": {"freeze_target": True, "reg": 0.1, "reg_m": 1.0, "init_size": 800},
}
# Sums in other orders differ in their rounding, of which linear systems make a thousand times more.
ROUNDING, SOLVED = 1e-12, 1e-10


def clouds(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X, Y = (
        CENTERS[rng.integers(K, size=n)] + shift + rng.normal(size=(n, D))
        for n, shift in ((N, 0.0), (M, 0.7))
    )
    return X.astype(dtype), Y.astype(dtype)


def weights(seed=1):
    rng = np.random.default_rng(seed)
    source, target = rng.uniform(0.2, 2.0, N), rng.uniform(0.2, 2.0, M)
    source[::5] = 0.0
    source[SIZE : 2 * SIZE] = 0.0  # all of a chunk
    return {"sample_weight_source": source, "sample_weight_target": target}


def rows_and_domains(dtype=np.float64):
    """The rows of both in any order, their domains and weights."""
    X, domain = np.concatenate(clouds(dtype)), np.repeat([1, -1], [N, M])
    weight = np.concatenate(list(weights().values()))
    order = np.random.default_rng(2).permutation(len(X))
    return X[order], domain[order], weight[order]


def in_chunks(X, size=SIZE):
    return ChunkedRows(X, chunk_size=size)


def fitter(**options):
    return CoupledGMMFitter(**{"n_components": K, "random_state": 0, "init_size": 300} | options)


def numbers(fitted):
    return [*fitted.source_mixture_.parameters_, *fitted.target_mixture_.parameters_]


def close(actual, expected, rtol=ROUNDING):
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=rtol * np.abs(theirs).max())


# Fits


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_fit_and_gradients_are_those_in_memory(kind, name, weighted):
    """Also where one cloud is in memory and the other one is not."""
    X, Y = clouds()
    given = weights() if weighted else {}
    options = OPTIONS[name] | {"covariance_type": kind}
    ways = (X, Y), (in_chunks(X), in_chunks(Y, 97)), (X, in_chunks(Y))
    whole, *others = (fitter(**options).fit_pair(*pair, **given) for pair in ways)
    rng = np.random.default_rng(0)
    cotangents = [
        naive.random_cotangent(rng, mixture.parameters_)
        for mixture in (whole.source_mixture_, whole.target_mixture_)
    ]
    for other, pair in zip(others, ways[1:], strict=True):
        close(numbers(other), numbers(whole))
        assert other.n_iter_ == whole.n_iter_
        np.testing.assert_allclose(other.lower_bounds_, whole.lower_bounds_, rtol=ROUNDING)
        for mode, rtol in (("implicit", SOLVED), ("one_step", ROUNDING)):
            mine, theirs = (
                whole.gradient_wrt_data(*own, *cotangents, mode=mode, **given)
                for own in (pair, (X, Y))
            )
            close(mine, theirs, rtol)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_domains_of_rows_are_those_in_memory(name, weighted):
    X, domain, weight = rows_and_domains()
    given = {"sample_domain": domain} | ({"sample_weight": weight} if weighted else {})
    whole, chunked = (fitter(**OPTIONS[name]).fit(own, **given) for own in (X, in_chunks(X)))
    close(numbers(chunked), numbers(whole))
    assert chunked.n_iter_ == whole.n_iter_ and chunked.domains_ == (1, -1)


def test_chunks_of_one_domain_are_not_read_for_the_other():
    X, Y = clouds()
    together, apart = ([OnDisk(own) for own in (X, Y)] for _ in range(2))
    fitter(init_size=200).fit(in_chunks(together, 100), np.repeat([1, -1], [N, M]))
    fitter(init_size=200).fit_pair(*(in_chunks(own, 100) for own in apart))
    # but for the first look, which is at all rows for each of the domains
    for mine, alone, n_chunks in zip(together, apart, (9, 7), strict=True):
        assert len(mine.asked) == len(alone.asked) + n_chunks


@pytest.mark.parametrize("weighted", [False, True])
def test_starts_look_at_the_same_rows_whatever_the_chunks(weighted):
    X, Y = clouds()
    given = weights() if weighted else {}
    ends = [
        numbers(fitter(init_size=100, max_iter=0).fit_pair(*pair, **given))
        for pair in ((X, Y), *((in_chunks(X, n), in_chunks(Y, n)) for n in (61, 400)))
    ]
    for end in ends[1:]:
        close(end, ends[0])


def test_rows_of_a_start_are_drawn_of_those_with_weight():
    X, _ = clouds()
    weight = weights()["sample_weight_source"]
    cloud = Cloud(in_chunks(X), weight)
    drawn, own = thinned(cloud, 100, np.random.RandomState(0)).samples.rows()
    places = np.flatnonzero(np.isin(X[:, 0], drawn[:, 0]))
    assert len(drawn) == len(places) == 100
    np.testing.assert_array_equal(drawn, X[places])  # in their order
    np.testing.assert_array_equal(own, weight[places])
    assert own.all()
    everything, _ = thinned(cloud, N, np.random.RandomState(0)).samples.rows()
    np.testing.assert_array_equal(everything, X[weight > 0])


@pytest.mark.parametrize("init_size", [100, 1000])
def test_starts_are_in_memory(init_size):
    """A first look, the rows of the starts, and the likelihoods in the end."""
    files = [OnDisk(own) for own in clouds()]
    pair = [in_chunks(own, 100) for own in files]
    fitter(init_size=init_size, max_iter=0).fit_pair(*pair)
    for file, n_chunks in zip(files, (9, 7), strict=True):
        assert len(file.asked) <= (4 if init_size == 100 else 3) * n_chunks


def test_rows_of_weight_zero_change_no_draw():
    """However many there are: they are left out before rows are drawn."""
    X, Y = clouds()
    given = weights()
    one, other = given.values()
    kept = fitter(init_size=100).fit_pair(
        X[one > 0], Y, sample_weight_source=one[one > 0], sample_weight_target=other
    )
    close(numbers(fitter(init_size=100).fit_pair(X, Y, **given)), numbers(kept), 0.0)
    assert len(X[one > 0]) < N


def test_single_and_double_precision():
    X, Y = clouds(np.float32)
    for pair in ((X, Y), (X, Y.astype(float))):
        whole = fitter().fit_pair(*pair)
        chunked = fitter().fit_pair(in_chunks(pair[0]), pair[1])
        close(numbers(chunked), numbers(whole), 1e-6)  # a last digit of single precision
        assert chunked.lower_bounds_[-1] == pytest.approx(whole.lower_bounds_[-1], rel=1e-12)
        cotangent = None, np.ones((K, D)), None
        mine, theirs = (
            whole.gradient_wrt_data(*own, cotangent)
            for own in ((in_chunks(pair[0]), pair[1]), pair)
        )
        close(mine, theirs, 1e-6)
    mixed, double = (
        fitter(transport_weight=0.0).fit_pair(own, Y.astype(float)) for own in (X, X.astype(float))
    )
    close(numbers(mixed), numbers(double), 0.0)


def test_warm_start_goes_on():
    X, Y = (in_chunks(own) for own in clouds())
    steps, whole = (fitter(warm_start=True, max_iter=2) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(3):
            steps.fit_pair(X, Y)
            whole.fit_pair(*clouds())
    assert steps.n_iter_ == whole.n_iter_ > 0
    close(numbers(steps), numbers(whole))


def test_callbacks_are_shown_the_rows_of_both():
    pytest.importorskip("sklearn.callback")
    recorder = ShownRows()
    X, Y = clouds()
    watched = fitter().set_callbacks(recorder)
    assert has_callbacks(watched)
    watched.fit_pair(in_chunks(X), Y, **weights())
    assert recorder.shown
    for rows, metadata in recorder.shown:
        assert isinstance(rows, ChunkedRows)
        np.testing.assert_array_equal(rows[:], np.concatenate([X, Y]))
        np.testing.assert_array_equal(metadata["sample_domain"], np.repeat([1, -1], [N, M]))
        np.testing.assert_array_equal(
            metadata["sample_weight"], np.concatenate(list(weights().values()))
        )


def test_searches_read_the_rows_of_each_fold():
    X, domain, _ = rows_and_domains()
    found = [
        GridSearchCV(fitter(), {"n_components": [1, K]}, cv=StratifiedKFold(3)).fit(own, domain)
        for own in (X, in_chunks(X))
    ]
    np.testing.assert_array_equal(*(own.cv_results_["mean_test_score"] for own in found))
    # the last fit is to all rows, which stay where they are
    close(numbers(found[1].best_estimator_), numbers(found[0].best_estimator_))


@pytest.mark.parametrize("way", ["memmap", "h5py", "zarr"])
def test_files_are_read_in_chunks_where_they_are_large(way, tmp_path, monkeypatch):
    X, Y = clouds()
    if way == "memmap":
        X.tofile(tmp_path / "X")
        file = np.memmap(tmp_path / "X", dtype=X.dtype, mode="r", shape=X.shape)
    elif way == "h5py":
        file = pytest.importorskip("h5py").File(tmp_path / "X", "w").create_dataset("X", data=X)
    else:
        zarr = pytest.importorskip("zarr")
        file = zarr.create_array(str(tmp_path / "X"), data=X, chunks=(100, D))
    read, whole_read = [], ChunkedRows.read
    monkeypatch.setattr(
        ChunkedRows, "read", lambda self, number: read.append(number) or whole_read(self, number)
    )
    whole = fitter().fit_pair(X, Y)
    np.testing.assert_array_equal(fitter().fit_pair(file, Y).mw2_, whole.mw2_)
    assert not read  # small
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", SIZE * D * 8)
    close(numbers(fitter().fit_pair(file, Y)), numbers(whole))
    assert max(read) > 5
    close([whole.transform(file)], [whole.transform(X)])


# What is fitted, asked about rows in chunks


METHODS = (
    "transform",
    "inverse_transform",
    "mass_factors",
    "predict",
    "predict_proba",
    "score_samples",
)


@pytest.mark.parametrize("as_pair", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_in_memory(method, as_pair):
    X, domain, _ = rows_and_domains(np.float32)
    options = {"reg_m": 1.0, "transport_weight": 0.05, "n_components": (2, 3)}
    fitted = fitter(**options)
    fitted = fitted.fit_pair(*clouds(np.float32)) if as_pair else fitted.fit(X, domain)
    ask = getattr(fitted, method)
    for labels in (None, 1, -1, domain):
        mine, theirs = (ask(own, sample_domain=labels) for own in (in_chunks(X), X))
        close([mine], [theirs], 1e-6)  # a last digit of single precision
        if labels is domain:
            assert not np.array_equal(theirs, ask(X, sample_domain=1))
            assert not np.array_equal(theirs, ask(X, sample_domain=-1))


@pytest.mark.parametrize("method", ["score", "aic", "bic", "icl"])
def test_scores_are_those_in_memory(method):
    X, domain, weight = rows_and_domains()
    ask = getattr(fitter().fit(X, domain), method)
    for given in ({}, {"sample_weight": weight}):
        mine, theirs = (ask(own, domain, **given) for own in (in_chunks(X), X))
        assert mine == pytest.approx(theirs, rel=1e-13)
    if method == "score":
        assert ask(in_chunks(X)) == pytest.approx(ask(X), rel=1e-13)
    else:
        with pytest.raises(ValueError, match="requires y"):
            ask(in_chunks(X))


@pytest.mark.parametrize("chunked", [False, True])
def test_gradients_are_written_where_they_are_wanted(chunked, tmp_path):
    X, Y = clouds()
    fitted = fitter().fit_pair(X, Y, **weights())
    pair = (in_chunks(X), in_chunks(Y)) if chunked else (X, Y)
    cotangent = None, np.ones((K, D)), None
    gradients = partial(fitted.gradient_wrt_data, *pair, cotangent, **weights())
    expected = fitted.gradient_wrt_data(X, Y, cotangent, **weights())
    out = np.memmap(tmp_path / "out", mode="w+", dtype=np.float32, shape=X.shape)
    by_source, by_target = gradients(out_source=out)
    assert by_source is out
    close([by_source.astype(float)], expected[:1], 1e-6)
    close([by_target], expected[1:], SOLVED)
    assert not by_source[::5].any() and by_source[1:5].any()  # rows of weight zero
    by_source, by_target = gradients(out_target=np.ones(Y.shape))
    close([by_source, by_target], expected, SOLVED)
    with pytest.raises(ValueError, match="out_target must have the shape of X_target"):
        gradients(out_target=out)


# What is refused


def test_rows_that_are_not_finite_are_told_with_their_number():
    X, Y = clouds()
    wrong = X.copy()
    wrong[800, 1] = np.nan
    with pytest.raises(ValueError, match=r"X_source: X contains NaN .* first in row 800\."):
        fitter().fit_pair(in_chunks(wrong), Y)
    with pytest.raises(ValueError, match=r"X_target: X contains NaN .* first in row 800\."):
        fitter().fit_pair(Y, in_chunks(wrong))
    domain = np.arange(N) % 2
    with pytest.raises(ValueError, match=r"X contains NaN .* first in row 800\."):
        fitter().fit(in_chunks(wrong), domain)
    fitted = fitter().fit(X, domain)
    for method in (*METHODS, "score"):
        with pytest.raises(ValueError, match=r"X contains NaN .* first in row 800\."):
            getattr(fitted, method)(in_chunks(wrong), sample_domain=domain)
    with pytest.raises(ValueError, match=r"X_source: X contains NaN .* first in row 800\."):
        fitted.gradient_wrt_data(in_chunks(wrong), Y, (None, np.ones((K, D)), None))


def test_what_cannot_be_used_is_refused_with_the_cure():
    X, Y = clouds()
    with pytest.raises(ValueError, match="init_size=None .* Pass the number of random rows"):
        fitter(init_size=None).fit_pair(in_chunks(X), Y)
    with pytest.raises(ValueError, match="same features; got 3 and 2"):
        fitter().fit_pair(in_chunks(X), in_chunks(Y[:, :2]))
    with pytest.raises(ValueError, match="X_target: .* minimum of 2"):
        fitter().fit_pair(in_chunks(X), in_chunks(Y[:1]))
    with pytest.raises(ValueError, match=r"sample_weight_target: .*(inconsistent|shape)"):
        fitter().fit_pair(in_chunks(X), in_chunks(Y), sample_weight_target=np.ones(5))
    one = np.where(np.arange(N) == 7, 1, 0)
    for rows in (X, in_chunks(X)):
        with pytest.raises(ValueError, match="The target has n_samples = 1"):
            fitter(n_components=1).fit(rows, one)
        with pytest.raises(ValueError, match="weight of the domain 1 must be positive"):
            fitter(n_components=1).fit(rows, one, sample_weight=1.0 - one)
        with pytest.raises(ValueError, match="inconsistent"):
            fitter().fit(rows, one[1:])


def test_failed_fit_leaves_the_last_one():
    X, Y = clouds()
    fitted = fitter().fit_pair(in_chunks(X), in_chunks(Y))
    before = numbers(fitted)
    Y[-1, 0] = np.inf
    with pytest.raises(ValueError, match="row 699"):
        fitted.fit_pair(in_chunks(X), in_chunks(Y))
    close(numbers(fitted), before, 0.0)
