"""`temperature` as an option of the estimator."""

import naive
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]


def clouds(std=1.0):
    return make_blobs(150, 2, centers=3, cluster_std=std, random_state=1)[0]


def fitted(temperature, X=None, **params):
    params = {"residual_tol": 1e-10, "max_iter": 10_000, "random_state": 0} | params
    params.setdefault("acceleration", None)
    mixture = DifferentiableGaussianMixture(3, temperature=temperature, **params)
    return mixture.fit(clouds() if X is None else X)


def tempered_joint(mixture, X, temperature):
    log_weights = np.log(mixture.weights_)
    joint = naive.log_joint(X, mixture.parameters_)
    return log_weights + (joint - log_weights) / temperature


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.5])
def test_responsibilities_and_free_energy_by_their_definitions(kind, temperature):
    X = clouds(2.0)
    mixture = fitted(temperature, X, covariance_type=kind)
    joint = tempered_joint(mixture, X, temperature)
    np.testing.assert_allclose(
        mixture.predict_proba(X), naive.responsibilities(joint), rtol=1e-8, atol=1e-12
    )
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(X))
    for s in (None, weight):
        expected = -temperature * np.average(logsumexp(joint, axis=1), weights=s)
        np.testing.assert_allclose(mixture.free_energy(X, sample_weight=s), expected, rtol=1e-10)
    likelihood = logsumexp(naive.log_joint(X, mixture.parameters_), axis=1)
    np.testing.assert_allclose(mixture.score_samples(X), likelihood, rtol=1e-9)
    np.testing.assert_allclose(mixture.score(X), likelihood.mean(), rtol=1e-10)
    np.testing.assert_allclose(-mixture.lower_bound_, mixture.free_energy(X), rtol=1e-8)
    if temperature == 1.0:
        np.testing.assert_allclose(mixture.free_energy(X), -mixture.score(X), rtol=1e-14)
    else:
        assert abs(mixture.free_energy(X) + mixture.score(X)) > 1e-3


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("temperature", [0.6, 1.3])
def test_implicit_gradients_are_slopes_of_the_fit(kind, temperature):
    X = clouds()
    params = {"covariance_type": kind, "reg_covar": 1e-3, "residual_tol": 1e-12}
    mixture = fitted(temperature, X, **params)
    rng = np.random.default_rng(1)
    bar, X_dot = naive.random_cotangent(rng, mixture.parameters_), rng.normal(size=X.shape)
    weights, means, _ = mixture.parameters_
    start = {
        "weights_init": weights,
        "means_init": means,
        "precisions_init": mixture.precisions_,
    }

    def value(t):
        moved = fitted(temperature, X + t * X_dot, **params, **start)
        return naive.inner_product(bar, moved.parameters_)

    slope = (value(1e-4) - value(-1e-4)) / 2e-4
    pulled = (mixture.gradient_wrt_data(X, bar, tol=1e-9) * X_dot).sum()
    np.testing.assert_allclose(pulled, slope, rtol=1e-5)


def test_unrolled_gradients_are_slopes_of_an_annealed_fit():
    X = clouds(2.0)
    params = {"max_iter": 9, "residual_tol": np.inf, "tol": 0.05, "reg_covar": 1e-3}
    start = {"means_init": X[:3], "weights_init": np.full(3, 1 / 3)}
    start["precisions_init"] = np.array([np.eye(2)] * 3)
    schedule = [2.0, 1.4, 0.9]

    def fit(t=0.0):
        mixture = DifferentiableGaussianMixture(3, temperature=schedule, **params, **start)
        return mixture.fit(X + t * X_dot)

    rng = np.random.default_rng(2)
    X_dot = rng.normal(size=X.shape)
    mixture = fit()
    assert mixture._record.path.before.before is not None and mixture.n_iter_ > 3
    bar = naive.random_cotangent(rng, mixture.parameters_)
    values = [naive.inner_product(bar, fit(t).parameters_) for t in (-1e-5, 1e-5)]
    pulled = mixture.gradient_wrt_data(X, bar, mode="unrolled")
    np.testing.assert_allclose((pulled * X_dot).sum(), np.diff(values)[0] / 2e-5, rtol=1e-6)
    pushed = mixture.jvp(X, X_dot, mode="unrolled")
    np.testing.assert_allclose(naive.inner_product(bar, pushed), (pulled * X_dot).sum(), rtol=1e-9)


def test_the_last_of_a_schedule_rules():
    X = clouds()
    annealed = fitted([1.5, 0.5], X)
    warm, cold = fitted(1.5, X), fitted(0.5, X)
    assert annealed.converged_ and annealed.n_iter_ > warm.n_iter_
    assert naive.errors(annealed.parameters_, cold.parameters_) < 1e-7
    np.testing.assert_allclose(annealed.predict_proba(X), cold.predict_proba(X), atol=1e-7)
    assert naive.scaled_change(warm.parameters_, cold.parameters_) > 1e-3
    assert annealed.lower_bounds_[: warm.n_iter_] == warm.lower_bounds_


def test_a_warm_start_stays_cold():
    X = clouds()
    annealed = fitted([1.5, 0.5], X, warm_start=True)
    before = annealed.parameters_
    annealed.fit(X)
    assert annealed.n_iter_ <= 3
    assert naive.errors(annealed.parameters_, before) < 1e-8


def test_a_tiny_temperature_is_hard_assignment():
    X = clouds(3.0)
    mixture = fitted(1e-200, X)
    proba = mixture.predict_proba(X)
    assert set(np.unique(proba)) == {0.0, 1.0}
    hard = naive.maximize(X, None, proba, mixture.parameters_, reg_covar=1e-6)
    assert naive.errors(mixture.parameters_, hard) < 1e-9
    assert np.isfinite(mixture.gradient_wrt_data(X, (None, np.ones((3, 2)), None))).all()


@pytest.mark.parametrize("acceleration", ["anderson", "lbfgs", "newton"])
@pytest.mark.parametrize("kind", TYPES)
def test_acceleration_finds_the_same_end(acceleration, kind):
    X = clouds(2.0)
    params = {"covariance_type": kind, "residual_tol": 1e-9}
    plain = fitted(0.8, X, **params)
    fast = fitted(0.8, X, acceleration=acceleration, **params)
    assert naive.errors(fast.parameters_, plain.parameters_) < 1e-5
    assert fast.n_evaluations_ <= plain.n_iter_


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, [], [1.0, 0.0], [[1.0]], [0.5, 1.0]])
def test_temperatures_out_of_range_are_named(temperature):
    with pytest.raises(ValueError, match="temperature"):
        DifferentiableGaussianMixture(temperature=temperature).fit(clouds())


def test_running_out_of_steps_on_the_way_down_is_no_convergence():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mixture = fitted([2.0, 1.0], max_iter=4)
    assert not mixture.converged_ and mixture.n_iter_ == 4
