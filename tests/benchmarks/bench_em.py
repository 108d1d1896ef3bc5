"""Time of an EM step against scikit-learn, medians in one process.

    python tests/benchmarks/bench_em.py [--quick]

A step is the difference of a long and a short fit from the same start, over the steps between:
validation and the last pass over the data, which both have, are not in it. The peer's long fit of
large data has few steps, so a busy machine can make its figure far too high or too low.

The last column is the share of the rate of products of matrices, measured before each case, that a
step of ours has: of one multiply-add for each feature, component and sample in logits and in sums.
"""

import time
from dataclasses import replace

import numpy as np
from _report import (
    Table,
    arguments,
    clusters,
    heading,
    medians,
    ours_and_peer,
    quiet_fit,
    step_timer,
    verdict,
)
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skgmmot.em.em_map import EMMap
from skgmmot.families import FAMILIES
from skgmmot.numerics.threads import effective_n_threads

CASES = [  # covariance type, n, d, K, least ratio
    ("full", 100_000, 2, 3, 30),
    ("full", 100_000, 3, 10, 30),
    ("full", 1_000_000, 2, 5, 45),
    ("full", 100_000, 8, 8, 25),
    ("full", 100_000, 16, 8, 14),
    ("full", 100_000, 30, 30, 12),
    ("full", 20_000, 64, 16, 4),
    ("full", 20_000, 128, 8, 8),
    ("full", 5_000, 256, 8, 5),
    ("full", 3_000, 512, 5, 4),
    ("diag", 20_000, 512, 16, 5),
    ("spherical", 20_000, 512, 16, 5),
    ("diag", 100_000, 30, 30, 12),
    ("spherical", 100_000, 30, 30, 12),
    ("tied", 100_000, 30, 30, 60),
    ("full", 200, 2, 3, 8),
    ("full", 1000, 3, 4, 12),
]
DIGITS = (10, 16, 10)  # K, d after PCA, least ratio
FAR_APART = [("full", 100_000, 2, 3), ("full", 100_000, 8, 8), ("full", 100_000, 30, 30)]

STARVED = [("full", 100_000, 8, 8), ("full", 100_000, 30, 30), ("spherical", 100_000, 30, 30)]
MOST_STARVED = 1.5  # of the time of a step without


def starved_timers(covariance_type, X, n_components):
    """Times of a step where all is well, and where one component has a single sample."""
    em_map = EMMap.on(
        X, covariance_type=covariance_type, reg_covar=1e-6, n_threads=effective_n_threads()
    )
    fit, _ = ours_and_peer(X, n_components, covariance_type)
    well = quiet_fit(fit.set_params(max_iter=5), X).parameters_
    means, covariances = well.means.copy(), well.covariances.copy()
    means[0], covariances[0] = X[0], 1e-12 * covariances[0]
    starved = replace(well, means=means, covariances=covariances)

    def timer(theta):
        em_map.step(theta)

        def measure():
            begin = time.perf_counter()
            for _ in range(5):
                em_map.step(theta)
            return (time.perf_counter() - begin) / 5

        return measure

    return timer(well), timer(starved)


def product_rate(size=1024, repeats=5):
    """Operations a second of the fastest of some products of matrices."""
    matrix, out = np.full((size, size), 0.5), np.empty((size, size))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        np.dot(matrix, matrix, out=out)
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<34s",
        ours_ms="9.3f",
        peer_ms="9.2f",
        ratio="7.1f",
        target="6d",
        verdict="<7s",
        share="6.2f",
    )

    def compare(case, X, n_components, covariance_type, target, repeats=5):
        estimators = ours_and_peer(X, n_components, covariance_type)
        timers = [step_timer(estimator, X, 0.1 if quick else 0.3) for estimator in estimators]
        ours, peer = medians(*timers, repeats=2 if quick else repeats)
        ratio = peer / ours
        work = 4 * len(X) * n_components * FAMILIES[covariance_type].features(X.shape[1]).size
        share = work / ours / product_rate()
        table.row(case, ours * 1e3, peer * 1e3, ratio, target, verdict(ratio, target), share)

    for covariance_type, n_samples, n_features, n_components, target in CASES:
        case = f"{covariance_type} n={n_samples} d={n_features} K={n_components}"
        X = clusters(n_samples, n_features, n_components, separation=1.0)
        compare(case, X, n_components, covariance_type, target)

    n_components, n_features, target = DIGITS
    X = PCA(n_features, random_state=0).fit_transform(load_digits().data)
    compare(f"full digits d={n_features} K={n_components}", X, n_components, "full", target)

    print("clusters 1e6 standard deviations apart, where the slow and accurate way is taken:")
    for covariance_type, n_samples, n_features, n_components in FAR_APART:
        case = f"{covariance_type} n={n_samples} d={n_features} K={n_components}"
        X = clusters(n_samples, n_features, n_components, separation=1e6)
        compare(case, X, n_components, covariance_type, None, repeats=3)

    print(f"one of the components starved, at most {MOST_STARVED} times as long:")
    for covariance_type, n_samples, n_features, n_components in STARVED:
        X = clusters(n_samples, n_features, n_components, separation=1.0)
        timers = starved_timers(covariance_type, X, n_components)
        well, starved = medians(*timers, repeats=3 if quick else 9)
        ratio = starved / well
        told = verdict(ratio, MOST_STARVED, at_most=True)
        print(f"{covariance_type} d={n_features} K={n_components}: {ratio:.2f} {told}")


if __name__ == "__main__":
    main()
