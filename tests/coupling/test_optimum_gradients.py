"""Gradients through a coupled fit, against fits of moved data."""

from dataclasses import replace

import numpy as np
import pytest
from coupled_problems import TYPES, VARIANTS, separated_problem
from naive import inner_product, random_cotangent

from skgmmot.coupling import optimum_gradients
from skgmmot.coupling.objective import mixtures_of, starting_state
from skgmmot.coupling.optimum_gradients import data_cotangents
from skgmmot.coupling.sweeps import maximize
from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping
from skgmmot.families import FAMILIES

STRICT = Stopping(500, 1e-9, 1e-10)


def with_data(problem, X, Y):
    clouds = [
        EMMap.on(data, covariance_type=problem.family.name, reg_covar=problem.source.reg_covar)
        for data in (X, Y)
    ]
    return problem._replace(source=clouds[0], target=clouds[1])


def tangent_by_differences(problem, state, directions, h=2e-3):
    """θ̇ of both mixtures, by fourth-order differences of fits to moved data."""

    def fit(t):
        X, Y = (
            cloud.samples.X + t * direction
            for cloud, direction in zip((problem.source, problem.target), directions, strict=True)
        )
        end = maximize(with_data(problem, X, Y), state, STRICT).evaluation.state
        return mixtures_of(end, problem.family)

    near, back, far, far_back = fit(h), fit(-h), fit(2 * h), fit(-2 * h)
    tangents = []
    for side in range(2):
        parts = [
            (8 * (a - b) - (c - d)) / (12 * h)
            for a, b, c, d in zip(near[side], back[side], far[side], far_back[side], strict=True)
        ]
        tangents.append(replace(near[side], weights=parts[0], means=parts[1], covariances=parts[2]))
    return tangents


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "unbalanced"])
@pytest.mark.parametrize("kind", TYPES)
def test_implicit_gradient_is_that_of_fits_to_moved_data(kind, name):
    problem, state = separated_problem(kind, reg_covar=0.02, **VARIANTS[name])
    state = maximize(problem, state, STRICT).evaluation.state
    rng = np.random.default_rng(1)
    pair = mixtures_of(state, FAMILIES[kind])
    cotangents = [random_cotangent(rng, theta) for theta in pair]
    directions = [
        rng.normal(size=cloud.samples.X.shape) for cloud in (problem.source, problem.target)
    ]
    found, solve, complaints = data_cotangents(
        problem, state, cotangents, mode="implicit", tol=1e-6
    )
    assert solve.residual < 1e-6 and not solve.singular and not complaints
    along = sum((bar.X * direction).sum() for bar, direction in zip(found, directions, strict=True))
    tangents = tangent_by_differences(problem, state, directions)
    expected = sum(inner_product(c, t) for c, t in zip(cotangents, tangents, strict=True))
    # fits end at a residual of about 1e-8, which the differences divide by h; the terms of the
    # product may cancel, so their sizes are what the accuracy is relative to
    size = sum(
        np.abs(a * b).sum()
        for c, t in zip(cotangents, tangents, strict=True)
        for a, b in zip(c, t, strict=True)
    )
    assert along == pytest.approx(expected, rel=0, abs=1e-4 * size)


def test_implicit_gradient_reaches_the_accuracy_that_is_asked():
    problem, state = separated_problem("full")
    end = maximize(problem, state, STRICT).evaluation.state
    rng = np.random.default_rng(2)
    cotangents = [random_cotangent(rng, theta) for theta in mixtures_of(end, FAMILIES["full"])]
    # the fit itself ends at a residual of about 1e-8, with which the tolerance is compared too
    found, solve, complaints = data_cotangents(problem, end, cotangents, mode="implicit", tol=3e-8)
    assert solve.residual < 1e-8 and np.isfinite(found[0].X).all()


@pytest.mark.parametrize("kind", TYPES)
def test_one_step_is_the_gradient_of_an_em_step_without_transport(kind):
    problem, state = separated_problem(kind)
    problem = problem._replace(transport_weight=0.0)
    clouds, pair = (problem.source, problem.target), []
    for cloud, theta in zip(clouds, mixtures_of(state, FAMILIES[kind]), strict=True):
        for _ in range(300):  # only at an optimum are the two the same
            theta = cloud.step(theta).parameters
        pair.append(theta)
    state = starting_state(problem, *pair)
    rng = np.random.default_rng(3)
    cotangents = [random_cotangent(rng, theta) for theta in pair]
    # the plan carries the weights, and a step moves it in a way of its own
    cotangents = [replace(c, weights=0 * c.weights) for c in cotangents]
    found, solve, complaints = data_cotangents(
        problem, state, cotangents, mode="one_step", tol=1e-6
    )
    assert solve is None and not complaints
    for cloud, theta, cotangent, bar in zip(clouds, pair, cotangents, found, strict=True):
        expected = ADJOINTS["one_step"].vjp(cloud, FitRecord(theta), cotangent)[0].data
        # the part of the size of the mixtures is differentiated by differences
        np.testing.assert_allclose(bar.X, expected, atol=1e-7)


def test_implicit_says_where_it_does_not_hold():
    problem, state = separated_problem()
    cotangents = [
        random_cotangent(np.random.default_rng(0), t) for t in mixtures_of(state, FAMILIES["full"])
    ]
    early = maximize(problem, state, Stopping(4, 0, 0)).evaluation.state
    *_, complaints = data_cotangents(problem, early, cotangents, mode="implicit", tol=1e-6)
    assert "residual" in complaints[0]


def test_implicit_says_that_the_support_is_about_to_change():
    problem, state = separated_problem()
    end = maximize(problem, state, STRICT).evaluation.state
    plan = end.plan.copy()
    row, column = np.argwhere(plan == 0)[0]
    plan[row, column] = 1e-9
    plan /= plan.sum()
    touched = end._replace(plan=plan, weights=(plan.sum(axis=1), plan.sum(axis=0)))
    pair = mixtures_of(end, FAMILIES["full"])
    cotangents = [random_cotangent(np.random.default_rng(0), theta) for theta in pair]
    *_, complaints = data_cotangents(problem, touched, cotangents, mode="implicit", tol=1e-3)
    assert any("support" in complaint for complaint in complaints)


@pytest.mark.parametrize("freeze_target", [False, True])
@pytest.mark.parametrize(
    "excess, mass, told",
    [(-1e-3, 0.0, False), (-1e-7, 0.0, True), (1e-3, 0.0, True), (0, 1e-7, True), (0, 0.01, False)],
)
def test_undecided_pairs_are_told_and_no_others(freeze_target, excess, mass, told):
    """Zero entries of the plan whose slope is nearly zero or upwards, and tiny entries."""
    problem, state = separated_problem(freeze_target=freeze_target)
    plan = np.array([[0.2, 0.0], [0.1, 0.3], [0.2, 0.2 - mass]])
    plan[0, 1] = mass
    weights = plan.sum(axis=1), plan.sum(axis=0)
    about = optimum_gradients._Linearization(problem, state._replace(plan=plan, weights=weights))
    # where all of a column carries mass the slopes of its entries are equal; of columns that are
    # not held too
    slopes = np.zeros((3, 2)) + ([5.0, -7.0] if freeze_target else 5.0)
    slopes[0, 1] += excess
    about.evaluation = about.evaluation._replace(plan_bar=slopes)
    complaints = optimum_gradients._off_the_optimum(problem, about, np.inf)
    assert len(complaints) == told
    assert all("change at [[0, 1]]" in complaint for complaint in complaints)


@pytest.mark.parametrize("variant", [{"reg": 0.3}, {"fixed_weights": True}])
def test_plans_without_a_support_are_never_undecided(variant):
    problem, state = separated_problem(**variant)
    about = optimum_gradients._Linearization(problem, state)
    assert not optimum_gradients._off_the_optimum(problem, about, np.inf)
