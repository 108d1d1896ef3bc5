"""EM on data that are read in chunks: time of a step, and peak memory of a fit. Linux only.

    python tests/benchmarks/bench_chunks.py [--quick]

A step on chunks of a memory map is held to 1.10 times one on the same rows in memory, plus the time
of a plain pass of NumPy over the map: ``allowed`` is that sum. The files are in the cache of the
system. The fit of the large file runs in a process that may not allocate more than the limit
(RLIMIT_DATA); told is its peak of resident memory, with all that Python has loaded.
"""

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _report import Table, arguments, clusters, heading, medians, verdict
from sklearn.exceptions import ConvergenceWarning

from skgmmot import ChunkedRows, DifferentiableGaussianMixture
from skgmmot.em.em_map import EMMap
from skgmmot.numerics.threads import effective_n_threads

CASES = [  # n, d, K, covariance type
    (12_000_000, 3, 3, "full"),
    (12_000_000, 3, 10, "full"),
    (6_000_000, 8, 10, "full"),
    (6_000_000, 8, 10, "diag"),
    (2_000_000, 30, 10, "full"),
    (2_000_000, 3, 64, "full"),  # many components, of which in memory most are left out …
    (2_000_000, 3, 256, "full"),  # … and so many that rows are put in order for each pass
]
CHUNK_BYTES = 100e6
LARGE = (4e9, 3, 10, 600.0)  # bytes, d, K, most megabytes
REPEATS = 7


def stepper(X, theta, n_passes):
    """A function that measures the seconds of a step."""
    em_map = EMMap.on(
        X,
        covariance_type=theta.covariance_type,
        reg_covar=1e-6,
        n_threads=effective_n_threads(),
    )
    em_map.step(theta)

    def measure():
        begin = time.perf_counter()
        for _ in range(n_passes):
            em_map.step(theta)
        return (time.perf_counter() - begin) / n_passes

    return measure


def reader(rows, chunk_size):
    """A function that measures the seconds of a plain pass."""

    def measure():
        begin = time.perf_counter()
        for start in range(0, len(rows), chunk_size):
            rows[start : start + chunk_size].sum()
        return time.perf_counter() - begin

    return measure


def compare(folder, n, d, K, kind, repeats, table):
    X = clusters(n, d, min(K, 10), separation=2.0)
    size = int(CHUNK_BYTES / (8 * d))
    path = folder / "rows.dat"
    X.tofile(path)
    file = np.memmap(path, dtype=np.float64, mode="r", shape=X.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture = DifferentiableGaussianMixture(
            K, covariance_type=kind, max_iter=3, acceleration=None, random_state=0
        ).fit(X[:: max(1, n // 200_000)])
    theta = mixture._theta
    parts = [X[start : start + size] for start in range(0, n, size)]
    timers = [stepper(own, theta, 1) for own in (X, ChunkedRows(parts))]
    timers += [stepper(ChunkedRows(file, chunk_size=size), theta, 1), reader(file, size)]
    whole, chunks, mapped, reading = medians(*timers, repeats=repeats)
    allowed = 1.10 * whole + reading
    table.row(
        f"{n / 1e6:.0f}M × {d}, K = {K}, {kind}",
        1e3 * whole,
        chunks / whole,
        verdict(chunks / whole, 1.10, at_most=True),
        1e3 * mapped,
        1e3 * reading,
        1e3 * allowed,
        verdict(mapped, allowed, at_most=True),
    )
    path.unlink()


def write_large(path, n_bytes, d):
    n = int(n_bytes / (8 * d))
    file = np.memmap(path, dtype=np.float64, mode="w+", shape=(n, d))
    rng, size = np.random.default_rng(0), 2_000_000
    for start in range(0, n, size):
        rows = file[start : start + size]
        rows[:] = rng.normal(size=rows.shape) + 4.0 * rng.integers(0, 10, size=(len(rows), 1))
    file.flush()


def print_peak(path, d, K, limit):
    """What a child process does."""
    limit = int(float(limit) * 1e6)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    X = np.memmap(path, dtype=np.float64, mode="r").reshape(-1, int(d))
    warnings.simplefilter("ignore", ConvergenceWarning)
    begin = time.perf_counter()
    DifferentiableGaussianMixture(int(K), random_state=0, max_iter=5).fit(X)
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    print(int(kilobytes) * 1024 / 1e6, time.perf_counter() - begin)


def main():
    options = arguments(__doc__)
    heading()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print("\nOne EM step (ms), in memory, in chunks in memory, and of a memory map")
        table = Table(
            case="<32s", in_memory="10.1f", chunks="7.2f", target="7s", map="8.1f",
            reading="8.1f", allowed="8.1f", _="6s",
        )  # fmt: skip
        for case in CASES[:2] if options.quick else CASES:
            compare(folder, *case, 3 if options.quick else REPEATS, table)

        n_bytes, d, K, limit = LARGE
        if options.quick:
            n_bytes /= 8
        path = folder / "large.dat"
        write_large(path, n_bytes, d)
        command = [sys.executable, __file__, "--child", path, d, K, limit]
        found = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True
        )
        peak, seconds = map(float, found.stdout.split())
        print(
            f"\nFit of a file of {n_bytes / 1e9:.1f} GB, 5 steps: peak {peak:.0f} MB "
            f"(at most {limit:.0f}) {verdict(peak, limit, at_most=True)}, {seconds:.1f} s"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print_peak(*sys.argv[2:])
    else:
        main()
