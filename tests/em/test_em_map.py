"""One EM step and log densities, against the textbook's in extended precision."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skgmmot.em.densities import log_density
from skgmmot.em.em_map import EMMap
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered"])

situations = st.fixed_dictionaries(
    {
        "n": st.one_of(st.integers(60, 600), st.sampled_from([255, 256, 257, 512])),
        "d": st.integers(1, 5),
        "K": st.integers(1, 6),
        "weighted": st.booleans(),
        "seed": st.integers(0, 2**32 - 1),
    }
)


def data_and_start(kind, n, d, K, weighted, seed, dtype=np.float64):
    """Samples of one mixture, and another one with a component close to samples of each kind."""
    rng = np.random.default_rng(seed)
    X = naive.sample(rng, naive.random_mixture(rng, K, d, "full"), n).astype(dtype)
    theta = naive.random_mixture(rng, K, d, kind)
    means = X[rng.choice(n, size=K, replace=False)] + 0.1 * rng.normal(size=(K, d))
    theta = MixtureParameters(theta.weights, means.astype(float), theta.covariances, kind)
    weight = rng.uniform(0.1, 3.0, size=n) if weighted else None
    return X, weight, theta


# The problem


@all_types
@pytest.mark.parametrize("weighted", [False, True])
def test_problem_knows_center_and_extent(kind, weighted):
    X, weight, _ = data_and_start(kind, 300, 3, 2, weighted, 0)
    s = np.ones(300) if weight is None else weight
    problem = EMMap.on(X, weight, covariance_type=kind)
    center = (s[:, None] * X).sum(axis=0) / s.sum()
    np.testing.assert_allclose(problem.data.total_weight, s.sum(), rtol=1e-14)
    np.testing.assert_allclose(problem.data.center, center, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(
        problem.data.summary.reach, np.abs(X - center).max(axis=0), rtol=1e-13
    )
    # no feature of any sample is larger than its reach
    phi = np.abs(naive.features(X - problem.data.center, kind)).max(axis=0)
    reach = problem._feature_reach
    assert (phi <= reach * (1 + 1e-14)).all()
    assert (phi[: 1 + 3] >= reach[: 1 + 3] * (1 - 1e-14)).all()  # which is attained by 1 and x
    if kind == "tied":
        Z = X - center
        expected = np.einsum("i,ia,ib->ab", s, Z, Z)
        np.testing.assert_allclose(problem.data.second_moment, expected, rtol=1e-12, atol=1e-12)


def test_center_of_a_constant_column_is_the_constant():
    """The mean of equal numbers is rounded; what is left of them about the center must be 0."""
    X = np.full((1000, 1), 0.1)
    problem = EMMap.on(X, covariance_type="full")
    assert problem.data.center == 0.1
    assert problem.data.summary.reach == 0.0


# Which way


@all_types
def test_benign_data_take_the_matrix_way(kind):
    X, weight, theta = data_and_start(kind, 300, 3, 4, False, 0)
    logits = EMMap.on(X, covariance_type=kind).logits(theta)
    assert len(logits.factors) == 0
    assert logits.reference.shape == (1, 3)


@all_types
@pytest.mark.parametrize("apart", [1e6, 1e4])
def test_components_far_apart_take_the_centered_way(kind, apart):
    theta = naive.random_mixture(np.random.default_rng(0), 2, 2, kind)
    means = np.array([[0.0, 0.0], [apart, 0.0]])
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    X = naive.sample(np.random.default_rng(1), theta, 100)
    logits = EMMap.on(X, covariance_type=kind).logits(theta)
    assert len(logits.factors) == 2
    np.testing.assert_array_equal(logits.reference, means)


@all_types
def test_an_offset_or_a_scale_of_the_data_does_not_change_the_way(kind):
    X, _, theta = data_and_start(kind, 300, 2, 3, False, 0)
    for scale, offset in [(1e-8, 0.0), (1e8, 0.0), (1.0, 1e7)]:
        problem = EMMap.on(X * scale + offset, covariance_type=kind)
        assert not len(problem.logits(naive.moved(theta, scale, offset)).factors)


@all_types
def test_a_zero_weight_does_not_change_the_way(kind):
    X, _, theta = data_and_start(kind, 300, 2, 3, False, 0)
    weights = np.array([0.0, 0.5, 0.5])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    assert not len(EMMap.on(X, covariance_type=kind).logits(theta).factors)


# The step


@all_types
@all_ways
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@settings(max_examples=12)
@given(
    situation=situations, fixed_weights=st.booleans(), reg_covar=st.sampled_from([1e-6, 1e-3, 0.5])
)
def test_step_is_the_textbook_s(kind, way, dtype, situation, fixed_weights, reg_covar):
    X, weight, theta = data_and_start(kind, **situation, dtype=dtype)
    options = {"reg_covar": reg_covar, "fixed_weights": fixed_weights}
    problem = naive.in_way(EMMap.on(X, weight, covariance_type=kind, **options), way)
    assert bool(len(problem.logits(theta).factors)) == (way == "centered")
    step = problem.step(theta)
    expected, bound = naive.em_step(X, theta, weight, **options, joint_of=naive.long_log_joint)
    assert step.lost is None
    # distances of about 10 σ: logits and squares of a few hundred roundings. Components that
    # shrink to a few samples lose up to (distance / new σ)² more, at most 1e6 with this reg_covar
    shrunk = np.einsum("kaa->ka", naive.matrices(expected)).min() / 1e-2
    assert naive.errors(step.parameters, expected) < 1e-11 / min(float(shrunk), 1.0)
    np.testing.assert_allclose(step.lower_bound, bound, rtol=1e-12, atol=1e-12)


@all_types
@pytest.mark.parametrize("n_threads", [2, 3])
def test_step_has_the_same_bits_with_more_threads(kind, n_threads):
    X, weight, theta = data_and_start(kind, 20_011, 3, 5, True, 1)
    one, more = (
        EMMap.on(X, weight, covariance_type=kind, n_threads=threads).step(theta)
        for threads in (1, n_threads)
    )
    for part, other in zip(one.parameters, more.parameters, strict=True):
        np.testing.assert_array_equal(part, other)
    assert one.lower_bound == more.lower_bound


@all_types
@given(situation=situations)
def test_steps_climb(kind, situation):
    situation = situation | {"K": min(situation["K"], 3), "n": situation["n"] + 100}
    X, weight, theta = data_and_start(kind, **situation)
    problem = EMMap.on(X, weight, covariance_type=kind)
    bounds = []
    for _ in range(8):
        try:
            step = problem.step(theta)
        except CollapsedComponentError:
            break  # without reg_covar that is EM: the likelihood has no bound
        bounds.append(step.lower_bound)
        theta = step.parameters
        assert naive.matrices(theta).max() < 1e3
    assert len(bounds) >= 2
    assert (np.diff(bounds) >= -1e-12 * (1 + np.abs(bounds[1:]))).all()


@all_types
@all_ways
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_weights_are_repetitions_of_rows(kind, way, fixed_weights):
    X, _, theta = data_and_start(kind, 300, 2, 3, False, 2)
    times = np.random.default_rng(0).integers(1, 5, size=300)
    options = {"covariance_type": kind, "reg_covar": 0.01, "fixed_weights": fixed_weights}
    weighted = naive.in_way(EMMap.on(X, times.astype(float), **options), way).step(theta)
    repeated = naive.in_way(EMMap.on(np.repeat(X, times, axis=0), **options), way).step(theta)
    assert naive.errors(weighted.parameters, repeated.parameters) < 1e-12
    np.testing.assert_allclose(weighted.lower_bound, repeated.lower_bound, rtol=1e-13)


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_a_component_that_no_sample_reaches_is_lost(kind, fixed_weights):
    """Responsibilities below e^-708 are zero; mean and covariance stay where they were."""
    X, _, theta = data_and_start(kind, 200, 2, 3, False, 3)
    means = theta.means.copy()
    means[1] = 1e3
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    options = {"reg_covar": 1e-3, "fixed_weights": fixed_weights}
    step = EMMap.on(X, covariance_type=kind, **options).step(theta)
    np.testing.assert_array_equal(step.lost, [False, True, False])
    np.testing.assert_array_equal(step.parameters.means[1], means[1])
    # the others as if the lost one had never been there
    kept = [0, 2]
    covariances = theta.covariances if kind == "tied" else theta.covariances[kept]
    weights = theta.weights[kept]
    if not fixed_weights:
        weights = weights / weights.sum()
    others = MixtureParameters(weights, means[kept], covariances, kind)
    expected, _ = naive.em_step(X, others, **options)
    found = step.parameters
    covariances = found.covariances if kind == "tied" else found.covariances[kept]
    found_others = MixtureParameters(found.weights[kept], found.means[kept], covariances, kind)
    assert naive.errors(found_others, expected) < 1e-12
    assert found.weights[1] == (theta.weights[1] if fixed_weights else 0.0)
    if kind != "tied":
        np.testing.assert_array_equal(found.covariances[1], theta.covariances[1])


@all_types
@all_ways
def test_a_component_of_weight_zero_stays_out(kind, way):
    X, _, theta = data_and_start(kind, 200, 2, 3, False, 4)
    weights = np.array([0.3, 0.7, 0.0])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    problem = naive.in_way(EMMap.on(X, covariance_type=kind, reg_covar=1e-3), way)
    step = problem.step(theta)
    expected, bound = naive.em_step(X, theta, reg_covar=1e-3)
    np.testing.assert_array_equal(step.lost, [False, False, True])
    assert step.parameters.weights[2] == 0.0
    assert naive.errors(step.parameters, expected) < 1e-12
    np.testing.assert_allclose(step.lower_bound, bound, rtol=1e-13)


def test_step_only_reads_its_arguments():
    X, weight, theta = data_and_start("full", 100, 2, 3, True, 5)
    copies = [X.copy(), weight.copy(), *(part.copy() for part in theta)]
    for array in (X, weight, *theta):
        array.flags.writeable = False
    EMMap.on(X, weight, covariance_type="full").step(theta)
    for array, copy in zip((X, weight, *theta), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# Log densities


@all_types
@all_ways
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@settings(max_examples=12)
@given(situation=situations)
def test_log_density_is_scipy_s(kind, way, dtype, situation):
    X, weight, theta = data_and_start(kind, **situation, dtype=dtype)
    problem = naive.in_way(EMMap.on(X, weight, covariance_type=kind), way)
    actual = log_density(problem, theta)
    assert actual.dtype == np.float64
    expected = naive.log_density(naive.log_joint(X.astype(float), theta))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-11)


@all_types
def test_mean_log_density_is_the_lower_bound(kind):
    X, weight, theta = data_and_start(kind, 300, 3, 4, True, 6)
    problem = EMMap.on(X, weight, covariance_type=kind)
    mean = np.average(log_density(problem, theta), weights=weight)
    np.testing.assert_allclose(problem.step(theta).lower_bound, mean, rtol=1e-13)
