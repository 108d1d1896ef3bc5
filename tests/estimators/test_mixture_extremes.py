"""Weights, rows and clusters at the limits of floating point."""

import numpy as np
import pytest

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_modes = pytest.mark.parametrize("mode", ["implicit", "unrolled", "one_step"])
COTANGENT = ([1.0, -1.0], [[1.0, 2.0], [0.5, -1.0]], None)


def clouds(n=100):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-2, 1, (n, 2)), rng.normal(2, 1, (n, 2))])


def fitted(X, kind, sample_weight=None, **options):
    options = {"residual_tol": 1e-9, "random_state": 0, **options}
    mixture = DifferentiableGaussianMixture(2, covariance_type=kind, **options)
    return mixture.fit(X, sample_weight=sample_weight)


# Rows without weight


@all_types
@all_modes
@pytest.mark.parametrize("far", [10.0, 1e8, 1e160, 1e308])
def test_rows_without_weight_are_in_no_derivative_however_far_they_lie(kind, mode, far):
    X, rng = clouds(), np.random.default_rng(1)
    weight = rng.uniform(0.5, 2.0, len(X))
    mixture = fitted(X, kind, weight)
    more = np.vstack([X[:50], [[far, -far]], X[50:]])
    weights = np.insert(weight, 50, 0.0)
    others = np.arange(len(more)) != 50
    again = fitted(more, kind, weights)
    np.testing.assert_array_equal(again.means_, mixture.means_)
    gradient = again.gradient_wrt_data(more, COTANGENT, mode=mode, sample_weight=weights)
    expected = mixture.gradient_wrt_data(X, COTANGENT, mode=mode, sample_weight=weight)
    np.testing.assert_array_equal(gradient[others], expected)
    np.testing.assert_array_equal(gradient[50], 0.0)
    direction, weight_direction = rng.normal(size=X.shape), rng.normal(size=len(X))
    pushed = again.jvp(
        more,
        np.insert(direction, 50, 1.0, axis=0),
        mode=mode,
        sample_weight=weights,
        sample_weight_tangent=np.insert(weight_direction, 50, 0.0),
    )
    alone = mixture.jvp(
        X, direction, mode=mode, sample_weight=weight, sample_weight_tangent=weight_direction
    )
    for part, own in zip(pushed, alone, strict=True):
        np.testing.assert_array_equal(part, own)


@pytest.mark.parametrize("options", [{}, {"temperature": 2.0}, {"e_step": "sinkhorn"}])
@all_types
def test_a_first_bit_of_weight_has_its_derivative(kind, options):
    """JVP and VJP in a weight that is zero, and a difference of fits."""
    X = np.vstack([clouds(), [[1.0, -3.0]]])
    weight = np.append(np.ones(len(X) - 1), 0.0)
    options = options | {"residual_tol": 1e-12, "max_iter": 20_000}
    mixture = fitted(X, kind, weight, **options)
    bit = np.append(np.zeros(len(X) - 1), 1.0)
    dot = mixture.jvp(X, 0 * X, sample_weight=weight, sample_weight_tangent=bit)
    bar = mixture.vjp(X, COTANGENT, sample_weight=weight).sample_weight
    forward = sum((np.asarray(a) * b).sum() for a, b in zip(COTANGENT[:2], dot, strict=False))
    assert bar[-1] == pytest.approx(forward, rel=1e-9)
    h = 1e-3
    start = {
        "weights_init": mixture.weights_,
        "means_init": mixture.means_,
        "precisions_init": mixture.precisions_,
    }
    moved = [fitted(X, kind, weight + t * bit, **options, **start).means_ for t in (h, 2 * h)]
    slope = (4 * moved[0] - moved[1] - 3 * mixture.means_) / (2 * h)
    np.testing.assert_allclose(dot.means, slope, atol=1e-5 * np.abs(dot.means).max())


@all_types
def test_a_derivative_in_a_weight_saturates_where_it_overflows(kind):
    X = np.vstack([clouds(), [[1e200, 0.0], [1.0, 1.0]]])
    weight = np.append(np.ones(len(X) - 2), [0.0, 0.0])
    mixture = fitted(X, kind, weight)
    bar = mixture.vjp(X, COTANGENT, sample_weight=weight).sample_weight
    assert np.isfinite(bar).all() and abs(bar[-2]) > 1e50
    others = np.arange(len(X)) != 200
    expected = mixture.vjp(X[others], COTANGENT, sample_weight=weight[others]).sample_weight
    np.testing.assert_array_equal(bar[others], expected)


def test_derivatives_in_weights_too_small_for_them_are_named():
    X, weight = clouds(), np.full(200, 5e-324)
    mixture = fitted(X, "full", weight)
    with pytest.raises(ValueError, match="weight of row .* overflows.*scale the weights"):
        mixture.vjp(X, (None, [[1e10, 0.0], [0.0, 0.0]], None), sample_weight=weight)


# Weights


@all_types
@pytest.mark.parametrize("unit", [5e-324, 2.0**-1060, 1e-300, 2.0**600, 1e306])
def test_a_unit_of_weights_changes_nothing(kind, unit):
    X = clouds()
    counts = np.random.default_rng(2).integers(1, 4, len(X)).astype(float)
    weight = counts * unit
    mixture, expected = fitted(X, kind, weight), fitted(X, kind, counts)
    # at 1e-300 and 1e306 products with the unit are rounded
    np.testing.assert_allclose(mixture.means_, expected.means_, rtol=1e-12)
    assert mixture.lower_bound_ == pytest.approx(expected.lower_bound_, rel=1e-12)
    score = mixture.score(X, sample_weight=weight)
    assert score == pytest.approx(expected.score(X, sample_weight=counts), rel=1e-12)
    for mode in ["implicit", "unrolled", "one_step"]:
        gradient = mixture.gradient_wrt_data(X, COTANGENT, mode=mode, sample_weight=weight)
        own = expected.gradient_wrt_data(X, COTANGENT, mode=mode, sample_weight=counts)
        np.testing.assert_allclose(gradient, own, atol=1e-7 * np.abs(own).max())


def test_ordinary_units_of_weights_keep_the_bits():
    X, weight = clouds(), np.random.default_rng(3).uniform(0.1, 3.0, 200)
    bits = [fitted(X, "full", unit * weight).means_ for unit in (1.0, 2.0**-100, 2.0**100)]
    np.testing.assert_array_equal(bits[1], bits[0])
    np.testing.assert_array_equal(bits[2], bits[0])


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**600])
def test_derivatives_in_weights_are_in_their_unit(unit):
    X = clouds()
    weight = np.random.default_rng(4).uniform(0.5, 2.0, len(X))
    scaled, plain = fitted(X, "full", unit * weight), fitted(X, "full", weight)
    bar = scaled.vjp(X, COTANGENT, sample_weight=unit * weight).sample_weight
    expected = plain.vjp(X, COTANGENT, sample_weight=weight).sample_weight
    np.testing.assert_allclose(bar * unit, expected, rtol=1e-9, atol=1e-14)
    moved = scaled.jvp(
        X, 0 * X, sample_weight=unit * weight, sample_weight_tangent=unit * weight**2
    )
    still = plain.jvp(X, 0 * X, sample_weight=weight, sample_weight_tangent=weight**2)
    np.testing.assert_allclose(moved.means, still.means, rtol=1e-9)


def test_counts_that_overflow_are_refused_where_they_count():
    X = clouds()
    weight = np.full(len(X), 1e306)
    mixture = fitted(X, "full", weight)
    for criterion in (mixture.aic, mixture.bic, mixture.icl):
        with pytest.raises(ValueError, match="sample_weight: their sum overflows"):
            criterion(X, sample_weight=weight)


# Clusters


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
@pytest.mark.parametrize("apart, offset", [(1e9, 0.0), (1e9, 1e8), (1e3, 1e8), (10.0, 1e8)])
def test_tied_fits_start_where_clusters_lie_far_apart(init_params, apart, offset):
    rng = np.random.default_rng(5)
    means = offset + apart * np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.1]])
    X = np.concatenate([rng.normal(mean, 1.0, (100, 2)) for mean in means])
    mixture = DifferentiableGaussianMixture(
        3, covariance_type="tied", init_params=init_params, random_state=0
    ).fit(X)
    order = np.argsort(mixture.means_ @ [1.0, -3.0])[::-1]
    expected = np.array([X[k : k + 100].mean(axis=0) for k in (0, 200, 100)])
    if apart > 10:
        found = mixture.means_[np.argsort(mixture.means_ @ [1.0, 2.0])]
        expected = expected[np.argsort(expected @ [1.0, 2.0])]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(mixture.covariances_, np.eye(2), atol=0.2)
    assert mixture.converged_ and len(order) == 3


@all_types
def test_squares_that_overflow_are_named(kind):
    X = clouds() * 1e160
    with pytest.raises(ValueError, match=r"X: features reach .* overflow. Scale the features"):
        fitted(X, kind)


@pytest.mark.parametrize("tol", [np.nan, 0.0, -1.0, np.inf, "1e-6", True])
def test_tolerances_of_derivatives_are_checked(tol):
    X = clouds()
    mixture = fitted(X, "full")
    for call in (
        lambda: mixture.gradient_wrt_data(X, COTANGENT, tol=tol),
        lambda: mixture.vjp(X, COTANGENT, tol=tol),
        lambda: mixture.jvp(X, X, tol=tol),
        lambda: mixture.jacobian_wrt_data(X, tol=tol),
    ):
        with pytest.raises(ValueError, match="tol must be a positive and finite number"):
            call()
