"""What a fit does when components collapse or lose their mass: it says so, and nothing is NaN."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import em_step
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]


def two_clouds(n_samples=200):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_samples, 2)) + np.repeat([[0.0], [6.0]], n_samples // 2, axis=0)


def square():
    """Clouds in three corners of a square, and one and the same point in the fourth.

    k-means with three clusters takes two corners together; where these are two clouds, the third
    cluster is a component of no extent.
    """
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(40, 2)) + corner for corner in ([0, 0], [12, 0], [0, 12])]
    return np.concatenate([*clouds, np.full((40, 2), 12.0)])


def precisions(kind, *values):
    """Multiples of the identity; tied takes the first."""
    values = np.array(values, dtype=float)
    return {
        "full": values[:, None, None] * np.eye(2),
        "tied": values[0] * np.eye(2),
        "diag": values[:, None] * np.ones(2),
        "spherical": values,
    }[kind]


def assert_finite(mixture, X):
    for name in FITTED:
        assert np.isfinite(getattr(mixture, name)).all(), name
    assert np.isfinite([mixture.residual_, mixture.lower_bound_, *mixture.lower_bounds_]).all()
    for name in ["predict_proba", "score_samples", "bic", "icl"]:
        assert np.isfinite(getattr(mixture, name)(X)).all(), name
    np.testing.assert_allclose(mixture.weights_.sum(), 1, rtol=1e-6)
    K, d = mixture.means_.shape
    gradient = mixture.gradient_wrt_data(
        X, (np.ones(K), np.ones((K, d)), np.ones((K, d, d))), mode="one_step"
    )
    assert np.isfinite(gradient).all()


# Collapse


@pytest.mark.parametrize("kind", TYPES)
def test_collapse_is_an_error_that_names_component_and_cure(kind):
    X = np.repeat([[0.0, 0.0], [4.0, 4.0]], [30, 20], axis=0)
    mixture = DifferentiableGaussianMixture(
        2, covariance_type=kind, reg_covar=0, means_init=X[[0, -1]]
    )
    which = "tied covariance" if kind == "tied" else "covariance of component 0, 1"
    with pytest.raises(ValueError, match=f"{which} is not positive definite.*reg_covar"):
        mixture.fit(X)
    assert not hasattr(mixture, "means_")
    mixture.set_params(reg_covar=1e-3).fit(X)
    np.testing.assert_allclose(mixture.means_, X[[0, -1]], atol=1e-12)


def test_only_the_guilty_component_is_named():
    mixture = DifferentiableGaussianMixture(
        2,
        reg_covar=0,
        weights_init=[0.5, 0.5],
        means_init=[[12.0, 12.0], [0.0, 0.0]],
        precisions_init=precisions("full", 1.0, 0.1),
    )
    with pytest.raises(ValueError, match="covariance of component 0 is not"):
        mixture.fit(square())


def test_constant_feature_is_among_the_suspects():
    x = np.random.default_rng(0).normal(size=(50, 1))
    with pytest.raises(ValueError, match="features are collinear"):
        DifferentiableGaussianMixture(reg_covar=0).fit(np.c_[x, np.ones(50)])


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_collinear_features_are_told_or_fitted(kind):
    """The covariance is singular but for rounding, which may go either way."""
    refused = 0
    for seed in range(20):
        x = np.random.default_rng(seed).normal(size=(20, 1))
        mixture = DifferentiableGaussianMixture(covariance_type=kind, reg_covar=0)
        try:
            with warnings.catch_warnings():
                # a likelihood that is all rounding may not settle, which is told as well
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(np.c_[x, x])
            assert_finite(mixture, np.c_[x, x])
        except ValueError as error:
            assert "is not positive definite" in str(error) and "collinear" in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_failed_restarts_are_skipped_with_a_warning(kind):
    X = square()
    options = {"covariance_type": kind, "reg_covar": 0}
    state, good, bad = np.random.RandomState(0), [], 0
    for _ in range(8):
        mixture = DifferentiableGaussianMixture(3, random_state=state, **options)
        try:
            good.append(mixture.fit(X))
        except ValueError:
            bad += 1
    assert good and bad
    with pytest.warns(ConvergenceWarning, match=f"{bad} of 8 restarts failed.*not positive def"):
        mixture = DifferentiableGaussianMixture(3, n_init=8, random_state=0, **options).fit(X)
    best = max(good, key=lambda one: one.lower_bound_)
    np.testing.assert_array_equal(mixture.means_, best.means_)
    assert_finite(mixture, X)


@pytest.mark.parametrize("kind", TYPES)
def test_collapse_far_from_the_start_is_that_error_too(kind):
    """Variances of zero, at a distance whose square over the least number overflows."""
    mixture = DifferentiableGaussianMixture(
        covariance_type=kind,
        reg_covar=0,
        weights_init=[1],
        means_init=[[0.0, 0.0]],
        precisions_init=precisions(kind, 1.0),
    )
    with pytest.raises(ValueError, match="is not positive definite"):
        mixture.fit(np.full((20, 2), 1e6))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_variances_that_single_precision_cannot_hold(kind, scale):
    """The data are float32 numbers, their squares are not: an error, or else finite parameters."""
    X = (two_clouds() * scale).astype(np.float32)
    mixture = DifferentiableGaussianMixture(
        covariance_type=kind, reg_covar=0, init_params="random", random_state=0
    )
    try:
        mixture.fit(X)
    except ValueError:
        return
    assert_finite(mixture, X)


@pytest.mark.parametrize("kind", TYPES)
def test_means_that_vanish_in_single_precision_are_zero(kind):
    """As that of a feature which is zero in a cluster, and not in another one far away."""
    X = two_clouds().astype(np.float32)
    start = {"means_init": [[1e-60, 0.0], [4.0, 4.0]], "weights_init": [0.5, 0.5]}
    for precision in (1.0, 1e60):
        mixture = DifferentiableGaussianMixture(
            2,
            covariance_type=kind,
            max_iter=0,
            precisions_init=precisions(kind, precision, precision),
            **start,
        )
        if precision == 1.0:
            assert mixture.fit(X).means_[0, 0] == 0
        else:
            with pytest.raises(ValueError, match="covariances_ holds numbers that are too"):
                mixture.fit(X)


def test_if_all_restarts_fail_there_is_an_error():
    X = np.repeat([[0.0, 0.0], [4.0, 4.0]], [30, 20], axis=0)
    mixture = DifferentiableGaussianMixture(2, reg_covar=0, n_init=3, random_state=0)
    with pytest.raises(ValueError, match="component 0, 1 is not positive definite"):
        mixture.fit(X)


def test_failed_fit_keeps_the_last_one():
    mixture = DifferentiableGaussianMixture(reg_covar=0).fit(two_clouds())
    before = mixture.means_.copy()
    with pytest.raises(ValueError, match="not positive definite"):
        mixture.fit(np.zeros((10, 2)))
    np.testing.assert_array_equal(mixture.means_, before)


# Lost components


@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_component_that_loses_all_its_mass_stays_where_it_is(kind, fixed_weights):
    X = two_clouds()
    far = [1e9, 1e9]
    mixture = DifferentiableGaussianMixture(
        2,
        covariance_type=kind,
        weights_init=[0.75, 0.25],
        means_init=[[3.0, 3.0], far],
        precisions_init=precisions(kind, 0.1, 1e6),
        fixed_weights=fixed_weights,
    )
    with pytest.warns(ConvergenceWarning, match="Component 1 lost all its mass.*n_components"):
        mixture.fit(X)
    np.testing.assert_array_equal(mixture.means_[1], far)
    covariance = np.cov(X.T, bias=True) + 1e-6 * np.eye(2)
    expected = {
        "full": np.stack([covariance, 1e-6 * np.eye(2)]),
        "tied": covariance,
        "diag": np.array([covariance.diagonal(), [1e-6, 1e-6]]),
        "spherical": np.array([covariance.trace() / 2, 1e-6]),
    }[kind]
    np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(mixture.means_[0], X.mean(axis=0), rtol=1e-13)
    expected = [0.75, 0.25] if fixed_weights else [1, 0]
    np.testing.assert_array_equal(mixture.weights_, expected)
    assert mixture.converged_ and mixture.residual_ < 1e-12
    assert (mixture.predict(X) == 0).all()
    assert_finite(mixture, X)


@pytest.mark.parametrize("kind", TYPES)
def test_step_that_loses_a_component_is_that_of_the_textbook(kind):
    X = two_clouds()
    start = DifferentiableGaussianMixture(
        3,
        covariance_type=kind,
        weights_init=[0.5, 0.25, 0.25],
        means_init=[[0.0, 1.0], [4.0, 4.0], [1e9, 0.0]],
        precisions_init=precisions(kind, 1.0, 0.5, 1.0),
        max_iter=0,
    )
    with pytest.warns(ConvergenceWarning, match="Component 2 lost all its mass"):
        theta = start.fit(X).parameters_
    with pytest.warns(ConvergenceWarning, match="Component 2 lost|did not converge"):
        fitted = start.set_params(max_iter=1, tol=0).fit(X).parameters_
    expected, _ = em_step(X, theta, reg_covar=1e-6)
    for ours, naive in zip(fitted, expected, strict=True):
        np.testing.assert_allclose(ours, naive, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", TYPES)
def test_component_of_no_weight_stays_without(kind):
    X = two_clouds()
    mixture = DifferentiableGaussianMixture(
        2, covariance_type=kind, weights_init=[0.0, 1.0], means_init=[[0.0, 0.0], [6.0, 6.0]]
    )
    with pytest.warns(ConvergenceWarning, match="Component 0 lost all its mass"):
        mixture.fit(X)
    np.testing.assert_array_equal(mixture.weights_, [0, 1])
    np.testing.assert_array_equal(mixture.means_[0], [0, 0])
    assert_finite(mixture, X)


@pytest.mark.parametrize("kind", TYPES)
def test_all_components_far_from_all_samples(kind):
    """Densities are zero in floating point, their ratios are not: the nearer component wins."""
    X = two_clouds()
    mixture = DifferentiableGaussianMixture(
        2,
        covariance_type=kind,
        means_init=[[1e5, 1e5], [-1e5, -3e5]],
        precisions_init=precisions(kind, 1.0, 1.0),
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning, match="Component 1 lost all its mass"):
        mixture.fit(X)
    np.testing.assert_allclose(mixture.means_[0], X.mean(axis=0), rtol=1e-12)
    assert_finite(mixture, X)


@pytest.mark.parametrize("kind", TYPES)
def test_more_components_than_distinct_samples(kind):
    """Initialization leaves a component without samples."""
    X = np.repeat([[0.0, 0.0], [4.0, 4.0]], [30, 20], axis=0)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, random_state=0)
    with pytest.warns(ConvergenceWarning) as caught:
        mixture.fit(X)
    messages = [str(warning.message) for warning in caught]
    assert any("lost all its mass" in message for message in messages)
    np.testing.assert_allclose(np.sort(mixture.weights_), [0, 0.4, 0.6], atol=1e-12)
    assert_finite(mixture, X)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("kind", TYPES)
def test_all_samples_the_same(kind, init_params):
    X = np.full((20, 2), 3.5)
    mixture = DifferentiableGaussianMixture(
        2, covariance_type=kind, init_params=init_params, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # k-means finds one cluster only
        mixture.fit(X)
    np.testing.assert_allclose(mixture.means_, X[:2], rtol=1e-14)
    assert_finite(mixture, X)


# Whatever happens, no NaN


@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(TYPES),
    init_params=st.sampled_from(["kmeans", "k-means++", "random", "random_from_data"]),
    n_samples=st.integers(2, 30),
    n_components=st.integers(1, 6),
    n_distinct=st.integers(1, 10),
    exponents=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
    fixed_weights=st.booleans(),
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_parameters_are_finite_or_there_is_an_error(
    seed,
    kind,
    init_params,
    n_samples,
    n_components,
    n_distinct,
    exponents,
    offset,
    fixed_weights,
    dtype,
):
    rng = np.random.default_rng(seed)
    # squares, and single precision, must hold the numbers
    largest = 10 if dtype == np.float32 else 50
    scales = 10.0 ** (largest * np.array(exponents))
    places = (rng.normal(size=(n_distinct, 2)) + offset) * scales
    X = places[rng.integers(n_distinct, size=n_samples)].astype(dtype)
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        init_params=init_params,
        fixed_weights=fixed_weights,
        max_iter=30,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            mixture.fit(X)
        except ValueError as error:
            assert "not positive definite" in str(error) or "n_components" in str(error)
            return
        assert_finite(mixture, X)


@pytest.mark.parametrize("n_features", [1, 2, 8])
@pytest.mark.parametrize("far", [1e155, 1e300])
@pytest.mark.parametrize("kind", TYPES)
def test_an_overflow_is_named(kind, far, n_features):
    X = np.random.default_rng(0).normal(size=(100, n_features))
    X[0] = far
    mixture = DifferentiableGaussianMixture(2, covariance_type=kind, init_params="random")
    with pytest.raises(ValueError, match="overflow.*Scale the features|too large"):
        mixture.set_params(random_state=0).fit(X)
