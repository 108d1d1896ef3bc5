"""What stays the same from one EM step to the next: the data and the options of the map.

The temperature ε makes the E-step's responsibilities γ_ik ∝ w_k g_k(x_i)^(1/ε). They are the plan
of the semi-relaxed entropic transport (`skgmmot.entropic`) whose value an EM step lowers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels import cpu
from ..kernels.features import TILE, features_of
from .exponential_family import natural_parameters, packing, precisions_of, unpack

# The matrix way expands squares about a common point and loses (distance/σ)² roundings. It is
# taken where that is below this relative error, the centered way elsewhere.
_MATRIX_WAY_ERROR = 1e-10
# Colder than this is as cold as this: assignments are hard, and no logit overflows.
_COLDEST = 1e-100
LARGEST_CANCELLATION = _MATRIX_WAY_ERROR / (np.finfo(np.float64).eps / 2)


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
    checks : ndarray of shape (n_features,), sums that tell other data apart
    second_moment : Σ_i s_i (x_i - center)(x_i - center)ᵀ for tied covariances, else None
    temperature : float, ε
    balanced : bool, whether the E-step holds the masses at the weights (`sinkhorn`)
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
    checks: np.ndarray
    second_moment: np.ndarray | None
    temperature: float = 1.0
    balanced: bool = False

    def at(self, temperature):
        """The same problem at another temperature."""
        return self._replace(temperature=max(float(temperature), _COLDEST))


def em_problem(
    X,
    sample_weight=None,
    *,
    covariance_type,
    reg_covar=0.0,
    fixed_weights=False,
    temperature=1.0,
    balanced=False,
    n_threads=1,
):
    """An `EMProblem`: looks once at the data for their center and extent."""
    sums, lowest, highest, checks = cpu.summary(X, sample_weight, n_threads)
    total_weight = float(len(X) if sample_weight is None else sample_weight.sum())
    center = np.clip(sums / total_weight, lowest, highest)
    reach = np.maximum(highest - center, center - lowest)
    problem = EMProblem(
        X,
        sample_weight,
        covariance_type,
        reg_covar,
        fixed_weights or balanced,
        n_threads,
        total_weight,
        center,
        reach,
        _feature_reach(covariance_type, reach),
        checks,
        second_moment(X, sample_weight, center, n_threads) if covariance_type == "tied" else None,
        balanced=balanced,
    )
    return problem.at(temperature)


def _feature_reach(covariance_type, reach):
    left, right = features_of(covariance_type, len(reach)).pairs
    rows = np.concatenate([[1.0], reach, [reach @ reach]])
    return rows[left] * rows[right]


def _single(center):
    """Logits of a single component about ``center``: its responsibilities are one."""
    features = features_of("full", len(center))
    nothing = np.zeros((TILE, features.pairs.shape[1]))
    return cpu.Logits(center[None], nothing, cpu.NO_FACTORS, 1, features)


def second_moment(X, sample_weight, center, n_threads=1):
    """T = Σ_i s_i z_i z_iᵀ with z_i = x_i - center: the statistics of a single component."""
    sums, _ = cpu.statistics(X, sample_weight, _single(center), n_threads)
    return unpack(sums[0, 1 + len(center) :], len(center))


def second_moment_jvp(problem, X_dot, weight_dot):
    """Ṫ = Σ_i ṡ_i z_i z_iᵀ + s_i (ẋ_i z_iᵀ + z_i ẋ_iᵀ)."""
    logits = _single(problem.center)
    sums_dot = cpu.statistics_jvp(
        problem.X,
        problem.sample_weight,
        logits,
        0.0,
        problem.n_threads,
        X_dot=X_dot,
        weight_dot=weight_dot,
    )
    return unpack(sums_dot[0, 1 + len(problem.center) :], len(problem.center))


@dataclass
class DataCotangent:
    """Where EM steps add up what the data receive.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float64
    sample_weight : ndarray of shape (n_samples,), float64, or None if not wanted
    second_moment : ndarray of shape (n_features, n_features)
        The cotangent T̄ of the second moment, which tied steps share. `finish` pulls it back:
        x̄_i += 2 s_i T̄ z_i, s̄_i += z_iᵀ T̄ z_i.
    """

    X: np.ndarray
    sample_weight: np.ndarray | None
    second_moment: np.ndarray

    @classmethod
    def zeros(cls, problem, *, wrt_weight=False):
        n_samples, n_features = problem.X.shape
        return cls(
            np.zeros((n_samples, n_features)),
            np.zeros(n_samples) if wrt_weight else None,
            np.zeros((n_features, n_features)),
        )

    def finish(self, problem):
        """Pull the second moment's cotangent back, and return self."""
        if self.second_moment.any():
            n_features = len(problem.center)
            packed, scale = packing(n_features)
            sums_bar = np.zeros((1, 1 + n_features + len(packed)))
            sums_bar[0, 1 + n_features :] = -2.0 * scale * self.second_moment.flat[packed]
            cpu.statistics_vjp(
                problem.X,
                problem.sample_weight,
                _single(problem.center),
                sums_bar,
                problem.n_threads,
                wrt_logits=False,
                X_bar=self.X,
                weight_bar=self.sample_weight,
            )
            self.second_moment[:] = 0.0
        return self


def logits_of(problem, theta):
    """Logits of θ in the matrix way where it is accurate on these data, else the centered way."""
    logits = natural_parameters(theta, problem.center, problem.temperature)
    magnitude = np.abs(logits.coefficients) @ problem.feature_reach
    if problem.covariance_type == "tied":
        # the common quadratic part: its cancellation is met in the M-step
        precision = precisions_of(theta.covariances, "tied", theta.n_features).precisions
        magnitude = magnitude + 0.5 * problem.reach @ np.abs(precision) @ problem.reach
    magnitude[magnitude > 1e290] = 0.0  # the logarithm of a zero weight is no loss of accuracy
    if magnitude.max() < LARGEST_CANCELLATION:
        return logits
    return natural_parameters(theta, temperature=problem.temperature)
