"""Barycenters of Gaussians in the W2 distance: many at once, singular covariances included.

The barycenter of N(m_j, Σ_j) with weights λ_j minimizes Σ_j λ_j W2²(·, N(m_j, Σ_j)). It is
a Gaussian with mean m̄ = Σ_j λ_j m_j and a covariance S, which is the fixed point of

    S → T̄ S T̄,    T̄ = Σ_j λ_j T_j,    T_j the matrix of the optimal map from S to Σ_j

(Álvarez-Esteban et al. 2016). On factors S = R Rᵀ and Σ_j = L_j L_jᵀ, with the singular value
decompositions Rᵀ L_j = U_j s_j V_jᵀ, we have T_j R = L_j Q_j with Q_j = V_j U_jᵀ, so that it
reads

    R → R' = T̄ R = Σ_j λ_j L_j Q_j                                                       (1)

without an inverse or a square root, and singular covariances are no exception. As W2² is the
minimum of ‖R − L_j Q‖² over orthogonal Q, each half of (1), the Q_j and then R', minimizes

    Σ_j λ_j ‖R − L_j Q_j‖²                                                               (2)

over one group of variables: no step increases the objective. What is left of it at R', a sum
of squares, is the spread of the covariances about S.

The derivative of the objective with respect to S is I − T̄. Its size along S,
‖(I − T̄) R‖ = ‖R − R'‖ relative to ‖R‖, is the residual. The error of the spread is of the
order of its square.

Where to start: the objective is convex in S, and stationary points that are regular (in the
span of all Σ_j) are minima. The mean Σ_j λ_j Σ_j is regular there. Two Gaussians need no
iteration: from R = L_1 the first step is on their geodesic, for singular covariances too.
Matrices that commute need none either: their standard deviations are averaged.

References: Álvarez-Esteban, del Barrio, Cuesta-Albertos & Matrán, "A fixed-point approach to
barycenters in Wasserstein space", J. Math. Anal. Appl. 441 (2016); Bhatia, Jain & Lim, "On
the Bures-Wasserstein distance between positive definite matrices", Expo. Math. 37 (2019).
"""

from typing import NamedTuple

import numpy as np

from .bures import BLOCK_SIZE, mapped_factors

# Residual at which the fixed point has converged, and the largest number of its steps. It
# converges linearly; a condition number of 1e6 takes tens of steps.
TOL = 1e-11
MAX_ITER = 1000


class Barycenters(NamedTuple):
    """Factors R of the covariances, the spread about each, and the largest residual."""

    factors: np.ndarray
    spreads: np.ndarray
    residual: float


def deviation_barycenters(deviations, members, weights):
    """Barycenters of commuting covariances: averages of standard deviations, exact.

    Arguments and result are those of `factor_barycenters`, with standard deviations
    (n_covariances, d) in place of factors.
    """
    mean, spreads = weighted_mean(deviations, members, weights)
    return Barycenters(mean, spreads, 0.0)


def factor_barycenters(factors, members, weights):
    """Barycenters of covariances L Lᵀ, by the fixed point (1).

    Parameters
    ----------
    factors : ndarray of shape (n_covariances, d, d), L
    members : ndarray of int of shape (n_barycenters, n_members)
        Which covariances each barycenter is of.
    weights : ndarray of shape (n_barycenters, n_members)
        Non-negative, with rows that sum to one.

    Returns
    -------
    barycenters : Barycenters
        A residual above `TOL` means that the fixed point ran out of steps.
    """
    n_features = factors.shape[-1]
    R, spreads = np.empty((len(members), n_features, n_features)), np.empty(len(members))
    residual = 0.0
    size = max(1, BLOCK_SIZE // (n_features**2 * members.shape[1]))
    for start in range(0, len(members), size):
        block = slice(start, start + size)
        R[block], spreads[block], worst = _fixed_points(factors[members[block]], weights[block])
        residual = max(residual, worst)
    return Barycenters(R, spreads, residual)


def weighted_mean(points, members, weights):
    """Averages of some of the points, and the weighted sums of squares about them."""
    chosen = points[members]
    mean = np.einsum("bj,bja->ba", weights, chosen)
    return mean, np.einsum("bj,bja->b", weights, (chosen - mean[:, None]) ** 2)


def _fixed_points(L, weights):
    """Iterate (1) for L of shape (B, J, d, d) until every one of the B has converged."""
    R = L[:, 0].copy() if L.shape[1] <= 2 else _factors_of_means(L, weights)
    spreads = np.empty(len(R))
    residuals = np.empty(len(R))
    active = np.arange(len(R))
    for _ in range(MAX_ITER):
        if not len(active):
            break
        images = mapped_factors(R[active, None], L[active])
        new = np.einsum("bj,bjac->bac", weights[active], images)
        spreads[active] = np.einsum("bj,bjac->b", weights[active], (images - new[:, None]) ** 2)
        scale = np.linalg.norm(new, axis=(-2, -1))
        change = np.linalg.norm(new - R[active], axis=(-2, -1))
        residuals[active] = np.divide(change, scale, out=np.zeros(len(new)), where=scale > 0)
        R[active] = new
        active = active[residuals[active] > TOL]
    return R, spreads, residuals.max()


def _factors_of_means(L, weights):
    """Factors of Σ_j λ_j L_j L_jᵀ, by a QR decomposition, which squares nothing."""
    B, J, d, _ = L.shape
    rows = np.sqrt(weights)[:, :, None, None] * np.swapaxes(L, -1, -2)
    return np.swapaxes(np.linalg.qr(rows.reshape(B, J * d, d), mode="r"), -1, -2)
