"""EM as semi-relaxed entropic transport: identities with the likelihood and with EM's steps."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, rel_entr, softmax
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, semirelaxed_transport
from skgmmot.em.e_steps import BALANCED
from skgmmot.em.em_map import EMMap
from skgmmot.entropic import block_coordinate_descent
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
epsilons = pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
weighted = pytest.mark.parametrize("with_weights", [False, True])


def setting(kind="full", with_weights=True, *, n=200, d=3, K=4, seed=0):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind, spread=1.5)
    X = naive.sample(rng, theta, n)
    return X, theta, rng.uniform(0.2, 2.0, size=n) if with_weights else None


def costs(X, theta):
    return np.log(theta.weights) - naive.log_joint(X, theta)


def objective(plan, X, theta, a, epsilon):
    """⟨P, C⟩ + ε KL(P | a ⊗ w), written out."""
    divergence = rel_entr(plan, a[:, None] * theta.weights).sum()
    return (plan * costs(X, theta)).sum() + epsilon * divergence


@all_types
@epsilons
@weighted
def test_value_is_the_objective_at_the_plan(kind, epsilon, with_weights):
    X, theta, weight = setting(kind, with_weights)
    a = np.full(len(X), 1 / len(X)) if weight is None else weight / weight.sum()
    transport = semirelaxed_transport(X, theta, epsilon=epsilon, sample_weight=weight)
    np.testing.assert_allclose(transport.row_sums, a, rtol=1e-15)
    np.testing.assert_allclose(transport.plan.sum(axis=1), a, rtol=1e-13)
    np.testing.assert_allclose(transport.plan.sum(axis=0), transport.column_sums, rtol=1e-12)
    gamma = softmax(np.log(theta.weights) - costs(X, theta) / epsilon, axis=1)
    np.testing.assert_allclose(transport.plan, a[:, None] * gamma, rtol=1e-9, atol=1e-15)
    expected = objective(transport.plan, X, theta, a, epsilon)
    assert abs(transport.value - expected) < 1e-12 * max(1.0, abs(expected))


@all_types
@weighted
def test_value_is_minus_the_mean_log_likelihood(kind, with_weights):
    X, theta, weight = setting(kind, with_weights)
    likelihood = np.average(logsumexp(naive.log_joint(X, theta), axis=1), weights=weight)
    transport = semirelaxed_transport(X, theta, sample_weight=weight)
    assert abs(transport.value + likelihood) < 1e-12
    mixture = DifferentiableGaussianMixture.from_mixture(theta)
    assert abs(transport.value + mixture.score(X, sample_weight=weight)) < 1e-12


def cumulant_expansion(X, theta, a, epsilon):
    """-ε Σ_i a_i log Σ_k w_k e^{-C_ik/ε} = Σ_i a_i (κ₁ - κ₂ / 2ε + κ₃ / 6ε² …) of C_i under w."""
    w = theta.weights / theta.weights.sum()
    C = costs(X, theta)
    mean = C @ w
    second, third = ((C - mean[:, None]) ** p @ w for p in (2, 3))
    return a @ (mean - second / (2 * epsilon) + third / (6 * epsilon**2))


@all_types
@weighted
@pytest.mark.parametrize("epsilon", [1e5, 1e8, 1e12, 1e15, 1e100])
def test_bounds_at_large_epsilon(kind, with_weights, epsilon):
    """Values, free energies and lower bounds, to as many digits as the costs have.

    The expansion leaves terms of relative size (C/ε)³, 1e-12 at most.
    """
    X, theta, weight = setting(kind, with_weights)
    a = np.full(len(X), 1 / len(X)) if weight is None else weight / weight.sum()
    expected = cumulant_expansion(X, theta, a, epsilon)
    transport = semirelaxed_transport(X, theta, epsilon=epsilon, sample_weight=weight)
    np.testing.assert_allclose(transport.value, expected, rtol=2e-11)
    mixture = DifferentiableGaussianMixture.from_mixture(theta, temperature=epsilon)
    np.testing.assert_allclose(mixture.free_energy(X, sample_weight=weight), expected, rtol=2e-11)
    problem = EMMap.on(X, weight, covariance_type=kind, temperature=epsilon)
    np.testing.assert_allclose(-problem.step(theta).lower_bound, expected, rtol=2e-11)
    if epsilon <= 1e15:  # beyond, ε times the square of the plan's rounding shows
        step = block_coordinate_descent(X, theta, n_steps=1, epsilon=epsilon, sample_weight=weight)[
            0
        ]
        np.testing.assert_allclose(step.after_plan, expected, rtol=2e-11)
    if epsilon >= 1e12:
        # with both marginals held the plan is a ⊗ w in the limit, at the same cost
        balanced = replace(problem, e_step=BALANCED)
        np.testing.assert_allclose(-balanced.step(theta).lower_bound, expected, rtol=2e-11)


def test_a_far_sample_at_large_epsilon():
    """Its costs are beyond ε, those of the others far below: each has its own digits."""
    X, theta, _ = setting("full", False, n=20)
    X[3] = 1e4
    epsilon = 1e5
    log_terms = np.log(theta.weights) - costs(X, theta) / epsilon
    assert log_terms[3].max() < -10
    transport = semirelaxed_transport(X, theta, epsilon=epsilon)
    others = np.arange(20) != 3
    expected = 19 * cumulant_expansion(X[others], theta, np.full(19, 1 / 19), epsilon)
    expected -= epsilon * logsumexp(log_terms[3])
    np.testing.assert_allclose(transport.value, expected / 20, rtol=1e-11)


def test_objective_never_rises_at_large_epsilon():
    X, theta, _ = setting("full", False)
    mixture = DifferentiableGaussianMixture(
        4, temperature=1e12, reg_covar=0.0, max_iter=10, tol=0, residual_tol=0,
        weights_init=theta.weights, means_init=theta.means, acceleration=None, random_state=0,
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        mixture.fit(X)
    bounds = np.array(mixture.lower_bounds_)
    assert (np.diff(bounds) >= -1e-13 * np.abs(bounds[1:])).all()
    np.testing.assert_allclose(-mixture.free_energy(X), bounds[-1], rtol=1e-9)


@epsilons
def test_no_other_plan_is_better(epsilon):
    """Against a minimizer that knows nothing of the closed form."""
    X, theta, _ = setting(n=6, K=3)
    a = np.full(6, 1 / 6)

    def value(scores):
        return objective(a[:, None] * softmax(scores.reshape(6, 3), axis=1), X, theta, a, epsilon)

    found = minimize(value, np.zeros(18), method="BFGS", options={"gtol": 1e-9, "maxiter": 5000})
    transport = semirelaxed_transport(X, theta, epsilon=epsilon)
    assert transport.value <= found.fun + 1e-12
    np.testing.assert_allclose(found.fun, transport.value, rtol=1e-6)


@all_types
@epsilons
@weighted
def test_block_coordinate_descent_is_em(kind, epsilon, with_weights):
    X, theta, weight = setting(kind, with_weights)
    problem = EMMap.on(X, weight, covariance_type=kind, temperature=epsilon)
    steps = block_coordinate_descent(X, theta, n_steps=12, epsilon=epsilon, sample_weight=weight)
    for step in steps:
        expected = problem.step(theta)
        # per step: each starts from the same parameters
        assert naive.errors(step.parameters, expected.parameters) < 1e-12
        assert abs(step.after_plan + expected.lower_bound) < 1e-12
        theta = step.parameters


@all_types
@epsilons
def test_every_block_lowers_the_objective(kind, epsilon):
    X, theta, weight = setting(kind)
    steps = block_coordinate_descent(X, theta, n_steps=15, epsilon=epsilon, sample_weight=weight)
    values = [v for s in steps for v in (s.after_plan, s.after_weights, s.after_gaussians)]
    assert np.diff(values).max() < 1e-13
    assert values[-1] < values[0] - 1e-3
    a = weight / weight.sum()
    first, (_, means, covariances) = steps[0], theta
    moved = MixtureParameters(first.parameters.weights, means, covariances, kind)
    expected = objective(first.plan, X, moved, a, epsilon)
    np.testing.assert_allclose(first.after_weights, expected, rtol=1e-12)
    last = steps[-1]
    expected = objective(last.plan, X, last.parameters, a, epsilon)
    np.testing.assert_allclose(last.after_gaussians, expected, rtol=1e-12)


def test_iterates_of_a_fit_are_those_of_the_reference():
    X, theta, _ = setting(n=300)
    start = {
        "weights_init": theta.weights,
        "means_init": theta.means,
        "precisions_init": np.linalg.inv(theta.covariances),
    }
    mixture = DifferentiableGaussianMixture(
        4, reg_covar=0.0, max_iter=1, tol=0.0, warm_start=True, **start
    )
    for step in block_coordinate_descent(X, theta, n_steps=20):
        with pytest.warns(ConvergenceWarning):
            mixture.fit(X)
        assert naive.errors(mixture.parameters_, step.parameters) < 1e-10
        assert abs(semirelaxed_transport(X, step.parameters).value + mixture.score(X)) < 1e-10


def test_input_that_cannot_be_used_is_named():
    X, theta, _ = setting()
    for epsilon in (0.0, -1.0, np.nan, np.inf, "1"):
        with pytest.raises(ValueError, match="epsilon must be positive"):
            semirelaxed_transport(X, theta, epsilon=epsilon)
    with pytest.raises(ValueError, match="2 features, but the mixture has 3"):
        semirelaxed_transport(X[:, :2], theta)
    with pytest.raises(ValueError, match="NaN"):
        semirelaxed_transport(np.full_like(X, np.nan), theta)
    with pytest.raises(ValueError, match="[Nn]egative"):
        semirelaxed_transport(X, theta, sample_weight=-np.ones(len(X)))
    empty = (np.array([1.0, 0.0]), theta.means[:2], theta.covariances[:2])
    with pytest.raises(ValueError, match="every weight must be positive"):
        block_coordinate_descent(X, empty, n_steps=1)


def test_inputs_are_not_written_to():
    X, theta, weight = setting()
    kept = [part.copy() for part in (X, weight, *theta)]
    semirelaxed_transport(X, theta, sample_weight=weight).plan[:] = 0.0
    block_coordinate_descent(X, theta, n_steps=2, sample_weight=weight)
    for before, after in zip(kept, (X, weight, *theta), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_far_row_costs_infinitely_much_and_changes_no_other_row():
    X, theta, _ = setting()
    far = np.concatenate([X, np.full((1, X.shape[1]), 1e160)])
    plain = semirelaxed_transport(X, theta)
    with_far = semirelaxed_transport(far, theta)
    assert with_far.value == np.inf
    np.testing.assert_allclose(with_far.plan[:-1], plain.plan * len(X) / len(far), rtol=1e-14)
    np.testing.assert_allclose(with_far.column_sums, with_far.plan.sum(axis=0), rtol=1e-13)
    left_out = semirelaxed_transport(far, theta, sample_weight=np.append(np.ones(len(X)), 0.0))
    assert left_out.value == pytest.approx(plain.value, rel=1e-14)
    huge = semirelaxed_transport(X, theta, sample_weight=np.full(len(X), 1e307))
    assert huge.value == pytest.approx(plain.value, rel=1e-14)
