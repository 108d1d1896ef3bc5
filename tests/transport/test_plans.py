"""Plans and potentials, against linear programming and the conditions of optimality."""

import numpy as np
import ot
import pytest
from scipy.optimize import linprog

from skgmmot.transport import plans
from skgmmot.transport.plans import exact_plan


def random_problem(rng, n_rows, n_columns):
    """Weights with no equal partial sums, so that plan and potentials are unique."""
    costs = rng.uniform(0.1, 2, size=(n_rows, n_columns))
    return rng.dirichlet(np.ones(n_rows)), rng.dirichlet(np.ones(n_columns)), costs


def linear_program(weights, target_weights, costs):
    K, L = costs.shape
    rows = np.kron(np.eye(K), np.ones(L))
    columns = np.kron(np.ones(K), np.eye(L))
    result = linprog(
        costs.ravel(),
        A_eq=np.vstack([rows, columns]),
        b_eq=np.r_[weights, target_weights],
        method="highs",
    )
    if not result.success:
        raise RuntimeError(result.message)
    return result.fun


def check_optimality(solution, weights, target_weights, costs):
    """Feasible plan, feasible potentials, and no cost in excess where mass moves."""
    plan, (u, v), value, complaint = solution
    np.testing.assert_allclose(value, (plan * costs).sum(), rtol=1e-15)
    rounding = 1e-14 * costs.max()
    np.testing.assert_allclose(plan.sum(axis=1), weights, rtol=0, atol=1e-15)
    np.testing.assert_allclose(plan.sum(axis=0), target_weights, rtol=0, atol=1e-15)
    excess = costs - u[:, None] - v
    assert plan.min() >= 0
    assert excess.min() >= -rounding
    assert (plan * excess).sum() <= rounding
    assert abs(weights @ u - target_weights @ v) <= rounding
    assert complaint is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (3, 4), (12, 9)])
def test_plan_is_optimal(shape):
    problem = random_problem(np.random.default_rng(sum(shape)), *shape)
    solution = exact_plan(*problem)
    check_optimality(solution, *problem)
    # HiGHS stops at a feasibility of 1e-7, and its vertices are exact to about 1e-12.
    value = (solution.plan * problem[2]).sum()
    np.testing.assert_allclose(value, linear_program(*problem), rtol=1e-10)


@pytest.mark.parametrize("side", [0, 1])
def test_potentials_are_the_derivative_in_the_weights(side):
    rng = np.random.default_rng(0)
    problem = list(random_problem(rng, 6, 5))
    direction = rng.normal(size=len(problem[side]))
    direction -= direction.mean()
    slope = exact_plan(*problem).potentials[side] @ direction
    weights, step = problem[side], 1e-4  # the value is linear up to the next vertex
    values = []
    for sign in (1, -1):
        problem[side] = weights + sign * step * direction
        values.append(linear_program(*problem))
    np.testing.assert_allclose(slope, (values[0] - values[1]) / (2 * step), rtol=1e-7)


def test_components_of_weight_zero_have_feasible_potentials():
    rng = np.random.default_rng(0)
    weights, target_weights, costs = random_problem(rng, 6, 5)
    costs[2] /= 10  # a bargain that no mass can use: a potential of 0 would not be feasible
    costs[:, 3] /= 10
    weights[2] = target_weights[3] = 0
    weights, target_weights = weights / weights.sum(), target_weights / target_weights.sum()
    solution = exact_plan(weights, target_weights, costs)
    check_optimality(solution, weights, target_weights, costs)
    assert not solution.plan[2].any() and not solution.plan[:, 3].any()
    rows, columns = np.delete(np.arange(6), 2), np.delete(np.arange(5), 3)
    smaller = exact_plan(weights[rows], target_weights[columns], costs[np.ix_(rows, columns)])
    np.testing.assert_array_equal(solution.plan[np.ix_(rows, columns)], smaller.plan)


def test_potential_of_weight_zero_is_the_derivative_where_mass_appears():
    rng = np.random.default_rng(1)
    weights, target_weights, costs = random_problem(rng, 4, 5)
    weights = np.r_[weights[:3], 0] / weights[:3].sum()
    u, _ = exact_plan(weights, target_weights, costs).potentials
    direction = np.array([-0.5, -0.5, 0.0, 1.0])
    step = 1e-4
    gain = linear_program(weights + step * direction, target_weights, costs)
    gain -= linear_program(weights, target_weights, costs)
    np.testing.assert_allclose(u @ direction, gain / step, rtol=1e-7)


def test_plan_where_many_are_optimal():
    """Equal weights and repeated costs: any of the optimal plans, and potentials that fit it."""
    rng = np.random.default_rng(0)
    weights = np.full(8, 1 / 8)
    costs = rng.integers(0, 3, size=(8, 8)).astype(float)
    solution = exact_plan(weights, weights, costs)
    check_optimality(solution, weights, weights, costs)


def test_free_transport():
    weights = np.array([0.25, 0.75])
    solution = exact_plan(weights, weights, np.zeros((2, 2)))
    check_optimality(solution, weights, weights, np.zeros((2, 2)))
    np.testing.assert_array_equal(np.r_[solution.potentials], 0)


@pytest.mark.parametrize("n", [30, 70])  # small, and as large as POT solves
@pytest.mark.parametrize("scale", [2.0**-600, 2.0**-40, 2.0**40, 2.0**600])
def test_unit_of_the_costs_does_not_matter(scale, n):
    weights, target_weights, costs = random_problem(np.random.default_rng(0), n, n)
    plan, (u, v), *_ = exact_plan(weights, target_weights, costs)
    scaled = exact_plan(weights, target_weights, costs * scale)
    np.testing.assert_array_equal(scaled.plan, plan)
    np.testing.assert_array_equal(scaled.potentials[0], u * scale)
    np.testing.assert_array_equal(scaled.potentials[1], v * scale)


@pytest.mark.parametrize("n", [20, 80])
def test_cost_of_a_component_without_weight_does_not_matter(n):
    weights, target_weights, costs = random_problem(np.random.default_rng(0), n, n)
    weights[3] = 0
    weights /= weights.sum()
    far = costs.copy()
    far[3] = 1e40  # the other costs would vanish beside it
    near, far = (exact_plan(weights, target_weights, c) for c in (costs, far))
    np.testing.assert_array_equal(near.plan, far.plan)
    np.testing.assert_allclose(near.potentials[1], far.potentials[1], atol=1e-13)


def test_masses_are_scaled_to_one():
    weights, target_weights, costs = random_problem(np.random.default_rng(0), 4, 3)
    weights_off = weights * (1 + 1e-7)
    solution = exact_plan(weights_off, target_weights * (1 - 1e-7), costs)
    check_optimality(solution, weights, target_weights, costs)


def test_inputs_are_not_written_to():
    problem = random_problem(np.random.default_rng(0), 4, 3)
    copies = [array.copy() for array in problem]
    for array in problem:
        array.flags.writeable = False
    exact_plan(*problem)
    for array, copy in zip(problem, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_running_out_of_iterations_is_said(monkeypatch):
    monkeypatch.setattr(plans, "MAX_ITER", 1)
    problem = random_problem(np.random.default_rng(0), 80, 20)
    solution = exact_plan(*problem)  # a warning, of POT's own, would be an error here
    assert solution.converged is False
    assert "numItermax reached before optimality" in solution.complaint
    assert "1 iterations" in solution.complaint


def test_other_failures_are_errors_with_the_words_of_pot(monkeypatch):
    def emd(weights, target_weights, costs, **options):
        log = {"u": weights, "v": target_weights, "warning": "Problem unbounded"}
        return np.zeros_like(costs), log

    monkeypatch.setattr(ot, "emd", emd)
    with pytest.raises(RuntimeError, match="Problem unbounded"):
        exact_plan(*random_problem(np.random.default_rng(0), 3, 80))


def test_plans_that_are_not_proven_are_made_by_pot(monkeypatch):
    problem = random_problem(np.random.default_rng(0), 5, 4)
    expected = exact_plan(*problem)
    kernel = plans.exact_plans

    def doubted(*arguments):
        kernel(*arguments)
        arguments[9][:] = False  # the certificates
        arguments[10][:] = np.nan

    monkeypatch.setattr(plans, "exact_plans", doubted)
    found = exact_plan(*problem)
    check_optimality(found, *problem)
    np.testing.assert_allclose(found.plan, expected.plan, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.potentials[0], expected.potentials[0], atol=1e-14)
