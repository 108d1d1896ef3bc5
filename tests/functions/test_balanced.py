"""Balanced transport from samples to components: against POT, the definition and EM."""

import naive
import numpy as np
import ot
import pytest
from scipy.special import rel_entr
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    balanced_transport,
    semirelaxed_transport,
)
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
epsilons = pytest.mark.parametrize("epsilon", [0.3, 1.0, 4.0])


def setting(kind="full", *, n=200, d=3, K=4, seed=0):
    """Samples of a mixture, and one whose weights are not those that the samples have."""
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind, spread=1.5)
    X, weight = naive.sample(rng, theta, n), rng.uniform(0.2, 2.0, size=n)
    return X, MixtureParameters(rng.dirichlet(np.full(K, 5.0)), *tuple(theta)[1:], kind), weight


def costs(X, theta):
    return np.log(theta.weights) - naive.log_joint(X, theta)


@all_types
@epsilons
@pytest.mark.parametrize("with_weights", [False, True])
def test_the_plan_is_that_of_pot(kind, epsilon, with_weights):
    X, theta, weight = setting(kind)
    weight = weight if with_weights else None
    a = np.full(len(X), 1 / len(X)) if weight is None else weight / weight.sum()
    transport = balanced_transport(X, theta, epsilon=epsilon, sample_weight=weight)
    C = costs(X, theta)
    # KL(P | a ⊗ w) and POT's entropy differ by what the marginals fix
    expected = ot.sinkhorn(
        a, theta.weights, C, epsilon, method="sinkhorn_log", numItermax=20_000, stopThr=1e-12
    )
    np.testing.assert_allclose(transport.plan, expected, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(transport.plan.sum(axis=0), theta.weights, atol=1e-10)
    np.testing.assert_allclose(transport.plan.sum(axis=1), a, rtol=1e-13)
    np.testing.assert_allclose(transport.row_sums, a, rtol=1e-14)
    np.testing.assert_allclose(transport.column_sums, theta.weights, rtol=1e-15)
    assert transport.marginal_error < 1e-10 and transport.epsilon == epsilon
    value = (expected * C).sum() + epsilon * rel_entr(expected, np.outer(a, theta.weights)).sum()
    assert transport.value == pytest.approx(value, rel=1e-9)


@epsilons
def test_potentials_are_the_derivative_by_the_weights(epsilon):
    X, theta, weight = setting()
    transport = balanced_transport(X, theta, epsilon=epsilon, sample_weight=weight)
    assert theta.weights @ transport.potentials == pytest.approx(0.0, abs=1e-12)
    direction, h = np.array([1.0, -0.4, -0.8, 0.2]), 1e-5

    def value(step):
        weights = theta.weights + step * direction
        moved = MixtureParameters(weights, *tuple(theta)[1:], "full")
        return balanced_transport(X, moved, epsilon=epsilon, sample_weight=weight).value

    slope = (value(h) - value(-h)) / (2 * h)
    assert slope == pytest.approx(direction @ transport.potentials, rel=1e-6)
    # and with them each row is a softmax
    scores = np.log(theta.weights) + (transport.potentials - costs(X, theta)) / epsilon
    gamma = naive.responsibilities(scores)
    np.testing.assert_allclose(transport.plan, transport.row_sums[:, None] * gamma, rtol=1e-8)


@all_types
def test_free_columns_cost_less(kind):
    X, theta, _ = setting(kind)
    held, free = balanced_transport(X, theta), semirelaxed_transport(X, theta)
    assert held.value > free.value + 1e-3
    assert np.abs(held.plan - free.plan).max() > 1e-4


def test_both_agree_at_the_weights_that_make_them_least():
    """For the Gaussians as they are these are the fixed point of the M-step's weights."""
    X, theta, _ = setting()
    for _ in range(5000):
        columns = semirelaxed_transport(X, theta).column_sums
        theta = MixtureParameters(columns, *tuple(theta)[1:], "full")
    held, free = balanced_transport(X, theta), semirelaxed_transport(X, theta)
    assert held.value == pytest.approx(free.value, abs=1e-12)
    np.testing.assert_allclose(held.plan, free.plan, atol=1e-9)
    np.testing.assert_allclose(held.potentials, 0.0, atol=1e-7)


def test_sinkhorn_em_lowers_the_value():
    """What a fit with masses held maximizes is minus this value."""
    X, theta, _ = setting(n=300)
    mixture = DifferentiableGaussianMixture(
        4, e_step="sinkhorn", fixed_weights=True, weights_init=theta.weights, random_state=0
    ).fit(X)
    transport = balanced_transport(X, mixture)
    assert transport.value == pytest.approx(-mixture.lower_bounds_[-1], abs=1e-5)
    assert transport.value < balanced_transport(X, theta).value


def test_a_component_without_weight_receives_nothing():
    X, theta, _ = setting()
    weights = np.array([0.5, 0.0, 0.3, 0.2])
    transport = balanced_transport(X, MixtureParameters(weights, *tuple(theta)[1:], "full"))
    np.testing.assert_allclose(transport.plan.sum(axis=0), weights, atol=1e-10)
    kept = [0, 2, 3]
    parts = (part[kept] for part in (weights, *tuple(theta)[1:]))
    without = balanced_transport(X, MixtureParameters(*parts, "full"))
    assert transport.value == pytest.approx(without.value, rel=1e-12)


def test_samples_without_weight_do_not_count():
    X, theta, weight = setting()
    far = np.concatenate([X, [[1e3, 0.0, 0.0]]])
    plain = balanced_transport(X, theta, sample_weight=weight)
    more = balanced_transport(far, theta, sample_weight=np.append(weight, 0.0))
    assert more.value == pytest.approx(plain.value, rel=1e-12)
    assert not more.plan[-1].any()


@pytest.mark.parametrize("epsilon", [0.01, 1e6])
def test_extreme_temperatures(epsilon):
    """Cold: the exact plan's cost, and ε KL(P | a ⊗ w) ≤ ε log (1 / min w) more. Hot: a ⊗ w."""
    X, theta, _ = setting(n=50)
    a = np.full(50, 1 / 50)
    transport = balanced_transport(X, theta, epsilon=epsilon)
    assert transport.marginal_error < 1e-10
    if epsilon > 1:
        np.testing.assert_allclose(transport.plan, np.outer(a, theta.weights), rtol=1e-4)
    else:
        exact = ot.emd2(a, theta.weights, costs(X, theta))
        assert 0 < transport.value - exact < -epsilon * np.log(theta.weights.min())


def test_single_precision_and_reprs():
    X, theta, _ = setting()
    single = balanced_transport(X.astype(np.float32), theta)
    assert single.value == pytest.approx(balanced_transport(X, theta).value, rel=1e-6)
    assert repr(single).startswith("<BalancedTransport: 200 samples to 4 components, value ")
    assert "marginal_error" in single._repr_html_()


def test_missed_weights_are_said():
    """Two samples, far from all but one component each: no potentials in reach move the masses."""
    X = np.array([[0.0], [1e8]])
    mixture = ([0.3, 0.7], [[0.0], [1e8]], [1.0, 1.0])
    with pytest.warns(ConvergenceWarning, match="Column sums of the plan miss the weights by"):
        balanced_transport(X, mixture, epsilon=1e-9)


def test_input_that_cannot_be_used_is_named():
    X, theta, _ = setting()
    for epsilon in (0.0, -1.0, np.nan, np.inf, "1"):
        with pytest.raises(ValueError, match="epsilon must be positive"):
            balanced_transport(X, theta, epsilon=epsilon)
    with pytest.raises(ValueError, match="2 features, but the mixture has 3"):
        balanced_transport(X[:, :2], theta)
    with pytest.raises(ValueError, match="[Nn]egative"):
        balanced_transport(X, theta, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="sums of squares overflow"):
        balanced_transport(np.concatenate([X, np.full((1, 3), 1e160)]), theta)
    flat = MixtureParameters(np.ones(1), np.zeros((1, 3)), np.zeros((1, 3, 3)), "full")
    with pytest.raises(ValueError):
        balanced_transport(X, flat)
