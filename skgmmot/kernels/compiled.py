"""The CPU kernels: from samples to sums, block by block (see `blocks`), without the GIL.

Each takes the data, the logits (`samples.interface.Logits`) as plain arrays, and where to write.
The log densities of the first ``n_near`` components are evaluated about one common reference point
(the matrix way: all at once), those of the others, for which there are ``factors``, about their own
means (the centered way: slower, and as accurate as the data allow).

Coefficients, and sums like them, have rows for the former, rows of padding up to whole pairs (or
tiles, where there are both), and rows for the latter. Of points, the first is the common one, and
the others follow.
"""

import numpy as np

from .blocks import (
    BLOCK,
    PAIR,
    aligned,
    centered_logits,
    linear_forms,
    load_rows,
    load_weights,
    padded,
    row_of,
    single_sums,
    softmax,
    weighted_sums,
)
from .compilation import inner, kernel
from .elementary import log
from .large import is_large, kept_products, large_logits, large_sums, n_rows_for
from .pruned import gathered, narrowed, range_of, scatter

_TINY = np.finfo(np.float64).tiny


@inner
def block_logits(X, start, reference, coefficients, factors, pairs, has_norm, rows, tile, logits):
    """The logits of a block.

    Its rows are left loaded about the common point if all components are near; about the origin if
    all are apart and there are many features (`large`).
    """
    n_apart = factors.shape[0]
    n_padded = coefficients.shape[0] - n_apart
    if n_padded:
        load_rows(X, start, reference[0], has_norm, rows)
        logits[:n_padded] = 0.0
        linear_forms(coefficients[:n_padded], pairs, rows, rows, tile, logits)
    elif is_large(X.shape[1], pairs):
        load_rows(X, start, np.zeros(X.shape[1]), has_norm, rows)
        count = min(BLOCK, X.shape[0] - start)
        for k in range(n_apart):
            Y, _ = kept_products(X.shape[1], k, rows)
            constant, point = coefficients[k, 0], reference[1 + k]
            large_logits(count, point, factors[k], constant, rows, Y, logits[k])
        return
    if n_apart:
        constants = coefficients[n_padded:, 0]
        centered_logits(X, start, reference[1:], factors, constants, rows, logits[n_padded:])


@inner
def add_sums(X, start, reference, pairs, has_norm, weights, rows, tile, sums):
    """sums[k] += Σ_i weights[k, i] φ(x_i - reference_k), rows being loaded as by `block_logits`."""
    n_apart = reference.shape[0] - 1
    n_padded = sums.shape[0] - n_apart
    if n_padded:
        if n_apart:
            load_rows(X, start, reference[0], has_norm, rows)
        weighted_sums(weights, pairs, rows, rows, tile, sums[:n_padded])
    elif is_large(X.shape[1], pairs):
        count = min(BLOCK, X.shape[0] - start)
        for k in range(n_apart):
            large_sums(count, weights[k], reference[1 + k], rows, sums[k])
        return
    for k in range(n_apart):
        load_rows(X, start, reference[1 + k], has_norm, rows)
        single_sums(weights[n_padded + k], pairs, rows, rows, sums[n_padded + k])


@kernel
def statistics(
    X,
    sample_weight,
    reference,
    coefficients,
    factors,
    pairs,
    has_norm,
    n_near,
    lists,
    origin,
    bounds,
    sums,
    log_likelihood,
    certificate,
):
    """Add S_k = Σ_i s_i γ_ik φ(x_i - origin_k) and Σ_i s_i log p(x_i), by segment.

    The common point is the same in origin and reference. Where there are lists, what of them is
    needed is set in ``kept``, and the certificate adds up what is not (`narrowed`).
    """
    n_samples, n_features = X.shape
    n_apart = factors.shape[0]
    rows, tile = aligned(n_rows_for(n_features)), aligned(4)
    room, log_density = aligned(coefficients.shape[0]), aligned(1)[0]
    weight = np.empty(BLOCK)
    if lists is not None:
        _, starts, active, cuts, kept = lists
        own, own_sums = np.empty_like(coefficients), np.empty_like(coefficients)
        chosen = np.empty(n_near, np.int64)
    for segment in range(bounds.size - 1):
        total = 0.0
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            gamma, eta, part, n_own = room, coefficients, sums[segment], n_near
            if lists is not None:
                listed = range_of(start, starts)
                eta = gathered(coefficients, active[listed], own)
                gamma = room[: len(eta)]
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            if lists is not None:
                members = narrowed(
                    active[listed], cuts[listed], gamma, kept[listed], certificate[segment], chosen
                )
                n_own = members.size
                n_rows = padded(n_own, PAIR)
                gamma, part = room[:n_rows], own_sums[:n_rows]
                part[:] = 0.0
            load_weights(sample_weight, start, n_samples, weight)
            softmax(n_own, gamma.shape[0] - n_apart, weight, gamma, log_density)
            for i in range(BLOCK):
                total += weight[i] * log_density[i]
            add_sums(X, start, origin, pairs, has_norm, gamma, rows, tile, part)
            if lists is not None:
                scatter(part, members, sums[segment])
        log_likelihood[segment] = total


@kernel
def overlaps(
    X,
    sample_weight,
    reference,
    coefficients,
    factors,
    pairs,
    has_norm,
    n_near,
    lists,
    bounds,
    sums,
    masses,
    log_likelihood,
):
    """Add G_kl = Σ_i s_i γ_ik γ_il (for l ≤ k), Σ_i s_i γ_ik and Σ_i s_i log p(x_i), by segment.

    In the order of the rows, without those of padding.
    """
    n_samples, n_features = X.shape
    n_apart = factors.shape[0]
    rows, tile = aligned(n_rows_for(n_features)), aligned(4)
    room, log_density = aligned(coefficients.shape[0]), aligned(1)[0]
    weight, unit = np.empty(BLOCK), np.ones(BLOCK)
    weighted = np.empty(BLOCK)
    everyone = np.arange(n_near + n_apart)
    if lists is not None:
        _, starts, active, _, _ = lists
        own = np.empty_like(coefficients)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            gamma, eta, members, n_own = room, coefficients, everyone, n_near
            if lists is not None:
                members = active[range_of(start, starts)]
                eta = gathered(coefficients, members, own)
                gamma, n_own = room[: len(eta)], members.size
            n_padded = gamma.shape[0] - n_apart
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            load_weights(sample_weight, start, n_samples, weight)
            softmax(n_own, n_padded, unit, gamma, log_density)
            for i in range(BLOCK):
                log_likelihood[segment] += weight[i] * log_density[i]
            for k in range(members.size):
                gamma_k = gamma[row_of(k, n_own, n_padded)]
                mass = 0.0
                for i in range(BLOCK):
                    weighted[i] = weight[i] * gamma_k[i]
                    mass += weighted[i]
                masses[segment, members[k]] += mass
                for other in range(k + 1):
                    theirs = gamma[row_of(other, n_own, n_padded)]
                    shared = 0.0
                    for i in range(BLOCK):
                        shared += weighted[i] * theirs[i]
                    sums[segment, members[k], members[other]] += shared


@kernel
def assigned_statistics(
    X, sample_weight, responsibilities, reference, pairs, has_norm, bounds, sums
):
    """Add S_k = Σ_i s_i γ_ik φ(x_i - reference_k) for given responsibilities, by segment."""
    n_samples, n_features = X.shape
    n_components = responsibilities.shape[1]
    rows, tile = aligned(n_rows_for(n_features)), aligned(4)
    gamma = aligned(sums.shape[1])
    gamma[:] = 0.0
    weight = np.empty(BLOCK)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            load_rows(X, start, reference[0], has_norm, rows)
            load_weights(sample_weight, start, n_samples, weight)
            count = min(BLOCK, n_samples - start)
            for k in range(n_components):
                for i in range(count):
                    gamma[k, i] = weight[i] * responsibilities[start + i, k]
                gamma[k, count:] = 0.0
            add_sums(X, start, reference, pairs, has_norm, gamma, rows, tile, sums[segment])


@kernel
def densities(
    X,
    reference,
    coefficients,
    factors,
    pairs,
    has_norm,
    n_near,
    bounds,
    log_density,
    is_completed,
    responsibilities,
    labels,
):
    """Write log p(x_i), γ_ik and argmax_k γ_ik, those of them that are given room.

    ``is_completed`` adds Σ_k γ_ik log γ_ik to log p(x_i). Components are in the order of the rows,
    without those of padding.
    """
    n_samples, n_features = X.shape
    n_padded = coefficients.shape[0] - factors.shape[0]
    n_components = n_near + factors.shape[0]
    rows, tile = aligned(n_rows_for(n_features)), aligned(4)
    gamma, log_sum = aligned(coefficients.shape[0]), aligned(1)[0]
    unit = np.ones(BLOCK)
    for start in range(bounds[0], bounds[-1], BLOCK):
        count = min(BLOCK, n_samples - start)
        block_logits(X, start, reference, coefficients, factors, pairs, has_norm, rows, tile, gamma)
        if labels.size:
            for i in range(count):
                best, most = 0, gamma[0, i]
                for k in range(1, n_components):
                    z = gamma[row_of(k, n_near, n_padded), i]
                    if z > most:
                        best, most = k, z
                labels[start + i] = best
        if log_density.size or responsibilities.size:
            softmax(n_near, n_padded, unit, gamma, log_sum)
        if is_completed:
            for k in range(n_components):
                own = gamma[row_of(k, n_near, n_padded)]
                for i in range(BLOCK):
                    log_sum[i] += own[i] * log(max(own[i], _TINY))
        if log_density.size:
            log_density[start : start + count] = log_sum[:count]
        if responsibilities.size:
            for k in range(n_components):
                own = gamma[row_of(k, n_near, n_padded)]
                for i in range(count):
                    responsibilities[start + i, k] = own[i]


@kernel
def summary(X, sample_weight, bounds, sums, lowest, highest, checks):
    """Weighted sums, least and greatest value of every column, by segment.

    ``checks`` are weighted sums with factors that depend on the row as if at random: two data
    sets that agree in them are the same.
    """
    n_samples, n_features = X.shape
    rows, halves = aligned(n_features + 1), aligned(2)
    least, most = halves[0], halves[1]
    weight, factor = np.empty(BLOCK), np.empty(BLOCK)
    nowhere = np.zeros(n_features)
    for segment in range(bounds.size - 1):
        for a in range(n_features):
            lowest[segment, a] = highest[segment, a] = X[bounds[segment], a]
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            load_rows(X, start, nowhere, False, rows)
            load_weights(sample_weight, start, n_samples, weight)
            for i in range(BLOCK):  # Knuth's multiplicative hash
                factor[i] = weight[i] * (1.0 + (((start + i) * 2654435761) & 0xFFFF))
            for a in range(n_features):
                x = rows[1 + a]
                x[count:] = x[0]
                total, check = 0.0, 0.0
                for i in range(BLOCK):
                    total += weight[i] * x[i]
                    check += factor[i] * x[i]
                    least[i] = x[i]
                    most[i] = x[i]
                half = BLOCK // 2
                while half > 0:
                    for i in range(half):
                        least[i] = min(least[i], least[i + half])
                        most[i] = max(most[i], most[i + half])
                    half //= 2
                sums[segment, a] += total
                checks[segment, a] += check
                lowest[segment, a] = min(lowest[segment, a], least[0])
                highest[segment, a] = max(highest[segment, a], most[0])
