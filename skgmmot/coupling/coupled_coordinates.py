"""Coordinates of a coupled fit, in which the complete data have unit information.

About a base state with shares s_k (see `objective`) the free numbers are

    means         m_k = m°_k + L°_k u_k / √s_k
    covariances   L_k = L°_k B_k, with B_k lower triangular: c_ab / √s_k below the diagonal and
                  exp(c_aa / √(2 s_k)) on it
    deviations    σ_ka = σ°_ka exp(c_ka / √(2 s_k)); one c_k / √(2 d s_k) if spherical
    plan          P = R / Σ R,  R_kl = √κ_kl r_kl,  r ≥ 0,  1 / κ_kl = 1 / w_k + 1 / w'_l
                  if entropic R_kl = P°_kl exp(a_kl / √P°_kl)
    weights       w_k ∝ w°_k exp(a_k / √w°_k), where the plan does not carry them

With a frozen target the columns of R are scaled to its weights instead.

The Hessian of the expected complete log-likelihood at the base is then close to the identity,
whatever the units, the shares and the correlations. A tied factor L has a single B with s = 1.

The transport penalty makes it I + Jᵀ J, where J takes the coordinates to the gaps

    √(2 τ P_kl) (m_k − m'_l)    and    √(2 τ P_kl) (L_k − L'_l R_kl),    with R_kl held:

for large τ two components move together easily and apart hardly at all. With the Cholesky
factor G Gᵀ = I + Jᵀ J, Gᵀ u and Gᵀ c are the coordinates that are used.
"""

import numpy as np
from scipy.linalg.lapack import dtrtri

from ..transport.bures import nearest_rotations
from .objective import CoupledState, OutOfDomainError

# Shares below this do not make the coordinates of a component any longer.
_LEAST_SHARE = 1e-6
# A component whose share and weight are below this has lost its mass, and where it is plays no
# part. One without samples of its own may have a weight all the same, and is held by its partners.
_LOST_SHARE = 1e-9
# No standard deviation changes by more than e to this about one base: where a component without
# samples hardly feels how large it is, a step may be of any length.
_FARTHEST = 30.0
# Up to this many means, or covariances, the penalty's part of the Hessian is formed.
_LARGEST_HESSIAN = 600


class Coordinates:
    """Vectors that stand for states, about a base.

    Parameters
    ----------
    problem : CouplingProblem
    base : CoupledState
    shares : ndarray of shape (K + L,)
        s of the base.
    """

    def __init__(self, problem, base, shares):
        self.family = family = problem.family
        self.base = base
        n_source, n_target = base.plan.shape
        self.target_is_free = not problem.freeze_target
        self.plan_is_free = problem.plan_is_free
        self.plan_is_log = problem.reg > 0
        self.n_free = n_source + n_target if self.target_is_free else n_source
        n_features = base.means.shape[1]
        share = np.maximum(shares[: self.n_free], _LEAST_SHARE)
        self.inverse_root = 1.0 / np.sqrt(share)
        masses = np.maximum(shares, np.concatenate(base.weights))
        self.lost = masses[: self.n_free] < _LOST_SHARE
        self.groups = None
        if family.is_shared:  # one factor for each mixture
            self.groups = np.repeat([0, 1], [n_source, n_target])[: self.n_free]
            share = np.ones(self.groups[-1] + 1)
        if not family.is_diagonal:
            self.rows, self.columns = np.tril_indices(n_features)
            self.diagonal = np.flatnonzero(self.rows == self.columns)
            half = np.where(self.rows == self.columns, 0.5, 1.0)
            self.scale = np.sqrt(half / share[:, None])
            firsts = np.arange(self.n_free)
            if family.is_shared:
                firsts = np.searchsorted(self.groups, np.arange(len(share)))
            self.base_factors = np.array(base.factors[firsts])
        else:
            stands_for = family.multiplicity(n_features)
            self.scale = np.full((self.n_free, n_features // stands_for), np.sqrt(0.5 / stands_for))
            self.scale /= np.sqrt(share)[:, None]
            self.base_factors = base.factors[: self.n_free]
        w, v = (np.maximum(part, _LEAST_SHARE) for part in base.weights)
        self.plan_scale = np.sqrt(1.0 / (1.0 / w[:, None] + 1.0 / v))
        if self.plan_is_log:
            self.plan_scale = 1.0 / np.sqrt(np.maximum(base.plan, _LEAST_SHARE))
        free = [] if problem.fixed_weights else [w, v] if self.target_is_free else [w]
        self.log_scales = [1.0 / np.sqrt(part) for part in free]
        self.n_plan = base.plan.size if self.plan_is_free else sum(map(len, free))
        self.n_means = self.n_free * n_features
        self.size = self.n_plan + self.n_means + self.scale.size
        self.shear = [np.eye(0), np.eye(0)]  # G⁻¹, of means and of covariances
        if problem.transport_weight > 0:
            self.shear = self._shears(2.0 * problem.transport_weight)

    def _shears(self, tau2):
        """G⁻¹ for the means and for the covariances; of size 0 where it is not formed."""
        base, n_source = self.base, len(self.base.plan)
        rows, columns = np.nonzero(base.plan)
        if not len(rows):  # an unbalanced plan that moves nothing: J = 0
            return [np.eye(0), np.eye(0)]
        root = np.sqrt(tau2 * base.plan[rows, columns])
        columns = n_source + columns
        lost = np.append(self.lost, np.zeros(len(base.means) - self.n_free, dtype=bool))
        root[lost[rows] | lost[columns]] = 0.0  # they are left alone, and so are their partners
        n_features = base.means.shape[1]
        own = base.factors
        matrices = not self.family.is_diagonal
        if not matrices:
            own = own[:, :, None] * np.eye(n_features)
        ends = (rows, columns) if self.target_is_free else (rows,)
        shears = [np.eye(0), np.eye(0)]
        if self.n_means <= _LARGEST_HESSIAN:
            # of each pair with mass, dimensions of the gap by coordinates of a mean
            parts = [own[end] * (root * self.inverse_root[end])[:, None, None] for end in ends]
            shears[0] = _shear(self.n_free, ends, parts)
        if self.scale.size <= _LARGEST_HESSIAN:
            groups = np.arange(len(own)) if self.groups is None else self.groups
            blocks = [groups[end] for end in ends]
            if matrices:
                rotations = nearest_rotations(own[rows], own[columns])
                # d (L B) for B_ab is the column a of L in the column b
                gap = np.zeros((len(rows), n_features, n_features, self.scale.shape[1]))
                gap[:, :, self.columns, np.arange(len(self.rows))] = own[rows][:, :, self.rows]
                target_gap = np.einsum(
                    "pir,prj->pijr", own[columns][:, :, self.rows], rotations[:, self.columns]
                )
            elif self.scale.shape[1] == n_features:
                gap, target_gap = own[rows], own[columns]
            else:
                diagonals = np.einsum("kaa->ka", own)
                gap, target_gap = diagonals[rows][:, :, None], diagonals[columns][:, :, None]
            parts = [
                part.reshape(len(rows), -1, self.scale.shape[1])
                * (root[:, None] * self.scale[block])[:, None]
                for part, block in zip((gap, target_gap), blocks, strict=False)
            ]
            shears[1] = _shear(len(self.scale), blocks, parts)
        return shears

    @property
    def lower(self):
        """Lower bounds of the coordinates."""
        lower = np.full(self.size, -np.inf)
        if self.plan_is_free and not self.plan_is_log:
            lower[: self.n_plan] = 0.0
        return lower

    def start(self):
        """The vector of the base."""
        vector = np.zeros(self.size)
        if self.plan_is_free and not self.plan_is_log:
            vector[: self.n_plan] = (self.base.plan / self.plan_scale).ravel()
        return vector

    def live(self):
        """One for each coordinate, but zero for those of components that have lost their mass."""
        live = 1.0 - self.lost
        weights = np.ones(self.n_plan) if self.plan_is_free else live[: self.n_plan]
        means = np.repeat(live, self.n_means // self.n_free)
        spread = np.ones(len(self.scale)) if self.family.is_shared else live
        return np.concatenate([weights, means, np.repeat(spread, self.scale.shape[1])])

    def idle_directions(self):
        """Orthonormal directions at the base in which the state does not move, as rows."""
        rows, start = [], 0
        if self.plan_is_free:
            groups = np.broadcast_to(
                0 if self.target_is_free else np.arange(self.base.plan.shape[1]),
                self.base.plan.shape,
            ).ravel()
            idle = (self.base.plan > 0) / self.plan_scale
            if not self.plan_is_log:
                idle = self.base.plan / self.plan_scale
            rows = [idle.ravel() * (groups == group) for group in np.unique(groups)]
        else:
            for scale in self.log_scales:
                row = np.zeros(self.n_plan)
                row[start : start + len(scale)] = 1.0 / scale
                start += len(scale)
                rows.append(row)
        out = np.zeros((len(rows), self.size))
        for row, idle in zip(out, rows, strict=True):
            row[: self.n_plan] = idle / (np.linalg.norm(idle) or 1.0)
        return out

    def _split(self, vector):
        plan, rest = vector[: self.n_plan], vector[self.n_plan :]
        means, spread = rest[: self.n_means], rest[self.n_means :]
        if len(self.shear[0]):
            means = means @ self.shear[0]
        if len(self.shear[1]):
            spread = spread @ self.shear[1]
        return plan, means.reshape(self.n_free, -1), spread.reshape(self.scale.shape)

    def state(self, vector):
        """The state that a vector stands for."""
        plan_part, steps, spread = self._split(vector)
        base = self.base
        plan, weights = base.plan, base.weights
        if self.plan_is_free:
            plan = self._normalized(self._masses(plan_part))
            weights = plan.sum(axis=1), plan.sum(axis=0)
            if not self.target_is_free:
                weights = weights[0], base.weights[1]
        else:
            weights = self._moved_weights(plan_part)
        own = base.factors[: self.n_free]
        scaled = steps * self.inverse_root[:, None]
        if not self.family.is_diagonal:
            moves = (own @ scaled[:, :, None])[:, :, 0]
            factors = self.base_factors @ self._triangles(spread)
            if self.family.is_shared:
                factors = factors[self.groups]
        else:
            moves = own * scaled
            factors = own * _growths(self.scale * spread)
        means = base.means.copy()
        means[: self.n_free] += moves
        if self.n_free < len(means):
            factors = np.concatenate([factors, base.factors[self.n_free :]])
        return CoupledState(weights, means, factors, plan, base.potentials)

    def _moved_weights(self, logs):
        weights = list(self.base.weights)
        for i, scale in enumerate(self.log_scales):
            own, logs = scale * logs[: len(scale)], logs[len(scale) :]
            moved = weights[i] * np.exp(own - own.max())
            weights[i] = moved / moved.sum()
        return tuple(weights)

    def _masses(self, plan_part):
        """R."""
        scaled = self.plan_scale * plan_part.reshape(self.base.plan.shape)
        if not self.plan_is_log:
            return scaled
        largest = scaled.max(axis=0 if not self.target_is_free else None)
        return self.base.plan * np.exp(scaled - largest)

    def _normalized(self, masses):
        if self.target_is_free:
            return masses / masses.sum()
        columns, weights = masses.sum(axis=0), self.base.weights[1]
        # at zero, where bounds let it come, a column of R has no scale that makes it its weight
        if ((columns == 0) & (weights > 0)).any():
            raise OutOfDomainError("A component of the frozen target is in no pair of the plan.")
        return masses * np.divide(weights, columns, out=np.zeros_like(columns), where=columns > 0)

    def _triangles(self, spread):
        scaled = self.scale * spread
        scaled[:, self.diagonal] = _growths(scaled[:, self.diagonal])
        triangles = np.zeros((len(scaled), *self.base_factors.shape[1:]))
        triangles[:, self.rows, self.columns] = scaled
        return triangles

    def gradient(self, vector, evaluation):
        """Pull the gradient of an `Evaluation` at ``state(vector)`` back to the vector."""
        plan_part, _, spread = self._split(vector)
        own = self.base.factors[: self.n_free]
        means_bar = evaluation.means_bar[: self.n_free]
        factors_bar = evaluation.factors_bar[: self.n_free]
        if not self.family.is_diagonal:
            steps_bar = (np.swapaxes(own, 1, 2) @ means_bar[:, :, None])[:, :, 0]
            if self.family.is_shared:
                firsts = np.searchsorted(self.groups, np.arange(len(self.scale)))
                factors_bar = np.add.reduceat(factors_bar, firsts)
            triangles_bar = np.swapaxes(self.base_factors, 1, 2) @ factors_bar
            spread_bar = self.scale * triangles_bar[:, self.rows, self.columns]
            on = self.diagonal
            spread_bar[:, on] *= np.exp(self.scale[:, on] * spread[:, on])
        else:
            steps_bar = own * means_bar
            spread_bar = evaluation.state.factors[: self.n_free] * factors_bar
            spread_bar = self.scale * self.family.fold(spread_bar)
        parts = [(steps_bar * self.inverse_root[:, None]).ravel(), spread_bar.ravel()]
        parts = [
            shear @ part if len(shear) else part
            for shear, part in zip(self.shear, parts, strict=True)
        ]
        if self.plan_is_free:
            parts.insert(0, self._plan_gradient(plan_part, evaluation).ravel())
        else:
            state = evaluation.state
            for i in reversed(range(len(self.log_scales))):
                w, w_bar = state.weights[i], evaluation.weights_bar[i]
                parts.insert(0, self.log_scales[i] * w * (w_bar - w @ w_bar))
        return np.concatenate(parts)

    def scaled_step(self, gradient):
        """Largest change of a mean or a covariance in a step along a gradient.

        Means count in standard deviations of their component, covariances relative to
        themselves (Frobenius), as in `families.fisher.scaled_change`. Lost components are left out.
        """
        _, steps, spread = self._split(gradient)
        steps, spread = steps * self.inverse_root[:, None], self.scale * spread
        if not self.family.is_diagonal:
            spread = spread * np.where(self.rows == self.columns, 2.0, np.sqrt(2.0))
        else:
            spread = 2.0 * np.sqrt(self.family.multiplicity(steps.shape[1])) * spread
        steps[self.lost] = 0.0
        if self.groups is None:
            spread[self.lost] = 0.0
        return float(np.sqrt(max((part * part).sum(axis=1).max() for part in (steps, spread))))

    def _plan_gradient(self, plan_part, evaluation):
        plan, plan_bar = evaluation.state.plan, evaluation.plan_bar
        masses = self._masses(plan_part)
        weights = np.array([1.0]) if self.target_is_free else self.base.weights[1]
        axis = None if self.target_is_free else 0
        sums = masses.sum(axis=axis)
        positive = (weights > 0) & (sums > 0)
        mean = (plan * plan_bar).sum(axis=axis) / np.where(positive, weights, 1.0)
        excess = np.where(positive, plan_bar - mean, 0.0)
        if self.plan_is_log:
            return self.plan_scale * plan * excess
        return self.plan_scale * excess * weights / np.where(positive, sums, 1.0)


def _growths(logs):
    """By what factors standard deviations grow."""
    if not np.abs(logs).max() < _FARTHEST:
        raise OutOfDomainError("A standard deviation would grow or shrink by more than 1e13.")
    return np.exp(logs)


def _shear(n_blocks, blocks, parts):
    """G⁻¹ with G Gᵀ = I + Jᵀ J.

    The rows of J that belong to a pair have ``parts[0]`` of it, of shape (pairs, rows, size), in
    the columns of the first of its two ``blocks``, and ``−parts[1]`` in those of the second.
    """
    size = parts[0].shape[2]
    hessian = np.zeros((n_blocks, n_blocks, size, size))
    for i, mine in enumerate(parts):
        for j, other in enumerate(parts):
            products = np.swapaxes(mine, 1, 2) @ other
            np.add.at(hessian, (blocks[i], blocks[j]), products if i == j else -products)
    hessian = np.swapaxes(hessian, 1, 2).reshape(n_blocks * size, n_blocks * size)
    # where the identity drowns in the rounding of the rest, as much as makes it definite
    rounding = len(hessian) ** 2 * np.finfo(float).eps * hessian.diagonal().max()
    root = np.linalg.cholesky(hessian + max(1.0, rounding) * np.eye(len(hessian)))
    return dtrtri(root, lower=1)[0]
