"""Iterating EM: when it stops, what it reports, and the measure of change."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.families.fisher import scaled_change
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def problem_and_start(kind="full", *, n=400, d=2, K=3, seed=0, spread=2.0, **options):
    rng = np.random.default_rng(seed)
    truth = naive.random_mixture(rng, K, d, kind, spread=spread)
    X = naive.sample(rng, truth, n)
    theta = MixtureParameters(
        np.full(K, 1 / K), truth.means + rng.normal(size=(K, d)), truth.covariances * 1.5, kind
    )
    return EMMap.on(X, covariance_type=kind, reg_covar=1e-6, **options), theta


# The measure of change


@all_types
@given(d=st.integers(1, 5), K=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_scaled_change(kind, d, K, seed):
    rng = np.random.default_rng(seed)
    old, new = (naive.random_mixture(rng, K, d, kind) for _ in range(2))
    np.testing.assert_allclose(scaled_change(new, old), naive.scaled_change(new, old), rtol=1e-12)


@all_types
@pytest.mark.parametrize("part", range(3), ids=["weights", "means", "covariances"])
def test_each_part_counts_by_itself(kind, part):
    rng = np.random.default_rng(1)
    old = naive.random_mixture(rng, 3, 2, kind)
    parts = [array.copy() for array in old]
    parts[part][-1] *= 1.25
    if part == 2 and kind in ("full", "tied"):
        parts[2] = old.covariances.copy()
        parts[2][..., 0, 0] *= 1.25
    new = MixtureParameters(*parts, kind)
    change = scaled_change(new, old)
    assert change > 0.0
    np.testing.assert_allclose(change, naive.scaled_change(new, old), rtol=1e-12)


@all_types
def test_a_change_of_weights_that_is_enough_is_the_answer(kind):
    rng = np.random.default_rng(3)
    old, new = (naive.random_mixture(rng, 3, 2, kind) for _ in range(2))
    largest = np.abs(new.weights - old.weights).max()
    assert scaled_change(new, old, enough=largest) == largest < scaled_change(new, old)
    enough = np.nextafter(largest, 1.0)
    assert scaled_change(new, old, enough=enough) == scaled_change(new, old)


@all_types
def test_no_change_is_zero(kind):
    theta = naive.random_mixture(np.random.default_rng(2), 3, 2, kind)
    assert scaled_change(theta, theta) == 0.0


def affine_maps(kind, rng, d):
    """A matrix A and a vector b such that A x + b leaves the covariance type as it is."""
    if kind in ("full", "tied"):
        A = rng.normal(size=(d, d)) + 3 * np.eye(d)
    elif kind == "diag":
        A = np.diag(10.0 ** rng.uniform(-6, 6, size=d))
    else:
        A = 1e4 * np.linalg.qr(rng.normal(size=(d, d)))[0]
    return A, 100 * rng.normal(size=d)


@all_types
@given(seed=st.integers(0, 2**32 - 1))
def test_scaled_change_is_the_same_in_all_affine_coordinates(kind, seed):
    rng = np.random.default_rng(seed)
    d, K = 3, 2
    A, b = affine_maps(kind, rng, d)

    def mapped(theta):
        if kind in ("full", "tied"):
            covariances = A @ theta.covariances @ A.T
        elif kind == "diag":
            covariances = theta.covariances * np.diag(A) ** 2
        else:
            covariances = theta.covariances * 1e4**2
        return MixtureParameters(theta.weights, theta.means @ A.T + b, covariances, kind)

    old, new = (naive.random_mixture(rng, K, d, kind) for _ in range(2))
    # A is invertible with a condition number of some dozens, seldom a thousand
    np.testing.assert_allclose(
        scaled_change(mapped(new), mapped(old)), scaled_change(new, old), rtol=1e-7
    )


# Iterating


@all_types
@pytest.mark.parametrize("max_iter", [0, 1, 7])
def test_zero_tolerances_make_all_steps(kind, max_iter):
    problem, theta = problem_and_start(kind)
    result = iterate(problem, theta, Stopping(max_iter, 0.0, 0.0))
    assert len(result.lower_bounds) == max_iter
    assert not result.converged
    expected, before, bounds = theta, theta, []
    for _ in range(max_iter):
        before = expected
        expected, bound = naive.em_step(problem.samples.X, before, reg_covar=1e-6)
        bounds.append(bound)
    assert naive.errors(result.parameters, expected) < 1e-10
    assert naive.errors(result.path.previous, before) < 1e-10
    np.testing.assert_allclose(result.lower_bounds, bounds, rtol=1e-12)
    assert result.last.lost is None


@all_types
def test_residual_and_bound_are_those_at_the_end(kind):
    problem, theta = problem_and_start(kind)
    result = iterate(problem, theta, Stopping(5, 0.0, 0.0))
    following, bound = naive.em_step(problem.samples.X, result.parameters, reg_covar=1e-6)
    expected = naive.scaled_change(following, result.parameters)
    assert expected > 1e-4  # far enough from the fixed point for the comparison to mean something
    np.testing.assert_allclose(result.residual, expected, rtol=1e-8)
    np.testing.assert_allclose(result.last.lower_bound, bound, rtol=1e-13)


@all_types
def test_lower_bounds_climb(kind):
    problem, theta = problem_and_start(kind)
    problem = replace(problem, reg_covar=0.0)
    result = iterate(problem, theta, Stopping(60, 0.0, 0.0))
    gains = np.diff([*result.lower_bounds, result.last.lower_bound])
    assert (gains >= -1e-13).all()
    assert gains[0] > 1e-3


@all_types
def test_converged_means_both_tolerances(kind):
    problem, theta = problem_and_start(kind)
    tol, residual_tol = 1e-4, 1e-5
    result = iterate(problem, theta, Stopping(5000, tol, residual_tol))
    assert result.converged
    gains = np.abs(np.diff(result.lower_bounds))
    n_iter = len(result.lower_bounds)
    # replay: the last step met both, none before it did
    path = [theta]
    for _ in range(n_iter):
        path.append(naive.em_step(problem.samples.X, path[-1], reg_covar=1e-6)[0])
    changes = [naive.scaled_change(new, old) for old, new in zip(path, path[1:], strict=False)]
    met = (gains < tol) & (np.array(changes[1:]) < residual_tol)
    assert met[-1] and not met[:-1].any()
    assert (gains < tol).sum() > 1  # the gain alone would have stopped it before


def test_infinite_residual_tol_leaves_it_to_the_gain():
    problem, theta = problem_and_start()
    result = iterate(problem, theta, Stopping(5000, 1e-4, np.inf))
    gains = np.abs(np.diff(result.lower_bounds))
    assert result.converged
    assert gains[-1] < 1e-4 and (gains[:-1] >= 1e-4).all()
    assert result.residual > 1e-4  # which a finite tolerance would not have accepted


def test_infinite_tol_leaves_it_to_the_residual():
    problem, theta = problem_and_start()
    result = iterate(problem, theta, Stopping(5000, np.inf, 1e-5))
    assert result.converged
    last_change = naive.scaled_change(result.parameters, result.path.previous)
    assert last_change < 1e-5
    before = iterate(problem, theta, Stopping(len(result.lower_bounds) - 1, 0.0, 0.0))
    assert naive.scaled_change(before.parameters, before.path.previous) >= 1e-5


def test_max_iter_is_reached_without_convergence():
    problem, theta = problem_and_start()
    result = iterate(problem, theta, Stopping(3, 1e-12, 1e-12))
    assert not result.converged and len(result.lower_bounds) == 3


def test_a_run_may_be_continued():
    """With the bound of the step before, the first step of a run can be the last."""
    problem, theta = problem_and_start()
    settled = iterate(problem, theta, Stopping(5000, 1e-9, 1e-6))
    stopping = Stopping(10, 1e-6, 1e-4)
    anew = iterate(problem, settled.parameters, stopping)
    continued = iterate(
        problem, settled.parameters, stopping, previous_bound=settled.lower_bounds[-1]
    )
    assert len(anew.lower_bounds) == 2  # without it the gain of the first step is unknown
    assert len(continued.lower_bounds) == 1
    assert anew.converged and continued.converged


def test_callback_sees_every_step_and_may_stop():
    problem, theta = problem_and_start()
    seen = []

    def callback(*arguments):
        seen.append(arguments)
        return len(seen) == 4

    result = iterate(problem, theta, Stopping(50, 0.0, 0.0), callback=callback)
    assert not result.converged
    numbers, thetas, changes, converged = zip(*seen, strict=True)
    bounds = result.lower_bounds
    assert not any(converged)
    assert numbers == (1, 2, 3, 4)
    assert changes[0] == np.inf
    np.testing.assert_array_equal(changes[1:], np.diff(bounds))
    assert thetas[-1] is result.parameters and thetas[-2] is result.path.previous


def test_callback_that_returns_nothing_does_not_stop():
    problem, theta = problem_and_start()
    result = iterate(problem, theta, Stopping(6, 0.0, 0.0), callback=lambda *arguments: None)
    assert len(result.lower_bounds) == 6


def test_lost_components_are_reported():
    problem, theta = problem_and_start()
    means = theta.means.copy()
    means[2] = 1e4
    theta = MixtureParameters(theta.weights, means, theta.covariances, "full")
    result = iterate(problem, theta, Stopping(3, 0.0, 0.0))
    np.testing.assert_array_equal(result.last.lost, [False, False, True])
    np.testing.assert_array_equal(result.parameters.means[2], means[2])


@all_types
def test_fixed_weights_stay(kind):
    problem, theta = problem_and_start(kind, fixed_weights=True)
    weights = np.array([0.2, 0.3, 0.5])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    result = iterate(problem, theta, Stopping(9, 0.0, 0.0))
    np.testing.assert_array_equal(result.parameters.weights, weights)
    assert naive.scaled_change(result.parameters, theta) > 0.1
