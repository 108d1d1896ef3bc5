"""Anderson mixing: the next mixture from the residuals of the last.

With the differences of the last residuals and iterates, ΔR and ΔΘ, as columns, it moves by

    v = r - (ΔΘ + ΔR) a,    a = argmin ‖r - ΔR a‖

(Anderson 1965; Walker and Ni 2011, eq. 2.3).
"""

import numpy as np

from .moves import LARGEST_MOVE, Safeguarded, difference

# Plain steps after a refused one: residuals of the region that was left behind mislead.
_PAUSE = 3


class Anderson(Safeguarded):
    """Anderson mixing.

    Parameters
    ----------
    depth : int, default=10
        Number of differences that are kept.
    """

    def __init__(self, depth=10):
        super().__init__()
        self._depth = depth
        self._visited = []  # pairs θ, F(θ)

    def move(self, em_map, step, n_left):
        self._visited = [*self._visited[-self._depth :], (step.theta, step.parameters)]
        return super().move(em_map, step, n_left)

    def accelerated(self, em_map, step, coordinates, residual, n_left):
        if len(self._visited) < 2:
            return None
        past = [
            (
                coordinates.of_tangent(difference(step.theta, own)),
                residual - coordinates.of_tangent(difference(image, own)),
            )
            for own, image in self._visited[:-1]
        ]
        theta_steps, residual_steps = np.array(past).transpose(1, 2, 0)
        mixing, *_ = np.linalg.lstsq(residual_steps, residual, rcond=1e-12)
        vector = residual - (theta_steps + residual_steps) @ mixing
        if np.linalg.norm(vector) < LARGEST_MOVE:
            gain, *moved = self.try_move(em_map, step, coordinates, vector)
            if self.accepts(gain, step):
                return moved
        self._visited = self._visited[-1:]
        self.pause = _PAUSE
        return None
