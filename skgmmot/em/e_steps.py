"""E-steps: what responsibilities are, given the logits, and what that adds to the derivative.

An E-step is an object with the methods of `Softmax`.
"""

from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-10  # of the column sums, which sum to one
_MAX_PASSES = 60  # at one temperature
_MAX_HALVINGS = 6
_HEATING = 4.0
_MAX_HEATINGS = 20
_SINGULAR = 1e-13
_LARGEST_STEP = 50.0


class Softmax:
    """γ_ik ∝ exp(logit_ik): EM."""

    holds_weights = False

    def logits(self, em_map, theta, logits, precisions):
        """The logits of which responsibilities are the softmax, and the `Balance` or None."""
        return logits, None

    def statistics_jvp(self, em_map, step, coefficients_dot, weights_dot, data_dot):
        """Tangent of the sums of the statistics, when θ and the data move.

        ``weights_dot`` is the tangent of the weights of θ beyond that of the logits, or None.
        """
        return em_map.samples.statistics_jvp(
            step.logits, coefficients_dot, origin=step.origin, data_dot=data_dot
        )

    def pulled(self, em_map, step, sums_bar, data_bar):
        """The cotangent that `Samples.statistics_vjp` is to pull back, and what w̄ gains."""
        return sums_bar, 0.0


class Balance(NamedTuple):
    """How the masses were held.

    potentials : ndarray of shape (n_components,), h
    hessian : ndarray of shape (n_components, n_components), H
    error : float, max_k |N_k / n - w_k|
    n_passes : int, over the data
    """

    potentials: np.ndarray
    hessian: np.ndarray
    error: float
    n_passes: int


class Balanced(Softmax):
    """Responsibilities whose masses are held at the weights: Sinkhorn EM.

    With potentials h_k on top of the logits, γ_ik ∝ w_k e^{h_k} g_k(x_i)^(1/ε), the masses are the
    gradient in h of A(h) = Σ_i s_i log Σ_k w_k e^{h_k} g_k(x_i)^(1/ε), and its Hessian is

        H = diag(N) - G,    G_kl = Σ_i s_i γ_ik γ_il.

    The plan of the balanced entropic transport, with row sums s / n and column sums w (n = Σ s), is
    the γ at which N = n w. Its h maximizes the concave dual, whose value is minus that of the
    transport,

        D(h) = Σ_k w_k h_k - A(h) / n,    ∇D = w - N / n.

    Newton steps h ← h + t H⁺ (n w - N) find it, t being halved until D rises; where none does, a
    Sinkhorn step h ← h + log (n w / N), which always raises D, takes their place. For weights that
    are fixed this is Sinkhorn EM (Mena, Nejatbakhsh, Varol, Niles-Weed 2020). h counts up to a
    constant.

    Derivatives are those of an implicit function. When η, the samples, s and w move, N moves by Ṅ
    with h held, and

        H ḣ = ṅ w + n ẇ - Ṅ.

    Transposed: if L has the cotangent U of the statistics, h̄ are the masses of Hess[U]
    (`em_map.EMMap.vjp`), and with λ = H⁺ h̄ everything is as if U had λ taken off its masses, but
    for w̄ += n λ and s̄_i += ⟨λ, w⟩.
    """

    holds_weights = True

    def logits(self, em_map, theta, logits, precisions):
        """Logits with potentials that hold the masses at the weights, and the `Balance`.

        Where components hardly share a sample, H is close to zero and says little. Then the problem
        is solved at four times the temperature first, and started from its potentials.
        """
        nowhere = np.zeros(len(theta.weights))
        balance = _ascend(em_map, theta, logits, nowhere)
        n_passes, maps, found = balance.n_passes, [em_map], balance
        while found.error > TOLERANCE and len(maps) <= _MAX_HEATINGS:
            hotter = maps[-1].at(_HEATING * maps[-1].temperature)
            maps.append(hotter)
            found = _ascend(hotter, theta, hotter.logits(theta, precisions), nowhere)
            n_passes += found.n_passes
        for cooler in reversed(maps[:-1]):
            start = _HEATING * found.potentials
            found = _ascend(cooler, theta, cooler.logits(theta, precisions), start)
            n_passes += found.n_passes
        if found.error < balance.error:
            balance = found
        return logits.shifted(balance.potentials), balance._replace(n_passes=n_passes)

    def statistics_jvp(self, em_map, step, coefficients_dot, weights_dot, data_dot):
        sums_dot = super().statistics_jvp(em_map, step, coefficients_dot, weights_dot, data_dot)
        weights = step.theta.weights
        goal_dot = 0.0 if weights_dot is None else em_map.data.total_weight * weights_dot
        if data_dot is not None and data_dot.sample_weight is not None:
            goal_dot = goal_dot + float(data_dot.sample_weight.sum()) * weights
        potentials_dot = np.zeros(step.logits.coefficients.shape)
        potentials_dot[:, 0] = solve(step.balance.hessian, goal_dot - sums_dot[:, 0])
        return sums_dot + em_map.samples.statistics_jvp(
            step.logits, potentials_dot, origin=step.origin
        )

    def pulled(self, em_map, step, sums_bar, data_bar):
        potentials_bar = em_map.samples.statistics_vjp(step.logits, sums_bar, origin=step.origin)
        goal_bar = solve(step.balance.hessian, potentials_bar[:, 0])
        sums_bar = sums_bar.copy()
        sums_bar[:, 0] -= goal_bar
        if data_bar is not None:
            data_bar.shift_weights(goal_bar @ step.theta.weights)
        return sums_bar, em_map.data.total_weight * goal_bar


SOFTMAX, BALANCED = Softmax(), Balanced()
E_STEPS = {"softmax": SOFTMAX, "sinkhorn": BALANCED}


def _ascend(em_map, theta, logits, potentials):
    """The `Balance` that Newton and Sinkhorn steps find from some potentials."""
    weights, total = theta.weights, em_map.data.total_weight
    moving = weights > 0
    n_passes = 0

    def look(potentials):
        nonlocal n_passes
        n_passes += 1
        overlaps = em_map.samples.overlaps(logits.shifted(potentials))
        dual = weights @ potentials - overlaps.log_likelihood / total
        return dual, overlaps.masses, np.diag(overlaps.masses) - overlaps.sums

    dual, mass, hessian = look(potentials)
    best = None
    while True:
        error = np.abs(mass / total - weights).max()
        if best is not None and best.error < TOLERANCE and error >= best.error:
            break  # down to rounding
        if best is None or error < best.error:
            best = Balance(potentials, hessian, error, n_passes)
        if error < 0.01 * TOLERANCE or n_passes >= _MAX_PASSES:
            break
        step = solve(hessian, total * weights - mass)
        step *= min(1.0, _LARGEST_STEP / max(np.abs(step).max(), 1e-300))
        rounding = 1e-15 * (1.0 + abs(dual))
        for halving in range(_MAX_HALVINGS):
            trial = potentials + 0.5**halving * step
            found = look(trial)
            if found[0] >= dual - rounding:
                break
        else:
            trial = potentials.copy()
            goal = total * weights[moving]
            trial[moving] += np.log(goal) - np.log(np.maximum(mass[moving], 1e-300))
            found = look(trial)
        potentials, (dual, mass, hessian) = trial, found
    return best._replace(n_passes=n_passes)


def solve(hessian, right):
    """H⁺ right: of least norm, in the directions that H can tell from rounding."""
    values, vectors = np.linalg.eigh(hessian)
    regular = values > _SINGULAR * max(values[-1], 1e-300)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=regular)
    return vectors @ (inverse * (vectors.T @ (right - right.mean())))
