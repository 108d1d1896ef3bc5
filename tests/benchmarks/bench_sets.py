"""Many small mixtures in one call, against loops over scikit-learn's estimator and over ours.

    python tests/benchmarks/bench_sets.py [--quick]

All make the same steps from the same starts. Loops are timed on some of the sets, and taken for as
many times as long as there are more.
"""

import time
import warnings

import numpy as np
from _report import Table, arguments, heading, medians, quiet_fit, verdict
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture, fit_mixtures

N_SETS, N_SAMPLES, N_STEPS, K, D = 10_000, 200, 20, 3, 2
OVER_PEER, OVER_LOOP, OF_GRADIENT, OF_RAGGED = 50.0, 5.0, 3.0, 1.5


def problem(n_sets, sizes, seed=0):
    """Rows of all sets, offsets, and starts: weights, means, covariances."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    centers = 3.0 * rng.normal(size=(n_sets, K, D))
    X = rng.normal(size=(offsets[-1], D))
    X += centers[np.repeat(np.arange(n_sets), sizes), rng.integers(K, size=len(X))]
    means = X[offsets[:-1, None] + np.arange(K)]
    covariances = np.broadcast_to(4.0 * np.eye(D), (n_sets, K, D, D)).copy()
    return X, offsets, (np.full((n_sets, K), 1.0 / K), means, covariances)


def timer(task):
    """A function that measures seconds."""

    def measure():
        begin = time.perf_counter()
        task()
        return time.perf_counter() - begin

    return measure


def loop(kind, X, offsets, starts, n_sets, **options):
    """Fit some sets one by one."""

    def task():
        for s in range(n_sets):
            weights, means, covariances = (part[s] for part in starts)
            mixture = kind(
                K,
                weights_init=weights,
                means_init=means,
                precisions_init=np.linalg.inv(covariances),
                max_iter=N_STEPS,
                tol=0.0,
                **options,
            )
            quiet_fit(mixture, X[offsets[s] : offsets[s + 1]])

    return task


def main():
    quick = arguments(__doc__).quick
    n_sets, repeats = (N_SETS // 10, 1) if quick else (N_SETS, 3)
    heading()
    X, offsets, starts = problem(n_sets, np.full(n_sets, N_SAMPLES))
    sizes = np.random.default_rng(0).integers(20, 2001, size=n_sets // 5)
    equal, ragged = Sets(X, offsets, starts), Sets(*problem(len(sizes), sizes))
    some = n_sets // 100
    slow = X, offsets, starts, some
    tasks = [
        equal.fit,
        equal.fit_and_differentiate,
        ragged.fit,
        loop(GaussianMixture, *slow),
        loop(DifferentiableGaussianMixture, *slow, acceleration=None),
    ]
    equal.fit_and_differentiate()
    ours, gradients, uneven, peer, own = medians(*map(timer, tasks), repeats=repeats)
    uneven *= len(X) / sizes.sum()
    peer, own = (seconds * n_sets / some for seconds in (peer, own))
    table = Table(what="<44s", seconds="9.2f", ratio="8.1f", target="8.1f", verdict="<8s")
    title = f"{n_sets} sets of {N_SAMPLES} x {D}, K={K}, {N_STEPS} steps"
    table.row(title, ours, None, None, "")
    for what, seconds, ratio, target, at_most in (
        ("loop over scikit-learn", peer, peer / ours, OVER_PEER, False),
        ("loop over our estimator", own, own / ours, OVER_LOOP, False),
        ("with one_step gradients", gradients, gradients / ours, OF_GRADIENT, True),
        ("as many rows in sets of 20 ... 2000", uneven, uneven / ours, OF_RAGGED, True),
    ):
        table.row(what, seconds, ratio, target, verdict(ratio, target, at_most=at_most))


class Sets:
    """Fits of so many steps, which are not to converge."""

    def __init__(self, X, offsets, starts):
        self._X, self._options = X, {"offsets": offsets, "initial": starts}
        self._options |= {"max_iter": N_STEPS, "tol": 0.0, "residual_tol": 0.0}

    def fit(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return fit_mixtures(self._X, **self._options)

    def fit_and_differentiate(self):
        fits = self.fit()
        fits.vjp((None, np.ones_like(fits.means), None), mode="one_step")


if __name__ == "__main__":
    main()
