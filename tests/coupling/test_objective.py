"""The objective of a coupled fit and its gradient, in every variant."""

import naive
import numpy as np
import pytest
from coupled_problems import TYPES, VARIANTS, random_problem

from skgmmot import mixture_transport
from skgmmot.coupling.coupled_coordinates import Coordinates
from skgmmot.coupling.objective import evaluate, mixtures_of, starting_state, state_of
from skgmmot.families import FAMILIES, family_of
from skgmmot.parameters import MixtureParameters


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_objective_is_mean_log_likelihoods_less_transport(kind, weighted):
    problem, state, clouds, weights = random_problem(kind, reg_covar=0.0, weighted=weighted)
    mixtures = mixtures_of(state, FAMILIES[kind])
    expected = 0.0
    for X, weight, theta in zip(clouds, weights, mixtures, strict=True):
        weight = np.ones(len(X)) if weight is None else weight
        values = naive.log_density(naive.log_joint(X, theta))
        expected += weight @ values / weight.sum()
    costs = mixture_transport(*mixtures).cost_matrix
    expected -= problem.transport_weight * (state.plan * costs).sum()
    assert evaluate(problem, state).objective == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_transport_term_is_that_of_mixture_transport(name):
    variant = VARIANTS[name]
    problem, state, _, _ = random_problem(reg_covar=0.0, **variant)
    mixtures = mixtures_of(state, FAMILIES["full"])
    transport = mixture_transport(
        *mixtures, reg=problem.reg, reg_m=problem.penalties if "penalties" in variant else None
    )
    state = starting_state(problem, *mixtures)  # with the optimal plan
    evaluation = evaluate(problem, state)
    value = evaluation.terms.transport
    assert value == pytest.approx(transport.value, rel=1e-9)


def test_reg_covar_is_noise_in_the_log_densities():
    problem, state, clouds, _ = random_problem(reg_covar=0.2)
    expected = 0.0
    for X, theta in zip(clouds, mixtures_of(state, FAMILIES["full"]), strict=True):
        traces = np.trace(np.linalg.inv(theta.covariances), axis1=1, axis2=2)
        weights = theta.weights * np.exp(-0.1 * traces)
        tempered = MixtureParameters(weights, *tuple(theta)[1:], "full")
        log_p = naive.log_density(naive.log_joint(X, tempered))
        expected += log_p.mean()
    assert sum(evaluate(problem, state).terms[1:3]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", TYPES)
def test_states_keep_mixtures(kind):
    rng = np.random.default_rng(1)
    pair = [naive.random_mixture(rng, n, 2, kind) for n in (3, 2)]
    state = state_of(*pair, np.zeros((3, 2)))
    for theta, again in zip(pair, mixtures_of(state, FAMILIES[kind]), strict=True):
        for part, other in zip(theta, again, strict=True):
            np.testing.assert_allclose(other, part, rtol=1e-14)
        factors = family_of(theta).factors(theta.covariances, *theta.means.shape)
        assert factors.shape[0] == len(theta.weights)


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("kind", TYPES)
def test_gradient_matches_central_differences(kind, name):
    problem, base, _, _ = random_problem(kind, weighted=True, **VARIANTS[name])
    coordinates = Coordinates(problem, base, evaluate(problem, base).shares)
    rng = np.random.default_rng(2)
    vector = coordinates.start() + 0.1 * rng.uniform(size=coordinates.size)

    def objective(v):
        return evaluate(problem, coordinates.state(v)).objective

    found = coordinates.gradient(vector, evaluate(problem, coordinates.state(vector)))
    h = 1e-4
    numeric = np.array(
        [
            (objective(vector + h * e) - objective(vector - h * e)) / (2 * h)
            for e in np.eye(coordinates.size)
        ]
    )
    np.testing.assert_allclose(found, numeric, atol=1e-6)
    assert np.abs(found).max() > 0.1
