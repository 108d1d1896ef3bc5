"""One EM step θ' = F(θ, X), and its derivative.

    θ ──natural──▶ η ──statistics──▶ S ──maximize──▶ θ'

The first and the last arrow have the size of the mixture (`exponential_family`, and `derivatives`
for theirs), the middle one passes over the data (`skgmmot.kernels`). With
A(η) = Σ_i s_i log Σ_k exp⟨η_k, φ(x_i)⟩, the log-likelihood, S = ∂A/∂η.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..kernels import cpu
from ..parameters import MixtureParameters
from . import sinkhorn
from .derivatives import (
    maximize_jvp,
    maximize_vjp,
    natural_parameters_jvp,
    natural_parameters_vjp,
)
from .exponential_family import lost_components, maximize, natural_parameters, precisions_of
from .problem import LARGEST_CANCELLATION, logits_of, second_moment_jvp

# At temperatures above this, log-likelihoods are so close to zero that they are evaluated apart,
# component by component: the temperature times their rounding is the error of the bound.
_HOT = 1e3


class EMStep(NamedTuple):
    """One EM step from θ.

    parameters : MixtureParameters, F(θ, X)
    lower_bound : float, the mean log-likelihood of the data at θ; at a temperature ε the negative
        free energy, ε times the mean of log Σ_k w_k g_k^(1/ε); and with masses held at the weights
        minus the value of the balanced transport
    mass : ndarray of shape (n_components,), N_k = Σ_i s_i γ_ik at θ
    logits : Logits of θ
    origin : ndarray of shape (n_components, n_features) or (1, n_features), the points about
        which derivatives take the statistics
    balance : Balance of the masses, or None where they are free
    """

    parameters: MixtureParameters
    lower_bound: float
    mass: np.ndarray
    logits: cpu.Logits
    origin: np.ndarray
    balance: sinkhorn.Balance | None = None

    @property
    def nbytes(self):
        """Memory that a kept step takes."""
        arrays = (*self.parameters, self.logits.coefficients, self.logits.factors, self.origin)
        return sum(array.nbytes for array in arrays)

    @property
    def lost(self):
        """Which components have lost all their mass, or None."""
        return lost_components(self.mass)


def em_step(problem, theta):
    """One EM step.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters

    Returns
    -------
    step : EMStep
    """
    logits, balance = logits_of(problem, theta), None
    if problem.balanced:
        logits, balance = sinkhorn.balanced(problem, theta, logits)
    step = _step(problem, theta, logits, logits.reference)
    if _cancels(step.parameters, logits.reference):
        # a component came to lie so far from its reference point that its squares cancel: take
        # them about the mean that is known now
        means = step.parameters.means
        centered = natural_parameters(theta, temperature=problem.temperature)
        if balance is not None:
            centered = sinkhorn.shifted(centered, balance.potentials)
        step = _step(problem, theta, centered, means)
    if len(step.logits.factors):
        # a derivative needs no statistics: it may as well take them about the new means
        step = step._replace(origin=step.parameters.means)
    if problem.temperature > _HOT:
        step = step._replace(lower_bound=_hot_lower_bound(problem, theta, balance))
    if balance is not None:
        dual = step.lower_bound - problem.temperature * (theta.weights @ balance.potentials)
        step = step._replace(lower_bound=dual, balance=balance)
    return step


def _step(problem, theta, logits, origin):
    """The step with statistics about ``origin``, by the way that the logits stand for."""
    statistics, log_likelihood = cpu.statistics(
        problem.X, problem.sample_weight, logits, problem.n_threads, origin=origin
    )
    common = None
    if problem.covariance_type == "tied" and not len(logits.factors):
        common = problem.second_moment
        precision = precisions_of(theta.covariances, "tied", theta.n_features).precisions
        log_likelihood -= 0.5 * (precision * common).sum() / problem.temperature
    updated = maximize(
        statistics,
        origin,
        theta,
        reg_covar=problem.reg_covar,
        fixed_weights=problem.fixed_weights,
        second_moment=common,
    )
    lower_bound = problem.temperature * log_likelihood / problem.total_weight
    return EMStep(updated, lower_bound, statistics[:, 0], logits, origin)


def _hot_lower_bound(problem, theta, balance):
    values = log_density(problem, theta, None if balance is None else balance.potentials)
    if problem.sample_weight is not None:
        values *= problem.sample_weight
    return problem.temperature * float(values.sum()) / problem.total_weight


def _cancels(theta, reference):
    """Whether a mean lies so far from its reference point that squares about that cancel.

    That is, its squared distance is too large a multiple of a variance of its component.
    """
    shift = theta.means - reference
    variances = theta.covariances
    if theta.covariance_type == "full":
        variances = variances.reshape(len(shift), -1)[:, :: shift.shape[1] + 1]
    elif theta.covariance_type == "tied":
        variances = np.diagonal(variances)
    elif theta.covariance_type == "spherical":
        variances = variances[:, None]
    return (shift * shift > LARGEST_CANCELLATION * variances).any()


# The derivative of a step from θ to θ' with masses N: the chain of the three arrows. Given (θ', N)
# the M-step's derivative needs no statistics, so a pull-back is a single pass over the data.


def em_step_jvp(problem, theta, step, theta_dot, X_dot=None, weight_dot=None):
    """Tangent of F(θ, X) when θ, the data and the sample weights move.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters
    step : EMStep
        ``em_step(problem, theta)``.
    theta_dot : MixtureParameters or None
    X_dot : ndarray of shape (n_samples, n_features), float64, or None
    weight_dot : ndarray of shape (n_samples,), float64, or None

    Returns
    -------
    tangent : MixtureParameters
    """
    logits, origin = step.logits, step.origin
    eta_dot = 0.0
    if theta_dot is not None:
        eta_dot = natural_parameters_jvp(theta, logits, theta_dot, problem.temperature)
    arguments = problem.X, problem.sample_weight, logits
    statistics_dot = cpu.statistics_jvp(
        *arguments, eta_dot, problem.n_threads, origin=origin, X_dot=X_dot, weight_dot=weight_dot
    )
    if step.balance is not None:
        goal_dot = 0.0 if theta_dot is None else problem.total_weight * theta_dot.weights
        if weight_dot is not None:
            goal_dot = goal_dot + weight_dot.sum() * theta.weights
        potentials_dot = np.zeros((theta.n_components, logits.features.size))
        missing = goal_dot - statistics_dot[:, 0]
        potentials_dot[:, 0] = sinkhorn.solve(step.balance.hessian, missing)
        statistics_dot = statistics_dot + cpu.statistics_jvp(
            *arguments, potentials_dot, problem.n_threads, origin=origin
        )
    common_dot = None
    if problem.covariance_type == "tied" and not len(logits.factors):
        common_dot = second_moment_jvp(problem, X_dot, weight_dot)
    tangent = maximize_jvp(
        step.parameters,
        step.mass,
        origin,
        statistics_dot,
        reg_covar=problem.reg_covar,
        fixed_weights=problem.fixed_weights,
        second_moment_dot=common_dot,
    )
    if theta_dot is None:
        return tangent
    return _add_what_is_kept(problem, step, tangent, theta_dot)


def em_step_vjp(problem, theta, step, cotangent, data_bar=None, *, wrt_theta=True):
    """Pull a cotangent of F(θ, X) back to θ, and to the data and the sample weights.

    With U the cotangent of the statistics, u_ik = ⟨U_k, φ_i⟩, ū_i = Σ_k γ_ik u_ik and
    b_ik = γ_ik (u_ik - ū_i),

        η̄_k = Σ_i s_i b_ik φ_i,    x̄_i = s_i J_φ(x_i)ᵀ Σ_k (γ_ik U_k + b_ik η_k),    s̄_i = ū_i.

    Parameters
    ----------
    problem, theta, step
        As in `em_step_jvp`.
    cotangent : MixtureParameters
        Of F(θ, X); its covariances symmetric.
    data_bar : DataCotangent, default=None
        What the data receive is added to this.
    wrt_theta : bool, default=True
        Whether the cotangent of θ is wanted.

    Returns
    -------
    theta_bar : MixtureParameters or None
    """
    logits, origin = step.logits, step.origin
    has_quadratic = problem.covariance_type != "tied" or len(logits.factors) > 0
    statistics_bar, moment_bar = maximize_vjp(
        step.parameters,
        step.mass,
        origin,
        cotangent,
        reg_covar=problem.reg_covar,
        fixed_weights=problem.fixed_weights,
        has_quadratic=has_quadratic,
    )
    if data_bar is not None and moment_bar is not None:
        data_bar.second_moment += moment_bar
    goal_bar = None
    if step.balance is not None:
        potentials_bar = cpu.statistics_vjp(
            problem.X,
            problem.sample_weight,
            logits,
            statistics_bar,
            problem.n_threads,
            origin=origin,
        )[:, 0]
        goal_bar = sinkhorn.solve(step.balance.hessian, potentials_bar)
        statistics_bar = statistics_bar.copy()
        statistics_bar[:, 0] -= goal_bar
        if data_bar is not None and data_bar.sample_weight is not None:
            data_bar.sample_weight += goal_bar @ theta.weights
    eta_bar = cpu.statistics_vjp(
        problem.X,
        problem.sample_weight,
        logits,
        statistics_bar,
        problem.n_threads,
        origin=origin,
        wrt_logits=wrt_theta,
        X_bar=None if data_bar is None else data_bar.X,
        weight_bar=None if data_bar is None else data_bar.sample_weight,
    )
    if not wrt_theta:
        return None
    theta_bar = natural_parameters_vjp(theta, logits, eta_bar, problem.temperature)
    if goal_bar is not None:
        goal_bar = problem.total_weight * goal_bar
        theta_bar = replace(theta_bar, weights=theta_bar.weights + goal_bar)
    return _add_what_is_kept(problem, step, theta_bar, cotangent)


def _add_what_is_kept(problem, step, moved, original):
    """Add the identity: fixed weights, and the means and covariances of lost components."""
    lost = step.lost
    if problem.fixed_weights:
        moved = replace(moved, weights=moved.weights + original.weights)
    if lost is not None:
        moved.means[lost] += original.means[lost]
        if problem.covariance_type != "tied":
            moved.covariances[lost] += original.covariances[lost]
    return moved


def log_density(problem, theta, potentials=None):
    """log p(x_i) for every sample, float64 of shape (n_samples,).

    At a temperature ε: log Σ_k w_k g_k(x_i)^(1/ε). The weights count as of sum one, and potentials
    ψ (None: zero), which are for a large ε only, as factors e^{ψ_k}.
    """
    if problem.temperature > _HOT:
        return _hot_log_density(problem, theta, potentials)
    return _log_density(problem, theta)


def _hot_log_density(problem, theta, potentials):
    """`log_density` at a large ε, where it is close to log Σ_k w_k = 0.

    What ε times it needs is lost to rounding unless, with t_ik = log g_k(x_i) / ε + ψ_k,

        log Σ_k w_k e^{t_ik} = log1p(Σ_k w_k (e^{t_ik} - 1)).
    """
    plain, kind = problem.at(1.0), theta.covariance_type
    weights = theta.weights / theta.weights.sum()
    rest, direct = np.zeros(len(problem.X)), np.full(len(problem.X), -np.inf)
    for k in np.flatnonzero(weights):
        own = theta.covariances if kind == "tied" else theta.covariances[k : k + 1]
        t = _log_density(plain, MixtureParameters(np.ones(1), theta.means[k : k + 1], own, kind))
        t /= problem.temperature
        if potentials is not None:
            t += potentials[k]
        rest += weights[k] * np.expm1(np.minimum(t, 700.0))
        direct = np.logaddexp(direct, np.log(weights[k]) + t)
    near = np.abs(direct) < 0.5
    direct[near] = np.log1p(rest[near])
    return direct


def _log_density(problem, theta):
    logits = logits_of(problem, theta)
    out = cpu.log_densities(problem.X, logits, problem.n_threads)
    if problem.covariance_type == "tied" and not len(logits.factors):
        one = MixtureParameters(np.ones(1), problem.center[None], theta.covariances[None], "full")
        quadratic = natural_parameters(one, problem.center, problem.temperature)
        quadratic.coefficients[0, 0] = 0.0
        out += cpu.log_densities(problem.X, quadratic, problem.n_threads)
    return out
