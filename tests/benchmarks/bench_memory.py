"""Peak memory of a fit beyond the data, against scikit-learn. Linux only.

    python tests/benchmarks/bench_memory.py [--quick]

Each fit runs in a process of its own, after a smaller fit that loads and compiles everything.
The peak is the growth of the process's resident memory while the fit runs (VmHWM).
"""

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

from _report import Table, arguments, clusters, heading, medians, quiet_fit, verdict
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture

CASES = [(1_000_000, 3, 10, 20.0)]  # n, d, K, most megabytes
WARM_UP_ROWS = 50_000
ESTIMATORS = {"ours": DifferentiableGaussianMixture, "peer": GaussianMixture}


def reset_peak():
    """Give freed memory back to the system, and let the peak begin at what is left."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def peak():
    """VmHWM of this process in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kilobytes) * 1024 / 1e6


def print_growth(which, n_samples, n_features, n_components):
    """What a child process does."""
    X = clusters(n_samples, n_features, n_components, separation=6.0)
    mixture = ESTIMATORS[which](n_components, random_state=0)
    quiet_fit(mixture, X[:WARM_UP_ROWS])
    reset_peak()
    before = peak()
    quiet_fit(mixture, X)
    print(peak() - before)


def growth_meter(which, shape):
    command = [sys.executable, __file__, which, *map(str, shape)]

    def measure():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return measure


def main():
    quick = arguments(__doc__).quick
    if not sys.platform.startswith("linux"):
        sys.exit("bench_memory.py reads the peak from /proc, which only Linux has.")
    heading()
    table = Table(
        case="<28s", ours_MB="8.1f", peer_MB="8.1f", ratio="6.1f", at_most_MB="10.0f", verdict="<7s"
    )
    for *shape, most in CASES:
        meters = [growth_meter(which, shape) for which in ESTIMATORS]
        ours, peer = medians(*meters, repeats=1 if quick else 3)
        table.row(
            "n={} d={} K={}".format(*shape),
            ours,
            peer,
            peer / ours,
            most,
            verdict(ours, most, at_most=True),
        )


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ESTIMATORS:
        print_growth(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        main()
