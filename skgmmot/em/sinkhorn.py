"""The balanced E-step: responsibilities whose masses are held at the weights.

With potentials h_k on top of the logits, γ_ik ∝ w_k e^{h_k} g_k(x_i)^(1/ε), the masses are the
gradient in h of A(h) = Σ_i s_i log Σ_k w_k e^{h_k} g_k(x_i)^(1/ε), and its Hessian is

    H = diag(N) - G,    G_kl = Σ_i s_i γ_ik γ_il.

The plan of the balanced entropic transport, with row sums s / n and column sums w (n = Σ s), is the
γ at which N = n w. Its h maximizes the concave dual, whose value is minus that of the transport,

    D(h) = Σ_k w_k h_k - A(h) / n,    ∇D = w - N / n.

Newton steps h ← h + t H⁺ (n w - N) find it, t being halved until D rises; where none does, a
Sinkhorn step h ← h + log (n w / N), which always raises D, takes their place. For weights that are
fixed this is Sinkhorn EM (Mena, Nejatbakhsh, Varol, Niles-Weed 2020). h counts up to a constant.

Derivatives are those of an implicit function. When η, the samples, s and w move, N moves by Ṅ with
h held, and

    H ḣ = ṅ w + n ẇ - Ṅ.

Transposed: if L has the cotangent U of the statistics, h̄ are the masses of Hess[U] (`em.step`), and
with λ = H⁺ h̄ everything is as if U had λ taken off its masses, but for w̄ += n λ and
s̄_i += ⟨λ, w⟩.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import cpu
from .problem import logits_of

TOLERANCE = 1e-10  # of the column sums, which sum to one
_MAX_PASSES = 60  # at one temperature
_MAX_HALVINGS = 6
_HEATING = 4.0
_MAX_HEATINGS = 20
_SINGULAR = 1e-13
_LARGEST_STEP = 50.0


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


def balanced(problem, theta, logits):
    """Logits with potentials that hold the masses at the weights, and the `Balance`.

    Where components hardly share a sample, H is close to zero and says little. Then the problem is
    solved at four times the temperature first, and started from its potentials.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters
    logits : Logits of θ
    """
    nowhere = np.zeros(len(theta.weights))
    balance = _ascend(problem, theta, logits, nowhere)
    n_passes, problems, found = balance.n_passes, [problem], balance
    while found.error > TOLERANCE and len(problems) <= _MAX_HEATINGS:
        hotter = problems[-1].at(_HEATING * problems[-1].temperature)
        problems.append(hotter)
        found = _ascend(hotter, theta, logits_of(hotter, theta), nowhere)
        n_passes += found.n_passes
    for cooler in reversed(problems[:-1]):
        start = _HEATING * found.potentials
        found = _ascend(cooler, theta, logits_of(cooler, theta), start)
        n_passes += found.n_passes
    if found.error < balance.error:
        balance = found
    return shifted(logits, balance.potentials), balance._replace(n_passes=n_passes)


def _ascend(problem, theta, logits, potentials):
    """The `Balance` that Newton and Sinkhorn steps find from some potentials."""
    weights, total = theta.weights, problem.total_weight
    moving = weights > 0
    n_passes = 0

    def look(potentials):
        nonlocal n_passes
        n_passes += 1
        overlaps, mass, log_likelihood = cpu.overlaps(
            problem.X, problem.sample_weight, shifted(logits, potentials), problem.n_threads
        )
        dual = weights @ potentials - log_likelihood / total
        return dual, mass, np.diag(mass) - overlaps

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


def shifted(logits, potentials):
    """Logits with h added to their constants."""
    coefficients = logits.coefficients.copy()
    coefficients[: logits.n_components, 0] += potentials
    return logits._replace(coefficients=coefficients)


def solve(hessian, right):
    """H⁺ right: of least norm, in the directions that H can tell from rounding."""
    values, vectors = np.linalg.eigh(hessian)
    regular = values > _SINGULAR * max(values[-1], 1e-300)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=regular)
    return vectors @ (inverse * (vectors.T @ (right - right.mean())))
