"""Bridges between Gaussians: against entropic transport that is iterated, and what they satisfy."""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport.bures import gaussian_geodesics
from skgmmot.transport.gaussian_bridges import (
    covariances_at,
    gaussian_bridges,
    means_at,
    slopes_at,
)

TIMES = [0.0, 0.2, 0.5, 0.9, 1.0]
EPSILONS = [0.3, 1.0, 4.0]


def pair_of(kind="full", target_kind="full", d=3, seed=0):
    rng = np.random.default_rng(seed)
    return naive.random_mixture(rng, 3, d, kind), naive.random_mixture(rng, 2, d, target_kind)


def all_pairs(a, b):
    return np.repeat(np.arange(a.n_components), b.n_components), np.tile(
        np.arange(b.n_components), a.n_components
    )


def matrices(mixture):
    family = FAMILIES[mixture.covariance_type]
    return family.matrices(mixture.covariances, *mixture.means.shape)


def as_matrices(arrays):
    """Stacks of matrices, of these or of their diagonals."""
    return arrays if arrays.ndim == 3 else np.array([np.diag(row) for row in arrays])


def entropic_cross_covariance(S, S_target, epsilon):
    """Cov(X_0, X_1) by Sinkhorn's iterations, which know nothing of the closed form.

    Densities exp(−‖x − y‖² / 2ε²) f(x) h(y) of Gaussians have precisions [[A, −I/ε²], [−I/ε², B]];
    each half of a round sets A, or B, such that one of the marginals is right.
    """
    identity, noise = np.eye(len(S)), epsilon**2
    precision, target_precision = np.linalg.inv(S), np.linalg.inv(S_target)
    B, last = identity, 2 * identity
    while np.abs(B - last).max() > 1e-13 * np.abs(B).max():
        last = B
        A = precision + np.linalg.inv(B) / noise**2
        B = target_precision + np.linalg.inv(A) / noise**2
    joint = np.linalg.inv(np.block([[A, -identity / noise], [-identity / noise, B]]))
    np.testing.assert_allclose(joint[: len(S), : len(S)], S, rtol=1e-9, atol=1e-10)
    return joint[: len(S), len(S) :]


def textbook_covariance(S, S_target, C, epsilon, t):
    middle = t * (1 - t) * (C + C.T + epsilon**2 * np.eye(len(S)))
    return (1 - t) ** 2 * S + t**2 * S_target + middle


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("target_kind", COVARIANCE_TYPES)
def test_ends_are_coupled_by_entropic_transport(kind, target_kind, epsilon):
    a, b = pair_of(kind, target_kind)
    rows, columns = all_pairs(a, b)
    bridges = gaussian_bridges(a, b, rows, columns, epsilon)
    for t in TIMES:
        found = as_matrices(covariances_at(bridges, t))
        for pair, (k, j) in enumerate(zip(rows, columns, strict=True)):
            S, S_target = matrices(a)[k], matrices(b)[j]
            C = entropic_cross_covariance(S, S_target, epsilon)
            expected = textbook_covariance(S, S_target, C, epsilon, t)
            # the iteration has converged to 1e-9
            np.testing.assert_allclose(found[pair], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_textbook_formula(d, epsilon):
    """C = ½ (S^½ D S^−½ − ε² I) with D = (4 S^½ S' S^½ + ε⁴ I)^½, and Σ_t of it."""
    a, b = pair_of(d=d)
    rows, columns = all_pairs(a, b)
    bridges = gaussian_bridges(a, b, rows, columns, epsilon)

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(values)) @ vectors.T

    identity = np.eye(d)
    for pair, (k, j) in enumerate(zip(rows, columns, strict=True)):
        S, S_target = matrices(a)[k], matrices(b)[j]
        D = root(4 * root(S) @ S_target @ root(S) + epsilon**4 * identity)
        C = (root(S) @ D @ np.linalg.inv(root(S)) - epsilon**2 * identity) / 2
        for t in TIMES:
            found = as_matrices(covariances_at(bridges, t))[pair]
            expected = textbook_covariance(S, S_target, C, epsilon, t)
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_a_plan_on_a_grid():
    """The variance half-way, from Sinkhorn's iterations on a grid of 1 201 points."""
    x, epsilon, deviations = np.linspace(-9, 9, 1201), 0.9, (0.7, 1.6)
    masses = [np.exp(-(x**2) / (2 * s * s)) for s in deviations]
    first, last = (mass / mass.sum() for mass in masses)
    kernel = np.exp(-((x[:, None] - x) ** 2) / (2 * epsilon**2))
    v = np.ones_like(x)
    for _ in range(200):
        u = first / (kernel @ v)
        v = last / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    expected = (plan * (x[:, None] + x) ** 2).sum() / 4 + epsilon**2 / 4
    one = [([1.0], [[0.0]], [s * s]) for s in deviations]
    a, b = (MixtureParameters(*map(np.array, theta)) for theta in one)
    zero = np.zeros(1, dtype=int)
    found = covariances_at(gaussian_bridges(a, b, zero, zero, epsilon), 0.5)
    assert found.item() == pytest.approx(expected, rel=1e-6)  # the ends of the grid: 9 / 1.6 = 5.6


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_without_noise_it_is_the_geodesic(kind, t):
    a, b = pair_of(kind, "full" if kind == "tied" else kind, d=4)
    pairs = all_pairs(a, b)
    bridges = gaussian_bridges(a, b, *pairs, 0.0)
    expected = gaussian_geodesics(a, b, *pairs, t)
    np.testing.assert_allclose(covariances_at(bridges, t), expected, rtol=1e-12, atol=1e-13)
    nearly = gaussian_bridges(a, b, *pairs, 1e-5)  # Σ_t differs by about ε²
    np.testing.assert_allclose(covariances_at(nearly, t), expected, atol=1e-9)
    assert covariances_at(bridges, t).shape == expected.shape


SINGULAR = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
REGULAR = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.5]])


@pytest.mark.parametrize(
    "S, S_target",
    [(SINGULAR, REGULAR), (REGULAR, SINGULAR), (np.zeros((3, 3)), REGULAR), (SINGULAR, SINGULAR)],
)
def test_singular_covariances(S, S_target):
    """The limit of regular ones, at all times; without noise the geodesic."""
    zero = np.zeros(1, dtype=int)

    def bridges(epsilon, added):
        pair = [
            MixtureParameters(np.ones(1), np.zeros((1, 3)), (M + added * np.eye(3))[None], "full")
            for M in (S, S_target)
        ]
        return gaussian_bridges(*pair, zero, zero, epsilon), pair

    for t in TIMES:
        found, nearby = (covariances_at(bridges(0.7, added)[0], t)[0] for added in (0.0, 1e-9))
        np.testing.assert_allclose(found, nearby, atol=1e-7)
        still, pair = bridges(0.0, 0.0)
        np.testing.assert_allclose(
            covariances_at(still, t), gaussian_geodesics(*pair, zero, zero, t), atol=1e-14
        )
    for t in TIMES[1:-1]:
        slopes = slopes_at(bridges(0.7, 0.0)[0], t)
        np.testing.assert_allclose(slopes, slopes_at(bridges(0.7, 1e-9)[0], t), atol=1e-6)


@pytest.mark.parametrize("rounding", [0.0, 1e-17])
def test_slopes_of_singular_covariances_are_of_least_norm(rounding):
    """Without noise: zero across the plane that both ends lie in, also where it is rounded."""
    rng, zero = np.random.default_rng(0), np.zeros(1, dtype=int)
    plane = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    across, plane = plane[:, 0], plane[:, 1:]
    roots = [plane @ rng.normal(size=(2, 2)) for _ in range(2)]
    noise = rounding * np.diag(rng.normal(size=3))
    pair = [
        MixtureParameters(np.ones(1), np.zeros((1, 3)), (L @ L.T + noise)[None], "full")
        for L in roots
    ]
    bridges = gaussian_bridges(*pair, zero, zero, 0.0)
    (slopes,) = slopes_at(bridges, 0.4)
    np.testing.assert_allclose(slopes @ across, 0.0, atol=1e-12)
    flat = [
        MixtureParameters(np.ones(1), np.zeros((1, 2)), (plane.T @ L @ L.T @ plane)[None], "full")
        for L in roots
    ]
    (expected,) = slopes_at(gaussian_bridges(*flat, zero, zero, 0.0), 0.4)
    np.testing.assert_allclose(plane.T @ slopes @ plane, expected, rtol=1e-9)


def test_slopes_of_flat_features_are_zero():
    theta = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.array([[0.0, 1.0]]), "diag")
    target = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.array([[0.0, 4.0]]), "diag")
    zero = np.zeros(1, dtype=int)
    slopes = slopes_at(gaussian_bridges(theta, target, zero, zero, 0.0), 0.5)
    np.testing.assert_allclose(slopes, [[0.0, 1.0 / 1.5]], rtol=1e-14)


@pytest.mark.parametrize("epsilon", [0.0, *EPSILONS])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_moments_follow_the_drift(kind, epsilon):
    """d m_t / dt is the drift at the mean, and d Σ_t / dt = K + Kᵀ + ε² I, K = slope Σ_t."""
    a, b = pair_of(kind, kind)
    pairs = all_pairs(a, b)
    bridges, h = gaussian_bridges(a, b, *pairs, epsilon), 1e-5
    for t in (0.1, 0.5, 0.8):
        K = as_matrices(slopes_at(bridges, t)) @ as_matrices(covariances_at(bridges, t))
        later, sooner = (as_matrices(covariances_at(bridges, t + s)) for s in (h, -h))
        expected = K + np.swapaxes(K, 1, 2) + epsilon**2 * np.eye(3)
        # central differences of a quadratic are exact: rounding of 1e-16 / h is left
        np.testing.assert_allclose((later - sooner) / (2 * h), expected, atol=1e-8)
        velocity = (means_at(bridges, t + h) - means_at(bridges, t - h)) / (2 * h)
        np.testing.assert_allclose(velocity, bridges.target_means - bridges.means, atol=1e-8)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_slopes_are_those_of_a_gradient_field(epsilon):
    """Before they are made symmetric they are so to rounding: K Σ_t⁻¹ by formulas (3) and (5)."""
    a, b = pair_of(d=4)
    rows, columns = all_pairs(a, b)
    bridges, t, identity = gaussian_bridges(a, b, rows, columns, epsilon), 0.3, np.eye(4)
    for pair, (k, j) in enumerate(zip(rows, columns, strict=True)):
        S, S_target = matrices(a)[k], matrices(b)[j]
        C = entropic_cross_covariance(S, S_target, epsilon)
        K = (1 - t) * C.T - t * C + t * S_target - (1 - t) * S - t * epsilon**2 * identity
        expected = K @ np.linalg.inv(textbook_covariance(S, S_target, C, epsilon, t))
        np.testing.assert_allclose(expected, expected.T, atol=1e-8)
        np.testing.assert_allclose(slopes_at(bridges, t)[pair], expected, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-140, 1e-8, 1e8, 1e140])
def test_units_of_length_do_not_matter(scale):
    a, b = pair_of()
    pairs = all_pairs(a, b)
    here = gaussian_bridges(a, b, *pairs, 0.6)
    there = gaussian_bridges(*(naive.moved(m, scale, 0.0) for m in (a, b)), *pairs, 0.6 * scale)
    for t in (0.0, 0.4):
        np.testing.assert_allclose(
            covariances_at(there, t) / scale / scale, covariances_at(here, t), rtol=1e-12
        )
        np.testing.assert_allclose(slopes_at(there, t), slopes_at(here, t), rtol=1e-9, atol=1e-12)


def test_no_digits_are_lost_under_strong_noise():
    """C is far below ε² then: in the textbook formula nothing of it would be left."""
    one = [([1.0], [[0.0]], [s * s]) for s in (1e-3, 2e-3)]
    a, b = (MixtureParameters(*map(np.array, theta)) for theta in one)
    zero, epsilon = np.zeros(1, dtype=int), 100.0
    bridges = gaussian_bridges(a, b, zero, zero, epsilon)
    cross = (bridges.start * bridges.end).item()
    assert cross == pytest.approx(1e-6 * 4e-6 / epsilon**2, rel=1e-12)
    assert 0.5 * (np.sqrt(4 * 1e-6 * 4e-6 + epsilon**4) - epsilon**2) == 0.0
