"""A covariance matrix for each component. φ(x) = 1, x, x_a x_b (b ≤ a); p = 1 + d + d(d+1)/2.

What has the size of a matrix is done by compiled functions (`kernels.small_matrices`): for small
mixtures the overhead of a handful of calls of NumPy would exceed the pass over the samples.
"""

from functools import lru_cache

import numpy as np

from ..kernels.small_matrices import (
    central_moments,
    precisions,
    quadratic_coefficients,
    quadratic_pull_back,
)
from ..numerics import cholesky
from ..numerics.packing import packing, plain, unpack
from ..samples.interface import features_with
from .base import Family
from .covariances import Precisions, collapsed

_WORTH_LAPACK = 256  # features: from here on it is faster than what stands among the kernels


@lru_cache(maxsize=128)
def _features(n_features):
    a, b = np.tril_indices(n_features)
    return features_with(n_features, a + 1, b + 1)


def transpose(matrices):
    return matrices.swapaxes(-1, -2)


class Full(Family):
    """A covariance matrix for each component."""

    name = "full"

    def features(self, n_features):
        return _features(n_features)

    def shape(self, n_components, n_features):
        return n_components, n_features, n_features

    def n_parameters(self, n_components, n_features):
        return n_components * n_features * (n_features + 1) // 2

    def matrices(self, covariances, n_components, n_features):
        return np.asarray(covariances)

    def pull(self, matrices):
        return matrices

    def per_component(self, covariances, n_components, n_features):
        return self.matrices(covariances, n_components, n_features)

    def pull_per_component(self, spread):
        return self.pull(spread)

    def of_variances(self, variances, n_components):
        return np.broadcast_to(np.diag(variances), self.shape(n_components, len(variances)))

    def variances(self, covariances):
        batch = self.batch(covariances)
        return batch.reshape(len(batch), -1)[:, :: batch.shape[-1] + 1]

    def factors(self, covariances, n_components, n_features):
        factors = np.linalg.cholesky(covariances)
        return np.broadcast_to(factors, (n_components, n_features, n_features))

    def of_factors(self, factors):
        own = self.unbatch(factors)
        return own @ transpose(own)

    def symmetrized(self, covariances):
        return 0.5 * (covariances + transpose(covariances))

    # How covariances act, in batches

    def times(self, batch, vectors):
        return (batch @ vectors[:, :, None])[:, :, 0]

    def sandwich(self, outer, inner):
        return outer @ inner @ outer

    def inner(self, left, right):
        return (left * right).sum(axis=(-2, -1))

    def transform(self, root, means, batch):
        return self.times(root, means), root @ batch @ transpose(root)

    def roots(self, factors):
        whitening = transpose(self.batch(factors))
        return whitening, np.linalg.inv(whitening)

    def transposed(self, root):
        return transpose(root)

    def flatten(self, batch):
        packed, scale = packing(batch.shape[-1])
        # off-diagonal entries count twice
        return batch.reshape(len(batch), -1)[:, packed] * np.sqrt(-2.0 * scale)

    def unflatten(self, vectors, n_features):
        _, scale = packing(n_features)
        return unpack(vectors / np.sqrt(-2.0 * scale), n_features)

    def moments(self, covariances, n_features):
        batch = self.batch(covariances)
        return batch.reshape(len(batch), -1)[:, packing(n_features)[0]]

    def precisions(self, covariances, n_features):
        batch = plain(self.batch(covariances))
        lower, inverses = np.empty(batch.shape), np.empty(batch.shape)
        log_det = np.empty(len(batch))
        fill = precisions if n_features < _WORTH_LAPACK else cholesky.precisions
        if fill(batch, lower, inverses, log_det) >= 0:
            finite = np.isfinite(batch).all(axis=(1, 2))
            smallest = np.where(finite, 0.0, np.nan)
            if finite.all():
                smallest = np.linalg.eigvalsh(batch)[:, 0]
            raise collapsed(smallest, self.collapsed_name)
        return Precisions(self.unbatch(transpose(lower)), self.unbatch(inverses), log_det)

    collapsed_name = "The covariance of component {}"

    def trace(self, inverses, n_features):
        return np.trace(self.batch(inverses), axis1=1, axis2=2)

    def pull_trace(self, weights, inverses, n_features):
        return self.pull(weights[:, None, None] * (inverses @ inverses))

    # Natural parameters

    def _kernel_factors(self, factors, n_components, n_features):
        return np.array(np.broadcast_to(factors, (n_components, n_features, n_features)), order="C")

    def _fill(self, *natural):
        quadratic_coefficients(*natural)

    def _fill_quadratic(self, inverses, quadratic):
        if quadratic.shape[1]:
            packed, scale = packing(inverses.shape[-1])
            quadratic[:] = inverses.reshape(len(inverses), -1)[:, packed] * scale

    def _pull_natural(self, inverses, shift, coefficients_bar):
        inverses = np.array(self.batch(inverses), order="C")
        means_bar, sigma_bar = np.empty(shift.shape), np.empty(inverses.shape)
        quadratic_pull_back(inverses, shift, coefficients_bar, means_bar, sigma_bar)
        return means_bar, self.unbatch(sigma_bar)

    # The M-step

    def _covariances(self, sums, divisor, shift, reg_covar, second_moment):
        covariances = np.empty((*shift.shape, shift.shape[1]))
        central_moments(sums, divisor, shift, reg_covar, covariances)
        return covariances

    def _covariances_dot(self, moments, mass_dot, shift_dot, quadratic_dot, second_moment_dot):
        n_features = shift_dot.shape[1]
        moment = scatter(moments) + outer(moments.shift, moments.shift)
        moved = unpack(quadratic_dot, n_features) - moment * mass_dot[:, None, None]
        return moved / moments.divisor[:, :, None] - twice_outer(shift_dot, moments.shift)

    def _pull_covariances(self, moments, sigma_bar, has_quadratic):
        pulled = self.times(sigma_bar, moments.shift)
        gained = self.inner(sigma_bar, scatter(moments)) + (pulled * moments.shift).sum(axis=1)
        packed, scale = packing(pulled.shape[1])
        weighed = (sigma_bar / moments.divisor[:, :, None]).reshape(len(pulled), -1)
        # off-diagonal entries stand for two
        return -gained / moments.divisor[:, 0], pulled, weighed[:, packed] * (-2.0 * scale), None


def scatter(moments):
    """Σ' - reg_covar I."""
    covariances = moments.covariances
    return covariances - moments.reg_covar * np.eye(covariances.shape[-1])


def outer(left, right):
    """u_k v_kᵀ."""
    return left[:, :, None] * right[:, None, :]


def twice_outer(left, right):
    """u_k v_kᵀ + v_k u_kᵀ."""
    cross = outer(left, right)
    return cross + transpose(cross)
