"""What a mixture says of samples, each for itself: other rows change no bit of a row's answer.

The way is chosen by the mixture, for regions of space. In a box about its mean, where that is
accurate, log densities are taken about this common point (the matrix way), and elsewhere about
the components' means (the centered way). Two kinds of rows that lie further out need more:

* Squares overflow. With sample and means shrunk by s they do not, and s⁻² times the log density
  that is found there is the true one: what is no square is below its rounding.
* The components of a tied mixture differ by less than the rounding of their common square.
  Further away than the means are from each other, their linear forms tell them apart; if these
  overflow, those of the shrunk sample do.
"""

import math
from dataclasses import replace

import numpy as np

from ..parameters import MixtureParameters
from .ways import LARGEST_CANCELLATION, feature_sizes, is_faster_centered

# At temperatures above this, log-likelihoods are so close to zero that they are evaluated apart,
# component by component: the temperature times their rounding is the error of the bound.
HOT = 1e3
# Of a log density. Beyond it overflows, or comes from the finite number that stands for log 0.
_HIGHEST = 1e298
# Its fourth power is the last above zero, and enough: distances are below 1e309, deviations above
# 1e-155.
_SHRINK = 2.0**-260
# Methods of `Samples` that answer with log densities, or with the like.
_OF_DENSITY = {"log_densities", "completed_log_densities"}


def log_density(em_map, theta, potentials=None):
    """log p(x_i) for every sample, float64 of shape (n_samples,); -inf below -1.8e308.

    At a temperature ε: log Σ_k w_k g_k(x_i)^(1/ε). The weights count as of sum one, and potentials
    ψ (None: zero), which are for a large ε only, as factors e^{ψ_k}.
    """
    if em_map.temperature > HOT:
        return _hot_log_density(em_map, theta, potentials)
    return _by_row("log_densities", em_map, theta)


def responsibilities(em_map, theta):
    """γ_ik ∝ w_k g_k(x_i)^(1/ε), float64 of shape (n_samples, n_components)."""
    return _by_row("responsibilities", em_map, theta)


def labels(em_map, theta):
    """argmax_k γ_ik, int64 of shape (n_samples,)."""
    return _by_row("labels", em_map, theta)


def completed_log_density(em_map, theta):
    """log p(x_i) + Σ_k γ_ik log γ_ik at ε = 1, as `log_density`.

    What the entropy of a far row may lose in the centered way is below the rounding of its density.
    """
    return _by_row("completed_log_densities", em_map, theta)


def _by_row(method, em_map, theta):
    """What a method of `Samples` answers, with the logits that suit each row."""
    samples, summary = em_map.samples, em_map.data.summary
    with np.errstate(over="ignore", invalid="ignore"):
        center = theta.weights @ theta.means / theta.weights.sum()
        if not theta.weights.all():
            means = np.where(theta.weights[:, None] > 0, theta.means, center)
            theta = replace(theta, means=means)
        if is_faster_centered(em_map.family.features(theta.n_features)):
            return _centered(method, em_map, samples, theta, center)
        reach, matrix = _matrix_way(em_map, theta, center)
        lower, upper = center - reach, center + reach
        if (lower <= summary.lowest).all() and (summary.highest <= upper).all():
            return _at_once(method, em_map, samples, theta, matrix)
        outside = np.flatnonzero(samples.outside(lower, upper))
        if len(outside) == samples.shape[0]:
            return _centered(method, em_map, samples, theta, center)
        out = _at_once(method, em_map, samples, theta, matrix)
        if len(outside):
            out[outside] = _centered(method, em_map, samples.picked(outside), theta, center)
        return out


def _matrix_way(em_map, theta, center):
    """How far from the center the matrix way is accurate, and its logits.

    At t times the extent of the mixture the terms of a log density add up to a + b t + c t² at
    most; they may not exceed the number whose rounding is the error that is allowed.
    """
    family, n_features = em_map.family, theta.n_features
    extent = np.abs(theta.means - center).max(axis=0)
    extent = extent + np.sqrt(family.variances(theta.covariances)).max(axis=0)
    precisions = em_map.precisions(theta)
    matrix = em_map.natural(theta, precisions, center)
    terms = np.abs(matrix.coefficients) * feature_sizes(matrix.features, extent)
    if not theta.weights.all():
        terms = terms[theta.weights > 0]
    parts = terms[:, 0], terms[:, 1 : 1 + n_features], terms[:, 1 + n_features :]
    a, b, c = parts[0].max(), parts[1].sum(axis=1).max(), parts[2].sum(axis=1).max()
    c += family.hidden_magnitude(precisions.inverses, extent) / em_map.temperature
    room = LARGEST_CANCELLATION - a
    # a box that does not even hold the mixture is not worth a pass of its own
    if not room > b + c:
        return np.full(n_features, -np.inf), matrix
    return 2 * room / (b + math.sqrt(b * b + 4 * c * room)) * extent, matrix


def _at_once(method, em_map, samples, theta, matrix):
    """All rows by the matrix way, with the square that the components may share."""
    out = getattr(samples, method)(matrix)
    if method in _OF_DENSITY and em_map.has_common(matrix):
        center = matrix.reference[0]
        common = em_map.family.common_logits(theta, center, temperature=em_map.temperature)
        out += samples.log_densities(common)
    return out


def _centered(method, em_map, samples, theta, center):
    """All rows by the centered way, and those again for which it is not enough."""
    logits = em_map.natural(theta, em_map.precisions(theta), None)
    out = getattr(samples, method)(logits)
    wants_density = method in _OF_DENSITY
    linear = em_map.family.is_shared and not wants_density
    if not linear and _largest_square(logits, samples.summary()) < _HIGHEST:
        return out
    density = out if wants_density else samples.log_densities(logits)
    if linear:
        shift = (theta.means - center) @ logits.factors[0]
        square = -2.0 * (density - logits.coefficients[:, 0].max())
        rows = np.flatnonzero(~(square <= (shift * shift).sum(axis=1).max()))
    else:
        rows = np.flatnonzero(~(density > -_HIGHEST))
    scale = 1.0 if linear else _SHRINK
    while len(rows) and scale > 0.0:
        shrunk = samples.picked(rows).shrunk(scale, center)
        moved = replace(theta, means=theta.means * scale - center * scale)
        about = None
        if linear:
            moved, about = replace(theta, means=theta.means - center), np.zeros(len(center))
        logits = em_map.natural(moved, em_map.precisions(moved), about)
        density = shrunk.log_densities(logits)
        found = density / scale / scale if wants_density else getattr(shrunk, method)(logits)
        done = np.abs(density) < _HIGHEST
        out[rows[done]] = found[done]
        rows, scale = rows[~done], scale * _SHRINK
    return out


def _largest_square(centered, summary):
    """An upper bound of ‖U_kᵀ (x - m_k)‖² over all components and samples."""
    means = centered.reference
    reach = np.maximum(summary.highest - means, means - summary.lowest)[:, None]
    factors = np.abs(centered.factors)
    forms = reach * factors if factors.shape[1] == 1 else reach @ factors
    return (forms * forms).sum(axis=(1, 2)).max()


def _hot_log_density(em_map, theta, potentials):
    """`log_density` at a large ε, where it is close to log Σ_k w_k = 0.

    What ε times it needs is lost to rounding unless, with t_ik = log g_k(x_i) / ε + ψ_k,

        log Σ_k w_k e^{t_ik} = log1p(Σ_k w_k (e^{t_ik} - 1)).
    """
    plain, family = em_map.at(1.0), em_map.family
    weights = theta.weights / theta.weights.sum()
    rest, direct = 0.0, -np.inf
    for k in np.flatnonzero(weights):
        own = theta.covariances if family.is_shared else theta.covariances[k : k + 1]
        one = MixtureParameters(np.ones(1), theta.means[k : k + 1], own, family.name)
        t = log_density(plain, one) / em_map.temperature
        if potentials is not None:
            t += potentials[k]
        rest = rest + weights[k] * np.expm1(np.minimum(t, 700.0))
        direct = np.logaddexp(direct, np.log(weights[k]) + t)
    near = np.abs(direct) < 0.5
    return np.where(near, np.log1p(np.where(near, rest, 0.0)), direct)
