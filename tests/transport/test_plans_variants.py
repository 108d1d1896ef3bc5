"""Entropic and unbalanced plans: certified by duality, written out below, and beside POT."""

import warnings

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from skgmmot.transport import interior_point
from skgmmot.transport.plans import divergence, exact_plan, mass_gradient, optimal_plan

INF = np.inf
UNBALANCED = [(1.0, 1.0), (0.3, 2.0), (INF, 0.5), (0.2, INF), (1e-6, 1e-6), (1e6, 1e6), (1e-6, 1e6)]
PROPERTY = settings(derandomize=True, max_examples=60, deadline=None, database=None)


def random_problem(seed, n_rows, n_columns):
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0.1, 2, size=(n_rows, n_columns))
    return rng.dirichlet(np.ones(n_rows)), rng.dirichlet(np.ones(n_columns)), costs


def kl(f, g):
    """Σ f log(f/g) − f + g, in extended precision, term by term."""
    f, g = np.asarray(f, dtype=np.longdouble).ravel(), np.asarray(g, dtype=np.longdouble).ravel()
    positive = f > 0
    return (f[positive] * np.log(f[positive] / g[positive])).sum() - f.sum() + g.sum()


def primal(plan, weights, target_weights, costs, reg, penalties):
    value = (plan * costs).sum()
    if reg:
        value += reg * kl(plan, np.outer(weights, target_weights))
    for penalty, mass, weight in zip(
        penalties, (plan.sum(axis=1), plan.sum(axis=0)), (weights, target_weights), strict=True
    ):
        if penalty < INF:
            value += penalty * kl(mass, weight)
        else:
            np.testing.assert_allclose(mass, weight, rtol=0, atol=1e-10)
    return value


def dual(u, v, weights, target_weights, costs, reg, penalties):
    """What the potentials prove: no plan has a smaller value."""
    excess = u[:, None] + v - costs
    if reg:
        product = np.outer(weights, target_weights)
        value = -reg * (product * np.expm1(excess / reg)).sum()
    else:
        assert excess.max() <= 1e-14 * costs.max()
        value = 0.0
    sides = zip(penalties, (u, v), (weights, target_weights), strict=True)
    for penalty, potential, weight in sides:
        if penalty < INF:
            value -= penalty * (weight * np.expm1(-potential / penalty)).sum()
        else:
            value += weight @ potential
    return value


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 1), (3, 4), (30, 20), (100, 100)])
@pytest.mark.parametrize("penalties", UNBALANCED)
@pytest.mark.parametrize("reg", [0.0, 1e-4, 0.1, 100.0])
def test_plan_is_optimal(reg, penalties, shape):
    problem = (*random_problem(sum(shape), *shape), reg, penalties)
    plan, (u, v), value, complaint = optimal_plan(*problem)
    assert complaint is None
    assert plan.min() >= 0
    np.testing.assert_allclose(value, float(primal(plan, *problem)), rtol=1e-9)
    # Rounding of the potentials by 1e-16 is worth that times λ, or times C / ε.
    np.testing.assert_allclose(dual(u, v, *problem), value, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (60, 60)])
@pytest.mark.parametrize("reg", [1e-7, 1e-3, 0.1, 1e4])
def test_balanced_entropic_plan_is_optimal(reg, shape):
    weights, target_weights, costs = random_problem(sum(shape), *shape)
    plan, (u, v), value, complaint = optimal_plan(weights, target_weights, costs, reg)
    assert complaint is None
    np.testing.assert_allclose(plan.sum(axis=1), weights, rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), target_weights, rtol=1e-12)
    assert abs(weights @ u - target_weights @ v) < 1e-14 * costs.max()
    problem = weights, target_weights, costs, reg, (INF, INF)
    np.testing.assert_allclose(value, float(primal(plan, *problem)), rtol=1e-12)
    np.testing.assert_allclose(dual(u, v, *problem), value, rtol=1e-7 if reg < 1e-6 else 1e-10)


@pytest.mark.parametrize("penalties", [(1.0, 1.0), (0.5, 2.0), (INF, INF), (INF, 0.5)])
@pytest.mark.parametrize("reg", [0.1, 1.0])
def test_plan_of_pot_with_entropy(reg, penalties):
    weights, target_weights, costs = random_problem(0, 6, 5)
    plan = optimal_plan(weights, target_weights, costs, reg, penalties).plan
    options = {"stopThr": 1e-15, "numItermax": 100_000}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # POT cannot reach 1e-15, and goes on to the end
        if penalties == (INF, INF):
            peer = ot.sinkhorn(
                weights, target_weights, costs, reg, method="sinkhorn_log", **options
            )
        else:
            peer = ot.unbalanced.sinkhorn_unbalanced(
                weights, target_weights, costs, reg, penalties, reg_type="kl", **options
            )
    np.testing.assert_allclose(plan, peer, atol=1e-13)


@pytest.mark.parametrize("penalties", [(1.0, 1.0), (0.5, 2.0)])
def test_plan_of_pot_without_entropy(penalties):
    weights, target_weights, costs = random_problem(0, 5, 4)
    plan, _, value, _ = optimal_plan(weights, target_weights, costs, 0.0, penalties)
    peer = ot.unbalanced.mm_unbalanced(
        weights, target_weights, costs, penalties, stopThr=1e-15, numItermax=20_000
    )
    # Majorization converges at a linear rate, whichever the number of steps.
    np.testing.assert_allclose(plan, peer, atol=1e-6)
    assert value <= primal(peer, weights, target_weights, costs, 0.0, penalties) * (1 + 1e-13)


@pytest.mark.parametrize("penalties", [(1.0, 1.0), (0.1, 3.0)])
@pytest.mark.parametrize("reg", [0.0, 0.2])
def test_value_of_a_general_optimizer(reg, penalties):
    problem = (*random_problem(1, 3, 4), reg, penalties)

    def objective(plan):
        return float(primal(plan.reshape(3, 4), *problem))

    best = minimize(
        objective,
        np.full(12, 1 / 12),
        bounds=[(1e-14, None)] * 12,
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000, "maxfun": 200_000},
    )
    value = optimal_plan(*problem).value
    assert value <= best.fun * (1 + 1e-12)
    np.testing.assert_allclose(value, best.fun, rtol=1e-6)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("penalties", [*UNBALANCED, (INF, INF)])
@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_mass_gradient_is_the_derivative_in_the_weights(reg, penalties, side):
    problem = list(random_problem(0, 6, 5))
    direction = np.random.default_rng(1).normal(size=len(problem[side]))
    direction -= direction.mean()
    potential = optimal_plan(*problem, reg, penalties).potentials[side]
    slope = mass_gradient(potential, reg, penalties[side]) @ direction
    weights, step = problem[side], 1e-4
    values = []
    for n in (-2, -1, 1, 2):
        problem[side] = weights + n * step * direction
        values.append(optimal_plan(*problem, reg, penalties).value)
    difference = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    # Values round at 1e-17, which the step makes 1e-12.
    np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("penalties", [(1.0, 0.5), (INF, 0.5), (0.5, INF), (INF, INF)])
@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_potential_of_weight_zero_is_the_derivative_where_mass_appears(reg, penalties):
    weights, target_weights, costs = random_problem(1, 4, 5)
    weights = np.r_[weights[:3], 0] / weights[:3].sum()
    target_weights = np.r_[target_weights[:4], 0] / target_weights[:4].sum()
    solution = optimal_plan(weights, target_weights, costs, reg, penalties)
    assert not solution.plan[3].any() and not solution.plan[:, 4].any()
    for side in (0, 1):
        slopes = mass_gradient(solution.potentials[side], reg, penalties[side])
        direction = np.zeros(len(slopes))
        direction[:2], direction[-1] = -0.5, 1.0
        gains = []
        for step in (1e-5, 2e-5):  # one-sided differences of second order
            moved = [weights, target_weights]
            moved[side] = moved[side] + step * direction
            gains.append(optimal_plan(*moved, costs, reg, penalties).value - solution.value)
        difference = (4 * gains[0] - gains[1]) / 2e-5
        # The entropy of a component of mass 1e-5 has derivatives of every order there.
        np.testing.assert_allclose(slopes @ direction, difference, rtol=1e-5)


@pytest.mark.parametrize("penalties", [(1.0, 0.5), (INF, 0.5), (INF, INF)])
@pytest.mark.parametrize("reg", [0.0, 0.1])
@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e12])
def test_unit_of_the_costs_does_not_matter(unit, reg, penalties):
    weights, target_weights, costs = random_problem(0, 8, 7)
    one = optimal_plan(weights, target_weights, costs, reg, penalties)
    scaled_penalties = penalties[0] * unit, penalties[1] * unit
    other = optimal_plan(weights, target_weights, costs * unit, reg * unit, scaled_penalties)
    assert other.converged
    np.testing.assert_allclose(other.plan, one.plan, atol=1e-13)
    np.testing.assert_allclose(other.value, one.value * unit, rtol=1e-12)
    for scaled, potential in zip(other.potentials, one.potentials, strict=True):
        np.testing.assert_allclose(scaled, potential * unit, atol=1e-12 * unit)


def test_large_penalties_are_constraints():
    problem = random_problem(0, 6, 5)
    exact = exact_plan(*problem)
    loose = optimal_plan(*problem, 0.0, (1e9, 1e9))
    np.testing.assert_allclose(loose.value, exact.value, rtol=1e-8)
    np.testing.assert_allclose(loose.plan, exact.plan, atol=1e-8)
    assert optimal_plan(*problem, 0.0, (INF, INF)).value == exact.value


def test_small_penalties_let_all_mass_go():
    weights, target_weights, costs = random_problem(0, 6, 5)
    plan, _, value, _ = optimal_plan(weights, target_weights, costs + 1.0, 0.0, (1e-4, 2e-4))
    assert plan.max() < 1e-100
    np.testing.assert_allclose(value, 3e-4, rtol=1e-14)


def test_no_mass_takes_a_way_that_it_cannot_afford():
    """Not a rounding of it either, which times the cost of such a way would be the value."""
    weights, target_weights, costs = random_problem(0, 6, 5)
    near, far = costs.copy(), costs.copy()
    near[1, 2], far[1, 2] = 1e4, 1e60  # e^-1e4 is zero, too
    expected = optimal_plan(weights, target_weights, near, 0.5, (1.0, 2.0))
    actual = optimal_plan(weights, target_weights, far, 0.5, (1.0, 2.0))
    assert actual.plan[1, 2] == 0.0 and actual.converged
    np.testing.assert_allclose(actual.plan, expected.plan, rtol=0, atol=1e-10)
    np.testing.assert_allclose(actual.value, expected.value, rtol=1e-8)


def test_little_entropy_is_none():
    problem = random_problem(0, 6, 5)
    exact = exact_plan(*problem)
    value = optimal_plan(*problem, 1e-9).value
    assert exact.value < value < exact.value + 1e-9 * np.log(30)


def test_much_entropy_is_independence():
    weights, target_weights, costs = random_problem(0, 6, 5)
    plan = optimal_plan(weights, target_weights, costs, 1e9).plan
    np.testing.assert_allclose(plan, np.outer(weights, target_weights), rtol=1e-8)


@pytest.mark.parametrize("penalties", [(1.0, 1.0), (1e6, 1e6), (1e-6, 1e-6), (INF, 0.3)])
def test_free_moves_cost_nothing(penalties):
    """Two equal mixtures with equal weights, where plan and potentials are degenerate."""
    points = np.random.default_rng(0).normal(size=(20, 2))
    costs = ((points[:, None] - points) ** 2).sum(axis=-1)
    weights = np.full(20, 0.05)
    plan, _, value, complaint = optimal_plan(weights, weights, costs, 0.0, penalties)
    assert complaint is None
    assert 0 <= value < 1e-15 * min(1.0, *penalties)
    np.testing.assert_allclose(plan, np.diag(weights), atol=1e-8)
    nothing = optimal_plan(weights, weights, np.zeros((20, 20)), 0.5, penalties)
    # The sum of the marginals of a product rounds at 1e-16, of which the penalty is quadratic.
    assert nothing.value <= 1e-31 * min(penalties) and nothing.converged


@PROPERTY
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.integers(1, 12),
    st.one_of(st.just(0.0), st.floats(-7, 3).map(lambda x: 10**x)),
    st.tuples(*[st.one_of(st.just(INF), st.floats(-6, 6).map(lambda x: 10**x))] * 2),
)
def test_any_problem_is_solved(seed, n_rows, n_columns, reg, penalties):
    problem = (*random_problem(seed, n_rows, n_columns), reg, penalties)
    solution = optimal_plan(*problem)
    assert solution.converged
    value = float(primal(solution.plan, *problem))
    np.testing.assert_allclose(solution.value, value, rtol=1e-8)
    np.testing.assert_allclose(dual(*solution.potentials, *problem), value, rtol=1e-6)


@pytest.mark.parametrize("reg, words", [(0.0, "a duality gap of"), (1e-3, "marginals with")])
def test_running_out_of_steps_is_said(monkeypatch, reg, words):
    monkeypatch.setattr(interior_point, "MAX_ITER", 2)
    monkeypatch.setattr(interior_point, "MAX_NEWTON", 1)
    problem = random_problem(0, 10, 10)
    solution = optimal_plan(*problem, reg, (0.1, 0.1))
    assert solution.converged is False and words in solution.complaint
    assert np.isfinite(solution.plan).all() and np.isfinite(np.r_[solution.potentials]).all()


def test_the_vertex_is_finished():
    """Flows that the interior point leaves at the size of rounding become zeros."""
    problem = random_problem(0, 20, 20)
    solution = optimal_plan(*problem, 0.0, (1.0, 1.0))
    assert (solution.plan > 0).sum() < 40
    rough = interior_point.penalized_plan(*problem, 0.0, (1.0, 1.0))
    assert (rough.plan > 0).all()
    np.testing.assert_allclose(solution.plan, rough.plan, atol=1e-12)


@pytest.mark.parametrize(
    "ratio", [0.0, 1e-300, 1e-3, 0.99, 0.995, 1 - 1e-9, 1.0, 1.005, 1.02, 50.0]
)
def test_divergence(ratio):
    f, g = np.longdouble(ratio), np.longdouble(1)
    r = f - g
    if 0 < abs(r) < 0.1:  # f log f − f + 1 = Σ r^n (−1)^n / (n (n − 1)) cancels nothing
        expected = sum((-r) ** n / (n * (n - 1)) for n in range(2, 40))
    else:
        expected = (f * np.log(f) if f > 0 else 0) - f + g
    got = divergence(np.array([3 * ratio, 0.0]), np.array([3.0, 0.0]))
    np.testing.assert_allclose(got, 3 * float(expected), rtol=1e-13)


@pytest.mark.parametrize("f, g", [(1.0, 1e-310), (0.5, 5e-324), (1e-50, 1e-250), (1.0, 1e-307)])
def test_divergence_where_the_ratio_overflows_or_nearly_does(f, g):
    """Sizes of components that have all but vanished: f log(f/g) − f + g is of ordinary size."""
    expected = f * (np.log(f) - np.log(g)) - f + g
    np.testing.assert_allclose(divergence(np.array([f]), np.array([g])), expected, rtol=1e-14)


def test_inputs_are_not_written_to():
    for reg, penalties in ((0.0, (1.0, 2.0)), (0.1, (INF, INF)), (0.1, (1.0, INF))):
        problem = random_problem(0, 4, 3)
        for array in problem:
            array.flags.writeable = False  # a write would raise
        assert optimal_plan(*problem, reg, penalties).converged


@pytest.mark.parametrize("penalties", [(INF, INF), (1.0, 2.0), (0.5, INF)])
@pytest.mark.parametrize("reg", [0.01, 0.3])
def test_potentials_nearby_spare_the_path(monkeypatch, reg, penalties):
    rng = np.random.default_rng(0)
    w, w2, costs = random_problem(0, 4, 3)
    near = optimal_plan(w, w2, costs, reg, penalties).potentials
    costs = costs * (1 + 0.01 * rng.normal(size=costs.shape))
    cold = optimal_plan(w, w2, costs, reg, penalties)

    def path(*_):
        raise RuntimeError("the path was followed")

    monkeypatch.setattr(interior_point, "_follow_path", path)
    warm = optimal_plan(w, w2, costs, reg, penalties, near)
    np.testing.assert_allclose(warm.plan, cold.plan, rtol=1e-9, atol=1e-14)
    assert warm.value == pytest.approx(cold.value, rel=1e-12)
    for potential, other in zip(warm.potentials, cold.potentials, strict=True):
        np.testing.assert_allclose(potential, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("wrong", [1e3, -1e3, np.nan, np.inf])
def test_potentials_that_are_not_near_do_no_harm(wrong):
    rng = np.random.default_rng(1)
    w, w2, costs = random_problem(1, 4, 3)
    near = wrong * rng.normal(size=4), wrong * rng.normal(size=3)
    cold = optimal_plan(w, w2, costs, 0.01, (1.0, 2.0))
    found = optimal_plan(w, w2, costs, 0.01, (1.0, 2.0), near)
    np.testing.assert_allclose(found.plan, cold.plan, rtol=1e-9, atol=1e-14)
    assert found.converged
