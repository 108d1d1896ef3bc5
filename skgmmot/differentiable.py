"""The gradient methods of a mixture fitted by EM."""

from sklearn.utils.validation import check_is_fitted

from .density import checked_weights
from .em.gradients import one_step_vjp
from .em.step import em_problem
from .kernels.threads import effective_n_threads
from .parameters import as_cotangent


class DifferentiableFit:
    """Derivatives of the fitted parameters.

    Mixed into estimators that are a `MixtureDensity` and have the options of the EM map as
    parameters.
    """

    def gradient_wrt_data(self, X, cotangent, *, mode="one_step", sample_weight=None):
        """Gradient of a loss of the fitted parameters with respect to the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data of the fit.
        cotangent : MixtureParameters or tuple (weights, means, covariances)
            Gradient of the loss with respect to the fitted parameters, for instance from
            ``mixture_transport(...).gradient()``. None stands for zero.
        mode : {"one_step"}, default="one_step"
            ``one_step`` differentiates the last EM step only: exact for ``warm_start=True,
            max_iter=1``, otherwise as good as EM contracts.
        sample_weight : array-like of shape (n_samples,), default=None
            The sample weights of the fit.

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_features), of the dtype of ``X``

        Raises
        ------
        ValueError
            If the mode is unknown or the cotangent does not match the mixture.

        References
        ----------
        Boïté et al. (2025), section 2; J. Bolte, E. Pauwels, S. Vaiter, One-step
        differentiation of iterative algorithms, NeurIPS 2023.

        Examples
        --------
        The mean of one component moves with the mean of the data:

        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 1.0]])
        >>> mixture = DifferentiableGaussianMixture().fit(X)
        >>> mixture.gradient_wrt_data(X, (None, [[1.0, 0.0]], None))
        array([[0.25, 0.  ],
               [0.25, 0.  ],
               [0.25, 0.  ],
               [0.25, 0.  ]])
        """
        if mode != "one_step":
            raise ValueError(f"mode must be 'one_step'; got {mode!r}.")
        check_is_fitted(self)
        X = self._validate_X(X, reset=False)
        theta = self._theta
        cotangent = as_cotangent(cotangent, theta)
        weight = None if sample_weight is None else checked_weights(sample_weight, X)
        problem = em_problem(
            X,
            weight,
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            n_threads=effective_n_threads(self.n_jobs),
        )
        X_bar, _ = one_step_vjp(problem, getattr(self, "_previous", theta), cotangent)
        return X_bar.astype(X.dtype, copy=False)
