"""Time of an EM step of many components, against all of them evaluated everywhere.

    python tests/benchmarks/bench_pruning.py [--quick]

Each mixture is what some EM steps make of random rows. Both times are of the passes over the
samples, taken in turn with the same threads; the share is that of pairs of blocks and components
that are evaluated. Where nothing is left out, the ratio is the price of having looked.
"""

import time
from dataclasses import replace

import numpy as np
from _report import Table, arguments, heading, medians, verdict
from sklearn.datasets import load_sample_image

from skgmmot.em.em_map import EMMap
from skgmmot.numerics.threads import effective_n_threads
from skgmmot.parameters import MixtureParameters
from skgmmot.samples.cpu import CpuSamples

N = 100_000
N_STEPS = 5
LARGE = (1_000_000, 10_000, 20, 60.0)  # samples, components, steps, seconds at most


def sphere(rng, n):
    X = rng.normal(size=(n, 3))
    return X / np.linalg.norm(X, axis=1, keepdims=True) + 0.01 * rng.normal(size=(n, 3))


def sheet(rng, n):
    X = rng.uniform(size=(n, 3))
    X[:, 2] = 0.1 * np.sin(5 * X[:, 0]) * np.cos(4 * X[:, 1]) + 0.005 * rng.normal(size=n)
    return X


def photo(rng, n):
    return load_sample_image("china.jpg").reshape(-1, 3) / 255.0


CASES = [  # name, samples, K, least ratio
    ("sphere", sphere, 1000, 10.0),
    ("wavy sheet", sheet, 1000, None),
    ("plane", lambda rng, n: rng.uniform(size=(n, 2)), 1000, 12.0),
    ("volume", lambda rng, n: rng.uniform(size=(n, 3)), 1000, 3.5),
    ("colors of a photograph", photo, 256, 3.5),
]
OFF = [("overlap", 8, 64, 0.98), ("few components", 3, 10, 0.98)]  # name, d, K, least ratio


def start(rng, X, n_components):
    """Random rows, with covariances that would fill the extent."""
    d = X.shape[1]
    means = X[rng.choice(len(X), n_components, replace=False)]
    covariance = X.var(axis=0).mean() / n_components ** (2 / d) * np.eye(d)
    covariances = np.broadcast_to(covariance, (n_components, d, d)).copy()
    weights = np.full(n_components, 1 / n_components)
    return MixtureParameters(weights, means, covariances, "full")


def em_map_of(X):
    return EMMap.on(X, covariance_type="full", reg_covar=1e-6, n_threads=effective_n_threads())


def all_components(X):
    """Samples that leave nothing out."""
    samples = CpuSamples(X, None, effective_n_threads())
    samples._pruning.selection = lambda logits, **options: samples._pruning.dense
    return samples


def step_timer(samples, logits, n_passes):
    """A function that measures the seconds of one pass."""
    samples.statistics(logits)

    def measure():
        begin = time.perf_counter()
        for _ in range(n_passes):
            samples.statistics(logits)
        return (time.perf_counter() - begin) / n_passes

    return measure


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<24s",
        pruned_ms="9.2f",
        all_ms="9.2f",
        ratio="6.2f",
        share="6.1%",
        target="6.2f",
        verdict="<7s",
    )

    def compare(case, X, logits, target):
        samples = CpuSamples(X, None, effective_n_threads())
        n_passes = max(1, 20_000_000 // (len(X) * logits.n_components))
        timers = [step_timer(own, logits, n_passes) for own in (samples, all_components(X))]
        ours, dense = medians(*timers, repeats=3 if quick else 9)
        share, ratio = samples._certain(logits).share, dense / ours
        table.row(case, ours * 1e3, dense * 1e3, ratio, share, target, verdict(ratio, target))

    for name, make, n_components, target in CASES:
        rng = np.random.default_rng(0)
        X = make(rng, N)
        em_map, theta = em_map_of(X), start(rng, X, n_components)
        for _ in range(N_STEPS):
            theta = em_map.step(theta).parameters
        compare(f"{name} K={n_components}", X, em_map.logits(theta), target)
    for name, d, n_components, target in OFF:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(N, d))
        theta = start(rng, X, n_components)
        theta = replace(theta, covariances=100 * theta.covariances)
        compare(f"{name} K={n_components}", X, em_map_of(X).logits(theta), target)

    n_samples, n_components, n_steps, limit = LARGE
    if quick:
        return
    rng = np.random.default_rng(0)
    X = sphere(rng, n_samples)
    em_map, theta = em_map_of(X), start(rng, X, n_components)
    begin = time.perf_counter()
    for _ in range(n_steps):
        theta = em_map.step(theta).parameters
    seconds = time.perf_counter() - begin
    print(
        f"\n{n_steps} steps, {n_samples} samples of a sphere, {n_components} components: "
        f"{seconds:.1f} s, at most {limit:.0f} s: {verdict(seconds, limit, at_most=True)}"
    )


if __name__ == "__main__":
    main()
