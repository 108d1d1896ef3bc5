"""Derivatives of a fit: finite or refused, linear, transposes of one another, and invariant."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import inner_product, random_cotangent
from properties.strategies import (
    SPREADS,
    Refused,
    Untouched,
    are_apart,
    assert_finite,
    budget,
    clouds,
    gentle_clouds,
    kinds,
    outcome,
    result_or_none,
    sample_weights,
    seeds,
    start_of,
)

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import MixtureParameters

modes = st.sampled_from(["implicit", "unrolled", "one_step"])
e_steps = st.sampled_from(["softmax", "softmax", "sinkhorn"])


def fit(cloud, kind, n_components, weight=None, *, X=None, **params):
    """A converged fit, from a start that is a function of the cloud."""
    params = {"reg_covar": 1e-3 * cloud.scale**2, "max_iter": 300, "acceleration": None} | params
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        residual_tol=1e-10,
        **start_of(cloud, n_components, kind) | params,
    )
    X = cloud.X if X is None else X
    return outcome(lambda: mixture.fit(X, sample_weight=weight))[0]


def cotangent_of(mixture, seed):
    return random_cotangent(np.random.default_rng(seed), mixture._theta)


def combined(a, one, b, other):
    parts = (a * x + b * y for x, y in zip(one, other, strict=True))
    return MixtureParameters(*parts, one.covariance_type)


@budget(3)
@given(clouds(), kinds, st.integers(1, 4), st.sampled_from(SPREADS), modes, e_steps, seeds)
def test_a_gradient_is_finite_or_refused(cloud, kind, n_components, spread, mode, e_step, seed):
    X, weight = cloud.X, sample_weights(cloud, spread)
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        reg_covar=1e-6 * cloud.scale**2,
        e_step=e_step,
        max_iter=30,
        random_state=0,
    )
    if result_or_none(lambda: mixture.fit(X, sample_weight=weight)) is None:
        return
    w, m, c = cotangent_of(mixture, seed)
    cotangent = MixtureParameters(w, m / cloud.scale, c / cloud.scale**2, kind)
    tangent = np.random.default_rng(seed).normal(size=X.shape) * cloud.scale
    with Untouched(X, weight, tangent, *cotangent):
        pulled = result_or_none(lambda: mixture.vjp(X, cotangent, mode=mode, sample_weight=weight))
        pushed = result_or_none(lambda: mixture.jvp(X, tangent, mode=mode, sample_weight=weight))
    if pulled is not None:
        assert pulled.data.shape == X.shape and pulled.data.dtype == X.dtype
        assert pulled.sample_weight.shape == (len(X),)
        assert_finite(pulled.data)
        if spread in ("denormal", "tiny"):  # whose inverse, of which this is a multiple, overflows
            assert not np.isnan(pulled.sample_weight).any()
        else:
            assert_finite(pulled.sample_weight)
    if pushed is not None:
        for part, like in zip(pushed, mixture.parameters_, strict=True):
            assert part.shape == like.shape and part.dtype == X.dtype
        assert_finite(*pushed)


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.booleans(), modes, e_steps, seeds)
def test_pull_backs_are_linear(cloud, kind, n_components, weighted, mode, e_step, seed):
    weight = sample_weights(cloud, "tame" if weighted else "none")
    mixture = fit(cloud, kind, n_components, weight, e_step=e_step)
    one, other = cotangent_of(mixture, seed), cotangent_of(mixture, seed + 1)

    def pulled(cotangent):
        gradients, told = outcome(
            lambda: mixture.vjp(cloud.X, cotangent, mode=mode, sample_weight=weight)
        )
        return gradients.data, any("singular" in message for message in told)

    (a, singular), (b, _), (both, _) = map(pulled, (one, other, combined(2.0, one, -0.5, other)))
    if not singular:
        size = 2 * np.abs(a).max() + np.abs(b).max()
        # implicit asks 1e-8 of GMRES
        np.testing.assert_allclose(both, 2.0 * a - 0.5 * b, rtol=0, atol=1e-7 * size)


@budget(3)
@given(
    gentle_clouds(),
    kinds,
    st.integers(1, 3),
    st.booleans(),
    modes,
    e_steps,
    st.sampled_from([1.0, 0.5, 3.0]),
    seeds,
)
def test_pushing_forward_and_pulling_back_are_transposes(
    cloud, kind, n_components, weighted, mode, e_step, temperature, seed
):
    """⟨u, J v⟩ = ⟨Jᵀ u, v⟩, for moves of the data and of the weights."""
    X, weight = cloud.X, sample_weights(cloud, "tame" if weighted else "none")
    mixture = fit(
        cloud, kind, n_components, weight, e_step=e_step, temperature=temperature, max_iter=100
    )
    u = cotangent_of(mixture, seed)
    rng = np.random.default_rng(seed)
    v, r = rng.normal(size=X.shape), rng.normal(size=len(X))
    given_to = {"mode": mode, "sample_weight": weight}
    pulled, told = outcome(lambda: mixture.vjp(X, u, **given_to))
    pushed, _ = outcome(lambda: mixture.jvp(X, v, sample_weight_tangent=r, **given_to))
    if any("singular" in message for message in told):
        return  # least-norm solutions, in coordinates of their own
    back = np.vdot(pulled.data, v) + np.vdot(pulled.sample_weight, r)
    size = np.abs(pulled.data * v).sum() + np.abs(pulled.sample_weight * r).sum()
    size += sum(np.abs(a * b).sum() for a, b in zip(u, pushed, strict=True))
    assert inner_product(u, pushed) == pytest.approx(back, rel=0, abs=1e-6 * size)


@budget(2)
@given(gentle_clouds(distance=5.0), kinds, st.integers(1, 3), st.booleans(), seeds)
def test_moving_all_rows_moves_all_means(cloud, kind, n_components, weighted, seed):
    """At a fixed point: Σ_i x̄_i = Σ_k m̄_k, whatever the cotangent of weights and covariances."""
    weight = sample_weights(cloud, "tame" if weighted else "none")
    mixture = fit(cloud, kind, n_components, weight, max_iter=3000)
    cotangent = cotangent_of(mixture, seed)
    gradients, told = outcome(lambda: mixture.vjp(cloud.X, cotangent, sample_weight=weight))
    if mixture.converged_ and are_apart(mixture) and not told:
        size = np.abs(gradients.data).sum()
        np.testing.assert_allclose(
            gradients.data.sum(axis=0), cotangent.means.sum(axis=0), rtol=0, atol=1e-6 * size
        )


@budget(2)
@given(gentle_clouds(distance=5.0), kinds, st.integers(1, 3), st.booleans(), seeds)
def test_scaling_all_rows_scales_means_and_covariances(cloud, kind, n_components, weighted, seed):
    """Euler's identity at a fixed point: ⟨x, x̄⟩ = ⟨m, m̄⟩ + 2 ⟨Σ, Σ̄⟩, without reg_covar."""
    weight = sample_weights(cloud, "tame" if weighted else "none")
    try:
        mixture = fit(cloud, kind, n_components, weight, reg_covar=0.0, max_iter=3000)
    except Refused:
        return
    cotangent = cotangent_of(mixture, seed)
    gradients, told = outcome(lambda: mixture.vjp(cloud.X, cotangent, sample_weight=weight))
    if mixture.converged_ and are_apart(mixture) and not told:
        _, m, c = mixture.parameters_
        expected = np.vdot(m, cotangent.means) + 2 * np.vdot(c, cotangent.covariances)
        size = np.abs(gradients.data * cloud.X).sum() + abs(expected)
        assert np.vdot(gradients.data, cloud.X) == pytest.approx(expected, rel=0, abs=1e-6 * size)


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), modes, e_steps, seeds)
def test_the_unit_of_weights_has_no_derivative(cloud, kind, n_components, mode, e_step, seed):
    """Σ_i s_i s̄_i = 0."""
    weight = sample_weights(cloud, "tame")
    mixture = fit(cloud, kind, n_components, weight, e_step=e_step, max_iter=100)
    cotangent = cotangent_of(mixture, seed)
    gradients, told = outcome(
        lambda: mixture.vjp(cloud.X, cotangent, mode=mode, sample_weight=weight)
    )
    if not any("singular" in message for message in told):
        terms = weight * gradients.sample_weight
        assert terms.sum() == pytest.approx(0, abs=1e-7 * np.abs(terms).sum() + 1e-12)


@budget(2)
@given(
    gentle_clouds(),
    kinds,
    st.integers(1, 3),
    modes,
    e_steps,
    st.sampled_from([1.0, 1e100, 1e160, 1e308]),
    seeds,
)
def test_rows_without_weight_have_no_gradient_and_no_influence(
    cloud, kind, n_components, mode, e_step, far, seed
):
    X, weight = cloud.X, sample_weights(cloud, "tame")
    weight[::3] = 0.0
    X[::3] *= far / np.abs(X).max()
    kept = weight > 0
    mixture = fit(cloud, kind, n_components, weight, X=X, e_step=e_step)
    cotangent = cotangent_of(mixture, seed)
    gradients, told = outcome(lambda: mixture.vjp(X, cotangent, mode=mode, sample_weight=weight))
    alone = fit(cloud, kind, n_components, weight[kept], X=X[kept], e_step=e_step)
    expected, _ = outcome(
        lambda: alone.vjp(X[kept], cotangent, mode=mode, sample_weight=weight[kept])
    )
    if any("singular" in message for message in told):
        return
    assert not gradients.data[~kept].any()
    for actual, same in (
        (gradients.data[kept], expected.data),
        (gradients.sample_weight[kept], expected.sample_weight),
    ):
        np.testing.assert_allclose(actual, same, rtol=0, atol=1e-8 * np.abs(same).max())
    # what a little weight would change, to which a far row is no exception
    if far == 1.0:
        assert_finite(gradients.sample_weight)


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), modes, st.integers(-490, 490), seeds)
def test_derivatives_scale_with_the_data(cloud, kind, n_components, mode, power, seed):
    """Data in another unit, of which means have one and covariances two, to 1e-7."""
    scale = 2.0**power
    other_cloud = replace(cloud, power=power)
    one = fit(cloud, kind, n_components, max_iter=30)
    other = fit(other_cloud, kind, n_components, max_iter=30)
    w, m, c = cotangent = cotangent_of(one, seed)
    scaled = MixtureParameters(w, m / scale, c / scale**2, kind)
    a, told = outcome(lambda: one.vjp(cloud.X, cotangent, mode=mode))
    b, _ = outcome(lambda: other.vjp(other_cloud.X, scaled, mode=mode))
    if any("singular" in message for message in told):
        return
    pairs = [(b.data * scale, a.data), (b.sample_weight, a.sample_weight)]
    direction = np.random.default_rng(seed).normal(size=cloud.X.shape)
    a, _ = outcome(lambda: one.jvp(cloud.X, direction, mode=mode))
    b, _ = outcome(lambda: other.jvp(other_cloud.X, direction * scale, mode=mode))
    units = 1.0, scale, scale**2
    pairs += [(part / unit, same) for part, same, unit in zip(b, a, units, strict=True)]
    for actual, expected in pairs:
        size = 1.0 + np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7 * size)
