"""Plans between the weights of two mixtures, with their dual potentials.

The problem and its dual, for weights w (K,), w' (L,) and costs C (K, L):

    min over P ≥ 0 with P1 = w, Pᵀ1 = w' of ⟨P, C⟩
        = max over u, v with u_k + v_l ≤ C_kl of ⟨u, w⟩ + ⟨v, w'⟩

At the optimum u_k + v_l = C_kl wherever P_kl > 0, and u, defined up to a constant, is the
derivative of the value with respect to w.
"""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

# Pivots of the network simplex. A thousand components on either side need about 1e5.
MAX_ITER = 1_000_000


class Plan(NamedTuple):
    """A plan (K, L), its potentials (K,) and (L,), and whether its solver has converged."""

    plan: np.ndarray
    potentials: tuple
    converged: bool


def exact_plan(weights, target_weights, costs):
    """Optimal plan and potentials, by POT's network simplex.

    Parameters
    ----------
    weights : ndarray of shape (K,)
    target_weights : ndarray of shape (L,)
        Non-negative; both are scaled to a sum of one.
    costs : ndarray of shape (K, L)
        Non-negative.

    Returns
    -------
    plan : Plan
        The potentials are feasible for all components, those of weight zero included.
        ⟨u, w⟩ = ⟨v, w'⟩ fixes the constant that can be moved from u to v.

    Warns
    -----
    ConvergenceWarning
        If the simplex ran out of iterations.

    Raises
    ------
    RuntimeError
        If POT finds no solution for another reason.
    """
    import ot  # slow: it imports every array library it finds

    weights = weights / weights.sum()
    target_weights = target_weights / target_weights.sum()
    support = weights > 0
    # POT adds 1 to the largest cost: costs far below 1 would drown in its rounding.
    scale = costs[support][:, target_weights > 0].max() or 1.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "numItermax reached", UserWarning)  # said below
        plan, log = ot.emd(
            weights,
            target_weights,
            costs / scale,
            numItermax=MAX_ITER,
            log=True,
            center_dual=False,
            check_marginals=False,
        )
    u, v = _feasible_potentials(log["u"] * scale, costs, support)
    shift = (target_weights @ v - weights @ u) / 2
    return Plan(plan, (u + shift, v - shift), _converged(log["warning"], plan))


def _feasible_potentials(u, costs, support):
    """Potentials of all components from those u of the source components with weight.

    v_l = min_k C_kl − u_k and then u_k = min_l C_kl − v_l (twice the c-transform) leave
    optimal potentials optimal, make them feasible to rounding, and give the components of
    weight zero, which POT leaves out, the largest potentials that these allow.
    """
    v = (costs[support] - u[support, None]).min(axis=0)
    return (costs - v).min(axis=1), v


def _converged(words, plan):
    """Pass on what POT has said about its result."""
    if words is None:
        return True
    if "numItermax" not in words:
        raise RuntimeError(f"POT found no transport plan: {words}")
    warnings.warn(
        f"The transport plan is not optimal and moves {plan.sum():.3g} of a mass of 1. POT "
        f"says: {words} The limit was {MAX_ITER} iterations.",
        ConvergenceWarning,
        stacklevel=4,
    )
    return False
