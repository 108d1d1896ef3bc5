"""The kernels for small matrices against NumPy."""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.kernels.small_matrices import (
    central_moments,
    diagonal_central_moments,
    diagonal_coefficients,
    diagonal_precisions,
    largest_form,
    mark_beyond,
    mark_outweighed,
    precisions,
    quadratic_coefficients,
    quadratic_pull_back,
    shared_central_moment,
    weighted_means,
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


def diagonals(kind, d):
    """Numbers that a diagonal covariance has."""
    return {"diag": d, "spherical": 1}[kind]


@pytest.mark.parametrize("kind", ["diag", "spherical"])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_precisions_of_diagonals_are_those_of_their_matrices(kind, d):
    variances = np.random.default_rng(d).uniform(0.1, 9.0, (4, diagonals(kind, d)))
    factors, inverses = np.full((2, *variances.shape), np.nan)
    log_det = np.full(4, np.nan)
    assert diagonal_precisions(variances, d, factors, inverses, log_det) == -1
    np.testing.assert_allclose(factors, variances**-0.5, rtol=4 * naive.EPS)
    np.testing.assert_allclose(inverses, 1 / variances, rtol=4 * naive.EPS)
    matrices = np.array([np.diag(np.broadcast_to(own, d)) for own in variances])
    np.testing.assert_allclose(log_det, -0.5 * np.linalg.slogdet(matrices)[1], rtol=1e-14)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 2])
def test_first_diagonal_that_is_not_positive_is_named(bad, place):
    variances = np.ones((4, 2))
    variances[place, 1] = variances[3, 0] = bad
    assert diagonal_precisions(variances, 2, *np.empty((2, 4, 2)), np.empty(4)) == place


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4), (12, 2)])
def test_coefficients_are_those_of_the_log_densities(d, K, kind, common, temperature):
    """⟨η_k, φ(z)⟩ = log w_k + log g_k(x) / ε at any x, but for a term that is common."""
    rng = np.random.default_rng(10 * d + K)
    theta = naive.random_mixture(rng, K, d, kind)
    references = rng.normal(size=(1 if common else K, d))
    family = FAMILIES[kind]
    found = family.precisions(theta.covariances, d)
    padding = 7.0
    coefficients = np.full((K + 1, family.features(d).size), padding)
    fill = diagonal_coefficients if family.is_diagonal else quadratic_coefficients
    own = found.log_det, family.batch(found.inverses), theta.means
    fill(theta.weights, *own, references, temperature, coefficients)
    x = rng.normal(size=(2, d))
    about = np.broadcast_to(references, (K, d))
    values = [
        naive.features(x - point, kind) @ own
        for point, own in zip(about, coefficients[:K], strict=True)
    ]
    log_weights = np.log(theta.weights)
    expected = log_weights + (naive.log_joint(x, theta) - log_weights) / temperature
    if kind == "tied":  # what is left out: the quadratic part about the reference points
        away = x[:, None] - about
        square = np.einsum("ika,ab,ikb->ik", away, np.linalg.inv(theta.covariances), away)
        expected += 0.5 * square / temperature
    np.testing.assert_allclose(np.transpose(values), expected, rtol=0, atol=1e-12 * d * d)
    assert (coefficients[K] == padding).all()


@pytest.mark.parametrize("fill", [quadratic_coefficients, diagonal_coefficients])
def test_a_weight_of_zero_has_a_finite_logarithm(fill):
    precision = np.ones((2, 1, 1) if fill is quadratic_coefficients else (2, 1))
    coefficients = np.empty((2, 3))
    weights, log_det, points = np.array([0.0, 1.0]), np.zeros(2), np.zeros((2, 1))
    fill(weights, log_det, precision, points, points, 1.0, coefficients)
    assert np.isfinite(coefficients).all() and coefficients[0, 0] < -1e299


def maximized(X, weights, references, kind="full", lost_share=0.0):
    """What the kernels of an M-step make of weighted sums about some points, and their answer."""
    (K, _), d = weights.shape, X.shape[1]
    pairs = zip(weights, np.broadcast_to(references, (K, d)), strict=True)
    sums = np.array([weight @ naive.features(X - point, kind) for weight, point in pairs])
    shares, divisors, shifts, means = (np.full(shape, np.nan) for shape in (K, K, (K, d), (K, d)))
    any_lost = weighted_means(sums, references, lost_share, shares, divisors, shifts, means)
    if kind == "full":
        covariances, fill = np.full((K, d, d), np.nan), central_moments
    else:
        covariances, fill = np.full((K, diagonals(kind, d)), np.nan), diagonal_central_moments
    fill(sums, divisors, shifts, 0.5, covariances)
    return any_lost, shares, means, covariances


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4)])
def test_m_step_gives_weighted_means_and_covariances(d, K, shared, kind):
    rng = np.random.default_rng(10 * d + K)
    X, weights = rng.normal(size=(30, d)), rng.uniform(size=(K, 30))
    references = rng.normal(size=(1 if shared else K, d))
    any_lost, shares, means, covariances = maximized(X, weights, references, kind)
    assert not any_lost
    np.testing.assert_allclose(shares, weights.sum(axis=1) / weights.sum(), rtol=1e-14)
    for k in range(K):
        np.testing.assert_allclose(means[k], np.average(X, axis=0, weights=weights[k]), atol=1e-14)
        expected = np.cov(X.T, aweights=weights[k], ddof=0).reshape(d, d) + 0.5 * np.eye(d)
        if kind != "full":
            expected = np.diag(expected) if kind == "diag" else np.diag(expected).mean()
        np.testing.assert_allclose(covariances[k], expected, rtol=0, atol=1e-13)
    if kind == "full":
        assert (covariances == covariances.swapaxes(1, 2)).all()


@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4)])
def test_shared_moment_is_the_mean_covariance(d, K):
    rng = np.random.default_rng(10 * d + K)
    X, weights = rng.normal(size=(30, d)), rng.uniform(size=(K, 30))
    sums = np.array([weight @ naive.features(X, "tied") for weight in weights])
    shifts, second_moment = sums[:, 1:] / sums[:, :1], (X.T * weights.sum(axis=0)) @ X
    covariance = np.full((d, d), np.nan)
    shared_central_moment(sums, second_moment, shifts, 0.5, covariance)
    own = [np.cov(X.T, aweights=weight, ddof=0).reshape(d, d) for weight in weights]
    expected = np.average(own, axis=0, weights=weights.sum(axis=1)) + 0.5 * np.eye(d)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-13)
    assert (covariance == covariance.T).all()


def test_largest_form_is_attained_where_signs_agree():
    rng = np.random.default_rng(0)
    signs, reach = rng.choice([-1.0, 1.0], size=4), rng.uniform(size=4)
    matrix = rng.uniform(size=(4, 4)) * signs * signs[:, None]
    corner = signs * reach
    assert largest_form(matrix, reach) == pytest.approx(corner @ matrix @ corner, rel=1e-14)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_variances_are_not_less_than_what_is_added_to_them(kind):
    """Of samples in one place far from the reference point, where squares cancel."""
    X, weights = np.full((30, 2), 0.3), np.ones((1, 30))
    for far in 10.0 ** np.arange(6, 12):
        assert (maximized(X, weights, np.full((1, 2), far), kind)[3] >= 0.5).all()


def test_m_step_tells_of_components_without_mass():
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(30, 2)), rng.uniform(size=(3, 30))
    weights[1] = 0.0
    any_lost, shares, *others = maximized(X, weights, np.zeros((1, 2)))
    assert any_lost and shares[1] == 0
    assert all(np.isfinite(part).all() for part in others)
    weights[1] = 1e-6
    assert not maximized(X, weights, np.zeros((1, 2)))[0]
    assert maximized(X, weights, np.zeros((1, 2)), lost_share=1e-3)[0]


@pytest.mark.parametrize("shape", [(3, 2), (1, 2), (3, 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_marks_where_squared_distances_are_beyond_variances(shape, shared):
    rng = np.random.default_rng(0)
    means, variances = rng.normal(size=(3, 2)), rng.uniform(0.5, 2.0, shape)
    references = rng.normal(size=(1 if shared else 3, 2))
    ratios = ((means - references) ** 2 / variances).max(axis=1)
    marks = np.empty(3, dtype=bool)
    for limit in 0.999 * np.sort(ratios):
        assert mark_beyond(means, references, variances, limit, marks)
        np.testing.assert_array_equal(marks, ratios > limit)
    assert not mark_beyond(means, references, variances, 1.001 * ratios.max(), marks)
    assert not marks.any()


def test_marks_where_sums_outweigh_what_is_left():
    rng = np.random.default_rng(0)
    coefficients, sizes = rng.normal(size=(5, 4)), rng.uniform(size=4)
    coefficients[3, 1] = np.nan
    magnitudes = np.abs(coefficients) @ sizes + 0.25
    weights, marks = np.array([1.0, 0.5, 0.0, 0.1, 0.2]), np.empty(5, dtype=bool)
    limit = np.nanmedian(magnitudes)
    assert mark_outweighed(coefficients, sizes, 0.25, weights, limit, marks)
    np.testing.assert_array_equal(marks, ~(magnitudes < limit) & (weights > 0))
    assert not mark_outweighed(coefficients[:3], sizes, 0.25, weights, 1e3, marks)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("d, K", [(1, 1), (2, 3), (5, 4)])
def test_pull_back_is_the_gradient_in_means_and_covariances(d, K, shared):
    """Against central differences of ⟨bar, coefficients⟩, with -½ log det Σ_k in the constants."""
    rng = np.random.default_rng(10 * d + K)
    sigma = naive.random_covariances(rng, 1 if shared else K, d)
    shifts = rng.normal(size=(K, d))
    bar = rng.normal(size=(K, FAMILIES["full"].features(d).size))

    def value(sigma, shifts):
        log_det, about = -0.5 * np.linalg.slogdet(sigma)[1], np.zeros((1, d))
        coefficients = np.empty(bar.shape)
        own = np.ones(K), log_det, np.linalg.inv(sigma), shifts, about
        quadratic_coefficients(*own, 1.0, coefficients)
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
