"""How many threads, and what becomes of their errors and of the pool."""

import os
import subprocess
import sys
import threading

import joblib
import pytest
from threadpoolctl import ThreadpoolController

from skgmmot.kernels import threads
from skgmmot.kernels.threads import effective_n_threads, run


@pytest.fixture
def eight_processors(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: 8)
    threads._n_processors.cache_clear()
    yield
    threads._n_processors.cache_clear()


@pytest.mark.parametrize("n_jobs, expected", [(None, 8), (-1, 8), (-2, 7), (-100, 1), (1, 1)])
def test_n_jobs_as_in_joblib(eight_processors, n_jobs, expected):
    assert effective_n_threads(n_jobs) == expected


def test_a_narrower_affinity_counts_at_once(monkeypatch):
    """The number of processors is remembered, but not when what limits it has changed."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    effective_n_threads()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert effective_n_threads() == 1


def test_more_threads_than_processors_are_given_to_who_asks(eight_processors):
    assert effective_n_threads(20) == 20


def test_zero_threads_are_refused():
    with pytest.raises(ValueError, match="n_jobs must not be 0; use None"):
        effective_n_threads(0)


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
@pytest.mark.parametrize(
    "setting, expected", [("3", 3), ("3,2", 3), (" 5 ", 5), ("100", 8), ("", 8), ("0", 8)]
)
def test_environment_limits_the_default(eight_processors, monkeypatch, variable, setting, expected):
    monkeypatch.setenv(variable, setting)
    assert effective_n_threads() == expected
    assert effective_n_threads(6) == 6  # who asks for a number gets it


def test_lower_of_two_limits_counts(eight_processors, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert effective_n_threads() == 2


def test_one_thread_inside_a_joblib_worker_thread(eight_processors):
    parallel = joblib.Parallel(n_jobs=2, backend="threading")
    asked = [None, None, 3]
    found = parallel(joblib.delayed(effective_n_threads)(n_jobs) for n_jobs in asked)
    assert found == [1, 1, 3]


@pytest.mark.parametrize("backend", ["threading", "loky", "sequential"])
def test_a_backend_that_is_only_chosen_changes_nothing(eight_processors, backend):
    with joblib.parallel_config(backend=backend):
        assert effective_n_threads() == 8


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("n_segments", [1, 2, 7, 64])
def test_every_segment_is_run_once(n_segments, n_threads):
    done = []
    run(lambda first, last: done.extend(range(first, last)), n_segments, n_threads)
    assert sorted(done) == list(range(n_segments))


def test_segments_are_run_by_that_many_threads():
    barrier, places = threading.Barrier(3, timeout=60), []  # passes if three wait at one time
    run(lambda first, last: places.append(barrier.wait()), 3, 3)
    assert sorted(places) == [0, 1, 2]


@pytest.mark.parametrize("guilty", [0, 1, 2])
def test_error_of_any_thread_is_raised_after_all_have_ended(guilty):
    done = []

    def task(first, last):
        done.append(first)
        if first == guilty:
            raise ZeroDivisionError(f"in segment {first}")

    with pytest.raises(ZeroDivisionError, match=f"in segment {guilty}"):
        run(task, 3, 3)
    assert sorted(done) == [0, 1, 2]


def test_pool_works_on_after_an_error():
    with pytest.raises(ZeroDivisionError):
        run(lambda first, last: 1 // 0, 3, 3)
    done = []
    run(lambda first, last: done.append(first), 3, 3)
    assert sorted(done) == [0, 1, 2]


FORK = """
import os, signal, warnings
import numpy as np
from skgmmot.kernels import threads
from skgmmot.kernels.cpu import summary

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork of a threaded process
X = np.arange(600_000.0).reshape(-1, 2)
expected = summary(X, None, 2)[0]
assert threads._pool is not None, "nothing ran in parallel"
child = os.fork()
if child == 0:
    signal.alarm(30)  # a dead pool would never answer
    same = (summary(X, None, 2)[0] == expected).all()
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert (summary(X, None, 2)[0] == expected).all()
print("both sums are right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_pool_is_renewed_in_a_forked_child():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=180)
    assert done.stdout == "both sums are right\n", done.stderr


def test_pool_is_kept_from_call_to_call():
    run(lambda first, last: None, 2, 2)
    pool = threads._pool
    run(lambda first, last: None, 2, 2)
    assert threads._pool is pool


def blas_threads():
    pools = ThreadpoolController().select(user_api="blas").info()
    return [pool["num_threads"] for pool in pools]


def test_blas_threads_are_given_back_by_the_last_who_held_them():
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        before = blas_threads()
        first, second = threads.one_blas_thread(), threads.one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)  # in the order in which they came: not as nested
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before
        with pytest.raises(ZeroDivisionError), threads.one_blas_thread():
            1 / 0  # noqa: B018
        assert blas_threads() == before
