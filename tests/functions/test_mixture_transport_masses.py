"""By which factor samples change their mass on the way of an unbalanced plan."""

from dataclasses import replace

import naive
import numpy as np
import pytest

from skgmmot import MixtureParameters, mixture_transport
from skgmmot.parameters import COVARIANCE_TYPES

# Two places far from each other, and the plan that OTT-JAX's tutorial reads.
TUTORIAL = replace(
    mixture_transport(
        ([0.2, 0.8], [[0.0], [50.0]], [1.0, 1.0]), ([0.4, 0.6], [[0.0], [50.0]], [1.0, 1.0])
    ),
    plan=np.array([[0.3, 0.1], [0.2, 0.4]]),
    reg_m=(1.0, 1.0),
)


def test_the_point_of_the_tutorial():
    """It leaves a component of mass 0.2 that sends 0.4, for one of mass 0.4 that receives 0.5."""
    np.testing.assert_allclose(TUTORIAL.pair_factors, [[2 * 0.8, 2 * 1.2], [0.6, 0.9]], rtol=1e-14)
    # of its component nothing is in doubt, where it goes is: three quarters to the first
    expected = [0.75 * 1.6 + 0.25 * 2.4, 0.6 / 3 + 2 * 0.9 / 3]
    np.testing.assert_allclose(TUTORIAL.mass_factors([[0.0], [50.0]]), expected, rtol=1e-14)


def loop_factors(transport, X):
    """Σ_kl γ_k(x) P_kl / (P1)_k (P1)_k / w_k w'_l / (Pᵀ1)_l, in loops."""
    plan, w, v = transport.plan, transport.source.weights, transport.target.weights
    gamma = naive.responsibilities(naive.log_joint(X, transport.source))
    out = np.zeros(len(X))
    for k in range(len(w)):
        for j in range(len(v)):
            if plan[k].sum() > 0 and plan[:, j].sum() > 0:
                leaving, arriving = plan[k].sum() / w[k], v[j] / plan[:, j].sum()
                out += gamma[:, k] * plan[k, j] / plan[k].sum() * leaving * arriving
    return out


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize(
    "variant", [{"reg_m": 1.0}, {"reg_m": (np.inf, 0.5)}, {"reg": 0.3, "reg_m": (0.4, 2.0)}]
)
def test_factors_are_the_mean_over_pairs(kind, variant):
    rng = np.random.default_rng(0)
    a, b = naive.random_mixture(rng, 4, 3, kind), naive.random_mixture(rng, 3, 3, kind)
    transport = mixture_transport(a, b, **variant)
    X = naive.sample(rng, a, 300)
    found = transport.mass_factors(X)
    np.testing.assert_allclose(found, loop_factors(transport, X), rtol=1e-10)
    assert np.ptp(found) > 0.1
    single = X.astype(np.float32)
    assert transport.mass_factors(single).dtype == np.float32
    np.testing.assert_allclose(
        transport.mass_factors(single), transport.mass_factors(single.astype(float)), rtol=1e-6
    )


@pytest.mark.parametrize("variant", [{}, {"reg": 0.5}, {"reg_m": np.inf}])
def test_balanced_mass_does_not_change(variant):
    rng = np.random.default_rng(1)
    a, b = naive.random_mixture(rng, 4, 2, "full"), naive.random_mixture(rng, 3, 2, "full")
    transport = mixture_transport(a, b, **variant)
    # marginals of entropic plans are found to 1e-10, of weights above 1e-2
    np.testing.assert_allclose(transport.mass_factors(naive.sample(rng, a, 50)), 1.0, rtol=1e-8)
    np.testing.assert_allclose(transport.pair_factors, 1.0, rtol=1e-8)


def test_mean_over_the_source_is_one():
    """By quadrature. Components overlap: the posterior has to be that of the source's weights."""
    a = ([0.3, 0.5, 0.2], [[-1.0], [0.5], [2.0]], [1.0, 0.5, 2.0])
    b = ([0.6, 0.4], [[0.0], [3.0]], [1.0, 1.0])
    transport = mixture_transport(a, b, reg=0.1, reg_m=0.3)
    assert abs(transport.plan.sum() - 1) > 0.1
    grid = np.linspace(-12, 14, 4001)[:, None]
    density = np.exp(naive.log_density(naive.log_joint(grid, transport.source)))
    mean = np.trapezoid(density * transport.mass_factors(grid), grid[:, 0])
    assert mean == pytest.approx(1.0, abs=1e-12)


def test_weighted_samples_stand_for_the_target():
    """They arrive at the components of the target with their weights: by exact counts.

    Components lie far apart, so that each sample is of one component and goes to one place.
    """
    a = ([0.5, 0.3, 0.2], [[0.0], [100.0], [200.0]], [1.0, 1.0, 1.0])
    b = ([0.2, 0.3, 0.5], [[1.0], [101.0], [201.0]], [1.0, 1.0, 1.0])
    transport = mixture_transport(a, b, reg_m=3.0)
    assert (transport.plan > 1e-12).sum() == 3
    X = np.repeat([[0.0], [100.0], [200.0]], [50, 30, 20], axis=0)
    moved, weights = transport.map(X), transport.mass_factors(X) / len(X)
    arrived = [weights[np.abs(moved[:, 0] - place) < 10].sum() for place in (1, 101, 201)]
    np.testing.assert_allclose(arrived, b[0], rtol=1e-9)


def test_what_no_mass_reaches_is_not_made():
    """A target component beyond reach has no mass, and a source component may lose all of its."""
    a = ([0.5, 0.5], [[0.0], [1000.0]], [1.0, 1.0])
    b = ([0.5, 0.5], [[0.0], [-1000.0]], [1.0, 1.0])
    transport = mixture_transport(a, b, reg_m=1.0)
    np.testing.assert_allclose(transport.plan, [[0.5, 0.0], [0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(transport.mass_factors([[0.0], [1000.0]]), [1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(transport.pair_factors, [[1.0, 0.0], [0.0, 0.0]], atol=1e-9)


def test_a_component_without_weight_has_no_factor():
    a = ([1.0, 0.0], [[0.0], [3.0]], [1.0, 1.0])
    transport = mixture_transport(a, ([0.5, 0.5], [[0.0], [3.0]], [1.0, 1.0]), reg_m=5.0)
    factors = transport.mass_factors([[0.0], [3.0]])
    np.testing.assert_allclose(factors, 1.0, rtol=1e-8)  # the mean over all of the source


def test_input_that_cannot_be_used_is_named():
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 1\)"):
        TUTORIAL.mass_factors(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="NaN"):
        TUTORIAL.mass_factors([[np.nan]])
    flat = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.diag([1.0, 0.0])[None])
    with pytest.raises(ValueError, match="component 0 of the source is singular"):
        mixture_transport(flat, flat).mass_factors([[0.0, 0.0]])
