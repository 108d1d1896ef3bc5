"""Incremental EM: an M-step after each group of samples, and not only after all of them.

For responsibilities γ, whatever they are, and a mixture θ let (Neal and Hinton 1998, eq. 7)

    F(γ, θ) = Σ_i s_i Σ_k γ_ik (log w_k g_k(x_i) - log γ_ik).

An E-step maximizes F in γ, where it is the log-likelihood of θ, and an M-step in θ. So does an
E-step of some of the samples alone, in what is theirs of γ. The samples are cut into groups g, the
statistics of each are kept, and a sweep goes through them in turn:

    S_g ← statistics of the group at θ,    θ ← M-step of Σ_g S_g.

It is one pass over the data with as many M-steps as groups, F never falls, and where a sweep
changes nothing all statistics are those at θ, a fixed point of EM. Every few sweeps a plain EM step
takes all groups at one θ. There F is the log-likelihood, which between plain steps is at least F:
so it never falls from one of them to the next, and they are what is recorded.

The sum over groups is taken anew each time (`families.pooling`): groups are few, and nothing adds
up that old statistics would leave behind if they were subtracted.

A sweep sees statistics that are half a pass old on average. EM that contracts by 1 - ε, ε small,
therefore contracts by about 1 - 2ε in a sweep through many groups: where it is slow, sweeps halve
the passes, and no more. So where they promise to take many, L-BFGS takes over (`em.lbfgs`).
"""

import numpy as np

from ..families.covariances import CollapsedComponentError
from ..families.fisher import scaled_change
from ..families.pooling import pooled
from .lbfgs import LBFGS
from .moves import SETTLED

_GROUPS = 16  # with more of them M-steps cost, and hardly gain
_LARGEST_MEMORY = 2**26  # bytes that their M-steps take, unless they are two
_SWEEPS = 2  # from a plain step to the next
_SLOW = 5  # more passes, at which L-BFGS begins


class Incremental(LBFGS):
    """Incremental EM, and L-BFGS where that is slow.

    Parameters
    ----------
    goal : float, default=SETTLED
        The scaled change of a sweep at which EM is done.
    """

    def __init__(self, goal=SETTLED):
        super().__init__()
        self.pause = 0  # L-BFGS needs no warm-up any more
        self._goal = max(goal, SETTLED)
        self._groups, self._is_slow = None, False
        self._change = np.inf  # of the last sweep

    def step(self, em_map, theta):
        if self._is_slow:
            return em_map.step(theta)
        if self._groups is None:
            self._groups = _Groups(em_map, theta)
        return self._groups.step(theta)

    def move(self, em_map, step, n_left):
        if self._is_slow:
            return super().move(em_map, step, n_left)
        theta, earlier = step.parameters, self._change
        for _ in range(min(_SWEEPS, n_left - 1)):
            self.n_extra += 1
            try:
                swept = self._groups.sweep(theta)
                self._change = scaled_change(swept, theta, family=em_map.family)
            except CollapsedComponentError:
                self._hand_over()
                return step.parameters, None
            theta = swept
            if self._change < self._goal:
                return theta, None
        if self._promises_many(earlier, self._change):
            self._hand_over()
        return theta, None

    def _promises_many(self, earlier, change):
        """Whether changes that shrink as from the last move to this take many passes more.

        Those of the first move say little: it is on its way from the start.
        """
        left = (_SWEEPS + 1) * np.log(change / self._goal)
        return left > _SLOW * np.log(earlier / change)

    def _hand_over(self):
        self._is_slow, self._groups = True, None


class _Groups:
    """Groups of the samples, and the last M-step of each.

    Parameters
    ----------
    em_map : EMMap
    theta : MixtureParameters
        Tells how much memory an M-step takes.
    """

    def __init__(self, em_map, theta):
        if em_map.e_step.holds_weights:
            raise ValueError(
                "acceleration='incremental' cannot be combined with e_step='sinkhorn', which "
                "balances the masses of all samples at once. Set acceleration='lbfgs', or "
                "e_step='softmax'."
            )
        n_groups = min(_GROUPS, max(2, _LARGEST_MEMORY // sum(part.nbytes for part in theta)))
        self._whole = em_map
        self._maps = [em_map.of_samples(group) for group in em_map.samples.groups(n_groups)]
        self._masses = np.zeros((len(self._maps), len(theta.weights)))
        self._parts = [theta] * len(self._maps)

    def step(self, theta):
        """The plain EM step from θ, all groups at one θ."""
        log_likelihood = total = 0.0
        for number, part in enumerate(self._maps):
            weight = part.data.total_weight
            log_likelihood += weight * self._renew(number, theta).lower_bound
            total += weight
        updated, mass = self._pooled(theta), self._masses.sum(axis=0)
        return self._whole.known_step(theta, updated, mass, log_likelihood / total)

    def sweep(self, theta):
        """Where M-steps after each group lead from θ."""
        for number in range(len(self._maps)):
            self._renew(number, theta)
            theta = self._pooled(theta)
        return theta

    def _renew(self, number, theta):
        """The EM step of a group by itself from θ, which is kept."""
        step = self._maps[number].step(theta)
        self._masses[number], self._parts[number] = step.mass, step.parameters
        return step

    def _pooled(self, previous):
        fixed_weights = self._whole.fixed_weights
        return pooled(
            self._whole.family, self._masses, self._parts, previous, fixed_weights=fixed_weights
        )
