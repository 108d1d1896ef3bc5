"""One covariance matrix for all components. φ(x) = 1, x; p = 1 + d.

The quadratic part of the logits is common to all components and cancels. About a common center the
M-step needs the second moment T = Σ_i s_i z_i z_iᵀ of all samples, which EM does not change:

    Σ' = (T - Σ_k N_k δ_k δ_kᵀ) / n + reg_covar I,

    Σ̇' = (Ṫ - Σ_k (Ṅ δ δᵀ + N δ̇ δᵀ + N δ δ̇ᵀ) - (Σ' - reg_covar I) Σ_l Ṅ_l) / n,
    T̄ = Σ̄ / n,    δ̄ = m̄ - 2 (N / n) Σ̄ δ,
    N̄ = … - ⟨δ̄, δ⟩ / N - (δᵀ Σ̄ δ + ⟨Σ̄, Σ' - reg_covar I⟩) / n.

About the means (the centered way) a tied mixture is written as a full one, and T is the sum of the
components' moments.
"""

from functools import lru_cache

import numpy as np

from ..kernels.small_matrices import largest_form, shared_central_moment
from ..numerics.packing import packing, plain, unpack
from ..parameters import MixtureParameters
from ..samples.interface import features_with
from .full import Full, outer, scatter, twice_outer


@lru_cache(maxsize=128)
def _features(n_features):
    return features_with(n_features, (), ())


class Tied(Full):
    """One covariance matrix for all components."""

    name = "tied"
    is_shared = True
    collapsed_name = "The tied covariance"

    def features(self, n_features):
        return _features(n_features)

    def shape(self, n_components, n_features):
        return n_features, n_features

    def n_parameters(self, n_components, n_features):
        return super().n_parameters(1, n_features)

    def matrices(self, covariances, n_components, n_features):
        return np.broadcast_to(covariances, (n_components, n_features, n_features))

    def pull(self, matrices):
        return matrices.sum(axis=0)

    def of_variances(self, variances, n_components):
        return np.diag(variances)

    # How covariances act, in batches

    def batch(self, covariances):
        return covariances[None]

    def unbatch(self, batch):
        return batch[0]

    # Natural parameters

    def _features_of(self, n_features, is_centered):
        return super().features(n_features) if is_centered else self.features(n_features)

    def hidden_magnitude(self, inverses, reach):
        return 0.5 * largest_form(inverses, reach)

    def common_logits(self, theta, center, *, temperature=1.0, precisions=None):
        """Logits of one component that are the quadratic part about a center, all else zero."""
        one = MixtureParameters(np.ones(1), center[None], theta.covariances[None], "full")
        if precisions is not None:
            precisions = precisions._replace(
                factors=precisions.factors[None], inverses=precisions.inverses[None]
            )
        logits = _FULL.natural(one, center, temperature=temperature, precisions=precisions)
        logits.coefficients[0, 0] = 0.0
        return logits

    # The M-step

    def _covariances(self, sums, divisor, shift, reg_covar, second_moment):
        n_features = shift.shape[1]
        if second_moment is None:
            second_moment = unpack(sums[:, 1 + n_features :].sum(axis=0), n_features)
        covariance = np.empty((n_features, n_features))
        shared_central_moment(sums, plain(second_moment), shift, reg_covar, covariance)
        return covariance

    def _covariances_dot(self, moments, mass_dot, shift_dot, quadratic_dot, second_moment_dot):
        mass, shift = moments.mass, moments.shift
        if second_moment_dot is None:
            second_moment_dot = unpack(quadratic_dot.sum(axis=0), shift.shape[1])
        moved = mass_dot[:, None, None] * outer(shift, shift)
        moved = moved + mass[:, None, None] * twice_outer(shift_dot, shift)
        grown = scatter(moments) * mass_dot.sum()
        return (second_moment_dot - moved.sum(axis=0) - grown) / mass.sum()

    def _pull_covariances(self, moments, sigma_bar, has_quadratic):
        mass, shift = moments.mass, moments.shift
        total = mass.sum()
        pulled = self.times(sigma_bar, shift)
        gained = (sigma_bar * scatter(moments)).sum() + (pulled * shift).sum(axis=1)
        pulled = pulled * (mass[:, None] / total)
        second_moment_bar = sigma_bar / total
        if not has_quadratic:
            return -gained / total, pulled, np.zeros((len(mass), 0)), second_moment_bar
        packed, scale = packing(shift.shape[1])
        quadratic_bar = second_moment_bar.reshape(1, -1)[:, packed] * (-2.0 * scale)
        return -gained / total, pulled, np.repeat(quadratic_bar, len(mass), axis=0), None


_FULL = Full()
