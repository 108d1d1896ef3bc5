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
from .large import (
    is_large,
    kept,
    large_form,
    large_moved_form,
    large_moved_sums,
    large_pull_back,
    large_slope,
    room,
    room_to_keep,
)


@inner
def _forms(X, start, reference, centered, coefficients, pairs, has_norm, rows, tile, forms):
    """forms[k, i] = ⟨coefficients_k, φ_ik⟩. ``rows`` are as `block_logits` left them."""
    forms[:] = 0.0
    if centered and is_large(X.shape[1], pairs):
        count = min(BLOCK, X.shape[0] - start)
        for k in range(reference.shape[0]):
            _, V = kept(X.shape[1], k, rows)
            large_form(count, coefficients[k], reference[k], rows, V, forms[k])
    elif centered:
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
    """
    n_samples, n_features = X.shape
    n_padded = coefficients.shape[0]
    centered = factors.shape[0] > 0
    large = centered and is_large(n_features, pairs)
    keeps = large and X_bar.size > 0
    rows = aligned(room_to_keep(n_features, n_components) if keeps else room(n_features))
    rows_bar, tile = aligned(n_features + 2), aligned(4)
    mixed = aligned(2 * n_padded)  # γ, then s γ; below it u, then s b
    gamma, form = mixed[:n_padded], mixed[n_padded:]
    both = np.concatenate((sums_bar, coefficients))
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, unit = np.empty(BLOCK), np.ones(BLOCK)
    for segment in range(bounds.size - 1):
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            block_logits(
                X, start, reference, coefficients, factors, pairs, has_norm, rows, tile, gamma
            )
            softmax(n_components, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            _forms(X, start, origin, centered, sums_bar, pairs, has_norm, rows, tile, form)
            _center_forms(n_components, gamma, form, mean)
            if weight_bar.size:
                for i in range(count):
                    weight_bar[start + i] += mean[i]
            for k in range(n_components):
                for i in range(BLOCK):
                    gamma[k, i] *= weight[i]
                    form[k, i] *= gamma[k, i]
            if coefficients_bar.size:
                add_sums(
                    X,
                    start,
                    reference,
                    centered,
                    pairs,
                    has_norm,
                    form,
                    rows,
                    tile,
                    coefficients_bar[segment],
                )
            if not X_bar.size:
                continue
            rows_bar[:] = 0.0
            if large:
                for k in range(n_components):
                    Y, V = kept(n_features, k, rows)
                    large_slope(gamma[k], sums_bar[k], V, rows_bar)
                    large_pull_back(form[k], factors[k], Y, rows, rows_bar)
            elif centered:
                for k in range(n_components):
                    load_rows(X, start, origin[k], has_norm, rows)
                    single_pull_back(gamma[k], sums_bar[k], pairs, rows, rows_bar)
                    if has_norm:
                        _pull_squared_norm(n_features, rows, rows_bar)
                    load_rows(X, start, reference[k], has_norm, rows)
                    single_pull_back(form[k], coefficients[k], pairs, rows, rows_bar)
                    if has_norm:
                        _pull_squared_norm(n_features, rows, rows_bar)
            else:
                pull_back(mixed, both, pairs, rows, tile, rows_bar)
                if has_norm:
                    _pull_squared_norm(n_features, rows, rows_bar)
            for first in range(0, count, 8):  # as in `load_rows`
                for a in range(n_features):
                    for i in range(first, min(first + 8, count)):
                        X_bar[start + i, a] += rows_bar[1 + a, i]


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
    centered = factors.shape[0] > 0
    large = centered and is_large(n_features, pairs)
    rows, rows_dot, tile = aligned(room(n_features)), aligned(room(n_features)), aligned(4)
    V = aligned(room(n_features) if large else 0)
    gamma, form = aligned(n_padded), aligned(n_padded)
    log_density, mean = aligned(1)[0], aligned(1)[0]
    weight, moved, unit = np.empty(BLOCK), np.zeros(BLOCK), np.ones(BLOCK)
    for segment in range(bounds.size - 1):
        sums = sums_dot[segment]
        for start in range(bounds[segment], bounds[segment + 1], BLOCK):
            count = min(BLOCK, n_samples - start)
            block_logits(
                X, start, reference, coefficients, factors, pairs, has_norm, rows, tile, gamma
            )
            softmax(n_components, unit, gamma, log_density)
            load_weights(sample_weight, start, n_samples, weight)
            if weight_dot.size:
                load_weights(weight_dot, start, n_samples, moved)
            _forms(
                X, start, reference, centered, coefficients_dot, pairs, has_norm, rows, tile, form
            )
            if X_dot.size:
                if large:
                    load_tangent_rows(X_dot, start, False, rows, rows_dot)
                    for k in range(n_components):
                        point, eta = reference[k], coefficients[k]
                        large_form(count, eta, point, rows, V, log_density)
                        large_moved_form(eta, V, n_features, rows_dot, form[k])
                elif centered:
                    for k in range(n_components):
                        load_rows(X, start, reference[k], has_norm, rows)
                        load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                        single_form(coefficients[k], pairs, rows_dot, rows, form[k])
                        single_form(coefficients[k], pairs, rows, rows_dot, form[k])
                else:
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    linear_forms(coefficients, pairs, rows_dot, rows, tile, form)
                    linear_forms(coefficients, pairs, rows, rows_dot, tile, form)
            _center_forms(n_components, gamma, form, mean)
            for k in range(n_components):
                for i in range(BLOCK):
                    form[k, i] = gamma[k, i] * (moved[i] + weight[i] * form[k, i])
                    gamma[k, i] *= weight[i]
            form[n_components:] = 0.0
            add_sums(X, start, origin, centered, pairs, has_norm, form, rows, tile, sums)
            if not X_dot.size:
                continue
            if large:
                for k in range(n_components):
                    large_moved_sums(count, gamma[k], origin[k], rows, rows_dot, sums[k])
            elif centered:
                for k in range(n_components):
                    load_rows(X, start, origin[k], has_norm, rows)
                    load_tangent_rows(X_dot, start, has_norm, rows, rows_dot)
                    single_sums(gamma[k], pairs, rows_dot, rows, sums[k])
                    single_sums(gamma[k], pairs, rows, rows_dot, sums[k])
            else:
                weighted_sums(gamma, pairs, rows_dot, rows, tile, sums)
                weighted_sums(gamma, pairs, rows, rows_dot, tile, sums)
