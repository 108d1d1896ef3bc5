"""Where EM starts: where scikit-learn starts, of as many rows as one is willing to look at."""

import naive
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from skgmmot.checks import as_parameters
from skgmmot.em import initialization
from skgmmot.em.em_map import EMMap
from skgmmot.em.initialization import initial_parameters
from skgmmot.parameters import COVARIANCE_TYPES

WAYS = ["kmeans", "k-means++", "random", "random_from_data"]
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("init_params", WAYS)


def samples(n=500, d=3, K=4, seed=0, spread=3.0):
    rng = np.random.default_rng(seed)
    return naive.sample(rng, naive.random_mixture(rng, K, d, "full", spread=spread), n)


def start(X, kind, init_params, *, weight=None, init_size=None, seed=0, K=4, n_threads=1):
    problem = EMMap.on(X, weight, covariance_type=kind, reg_covar=1e-6, n_threads=n_threads)
    return initial_parameters(problem, K, init_params, init_size, np.random.RandomState(seed))


def assert_same_start(actual, expected, X, tolerance):
    """Up to what scikit-learn does differently.

    After single rows its weights are divided by n, and its diag and spherical variances are
    rounding errors of squares of the samples.
    """
    weights = expected.weights / expected.weights.sum()
    np.testing.assert_allclose(actual.weights, weights, rtol=tolerance)
    np.testing.assert_allclose(actual.means, expected.means, rtol=tolerance, atol=tolerance)
    squares = 10 * np.finfo(X.dtype).eps * float(np.max(X * X))
    np.testing.assert_allclose(
        actual.covariances, expected.covariances, rtol=tolerance, atol=squares
    )


def sklearn_start(X, kind, init_params, seed=0, K=4):
    mixture = GaussianMixture(
        K, covariance_type=kind, init_params=init_params, random_state=seed, max_iter=0
    )
    mixture.fit(X)
    return naive.MixtureParameters(
        mixture.weights_, mixture.means_, mixture.covariances_, mixture.covariance_type
    )


@all_types
@all_ways
@pytest.mark.parametrize("init_size", [None, 500, 20_000])
def test_start_is_scikit_learn_s(kind, init_params, init_size):
    X = samples()
    for seed in range(3):
        expected = sklearn_start(X, kind, init_params, seed)
        actual = start(X, kind, init_params, init_size=init_size, seed=seed)
        assert_same_start(actual, expected, X, 1e-10)
        assert actual.covariance_type == kind


@all_types
@all_ways
def test_start_of_single_precision_data_is_scikit_learn_s(kind, init_params):
    """To single precision: scikit-learn's sums are in it, ours are not."""
    X = samples().astype(np.float32)
    expected = sklearn_start(X, kind, init_params)
    assert_same_start(start(X, kind, init_params), expected, X, 1e-4)


@all_types
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_start_is_the_same_when_responsibilities_come_in_parts(kind, init_params, monkeypatch):
    X = samples()
    monkeypatch.setattr("skgmmot.samples.cpu._CHUNK", 128)
    expected = sklearn_start(X, kind, init_params)
    assert_same_start(start(X, kind, init_params), expected, X, 1e-10)


@all_types
@all_ways
def test_start_is_a_mixture(kind, init_params):
    theta = start(samples(), kind, init_params)
    as_parameters(theta)  # raises unless weights and covariances are such
    np.testing.assert_allclose(theta.weights.sum(), 1.0, rtol=1e-14)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
def test_single_rows_have_no_covariance_but_reg_covar(kind, init_params):
    X = samples() + 1e3
    theta = start(X, kind, init_params)
    for mean, matrix in zip(theta.means, naive.matrices(theta), strict=True):
        assert (mean == X).all(axis=1).any()
        np.testing.assert_array_equal(matrix, 1e-6 * np.eye(3))


@all_ways
def test_start_follows_the_random_state(init_params):
    X = samples()
    one, same, other = (start(X, "full", init_params, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.means, same.means)
    assert np.abs(one.means - other.means).max() > 1e-3


# Sample weights


@all_types
def test_kmeans_with_weights_is_the_m_step_of_its_labels(kind):
    X = samples()
    weight = np.random.default_rng(1).uniform(0.1, 3.0, size=len(X))
    theta = start(X, kind, "kmeans", weight=weight)
    kmeans = KMeans(4, n_init=1, random_state=np.random.RandomState(0))
    labels = kmeans.fit(X, sample_weight=weight).labels_
    gamma = (labels[:, None] == np.arange(4)).astype(float)
    expected = naive.maximize(X, weight, gamma, theta, reg_covar=1e-6)
    assert naive.errors(theta, expected) < 1e-10
    unweighted = naive.maximize(X, None, gamma, theta, reg_covar=1e-6)
    assert naive.errors(theta, unweighted)["weights"] > 1e-3


@all_types
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_random_with_weights_is_the_m_step_of_random_responsibilities(kind, dtype):
    """Of responsibilities rounded to the precision of the data, as scikit-learn has them."""
    X = samples().astype(dtype)
    weight = np.random.default_rng(1).uniform(0.1, 3.0, size=len(X))
    theta = start(X, kind, "random", weight=weight)
    gamma = np.random.RandomState(0).uniform(size=(len(X), 4)).astype(dtype).astype(np.float64)
    gamma /= gamma.sum(axis=1, keepdims=True)
    expected = naive.maximize(X.astype(np.float64), weight, gamma, theta, reg_covar=1e-6)
    assert naive.errors(theta, expected) < 1e-10


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random_from_data"])
def test_rows_of_hardly_any_weight_are_not_chosen(init_params):
    X = np.vstack([samples(100, seed=2), samples(100, seed=3) + 1e3])
    weight = np.repeat([1.0, 1e-12], 100)
    for seed in range(5):
        theta = start(X, "diag", init_params, weight=weight, seed=seed)
        # k-means may keep one center for the far rows; seeds are never drawn from them
        near = (theta.means < 100).all(axis=1)
        assert near.all() or init_params == "kmeans"
        assert theta.weights[near].sum() > 1 - 1e-9


@all_types
def test_tied_seeds_with_weights_use_them(kind):
    """Of the weights only the tied covariance knows, and which rows are drawn."""
    X = samples()
    weight = np.random.default_rng(1).uniform(0.1, 3.0, size=len(X))
    theta = start(X, kind, "random_from_data", weight=weight)
    rows = np.random.RandomState(0).choice(len(X), size=4, replace=False, p=weight / weight.sum())
    np.testing.assert_allclose(theta.means, X[rows], rtol=1e-15)
    if kind == "tied":
        expected = (np.einsum("i,ia,ib->ab", weight, X, X) - X[rows].T @ X[rows]) / 4
        np.testing.assert_allclose(theta.covariances, expected + 1e-6 * np.eye(3), rtol=1e-11)


# How many rows are looked at


@pytest.fixture
def rows_seen(monkeypatch):
    """The data that k-means and k-means++ are given, in order."""
    seen = []
    fit, seeding = KMeans.fit, initialization.kmeans_plusplus

    def noted_fit(self, X, *args, **kwargs):
        seen.append(X)
        return fit(self, X, *args, **kwargs)

    def noted_seeding(X, *args, **kwargs):
        seen.append(X)
        return seeding(X, *args, **kwargs)

    monkeypatch.setattr(KMeans, "fit", noted_fit)
    monkeypatch.setattr(initialization, "kmeans_plusplus", noted_seeding)
    return seen


@all_types
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++"])
def test_init_size_limits_the_rows(kind, init_params, rows_seen):
    X = samples(spread=0.5)
    few = start(X, kind, init_params, init_size=50)
    everything = start(X, kind, init_params, init_size=None)
    some_rows, all_rows = rows_seen
    assert some_rows.shape == (50, 3)
    assert all_rows.shape == X.shape
    # they are rows of X, each at most once
    matches = (some_rows[:, None] == X[None]).all(axis=2)
    assert (matches.sum(axis=1) == 1).all() and matches.sum(axis=0).max() == 1
    assert np.abs(few.means - everything.means).max() > 1e-3


def test_weights_go_with_the_rows_that_are_looked_at():
    """Rows of one half have all the weight: the other half leaves no trace in the covariances."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 2))
    X[200:] += 1e4
    weight = np.repeat([1.0, 1e-300], 200)
    theta = start(X, "full", "kmeans", weight=weight, init_size=100, K=1)
    assert np.abs(theta.means).max() < 1.0
    assert theta.covariances.max() < 3.0


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++"])
def test_init_size_below_the_number_of_components_is_raised_to_it(init_params, rows_seen):
    theta = start(samples(), "diag", init_params, init_size=2, K=4)
    assert rows_seen[0].shape == (4, 3)
    assert theta.means.shape == (4, 3)


def test_kmeans_on_some_rows_is_the_best_of_several():
    """Thirty clusters in as many dimensions, of which one k-means often misses one."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(-10.0, 10.0, size=(30, 30))
    X = centers[rng.integers(30, size=16_000)] + 2.0 * rng.normal(size=(16_000, 30))

    def n_missed(theta):
        distances = np.linalg.norm(centers[:, None] - theta.means, axis=2)
        return (distances.min(axis=1) > 5.0).sum()

    several, single = (
        [n_missed(start(X, "diag", "kmeans", init_size=size, seed=s, K=30)) for s in range(6)]
        for size in (15_000, None)
    )
    assert sum(several) == 0 < 2 < sum(single)


def test_several_kmeans_take_as_long_as_one(monkeypatch):
    seen = []
    fit = KMeans.fit

    def noted(self, X, y=None, sample_weight=None):
        seen.append((len(X), self.n_init, None if sample_weight is None else len(sample_weight)))
        return fit(self, X, sample_weight=sample_weight)

    monkeypatch.setattr(KMeans, "fit", noted)
    X = samples(4000)
    start(X, "full", "kmeans", init_size=3000, K=4)
    start(X, "full", "kmeans", init_size=3000, K=20, weight=np.ones(4000))
    start(X, "full", "kmeans", init_size=3000, K=40)  # too few rows of each to do without some
    start(X, "full", "kmeans", init_size=4000, K=4)
    assert seen == [
        (300, 10, None),
        (3000, 1, None),
        (1000, 3, 1000),
        (3000, 1, 3000),
        (3000, 1, None),
        (4000, 1, None),
    ]


def test_weights_choose_among_several_kmeans():
    """Three clusters, of which one has no weight: both centers are in the others."""
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=2000)
    X = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 1000.0]])[label] + rng.normal(size=(2000, 2))
    weight = np.where(label == 2, 1e-12, 1.0)
    theta = start(X, "full", "kmeans", weight=weight, init_size=1500, K=2)
    assert theta.means[:, 1].max() < 1.0
    assert abs(theta.means[0, 0] - theta.means[1, 0]) > 9.0


def test_a_part_with_fewer_rows_that_differ_than_centers():
    """The last k-means finds the others, and nothing warns."""
    X = np.zeros((1000, 2))
    X[[123, 456, 789]] = [[5.0, 0.0], [0.0, 5.0], [5.0, 5.0]]
    weight = np.ones(1000)
    theta = start(X, "spherical", "kmeans", weight=weight, init_size=999, K=2)
    assert np.isfinite(theta.means).all() and len(np.unique(theta.means, axis=0)) == 2


@pytest.mark.parametrize("init_params", ["random", "random_from_data"])
def test_other_ways_look_at_all_rows(init_params):
    X = samples()
    few, everything = (start(X, "full", init_params, init_size=size) for size in (10, None))
    np.testing.assert_array_equal(few.means, everything.means)


# Special cases


@all_types
@all_ways
def test_as_many_components_as_samples(kind, init_params):
    X = samples(5)
    theta = start(X, kind, init_params, K=5)
    as_parameters(theta)
    if init_params != "random":
        order, expected = np.lexsort(theta.means.T), np.lexsort(X.T)
        np.testing.assert_allclose(theta.means[order], X[expected], rtol=1e-12)


@all_types
@pytest.mark.parametrize("init_params", ["kmeans", "random", "random_from_data"])
def test_start_has_the_same_bits_with_more_threads(kind, init_params):
    X = samples(20_000)  # several segments
    one, more = (start(X, kind, init_params, n_threads=threads) for threads in (1, 3))
    for part, other in zip(one, more, strict=True):
        np.testing.assert_array_equal(part, other)


@pytest.mark.parametrize("init_params", ["kmeans", "random"])
def test_covariances_far_from_the_origin(init_params):
    """An offset of 1e7 costs the covariances nothing but the rounding of the samples."""
    X = samples()
    moved = X + 1e7
    theta = start(moved, "full", init_params)
    expected = start(moved - 1e7, "full", init_params)
    np.testing.assert_allclose(theta.covariances, expected.covariances, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("distance", [1e9, 1e12])
def test_tied_covariances_of_clouds_far_apart(distance):
    """k-means finds the clouds; what they share is small beside their distance."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(200, 3))
    where = np.repeat([[0.0], [distance]], 100, axis=0)
    X = where + Z
    theta = start(X, "tied", "kmeans", K=2)
    exact = (X - where).reshape(2, 100, 3)  # as the samples were rounded
    exact = exact - exact.mean(axis=1, keepdims=True)
    expected = np.einsum("kia,kib->ab", exact, exact) / 200 + 1e-6 * np.eye(3)
    # the centers are rounded to neighbours of the distance; the square of that is small
    np.testing.assert_allclose(theta.covariances, expected, atol=(1e-15 * distance) ** 2 + 1e-13)


@pytest.mark.parametrize("init_params", ["k-means++", "random_from_data"])
@pytest.mark.parametrize("offset", [1e8, 1e9])
def test_tied_seeds_far_from_the_origin(init_params, offset):
    """There the start is that of data about their mean."""
    X = samples() + offset
    theta = start(X, "tied", init_params)
    Z, seeds = X - X.mean(axis=0), theta.means - X.mean(axis=0)
    expected = (Z.T @ Z - seeds.T @ seeds) / len(seeds) + 1e-6 * np.eye(3)
    np.testing.assert_allclose(theta.covariances, expected, rtol=1e-6)
    assert np.linalg.eigvalsh(theta.covariances)[0] > 0.1
