"""Coordinates in which the derivative of EM is close to symmetric, for Krylov solvers.

At a maximum of the likelihood I - ∂F/∂θ is the inverse of the complete data's Fisher information
times the observed one (Dempster, Laird, Rubin 1977): symmetric and positive definite in the inner
product of the former, which is block diagonal,

    n / w_k for weights,    N_k P_k for means,    N_k / 2 · P_k ⊗ P_k for covariances,

with the masses N_k, which are n w_k unless weights are fixed. At a temperature ε, in units of the
free energy, the first of them is ε n / w_k.
Its square root makes coordinates of tangents, and its inverse square root coordinates of
cotangents, in which the two pair as ⟨θ̄, θ̇⟩ = vᵀ u. (N stands for N / n below.)
"""

import numpy as np

from ..parameters import MixtureParameters
from . import family_of
from .base import lost_components


class FisherCoordinates:
    """Vectors that stand for tangents and cotangents at θ.

    Parameters
    ----------
    theta : MixtureParameters
    mass : ndarray of shape (n_components,), N_k
        Components that have lost all of it do not move: they are zero in all vectors.
    fixed_weights : bool
        Whether weights are left out.
    temperature : float, default=1.0
    family : Family, default=None
        None: by the covariance type of θ.
    precisions : Precisions of θ, default=None
    total : float, default=None
        The mass n of all components. None: what they sum up to, unless θ is many mixtures.
    """

    def __init__(
        self,
        theta,
        mass,
        fixed_weights,
        temperature=1.0,
        *,
        family=None,
        precisions=None,
        total=None,
    ):
        family = family or family_of(theta)
        precisions = precisions or family.precisions(theta.covariances, theta.n_features)
        self.family, self.fixed_weights = family, fixed_weights
        self._shape = theta.means.shape
        whitening, coloring = family.roots(precisions.factors)  # L⁻¹ and L
        self._of_tangent, self._to_tangent = whitening, coloring
        self._of_cotangent, self._to_cotangent = (
            family.transposed(root) for root in (coloring, whitening)
        )
        frozen = lost_components(mass)
        share = mass / (total or mass.sum())
        self._root = np.sqrt(share if frozen is None else np.where(frozen, 1.0, share))
        self._weight_root = self._root / np.sqrt(temperature)
        covariances = family.flatten(family.batch(theta.covariances))
        self._spread_shape = covariances.shape
        spread = 1.0 if family.is_shared else self._root[:, None]
        self._spread_root = spread * np.sqrt(0.5 * family.multiplicity(self._shape[1]))
        n_weights = 0 if fixed_weights else len(mass)
        self.size = n_weights + theta.means.size + covariances.size
        self._moving = 1.0
        if frozen is not None:
            means, spread = np.ones(self._shape), np.ones(self._spread_shape)
            means[frozen] = 0.0
            if not family.is_shared:
                spread[frozen] = 0.0
            self._moving = np.concatenate([np.ones(n_weights), means.ravel(), spread.ravel()])

    def of_cotangent(self, cotangent):
        """Vector of a cotangent."""
        parts = self._transformed(self._of_cotangent, cotangent)
        return self._joined(
            self._weight_root * cotangent.weights,
            parts[0] / self._root[:, None],
            parts[1] / self._spread_root,
        )

    def of_tangent(self, tangent):
        """Vector of a tangent."""
        parts = self._transformed(self._of_tangent, tangent)
        return self._joined(
            tangent.weights / self._weight_root,
            parts[0] * self._root[:, None],
            parts[1] * self._spread_root,
        )

    def cotangent(self, vector):
        """Cotangent of a vector."""
        weights, means, spread = self._split(vector)
        return self._parameters(
            self._to_cotangent,
            weights / self._weight_root,
            means * self._root[:, None],
            spread * self._spread_root,
        )

    def tangent(self, vector):
        """Tangent of a vector."""
        weights, means, spread = self._split(vector)
        return self._parameters(
            self._to_tangent,
            self._weight_root * weights,
            means / self._root[:, None],
            spread / self._spread_root,
        )

    def within(self, vector, plain, most, negligible):
        """The vector, if it changes no component by more than so many of its own units; else None.

        These are those of `scaled_change`, but of a weight relative to itself: for a component of
        little mass a change may be far longer than its part of the vector. Those of a negligible
        share of the mass do not count, and move as another vector, ``plain``, has it.
        """
        small = self._root**2 < negligible
        if small.any():
            parts = zip(self._split(vector), self._split(plain), strict=True)
            rows = small, small[:, None], small[:, None]
            if self.family.is_shared:
                rows = *rows[:2], np.zeros((1, 1), dtype=bool)
            vector = self._joined(
                *(np.where(row, b, a) for row, (a, b) in zip(rows, parts, strict=True))
            )
        weights, means, spread = self._split(vector)
        root = self._root[:, None]
        spread = np.sqrt(2.0) * spread / (1.0 if self.family.is_shared else root)
        parts = weights[:, None] / root, means / root, spread
        squares = (np.square(part).sum(axis=1) for part in parts)
        change = np.max(np.broadcast_arrays(*squares), axis=0)
        return None if (change[~small] > most * most).any() else vector

    def _transformed(self, root, theta):
        """Means, and flattened covariances, in other axes."""
        family = self.family
        means, batch = family.transform(root, theta.means, family.batch(theta.covariances))
        return means, family.flatten(batch)

    def _parameters(self, root, weights, means, spread):
        family = self.family
        batch = family.unflatten(spread, self._shape[1])
        means, batch = family.transform(root, means, batch)
        return MixtureParameters(weights, means, family.unbatch(batch), family.name)

    def _joined(self, weights, means, spread):
        parts = [means.ravel(), spread.ravel()]
        if not self.fixed_weights:
            parts.insert(0, weights)
        return self._moving * np.concatenate(parts)

    def _split(self, vector):
        n_components, n_features = self._shape
        weights = np.zeros(n_components)
        if not self.fixed_weights:
            weights, vector = vector[:n_components], vector[n_components:]
        n_means = n_components * n_features
        means = vector[:n_means].reshape(self._shape)
        return weights, means, vector[n_means:].reshape(self._spread_shape)


def scaled_change(new, old, *, family=None, precisions=None, enough=np.inf):
    """Largest change of a weight, of a mean and of a covariance, in units of the component.

    max_k of |Δw_k|, ‖U_kᵀ Δm_k‖ and ‖U_kᵀ ΔΣ_k U_k‖ (Frobenius), with Σ_k⁻¹ = U_k U_kᵀ: free of
    units, and the same in all affine coordinates. ``precisions`` are those of ``old``, if known.
    A change of a weight by ``enough`` or more is the answer, however large the others may be.
    """
    moved = np.abs(new.weights - old.weights).max()
    if moved >= enough:
        return float(moved)
    family = family or family_of(old)
    precisions = precisions or family.precisions(old.covariances, old.n_features)
    changes = component_changes(new, old, family, precisions)
    return float(np.sqrt(max(moved * moved, changes.max())))


def component_changes(new, old, family, precisions):
    """The squares of `scaled_change` of the mean or the covariance of each component.

    If they share a covariance, each has its change.
    """
    root = family.transposed(family.batch(precisions.factors))
    change = family.batch(new.covariances - old.covariances)
    step, spread = family.transform(root, new.means - old.means, change)
    spread = (spread * spread).reshape(len(spread), -1).sum(axis=1)
    spread = spread * family.multiplicity(step.shape[1])
    return np.maximum((step * step).sum(axis=1), spread)
