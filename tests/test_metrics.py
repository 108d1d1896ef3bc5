"""What the distance between mixtures is known to be."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from skgmmot.metrics import mixture_wasserstein


def random_mixture(rng, n_components, d):
    roots = rng.normal(size=(n_components, d, 2 * d))
    means = rng.normal(size=(n_components, d))
    return rng.dirichlet(np.full(n_components, 5.0)), means, roots @ roots.swapaxes(1, 2) / d


def test_distance_and_its_square():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
    distance, square = mixture_wasserstein(a, b), mixture_wasserstein(a, b, squared=True)
    assert type(distance) is type(square) is float
    np.testing.assert_allclose(distance**2, square, rtol=1e-15)


def test_one_dimensional_gaussians():
    a, b = ([1.0], [[1.0]], [4.0]), ([1.0], [[4.0]], [36.0])  # means 3 apart, deviations 4
    assert mixture_wasserstein(a, b) == 5.0


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_translation(d):
    """Moving every component by t moves the mixture by ‖t‖, whatever its shape."""
    rng = np.random.default_rng(d)
    weights, means, covariances = random_mixture(rng, 4, d)
    t = rng.normal(size=d)
    moved = (weights, means + t, covariances)
    distance = mixture_wasserstein((weights, means, covariances), moved)
    np.testing.assert_allclose(distance, np.linalg.norm(t), rtol=1e-13)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_rotation_and_unit_of_length(d):
    rng = np.random.default_rng(d)
    a, b = random_mixture(rng, 3, d), random_mixture(rng, 4, d)
    Q = 1e3 * np.linalg.qr(rng.normal(size=(d, d)))[0]
    moved = [(w, m @ Q.T, Q @ S @ Q.T) for w, m, S in (a, b)]
    np.testing.assert_allclose(
        mixture_wasserstein(*moved), 1e3 * mixture_wasserstein(a, b), rtol=1e-12
    )


def test_distance_is_at_least_that_of_the_overall_means():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
        overall = a[0] @ a[1] - b[0] @ b[1]
        assert mixture_wasserstein(a, b) > np.linalg.norm(overall)


def test_estimators():
    X = np.random.default_rng(0).normal(size=(100, 2))
    mixture = GaussianMixture(2, random_state=0).fit(X)
    shifted = (mixture.weights_, mixture.means_ + [3.0, 4.0], mixture.covariances_)
    np.testing.assert_allclose(mixture_wasserstein(mixture, shifted), 5.0, rtol=1e-13)


def test_squared_is_a_keyword():
    a = ([1.0], [[0.0]], [1.0])
    with pytest.raises(TypeError):
        mixture_wasserstein(a, a, True)
