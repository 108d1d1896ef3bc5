"""Ways to the fixed point θ = F(θ, X): plain EM, Anderson mixing and a Newton-Krylov method.

The last two move in the tangent space at θ, in Fisher coordinates
(`families.fisher`), where the residual
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

from functools import partial

import numpy as np

from ..families.covariances import CollapsedComponentError
from ..parameters import MixtureParameters

# Where EM converges this fast, the linear algebra of the size of the mixture would only cost time.
_WARM_UP = 20
_SLOW = 30  # more plain steps, at which "auto" begins
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


class Plain:
    """θ_{t+1} = F(θ_t).

    Attributes
    ----------
    n_extra : int
        Passes over the data beyond one for each step: refused moves, and products with ∂F/∂θ.
    """

    n_extra = 0
    plain = True

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


class _Safeguarded(Plain):
    """What both methods share: a warm-up, and the refusal of moves that lose likelihood."""

    plain = False

    def __init__(self):
        self.n_extra = 0
        self._pause = _WARM_UP

    def move(self, em_map, step, n_left):
        self._look(step)
        self._pause -= 1
        if self._pause >= 0 or n_left < _LEAST_LEFT:
            return step.parameters, None
        coordinates = em_map.coordinates(step)
        residual = coordinates.of_tangent(_difference(step.parameters, step.theta))
        moved = None
        if np.linalg.norm(residual) > _SETTLED:
            moved = self._accelerated(em_map, step, coordinates, residual, n_left)
        return (step.parameters, None) if moved is None else moved

    def _look(self, step):
        """See every step that is made."""

    def _try(self, em_map, step, coordinates, vector):
        """The gain of a move, its θ and its EM step; -inf where it leads to no mixture."""
        self.n_extra += 1
        candidate = retract(
            em_map.family,
            step.theta,
            coordinates.tangent(vector),
            precisions=step.precisions,
            fixed_weights=em_map.fixed_weights,
        )
        try:
            following = em_map.step(candidate)
        except CollapsedComponentError:
            return -np.inf, None, None
        gain = following.lower_bound - step.lower_bound
        if em_map.reg_covar:
            gain -= _penalty(em_map, following, step.mass) - _penalty(em_map, step, step.mass)
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
    depth : int, default=10
        Number of differences that are kept.
    """

    def __init__(self, depth=10):
        super().__init__()
        self._depth = depth
        self._visited = []  # pairs θ, F(θ)

    def _look(self, step):
        self._visited = [*self._visited[-self._depth :], (step.theta, step.parameters)]

    def _accelerated(self, em_map, step, coordinates, residual, n_left):
        if len(self._visited) < 2:
            return None
        past = [
            (
                coordinates.of_tangent(_difference(step.theta, own)),
                residual - coordinates.of_tangent(_difference(image, own)),
            )
            for own, image in self._visited[:-1]
        ]
        theta_steps, residual_steps = np.array(past).transpose(1, 2, 0)
        mixing, *_ = np.linalg.lstsq(residual_steps, residual, rcond=1e-12)
        vector = residual - (theta_steps + residual_steps) @ mixing
        if np.linalg.norm(vector) < _LARGEST_MOVE:
            gain, *moved = self._try(em_map, step, coordinates, vector)
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

    def _accelerated(self, em_map, step, coordinates, residual, n_left):
        limit = self.n_extra + n_left - 2  # leaves room for a move, and for a plain step

        def product(vector):
            self.n_extra += 1
            image = em_map.jvp(step, coordinates.tangent(vector))
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
            gain, *moved = self._try(em_map, step, coordinates, vector)
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


class Auto(Newton):
    """Plain EM where that is fast, and Newton-Krylov where it would need many steps more.

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
            self._pause -= 1
            if self._pause > 0 or not self._is_slow(step):
                return step.parameters, None
            self.plain, self._pause = False, 0
        return super().move(em_map, step, n_left)

    def _is_slow(self, step):
        earlier, _, gain = np.diff(self._bounds)
        if gain <= _rounding(step):
            return False
        if not 0 < gain < earlier:
            return True
        shrink = np.sqrt(gain / earlier)
        return np.log(max(gain / self._goal, 1.0)) > _SLOW * np.log(1 / shrink)


SOLVERS = {None: Plain, "auto": Auto, "anderson": Anderson, "newton": Newton}


def solver_of(acceleration, depth, stopping):
    """What makes a solver, by its name.

    ``depth`` is that of ``"anderson"``, and a `Stopping` says where ``"auto"`` will end.
    """
    if acceleration == "anderson":
        return partial(Anderson, depth)
    if acceleration == "auto":
        return partial(Auto, min(stopping.tol, stopping.residual_tol**2) or _SETTLED**2)
    return SOLVERS[acceleration]


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


def _rounding(step):
    return _ROUNDING * (1.0 + abs(step.lower_bound))


def _penalty(em_map, step, mass):
    """½ reg_covar Σ_k N_k / n tr Σ_k⁻¹, at the θ of a step."""
    traces = em_map.family.trace(step.precisions.inverses, step.theta.n_features)
    return 0.5 * em_map.reg_covar * (mass * traces).sum() / em_map.data.total_weight


def _difference(new, old):
    parts = (a - b for a, b in zip(new, old, strict=True))
    return MixtureParameters(*parts, old.covariance_type)
