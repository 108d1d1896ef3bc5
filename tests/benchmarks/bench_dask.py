"""An EM step on a dask array, on threads, against one on the same rows in memory.

    python tests/benchmarks/bench_dask.py [--quick]

Blocks are in memory, as after ``persist``. Both take as many threads as there are cores. Held to
1.25 times the step in memory with chunks of a million rows; smaller ones show what tasks cost, as
does a step on chunks of one row, there and on a cluster of two processes.
"""

import time
import warnings

import dask
import dask.array as da
from _report import Table, arguments, clusters, heading, medians, verdict
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture
from skgmmot.em.em_map import EMMap
from skgmmot.numerics.threads import effective_n_threads
from skgmmot.samples import samples_of
from skgmmot.samples.dask_chunks import DaskRows

N, D, K = 20_000_000, 3, 10
CHUNKS = 1_000_000, 300_000, 100_000, 30_000
TARGET = 1.25
N_TASKS = 1000
REPEATS = 9


def stepper(samples, theta):
    """A function that measures the seconds of a step."""
    em_map = EMMap.of(samples, theta.covariance_type, reg_covar=1e-6)
    em_map.step(theta)

    def measure():
        begin = time.perf_counter()
        em_map.step(theta)
        return time.perf_counter() - begin

    return measure


def in_dask(X, size):
    return samples_of(DaskRows(da.from_array(X, chunks=(size, X.shape[1])).persist()))


def main():
    quick = arguments(__doc__).quick
    n, repeats = (N // 10, 3) if quick else (N, REPEATS)
    heading()
    n_threads = effective_n_threads()
    X = clusters(n, D, K, separation=2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = DifferentiableGaussianMixture(K, max_iter=3, acceleration=None, random_state=0)
        theta = mixture.fit(X[:: max(1, n // 200_000)])._theta
    print(f"\nOne EM step (ms), {n / 1e6:.0f}M × {D}, K = {K}, {dask.__name__} {dask.__version__}")
    table = Table(chunks="9d", in_memory="10.1f", dask="8.1f", ratio="7.3f", target="7s")
    with dask.config.set(num_workers=n_threads):
        for size in CHUNKS:
            whole = stepper(samples_of(X, n_threads=n_threads), theta)
            known, lazy = medians(whole, stepper(in_dask(X, size), theta), repeats=repeats)
            target = TARGET if size == CHUNKS[0] else None
            told = verdict(lazy / known, target, at_most=True)
            table.row(size, 1e3 * known, 1e3 * lazy, lazy / known, told)
        (alone,) = medians(stepper(in_dask(X[:N_TASKS], 1), theta), repeats=repeats)
    print(f"\nA task without work: {1e3 * alone / N_TASKS:.2f} ms on threads,", end=" ", flush=True)
    cluster = SubprocessCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    with cluster, Client(cluster) as client:
        client.wait_for_workers(2)
        (alone,) = medians(stepper(in_dask(X[:N_TASKS], 1), theta), repeats=repeats)
    print(f"{1e3 * alone / N_TASKS:.2f} ms on a cluster")


if __name__ == "__main__":
    main()
