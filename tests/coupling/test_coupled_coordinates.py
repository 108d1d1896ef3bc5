"""Coordinates of a coupled fit: they keep constraints and make the Hessian simple."""

import numpy as np
import pytest
from coupled_problems import TYPES, VARIANTS, random_problem

from skgmmot.coupling.coupled_coordinates import Coordinates
from skgmmot.coupling.objective import OutOfDomainError, evaluate, evaluation_of, statistics_of


def coordinates_of(kind="full", **variant):
    problem, base, _, _ = random_problem(kind, **variant)
    evaluation = evaluate(problem, base)
    return problem, evaluation.state, Coordinates(problem, evaluation.state, evaluation.shares)


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("kind", TYPES)
def test_start_stands_for_the_base(kind, name):
    _, base, coordinates = coordinates_of(kind, **VARIANTS[name])
    again = coordinates.state(coordinates.start())
    parts, others = ((*state.weights, *state[1:4]) for state in (base, again))
    for part, other in zip(parts, others, strict=True):
        np.testing.assert_allclose(other, part, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_every_vector_is_feasible(name):
    variant = VARIANTS[name]
    problem, base, coordinates = coordinates_of(**variant)
    rng = np.random.default_rng(0)
    vector = np.maximum(coordinates.start() + rng.normal(size=coordinates.size), coordinates.lower)
    state = coordinates.state(vector)
    assert state.plan.min() >= 0
    for weights in state.weights:
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0, abs=1e-14)
    if problem.plan_is_free:
        np.testing.assert_allclose(state.plan.sum(axis=1), state.weights[0], rtol=0, atol=1e-15)
        np.testing.assert_allclose(state.plan.sum(axis=0), state.weights[1], rtol=0, atol=1e-15)
    moved = np.abs(state.means - base.means).max(axis=1) > 0
    assert moved.tolist() == [True] * 3 + [not problem.freeze_target] * 2
    if problem.fixed_weights:
        np.testing.assert_array_equal(state.weights[0], base.weights[0])
    if problem.freeze_target:
        np.testing.assert_array_equal(state.weights[1], base.weights[1])
        np.testing.assert_array_equal(state.factors[3:], base.factors[3:])


@pytest.mark.parametrize("name", list(VARIANTS))
@pytest.mark.parametrize("kind", TYPES)
def test_gradient_is_the_slope_of_the_objective_far_from_the_base(kind, name):
    problem, _, coordinates = coordinates_of(kind, **VARIANTS[name])
    rng = np.random.default_rng(1)
    vector, direction = (0.3 * rng.normal(size=coordinates.size) for _ in range(2))
    vector = np.maximum(coordinates.start() + vector, coordinates.lower + 0.1)

    def value(t):
        return evaluate(problem, coordinates.state(vector + t * direction)).objective

    gradient = coordinates.gradient(vector, evaluate(problem, coordinates.state(vector)))
    h = 1e-3  # of fourth order: an error of about 1e-12, and the rounding of the plan over h
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    size = np.abs(gradient * direction).sum()
    assert gradient @ direction == pytest.approx(slope, rel=0, abs=1e-7 * size)


@pytest.mark.parametrize("kind", TYPES)
def test_hessian_of_complete_data_and_transport_is_close_to_the_identity(kind):
    problem, base, _, _ = random_problem(kind, reg_covar=0.0)
    problem = problem._replace(transport_weight=100.0)
    # at its own complete-data optimum, where the Hessian is that of the information
    statistics = statistics_of(problem, base)
    statistics = statistics._replace(
        means=base.means,
        covariances=base.factors @ np.swapaxes(base.factors, 1, 2)
        if base.factors.ndim == 3
        else base.factors**2,
        shares=np.concatenate(base.weights),
    )
    coordinates = Coordinates(problem, base, statistics.shares)
    vector, first = coordinates.start(), coordinates.n_plan

    def gradient(v):
        evaluation = evaluation_of(problem, coordinates.state(v), statistics)
        return coordinates.gradient(v, evaluation)[first:]

    directions = np.eye(coordinates.size)[first:]
    h = 1e-5
    hessian = [-(gradient(vector + h * e) - gradient(vector - h * e)) / (2 * h) for e in directions]
    means = coordinates.n_means
    np.testing.assert_allclose(np.array(hessian)[:means, :means], np.eye(means), atol=1e-5)
    # without the coordinates' part for the transport eigenvalues of a hundred appear
    assert np.linalg.eigvalsh(np.array(hessian)).max() < 20.0


@pytest.mark.parametrize("name", list(VARIANTS))
def test_idle_directions_do_not_move_the_state(name):
    problem, _, coordinates = coordinates_of(**VARIANTS[name])
    idle = coordinates.idle_directions()
    n_expected = 0 if problem.fixed_weights else 2 if problem.freeze_target else 1
    if not problem.plan_is_free and not problem.fixed_weights:
        n_expected = 1 if problem.freeze_target else 2
    assert len(idle) == n_expected
    np.testing.assert_allclose(idle @ idle.T, np.eye(n_expected), atol=1e-14)
    start = coordinates.start()
    for row in idle:
        state, other = coordinates.state(start), coordinates.state(start + 0.1 * row)
        np.testing.assert_allclose(other.plan, state.plan, atol=1e-15)
        np.testing.assert_allclose(other.weights[0], state.weights[0], atol=1e-15)


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_a_frozen_component_in_no_pair_is_out_of_the_domain(reg):
    problem, base, coordinates = coordinates_of(freeze_target=True, reg=reg)
    column = np.zeros(base.plan.shape, dtype=bool)
    column[:, 1] = True
    vector = coordinates.start()
    if reg == 0:
        vector[: coordinates.n_plan][column.ravel()] = 0.0
        with pytest.raises(OutOfDomainError, match="in no pair"):
            coordinates.state(vector)
    # however small the column is, it carries its weight
    vector = coordinates.start()
    if reg == 0:
        vector[: coordinates.n_plan][column.ravel()] *= 1e-200
    else:
        vector[: coordinates.n_plan][column.ravel()] -= 1e3
    moved = coordinates.state(vector)
    np.testing.assert_allclose(moved.plan.sum(axis=0), base.weights[1], rtol=1e-14)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("kind", TYPES)
def test_far_steps_are_out_of_the_domain(kind, sign):
    _, _, coordinates = coordinates_of(kind)
    vector = coordinates.start()
    vector[coordinates.n_plan + coordinates.n_means :] = sign * 1e3
    with pytest.raises(OutOfDomainError, match="standard deviation"):
        coordinates.state(vector)


@pytest.mark.parametrize("kind", TYPES)
def test_there_are_coordinates_whatever_the_weight_of_transport(kind):
    """For τ → ∞ the identity in I + Jᵀ J drowns, and it is what makes the sum definite."""
    problem, base, _, _ = random_problem(kind)
    evaluation = evaluate(problem, base)
    for tau in (1e6, 1e12, 1e20, 1e40):
        strong = problem._replace(transport_weight=tau)
        coordinates = Coordinates(strong, base, evaluation.shares)
        assert all(np.isfinite(shear).all() for shear in coordinates.shear)


@pytest.mark.parametrize("kind", TYPES)
def test_pairs_without_mass_leave_the_coordinates_alone(kind):
    problem, base, _, _ = random_problem(kind, penalties=(1e-3, 1e-3))
    nothing = base._replace(plan=np.zeros_like(base.plan))
    evaluation = evaluate(problem, base)
    coordinates = Coordinates(problem, nothing, evaluation.shares)
    state = coordinates.state(coordinates.start() + 0.1)
    assert np.isfinite(state.means).all() and not state.plan.any()
