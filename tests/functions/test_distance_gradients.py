"""Gradients of all distances at once, against one pair after the other and finite differences."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    MixtureParameters,
    mixture_transport,
    pairwise_mixture_wasserstein,
    pairwise_mixture_wasserstein_vjp,
)
from skgmmot.families import family_of
from skgmmot.functions import distance_gradients
from skgmmot.numerics.threads import effective_n_threads
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.results.transport_result import transport_between
from skgmmot.transport import interior_point, many, many_gradients


def random_mixture(rng, n_components, d, covariance_type="full"):
    roots = rng.normal(size=(n_components, d, 2 * d))
    matrices = roots @ roots.swapaxes(1, 2) / d
    covariances = {
        "full": lambda: matrices,
        "tied": lambda: matrices[0],
        "diag": lambda: rng.uniform(0.3, 3, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.3, 3, size=n_components),
    }[covariance_type]()
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = rng.normal(size=(n_components, d))
    return MixtureParameters(weights, means, covariances, covariance_type)


def mixtures_of(rng, n, d, kinds=COVARIANCE_TYPES):
    return [random_mixture(rng, int(rng.integers(1, 6)), d, rng.choice(kinds)) for _ in range(n)]


def by_pairs(A, B, cotangent, squared=False, **options):
    """The same, from the gradient of each pair: the naive twin."""
    sides = [[[np.zeros(part.shape) for part in theta] for theta in side] for side in (A, B)]
    for i, a in enumerate(A):
        for j, b in enumerate(B):
            transport = mixture_transport(a, b, **options)
            rate = cotangent[i, j] if squared else cotangent[i, j] / (2 * transport.distance)
            for parts, wrt in ((sides[0][i], "source"), (sides[1][j], "target")):
                for part, its in zip(parts, transport.gradient(wrt), strict=True):
                    part += rate * its
    return sides


def assert_same(found, expected, rounding=1e-11):
    size = max(np.abs(part).max() for parts in expected for part in parts)
    for gradient, parts in zip(found, expected, strict=True):
        for part, its in zip(gradient, parts, strict=True):
            np.testing.assert_allclose(part, its, rtol=0, atol=rounding * size)


def counted(monkeypatch):
    """The pairs that are left to one after the other, as they come."""
    pairs = []

    def counting(a, b, reg, reg_m):
        pairs.append((a, b))
        return transport_between(a, b, reg, reg_m)

    monkeypatch.setattr(distance_gradients, "transport_between", counting)
    return pairs


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_gradients_are_the_sums_of_those_of_pairs(d, squared, monkeypatch):
    rng = np.random.default_rng(d)
    A, B = mixtures_of(rng, 7, d), mixtures_of(rng, 5, d)
    G = rng.normal(size=(7, 5))
    expected = by_pairs(A, B, G, squared)
    left = counted(monkeypatch)
    found = pairwise_mixture_wasserstein_vjp(A, B, G, squared=squared)
    assert not left
    for side, parts, thetas in zip(found, expected, (A, B), strict=True):
        assert_same(side, parts)
        assert [x.covariance_type for x in side] == [theta.covariance_type for theta in thetas]


@pytest.mark.parametrize(
    "options", [{}, {"squared": True}, {"reg": 0.5}, {"reg_m": 2.0}, {"reg_m": (1.0, 3.0)}]
)
def test_gradients_within_a_list(options):
    """Against a list and itself: entries of both triangles count, and the diagonal with reg."""
    rng = np.random.default_rng(0)
    A, G = mixtures_of(rng, 6, 2), rng.normal(size=(6, 6))
    counts = G if "reg" in options else G - np.diag(np.diag(G))
    if "reg" not in options:  # the distance of a mixture to itself has no derivative to ask for
        expected = [[np.zeros(part.shape) for part in theta] for theta in A]
        for i in range(6):
            others = [j for j in range(6) if j != i]
            one, rest = by_pairs(
                [A[i]], [A[j] for j in others], counts[i : i + 1, others], **options
            )
            for parts, added in [
                (expected[i], one[0]),
                *zip((expected[j] for j in others), rest, strict=True),
            ]:
                for part, its in zip(parts, added, strict=True):
                    part += its
    else:
        sides = by_pairs(A, A, counts, **options)
        expected = [
            [x + y for x, y in zip(*parts, strict=True)] for parts in zip(*sides, strict=True)
        ]
    found, nothing = pairwise_mixture_wasserstein_vjp(A, None, G, **options)
    assert nothing is None
    assert_same(found, expected, 1e-8 if "reg_m" in options else 1e-11)


def moved(theta, tangent, step):
    parts = (part + step * its for part, its in zip(theta, tangent, strict=True))
    return MixtureParameters(*parts, theta.covariance_type)


def random_tangent(rng, theta):
    weights = rng.normal(size=theta.weights.shape)
    covariances = rng.normal(size=theta.covariances.shape)
    covariances = family_of(theta).symmetrized(covariances)
    means = rng.normal(size=theta.means.shape)
    return MixtureParameters(weights - weights.mean(), means, covariances, theta.covariance_type)


def inner(gradients, tangents):
    return sum(
        np.vdot(part, its)
        for pair in zip(gradients, tangents, strict=True)
        for part, its in zip(*pair, strict=True)
    )


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("d", [1, 3])
def test_gradients_are_derivatives(d, squared):
    """By central differences: plans are vertices, which do not change in so small a step."""
    rng = np.random.default_rng(d)
    A, B, G = mixtures_of(rng, 4, d), mixtures_of(rng, 3, d), rng.normal(size=(4, 3))
    tangents = [[random_tangent(rng, theta) for theta in side] for side in (A, B)]
    slope = sum(
        inner(*pair)
        for pair in zip(
            pairwise_mixture_wasserstein_vjp(A, B, G, squared=squared), tangents, strict=True
        )
    )
    losses = []
    for step in (1e-6, -1e-6):
        lists = (
            [moved(*pair, step) for pair in zip(*side, strict=True)]
            for side in zip((A, B), tangents, strict=True)
        )
        losses.append((G * pairwise_mixture_wasserstein(*lists, squared=squared)).sum())
    np.testing.assert_allclose(slope, (losses[0] - losses[1]) / 2e-6, rtol=1e-6)


def test_derivative_within_a_list():
    rng = np.random.default_rng(0)
    A, G = mixtures_of(rng, 5, 2), rng.normal(size=(5, 5))
    tangents = [random_tangent(rng, theta) for theta in A]
    slope = inner(pairwise_mixture_wasserstein_vjp(A, None, G)[0], tangents)
    losses = [
        (
            G
            * pairwise_mixture_wasserstein([moved(*x, step) for x in zip(A, tangents, strict=True)])
        ).sum()
        for step in (1e-6, -1e-6)
    ]
    np.testing.assert_allclose(slope, (losses[0] - losses[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 100])
def test_threads_change_no_bit_and_blocks_none_but_rounding(size, monkeypatch):
    rng = np.random.default_rng(0)
    A, G = mixtures_of(rng, 15, 3), rng.normal(size=(15, 15))
    whole, _ = pairwise_mixture_wasserstein_vjp(A, None, G)
    monkeypatch.setattr(many, "BLOCK_SIZE", size)
    one, _ = pairwise_mixture_wasserstein_vjp(A, None, G, n_jobs=1)
    assert_same(one, [list(theta) for theta in whole], 1e-13)
    for n_jobs in (2, 5, None):
        found, _ = pairwise_mixture_wasserstein_vjp(A, None, G, n_jobs=n_jobs)
        for gradient, its in zip(found, one, strict=True):
            for part, other in zip(gradient, its, strict=True):
                np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("n_jobs", [1, 3, None])
def test_as_many_threads_as_jobs(n_jobs, monkeypatch):
    taken = []

    def noting(task, n_segments, n_threads):
        taken.append(n_threads)
        task(0, n_segments)

    monkeypatch.setattr(many_gradients, "run", noting)
    A = mixtures_of(np.random.default_rng(0), 3, 2)
    pairwise_mixture_wasserstein_vjp(A, None, np.ones((3, 3)), n_jobs=n_jobs)
    assert set(taken) == {effective_n_threads(n_jobs)}


def hostile(kind, rng):
    """A list with mixtures for which there is no fast way."""
    A = mixtures_of(rng, 4, 2, ["full"])
    if kind == "weight zero":
        A[0] = random_mixture(rng, 3, 2)
        A[0].weights[:] = [0.0, 0.25, 0.75]
    elif kind == "singular":
        for theta in A:  # in the same direction
            theta.covariances[:, 0] = theta.covariances[:, :, 0] = 0.0
    elif kind == "many components":
        A[0] = random_mixture(rng, many.LARGEST_COMPILED + 1, 2)
    elif kind == "tiny":
        A = [
            MixtureParameters(t.weights, t.means * 2.0**-200, t.covariances * 2.0**-400, "full")
            for t in A
        ]
    return A


@pytest.mark.parametrize("kind", ["weight zero", "singular", "many components", "tiny"])
def test_what_has_no_fast_way_takes_that_of_pairs(kind, monkeypatch):
    rng = np.random.default_rng(0)
    A = hostile(kind, rng)
    B, G = mixtures_of(rng, 3, 2, ["full"]), rng.normal(size=(4, 3))
    if kind == "singular":
        for theta in B:
            theta.covariances[:, 0] = theta.covariances[:, :, 0] = 0.0
    elif kind == "tiny":
        B = A[:3]
        A, G = A[3:], G[:1]
    expected = by_pairs(A, B, G, squared=True)
    left = counted(monkeypatch)
    found = pairwise_mixture_wasserstein_vjp(A, B, G, squared=True)
    assert len(left) == {"weight zero": 3, "many components": 3, "singular": 12, "tiny": 3}[kind]
    for side, parts in zip(found, expected, strict=True):
        assert_same(side, parts)


def test_a_singular_mixture_does_not_take_others_along(monkeypatch):
    rng = np.random.default_rng(0)
    A, B = mixtures_of(rng, 3, 2, ["diag"]), mixtures_of(rng, 2, 2, ["diag"])
    A[2].covariances[:, 0] = B[1].covariances[:, 0] = 0.0
    G = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    left = counted(monkeypatch)
    pairwise_mixture_wasserstein_vjp(A, B, G)
    assert len(left) == 1


def test_many_features_take_the_way_of_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    A = mixtures_of(rng, 2, 20)
    left = counted(monkeypatch)
    found = pairwise_mixture_wasserstein_vjp(A[:1], A[1:], [[1.0]], squared=True)
    assert len(left) == 1
    transport = mixture_transport(*A)
    expected = [[list(transport.gradient(wrt))] for wrt in ("source", "target")]
    for side, parts in zip(found, expected, strict=True):
        assert_same(side, parts)


@pytest.mark.parametrize("failing", ["certificates", "rotations"])
def test_blocks_without_proof_take_the_way_of_pairs(failing, monkeypatch):
    rng = np.random.default_rng(0)
    A, G = mixtures_of(rng, 5, 2), rng.normal(size=(5, 5))
    expected, _ = pairwise_mixture_wasserstein_vjp(A, None, G)
    kernel, maps = many.exact_plans, many_gradients.add_maps

    def doubted(*arguments):
        kernel(*arguments)
        arguments[9][::2] = False
        arguments[8][::2] = 1e10

    def failed(*arguments):
        maps(*arguments)
        return False

    if failing == "certificates":
        monkeypatch.setattr(many, "exact_plans", doubted)
    else:
        monkeypatch.setattr(many_gradients, "add_maps", failed)
    left = counted(monkeypatch)
    found, _ = pairwise_mixture_wasserstein_vjp(A, None, G)
    assert len(left) == 10 if failing == "rotations" else 0 < len(left) < 10
    assert_same(found, [list(theta) for theta in expected])


def test_deviations_whose_products_underflow_take_the_way_of_pairs(monkeypatch):
    units = np.array([1.0, 2.0**-300])
    A = [
        MixtureParameters(t.weights, t.means * units, t.covariances * units**2, "diag")
        for t in mixtures_of(np.random.default_rng(0), 3, 2, ["diag"])
    ]
    expected = by_pairs(A[:2], A[2:], np.ones((2, 1)), squared=True)
    left = counted(monkeypatch)
    found = pairwise_mixture_wasserstein_vjp(A[:2], A[2:], np.ones((2, 1)), squared=True)
    assert len(left) == 2
    for side, parts in zip(found, expected, strict=True):
        assert_same(side, parts)


def test_equal_mixtures_have_no_gradient():
    """Zero is a subgradient at the kink; and squares are flat there."""
    a = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.ones((1, 2)), "diag")
    for squared in (False, True):
        for side in pairwise_mixture_wasserstein_vjp([a], [a], [[1.0]], squared=squared):
            assert not any(part.any() for part in side[0])


def test_pairs_with_no_cotangent_are_not_computed(monkeypatch):
    a = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.array([[1.0, 0.0]]), "diag")
    b = MixtureParameters(np.ones(1), np.ones((1, 2)), np.ones((1, 2)), "diag")
    left = counted(monkeypatch)
    for side in pairwise_mixture_wasserstein_vjp([a, b], [a, b], np.diag([0.0, 0.0])):
        assert not any(part.any() for theta in side for part in theta)
    assert not left
    with pytest.raises(ValueError, match=r"^A\[0\] and .*\[1\]: The covariance of component 0"):
        pairwise_mixture_wasserstein_vjp([a, b], [a, b], [[0.0, 1.0], [0.0, 0.0]])


def test_single_precision_stays_single():
    rng = np.random.default_rng(0)
    A = mixtures_of(rng, 3, 2)
    A[1] = MixtureParameters(*(p.astype(np.float32) for p in A[1]), A[1].covariance_type)
    found, _ = pairwise_mixture_wasserstein_vjp(A, None, np.ones((3, 3)))
    assert [theta.means.dtype.char for theta in found] == ["d", "f", "d"]
    assert all(part.dtype.char == "f" for part in found[1])


@pytest.mark.parametrize(
    "cotangent, message",
    [
        (np.ones((2, 2)), r"^cotangent must have the shape \(3, 3\).*got \(2, 2\)"),
        (np.full((3, 3), np.nan), "^cotangent contains NaN"),
        (np.ones((3, 3)) * 1j, "^cotangent must be real"),
    ],
)
def test_what_is_wrong_is_named(cotangent, message):
    A = mixtures_of(np.random.default_rng(0), 3, 2)
    with pytest.raises(ValueError, match=message):
        pairwise_mixture_wasserstein_vjp(A, None, cotangent)
    with pytest.raises(ValueError, match="^B is empty"):
        pairwise_mixture_wasserstein_vjp(A, [], cotangent)


def test_failure_to_converge_is_said(monkeypatch):
    monkeypatch.setattr(interior_point, "MAX_ITER", 1)
    rng = np.random.default_rng(3)
    a, b = random_mixture(rng, 9, 2), random_mixture(rng, 9, 2)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        pairwise_mixture_wasserstein_vjp([a], [b], [[1.0]], reg_m=0.1)
