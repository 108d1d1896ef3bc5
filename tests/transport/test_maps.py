"""Maps of samples and geodesics between mixtures, against loops, POT and closed forms."""

import tracemalloc

import naive
import numpy as np
import ot
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from skgmmot.checks import as_full
from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport import maps

# Sums of weights round at 1e-16, and that mass is moved: over squared distances of about 10.
ROUNDED_MASSES = 1e-7

VARIANTS = [{}, {"reg": 0.5}, {"reg_m": (0.5, 3.0)}, {"reg": 0.3, "reg_m": 2.0}]


def two_mixtures(seed=0, shape=(4, 3), d=3, kinds=("full", "full"), spread=1.0):
    rng = np.random.default_rng(seed)
    return [
        naive.random_mixture(rng, K, d, kind, spread=spread)
        for K, kind in zip(shape, kinds, strict=True)
    ]


def naive_pairs(X, source, target, plan):
    """p_kl(x) of shape (n, K, L), and T_kl(x) of shape (n, K, L, d), with matrix square roots."""
    source, target = as_full(source), as_full(target)
    K, L = plan.shape
    weights, images = np.zeros((len(X), K, L)), np.zeros((len(X), K, L, X.shape[1]))
    for k in range(K):
        density = multivariate_normal(source.means[k], source.covariances[k]).pdf(X)
        root = np.real(sqrtm(source.covariances[k]))
        inverse = np.linalg.inv(root)
        for m in range(L):
            T = inverse @ np.real(sqrtm(root @ target.covariances[m] @ root)) @ inverse
            weights[:, k, m] = plan[k, m] * density
            images[:, k, m] = target.means[m] + (X - source.means[k]) @ T
    return weights / weights.sum(axis=(1, 2), keepdims=True), images


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_barycentric_map_of_the_definition(variant, kind):
    source, target = two_mixtures(kinds=(kind, "full"))
    X = np.random.default_rng(1).normal(size=(50, 3))
    transport = mixture_transport(source, target, **variant)
    weights, images = naive_pairs(X, source, target, transport.plan)
    expected = np.einsum("nkl,nkla->na", weights, images)
    np.testing.assert_allclose(transport.map(X), expected, atol=1e-12)
    assert np.abs(expected - X).max() > 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_maximum_map_of_the_definition(variant):
    source, target = two_mixtures()
    X = np.random.default_rng(1).normal(size=(50, 3))
    transport = mixture_transport(source, target, **variant)
    weights, images = naive_pairs(X, source, target, transport.plan)
    k = weights.sum(axis=2).argmax(axis=1)
    conditional = transport.plan[k] / transport.plan[k].sum(axis=1, keepdims=True)
    expected = np.einsum("nl,nla->na", conditional, images[np.arange(50), k])
    np.testing.assert_allclose(transport.map(X, method="maximum"), expected, atol=1e-12)
    assert len(set(k)) > 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_sampled_map_draws_pairs_with_their_probabilities(variant):
    source, target = two_mixtures()
    x = np.random.default_rng(1).normal(size=(1, 3))
    transport = mixture_transport(source, target, **variant)
    weights, images = naive_pairs(x, source, target, transport.plan)
    weights, images = weights.ravel(), images.reshape(-1, 3)
    n = 40_000
    moved = transport.map(np.repeat(x, n, axis=0), method="sample", random_state=0)
    distances = np.linalg.norm(moved[:, None] - images, axis=-1)
    assert distances.min(axis=1).max() < 1e-12
    frequencies = np.bincount(distances.argmin(axis=1), minlength=len(weights)) / n
    deviation = np.sqrt(weights * (1 - weights) / n)
    assert (np.abs(frequencies - weights) <= 4.5 * deviation).all()
    assert frequencies.max() < 0.95


def test_barycentric_map_of_pot():
    source, target = two_mixtures(d=5)
    X = np.random.default_rng(1).normal(size=(200, 5))
    (w, m, S), (w2, m2, S2) = source, target
    expected = ot.gmm.gmm_ot_apply_map(X, m, m2, S, S2, w, w2, method="bary")
    np.testing.assert_allclose(mixture_transport(source, target).map(X), expected, atol=1e-11)


def test_sampled_source_becomes_the_target():
    """Means and covariance of the target, up to the noise of 100 000 samples."""
    source, target = two_mixtures(spread=6.0)
    rng = np.random.default_rng(0)
    k = rng.choice(4, p=source.weights, size=100_000)
    roots = np.linalg.cholesky(source.covariances)
    X = source.means[k] + np.einsum("nab,nb->na", roots[k], rng.normal(size=(100_000, 3)))
    moved = mixture_transport(source, target).map(X, method="sample", random_state=0)
    mean = target.weights @ target.means
    centred = target.means - mean
    covariance = np.einsum("k,ka,kb->ab", target.weights, centred, centred)
    covariance += np.einsum("k,kab->ab", target.weights, target.covariances)
    scale = np.sqrt(np.trace(covariance))
    np.testing.assert_allclose(moved.mean(axis=0), mean, atol=0.02 * scale)
    np.testing.assert_allclose(np.cov(moved.T), covariance, atol=0.02 * scale**2)


def test_one_gaussian_has_one_map():
    source, target = two_mixtures(shape=(1, 1), d=2)
    X = np.random.default_rng(0).normal(size=(10, 2))
    transport = mixture_transport(source, target)
    results = [transport.map(X, method=method) for method in ("barycentric", "sample", "maximum")]
    for moved in results:
        np.testing.assert_allclose(moved, results[0], atol=1e-13)
    slope = np.linalg.lstsq(X - source.means, results[0] - target.means, rcond=None)[0]
    S, S2 = source.covariances[0], target.covariances[0]
    np.testing.assert_allclose(slope @ S @ slope, S2, atol=1e-12)


def test_random_state():
    source, target = two_mixtures()
    X = np.random.default_rng(0).normal(size=(300, 3))
    transport = mixture_transport(source, target, reg=1.0)

    def sample(random_state):
        return transport.map(X, method="sample", random_state=random_state)

    np.testing.assert_array_equal(sample(0), sample(0))
    np.testing.assert_array_equal(sample(0), sample(np.random.default_rng(0)))
    np.testing.assert_array_equal(
        sample(np.random.RandomState(0)), sample(np.random.RandomState(0))
    )
    assert (sample(0) != sample(1)).any()
    assert (sample(None) != sample(None)).any()


@pytest.mark.parametrize("method", ["barycentric", "sample", "maximum"])
def test_blocks_do_not_matter(monkeypatch, method):
    source, target = two_mixtures()
    X = np.random.default_rng(0).normal(size=(1000, 3))
    transport = mixture_transport(source, target, reg=0.5)
    whole = transport.map(X, method=method, random_state=0)
    monkeypatch.setattr(maps, "BLOCK_SIZE", 1)
    monkeypatch.setattr(maps, "PAIRS_SIZE", 1)
    blocks = transport.map(X, method=method, random_state=0)
    np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["barycentric", "sample", "maximum"])
def test_memory_does_not_grow_with_the_components(method):
    """Some arrays of the size of X and of indices, where n × K × d numbers would be 80 MB."""
    source, target = two_mixtures(shape=(50, 50), d=4)
    X = np.random.default_rng(0).normal(size=(50_000, 4))
    transport = mixture_transport(source, target)
    transport.map(X[:100], method=method, random_state=0)
    tracemalloc.start()
    transport.map(X, method=method, random_state=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * X.nbytes


def test_far_samples_belong_to_their_nearest_component():
    """Densities underflow there, and their logarithms do not."""
    a = ([0.5, 0.5], [[0.0], [10.0]], [1.0, 1.0])
    b = ([0.5, 0.5], [[0.0], [30.0]], [1.0, 1.0])
    moved = mixture_transport(a, b).map([[-1e6], [1e6]])
    np.testing.assert_allclose(moved, [[-1e6], [1e6 + 20]], rtol=1e-15)


def test_offset_of_the_data_does_not_matter():
    source, target = two_mixtures()
    X = np.random.default_rng(0).normal(size=(20, 3))
    near = mixture_transport(source, target).map(X)
    far = [
        MixtureParameters(m.weights, m.means + 1e8, m.covariances, "full") for m in (source, target)
    ]
    moved = mixture_transport(*far).map(X + 1e8) - 1e8
    np.testing.assert_allclose(moved, near, atol=1e-6)  # 1e8 rounds at 1e-8


@pytest.mark.parametrize("method", ["barycentric", "sample", "maximum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_samples_are_moved_to_no_samples(method, dtype):
    mixture = naive.random_mixture(np.random.default_rng(0), 3, 2, "full")
    moved = mixture_transport(mixture, mixture).map(np.zeros((0, 2), dtype), method=method)
    assert moved.shape == (0, 2)
    assert moved.dtype == dtype


def test_data_types():
    source, target = two_mixtures()
    X = np.random.default_rng(0).normal(size=(20, 3))
    transport = mixture_transport(source, target)
    assert transport.map(X.astype(np.float32)).dtype == np.float32
    assert transport.map(X).dtype == np.float64
    integers = transport.map([[1, 2, 3]])
    np.testing.assert_array_equal(integers, transport.map([[1.0, 2.0, 3.0]]))
    assert transport.map(np.empty((0, 3))).shape == (0, 3)
    X.flags.writeable = False
    for method in ("barycentric", "sample", "maximum"):
        transport.map(X, method=method)  # a write would raise


@pytest.mark.parametrize(
    "X, arguments, message",
    [
        (np.zeros((5, 2)), {}, r"^X must have shape \(n_samples, 3\).* got \(5, 2\)"),
        (np.zeros(3), {}, r"^X must have shape .* got \(3,\)"),
        (np.ones((1, 3)) * 1j, {}, "^X must be real; got complex numbers"),
        (np.full((1, 3), np.nan), {}, "^X contains NaN or infinity"),
        (np.zeros((5, 3)), {"method": "random"}, "^method must be one of .* got 'random'"),
    ],
)
def test_invalid_arguments_are_named(X, arguments, message):
    transport = mixture_transport(*two_mixtures())
    with pytest.raises(ValueError, match=message):
        transport.map(X, **arguments)


@pytest.mark.parametrize(
    "covariances",
    [[[[1.0, 0.0], [0.0, 0.0]]], [[1.0, 0.0]], [0.0]],
)
def test_singular_sources_have_no_density(covariances):
    a = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.array(covariances))
    b = ([1.0], [[1.0, 1.0]], [0.0])
    transport = mixture_transport(a, b)
    with pytest.raises(ValueError, match="component 0 of the source is singular"):
        transport.map(np.zeros((1, 2)))
    assert mixture_transport(b, a).interpolate(0.5).n_components == 1


def test_a_plan_that_moves_nothing_maps_nothing():
    a, b = ([1.0], [[0.0]], [1.0]), ([1.0], [[1e3]], [1.0])
    transport = mixture_transport(a, b, reg_m=1.0)
    for call in (lambda: transport.map([[0.0]]), lambda: transport.interpolate(0.5)):
        with pytest.raises(ValueError, match="moves no mass.* larger reg_m"):
            call()


def test_component_that_moves_nothing_has_no_part():
    a = ([0.5, 0.5], [[0.0], [1e3]], [1.0, 1.0])
    b = ([1.0], [[1.0]], [4.0])
    transport = mixture_transport(a, b, reg_m=1.0)
    X = np.array([[0.0], [500.0], [1e3]])
    for method in ("barycentric", "sample", "maximum"):
        np.testing.assert_allclose(transport.map(X, method=method), 1 + 2 * X, rtol=1e-14)
    assert transport.interpolate(0.0).n_components == 1


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("other_kind", COVARIANCE_TYPES)
def test_geodesic_has_constant_speed(kind, other_kind):
    source, target = two_mixtures(kinds=(kind, other_kind))
    transport = mixture_transport(source, target)
    points = [transport.interpolate(t) for t in (0.0, 0.25, 0.7, 1.0)]
    diagonal = {kind, other_kind} <= {"diag", "spherical"}
    for point in points:
        assert point.covariance_type == ("diag" if diagonal else "full")
        assert abs(point.weights.sum() - 1) < 1e-15 and (point.weights > 0).all()
    assert mixture_transport(points[0], source).distance < ROUNDED_MASSES
    assert mixture_transport(points[-1], target).distance < ROUNDED_MASSES
    for i, j, gap in ((0, 1, 0.25), (1, 2, 0.45), (2, 3, 0.3), (0, 3, 1.0)):
        distance = mixture_transport(points[i], points[j]).distance
        np.testing.assert_allclose(distance, gap * transport.distance, rtol=1e-12)


def test_geodesic_covariances_of_the_definition():
    source, target = two_mixtures(shape=(1, 1))
    S, S2 = source.covariances[0], target.covariances[0]
    root = np.real(sqrtm(S))
    inverse = np.linalg.inv(root)
    T = inverse @ np.real(sqrtm(root @ S2 @ root)) @ inverse
    step = 0.7 * np.eye(3) + 0.3 * T
    point = mixture_transport(source, target).interpolate(0.3)
    np.testing.assert_allclose(point.covariances[0], step @ S @ step, atol=1e-13)
    np.testing.assert_allclose(point.means, 0.7 * source.means + 0.3 * target.means, rtol=1e-15)


def test_geodesic_between_singular_covariances():
    """Segments that cross: in between they are ellipses of the speed that W2 asks for."""
    a = ([1.0], [[0.0, 0.0]], [[[4.0, 0.0], [0.0, 0.0]]])
    b = ([1.0], [[0.0, 0.0]], [[[0.0, 0.0], [0.0, 1.0]]])
    transport = mixture_transport(a, b)
    half = transport.interpolate(0.5)
    for end, t in ((a, 0.0), (b, 1.0)):
        assert mixture_transport(transport.interpolate(t), end).distance < 1e-13
        distance = mixture_transport(half, end).distance
        np.testing.assert_allclose(distance, transport.distance / 2, rtol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_geodesic_of_a_variant_joins_the_marginals_of_its_plan(variant):
    source, target = two_mixtures()
    transport = mixture_transport(source, target, **variant)
    mass = transport.plan.sum()
    for t, mixture, axis in ((0.0, source, 1), (1.0, target, 0)):
        marginal = transport.plan.sum(axis=axis) / mass
        expected = MixtureParameters(marginal, mixture.means, mixture.covariances, "full")
        assert mixture_transport(transport.interpolate(t), expected).distance < ROUNDED_MASSES


@pytest.mark.parametrize("t", [-0.1, 1.1, np.nan, "0.5", None])
def test_time_is_from_zero_to_one(t):
    with pytest.raises(ValueError, match="^t must be a number from 0 to 1"):
        mixture_transport(*two_mixtures()).interpolate(t)
