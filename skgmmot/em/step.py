"""One EM step θ' = F(θ, X), and its derivative.

    θ ──natural──▶ η ──statistics──▶ S ──maximize──▶ θ'

The first and the last arrow have the size of the mixture (`exponential_family`), the middle one
passes over the data (`skgmmot.kernels`). With A(η) = Σ_i s_i log Σ_k exp⟨η_k, φ(x_i)⟩, the
log-likelihood, S = ∂A/∂η.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import cpu
from ..kernels.features import features_of
from ..parameters import MixtureParameters, as_full
from .exponential_family import maximize, maximize_vjp, natural_parameters, unpack

# The matrix way expands squares about a common point and loses (distance/σ)² roundings. It is
# taken where that is below this relative error, the centered way elsewhere.
_MATRIX_WAY_ERROR = 1e-10
_ROUNDING = np.finfo(np.float64).eps / 2


class EMProblem(NamedTuple):
    """What stays the same from step to step: the data and the options of the EM map.

    X : C-contiguous ndarray of shape (n_samples, n_features), float32 or float64
    sample_weight : ndarray of shape (n_samples,), float64, positive; or None
    covariance_type : {"full", "tied", "diag", "spherical"}
    reg_covar : float, added to the diagonal of covariances
    fixed_weights : bool, whether the M-step leaves the weights alone
    n_threads : int
    total_weight : float, Σ_i s_i
    center : ndarray of shape (n_features,), the weighted mean of the data
    reach : ndarray of shape (n_features,), max_i |x_i - center|
    feature_reach : ndarray of shape (padded size of φ,), the same for the features about center
    second_moment : Σ_i s_i (x_i - center)(x_i - center)ᵀ for tied covariances, else None
    """

    X: np.ndarray
    sample_weight: np.ndarray | None
    covariance_type: str
    reg_covar: float
    fixed_weights: bool
    n_threads: int
    total_weight: float
    center: np.ndarray
    reach: np.ndarray
    feature_reach: np.ndarray
    second_moment: np.ndarray | None


def em_problem(
    X, sample_weight=None, *, covariance_type, reg_covar=0.0, fixed_weights=False, n_threads=1
):
    """An `EMProblem`: looks once at the data for their center and extent."""
    sums, lowest, highest = cpu.summary(X, sample_weight, n_threads)
    total_weight = float(len(X) if sample_weight is None else sample_weight.sum())
    center = np.clip(sums / total_weight, lowest, highest)
    reach = np.maximum(highest - center, center - lowest)
    return EMProblem(
        X,
        sample_weight,
        covariance_type,
        reg_covar,
        fixed_weights,
        n_threads,
        total_weight,
        center,
        reach,
        _feature_reach(covariance_type, reach),
        second_moment(X, sample_weight, center, n_threads) if covariance_type == "tied" else None,
    )


def _feature_reach(covariance_type, reach):
    left, right = features_of(covariance_type, len(reach)).pairs
    rows = np.concatenate([[1.0], reach, [reach @ reach]])
    return rows[left] * rows[right]


def second_moment(X, sample_weight, center, n_threads=1):
    """Σ_i s_i (x_i - center)(x_i - center)ᵀ: the full statistics of a single component."""
    n_features = X.shape[1]
    features = features_of("full", n_features)
    nothing = np.zeros((4, features.pairs.shape[1]))
    logits = cpu.Logits(center[None], nothing, cpu.NO_FACTORS, 1, features)
    sums, _ = cpu.statistics(X, sample_weight, logits, n_threads)
    return unpack(sums[0, 1 + n_features :], n_features)


def logits_of(problem, theta):
    """Logits of θ in the matrix way where it is accurate on these data, else the centered way."""
    logits = natural_parameters(theta, problem.center)
    magnitude = np.abs(logits.coefficients) @ problem.feature_reach
    if problem.covariance_type == "tied":
        # the common quadratic part: its cancellation is met in the M-step
        magnitude = magnitude + np.abs(
            0.5 * problem.reach @ np.abs(np.linalg.inv(theta.covariances)) @ problem.reach
        )
    magnitude[magnitude > 1e290] = 0.0  # the logarithm of a zero weight is no loss of accuracy
    if magnitude.max() * _ROUNDING < _MATRIX_WAY_ERROR:
        return logits
    return natural_parameters(theta)


class EMStep(NamedTuple):
    """One EM step from θ.

    parameters : MixtureParameters, F(θ, X)
    lower_bound : float, the mean log-likelihood of the data at θ
    lost : ndarray of bool or None, which components have lost all their mass
    """

    parameters: MixtureParameters
    lower_bound: float
    lost: np.ndarray | None


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
    logits = logits_of(problem, theta)
    statistics, log_likelihood = cpu.statistics(
        problem.X, problem.sample_weight, logits, problem.n_threads
    )
    common = None
    if problem.covariance_type == "tied" and not len(logits.factors):
        common = problem.second_moment
        log_likelihood -= 0.5 * np.trace(np.linalg.solve(theta.covariances, common))
    updated, lost = maximize(
        statistics,
        logits.reference,
        theta,
        reg_covar=problem.reg_covar,
        fixed_weights=problem.fixed_weights,
        second_moment=common,
    )
    return EMStep(updated, log_likelihood / problem.total_weight, lost)


def em_step_vjp(problem, theta, cotangent):
    """Pull a cotangent of F(θ, X) back to the data and the sample weights, θ held fixed.

    With U the cotangent of the statistics, u_ik = ⟨U_k, φ_i⟩, ū_i = Σ_k γ_ik u_ik and
    b_ik = γ_ik (u_ik - ū_i),

        x̄_i = s_i J_φ(x_i)ᵀ Σ_k (γ_ik U_k + b_ik η_k),    s̄_i = ū_i.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters
    cotangent : MixtureParameters
        Of F(θ, X); its covariances symmetric.

    Returns
    -------
    X_bar : ndarray of shape (n_samples, n_features), float64
    weight_bar : ndarray of shape (n_samples,), float64
    """
    if problem.covariance_type == "tied":
        # Σ_i s_i x_i x_iᵀ moves with the data: take the features of the full type
        problem = problem._replace(
            covariance_type="full", feature_reach=_feature_reach("full", problem.reach)
        )
        theta = as_full(theta)
    logits = logits_of(problem, theta)
    statistics, _ = cpu.statistics(problem.X, problem.sample_weight, logits, problem.n_threads)
    statistics_bar = maximize_vjp(
        statistics,
        logits.reference,
        cotangent.covariance_type,
        cotangent,
        fixed_weights=problem.fixed_weights,
    )
    return cpu.statistics_vjp(
        problem.X, problem.sample_weight, logits, statistics_bar, problem.n_threads
    )


def log_density(problem, theta):
    """log p(x_i) for every sample, float64 of shape (n_samples,)."""
    logits = logits_of(problem, theta)
    out = cpu.log_densities(problem.X, logits, problem.n_threads)
    if problem.covariance_type == "tied" and not len(logits.factors):
        one = MixtureParameters(np.ones(1), problem.center[None], theta.covariances[None], "full")
        quadratic = natural_parameters(one, problem.center)
        quadratic.coefficients[0, 0] = 0.0
        out += cpu.log_densities(problem.X, quadratic, problem.n_threads)
    return out
