"""Compiles all kernels ahead, as a container or a shared installation wants it.

    python -m skgmmot.warm_up

They are kept where they always are, in ``NUMBA_CACHE_DIR`` for instance (`kernels.compilation`).
"""

import time
import warnings

import numpy as np

from .estimators.mixture import DifferentiableGaussianMixture
from .functions.distance_gradients import pairwise_mixture_wasserstein_vjp
from .functions.fit_mixtures import fit_mixtures
from .kernels.compilation import FOLDERS
from .parameters import COVARIANCE_TYPES


def warm_up():
    """Call every kernel with every kind of array that fits, predictions and gradients bring."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(60, 2)) + 6.0 * rng.integers(2, size=(60, 1))
    # enough components, and rows that lie far enough apart, for lists of them (`samples.pruning`)
    centers = 100.0 * np.argwhere(np.ones((8, 8)))
    many = np.repeat(centers, 1100, axis=0) + rng.normal(size=(64 * 1100, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that end early
        for dtype in (np.float64, np.float32):
            for covariance_type in COVARIANCE_TYPES:
                _use(few.astype(dtype), 2, "implicit", covariance_type=covariance_type)
                _use_sets(few.astype(dtype), covariance_type)
            for e_step in ("softmax", "sinkhorn"):
                _use(few.astype(dtype), 2, "implicit", e_step=e_step)
                options = {"e_step": e_step, "means_init": centers, "max_iter": 1}
                _use(many.astype(dtype), 64, "one_step", **options)
    for d in (2, 4):
        pair = [(np.ones(1), np.full((1, d), x), np.eye(d)[None]) for x in (0.0, 1.0)]
        pairwise_mixture_wasserstein_vjp(pair, None, np.ones((2, 2)))


def _use(X, n_components, mode, **options):
    mixture = DifferentiableGaussianMixture(n_components, random_state=0, **options).fit(X)
    mixture.predict(X)
    mixture.gradient_wrt_data(X, (None, np.ones_like(mixture.means_), None), mode=mode)
    mixture.jvp(X, np.ones_like(X), mode=mode)


def _use_sets(X, covariance_type):
    fits = fit_mixtures([X, X], 2, covariance_type=covariance_type, random_state=0)
    fits.vjp((None, np.ones_like(fits.means), None))


def main():
    start = time.perf_counter()
    warm_up()
    where = f"kept in {' or '.join(FOLDERS)}" if FOLDERS else "not kept: no folder can be written"
    print(f"Kernels are compiled, in {time.perf_counter() - start:.0f} s, and {where}.")


if __name__ == "__main__":
    main()
