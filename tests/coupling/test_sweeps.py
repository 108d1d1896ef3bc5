"""Sweeps of a coupled fit: they never lose, and they end at an optimum."""

import numpy as np
import pytest
from coupled_problems import TYPES, VARIANTS, separated_problem
from naive import scaled_change
from scipy.optimize import minimize

from skgmmot.coupling.objective import evaluate, mixtures_of, starting_state
from skgmmot.coupling.sweeps import maximize, residual_of
from skgmmot.em.fit import Stopping
from skgmmot.families import FAMILIES

STOPPING = Stopping(300, 1e-3, 1e-6)


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("kind", TYPES)
def test_no_sweep_loses_and_the_end_is_an_optimum(kind, name):
    problem, state = separated_problem(kind, **VARIANTS[name])
    result = maximize(problem, state, STOPPING)
    gains = np.diff(result.objectives)
    assert gains.min() >= -1e-12 and gains.sum() > 1e-3
    assert result.converged and result.residual < 1e-6
    # no small step in any direction that keeps the constraints gains anything
    rng = np.random.default_rng(0)
    best, end = result.objectives[-1], result.evaluation.state
    for _ in range(20):
        means = end.means + 1e-3 * rng.normal(size=end.means.shape)
        factors = end.factors * (
            1 + 1e-3 * rng.normal(size=(len(end.factors), 1, 1)[: end.factors.ndim])
        )
        if kind == "tied":
            factors = end.factors * (1 + 1e-3 * rng.normal())
        if problem.freeze_target:
            means[3:], factors[3:] = end.means[3:], end.factors[3:]
        moved = end._replace(means=means, factors=np.ascontiguousarray(factors))
        assert evaluate(problem, moved).objective < best


def test_every_sweep_is_reported_and_the_callback_can_stop():
    problem, state = separated_problem()
    seen = []

    def callback(n_iter, evaluation, gain, converged):
        seen.append((n_iter, evaluation.objective))
        return n_iter == 3

    result = maximize(problem, state, STOPPING, callback=callback)
    assert [n for n, _ in seen] == [1, 2, 3]
    np.testing.assert_allclose([value for _, value in seen], result.objectives[1:], rtol=1e-14)
    assert not result.converged


@pytest.mark.parametrize("max_iter", [0, 1, 5, 17])
def test_max_iter_is_the_number_of_sweeps(max_iter):
    problem, state = separated_problem()
    result = maximize(problem, state, Stopping(max_iter, 0.0, 0.0))
    assert len(result.objectives) == max_iter + 1
    assert not result.converged


def test_tolerances_are_those_of_the_end():
    problem, state = separated_problem()
    loose = maximize(problem, state, Stopping(300, 1e-3, np.inf))
    strict = maximize(problem, state, Stopping(300, 1e-3, 1e-7))
    assert len(loose.objectives) < len(strict.objectives)
    assert strict.residual < 1e-7 < loose.residual


@pytest.mark.parametrize("kind", TYPES)
def test_without_transport_the_residual_is_that_of_em(kind):
    problem, state = separated_problem(kind, reg_covar=0.05)
    problem = problem._replace(transport_weight=0.0)
    # one small step off an optimum, where the residual is of first order in the change
    state = maximize(problem, state, STOPPING).evaluation.state
    state = state._replace(means=state.means * (1 + 1e-6))
    evaluation = evaluate(problem, state)
    changes = [
        scaled_change(cloud.step(theta).parameters, theta)
        for cloud, theta in zip(
            (problem.source, problem.target), mixtures_of(state, FAMILIES[kind]), strict=True
        )
    ]
    assert residual_of(problem, evaluation) == pytest.approx(max(changes), rel=0.05)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "fixed weights"])
def test_weights_count_in_the_residual(name):
    """Alone: where neither means nor covariances have anywhere to go."""
    problem, state = separated_problem(**VARIANTS[name])
    best = maximize(problem, state, STOPPING).evaluation

    def residual(evaluation):
        still = evaluation._replace(
            means_bar=0 * evaluation.means_bar, factors_bar=0 * evaluation.factors_bar
        )
        return residual_of(problem, still)

    assert residual(best) < STOPPING.residual_tol
    plan = best.state.plan * [[1.1], [1.0], [0.9]]
    plan *= best.state.weights[1] / plan.sum(axis=0)
    weights = plan.sum(axis=1) / plan.sum(), best.state.weights[1]
    moved = evaluate(problem, best.state._replace(plan=plan / plan.sum(), weights=weights))
    assert residual(moved) > 1e-3


@pytest.mark.parametrize("reg", [0.01, 1.0, 10.0])
def test_entropic_plans_leave_a_start_on_the_diagonal(reg):
    """In logarithms an entry near zero has no gradient: it has to be lifted."""
    problem, state = separated_problem(reg=reg)
    theta = mixtures_of(state, FAMILIES["full"])
    best = maximize(problem, state, STOPPING).objectives[-1]
    plan = np.array([[0.3, 0.0], [0.0, 0.5], [0.2, 0.0]])
    poor = starting_state(problem, *theta)._replace(
        plan=plan, weights=(plan.sum(axis=1), plan.sum(axis=0))
    )
    result = maximize(problem, poor, STOPPING)
    assert result.converged and result.objectives[-1] == pytest.approx(best, abs=1e-6)


def test_weights_solve_the_concave_problem_of_the_plan():
    """For given means and covariances: an independent solver over the plan, by softmax."""
    problem, state = separated_problem()
    end = maximize(problem, state, STOPPING).evaluation.state

    def loss(logits):
        plan = np.exp(logits - logits.max()).reshape(end.plan.shape)
        plan /= plan.sum()
        moved = end._replace(plan=plan, weights=(plan.sum(axis=1), plan.sum(axis=0)))
        return -evaluate(problem, moved).objective

    found = minimize(loss, np.zeros(end.plan.size), tol=1e-10)
    assert -found.fun == pytest.approx(evaluate(problem, end).objective, abs=1e-6)
    assert -found.fun < evaluate(problem, end).objective + 1e-10
