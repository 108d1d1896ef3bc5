"""Plans between the weights of two mixtures, with their dual potentials.

The problem and its dual, for weights w (K,), w' (L,) and costs C (K, L):

    min over P ≥ 0 with P1 = w, Pᵀ1 = w' of ⟨P, C⟩
        = max over u, v with u_k + v_l ≤ C_kl of ⟨u, w⟩ + ⟨v, w'⟩

At the optimum u_k + v_l = C_kl wherever P_kl > 0, and u, defined up to a constant, is the
derivative of the value with respect to w.

Entropic plans add ε KL(P | w ⊗ w') to the value, and unbalanced plans pay
λ KL(P1 | w) + λ' KL(Pᵀ1 | w') in place of the constraints, with the Kullback-Leibler divergence
of measures of any mass, KL(f | g) = Σ f log(f/g) − f + g. By the envelope theorem, from the
dual in `interior_point`, where w occurs in W as well,

    ∂/∂w_k = −(λ + ε) (e^{−u_k/λ} − 1),    which is u_k for λ → ∞.                         (1)

Unbalanced plans without entropy are finished by an exact solver. Let a, b be marginals
close to the optimal ones. An optimal plan between them is a vertex, its support a forest, and
on each tree u and v are known up to a constant t, which is moved from v to u. It is found from

    Σ_{k in the tree} w_k e^{−(u_k + t)/λ} = Σ_{l in the tree} w'_l e^{−(v_l − t)/λ'}.      (2)
"""

import warnings
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp

from ..kernels.transportation import exact_plans
from ..numerics.packing import plain
from .interior_point import log_means, penalized_plan

# Pivots of the network simplex. A thousand components on either side need about 1e5.
MAX_ITER = 1_000_000

# Problems with at most so many components on either side are solved in compiled code, which at this
# size takes as long as POT; with five it takes a fiftieth.
LARGEST_COMPILED = 64

# Accuracy that is promised: of the value without entropy, as a duality gap (relative, and for
# values near zero as a part of what moving nothing, or everything at random, would cost), and
# of the marginals with entropy.
GAP = 1e-8
SMALLEST_GAP = 1e-13
MARGINAL_ERROR = 1e-10

# A flow this small beside the masses it joins is left over from rounding.
LEFT_OVER = 1e-9

BALANCED = (np.inf, np.inf)


class Plan(NamedTuple):
    """A plan with its dual potentials.

    plan : ndarray of shape (K, L)
    potentials : tuple of ndarray of shape (K,) and ndarray of shape (L,)
    value : float
    complaint : str, what there is to warn of where the solver did not converge, or None
    """

    plan: np.ndarray
    potentials: tuple
    value: float
    complaint: str | None = None

    @property
    def converged(self):
        return self.complaint is None


def optimal_plan(weights, target_weights, costs, reg=0.0, penalties=BALANCED, near=None):
    """Optimal plan and potentials of any variant, as a `Plan`.

    Parameters
    ----------
    weights : ndarray of shape (K,)
    target_weights : ndarray of shape (L,)
        Non-negative; both are scaled to a sum of one.
    costs : ndarray of shape (K, L)
        Non-negative.
    reg : float, default=0.0
        ε, the weight of the entropy.
    penalties : tuple of two floats, default=(inf, inf)
        λ and λ', the weights of the marginal terms; infinite for a constraint.
    near : tuple of ndarray of shape (K,) and ndarray of shape (L,), default=None
        Potentials of a similar problem, which may save time where `reg` is positive.

    Notes
    -----
    The potentials of a component of weight zero are those of a component whose weight falls to
    zero; without entropy u is less where another component of weight zero is nearer, so that u and
    v are feasible. Of balanced plans, ⟨u, w⟩ = ⟨v, w'⟩ fixes the constant that can be moved from u
    to v. The plan complains if the duality gap is above 1e-8 of the value (`reg` zero), or the
    marginals have an error above 1e-10 (`reg` positive).
    """
    if reg == 0 and penalties == BALANCED:
        return exact_plan(weights, target_weights, costs)
    weights, target_weights = of_mass_one(weights), of_mass_one(target_weights)
    rows, columns = weights > 0, target_weights > 0
    w, w2, C = weights[rows], target_weights[columns], costs[np.ix_(rows, columns)]

    if near is not None:
        near = near[0][rows], near[1][columns]
    solution = penalized_plan(w, w2, C, reg, penalties, near)
    if reg == 0:
        solved, potentials, gap = _finish_exact(solution, w, w2, C, penalties)
        value = plan_value(solved, w, w2, C, 0.0, penalties)
        unit = min(w @ C @ w2, sum(penalties))
        converged = bool(gap <= GAP * value + SMALLEST_GAP * unit)
        left = f"a duality gap of {gap:.3g} for a value of {value:.3g}"
    else:
        solved, potentials, residual = solution
        value = plan_value(solved, w, w2, C, reg, penalties)
        converged = bool(residual <= MARGINAL_ERROR)
        left = f"marginals with an error of {residual:.3g}"
    complaint = (
        f"The transport plan is not optimal: it was left with {left}. Take reg (here {reg:.3g}) "
        f"and reg_m (here {penalties}) closer to the costs, of which the largest is {C.max():.3g}."
    )
    plan = np.zeros(costs.shape)
    plan[np.ix_(rows, columns)] = solved
    v = extended(potentials[1], potentials[0], w, costs[rows].T, columns, reg, penalties[1])
    if reg == 0:  # feasible for pairs of two components of weight zero, too
        u = extended(potentials[0], v, None, costs, rows)
    else:
        u = extended(potentials[0], potentials[1], w2, costs[:, columns], rows, reg, penalties[0])
    if penalties == BALANCED:
        u, v = _centred(u, v, weights, target_weights)
    return Plan(plan, (u, v), value, None if converged else complaint)


def exact_plan(weights, target_weights, costs):
    """Optimal balanced plan, a vertex, and potentials of all components.

    ⟨u, w⟩ = ⟨v, w'⟩ fixes the constant that can be moved from u to v. Small problems are solved in
    compiled code (`kernels.transportation`); large ones, and any for which that does not prove its
    plan, by POT's network simplex. The plan complains if the simplex ran out of iterations; if POT
    finds none for another reason, that is a RuntimeError.
    """
    weights, target_weights = of_mass_one(weights), of_mass_one(target_weights)
    support, all_costs = None, costs
    if not (weights.all() and target_weights.all()):
        support = weights > 0
        all_costs = costs[np.ix_(support, target_weights > 0)]
    if max(all_costs.shape) <= LARGEST_COMPILED:
        solved = _compiled_plan(weights, target_weights, costs, support, all_costs)
        if solved is not None:
            return solved
    import ot  # slow: it imports every array library it finds

    # POT adds 1 to the largest cost: costs far below 1 would drown in its rounding.
    scale = all_costs.max() or 1.0
    with _pot_is_quiet() if costs.size > MAX_ITER / 100 else nullcontext():
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
    potentials = _centred(u, v, weights, target_weights)
    return Plan(plan, potentials, float(np.vdot(plan, costs)), _complaint(log["warning"], plan))


def _compiled_plan(weights, target_weights, costs, support, all_costs):
    """`exact_plan` by the kernel for many small problems, of one; None if it is not certified."""
    w, w2 = (np.ascontiguousarray(part[part > 0]) for part in (weights, target_weights))
    (K, L), value, certified = all_costs.shape, np.empty(1), np.empty(1, dtype=bool)
    plan, u, v = np.empty((K, L)), np.empty((K, 1)), np.empty((1, L))
    exact_plans(
        plain(all_costs), w, w2, np.array([0, K]), np.array([0, L]), np.zeros((1, 2), dtype=int),
        -1.0, np.inf, value, certified, plan, u, v,
    )  # fmt: skip
    if not certified:
        return None
    potentials = u[:, 0], v[0]
    if support is not None:
        small, plan, u = plan, np.zeros(costs.shape), np.zeros(len(weights))
        plan[np.ix_(support, target_weights > 0)] = small
        u[support] = potentials[0]
        potentials = _feasible_potentials(u, costs, support)
    return Plan(plan, _centred(*potentials, weights, target_weights), float(value[0]))


def plan_value(plan, weights, target_weights, costs, reg=0.0, penalties=BALANCED):
    """⟨P, C⟩ + ε KL(P | w ⊗ w') + λ KL(P1 | w) + λ' KL(Pᵀ1 | w'), infinite λ left out."""
    value = np.vdot(plan, costs)
    if reg > 0:
        value += reg * divergence(plan, np.outer(weights, target_weights))
    for penalty, mass, given in zip(
        penalties, (plan.sum(axis=1), plan.sum(axis=0)), (weights, target_weights), strict=True
    ):
        if penalty < np.inf:
            value += penalty * divergence(mass, given)
    return float(value)


def divergence(f, g):
    """KL(f | g) = Σ f log(f/g) − f + g, to a relative accuracy also where f is close to g.

    With r = log(f/g) the terms are g (r eʳ − eʳ + 1), and near r = 0 their power series. Where f/g
    is large, and might overflow, they are f (r − 1) + g.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = f / g
        r = np.log(ratio)
        terms = g * (r * ratio - np.expm1(r))
        series = r**2 * (1 / 2 + r * (1 / 3 + r * (1 / 8 + r * (1 / 30 + r * (1 / 144 + r / 840)))))
        terms = np.where(np.abs(r) < 0.01, g * series, terms)
        terms = np.where(ratio > 10.0, f * (np.log(f) - np.log(g) - 1.0) + g, terms)
    terms = np.where(f == 0, g, terms)
    return float(np.where(g > 0, terms, 0.0).sum())


def mass_gradient(potential, reg, penalty):
    """Derivative of the value with respect to the weights, formula (1)."""
    if penalty == np.inf:
        return potential
    return -(penalty + reg) * np.expm1(-potential / penalty)


def _finish_exact(solution, w, w2, costs, penalties):
    """A vertex for marginals near the optimal ones, and potentials by (2), where that helps.

    Returns the plan and the potentials, of all tried, with the least duality gap, and the gap.
    """
    u, v = solution.potentials
    a, b = solution.plan.sum(axis=1), solution.plan.sum(axis=0)
    best = None
    for _ in range(3):
        if not np.isfinite(a.sum() + b.sum()):
            break
        a = w if penalties[0] == np.inf else a
        b = w2 if penalties[1] == np.inf else b
        mass = b.sum() if penalties[1] == np.inf else a.sum()
        if mass > 0 and not (a.any() and b.any()):  # potentials that will not do
            break
        if not mass > 0:
            plan, trees = np.zeros(costs.shape), (u, v)
        else:
            vertex = exact_plan(a, b, costs)
            plan = mass * vertex.plan
            trees = _translated(vertex, w, w2, penalties)
        feasible = _feasible_potentials(u, costs)
        with np.errstate(over="ignore"):
            earned = sum(
                given @ mass_gradient(potential, 0.0, penalty)
                for given, potential, penalty in zip((w, w2), feasible, penalties, strict=True)
            )
        gap = plan_value(plan, w, w2, costs, 0.0, penalties) - earned
        if best is None or gap < best[-1]:
            best = plan, feasible, gap
        u, v = trees
        with np.errstate(over="ignore"):  # of potentials that will not do
            a, b = w * np.exp(-u / penalties[0]), w2 * np.exp(-v / penalties[1])
    return best


def _translated(vertex, w, w2, penalties):
    """Potentials of a vertex, with the constant of each tree from (2)."""
    plan, (u, v), *_ = vertex
    K, L = plan.shape
    threshold = LEFT_OVER * np.minimum(plan.sum(axis=1)[:, None], plan.sum(axis=0))
    rows, columns = np.nonzero(plan > threshold)
    edges = coo_array((np.ones(len(rows)), (rows, K + columns)), shape=(K + L, K + L))
    n_trees, labels = connected_components(edges, directed=False)
    u, v = u.copy(), v.copy()
    rate = 1 / penalties[0], 1 / penalties[1]
    for tree in range(n_trees):
        rows, columns = labels[:K] == tree, labels[K:] == tree
        if rows.any() and columns.any():
            mass = logsumexp(np.log(w[rows]) - u[rows] * rate[0])
            target_mass = logsumexp(np.log(w2[columns]) - v[columns] * rate[1])
            t = (mass - target_mass) / (rate[0] + rate[1])
            u[rows] += t
            v[columns] -= t
    return u, v


def extended(potential, other, other_weights, costs, support, reg=0.0, penalty=np.inf):
    """Potentials of all components: those outside the support, of weight zero, are added.

    They get the limit of a vanishing weight. Without entropy that is the largest that is feasible
    beside the given ones of the other side, min_l C_kl − v_l. With it, the first of the conditions
    of optimality is solved: u_k (1/λ + 1/ε) = −log Σ_l w'_l exp((v_l − C_kl)/ε).
    """
    potentials = np.empty(len(support))
    potentials[support] = potential
    if not support.all():
        costs = costs[~support]
        if reg == 0:
            potentials[~support] = (costs - other).min(axis=1)
        else:
            sums = log_means((other - costs) / reg, other_weights)
            potentials[~support] = -sums / (1 / penalty + 1 / reg)
    return potentials


def of_mass_one(weights):
    mass = weights.sum()
    return weights if mass == 1 else weights / mass


def _centred(u, v, weights, target_weights):
    shift = (target_weights @ v - weights @ u) / 2
    return u + shift, v - shift


def _feasible_potentials(u, costs, support=None):
    """Potentials of all components from those u of the source components with weight (None: all).

    v_l = min_k C_kl − u_k and then u_k = min_l C_kl − v_l (twice the c-transform) leave
    optimal potentials optimal, make them feasible to rounding, and give the components of
    weight zero, which POT leaves out, the largest potentials that these allow.
    """
    if support is None:
        v = (costs - u[:, None]).min(axis=0)
    else:
        v = (costs[support] - u[support, None]).min(axis=0)
    return (costs - v).min(axis=1), v


@contextmanager
def _pot_is_quiet():
    """Hold POT's warning back, which is passed on in our words. It takes time to catch it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "numItermax reached", UserWarning)
        yield


def _complaint(words, plan):
    """What there is to say where POT has run out of iterations."""
    if words is None:
        return None
    if "numItermax" not in words:
        raise RuntimeError(f"POT found no transport plan: {words}")
    return (
        f"The transport plan is not optimal and moves {plan.sum():.3g} of a mass of 1. POT says: "
        f"{words} The limit was {MAX_ITER} iterations."
    )
