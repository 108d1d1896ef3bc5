"""Iterate EM steps to a fixed point θ = F(θ, X)."""

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from ..families.covariances import CollapsedComponentError
from ..parameters import MixtureParameters
from .e_steps import TOLERANCE
from .em_map import EMStep
from .path import Path
from .solvers import Plain


class Stopping(NamedTuple):
    """When a run has ended.

    max_iter : int, number of passes over the data at most: of steps, without acceleration
    tol : float, a step that gains less than this in the lower bound may be the last …
    residual_tol : float, … if also its residual is less than this
    """

    max_iter: int
    tol: float
    residual_tol: float


class EMResult(NamedTuple):
    """The end of a run of EM.

    parameters : MixtureParameters, θ_T
    path : Path, θ_0 … θ_T
    lower_bounds : list of float, the mean log-likelihood at θ_0 … θ_{T-1}
    last : EMStep, from θ_T
    residual : float, the scaled size of F(θ_T) - θ_T
    converged : bool
    n_evaluations : int, passes over the data: steps, and what their acceleration took
    """

    parameters: MixtureParameters
    path: Path
    lower_bounds: list
    last: EMStep
    residual: float
    converged: bool
    n_evaluations: int


def iterate(
    em_map,
    theta,
    stopping,
    *,
    previous_bound=-np.inf,
    callback=None,
    solver=Plain,
    before=None,
):
    """Run EM from θ until the lower bound and the parameters have settled.

    The last step is a plain one, however θ_{T-1} was reached.

    Parameters
    ----------
    em_map : EMMap
    theta : MixtureParameters
        θ_0.
    stopping : Stopping
        The residual of a step is its scaled change of the parameters.
    previous_bound : float, default=-inf
        Lower bound of the step before, when a run is continued.
    callback : callable(n_iter, theta, change, converged), default=None
        Called after each step, with the gain of the lower bound; a true answer ends the run.
    solver : callable, default=Plain
        Makes what chooses θ_{t+1} (`solvers`), by default F(θ_t).
    before : Path, default=None
        What led to θ, at a higher temperature.

    Returns
    -------
    result : EMResult
    """
    solver, (max_iter, tol, residual_tol) = solver(), stopping
    converged, lower_bounds = False, []
    path = Path(theta, plain=solver.plain, temperature=em_map.temperature, before=before)
    n_evaluations, step = 0, None
    while n_evaluations < max_iter:
        if step is None:
            step = solver.step(em_map, theta)
        path.append(step)
        lower_bounds.append(step.lower_bound)
        n_evaluations = len(lower_bounds) + solver.n_extra
        change, previous_bound = step.lower_bound - previous_bound, step.lower_bound
        converged = bool(abs(change) < tol) and (
            residual_tol == np.inf or em_map.residual(step, residual_tol) < residual_tol
        )
        stop = callback is not None and callback(
            len(lower_bounds), step.parameters, change, converged
        )
        if converged or stop or n_evaluations >= max_iter:
            break
        theta, step = solver.move(em_map, step, max_iter - n_evaluations)
        if not solver.plain:
            path.forget_steps()
    last = em_map.step(path.end)
    residual = em_map.residual(last)
    return EMResult(path.end, path, lower_bounds, last, residual, converged, n_evaluations)


def anneal(em_map, theta, temperatures, stopping, *, callback=None, **options):
    """Run EM at each of some temperatures, from where the one before ended.

    Parameters
    ----------
    em_map, theta, stopping, callback, **options
        As in `iterate`; ``max_iter`` is for all temperatures together.
    temperatures : sequence of float

    Returns
    -------
    result : EMResult
        Of the last temperature that was reached, with the lower bounds and passes of all.
    """
    path, lower_bounds, n_evaluations, stopped = None, [], 0, False

    def on_step(n_iter, theta, change, converged):
        nonlocal stopped
        stopped = callback is not None and callback(
            len(lower_bounds) + n_iter, theta, change, converged and is_last
        )
        return stopped

    for i, temperature in enumerate(temperatures):
        is_last = i == len(temperatures) - 1
        result = iterate(
            em_map.at(temperature),
            theta,
            stopping._replace(max_iter=stopping.max_iter - n_evaluations),
            callback=on_step,
            before=path,
            **options,
        )
        theta, path = result.parameters, result.path
        lower_bounds = lower_bounds + result.lower_bounds
        n_evaluations += result.n_evaluations
        if stopped or n_evaluations >= stopping.max_iter:
            break
        options["previous_bound"] = -np.inf
    return result._replace(
        lower_bounds=lower_bounds,
        converged=result.converged and is_last,
        n_evaluations=n_evaluations,
    )


class Fit(NamedTuple):
    """The best of several runs.

    result : EMResult
    lower_bound : float, by which it is the best
    failures : list of CollapsedComponentError, of the runs that failed
    n_runs : int
    """

    result: EMResult
    lower_bound: float
    failures: list
    n_runs: int


def fit(em_map, starts, stopping, temperatures=(1.0,), *, watching=None, **options):
    """Fit a mixture: run EM from each of some starts, and keep the best end.

    Parameters
    ----------
    em_map : EMMap
    starts : sequence of callables
        Each makes a θ_0, when its turn comes.
    stopping : Stopping
    temperatures : sequence of float
    watching : callable(number of the run), default=None
        Makes a context for each run, which yields its callback.
    **options
        As in `iterate`.

    Returns
    -------
    fit : Fit

    Raises
    ------
    CollapsedComponentError
        If all runs failed.
    """
    best, best_bound, failures = None, -np.inf, []
    for number, start in enumerate(starts):
        with watching(number) if watching else nullcontext() as callback:
            try:
                result = anneal(
                    em_map, start(), temperatures, stopping, callback=callback, **options
                )
            except CollapsedComponentError as error:
                failures.append(error)
                continue
        bound = result.lower_bounds[-1] if result.lower_bounds else result.last.lower_bound
        if best is None or bound > best_bound:
            best, best_bound = result, bound
    if best is None:
        raise failures[0]
    return Fit(best, best_bound, failures, len(starts))


def complaints_of(fit, stopping):
    """What is wrong with a `Fit`, a sentence each."""
    result, complaints = fit.result, []
    if stopping.max_iter and not result.converged:
        complaints.append(
            f"EM did not converge in {len(result.lower_bounds)} steps, "
            f"{result.n_evaluations} passes over the data: the residual is "
            f"{result.residual:.3g} (residual_tol={stopping.residual_tol:.3g}). Increase "
            "max_iter or residual_tol, set acceleration='newton', or try other init_params."
        )
    balance = result.last.balance
    if balance is not None and balance.error > TOLERANCE:
        complaints.append(
            f"e_step='sinkhorn' did not converge: masses differ from the weights by "
            f"{balance.error:.3g}. Raise the temperature, or pass weights_init closer to the "
            "sizes of the clusters."
        )
    if result.last.lost is not None:
        complaints.append(complaint_of_lost(result.last.lost))
    if fit.failures:
        complaints.append(
            f"{len(fit.failures)} of {fit.n_runs} restarts failed and were skipped; the first "
            f"because: {fit.failures[0]}"
        )
    return complaints


def complaint_of_lost(lost):
    """A sentence on the components that have lost all their mass."""
    return (
        f"Component {', '.join(map(str, np.flatnonzero(lost)))} lost all its mass and keeps its "
        "last mean and covariance. Decrease n_components, or try other init_params."
    )
