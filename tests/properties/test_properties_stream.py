"""What `partial_fit` owes its user, whatever the batches."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.strategies import (
    SPREADS,
    Untouched,
    assert_finite,
    assert_same_mixture,
    budget,
    clouds,
    gentle_clouds,
    kinds,
    outcome,
    powers,
    result_or_none,
    sample_weights,
    start_of,
)

from skgmmot import DifferentiableGaussianMixture
from skgmmot.families import FAMILIES

options = st.fixed_dictionaries(
    {
        "learning_decay": st.sampled_from([0.6, 1.0]),
        "learning_offset": st.sampled_from([0.0, 10.0]),
        "temperature": st.sampled_from([1.0, 1.0, 1e-3, 30.0]),
        "fixed_weights": st.booleans(),
    }
)


def cut(n_rows, size):
    return [slice(begin, begin + size) for begin in range(0, n_rows, size)]


def state_of(mixture):
    return {name: id(value) for name, value in vars(mixture).items()}


def assert_valid(mixture, X):
    """Finite, weights of sum one, covariances positive definite."""
    K, d = mixture.n_components, X.shape[1]
    theta = mixture._theta
    assert_finite(*theta, mixture.precisions_, mixture.lower_bound_)
    assert (theta.weights >= 0).all()
    rounding = 10 * K * float(np.finfo(X.dtype).eps)
    assert theta.weights.sum() == pytest.approx(1, abs=rounding)
    assert (FAMILIES[mixture.covariance_type].variances(theta.covariances) > 0).all()
    assert mixture.means_.dtype == X.dtype and mixture.means_.shape == (K, d)


@budget(6)
@given(
    clouds(),
    kinds,
    options,
    st.integers(1, 4),
    st.sampled_from([1, 3, 40]),
    st.sampled_from(SPREADS),
    st.sampled_from([0.0, 1e-6, 0.1]),
)
def test_a_batch_is_followed_or_refused(cloud, kind, params, n_components, size, spread, reg):
    X, weight = cloud.X, sample_weights(cloud, spread)
    n_components = min(n_components, cloud.n)
    start = start_of(cloud, n_components, kind)
    mixture = DifferentiableGaussianMixture(
        n_components, covariance_type=kind, reg_covar=reg * cloud.scale**2, **start, **params
    )
    with Untouched(X, weight):
        for part in cut(cloud.n, size):
            own = None if weight is None else weight[part]
            before = state_of(mixture)
            call = partial(mixture.partial_fit, X[part], sample_weight=own)
            if result_or_none(call) is None:
                assert state_of(mixture) == before
            else:
                assert_valid(mixture, X)


@budget(3)
@given(gentle_clouds(offset=2.0**20), kinds, options, powers)
def test_units_do_not_matter(cloud, kind, params, power):
    scale = 2.0**power
    results = []
    for unit in (1.0, scale):
        mixture = DifferentiableGaussianMixture(
            2,
            covariance_type=kind,
            reg_covar=0.01 * unit**2,
            **start_of(cloud, 2, kind, scale=unit),
            **params | {"temperature": 1.0},
        )
        for part in cut(cloud.n, 7):
            outcome(partial(mixture.partial_fit, cloud.X[part] * unit))
        results.append(mixture.parameters_)
    assert_same_mixture(results[1], _scaled(results[0], scale), scale=scale)


def _scaled(theta, scale):
    return theta.weights, theta.means * scale, theta.covariances * scale**2
