"""φ(x) as products of rows, against the table."""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES


@pytest.mark.parametrize("d", [1, 2, 3, 8])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_features_are_products_of_rows(covariance_type, d):
    Z = np.random.default_rng(d).normal(size=(5, d))
    expected = naive.features(Z, covariance_type)
    features = FAMILIES[covariance_type].features(d)
    rows = np.vstack([np.ones(5), Z.T, (Z * Z).sum(axis=1)])
    left, right = features.pairs
    assert features.size == expected.shape[1]
    np.testing.assert_allclose((rows[left] * rows[right]).T, expected, rtol=1e-15)
    assert features.has_squared_norm == (covariance_type == "spherical")
    assert FAMILIES[covariance_type].features(d) is features  # the table is cached
