"""φ(x) as products of rows, against the table."""

import naive
import numpy as np
import pytest

from skgmmot.kernels.features import TILE, features_of, padded
from skgmmot.parameters import COVARIANCE_TYPES


@pytest.mark.parametrize("d", [1, 2, 3, 8])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_features_are_products_of_rows(covariance_type, d):
    Z = np.random.default_rng(d).normal(size=(5, d))
    expected = naive.features(Z, covariance_type)
    features = features_of(covariance_type, d)
    rows = np.vstack([np.ones(5), Z.T, (Z * Z).sum(axis=1)])
    left, right = features.pairs[:, : features.size]
    assert features.size == expected.shape[1]
    np.testing.assert_allclose((rows[left] * rows[right]).T, expected, rtol=1e-15)
    assert features.has_squared_norm == (covariance_type == "spherical")


@pytest.mark.parametrize("d", [1, 2, 3, 8])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_features_are_padded_with_the_constant(covariance_type, d):
    features = features_of(covariance_type, d)
    assert features.pairs.shape == (2, padded(features.size))
    assert not features.pairs[:, features.size :].any()
    assert not features.pairs.flags.writeable  # it is shared: the table is cached


def test_padded_is_the_next_multiple_of_the_tile():
    assert [padded(size) for size in (1, TILE - 1, TILE, TILE + 1)] == [TILE, TILE, TILE, 2 * TILE]
