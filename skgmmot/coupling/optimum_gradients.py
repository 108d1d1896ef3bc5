"""Gradients through a coupled fit: how the two mixtures move when the data move.

Let v be the coordinates of the state (`coordinates`), T(θ, X) the statistics of a pass over the
clouds and G(v, T) the gradient of the objective, pulled back to v. At an optimum

    G(v, T(θ(v), X)) = 0,

as long as the support of the plan stays what it is: entries that are zero stay zero, and so do
weights, whose components then stay where they are. There v is a smooth function of X
(``implicit``),

    L_X = ∂_X Tᵀ ∂_T Gᵀ λ,        −(∂_v G + ∂_T G ∂_θ T ∂_v θ)ᵀ λ = ∂_v θᵀ L_θ.

In these coordinates −∂_v G is close to the identity, and a step of EM is v + G: its derivative
is ∂_T G ∂_X T, so λ = ∂_v θᵀ L_θ is the gradient of the last step (``one_step``).

∂_θ T and ∂_X T are those of an EM step. With ξ the tangent of the state along λ, a = W ξ_m,
B = sym(W ξ_L) and E = W Ŝ Wᵀ + δ δᵀ − I, the pull-back ∂_T Gᵀ λ is

    s̄ = ξ_w / w + ⟨δ, a⟩ + ⟨E, B⟩,    m̂_bar = s Wᵀ (a + 2 B δ),    Ŝ_bar = s Wᵀ B W.

∂_v G and ξ are derivatives of functions whose cost does not depend on the number of samples.
They are taken by differences of fourth order, to about 1e-10.
"""

import numpy as np

from ..em.adjoints import implicit_solve
from ..parameters import MixtureParameters
from .coupled_coordinates import Coordinates
from .objective import Evaluation, evaluation_of, statistics_of, whitened
from .sweeps import residual_of

_STEP = 1e-3
_SMALL_WEIGHT = 1e-12
_NO_MASS = 1e-10  # entries of an entropic plan below this are held: they move nothing
# Gradient of the objective by a plan entry that is zero, or the entry itself, below which the
# support is about to change.
_UNDECIDED = 1e-6


class _Linearization:
    """G and its derivatives about a state."""

    def __init__(self, problem, state):
        self.problem, self.state = problem, state
        self.statistics = statistics_of(problem, state)
        self.evaluation = evaluation_of(problem, state, self.statistics)
        self.coordinates = Coordinates(problem, self.evaluation.state, self.statistics.shares)
        self.vector = self.coordinates.start()
        self.free = self.coordinates.live()
        if problem.plan_is_free:
            self.free[: self.coordinates.n_plan] = state.plan.ravel() > _NO_MASS * (problem.reg > 0)
        self.idle = self.coordinates.idle_directions()

    def pulled(self, pair):
        """Cotangent of the vector from cotangents of the two mixtures."""
        state, n_source = self.evaluation.state, len(self.state.plan)
        weights = tuple(np.asarray(theta.weights, dtype=np.float64) for theta in pair)
        factors_bar = []
        own = state.factors[:n_source], state.factors[n_source:]
        for theta, factors in zip(pair, own, strict=True):
            bar = self.problem.family.batch(theta.covariances)
            if not self.problem.family.is_diagonal:
                # a tied factor is counted once: its copies are summed by the coordinates
                share = len(factors) // len(bar)
                factors_bar.append(2.0 / share * (bar @ factors))
            else:
                stands_for = self.problem.family.multiplicity(factors.shape[1])
                factors_bar.append(2.0 * bar * factors / stands_for)
        seeded = self.evaluation._replace(
            weights_bar=weights,
            plan_bar=weights[0][:, None] + weights[1],
            means_bar=np.concatenate([theta.means for theta in pair]),
            factors_bar=np.concatenate(factors_bar),
        )
        return self.free * self.coordinates.gradient(self.vector, seeded)

    def statistics_bar(self, direction):
        """∂_T Gᵀ: cotangents of the two EM steps."""
        state, family = self.evaluation.state, self.problem.family
        tangent = self._tangent(direction)
        shares, weights = self.statistics.shares, np.concatenate(state.weights)
        whitening, shift, excess = whitened(state, self.statistics)
        shares_bar = tangent[0] / np.maximum(weights, _SMALL_WEIGHT)
        if state.factors.ndim == 3:
            transposed, shift = np.swapaxes(whitening, 1, 2), shift[:, :, None]
            a = whitening @ tangent[1][:, :, None]
            B = whitening @ tangent[2]
            B = 0.5 * (B + np.swapaxes(B, 1, 2))
            shares_bar = shares_bar + (shift * a).sum(axis=(1, 2)) + (excess * B).sum(axis=(1, 2))
            means_bar = shares[:, None] * (transposed @ (a + 2.0 * B @ shift))[:, :, 0]
            matrices = shares[:, None, None] * (transposed @ B @ whitening)
        else:
            a, B = whitening * tangent[1], whitening * tangent[2]
            shares_bar = shares_bar + (shift * a + excess * B).sum(axis=1)
            means_bar = shares[:, None] * whitening * (a + 2.0 * B * shift)
            matrices = shares[:, None] * whitening**2 * B
        n_source, bars = len(state.plan), []
        for part in (slice(None, n_source), slice(n_source, None)):
            covariances_bar = family.pull_per_component(matrices[part])
            bars.append(
                MixtureParameters(shares_bar[part], means_bar[part], covariances_bar, family.name)
            )
        return bars

    def _tangent(self, direction):
        """ξ: how weights, means and factors move along a direction."""
        length = np.linalg.norm(direction) or 1.0  # the step must not depend on it
        unit = direction / length
        like = self.evaluation.state
        like = np.concatenate(like.weights), like.means, like.factors

        def numbers(t):
            state = self.coordinates.state(self.vector + t * unit)
            return np.concatenate([*state.weights, state.means.ravel(), state.factors.ravel()])

        parts = np.split(length * _derivative(numbers), np.cumsum([p.size for p in like[:2]]))
        return [part.reshape(own.shape) for part, own in zip(parts, like, strict=True)]

    def _gradient(self, vector):
        state = self.coordinates.state(vector)
        evaluation = evaluation_of(self.problem, state, self.statistics)
        return self.coordinates.gradient(vector, evaluation)

    def product(self, direction):
        """The transposed Jacobian of −G, times a direction.

        The identity in the coordinates that are held and in those that do not move the state.
        """
        held, direction = (1.0 - self.free) * direction, self.free * direction
        length = np.linalg.norm(direction)
        if length == 0.0:
            return held
        unit = direction / length
        curvature = _derivative(lambda t: self._gradient(self.vector + t * unit))
        clouds, steps = self.problem.clouds, self.statistics.steps
        pulled = [
            self._untempered(cloud, step, cloud.vjp(step, bar))
            for cloud, step, bar in zip(clouds, steps, self.statistics_bar(unit), strict=True)
        ]
        out = -self.free * curvature - self.pulled(pulled)
        return held + length * (out + self.idle.T @ (self.idle @ unit))

    def _untempered(self, cloud, step, bar):
        """Pull a cotangent back through w → w exp(−½ reg_covar tr Σ⁻¹)."""
        if not self.problem.reg_is_likelihood:
            return bar
        family, theta, inverses = self.problem.family, step.theta, step.precisions.inverses
        factor = np.exp(-0.5 * cloud.reg_covar * family.trace(inverses, theta.n_features))
        pulled = 0.5 * cloud.reg_covar * bar.weights * theta.weights
        squared = family.pull_trace(pulled, inverses, theta.n_features)
        return MixtureParameters(
            bar.weights * factor, bar.means, bar.covariances + squared, family.name
        )


def _derivative(function):
    """At 0, by central differences of fourth order."""
    near = function(_STEP) - function(-_STEP)
    far = function(2 * _STEP) - function(-2 * _STEP)
    return (8.0 * near - far) / (12.0 * _STEP)


def data_cotangents(problem, state, cotangents, *, mode, tol):
    """Pull cotangents of the two fitted mixtures back to the two clouds.

    Returns two `DataCotangent`, the `LinearSolve` of ``implicit`` or None, and complaints: of a
    state that is no optimum, a plan whose support is about to change, or a singular system.
    """
    about = _Linearization(problem, state)
    adjoint, solve, complaints = about.pulled(cotangents), None, []
    if mode == "implicit":
        complaints = _off_the_optimum(problem, about, tol)
        adjoint, solve, singular = implicit_solve(about.product, adjoint, tol)
        complaints += singular
    gradients, bars = [], about.statistics_bar(about.free * adjoint)
    for cloud, step, bar in zip(problem.clouds, about.statistics.steps, bars, strict=True):
        data_bar = cloud.zero_cotangent()
        cloud.vjp(step, bar, data_bar, wrt_theta=False)
        gradients.append(cloud.finish(data_bar))
    return tuple(gradients), solve, complaints


def _off_the_optimum(problem, about: _Linearization, tol):
    """What there is to complain of."""
    evaluation: Evaluation = about.evaluation
    residual, complaints = residual_of(problem, evaluation), []
    if residual > tol:
        complaints.append(
            f"mode='implicit' differentiates an optimum, but at these parameters the residual is "
            f"{residual:.3g}, and the gradient is asked to {tol:.3g}. Fit on with a smaller "
            "residual_tol and a larger max_iter."
        )
    if problem.plan_is_free and problem.reg == 0:
        plan, bar = evaluation.state.plan, evaluation.plan_bar
        mean = (plan * bar).sum(axis=0) / np.maximum(evaluation.state.weights[1], _UNDECIDED)
        excess = bar - (mean if problem.freeze_target else (plan * bar).sum())
        undecided = np.where(plan > 0, plan < _UNDECIDED, excess > -_UNDECIDED)
        if undecided.any():
            complaints.append(
                f"mode='implicit': the support of the transport plan is about to change at "
                f"{np.argwhere(undecided).tolist()} (pairs of components). The fit has a kink "
                "there, and the gradient is that of one side of it."
            )
    return complaints
