"""EM steps and gradients on a CUDA device, against what the device can do, the CPU and peers.

    python tests/benchmarks/bench_gpu.py [--quick] [--out gpu.txt]

First runs the tests of arrays on a device there, then measures, medians in one process. A step and
gradients are of `EMMap` and of the estimator, with everything that stays on the host. ``floor`` is
the least time that the measured rates of the device allow a step: the larger of reading the samples
once, and of one exponential for each sample and component and one multiply-add for each feature,
component and sample in logits and in sums. ``MiB`` is the device memory that a step and a gradient
take beyond the data, the gradient itself not counted. Our CPU engine and scikit-learn's run on a
part of large data, and their times are scaled. Without a device nothing is measured, and it says
so.
"""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # of the peer, before SciPy is imported

import argparse
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from functools import partial

import numpy as np
import sklearn
from _report import Table, clusters, heading, quiet_fit
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture
from skgmmot.em.em_map import EMMap
from skgmmot.families import FAMILIES
from skgmmot.numerics.threads import effective_n_threads
from skgmmot.samples import device_arrays, samples_of

CASES = [  # covariance type, n, d, K, at most so many milliseconds a step
    ("full", 10_000_000, 3, 10, 1.0),
    ("full", 2_000_000, 64, 32, 20.0),
    ("full", 1_000_000, 2, 5, None),
    ("full", 1_000_000, 16, 10, None),
    ("full", 1_000_000, 30, 30, None),
    ("full", 200_000, 256, 8, None),
    ("tied", 1_000_000, 30, 30, None),
    ("diag", 1_000_000, 30, 30, None),
    ("spherical", 1_000_000, 30, 30, None),
    ("full", 100_000, 3, 10, None),
    ("full", 1000, 3, 4, None),
]
MODES = "one_step", "implicit", "unrolled"
MOST_OF_ONE_STEP, MOST_MIB = 3.0, 64.0  # steps, and beyond the data
N_STEPS = 10  # of fits whose gradients are taken
PART = 200_000  # rows for the engines that are scaled


class Tee:
    """Prints to a console and to a file."""

    def __init__(self, *files):
        self._files = files

    def write(self, text):
        for file in self._files:
            file.write(text)

    def flush(self):
        for file in self._files:
            file.flush()


def median_time(cupy, call, repeats):
    """Seconds of a call, with all that it has left the device to do."""
    times = []
    for _ in range(repeats + 1):
        cupy.cuda.Device().synchronize()
        begin = time.perf_counter()
        call()
        cupy.cuda.Device().synchronize()
        times.append(time.perf_counter() - begin)
    return float(np.median(times[1:]))


def rates(cupy):
    """Bytes copied, exponentials and multiply-adds, a second."""
    size = 2**27
    source, target = cupy.ones(size), cupy.empty(size)
    copying = median_time(cupy, partial(cupy.copyto, target, source), 9)
    del source, target
    repeated = cupy.ElementwiseKernel(
        "float64 x", "float64 y", "y = x; for (int i = 0; i < 64; i++) y = exp(-y);", "many_exp"
    )
    x = cupy.ones(2**24)
    exponentials = median_time(cupy, lambda: repeated(x), 9)
    order = 8192
    matrix, out = cupy.full((order, order), 0.5), cupy.empty((order, order))
    product = median_time(cupy, lambda: cupy.matmul(matrix, matrix, out=out), 9)
    return 2 * 8 * size / copying, 64 * x.size / exponentials, order**3 / product


@contextmanager
def peak_memory(cupy):
    """A list that has the bytes which the pool of the device grew by, in the end."""
    pool, found = cupy.get_default_memory_pool(), []
    pool.free_all_blocks()
    before = pool.total_bytes()
    yield found
    found.append(pool.total_bytes() - before)


class Problem:
    """Samples, a start, and an estimator that makes some plain steps from it."""

    def __init__(self, cupy, kind, n, d, K):
        self.part = clusters(min(n, PART), d, K, separation=1.0)
        rows = cupy.asarray(self.part)
        copies = -(-n // len(self.part))
        self.X = cupy.concatenate([rows] * copies)[:n] if copies > 1 else rows
        self.kind, self.K, self.scale = kind, K, n / len(self.part)
        start = GaussianMixture(K, covariance_type=kind, max_iter=2, random_state=0)
        self.start = quiet_fit(start, self.part[:20_000])
        self.mixture = DifferentiableGaussianMixture(
            K, covariance_type=kind, acceleration=None, max_iter=N_STEPS, tol=0, residual_tol=0,
            weights_init=self.start.weights_, means_init=self.start.means_,
            precisions_init=self.start.precisions_,
        )  # fmt: skip
        self.theta = DifferentiableGaussianMixture.from_mixture(self.start).parameters_

    def map_of(self, X):
        samples = samples_of(X, None, effective_n_threads())
        return EMMap.of(samples, self.kind, reg_covar=1e-6)


def of_torch(problem, repeats):
    """Seconds of a step as one would write it in PyTorch, on the device; None: full ones only."""
    import torch
    from bench_gradients import torch_fit

    if problem.kind != "full":
        return None
    X = torch.from_dlpack(problem.X)
    theta = [torch.tensor(part, device=X.device) for part in problem.theta]

    def step():
        torch_fit(X, *theta, 1, 1e-6)
        torch.cuda.synchronize()

    try:
        step()
        times = []
        for _ in range(repeats):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
    finally:
        torch.cuda.empty_cache()  # for who comes next
    return float(np.median(times))


def of_sklearn(cupy, problem, repeats):
    """Seconds of a step of scikit-learn's array API on the device, of the rows of the part."""
    X = cupy.asarray(problem.part)
    start = {
        name: cupy.asarray(getattr(problem.start, name[:-5] + "_"))
        for name in ("weights_init", "means_init", "precisions_init")
    }

    def fit(max_iter):
        own = GaussianMixture(problem.K, covariance_type=problem.kind, tol=0.0, **start)
        own.set_params(max_iter=max_iter, init_params="random")
        with sklearn.config_context(array_api_dispatch=True):
            return quiet_fit(own, X)

    one, more = (median_time(cupy, lambda T=T: fit(T), repeats) for T in (1, 4))
    return (more - one) / 3 * problem.scale


def attempt(call, *args):
    """What it returns, or None and a line that says why not."""
    try:
        return call(*args)
    except Exception as error:  # a peer that is not there, or has not enough memory
        print(f"    {call.__name__}: {type(error).__name__}: {str(error)[:200]}")
        return None


def measure(cupy, case, capability, repeats):
    """A row of the first table, and one of the second."""
    kind, n, d, K, most = case
    problem = Problem(cupy, kind, n, d, K)
    em_map = problem.map_of(problem.X)
    em_map.step(problem.theta)  # compiles, and looks at the data
    with peak_memory(cupy) as taken:
        step = median_time(cupy, lambda: em_map.step(problem.theta), repeats)
    bytes_rate, exp_rate, product_rate = capability
    products = 2 * n * K * FAMILIES[kind].features(d).size
    floor = max(8 * n * d / bytes_rate, n * K / exp_rate + products / product_rate)

    host = problem.map_of(problem.part)
    host.step(problem.theta)
    begin = time.perf_counter()
    host.step(problem.theta)
    cpu = (time.perf_counter() - begin) * problem.scale

    rng = np.random.default_rng(1)
    cotangent = tuple(rng.normal(size=part.shape) for part in problem.theta)
    quiet_fit(problem.mixture, problem.X)
    gradients, beyond = [], list(taken)
    for mode in MODES:

        def gradient(mode=mode):
            with warnings.catch_warnings():  # a few steps do not reach a fixed point
                warnings.simplefilter("ignore", ConvergenceWarning)
                return problem.mixture.gradient_wrt_data(problem.X, cotangent, mode=mode, tol=1e-3)

        with peak_memory(cupy) as taken:
            gradients.append(attempt(median_time, cupy, gradient, max(2, repeats // 3)))
        beyond.append(taken[0] - 8 * n * d)
    peers = attempt(of_torch, problem, repeats), attempt(of_sklearn, cupy, problem, 2)
    name = f"{kind} n={n} d={d} K={K}"
    first = (name, 1e3 * step, most, 1e3 * floor, floor / step, cpu / step)
    first += tuple(None if peer is None else peer / step for peer in peers)
    by_step = (None if seconds is None else seconds / step for seconds in gradients)
    return first, (name, *by_step, max(beyond) / 2**20)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    parser.add_argument("--out", default="gpu.txt", help="where to write what is printed")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    options = parser.parse_args()
    try:
        cupy = device_arrays.cupy()
    except (ImportError, RuntimeError) as error:
        sys.exit(f"Nothing was measured. {error}")
    with open(options.out, "w") as file:
        sys.stdout = Tee(sys.__stdout__, file)
        try:
            report(cupy, options)
        finally:
            sys.stdout = sys.__stdout__


def report(cupy, options):
    heading()
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    print(f"CuPy {cupy.__version__}, {name}")
    if not options.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "--on-device", "tests"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print("tests on the device:", done.stdout.strip().rpartition("\n")[2])
        if done.returncode:
            print(done.stdout[-4000:])
    capability = rates(cupy)
    copied, exponentials, products = capability
    print(f"copies {copied / 1e9:.0f} GB/s, {exponentials / 1e9:.0f} G exponentials/s")
    print(f"products of matrices: {products / 1e12:.1f} T multiply-adds/s")
    found = [measure(cupy, case, capability, 5 if options.quick else 21) for case in CASES]
    print("\nA step, and how many times as long others take:")
    table = Table(
        case="<36s", ms="8.3f", at_most="7.1f", floor="8.3f", floor_by_ms="11.2f", cpu="8.1f",
        pytorch="8.1f", sklearn="8.1f",
    )  # fmt: skip
    for first, _ in found:
        table.row(*first)
    print(
        f"\nGradients of a fit of {N_STEPS} steps, in steps (one_step: at most "
        f"{MOST_OF_ONE_STEP:g}), and memory (at most {MOST_MIB:g} MiB):"
    )
    table = Table(case="<36s", one_step="8.1f", implicit="8.1f", unrolled="8.1f", MiB="8.1f")
    for _, second in found:
        table.row(*second)


if __name__ == "__main__":
    main()
