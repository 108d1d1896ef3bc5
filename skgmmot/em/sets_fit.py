"""EM on many small sets of samples: all of them step by step, each until it has settled.

Sets go through the steps of `fit.iterate` together, in parts that are small enough for the cache.
A set that is done, or has failed, leaves. Which sets are in a part changes nothing in any of them.
Plain steps cost so little here that they are worth hundreds; the few sets that need thousands leave
as well, and go on by themselves with an accelerated method.
"""

from typing import NamedTuple

import numpy as np

from ..families.covariances import CollapsedComponentError
from ..numerics.threads import run
from ..parameters import MixtureParameters
from .fit import iterate

_ROWS_OF_A_PART = 100_000
_SETS_OF_A_PART = 500
PATIENCE = 200  # steps that all sets make together, if slow ones are to be accelerated


class SetsFit(NamedTuple):
    """What EM has made of some sets. Where it failed, parameters mean nothing.

    parameters, previous : MixtureParameters, θ_T and θ_{T-1}, with a first axis for the sets
    lower_bounds : ndarray of shape (n_sets,), mean log-likelihoods at θ_{T-1}
    residuals : ndarray of shape (n_sets,), the scaled change of the last step
    converged : ndarray of shape (n_sets,), bool
    n_iter : ndarray of shape (n_sets,), int64, T
    plain : ndarray of shape (n_sets,), bool, whether all steps were plain ones
    lost : ndarray of shape (n_sets, n_components), bool, without mass in the last step
    errors : dict of CollapsedComponentError, by the numbers of the sets that failed
    """

    parameters: MixtureParameters
    previous: MixtureParameters
    lower_bounds: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    n_iter: np.ndarray
    plain: np.ndarray
    lost: np.ndarray
    errors: dict


def taken(theta, chosen):
    """The parameters of some sets."""
    parts = (part[chosen] for part in theta)
    return MixtureParameters(*parts, theta.covariance_type)


def _put(theta, chosen, values):
    for part, value in zip(theta, values, strict=True):
        part[chosen] = value


def parts_of(sets):
    """Numbers of sets that are gone through together."""
    rows = np.cumsum(np.diff(sets.bounds)[:, 0]) // _ROWS_OF_A_PART
    part = np.maximum(rows, np.arange(len(rows)) // _SETS_OF_A_PART)
    return np.split(np.arange(len(part)), np.flatnonzero(np.diff(part)) + 1)


def fit_sets(sets_map, theta, stopping, n_threads=1, *, solver=None, leave_out=()):
    """Run EM on each set until it has settled.

    Parameters
    ----------
    sets_map : SetsMap
    theta : MixtureParameters
        θ_0, with a first axis for the sets.
    stopping : Stopping
    n_threads : int, default=1
    solver : callable, default=None
        Makes what accelerates sets that are slow (`solvers`). None: they are not.
    leave_out : collection of int, default=()
        Numbers of sets that are not looked at.

    Returns
    -------
    fit : SetsFit
    """
    n_sets = len(theta.weights)
    alive = np.setdiff1d(np.arange(n_sets), list(leave_out))
    copies = [taken(theta, slice(None)) for _ in range(2)]
    copies = [MixtureParameters(*(p.copy() for p in c), c.covariance_type) for c in copies]
    numbers = np.full((2, n_sets), np.nan)
    counts = np.zeros(n_sets, bool), np.zeros(n_sets, np.int64), np.ones(n_sets, bool)
    lost = np.zeros(theta.weights.shape, bool)
    fit = SetsFit(*copies, *numbers, *counts, lost, {})
    parts = [alive[part] for part in parts_of(sets_map.sets.of(alive))]

    def task(first, last):
        for part in parts[first:last]:
            _fit_part(sets_map, theta, stopping, part, fit, solver)

    run(task, len(parts), n_threads)
    return fit


def _fit_part(sets_map, theta, stopping, alive, fit, solver):
    max_iter, tol, residual_tol = stopping
    theta, sets_map = taken(theta, alive), sets_map.of(alive)
    before = np.full(len(alive), -np.inf)
    for t in range(max_iter):
        if t == PATIENCE and solver is not None:
            left = stopping._replace(max_iter=max_iter - t)
            for s, number in enumerate(alive):
                _go_on(sets_map, s, taken(theta, s), left, before[s], solver, number, fit)
            return
        try:
            step = sets_map.step(theta)
        except CollapsedComponentError:
            errors = sets_map.collapsed(theta)
            fit.errors.update({int(alive[s]): error for s, error in errors.items()})
            left = np.setdiff1d(np.arange(len(alive)), list(errors))
            alive, before = alive[left], before[left]
            theta, sets_map = taken(theta, left), sets_map.of(left)
            if not len(alive):
                return
            step = sets_map.step(theta)
        residuals = sets_map.changes(step)
        settled = np.abs(step.lower_bounds - before) < tol
        settled &= (residuals < residual_tol) | (residual_tol == np.inf)
        done = settled | (t == max_iter - 1)
        before, own = step.lower_bounds, alive[done]
        fit.n_iter[alive] = t + 1
        fit.converged[own], fit.residuals[own] = settled[done], residuals[done]
        fit.lower_bounds[own], fit.lost[own] = step.lower_bounds[done], step.lost[done]
        _put(fit.previous, own, taken(theta, done))
        _put(fit.parameters, own, taken(step.parameters, done))
        if done.all():
            return
        theta = step.parameters
        if done.any():
            left = ~done
            alive, before = alive[left], before[left]
            theta, sets_map = taken(theta, left), sets_map.of(left)


def _go_on(sets_map, s, theta, stopping, before, solver, number, fit):
    """Fit a set by itself, from where the others have left it."""
    em_map = sets_map.alone(s)
    try:
        result = iterate(em_map, theta, stopping, previous_bound=before, solver=solver)
    except CollapsedComponentError as error:
        fit.errors[int(number)] = error
        return
    fit.plain[number] = False
    fit.n_iter[number] += len(result.lower_bounds)
    fit.converged[number], fit.residuals[number] = result.converged, result.residual
    fit.lower_bounds[number] = result.lower_bounds[-1]
    if result.last.lost is not None:
        fit.lost[number] = result.last.lost
    _put(fit.parameters, number, result.parameters)
    _put(fit.previous, number, result.path.previous)
