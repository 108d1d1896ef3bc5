"""Derivatives of a mixture that was fitted to arrays on a CUDA device."""

import warnings

import naive
import numpy as np
import pytest
from device_data import D, K, close, data, fetched
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.plotting import ConvergenceDisplay

MODES = "implicit", "unrolled", "one_step"
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
RTOL = 1e-9


def mixture(kind="full", **options):
    defaults = {"residual_tol": 1e-11, "tol": 1e-9, "random_state": 0}
    return DifferentiableGaussianMixture(K, covariance_type=kind, **defaults | options)


def after_few_steps(rows, weight=None, **options):
    """A mixture on its way, of which steps can be unrolled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture(acceleration=None, max_iter=6, **options).fit(rows, sample_weight=weight)


@all_types
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_are_those_of_the_host(device_cupy, kind, mode, weighted):
    X, weight = data(kind)
    rng = np.random.default_rng(1)
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=len(X))
    X_device, weight_device = device_cupy.asarray(X), device_cupy.asarray(weight)
    options = {"sample_weight": weight_device if weighted else None}
    if mode == "unrolled":
        fitted = after_few_steps(X_device, options["sample_weight"], kind=kind)
    else:
        fitted = mixture(kind).fit(X, sample_weight=weight if weighted else None)
    cotangent = naive.random_cotangent(rng, fitted.parameters_)
    found = []
    for module in (np, device_cupy):
        rows, own = module.asarray(X), module.asarray(weight)
        options = {"mode": mode, "sample_weight": own if weighted else None, "tol": 1e-9}
        back = fitted.vjp(rows, cotangent, **options)
        moved = fitted.jvp(
            rows,
            module.asarray(X_dot),
            sample_weight_tangent=module.asarray(weight_dot),
            **options,
        )
        gradients = [back.data, back.sample_weight]
        if module is device_cupy:
            alone = fetched(module, fitted.gradient_wrt_data(rows, cotangent, **options), X)
            gradients = [
                fetched(module, own, like) for own, like in zip(gradients, (X, weight), strict=True)
            ]
            np.testing.assert_array_equal(alone, gradients[0])
            np.testing.assert_array_equal(rows.get(), X)
            np.testing.assert_array_equal(own.get(), weight)
            # the pair of derivatives, on the device
            there = naive.inner_product(cotangent, moved)
            here = (gradients[0] * X_dot).sum() + gradients[1] @ weight_dot
            assert here == pytest.approx(there, rel=1e-8, abs=1e-8)
        found.append([*gradients, *moved, *(back.initial_parameters or ())])
    close(found[1], found[0], RTOL)


@pytest.mark.parametrize("e_step", ["softmax", "sinkhorn"])
@pytest.mark.parametrize("temperature", [1.0, [4.0, 2.0], 1e4])
def test_derivatives_of_other_e_steps_are_those_of_the_host(device_cupy, e_step, temperature):
    X, weight = data()
    options = {"e_step": e_step, "temperature": temperature, "reg_covar": 0.1}
    fitted = after_few_steps(X, weight, **options)
    cotangent = naive.random_cotangent(np.random.default_rng(2), fitted.parameters_)
    found = []
    for module in (np, device_cupy):
        rows, own = module.asarray(X), module.asarray(weight)
        back = fitted.vjp(rows, cotangent, mode="one_step", sample_weight=own)
        moved = fitted.jvp(
            rows, rows, mode="one_step", sample_weight=own, sample_weight_tangent=own
        )
        gradients = back.data, back.sample_weight
        if module is device_cupy:
            gradients = (own.get() for own in gradients)
        found.append([*gradients, *moved])
    close(found[1], found[0], RTOL)


@pytest.mark.parametrize("mode", MODES)
def test_single_precision_stays_so(device_cupy, mode):
    X, weight = data(dtype=np.float32)
    X_device = device_cupy.asarray(X)
    fitted = after_few_steps(X_device) if mode == "unrolled" else mixture().fit(X_device)
    cotangent = naive.random_cotangent(np.random.default_rng(2), fitted.parameters_)
    expected = fitted.vjp(X, cotangent, mode=mode)
    found = fitted.vjp(X_device, cotangent, mode=mode)
    close([fetched(device_cupy, found.data, X)], [expected.data], 1e-6)
    assert found.sample_weight.dtype == np.float32
    moved = fitted.jvp(X_device, X_device, mode=mode)
    assert all(part.dtype == np.float32 for part in moved)
    close(moved, fitted.jvp(X, X, mode=mode), 1e-6)


def test_rows_of_weight_zero_far_away_do_no_harm(device_cupy):
    """They are in no sum; gradients in their weights are those on the host."""
    X, weight = data()
    idle = np.flatnonzero(weight == 0)
    X[idle[0]], X[idle[1]] = 1e160, -1e300
    X_device, weight_device = device_cupy.asarray(X), device_cupy.asarray(weight)
    fitted = mixture().fit(X, sample_weight=weight)
    cotangent = None, np.ones((K, D)), None
    expected = fitted.vjp(X, cotangent, sample_weight=weight)
    found = fitted.vjp(X_device, cotangent, sample_weight=weight_device)
    close([found.data.get()], [expected.data], RTOL)
    np.testing.assert_allclose(found.sample_weight.get(), expected.sample_weight, rtol=1e-6)
    assert (found.data.get()[idle] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_is_written_where_it_is_wanted(device_cupy, dtype):
    X, _ = data()
    X = device_cupy.asarray(X)
    fitted = mixture().fit(X)
    out = device_cupy.zeros(X.shape, dtype)
    cotangent = None, np.ones((K, D)), None
    assert fitted.gradient_wrt_data(X, cotangent, out=out) is out
    expected = fitted.gradient_wrt_data(X, cotangent).get().astype(dtype)
    np.testing.assert_array_equal(out.get(), expected)


@all_types
def test_the_jacobian_is_on_the_device(device_cupy, kind):
    X, _ = data(kind, n=60)
    fitted = mixture(kind, reg_covar=0.1).fit(X)
    expected = fitted.jacobian_wrt_data(X)
    found = fitted.jacobian_wrt_data(device_cupy.asarray(X))
    parts = [fetched(device_cupy, own, like) for own, like in zip(found, expected, strict=True)]
    close(parts, expected, RTOL)
    assert repr(found) == repr(expected)


def test_steps_are_unrolled_on_the_data_of_the_fit_only(device_cupy):
    X, _ = data()
    X = device_cupy.asarray(X)
    fitted = after_few_steps(X)
    cotangent = None, np.ones((K, D)), None
    with pytest.raises(ValueError, match="must be given the data"):
        fitted.vjp(X + 1e-3, cotangent, mode="unrolled")


def test_residuals_of_steps_are_those_of_the_host(device_cupy):
    X, weight = data()
    fitted = after_few_steps(X, weight)
    expected = fitted._residuals(X, weight)
    X, weight = device_cupy.asarray(X), device_cupy.asarray(weight)
    # what a display draws
    found = fitted._residuals(X, weight)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    display = ConvergenceDisplay.from_estimator(
        fitted, X, sample_weight=weight, quantity="residual"
    )
    np.testing.assert_array_equal(display.residuals, found)
