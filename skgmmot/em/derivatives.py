"""Tangents and cotangents of the two maps in `exponential_family`.

A dot marks a tangent, a bar a cotangent; covariances and precisions and their (co)tangents are
symmetric. Reference points are constants: η and S are coordinates about them.

Natural parameters. With μ = m - r and c the constant coefficient, b = P μ the linear ones,

    Ṗ = -P Σ̇ P,    ḃ = P ṁ + Ṗ μ,    ċ = ẇ / w - ½ ⟨P, Σ̇⟩ - bᵀ ṁ - ½ μᵀ Ṗ μ,
    w̄ = c̄ / w,     m̄ = P (b̄ - c̄ μ),  P̄ = sym(b̄ μᵀ) - ½ c̄ μ μᵀ - ½ unpack(q̄),
    Σ̄ = -P P̄ P - ½ c̄ P,

q̄ being the cotangent of the quadratic coefficients -P_ab (b < a) and -½ P_aa. At a temperature ε
all tangents of coefficients but ẇ / w are divided by ε, and all cotangents where w̄ is not meant.

M-step. Everything is written in its result θ' and the masses N, from which the shift
δ = m' - r and the moment M = S² / N = Σ' - reg_covar I + δ δᵀ follow. With n = Σ_l N_l,

    δ̇ = (Ṡ¹ - δ Ṅ) / N = ṁ,    Σ̇ = (Ṡ² - M Ṅ) / N - δ̇ δᵀ - δ δ̇ᵀ,    ẇ = (Ṅ - w Σ_l Ṅ_l) / n,
    δ̄ = m̄ - 2 Σ̄ δ,    S̄¹ = δ̄ / N,    S̄² = Σ̄ / N,
    N̄ = (w̄ - Σ_l w_l w̄_l) / n - ⟨δ̄, δ⟩ / N - ⟨Σ̄, M⟩ / N.

A tied covariance is (T - Σ_k N_k δ_k δ_kᵀ) / n + reg_covar I, T being the second moment, so

    Σ̇ = (Ṫ - Σ_k (Ṅ δ δᵀ + N δ̇ δᵀ + N δ δ̇ᵀ) - (Σ' - reg_covar I) Σ_l Ṅ_l) / n,
    T̄ = Σ̄ / n,    δ̄ = m̄ - 2 (N / n) Σ̄ δ,
    N̄ = … - ⟨δ̄, δ⟩ / N - (δᵀ Σ̄ δ + ⟨Σ̄, Σ' - reg_covar I⟩) / n.

A component that has lost all its mass keeps its mean and covariance, and moves with neither the
data nor the others.
"""

import numpy as np

from ..kernels.precision import quadratic_pull_back
from ..parameters import MixtureParameters
from .exponential_family import lost_components, packing, precisions_of, unpack


def natural_parameters_jvp(theta, logits, tangent, temperature=1.0):
    """Tangent of the coefficients about ``logits.reference``.

    Parameters
    ----------
    theta : MixtureParameters
    logits : Logits, as `natural_parameters` made them of θ
    tangent : MixtureParameters, θ̇
    temperature : float, default=1.0

    Returns
    -------
    coefficients_dot : ndarray of shape (n_components, size of φ)
    """
    weights, means, covariances = theta
    kind, n_features = theta.covariance_type, theta.n_features
    weights_dot, means_dot, sigma_dot = tangent
    _, precisions, _ = precisions_of(covariances, kind, n_features)
    shift = means - logits.reference
    constant_dot = np.zeros(len(weights))
    if kind in ("full", "tied"):
        precisions_dot = -precisions @ sigma_dot @ precisions
        linear_dot = _times(precisions, means_dot) + _times(precisions_dot, shift)
        linear = _times(precisions, shift)
        constant_dot = constant_dot - 0.5 * (precisions * sigma_dot).sum(axis=(-2, -1))
        constant_dot = constant_dot - 0.5 * (shift * _times(precisions_dot, shift)).sum(axis=1)
    else:
        if kind == "spherical":
            precisions, sigma_dot = precisions[:, None], sigma_dot[:, None]
        multiplicity = n_features if kind == "spherical" else 1
        precisions_dot = -precisions * precisions * sigma_dot
        linear_dot = precisions * means_dot + precisions_dot * shift
        linear = precisions * shift
        constant_dot = constant_dot - 0.5 * multiplicity * (precisions * sigma_dot).sum(axis=1)
        constant_dot = constant_dot - 0.5 * (shift * precisions_dot * shift).sum(axis=1)
    constant_dot = constant_dot - (linear * means_dot).sum(axis=1)

    out = np.zeros((theta.n_components, logits.features.size))
    out[:, 0] = constant_dot
    out[:, 1 : 1 + n_features] = linear_dot
    quadratic = out[:, 1 + n_features :]
    if quadratic.shape[1] and kind in ("full", "tied"):
        packed, scale = packing(n_features)
        quadratic[:] = precisions_dot.reshape(-1, n_features**2)[:, packed] * scale
    elif kind != "tied":
        quadratic[:] = -0.5 * precisions_dot
    out /= temperature
    out[:, 0] += _quotient(weights_dot, weights)
    return out


def natural_parameters_vjp(theta, logits, coefficients_bar, temperature=1.0):
    """Pull a cotangent of the coefficients back to θ (transpose of `natural_parameters_jvp`)."""
    weights, means, covariances = theta
    kind, n_features = theta.covariance_type, theta.n_features
    _, precisions, _ = precisions_of(covariances, kind, n_features)
    shift = means - logits.reference
    weights_bar = _quotient(coefficients_bar[:, 0], weights)
    coefficients_bar = coefficients_bar / temperature
    if kind in ("full", "tied"):
        precisions = np.array(precisions, order="C").reshape(-1, n_features, n_features)
        means_bar, sigma_bar = np.empty(means.shape), np.empty(precisions.shape)
        quadratic_pull_back(precisions, shift, coefficients_bar, means_bar, sigma_bar)
        sigma_bar = sigma_bar[0] if kind == "tied" else sigma_bar
        return MixtureParameters(weights_bar, means_bar, sigma_bar, kind)
    if kind == "spherical":
        precisions = precisions[:, None]
    constant_bar = coefficients_bar[:, :1]
    linear_bar = coefficients_bar[:, 1 : 1 + n_features]
    means_bar = precisions * (linear_bar - constant_bar * shift)
    precisions_bar = (linear_bar - 0.5 * constant_bar * shift) * shift
    if kind == "spherical":
        precisions_bar = precisions_bar.sum(axis=1, keepdims=True)
    precisions_bar = precisions_bar - 0.5 * coefficients_bar[:, 1 + n_features :]
    multiplicity = n_features if kind == "spherical" else 1
    sigma_bar = -precisions * precisions * precisions_bar
    sigma_bar -= 0.5 * multiplicity * constant_bar * precisions
    if kind == "spherical":
        sigma_bar = sigma_bar[:, 0]
    return MixtureParameters(weights_bar, means_bar, sigma_bar, kind)


def maximize_jvp(
    updated, mass, reference, statistics_dot, *, reg_covar, fixed_weights, second_moment_dot=None
):
    """Tangent of the M-step's result.

    Parameters
    ----------
    updated : MixtureParameters
        θ', the result of the M-step.
    mass : ndarray of shape (n_components,)
        The masses N it was made with.
    reference : ndarray of shape (n_components, n_features) or (1, n_features)
    statistics_dot : ndarray of shape (n_components, size of φ)
    reg_covar : float
    fixed_weights : bool
    second_moment_dot : ndarray of shape (n_features, n_features), default=None
        Ṫ for tied statistics that have no quadratic part.

    Returns
    -------
    tangent : MixtureParameters
    """
    kind, n_features = updated.covariance_type, updated.n_features
    total, divisor, lost, shift = _masses_and_shift(updated, mass, reference)
    mass_dot = statistics_dot[:, 0]
    quadratic_dot = statistics_dot[:, 1 + n_features :]
    shift_dot = (statistics_dot[:, 1 : 1 + n_features] - shift * mass_dot[:, None]) / divisor
    shift_dot[lost] = 0.0
    if kind in ("full", "tied"):
        cross = shift_dot[:, :, None] * shift[:, None, :]
        cross = cross + np.swapaxes(cross, -1, -2)
        scatter = _less_diagonal(updated.covariances, reg_covar)
        outer = shift[:, :, None] * shift[:, None, :]
    if kind == "full":
        moment = scatter + outer
        moved = unpack(quadratic_dot, n_features) - moment * mass_dot[:, None, None]
        sigma_dot = moved / divisor[:, :, None] - cross
    elif kind == "tied":
        if second_moment_dot is None:
            second_moment_dot = unpack(quadratic_dot.sum(axis=0), n_features)
        moved = mass_dot[:, None, None] * outer + mass[:, None, None] * cross
        sigma_dot = (second_moment_dot - moved.sum(axis=0) - scatter * mass_dot.sum()) / total
    elif kind == "diag":
        moment = updated.covariances - reg_covar + shift**2
        sigma_dot = (quadratic_dot - moment * mass_dot[:, None]) / divisor - 2 * shift * shift_dot
    else:
        moment = n_features * (updated.covariances - reg_covar) + (shift**2).sum(axis=1)
        sigma_dot = (quadratic_dot[:, 0] - moment * mass_dot) / divisor[:, 0]
        sigma_dot = (sigma_dot - 2 * (shift * shift_dot).sum(axis=1)) / n_features
    if kind != "tied":
        sigma_dot[lost] = 0.0
    weights_dot = np.zeros(len(mass))
    if not fixed_weights:
        weights_dot = (mass_dot - mass / total * mass_dot.sum()) / total
    return MixtureParameters(weights_dot, shift_dot, sigma_dot, kind)


def maximize_vjp(
    updated, mass, reference, cotangent, *, reg_covar, fixed_weights, has_quadratic=True
):
    """Pull a cotangent of the M-step's result back (transpose of `maximize_jvp`).

    Parameters
    ----------
    updated, mass, reference, reg_covar, fixed_weights
        As in `maximize_jvp`.
    cotangent : MixtureParameters
    has_quadratic : bool, default=True
        Whether the statistics have a quadratic part (tied ones may not).

    Returns
    -------
    statistics_bar : ndarray of shape (n_components, size of φ)
    second_moment_bar : ndarray of shape (n_features, n_features), or None
        T̄ for tied statistics without a quadratic part.
    """
    kind, n_features = updated.covariance_type, updated.n_features
    total, divisor, lost, shift = _masses_and_shift(updated, mass, reference)
    weights_bar, means_bar, sigma_bar = cotangent
    second_moment_bar = None
    if kind in ("full", "tied"):
        scatter = _less_diagonal(updated.covariances, reg_covar)
        pulled = _times(sigma_bar, shift)
        gained = (sigma_bar * scatter).sum(axis=(-2, -1)) + (pulled * shift).sum(axis=1)
        packed, scale = packing(n_features)
        twice = -2.0 * scale  # off-diagonal entries stand for two
    if kind == "full":
        mass_bar = -gained / divisor[:, 0]
        quadratic_bar = (sigma_bar / divisor[:, :, None]).reshape(len(mass), -1)[:, packed] * twice
    elif kind == "tied":
        mass_bar = -gained / total
        pulled = pulled * (mass[:, None] / total)
        second_moment_bar = sigma_bar / total
        quadratic_bar = np.zeros((len(mass), 0))
        if has_quadratic:
            quadratic_bar = second_moment_bar.reshape(1, -1)[:, packed] * twice
            quadratic_bar = np.repeat(quadratic_bar, len(mass), axis=0)
            second_moment_bar = None
    elif kind == "diag":
        pulled = sigma_bar * shift
        moment = updated.covariances - reg_covar + shift**2
        mass_bar = -(sigma_bar * moment).sum(axis=1) / divisor[:, 0]
        quadratic_bar = sigma_bar / divisor
    else:
        pulled = sigma_bar[:, None] * shift / n_features
        moment = updated.covariances - reg_covar + (shift**2).sum(axis=1) / n_features
        mass_bar = -sigma_bar * moment / divisor[:, 0]
        quadratic_bar = sigma_bar[:, None] / n_features / divisor
    shift_bar = means_bar - 2.0 * pulled
    mass_bar = mass_bar - (shift_bar * shift).sum(axis=1) / divisor[:, 0]
    if not fixed_weights:
        mass_bar = mass_bar + (weights_bar - weights_bar @ mass / total) / total
    statistics_bar = np.concatenate([mass_bar[:, None], shift_bar / divisor, quadratic_bar], axis=1)
    statistics_bar[lost] = 0.0
    return statistics_bar, second_moment_bar


def _masses_and_shift(updated, mass, reference):
    lost = lost_components(mass)
    lost = np.zeros(len(mass), dtype=bool) if lost is None else lost
    divisor = np.where(lost, 1.0, mass)[:, None]
    return mass.sum(), divisor, lost, updated.means - reference


def _less_diagonal(covariances, reg_covar):
    return covariances - reg_covar * np.eye(covariances.shape[-1])


def _times(matrices, vectors):
    """Matrices (K, d, d) or (d, d) times vectors (K, d)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _quotient(numerator, weights):
    """numerator / w, and 0 where w = 0: the logit of such a component is pinned."""
    return np.divide(numerator, weights, out=np.zeros(len(weights)), where=weights > 0)
