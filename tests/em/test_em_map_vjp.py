"""The derivative of an EM step, against automatic differentiation and finite differences."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.em_map import EMMap
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered"])
weighted_or_not = pytest.mark.parametrize("weighted", [False, True])
fixed_or_not = pytest.mark.parametrize("fixed_weights", [False, True])


def overlapping(kind, *, n=300, d=3, K=4, weighted=False, seed=0, dtype=np.float64):
    """Samples and a mixture whose components share them; a cotangent."""
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind)
    X = naive.sample(rng, theta, n).astype(dtype)
    weight = rng.uniform(0.1, 3.0, size=n) if weighted else None
    return X, weight, theta, naive.random_cotangent(rng, theta)


def data_gradients(problem, theta, cotangent):
    """Gradients of one EM step with respect to the data and the sample weights."""
    result = ADJOINTS["one_step"].vjp(problem, FitRecord(theta), cotangent)[0]
    return result.data, result.sample_weight


def assert_gradients(problem, theta, cotangent, relative):
    """Both gradients, to ``relative`` times their largest entry."""
    pytest.importorskip("torch")
    X_bar, weight_bar = data_gradients(problem, theta, cotangent)
    expected, expected_weight = naive.torch_gradients(
        problem.samples.X,
        problem.samples.sample_weight,
        theta,
        cotangent,
        reg_covar=problem.reg_covar,
        fixed_weights=problem.fixed_weights,
    )
    for actual, truth in [(X_bar, expected), (weight_bar, expected_weight)]:
        assert actual.dtype == np.float64
        scale = np.abs(truth).max()
        np.testing.assert_allclose(actual / scale, truth / scale, rtol=0, atol=relative)


@all_types
@all_ways
@weighted_or_not
@fixed_or_not
def test_gradients(kind, way, weighted, fixed_weights):
    X, weight, theta, cotangent = overlapping(kind, weighted=weighted)
    problem = EMMap.on(X, weight, covariance_type=kind, reg_covar=1e-3, fixed_weights=fixed_weights)
    assert_gradients(naive.in_way(problem, way), theta, cotangent, 1e-11)


@all_types
@all_ways
@settings(max_examples=6)
@given(
    n=st.sampled_from([20, 255, 256, 257, 513]),
    d=st.integers(1, 6),
    K=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
    weighted=st.booleans(),
    fixed_weights=st.booleans(),
)
def test_gradients_of_any_shape(kind, way, n, d, K, seed, dtype, weighted, fixed_weights):
    X, weight, theta, cotangent = overlapping(
        kind, n=n, d=d, K=K, weighted=weighted, seed=seed, dtype=dtype
    )
    problem = EMMap.on(X, weight, covariance_type=kind, fixed_weights=fixed_weights)
    assert_gradients(naive.in_way(problem, way), theta, cotangent, 1e-9)


@all_types
@all_ways
def test_the_way_that_is_forced_is_taken(kind, way):
    """What the other tests of this file rest on."""
    X, weight, theta, _ = overlapping(kind)
    logits = naive.in_way(EMMap.on(X, covariance_type=kind), way).logits(theta)
    assert bool(len(logits.factors)) == (way == "centered")


@all_types
@weighted_or_not
@fixed_or_not
def test_gradients_are_the_slopes_of_the_step(kind, weighted, fixed_weights):
    """⟨cotangent, dF⟩ = ⟨X̄, dX⟩ + ⟨s̄, ds⟩ along a random direction."""
    X, weight, theta, cotangent = overlapping(kind, n=60, weighted=weighted)
    rng = np.random.default_rng(9)
    s = np.ones(len(X)) if weight is None else weight
    dX, ds = rng.normal(size=X.shape), s * rng.uniform(-1, 1, size=len(X))
    options = {"covariance_type": kind, "reg_covar": 1e-3, "fixed_weights": fixed_weights}

    def value(t, u):
        problem = EMMap.on(X + t * dX, weight if u == 0 else s + u * ds, **options)
        return naive.inner_product(cotangent, problem.step(theta).parameters)

    X_bar, weight_bar = data_gradients(EMMap.on(X, weight, **options), theta, cotangent)
    h = 1e-3  # the formula is of fourth order: both of its errors are about 1e-12
    slope = (8 * (value(h, 0) - value(-h, 0)) - (value(2 * h, 0) - value(-2 * h, 0))) / (12 * h)
    np.testing.assert_allclose((X_bar * dX).sum(), slope, rtol=1e-8)
    slope = (8 * (value(0, h) - value(0, -h)) - (value(0, 2 * h) - value(0, -2 * h))) / (12 * h)
    np.testing.assert_allclose((weight_bar * ds).sum(), slope, rtol=1e-8)


@all_types
@weighted_or_not
def test_a_common_factor_of_the_weights_does_not_matter(kind, weighted):
    """F(θ, X, c s) = F(θ, X, s), so that ⟨s̄, s⟩ = 0."""
    X, weight, theta, cotangent = overlapping(kind, weighted=weighted)
    _, weight_bar = data_gradients(EMMap.on(X, weight, covariance_type=kind), theta, cotangent)
    s = np.ones(len(X)) if weight is None else weight
    assert abs(weight_bar @ s) < 1e-12 * np.abs(weight_bar * s).sum()


@all_types
@pytest.mark.parametrize("n_threads", [2, 3])
def test_gradients_have_the_same_bits_with_more_threads(kind, n_threads):
    X, weight, theta, cotangent = overlapping(kind, n=20_011, weighted=True)
    one, more = (
        data_gradients(
            EMMap.on(X, weight, covariance_type=kind, n_threads=threads), theta, cotangent
        )
        for threads in (1, n_threads)
    )
    for gradient, other in zip(one, more, strict=True):
        np.testing.assert_array_equal(gradient, other)


@all_types
def test_gradients_with_components_far_apart(kind):
    """1e4 standard deviations: the centered way is taken, and loses nothing."""
    rng = np.random.default_rng(1)
    theta = naive.random_mixture(rng, 3, 2, kind)
    means = np.array([[0.0, 0.0], [1e4, 0.0], [1e4, 1.0]])
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    X = naive.sample(rng, theta, 300)
    problem = EMMap.on(X, covariance_type=kind)
    assert len(problem.logits(theta).factors)
    # coordinates of 1e4 have roundings of 1e-12
    assert_gradients(problem, theta, naive.random_cotangent(rng, theta), 1e-9)


@all_types
@all_ways
def test_gradients_with_a_component_of_small_weight(kind, way):
    """Its parameters move a million times farther than those of the others."""
    X, _, theta, cotangent = overlapping(kind, K=3)
    weights = np.array([0.5, 0.5 - 1e-6, 1e-6])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    problem = naive.in_way(EMMap.on(X, covariance_type=kind, reg_covar=1e-6), way)
    assert_gradients(problem, theta, cotangent, 1e-9)


@all_types
@all_ways
def test_gradients_with_nearly_equal_components(kind, way):
    X, _, theta, cotangent = overlapping(kind, K=3)
    means = theta.means.copy()
    means[1] = means[0] + 1e-6
    covariances = theta.covariances.copy()
    if kind != "tied":
        covariances[1] = covariances[0] * (1 + 1e-6)
    theta = MixtureParameters(np.array([0.3, 0.3, 0.4]), means, covariances, kind)
    problem = naive.in_way(EMMap.on(X, covariance_type=kind), way)
    assert_gradients(problem, theta, cotangent, 1e-9)


@all_types
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_gradients_of_single_precision_data(kind, offset):
    """Away from the origin as well as near it: the samples are what they were rounded to."""
    rng = np.random.default_rng(2)
    theta = naive.moved(naive.random_mixture(rng, 3, 2, kind), 1.0, offset)
    X = naive.sample(rng, theta, 300).astype(np.float32)
    problem = EMMap.on(X, covariance_type=kind)
    assert_gradients(problem, theta, naive.random_cotangent(rng, theta), 1e-9)


@all_types
@all_ways
@fixed_or_not
def test_gradients_with_a_component_without_mass(kind, way, fixed_weights):
    """Those of the mixture without it: it does not move."""
    pytest.importorskip("torch")
    X, weight, theta, cotangent = overlapping(kind, K=3, weighted=True)
    weights = np.array([0.4, 0.0, 0.6])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    options = {"reg_covar": 1e-3, "fixed_weights": fixed_weights}
    problem = naive.in_way(EMMap.on(X, weight, covariance_type=kind, **options), way)
    gradients = data_gradients(problem, theta, cotangent)

    kept = [0, 2]
    others, others_cotangent = (
        MixtureParameters(
            part.weights[kept],
            part.means[kept],
            part.covariances if kind == "tied" else part.covariances[kept],
            kind,
        )
        for part in (theta, cotangent)
    )
    expected = naive.torch_gradients(X, weight, others, others_cotangent, **options)
    for actual, truth in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, truth, rtol=0, atol=1e-11 * np.abs(truth).max())


@all_types
def test_gradients_scale_with_the_weights(kind):
    """A sample of weight 1e-8 has a gradient 1e-8 times that of one with weight 1, no noise."""
    X, _, theta, cotangent = overlapping(kind)
    X[1] = X[0]
    weight = np.ones(len(X))
    weight[1] = 1e-8
    problem = EMMap.on(X, weight, covariance_type=kind)
    X_bar, weight_bar = data_gradients(problem, theta, cotangent)
    np.testing.assert_allclose(X_bar[1], 1e-8 * X_bar[0], rtol=1e-12)
    np.testing.assert_allclose(weight_bar[1], weight_bar[0], rtol=1e-12)
