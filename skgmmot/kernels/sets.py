"""Many small sets of samples, each with a mixture of its own: the passes of other kernels, in turn.

Set s has the rows from bounds[s, 0] to bounds[s, 1]. Its components all go the same way: about the
center of the set, or, where that would lose digits, about their own means.
"""

import numpy as np

from .blocks import PAIR, TILE, padded
from .compilation import inner, kernel
from .compiled import statistics
from .compiled_derivatives import statistics_vjp
from .small_matrices import mark_outweighed


@inner
def _largest_features(reach, pairs, sizes):
    """The largest sizes of features where coordinates are within ``reach``."""
    n_features, square = reach.size, 0.0
    for a in range(n_features):
        square += reach[a] * reach[a]
    for f in range(sizes.size):
        size = 1.0
        for side in range(2):
            row = pairs[side, f]
            if row > n_features:
                size *= square
            elif row > 0:
                size *= reach[row - 1]
        sizes[f] = size


@inner
def _room(n_components, size):
    """Rows for what belongs to components about a common point."""
    return np.zeros((padded(n_components, PAIR), padded(size, TILE)))


@kernel
def statistics_of_sets(
    X,
    sample_weight,
    bounds,
    chosen,
    centers,
    reaches,
    weights,
    means,
    coefficients,
    constants,
    factors,
    pairs,
    has_norm,
    limit,
    centered,
    origins,
    sums,
    log_likelihood,
):
    """`compiled.statistics` of the chosen sets.

    Where components would lose more than ``limit`` about the center, ``centered`` is set, and the
    origins are the means. Where it is set before, the origins are given.
    """
    n_components, n_features = means.shape[1:]
    size = coefficients.shape[2]
    near, out = _room(n_components, size), np.empty((1, *_room(n_components, size).shape))
    apart, out_apart = near[:n_components].copy(), out[:, :n_components].copy()
    points, means_of_sums = np.zeros((2, 1 + n_components, n_features))
    sizes, marks, total = np.empty(size), np.empty(n_components, np.bool_), np.empty(1)
    for s in chosen:
        if not centered[s]:
            _largest_features(reaches[s], pairs, sizes)
            own = coefficients[s], sizes, 0.0, weights[s]
            centered[s] = mark_outweighed(*own, limit, marks)
            for k in range(n_components):
                origins[s, k] = means[s, k] if centered[s] else centers[s]
        total[0] = 0.0
        if centered[s]:
            apart[:, 0] = constants[s]
            points[1:], means_of_sums[1:] = means[s], origins[s]
            eta, part, n_near, n_apart = apart, out_apart, 0, n_components
            reference, origin = points, means_of_sums
        else:
            near[:n_components, :size] = coefficients[s]
            eta, part, n_near, n_apart = near, out, n_components, 0
            reference = origin = centers[s : s + 1]
        part[:] = 0.0
        statistics(
            X[: bounds[s, 1]],
            sample_weight,
            reference,
            eta,
            factors[s, :n_apart],
            pairs,
            has_norm,
            n_near,
            None,
            origin,
            bounds[s],
            part,
            total,
            None,
        )
        sums[s] = part[0, :n_components, :size]
        log_likelihood[s] = total[0]


@kernel
def statistics_vjp_of_sets(
    X,
    sample_weight,
    bounds,
    centers,
    means,
    coefficients,
    constants,
    factors,
    pairs,
    has_norm,
    centered,
    origins,
    sums_bar,
    coefficients_bar,
    X_bar,
    weight_bar,
):
    """`compiled_derivatives.statistics_vjp` of all sets, about the points of their statistics."""
    n_components, n_features = means.shape[1:]
    size = coefficients.shape[2]
    near, near_bar = _room(n_components, size), _room(n_components, size)
    apart, apart_bar = near[:n_components].copy(), near[:n_components].copy()
    n_out = min(1, coefficients_bar.shape[0])
    out, out_apart = np.empty((n_out, *near.shape)), np.empty((n_out, *apart.shape))
    points, means_of_sums = np.zeros((2, 1 + n_components, n_features))
    for s in range(bounds.shape[0]):
        if centered[s]:
            apart[:, :size], apart_bar[:, :size] = coefficients[s], sums_bar[s]
            apart[:, 0], apart[:, 1 : 1 + n_features] = constants[s], 0.0
            points[1:], means_of_sums[1:] = means[s], origins[s]
            eta, bar, part, n_near, n_apart = apart, apart_bar, out_apart, 0, n_components
            reference, origin = points, means_of_sums
        else:
            near[:n_components, :size] = coefficients[s]
            near_bar[:n_components, :size] = sums_bar[s]
            eta, bar, part, n_near, n_apart = near, near_bar, out, n_components, 0
            reference = origin = centers[s : s + 1]
        part[:] = 0.0
        statistics_vjp(
            X[: bounds[s, 1]],
            sample_weight,
            reference,
            eta,
            factors[s, :n_apart],
            pairs,
            has_norm,
            n_near,
            None,
            origin,
            bar,
            bounds[s],
            part,
            X_bar,
            weight_bar,
        )
        if n_out:
            coefficients_bar[s] = part[0, :n_components, :size]


@kernel
def summaries_of_sets(X, sample_weight, bounds, totals, centers, reaches):
    """Σ_i s_i, the weighted mean, and the largest |x_i - mean| of every feature, of each set."""
    n_features = X.shape[1]
    low, high = np.empty(n_features), np.empty(n_features)
    for s in range(bounds.shape[0]):
        total, center = 0.0, centers[s]
        center[:], low[:], high[:] = 0.0, np.inf, -np.inf
        for i in range(bounds[s, 0], bounds[s, 1]):
            weight = sample_weight[i] if sample_weight.size else 1.0
            total += weight
            for a in range(n_features):
                x = np.float64(X[i, a])
                center[a] += weight * x
                low[a], high[a] = min(low[a], x), max(high[a], x)
        totals[s] = total
        for a in range(n_features):
            center[a] = min(max(center[a] / total, low[a]), high[a])
            reaches[s, a] = max(high[a] - center[a], center[a] - low[a])
