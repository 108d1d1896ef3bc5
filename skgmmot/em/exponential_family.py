"""Natural parameters and the M-step: the two maps of EM whose size is that of the mixture.

Let φ(x) be the features of a sample (`skgmmot.kernels.features`). Up to a term common to all
components, which cancels in responsibilities,

    log w_k g_k(x) = ⟨η_k, φ(x - r_k)⟩,    g_k = N(m_k, Σ_k),  P_k = Σ_k⁻¹ = U_k U_kᵀ,

about any reference point r_k. With μ_k = m_k - r_k the coefficients η_k are

    1        log w_k + log det U_k - ½ d log 2π - ½ ‖U_kᵀ μ_k‖²
    z        P_k μ_k
    z_a z_b  -P_kab for b < a and -½ P_kaa, of which diag and spherical keep the diagonal or the
             trace, and tied nothing: it is common to all components.

At a temperature ε other than one (`skgmmot.em.problem`) the logits are log w_k + log g_k(x) / ε:
everything but log w_k is divided by ε, and so are the squared factors U_k U_kᵀ.

The E-step (`skgmmot.em.step`) turns η into statistics S_k = Σ_i s_i γ_ik φ(x_i - r_k), and the
M-step reads N_k, S¹_k, S²_k off their constant, linear and quadratic parts: with the shift
δ_k = S¹_k / N_k,

    w_k = N_k / Σ_l N_l,    m_k = r_k + δ_k,    Σ_k = S²_k / N_k - δ_k δ_kᵀ + reg_covar · I.

The tangents and cotangents of both maps are in `derivatives`.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..kernels.cpu import NO_FACTORS, Logits
from ..kernels.features import features_of, padded
from ..kernels.precision import central_moments, quadratic_coefficients
from ..kernels.precision import precisions as kernel_precisions
from ..parameters import MixtureParameters

# A component with less than this share of the mass has lost it: quotients by it mean nothing.
_LOST_SHARE = 1e-280
# log 0, in logits: finite, so that no product with it is NaN
_LOG_ZERO = -1e300


class CollapsedComponentError(ValueError):
    """A component's covariance is not positive definite."""


class Precisions(NamedTuple):
    """Σ⁻¹ = U Uᵀ of every component, each in the shape of the covariance type.

    factors : ndarray, upper triangular U, as scikit-learn's ``precisions_cholesky_``
    precisions : ndarray
    log_det : ndarray of shape (n_components,) or (1,) if tied, log det U
    """

    factors: np.ndarray
    precisions: np.ndarray
    log_det: np.ndarray


def precisions_of(covariances, covariance_type, n_features):
    """`Precisions` of covariances.

    Raises
    ------
    CollapsedComponentError
        Names the components whose covariance is not positive definite.
    """
    if covariance_type in ("full", "tied"):
        batch = covariances.reshape(-1, n_features, n_features)
        if not batch.flags.writeable:  # of the other kind, for which a kernel would be compiled
            batch = batch.copy()
        lower, inverses = np.empty((2, *batch.shape))
        log_det = np.empty(len(batch))
        if kernel_precisions(batch, lower, inverses, log_det) >= 0:
            raise _collapsed(np.linalg.eigvalsh(batch)[:, 0], covariance_type)
        factors = lower.transpose(0, 2, 1)
        if covariance_type == "tied":
            return Precisions(factors[0], inverses[0], log_det)
        return Precisions(factors, inverses, log_det)
    if not (covariances > 0).all():
        smallest = covariances.min(axis=1) if covariance_type == "diag" else covariances
        raise _collapsed(smallest, covariance_type)
    factors = 1.0 / np.sqrt(covariances)
    log_det = np.log(factors)
    log_det = log_det.sum(axis=1) if covariance_type == "diag" else n_features * log_det
    return Precisions(factors, factors * factors, log_det)


def _collapsed(smallest, covariance_type):
    guilty = np.flatnonzero(~(smallest > 0))
    if not len(guilty):  # positive, but Cholesky met a pivot lost to rounding
        guilty = np.array([smallest.argmin()])
    which = (
        "The tied covariance"
        if covariance_type == "tied"
        else f"The covariance of component {', '.join(map(str, guilty))}"
    )
    return CollapsedComponentError(
        f"{which} is not positive definite (smallest eigenvalue {smallest.min():.3g}): the "
        "component holds too few distinct samples, or features are collinear. Increase reg_covar, "
        "decrease n_components, or scale the features."
    )


def natural_parameters(theta, reference=None, temperature=1.0):
    """Logits of a mixture, about one common reference point or about the means.

    Parameters
    ----------
    theta : MixtureParameters
    reference : ndarray of shape (n_features,), default=None
        Common reference point (the matrix way). None: each component's mean (the centered way);
        a tied mixture is then written as a full one.
    temperature : float, default=1.0
        ε > 0.

    Returns
    -------
    logits : Logits
    """
    weights, means, covariances = theta
    n_components, n_features = means.shape
    kind = theta.covariance_type
    factors, precisions, log_det = precisions_of(covariances, kind, n_features)
    if kind == "spherical":
        precisions = precisions[:, None]
    log_weights = np.full(n_components, _LOG_ZERO)
    np.log(weights, out=log_weights, where=weights > 0)
    constant = log_det - 0.5 * n_features * math.log(2 * math.pi)
    if temperature != 1.0:
        constant, precisions = constant / temperature, precisions / temperature
        factors = factors / math.sqrt(temperature)
    constant = log_weights + constant

    centered = reference is None
    if centered and kind == "tied":
        factors = np.broadcast_to(factors, (n_components, n_features, n_features))
        precisions = np.broadcast_to(precisions, (n_components, n_features, n_features))
        kind = "full"  # from here on
    features = features_of(kind, n_features)
    coefficients = np.zeros((padded(n_components), features.pairs.shape[1]))
    eta = coefficients[:n_components]
    if centered:
        factors = _matrices_or_diagonals(factors, kind, n_components, n_features)
        reference = np.array(means, order="C")
        shift = np.zeros(means.shape)
    else:
        factors = NO_FACTORS
        shift = means - reference
        reference = reference[None]
    if kind == "full":
        quadratic_coefficients(constant, np.array(precisions, order="C"), shift, coefficients)
        return Logits(reference, coefficients, factors, n_components, features)
    if kind == "tied":
        linear = shift @ precisions
    else:
        linear = precisions * shift
        eta[:, 1 + n_features : features.size] = -0.5 * precisions
    eta[:, 0] = constant - 0.5 * (linear * shift).sum(axis=1)
    eta[:, 1 : 1 + n_features] = linear
    return Logits(reference, coefficients, factors, n_components, features)


def _matrices_or_diagonals(factors, kind, n_components, n_features):
    """Factors as the kernels take them: (K, d, d), or (K, 1, d) where they are diagonal."""
    if kind == "full":
        return np.array(factors, order="C")  # writable too: one kernel for all
    if kind == "spherical":
        factors = np.repeat(factors[:, None], n_features, axis=1)
    return factors.reshape(n_components, 1, n_features)


@lru_cache(maxsize=128)
def packing(n_features):
    """Where P_ab (b ≤ a) stands in a flattened P, and its factor in η: -1, or -½ if a = b."""
    a, b = np.tril_indices(n_features)
    return a * n_features + b, np.where(a == b, -0.5, -1.0)


@lru_cache(maxsize=128)
def _unpacking(n_features):
    """Where entry (a, b) of a symmetric matrix stands among its packed lower half."""
    a, b = np.indices((n_features, n_features)).reshape(2, -1)
    high, low = np.maximum(a, b), np.minimum(a, b)
    return high * (high + 1) // 2 + low


def unpack(packed, n_features):
    """Symmetric matrices (..., d, d) from their packed lower halves (..., d(d+1)/2)."""
    return packed[..., _unpacking(n_features)].reshape(*packed.shape[:-1], n_features, n_features)


def lost_components(mass):
    """Which components have lost all their mass; None if none has."""
    least = _LOST_SHARE * mass.sum()
    return None if mass.min() > least else mass <= least


def maximize(statistics, reference, previous, *, reg_covar, fixed_weights, second_moment=None):
    """M-step: the parameters that maximize the expected log-likelihood.

    Parameters
    ----------
    statistics : ndarray of shape (n_components, size of φ)
        S_k about the reference points.
    reference : ndarray of shape (n_components, n_features) or (1, n_features)
    previous : MixtureParameters
        Gives the covariance type, the weights if they are fixed, and the mean and covariance of
        a component that has lost all its mass: it keeps them.
    reg_covar : float
    fixed_weights : bool
    second_moment : ndarray of shape (n_features, n_features), default=None
        Σ_i s_i z_i z_iᵀ about a common reference point, needed for tied statistics that have no
        quadratic part.

    Returns
    -------
    theta : MixtureParameters
    """
    kind = previous.covariance_type
    n_features = previous.means.shape[1]
    mass = statistics[:, 0]
    total = mass.sum()
    lost = lost_components(mass)
    divisor = (mass if lost is None else np.where(lost, 1.0, mass))[:, None]
    shift = statistics[:, 1 : 1 + n_features] / divisor
    quadratic = statistics[:, 1 + n_features :]
    means = reference + shift
    weights = previous.weights if fixed_weights else mass / total

    if kind == "full":
        covariances = np.empty((*shift.shape, n_features))
        sums = np.array(statistics, order="C")
        central_moments(sums, divisor.ravel(), shift, float(reg_covar), covariances)
    elif kind == "tied":
        if second_moment is None:
            second_moment = unpack(quadratic.sum(axis=0), n_features)
        covariances = (second_moment - (mass[:, None] * shift).T @ shift) / total
        covariances.flat[:: n_features + 1] += reg_covar
    elif kind == "diag":
        covariances = np.maximum(quadratic / divisor - shift * shift, 0.0) + reg_covar
    else:
        variance = quadratic / divisor - (shift * shift).sum(axis=1, keepdims=True)
        covariances = np.maximum(variance[:, 0] / n_features, 0.0) + reg_covar
    if lost is not None:
        means[lost] = previous.means[lost]
        if kind != "tied":
            covariances[lost] = previous.covariances[lost]
    return MixtureParameters(weights, means, covariances, kind)
