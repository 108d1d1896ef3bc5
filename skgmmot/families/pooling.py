"""The M-step of all samples, from M-steps of parts of them.

A part g of the samples gives component k the mass N_gk, and by an M-step of its own the mean m_gk
and the covariance Σ_gk. Deviations from a mean sum to zero, so about any point o_k

    Σ_{i in g} s_i γ_ik φ(x_i - o_k) = N_gk (φ(m_gk - o_k) + (0, 0, q_gk)),

where q_gk is the quadratic part of the mean of φ(x - m_gk), that is Σ_gk in the form of φ. The sums
over g are the statistics S_k of all samples about o_k, and the M-step of these is that of all. With
the mean of the parts' means, Σ_g N_gk m_gk / N_k, for o_k, it adds squares of small differences and
subtracts none, so nothing cancels, however far from zero the samples lie (as in Chan, Golub and
LeVeque 1983, who merge two parts). Of a component that one part alone has nothing is rounded.

A covariance that components share is written as if each had it: of q_gk only Σ_k N_gk q_gk is
known, and only that is needed. And reg_covar, which is in every Σ_gk, is in their mean once.
"""

import numpy as np

from . import FULL
from .base import LOST_SHARE
from .covariances import collapsed


def pooled(family, masses, parts, previous, *, fixed_weights):
    """The M-step of all samples.

    Parameters
    ----------
    family : Family
    masses : ndarray of shape (n_parts, n_components)
        N_gk.
    parts : list of MixtureParameters
        The M-step of each part.
    previous : MixtureParameters
        As for `Family.maximize`.
    fixed_weights : bool

    Returns
    -------
    theta : MixtureParameters

    Raises
    ------
    CollapsedComponentError
        If squares of the distances between parts overflow.
    """
    n_features = previous.n_features
    features = (FULL if family.is_shared else family).features(n_features)
    mass = masses.sum(axis=0)
    has_mass = mass > LOST_SHARE * mass.sum()
    shares = np.divide(masses, mass, out=np.zeros(masses.shape), where=has_mass)
    means = np.array([part.means for part in parts])
    origin = previous.means + np.einsum("gk,gka->ka", shares, means - previous.means)
    with np.errstate(over="ignore", invalid="ignore"):
        phi = _features_of(means - origin, features)
        moments = [family.moments(part.covariances, n_features) for part in parts]
        phi[..., 1 + n_features :] += moments
        sums = np.einsum("gk,gkf->kf", masses, phi)
    if not np.isfinite(sums).all():
        raise collapsed(sums.sum(axis=1))
    theta = family.maximize(sums, origin, previous, reg_covar=0.0, fixed_weights=fixed_weights)
    _keep_what_is_of_one_part(family, theta, masses > 0, parts)
    return theta


def _keep_what_is_of_one_part(family, theta, has_mass, parts):
    """Where one part alone has mass all is what it is there, to the bit."""
    alone = has_mass.sum(axis=0) == 1
    whole = has_mass.any(axis=1).sum() == 1
    for own, part in zip(has_mass, parts, strict=True):
        theta.means[own & alone] = part.means[own & alone]
        if not family.is_shared:
            theta.covariances[own & alone] = part.covariances[own & alone]
        elif whole and own.any():
            theta.covariances[:] = part.covariances


def _features_of(points, features):
    """φ of points along the last axis."""
    squares = (points * points).sum(axis=-1, keepdims=True)
    rows = np.concatenate([np.ones(squares.shape), points, squares], axis=-1)
    left, right = features.pairs
    return rows[..., left] * rows[..., right]
