"""Transport at the ends of the range of floats, and of components without weight."""

import naive
import numpy as np
import pytest

from skgmmot.functions.distances import mixture_wasserstein
from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport.bures import gaussian_maps
from skgmmot.transport.costs import gaussian_costs

INF = np.inf
# Powers of two, by which mixtures are scaled without rounding: 1e-150 … 1e150.
SCALES = [2.0**exponent for exponent in (-498, -330, -260, -135, -40, 40, 135, 260, 330, 498)]


def scaled(mixture, c):
    weights, means, covariances = mixture
    return MixtureParameters(weights, c * means, c * c * covariances, mixture.covariance_type)


def pair(d, kind="full"):
    rng = np.random.default_rng(d)
    return naive.random_mixture(rng, 3, d, kind), naive.random_mixture(rng, 4, d, kind)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "variant", [{}, {"reg": 0.1}, {"reg_m": 1.0}, {"reg": 0.1, "reg_m": (2.0, INF)}]
)
def test_transport_is_homogeneous(variant, d):
    """The distance by c, the value by c², gradients and maps as their units say."""
    a, b = pair(d)
    near = MixtureParameters(a.weights, a.means * (1 + 1e-6), a.covariances, "full")
    X = np.random.default_rng(0).normal(size=(10, d))
    one = mixture_transport(a, b, **variant)
    gradient = one.gradient("target")
    for c in SCALES[:: 1 if d == 3 else 4]:
        options = {name: np.multiply(value, c * c) for name, value in variant.items()}
        for source, target in ((a, b), (a, near)):
            expected = mixture_wasserstein(source, target, **variant)
            found = mixture_wasserstein(scaled(source, c), scaled(target, c), **options)
            np.testing.assert_allclose(found / c, expected, rtol=1e-12)
        other = mixture_transport(scaled(a, c), scaled(b, c), **options)
        np.testing.assert_allclose(other.value / c / c, one.value, rtol=1e-12)
        np.testing.assert_allclose(other.plan, one.plan, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(other.cost_matrix / c / c, one.cost_matrix, rtol=1e-12)
        for part, unit in zip(
            zip(other.gradient("target"), gradient, strict=True), (c * c, c, 1), strict=True
        ):
            np.testing.assert_allclose(part[0] / unit, part[1], rtol=1e-11, atol=1e-12)
        for method in ("barycentric", "sample", "maximum"):
            moved = other.map(c * X, method=method, random_state=0) / c
            expected = one.map(X, method=method, random_state=0)
            np.testing.assert_allclose(moved, expected, rtol=1e-11, atol=1e-12)
        halfway = other.interpolate(0.5)
        np.testing.assert_allclose(
            halfway.covariances / c / c, one.interpolate(0.5).covariances, rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_identity_at_every_scale(kind, d):
    mixture = pair(d, kind)[0]
    for c in [*SCALES, 1e-150, 1e-100, 1e-41, 1e78, 1e150]:
        small = scaled(mixture, c)
        assert mixture_wasserstein(small, small) < 1e-13 * c


@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("deviation", [1e-20, 1e-60, 1e-100, 1e-150])
def test_small_components_among_large_distances(deviation, d):
    """Means at their places, deviations σ and 2σ: W2² = Σ_k w_k d σ², beside costs of one."""
    means = np.stack([np.zeros(d), np.ones(d)])
    small, large = deviation**2 * np.eye(d), 9.0 * np.eye(d)
    a = ([0.5, 0.5], means, np.stack([small, large]))
    b = ([0.5, 0.5], means, np.stack([4 * small, large]))
    expected = deviation * np.sqrt(d / 2)
    np.testing.assert_allclose(mixture_wasserstein(a, b), expected, rtol=1e-12)
    # and the costs by themselves, as barycenters and coupled fits take them
    a, b = (MixtureParameters(*map(np.asarray, mixture), "full") for mixture in (a, b))
    np.testing.assert_allclose(gaussian_costs(a, b)[0, 0], d * deviation**2, rtol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("deviation", [1e-150, 1e-80, 1e80, 1e150])
def test_maps_of_singular_covariances_at_every_scale(deviation, d):
    """Of equal eigenvectors: T is the ratio of deviations, and zero where both vanish."""
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    variances = np.r_[0.0, rng.uniform(0.5, 2.0, size=d - 1)]
    a, b = (
        MixtureParameters(
            np.ones(1), np.zeros((1, d)), (c * deviation) ** 2 * (Q * variances @ Q.T)[None], "full"
        )
        for c in (1.0, 3.0)
    )
    zero = np.zeros(1, dtype=int)
    expected = (Q * np.where(variances > 0, 3.0, 0.0)) @ Q.T
    np.testing.assert_allclose(gaussian_maps(a, b, zero, zero)[0], expected, atol=1e-12)


def test_squares_beyond_the_range_are_named():
    a, b = (([1.0], [[mean, 0.0]], [1.0]) for mean in (0.0, 1e160))
    with pytest.raises(
        ValueError, match="^a and b: the squared distances.* up to 1e\\+160.*Divide"
    ):
        mixture_transport(a, b)
    # a common offset is no distance
    a, b = (([1.0], [[1e300, 1e300]], [c * c * 1e-300]) for c in (1.0, 2.0))
    np.testing.assert_allclose(mixture_wasserstein(a, b), np.sqrt(2) * 1e-150, rtol=1e-12)


# Without weight, a component of the source and one of the target that are near each other.
SOURCE = ([0.5, 0.5, 0.0], [[0.0], [1.0], [6.0]], [1.0, 1.0, 1.0])
TARGET = ([0.7, 0.3, 0.0], [[0.5], [2.0], [6.5]], [1.0, 1.0, 1.0])
VARIANTS = [{}, {"reg_m": 9.0}, {"reg_m": (9.0, INF)}, {"reg": 0.3}, {"reg": 0.3, "reg_m": 9.0}]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("side", [0, 1])
def test_slope_of_a_first_bit_of_weight(side, variant):
    transport = mixture_transport(SOURCE, TARGET, **variant)
    slopes = transport.gradient(("source", "target")[side]).weights
    assert abs(slopes[:2].sum()) < 1e-13 * np.abs(slopes).max()
    moved = [SOURCE, TARGET]
    step = 1e-6
    moved[side] = (np.add(moved[side][0], [-step, 0.0, step]), *moved[side][1:])
    difference = (mixture_transport(*moved, **variant).value - transport.value) / step
    np.testing.assert_allclose(slopes[2] - slopes[0], difference, rtol=2e-5)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if "reg" not in variant])
def test_potentials_of_components_without_weight_are_feasible(variant):
    transport = mixture_transport(SOURCE, TARGET, **variant)
    u, v = transport.potentials
    assert (u[:, None] + v <= transport.cost_matrix + 1e-12).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_slope_beyond_the_range_leaves_the_others(dtype):
    """No mass reaches the far target; a first bit beside it would gain λ e^{cost/λ}, about."""
    weights, means, covariances = (np.array(part, dtype=dtype) for part in SOURCE)
    means[2] = 60.0
    a = (weights, means, covariances)
    b = tuple(np.array(part, dtype=dtype) for part in ([0.5, 0.5], [[0.0], [60.0]], [1.0, 1.0]))
    kept = tuple(part[:2] for part in a)
    # Where it is finite, too, no digit of the others would be left beside it.
    for options in ({"reg_m": 0.5}, {"reg_m": 0.5, "reg": 0.1}, {"reg_m": 10.0}):
        slopes = mixture_transport(a, b, **options).gradient().weights
        assert slopes.dtype == dtype
        assert slopes[2] < -1e30
        expected = mixture_transport(kept, b, **options).gradient().weights
        np.testing.assert_allclose(slopes[:2], expected, rtol=1e-6 if dtype == np.float32 else 1e-9)
        assert np.abs(expected).max() > 0.1


def test_what_the_caller_writes_later_does_not_reach_a_transport():
    a, b = (tuple(np.array(part) for part in mixture) for mixture in (SOURCE, TARGET))
    transport = mixture_transport(a, MixtureParameters(*b, "spherical"))
    expected = [*transport.gradient(), *transport.interpolate(0.3), transport.map([[0.2]])]
    for part in (*a, *b):
        part += 1.0
    found = [*transport.gradient(), *transport.interpolate(0.3), transport.map([[0.2]])]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("reg_m", [None, 3.0, (3.0, INF)])
@pytest.mark.parametrize("reg", [1e12, 1e15, 1e100])
def test_large_entropy(reg, reg_m):
    """The plan is w ⊗ w' and the value ⟨w ⊗ w', C⟩, to terms of the size of C²/ε."""
    a, b = pair(2)
    weights = np.array([0.4, 0.6, 0.0])
    transport = mixture_transport((weights, *list(a)[1:]), b, reg=reg, reg_m=reg_m)
    C = transport.cost_matrix
    rtol = 10 * C.max() / reg + 1e-13
    np.testing.assert_allclose(transport.value, weights @ C @ b.weights, rtol=rtol)
    slopes = C @ b.weights
    slopes -= slopes[:2].mean()
    np.testing.assert_allclose(transport.gradient().weights, slopes, atol=rtol * C.max())
