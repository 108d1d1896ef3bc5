"""Covariance types: the two maps of EM whose size is that of the mixture, and their derivatives.

Let φ(x) be the features of a sample (`skgmmot.samples.interface`). Up to a term common to all
components, which cancels in responsibilities,

    log w_k g_k(x) = ⟨η_k, φ(x - r_k)⟩,    g_k = N(m_k, Σ_k),  P_k = Σ_k⁻¹ = U_k U_kᵀ,

about any reference point r_k. With μ_k = m_k - r_k the natural parameters η_k are

    1        c_k = log w_k + log det U_k - ½ d log 2π - ½ μ_kᵀ P_k μ_k
    z        b_k = P_k μ_k
    z_a z_b  -P_kab for b < a and -½ P_kaa, of which diag and spherical keep the diagonal or the
             trace, and tied nothing: it is common to all components.

At a temperature ε other than one (`skgmmot.em.em_map`) the logits are log w_k + log g_k(x) / ε:
everything but log w_k is divided by ε, and so are the squared factors U_k U_kᵀ.

The E-step turns η into statistics S_k = Σ_i s_i γ_ik φ(x_i - r_k), and the M-step reads N_k, S¹_k,
S²_k off their constant, linear and quadratic parts: with the shift δ_k = S¹_k / N_k,

    w_k = N_k / Σ_l N_l,    m_k = r_k + δ_k,    Σ_k = S²_k / N_k - δ_k δ_kᵀ + reg_covar · I.

A component that has lost all its mass keeps its mean and covariance, and moves with neither the
data nor the others.

Derivatives
-----------
A dot marks a tangent, a bar a cotangent; covariances and precisions and their (co)tangents are
symmetric. Reference points are constants: η and S are coordinates about them.

Natural parameters.

    Ṗ = -P Σ̇ P,    ḃ = P ṁ + Ṗ μ,    ċ = ẇ / w - ½ ⟨P, Σ̇⟩ - bᵀ ṁ - ½ μᵀ Ṗ μ,
    w̄ = c̄ / w,     m̄ = P (b̄ - c̄ μ),  P̄ = sym((b̄ - ½ c̄ μ) μᵀ) - ½ unpack(q̄),
    Σ̄ = -P P̄ P - ½ c̄ P,

q̄ being the cotangent of the quadratic coefficients. At a temperature ε all tangents of
coefficients but ẇ / w are divided by ε, and all cotangents where w̄ is not meant.

M-step. Everything is written in its result θ' and the masses N, from which the shift
δ = m' - r and the moment M = S² / N = Σ' - reg_covar I + δ δᵀ follow. With n = Σ_l N_l,

    δ̇ = (Ṡ¹ - δ Ṅ) / N = ṁ,    Σ̇ = (Ṡ² - M Ṅ) / N - δ̇ δᵀ - δ δ̇ᵀ,    ẇ = (Ṅ - w Σ_l Ṅ_l) / n,
    δ̄ = m̄ - 2 Σ̄ δ,    S̄¹ = δ̄ / N,    S̄² = Σ̄ / N,
    N̄ = (w̄ - Σ_l w_l w̄_l) / n - ⟨δ̄, δ⟩ / N - ⟨Σ̄, M⟩ / N.
"""

import math
from typing import NamedTuple

import numpy as np

from ..kernels.small_matrices import mark_beyond, mark_outweighed, weighted_means
from ..numerics.packing import plain
from ..parameters import MixtureParameters
from ..samples.interface import NO_FACTORS, NOBODY, Logits
from .covariances import Covariances

# A component with less than this share of the mass has lost it: quotients by it mean nothing.
LOST_SHARE = 1e-280


class Family(Covariances):
    """A covariance type, and the two maps of EM for it.

    A type says how its covariances act (`Covariances`), and of the maps only what is left open
    here.
    """

    # Natural parameters

    def natural(self, theta, reference=None, *, apart=None, temperature=1.0, precisions=None):
        """Logits of a mixture, about one common reference point or about the means.

        Parameters
        ----------
        theta : MixtureParameters
        reference : ndarray of shape (n_features,) or (n_components, n_features), default=None
            Common reference point (the matrix way), or one for each component. None: each
            component's mean (the centered way); a tied mixture is then written as a full one.
        apart : ndarray of int64, default=None
            Components that go the centered way all the same (not those of a tied mixture).
        temperature : float, default=1.0
            ε > 0.
        precisions : Precisions, default=None
            Of θ, if they are known.

        Returns
        -------
        logits : Logits
        """
        means, apart = theta.means, NOBODY if apart is None else apart
        if reference is None:
            references, apart = np.array(means, order="C"), np.arange(len(means))
        elif len(apart):
            references = np.repeat(reference[None], len(means), axis=0)
            references[apart] = means[apart]
        else:
            references = np.atleast_2d(reference)
        precisions = precisions or self.precisions(theta.covariances, means.shape[1])
        features = self._features_of(means.shape[1], len(apart) == len(means))
        coefficients = np.empty((len(means), features.size))
        own = plain(theta.weights), precisions.log_det, self.batch(precisions.inverses)
        self._fill(*own, plain(means), references, float(temperature), coefficients)
        if not len(apart):
            return Logits(references, coefficients, NO_FACTORS, features)
        factors = self._kernel_factors(precisions.factors, *means.shape)[apart]
        return Logits(references, coefficients, factors / math.sqrt(temperature), features, apart)

    def _features_of(self, n_features, is_centered):
        """Features of logits, of which all go the centered way or not."""
        return self.features(n_features)

    def _kernel_factors(self, factors, n_components, n_features):
        """Factors as `Logits` have them."""
        raise NotImplementedError

    def _fill(self, weights, log_det, inverses, means, references, temperature, coefficients):
        """Write the natural parameters (`kernels.small_matrices`)."""
        raise NotImplementedError

    def _fill_quadratic(self, inverses, quadratic):
        """Write the quadratic part of η, a linear map of precisions or their tangents."""
        raise NotImplementedError

    def natural_jvp(self, theta, logits, tangent, *, temperature=1.0, precisions=None):
        """Tangent of the coefficients about ``logits.reference``.

        Parameters
        ----------
        theta : MixtureParameters
        logits : Logits, as `natural` made them of θ
        tangent : MixtureParameters, θ̇
        temperature : float, default=1.0
        precisions : Precisions, default=None

        Returns
        -------
        coefficients_dot : ndarray of shape (n_components, size of φ)
        """
        weights, means, covariances = theta
        n_features = means.shape[1]
        weights_dot, means_dot, sigma_dot = tangent
        precisions = precisions or self.precisions(covariances, n_features)
        inverses, sigma_dot = self.batch(precisions.inverses), self.batch(sigma_dot)
        shift = means - logits.reference
        inverses_dot = -self.sandwich(inverses, sigma_dot)
        linear = self.times(inverses, shift)
        pushed = self.times(inverses_dot, shift)
        out = np.empty((len(means), logits.features.size))
        out[:, 0] = (
            -0.5 * self.multiplicity(n_features) * self.inner(inverses, sigma_dot)
            - 0.5 * (shift * pushed).sum(axis=1)
            - (linear * means_dot).sum(axis=1)
        )
        out[:, 1 : 1 + n_features] = self.times(inverses, means_dot) + pushed
        self._fill_quadratic(inverses_dot, out[:, 1 + n_features :])
        out /= temperature
        out[:, 0] += _quotient(weights_dot, weights)
        return out

    def natural_vjp(self, theta, logits, coefficients_bar, *, temperature=1.0, precisions=None):
        """Pull a cotangent of the coefficients back to θ (transpose of `natural_jvp`)."""
        weights, means, covariances = theta
        precisions = precisions or self.precisions(covariances, means.shape[1])
        weights_bar = _quotient(coefficients_bar[:, 0], weights)
        means_bar, sigma_bar = self._pull_natural(
            precisions.inverses, means - logits.reference, coefficients_bar / temperature
        )
        return MixtureParameters(weights_bar, means_bar, sigma_bar, self.name)

    def _pull_natural(self, inverses, shift, coefficients_bar):
        """m̄ and Σ̄ of `natural_vjp`."""
        raise NotImplementedError

    def hidden_magnitude(self, inverses, reach):
        """Largest size of what the coefficients leave out, at samples within ``reach`` (d,)."""
        return 0.0

    def outweighed(self, logits, sizes, theta, inverses, reach, limit):
        """For which components too little is left of what the matrix way sums; None if for none.

        ``sizes`` are the largest that the features have of samples within ``reach`` (d,). What is
        summed, and what the logits leave out, may not come to ``limit``. The logarithm of a zero
        weight is no loss of accuracy.
        """
        marks, hidden = np.empty(len(theta.weights), bool), self.hidden_magnitude(inverses, reach)
        own = logits.coefficients, sizes, hidden, plain(theta.weights)
        return marks if mark_outweighed(*own, limit, marks) else None

    # The M-step

    def maximize(self, sums, reference, previous, *, reg_covar, fixed_weights, second_moment=None):
        """M-step: the parameters that maximize the expected log-likelihood.

        Parameters
        ----------
        sums : ndarray of shape (n_components, size of φ)
            S_k about the reference points.
        reference : ndarray of shape (n_components, n_features) or (1, n_features)
        previous : MixtureParameters
            Gives the weights if they are fixed, and the mean and covariance of a component that
            has lost all its mass.
        reg_covar : float
        fixed_weights : bool
        second_moment : ndarray of shape (n_features, n_features), default=None
            Σ_i s_i z_i z_iᵀ about a common reference point, where the sums have no quadratic part.

        Returns
        -------
        theta : MixtureParameters
        """
        shape = previous.means.shape
        sums, weights, divisor = plain(sums), np.empty(shape[0]), np.empty(shape[0])
        shift, means = np.empty(shape), np.empty(shape)
        out = weights, divisor, shift, means
        any_lost = weighted_means(sums, plain(reference), LOST_SHARE, *out)
        covariances = self._covariances(sums, divisor, shift, float(reg_covar), second_moment)
        if any_lost:
            lost = lost_components(sums[:, 0])
            means[lost] = previous.means[lost]
            if not self.is_shared:
                covariances[lost] = previous.covariances[lost]
        if fixed_weights:
            weights = previous.weights
        return MixtureParameters(weights, means, covariances, self.name)

    def _covariances(self, sums, divisor, shift, reg_covar, second_moment):
        """Σ' of the M-step; ``divisor`` (n_components,) is N, and 1 where it is lost."""
        raise NotImplementedError

    def beyond(self, theta, reference, limit):
        """Which means are so far from their reference points that squares about these cancel.

        That is, a squared distance is more than ``limit`` times a variance. None if there are none.
        """
        marks, variances = np.empty(len(theta.means), dtype=bool), self.variances(theta.covariances)
        return marks if mark_beyond(theta.means, reference, variances, limit, marks) else None

    def maximize_jvp(
        self,
        updated,
        mass,
        reference,
        sums_dot,
        *,
        reg_covar,
        fixed_weights,
        second_moment_dot=None,
    ):
        """Tangent of the M-step's result.

        Parameters
        ----------
        updated : MixtureParameters
            θ', the result of the M-step.
        mass : ndarray of shape (n_components,)
            The masses N it was made with.
        reference : ndarray of shape (n_components, n_features) or (1, n_features)
        sums_dot : ndarray of shape (n_components, size of φ)
        reg_covar : float
        fixed_weights : bool
        second_moment_dot : ndarray of shape (n_features, n_features), default=None
            Where the sums have no quadratic part.

        Returns
        -------
        tangent : MixtureParameters
        """
        n_features = updated.means.shape[1]
        total, lost, divisor = _divisors(mass)
        mass_dot, shift = sums_dot[:, 0], updated.means - reference
        shift_dot = (sums_dot[:, 1 : 1 + n_features] - shift * mass_dot[:, None]) / divisor
        if lost is not None:
            shift_dot[lost] = 0.0
        moments = _Moments(updated.covariances, reg_covar, mass, divisor, shift)
        sigma_dot = self._covariances_dot(
            moments, mass_dot, shift_dot, sums_dot[:, 1 + n_features :], second_moment_dot
        )
        if lost is not None and not self.is_shared:
            sigma_dot[lost] = 0.0
        weights_dot = np.zeros(len(mass))
        if not fixed_weights:
            weights_dot = (mass_dot - mass / total * mass_dot.sum()) / total
        return MixtureParameters(weights_dot, shift_dot, sigma_dot, self.name)

    def _covariances_dot(self, moments, mass_dot, shift_dot, quadratic_dot, second_moment_dot):
        """Σ̇' of the M-step."""
        raise NotImplementedError

    def maximize_vjp(
        self, updated, mass, reference, cotangent, *, reg_covar, fixed_weights, has_quadratic=True
    ):
        """Pull a cotangent of the M-step's result back (transpose of `maximize_jvp`).

        Parameters
        ----------
        updated, mass, reference, reg_covar, fixed_weights
            As in `maximize_jvp`.
        cotangent : MixtureParameters
        has_quadratic : bool, default=True
            Whether the sums have a quadratic part (tied ones may not).

        Returns
        -------
        sums_bar : ndarray of shape (n_components, size of φ)
        second_moment_bar : ndarray of shape (n_features, n_features), or None
            Where the sums have no quadratic part.
        """
        total, lost, divisor = _divisors(mass)
        shift = updated.means - reference
        weights_bar, means_bar, sigma_bar = cotangent
        moments = _Moments(updated.covariances, reg_covar, mass, divisor, shift)
        mass_bar, pulled, quadratic_bar, second_moment_bar = self._pull_covariances(
            moments, sigma_bar, has_quadratic
        )
        shift_bar = means_bar - 2.0 * pulled
        mass_bar = mass_bar - (shift_bar * shift).sum(axis=1) / divisor[:, 0]
        if not fixed_weights:
            mass_bar = mass_bar + (weights_bar - weights_bar @ mass / total) / total
        sums_bar = np.concatenate([mass_bar[:, None], shift_bar / divisor, quadratic_bar], axis=1)
        if lost is not None:
            sums_bar[lost] = 0.0
        return sums_bar, second_moment_bar

    def _pull_covariances(self, moments, sigma_bar, has_quadratic):
        """What Σ̄ asks: -⟨Σ̄, M⟩ / N, Σ̄ δ, S̄² and the cotangent of the second moment or None."""
        raise NotImplementedError


class _Moments(NamedTuple):
    """What the derivative of an M-step is written in.

    covariances : ndarray, Σ'
    reg_covar : float
    mass : ndarray of shape (n_components,), N
    divisor : ndarray of shape (n_components, 1), N, and 1 where it is lost
    shift : ndarray of shape (n_components, n_features), δ
    """

    covariances: np.ndarray
    reg_covar: float
    mass: np.ndarray
    divisor: np.ndarray
    shift: np.ndarray


def lost_components(mass):
    """Which components have lost all their mass; None if none has."""
    return _lost(mass, mass.sum())


def _lost(mass, total):
    least = LOST_SHARE * total
    return None if mass.min() > least else mass <= least


def _divisors(mass):
    """The total mass, which components are lost or None, and masses (K, 1), 1 where lost."""
    total = mass.sum()
    lost = _lost(mass, total)
    return total, lost, (mass if lost is None else np.where(lost, 1.0, mass))[:, None]


def _quotient(numerator, weights):
    """numerator / w, and 0 where w = 0: the logit of such a component is pinned."""
    return np.divide(numerator, weights, out=np.zeros(len(weights)), where=weights > 0)
