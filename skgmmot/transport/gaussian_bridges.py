"""Schrödinger bridges between Gaussians: marginals and drifts, in closed form.

The bridge between N(m, Σ) and N(m', Σ') is the process X with these ends that is closest, in the
divergence of path measures, to Brownian motion ε W on [0, 1]. Its ends have the joint distribution
of the entropic transport with the weight 2 ε² of the entropy beside the cost ‖x − y‖², and between
its ends it is a Brownian bridge,

    X_t = (1 − t) X_0 + t X_1 + ε √(t (1 − t)) ζ,            ζ standard normal.              (1)

With C = Cov(X_0, X_1) (Bunne, Hsieh, Cuturi & Krause 2023; Janati, Muzellec, Peyré & Cuturi 2020)

    D = (4 Σ^½ Σ' Σ^½ + ε⁴ I)^½,    C = ½ (Σ^½ D Σ^{−½} − ε² I)                              (2)
    Σ_t = (1 − t)² Σ + t² Σ' + t (1 − t) (C + Cᵀ + ε² I)                                     (3)

(2) has an inverse and a difference that lose digits. Any square root factors Σ = L Lᵀ, Σ' = L' L'ᵀ
serve as well as Σ^½. With Lᵀ L' = U S Vᵀ, as in `bures`, D becomes U (4 S² + ε⁴)^½ Uᵀ, and

    C = L U R Vᵀ L'ᵀ,    R = 2 S / ((4 S² + ε⁴)^½ + ε²),    I − R² = 2 ε² / ((4 S² + ε⁴)^½ + ε²).

So X_0 = m + A z and X_1 = m' + B R z + B (I − R²)^½ z' with A = L U, B = L' V and independent
standard normal z and z'. At ε = 0, R = I: the geodesic. Covariances may be singular, as there. With

    F = (1 − t) A + t B R,    G = t B (I − R²)^½
    Σ_t = F Fᵀ + G Gᵀ + t (1 − t) ε² I                                                       (4)

The drift, of dX = u(t, X) dt + ε dW, is u(t, x) = E[X_1 − X_t | X_t = x] / (1 − t). By (1),
(X_1 − X_t) / (1 − t) = X_1 − X_0 − ε √(t / (1 − t)) ζ, whose covariance with X_t is

    K_t = (B R − A) Fᵀ + B (I − R²)^½ Gᵀ − t ε² I                                            (5)
    u(t, x) = m' − m + K_t Σ_t⁻¹ (x − m_t),    m_t = (1 − t) m + t m'.                       (6)

K_t Σ_t⁻¹ is symmetric, since u is a gradient, and K_t + K_tᵀ + ε² I is the time derivative of Σ_t.

References: C. Bunne, Y.-P. Hsieh, M. Cuturi, A. Krause, "The Schrödinger bridge between Gaussian
measures has a closed form", AISTATS 2023. H. Janati, B. Muzellec, G. Peyré, M. Cuturi, "Entropic
optimal transport between unbalanced Gaussian measures has a closed form", NeurIPS 2020.
"""

from typing import NamedTuple

import numpy as np

from ..parameters import MixtureParameters
from .bures import few_threads, square_root_factors, standard_deviations, take, transposed


class GaussianBridges(NamedTuple):
    """Bridges between pairs of components, with what does not depend on the time.

    Factors are matrices (n_pairs, d, d) or, where both mixtures are diagonal by type, their
    diagonals (n_pairs, d).

    means, target_means : ndarray of shape (n_pairs, d), m and m'
    start : ndarray, A
    end, free : ndarray, B R and B (I − R²)^½
    epsilon : float, ε
    """

    means: np.ndarray
    target_means: np.ndarray
    start: np.ndarray
    end: np.ndarray
    free: np.ndarray
    epsilon: float


def gaussian_bridges(source, target, rows, columns, epsilon):
    """The `GaussianBridges` of pairs: ``rows`` and ``columns`` are their components."""
    means, target_means = source.means[rows], target.means[columns]
    start, end = standard_deviations(source), standard_deviations(target)
    if start is not None and end is not None:
        start, end = start[rows], end[columns]
        correlations, rest = _correlations(start * end, epsilon)
        end, free = end * correlations, end * np.sqrt(rest)
        return GaussianBridges(means, target_means, start, end, free, epsilon)
    with few_threads(source.n_features):
        start = take(square_root_factors(source), rows)
        end = take(square_root_factors(target), columns)
        U, S, Vt = np.linalg.svd(transposed(start) @ end)
        start, end = start @ U, end @ transposed(Vt)
    correlations, rest = (part[:, None, :] for part in _correlations(S, epsilon))
    end, free = end * correlations, end * np.sqrt(rest)
    return GaussianBridges(means, target_means, start, end, free, epsilon)


def _correlations(S, epsilon):
    """R and I − R². Where S = 0 and ε = 0 both ends move as one, as on the geodesic."""
    noise = epsilon * epsilon
    sums = np.hypot(2 * S, noise) + noise
    moving = sums > 0
    correlations = np.divide(2 * S, sums, out=np.ones_like(sums), where=moving)
    return correlations, np.divide(2 * noise, sums, out=np.zeros_like(sums), where=moving)


def means_at(bridges, t):
    """m_t, of shape (n_pairs, d)."""
    return (1 - t) * bridges.means + t * bridges.target_means


def covariances_at(bridges, t):
    """Σ_t by formula (4), matrices or diagonals as the factors of the bridges."""
    F, G = _factors_at(bridges, t)
    noise = t * (1 - t) * bridges.epsilon**2
    with few_threads(bridges.means.shape[1]):
        return _plus(_product(F, F) + _product(G, G), noise)


def slopes_at(bridges, t):
    """K_t Σ_t⁻¹ of formula (6), as `covariances_at`.

    Of least norm where Σ_t is singular, to rounding: without noise K_t is zero there as well.
    """
    F, G = _factors_at(bridges, t)
    covariances = covariances_at(bridges, t)
    with few_threads(bridges.means.shape[1]):
        K = _product(bridges.end - bridges.start, F) + _product(bridges.free, G)
        K = _plus(K, -t * bridges.epsilon**2)
        if K.ndim == 2:
            return np.divide(K, covariances, out=np.zeros_like(K), where=covariances > 0)
        mixtures = MixtureParameters(np.ones(len(K)), bridges.means, covariances, "full")
        factors = square_root_factors(mixtures)
        singular = ~factors.any(axis=-2).all(axis=-1)
        inverses = np.empty_like(factors)
        inverses[~singular] = np.linalg.inv(factors[~singular])
        inverses[singular] = np.linalg.pinv(factors[singular])
        slopes = K @ transposed(inverses) @ inverses
        return (slopes + transposed(slopes)) / 2


def _factors_at(bridges, t):
    """F and G."""
    return (1 - t) * bridges.start + t * bridges.end, t * bridges.free


def _product(left, right):
    """left rightᵀ, of matrices or diagonals."""
    return left * right if left.ndim == 2 else left @ transposed(right)


def _plus(matrices, number):
    """Matrices or diagonals, with a number added to the diagonals."""
    return matrices + (number if matrices.ndim == 2 else number * np.eye(matrices.shape[1]))
