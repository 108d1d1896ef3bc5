"""An array that descends an energy, by Adam (Kingma and Ba 2015)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..functions.descents import adam
from ..parameters import FloatArray
from .energy import EnergyAt


class Descent(NamedTuple):
    """Where an array has come to.

    x : ndarray, the array
    values : ndarray of shape (n_steps + 1,), the energy before each step and after the last
    parts : ndarray of shape (n_steps + 1, n_terms), its parts, without their weights
    """

    x: FloatArray
    values: np.ndarray
    parts: np.ndarray


def descend(
    energy: Callable[[FloatArray], EnergyAt],
    x: FloatArray,
    *,
    learning_rate: float,
    n_steps: int,
    floor: float | None = None,
    callback: Callable[[int, FloatArray, float], object] | None = None,
) -> Descent:
    """Move an array, float32 or float64, down an energy.

    Each step moves a number by about ``learning_rate``, or less where the gradient changes sign.
    The array is copied. ``callback(step, x, value)`` is called before each step, with a view of
    the array that cannot be written to and the energy; where it returns True, the descent ends.

    ``floor`` is Adam's ε, in units of the gradient. One number of x.size moves the mixture of
    features by about 1 / x.size of its own motion. None is therefore learning_rate / x.size, which
    suits features in the units of x: where numbers are nearer to their places than a step, they
    move as in gradient descent, and an array that is there stays.

    Raises
    ------
    RuntimeError
        If the energy cannot be found any more, after steps that it led to.
    """
    x = x.copy()
    shown = x.view()
    shown.flags.writeable = False
    values, parts = [], []
    if floor is None:
        floor = learning_rate / x.size
    move = adam(x, learning_rate, n_steps, floor=floor)
    for step in range(n_steps + 1):
        try:
            at = energy(x)
        except ValueError as error:
            if step == 0:
                raise
            raise RuntimeError(
                f"EM or transport failed after {step} steps of the descent. If the array has run "
                f"away, decrease learning_rate; if a component has become flat, increase "
                f"reg_covar of the estimator. {error}"
            ) from error
        values.append(at.value)
        parts.append(at.parts)
        if step == n_steps or (callback is not None and callback(step, shown, at.value)):
            break
        move(slice(None), at.gradient)
    return Descent(x, np.array(values), np.array(parts))
