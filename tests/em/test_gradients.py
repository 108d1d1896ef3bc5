"""Gradients through EM: the one-step mode."""

import naive
import numpy as np
import pytest

from skgmmot.em.fixed_point import iterate
from skgmmot.em.gradients import one_step_vjp
from skgmmot.em.problem import em_problem
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def problem_and_start(kind, fixed_weights, seed=0):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, 3, 2, kind)
    X = naive.sample(rng, theta, 200)
    weight = rng.uniform(0.1, 2.0, size=200)
    problem = em_problem(
        X, weight, covariance_type=kind, reg_covar=1e-3, fixed_weights=fixed_weights
    )
    return problem, naive.random_mixture(rng, 3, 2, kind), naive.random_cotangent(rng, theta)


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("max_iter", [1, 5])
def test_one_step_is_the_derivative_of_the_last_step(kind, fixed_weights, max_iter):
    """All steps but the last are held constant, in PyTorch as well."""
    pytest.importorskip("torch")
    problem, theta, cotangent = problem_and_start(kind, fixed_weights)
    result = iterate(problem, theta, max_iter=max_iter, tol=0.0, residual_tol=0.0)
    options = {"reg_covar": 1e-3, "fixed_weights": fixed_weights}
    previous = theta
    for _ in range(max_iter - 1):
        previous, _ = naive.em_step(problem.X, previous, problem.sample_weight, **options)
    expected = naive.torch_gradients(
        problem.X, problem.sample_weight, previous, cotangent, **options
    )
    gradients = one_step_vjp(problem, result.path.previous, result.path.last, cotangent)
    for actual, truth in zip(gradients[:2], expected, strict=True):
        np.testing.assert_allclose(actual, truth, rtol=0, atol=1e-10 * np.abs(truth).max())


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_one_step_is_the_slope_of_a_run_of_a_single_step(kind, fixed_weights):
    problem, theta, cotangent = problem_and_start(kind, fixed_weights)
    rng = np.random.default_rng(1)
    dX = rng.normal(size=problem.X.shape)

    def value(t):
        moved = em_problem(
            problem.X + t * dX,
            problem.sample_weight,
            covariance_type=kind,
            reg_covar=1e-3,
            fixed_weights=fixed_weights,
        )
        result = iterate(moved, theta, max_iter=1, tol=0.0, residual_tol=0.0)
        return naive.inner_product(cotangent, result.parameters)

    result = iterate(problem, theta, max_iter=1, tol=0.0, residual_tol=0.0)
    X_bar = one_step_vjp(problem, result.path.previous, result.path.last, cotangent).data
    h = 1e-3  # the formula is of fourth order: both of its errors are about 1e-12
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    np.testing.assert_allclose((X_bar * dX).sum(), slope, rtol=1e-7)
