"""Moves of first-order descent: rows of an array go against their gradient, in place.

Arrays on a device move there; `rows`, if not a slice, and the gradient have to be there as well.
"""

import numpy as np

from ..samples.device_arrays import module_of

# Decay of Adam's two averages (Kingma and Ba 2015).
DECAY, DECAY_OF_SQUARES = 0.9, 0.999


def gradient_descent(X, rate):
    """A function of rows and their gradient that moves these rows of X."""

    def descend(rows, gradient):
        gradient *= rate
        X[rows] -= gradient

    return descend


def adam(X, rate, n_steps, *, floor, whole=True):
    """A function of rows and their gradient that moves these rows of X, for ``n_steps`` moves.

    ``floor`` is Adam's ε, in units of the gradient: where that is smaller, rows move as in gradient
    descent, and rounding is not scaled up to whole steps. Unless ``whole``, a row that is not
    among those of a move rests, and so do its averages.
    """
    module = module_of(X)
    mean, square = module.zeros_like(X), module.zeros_like(X)
    # How often each row has moved: one number for all, unless there are batches.
    moves = module.zeros((1 if whole else len(X), *(1,) * (X.ndim - 1)), dtype=np.int64)
    t = np.arange(1, n_steps + 1)
    bias = np.sqrt(1 - DECAY_OF_SQUARES**t)
    rates = module.asarray((rate * bias / (1 - DECAY**t)).astype(X.dtype))
    floors = module.asarray((floor * bias).astype(X.dtype))

    def descend(rows, gradient):
        mean[rows] += (1 - DECAY) * (gradient - mean[rows])
        square[rows] += (1 - DECAY_OF_SQUARES) * (gradient**2 - square[rows])
        step = mean[rows] / (module.sqrt(square[rows]) + floors[moves[rows]])
        step *= rates[moves[rows]]
        X[rows] -= step
        moves[rows] += 1

    return descend
