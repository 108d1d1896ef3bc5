"""Precisions of large matrices against NumPy."""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.numerics import cholesky


def test_precisions_by_lapack():
    """From the dimension on where they are; junk above the diagonal is not read."""
    rng = np.random.default_rng(0)
    few, many = (naive.random_covariances(rng, 2, d) for d in (8, 260))
    junk = many.copy()
    junk[:, *np.triu_indices(260, 1)] = np.nan
    factors, inverses = np.full((2, *many.shape), np.nan)
    log_det = np.full(2, np.nan)
    assert cholesky.precisions(junk, factors, inverses, log_det) == -1
    np.testing.assert_allclose(factors, np.linalg.inv(np.linalg.cholesky(many)), atol=1e-13)
    np.testing.assert_allclose(inverses, np.linalg.inv(many), atol=1e-13)
    np.testing.assert_allclose(log_det, -0.5 * np.linalg.slogdet(many)[1], atol=1e-11)
    assert (factors == np.tril(factors)).all()
    assert (inverses == inverses.swapaxes(1, 2)).all()
    for place, bad in [(0, np.nan), (1, -1.0)]:
        broken = few.copy()
        broken[place, 3, 3] = bad
        room = np.empty(few.shape), np.empty(few.shape), np.empty(2)
        assert cholesky.precisions(broken, *room) == place


def test_collapsed_covariances_of_many_features_are_named():
    covariances = np.stack([np.eye(260), np.zeros((260, 260))])
    with pytest.raises(CollapsedComponentError, match="component 1 is not positive definite"):
        FAMILIES["full"].precisions(covariances, 260)
