"""Acceleration: the same fixed points in fewer passes, never down, never out of the domain."""

from dataclasses import replace
from functools import partial

import naive
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import expm, sqrtm
from sklearn.datasets import make_blobs

from skgmmot.em import moves as module
from skgmmot.em.anderson import Anderson
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.moves import retract
from skgmmot.em.solvers import SOLVERS
from skgmmot.families import family_of
from skgmmot.families.fisher import scaled_change
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples.cpu import CpuSamples

METHODS = ["anderson", "lbfgs", "newton"]
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_methods = pytest.mark.parametrize("method", METHODS)
# What sums of some hundreds of log densities, of size one to ten, lose to rounding.
ROUNDING = 1e-13
TO_THE_END = Stopping(20_000, np.inf, 1e-8)


def blobs(n, d, K, std, seed, kind="full", **options):
    """Overlapping clouds, and K random rows with the data's variances to start from."""
    X, _ = make_blobs(n, d, centers=K, cluster_std=std, random_state=seed)
    means = X[np.random.default_rng(0).choice(n, K, replace=False)]
    variances = X.var(axis=0)
    covariances = {
        "full": np.array([np.diag(variances)] * K),
        "tied": np.diag(variances),
        "diag": np.array([variances] * K),
        "spherical": np.full(K, variances.mean()),
    }[kind]
    theta = MixtureParameters(np.full(K, 1 / K), means, covariances, kind)
    return EMMap.on(X, covariance_type=kind, **options), theta


def overlapping(kind="full", *, seed=0, n=300, d=2, K=3, weighted=False, **options):
    """Data of a mixture whose components overlap, and a start that is not theirs."""
    rng = np.random.default_rng(seed)
    truth = naive.random_mixture(rng, K, d, kind, spread=1.5)
    X = naive.sample(rng, truth, n)
    weight = rng.uniform(0.2, 2.0, size=n) if weighted else None
    means = X[rng.choice(n, K, replace=False)]
    theta = MixtureParameters(rng.dirichlet(np.full(K, 5.0)), means, truth.covariances * 2, kind)
    return EMMap.on(X, weight, covariance_type=kind, **options), theta


def is_mixture(theta):
    simplex = (theta.weights >= 0).all() and abs(theta.weights.sum() - 1) < 1e-12
    return simplex and (np.linalg.eigvalsh(naive.matrices(theta)) > 0).all()


# The retraction


def moved_by(theta, tangent, *, fixed_weights=False):
    family = family_of(theta)
    precisions = family.precisions(theta.covariances, theta.n_features)
    return retract(family, theta, tangent, precisions=precisions, fixed_weights=fixed_weights)


@all_types
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(-3, 8), d=st.integers(1, 4))
def test_retraction_stays_in_the_domain(kind, seed, size, d):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, 3, d, kind)
    tangent = naive.random_cotangent(rng, theta)
    parts = (10.0**size * part for part in tangent)
    moved = moved_by(theta, MixtureParameters(*parts, kind))
    assert abs(moved.weights.sum() - 1) < 1e-12 and (moved.weights > 0).all()
    eigenvalues = np.linalg.eigvalsh(naive.matrices(moved))
    # at least half of Σ, whose eigenvalues are 1/2 or more, to the rounding of the largest
    assert (eigenvalues > 0.24 - 1e-14 * eigenvalues.max()).all()


@all_types
def test_retraction_moves_along_the_tangent(kind):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, 2, kind)
    tangent = naive.random_cotangent(rng, theta)
    tangent.weights[:] -= tangent.weights.mean()

    def at(t):
        return moved_by(theta, MixtureParameters(*(t * p for p in tangent), kind))

    for start, ahead, behind, dot in zip(theta, at(1e-5), at(-1e-5), tangent, strict=True):
        np.testing.assert_allclose((ahead - behind) / 2e-5, dot, atol=1e-8)
        assert not np.array_equal(ahead, start)


@all_types
def test_retraction_follows_the_geodesic_to_second_order(kind):
    """Σ ½ exp(Σ⁻½ Σ̇ Σ⁻½) Σ ½, the geodesic of the Fisher metric at fixed means."""
    rng = np.random.default_rng(2)
    theta = naive.random_mixture(rng, 3, 2, kind)
    tangent = naive.random_cotangent(rng, theta)
    t = 1e-3
    moved = moved_by(theta, MixtureParameters(*(t * part for part in tangent), kind))
    directions = naive.matrices(tangent)
    for sigma, dot, new in zip(
        naive.matrices(theta), directions, naive.matrices(moved), strict=True
    ):
        root = sqrtm(sigma)
        inverse = np.linalg.inv(root)
        expected = root @ expm(t * inverse @ dot @ inverse) @ root
        # the term of second order is about 1e-6, that of third order 1e-9
        np.testing.assert_allclose(new, expected, rtol=0, atol=1e-8)


@all_types
def test_retraction_leaves_fixed_weights_alone(kind):
    rng = np.random.default_rng(1)
    theta = naive.random_mixture(rng, 3, 2, kind)
    moved = moved_by(theta, naive.random_cotangent(rng, theta), fixed_weights=True)
    np.testing.assert_array_equal(moved.weights, theta.weights)


# The methods


@pytest.mark.parametrize(
    "case, ratio",
    [
        ((500, 2, 3, 1.5, 1), 3.5),
        ((2000, 3, 5, 3.0, 2), 5.0),
        ((5000, 2, 6, 2.5, 3), 20.0),
    ],
)
@pytest.mark.parametrize("method", ["lbfgs", "newton"])
def test_it_takes_far_fewer_passes_over_the_data(case, ratio, method):
    problem, theta = blobs(*case, reg_covar=1e-6)
    plain = iterate(problem, theta, TO_THE_END)
    fast = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method])
    assert plain.converged and fast.converged
    assert fast.residual < 1e-8
    # on the last of these L-BFGS finds another maximum, as any acceleration may
    other = method == "lbfgs" and ratio == 20.0
    assert fast.last.lower_bound > plain.last.lower_bound - (1e-4 if other else 1e-12)
    assert fast.n_evaluations * ratio < plain.n_evaluations == len(plain.lower_bounds)


def test_anderson_takes_fewer_passes_over_the_data():
    for case in [(500, 2, 3, 1.5, 1), (2000, 3, 5, 3.0, 2)]:
        problem, theta = blobs(*case, reg_covar=1e-6)
        plain = iterate(problem, theta, TO_THE_END)
        anderson = iterate(problem, theta, TO_THE_END, solver=SOLVERS["anderson"])
        assert anderson.converged and anderson.residual < 1e-8
        assert anderson.last.lower_bound > plain.last.lower_bound - 1e-12
        assert anderson.n_evaluations * 2 < plain.n_evaluations


@all_types
@all_methods
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_climbs_to_a_fixed_point_inside_the_domain(kind, method, fixed_weights, weighted):
    problem, theta = overlapping(kind, weighted=weighted, fixed_weights=fixed_weights)
    visited = []

    def callback(n_iter, theta, change, converged):
        visited.append(theta)

    result = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method], callback=callback)
    assert result.converged and len(result.lower_bounds) > 12
    gains = np.diff([*result.lower_bounds, result.last.lower_bound])
    assert (gains > -ROUNDING).all() and gains[0] > 1e-4
    assert all(is_mixture(theta) for theta in visited)
    following, _ = naive.em_step(
        problem.samples.X,
        result.parameters,
        problem.samples.sample_weight,
        fixed_weights=fixed_weights,
    )
    assert naive.scaled_change(following, result.parameters) < 1e-8
    if fixed_weights:
        np.testing.assert_array_equal(result.parameters.weights, theta.weights)


@all_types
@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(METHODS), K=st.integers(1, 4))
def test_no_start_makes_it_fall(kind, seed, method, K):
    problem, theta = overlapping(kind, seed=seed, K=K, n=80, reg_covar=0.0)
    stopping = Stopping(120, 0.0, 0.0)
    result = iterate(replace(problem, reg_covar=1e-12), theta, stopping, solver=SOLVERS[method])
    least = np.linalg.eigvalsh(naive.matrices(result.parameters)).min()
    # of a component on as many points as features, nothing but reg_covar and rounding is left
    assume(least > 1e-6)
    # the smaller an axis, the larger the rounding errors of squared distances along it
    assert np.diff(result.lower_bounds).min() > -ROUNDING - np.finfo(float).eps / least
    assert is_mixture(result.parameters)
    assert result.n_evaluations <= 120


@all_methods
def test_every_pass_over_the_data_is_counted(method, monkeypatch):
    problem, theta = overlapping()
    passes = []
    for name in ["statistics", "statistics_jvp"]:
        kernel = getattr(CpuSamples, name)

        def counted(*args, kernel=kernel, **options):
            passes.append(kernel)
            return kernel(*args, **options)

        monkeypatch.setattr(CpuSamples, name, counted)
    result = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method])
    # one more step looks at the residual of the end, with and without acceleration
    assert result.n_evaluations == len(passes) - 1 >= len(result.lower_bounds)
    # and of these, none of L-BFGS was more than a step
    assert (result.n_evaluations > len(result.lower_bounds)) == (method != "lbfgs")


@all_methods
@pytest.mark.parametrize("max_iter", [0, 1, *range(10, 35)])
def test_passes_are_limited(method, max_iter):
    problem, theta = blobs(500, 2, 3, 1.5, 1)
    result = iterate(problem, theta, Stopping(max_iter, 0.0, 0.0), solver=SOLVERS[method])
    assert result.n_evaluations == max_iter
    assert not result.converged


@all_methods
def test_the_first_steps_are_plain(method):
    """What EM finds in so few steps costs nothing more, and has the same bits."""
    problem, theta = overlapping()
    plain, other = (
        iterate(problem, theta, Stopping(60, 0.0, 0.0), solver=SOLVERS[a]) for a in (None, method)
    )
    # the bounds at θ_0 … θ_10, of which the last is where ten steps lead
    assert plain.lower_bounds[:11] == other.lower_bounds[:11]
    # the first step of L-BFGS only teaches, and the first moves of Anderson mixing are refused
    assert plain.lower_bounds[:30] != other.lower_bounds[:30]
    stopping = Stopping(10, 0.0, 0.0)
    plain, other = (iterate(problem, theta, stopping, solver=SOLVERS[a]) for a in (None, method))
    for a, b in zip(plain.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


@all_methods
def test_the_last_step_is_plain(method):
    problem, theta = overlapping()
    result = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method])
    path = result.path
    again = problem.step(path.previous)
    assert scaled_change(again.parameters, result.parameters) == 0.0
    assert path.end is result.parameters and not path.plain
    following, _ = naive.em_step(problem.samples.X, result.parameters)
    np.testing.assert_allclose(
        result.residual, naive.scaled_change(following, result.parameters), rtol=1e-4, atol=1e-14
    )


def test_depth_is_that_of_anderson():
    problem, theta = blobs(500, 2, 3, 1.5, 1)
    counts = {
        depth: iterate(problem, theta, TO_THE_END, solver=partial(Anderson, depth)).n_evaluations
        for depth in (1, 3, 10)
    }
    assert len(set(counts.values())) == 3


@all_methods
def test_moves_that_fall_are_refused(method, monkeypatch):
    """With moves to a bad place, plain steps take over and nothing is lost but passes."""
    problem, theta = overlapping()

    def away(family, theta, tangent, **options):
        return MixtureParameters(theta.weights, theta.means + 50.0, theta.covariances, "full")

    monkeypatch.setattr(module, "retract", away)
    stopping = Stopping(20_000, np.inf, 1e-4)
    plain, refused = (iterate(problem, theta, stopping, solver=SOLVERS[a]) for a in (None, method))
    assert plain.lower_bounds == refused.lower_bounds
    assert refused.n_evaluations > plain.n_evaluations


@all_methods
def test_moves_to_what_is_no_mixture_are_refused(method, monkeypatch):
    problem, theta = overlapping()

    def away(family, theta, tangent, **options):
        return MixtureParameters(theta.weights, theta.means, -theta.covariances, "full")

    monkeypatch.setattr(module, "retract", away)
    stopping = Stopping(20_000, np.inf, 1e-4)
    plain, refused = (iterate(problem, theta, stopping, solver=SOLVERS[a]) for a in (None, method))
    assert plain.lower_bounds == refused.lower_bounds


@all_methods
def test_moves_beyond_all_numbers_are_refused_without_a_pass(method, monkeypatch):
    problem, theta = overlapping()

    def away(family, theta, tangent, **options):
        return MixtureParameters(theta.weights, theta.means * np.inf, theta.covariances, "full")

    steps = []
    step = EMMap.step
    monkeypatch.setattr(EMMap, "step", lambda *args: steps.append(args) or step(*args))
    monkeypatch.setattr(module, "retract", away)
    result = iterate(problem, theta, Stopping(60, 0.0, 0.0), solver=SOLVERS[method])
    assert len(steps) == len(result.lower_bounds) + 1 > 12  # and none but the plain ones
    assert np.diff(result.lower_bounds).min() > -ROUNDING


@all_types
@all_methods
def test_a_lost_component_stays_where_it_is(kind, method):
    problem, theta = overlapping(kind)
    means = theta.means.copy()
    means[2] = 1e4
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    result = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method])
    assert result.converged and result.last.lost[2]
    np.testing.assert_array_equal(result.parameters.means[2], means[2])
    assert result.parameters.weights[2] == 0.0


@all_methods
def test_regularized_covariances_do_not_stop_it(method):
    """With a large reg_covar EM itself loses likelihood on its way, and moves may lose as much."""
    problem, theta = overlapping(reg_covar=0.3)
    plain = iterate(problem, theta, TO_THE_END)
    assert np.diff(plain.lower_bounds)[20:].min() < -1e-4
    result = iterate(problem, theta, TO_THE_END, solver=SOLVERS[method])
    assert result.converged and result.residual < 1e-8
    assert result.n_evaluations < plain.n_evaluations
