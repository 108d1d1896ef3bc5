"""Threads for kernels that release the GIL: a pool that survives fork, and how many to use."""

import itertools
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, lru_cache
from threading import RLock

import joblib
from joblib.parallel import get_active_backend
from numba.core.compiler_lock import global_compiler_lock
from threadpoolctl import ThreadpoolController

_RANGES_PER_THREAD = 4
_lock = RLock()  # guards what follows; held across a fork, so that the child finds all of it whole
_pool = None
_holders: set[object] = set()  # who is inside `one_blas_thread`
_owed: list[tuple] = []  # libraries that are to have their threads back, and how many


def _before_fork():
    """Let other threads finish what a child could not go on with.

    A thread that compiles holds numba's lock, which nobody would release in the child. So a fork
    waits until it is done.
    """
    global_compiler_lock.acquire()
    _lock.acquire()


def _after_fork_in_parent():
    _lock.release()
    global_compiler_lock.release()


def _after_fork_in_child():
    """Forget the threads, which exist in the parent only, and what they held."""
    global _pool, _lock
    _pool = None
    _lock = RLock()
    _holders.clear()
    _give_back(_owed)
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def effective_n_threads(n_jobs=None):
    """Number of threads for ``n_jobs``.

    None means what scikit-learn's OpenMP code would take: the processors this process may use
    (affinity and cgroup limits), at most ``OMP_NUM_THREADS`` and ``NUMBA_NUM_THREADS`` where
    they are set (joblib sets the former in its worker processes), and one inside a joblib worker
    thread. Negative numbers count down from all processors, as in joblib.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0; use None for the default or -1 for all processors.")
    if n_jobs is not None and n_jobs > 0:
        return n_jobs
    available = _n_processors(*_limits())
    if n_jobs is not None:
        return max(1, available + 1 + n_jobs)
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
def one_blas_thread(*more):
    """Hold BLAS to one thread: many small products are slowed by threads that wait for more.

    Where their number is that of the whole process, the last to leave gives the threads back,
    whatever the order in which several Python threads come and go. What others limit inside, as
    KMeans does, is one before and after. Other libraries, as ``"openmp"``, can be named as well.
    """
    me, mine = object(), []
    libraries = thread_pools().select(user_api=["blas", *more]).lib_controllers
    with _lock:
        for library in libraries:
            number = library.num_threads
            if number != 1:
                (mine if _is_per_thread(library) else _owed).append((library, number))
                _set_threads(library, 1)
        _holders.add(me)
    try:
        yield
    finally:
        with _lock:
            _holders.discard(me)  # a forked child has forgotten it
            _give_back(mine)
            if not _holders:
                _give_back(_owed)


def _is_per_thread(library):
    """Whether each Python thread has a number of its own: OpenMP, but for Microsoft's."""
    if library.user_api == "openmp":
        return library.prefix != "vcomp"
    return getattr(library, "threading_layer", None) == "openmp"


def _set_threads(library, number):
    """Set a library's number of threads, whichever thread it was that set it last.

    From 3.8 on threadpoolctl lets only one thread set OpenBLAS, and ignores the others; here, who
    takes the threads away need not be who gives them back.
    """
    getattr(library, "_real_set_num_threads", library.set_num_threads)(number)


def _give_back(owed):
    while owed:
        library, number = owed.pop()
        if library.num_threads == 1:  # nobody else has changed it
            _set_threads(library, number)


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
