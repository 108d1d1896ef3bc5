"""Online EM: a mixture that follows a stream, batch by batch (Cappé and Moulines 2009).

EM of an exponential family asks the data for nothing but their mean statistics. Where data do not
end, a running mean s takes the place of these. With ŝ(θ) the mean statistics of batch t in an
E-step of the mixture so far,

    s ← (1 - γ) s + γ ŝ(θ),    θ ← M-step of s,    γ = γ_t = (t + t_0)^(-α),    ½ < α ≤ 1.

Σ γ_t is infinite, so that the start is forgotten, and Σ γ_t² is not, so that noise dies out: θ
tends to a fixed point of EM on the whole stream. ŝ is a mean over rows by their weights. So weights
count within a batch, and t alone says how much the batch counts, not its size or total weight.

Centred statistics
------------------
Statistics about a common origin cancel where data are far from it. Here they are the mass N_k of
each component, its mean c_k, and the scatter about that mean for a unit of mass, C_k. An M-step
without ``reg_covar`` reads all three off a sum, and so finds ŝ. The M-step of s has left to do

    w_k = N_k,    m_k = c_k,    Σ_k = C_k + reg_covar · I.

The two terms of the new s, of masses (1 - γ) N_k and γ N̂_k, merge as those of two parts of data do,
into which squares of small differences enter and no others (`families.pooling`): nothing cancels. A
component without mass in the batch keeps its mean and its scatter. At γ = 1 all is that of the
batch, and θ one EM step on it.

References
----------
O. Cappé, E. Moulines. On-line expectation-maximization algorithm for latent data models. Journal of
the Royal Statistical Society B 71(3), 2009.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..families.pooling import pooled
from ..parameters import MixtureParameters


class CentredStatistics(NamedTuple):
    """The mean statistics of a stream.

    masses : ndarray of shape (n_components,), N; they sum to one
    means : ndarray of shape (n_components, n_features), c
    scatters : ndarray in the shape of the covariances, C
    """

    masses: np.ndarray
    means: np.ndarray
    scatters: np.ndarray


def learning_rate(n_steps, decay, offset):
    """γ_t of the step number ``n_steps``, which begins at one."""
    return (n_steps + offset) ** -decay


def statistics_of(family, theta, reg_covar):
    """The statistics of which θ is the M-step.

    A scatter is negative where θ was given a covariance of less than ``reg_covar``. The θ that it
    leads to is positive all the same: with reg_covar · I the merged scatter is one of covariances.
    """
    return CentredStatistics(*_regularized(family, theta, -reg_covar))


def parameters_of(family, statistics, reg_covar, weights=None):
    """θ, the M-step of statistics; ``weights`` are those that are fixed."""
    masses, means, covariances = _regularized(family, statistics, reg_covar)
    weights = masses if weights is None else weights
    return MixtureParameters(weights, means, covariances, family.name)


def _regularized(family, parts, reg_covar):
    masses, means, covariances = parts
    n_components, n_features = means.shape
    unit = family.of_variances(np.ones(n_features), n_components)
    return masses, means, covariances + reg_covar * unit


def batch_statistics(em_map, theta):
    """ŝ(θ) of the data of an EM map, and their lower bound at θ."""
    step = replace(em_map, reg_covar=0.0, fixed_weights=False).step(theta)
    return CentredStatistics(*step.parameters), step.lower_bound


def merged(family, statistics, new, rate):
    """(1 - γ) s + γ ŝ.

    Parameters
    ----------
    family : Family
    statistics, new : CentredStatistics, s and ŝ
    rate : float, γ

    Returns
    -------
    merged : CentredStatistics
    """
    masses = np.array([(1.0 - rate) * statistics.masses, rate * new.masses])
    parts = [MixtureParameters(*own, family.name) for own in (statistics, new)]
    theta = pooled(family, masses, parts, parts[0], fixed_weights=False)
    return CentredStatistics(masses.sum(axis=0), theta.means, theta.covariances)
