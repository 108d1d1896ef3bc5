"""Flows of points, and EM as entropic transport: finite or refused, and what they promise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.strategies import (
    SPREADS,
    Refused,
    Untouched,
    assert_finite,
    budget,
    clouds,
    gentle_clouds,
    kinds,
    mixtures,
    outcome,
    result_or_none,
    sample_weights,
    seeds,
    start_of,
)

from skgmmot import (
    DifferentiableGaussianMixture,
    mixture_flow,
    mixture_wasserstein,
    semirelaxed_transport,
)
from skgmmot.entropic import block_coordinate_descent
from skgmmot.parameters import MixtureParameters


def given_mixture(cloud, n_components, kind):
    """Parameters near the cloud, in its units."""
    start = start_of(cloud, n_components, kind)
    precisions = start["precisions_init"]
    invert = np.linalg.inv if kind in ("full", "tied") else np.reciprocal
    return MixtureParameters(start["weights_init"], start["means_init"], invert(precisions), kind)


epsilons = st.sampled_from([1e-12, 1e-3, 0.5, 1.0, 10.0, 1e6, 1e12, 1e15])


@budget(3)
@given(clouds(), kinds, st.integers(1, 4), epsilons, st.sampled_from(SPREADS))
def test_semirelaxed_plans_are_valid_or_refused(cloud, kind, n_components, epsilon, spread):
    n_components = min(n_components, cloud.n)
    X, weight = cloud.X, sample_weights(cloud, spread)
    theta = given_mixture(cloud, n_components, kind)
    with Untouched(X, weight, *theta):
        transport = result_or_none(
            lambda: semirelaxed_transport(X, theta, epsilon=epsilon, sample_weight=weight)
        )
        if transport is None:
            return
        plan, columns = outcome(lambda: (transport.plan, transport.column_sums))[0]
    assert_finite(plan, columns, transport.row_sums, transport.value)
    assert plan.shape == (cloud.n, n_components) and (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(axis=1), transport.row_sums, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(plan.sum(axis=0), columns, rtol=0, atol=1e-9)
    assert transport.row_sums.sum() == pytest.approx(1, abs=1e-12 * cloud.n)


@budget(3)
@given(gentle_clouds(), kinds, st.integers(1, 4), epsilons, st.booleans())
def test_semirelaxed_values_are_those_of_the_definition(cloud, kind, n, epsilon, weighted):
    """At ε = 1 minus the score; at any ε the plan has the value, and large ε averages the costs."""
    X, weight = cloud.X, sample_weights(cloud, "tame" if weighted else "none")
    theta = given_mixture(cloud, n, kind)
    transport = outcome(
        lambda: semirelaxed_transport(X, theta, epsilon=epsilon, sample_weight=weight)
    )[0]
    mixture = DifferentiableGaussianMixture.from_parameters(
        *theta, covariance_type=kind, temperature=epsilon
    )
    value = mixture.free_energy(X, sample_weight=weight)
    assert transport.value == pytest.approx(value, rel=1e-12, abs=1e-12)
    if epsilon == 1.0:
        assert transport.value == pytest.approx(-mixture.score(X, sample_weight=weight), rel=1e-12)
    plan, a, w = transport.plan, transport.row_sums, theta.weights
    singles = [
        DifferentiableGaussianMixture.from_parameters(
            [1.0],
            theta.means[[k]],
            theta.covariances if kind == "tied" else theta.covariances[[k]],
            covariance_type=kind,
        )
        for k in range(n)
    ]
    costs = -np.stack([single.score_samples(X) for single in singles], axis=1)
    reference = a[:, None] * w
    if epsilon <= 10:
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = np.where(plan > 0, plan * np.log(plan / reference), 0.0).sum()
        expected = np.vdot(plan, costs) + epsilon * divergence
        assert transport.value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # the value lies between the best component's cost and that of the plan a ⊗ w
    size = 1e-9 * (1 + np.abs(costs).max())
    assert a @ costs.min(axis=1) - size <= transport.value <= np.vdot(reference, costs) + size
    if epsilon >= 1e12 and np.abs(costs).max() < 1e4:
        assert transport.value == pytest.approx(np.vdot(reference, costs), rel=1e-4)


@budget(1)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.sampled_from([0.5, 1.0, 4.0]), st.booleans())
def test_block_coordinate_descent_only_descends(cloud, kind, n, epsilon, weighted):
    weight = sample_weights(cloud, "tame" if weighted else "none")
    theta = given_mixture(cloud, n, kind)
    try:
        steps, _ = outcome(
            lambda: block_coordinate_descent(
                cloud.X, theta, n_steps=4, epsilon=epsilon, sample_weight=weight
            )
        )
    except Refused:
        return
    values = [v for s in steps for v in (s.after_plan, s.after_weights, s.after_gaussians)]
    assert (np.diff(values) <= 1e-9 * (1 + np.abs(values[1:]))).all()


@st.composite
def journeys(draw):
    """Points, and a mixture to flow to in their unit."""
    cloud = draw(gentle_clouds(power=draw(st.just(0) | st.integers(-240, 240))))
    dtype = draw(st.sampled_from(["float64", "float64", "float32"]))
    if dtype == "float32":
        cloud = replace(cloud, power=0, dtype=dtype)
    return cloud, draw(mixtures(d=cloud.d, power=cloud.power, flat=1.0, spread=3.0))


@budget(0.4)
@given(
    journeys(),
    kinds,
    st.sampled_from(["adam", "gd"]),
    st.sampled_from(["one_step", "implicit", "unrolled"]),
    st.sampled_from([1.0, 0.5]),
    st.sampled_from([{}, {"reg": 0.1}, {"reg_m": 3.0}]),
    st.booleans(),
)
def test_a_flow_is_finite_and_comes_closer(
    journey, kind, optimizer, mode, fraction, variant, warm_start
):
    cloud, target = journey
    X, n_steps = cloud.X, 5
    estimator = DifferentiableGaussianMixture(
        2,
        covariance_type=kind,
        reg_covar=1e-2 * cloud.scale**2,
        residual_tol=1e-8,
        max_iter=200,
        random_state=0,
    )
    theta = target.parameters
    with Untouched(X):
        try:
            flow, _ = outcome(
                lambda: mixture_flow(
                    X,
                    theta,
                    estimator=estimator,
                    optimizer=optimizer,
                    mode=mode,
                    batch_fraction=fraction,
                    warm_start=warm_start,
                    n_steps=n_steps,
                    random_state=0,
                    **{name: value * cloud.scale**2 for name, value in variant.items()},
                )
            )
        except Refused as refusal:
            assert "GMRES" in str(refusal) or "not positive definite" in str(refusal)
            return
    assert flow.X.shape == X.shape and flow.X.dtype == X.dtype
    assert flow.losses.shape == (n_steps + 1,)
    assert_finite(flow.X, flow.losses, *flow.mixture.parameters_)
    assert (flow.losses >= 0).all()


@budget(1)
@given(gentle_clouds(clusters=1), kinds, st.integers(-240, 240), seeds)
def test_one_component_flows_straight_to_its_target(cloud, kind, power, seed):
    """Gradient descent with half the inverse curvature reaches the target's mean in one step."""
    scale = 2.0**power
    X = cloud.X * scale
    mean = X.mean(axis=0)
    fit = DifferentiableGaussianMixture(1, covariance_type=kind, reg_covar=0.0).fit(X)
    goal = mean + scale * np.arange(1.0, cloud.d + 1)
    target = MixtureParameters(np.ones(1), goal[None], fit.covariances_, kind)
    flow, _ = outcome(
        lambda: mixture_flow(X, target, estimator=fit, optimizer="gd", learning_rate=0.5, n_steps=1)
    )
    np.testing.assert_allclose(flow.X.mean(axis=0), goal, rtol=0, atol=1e-7 * scale * cloud.d)
    assert mixture_wasserstein(flow.mixture, target) <= 1e-5 * scale * cloud.d
