"""EM at a temperature: responsibilities ∝ w_k g_k(x)^(1/ε), and all derivatives of that step."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import MixtureParameters

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.densities import log_density
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, anneal, iterate
from skgmmot.em.solvers import SOLVERS
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.interface import DataTangent

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered"])
temperatures = pytest.mark.parametrize("temperature", [0.05, 0.7, 3.0])


def setting(kind, temperature, *, seed=0, n=300, d=2, K=3, spread=1.5, way=None, **options):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind, spread=spread)
    X = naive.sample(rng, theta, n)
    weight = rng.uniform(0.2, 2.0, size=n)
    options = {"covariance_type": kind, "temperature": temperature, "reg_covar": 1e-3} | options
    problem = EMMap.on(X, weight, **options)
    return (problem if way is None else naive.in_way(problem, way)), theta, rng


def tempered(temperature):
    def joint(X, theta):
        log_weights = np.log(theta.weights)
        return log_weights + (naive.log_joint(X, theta) - log_weights) / temperature

    return joint


@all_types
@all_ways
@temperatures
def test_the_step_by_its_definition(kind, way, temperature):
    problem, theta, _ = setting(kind, temperature, way=way)
    step = problem.step(theta)
    expected, bound = naive.em_step(
        problem.samples.X,
        theta,
        problem.samples.sample_weight,
        reg_covar=1e-3,
        joint_of=tempered(temperature),
    )
    assert naive.errors(step.parameters, expected) < 1e-10
    np.testing.assert_allclose(step.lower_bound, temperature * bound, rtol=1e-11)
    joint = tempered(temperature)(problem.samples.X, theta)
    np.testing.assert_allclose(
        log_density(problem, theta), naive.log_density(joint), rtol=1e-10, atol=1e-11
    )


@all_types
@temperatures
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_the_free_energy_never_rises(kind, temperature, fixed_weights):
    problem, theta, _ = setting(kind, temperature, reg_covar=0.0, fixed_weights=fixed_weights)
    for acceleration in (None, "newton", "lbfgs", "anderson"):
        result = iterate(problem, theta, Stopping(60, 0.0, 0.0), solver=SOLVERS[acceleration])
        # of size one to ten, at the smallest temperature a twentieth of sums twenty times that
        assert np.diff(result.lower_bounds).min() > -1e-12
        assert result.lower_bounds[-1] > result.lower_bounds[0]


@all_types
@all_ways
@temperatures
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_jvp_is_the_slope_of_the_step(kind, way, temperature, fixed_weights):
    problem, theta, rng = setting(kind, temperature, way=way, fixed_weights=fixed_weights)
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
            fixed_weights=fixed_weights,
        )
        parts = (part + t * part_dot for part, part_dot in zip(theta, dot, strict=True))
        return moved.step(MixtureParameters(*parts, kind)).parameters

    # a small temperature makes responsibilities steep: short steps
    h = 1e-5 * min(temperature, 1.0)
    tangent = problem.jvp(problem.step(theta), dot, DataTangent(X_dot, weight_dot))
    for ahead, behind, actual in zip(at(h), at(-h), tangent, strict=True):
        slope = (ahead - behind) / (2 * h)
        np.testing.assert_allclose(actual, slope, atol=1e-6 * max(1.0, np.abs(slope).max()))


@all_types
@all_ways
@temperatures
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_jvp_and_vjp_are_transposed(kind, way, temperature, fixed_weights):
    problem, theta, rng = setting(kind, temperature, way=way, fixed_weights=fixed_weights)
    dot, bar = (naive.random_cotangent(rng, theta) for _ in range(2))
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
    assert abs(forward - sum(terms)) < 1e-11 * sum(map(abs, terms))


@all_types
@pytest.mark.parametrize("temperature", [0.5, 1.2])
def test_implicit_pair_at_a_fixed_point(kind, temperature):
    problem, theta, rng = setting(kind, temperature, spread=5.0)
    theta = iterate(problem, theta, Stopping(9000, np.inf, 1e-12)).parameters
    bar, X_dot = naive.random_cotangent(rng, theta), rng.normal(size=problem.samples.X.shape)
    record = FitRecord(theta)
    tangent, _ = ADJOINTS["implicit"].jvp(problem, record, DataTangent(X_dot), tol=1e-9)
    back = ADJOINTS["implicit"].vjp(problem, record, bar, tol=1e-9)[0]
    forward = naive.inner_product(bar, tangent)
    np.testing.assert_allclose((back.data * X_dot).sum(), forward, rtol=1e-8)


@all_types
def test_unrolled_pair_through_a_schedule(kind):
    problem, theta, rng = setting(kind, 1.0)
    result = anneal(problem, theta, [3.0, 1.5, 1.0], Stopping(40, 1e-3, np.inf))
    stages = result.path.stages(problem)
    assert [stage.temperature for stage, _ in stages] == [3.0, 1.5, 1.0]
    assert all(path.length for _, path in stages)
    assert sum(path.length for _, path in stages) == len(result.lower_bounds)
    bar, X_dot = naive.random_cotangent(rng, theta), rng.normal(size=problem.samples.X.shape)
    theta_dot = naive.random_cotangent(rng, theta)
    weight_dot = rng.normal(size=len(problem.samples.X))
    forward = naive.inner_product(
        bar,
        ADJOINTS["unrolled"].jvp(
            problem,
            FitRecord(result.path.end, path=result.path),
            DataTangent(X_dot, weight_dot),
            initial_dot=theta_dot,
        )[0],
    )
    back = ADJOINTS["unrolled"].vjp(problem, FitRecord(result.path.end, path=result.path), bar)[0]
    terms = [
        (back.data * X_dot).sum(),
        back.sample_weight @ weight_dot,
        naive.inner_product(back.initial_parameters, theta_dot),
    ]
    assert abs(forward - sum(terms)) < 1e-10 * sum(map(abs, terms))


def test_annealing_is_runs_in_a_row():
    problem, theta, _ = setting("full", 1.0)
    stopping = Stopping(10_000, np.inf, 1e-5)
    seen = []
    result = anneal(
        problem,
        theta,
        [2.0, 1.0],
        stopping,
        callback=lambda n_iter, theta, change, converged: seen.append((n_iter, converged)),
    )
    first = iterate(problem.at(2.0), theta, stopping)
    second = iterate(problem.at(1.0), first.parameters, stopping)
    np.testing.assert_array_equal(result.parameters.means, second.parameters.means)
    assert result.lower_bounds == first.lower_bounds + second.lower_bounds
    assert result.n_evaluations == first.n_evaluations + second.n_evaluations
    assert seen == [(i, i == len(seen)) for i in range(1, len(seen) + 1)]
    # the steps are counted over all temperatures, and convergence is that of the last one
    for more in (0, 1):
        most = first.n_evaluations + more
        cut = anneal(problem, theta, [2.0, 1.0], stopping._replace(max_iter=most))
        assert cut.n_evaluations == most and not cut.converged


def test_annealing_ends_when_it_is_told_to():
    problem, theta, _ = setting("full", 1.0)
    short = anneal(problem, theta, [2.0, 1.0], Stopping(7, 0.0, 0.0))
    assert len(short.lower_bounds) == 7 and not short.converged
    assert short.path.temperature == 2.0
    told = anneal(
        problem, theta, [2.0, 1.0], Stopping(99, 0.0, 0.0), callback=lambda n, *rest: n == 5
    )
    assert len(told.lower_bounds) == 5 and not told.converged
    settled = anneal(problem, theta, [2.0, 1.0], Stopping(9, 1e9, np.inf))
    assert settled.converged and settled.path.temperature == 1.0


@all_types
@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-300])
def test_towards_zero_assignments_are_hard(kind, temperature):
    """The limit: each sample goes to the component of largest density, whatever the weights."""
    problem, theta, rng = setting(kind, temperature)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        step = problem.step(theta)
    densities = naive.log_joint(problem.samples.X, theta) - np.log(theta.weights)
    hard = np.eye(3)[densities.argmax(axis=1)]
    expected = naive.maximize(
        problem.samples.X, problem.samples.sample_weight, hard, theta, reg_covar=1e-3
    )
    assert naive.errors(step.parameters, expected) < 1e-9
    bound = np.average(densities.max(axis=1), weights=problem.samples.sample_weight)
    np.testing.assert_allclose(step.lower_bound, bound, rtol=2e-5)
    bar = naive.random_cotangent(rng, theta)
    data_bar = problem.zero_cotangent(wrt_weight=True)
    theta_bar = problem.vjp(step, bar, data_bar)
    assert np.isfinite(data_bar.X).all() and np.isfinite(np.concatenate([*theta_bar], None)).all()


@given(temperature=st.floats(1.5, 1e6), seed=st.integers(0, 2**32 - 1))
def test_heat_evens_responsibilities_out(temperature, seed):
    """The hotter, the closer masses are to the weights."""
    distances = []
    for factor in (1.0, 10.0):
        problem, theta, _ = setting("full", factor * temperature, seed=seed, n=60)
        mass = problem.step(theta).mass / problem.data.total_weight
        distances.append(np.abs(mass - theta.weights).max())
    assert distances[1] <= distances[0] + 1e-12
