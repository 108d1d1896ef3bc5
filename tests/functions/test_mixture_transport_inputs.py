"""What `mixture_transport` takes for a mixture, what it refuses, and the edges of its gradient."""

import naive
import numpy as np
import pytest
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from skgmmot import DifferentiableGaussianMixture
from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.parameters import MixtureParameters

GOOD = ([0.5, 0.5], [[0.0, 0.0], [1.0, 0.0]], [1.0, 1.0])
BAD = {
    "negative weight": (([1.5, -0.5], *GOOD[1:]), "the weights must be non-negative"),
    "weights sum": (([0.5, 0.4], *GOOD[1:]), "sum to 1; .* a sum of 0.9"),
    "NaN weight": (([0.5, np.nan], *GOOD[1:]), "the weights contain NaN"),
    "NaN mean": ((GOOD[0], [[0.0, np.nan], [1.0, 0.0]], GOOD[2]), "the means contain NaN"),
    "infinite covariance": ((*GOOD[:2], [1.0, np.inf]), "the covariances contain NaN or infinity"),
    "negative variance": ((*GOOD[:2], [1.0, -1.0]), "positive semi-definite.* -1"),
    "indefinite": ((*GOOD[:2], [[[1.0, 2.0], [2.0, 1.0]]] * 2), "positive semi-definite.* -1"),
    "not symmetric": ((*GOOD[:2], [[[1.0, 0.5], [0.0, 1.0]]] * 2), "must be symmetric"),
    "shape of means": ((GOOD[0], [[0.0, 0.0]], GOOD[2]), "weights must have shape"),
    "no components": (([], np.zeros((0, 2)), []), "weights must have shape"),
    "unfitted": (DifferentiableGaussianMixture(), "is not fitted; call fit first"),
    "unfitted of scikit-learn": (BayesianGaussianMixture(), "is not fitted; call fit first"),
    "two parts": (GOOD[:2], "must be a fitted mixture, a MixtureParameters or a tuple"),
    "a matrix": (np.eye(2), "must be a fitted mixture"),
    "nothing": (None, "must be a fitted mixture"),
    "open type": ((*GOOD[:2], np.eye(2)), "could be tied or diag"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_mixtures_are_refused_by_name(case):
    mixture, message = BAD[case]
    with pytest.raises(ValueError, match=f"^a.*{message}"):
        mixture_transport(mixture, GOOD)
    with pytest.raises(ValueError, match=f"^b.*{message}"):
        mixture_transport(GOOD, mixture)


def test_every_kind_of_mixture_is_taken():
    X = np.random.default_rng(0).normal(size=(200, 2))
    ours = DifferentiableGaussianMixture(3, random_state=0).fit(X)
    theirs = GaussianMixture(2, random_state=0).fit(X)
    bayesian = BayesianGaussianMixture(n_components=4, random_state=0, max_iter=1000).fit(X)
    parts = [
        MixtureParameters(m.weights_, m.means_, m.covariances_, m.covariance_type)
        for m in (ours, theirs, bayesian)
    ]
    for a, a_parts in zip((ours, theirs, bayesian), parts, strict=True):
        for b, b_parts in zip((ours, theirs, bayesian), parts, strict=True):
            transport = mixture_transport(a, b)
            assert transport.plan.shape == (len(a.weights_), len(b.weights_))
            expected = mixture_transport(tuple(a_parts), list(b_parts))
            assert transport.value == expected.value


@pytest.mark.parametrize("variance", [1e-14, 1e-10, 1e-6])
def test_gradient_at_nearly_singular_covariances(variance):
    """Against the closed form 1 − σ'/σ of each axis, in the last of which variances vanish."""
    axes = np.array([1.0, 4.0, variance])
    other = np.array([4.0, 1.0, 9 * variance])
    a = ([1.0], np.zeros((1, 3)), np.diag(axes)[None])
    b = ([1.0], np.ones((1, 3)), np.diag(other)[None])
    gradient = mixture_transport(a, b).gradient()
    expected = np.diag(1 - np.sqrt(other / axes))
    np.testing.assert_allclose(gradient.covariances[0], expected, atol=1e-12)
    for kind, covariances in (("diag", axes[None]), ("tied", np.diag(axes))):
        mixture = MixtureParameters(np.ones(1), np.zeros((1, 3)), covariances, kind)
        typed = mixture_transport(mixture, b).gradient().covariances
        typed = typed if kind == "tied" else np.diag(typed[0])
        np.testing.assert_allclose(typed, expected, atol=1e-12)


@pytest.mark.parametrize("wrt", ["source", "target"])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_at_degenerate_plans_is_a_subgradient(wrt, seed):
    """Equal weights: the value has a kink in the weights, in which it is convex."""
    rng = np.random.default_rng(seed)
    a, b = (naive.random_mixture(rng, 4, 2, "full") for _ in range(2))
    a, b = (MixtureParameters(np.full(4, 0.25), m.means, m.covariances, "full") for m in (a, b))
    transport = mixture_transport(a, b)
    slopes = transport.gradient(wrt).weights
    assert abs(slopes.sum()) < 1e-13
    kinks = 0
    for _ in range(50):
        direction = rng.normal(size=4)
        direction -= direction.mean()
        step = 0.02 * direction / np.abs(direction).max()
        moved = MixtureParameters(0.25 + step, *list(a if wrt == "source" else b)[1:], "full")
        value = mixture_transport(*((moved, b) if wrt == "source" else (a, moved))).value
        assert value >= transport.value + slopes @ step - 1e-13
        kinks += value > transport.value + slopes @ step + 1e-6
    assert kinks > 0


@pytest.mark.parametrize("kind", ["full", "diag"])
@pytest.mark.parametrize("variant", [{}, {"reg": 0.5}, {"reg_m": 2.0}])
def test_singular_covariances_have_the_exact_value(kind, variant):
    """Flat Gaussians in a plane of space are Gaussians of the plane."""
    rng = np.random.default_rng(0)
    flat, solid = [], []
    for n_components in (3, 4):
        mixture = naive.random_mixture(rng, n_components, 2, kind)
        means = np.pad(mixture.means, ((0, 0), (0, 1)))
        pad = ((0, 0),) + ((0, 1),) * (mixture.covariances.ndim - 1)
        covariances = np.pad(mixture.covariances, pad)
        flat.append(mixture)
        solid.append(MixtureParameters(mixture.weights, means, covariances, kind))
    plane, space = mixture_transport(*flat, **variant), mixture_transport(*solid, **variant)
    np.testing.assert_allclose(space.value, plane.value, rtol=1e-13)
    gradient, expected = space.gradient(), plane.gradient()
    np.testing.assert_allclose(gradient.weights, expected.weights, atol=1e-11)
    np.testing.assert_allclose(gradient.means[:, :2], expected.means, atol=1e-11)
    inner = gradient.covariances[:, :2, :2] if kind == "full" else gradient.covariances[:, :2]
    np.testing.assert_allclose(inner, expected.covariances, atol=1e-11)
