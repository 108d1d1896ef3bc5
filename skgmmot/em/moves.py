"""Moves of a solver: plain EM, and what all faster ones have in common.

They move in the tangent space at θ, in Fisher coordinates (`families.fisher`), where the residual
r = F(θ) - θ is the gradient of the mean log-likelihood (Xu and Jordan 1996) and, at a maximum,
A = I - J with J = ∂F/∂θ is minus its Hessian: symmetric and positive definite. Where components do
not overlap A is the identity.

A tangent v becomes a mixture by a retraction that never leaves the domain,

    w' ∝ w exp(ẇ / w),    m' = m + ṁ,    Σ' = Σ + Σ̇ + ½ Σ̇ Σ⁻¹ Σ̇ = ½ (Σ + (Σ + Σ̇) Σ⁻¹ (Σ + Σ̇)),

and is refused if it would lower what a plain EM step from θ cannot lower, with the masses N at θ:

    mean log-likelihood - ½ reg_covar Σ_k N_k / n tr Σ_k⁻¹.

Then the plain step takes its place.
"""

import numpy as np

from ..families.covariances import CollapsedComponentError
from ..parameters import MixtureParameters

# Where EM converges this fast, the linear algebra of the size of the mixture would only cost time.
_WARM_UP = 10
LARGEST_MOVE = 10.0  # in standard deviations, about
_LARGEST_LOG_RATIO = 30.0  # of a weight
_LEAST_LEFT = 3  # passes: two that are made for a move, and the plain step if it is refused
SETTLED = 1e-14  # a residual of rounding errors
_ROUNDING = 1e-14  # of the likelihood, relative to 1 + |likelihood|


class Plain:
    """θ_{t+1} = F(θ_t).

    Attributes
    ----------
    n_extra : int
        Passes over the data beyond one for each step: refused moves, and products with ∂F/∂θ.
    """

    n_extra = 0
    plain = True

    def step(self, em_map, theta):
        """The plain EM step from θ."""
        return em_map.step(theta)

    def move(self, em_map, step, n_left):
        """The next θ, and the EM step from it if it is known (else None).

        Parameters
        ----------
        em_map : EMMap
        step : EMStep
            From the last θ.
        n_left : int
            Number of passes over the data that may still be made.
        """
        return step.parameters, None


class Safeguarded(Plain):
    """What the faster ones share: a warm-up, and the refusal of moves that lose likelihood.

    A method is a subclass with ``accelerated``, which gets the coordinates at θ and the residual in
    them, and returns the next θ and the EM step from it, or None for a plain step.
    """

    plain = False

    def __init__(self):
        self.n_extra = 0
        self.pause = _WARM_UP

    def move(self, em_map, step, n_left):
        self.pause -= 1
        if self.pause >= 0 or n_left < _LEAST_LEFT:
            return step.parameters, None
        coordinates = em_map.coordinates(step)
        residual = coordinates.of_tangent(difference(step.parameters, step.theta))
        moved = None
        if np.linalg.norm(residual) > SETTLED:
            moved = self.accelerated(em_map, step, coordinates, residual, n_left)
        return (step.parameters, None) if moved is None else moved

    def try_move(self, em_map, step, coordinates, vector):
        """The gain of a move, its θ and its EM step; -inf where it leads to no mixture."""
        # for a component of nearly no mass, a tangent of ordinary length is beyond all numbers
        with np.errstate(over="ignore", invalid="ignore"):
            candidate = retract(
                em_map.family,
                step.theta,
                coordinates.tangent(vector),
                precisions=step.precisions,
                fixed_weights=em_map.fixed_weights,
            )
        if not all(np.isfinite(part).all() for part in candidate):
            return -np.inf, None, None
        self.n_extra += 1
        try:
            following = em_map.step(candidate)
        except CollapsedComponentError:
            return -np.inf, None, None
        gain = following.lower_bound - step.lower_bound
        if em_map.reg_covar:
            gain -= _penalty(em_map, following, step.mass) - _penalty(em_map, step, step.mass)
        return (gain if np.isfinite(gain) else -np.inf), candidate, following

    def accepts(self, gain, step):
        """Whether a move that was tried is made."""
        if gain >= -rounding(step):
            self.n_extra -= 1  # its EM step is the next one
            return True
        return False


def retract(family, theta, tangent, *, precisions, fixed_weights):
    """A mixture in the direction of a tangent from θ; in the domain however far it lies.

    Parameters
    ----------
    family : Family
    theta : MixtureParameters
    tangent : MixtureParameters
    precisions : Precisions of θ
    fixed_weights : bool
        Whether the weights stay exactly as they are.

    Returns
    -------
    moved : MixtureParameters
    """
    weights, means, _ = theta
    if not fixed_weights:
        ratio = np.divide(tangent.weights, weights, out=np.zeros(len(weights)), where=weights > 0)
        weights = weights * np.exp(np.clip(ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))
        weights = weights / weights.sum()
    covariances = family.retract(theta, tangent, precisions.inverses)
    return MixtureParameters(weights, means + tangent.means, covariances, family.name)


def rounding(step):
    """What a lower bound may lose to rounding errors."""
    return _ROUNDING * (1.0 + abs(step.lower_bound))


def _penalty(em_map, step, mass):
    """½ reg_covar Σ_k N_k / n tr Σ_k⁻¹, at the θ of a step."""
    traces = em_map.family.trace(step.precisions.inverses, step.theta.n_features)
    return 0.5 * em_map.reg_covar * (mass * traces).sum() / em_map.data.total_weight


def difference(new, old):
    """The tangent that leads from a mixture to another."""
    parts = (a - b for a, b in zip(new, old, strict=True))
    return MixtureParameters(*parts, old.covariance_type)
