"""Transport between mixtures: a metric, with certificates, whatever the mixtures."""

from itertools import combinations

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

from skgmmot import (
    mixture_barycenter,
    mixture_transport,
    mixture_wasserstein,
    pairwise_mixture_wasserstein,
)
from skgmmot.families import family_of
from skgmmot.parameters import MixtureParameters

dimensions = st.sampled_from([1, 2, 3, 5])


@st.composite
def several(draw, number, /, **fixed):
    """Recipes of some mixtures that share their features and their unit."""
    fixed = {"d": draw(dimensions), "power": draw(powers)} | fixed
    return [draw(mixtures(**fixed)) for _ in range(number)]


# in units of the squared distance between the mixtures
regularizations = st.tuples(
    st.sampled_from([0.0, 1e-3, 0.1, 1.0, 1e3, 1e12]),
    st.sampled_from([None, 1e-3, 1.0, 1e3, (0.5, 2.0), (np.inf, 1.0), (1.0, np.inf)]),
)


def in_units(reg, reg_m, unit):
    if reg_m is not None:
        reg_m = tuple(unit * part for part in np.broadcast_to(reg_m, 2))
    return {"reg": reg * unit, "reg_m": reg_m}


def unit_of(a, b):
    """The squared length that the mixtures are large by."""
    parts = [np.abs(x.means).max() ** 2 + np.abs(x.covariances).max() for x in (a, b)]
    return max(parts) or 1.0


def length_of(*thetas):
    return np.sqrt(max(unit_of(theta, theta) for theta in thetas))


# MW2 is a metric


@budget(3)
@given(several(1))
def test_a_mixture_is_at_no_distance_from_itself(recipes):
    theta = recipes[0].parameters
    distance = outcome(lambda: mixture_wasserstein(theta, theta))[0]
    # a nuclear norm errs by eps of the traces it is taken from, and the root doubles the digits
    assert 0 <= distance <= 1e-7 * np.sqrt(np.abs(theta.covariances).max())


@budget(3)
@given(several(2))
def test_distances_are_symmetric(recipes):
    a, b = (recipe.parameters for recipe in recipes)
    there, back = (
        outcome(lambda x=x, y=y: mixture_wasserstein(x, y, squared=True))[0]
        for x, y in ((a, b), (b, a))
    )
    assert there == pytest.approx(back, rel=1e-12, abs=1e-13 * unit_of(a, b))


@budget(2)
@given(several(3))
def test_the_triangle_inequality_holds(recipes):
    a, b, c = (recipe.parameters for recipe in recipes)
    ab, bc, ac = (
        outcome(lambda x=x, y=y: mixture_wasserstein(x, y))[0] for x, y in ((a, b), (b, c), (a, c))
    )
    assert ac <= ab + bc + 1e-7 * length_of(a, b, c)


@budget(3)
@given(several(2, power=0), powers)
def test_distances_are_homogeneous(recipes, power):
    """From 1e-150 to 1e150, to 1e-12."""
    scale = 2.0**power
    a, b = ([recipe.at(unit) for unit in (1.0, scale)] for recipe in recipes)
    one = outcome(lambda: mixture_wasserstein(a[0], b[0]))[0]
    other = outcome(lambda: mixture_wasserstein(a[1], b[1]))[0]
    assert other / scale == pytest.approx(one, rel=1e-12, abs=1e-13 * length_of(a[0], b[0]))


@budget(2)
@given(several(2), st.integers(-10, 30))
def test_moving_both_mixtures_changes_nothing(recipes, power):
    shift = 2.0**power
    a, b = ([recipe.at(recipe.scale, s) for s in (0.0, shift)] for recipe in recipes)
    one = outcome(lambda: mixture_wasserstein(a[0], b[0]))[0]
    other = outcome(lambda: mixture_wasserstein(a[1], b[1]))[0]
    lost = 1e-14 * shift * recipes[0].scale  # by the means themselves
    assert other == pytest.approx(one, rel=1e-10, abs=10 * lost + 1e-13 * length_of(a[0], b[0]))


@budget(2)
@given(several(2), seeds)
def test_turning_both_mixtures_changes_nothing(recipes, seed):
    d = recipes[0].d
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    a, b = (recipe.parameters for recipe in recipes)
    turned = [
        MixtureParameters(x.weights, x.means @ frame, frame.T @ expanded(x) @ frame, "full")
        for x in (a, b)
    ]
    one = outcome(lambda: mixture_wasserstein(a, b))[0]
    other = outcome(lambda: mixture_wasserstein(*turned))[0]
    # the turned covariances are rounded, to their own size
    rounding = 1e-7 * np.sqrt(max(np.abs(x.covariances).max() for x in (a, b)))
    assert other == pytest.approx(one, rel=1e-9, abs=rounding + 1e-13 * length_of(a, b))


@budget(2)
@given(several(2))
def test_moving_one_mixture_adds_the_move(recipes):
    """MW2²(a + t, b) = MW2²(a, b) + ‖t‖² + 2 ⟨t, mean a - mean b⟩."""
    a, b = (recipe.parameters for recipe in recipes)
    t = np.arange(1.0, recipes[0].d + 1) * recipes[0].scale
    one = outcome(lambda: mixture_wasserstein(a, b, squared=True))[0]
    moved = MixtureParameters(a.weights, a.means + t, a.covariances, a.covariance_type)
    other = outcome(lambda: mixture_wasserstein(moved, b, squared=True))[0]
    between = a.weights @ a.means - b.weights @ b.means
    assert other == pytest.approx(
        one + t @ t + 2 * t @ between, rel=1e-9, abs=1e-12 * unit_of(a, b)
    )


@budget(2)
@given(several(2), regularizations, seeds)
def test_components_may_come_in_any_order(recipes, regularization, seed):
    a, b = (recipe.parameters for recipe in recipes)
    order = np.random.default_rng(seed).permutation(len(a.weights))
    w, m, c = a
    permuted = MixtureParameters(
        w[order], m[order], c if a.covariance_type == "tied" else c[order], a.covariance_type
    )
    options = in_units(*regularization, unit_of(a, b))
    results = [
        result_or_none(lambda x=x: mixture_transport(x, b, **options)) for x in (a, permuted)
    ]
    if None in results or not all(result.converged for result in results):
        return
    one, other = results
    assert other.value == pytest.approx(one.value, rel=1e-7, abs=1e-9 * unit_of(a, b))


@budget(2)
@given(several(2))
def test_the_distance_is_above_that_of_means_and_below_that_of_random_pairs(recipes):
    a, b = (recipe.parameters for recipe in recipes)
    transport = outcome(lambda: mixture_transport(a, b))[0]
    between = a.weights @ a.means - b.weights @ b.means
    rounding = 1e-12 * unit_of(a, b)
    assert between @ between <= transport.value + rounding
    assert transport.value <= a.weights @ transport.cost_matrix @ b.weights + rounding


# Certificates


@budget(5)
@given(several(2), regularizations)
def test_a_plan_is_finite_and_optimal_or_told(recipes, regularization):
    a, b = (recipe.parameters for recipe in recipes)
    unit = unit_of(a, b)
    options = in_units(*regularization, unit)
    with Untouched(*a, *b):
        transport = result_or_none(lambda: mixture_transport(a, b, **options))
    if transport is None:
        return
    plan, (u, v), C = transport.plan, transport.potentials, transport.cost_matrix
    assert plan.shape == C.shape == (len(a.weights), len(b.weights))
    assert u.shape == a.weights.shape and v.shape == b.weights.shape
    assert_finite(plan, C, u, v, transport.value, transport.distance)
    assert (plan >= 0).all() and (C >= 0).all() and transport.value >= 0
    if not transport.converged:
        return
    reg, (l0, l1) = transport.reg, transport.reg_m
    rows, columns = plan.sum(axis=1), plan.sum(axis=0)
    assert not rows[a.weights == 0].any() and not columns[b.weights == 0].any()
    size = max(1.0, plan.sum())
    if l0 == np.inf:
        np.testing.assert_allclose(rows, a.weights, rtol=0, atol=1e-9 * size)
    if l1 == np.inf:
        np.testing.assert_allclose(columns, b.weights, rtol=0, atol=1e-9 * size)
    if reg == 0:
        rounding = 1e-10 * (unit + np.abs(u).max() + np.abs(v).max())
        slack = C - u[:, None] - v
        assert (slack >= -rounding).all(), "the potentials are not feasible"
        # no more mass than the certificate of the duality gap allows moves where there is slack
        assert (plan * slack).sum() <= 1e-7 * (unit + transport.value)
    assert transport.value == pytest.approx(
        dual_value(u, v, C, a.weights, b.weights, reg, l0, l1), rel=1e-6, abs=1e-7 * unit
    )


def dual_value(u, v, C, w, w2, reg, l0, l1):
    """The dual objective; components without weight play no part."""
    u, v, C = u[w > 0], v[w2 > 0], C[np.ix_(w > 0, w2 > 0)]
    w, w2 = w[w > 0], w2[w2 > 0]

    def earned(potential, weights, penalty):
        if penalty == np.inf:
            return potential @ weights
        return -penalty * (weights * np.expm1(-potential / penalty)).sum()

    value = earned(u, w, l0) + earned(v, w2, l1)
    if reg > 0:
        pairs = np.outer(w, w2)
        value -= reg * (pairs * np.expm1((u[:, None] + v - C) / reg)).sum()
    return value


# What follows from a plan


@budget(3)
@given(several(2), regularizations, st.sampled_from([0.0, 0.3, 1.0]), seeds)
def test_gradients_maps_and_geodesics_are_finite_or_refused(recipes, regularization, t, seed):
    a, b = (recipe.parameters for recipe in recipes)
    options = in_units(*regularization, unit_of(a, b))
    transport = result_or_none(lambda: mixture_transport(a, b, **options))
    if transport is None:
        return
    for side, wrt, theta in ((0, "source", a), (1, "target", b)):
        gradient = result_or_none(lambda wrt=wrt: transport.gradient(wrt))
        if gradient is None:
            continue
        for part, like in zip(gradient, theta, strict=True):
            assert part.shape == like.shape and part.dtype == like.dtype
        # without weight, a slope can be beyond all bounds
        live = theta.weights > 0
        slopes = gradient.weights[live]
        assert_finite(slopes, gradient.means, gradient.covariances)
        assert not (np.isnan(gradient.weights) | (gradient.weights == np.inf)).any()
        potential, penalty = transport.potentials[side][live], transport.reg_m[side]
        if penalty < np.inf:
            potential = (penalty + transport.reg) * np.expm1(-potential / penalty)
        assert slopes.sum() == pytest.approx(0, abs=1e-11 * np.abs(potential).max())
    X = a.means[np.random.default_rng(seed).integers(len(a.means), size=7)]
    for method in ("barycentric", "sample", "maximum"):
        with Untouched(X):
            moved = result_or_none(
                lambda method=method: transport.map(X, method=method, random_state=0)
            )
        if moved is not None:
            assert moved.shape == X.shape
            assert_finite(moved)
    between = result_or_none(lambda: transport.interpolate(t))
    if between is not None:
        assert_finite(*between)
        assert between.weights.sum() == pytest.approx(1, abs=1e-9)
        if options["reg_m"] is None and options["reg"] == 0:
            apart = outcome(lambda: mixture_wasserstein(a, between))[0]
            assert apart <= t * transport.distance + 1e-6 * length_of(a, b)


@budget(2)
@given(several(2, flat=1.0), seeds)
def test_the_gradient_knows_translation_and_scaling(recipes, seed):
    """Of both mixtures: moved, the value stays; scaled, it grows by the square (Euler)."""
    a, b = (recipe.parameters for recipe in recipes)
    transport = outcome(lambda: mixture_transport(a, b))[0]
    one, other = (outcome(lambda x=x: transport.gradient(x))[0] for x in ("source", "target"))
    size = np.abs(one.means).sum() + np.abs(other.means).sum() + length_of(a, b)
    total = one.means.sum(axis=0) + other.means.sum(axis=0)
    np.testing.assert_allclose(total, 0.0, rtol=0, atol=1e-11 * size)
    euler = sum(
        np.vdot(theta.means, gradient.means) + 2 * np.vdot(theta.covariances, gradient.covariances)
        for theta, gradient in ((a, one), (b, other))
    )
    assert euler == pytest.approx(2 * transport.value, rel=1e-8, abs=1e-10 * unit_of(a, b))


@budget(1)
@given(several(2, flat=1.0, n=3), seeds)
def test_the_gradient_of_a_type_is_that_of_full_covariances_pulled_back(recipes, seed):
    a, b = (recipe.parameters for recipe in recipes)
    full = MixtureParameters(a.weights, a.means, np.array(expanded(a)), "full")
    one, other = (outcome(lambda x=x: mixture_transport(x, b).gradient())[0] for x in (a, full))
    pulled = family_of(a).pull(other.covariances)
    np.testing.assert_allclose(one.covariances, pulled, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.means, other.means, rtol=1e-9, atol=1e-9 * length_of(a, b))


# Lists of mixtures


@budget(1)
@given(several(4), st.booleans())
def test_pairwise_distances_are_those_of_the_pairs(recipes, squared):
    thetas = [recipe.parameters for recipe in recipes]
    distances = outcome(lambda: pairwise_mixture_wasserstein(thetas, squared=squared))[0]
    np.testing.assert_array_equal(distances, distances.T)
    assert not distances.diagonal().any()
    for i in range(4):
        for j in range(i):
            one = outcome(
                lambda i=i, j=j: mixture_wasserstein(thetas[j], thetas[i], squared=squared)
            )
            assert distances[i, j] == one[0]


@budget(1)
@given(several(3, flat=1.0), st.sampled_from(["multimarginal", "fixed_point"]))
def test_a_barycenter_is_no_farther_than_the_mixtures_are(recipes, method):
    """V(ν) is at most V(μ_j) for each j: the barycenter is better than any of the mixtures."""
    thetas = [recipe.parameters for recipe in recipes]
    lam = np.array([0.5, 0.3, 0.2])
    center = result_or_none(lambda: mixture_barycenter(thetas, lam, method=method))
    if center is None:
        return
    assert_finite(*center)
    assert center.weights.sum() == pytest.approx(1, abs=1e-9)

    def objective(theta):
        return lam @ [
            outcome(lambda o=other: mixture_wasserstein(theta, o, squared=True))[0]
            for other in thetas
        ]

    reached = objective(center)
    rounding = 1e-10 * unit_of(*max(combinations(thetas, 2), key=lambda pair: unit_of(*pair)))
    assert all(reached <= objective(theta) * (1 + 1e-8) + rounding for theta in thetas)


@budget(1)
@given(several(3, power=0), powers, st.sampled_from(["multimarginal", "fixed_point"]))
def test_barycenters_scale_with_the_mixtures(recipes, power, method):
    scale = 2.0**power
    one, other = (
        result_or_none(
            lambda unit=unit: mixture_barycenter(
                [recipe.at(unit) for recipe in recipes], method=method
            )
        )
        for unit in (1.0, scale)
    )
    if one is None or other is None:
        assert one is None and other is None
        return
    back = MixtureParameters(
        other.weights, other.means / scale, other.covariances / scale**2, other.covariance_type
    )
    distance = outcome(lambda: mixture_wasserstein(one, back))[0]
    assert distance <= 1e-5 * length_of(*[recipe.at(1.0) for recipe in recipes])
