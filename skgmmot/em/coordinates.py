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

from ..parameters import MixtureParameters, covariance_shape
from .exponential_family import lost_components, packing, precisions_of, unpack


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
    """

    def __init__(self, theta, mass, fixed_weights, temperature=1.0):
        self.theta = theta
        self.fixed_weights = fixed_weights
        kind, n_features = theta.covariance_type, theta.n_features
        factors = precisions_of(theta.covariances, kind, n_features).factors
        frozen = lost_components(mass)
        share = mass / mass.sum()
        self._root = np.sqrt(share if frozen is None else np.where(frozen, 1.0, share))
        self._weight_root = self._root / np.sqrt(temperature)
        if kind in ("full", "tied"):
            self._inverse = np.swapaxes(factors, -1, -2)  # L⁻¹
            self._lower = np.linalg.inv(self._inverse)  # Σ = L Lᵀ
        else:
            self._lower = 1.0 / factors
        shape = covariance_shape(kind, theta.n_components, n_features)
        triangle = n_features * (n_features + 1) // 2
        self._shape = (*shape[:-2], triangle) if kind in ("full", "tied") else shape
        self.size = theta.means.size + int(np.prod(self._shape))
        self.size += 0 if fixed_weights else theta.n_components
        self._moving = np.ones(self.size)
        if frozen is not None:
            means, covariances = np.ones(theta.means.shape), np.ones(self._shape)
            means[frozen] = 0.0
            if kind != "tied":
                covariances[frozen] = 0.0
            self._moving[-means.size - covariances.size :] = [*means.flat, *covariances.flat]

    def of_cotangent(self, cotangent):
        """Vector of a cotangent."""
        weights, means, covariances = cotangent
        return self._moving * self._join(
            self._weight_root * weights, *self._scale(means, covariances, -1)
        )

    def of_tangent(self, tangent):
        """Vector of a tangent."""
        weights, means, covariances = tangent
        return self._moving * self._join(
            weights / self._weight_root, *self._scale(means, covariances, 1)
        )

    def cotangent(self, vector):
        """Cotangent of a vector."""
        weights, means, covariances = self._split(vector)
        return self._parameters(weights / self._weight_root, *self._unscale(means, covariances, -1))

    def tangent(self, vector):
        """Tangent of a vector."""
        weights, means, covariances = self._split(vector)
        return self._parameters(self._weight_root * weights, *self._unscale(means, covariances, 1))

    def _parameters(self, weights, means, covariances):
        return MixtureParameters(weights, means, covariances, self.theta.covariance_type)

    def _scale(self, means, covariances, sign):
        """Information to the power sign / 2, on the means and the covariances."""
        root = self._root**sign
        kind = self.theta.covariance_type
        half = 0.5 ** (0.5 * sign)
        if kind in ("full", "tied"):
            # tangents: L⁻¹ Σ̇ L⁻ᵀ; cotangents: Lᵀ Σ̄ L
            left = self._inverse if sign > 0 else np.swapaxes(self._lower, -1, -2)
            means = (left @ means[:, :, None])[:, :, 0]
            covariances = left @ covariances @ np.swapaxes(left, -1, -2)
        elif kind == "diag":
            means = means * self._lower**-sign
            covariances = covariances * self._lower ** (-2 * sign)
        else:
            means = means * self._lower[:, None] ** -sign
            covariances = covariances * self._lower ** (-2 * sign)
            half = half * self.theta.n_features ** (0.5 * sign)
        share = 1.0 if kind == "tied" else root.reshape(-1, *[1] * (covariances.ndim - 1))
        return means * root[:, None], covariances * (half * share)

    def _unscale(self, means, covariances, sign):
        """Inverse of `_scale`."""
        root = self._root**sign
        kind = self.theta.covariance_type
        half = 0.5 ** (0.5 * sign)
        means = means / root[:, None]
        share = 1.0 if kind == "tied" else root.reshape(-1, *[1] * (covariances.ndim - 1))
        if kind == "spherical":
            half = half * self.theta.n_features ** (0.5 * sign)
        covariances = covariances / (half * share)
        if kind in ("full", "tied"):
            left = self._lower if sign > 0 else np.swapaxes(self._inverse, -1, -2)
            means = (left @ means[:, :, None])[:, :, 0]
            covariances = left @ covariances @ np.swapaxes(left, -1, -2)
        elif kind == "diag":
            means = means * self._lower**sign
            covariances = covariances * self._lower ** (2 * sign)
        else:
            means = means * self._lower[:, None] ** sign
            covariances = covariances * self._lower ** (2 * sign)
        return means, covariances

    def _join(self, weights, means, covariances):
        if self.theta.covariance_type in ("full", "tied"):
            packed, scale = packing(self.theta.n_features)
            flat = covariances.reshape(*covariances.shape[:-2], -1)[..., packed]
            covariances = flat * np.sqrt(-2.0 * scale)  # an isometry: off-diagonals count twice
        parts = [means.ravel(), covariances.ravel()]
        if not self.fixed_weights:
            parts.insert(0, weights)
        return np.concatenate(parts)

    def _split(self, vector):
        n_components = self.theta.n_components
        if self.fixed_weights:
            weights = np.zeros(n_components)
        else:
            weights, vector = vector[:n_components], vector[n_components:]
        size = self.theta.means.size
        means = vector[:size].reshape(self.theta.means.shape)
        covariances = vector[size:].reshape(self._shape)
        if self.theta.covariance_type in ("full", "tied"):
            n_features = self.theta.n_features
            _, scale = packing(n_features)
            covariances = unpack(covariances / np.sqrt(-2.0 * scale), n_features)
        return weights, means, covariances
