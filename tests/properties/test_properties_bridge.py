"""Bridges between mixtures, and masses that change: finite or refused, whatever the mixtures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.strategies import (
    Untouched,
    assert_finite,
    budget,
    expanded,
    mixtures,
    outcome,
    powers,
    result_or_none,
    seeds,
)

from skgmmot import balanced_transport, mixture_bridge, mixture_transport, semirelaxed_transport

dimensions = st.sampled_from([1, 2, 3, 5])
epsilons = st.sampled_from([0.0, 1e-6, 0.1, 1.0, 1e3])  # in units of standard deviations
times = st.sampled_from([0.0, 1e-3, 0.4, 1.0])


@st.composite
def pairs(draw, **fixed):
    """Recipes of two mixtures that share their features and their unit."""
    fixed = {"d": draw(dimensions), "power": draw(powers)} | fixed
    return [draw(mixtures(**fixed)) for _ in range(2)]


def length_of(a, b):
    return max(np.abs(m.means).max() + np.sqrt(np.abs(m.covariances).max()) for m in (a, b))


@budget(3)
@given(pairs(), epsilons, times, seeds)
def test_bridges_are_finite_or_refused(recipes, epsilon, t, seed):
    a, b = (recipe.parameters for recipe in recipes)
    scale = recipes[0].scale
    bridge = outcome(lambda: mixture_bridge(a, b, epsilon=epsilon * scale))[0]
    between = outcome(lambda: bridge.interpolate(t))[0]
    assert_finite(*between)
    assert between.weights.sum() == pytest.approx(1, abs=1e-12)
    # in units of the mixtures' own, in which no square underflows
    smallest = np.linalg.eigvalsh(expanded(between) / scale / scale)[:, 0]
    assert (smallest >= -1e-12 * (1 + epsilon**2)).all()
    X = a.means[np.random.default_rng(seed).integers(len(a.means), size=5)]
    for call in (lambda: bridge.log_density(X, t)[:, None], lambda: bridge.drift(X, t)):
        with Untouched(X):
            found = result_or_none(call)
        if found is not None:
            assert len(found) == 5
            assert_finite(found)
    paths = result_or_none(lambda: bridge.sample_paths(X, n_steps=3, random_state=0))
    if paths is not None:
        assert paths.shape == (4, *X.shape)
        assert_finite(paths)


@budget(2)
@given(pairs(), epsilons)
def test_the_ends_of_a_bridge_are_the_mixtures(recipes, epsilon):
    """Of each component of the two: the pairs that it is in have its mass, mean and covariance."""
    a, b = (recipe.parameters for recipe in recipes)
    scale = recipes[0].scale
    bridge = outcome(lambda: mixture_bridge(a, b, epsilon=epsilon * scale))[0]
    rows, columns = np.nonzero(bridge.transport.plan > np.finfo(float).eps)
    for t, theta, parts in ((0.0, a, rows), (1.0, b, columns)):
        end = outcome(lambda t=t: bridge.interpolate(t))[0]
        masses = np.bincount(parts, end.weights, minlength=theta.n_components)
        np.testing.assert_allclose(masses, theta.weights, atol=1e-14 * theta.n_components)
        np.testing.assert_array_equal(end.means, theta.means[parts])
        found, expected = expanded(end), expanded(theta)[parts]
        size = np.abs(expected).max(axis=(1, 2), keepdims=True)
        # variances that are rounding of a correlation matrix are set to zero, see `bures`
        assert (np.abs(found - expected) <= 1e-13 * size).all()


@budget(2)
@given(pairs(power=0, spread=3.0), powers, epsilons, times)
def test_bridges_scale_with_the_mixtures(recipes, power, epsilon, t):
    """Means that all are the same would tie costs, and rounding would choose among plans."""
    scale, found = 2.0**power, []
    for unit in (1.0, scale):
        a, b = (recipe.at(unit) for recipe in recipes)
        bridge = outcome(lambda a=a, b=b, u=unit: mixture_bridge(a, b, epsilon=epsilon * u))[0]
        found.append(outcome(lambda bridge=bridge: bridge.interpolate(t))[0])
    one, other = found
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_allclose(other.means / scale, one.means, rtol=1e-12, atol=1e-12)
    size = np.abs(one.covariances).max()
    np.testing.assert_allclose(
        other.covariances / scale / scale, one.covariances, rtol=1e-10, atol=1e-12 * size
    )


@budget(2)
@given(pairs(), times)
def test_without_noise_a_bridge_is_the_geodesic(recipes, t):
    a, b = (recipe.parameters for recipe in recipes)
    bridge = outcome(lambda: mixture_bridge(a, b, epsilon=0.0))[0]
    expected = outcome(lambda: mixture_transport(a, b).interpolate(t))[0]
    found = outcome(lambda: bridge.interpolate(t))[0]
    for part, other in zip(found, expected, strict=True):
        size = np.abs(other).max() or 1.0
        np.testing.assert_allclose(part / size, other / size, rtol=0, atol=1e-13)


@budget(3)
@given(
    pairs(),
    st.sampled_from([0.0, 0.1, 10.0]),
    st.sampled_from([None, 1e-3, 1.0, 1e3, (0.5, 2.0), (np.inf, 1.0)]),
    seeds,
)
def test_masses_are_changed_by_finite_factors(recipes, reg, reg_m, seed):
    a, b = (recipe.parameters for recipe in recipes)
    unit = length_of(a, b) ** 2 or 1.0
    if reg_m is not None:
        reg_m = tuple(unit * part for part in np.broadcast_to(reg_m, 2))
    transport = result_or_none(lambda: mixture_transport(a, b, reg=reg * unit, reg_m=reg_m))
    if transport is None:
        return
    factors = transport.pair_factors
    assert_finite(factors)
    assert factors.shape == transport.plan.shape and (factors >= 0).all()
    # the mean over the source is what of the target is reached: of each component, w_k F_k
    plan = np.where(transport.plan > np.finfo(float).eps, transport.plan, 0.0)
    sums = plan.sum(axis=1)
    means = np.divide(a.weights, sums, out=np.zeros_like(sums), where=sums > 0)
    reached = b.weights[plan.any(axis=0)].sum()
    assert (means[:, None] * plan * factors).sum() == pytest.approx(reached, rel=1e-9, abs=1e-12)
    X = a.means[np.random.default_rng(seed).integers(len(a.means), size=5)]
    with Untouched(X):
        found = result_or_none(lambda: transport.mass_factors(X))
    if found is not None:
        assert_finite(found)
        assert (found >= 0).all()
        if reg_m is None and transport.converged:
            np.testing.assert_allclose(found, 1.0, atol=1e-6)


@budget(2)
@given(
    mixtures(flat=1.0, zeros=False, power=0, offset=0.0), st.sampled_from([0.1, 1.0, 10.0]), seeds
)
def test_holding_the_columns_never_costs_less(recipe, epsilon, seed):
    theta = recipe.parameters
    rng = np.random.default_rng(seed)
    X = theta.means[rng.integers(theta.n_components, size=30)]
    X = X + rng.normal(size=X.shape)
    free = outcome(lambda: semirelaxed_transport(X, theta, epsilon=epsilon))[0]
    held, told = outcome(lambda: balanced_transport(X, theta, epsilon=epsilon))
    assert held.value >= free.value - 1e-9 * (1 + abs(free.value))
    assert_finite(held.plan, held.potentials)
    np.testing.assert_allclose(held.plan.sum(axis=1), 1 / 30, rtol=1e-12)
    if not told:
        np.testing.assert_allclose(held.plan.sum(axis=0), theta.weights, atol=2e-10)
