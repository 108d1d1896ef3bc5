"""Sweeps of a coupled fit: a generalized EM with a quasi-Newton M-step.

A sweep is one pass over each cloud, which gives the sufficient statistics, followed by an update
whose cost does not depend on the number of samples. The update follows Lange (1995): the Hessian
of the expected complete log-likelihood, known in closed form (`coordinates`), is corrected for
the missing information by the gradients of past sweeps. The line search lets no sweep decrease
the objective. Bounds keep the plan non-negative, and let its support change (L-BFGS-B; Byrd, Lu,
Nocedal and Zhu 1995).

The coordinates are renewed, about the latest state, a few times: a round lasts as many sweeps as
they are good for.

K. Lange, A quasi-Newton acceleration of the EM algorithm, Statistica Sinica 5 (1995).
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from ..families.covariances import CollapsedComponentError
from ..numerics.threads import one_blas_thread
from .coupled_coordinates import Coordinates
from .objective import Evaluation, OutOfDomainError, evaluate, statistics_of

_MEMORY = 20  # past gradients that the quasi-Newton update looks at
_ROUNDS = (15, 50, 200)  # sweeps in the first rounds; the last number is that of all later ones
# A round that gains less than this share of the objective has met rounding.
_STALLED = 1e-13
_FAR = 1e6
# Standard deviations that shrink by more than this may have done so for good.
_SHRUNK = 1e-10
_LIFT = 1e-3  # share of a component's weight


class CoupledResult(NamedTuple):
    """The end of a run of sweeps.

    evaluation : Evaluation, at the last state
    history : list of Terms, J and its parts at the start and after each sweep
    residual : float
    converged : bool
    """

    evaluation: Evaluation
    history: list
    residual: float
    converged: bool

    @property
    def objectives(self):
        """J at the start and after each sweep."""
        return [terms.objective for terms in self.history]


def residual_of(problem, evaluation):
    """Scaled size of a step along the gradient; zero at an optimum.

    Without the transport penalty it is what `families.fisher.scaled_change` measures: the change
    of the weights, of the means in standard deviations and of the covariances relative to
    themselves, in one EM step. Components count alike, unless they have nearly no weight.
    """
    return _residual(problem, evaluation, *_coordinates_about(problem, evaluation))


def _coordinates_about(problem, evaluation):
    """Coordinates about a state, and the gradient there."""
    coordinates = Coordinates(problem, evaluation.state, evaluation.shares)
    return coordinates, coordinates.gradient(coordinates.start(), evaluation)


def _residual(problem, evaluation, coordinates, gradient):
    return max(coordinates.scaled_step(gradient), _weights_residual(problem, evaluation))


def _plan_excess(problem, evaluation):
    """Gradient by the plan on the simplex, or on the columns where the target is frozen, and κ."""
    plan, bar = evaluation.state.plan, evaluation.plan_bar
    w, v = (np.maximum(part, np.finfo(float).tiny) for part in evaluation.state.weights)
    mean = (plan * bar).sum(axis=0) / v if problem.freeze_target else (plan * bar).sum()
    excess = bar - mean
    if problem.freeze_target:
        excess[:, evaluation.state.weights[1] == 0] = 0.0
    return excess, 1.0 / (1.0 / w[:, None] + 1.0 / v)


def _lift(problem, evaluation):
    """Raise what is too small in an entropic plan.

    In logarithms, the coordinates of such a plan, an entry that came close to zero stays there.
    """
    excess, curvature = _plan_excess(problem, evaluation)
    state = evaluation.state
    plan, low = state.plan, _LIFT * curvature
    smallest = np.finfo(float).tiny
    growth = np.minimum(excess / (problem.transport_weight * problem.reg + smallest), 700.0)
    with np.errstate(over="ignore"):
        lifted = np.minimum(np.maximum(plan, smallest) * np.exp(np.maximum(growth, 0.0)), low)
    lifted = np.where((excess > 0) & (plan < low), lifted, plan)
    if problem.freeze_target:
        sums = lifted.sum(axis=0)
        lifted *= state.weights[1] / np.where(sums > 0, sums, 1.0)
        weights = lifted.sum(axis=1), state.weights[1]
    else:
        lifted /= lifted.sum()
        weights = lifted.sum(axis=1), lifted.sum(axis=0)
    raised = evaluate(problem, state._replace(plan=lifted, weights=weights))
    return raised if raised.objective >= evaluation.objective else evaluation


def _weights_residual(problem, evaluation):
    state = evaluation.state
    if problem.fixed_weights:
        return 0.0
    if not problem.plan_is_free:
        sides = list(zip(state.weights, evaluation.weights_bar, strict=True))
        if problem.freeze_target:
            sides = sides[:1]
        return max(float(np.abs(w * (bar - w @ bar)).max()) for w, bar in sides)
    excess, curvature = _plan_excess(problem, evaluation)
    return float(np.abs(np.maximum(state.plan + excess * curvature, 0.0) - state.plan).max())


@one_blas_thread()  # they would wait for each other, at this size
def maximize(problem, state, stopping, callback=None):
    """Sweep from a state until objective and parameters have settled: a `CoupledResult`.

    ``stopping`` is that of sweeps, by their gain of the objective. After each sweep
    ``callback(n_iter, evaluation, gain, converged)`` is called; a true answer ends the run.

    Raises
    ------
    CollapsedComponentError
        If a covariance of the starting state is not positive definite, or one shrinks about rows
        that are all the same: the objective then has no bound.
    """
    max_iter, tol, residual_tol = stopping
    evaluation = evaluate(problem, state)
    history = [evaluation.terms]
    coordinates, gradient = _coordinates_about(problem, evaluation)
    residual = _residual(problem, evaluation, coordinates, gradient)
    converged = max_iter == 0 and residual < residual_tol
    stopped, n_round, stalls = False, 0, 0
    while len(history) <= max_iter and not (converged or stopped or stalls == 2):
        if problem.plan_is_free and problem.reg > 0:
            evaluation = _lift(problem, evaluation)
            coordinates, gradient = _coordinates_about(problem, evaluation)
        before = evaluation.objective
        n_sweeps = _ROUNDS[min(n_round, len(_ROUNDS) - 1)]
        n_sweeps = min(n_sweeps, max_iter + 1 - len(history))
        limits = stopping._replace(max_iter=n_sweeps)
        evaluation, stopped = _round(
            problem, evaluation, coordinates, gradient, history, limits, callback
        )
        _refuse_collapsed(problem, state, evaluation.state)
        gain = history[-1].objective - history[-2].objective if len(history) > 1 else 0.0
        coordinates, gradient = _coordinates_about(problem, evaluation)
        residual = _residual(problem, evaluation, coordinates, gradient)
        converged = gain < tol and residual < residual_tol
        stalled = abs(evaluation.objective - before) <= _STALLED * (1 + abs(before))
        stalls = stalls + 1 if stalled else 0
        n_round += 1
    return CoupledResult(evaluation, history, residual, converged)


def _refuse_collapsed(problem, start, end):
    """Raise where covariances have shrunk to nothing, and an M-step would make them singular.

    In logarithms they never become singular themselves.
    """
    own, first = (
        np.diagonal(part.factors, axis1=-2, axis2=-1) if part.factors.ndim == 3 else part.factors
        for part in (end, start)
    )
    shrunk = (own < _SHRUNK * first).any(axis=1)
    if not shrunk.any():
        return
    family = problem.family
    with np.errstate(all="ignore"):
        statistics = statistics_of(problem, end)
    parts = np.split(shrunk, [len(end.plan)])
    for step, guilty in zip(statistics.steps, parts, strict=True):
        own, updated = (family.batch(theta.covariances) for theta in (step.theta, step.parameters))
        guilty = guilty[: len(own)].reshape(-1, *np.ones(own.ndim - 1, dtype=int))
        updated = family.unbatch(np.where(guilty, updated, own))
        family.precisions(updated, end.means.shape[1])


def _round(problem, evaluation, coordinates, gradient, history, stopping, callback):
    """Some sweeps in coordinates about one state; they extend ``history``.

    Returns the last evaluation, and whether the callback has stopped the run.
    """
    n_sweeps, tol, residual_tol = stopping
    start, accepted, stopped = coordinates.start(), evaluation, False
    seen = start, evaluation, gradient  # the last vector, and what was found there
    # said of a step out of the domain; the line search then looks closer
    out_of_domain = _FAR * (1.0 + abs(evaluation.objective)), np.zeros(coordinates.size)

    def value_and_gradient(vector):
        nonlocal seen
        if np.array_equal(vector, start):
            seen = start, evaluation, gradient
            return -evaluation.objective, -gradient
        try:
            with np.errstate(all="ignore"):
                latest = evaluate(problem, coordinates.state(vector))
                slope = coordinates.gradient(vector, latest)
        except (CollapsedComponentError, OutOfDomainError, np.linalg.LinAlgError):
            return out_of_domain
        if not (np.isfinite(latest.objective) and np.isfinite(slope).all()):
            return out_of_domain
        seen = vector.copy(), latest, slope
        return -latest.objective, -slope

    def after_sweep(intermediate_result):
        nonlocal accepted, stopped
        if not np.array_equal(seen[0], intermediate_result.x):
            value_and_gradient(intermediate_result.x)
        _, latest, latest_gradient = seen
        accepted = latest
        history.append(latest.terms)
        gain = history[-1].objective - history[-2].objective
        settled = gain < tol and (
            residual_tol == np.inf
            or _residual(problem, latest, coordinates, latest_gradient) < residual_tol
        )
        if callback is not None:
            stopped = bool(callback(len(history) - 1, latest, gain, settled))
        if settled or stopped:
            raise StopIteration

    minimize(
        value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=np.stack([coordinates.lower, np.full(coordinates.size, np.inf)], axis=1),
        callback=after_sweep,
        options={"maxcor": _MEMORY, "maxiter": n_sweeps, "ftol": 0.0, "gtol": 0.0},
    )
    return accepted, stopped
