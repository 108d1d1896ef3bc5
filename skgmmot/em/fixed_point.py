"""Iterate EM steps to a fixed point θ = F(θ, X)."""

from typing import NamedTuple

import numpy as np

from ..parameters import MixtureParameters
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
    """

    def __init__(self, start, max_bytes=_PATH_BYTES):
        self.start = start
        self._max_bytes = max_bytes
        self.length = 0
        self.previous, self.last = start, None  # θ_{T-1}, and the step from it
        self._stride = 1
        self._kept = []  # steps number stride, 2 stride, …, counted from 1

    def append(self, step):
        """Record an `EMStep`."""
        self.length += 1
        if self.last is not None:
            self.previous = self.last.parameters
        self.last = step
        if self.length % self._stride:
            return
        self._kept.append(step)
        if len(self._kept) > max(self._max_bytes // step.nbytes, self._stride):
            self._kept = self._kept[1::2]
            self._stride *= 2

    @property
    def end(self):
        """θ_T."""
        return self.start if self.last is None else self.last.parameters

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
    """

    parameters: MixtureParameters
    path: Path
    lower_bounds: list
    last: EMStep
    residual: float
    converged: bool


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


def iterate(problem, theta, *, max_iter, tol, residual_tol, previous_bound=-np.inf, callback=None):
    """Run EM from θ until the lower bound and the parameters have settled.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters
        θ_0.
    max_iter : int
        Number of steps at most.
    tol : float
        A step that gains less than this in the lower bound may be the last.
    residual_tol : float
        … if also its scaled change of the parameters is less than this.
    previous_bound : float, default=-inf
        Lower bound of the step before, when a run is continued.
    callback : callable(n_iter, theta, change, converged), default=None
        Called after each step, with the gain of the lower bound; a true answer ends the run.

    Returns
    -------
    result : EMResult
    """
    path, converged, lower_bounds = Path(theta), False, []
    for n_iter in range(1, max_iter + 1):
        previous = theta
        step = em_step(problem, previous)
        path.append(step)
        theta, lower_bound = step.parameters, step.lower_bound
        lower_bounds.append(lower_bound)
        change, previous_bound = lower_bound - previous_bound, lower_bound
        converged = abs(change) < tol and (
            residual_tol == np.inf or scaled_change(theta, previous) < residual_tol
        )
        stop = callback is not None and callback(n_iter, theta, change, converged)
        if converged or stop:
            break
    last = em_step(problem, theta)
    residual = scaled_change(last.parameters, theta)
    return EMResult(theta, path, lower_bounds, last, residual, converged)
