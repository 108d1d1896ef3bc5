"""Iterate EM steps to a fixed point θ = F(θ, X)."""

from typing import NamedTuple

import numpy as np

from ..parameters import MixtureParameters
from .exponential_family import precisions_of
from .step import em_step


class EMResult(NamedTuple):
    """The end of a run of EM.

    parameters : MixtureParameters, θ_T
    previous : MixtureParameters, θ_{T-1} (θ_0 if no step was made)
    lower_bounds : list of float, the mean log-likelihood at θ_0 … θ_{T-1}
    residual : float, the scaled size of F(θ_T) - θ_T
    lower_bound : float, the mean log-likelihood at θ_T
    converged : bool
    lost : ndarray of bool or None, which components have lost all their mass
    """

    parameters: MixtureParameters
    previous: MixtureParameters
    lower_bounds: list
    residual: float
    lower_bound: float
    converged: bool
    lost: np.ndarray | None


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
    return max(
        float(np.abs(new.weights - old.weights).max()),
        float(np.sqrt(max(step.max(), spread.max()))),
    )


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
    callback : callable(n_iter, lower_bound, change, theta), default=None
        Called after each step; a true answer ends the run.

    Returns
    -------
    result : EMResult
    """
    previous, converged, lower_bounds = theta, False, []
    for n_iter in range(1, max_iter + 1):
        previous = theta
        theta, lower_bound, _ = em_step(problem, previous)
        lower_bounds.append(lower_bound)
        change, previous_bound = lower_bound - previous_bound, lower_bound
        converged = abs(change) < tol and (
            residual_tol == np.inf or scaled_change(theta, previous) < residual_tol
        )
        stop = callback is not None and callback(n_iter, lower_bound, change, theta)
        if converged or stop:
            break
    last = em_step(problem, theta)
    residual = scaled_change(last.parameters, theta)
    return EMResult(theta, previous, lower_bounds, residual, last.lower_bound, converged, last.lost)
