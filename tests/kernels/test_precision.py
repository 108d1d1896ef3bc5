"""The precision kernel against NumPy."""

import naive
import numpy as np
import pytest

from skgmmot.kernels.precision import precisions


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
