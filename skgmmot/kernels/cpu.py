"""The engine on the CPU: numba kernels over blocks of samples, run by a pool of threads.

The data are cut into segments, the segments into blocks. Neither cut depends on the number of
threads, each segment has sums of its own, and these are added in order: results have the same
bits for every number of threads. Memory beyond the data is that of the segments' sums.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from . import compiled, compiled_derivatives
from .blocks import BLOCK
from .features import Features, padded
from .threads import run

_SEGMENT_COST = 120e3  # nanoseconds of work of which half is worth waking a thread for
_MAX_SEGMENTS = 64
_MAX_SUMS_BYTES = 2**23
NO_FACTORS = np.zeros((0, 0, 0))
_UNWEIGHTED = np.zeros(0)


class Logits(NamedTuple):
    """log w_k g_k(x) = ⟨coefficients_k, φ(x - reference_k)⟩ for every component k.

    reference : ndarray of shape (n_components, n_features) or (1, n_features)
        A point for each component (its mean: the centered way), or one for all (the matrix way).
    coefficients : ndarray of shape (padded n_components, padded size of φ)
        Natural parameters about the reference points.
    factors : ndarray of shape (n_components, n_features or 1, n_features) or (0, 0, 0)
        In the centered way the upper triangular U_k of the precisions P_k = U_k U_kᵀ (or their
        diagonals), with which quadratic forms are evaluated without cancellation; empty in the
        matrix way.
    n_components : int
    features : Features
    """

    reference: np.ndarray
    coefficients: np.ndarray
    factors: np.ndarray
    n_components: int
    features: Features


def _read_only(array):
    """A read-only view, so that a kernel is compiled for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


@lru_cache(maxsize=256)
def _segments(n_samples, n_features, shape=(0, 0)):
    """Row numbers at which segments start and end, whole blocks each."""
    n_components, size = shape
    n_blocks = -(-n_samples // BLOCK)
    cost = n_blocks * BLOCK * (n_components * (0.05 * size + 0.7) + n_features)
    limit = min(_MAX_SEGMENTS, max(8, _MAX_SUMS_BYTES // (8 * n_components * size + 1)))
    wanted = 1
    while wanted < limit and wanted * _SEGMENT_COST < cost:
        wanted *= 2
    wanted = min(wanted, n_blocks)
    bounds = BLOCK * (np.arange(wanted + 1) * n_blocks // wanted)
    bounds[-1] = n_samples
    bounds.flags.writeable = False
    return bounds


def _arguments(X, sample_weight, logits):
    weight = _UNWEIGHTED if sample_weight is None else sample_weight
    return (
        _read_only(X),
        _read_only(weight),
        logits.reference,
        logits.coefficients,
        logits.factors,
        logits.features.pairs,
        logits.features.has_squared_norm,
        logits.n_components,
    )


def _origin(logits, origin):
    return logits.reference if origin is None else np.array(origin, order="C")


def statistics(X, sample_weight, logits, n_threads=1, *, origin=None):
    """E-step statistics S_k = Σ_i s_i γ_ik φ(x_i - origin_k), and Σ_i s_i log p(x_i).

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_samples, n_features), float32 or float64
    sample_weight : ndarray of shape (n_samples,), float64, or None
    logits : Logits
    n_threads : int, default=1
    origin : ndarray of shape (n_components, n_features), default=None
        In the centered way, other points than those of the logits to take the statistics about.

    Returns
    -------
    sums : ndarray of shape (n_components, size of φ), float64
    log_likelihood : float
    """
    bounds = _segments(*X.shape, logits.coefficients.shape)
    n_segments = len(bounds) - 1
    sums = np.zeros((n_segments, *logits.coefficients.shape))
    log_likelihood = np.zeros(n_segments)
    arguments = (*_arguments(X, sample_weight, logits), _origin(logits, origin))

    def task(first, last):
        compiled.statistics(
            *arguments, bounds[first : last + 1], sums[first:last], log_likelihood[first:last]
        )

    run(task, n_segments, n_threads)
    total = sums[0] if n_segments == 1 else sums.sum(axis=0)
    return _unpadded(total, logits), float(log_likelihood.sum())


def overlaps(X, sample_weight, logits, n_threads=1):
    """How much components share: G_kl = Σ_i s_i γ_ik γ_il.

    Returns
    -------
    sums : ndarray of shape (n_components, n_components), float64
    masses : ndarray of shape (n_components,), Σ_i s_i γ_ik
    log_likelihood : float, Σ_i s_i log p(x_i)
    """
    n_components = logits.n_components
    bounds = _segments(*X.shape, logits.coefficients.shape)
    n_segments = len(bounds) - 1
    sums = np.zeros((n_segments, n_components, n_components))
    masses = np.zeros((n_segments, n_components))
    log_likelihood = np.zeros(n_segments)
    arguments = _arguments(X, sample_weight, logits)

    def task(first, last):
        part = slice(first, last)
        compiled.overlaps(
            *arguments, bounds[first : last + 1], sums[part], masses[part], log_likelihood[part]
        )

    run(task, n_segments, n_threads)
    lower = sums.sum(axis=0)
    shared = lower + np.tril(lower, -1).T
    return shared, masses.sum(axis=0), float(log_likelihood.sum())


def assigned_statistics(X, sample_weight, responsibilities, reference, features, n_threads=1):
    """Statistics for given responsibilities of shape (n_samples, n_components), float64.

    ``reference`` has shape (1, n_features), or (n_components, n_features) for a point for each
    component. Returns the sums as `statistics` does.
    """
    n_components = responsibilities.shape[1]
    shape = (padded(n_components), features.pairs.shape[1])
    bounds = _segments(*X.shape, shape)
    sums = np.zeros((len(bounds) - 1, *shape))
    weight = _UNWEIGHTED if sample_weight is None else sample_weight

    def task(first, last):
        compiled.assigned_statistics(
            _read_only(X),
            _read_only(weight),
            responsibilities,
            reference,
            features.pairs,
            features.has_squared_norm,
            bounds[first : last + 1],
            sums[first:last],
        )

    run(task, len(bounds) - 1, n_threads)
    return sums.sum(axis=0)[:n_components, : features.size]


_NO_DENSITY = np.zeros(0)
_NO_RESPONSIBILITIES = np.zeros((0, 0))
_NO_LABELS = np.zeros(0, dtype=np.int64)


def _densities(X, logits, n_threads, log_density, responsibilities, labels):
    bounds = _segments(*X.shape, logits.coefficients.shape)
    arguments = _arguments(X, None, logits)
    arguments = arguments[:1] + arguments[2:]  # no sample weights

    def task(first, last):
        compiled.densities(
            *arguments, bounds[first : last + 1], log_density, responsibilities, labels
        )

    run(task, len(bounds) - 1, n_threads)


def log_densities(X, logits, n_threads=1):
    """log p(x_i), float64 of shape (n_samples,)."""
    out = np.empty(len(X))
    _densities(X, logits, n_threads, out, _NO_RESPONSIBILITIES, _NO_LABELS)
    return out


def responsibilities(X, logits, n_threads=1):
    """γ_ik, float64 of shape (n_samples, n_components)."""
    out = np.empty((len(X), logits.n_components))
    _densities(X, logits, n_threads, _NO_DENSITY, out, _NO_LABELS)
    return out


def labels(X, logits, n_threads=1):
    """argmax_k γ_ik, int64 of shape (n_samples,)."""
    out = np.empty(len(X), dtype=np.int64)
    _densities(X, logits, n_threads, _NO_DENSITY, _NO_RESPONSIBILITIES, out)
    return out


def summary(X, sample_weight, n_threads=1):
    """Weighted column sums, least and greatest column values, and sums that identify the data.

    Each of shape (n_features,), float64.
    """
    bounds = _segments(*X.shape)
    sums, lowest, highest, checks = np.zeros((4, len(bounds) - 1, X.shape[1]))
    weight = _UNWEIGHTED if sample_weight is None else sample_weight

    def task(first, last):
        part = slice(first, last)
        compiled.summary(
            _read_only(X),
            _read_only(weight),
            bounds[first : last + 1],
            sums[part],
            lowest[part],
            highest[part],
            checks[part],
        )

    run(task, len(bounds) - 1, n_threads)
    return sums.sum(axis=0), lowest.min(axis=0), highest.max(axis=0), checks.sum(axis=0)


_NO_ROWS = np.zeros((0, 0))
_NO_SUMS = np.zeros((0, 0, 0))


def statistics_vjp(
    X,
    sample_weight,
    logits,
    sums_bar,
    n_threads=1,
    *,
    origin=None,
    wrt_logits=True,
    X_bar=None,
    weight_bar=None,
):
    """Pull a cotangent of the statistics back to the logits, the samples and their weights.

    Parameters
    ----------
    X, sample_weight, logits, n_threads, origin
        As in `statistics`.
    sums_bar : ndarray of shape (n_components, size of φ)
    wrt_logits : bool, default=True
        Whether the cotangent of the logits is wanted.
    X_bar : ndarray of shape (n_samples, n_features), float64, default=None
        The samples' cotangent is added to this; None: it is not computed.
    weight_bar : ndarray of shape (n_samples,), float64, default=None
        Likewise for the sample weights.

    Returns
    -------
    coefficients_bar : ndarray of shape (n_components, size of φ), or None
    """
    bounds = _segments(*X.shape, logits.coefficients.shape)
    n_segments = len(bounds) - 1
    arguments = (*_arguments(X, sample_weight, logits), _origin(logits, origin))
    padded_bar = _padded(sums_bar, logits)
    sums = np.zeros((n_segments, *padded_bar.shape)) if wrt_logits else _NO_SUMS
    X_bar = _NO_ROWS if X_bar is None else X_bar
    weight_bar = _NO_DENSITY if weight_bar is None else weight_bar

    def task(first, last):
        compiled_derivatives.statistics_vjp(
            *arguments, padded_bar, bounds[first : last + 1], sums[first:last], X_bar, weight_bar
        )

    run(task, n_segments, n_threads)
    return _unpadded(sums.sum(axis=0), logits) if wrt_logits else None


def statistics_jvp(
    X,
    sample_weight,
    logits,
    coefficients_dot,
    n_threads=1,
    *,
    origin=None,
    X_dot=None,
    weight_dot=None,
):
    """Push tangents of the logits, the samples and their weights forward to the statistics.

    Parameters
    ----------
    X, sample_weight, logits, n_threads, origin
        As in `statistics`.
    coefficients_dot : ndarray of shape (n_components, size of φ)
    X_dot : C-contiguous ndarray of shape (n_samples, n_features), float64, default=None
    weight_dot : ndarray of shape (n_samples,), float64, default=None

    Returns
    -------
    sums_dot : ndarray of shape (n_components, size of φ)
    """
    bounds = _segments(*X.shape, logits.coefficients.shape)
    arguments = (*_arguments(X, sample_weight, logits), _origin(logits, origin))
    padded_dot = _padded(coefficients_dot, logits)
    sums = np.zeros((len(bounds) - 1, *padded_dot.shape))
    X_dot = _read_only(_NO_ROWS if X_dot is None else X_dot)
    weight_dot = _read_only(_UNWEIGHTED if weight_dot is None else weight_dot)

    def task(first, last):
        compiled_derivatives.statistics_jvp(
            *arguments, padded_dot, X_dot, weight_dot, bounds[first : last + 1], sums[first:last]
        )

    run(task, len(bounds) - 1, n_threads)
    return _unpadded(sums.sum(axis=0), logits)


def _padded(coefficients, logits):
    padded = np.zeros(logits.coefficients.shape)
    padded[: logits.n_components, : logits.features.size] = coefficients
    return padded


def _unpadded(sums, logits):
    return sums[: logits.n_components, : logits.features.size]
