"""Time of an EM step against what the machine can do.

    python tests/benchmarks/bench_limits.py [--quick]

With few features a step is little more than one exponential for each sample and component: its
time is compared with that of ``numpy.exp``, shared out among the threads. With many features it is
two matrix products with the features φ of the samples, p of them, 4 n K p operations: their rate
is compared with that of NumPy's product of two square matrices on as many threads.
"""

import time

import numpy as np
from _report import (
    PAUSE,
    Table,
    arguments,
    clusters,
    heading,
    medians,
    ours_and_peer,
    step_timer,
    verdict,
)
from threadpoolctl import threadpool_info, threadpool_limits

from skgmmot.numerics.threads import effective_n_threads

FEW_FEATURES = [(100_000, 2, 3), (100_000, 3, 10), (1_000_000, 2, 5)]  # n, d, K
MANY_FEATURES = [(100_000, 16, 8), (100_000, 30, 30), (20_000, 64, 16)]
MOST_EXPONENTIALS = 6.0
LEAST_SHARE = 0.45
MATRIX_SIZE = 2000


def exponential_timer(n_samples, n_components):
    """A function that measures n K exponentials in place, in seconds over the threads."""
    logits = np.random.default_rng(0).uniform(-20.0, 0.0, size=n_samples * n_components)
    x = np.empty_like(logits)

    def measure():
        x[:] = logits
        begin = time.perf_counter()
        np.exp(x, out=x)
        return (time.perf_counter() - begin) / effective_n_threads()

    return measure


def product_timer():
    """A function that measures NumPy's product of two square matrices, in seconds."""
    a, b, out = np.random.default_rng(0).normal(size=(3, MATRIX_SIZE, MATRIX_SIZE))

    def measure():
        time.sleep(PAUSE)
        with threadpool_limits(effective_n_threads(), user_api="blas"):
            begin = time.perf_counter()
            np.matmul(a, b, out=out)
            return time.perf_counter() - begin

    measure()
    return measure


def main():
    quick = arguments(__doc__).quick
    repeats = 3 if quick else 9

    def step(n_samples, n_features, n_components):
        X = clusters(n_samples, n_features, n_components, separation=1.0)
        ours, _ = ours_and_peer(X, n_components)
        return step_timer(ours, X, 0.1 if quick else 0.3)

    heading()
    table = Table(
        case="<24s", step_ms="9.3f", exp_ms="9.3f", ratio="6.2f", at_most="7.1f", verdict="<7s"
    )
    for n_samples, n_features, n_components in FEW_FEATURES:
        ours, exponentials = medians(
            step(n_samples, n_features, n_components),
            exponential_timer(n_samples, n_components),
            repeats=repeats,
        )
        ratio = ours / exponentials
        table.row(
            f"n={n_samples} d={n_features} K={n_components}",
            ours * 1e3,
            exponentials * 1e3,
            ratio,
            MOST_EXPONENTIALS,
            verdict(ratio, MOST_EXPONENTIALS, at_most=True),
        )

    kernels = {lib["architecture"] for lib in threadpool_info() if "architecture" in lib}
    print(f"\nBLAS with kernels for {', '.join(sorted(kernels)) or 'unknown'}")
    table = Table(
        case="<24s",
        step_ms="9.3f",
        GFlop_per_s="11.1f",
        dgemm_GFlop_per_s="17.1f",
        share="6.1%",
        at_least="8.0%",
        verdict="<7s",
    )
    for n_samples, n_features, n_components in MANY_FEATURES:
        ours, product = medians(
            step(n_samples, n_features, n_components), product_timer(), repeats=repeats
        )
        n_statistics = 1 + n_features + n_features * (n_features + 1) // 2
        rate = 4 * n_samples * n_components * n_statistics / ours
        peak = 2 * MATRIX_SIZE**3 / product
        table.row(
            f"n={n_samples} d={n_features} K={n_components}",
            ours * 1e3,
            rate / 1e9,
            peak / 1e9,
            rate / peak,
            LEAST_SHARE,
            verdict(rate / peak, LEAST_SHARE),
        )


if __name__ == "__main__":
    main()
