"""Ways to the fixed point θ = F(θ, X): what may be chosen, and what is by itself.

Plain EM and the safeguards of all others are in `em.moves`; `em.lbfgs`, `em.newton` and
`em.anderson` are others, and `em.incremental` has plain steps of its own.
"""

from functools import partial

import numpy as np

from .anderson import Anderson
from .incremental import Incremental
from .lbfgs import LBFGS
from .moves import SETTLED, Plain, rounding
from .newton import Newton

_SLOW = 30  # more plain steps, at which "auto" begins


class Auto(LBFGS):
    """Plain EM where that is fast, and L-BFGS where it would need many steps more.

    EM that contracts by ρ multiplies its gains g by ρ² in each step, and its residual goes with
    the root of g. So it needs about log(g / goal) / log(1 / ρ²) steps more. Gains that grow, as
    beside a saddle, promise no end.

    Parameters
    ----------
    goal : float
        The gain at which EM would be done.
    """

    def __init__(self, goal):
        super().__init__()
        self.plain, self._goal, self._bounds = True, goal, []

    def move(self, em_map, step, n_left):
        if self.plain:
            self._bounds = [*self._bounds[-3:], step.lower_bound]
            self.pause -= 1
            if self.pause > 0 or not self._is_slow(step):
                return step.parameters, None
            self.plain, self.pause = False, 0
        return super().move(em_map, step, n_left)

    def _is_slow(self, step):
        earlier, _, gain = np.diff(self._bounds)
        if gain <= rounding(step):
            return False
        if not 0 < gain < earlier:
            return True
        shrink = np.sqrt(gain / earlier)
        return np.log(max(gain / self._goal, 1.0)) > _SLOW * np.log(1 / shrink)


SOLVERS = {
    None: Plain,
    "auto": Auto,
    "anderson": Anderson,
    "incremental": Incremental,
    "lbfgs": LBFGS,
    "newton": Newton,
}


def solver_of(acceleration, depth, stopping):
    """What makes a solver, by its name.

    ``depth`` is that of ``"anderson"``, and a `Stopping` says where ``"auto"`` and
    ``"incremental"`` will end: a gain goes with the square of a change.
    """
    gain = min(stopping.tol, stopping.residual_tol**2) or SETTLED**2
    if acceleration == "anderson":
        return partial(Anderson, depth)
    if acceleration == "auto":
        return partial(Auto, gain)
    if acceleration == "incremental":
        return partial(Incremental, np.sqrt(gain))
    return SOLVERS[acceleration]
