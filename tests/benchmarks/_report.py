"""What the benchmarks share: data, times taken in turn, and a table."""

import argparse
import os
import time
import warnings

import numpy as np
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import skgmmot
from skgmmot import DifferentiableGaussianMixture
from skgmmot.numerics.threads import effective_n_threads

PAUSE = 0.05  # seconds; BLAS threads spin for a while after their work
PATIENCE = 20.0
MOST_STEPS = 2000


def arguments(description):
    """The command line: ``--quick`` asks for few repetitions."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions")
    return parser.parse_args()


def heading():
    """Versions, threads, and how busy the machine is: times taken beside other work mislead."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(
        f"skgmmot {skgmmot.__version__}, scikit-learn {sklearn.__version__}, "
        f"NumPy {np.__version__}, {effective_n_threads()} threads{load}"
    )


def clusters(n_samples, n_features, n_components, separation, seed=0):
    """Samples of Gaussian clusters with standard deviations between 0.5 and 1.

    The two closest means are ``separation`` times the square root of n_features apart: about 1
    is overlap, 6 is well separated.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(n_components, n_features))
    distances = np.linalg.norm(means[:, None] - means, axis=2)
    closest = distances[np.triu_indices(n_components, 1)].min()
    means *= separation * np.sqrt(n_features) / closest
    labels = rng.choice(n_components, size=n_samples, p=rng.dirichlet(np.full(n_components, 20.0)))
    X = rng.normal(size=(n_samples, n_features))
    for k in range(n_components):
        axes, _ = np.linalg.qr(rng.normal(size=(n_features, n_features)))
        root = axes * rng.uniform(0.5, 1.0, size=n_features)
        X[labels == k] = X[labels == k] @ root.T + means[k]
    return X


def quiet_fit(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X)


def ours_and_peer(X, n_components, covariance_type="full"):
    """Both estimators with one start, and with stopping rules that are never met.

    The start is the peer's solution after two steps on some rows, so that no initialization runs.
    """
    peer = GaussianMixture(n_components, covariance_type=covariance_type, tol=0.0, random_state=0)
    start = quiet_fit(clone(peer).set_params(max_iter=2), X[:20_000])
    peer.set_params(
        weights_init=start.weights_, means_init=start.means_, precisions_init=start.precisions_
    )
    ours = DifferentiableGaussianMixture(residual_tol=0.0, acceleration=None)
    ours.set_params(**peer.get_params())
    return ours, peer


def fit_time(estimator, X, **params):
    """Seconds of one fit."""
    estimator.set_params(**params)
    time.sleep(PAUSE)
    begin = time.perf_counter()
    quiet_fit(estimator, X)
    return time.perf_counter() - begin


def step_timer(estimator, X, budget):
    """A function that measures the seconds of one EM step.

    It takes the difference of a fit of 1 + T steps and a fit of one step, over T. T grows until
    the long fit takes the budget in seconds.
    """
    fit_time(estimator, X, max_iter=1)  # compiles
    n_steps = 2
    while n_steps < MOST_STEPS and fit_time(estimator, X, max_iter=1 + n_steps) < budget:
        n_steps *= 2

    def measure():
        one = fit_time(estimator, X, max_iter=1)
        return (fit_time(estimator, X, max_iter=1 + n_steps) - one) / n_steps

    return measure


def medians(*timers, repeats):
    """Median of what each timer measures; they take turns.

    Beyond three rounds no new one begins after PATIENCE seconds.
    """
    begin, rounds = time.perf_counter(), []
    while len(rounds) < repeats:
        rounds.append([timer() for timer in timers])
        if len(rounds) >= 3 and time.perf_counter() - begin > PATIENCE:
            break
    return np.median(rounds, axis=0)


def verdict(value, target, *, at_most=False):
    if target is None:
        return ""
    return "ok" if (value <= target if at_most else value >= target) else "SHORT"


class Table:
    """Prints a line at a time.

    Parameters
    ----------
    **columns : str
        The heading of each column and the format of its values, a width first: ``"9.2f"``.
        Underscores in headings become spaces. None is printed as a blank.
    """

    def __init__(self, **columns):
        self.formats = list(columns.values())
        self.widths = [int(f.lstrip("<").partition(".")[0].rstrip("sdf%")) for f in self.formats]
        self._print(
            name.replace("_", " ").rjust(w) if not f.startswith("<") else name.ljust(w)
            for (name, f), w in zip(columns.items(), self.widths, strict=True)
        )

    def row(self, *values):
        self._print(
            " " * width if value is None else format(value, form)
            for value, form, width in zip(values, self.formats, self.widths, strict=True)
        )

    @staticmethod
    def _print(cells):
        print("  ".join(cells).rstrip(), flush=True)
