"""How many threads, and what becomes of their errors and of the pool."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import pytest
from threadpoolctl import ThreadpoolController

from skgmmot.numerics import threads
from skgmmot.numerics.threads import effective_n_threads, run


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
from skgmmot.numerics import threads
from skgmmot.samples.cpu import CpuSamples

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork of a threaded process
X = np.arange(600_000.0).reshape(-1, 2)
expected = CpuSamples(X, None, 2).summary().sums
assert threads._pool is not None, "nothing ran in parallel"
child = os.fork()
if child == 0:
    signal.alarm(30)  # a dead pool would never answer
    same = (CpuSamples(X, None, 2).summary().sums == expected).all()
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert (CpuSamples(X, None, 2).summary().sums == expected).all()
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


@pytest.fixture
def two_blas_threads():
    """BLAS as on a machine with two processors; given back whatever a test leaves."""
    libraries = threads.thread_pools().select(user_api="blas").lib_controllers
    before = [library.num_threads for library in libraries]
    for library in libraries:
        threads._set_threads(library, 2)
    yield
    for library, number in zip(libraries, before, strict=True):
        threads._set_threads(library, number)


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


def test_blas_threads_are_given_back_by_another_thread_than_took_them(two_blas_threads):
    """The first to enter may go on living: threadpoolctl lets no other thread undo its limit."""
    steps = threading.Barrier(2, timeout=60)

    def first():
        with threads.one_blas_thread():
            steps.wait()  # the second enters
            steps.wait()
        steps.wait()  # the second leaves
        steps.wait()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(first)
        steps.wait()
        with threads.one_blas_thread():
            steps.wait()
            steps.wait()
            assert set(blas_threads()) == {1}
        found = blas_threads()
        steps.wait()
        ended.result()
    assert set(found) == {2}


def test_what_others_set_meanwhile_stays(two_blas_threads):
    with threads.one_blas_thread():
        for library in threads.thread_pools().select(user_api="blas").lib_controllers:
            threads._set_threads(library, 3)
    assert set(blas_threads()) == {3}


def test_other_libraries_keep_their_threads():
    """The limit of BLAS neither takes nor gives what belongs to OpenMP."""
    pools = threads.thread_pools().select(user_api="openmp")
    with pools.limit(limits=3):
        with threads.one_blas_thread():
            assert {pool["num_threads"] for pool in pools.info()} <= {3}
            for pool in pools.lib_controllers:
                pool.set_num_threads(2)
        assert {pool["num_threads"] for pool in pools.info()} <= {2}
        with threads.one_blas_thread("openmp"):
            assert {pool["num_threads"] for pool in pools.info()} <= {1}
        assert {pool["num_threads"] for pool in pools.info()} <= {2}


BLAS_FORK = """
import os, signal, sys, threading, warnings
from threadpoolctl import ThreadpoolController
from skgmmot.numerics.threads import one_blas_thread

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork of a threaded process
pools = ThreadpoolController().select(user_api="blas")
pools.limit(limits=2)

def numbers():
    return {pool.num_threads for pool in pools.lib_controllers}

def in_child(check):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        good = False
        try:
            good = check()
        finally:
            os._exit(0 if good else 3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, status

def free():  # and the limit works as before
    free = numbers()
    with one_blas_thread():
        limited = numbers()
    return (free, limited, numbers()) == ({2}, {1}, {2})

# of the thread that forks, which goes on inside its limit in the child as well
with one_blas_thread():
    in_child(free)
    inside = os.fork()
    assert numbers() == ({2} if inside == 0 else {1})
if inside == 0:
    os._exit(0 if free() else 3)
assert os.waitpid(inside, 0)[1] == 0
assert numbers() == {2}

# of another thread
entered, leave = threading.Event(), threading.Event()

def hold():
    with one_blas_thread():
        entered.set()
        leave.wait(60)

thread = threading.Thread(target=hold)
thread.start()
assert entered.wait(60) and numbers() == {1}
in_child(free)
assert numbers() == {1}
leave.set()
thread.join()
assert numbers() == {2}
print("all have their threads")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_child_forked_inside_the_limit_has_the_blas_threads():
    done = subprocess.run(
        [sys.executable, "-c", BLAS_FORK], capture_output=True, text=True, timeout=180
    )
    assert done.stdout == "all have their threads\n", done.stderr


COMPILING_FORK = """
import os, signal, threading, time, warnings
import numpy as np
from numba.core import event
from skgmmot.kernels.compilation import kernel

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork of a threaded process

@kernel
def double(x):
    return x + x

compiling = threading.Event()

class Compiling(event.Listener):
    def on_start(self, started):
        compiling.set()
        time.sleep(1.0)  # the lock of the compiler is held all the while

    def on_end(self, ended):
        pass

event.register("numba:compile", Compiling())
thread = threading.Thread(target=double, args=(np.arange(3.0),))
thread.start()
assert compiling.wait(60)
child = os.fork()
if child == 0:
    signal.alarm(20)  # a lock that nobody releases would be waited for without end
    good = False
    try:  # what the other thread has compiled, and what is still to be compiled
        good = all((double(np.arange(3, dtype=t)) == [0, 2, 4]).all() for t in (float, int))
    finally:
        os._exit(0 if good else 3)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
thread.join()
assert status == 0, status
assert (double(np.arange(3, dtype=np.float32)) == [0, 2, 4]).all()
print("all have compiled")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_fork_while_another_thread_compiles(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(COMPILING_FORK)
    done = subprocess.run(
        [sys.executable, script],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.stdout == "all have compiled\n", done.stderr
