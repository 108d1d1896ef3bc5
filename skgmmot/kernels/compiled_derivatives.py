"""The derivatives of the E-step statistics, as CPU kernels (conventions as in `compiled`).

With γ_ik the responsibilities, z_ik = ⟨η_k, φ(x_i - reference_k)⟩ and φ_ik = φ(x_i - origin_k),

    S_k = Σ_i s_i γ_ik φ_ik,    dγ_ik = γ_ik (dz_ik - Σ_l γ_il dz_il).

η has its own reference points, because in the centered way S is best taken about the means that
the M-step makes of it. Components in the matrix way have one point in common.

S is the gradient of the log-likelihood in η, so dS/dη is symmetric: `statistics_vjp` in η is the
`statistics_jvp` of the same direction.
"""

import numpy as np

from .blocks import (
    BLOCK,
    aligned,
    linear_forms,
    load_rows,
    load_tangent_rows,
    load_weights,
    pull_back,
    row_of,
    single_form,
    single_pull_back,
    single_sums,
    softmax,
    weighted_sums,
)
from .compilation import inner, kernel
from .compiled import add_sums, block_logits
from .large import (
    is_large,
    kept_products,
    large_form,
    large_moved_form,
    large_moved_sums,
    large_pull_back,
    large_slope,
    n_rows_for,
    n_rows_to_keep,
)
from .pruned import gathered, range_of, scatter


@inner
def _forms(X, start, reference, coefficients, pairs, has_norm, rows, tile, forms):
    """forms[k, i] = ⟨coefficients_k, φ_ik⟩, with rows loaded as `block_logits` does."""
    n_apart = reference.shape[0] - 1
    n_padded = forms.shape[0] - n_apart
    forms[:] = 0.0
    if n_padded:
        if n_apart:
            load_rows(X, start, reference[0], has_norm, rows)
        linear_forms(coefficients[:n_padded], pairs, rows, rows, tile, forms)
    elif is_large(X.shape[1], pairs):
        count = min(BLOCK, X.shape[0] - start)
        for k in range(n_apart):
            _, V = kept_products(X.shape[1], k, rows)
            large_form(count, coefficients[k], reference[1 + k], rows, V, forms[k])
        return
    for k in range(n_padded, forms.shape[0]):
        load_rows(X, start, reference[1 + k - n_padded], has_norm, rows)
        single_form(coefficients[k], pairs, rows, rows, forms[k])


@inner
def _center_forms(n_near, n_padded, gamma, forms, mean):
    """mean[i] = Σ_k γ_ik forms[k, i], subtracted from the forms."""
    n_components = gamma.shape[0] - n_padded + n_near
    mean[:] = 0.0
    for k in range(n_components):
        row = row_of(k, n_near, n_padded)
        for i in range(BLOCK):
            mean[i] += gamma[row, i] * forms[row, i]
    for k in range(n_components):
        row = row_of(k, n_near, n_padded)
        for i in range(BLOCK):
            forms[row, i] -= mean[i]


@inner
def _pull_squared_norm(n_features, rows, rows_bar):
    """Move the cotangent of the row ‖z‖² on to the rows z."""
    norm_bar = rows_bar[1 + n_features]
    for a in range(1, 1 + n_features):
        for i in range(BLOCK):
            rows_bar[a, i] += 2.0 * rows[a, i] * norm_bar[i]
    norm_bar[:] = 0.0


@kernel
def statistics_vjp(
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
    sums_bar,
    bounds,
    coefficients_bar,
    X_bar,
    weight_bar,
):
    """Pull a cotangent U of the statistics back; add to those of the results that have room.

    With u_ik = ⟨U_k, φ_ik⟩, ū_i = Σ_k γ_ik u_ik and b_ik = γ_ik (u_ik - ū_i):

        η̄_k = Σ_i s_i b_ik φ(x_i - reference_k),  s̄_i = ū_i,
        x̄_i = s_i J_φ(x_i)ᵀ Σ_k (γ_ik U_k + b_ik η_k).

    What samples receive is added where the order of the rows, if there is one, says.
    """
    n_samples, n_features = X.shape
    n_rows, n_apart = coefficients.shape[0], factors.shape[0]
    large = n_rows == n_apart and is_large(n_features, pairs)
    keeps = large and X_bar.size > 0
    rows = aligned(n_rows_to_keep(n_features, n_apart) if keeps else n_rows_for(n_features))
    rows_bar, tile = aligned(n_features + 2), aligned(4)
    room = aligned(2 * n_rows)  # γ, then s γ; below it u, then s b
    everything = np.concatenate((sums_bar, coefficients))
    if lists is not None:
        order, starts, active, _, _ = lists
        own, own_sums = np.empty_like(everything), np.empty_like(coefficients)
    n_parts = 2 if n_apart else 1  # of γ and u that have to do with the common point
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, unit = np.empty(BLOCK), np.ones(BLOCK)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            both, n_own = everything, n_near
            if lists is not None:
                members = active[range_of(start, starts)]
                U, n_own = gathered(sums_bar, members, own), members.size
                eta = gathered(coefficients, members, own[len(U) :])
                both = own[: 2 * len(U)]
            half = len(both) // 2
            n_padded = half - n_apart
            U, eta, mixed = both[:half], both[half:], room[: 2 * half]
            gamma, form = mixed[:half], mixed[half:]
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            softmax(n_own, n_padded, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            _forms(X, start, origin, U, pairs, has_norm, rows, tile, form)
            _center_forms(n_own, n_padded, gamma, form, mean)
            if weight_bar.size:
                for i in range(count):
                    weight_bar[start + i if lists is None else order[start + i]] += mean[i]
            for k in range(n_own + n_apart):
                row = row_of(k, n_own, n_padded)
                for i in range(BLOCK):
                    gamma[row, i] *= weight[i]
                    form[row, i] *= gamma[row, i]
            if coefficients_bar.size:
                part = coefficients_bar[segment]
                if lists is not None:
                    part = own_sums[:half]
                    part[:] = 0.0
                add_sums(X, start, reference, pairs, has_norm, form, rows, tile, part)
                if lists is not None:
                    scatter(part, members, coefficients_bar[segment])
            if not X_bar.size:
                continue
            rows_bar[:] = 0.0
            if n_padded:
                if n_apart:
                    load_rows(X, start, reference[0], has_norm, rows)
                for part in range(n_parts):
                    first = part * half
                    last = first + (n_padded if n_apart else 2 * half)
                    pull_back(mixed[first:last], both[first:last], pairs, rows, tile, rows_bar)
                if has_norm:
                    _pull_squared_norm(n_features, rows, rows_bar)
            for k in range(n_apart):
                row = n_padded + k
                if large:
                    Y, V = kept_products(n_features, k, rows)
                    large_slope(gamma[k], sums_bar[k], V, rows_bar)
                    large_pull_back(form[k], factors[k], Y, rows_bar)
                    continue
                load_rows(X, start, origin[1 + k], has_norm, rows)
                single_pull_back(gamma[row], U[row], pairs, rows, rows_bar)
                if has_norm:
                    _pull_squared_norm(n_features, rows, rows_bar)
                load_rows(X, start, reference[1 + k], has_norm, rows)
                single_pull_back(form[row], eta[row], pairs, rows, rows_bar)
                if has_norm:
                    _pull_squared_norm(n_features, rows, rows_bar)
            for first in range(0, count, 8):  # as in `load_rows`
                for a in range(n_features):
                    for i in range(first, min(first + 8, count)):
                        place = start + i if lists is None else order[start + i]
                        X_bar[place, a] += rows_bar[1 + a, i]


@kernel
def statistics_jvp(
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
    coefficients_dot,
    X_dot,
    weight_dot,
    bounds,
    sums_dot,
):
    """Add Ṡ_k = Σ_i (ṡ_i γ_ik + s_i γ̇_ik) φ_ik + s_i γ_ik φ̇_ik, by segment.

    γ̇_ik = γ_ik (ż_ik - Σ_l γ_il ż_il) with ż_ik = ⟨η̇_k, φ⟩ + ⟨η_k, φ̇⟩ and φ̇ = J_φ ẋ.
    """
    n_samples, n_features = X.shape
    n_rows, n_apart = coefficients.shape[0], factors.shape[0]
    large = n_rows == n_apart and is_large(n_features, pairs)
    rows, tile = aligned(n_rows_for(n_features)), aligned(4)
    rows_dot = aligned(n_rows_for(n_features))
    V = aligned(n_features if large else 0)
    room, form_room = aligned(n_rows), aligned(n_rows)
    if lists is not None:
        _, starts, active, _, _ = lists
        own, own_dot = np.empty_like(coefficients), np.empty_like(coefficients)
        own_sums = np.empty_like(coefficients)
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, moved, unit = np.empty(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            eta, eta_dot, sums, n_own = coefficients, coefficients_dot, sums_dot[segment], n_near
            gamma, form = room, form_room
            if lists is not None:
                members = active[range_of(start, starts)]
                eta, n_own = gathered(coefficients, members, own), members.size
                eta_dot = gathered(coefficients_dot, members, own_dot)
                gamma, form, sums = room[: len(eta)], form_room[: len(eta)], own_sums[: len(eta)]
                sums[:] = 0.0
            n_padded = len(eta) - n_apart
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            softmax(n_own, n_padded, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            if weight_dot.size:
                load_weights(weight_dot, start, n_samples, moved)
            _forms(X, start, reference, eta_dot, pairs, has_norm, rows, tile, form)
            if X_dot.size:
                if n_padded:
                    if n_apart:
                        load_rows(X, start, reference[0], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    near = eta[:n_padded]
                    linear_forms(near, pairs, rows_dot, rows, tile, form)
                    linear_forms(near, pairs, rows, rows_dot, tile, form)
                if large:
                    load_tangent_rows(X_dot, start, False, rows, rows_dot)
                for k in range(n_apart):
                    row = n_padded + k
                    if large:
                        large_form(count, eta[k], reference[1 + k], rows, V, log_density)
                        large_moved_form(eta[k], V, n_features, rows_dot, form[k])
                        continue
                    load_rows(X, start, reference[1 + k], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    single_form(eta[row], pairs, rows_dot, rows, form[row])
                    single_form(eta[row], pairs, rows, rows_dot, form[row])
            _center_forms(n_own, n_padded, gamma, form, mean)
            for k in range(n_own + n_apart):
                row = row_of(k, n_own, n_padded)
                for i in range(BLOCK):
                    form[row, i] = gamma[row, i] * (moved[i] + weight[i] * form[row, i])
                    gamma[row, i] *= weight[i]
            form[n_own:n_padded] = 0.0
            add_sums(X, start, origin, pairs, has_norm, form, rows, tile, sums)
            if X_dot.size and n_padded:
                if n_apart:
                    load_rows(X, start, reference[0], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                weighted_sums(gamma, pairs, rows_dot, rows, tile, sums[:n_padded])
                weighted_sums(gamma, pairs, rows, rows_dot, tile, sums[:n_padded])
            if X_dot.size:
                for k in range(n_apart):
                    row = n_padded + k
                    if large:
                        large_moved_sums(count, gamma[k], origin[1 + k], rows, rows_dot, sums[k])
                        continue
                    load_rows(X, start, origin[1 + k], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    single_sums(gamma[row], pairs, rows_dot, rows, sums[row])
                    single_sums(gamma[row], pairs, rows, rows_dot, sums[row])
            if lists is not None:
                scatter(sums, members, sums_dot[segment])
