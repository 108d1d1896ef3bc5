"""Threads and processes: the same bits however many there are, and no hang whoever starts them."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV

from skgmmot import DifferentiableGaussianMixture
from skgmmot.em import initialization
from skgmmot.numerics import threads

TYPES = ["full", "tied", "diag", "spherical"]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]
RESULTS = ["predict", "predict_proba", "score_samples"]


def clouds(n_samples=30_000, n_features=3, seed=0):
    rng = np.random.default_rng(seed)
    centers = 3 * rng.normal(size=(4, n_features))
    return centers[rng.integers(4, size=n_samples)] + rng.normal(size=(n_samples, n_features))


def mixture_of(**params):
    options = {"residual_tol": np.inf, "max_iter": 500, "random_state": 0, "init_size": 500}
    return DifferentiableGaussianMixture(4, **(options | params))


def assert_same_bits(a, b):
    assert a.lower_bounds_ == b.lower_bounds_
    assert a.residual_ == b.residual_
    for name in FITTED:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_same_bits_for_every_number_of_threads(kind, weighted):
    X = clouds()
    weight = np.random.default_rng(1).exponential(size=len(X)) if weighted else None
    cotangent = (np.arange(4.0), np.ones((4, 3)), np.ones((4, 3, 3)))
    fits = [
        mixture_of(covariance_type=kind, n_jobs=n_jobs).fit(X, sample_weight=weight)
        for n_jobs in (1, 2, 5, -1, None)
    ]
    for other in fits[1:]:
        assert_same_bits(other, fits[0])
        for name in RESULTS:
            np.testing.assert_array_equal(getattr(other, name)(X), getattr(fits[0], name)(X))
        assert other.icl(X, sample_weight=weight) == fits[0].icl(X, sample_weight=weight)
        np.testing.assert_array_equal(
            other.gradient_wrt_data(X, cotangent, mode="one_step", sample_weight=weight),
            fits[0].gradient_wrt_data(X, cotangent, mode="one_step", sample_weight=weight),
        )


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_same_bits_of_every_initialization(init_params):
    X = clouds()
    one, five = (
        mixture_of(init_params=init_params, max_iter=0, init_size=None, n_jobs=n_jobs).fit(X)
        for n_jobs in (1, 5)
    )
    for name in FITTED:
        np.testing.assert_array_equal(getattr(one, name), getattr(five, name))


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_n_jobs_is_the_number_of_threads(n_jobs, monkeypatch):
    asked = []

    def recorded(task, n_segments, n_threads):
        asked.append(n_threads)
        return threads.run(task, n_segments, n_threads)

    monkeypatch.setattr("skgmmot.samples.cpu.run", recorded)
    X = clouds(20_000)  # enough for several segments
    mixture = mixture_of(n_jobs=n_jobs).fit(X)
    for name in RESULTS:
        getattr(mixture, name)(X)
    mixture.gradient_wrt_data(X, (None, None, None), mode="one_step")
    assert set(asked) == {n_jobs}


def test_python_threads_fit_at_the_same_time():
    data = [clouds(3000, seed=seed) for seed in range(8)]

    def fit(X):
        return mixture_of(n_jobs=2).fit(X)

    expected = [fit(X) for X in data]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fit, data * 2))
    for mixture, one in zip(found, expected * 2, strict=True):
        assert_same_bits(mixture, one)


def test_blas_keeps_its_threads_when_fits_overlap(monkeypatch):
    """Two are inside k-means at once, and the first leaves first: not as nested limits do."""
    first_is_in, second_is_in, first_has_ended = (threading.Event() for _ in range(3))

    class Overlapping(KMeans):
        def fit(self, X, **options):
            if not first_is_in.is_set():
                first_is_in.set()
                assert second_is_in.wait(60)
            else:
                second_is_in.set()
                assert first_has_ended.wait(60)
            return super().fit(X, **options)

    def fit():
        return mixture_of(n_jobs=1).fit(clouds(500))

    monkeypatch.setattr(initialization, "KMeans", Overlapping)
    libraries = threads.thread_pools().select(user_api="blas").lib_controllers
    before = [library.num_threads for library in libraries]
    for library in libraries:
        threads._set_threads(library, 2)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(fit)
            assert first_is_in.wait(60)
            second = pool.submit(fit)
            first.result()
            first_has_ended.set()
            second.result()
        assert {library.num_threads for library in libraries} == {2}
    finally:
        for library, number in zip(libraries, before, strict=True):
            threads._set_threads(library, number)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib_workers(backend):
    X = clouds(3000)
    grid = range(1, 5)

    def estimator(n_components):
        return mixture_of().set_params(n_components=n_components)

    # bound methods: worker processes can import the package, but not this file
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(estimator(k).fit)(X) for k in grid)
    for mixture, n_components in zip(found, grid, strict=True):
        assert_same_bits(mixture, estimator(n_components).fit(X))
    assert found[0].bic(X) > found[3].bic(X)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_grid_search(backend):
    X = clouds(1500)
    grid = {"n_components": [1, 4], "covariance_type": ["full", "diag"]}
    alone = GridSearchCV(mixture_of(), grid, cv=3).fit(X)
    with joblib.parallel_config(backend=backend):
        search = GridSearchCV(mixture_of(), grid, cv=3, n_jobs=2).fit(X)
    for name in ["mean_test_score", "split0_test_score", "split2_test_score"]:
        np.testing.assert_array_equal(search.cv_results_[name], alone.cv_results_[name])
    assert search.best_params_["n_components"] == 4


def test_worker_threads_of_joblib_do_not_multiply():
    """n_jobs=None is one thread inside a worker thread, however many processors there are."""
    with joblib.parallel_config(backend="threading", n_jobs=2):
        inside = joblib.Parallel()(joblib.delayed(threads.effective_n_threads)() for _ in range(4))
    assert inside == [1] * 4
    assert threads.effective_n_threads(3) == 3


FORK = """
import os, signal, sys
import numpy as np
from skgmmot import DifferentiableGaussianMixture
from skgmmot.numerics import threads

rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(size=(20_000, 3)), 5 + rng.normal(size=(20_000, 3))])

def fit():
    mixture = DifferentiableGaussianMixture(
        2, init_params={init_params!r}, residual_tol=np.inf, random_state=0, n_jobs=2
    )
    return mixture.fit(X).means_

before = fit()
assert threads._pool is not None  # there are threads that the child will not have
child = os.fork()
if child == 0:
    signal.alarm(60)  # a hang ends the child, and with it the wait
    same = False
    try:
        same = np.array_equal(fit(), before)
    finally:
        os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
assert np.array_equal(fit(), before)
print("child", status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("init_params", ["random_from_data", "kmeans"])
def test_fit_in_a_forked_child(init_params):
    script = FORK.format(init_params=init_params)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["child", "0"]
