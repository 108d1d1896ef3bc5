"""Iterate EM steps to a fixed point θ = F(θ, X)."""

from typing import NamedTuple

import numpy as np

from ..parameters import MixtureParameters
from .acceleration import accelerator
from .exponential_family import precisions_of
from .step import EMStep, em_step

_PATH_BYTES = 2**22


class Path:
    """θ_0 … θ_T of a run of EM, kept in bounded memory.

    All steps are kept while they fit into 4 MiB. Beyond that every second one is dropped, as
    often as necessary, and those in between are computed again when they are needed. In the worst
    case, where only √T are kept, this costs one more step for each.

    Parameters
    ----------
    start : MixtureParameters, θ_0
    max_bytes : int
    plain : bool, default=True
        Whether all steps are plain EM steps. Of others only the last is kept: there is nothing to
        unroll.
    temperature : float or None, default=None
        Where the steps were made; None: where the problem says.
    before : Path, default=None
        At a higher temperature, from whose end this one begins.
    """

    def __init__(self, start, max_bytes=_PATH_BYTES, *, plain=True, temperature=None, before=None):
        self.start = start
        self.plain, self.temperature, self.before = plain, temperature, before
        self._max_bytes = max_bytes
        self.length = 0
        self.previous, self.last = start, None  # θ_{T-1}, and the step from it
        self._stride = 1
        self._kept = []  # steps number stride, 2 stride, …, counted from 1

    def append(self, step, theta=None):
        """Record an `EMStep` from θ, by default from where the last one ended."""
        self.length += 1
        self.previous, self.last = self.end if theta is None else theta, step
        if not self.plain or self.length % self._stride:
            return
        self._kept.append(step)
        if len(self._kept) > max(self._max_bytes // step.nbytes, self._stride):
            self._kept = self._kept[1::2]
            self._stride *= 2

    @property
    def end(self):
        """θ_T."""
        return self.start if self.last is None else self.last.parameters

    def stages(self, problem):
        """Pairs of the problem at each temperature and the path there, first one first."""
        stage = problem if self.temperature is None else problem.at(self.temperature)
        return [*(self.before.stages(problem) if self.before else []), (stage, self)]

    def forwards(self, problem):
        """Pairs (θ_t, step from θ_t) for t = 0 … T - 1."""
        for first in range(0, self.length, self._stride):
            yield from self._segment(problem, first)

    def backwards(self, problem):
        """The same pairs, last one first."""
        for first in reversed(range(0, self.length, self._stride)):
            yield from reversed(list(self._segment(problem, first)))

    def _segment(self, problem, first):
        theta = self.start if first == 0 else self._kept[first // self._stride - 1].parameters
        for t in range(first, min(first + self._stride, self.length)):
            step = self._kept[t] if self._stride == 1 else em_step(problem, theta)
            yield theta, step
            theta = step.parameters


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


def scaled_change(new, old):
    """Largest change of a weight, of a mean and of a covariance, in units of the component.

    max_k of |Δw_k|, ‖U_kᵀ Δm_k‖ and ‖U_kᵀ ΔΣ_k U_k‖ (Frobenius), with Σ_k⁻¹ = U_k U_kᵀ: free of
    units, and the same in all affine coordinates.
    """
    kind = old.covariance_type
    factors = precisions_of(old.covariances, kind, old.n_features).factors
    step = new.means - old.means
    spread = new.covariances - old.covariances
    if kind in ("full", "tied"):
        transposed = np.swapaxes(factors, -1, -2)
        step = transposed @ step[..., None]
        spread = transposed @ spread @ factors
        spread = (spread * spread).sum(axis=(-2, -1))
    elif kind == "diag":
        step = step * factors
        spread = ((spread * factors**2) ** 2).sum(axis=1)
    else:
        step = step * factors[:, None]
        spread = (spread * factors**2) ** 2 * step.shape[1]
    step = (step * step).reshape(len(step), -1).sum(axis=1)
    moved = np.abs(new.weights - old.weights)
    return float(np.sqrt(np.max([(moved * moved).max(), step.max(), spread.max()])))


def iterate(
    problem,
    theta,
    *,
    max_iter,
    tol,
    residual_tol,
    previous_bound=-np.inf,
    callback=None,
    acceleration=None,
    depth=10,
    before=None,
):
    """Run EM from θ until the lower bound and the parameters have settled.

    The last step is a plain one, however θ_{T-1} was reached.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters
        θ_0.
    max_iter : int
        Number of passes over the data at most: of steps, without acceleration.
    tol : float
        A step that gains less than this in the lower bound may be the last.
    residual_tol : float
        … if also its scaled change of the parameters is less than this.
    previous_bound : float, default=-inf
        Lower bound of the step before, when a run is continued.
    callback : callable(n_iter, theta, change, converged), default=None
        Called after each step, with the gain of the lower bound; a true answer ends the run.
    acceleration : {None, "anderson", "newton"}, default=None
        How θ_{t+1} is chosen; None: θ_{t+1} = F(θ_t).
    depth : int, default=10
        Of ``"anderson"``.
    before : Path, default=None
        What led to θ, at a higher temperature.

    Returns
    -------
    result : EMResult
    """
    chooser = accelerator(acceleration, depth)
    converged, lower_bounds = False, []
    path = Path(theta, plain=chooser.plain, temperature=problem.temperature, before=before)
    n_evaluations, step = 0, None
    while n_evaluations < max_iter:
        if step is None:
            step = em_step(problem, theta)
        path.append(step, theta)
        lower_bounds.append(step.lower_bound)
        n_evaluations = len(lower_bounds) + chooser.n_extra
        change, previous_bound = step.lower_bound - previous_bound, step.lower_bound
        converged = abs(change) < tol and (
            residual_tol == np.inf or scaled_change(step.parameters, theta) < residual_tol
        )
        stop = callback is not None and callback(
            len(lower_bounds), step.parameters, change, converged
        )
        if converged or stop or n_evaluations >= max_iter:
            break
        theta, step = chooser.move(problem, theta, step, max_iter - n_evaluations)
    last = em_step(problem, path.end)
    residual = scaled_change(last.parameters, path.end)
    return EMResult(path.end, path, lower_bounds, last, residual, converged, n_evaluations)


def anneal(problem, theta, temperatures, *, max_iter, callback=None, **options):
    """Run EM at each of some temperatures, from where the one before ended.

    Parameters
    ----------
    problem, theta, max_iter, callback, **options
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
            problem.at(temperature),
            theta,
            max_iter=max_iter - n_evaluations,
            callback=on_step,
            before=path,
            **options,
        )
        theta, path = result.parameters, result.path
        lower_bounds = lower_bounds + result.lower_bounds
        n_evaluations += result.n_evaluations
        if stopped or n_evaluations >= max_iter:
            break
        options["previous_bound"] = -np.inf
    return result._replace(
        lower_bounds=lower_bounds,
        converged=result.converged and is_last,
        n_evaluations=n_evaluations,
    )
