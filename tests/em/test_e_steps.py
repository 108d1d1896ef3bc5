"""The balanced E-step: its marginals, its value, and the derivatives of the step."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from naive import MixtureParameters
from scipy.optimize import linprog
from scipy.special import logsumexp

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.e_steps import BALANCED, SOFTMAX
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.solvers import SOLVERS
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataTangent

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered"])
temperatures = pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])


def setting(kind="full", temperature=1.0, *, seed=0, n=300, d=2, K=3, spread=1.5, way=None):
    """A mixture whose weights are not those that the samples have."""
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind, spread=spread)
    X = naive.sample(rng, theta, n)
    weights = rng.dirichlet(np.full(K, 5.0))
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    weight = rng.uniform(0.2, 2.0, size=n)
    problem = EMMap.on(
        X, weight, covariance_type=kind, temperature=temperature, reg_covar=1e-3, e_step=BALANCED
    )
    return (problem if way is None else naive.in_way(problem, way)), theta, rng


def sinkhorn(problem, theta, n_iter=4000):
    """The plan by Sinkhorn's algorithm, (n, K), in the logarithm."""
    a = problem.samples.sample_weight / problem.samples.sample_weight.sum()
    costs = np.log(theta.weights) - naive.log_joint(problem.samples.X, theta)
    scores = -costs / problem.temperature
    g = np.zeros(len(theta.weights))
    for _ in range(n_iter):
        f = np.log(a) - logsumexp(scores + g, axis=1)
        last, g = g, np.log(theta.weights) - logsumexp(scores + f[:, None], axis=0)
        if np.abs(g - last).max() < 1e-14:  # rounding: it has converged
            break
    plan = np.exp(scores + f[:, None] + g)
    divergence = (plan * np.log(plan / (a[:, None] * theta.weights))).sum()
    return plan, (plan * costs).sum() + problem.temperature * divergence


@all_types
@all_ways
@temperatures
def test_the_step_by_sinkhorns_algorithm(kind, way, temperature):
    problem, theta, _ = setting(kind, temperature, way=way)
    step = problem.step(theta)
    plan, value = sinkhorn(problem, theta)
    assert np.abs(plan.sum(axis=0) - theta.weights).max() < 1e-9
    gamma = plan / plan.sum(axis=1, keepdims=True)
    expected = naive.maximize(
        problem.samples.X,
        problem.samples.sample_weight,
        gamma,
        theta,
        reg_covar=1e-3,
        fixed_weights=True,
    )
    assert naive.errors(step.parameters, expected) < 1e-8
    np.testing.assert_allclose(-step.lower_bound, value, rtol=1e-9)
    np.testing.assert_array_equal(step.parameters.weights, theta.weights)
    free = replace(problem, e_step=SOFTMAX, fixed_weights=True).step(theta)
    assert naive.scaled_change(free.parameters, step.parameters) > 1e-2


@all_types
@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_masses_are_held_at_the_weights(kind, spread, temperature):
    """Also where hardly a sample is shared, so that potentials are large and Newton is blind."""
    problem, theta, _ = setting(kind, temperature, spread=spread)
    step = problem.step(theta)
    assert np.abs(step.mass / problem.data.total_weight - theta.weights).max() < 1e-9
    assert step.balance.error < 1e-10
    np.testing.assert_allclose(
        step.balance.error,
        np.abs(step.mass / problem.data.total_weight - theta.weights).max(),
        atol=1e-9,
    )


def test_towards_zero_it_is_the_linear_program():
    problem, theta, _ = setting(temperature=1e-3, n=40)
    step = problem.step(theta)
    a = problem.samples.sample_weight / problem.samples.sample_weight.sum()
    costs = np.log(theta.weights) - naive.log_joint(problem.samples.X, theta)
    n, K = costs.shape
    rows = np.kron(np.eye(n), np.ones(K))
    columns = np.kron(np.ones(n), np.eye(K))
    found = linprog(
        costs.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, theta.weights])
    )
    # ε KL is at most ε log K
    assert 0.0 <= -step.lower_bound - found.fun < 1e-3 * np.log(3) / theta.weights.min()


def test_a_weight_of_zero_gets_nothing():
    problem, theta, _ = setting()
    weights = np.array([0.4, 0.0, 0.6])
    theta = MixtureParameters(weights, theta.means, theta.covariances, "full")
    step = problem.step(theta)
    np.testing.assert_allclose(step.mass / problem.data.total_weight, weights, atol=1e-10)
    np.testing.assert_array_equal(step.parameters.means[1], theta.means[1])


def test_what_is_not_solved_is_told(monkeypatch):
    monkeypatch.setattr("skgmmot.em.e_steps._MAX_PASSES", 2)
    monkeypatch.setattr("skgmmot.em.e_steps._MAX_HEATINGS", 0)
    problem, theta, _ = setting(spread=10.0)
    precisions = problem.precisions(theta)
    plain = problem.logits(theta, precisions)
    logits, balance = BALANCED.logits(problem, theta, plain, precisions)
    mass = CpuSamples(problem.samples.X, problem.samples.sample_weight).statistics(logits)[0][:, 0]
    error = np.abs(mass / problem.data.total_weight - theta.weights).max()
    np.testing.assert_allclose(balance.error, error, rtol=1e-10)
    assert balance.error > 1e-3


@all_types
@pytest.mark.parametrize("acceleration", [None, "newton", "lbfgs", "anderson"])
def test_the_value_never_rises(kind, acceleration):
    problem, theta, _ = setting(kind)
    problem = replace(problem, reg_covar=0.0)
    result = iterate(problem, theta, Stopping(5000, np.inf, 1e-5), solver=SOLVERS[acceleration])
    assert result.converged
    # the masses are solved to 1e-10, and the value to the square of that
    assert np.diff(result.lower_bounds).min() > -1e-12
    assert result.lower_bounds[-1] > result.lower_bounds[0] + 1e-3


@all_types
@all_ways
@temperatures
def test_jvp_is_the_slope_of_the_step(kind, way, temperature):
    problem, theta, rng = setting(kind, temperature, way=way)
    dot = naive.random_cotangent(rng, theta)
    dot.weights[:] -= dot.weights.mean()
    X_dot, weight_dot = (
        rng.normal(size=problem.samples.X.shape),
        rng.normal(size=len(problem.samples.X)),
    )

    def at(t):
        moved = EMMap.on(
            problem.samples.X + t * X_dot,
            problem.samples.sample_weight + t * weight_dot,
            covariance_type=kind,
            temperature=temperature,
            reg_covar=1e-3,
            e_step=BALANCED,
        )
        parts = (part + t * part_dot for part, part_dot in zip(theta, dot, strict=True))
        return moved.step(MixtureParameters(*parts, kind)).parameters

    h = 1e-5
    tangent = problem.jvp(problem.step(theta), dot, DataTangent(X_dot, weight_dot))
    for ahead, behind, actual in zip(at(h), at(-h), tangent, strict=True):
        slope = (ahead - behind) / (2 * h)
        np.testing.assert_allclose(actual, slope, atol=1e-6 * max(1.0, np.abs(slope).max()))


@all_types
@all_ways
@temperatures
def test_jvp_and_vjp_are_transposed(kind, way, temperature):
    problem, theta, rng = setting(kind, temperature, way=way)
    dot, bar = (naive.random_cotangent(rng, theta) for _ in range(2))
    dot.weights[:] -= dot.weights.mean()
    X_dot, weight_dot = (
        rng.normal(size=problem.samples.X.shape),
        rng.normal(size=len(problem.samples.X)),
    )
    step = problem.step(theta)
    forward = naive.inner_product(bar, problem.jvp(step, dot, DataTangent(X_dot, weight_dot)))
    data_bar = problem.zero_cotangent(wrt_weight=True)
    theta_bar = problem.vjp(step, bar, data_bar)
    problem.finish(data_bar)
    terms = [
        naive.inner_product(theta_bar, dot),
        (data_bar.X * X_dot).sum(),
        data_bar.sample_weight @ weight_dot,
    ]
    assert abs(forward - sum(terms)) < 1e-9 * sum(map(abs, terms))


@all_types
def test_implicit_pair_at_a_fixed_point(kind):
    problem, theta, rng = setting(kind, spread=3.0)
    theta = iterate(
        problem, theta, Stopping(9000, np.inf, 1e-11), solver=SOLVERS["newton"]
    ).parameters
    bar, X_dot = naive.random_cotangent(rng, theta), rng.normal(size=problem.samples.X.shape)
    record = FitRecord(theta)
    tangent, _ = ADJOINTS["implicit"].jvp(problem, record, DataTangent(X_dot), tol=1e-8)
    back = ADJOINTS["implicit"].vjp(problem, record, bar, tol=1e-8)[0]
    forward = naive.inner_product(bar, tangent)
    np.testing.assert_allclose((back.data * X_dot).sum(), forward, rtol=1e-7)


@all_types
@all_ways
def test_overlaps_by_their_definition(kind, way):
    problem, theta, _ = setting(kind, n=700, way=way)
    logits = problem.logits(theta)
    gamma = naive.responsibilities(naive.log_joint(problem.samples.X, theta))
    for weight in (None, problem.samples.sample_weight):
        s = np.ones(len(gamma)) if weight is None else weight
        shared, mass, log_likelihood = CpuSamples(problem.samples.X, weight).overlaps(logits)
        np.testing.assert_allclose(shared, np.einsum("i,ik,il->kl", s, gamma, gamma), rtol=1e-9)
        np.testing.assert_allclose(mass, s @ gamma, rtol=1e-9)
        expected = CpuSamples(problem.samples.X, weight).statistics(logits)[1]
        np.testing.assert_allclose(log_likelihood, expected, rtol=1e-13)
        again = CpuSamples(problem.samples.X, weight, n_threads=2).overlaps(logits)
        np.testing.assert_array_equal(shared, again[0])
