"""The kernels for small matrices against NumPy."""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.kernels.small_matrices import (
    exceeds,
    maximization,
    precisions,
    quadratic_coefficients,
    quadratic_pull_back,
)


def run_kernel(covariances):
    factors, inverses = np.full((2, *covariances.shape), np.nan)
    log_det = np.full(len(covariances), np.nan)
    failed = precisions(covariances, factors, inverses, log_det)
    return failed, factors, inverses, log_det


@pytest.mark.parametrize("d", [1, 2, 3, 5, 12, 40])
def test_factors_inverses_and_determinants(d):
    covariances = naive.random_covariances(np.random.default_rng(d), 4, d)
    failed, factors, inverses, log_det = run_kernel(covariances)
    assert failed == -1
    lower = np.linalg.cholesky(covariances)
    # condition number 4 at most: an error of a few d roundings
    tolerance = 20 * d * naive.EPS
    np.testing.assert_allclose(factors, np.linalg.inv(lower), atol=tolerance)
    np.testing.assert_allclose(inverses, np.linalg.inv(covariances), atol=tolerance)
    expected = -0.5 * np.linalg.slogdet(covariances)[1]
    np.testing.assert_allclose(log_det, expected, atol=tolerance)
    assert (factors == np.tril(factors)).all()
    assert (inverses == inverses.swapaxes(1, 2)).all()


def test_scales_of_features_do_not_matter():
    covariance = naive.random_covariances(np.random.default_rng(0), 1, 3)
    scales = np.array([1e-8, 1.0, 1e8])
    _, factors, inverses, log_det = run_kernel(covariance)
    _, scaled_factors, scaled_inverses, scaled_log_det = run_kernel(
        covariance * scales * scales[:, None]
    )
    # element by element: Cholesky's algorithm commutes with scaling, up to rounding
    np.testing.assert_allclose(scaled_factors, factors / scales, rtol=1e-13)
    np.testing.assert_allclose(scaled_inverses, inverses / scales / scales[:, None], rtol=1e-13)
    np.testing.assert_allclose(scaled_log_det, log_det - np.log(scales).sum(), rtol=1e-14)


def test_only_lower_halves_are_read():
    covariances = naive.random_covariances(np.random.default_rng(1), 2, 4)
    upper = np.triu_indices(4, 1)
    covariances_of_junk = covariances.copy()
    covariances_of_junk[:, upper[0], upper[1]] = np.nan
    failed, *results = run_kernel(covariances_of_junk)
    assert failed == -1
    for result, expected in zip(results, run_kernel(covariances)[1:], strict=True):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    "bad",
    [
        np.diag([1.0, -1.0, 1.0]),
        np.zeros((3, 3)),
        np.ones((3, 3)),
        np.diag([1.0, np.nan, 1.0]),
        np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    ],
    ids=["negative", "zero", "rank one", "NaN", "indefinite"],
)
@pytest.mark.parametrize("place", [0, 2])
def test_first_matrix_that_is_not_positive_definite_is_named(bad, place):
    covariances = np.stack([np.eye(3)] * 4)
    covariances[place] = bad
    covariances[3] = -np.eye(3)  # a later one does not matter
    assert run_kernel(covariances)[0] == place


@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4), (12, 2)])
def test_coefficients_are_those_of_the_quadratic_forms(d, K):
    """⟨η_k, φ(z)⟩ = c_k - ½ (z - μ_k)ᵀ P_k (z - μ_k) at any z."""
    rng = np.random.default_rng(10 * d + K)
    matrices, shifts = naive.random_covariances(rng, K, d), rng.normal(size=(K, d))
    constants = rng.normal(size=K)
    padding = 7.0
    coefficients = np.full((K + 1, FAMILIES["full"].features(d).size + 2), padding)
    quadratic_coefficients(constants, matrices, shifts, coefficients)
    z = rng.normal(size=d)
    values = coefficients[:K, :-2] @ naive.features(z[None], "full")[0]
    away = z - shifts
    expected = constants - 0.5 * np.einsum("ka,kab,kb->k", away, matrices, away)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13 * d * d)
    assert (coefficients[K] == padding).all() and (coefficients[:, -2:] == padding).all()


def maximized(X, weights, references, lost_share=0.0):
    """What `maximization` makes of weighted sums about some points, and its answer."""
    (K, _), d = weights.shape, X.shape[1]
    about = np.broadcast_to(references, (K, d))
    pairs = zip(weights, about, strict=True)
    sums = np.array([weight @ naive.features(X - point, "full") for weight, point in pairs])
    out = np.full(K, np.nan), np.full((K, d), np.nan), np.full((K, d, d), np.nan)
    return maximization(sums, references, 0.5, lost_share, *out), *out


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4)])
def test_maximization_gives_weighted_means_and_covariances(d, K, shared):
    rng = np.random.default_rng(10 * d + K)
    X, weights = rng.normal(size=(30, d)), rng.uniform(size=(K, 30))
    references = rng.normal(size=(1 if shared else K, d))
    any_lost, shares, means, covariances = maximized(X, weights, references)
    assert not any_lost
    np.testing.assert_allclose(shares, weights.sum(axis=1) / weights.sum(), rtol=1e-14)
    for k in range(K):
        np.testing.assert_allclose(means[k], np.average(X, axis=0, weights=weights[k]), atol=1e-14)
        expected = np.cov(X.T, aweights=weights[k], ddof=0).reshape(d, d) + 0.5 * np.eye(d)
        np.testing.assert_allclose(covariances[k], expected, rtol=0, atol=1e-13)
    assert (covariances == covariances.swapaxes(1, 2)).all()


def test_maximization_tells_of_components_without_mass():
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(30, 2)), rng.uniform(size=(3, 30))
    weights[1] = 0.0
    any_lost, shares, *others = maximized(X, weights, np.zeros((1, 2)))
    assert any_lost and shares[1] == 0
    assert all(np.isfinite(part).all() for part in others)
    weights[1] = 1e-6
    assert not maximized(X, weights, np.zeros((1, 2)))[0]
    assert maximized(X, weights, np.zeros((1, 2)), lost_share=1e-3)[0]


@pytest.mark.parametrize("shared", [False, True])
def test_exceeds_compares_squared_distances_with_variances(shared):
    rng = np.random.default_rng(0)
    means, covariances = rng.normal(size=(3, 2)), naive.random_covariances(rng, 3, 2)
    references = rng.normal(size=(1 if shared else 3, 2))
    ratios = (means - references) ** 2 / np.einsum("kaa->ka", covariances)
    assert exceeds(means, references, covariances, 0.999 * ratios.max())
    assert not exceeds(means, references, covariances, 1.001 * ratios.max())


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4)])
def test_pull_back_is_the_gradient_in_means_and_covariances(d, K, shared):
    """Against central differences of ⟨bar, coefficients⟩, with -½ log det Σ_k in the constants."""
    rng = np.random.default_rng(10 * d + K)
    sigma = naive.random_covariances(rng, 1 if shared else K, d)
    shifts = rng.normal(size=(K, d))
    bar = rng.normal(size=(K, FAMILIES["full"].features(d).size))

    def value(sigma, shifts):
        matrices = np.broadcast_to(np.linalg.inv(sigma), (K, d, d)).copy()
        constants = np.broadcast_to(-0.5 * np.linalg.slogdet(sigma)[1], K).copy()
        coefficients = np.empty(bar.shape)
        quadratic_coefficients(constants, matrices, shifts, coefficients)
        return (bar * coefficients).sum()

    means_bar, sigma_bar = np.full(shifts.shape, np.nan), np.full(sigma.shape, np.nan)
    quadratic_pull_back(np.linalg.inv(sigma), shifts, bar, means_bar, sigma_bar)
    h = 1e-5
    along = rng.normal(size=shifts.shape)
    slope = (value(sigma, shifts + h * along) - value(sigma, shifts - h * along)) / (2 * h)
    assert (means_bar * along).sum() == pytest.approx(slope, rel=1e-7, abs=1e-7)
    along = rng.normal(size=sigma.shape)
    along = along + along.swapaxes(1, 2)
    slope = (value(sigma + h * along, shifts) - value(sigma - h * along, shifts)) / (2 * h)
    assert (sigma_bar * along).sum() == pytest.approx(slope, rel=1e-7, abs=1e-7)
