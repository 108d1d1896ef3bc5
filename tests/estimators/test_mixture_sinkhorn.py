"""`e_step="sinkhorn"` as an option of the estimator."""

import naive
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]


def clouds(std=1.5, K=3, n=200):
    return make_blobs(n, 2, centers=K, cluster_std=std, random_state=1)[0]


def fitted(X, K=3, **params):
    params = {
        "residual_tol": 1e-9,
        "max_iter": 10_000,
        "random_state": 0,
        "e_step": "sinkhorn",
        "reg_covar": 1e-3,
    } | params
    return DifferentiableGaussianMixture(K, **params).fit(X)


@pytest.mark.parametrize("kind", TYPES)
def test_weights_and_masses_stay(kind):
    X = clouds()
    weights = np.array([0.2, 0.3, 0.5])
    mixture = fitted(X, weights_init=weights, covariance_type=kind)
    assert mixture.converged_ and mixture.marginal_error_ < 1e-10
    np.testing.assert_array_equal(mixture.weights_, weights)
    fixed = fitted(X, weights_init=weights, covariance_type=kind, fixed_weights=True)
    np.testing.assert_array_equal(fixed.means_, mixture.means_)
    softmax = fitted(
        X, weights_init=weights, covariance_type=kind, fixed_weights=True, e_step="softmax"
    )
    assert naive.scaled_change(softmax.parameters_, mixture.parameters_) > 1e-2
    assert not hasattr(softmax, "marginal_error_")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", ["implicit", "unrolled"])
def test_gradients_are_slopes_of_the_fit(kind, mode):
    X = clouds()
    start = {"means_init": X[:3], "weights_init": np.array([0.2, 0.3, 0.5])}
    start["precisions_init"] = fitted(X, covariance_type=kind).precisions_
    params = {"covariance_type": kind, "temperature": 1.2, "residual_tol": 1e-11}
    if mode == "unrolled":
        params |= {"residual_tol": np.inf, "tol": 1e-2}
    mixture = fitted(X, **params, **start)
    rng = np.random.default_rng(1)
    bar, X_dot = naive.random_cotangent(rng, mixture.parameters_), rng.normal(size=X.shape)
    n_steps = mixture.n_iter_

    def value(t):
        moved = fitted(X + t * X_dot, **params, **start)
        assert mode == "implicit" or moved.n_iter_ == n_steps
        return naive.inner_product(bar, moved.parameters_)

    slope = (value(1e-4) - value(-1e-4)) / 2e-4
    pulled = (mixture.gradient_wrt_data(X, bar, mode=mode, tol=1e-8) * X_dot).sum()
    np.testing.assert_allclose(pulled, slope, rtol=2e-5)


def test_unrolled_gradient_of_the_weights_where_they_start():
    X = clouds()
    start = {"means_init": X[:3], "precisions_init": np.array([np.eye(2)] * 3)}
    params = {"tol": 0.0, "residual_tol": 0.0, "max_iter": 4}
    weights, weights_dot = np.array([0.2, 0.3, 0.5]), np.array([1.0, -0.4, -0.6])

    def fit(t=0.0):
        with pytest.warns(ConvergenceWarning):
            return fitted(X, weights_init=weights + t * weights_dot, **params, **start)

    mixture = fit()
    bar = naive.random_cotangent(np.random.default_rng(2), mixture.parameters_)
    slope = naive.inner_product(bar, fit(1e-5).parameters_)
    slope = (slope - naive.inner_product(bar, fit(-1e-5).parameters_)) / 2e-5
    back = mixture.vjp(X, bar, mode="unrolled").initial_parameters
    np.testing.assert_allclose(back.weights @ weights_dot, slope, rtol=1e-6)


def test_components_that_share_weights_are_not_lost():
    """Uniform fixed weights on five clouds: no component may end without samples."""
    X = clouds(std=1.0, K=5, n=300)
    mixture = fitted(X, 5, fixed_weights=True, init_params="random_from_data")
    masses = mixture.predict_proba(X).mean(axis=0)
    assert masses.min() > 0.05 and mixture.marginal_error_ < 1e-10


def test_an_e_step_that_does_not_converge_is_reported(monkeypatch):
    monkeypatch.setattr("skgmmot.em.e_steps._MAX_PASSES", 1)
    monkeypatch.setattr("skgmmot.em.e_steps._MAX_HEATINGS", 0)
    with pytest.warns(ConvergenceWarning, match="e_step='sinkhorn' did not converge"):
        fitted(clouds(), residual_tol=np.inf, weights_init=[0.1, 0.1, 0.8])


def test_weights_are_no_free_parameters():
    X = clouds()
    held, free = fitted(X), fitted(X, e_step="softmax")
    assert free._n_parameters() - held._n_parameters() == 2


def test_incremental_steps_are_refused():
    with pytest.raises(ValueError, match="e_step='sinkhorn'.*Set acceleration='lbfgs'"):
        fitted(clouds(), acceleration="incremental")


@pytest.mark.parametrize("acceleration", ["anderson", "lbfgs", "newton"])
def test_acceleration_finds_the_same_end(acceleration):
    X = clouds()
    plain, fast = fitted(X), fitted(X, acceleration=acceleration)
    assert fast.converged_
    assert naive.errors(fast.parameters_, plain.parameters_) < 1e-5
