"""Gradients through EM: one step, all steps, and the fixed point."""

import re

import naive
import numpy as np
import pytest

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.path import Path
from skgmmot.numerics import linear_solve
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples.interface import DataTangent

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def problem_and_start(kind, fixed_weights, seed=0):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, 3, 2, kind)
    X = naive.sample(rng, theta, 200)
    weight = rng.uniform(0.1, 2.0, size=200)
    problem = EMMap.on(X, weight, covariance_type=kind, reg_covar=1e-3, fixed_weights=fixed_weights)
    return problem, naive.random_mixture(rng, 3, 2, kind), naive.random_cotangent(rng, theta)


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("max_iter", [1, 5])
def test_one_step_is_the_derivative_of_the_last_step(kind, fixed_weights, max_iter):
    """All steps but the last are held constant, in PyTorch as well."""
    pytest.importorskip("torch")
    problem, theta, cotangent = problem_and_start(kind, fixed_weights)
    result = iterate(problem, theta, Stopping(max_iter, 0.0, 0.0))
    options = {"reg_covar": 1e-3, "fixed_weights": fixed_weights}
    previous = theta
    for _ in range(max_iter - 1):
        previous, _ = naive.em_step(
            problem.samples.X, previous, problem.samples.sample_weight, **options
        )
    expected = naive.torch_gradients(
        problem.samples.X, problem.samples.sample_weight, previous, cotangent, **options
    )
    result_bar = ADJOINTS["one_step"].vjp(problem, FitRecord(result.path.previous), cotangent)[0]
    for actual, truth in zip(result_bar[:2], expected, strict=True):
        np.testing.assert_allclose(actual, truth, rtol=0, atol=1e-10 * np.abs(truth).max())


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_one_step_is_the_slope_of_a_run_of_a_single_step(kind, fixed_weights):
    problem, theta, cotangent = problem_and_start(kind, fixed_weights)
    rng = np.random.default_rng(1)
    dX = rng.normal(size=problem.samples.X.shape)

    def value(t):
        moved = EMMap.on(
            problem.samples.X + t * dX,
            problem.samples.sample_weight,
            covariance_type=kind,
            reg_covar=1e-3,
            fixed_weights=fixed_weights,
        )
        result = iterate(moved, theta, Stopping(1, 0.0, 0.0))
        return naive.inner_product(cotangent, result.parameters)

    result = iterate(problem, theta, Stopping(1, 0.0, 0.0))
    X_bar = ADJOINTS["one_step"].vjp(problem, FitRecord(result.path.previous), cotangent)[0].data
    h = 1e-3  # the formula is of fourth order: both of its errors are about 1e-12
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    np.testing.assert_allclose((X_bar * dX).sum(), slope, rtol=1e-7)


# All steps


all_ways = pytest.mark.parametrize("way", ["matrix", "centered"])
all_weights = pytest.mark.parametrize("fixed_weights", [False, True])


def run(kind, fixed_weights, way="matrix", n_steps=5):
    """A run of EM, its problem, and what PyTorch differentiates it to."""
    problem, theta, cotangent = problem_and_start(kind, fixed_weights)
    problem = naive.in_way(problem, way)
    result = iterate(problem, theta, Stopping(n_steps, 0.0, 0.0))
    return problem, theta, result, cotangent


def symmetric(covariances, kind):
    """The symmetric part: a covariance's cotangent is defined up to the other one."""
    if kind not in ("full", "tied"):
        return covariances
    return (covariances + covariances.swapaxes(-1, -2)) / 2


@all_types
@all_weights
@all_ways
def test_unrolled_against_automatic_differentiation(kind, fixed_weights, way):
    torch = pytest.importorskip("torch")
    problem, theta, result, cotangent = run(kind, fixed_weights, way)
    actual = ADJOINTS["unrolled"].vjp(
        problem, FitRecord(result.path.end, path=result.path), cotangent
    )[0]

    X, weight = (
        torch.tensor(a, requires_grad=True)
        for a in (problem.samples.X, problem.samples.sample_weight)
    )
    start = [torch.tensor(part, requires_grad=True) for part in theta]
    parts = naive.torch_run(X, weight, start, kind, 5, reg_covar=1e-3, fixed_weights=fixed_weights)
    loss = sum((torch.as_tensor(c) * p).sum() for c, p in zip(cotangent, parts, strict=True))
    of_X, of_weight, *of_start = torch.autograd.grad(loss, [X, weight, *start])
    # five steps, each of which rounds like one
    assert naive.relative_error(actual.data, of_X.numpy()) < 1e-11
    assert naive.relative_error(actual.sample_weight, of_weight.numpy()) < 1e-11
    initial = actual.initial_parameters
    assert naive.relative_error(initial.weights, of_start[0].numpy()) < 1e-11
    assert naive.relative_error(initial.means, of_start[1].numpy()) < 1e-11
    assert naive.relative_error(initial.covariances, symmetric(of_start[2].numpy(), kind)) < 1e-11


@all_types
@all_weights
@all_ways
def test_unrolled_jvp_and_vjp_are_transposed(kind, fixed_weights, way):
    problem, theta, result, cotangent = run(kind, fixed_weights, way)
    rng = np.random.default_rng(5)
    X_dot, weight_dot = (
        rng.normal(size=problem.samples.X.shape),
        rng.normal(size=len(problem.samples.X)),
    )
    start_dot = naive.random_cotangent(rng, theta)
    tangent = ADJOINTS["unrolled"].jvp(
        problem,
        FitRecord(result.path.end, path=result.path),
        DataTangent(X_dot, weight_dot),
        initial_dot=start_dot,
    )[0]
    back = ADJOINTS["unrolled"].vjp(
        problem, FitRecord(result.path.end, path=result.path), cotangent
    )[0]
    forward = naive.inner_product(cotangent, tangent)
    terms = [
        (back.data * X_dot).sum(),
        back.sample_weight @ weight_dot,
        naive.inner_product(back.initial_parameters, start_dot),
    ]
    assert abs(forward - sum(terms)) < 1e-12 * sum(map(abs, terms))


@all_types
def test_one_step_jvp_and_vjp_are_transposed(kind):
    problem, _, result, cotangent = run(kind, False)
    rng = np.random.default_rng(6)
    X_dot, weight_dot = (
        rng.normal(size=problem.samples.X.shape),
        rng.normal(size=len(problem.samples.X)),
    )
    record = FitRecord(result.path.previous)
    forward = naive.inner_product(
        cotangent, ADJOINTS["one_step"].jvp(problem, record, DataTangent(X_dot, weight_dot))[0]
    )
    back = ADJOINTS["one_step"].vjp(problem, record, cotangent)[0]
    terms = [(back.data * X_dot).sum(), back.sample_weight @ weight_dot]
    assert abs(forward - sum(terms)) < 1e-12 * sum(map(abs, terms))


@pytest.mark.parametrize("n_steps", [1, 2, 7, 8, 9, 30])
def test_a_path_in_little_memory_gives_the_same_gradient(n_steps):
    problem, theta, result, cotangent = run("full", False, n_steps=n_steps)
    thin = Path(theta, max_bytes=1)
    for step in result.path.forwards(problem):
        thin.append(step)
    assert thin.length == n_steps
    assert len(thin._kept) <= 2 * np.sqrt(n_steps) + 1  # O(√T), whatever the budget
    expected = ADJOINTS["unrolled"].vjp(
        problem, FitRecord(result.path.end, path=result.path), cotangent
    )[0]
    actual = ADJOINTS["unrolled"].vjp(problem, FitRecord(thin.end, path=thin), cotangent)[0]
    np.testing.assert_array_equal(actual.data, expected.data)  # the same steps, to the bit
    thetas = [step.theta for step in thin.forwards(problem)]
    assert thetas[0] is theta and len(thetas) == n_steps
    assert thin.end is result.parameters


def test_a_component_that_lost_its_mass_does_not_move_and_keeps_its_start():
    problem, theta, cotangent = problem_and_start("full", False)
    theta.means[0] = 1e4
    result = iterate(problem, theta, Stopping(3, 0.0, 0.0))
    assert result.last.lost[0]
    back = ADJOINTS["unrolled"].vjp(
        problem, FitRecord(result.path.end, path=result.path), cotangent
    )[0]
    np.testing.assert_allclose(back.initial_parameters.means[0], cotangent.means[0])
    assert np.isfinite(back.data).all()
    tangent = ADJOINTS["unrolled"].jvp(
        problem,
        FitRecord(result.path.end, path=result.path),
        DataTangent(np.ones_like(problem.samples.X)),
    )[0]
    assert (tangent.means[0] == 0).all() and (tangent.means[1:] != 0).all()


# The fixed point


def converged(kind, fixed_weights, n_components=3):
    rng = np.random.default_rng(3)
    theta = naive.random_mixture(rng, n_components, 2, kind, spread=4.0)
    X = naive.sample(rng, theta, 300)
    problem = EMMap.on(
        X,
        rng.uniform(0.5, 2.0, size=300),
        covariance_type=kind,
        reg_covar=1e-2,
        fixed_weights=fixed_weights,
    )
    result = iterate(problem, theta, Stopping(5000, np.inf, 1e-13))
    assert result.converged
    return problem, result, naive.random_cotangent(rng, theta)


@all_types
@all_weights
@pytest.mark.parametrize("solver", ["dense", "gmres"])
def test_implicit_is_the_limit_of_unrolled(kind, fixed_weights, solver, monkeypatch):
    if solver == "gmres":
        monkeypatch.setattr(linear_solve, "_DENSE_SIZE", 0)
    problem, result, cotangent = converged(kind, fixed_weights)
    expected = ADJOINTS["unrolled"].vjp(
        problem, FitRecord(result.path.end, path=result.path), cotangent
    )[0]
    actual = ADJOINTS["implicit"].vjp(problem, FitRecord(result.parameters), cotangent, tol=1e-9)[0]
    assert naive.relative_error(actual.data, expected.data) < 1e-8
    assert naive.relative_error(actual.sample_weight, expected.sample_weight) < 1e-8
    assert actual.solve.method == solver and not actual.solve.singular
    assert actual.solve.residual < 1e-9 and actual.solve.n_products > 0


@all_types
@all_weights
def test_implicit_jvp_and_vjp_are_transposed(kind, fixed_weights):
    problem, result, cotangent = converged(kind, fixed_weights)
    rng = np.random.default_rng(7)
    X_dot, weight_dot = (
        rng.normal(size=problem.samples.X.shape),
        rng.normal(size=len(problem.samples.X)),
    )
    tangent, complaints = ADJOINTS["implicit"].jvp(
        problem, FitRecord(result.parameters), DataTangent(X_dot, weight_dot), tol=1e-12
    )
    back = ADJOINTS["implicit"].vjp(problem, FitRecord(result.parameters), cotangent, tol=1e-12)[0]
    terms = [(back.data * X_dot).sum(), back.sample_weight @ weight_dot]
    forward = naive.inner_product(cotangent, tangent)
    assert abs(forward - sum(terms)) < 1e-10 * sum(map(abs, terms))
    assert not complaints


def test_implicit_warns_of_parameters_that_are_no_fixed_point():
    problem, _, result, cotangent = run("full", False, n_steps=2)
    record = FitRecord(result.parameters)
    _, (complaint,) = ADJOINTS["implicit"].vjp(problem, record, cotangent, tol=1e-6)
    assert re.search(r"move by .* residual_tol", complaint)


def merged():
    """Two components that have become the same: their split is undetermined."""
    rng = np.random.default_rng(8)
    X = rng.normal(size=(200, 2))
    problem = EMMap.on(X, covariance_type="full", reg_covar=0.0)
    mean, covariance = X.mean(axis=0), np.cov(X.T, bias=True)
    theta = MixtureParameters(
        np.array([0.3, 0.7]), np.stack([mean] * 2), np.stack([covariance] * 2)
    )
    return problem, theta


def test_merged_components_are_told_and_get_the_solution_of_least_norm():
    problem, theta = merged()
    # the mean of the mixture is determined all the same
    cotangent = MixtureParameters(
        np.zeros(2), theta.weights[:, None] * [[1.0, 0.0]], np.zeros((2, 2, 2))
    )
    result, (complaint,) = ADJOINTS["implicit"].vjp(problem, FitRecord(theta), cotangent, tol=1e-6)
    assert "singular" in complaint
    assert result.solve.singular and result.solve.residual < 1e-8
    np.testing.assert_allclose(result.data, np.tile([1 / 200, 0.0], (200, 1)), atol=1e-10)


def test_a_large_system_that_gmres_cannot_solve_is_an_error(monkeypatch):
    monkeypatch.setattr(linear_solve, "_DENSE_SIZE", 0)
    monkeypatch.setattr(linear_solve, "_LARGEST_DENSE", 0)
    problem, theta = merged()
    cotangent = naive.random_cotangent(np.random.default_rng(0), theta)
    with pytest.raises(RuntimeError, match="residual"):
        ADJOINTS["implicit"].vjp(problem, FitRecord(theta), cotangent, tol=1e-6)[0]


@pytest.mark.parametrize("least, method", [(1e-11, "dense"), (1e-6, "gmres")])
def test_a_solution_that_dwarfs_its_right_hand_side_is_not_believed(least, method):
    """GMRES leaves a small residual, 1e-6 here, be the matrix singular to rounding or not."""
    diagonal = np.ones(linear_solve._DENSE_SIZE + 1)
    diagonal[-1] = least
    arguments = (lambda vector: diagonal * vector), np.ones(len(diagonal)), 1e-3
    vector, solve = linear_solve.solve_linear(*arguments)
    if method == "gmres":
        np.testing.assert_allclose(vector, 1 / diagonal, rtol=1e-5)
        assert not solve.singular
    else:
        np.testing.assert_allclose(vector, np.append(np.ones(len(diagonal) - 1), 0.0), atol=1e-12)
        assert solve.singular and solve.residual == pytest.approx(len(diagonal) ** -0.5)
    assert solve.method == method


def test_implicit_leaves_components_without_mass_alone():
    problem, result, cotangent = converged("full", False)
    weights, means, covariances = result.parameters
    theta = MixtureParameters(
        np.append(weights, 0.0),
        np.vstack([means, [[1e4, 1e4]]]),
        np.concatenate([covariances, np.eye(2)[None]]),
    )
    more = MixtureParameters(
        np.append(cotangent.weights, 1.0),
        np.vstack([cotangent.means, [[1.0, 1.0]]]),
        np.concatenate([cotangent.covariances, np.eye(2)[None]]),
    )
    expected = ADJOINTS["implicit"].vjp(problem, FitRecord(result.parameters), cotangent, tol=1e-9)[
        0
    ]
    actual = ADJOINTS["implicit"].vjp(problem, FitRecord(theta), more, tol=1e-9)[0]
    assert naive.relative_error(actual.data, expected.data) < 1e-8
    assert not actual.solve.singular


@pytest.mark.parametrize("mode", ["unrolled", "implicit"])
@pytest.mark.parametrize("case", ["far apart", "rare", "nearly equal", "float32"])
def test_hard_cases(mode, case):
    """Components 1e4 standard deviations apart, one of weight 1e-6, two nearly equal; float32."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(9)
    means = {"far apart": 1e4, "rare": 8.0, "nearly equal": 0.3, "float32": 4.0}[case] * np.array(
        [[0.0, 0.0], [1.0, 0.0]]
    )
    labels = rng.integers(2, size=200)
    X = means[labels] + rng.normal(size=(200, 2))
    weight = np.ones(200)
    if case == "rare":
        weight[labels == 1] = 1e-6
    if case == "float32":
        X = X.astype(np.float32)
    problem = EMMap.on(X, weight, covariance_type="full", reg_covar=1e-3)
    theta = MixtureParameters(np.full(2, 0.5), means, np.stack([np.eye(2)] * 2))
    n_steps = 5 if mode == "unrolled" else 20_000
    tol = 0.0 if mode == "unrolled" else np.inf
    result = iterate(problem, theta, Stopping(n_steps, tol, tol and 1e-12))
    cotangent = naive.random_cotangent(rng, theta)
    if mode == "unrolled":
        actual = ADJOINTS["unrolled"].vjp(
            problem, FitRecord(result.path.end, path=result.path), cotangent
        )[0]
        tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (X, weight)]
        start = [torch.as_tensor(part) for part in theta]
        parts = naive.torch_run(*tensors, start, "full", 5, reg_covar=1e-3)
        loss = sum((torch.as_tensor(c) * p).sum() for c, p in zip(cotangent, parts, strict=True))
        expected = torch.autograd.grad(loss, tensors)[0].numpy()
        # PyTorch's own products round to 1e-16 times the squared distance over the variance
        assert naive.relative_error(actual.data, expected) < (1e-8 if case == "far apart" else 1e-9)
    else:
        actual = ADJOINTS["implicit"].vjp(
            problem, FitRecord(result.parameters), cotangent, tol=1e-8
        )[0]
        expected = ADJOINTS["unrolled"].vjp(
            problem, FitRecord(result.path.end, path=result.path), cotangent
        )[0]
        assert naive.relative_error(actual.data, expected.data) < 1e-6
