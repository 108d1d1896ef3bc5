"""Random mixtures of arrays on a device that must be those of the host.

    python tests/stress/stress_device.py [--seconds S] [--first SEED]

What stands in for CuPy (`tests/cuda_on_host`) takes the place of a device. Mixtures of all
covariance types and accelerations, of data with offsets, copies, constant columns and rows without
weight, are fitted on both sides, and asked for log densities, responsibilities and gradients. What
differs by more than the dtype allows is printed; the exit code is 1 then. Look at what is printed:
it is no failure of either side that log densities differ under covariances of condition 1e12, that
one of them refuses a covariance which is singular but for rounding, or that rounding grows in
accelerated steps.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from cuda_on_host import cupy

from skgmmot import DifferentiableGaussianMixture

TOLERANCE = {"float64": 1e-6, "float32": 2e-3}
NAMES = "weights", "means", "covariances", "log densities", "responsibilities", "gradient"


def random_problem(seed):
    """Options of a fit, its data, and their weights or None."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 600)), int(rng.choice([1, 2, 3, 5, 8, 13, 20, 34]))
    X = rng.normal(size=(n, d)) + rng.integers(0, 4, (n, 1)) * rng.choice([0.5, 3.0, 30.0])
    X += rng.choice([0.0, 1.0, 1e3, 1e6])
    if rng.random() < 0.15:
        X[:, 0] = X[0, 0]
    if rng.random() < 0.1:
        X[: n // 2] = X[0]
    n_components = int(rng.integers(1, min(n, 12) + 1))
    weight = rng.uniform(0, 2, n) * (rng.random(n) < 0.8)
    if rng.random() < 0.5 or np.count_nonzero(weight) < max(2, n_components):
        weight = None
    options = {
        "n_components": n_components,
        "covariance_type": str(rng.choice(["full", "tied", "diag", "spherical"])),
        "acceleration": [None, "auto", "incremental", "lbfgs"][rng.integers(4)],
        "temperature": float(rng.choice([1.0, 1.0, 0.5, 3.0])),
        "reg_covar": float(rng.choice([0.0, 1e-6])),
        "max_iter": int(rng.integers(1, 25)),
        "random_state": 0,
    }
    X *= 10.0 ** rng.integers(-3, 4)
    return options, X.astype(rng.choice(["float32", "float64"])), weight


def answers(module, options, X, weight):
    """What a mixture on one side finds and says, or the kind of its error."""
    X = module.asarray(X)
    weight = None if weight is None else module.asarray(weight)
    try:
        mixture = DifferentiableGaussianMixture(**options).fit(X, sample_weight=weight)
        cotangent = tuple(map(np.ones_like, mixture.parameters_))
        found = [mixture.score_samples(X), mixture.predict_proba(X)]
        found.append(mixture.gradient_wrt_data(X, cotangent, mode="one_step", sample_weight=weight))
    except (ValueError, RuntimeError) as error:
        return type(error).__name__
    on_host = [own.get() if module is cupy else own for own in found]
    return [*mixture.parameters_, *on_host]


def difference(host, device, tolerance):
    """What is not the same, or None."""
    if isinstance(host, str) or isinstance(device, str):
        kinds = [own if isinstance(own, str) else "no error" for own in (host, device)]
        return None if kinds[0] == kinds[1] else f"{kinds[0]} on the host, {kinds[1]} on the device"
    for name, own, other in zip(NAMES, host, device, strict=True):
        error = np.abs(own - other).max() / max(np.abs(own).max(), 1e-300)
        if not error < tolerance:
            return f"{name} by {error:.1e}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    sys.modules["cupy"] = cupy
    begin, seed, n_bad = time.perf_counter(), options.first, 0
    while time.perf_counter() - begin < options.seconds:
        problem = random_problem(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits that are cut short
            host, device = (answers(module, *problem) for module in (np, cupy))
        told = difference(host, device, TOLERANCE[problem[1].dtype.name])
        if told:
            n_bad += 1
            print(f"{seed}: {told}; {problem[1].shape}, {problem[0]}", flush=True)
        seed += 1
    print(f"{seed - options.first} problems, {n_bad} differ")
    sys.exit(n_bad > 0)


if __name__ == "__main__":
    main()
