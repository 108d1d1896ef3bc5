"""Faster ways to the fixed point θ = F(θ, X): Anderson mixing and a Newton-Krylov method.

Both move in the tangent space at θ, in Fisher coordinates (`coordinates`), where the residual
r = F(θ) - θ is the gradient of the mean log-likelihood (Xu and Jordan 1996) and, at a maximum,
I - J with J = ∂F/∂θ is minus its Hessian: symmetric and positive definite.

Anderson mixing (Anderson 1965; Walker and Ni 2011, eq. 2.3). With the differences of the last
residuals and iterates, ΔR and ΔΘ, as columns, it moves by

    v = r - (ΔΘ + ΔR) a,    a = argmin ‖r - ΔR a‖.

Newton-Krylov. It solves (I - J) v = r by conjugate gradients, whose products are exact JVPs of an
EM step, in a trust region ‖v‖ ≤ ρ (Steihaug 1983): they stop at its border, which directions of
negative curvature lead to as well, so that v climbs far from a maximum too. ρ follows the ratio of
the gain to that of the model, ⟨r, v⟩ - ½ ⟨v, (I - J) v⟩. An EM step follows each.

A tangent v becomes a mixture by a retraction that never leaves the domain,

    w' ∝ w exp(ẇ / w),    m' = m + ṁ,    Σ' = Σ + Σ̇ + ½ Σ̇ Σ⁻¹ Σ̇ = ½ (Σ + (Σ + Σ̇) Σ⁻¹ (Σ + Σ̇)),

and is refused if it would lower what a plain EM step from θ cannot lower, with the masses N at θ:

    mean log-likelihood - ½ reg_covar Σ_k N_k / n tr Σ_k⁻¹.

Then the plain step takes its place.
"""

import numpy as np

from ..parameters import MixtureParameters
from .coordinates import FisherCoordinates
from .exponential_family import CollapsedComponentError, precisions_of
from .step import em_step, em_step_jvp

# Where EM converges this fast, the linear algebra of the size of the mixture would only cost time.
_WARM_UP = 20
# Plain steps after a refused one: residuals of the region that was left behind mislead.
_ANDERSON_PAUSE = 3
_LARGEST_MOVE = 10.0  # in standard deviations, about
_LARGEST_LOG_RATIO = 30.0  # of a weight
_FIRST_RADIUS = 0.3
_MAX_TRIES = 3  # of a truncated Newton step
_FORCING = 0.1  # relative residual at which conjugate gradients stop, or √‖r‖ if that is less
_LEAST_LEFT = 3  # passes: a product, a move, and the plain step in its place if it is refused
_SETTLED = 1e-14  # a residual of rounding errors
_ROUNDING = 1e-14  # of the likelihood, relative to 1 + |likelihood|


def accelerator(acceleration, depth=10):
    """What chooses the next θ: `Plain`, `Anderson` or `Newton`.

    Parameters
    ----------
    acceleration : {None, "anderson", "newton"}
    depth : int, default=10
        Number of differences that ``"anderson"`` looks back on.
    """
    if acceleration is None:
        return Plain()
    return Anderson(depth) if acceleration == "anderson" else Newton()


class Plain:
    """θ_{t+1} = F(θ_t).

    Attributes
    ----------
    n_extra : int
        Passes over the data beyond one for each step: refused moves, and products with ∂F/∂θ.
    """

    n_extra = 0
    plain = True

    def move(self, problem, theta, step, n_left):
        """The next θ, and the EM step from it if it is known (else None).

        Parameters
        ----------
        problem : EMProblem
        theta : MixtureParameters
        step : EMStep
            ``em_step(problem, theta)``.
        n_left : int
            Number of passes over the data that may still be made.
        """
        return step.parameters, None


class _Safeguarded(Plain):
    """What both methods share: a warm-up, and the refusal of moves that lose likelihood."""

    plain = False

    def __init__(self):
        self.n_extra = 0
        self._pause = _WARM_UP

    def move(self, problem, theta, step, n_left):
        self._look(theta, step)
        self._pause -= 1
        if self._pause >= 0 or n_left < _LEAST_LEFT:
            return step.parameters, None
        coordinates = FisherCoordinates(
            theta, step.mass, problem.fixed_weights, problem.temperature
        )
        residual = coordinates.of_tangent(_difference(step.parameters, theta))
        moved = None
        if np.linalg.norm(residual) > _SETTLED:
            moved = self._accelerated(problem, theta, step, coordinates, residual, n_left)
        return (step.parameters, None) if moved is None else moved

    def _look(self, theta, step):
        """See every θ that is visited."""

    def _try(self, problem, theta, step, coordinates, vector):
        """The gain of a move, its θ and its EM step; -inf where it leads to no mixture."""
        self.n_extra += 1
        candidate = retract(theta, coordinates.tangent(vector), problem.fixed_weights)
        try:
            following = em_step(problem, candidate)
        except CollapsedComponentError:
            return -np.inf, None, None
        gain = following.lower_bound - step.lower_bound
        if problem.reg_covar:
            gain -= _penalty(problem, candidate, step.mass) - _penalty(problem, theta, step.mass)
        return (gain if np.isfinite(gain) else -np.inf), candidate, following

    def _accepts(self, gain, step):
        if gain >= -_rounding(step):
            self.n_extra -= 1  # its EM step is the next one
            return True
        return False


class Anderson(_Safeguarded):
    """Anderson mixing.

    Parameters
    ----------
    depth : int
        Number of differences that are kept.
    """

    def __init__(self, depth):
        super().__init__()
        self._depth = depth
        self._visited = []  # pairs θ, F(θ)

    def _look(self, theta, step):
        self._visited = [*self._visited[-self._depth :], (theta, step.parameters)]

    def _accelerated(self, problem, theta, step, coordinates, residual, n_left):
        if len(self._visited) < 2:
            return None
        past = [
            (
                coordinates.of_tangent(_difference(theta, own)),
                residual - coordinates.of_tangent(_difference(image, own)),
            )
            for own, image in self._visited[:-1]
        ]
        theta_steps, residual_steps = np.array(past).transpose(1, 2, 0)
        mixing, *_ = np.linalg.lstsq(residual_steps, residual, rcond=1e-12)
        vector = residual - (theta_steps + residual_steps) @ mixing
        if np.linalg.norm(vector) < _LARGEST_MOVE:
            gain, *moved = self._try(problem, theta, step, coordinates, vector)
            if self._accepts(gain, step):
                return moved
        self._visited = self._visited[-1:]
        self._pause = _ANDERSON_PAUSE
        return None


class Newton(_Safeguarded):
    """Newton-Krylov in a trust region."""

    def __init__(self):
        super().__init__()
        self._radius = _FIRST_RADIUS

    def _accelerated(self, problem, theta, step, coordinates, residual, n_left):
        limit = self.n_extra + n_left - 2  # leaves room for a move, and for a plain step

        def product(vector):
            self.n_extra += 1
            image = em_step_jvp(problem, theta, step, coordinates.tangent(vector))
            return vector - coordinates.of_tangent(image)

        path = _conjugate_gradients(
            product,
            residual,
            rtol=min(_FORCING, np.sqrt(np.linalg.norm(residual))),
            radius=self._radius,
            max_iter=min(residual.size, n_left - 2),
        )
        self._pause = 1
        for _ in range(_MAX_TRIES):
            if self.n_extra > limit:
                break
            vector, image = _cut(path, self._radius)
            length = np.linalg.norm(vector)
            predicted = residual @ vector - 0.5 * vector @ image
            gain, *moved = self._try(problem, theta, step, coordinates, vector)
            if predicted > 10 * _rounding(step):  # else the ratio is one of rounding errors
                if gain < 0.25 * predicted:
                    self._radius = 0.25 * length
                elif gain > 0.75 * predicted and length > 0.9 * self._radius:
                    self._radius = min(2.0 * self._radius, _LARGEST_MOVE)
            else:
                self._radius = max(self._radius, _FIRST_RADIUS)
            if self._accepts(gain, step):
                return moved
        return None


def _conjugate_gradients(product, right, *, rtol, radius, max_iter):
    """Pairs (v, A v) of conjugate gradients for A v = right from zero, up to the radius."""
    v, image, remainder = np.zeros_like(right), np.zeros_like(right), right
    direction, square = right, right @ right
    goal = rtol * rtol * square
    path = [(v, image)]
    for _ in range(max_iter):
        pushed = product(direction)
        curvature = direction @ pushed
        length = np.linalg.norm(direction)
        if curvature <= 1e-12 * length * length:
            far = 2.0 * radius / length  # beyond the border, wherever in the region v lies
            path.append((v + far * direction, image + far * pushed))
            break
        stride = square / curvature
        v, image = v + stride * direction, image + stride * pushed
        path.append((v, image))
        remainder = remainder - stride * pushed
        previous, square = square, remainder @ remainder
        if np.linalg.norm(v) >= radius or square <= goal:
            break
        direction = remainder + square / previous * direction
    return path


def _cut(path, radius):
    """Where a path of growing ‖v‖ crosses the radius, or its end."""
    for (v, image), (v_next, image_next) in zip(path, path[1:], strict=False):
        if np.linalg.norm(v_next) > radius:
            # ‖v + s q‖² = ρ², by the root without cancellation
            q = v_next - v
            a, b, c = q @ q, v @ q, max(radius * radius - v @ v, 0.0)
            s = c / (b + np.sqrt(b * b + a * c))
            return v + s * q, image + s * (image_next - image)
    return path[-1]


def retract(theta, tangent, fixed_weights):
    """A mixture in the direction of a tangent from θ; in the domain however far it lies.

    Parameters
    ----------
    theta : MixtureParameters
    tangent : MixtureParameters
    fixed_weights : bool
        Whether the weights stay exactly as they are.

    Returns
    -------
    moved : MixtureParameters
    """
    weights, means, covariances = theta
    weights_dot, means_dot, sigma_dot = tangent
    if not fixed_weights:
        ratio = np.divide(weights_dot, weights, out=np.zeros(len(weights)), where=weights > 0)
        weights = weights * np.exp(np.clip(ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO))
        weights = weights / weights.sum()
    if theta.covariance_type in ("full", "tied"):
        second = sigma_dot @ np.linalg.solve(covariances, sigma_dot)
        second = 0.5 * (second + np.swapaxes(second, -1, -2))
    else:
        second = sigma_dot * sigma_dot / covariances
    covariances = covariances + sigma_dot + 0.5 * second
    return MixtureParameters(weights, means + means_dot, covariances, theta.covariance_type)


def _rounding(step):
    return _ROUNDING * (1.0 + abs(step.lower_bound))


def _penalty(problem, theta, mass):
    """½ reg_covar Σ_k N_k / n tr Σ_k⁻¹."""
    kind, n_features = theta.covariance_type, theta.n_features
    precisions = precisions_of(theta.covariances, kind, n_features).precisions
    if kind in ("full", "tied"):
        traces = np.trace(precisions, axis1=-2, axis2=-1)
    else:
        traces = precisions.sum(axis=1) if kind == "diag" else n_features * precisions
    return 0.5 * problem.reg_covar * (mass * traces).sum() / problem.total_weight


def _difference(new, old):
    parts = (a - b for a, b in zip(new, old, strict=True))
    return MixtureParameters(*parts, old.covariance_type)
