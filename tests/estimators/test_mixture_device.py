"""A mixture of arrays on a CUDA device is that of the same arrays on the host."""

import pickle
import warnings

import numpy as np
import pytest
from device_data import D, K, close, data, fetched
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.cuda_fused import Fused

PREDICTIONS = "predict", "predict_proba", "score_samples"
SCORES = "score", "free_energy", "aic", "bic", "icl"
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
# How far the two may be apart: statistics to 1e-11, which a few dozens of steps hand on.
FITTED, ANSWERED = 1e-8, 1e-10


def mixture(kind="full", **options):
    defaults = {"n_components": K, "random_state": 0, "residual_tol": 1e-11, "tol": 1e-9}
    return DifferentiableGaussianMixture(covariance_type=kind, **defaults | options)


def end(fitted):
    """θ_T in float64."""
    return fitted._record.end


def names_the_device(thing):
    """Whether a pickle of it needs CuPy, or what stands in for it."""
    return any(name in pickle.dumps(thing) for name in (b"cupy", b"cuda_on_host"))


@all_types
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_and_answers_are_those_of_the_host(device_cupy, kind, dtype, weighted):
    X, weight = data(kind, dtype)
    weight = weight if weighted else None
    X_device = device_cupy.asarray(X)
    weight_device = None if weight is None else device_cupy.asarray(weight)
    host = mixture(kind).fit(X, sample_weight=weight)
    device = mixture(kind).fit(X_device, sample_weight=weight_device)
    close(end(device), end(host), FITTED)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        found = getattr(device, name)
        assert isinstance(found, np.ndarray) and found.dtype == dtype
    assert device.converged_ and device.n_samples_seen_ == host.n_samples_seen_
    assert device.lower_bound_ == pytest.approx(host.lower_bound_, rel=ANSWERED)
    # one mixture answers on either side
    for name in PREDICTIONS:
        expected = getattr(host, name)(X)
        found = fetched(device_cupy, getattr(host, name)(X_device), expected)
        close([found], [expected], ANSWERED if dtype == np.float64 else 1e-6)
        assert isinstance(getattr(device, name)(X), np.ndarray)
    for name in SCORES:
        expected = getattr(host, name)(X, sample_weight=weight)
        found = getattr(host, name)(X_device, sample_weight=weight_device)
        assert isinstance(found, float) and found == pytest.approx(expected, rel=ANSWERED)
    np.testing.assert_array_equal(X_device.get(), X)
    if weighted:
        np.testing.assert_array_equal(weight_device.get(), weight)
    drawn, labels = device.sample(5)
    assert isinstance(drawn, np.ndarray) and drawn.dtype == dtype and len(labels) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"init_params": "k-means++"},
        {"init_params": "random", "n_components": 2},
        {"init_params": "random_from_data"},
        {"init_params": "random_from_data", "covariance_type": "tied"},
        {"init_size": 100},
        {"init_size": None},
        {"n_init": 3, "init_params": "random_from_data"},
        {"acceleration": None},
        {"acceleration": "anderson"},
        {"acceleration": "incremental"},
        {"acceleration": "lbfgs"},
        {"acceleration": "newton"},
        {"e_step": "sinkhorn"},
        {"fixed_weights": True},
        {"temperature": [1.5, 1.0]},
        {"temperature": 1e4, "reg_covar": 0.5},
        {"reg_covar": 0.1},
        {"weights_init": np.full(K, 1 / K), "means_init": 3.0 * np.eye(K, D)},
    ],
    ids=lambda options: "-".join(
        f"{key}={np.shape(value) or value}" for key, value in options.items()
    ),
)
def test_options_of_a_fit_are_those_of_the_host(device_cupy, options):
    X, weight = data()
    options = {"covariance_type": "full", "max_iter": 200} | options
    found = []
    for module in (np, device_cupy):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of the hot one, on both sides
            found.append(
                mixture(options["covariance_type"])
                .set_params(**options)
                .fit(module.asarray(X), sample_weight=module.asarray(weight))
            )
    host, device = found
    close(end(device), end(host), FITTED)
    energies = (
        fit.free_energy(module.asarray(X), sample_weight=module.asarray(weight))
        for fit, module in zip(found, (np, device_cupy), strict=True)
    )
    assert next(energies) == pytest.approx(next(energies), rel=1e-8)
    assert device.converged_ == host.converged_
    if options.get("acceleration", "") in (None, "incremental"):  # of the same groups of rows
        assert device.n_iter_ == host.n_iter_


def test_init_size_of_none_looks_at_all_rows(device_cupy, device_traffic):
    X, _ = data()
    X_device = device_cupy.asarray(X)
    device_traffic.clear()
    mixture(init_size=None, max_iter=0).fit(X_device)
    assert ("down", X.nbytes) in device_traffic
    device_traffic.clear()
    mixture(init_size=100, max_iter=0).fit(X_device)
    assert max(size for _, size in device_traffic) == 100 * X[:1].nbytes


def test_a_warm_start_goes_on_from_either_side(device_cupy):
    X, _ = data()
    X_device = device_cupy.asarray(X)
    one_step = {"max_iter": 1, "warm_start": True, "acceleration": None}
    host, device, changing = (mixture(**one_step) for _ in range(3))
    with pytest.warns(ConvergenceWarning):
        for number in range(4):
            host.fit(X)
            device.fit(X_device)
            changing.fit(X_device if number % 2 else X)
    for other in (device, changing):
        close(end(other), end(host), FITTED)
        assert other.lower_bound_ == pytest.approx(host.lower_bound_, rel=ANSWERED)


def test_fit_predict_answers_on_the_device(device_cupy):
    X, _ = data()
    expected = mixture().fit_predict(X)
    found = fetched(device_cupy, mixture().fit_predict(device_cupy.asarray(X)), expected)
    np.testing.assert_array_equal(found, expected)


def test_nothing_of_the_size_of_the_data_moves(device_cupy, device_traffic):
    X, weight = data(n=2000)
    X, weight = device_cupy.asarray(X), device_cupy.asarray(weight)
    fitted = mixture(init_size=50)
    device_traffic.clear()
    fitted.fit(X, sample_weight=weight)
    for name in PREDICTIONS:
        getattr(fitted, name)(X)
    for name in SCORES:
        getattr(fitted, name)(X, sample_weight=weight)
    fitted.partial_fit(X, sample_weight=weight)
    mode = {"mode": "one_step", "sample_weight": weight}
    fitted.vjp(X, fitted.parameters_, **mode)
    fitted.jvp(X, X, **mode)
    # 50 rows to start from are the most
    assert max(size for _, size in device_traffic) <= 50 * D * 8


@all_types
def test_products_of_matrices_make_the_same_mixture(device_cupy, kind, monkeypatch):
    """The way of large mixtures."""
    monkeypatch.setattr(Fused, "fits", staticmethod(lambda mixture: False))
    X, weight = data(kind)
    X_device, weight_device = device_cupy.asarray(X), device_cupy.asarray(weight)
    host = mixture(kind).fit(X, sample_weight=weight)
    device = mixture(kind).fit(X_device, sample_weight=weight_device)
    close(end(device), end(host), FITTED)
    expected = host.predict_proba(X)
    close([fetched(device_cupy, host.predict_proba(X_device), expected)], [expected], ANSWERED)
    cotangent = None, np.ones((K, D)), None
    expected = host.gradient_wrt_data(X, cotangent, sample_weight=weight)
    found = host.gradient_wrt_data(X_device, cotangent, sample_weight=weight_device)
    close([fetched(device_cupy, found, expected)], [expected], 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_rows_far_away_are_answered_as_on_the_host(device_cupy, kind, dtype):
    """By the centered way, and where squares overflow by samples that are shrunk."""
    X, _ = data(kind)
    fitted = mixture(kind, residual_tol=1e-4).fit(X)
    largest = 1e30 if dtype == np.float32 else 1e200
    far = np.concatenate([X[:50], 1e4 * X[50:100], largest * X[100:110]]).astype(dtype)
    for rows in (far, far[50:], far[100:]):
        for name in (*PREDICTIONS, "score"):
            expected = getattr(fitted, name)(rows)
            found = getattr(fitted, name)(device_cupy.asarray(rows))
            if name != "score":
                found = fetched(device_cupy, found, expected)
            np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-10)


def test_high_temperatures_are_as_on_the_host(device_cupy):
    X, weight = data()
    fitted = mixture().fit(X).set_params(temperature=1e6)
    options = ({"sample_weight": module.asarray(weight)} for module in (np, device_cupy))
    expected = fitted.free_energy(X, **next(options))
    found = fitted.free_energy(device_cupy.asarray(X), **next(options))
    assert found == pytest.approx(expected, rel=ANSWERED)


@pytest.mark.parametrize("weighted", [False, True])
def test_batches_of_a_stream_may_be_on_the_device(device_cupy, weighted):
    X, weight = data()
    if weighted:
        weight[:60] = 0.0
        weight[2] = 1.0
    parts = [slice(begin, begin + 60) for begin in range(0, len(X), 60)]
    host, device, changing = (mixture() for _ in range(3))
    for number, part in enumerate(parts):
        for fitted, module in (
            (host, np),
            (device, device_cupy),
            (changing, device_cupy if number % 2 else np),
        ):
            own = module.asarray(weight[part]) if weighted else None
            fitted.partial_fit(module.asarray(X[part]), sample_weight=own)
        if number == 0:  # collected, on the host
            assert isinstance(device._collected[0], np.ndarray)
            assert not names_the_device(device)
            with pytest.raises(NotFittedError, match="has collected"):
                device.predict(device_cupy.asarray(X))
    for fitted in (device, changing):
        close(fitted.parameters_, host.parameters_, FITTED)
        assert (fitted.n_steps_, fitted.n_samples_seen_) == (host.n_steps_, host.n_samples_seen_)
        close(fitted._statistics, host._statistics, FITTED)


def test_a_buffer_of_a_stream_may_be_used_again(device_cupy):
    X, _ = data()
    buffer = device_cupy.asarray(X[:60])
    fitted = mixture().partial_fit(buffer)
    buffer[:] = 0.0
    np.testing.assert_array_equal(fitted._collected[0], X[:60])


def test_a_batch_on_the_device_without_weight_is_refused(device_cupy):
    X, weight = (device_cupy.asarray(own) for own in data())
    with pytest.raises(ValueError, match="no row of this batch has weight"):
        mixture().partial_fit(X, sample_weight=0.0 * weight)


def test_pickles_and_clones_hold_nothing_of_the_device(device_cupy):
    X, weight = (device_cupy.asarray(own) for own in data())
    fitted = mixture(acceleration=None).fit(X, sample_weight=weight)
    for part in (fitted, fitted._record):  # with the steps that a pickle leaves out
        assert not names_the_device(part)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.means_, fitted.means_)
    close([clone(fitted).fit(X, sample_weight=weight).means_], [fitted.means_], 1e-15)


def test_a_fit_that_fails_leaves_the_last_one(device_cupy):
    X, _ = data()
    X_device = device_cupy.asarray(X)
    fitted = mixture().fit(X_device)
    before = fitted.means_
    X_device[7, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(X_device)
    assert fitted.means_ is before


def test_callbacks_are_shown_the_rows_where_they_are(device_cupy):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from version 1.9")
    from stand_ins import ShownRows

    X, weight = (device_cupy.asarray(own) for own in data())
    callback = ShownRows()
    fitted = mixture().set_callbacks(callback).fit(X, sample_weight=weight)
    assert fitted.n_iter_ > 1 and len(callback.shown) > fitted.n_iter_
    for rows, metadata in callback.shown:
        assert isinstance(rows, device_cupy.ndarray)
        assert isinstance(metadata["sample_weight"], device_cupy.ndarray)


def test_verbose_fits_print_as_on_the_host(device_cupy, capsys):
    X, _ = data()
    mixture(verbose=1).fit(X)
    expected = capsys.readouterr().out
    mixture(verbose=1).fit(device_cupy.asarray(X))
    assert capsys.readouterr().out == expected
