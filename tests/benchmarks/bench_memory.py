"""Peak memory of a fit beyond the data, against scikit-learn, and of the gradients. Linux only.

    python tests/benchmarks/bench_memory.py [--quick]

Each call runs in a process of its own, after a smaller one that loads and compiles everything.
The peak is the growth of the process's resident memory while the call runs (VmHWM). From that of
a gradient the gradient itself, which has the size of the data, is subtracted. Automatic
differentiation would have to keep the responsibilities of all steps: n K T numbers at least.
"""

import ctypes
import gc
import subprocess
import sys
import warnings
from pathlib import Path

from _report import Table, arguments, clusters, heading, medians, quiet_fit, verdict
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture

CASES = [(1_000_000, 3, 10, 20.0)]  # n, d, K, most megabytes
GRADIENT_CASES = [(1_000_000, 3, 10, 30.0)]
N_STEPS = 50
MODES = ("unrolled", "implicit", "one_step")
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


def print_fit_growth(which, n_samples, n_features, n_components):
    """What a child process does for a fit."""
    X = clusters(n_samples, n_features, n_components, separation=6.0)
    mixture = ESTIMATORS[which](n_components, random_state=0)
    quiet_fit(mixture, X[:WARM_UP_ROWS])
    reset_peak()
    before = peak()
    quiet_fit(mixture, X)
    print(peak() - before)


def print_gradient_growth(mode, n_samples, n_features, n_components):
    """What a child process does for a gradient."""
    X = clusters(n_samples, n_features, n_components, separation=6.0)
    mixture = DifferentiableGaussianMixture(
        n_components,
        acceleration=None,
        max_iter=N_STEPS,
        tol=0.0,
        residual_tol=0.0,
        random_state=0,
    )
    few = X[:WARM_UP_ROWS]
    cotangent = tuple(quiet_fit(mixture, few).parameters_)
    quiet_gradient(mixture, few, cotangent, mode)
    quiet_fit(mixture, X)
    reset_peak()
    before = peak()
    gradient = quiet_gradient(mixture, X, cotangent, mode)
    print(peak() - before - gradient.nbytes / 1e6)


def quiet_gradient(mixture, X, cotangent, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.gradient_wrt_data(X, cotangent, mode=mode)


def growth_meter(which, shape):
    command = [sys.executable, __file__, which, *map(str, shape)]

    def measure():
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return measure


def of_fits(repeats):
    table = Table(
        case="<28s", ours_MB="8.1f", peer_MB="8.1f", ratio="6.1f", at_most_MB="10.0f", verdict="<7s"
    )
    for *shape, most in CASES:
        meters = [growth_meter(which, shape) for which in ESTIMATORS]
        ours, peer = medians(*meters, repeats=repeats)
        told = verdict(ours, most, at_most=True)
        table.row("n={} d={} K={}".format(*shape), ours, peer, peer / ours, most, told)


def of_gradients(repeats):
    table = Table(
        case="<40s", ours_MB="8.1f", of_graph_MB="11.0f", at_most_MB="10.0f", verdict="<7s"
    )
    for *shape, most in GRADIENT_CASES:
        graph = 8e-6 * shape[0] * shape[2] * N_STEPS
        for mode in MODES:
            (ours,) = medians(growth_meter(mode, shape), repeats=repeats)
            case = "n={} d={} K={} T={} {}".format(*shape, N_STEPS, mode)
            table.row(case, ours, graph, most, verdict(ours, most, at_most=True))


def main():
    repeats = 1 if arguments(__doc__).quick else 3
    if not sys.platform.startswith("linux"):
        sys.exit("bench_memory.py reads the peak from /proc, which only Linux has.")
    heading()
    of_fits(repeats)
    print()
    of_gradients(repeats)


if __name__ == "__main__":
    which = sys.argv[1] if len(sys.argv) > 1 else ""
    if which in ESTIMATORS:
        print_fit_growth(which, *map(int, sys.argv[2:]))
    elif which in MODES:
        print_gradient_growth(which, *map(int, sys.argv[2:]))
    else:
        main()
