"""The derivatives of the E-step statistics, as CPU kernels (conventions as in `compiled`).

With γ_ik the responsibilities, z_ik = ⟨η_k, φ(x_i - reference_k)⟩ and φ_ik = φ(x_i - origin_k),

    S_k = Σ_i s_i γ_ik φ_ik,    dγ_ik = γ_ik (dz_ik - Σ_l γ_il dz_il).

η has its own reference points, because in the centered way S is best taken about the means that
the M-step makes of it. In the matrix way there is one point for all.

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
    single_form,
    single_pull_back,
    single_sums,
    softmax,
    weighted_sums,
)
from .compilation import inner, kernel
from .compiled import add_sums, block_logits
from .pruned import gathered, range_of, scatter


@inner
def _forms(X, start, reference, centered, coefficients, pairs, has_norm, rows, tile, forms):
    """forms[k, i] = ⟨coefficients_k, φ_ik⟩. In the matrix way ``rows`` are loaded already."""
    forms[:] = 0.0
    if centered:
        for k in range(reference.shape[0]):
            load_rows(X, start, reference[k], has_norm, rows)
            single_form(coefficients[k], pairs, rows, rows, forms[k])
    else:
        linear_forms(coefficients, pairs, rows, rows, tile, forms)


@inner
def _center_forms(n_components, gamma, forms, mean):
    """mean[i] = Σ_k γ_ik forms[k, i], subtracted from the forms."""
    mean[:] = 0.0
    for k in range(n_components):
        for i in range(BLOCK):
            mean[i] += gamma[k, i] * forms[k, i]
    for k in range(n_components):
        for i in range(BLOCK):
            forms[k, i] -= mean[i]


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
    n_components,
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
    n_padded = coefficients.shape[0]
    rows, rows_bar, tile = aligned(n_features + 2), aligned(n_features + 2), aligned(4)
    room = aligned(2 * n_padded)  # γ, then s γ; below it u, then s b
    everything = np.concatenate((sums_bar, coefficients))
    if lists is not None:
        order, starts, active, _, _ = lists
        own, own_sums = np.empty_like(everything), np.empty_like(coefficients)
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, unit = np.empty(BLOCK), np.ones(BLOCK)
    centered = factors.shape[0] > 0
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            both, n_own = everything, n_components
            if lists is not None:
                members = active[range_of(start, starts)]
                U, n_own = gathered(sums_bar, members, own), members.size
                eta = gathered(coefficients, members, own[len(U) :])
                both = own[: 2 * len(U)]
            half = len(both) // 2
            U, eta, mixed = both[:half], both[half:], room[: 2 * half]
            gamma, form = mixed[:half], mixed[half:]
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            softmax(n_own, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            _forms(X, start, origin, centered, U, pairs, has_norm, rows, tile, form)
            _center_forms(n_own, gamma, form, mean)
            if weight_bar.size:
                for i in range(count):
                    weight_bar[start + i if lists is None else order[start + i]] += mean[i]
            for k in range(n_own):
                for i in range(BLOCK):
                    gamma[k, i] *= weight[i]
                    form[k, i] *= gamma[k, i]
            if coefficients_bar.size:
                part = coefficients_bar[segment]
                if lists is not None:
                    part = own_sums[:half]
                    part[:] = 0.0
                add_sums(X, start, reference, centered, pairs, has_norm, form, rows, tile, part)
                if lists is not None:
                    scatter(part, members, coefficients_bar[segment])
            if not X_bar.size:
                continue
            rows_bar[:] = 0.0
            if centered:
                for k in range(n_own):
                    load_rows(X, start, origin[k], has_norm, rows)
                    single_pull_back(gamma[k], U[k], pairs, rows, rows_bar)
                    if has_norm:
                        _pull_squared_norm(n_features, rows, rows_bar)
                    load_rows(X, start, reference[k], has_norm, rows)
                    single_pull_back(form[k], eta[k], pairs, rows, rows_bar)
                    if has_norm:
                        _pull_squared_norm(n_features, rows, rows_bar)
            else:
                pull_back(mixed, both, pairs, rows, tile, rows_bar)
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
    n_components,
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
    n_padded = coefficients.shape[0]
    rows, rows_dot, tile = aligned(n_features + 2), aligned(n_features + 2), aligned(4)
    room, form_room = aligned(n_padded), aligned(n_padded)
    if lists is not None:
        _, starts, active, _, _ = lists
        own, own_dot = np.empty_like(coefficients), np.empty_like(coefficients)
        own_sums = np.empty_like(coefficients)
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, moved, unit = np.empty(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    centered = factors.shape[0] > 0
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            eta, eta_dot, sums, n_own = (
                coefficients,
                coefficients_dot,
                sums_dot[segment],
                n_components,
            )
            gamma, form, sums = room, form_room, sums_dot[segment]
            if lists is not None:
                members = active[range_of(start, starts)]
                eta, n_own = gathered(coefficients, members, own), members.size
                eta_dot = gathered(coefficients_dot, members, own_dot)
                gamma, form, sums = room[: len(eta)], form_room[: len(eta)], own_sums[: len(eta)]
                sums[:] = 0.0
            block_logits(X, start, reference, eta, factors, pairs, has_norm, rows, tile, gamma)
            softmax(n_own, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            if weight_dot.size:
                load_weights(weight_dot, start, n_samples, moved)
            _forms(X, start, reference, centered, eta_dot, pairs, has_norm, rows, tile, form)
            if X_dot.size:
                if centered:
                    for k in range(n_own):
                        load_rows(X, start, reference[k], has_norm, rows)
                        load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                        single_form(eta[k], pairs, rows_dot, rows, form[k])
                        single_form(eta[k], pairs, rows, rows_dot, form[k])
                else:
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    linear_forms(eta, pairs, rows_dot, rows, tile, form)
                    linear_forms(eta, pairs, rows, rows_dot, tile, form)
            _center_forms(n_own, gamma, form, mean)
            for k in range(n_own):
                for i in range(BLOCK):
                    form[k, i] = gamma[k, i] * (moved[i] + weight[i] * form[k, i])
                    gamma[k, i] *= weight[i]
            form[n_own:] = 0.0
            add_sums(X, start, origin, centered, pairs, has_norm, form, rows, tile, sums)
            if X_dot.size and centered:
                for k in range(n_own):
                    load_rows(X, start, origin[k], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    single_sums(gamma[k], pairs, rows_dot, rows, sums[k])
                    single_sums(gamma[k], pairs, rows, rows_dot, sums[k])
            elif X_dot.size:
                weighted_sums(gamma, pairs, rows_dot, rows, tile, sums)
                weighted_sums(gamma, pairs, rows, rows_dot, tile, sums)
            if lists is not None:
                scatter(sums, members, sums_dot[segment])
