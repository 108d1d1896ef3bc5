"""A variance for each component and feature. φ(x) = 1, x, x_a²; p = 1 + 2d.

Written for batches of shape (K, w) whose entries stand for d / w features each, so that spherical
covariances (w = 1) are the same but for `fold`.
"""

from functools import lru_cache

import numpy as np

from ..kernels.small_matrices import (
    diagonal_central_moments,
    diagonal_coefficients,
    diagonal_precisions,
)
from ..numerics.packing import plain
from ..samples.interface import features_with
from .base import Family
from .covariances import Precisions, collapsed


@lru_cache(maxsize=128)
def _features(n_features):
    rows = np.arange(1, n_features + 1)
    return features_with(n_features, rows, rows)


class Diagonal(Family):
    """A variance for each component and feature."""

    name = "diag"
    is_diagonal = True

    def features(self, n_features):
        return _features(n_features)

    def shape(self, n_components, n_features):
        return n_components, n_features

    def n_parameters(self, n_components, n_features):
        return n_components * n_features

    def matrices(self, covariances, n_components, n_features):
        return self.batch(np.asarray(covariances))[:, :, None] * np.eye(n_features)

    def pull(self, matrices):
        return self.pull_per_component(np.einsum("kaa->ka", matrices))

    def per_component(self, covariances, n_components, n_features):
        return np.broadcast_to(self.batch(covariances), (n_components, n_features))

    def pull_per_component(self, spread):
        return self.unbatch(self.fold(spread))

    def of_variances(self, variances, n_components):
        return np.broadcast_to(variances, (n_components, len(variances)))

    def variances(self, covariances):
        return self.batch(covariances)

    def factors(self, covariances, n_components, n_features):
        return self.per_component(np.sqrt(covariances), n_components, n_features)

    def of_factors(self, factors):
        return factors**2

    # How covariances act, in batches

    def fold(self, values):
        """Sums of an array (K, d) over the features that one entry stands for, (K, w)."""
        return values

    def times(self, batch, vectors):
        return batch * vectors

    def sandwich(self, outer, inner):
        return outer * (outer * inner)  # P² alone may over- or underflow

    def inner(self, left, right):
        return (left * right).sum(axis=1)

    def transform(self, root, means, batch):
        return root * means, root * (root * batch)

    def roots(self, factors):
        whitening = self.batch(factors)
        return whitening, 1.0 / whitening

    def moments(self, covariances, n_features):
        return self.multiplicity(n_features) * self.batch(covariances)

    def precisions(self, covariances, n_features):
        batch = plain(self.batch(covariances))
        factors, inverses = np.empty(batch.shape), np.empty(batch.shape)
        log_det = np.empty(len(batch))
        if diagonal_precisions(batch, n_features, factors, inverses, log_det) >= 0:
            finite = np.isfinite(batch).all(axis=1)
            raise collapsed(np.where(finite, batch.min(axis=1), np.nan))
        return Precisions(self.unbatch(factors), self.unbatch(inverses), log_det)

    def trace(self, inverses, n_features):
        return self.multiplicity(n_features) * self.batch(inverses).sum(axis=1)

    def pull_trace(self, weights, inverses, n_features):
        pulled = self.batch(inverses) * (weights[:, None] * self.batch(inverses))
        return self.multiplicity(n_features) * self.unbatch(pulled)

    # Natural parameters

    def _kernel_factors(self, factors, n_components, n_features):
        factors = self.per_component(factors, n_components, n_features)
        return np.array(factors[:, None], order="C")

    def _fill(self, *natural):
        diagonal_coefficients(*natural)

    def _fill_quadratic(self, inverses, quadratic):
        quadratic[:] = -0.5 * inverses

    def _pull_natural(self, inverses, shift, coefficients_bar):
        inverses, n_features = self.batch(inverses), shift.shape[1]
        constant_bar = coefficients_bar[:, :1]
        linear_bar = coefficients_bar[:, 1 : 1 + n_features]
        means_bar = inverses * (linear_bar - constant_bar * shift)
        inverses_bar = self.fold((linear_bar - 0.5 * constant_bar * shift) * shift)
        inverses_bar = inverses_bar - 0.5 * coefficients_bar[:, 1 + n_features :]
        sigma_bar = -inverses * (inverses * inverses_bar)
        sigma_bar -= 0.5 * self.multiplicity(n_features) * constant_bar * inverses
        return means_bar, self.unbatch(sigma_bar)

    # The M-step: with c = d / w,  Σ = (S² / N - fold(δ²)) / c + reg_covar

    def _covariances(self, sums, divisor, shift, reg_covar, second_moment):
        variances = np.empty((len(shift), sums.shape[1] - 1 - shift.shape[1]))
        diagonal_central_moments(sums, divisor, shift, reg_covar, variances)
        return self.unbatch(variances)

    def _moment(self, moments):
        """c (Σ - reg_covar) + fold(δ²)."""
        central = self.batch(moments.covariances) - moments.reg_covar
        return self.multiplicity(moments.shift.shape[1]) * central + self.fold(moments.shift**2)

    def _covariances_dot(self, moments, mass_dot, shift_dot, quadratic_dot, second_moment_dot):
        moved = quadratic_dot - self._moment(moments) * mass_dot[:, None]
        moved = moved / moments.divisor - 2 * self.fold(moments.shift * shift_dot)
        return self.unbatch(moved / self.multiplicity(shift_dot.shape[1]))

    def _pull_covariances(self, moments, sigma_bar, has_quadratic):
        weighed = self.batch(sigma_bar) / self.multiplicity(moments.shift.shape[1])
        mass_bar = -self.inner(weighed, self._moment(moments)) / moments.divisor[:, 0]
        return mass_bar, weighed * moments.shift, weighed / moments.divisor, None
