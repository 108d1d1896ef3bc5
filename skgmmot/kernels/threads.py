"""Threads for kernels that release the GIL: a pool that survives fork, and how many to use."""

import itertools
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from threading import Lock

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

_RANGES_PER_THREAD = 4
_lock = Lock()
_pool = None
_blas_lock = Lock()
_blas_limit = None
_blas_holders = 0


def _renew():
    """Forget the pool: after a fork its threads exist in the parent only."""
    global _pool, _lock, _blas_lock, _blas_holders
    _pool = None
    _lock = Lock()
    _blas_lock = Lock()
    _blas_holders = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def effective_n_threads(n_jobs=None):
    """Number of threads for ``n_jobs``.

    None means what scikit-learn's OpenMP code would take: the processors this process may use
    (affinity and cgroup limits), at most ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS`` where
    they are set (joblib sets the former in its worker processes), and one inside a joblib worker
    thread. Negative numbers count down from all processors, as in joblib.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0; use None for the default or -1 for all processors.")
    available = _n_processors(*_limits())
    if n_jobs is not None:
        return n_jobs if n_jobs > 0 else max(1, available + 1 + n_jobs)
    if _in_joblib_worker():
        in_thread = multiprocessing.current_process().name == "MainProcess"
        if in_thread or "OMP_NUM_THREADS" not in os.environ:
            return 1
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        setting = os.environ.get(variable, "").split(",")[0].strip()
        if setting.isdigit() and int(setting) > 0:
            available = min(available, int(setting))
    return available


def _limits():
    """What may change how many processors this process may use, as long as it runs."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return len(affinity), os.environ.get("LOKY_MAX_CPU_COUNT")


@lru_cache(maxsize=8)
def _n_processors(n_affine, most):
    return joblib.cpu_count(only_physical_cores=True)  # reads files, at 0.1 ms a call


def _in_joblib_worker():
    backend, _ = get_active_backend()
    return getattr(backend, "nesting_level", 0) > 0


def run(task, n_segments, n_threads):
    """Call ``task(first, last)`` on consecutive ranges of segments, in several threads.

    The caller's own thread works too. Where there are many segments, each thread takes several
    ranges, one when it has done the last, so that a thread that is held up by other work delays
    little. Which thread computes a segment never changes what is computed.
    """
    n_threads = min(n_threads, n_segments)
    if n_threads <= 1:
        task(0, n_segments)
        return
    n_ranges = min(n_segments, n_threads * (_RANGES_PER_THREAD if n_segments > 8 else 1))
    cuts = [r * n_segments // n_ranges for r in range(n_ranges + 1)]
    numbers = itertools.count()

    def work():
        while (r := next(numbers)) < n_ranges:
            task(cuts[r], cuts[r + 1])

    pool = _get_pool()
    futures = [pool.submit(work) for _ in range(n_threads - 1)]
    try:
        work()
    finally:
        errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


@contextmanager
def one_blas_thread():
    """Hold BLAS to one thread: many small products are slowed by threads that wait for more.

    The first to enter takes the threads away and the last to leave gives them back, whatever
    the order in which several Python threads come and go.
    """
    global _blas_limit, _blas_holders
    with _blas_lock:
        if _blas_holders == 0:
            _blas_limit = thread_pools().limit(limits=1, user_api="blas")
        _blas_holders += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_holders -= 1
            if _blas_holders == 0:
                _blas_limit.restore_original_limits()


@cache
def thread_pools():
    """The libraries with thread pools that are loaded; finding them takes milliseconds."""
    return ThreadpoolController()


def _get_pool():
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(
                max_workers=max(32, joblib.cpu_count()), thread_name_prefix="skgmmot"
            )
        return _pool
