"""Entropic and unbalanced plans: an interior-point method, and Newton's method to finish.

For weights w (K,), w' (L,), costs C (K, L), a regularization ε ≥ 0 and penalties λ, λ' in
(0, ∞], with W = w ⊗ w' and KL(f | g) = Σ f log(f/g) − f + g, the problem and its dual are

    min over P ≥ 0 of ⟨P, C⟩ + ε KL(P | W) + λ KL(P1 | w) + λ' KL(Pᵀ1 | w')               (1)
  = max over u, v of − λ Σ w (e^{−u/λ} − 1) − λ' Σ w' (e^{−v/λ'} − 1)
                     − ε Σ W (e^{(u + v − C)/ε} − 1)                                       (2)

An infinite penalty makes a constraint of its term, and of its term in (2) the inner product
⟨u, w⟩; ε = 0 makes of the last term in (2) the constraint u + v ≤ C. At the optimum

    P1 = w e^{−u/λ},   Pᵀ1 = w' e^{−v/λ'},   C + ε log(P/W) − u − v = s,   P s = 0.        (3)

Primal-dual path following solves (3) with P s = μW in place of P s = 0, by Newton steps while
μ falls to zero (Mehrotra's predictor and corrector). Entropies are compatible with the
logarithmic barrier, so one method serves all ε and λ, some twenty steps are enough, and μ is
the duality gap. Each step eliminates P and s and solves K + L equations: with
D = P/(ε + s), row sums D1 and excess E = P1/λ,

    (E + D1) du + D dv = …,   Dᵀ du + (E' + Dᵀ1) dv = …                                    (4)

For ε > 0 the limit is P = W e^{(u + v − C)/ε}, and Newton's method on the first two equations
of (3), with their logarithms taken, doubles the digits of the marginals from there. It solves
(4) with D = P/ε. C − u − v is kept as a matrix from which the steps are subtracted: P is then
as accurate for ε far below the rounding of u and v as it is for large ε.

POT's solvers for these problems iterate to a fixed point at a linear rate, which is slow for
ε or μ small beside C, or λ large beside it. They are compared with in the tests.

References: Mehrotra, "On the implementation of a primal-dual interior point method", SIAM J.
Optim. 2 (1992); Nesterov & Nemirovskii, "Interior-point polynomial algorithms in convex
programming" (1994); Séjourné, Peyré & Vialard, "Unbalanced optimal transport, from theory to
numerics", Handbook of Numerical Analysis 24 (2023).
"""

from typing import NamedTuple

import numpy as np

from ..numerics.threads import one_blas_thread

MAX_ITER = 200
MAX_NEWTON = 100
NEAR_NEWTON = 10  # from potentials that are only thought to be near

# The path is followed to this gap, and to these residuals of (3), as fractions of the cost of
# moving nothing or of moving everything at random, whichever is less.
SMALLEST_GAP = 1e-14
RESIDUAL = 1e-13

# Steps at the smallest gap, after which what is left of the residual is rounding.
MOST_POLISHING = 8

# P ≤ e^{−C/(λ + λ' + ε)}: mass that would pay more than this many times λ + λ' + ε is none.
UNAFFORDABLE = 60.0

# Part of the way to the boundary that a step takes, and how small μ may be beside the
# residuals: both keep the path central.
TO_BOUNDARY = 0.99
CENTRALITY = 0.01

# For ε > 0 the path is left at this gap, or at this part of ε, for Newton's method.
LEAVE = 1e-6
LEAVE_REG = 1e-3


class _Problem(NamedTuple):
    """What (1) is made of, with rates 1/λ in place of penalties."""

    product: np.ndarray  # W
    w: np.ndarray
    w2: np.ndarray
    costs: np.ndarray
    reg: float
    rate: float
    rate2: float


class Solution(NamedTuple):
    """A plan (K, L), potentials (K,) and (L,), and the largest error of a marginal."""

    plan: np.ndarray
    potentials: tuple
    residual: float


def penalized_plan(weights, target_weights, costs, reg, penalties, near=None):
    """Solve (1) for positive weights of sum one and penalties λ and λ', as a `Solution`.

    For ε > 0 Newton's method tries from ``near`` first, potentials thought to be near the solution.
    For ε = 0 all entries of the plan are positive; many are of the size of rounding.
    """
    product = np.outer(weights, target_weights)
    nothing = penalties[0] + penalties[1] + reg
    unit = min((product * costs).sum(), nothing)
    if unit == 0:
        return Solution(product, (np.zeros(len(weights)), np.zeros(len(target_weights))), 0.0)
    unaffordable = costs > UNAFFORDABLE * nothing
    costs = np.minimum(costs, UNAFFORDABLE * nothing) / unit
    rates = unit / penalties[0], unit / penalties[1]
    problem = _Problem(product, weights, target_weights, costs, reg / unit, *rates)
    # A step that fails leaves its loop, with its residual.
    solution = None
    with np.errstate(all="ignore"), one_blas_thread():
        if near is not None and reg > 0:
            tried = _finish(problem, near[0] / unit, near[1] / unit, NEAR_NEWTON)
            solution = tried if tried.residual < RESIDUAL else None
        if solution is None:
            solution = _follow_path(problem)
            if reg > 0:
                finished = _finish(problem, *solution.potentials, MAX_NEWTON)
                if finished.residual < max(solution.residual, RESIDUAL):
                    solution = finished
    u, v = solution.potentials
    plan = np.where(unaffordable, 0.0, solution.plan)
    return Solution(plan, (unit * u, unit * v), solution.residual)


def _follow_path(problem):
    """The path to μ = 0."""
    product, w, w2, costs, reg, rate, rate2 = problem
    smallest = SMALLEST_GAP if reg == 0 else max(SMALLEST_GAP, min(LEAVE, LEAVE_REG * reg))
    accuracy = RESIDUAL if reg == 0 else max(RESIDUAL, min(LEAVE, LEAVE_REG * reg))
    p, s = np.ones(costs.shape), costs + 1.0  # P = W p: then no weight is too small
    u, v = np.zeros(len(w)), np.zeros(len(w2))
    best, least, polished = Solution(product, (u, v), np.inf), np.inf, 0
    for _ in range(MAX_ITER):
        plan = product * p
        a, b = plan.sum(axis=1), plan.sum(axis=0)
        gap = (plan * s).sum()
        slack_error = costs - u[:, None] - v - s
        if reg > 0:
            slack_error += reg * np.log(p)
        errors = _marginal_errors(a, w, u, rate), _marginal_errors(b, w2, v, rate2)
        residual = max(
            np.abs(product * slack_error).sum(),
            *(np.abs(e).sum() / max(1.0, r) for e, r in zip(errors, (rate, rate2), strict=True)),
        )
        if not residual + gap < np.inf:
            break
        if residual + gap < least:
            best, least = Solution(plan, (u, v), residual), residual + gap
        polished += gap < 2 * smallest
        if polished and (residual < accuracy or polished > MOST_POLISHING):
            break
        direction = _newton(plan, p, s, reg, slack_error, errors, (a * rate, b * rate2))
        try:
            dp, ds, _, _ = direction(-p * s)
            length = _step_length(p, dp, s, ds)
            predicted = (product * (p + length * dp) * (s + length * ds)).sum()
            centering = max((predicted / gap) ** 3, min(1.0, CENTRALITY * residual / gap))
            target = max(centering * gap, smallest)
            dp, ds, du, dv = direction(target - p * s - dp * ds)
        except np.linalg.LinAlgError:
            break
        length = _step_length(p, dp, s, ds)
        if length < 1:
            length *= TO_BOUNDARY
        p, s, u, v = p + length * dp, s + length * ds, u + length * du, v + length * dv
    return best


def _newton(plan, p, s, reg, slack_error, errors, excess):
    """Newton's step on (3), eliminated to (4), as a function of the change asked of p s."""
    D = plan / (reg + s)
    sums, sums2 = D.sum(axis=1), D.sum(axis=0)
    system = _system(D / sums[:, None], D.T / sums2[:, None], excess[0] / sums, excess[1] / sums2)

    def direction(change):
        g = change / p - slack_error
        rhs = (errors[0] - (D * g).sum(axis=1)) / sums, (errors[1] - (D * g).sum(axis=0)) / sums2
        step = np.linalg.solve(system, np.concatenate(rhs))
        du, dv = step[: len(sums)], step[len(sums) :]
        dp = p / (reg + s) * (du[:, None] + dv + g)
        return dp, (change - s * dp) / p, du, dv

    return direction


def _marginal_errors(mass, weights, potential, rate):
    """What is missing from the marginal, or for a finite penalty from its logarithm times it."""
    if rate == 0:
        return weights - mass
    return -mass * (rate * potential + np.log(mass / weights))


def _system(rows, columns, excess, excess2):
    """Matrix of (4), each equation divided by its sum of D. Its null vector, if any, is (1, −1)."""
    n = len(rows) + len(columns)
    system = np.eye(n) + np.diag(np.concatenate([excess, excess2]))
    system[: len(rows), len(rows) :] = rows
    system[len(rows) :, : len(rows)] = columns
    if not (excess.any() or excess2.any()):
        null = np.r_[np.ones(len(rows)), -np.ones(len(columns))]
        system += np.outer(null, null / n)
    return system


def _step_length(p, dp, s, ds):
    """The longest step, at most 1, that leaves p and s non-negative."""
    return min(1.0, -1.0 / min((dp / p).min(), (ds / s).min(), -1.0))


def _finish(problem, u, v, max_iter):
    """Newton's method for ε > 0, on the logarithms of the marginals."""
    product, w, w2, costs, reg, rate, rate2 = problem
    log_w, log_w2 = np.log(w), np.log(w2)
    smallest = 1e-15 * min(1.0, costs.max() / reg)
    excess = np.full(len(w), reg * rate), np.full(len(w2), reg * rate2)

    def at(u, v, reduced):
        """The state at potentials u, v: with errors of log marginals, in units of ε."""
        exponents = -reduced / reg
        rows = log_means(exponents, w2)
        columns = log_means(exponents.T, w)
        errors = np.concatenate([-rate * u - rows, -rate2 * v - columns])
        return u, v, reduced, rows, columns, errors

    state = at(u, v, costs - u[:, None] - v)
    for _ in range(max_iter):
        u, v, reduced, rows, columns, errors = state
        largest = np.abs(errors).max()
        if not largest > smallest:
            break
        exponents = -reduced / reg
        conditional = np.exp(exponents + log_w2 - rows[:, None])
        conditional2 = np.exp(exponents.T + log_w - columns[:, None])
        system = _system(conditional, conditional2, *excess)
        try:
            change = reg * np.linalg.solve(system, errors)
        except np.linalg.LinAlgError:
            break
        du, dv = change[: len(w)], change[len(w) :]
        step = 1.0
        while step > 1e-3:
            new = at(u + step * du, v + step * dv, reduced - step * (du[:, None] + dv))
            if np.abs(new[-1]).max() < (1 - step / 10) * largest:
                break
            step /= 2
        else:
            new = _sweep(state, at, reg, rate, rate2)
            if not np.abs(new[-1]).max() < largest:
                break
        state = new
    u, v, reduced, rows, columns, errors = state
    plan = product * np.exp(-reduced / reg)
    masses = np.concatenate([w * np.exp(rows), w2 * np.exp(columns)])
    return Solution(plan, (u, v), float((masses * np.abs(np.expm1(errors))).max()))


def log_means(exponents, weights):
    """log Σ_l w_l e^{x_kl} of each row, for weights of sum one.

    Where ε is large all exponents are small, and so is this: ε times it keeps its digits then.
    """
    if np.abs(exponents).max() < 0.5:
        return np.log1p(np.expm1(exponents) @ weights)
    exponents = exponents + np.log(weights)
    largest = exponents.max(axis=1)
    return largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1))


def _sweep(state, at, reg, rate, rate2):
    """One pass of Sinkhorn's: each marginal in turn is made right."""
    u, v, reduced, rows, _, _ = state
    du = -(rate * u + rows) / (rate + 1 / reg)
    u, v, reduced, _, columns, _ = at(u + du, v, reduced - du[:, None])
    dv = -(rate2 * v + columns) / (rate2 + 1 / reg)
    return at(u, v + dv, reduced - dv)
