"""Passes over the data, and time, to a residual of 1e-8, with and without acceleration.

    python tests/benchmarks/bench_acceleration.py [--quick]

Three overlapping clouds, from random rows with the data's variances. A pass is an EM step, a
refused move, or a product with the derivative of a step; it says how much each option takes, and
the time says what a pass is worth. scikit-learn has no rule for the residual: it makes the steps
that plain EM needed. Then clusters so far apart that EM is done in less than 20 steps, where
acceleration must not cost anything. Then random problems of all covariance types: passes to the
default tolerances, and how often another maximum is found, higher or lower than that of plain EM.
Last, how far the first passes of incremental EM get, on larger data.
"""

import time

import numpy as np
from _report import PAUSE, Table, arguments, clusters, heading, medians, quiet_fit, verdict
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture

# n, d, K, std, seed; least ratio of passes; least ratio of times to scikit-learn's
CASES = [
    ((500, 2, 3, 1.5, 1), 3.5, None),
    ((2000, 3, 5, 3.0, 2), 5.0, None),
    ((5000, 2, 6, 2.5, 3), 20.0, 100.0),
]
EASY = [(500, 2, 3), (5000, 2, 6), (100_000, 3, 5)]
OPTIONS = [None, "anderson", "newton", "lbfgs"]
LARGE = [(100_000, 3, 10, 1.0, 0), (100_000, 3, 10, 2.5, 1), (100_000, 8, 20, 3.0, 2)]
FIRST = 3, 5, 10
LARGEST_OVERHEAD = 1.05
N_PROBLEMS, SAME = 160, 1e-5  # of a mean log-likelihood
TO_THE_END = {"tol": 1.0, "residual_tol": 1e-8, "max_iter": 20_000}


def start(X, n_components):
    rows = np.random.default_rng(0).choice(len(X), n_components, replace=False)
    return {
        "weights_init": np.full(n_components, 1.0 / n_components),
        "means_init": X[rows],
        "precisions_init": np.array([np.diag(1.0 / X.var(axis=0))] * n_components),
    }


def timer(estimator, X, repeats=1):
    """A function that measures the seconds of one fit, the mean of some in a row."""

    def measure():
        time.sleep(PAUSE)
        begin = time.perf_counter()
        for _ in range(repeats):
            quiet_fit(estimator, X)
        return (time.perf_counter() - begin) / repeats

    return measure


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<30s",
        acceleration="<12s",
        passes="7d",
        fewer="7.1f",
        target="6.1f",
        verdict="<7s",
        likelihood="14.9f",
        ms="8.1f",
        faster="7.1f",
        peer_ratio="10.1f",
        peer_target="11.0f",
        peer_verdict="<12s",
    )
    for case, least_fewer, least_faster in CASES:
        n, d, K, std, seed = case
        X, _ = make_blobs(n, d, centers=K, cluster_std=std, random_state=seed)
        ours = [
            DifferentiableGaussianMixture(K, acceleration=a, **start(X, K), **TO_THE_END)
            for a in OPTIONS
        ]
        for estimator in ours:
            estimator.fit(X)
        plain = ours[0]
        peer = GaussianMixture(K, tol=0.0, max_iter=plain.n_iter_, **start(X, K))
        timers = [timer(estimator, X) for estimator in ours]
        times = medians(*timers, repeats=3 if quick else 7)
        peer_time = medians(timer(peer, X), repeats=1 if quick else 3)[0]
        for option, estimator, seconds in zip(OPTIONS, ours, times, strict=True):
            fewer = plain.n_evaluations_ / estimator.n_evaluations_
            target = None if option is None else least_fewer
            peer_target = None if option is None else least_faster
            table.row(
                f"n={n} d={d} K={K}",
                str(option),
                estimator.n_evaluations_,
                fewer,
                target,
                verdict(fewer, target),
                estimator.score(X),
                1e3 * seconds,
                times[0] / seconds,
                peer_time / seconds,
                peer_target,
                verdict(peer_time / seconds, peer_target),
            )
    print("\nclusters far apart: EM done in less than 20 steps, time over that of plain EM")
    table = Table(case="<30s", acceleration="<12s", steps="5d", ratio="7.3f", verdict="<7s")
    for n, d, K in EASY:
        X = clusters(n, d, K, 3.0)
        ours = [
            DifferentiableGaussianMixture(K, acceleration=a, random_state=0, **TO_THE_END)
            for a in OPTIONS
        ]
        truth = ours[0].fit(X)
        given = {
            "weights_init": truth.weights_,
            "means_init": truth.means_ + 0.3,
            "precisions_init": truth.precisions_,
        }
        for estimator in ours:
            quiet_fit(estimator.set_params(**given), X)
        repeats = max(1, 200_000 // n)
        times = medians(*(timer(e, X, repeats) for e in ours), repeats=5 if quick else 15)
        for option, estimator, seconds in zip(OPTIONS[1:], ours[1:], times[1:], strict=True):
            ratio = seconds / times[0]
            outcome = verdict(ratio, LARGEST_OVERHEAD, at_most=True)
            table.row(f"n={n} d={d} K={K}", option, estimator.n_iter_, ratio, outcome)
    print_random_problems(20 if quick else N_PROBLEMS)
    print_first_passes()


def random_problems(n_problems):
    """Samples, number of components and options of clouds that overlap more or less."""
    rng = np.random.default_rng(0)
    for number in range(n_problems):
        d, K, n = (int(rng.integers(*limits)) for limits in ((1, 6), (2, 9), (300, 4000)))
        std = rng.uniform(1.0, 4.0)
        X, _ = make_blobs(n, d, centers=K, cluster_std=std, random_state=number)
        options = {
            "covariance_type": ("full", "full", "diag", "tied", "spherical")[number % 5],
            "init_params": ("kmeans", "random_from_data")[number % 2],
        }
        yield X, K, options


def print_random_problems(n_problems):
    print(f"\n{n_problems} random problems: geometric mean and most of the passes, maxima found")
    table = Table(acceleration="<12s", passes="7.1f", most="5d", higher="6d", lower="6d")
    passes, bounds = {}, {}
    for option in [*OPTIONS, "auto", "incremental"]:
        fits = [
            quiet_fit(
                DifferentiableGaussianMixture(
                    K, acceleration=option, max_iter=4000, random_state=0, **options
                ),
                X,
            )
            for X, K, options in random_problems(n_problems)
        ]
        passes[option] = [fit.n_evaluations_ for fit in fits]
        bounds[option] = np.array([fit.lower_bound_ for fit in fits])
        gains = bounds[option] - bounds[None]
        mean = float(np.exp(np.log(passes[option]).mean()))
        higher, lower = int((gains > SAME).sum()), int((gains < -SAME).sum())
        table.row(str(option), mean, max(passes[option]), higher, lower)


def print_first_passes():
    print("\nfirst passes: what the likelihood lacks to the highest that was found, in nats")
    columns = {f"after {n} passes": "9.6f" for n in FIRST}
    table = Table(case="<30s", acceleration="<12s", passes="7d", **columns)
    for case in LARGE:
        n, d, K, std, seed = case
        X, _ = make_blobs(n, d, centers=K, cluster_std=std, random_state=seed)
        fits = {}
        for option in (None, "lbfgs", "incremental"):
            mixture = DifferentiableGaussianMixture(
                K, acceleration=option, init_params="random_from_data", random_state=0
            )
            mixture.set_params(max_iter=4000)
            passes = quiet_fit(mixture, X).n_evaluations_
            bounds = [mixture.score(X)]
            for n_passes in FIRST:
                bounds.append(quiet_fit(mixture.set_params(max_iter=n_passes), X).score(X))
            fits[option] = passes, bounds
        best = max(bounds[0] for _, bounds in fits.values())
        for option, (passes, bounds) in fits.items():
            gaps = [best - bound for bound in bounds[1:]]
            table.row(f"n={n} d={d} K={K}", str(option), passes, *gaps)


if __name__ == "__main__":
    main()
