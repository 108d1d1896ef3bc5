"""M-steps of parts, pooled, are the M-step of the whole."""

from itertools import pairwise

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES
from skgmmot.families.pooling import pooled
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
CUTS = [0, 1, 3, 40, 100]


def pooled_parts(X, weight, gamma, previous, **options):
    """By M-steps of parts that are the definition's."""
    parts, masses = [], []
    for rows in (slice(*ends) for ends in pairwise(CUTS)):
        masses.append(weight[rows] @ gamma[rows])
        own = X[rows], weight[rows], gamma[rows]
        parts.append(naive.maximize(*own, previous, reg_covar=options["reg_covar"]))
    family = FAMILIES[previous.covariance_type]
    fixed_weights = options["fixed_weights"]
    return pooled(family, np.array(masses), parts, previous, fixed_weights=fixed_weights)


@all_types
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("reg_covar", [0.0, 0.2])
@pytest.mark.parametrize("lost", [None, 1])
def test_it_is_the_m_step_of_all(kind, d, fixed_weights, reg_covar, lost):
    rng = np.random.default_rng(d)
    data = naive.random_statistics(rng, kind, np.zeros(d), n=100, d=d, K=3, lost=lost)[:3]
    previous = naive.random_mixture(rng, 3, d, kind)
    options = {"reg_covar": reg_covar, "fixed_weights": fixed_weights}
    found = pooled_parts(*data, previous, **options)
    expected = naive.maximize(*data, previous, **options)
    for actual, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, truth, rtol=1e-12, atol=1e-12)
    if lost is not None:
        np.testing.assert_array_equal(found.means[lost], previous.means[lost])
    if fixed_weights:
        assert found.weights is previous.weights


@all_types
def test_a_component_may_be_missing_in_parts(kind):
    rng = np.random.default_rng(4)
    X, weight, gamma, _ = naive.random_statistics(rng, kind, np.zeros(2), n=100, d=2, K=3)
    gamma[:40, 0] = 0.0
    gamma[40:, 1] = 0.0
    previous = naive.random_mixture(rng, 3, 2, kind, spread=50.0)
    options = {"reg_covar": 0.0, "fixed_weights": False}
    found = pooled_parts(X, weight, gamma, previous, **options)
    assert naive.errors(found, naive.maximize(X, weight, gamma, previous, **options)) < 1e-12


@all_types
def test_nothing_cancels_far_from_zero(kind):
    """2²⁷ away, where squares about zero would leave nothing of variances of size one."""
    rng = np.random.default_rng(5)
    X, weight, gamma, _ = naive.random_statistics(rng, kind, np.zeros(2), n=100, d=2, K=3)
    X = np.round(X * 2**20) / 2**20  # exact there too
    previous = naive.random_mixture(rng, 3, 2, kind)
    options = {"reg_covar": 0.0, "fixed_weights": False}
    expected = naive.maximize(X, weight, gamma, previous, **options)
    found = pooled_parts(X + 2.0**27, weight, gamma, previous, **options)
    found.means[:] -= 2.0**27
    # means round to 2⁻²⁶, the parts' as well
    assert naive.errors(found, expected) < 1e-7
