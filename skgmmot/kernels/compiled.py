"""The CPU kernels: from samples to sums, block by block (see `blocks`), without the GIL.

Each takes the data, the logits (see `cpu.Logits`) as plain arrays, and where to write. The
components' log densities are evaluated about one common reference point (the matrix way: all
components at once), or, where ``factors`` are given, about each component's own mean (the
centered way: slower, and as accurate as the data allow).
"""

import numpy as np

from .blocks import (
    BLOCK,
    aligned,
    centered_logits,
    linear_forms,
    load_rows,
    load_weights,
    single_sums,
    softmax,
    weighted_sums,
)
from .compilation import inner, kernel
from .pruned import gathered, narrowed, padded, range_of, scatter


@inner
def block_logits(X, start, reference, coefficients, factors, pairs, has_norm, rows, tile, logits):
    if factors.shape[0]:
        constants = coefficients[: factors.shape[0], 0]
        centered_logits(X, start, reference, factors, constants, rows, logits)
    else:
        load_rows(X, start, reference[0], has_norm, rows)
        logits[:] = 0.0
        linear_forms(coefficients, pairs, rows, rows, tile, logits)


@inner
def add_sums(X, start, reference, centered, pairs, has_norm, weights, rows, tile, sums):
    """sums[k] += Σ_i weights[k, i] φ(x_i - reference_k)."""
    if centered:
        for k in range(reference.shape[0]):
            load_rows(X, start, reference[k], has_norm, rows)
            single_sums(weights[k], pairs, rows, rows, sums[k])
    else:
        weighted_sums(weights, pairs, rows, rows, tile, sums)


@kernel
def statistics(
    X,
    sample_weight,
    reference,
    coefficients,
    factors,
    pairs,
    has_norm,
    n_components,
    lists,
    origin,
    bounds,
    sums,
    log_likelihood,
    certificate,
):
    """Add S_k = Σ_i s_i γ_ik φ(x_i - origin_k) and Σ_i s_i log p(x_i), by segment.

    In the matrix way origin and reference are the same single point. Where there are lists, what
    of them is needed is set in ``kept``, and the certificate adds up what is not (`narrowed`).
    """
    n_samples, n_features = X.shape
    rows, tile = aligned(n_features + 2), aligned(4)
    room, log_density = aligned(coefficients.shape[0]), aligned(1)[0]
    weight = np.empty(BLOCK)
    if lists is not None:
        _, starts, active, cuts, kept = lists
        own, own_sums = np.empty_like(coefficients), np.empty_like(coefficients)
        chosen = np.empty(n_components, np.int64)
    for segment in range(bounds.size - 1):
        total = 0.0
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            gamma, eta, part, n_own = room, coefficients, sums[segment], n_components
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
                gamma, part = room[: padded(n_own)], own_sums[: padded(n_own)]
                part[:] = 0.0
            load_weights(sample_weight, start, n_samples, weight)
            softmax(n_own, weight, gamma, log_density)
            for i in range(BLOCK):
                total += weight[i] * log_density[i]
            add_sums(
                X,
                start,
                origin,
                factors.shape[0] > 0,
                pairs,
                has_norm,
                gamma,
                rows,
                tile,
                part,
            )
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
    n_components,
    lists,
    bounds,
    sums,
    masses,
    log_likelihood,
):
    """Add G_kl = Σ_i s_i γ_ik γ_il (for l ≤ k), Σ_i s_i γ_ik and Σ_i s_i log p(x_i), by segment."""
    n_samples, n_features = X.shape
    rows, tile = aligned(n_features + 2), aligned(4)
    room, log_density = aligned(coefficients.shape[0]), aligned(1)[0]
    weight, unit = np.empty(BLOCK), np.ones(BLOCK)
    weighted = np.empty(BLOCK)
    everyone = np.arange(n_components)
    if lists is not None:
        _, starts, active, _, _ = lists
        own = np.empty_like(coefficients)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            gamma, eta, members = room, coefficients, everyone
            if lists is not None:
                members = active[range_of(start, starts)]
                eta = gathered(coefficients, members, own)
                gamma = room[: len(eta)]
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            load_weights(sample_weight, start, n_samples, weight)
            softmax(members.size, unit, gamma, log_density)
            for i in range(BLOCK):
                log_likelihood[segment] += weight[i] * log_density[i]
            for k in range(members.size):
                mass = 0.0
                for i in range(BLOCK):
                    weighted[i] = weight[i] * gamma[k, i]
                    mass += weighted[i]
                masses[segment, members[k]] += mass
                for other in range(k + 1):
                    shared = 0.0
                    for i in range(BLOCK):
                        shared += weighted[i] * gamma[other, i]
                    sums[segment, members[k], members[other]] += shared


@kernel
def assigned_statistics(
    X, sample_weight, responsibilities, reference, pairs, has_norm, bounds, sums
):
    """Add S_k = Σ_i s_i γ_ik φ(x_i - reference_k) for given responsibilities, by segment."""
    n_samples, n_features = X.shape
    n_components = responsibilities.shape[1]
    rows, tile = aligned(n_features + 2), aligned(4)
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
            add_sums(
                X,
                start,
                reference,
                reference.shape[0] > 1,
                pairs,
                has_norm,
                gamma,
                rows,
                tile,
                sums[segment],
            )


@kernel
def densities(
    X,
    reference,
    coefficients,
    factors,
    pairs,
    has_norm,
    n_components,
    lists,
    bounds,
    log_density,
    responsibilities,
    labels,
):
    """Write log p(x_i), γ_ik and argmax_k γ_ik, those of them that are given room.

    They are written where the order of the rows, if there is one, says. Of responsibilities only
    those of the components that a block needs are.
    """
    n_samples, n_features = X.shape
    rows, tile = aligned(n_features + 2), aligned(4)
    room, log_sum = aligned(coefficients.shape[0]), aligned(1)[0]
    unit = np.ones(BLOCK)
    everyone = np.arange(n_components)
    if lists is not None:
        order, starts, active, cuts, kept = lists
        own, chosen = np.empty_like(coefficients), np.empty(n_components, np.int64)
        certificate = np.zeros(n_components)
    for start in range(bounds[0], bounds[-1], BLOCK):
        count = min(BLOCK, n_samples - start)
        gamma, eta, members = room, coefficients, everyone
        if lists is not None:
            listed = range_of(start, starts)
            eta = gathered(coefficients, active[listed], own)
            gamma = room[: len(eta)]
        block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
        if lists is not None:
            members = narrowed(
                active[listed], cuts[listed], gamma, kept[listed], certificate, chosen
            )
            gamma = room[: padded(members.size)]
        if labels.size:
            for i in range(count):
                place = start + i if lists is None else order[start + i]
                best = 0
                for k in range(1, members.size):
                    if gamma[k, i] > gamma[best, i]:
                        best = k
                labels[place] = members[best]
        if log_density.size or responsibilities.size:
            softmax(members.size, unit, gamma, log_sum)
        if log_density.size:
            for i in range(count):
                log_density[start + i if lists is None else order[start + i]] = log_sum[i]
        if responsibilities.size:
            for k in range(members.size):
                for i in range(count):
                    place = start + i if lists is None else order[start + i]
                    responsibilities[place, members[k]] = gamma[k, i]


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
