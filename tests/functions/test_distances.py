"""What the distance between mixtures is known to be."""

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.cluster import AgglomerativeClustering
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import MDS
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from skgmmot.functions import distances as metrics
from skgmmot.functions.distances import mixture_wasserstein, pairwise_mixture_wasserstein
from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.numerics.threads import effective_n_threads
from skgmmot.results.transport_result import transport_between
from skgmmot.transport import interior_point, many


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


@pytest.mark.parametrize(
    "variant", [{"reg": 0.5}, {"reg_m": 2.0}, {"reg": 0.5, "reg_m": (1.0, np.inf)}]
)
def test_variants_are_those_of_the_transport(variant):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
    transport = mixture_transport(a, b, **variant)
    assert mixture_wasserstein(a, b, squared=True, **variant) == transport.value
    assert mixture_wasserstein(a, b, **variant) == transport.distance
    assert abs(transport.distance - mixture_wasserstein(a, b)) > 1e-3


def mixtures_of(seed, n):
    rng = np.random.default_rng(seed)
    return [random_mixture(rng, int(rng.integers(1, 5)), 2) for _ in range(n)]


@pytest.mark.parametrize("options", [{}, {"squared": True}, {"reg": 0.5}, {"reg_m": (1.0, 3.0)}])
def test_pairwise_is_every_pair(options):
    A, B = mixtures_of(0, 5), mixtures_of(1, 3)
    expected = [[mixture_wasserstein(a, b, **options) for b in B] for a in A]
    np.testing.assert_array_equal(pairwise_mixture_wasserstein(A, B, **options), expected)
    expected = [[mixture_wasserstein(a, b, **options) for b in A] for a in A]
    np.testing.assert_allclose(
        pairwise_mixture_wasserstein(A, **options), expected, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("options", [{}, {"reg_m": 2.0}, {"reg": 0.5}])
def test_pairwise_is_symmetric_and_does_half_the_work(options, monkeypatch):
    A = mixtures_of(0, 6)
    calls = []

    def counting(a, b, reg, reg_m):
        calls.append((a, b))
        return transport_between(a, b, reg, reg_m)

    kernel = many.exact_plans

    def counting_compiled(*arguments):
        calls.extend(arguments[5])  # the pairs
        kernel(*arguments)

    monkeypatch.setattr(metrics, "transport_between", counting)
    monkeypatch.setattr(many, "exact_plans", counting_compiled)
    distances = pairwise_mixture_wasserstein(A, **options)
    np.testing.assert_array_equal(distances, distances.T)
    assert len(calls) == 15 + 6 * ("reg" in options)
    assert (np.diag(distances) > 0).all() if "reg" in options else not np.diag(distances).any()


def test_pairwise_of_lists_of_different_types():
    rng = np.random.default_rng(0)
    diagonal = [([0.4, 0.6], rng.normal(size=(2, 2)), rng.uniform(1, 2, size=2)) for _ in range(3)]
    roots = rng.normal(size=(4, 2, 2, 2))
    full = [([0.5, 0.5], rng.normal(size=(2, 2)), root @ root.mT) for root in roots]
    expected = [[mixture_wasserstein(a, b) for b in full] for a in diagonal]
    np.testing.assert_allclose(pairwise_mixture_wasserstein(diagonal, full), expected, rtol=1e-10)
    transposed = pairwise_mixture_wasserstein(full, diagonal)
    np.testing.assert_allclose(transposed, np.transpose(expected), rtol=1e-10)


def test_pairwise_of_one_mixture():
    (a,) = mixtures_of(0, 1)
    np.testing.assert_array_equal(pairwise_mixture_wasserstein([a]), [[0.0]])
    assert pairwise_mixture_wasserstein([a], reg=1.0) == mixture_wasserstein(a, a, reg=1.0)


@pytest.mark.parametrize("options", [{}, {"reg": 0.5}])
def test_pairwise_does_not_depend_on_the_number_of_jobs(options, monkeypatch):
    A = mixtures_of(0, 8)
    one = pairwise_mixture_wasserstein(A, **options)
    monkeypatch.setattr(metrics, "PAIRS_PER_TASK", 5)
    with parallel_config(backend="threading"):
        np.testing.assert_array_equal(pairwise_mixture_wasserstein(A, n_jobs=2, **options), one)
    np.testing.assert_array_equal(pairwise_mixture_wasserstein(A, n_jobs=2, **options), one)


@pytest.mark.parametrize("n_jobs", [1, 3, None])
def test_pairwise_takes_as_many_threads_as_jobs(n_jobs, monkeypatch):
    taken = []

    def noting(task, n_segments, n_threads):
        taken.append(n_threads)
        task(0, n_segments)

    monkeypatch.setattr(many, "run", noting)
    pairwise_mixture_wasserstein(mixtures_of(0, 3), n_jobs=n_jobs)
    assert taken == [effective_n_threads(n_jobs)]


@pytest.fixture(scope="module")
def families():
    """Mixtures of two kinds, ten of each, and the distances between all."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    mixtures = [
        ([0.5, 0.5], rng.normal(scale=0.3, size=(2, 2)) + [[0, 0], [4 + 4 * y, 0]], [1.0, 1.0])
        for y in labels
    ]
    return labels, pairwise_mixture_wasserstein(mixtures)


def test_pairwise_is_a_precomputed_metric_for_clustering(families):
    labels, distances = families
    clustering = AgglomerativeClustering(2, metric="precomputed", linkage="average")
    found = clustering.fit_predict(distances)
    assert (found == labels).all() or (found == 1 - labels).all()


def test_pairwise_is_a_precomputed_metric_for_neighbours(families):
    labels, distances = families
    train, test = np.arange(0, 20, 2), np.arange(1, 20, 2)
    neighbours = KNeighborsClassifier(3, metric="precomputed")
    neighbours.fit(distances[np.ix_(train, train)], labels[train])
    assert neighbours.score(distances[np.ix_(test, train)], labels[test]) == 1.0


@pytest.mark.filterwarnings("ignore::FutureWarning")  # names of MDS's parameters are changing
def test_pairwise_is_a_precomputed_metric_for_embedding():
    """Translates of one mixture lie on the plane as their means do."""
    weights, means, covariances = random_mixture(np.random.default_rng(0), 3, 2)
    shifts = np.random.default_rng(1).normal(size=(12, 2))
    distances = pairwise_mixture_wasserstein([(weights, means + s, covariances) for s in shifts])
    expected = np.linalg.norm(shifts[:, None] - shifts, axis=-1)
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=1e-13)
    embedding = MDS(2, dissimilarity="precomputed", random_state=0, n_init=4, eps=1e-12)
    points = embedding.fit_transform(distances)
    np.testing.assert_allclose(
        np.linalg.norm(points[:, None] - points, axis=-1), expected, atol=1e-2
    )


def test_pairwise_takes_anything_that_is_a_mixture():
    X = np.random.default_rng(0).normal(size=(100, 2))
    estimators = [
        GaussianMixture(2, random_state=0).fit(X),
        BayesianGaussianMixture(n_components=3, random_state=0, max_iter=500).fit(X),
    ]
    tuples = [(m.weights_, m.means_, m.covariances_) for m in estimators]
    np.testing.assert_array_equal(
        pairwise_mixture_wasserstein(estimators), pairwise_mixture_wasserstein(tuples)
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([],), r"^A is empty"),
        (([([1.0], [[0.0]], [1.0])], []), r"^B is empty"),
        (([([1.0], [[0.0]], [1.0]), GaussianMixture()],), r"^A\[1\]: this GaussianMixture is not"),
        (([([0.5], [[0.0]], [1.0])],), r"^A\[0\]: the weights must"),
        (([([1.0], [[0.0]], [1.0])], [([1.0], [[np.nan]], [1.0])]), r"^B\[0\]: the means contain"),
        (([([1.0], [[0.0]], [1.0]), ([1.0], [[0.0, 0.0]], [1.0])],), r"same number .* \[1, 2\]"),
        (([([1.0], [[0.0]], [1.0])], [([1.0], [[0.0, 0.0]], [1.0])]), r"same number .* \[1, 2\]"),
        ((np.zeros((3, 3)),), r"^A: an array must hold objects.*got the shape \(3, 3\)"),
        ((3,), r"^A must be a sequence of mixtures; got int"),
        ((GaussianMixture(),), r"^A must be a sequence of mixtures; got GaussianMixture"),
    ],
)
def test_pairwise_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        pairwise_mixture_wasserstein(*arguments)


def test_pairwise_checks_the_regularization():
    A = [([1.0], [[0.0]], [1.0])]
    with pytest.raises(ValueError, match="^reg must be"):
        pairwise_mixture_wasserstein(A, reg=-1)
    with pytest.raises(ValueError, match="^reg_m must be"):
        pairwise_mixture_wasserstein(A, A, reg_m=0)


def test_failure_to_converge_is_said(monkeypatch):
    monkeypatch.setattr(interior_point, "MAX_ITER", 1)
    rng = np.random.default_rng(3)
    a, b = random_mixture(rng, 9, 2), random_mixture(rng, 9, 2)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        mixture_wasserstein(a, b, reg_m=0.1)
