"""Barycenters of Gaussians, against the textbook's fixed point, closed forms and POT."""

import warnings

import naive
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skgmmot.parameters import MixtureParameters
from skgmmot.transport import bures_barycenter
from skgmmot.transport.bures import gaussian_maps, square_root_factors
from skgmmot.transport.bures_barycenter import (
    TOL,
    deviation_barycenters,
    factor_barycenters,
    weighted_mean,
)
from skgmmot.transport.costs import gaussian_costs


def centered(covariances):
    n, d = covariances.shape[:2]
    return MixtureParameters(np.full(n, 1 / n), np.zeros((n, d)), covariances, "full")


def barycenter(covariances, weights):
    """Covariance, spread and residual of the barycenter of all the covariances."""
    factors = square_root_factors(centered(covariances))
    R, spread, residual = factor_barycenters(
        factors, np.arange(len(factors))[None], np.asarray(weights)[None]
    )
    return R[0] @ R[0].T, spread[0], residual


def objective(covariance, covariances, weights):
    return gaussian_costs(centered(covariance[None]), centered(covariances))[0] @ weights


def naive_barycenter(covariances, weights, n_steps=300):
    """The iteration of Álvarez-Esteban et al. (2016), with their square roots."""

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T

    S = np.einsum("j,jab->ab", weights, covariances)
    for _ in range(n_steps):
        half = root(S)
        mean = sum(w * root(half @ C @ half) for w, C in zip(weights, covariances, strict=True))
        inverse = np.linalg.inv(half)
        S = inverse @ mean @ mean @ inverse
    return S


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_against_the_naive_fixed_point(n, d):
    rng = np.random.default_rng(10 * n + d)
    covariances, weights = naive.random_spd(rng, n, d), rng.dirichlet(np.ones(n))
    S, spread, residual = barycenter(covariances, weights)
    np.testing.assert_allclose(S, naive_barycenter(covariances, weights), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(spread, objective(S, covariances, weights), rtol=1e-10, atol=1e-14)
    assert residual <= TOL


def test_against_pot():
    rng = np.random.default_rng(0)
    covariances, weights = naive.random_spd(rng, 4, 3), rng.dirichlet(np.ones(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own tolerance
        _, peer = ot.gaussian.bures_wasserstein_barycenter(
            np.zeros((4, 3)), covariances, weights, num_iter=1000, eps=1e-12
        )
    np.testing.assert_allclose(barycenter(covariances, weights)[0], peer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_mean_map_from_the_barycenter_is_the_identity(scale):
    """The derivative of the objective vanishes, whatever the units."""
    rng = np.random.default_rng(1)
    covariances, weights = scale * naive.random_spd(rng, 4, 5), rng.dirichlet(np.ones(4))
    S, _, _ = barycenter(covariances, weights)
    maps = gaussian_maps(
        centered(S[None]), centered(covariances), np.zeros(4, dtype=int), np.arange(4)
    )
    np.testing.assert_allclose(np.einsum("j,jab->ab", weights, maps), np.eye(5), atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_two_are_on_their_geodesic(rank, t):
    """Distances t and 1 − t times the whole one, to rounding, whatever the ranks."""
    rng = np.random.default_rng(rank)
    thin = rng.normal(size=(3, rank))
    covariances = np.stack([thin @ thin.T, naive.random_spd(rng, 1, 3)[0]])
    for pair in (covariances, covariances[::-1]):
        S, spread, _ = barycenter(pair, [1 - t, t])
        whole = gaussian_costs(centered(pair), centered(pair))[0, 1]
        parts = gaussian_costs(centered(S[None]), centered(pair))[0]
        np.testing.assert_allclose(parts, [t**2 * whole, (1 - t) ** 2 * whole], atol=1e-12 * whole)
        np.testing.assert_allclose(spread, t * (1 - t) * whole, rtol=1e-12, atol=1e-14 * whole)


def test_singular_covariances():
    """In a plane of space, the barycenter of its Gaussians; a point shrinks all of them."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(4, 2)))[0]
    flat, weights = naive.random_spd(rng, 3, 2), rng.dirichlet(np.ones(3))
    expected, _, _ = barycenter(flat, weights)
    S, spread, _ = barycenter(plane @ flat @ plane.T, weights)
    np.testing.assert_allclose(S, plane @ expected @ plane.T, atol=1e-10)
    np.testing.assert_allclose(spread, objective(expected, flat, weights), rtol=1e-9)

    with_point = np.concatenate([flat, np.zeros((1, 2, 2))])
    S, _, _ = barycenter(with_point, np.r_[0.5 * weights, 0.5])
    np.testing.assert_allclose(S, 0.25 * expected, rtol=1e-9)
    S, spread, residual = barycenter(np.zeros((3, 2, 2)), weights)
    assert not S.any() and spread == 0 and residual == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_singular_covariance_near_the_barycenter_of_singular_ones_is_better(seed):
    """Different kernels: the minimum is interior, which a rank lost on the way would miss."""
    rng = np.random.default_rng(seed)
    thin = rng.normal(size=(3, 3, 2))
    covariances, weights = thin @ thin.swapaxes(1, 2), np.full(3, 1 / 3)
    S, spread, _ = barycenter(covariances, weights)
    for _ in range(50):
        other = naive.random_spd(rng, 1, 3)[0]
        for t in (1e-3, 0.1, 1.0):
            moved = (1 - t) * S + t * other
            assert objective(moved, covariances, weights) >= spread * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_the_order_of_singular_covariances_does_not_matter(seed):
    """A start from the first of them may stay in its span."""
    factors = np.random.default_rng(seed).normal(size=(3, 3, 3))
    factors[:, :, 2] = 0.0
    orders = np.array([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    _, spreads, _ = factor_barycenters(factors, orders, np.full((3, 3), 1 / 3))
    np.testing.assert_allclose(spreads, spreads[0], rtol=1e-9)


def test_commuting_covariances_average_their_deviations():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    deviations, weights = rng.uniform(0, 2, size=(3, 4)), rng.dirichlet(np.ones(3))
    deviations[0, 0] = 0
    S, spread, _ = barycenter((rotation * deviations[:, None] ** 2) @ rotation.T, weights)
    R, spreads, residual = deviation_barycenters(deviations, np.arange(3)[None], weights[None])
    np.testing.assert_allclose(R[0], weights @ deviations, rtol=1e-14)
    np.testing.assert_allclose(S, (rotation * R[0] ** 2) @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(spread, spreads[0], rtol=1e-9)
    assert residual == 0


def test_many_at_once_in_blocks(monkeypatch):
    """Members and weights of each, of zero to fill up; blocks change no bit."""
    rng = np.random.default_rng(0)
    covariances = naive.random_spd(rng, 6, 3)
    factors = square_root_factors(centered(covariances))
    members = np.array([[0, 1, 2], [3, 4, 0], [5, 0, 0], [1, 5, 3]])
    weights = np.array([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]])
    R, spreads, _ = factor_barycenters(factors, members, weights)
    for S, spread, member, weight in zip(
        R @ R.swapaxes(1, 2), spreads, members, weights, strict=True
    ):
        some = weight > 0
        expected = naive_barycenter(covariances[member[some]], weight[some])
        np.testing.assert_allclose(S, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            spread, objective(expected, covariances[member], weight), rtol=1e-9, atol=1e-14
        )
    monkeypatch.setattr(bures_barycenter, "BLOCK_SIZE", 60)  # two barycenters in each
    again, _, _ = factor_barycenters(factors, members, weights)
    np.testing.assert_array_equal(again, R)


def test_every_step_descends(monkeypatch):
    """Stopped after each number of steps, with a residual that says so."""
    rng = np.random.default_rng(0)
    thin = rng.normal(size=(4, 3, 3)) * [1, 1e-2, 1e-2]
    covariances, weights = thin @ thin.swapaxes(1, 2), np.full(4, 0.25)
    spreads, residuals = [], []
    for n_steps in range(1, 15):
        monkeypatch.setattr(bures_barycenter, "MAX_ITER", n_steps)
        _, spread, residual = barycenter(covariances, weights)
        spreads.append(spread)
        residuals.append(residual)
    assert (np.diff(spreads) <= 1e-15 * spreads[0]).all()
    assert residuals[0] > 1e-2 > 1e-4 > residuals[-1] > TOL


def test_weighted_mean():
    points = np.array([[0.0, 1.0], [4.0, 1.0], [9.0, 9.0]])
    mean, spreads = weighted_mean(points, np.array([[0, 1]]), np.array([[0.75, 0.25]]))
    np.testing.assert_array_equal(mean, [[1.0, 1.0]])
    np.testing.assert_array_equal(spreads, [3.0])


@settings(derandomize=True, max_examples=40, deadline=None, database=None)
@given(
    n=st.integers(1, 5), d=st.integers(1, 5), exponent=st.integers(-8, 8), seed=st.integers(0, 999)
)
def test_scales_with_its_covariances(n, d, exponent, seed):
    rng = np.random.default_rng(seed)
    covariances, weights = naive.random_spd(rng, n, d), rng.dirichlet(np.ones(n))
    (S, spread, _), scale = barycenter(covariances, weights), 10.0**exponent
    scaled, scaled_spread, residual = barycenter(scale * covariances, weights)
    np.testing.assert_allclose(scaled, scale * S, rtol=1e-8, atol=1e-8 * scale)
    np.testing.assert_allclose(scaled_spread, scale * spread, rtol=1e-9, atol=1e-14 * scale)
    assert residual <= TOL
