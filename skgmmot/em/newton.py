"""Newton-Krylov: Newton steps that conjugate gradients find.

They solve A v = r, A = I - J, with products that are exact JVPs of an EM step, in a trust region
‖v‖ ≤ ρ (Steihaug 1983): they stop at its border, which directions of negative curvature lead to as
well, so that v climbs far from a maximum too. ρ follows the ratio of the gain to that of the model,
⟨r, v⟩ - ½ ⟨v, A v⟩. An EM step follows each.
"""

import numpy as np

from .moves import LARGEST_MOVE, Safeguarded, rounding

_FIRST_RADIUS = 0.3
_MAX_TRIES = 3  # of a truncated step
_FORCING = 0.1  # relative residual at which conjugate gradients stop, or √‖r‖ if that is less


class Newton(Safeguarded):
    """Newton-Krylov in a trust region."""

    def __init__(self):
        super().__init__()
        self._radius = _FIRST_RADIUS

    def accelerated(self, em_map, step, coordinates, residual, n_left):
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
        self.pause = 1
        for _ in range(_MAX_TRIES):
            if self.n_extra > limit:
                break
            vector, image = _cut(path, self._radius)
            length = np.linalg.norm(vector)
            predicted = residual @ vector - 0.5 * vector @ image
            gain, *moved = self.try_move(em_map, step, coordinates, vector)
            if predicted > 10 * rounding(step):  # else the ratio is one of rounding errors
                if gain < 0.25 * predicted:
                    self._radius = 0.25 * length
                elif gain > 0.75 * predicted and length > 0.9 * self._radius:
                    self._radius = min(2.0 * self._radius, LARGEST_MOVE)
            else:
                self._radius = max(self._radius, _FIRST_RADIUS)
            if self.accepts(gain, step):
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
