"""Bridges between mixtures: their law at all times, their drift, and paths that follow it."""

import pickle

import naive
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, norm

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_bridge,
    mixture_transport,
)
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.transport.gaussian_bridges import slopes_at

TIMES = [0.0, 0.3, 0.5, 1.0]


def setting(kind="full", target_kind=None, d=2, seed=0):
    rng = np.random.default_rng(seed)
    target_kind = target_kind or kind
    return naive.random_mixture(rng, 3, d, kind), naive.random_mixture(rng, 2, d, target_kind)


def density(theta, X):
    """The density of a full or diagonal mixture, by scipy."""
    matrices = naive.matrices(theta)
    return sum(
        w * multivariate_normal(m, S).pdf(X)
        for w, m, S in zip(theta.weights, theta.means, matrices, strict=True)
    )


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_ends_are_the_mixtures(kind):
    a, b = setting(kind)
    X = np.random.default_rng(1).normal(scale=3, size=(50, 2))
    bridge = mixture_bridge(a, b, epsilon=0.8, reg=0.3)
    for t, theta in ((0.0, a), (1.0, b)):
        np.testing.assert_allclose(density(bridge.interpolate(t), X), density(theta, X), rtol=1e-8)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_without_noise_it_is_the_geodesic(kind, reg):
    a, b = setting(kind, "spherical")
    geodesic = mixture_transport(a, b, reg=reg)
    still, nearly = (mixture_bridge(a, b, epsilon=e, reg=reg) for e in (0, 1e-5))
    np.testing.assert_array_equal(still.transport.plan, geodesic.plan)
    for t in TIMES:
        expected = geodesic.interpolate(t)
        for bridge, atol in ((still, 1e-14), (nearly, 1e-9)):  # Σ_t differs by ε², about
            found = bridge.interpolate(t)
            assert found.covariance_type == expected.covariance_type
            for part, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(part, other, rtol=1e-12, atol=atol)


def test_options_matter():
    a, b = setting()
    plain, noisy, dense = (
        mixture_bridge(a, b, epsilon=e, reg=r) for e, r in ((0.1, 0.0), (1.0, 0.0), (0.1, 1.0))
    )
    assert len(plain.interpolate(0.5).weights) == 4 < len(dense.interpolate(0.5).weights) == 6
    wider = noisy.interpolate(0.5).covariances - plain.interpolate(0.5).covariances
    assert np.linalg.eigvalsh(wider).min() > 0.01
    assert (noisy.epsilon, noisy.transport.reg, dense.transport.reg) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("epsilon", [0.0, 0.7])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_density_and_drift_are_those_of_the_definition(kind, epsilon):
    a, b = setting(kind)
    bridge = mixture_bridge(a, b, epsilon=epsilon)
    X = naive.sample(np.random.default_rng(2), a, 40)
    for t in TIMES:
        theta = bridge.interpolate(t)
        slopes = slopes_at(bridge._bridges, t)
        slopes = slopes if slopes.ndim == 3 else np.array([np.diag(row) for row in slopes])
        logs = np.log(theta.weights) + np.stack(
            [
                multivariate_normal(m, S).logpdf(X)
                for m, S in zip(theta.means, naive.matrices(theta), strict=True)
            ],
            axis=1,
        )
        np.testing.assert_allclose(bridge.log_density(X, t), logsumexp(logs, axis=1), rtol=1e-10)
        p = np.exp(logs - logsumexp(logs, axis=1)[:, None])
        velocities = bridge.interpolate(1.0).means - bridge.interpolate(0.0).means
        expected = np.zeros_like(X)
        for j in range(len(slopes)):
            expected += p[:, j, None] * (velocities[j] + (X - theta.means[j]) @ slopes[j])
        np.testing.assert_allclose(bridge.drift(X, t), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("epsilon", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_fokker_planck_equation(kind, epsilon):
    """∂p/∂t = − ∇·(u p) + ½ ε² Δp, by central differences at random points and times."""
    a, b = setting(kind)
    bridge = mixture_bridge(a, b, epsilon=epsilon)
    rng = np.random.default_rng(3)
    X, h = rng.normal(scale=2, size=(30, 2)), 1e-4
    for t in (0.15, 0.5, 0.85):

        def p(X, t=t):
            return np.exp(bridge.log_density(X, t))

        later, sooner = p(X, t + h), p(X, t - h)
        right = np.zeros(len(X))
        for axis in np.eye(2):
            fluxes = [bridge.drift(X + s * axis, t) @ axis * p(X + s * axis) for s in (h, -h)]
            right -= (fluxes[0] - fluxes[1]) / (2 * h)
            curvature = (p(X + h * axis) + p(X - h * axis) - 2 * p(X)) / h**2
            right += 0.5 * epsilon**2 * curvature
        left = (later - sooner) / (2 * h)
        assert np.abs(left).max() > 1e-2
        # p is below one: second differences have rounding of 1e-16 / h² = 1e-8, others h² = 1e-8
        np.testing.assert_allclose(left, right, atol=2e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_paths_have_the_law_of_the_bridge(kind, epsilon):
    """Along random directions, against the mixture's exact distribution function.

    With 20 000 paths a Kolmogorov-Smirnov distance of 0.014 has a probability of 1e-3 by chance;
    the discretization at 60 steps adds less than 0.001.
    """
    a, b = setting(kind, seed=4)
    X = naive.sample(np.random.default_rng(5), a, 20_000)
    bridge = mixture_bridge(a, b, epsilon=epsilon)
    times = [0.25, 0.5, 1.0]
    paths = bridge.sample_paths(X, n_steps=60, times=times, random_state=0)
    for t, moved in zip(times, paths, strict=True):
        w, m, S = bridge.interpolate(t)
        S = S if S.ndim == 3 else np.array([np.diag(row) for row in S])
        for angle in (0.0, 0.8, 2.0):
            u = np.array([np.cos(angle), np.sin(angle)])
            deviations = np.sqrt(np.einsum("kab,a,b->k", S, u, u))

            def cdf(x, w=w, m=m @ u, s=deviations):
                return norm.cdf((x[:, None] - m) / s) @ w

            assert kstest(moved @ u, cdf).statistic < 0.014, (t, angle)


def test_law_test_would_notice_a_wrong_drift():
    """Without the noise the paths of the same drift end elsewhere."""
    a, b = setting(seed=4)
    X = naive.sample(np.random.default_rng(5), a, 20_000)
    bridge = mixture_bridge(a, b, epsilon=1.5)
    moved, n_steps = X.copy(), 60
    for i in range(n_steps):
        moved += bridge.drift(moved, i / n_steps) / n_steps
    w, m, S = bridge.interpolate(1.0)
    deviations = np.sqrt(S[:, 0, 0])
    found = kstest(moved[:, 0], lambda x: norm.cdf((x[:, None] - m[:, 0]) / deviations) @ w)
    assert found.statistic > 0.05


def test_default_steps_suffice_where_it_is_said():
    """ε is five times the deviation of the target: its variance is met to one percent.

    That of 200 000 samples has a standard error of 0.3 percent, of which three are allowed.
    """
    bridge = mixture_bridge(([1.0], [[0.0]], [1.0]), ([1.0], [[3.0]], [0.04]), epsilon=1.0)
    X = np.random.default_rng(0).normal(size=(200_000, 1))
    ends = bridge.sample_paths(X, times=[1.0], random_state=1)[0]
    assert ends.var() == pytest.approx(0.04, rel=0.02)
    coarse = bridge.sample_paths(X, n_steps=10, times=[1.0], random_state=1)[0]
    assert abs(coarse.var() / 0.04 - 1) > 0.03  # and fewer do not


@pytest.mark.parametrize("d", [1, 3])
def test_a_singular_target_is_reached(d):
    """Components of the target are points: the noise is steered into them."""
    rng = np.random.default_rng(0)
    a = naive.random_mixture(rng, 2, d, "full")
    b = MixtureParameters(np.array([0.3, 0.7]), 5 * np.eye(2, d), np.zeros((2, d)), "diag")
    bridge = mixture_bridge(a, b, epsilon=0.5)
    X = naive.sample(rng, a, 500)
    ends = bridge.sample_paths(X, n_steps=100, random_state=0)[-1]
    misses = np.linalg.norm(ends[:, None] - b.means, axis=2)
    assert misses.min(axis=1).max() < 0.05  # noise of the last step: 0.5 / 100, times √d and 4
    assert (misses.argmin(axis=1) == 1).mean() == pytest.approx(0.7, abs=0.1)  # 4.5 σ
    assert np.isfinite(bridge.log_density(X, 0.99)).all()
    with pytest.raises(ValueError, match=r"component 0 of the bridge at t = 1 is singular"):
        bridge.log_density(X, 1.0)


def test_a_singular_source_has_no_paths_and_all_else():
    flat = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.diag([1.0, 0.0])[None], "full")
    round_one = ([1.0], [[3.0, 0.0]], [1.0])
    bridge = mixture_bridge(flat, round_one, epsilon=0.5)
    with pytest.raises(ValueError, match=r"at t = 0 is singular.*both mixtures \(reg_covar\)"):
        bridge.sample_paths([[0.0, 0.0]])
    assert np.isfinite(bridge.drift([[0.1, 0.2]], 0.01)).all()
    still = mixture_bridge(flat, flat, epsilon=0.0)
    with pytest.raises(ValueError, match="at t = 0.5 is singular.*epsilon > 0"):
        still.drift([[0.0, 0.0]], 0.5)


def test_times_of_paths():
    a, b = setting()
    X = naive.sample(np.random.default_rng(0), a, 7)
    bridge = mixture_bridge(a, b, epsilon=0.5)
    paths = bridge.sample_paths(X, n_steps=8, random_state=0)
    assert paths.shape == (9, 7, 2)
    np.testing.assert_array_equal(paths[0], X)
    s = np.linspace(0, 1, 9)
    some = bridge.sample_paths(X, n_steps=8, times=(s * (2 - s))[[0, 3, 8]], random_state=0)
    np.testing.assert_array_equal(some, paths[[0, 3, 8]])
    half = bridge.sample_paths(X, n_steps=8, times=[0.5, 0.6], random_state=0)
    assert half.shape == (2, 7, 2) and np.abs(half - X).min() > 0
    np.testing.assert_array_equal(bridge.sample_paths(X, times=[0.0]), X[None])


def test_random_state_dtype_and_input():
    a, b = setting()
    X = naive.sample(np.random.default_rng(0), a, 7)
    kept, bridge = X.copy(), mixture_bridge(a, b, epsilon=0.5)
    first = bridge.sample_paths(X, random_state=0)
    np.testing.assert_array_equal(first, bridge.sample_paths(X, random_state=0))
    assert np.abs(first - bridge.sample_paths(X, random_state=1)).max() > 0.1
    for state in (np.random.default_rng(0), np.random.RandomState(0)):
        assert bridge.sample_paths(X, random_state=state).shape == first.shape
    still = mixture_bridge(a, b, epsilon=0.0)
    np.testing.assert_array_equal(*(still.sample_paths(X, random_state=s) for s in (0, 1)))
    np.testing.assert_array_equal(X, kept)
    single = X.astype(np.float32)
    assert bridge.sample_paths(single, random_state=0).dtype == np.float32
    np.testing.assert_allclose(
        bridge.sample_paths(single, random_state=0)[-1], first[-1], atol=1e-4
    )
    assert bridge.drift(single, 0.5).dtype == bridge.log_density(single, 0.5).dtype == np.float32


def test_no_samples_are_an_answer_too():
    bridge = mixture_bridge(*setting(), epsilon=0.5)
    nothing = np.zeros((0, 2))
    assert bridge.log_density(nothing, 0.5).shape == (0,)
    assert bridge.drift(nothing, 0.5).shape == (0, 2)
    assert bridge.sample_paths(nothing, n_steps=3).shape == (4, 0, 2)


def test_the_flow_without_noise_goes_back():
    """At ε = 0 the drift of the bridge from b to a is minus that from a to b, at 1 − t."""
    a, b = setting()
    there, back = mixture_bridge(a, b, epsilon=0.0), mixture_bridge(b, a, epsilon=0.0)
    X = naive.sample(np.random.default_rng(0), a, 50)
    np.testing.assert_allclose(there.drift(X, 0.3), -back.drift(X, 0.7), atol=1e-11)
    ends = there.sample_paths(X, n_steps=200)[-1]
    returned = back.sample_paths(ends, n_steps=200)[-1]
    assert np.abs(returned - X).max() < 1e-2 < np.abs(ends - X).max()  # h² of large gradients


def test_estimators_and_copies():
    a, b = setting()
    X = naive.sample(np.random.default_rng(0), a, 300)
    fitted = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    bridge = mixture_bridge(fitted, b, epsilon=1)
    assert repr(bridge) == "<MixtureBridge: 2 to 2 components, epsilon 1>"
    assert "epsilon" in bridge._repr_html_()
    same = pickle.loads(pickle.dumps(bridge))
    np.testing.assert_array_equal(same.drift(X, 0.5), bridge.drift(X, 0.5))


def test_input_that_cannot_be_used_is_named():
    a, b = setting()
    for epsilon in (-0.1, np.nan, np.inf, "1", None, True):
        with pytest.raises(ValueError, match="epsilon must be a finite number"):
            mixture_bridge(a, b, epsilon=epsilon)
    with pytest.raises(ValueError, match="reg must be"):
        mixture_bridge(a, b, epsilon=0.1, reg=-1.0)
    with pytest.raises(ValueError, match="same number of features"):
        mixture_bridge(a, ([1.0], [[0.0]], [1.0]), epsilon=0.1)
    bridge, X = mixture_bridge(a, b, epsilon=0.1), np.zeros((3, 2))
    for t in (-0.1, 1.1, np.nan, "0"):
        for call in (bridge.interpolate, lambda t: bridge.drift(X, t)):
            with pytest.raises(ValueError, match="t must be a number from 0 to 1"):
                call(t)
    for n_steps in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="n_steps must be a positive integer"):
            bridge.sample_paths(X, n_steps=n_steps)
    for times in ([], [0.5, 0.5], [0.5, 0.2], [1.2], [np.nan], 0.5):
        with pytest.raises(ValueError, match="times must be increasing numbers"):
            bridge.sample_paths(X, times=times)
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 2\)"):
        bridge.sample_paths(np.zeros((3, 1)))
