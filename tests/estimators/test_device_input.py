"""What is checked of arrays on a device: that they are numbers, and that all lie on one side."""

import sys
import types
import warnings

import numpy as np
import pandas as pd
import pytest
from device_data import D, close, data
from sklearn.exceptions import NotFittedError

from skgmmot import ChunkedRows, DifferentiableGaussianMixture
from skgmmot.samples.rows import in_chunks

MOVES = {"vjp": "cotangent", "gradient_wrt_data": "cotangent", "jvp": "tangent"}


class Foreign:
    """An array of another library on the device; ``__dlpack_device__`` is all that some have."""

    def __init__(self, array, *names):
        for name in names:
            setattr(self, name, getattr(array, name))


def mixture(**options):
    return DifferentiableGaussianMixture(3, random_state=0, **options)


def asked(fitted, name, X, **options):
    """What a method says of X, with a direction if it takes one."""
    if name == "jvp":
        return fitted.jvp(X, X, **options)
    if name in MOVES:
        return getattr(fitted, name)(X, fitted.parameters_, **options)
    return getattr(fitted, name)(X, **options)


METHODS = (
    "fit", "fit_predict", "partial_fit", "predict", "predict_proba", "score_samples", "score",
    "free_energy", "aic", "bic", "icl", "vjp", "gradient_wrt_data", "jvp", "jacobian_wrt_data",
)  # fmt: skip
WITH_WEIGHTS = [name for name in METHODS if not name.startswith(("predict", "score_samples"))]


@pytest.fixture
def rows(device_cupy):
    """Rows on the device, their weights, and a mixture of them."""
    X, weight = (device_cupy.asarray(own) for own in data())
    return X, weight, mixture(residual_tol=1e-9).fit(X)


@pytest.fixture
def stands_in(request):
    """Skips what needs another device than there is, where there is one."""
    if request.config.getoption("--on-device"):
        pytest.skip("CuPy itself cannot be told what devices there are.")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (lambda X: X[:, 0], "Expected 2D array, got 1D array"),
        (lambda X: X[None], "Expected 2D array, got 3D array"),
        (lambda X: X[:0], "Found array with 0 sample"),
        (lambda X: X[:, :0], "Found array with 0 feature"),
        (lambda X: X.astype(np.complex128), "X must hold real numbers; its dtype is complex128"),
        (lambda X: X + np.nan, "X contains NaN or infinity, first in row 0"),
        (lambda X: X / 0.0, "X contains NaN or infinity"),
    ],
    ids=["1D", "3D", "no rows", "no features", "complex", "NaN", "infinite"],
)
def test_rows_that_cannot_be_used_are_refused(rows, name, spoil, complaint):
    X, _, fitted = rows
    with pytest.raises(ValueError, match=complaint):
        asked(fitted, name, spoil(X))


def test_one_row_that_is_infinite_is_named(rows):
    X, _, fitted = rows
    X[17, 1] = -np.inf
    with pytest.raises(ValueError, match="first in row 17"):
        fitted.predict(X)


def test_large_finite_rows_whose_sum_overflows_are_no_error(device_cupy):
    X = device_cupy.full((4, 2), 3e38, dtype=np.float32)
    theta = np.ones(1), np.zeros((1, 2)), np.ones(1)
    fitted = DifferentiableGaussianMixture.from_parameters(*theta, covariance_type="spherical")
    assert fitted.predict(X).get().tolist() == [0] * 4


def test_numbers_of_features_and_of_samples_are_checked(rows, device_cupy):
    X, _, fitted = rows
    with pytest.raises(ValueError, match="X has 2 features, but DifferentiableGaussianMixture"):
        fitted.predict(X[:, :2])
    with pytest.raises(ValueError, match="at least n_components=3 samples"):
        mixture().fit(X[:2])
    with pytest.raises(ValueError, match="a minimum of 2 is required by Differentiable"):
        mixture().fit(X[:1])
    with pytest.raises(NotFittedError):
        mixture().predict(X)


def test_names_of_features_are_those_of_the_fit(device_cupy):
    X, _ = data()
    fitted = mixture().fit(pd.DataFrame(X, columns=["a", "b", "c"]))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        fitted.predict(device_cupy.asarray(X))
    assert not hasattr(fitted.fit(device_cupy.asarray(X)), "feature_names_in_")


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_, np.float16])
def test_other_numbers_become_float64_on_the_device(device_cupy, dtype):
    X = (10 * data()[0]).astype(dtype)
    options = {"reg_covar": 0.1, "max_iter": 5, "residual_tol": np.inf, "tol": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # k-means finds fewer booleans than clusters
        host = mixture(**options).fit(X)
        device = mixture(**options).fit(device_cupy.asarray(X))
    assert device.means_.dtype == np.float64
    close(device.parameters_, host.parameters_, 1e-8)
    found = device.score_samples(device_cupy.asarray(X))
    assert found.dtype == np.float64
    close([found.get()], [device.score_samples(X)], 1e-10)


@pytest.mark.parametrize("spoil", [lambda X: X[::2], lambda X: X[:, ::-1], lambda X: X.T.copy().T])
def test_rows_that_are_not_contiguous_are_copied_on_the_device(device_cupy, device_traffic, spoil):
    X, _ = data()
    expected = mixture(init_size=50).fit(np.ascontiguousarray(spoil(X)))
    given = spoil(device_cupy.asarray(X))
    device_traffic.clear()
    found = mixture(init_size=50).fit(given)
    assert max(size for _, size in device_traffic) <= 50 * D * 8
    close(found.parameters_, expected.parameters_, 1e-8)


@pytest.mark.parametrize(
    "names",
    [("__dlpack__", "__dlpack_device__"), ("__cuda_array_interface__",)],
    ids=["dlpack", "interface"],
)
def test_arrays_of_other_libraries_are_taken_where_they_are(
    rows, device_cupy, device_traffic, names
):
    X, weight, fitted = rows
    foreign, own_weight = (Foreign(array, *names) for array in (X, weight))
    device_traffic.clear()
    again = mixture(residual_tol=1e-9, init_size=50).fit(foreign, sample_weight=own_weight)
    assert max(size for _, size in device_traffic) <= 50 * D * 8
    assert isinstance(again.predict(foreign), device_cupy.ndarray)
    expected = fitted.vjp(X, fitted.parameters_, sample_weight=weight, mode="one_step")
    found = fitted.vjp(foreign, fitted.parameters_, sample_weight=own_weight, mode="one_step")
    np.testing.assert_array_equal(found.data.get(), expected.data.get())
    np.testing.assert_array_equal(fitted.jvp(foreign, foreign).means, fitted.jvp(X, X).means)


# Weights and directions


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_weights_on_the_other_side_are_refused(rows, name):
    X, weight, fitted = rows
    with pytest.raises(ValueError, match=r"X is on a CUDA device, sample_weight is not. Pass cupy"):
        asked(fitted, name, X, sample_weight=weight.get())
    with pytest.raises(ValueError, match=r"sample_weight is on a CUDA device, X is not. Pass cupy"):
        asked(fitted, name, X.get(), sample_weight=weight)


def test_weights_on_the_device_do_not_go_with_chunks(rows):
    X, weight, fitted = rows
    chunks = ChunkedRows([X.get(), X.get()])
    with pytest.raises(ValueError, match="sample_weight is on a CUDA device, X is not"):
        fitted.fit(chunks, sample_weight=weight)


@pytest.mark.parametrize("name", ["fit", "score", "vjp", "partial_fit"])
@pytest.mark.parametrize(
    "spoil, complaint",
    [
        (lambda weight: weight[1:], "sample_weight must have shape"),
        (lambda weight: weight[:, None], "sample_weight must have shape"),
        (lambda weight: weight - 1.0, "must not be negative"),
        (lambda weight: weight * np.nan, "sample_weight contains NaN or infinity"),
        (lambda weight: weight.astype(complex), "sample_weight must hold real numbers"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(rows, name, spoil, complaint):
    X, weight, fitted = rows
    with pytest.raises(ValueError, match=complaint):
        asked(fitted, name, X, sample_weight=spoil(weight))
    if name != "partial_fit":
        with pytest.raises(ValueError, match="at least one weight must be positive"):
            asked(fitted, name, X, sample_weight=0.0 * weight)


def test_one_number_is_the_weight_of_all(rows, device_cupy):
    X, _, fitted = rows
    expected = fitted.bic(X.get(), sample_weight=2.0)
    assert fitted.bic(X, sample_weight=2.0) == pytest.approx(expected, rel=1e-12)
    assert fitted.bic(X, sample_weight=2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("unit", [2.0**-1000, 2.0**1015])
def test_weights_in_extreme_units_are_as_on_the_host(device_cupy, unit):
    X, weight = data()
    X_device, weight_device = device_cupy.asarray(X), device_cupy.asarray(unit * weight)
    host = mixture(residual_tol=1e-10).fit(X, sample_weight=weight)
    device = mixture(residual_tol=1e-10).fit(X_device, sample_weight=weight_device)
    close(device.parameters_, host.parameters_, 1e-8)
    assert device.score(X_device, sample_weight=weight_device) == pytest.approx(
        host.score(X, sample_weight=weight), rel=1e-10
    )
    expected = device.vjp(X, device.parameters_, sample_weight=unit * weight)
    found = device.vjp(X_device, device.parameters_, sample_weight=weight_device)
    close([found.data.get()], [expected.data], 1e-8)
    close([found.sample_weight.get()], [expected.sample_weight], 1e-8)
    direction = unit * np.random.default_rng(1).normal(size=len(X))
    expected = device.jvp(X, X, sample_weight=unit * weight, sample_weight_tangent=direction)
    direction = device_cupy.asarray(direction)
    found = device.jvp(
        X_device, X_device, sample_weight=weight_device, sample_weight_tangent=direction
    )
    close(found, expected, 1e-8)


def test_a_derivative_in_weights_that_overflows_is_refused(device_cupy):
    X, weight = data()
    weight *= 2.0**-1040
    X_device, weight_device = device_cupy.asarray(X), device_cupy.asarray(weight)
    fitted = mixture(residual_tol=1e-9).fit(X_device, sample_weight=weight_device)
    for rows, own in ((X, weight), (X_device, weight_device)):
        with pytest.raises(ValueError, match="the derivative in the weight of row 0 overflows"):
            fitted.vjp(rows, fitted.parameters_, sample_weight=own)
        fitted.gradient_wrt_data(rows, fitted.parameters_, sample_weight=own)


@pytest.mark.parametrize("argument", ["tangent", "sample_weight_tangent"])
def test_directions_that_cannot_be_used_are_refused(rows, argument):
    X, weight, fitted = rows
    options = {"tangent": X, "sample_weight_tangent": weight}
    good = options[argument]
    for direction, complaint in (
        (good.get(), f"X is on a CUDA device, {argument} is not. Pass cupy.asarray"),
        (good[1:], f"{argument} must have shape"),
        (good * np.nan, f"{argument} contains NaN or infinity"),
        (good.astype(complex), f"{argument} must hold real numbers"),
    ):
        with pytest.raises(ValueError, match=complaint):
            fitted.jvp(X, **options | {argument: direction})
    with pytest.raises(ValueError, match=f"{argument} is on a CUDA device, X is not. Pass cupy"):
        fitted.jvp(X.get(), **{"tangent": X.get(), argument: good})


def test_a_place_for_the_gradient_lies_beside_the_rows(rows):
    X, _, fitted = rows
    with pytest.raises(ValueError, match="X is on a CUDA device, out is not"):
        fitted.gradient_wrt_data(X, fitted.parameters_, out=np.zeros(X.shape))
    with pytest.raises(ValueError, match="out is on a CUDA device, X is not"):
        fitted.gradient_wrt_data(X.get(), fitted.parameters_, out=X)
    with pytest.raises(ValueError, match="out must have the shape of X"):
        fitted.gradient_wrt_data(X, fitted.parameters_, out=X[1:])


# Devices


def test_another_device_is_made_the_current_one(rows, device_cupy, stands_in, monkeypatch):
    X, weight, fitted = rows
    current = []
    device = device_cupy.cuda.Device
    monkeypatch.setattr(device, "__enter__", lambda self: current.append(self.id))
    monkeypatch.setattr(device, "__exit__", lambda self, *error: current.pop())
    monkeypatch.setattr(type(X), "device", property(lambda self: device(1)))
    inside = type(X).astype
    seen = []

    def astype(self, *args, **kwargs):
        seen.append(list(current))
        return inside(self, *args, **kwargs)

    monkeypatch.setattr(type(X), "astype", astype)
    for name in METHODS:
        if name != "jacobian_wrt_data":
            asked(fitted, name, X)
            assert not current
    stack = device_cupy.stack
    monkeypatch.setattr(
        device_cupy, "stack", lambda arrays: (seen.append([*current]), stack(arrays))[1]
    )
    fitted.jacobian_wrt_data(X[:5], mode="one_step")
    assert seen and all(devices[-1:] == [1] for devices in seen)


def test_arrays_on_two_devices_are_refused(rows, device_cupy, stands_in, monkeypatch):
    X, weight, fitted = rows
    device = device_cupy.cuda.Device
    place = property(lambda self: device(0 if self.ndim == 2 else 1))
    monkeypatch.setattr(type(X), "device", place)
    with pytest.raises(ValueError, match="X is on CUDA device 0, sample_weight on 1"):
        fitted.score(X, sample_weight=weight)


@pytest.mark.parametrize("name", ["fit", "predict_proba", "score", "vjp", "jvp", "partial_fit"])
def test_a_device_without_memory_says_what_helps(rows, device_cupy, stands_in, name):
    X, _, fitted = rows
    device_cupy.get_default_memory_pool().set_limit(100)
    with pytest.raises(MemoryError, match="X, which takes 0.00687 MiB.*ChunkedRows"):
        asked(fitted, name, X)


def test_chunks_are_on_the_host(rows, device_cupy):
    X, _, _ = rows
    for given in (X, [X], [X.get(), X], Foreign(X, "__cuda_array_interface__")):
        with pytest.raises(ValueError, match="is on a CUDA device. Pass cupy.asnumpy"):
            ChunkedRows(given)
    assert in_chunks(X) is X


# Machines without CuPy, or without a device


class Tensor:
    """What another library has on a device."""

    __cuda_array_interface__ = {"shape": (4, 2), "typestr": "<f8", "data": (0, False), "version": 3}
    shape, ndim = (4, 2), 2


def test_without_cupy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"Install skgmmot\[cuda12\] or skgmmot\[cuda13\]"):
        mixture().fit(Tensor())
    fitted = mixture().fit(data()[0])
    with pytest.raises(ImportError, match=r"skgmmot\[cuda12\]"):
        fitted.predict(Tensor())


def test_without_a_device_it_says_so(device_cupy, stands_in, monkeypatch):
    none = types.SimpleNamespace(**vars(device_cupy.cuda.runtime))
    monkeypatch.setattr(device_cupy.cuda, "runtime", none)
    none.getDeviceCount = lambda: 0
    with pytest.raises(RuntimeError, match="No CUDA device is visible"):
        mixture().fit(Tensor())

    def fail():
        raise none.CUDARuntimeError(35)

    none.getDeviceCount = fail
    with pytest.raises(RuntimeError, match="CuPy reaches no CUDA device"):
        mixture().fit(Tensor())


def test_cupy_is_not_imported_for_arrays_of_the_host(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    X, weight = data()
    fitted = mixture().fit(X, sample_weight=weight)
    fitted.vjp(X, fitted.parameters_, sample_weight=weight)
    assert "cupy" not in sys.modules
