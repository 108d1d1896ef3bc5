"""L-BFGS: a quasi-Newton method that learns A = I - J from the steps that are made.

A step s changes the residual by -y, with y ≈ A s. From the last pairs (s, y) two recursions make
v = H r with H ≈ A⁻¹ (Nocedal 1980; Nocedal and Wright 2006, Algorithm 7.4), beginning with the
identity, which is EM itself: where EM is fast it is left alone (Jamshidian and Jennrich 1997). A
pass over the data makes a move and teaches the next one.

Each pair stays in the Fisher coordinates in which it was found. They are orthonormal frames of the
tangent spaces, so that is a vector transport without distortion (Huang, Gallivan, Absil 2015).

Steps end at the border of a trust region that follows the ratio of the gain to that of the model, t
⟨r, v⟩ - ½ t² ⟨r, v⟩ for t v. A pair along which the gradient grows, as it does on the way from a
saddle, gets a fifth of the curvature that H stands for in place of its own (as Powell 1978 damps
them): it is followed in steps that grow until the trust region ends them.

In Fisher coordinates a component counts by its mass. One of little mass may be flung out of the
data, or lose the rest, in a step that is short as a whole: what was learned of it is then out of
date. So a step that would change any component by more than a few of its own units is not made, and
all but the last pair are forgotten. A component that has nearly lost its mass moves as in EM, and
holds no other up.
"""

import numpy as np
from scipy.linalg.blas import daxpy, ddot

from .moves import LARGEST_MOVE, Safeguarded, rounding

_DEPTH = 20  # pairs that are kept …
_LARGEST_MEMORY = 2**26  # … or as many as these bytes hold
_LEAST_PAIRS = 3
_LEAST_CURVATURE = 1e-4  # ⟨s, y⟩ / ⟨s, s⟩; where it is less …
_DAMPING = 0.2  # … so much of ⟨s, H⁻¹ s⟩ takes its place …
_LEAST_DAMPED = 1e-6  # … but not less than this
_FIRST_RADIUS = 0.1
_LARGEST_CHANGE = 2.0  # of a component, in its own units …
_NEGLIGIBLE = 1e-5  # … unless it has less than this share of the mass
_TRIES = 2  # of a move, in a smaller region the second time


class LBFGS(Safeguarded):
    """Limited-memory BFGS in a trust region."""

    def __init__(self):
        super().__init__()
        self._radius = _FIRST_RADIUS
        self._pairs = []
        self._last = None  # the last step s, the residual before it, and H⁻¹ s

    def accelerated(self, em_map, step, coordinates, residual, n_left):
        self._learn(residual)
        self._last = residual, residual, residual  # a plain step, if no other is made
        if not self._pairs:
            return None
        vector = _direction(self._pairs, residual)
        slope, length = residual @ vector, np.linalg.norm(vector)
        for _ in range(_TRIES):
            # EM's own step is never too long
            part = min(1.0, max(self._radius, np.linalg.norm(residual)) / length)
            predicted = (part - 0.5 * part * part) * slope
            move = coordinates.within(part * vector, residual, _LARGEST_CHANGE, _NEGLIGIBLE)
            if move is None:
                break
            gain, *moved = self.try_move(em_map, step, coordinates, move)
            if predicted > 10 * rounding(step):  # else the ratio is one of rounding errors
                if gain < 0.25 * predicted:
                    self._radius = 0.25 * part * length
                elif gain > 0.75 * predicted and part < 1.0:
                    self._radius = min(2.0 * self._radius, LARGEST_MOVE)
            if self.accepts(gain, step):
                self._last = move, residual, part * residual
                return moved
        del self._pairs[:-1]
        return None

    def _learn(self, residual):
        """Keep the pair of the last step, with some curvature, and forget the oldest."""
        if self._last is None:
            return
        s, before, model = self._last
        y = before - residual
        curvature, square = s @ y, s @ s
        if square == 0.0:
            return
        if curvature <= _LEAST_CURVATURE * square:
            damped = max(_DAMPING * (s @ model), _LEAST_DAMPED * square)
            y = y + (damped - curvature) / square * s
            curvature = damped
        depth = max(_LEAST_PAIRS, min(_DEPTH, _LARGEST_MEMORY // (2 * s.nbytes)))
        self._pairs = [*self._pairs[1 - depth :], (s, y, curvature)]


def _direction(pairs, residual):
    """H r, in place by BLAS: arrays of NumPy would take longer than an EM step of small data."""
    v, shares = residual.copy(), []
    for s, y, curvature in reversed(pairs):
        shares.append(ddot(s, v) / curvature)
        v = daxpy(y, v, a=-shares[-1])
    for (s, y, curvature), share in zip(pairs, reversed(shares), strict=True):
        v = daxpy(s, v, a=share - ddot(y, v) / curvature)
    return v
