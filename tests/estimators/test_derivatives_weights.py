"""Derivatives of weighted fits: rows of weight zero are left out, and units of weights cancel."""

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_modes = pytest.mark.parametrize("mode", ["implicit", "unrolled", "one_step"])


def data(n=90):
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    return means[rng.integers(3, size=n)] + rng.normal(size=(n, 2))


def fitted(X, sample_weight, kind="full", **params):
    params = {"residual_tol": 1e-11, "random_state": 0, "reg_covar": 1e-3} | params
    params.setdefault("acceleration", None)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, **params)
    return mixture.fit(X, sample_weight=sample_weight)


def cotangent_of(mixture):
    return naive.random_cotangent(np.random.default_rng(6), mixture.parameters_)


def assert_same_bits(a, b):
    for ours, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(ours, other)


@pytest.mark.parametrize("far", [1e6, 1e160, 1.7e308])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 1.5},
        {"e_step": "sinkhorn"},
        {"acceleration": "anderson"},
        {"acceleration": "newton"},
    ],
    ids=["plain", "temperature", "sinkhorn", "anderson", "newton"],
)
@all_modes
@all_types
def test_rows_of_weight_zero_are_left_out_of_every_derivative(kind, mode, params, far):
    if mode == "unrolled" and "acceleration" in params:
        pytest.skip("refused, with or without such rows")
    X, weight = data(), np.random.default_rng(1).uniform(0.5, 2.0, size=90)
    weight[::4] = 0.0
    here = weight > 0
    X[::4] = far
    X[::8, 1] *= -1.0
    mixture = fitted(X, weight, kind, **params)
    present = fitted(X[here], weight[here], kind, **params)
    cotangent = cotangent_of(mixture)
    options = {"mode": mode, "sample_weight": weight}
    expected = present.vjp(X[here], cotangent, mode=mode, sample_weight=weight[here])
    gradients = mixture.vjp(X, cotangent, **options)
    for gradient in (gradients.data, mixture.gradient_wrt_data(X, cotangent, **options)):
        np.testing.assert_array_equal(gradient[here], expected.data)
        np.testing.assert_array_equal(gradient[~here], 0.0)
    np.testing.assert_array_equal(gradients.sample_weight[here], expected.sample_weight)
    assert np.isfinite(gradients.sample_weight).all()
    tangent = np.random.default_rng(2).normal(size=X.shape)
    assert_same_bits(
        mixture.jvp(X, tangent, **options),
        present.jvp(X[here], tangent[here], mode=mode, sample_weight=weight[here]),
    )


@pytest.mark.parametrize("e_step", ["softmax", "sinkhorn"])
@all_modes
@all_types
def test_a_first_bit_of_weight_has_the_gradient_of_a_little_weight(kind, mode, e_step):
    X, little = data(), np.ones(90)
    X[::4] *= 3.0
    little[::4] = 1e-13
    weight = np.where(little < 1, 0.0, little)
    mixture = fitted(X, weight, kind, e_step=e_step)
    cotangent = cotangent_of(mixture)
    gradient = mixture.vjp(X, cotangent, mode=mode, sample_weight=weight)
    nearby = fitted(X, little, kind, e_step=e_step)
    expected = nearby.vjp(X, cotangent, mode=mode, sample_weight=little)
    scale = np.abs(expected.sample_weight).max()
    np.testing.assert_allclose(
        gradient.sample_weight, expected.sample_weight, rtol=1e-7, atol=1e-7 * scale
    )
    # and the push forward is its transpose
    X_dot = np.random.default_rng(3).normal(size=X.shape)
    weight_dot = np.random.default_rng(4).normal(size=90)
    weight_dot[::8] = 0.0
    tangent = mixture.jvp(
        X, X_dot, mode=mode, sample_weight=weight, sample_weight_tangent=weight_dot
    )
    pulled = (gradient.data * X_dot).sum() + gradient.sample_weight @ weight_dot
    pushed = sum((a * b).sum() for a, b in zip(tangent, cotangent, strict=True))
    assert pushed == pytest.approx(pulled, rel=1e-6)


@pytest.mark.parametrize("exponent", [-1060, -1000, 60, 1015])
@all_modes
@all_types
def test_units_of_weights_cancel(kind, mode, exponent):
    """1015: the sum overflows; -1060: weights below the least normal number."""
    X = data()
    weight = np.random.default_rng(1).integers(1, 255, size=90).astype(float)
    scaled = np.ldexp(weight, exponent)
    mixture = fitted(X, weight, kind)
    same = fitted(X, scaled, kind)
    cotangent = cotangent_of(mixture)
    plain = mixture.vjp(X, cotangent, mode=mode, sample_weight=weight)
    gradient = same.gradient_wrt_data(X, cotangent, mode=mode, sample_weight=scaled)
    np.testing.assert_array_equal(gradient, plain.data)
    if exponent == -1060:
        with pytest.raises(ValueError, match="derivative in the weight of row .* overflows"):
            same.vjp(X, cotangent, mode=mode, sample_weight=scaled)
    else:
        other = same.vjp(X, cotangent, mode=mode, sample_weight=scaled)
        expected = np.ldexp(plain.sample_weight, -exponent)
        np.testing.assert_array_equal(other.sample_weight, expected)
    weight_dot = np.random.default_rng(4).integers(-99, 99, size=90).astype(float)
    assert_same_bits(
        same.jvp(
            X,
            X,
            mode=mode,
            sample_weight=scaled,
            sample_weight_tangent=np.ldexp(weight_dot, exponent),
        ),
        mixture.jvp(X, X, mode=mode, sample_weight=weight, sample_weight_tangent=weight_dot),
    )


@pytest.mark.parametrize("mode", ["implicit", "one_step"])
@all_types
def test_a_derivative_that_overflows_is_an_error_and_a_weight_of_zero_the_cure(kind, mode):
    X = np.concatenate([data(), [[1e160, -1e160]]])
    weight = np.append(np.ones(90), 0.0)
    mixture = fitted(X, weight, kind)
    cotangent = cotangent_of(mixture)
    for derivative in (
        lambda: mixture.vjp(X, cotangent, mode=mode),
        lambda: mixture.gradient_wrt_data(X, cotangent, mode=mode),
        lambda: mixture.jvp(X, np.ones_like(X), mode=mode),
    ):
        with pytest.raises(ValueError, match="derivative overflows.*weight zero"):
            derivative()
    assert np.isfinite(mixture.vjp(X, cotangent, mode=mode, sample_weight=weight).data).all()


@all_types
def test_an_overflow_in_the_initial_parameters_alone_is_an_error_where_they_are_wanted(kind):
    X = 1e140 * data()
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
        mixture = fitted(X, None, kind, max_iter=1, reg_covar=0.0)
    cotangent = cotangent_of(mixture)
    with pytest.raises(ValueError, match="derivative overflows.*Scale the features"):
        mixture.vjp(X, cotangent, mode="unrolled")
    assert np.isfinite(mixture.gradient_wrt_data(X, cotangent, mode="unrolled")).all()
