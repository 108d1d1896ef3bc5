"""What a Gaussian mixture can do once its parameters are known."""

from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..checks import as_parameters, checked_temperatures
from ..em.densities import labels, log_density, responsibilities
from ..em.em_map import EMMap
from ..families import FAMILIES
from ..parameters import CovarianceType, FloatArray, MixtureLike, MixtureParameters
from ..samples.device_arrays import refuse_on_device
from ..transport.bures import square_root_factors
from .criteria import InformationCriteria, weighted_sums
from .device_input import where_X_is
from .input_rows import answers_of, checked_rows, n_threads_of, row_weights, total_of
from .state import refuse_other_fit


class MixtureDensity(InformationCriteria):
    """Prediction, likelihood, criteria and sampling, also for parameters that were given.

    Mixed into estimators that have the attributes ``weights_``, ``means_`` and ``covariances_``
    and the parameters ``covariance_type``, ``random_state`` and ``n_jobs``.
    """

    @classmethod
    def from_parameters(
        cls,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        *,
        covariance_type: CovarianceType = "full",
        **params: Any,
    ) -> Self:
        """A fitted estimator with given parameters, without data.

        Parameters
        ----------
        weights : array-like of shape (n_components,)
        means : array-like of shape (n_components, n_features)
        covariances : array-like, in the shape of ``covariance_type``
        covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        **params : constructor parameters

        Returns
        -------
        mixture : DifferentiableGaussianMixture

        Raises
        ------
        ValueError
            If shapes do not match, weights are negative or do not sum to one, or a covariance
            is not symmetric positive definite.

        Examples
        --------
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> mixture = DifferentiableGaussianMixture.from_parameters(
        ...     [0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], covariance_type="spherical"
        ... )
        >>> mixture.predict([[1.0], [3.0]])
        array([0, 1])
        """
        for part in (weights, means, covariances):
            refuse_on_device(part, "from_parameters: a mixture")
        means = np.asarray(means)
        dtype = np.float32 if means.dtype == np.float32 else np.float64
        given = MixtureParameters(
            np.asarray(weights), means, np.asarray(covariances), covariance_type
        )
        theta = as_parameters(given, "from_parameters")
        mixture = cls(theta.n_components, covariance_type=covariance_type, **params)
        mixture._set_parameters(theta, dtype)
        mixture.n_features_in_ = theta.n_features
        mixture.n_iter_ = mixture.n_evaluations_ = 0
        mixture.lower_bounds_, mixture.converged_ = [], False
        return mixture

    @classmethod
    def from_mixture(cls, mixture: MixtureLike, **params: Any) -> Self:
        """A fitted estimator with the parameters of another mixture.

        Parameters
        ----------
        mixture : fitted estimator (for instance of scikit-learn), MixtureParameters or tuple
        **params : constructor parameters

        Returns
        -------
        mixture : DifferentiableGaussianMixture

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.mixture import GaussianMixture
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = load_iris().data
        >>> theirs = GaussianMixture(3, random_state=0).fit(X)
        >>> ours = DifferentiableGaussianMixture.from_mixture(theirs)
        >>> bool(abs(ours.score(X) - theirs.score(X)) < 1e-10)
        True
        """
        weights, means, covariances = theta = as_parameters(mixture, "mixture", dtype=None)
        return cls.from_parameters(
            weights, means, covariances, covariance_type=theta.covariance_type, **params
        )

    @property
    def _type(self):
        """The covariance type of the fit, or of attributes that were set by hand."""
        return getattr(self, "_fitted_type", self.covariance_type)

    def _check_is_fitted(self):
        """Refuse a mixture that is not fitted, or whose arrays are of another type than it says."""
        check_is_fitted(self)
        if self._type != self.covariance_type:
            raise ValueError(
                f"covariance_type was changed to {self.covariance_type!r} after a fit with "
                f"{self._type!r}. Call fit, with warm_start=False, or set it back."
            )

    @property
    def parameters_(self) -> MixtureParameters:
        """Weights, means and covariances of the fitted mixture, as `MixtureParameters`."""
        self._check_is_fitted()
        return MixtureParameters(
            self.weights_, self.means_, self.covariances_, self.covariance_type
        )

    @property
    def _theta(self):
        """The parameters in float64."""
        self._check_is_fitted()
        parts = self.weights_, self.means_, self.covariances_
        parts = (np.asarray(part, dtype=np.float64) for part in parts)
        return MixtureParameters(*parts, self.covariance_type)

    def _last_solution(self, n_features):
        """θ_0 of a warm start."""
        expected = (self.n_components, n_features, self.covariance_type)
        found = (*self.means_.shape, self._type)
        refuse_other_fit(found, expected)
        return self._theta

    @where_X_is
    def _ask(self, X, question, shape=(), dtype=None, *, temperature=1.0):
        """The answers of ``question(em_map, theta)`` to rows, each of a shape, in a dtype.

        The dtype None is that of X.
        """
        theta, X = self._theta, self._validate_X(X, reset=False)
        ask = partial(self._asked(X, question, theta, temperature), dtype=dtype or X.dtype)
        return answers_of(X, ask, shape, dtype or X.dtype)

    def _asked(self, X, question, theta, temperature):
        return partial(
            _answer,
            question=question,
            theta=theta,
            temperature=temperature,
            n_threads=n_threads_of(X, self.n_jobs),
        )

    @property
    def _last_temperature(self):
        return checked_temperatures(getattr(self, "temperature", 1.0))[-1]

    def _validate_X(self, X, *, reset, ensure_min_samples=1):
        return checked_rows(
            self, X, reset=reset, ensure_min_samples=ensure_min_samples, or_chunks=True
        )

    def score_samples(self, X: ArrayLike) -> FloatArray:
        """Log-likelihood of each sample, whatever the temperature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), of the dtype of ``X``
            -inf where the number is too large for that.
        """
        return self._ask(X, log_density)

    def score(
        self, X: ArrayLike, y: object = None, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """Mean log-likelihood of the samples.

        At a temperature other than one this is not what EM climbs: see `free_energy`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples; None: all equal.

        Returns
        -------
        log_likelihood : float
        """
        return self._log_likelihood(X, sample_weight)[0]

    def free_energy(self, X: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """Mean of -ε log Σ_k w_k g_k(x)^(1/ε) over the samples, at the last temperature ε.

        The value of a semi-relaxed entropic transport from the samples to the components, which
        EM at this temperature lowers (`semirelaxed_transport`). At ε = 1 it is minus `score`. With
        ``e_step="sinkhorn"`` EM lowers that of a balanced transport instead: see ``lower_bound_``.

        Parameters
        ----------
        X, sample_weight
            As in `score`.

        Returns
        -------
        free_energy : float
        """
        temperature = self._last_temperature
        return -temperature * self._log_likelihood(X, sample_weight, temperature=temperature)[0]

    @where_X_is
    def _log_likelihood(self, X, sample_weight, *, temperature=1.0, density=log_density):
        """Mean log-likelihood, the sum of the sample weights, and the exponent of its unit."""
        theta, X = self._theta, self._validate_X(X, reset=False)
        weight, exponent = row_weights(sample_weight, X)
        question = partial(weighted_sums, self._asked(X, density, theta, temperature))
        with np.errstate(over="ignore"):
            value, total = total_of(X, weight, exponent, question).tolist()
            return value / total, total, exponent

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Most probable component of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        return self._ask(X, labels, (), np.dtype(np.int64), temperature=self._last_temperature)

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Responsibilities: the probability of each component given the sample.

        At a temperature ε, they are in proportion to w_k g_k(x)^(1/ε).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        responsibilities : ndarray of shape (n_samples, n_components), of the dtype of ``X``
        """
        shape = (len(self._theta.weights),)
        return self._ask(X, responsibilities, shape, temperature=self._last_temperature)

    def sample(self, n_samples: int = 1) -> tuple[FloatArray, NDArray[np.int64]]:
        """Draw samples from the mixture.

        Parameters
        ----------
        n_samples : int, default=1

        Returns
        -------
        X : ndarray of shape (n_samples, n_features), of the dtype of ``means_``
            Sorted by component.
        labels : ndarray of shape (n_samples,), int64
            The component of each sample.
        """
        self._check_is_fitted()
        if isinstance(n_samples, bool) or n_samples < 1:
            raise ValueError(f"n_samples must be at least 1; got {n_samples}.")
        theta = self._theta
        random_state = check_random_state(self.random_state)
        counts = random_state.multinomial(n_samples, theta.weights / theta.weights.sum())
        factors = square_root_factors(theta)
        drawn = [
            mean + random_state.standard_normal((count, len(mean))) @ factors[k % len(factors)].T
            for k, (mean, count) in enumerate(zip(theta.means, counts, strict=True))
        ]
        X = np.concatenate(drawn).astype(self.means_.dtype, copy=False)
        return X, np.repeat(np.arange(len(counts)), counts)

    def _set_parameters(self, theta, dtype):
        """Set every fitted attribute that follows from the parameters."""
        for name, value in self._parameter_attributes(theta, dtype).items():
            setattr(self, name, value)

    def _parameter_attributes(self, theta, dtype):
        weights, means, covariances = theta
        family = FAMILIES[theta.covariance_type]
        factors, precisions, _ = family.precisions(
            np.ascontiguousarray(covariances), theta.n_features
        )
        named = {
            "weights_": weights,
            "means_": means,
            "covariances_": covariances,
            "precisions_cholesky_": factors,
            "precisions_": precisions,
        }
        with np.errstate(over="ignore", under="ignore"):
            cast = {name: np.array(value, dtype=dtype, order="C") for name, value in named.items()}
        for name in ("means_", "covariances_", "precisions_"):
            lost = not np.isfinite(cast[name]).all()
            if name != "means_":  # a variance must not vanish; all else may, beside it
                lost |= not (family.variances(cast[name]) > 0).all()
            if lost:
                raise ValueError(
                    f"{name} holds numbers that are too large or too small for {np.dtype(dtype)}, "
                    "the dtype of X. Scale the features, or pass X in float64."
                )
        return cast | {"_fitted_type": theta.covariance_type}


def _answer(X, *, question, theta, temperature, n_threads, dtype=None):
    """What ``question(em_map, theta)`` says of rows in memory."""
    em_map = EMMap.on(
        X, covariance_type=theta.covariance_type, temperature=temperature, n_threads=n_threads
    )
    answer = question(em_map, theta)
    if dtype is None:
        return answer
    with np.errstate(over="ignore"):
        return answer.astype(dtype, copy=False)
