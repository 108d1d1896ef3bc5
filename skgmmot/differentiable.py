"""The derivatives of a mixture fitted by EM, as methods of the estimator."""

import numpy as np

from .density import checked_weights
from .em.fixed_point import scaled_change
from .em.gradients import (
    implicit_jvp,
    implicit_vjp,
    one_step_jvp,
    one_step_vjp,
    unrolled_jvp,
    unrolled_vjp,
)
from .em.problem import em_problem
from .em.step import em_step
from .kernels.threads import effective_n_threads
from .parameters import MixtureParameters, as_cotangent, as_real

_MODES = ("implicit", "unrolled", "one_step")
# One EM step repeated on the same data has the same bits, but for rows of weight zero, which
# `fit` leaves out. Other data show.
_SAME_STEP = 1e-9


class DifferentiableFit:
    """Derivatives of the fitted parameters.

    Mixed into estimators that are a `MixtureDensity`, have the options of the EM map as
    parameters and keep the path of the fit as ``_path``.
    """

    def gradient_wrt_data(self, X, cotangent, *, mode="implicit", sample_weight=None, tol=1e-6):
        """Gradient of a loss of the fitted parameters with respect to the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data of the fit.
        cotangent : MixtureParameters or tuple (weights, means, covariances)
            Gradient of the loss with respect to the fitted parameters, for instance from
            ``mixture_transport(...).gradient()``. None stands for zero. Covariances have the
            shape of ``covariances_``, or that of full ones, which are pulled back to the
            covariance type.
        mode : {"implicit", "unrolled", "one_step"}, default="implicit"
            ``implicit`` differentiates the fixed point of EM, ``unrolled`` the steps that were
            made, from initial parameters that are held constant, ``one_step`` the last step
            only: exact for ``warm_start=True, max_iter=1``, otherwise coarse.
        sample_weight : array-like of shape (n_samples,), default=None
            The sample weights of the fit.
        tol : float, default=1e-6
            Relative accuracy asked of ``implicit``, for the linear system and the fixed point.

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_features), of the dtype of ``X``

        Raises
        ------
        ValueError
            If the mode is unknown, the cotangent does not match the mixture, or ``unrolled`` is
            given data, weights or options that are not those of the fit, or a fit whose
            ``acceleration`` is not None.
        RuntimeError
            If the linear system of ``implicit`` could not be solved.

        Warns
        -----
        ConvergenceWarning
            If ``implicit`` meets parameters that are not a fixed point, or a singular system.

        References
        ----------
        Boïté et al. (2025), section 2; J. Bolte, E. Pauwels, S. Vaiter, One-step
        differentiation of iterative algorithms, NeurIPS 2023.

        Examples
        --------
        The mean of a single component moves with the mean of the data:

        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 1.0]])
        >>> mixture = DifferentiableGaussianMixture().fit(X)
        >>> mixture.gradient_wrt_data(X, (None, [[1.0, 0.0]], None)).round(6) + 0.0
        array([[0.25, 0.  ],
               [0.25, 0.  ],
               [0.25, 0.  ],
               [0.25, 0.  ]])
        """
        gradients = self._vjp(X, cotangent, mode, sample_weight, tol, wrt_weight=False)
        return gradients.data

    def vjp(self, X, cotangent, *, mode="implicit", sample_weight=None, tol=1e-6):
        """Gradients of a loss of the fitted parameters with respect to all inputs of the fit.

        Parameters
        ----------
        X, cotangent, mode, sample_weight, tol
            As in `gradient_wrt_data`.

        Returns
        -------
        gradients : FitCotangent
            ``data`` and ``sample_weight`` (also where the fit had no weights: they were ones);
            ``initial_parameters``, a `MixtureParameters` for ``unrolled``, else None; and
            ``solve``, which for ``implicit`` tells the method, the number of products, the
            relative residual, and whether the system was singular.

        Examples
        --------
        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 0.0]])
        >>> mixture = DifferentiableGaussianMixture().fit(X)
        >>> gradients = mixture.vjp(X, (None, [[0.0, 1.0]], None))
        >>> gradients.sample_weight.round(6) + 0.0
        array([ 0.  ,  0.5 , -0.25, -0.25])
        """
        return self._vjp(X, cotangent, mode, sample_weight, tol, wrt_weight=True)

    def _vjp(self, X, cotangent, mode, sample_weight, tol, wrt_weight):
        problem, path = self._differentiation_problem(X, mode, sample_weight)
        dtype = problem.X.dtype
        cotangent = as_cotangent(cotangent, self._theta)
        if mode == "one_step":
            previous, step = self._last_step(problem, path)
            result = one_step_vjp(problem, previous, step, cotangent, wrt_weight=wrt_weight)
        elif mode == "unrolled":
            _check_same_fit(problem, path)
            result = unrolled_vjp(problem, path, cotangent, wrt_weight=wrt_weight)
        else:
            result = implicit_vjp(
                problem, self._fixed_point(path), cotangent, tol=tol, wrt_weight=wrt_weight
            )
        return result._replace(
            data=result.data.astype(dtype, copy=False),
            sample_weight=None
            if not wrt_weight
            else result.sample_weight.astype(dtype, copy=False),
        )

    def jvp(
        self,
        X,
        tangent,
        *,
        mode="implicit",
        sample_weight=None,
        sample_weight_tangent=None,
        tol=1e-6,
    ):
        """How the fitted parameters move when the data move.

        Parameters
        ----------
        X, mode, sample_weight, tol
            As in `gradient_wrt_data`.
        tangent : array-like of shape (n_samples, n_features)
            Direction in which the data move.
        sample_weight_tangent : array-like of shape (n_samples,), default=None
            Direction in which the sample weights move; None: not at all.

        Returns
        -------
        tangent : MixtureParameters
            Of the dtype of ``X``; the weights sum to zero.

        Examples
        --------
        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 1.0]])
        >>> mixture = DifferentiableGaussianMixture().fit(X)
        >>> mixture.jvp(X, np.ones_like(X)).means.round(6)
        array([[1., 1.]])
        """
        problem, path = self._differentiation_problem(X, mode, sample_weight)
        X_dot = _checked_direction(tangent, problem.X.shape, "tangent")
        weight_dot = None
        if sample_weight_tangent is not None:
            weight_dot = _checked_direction(
                sample_weight_tangent, problem.X.shape[:1], "sample_weight_tangent"
            )
        if mode == "one_step":
            previous, step = self._last_step(problem, path)
            result = one_step_jvp(problem, previous, step, X_dot, weight_dot)
        elif mode == "unrolled":
            _check_same_fit(problem, path)
            result = unrolled_jvp(problem, path, X_dot, weight_dot)
            if result is None:  # no step was made
                result = MixtureParameters(*(np.zeros_like(p) for p in path.start))
        else:
            theta = self._fixed_point(path)
            result, _ = implicit_jvp(problem, theta, X_dot, weight_dot, tol=tol)
        parts = (part.astype(problem.X.dtype, copy=False) for part in result)
        return MixtureParameters(*parts, self.covariance_type)

    def jacobian_wrt_data(self, X, *, mode="implicit", sample_weight=None, tol=1e-6):
        """Derivative of every fitted parameter with respect to every number of the data.

        For small problems: it takes one pull-back for each parameter.

        Parameters
        ----------
        X, mode, sample_weight, tol
            As in `gradient_wrt_data`.

        Returns
        -------
        jacobian : MixtureParameters
            Each part has the shape of that part followed by (n_samples, n_features).

        Examples
        --------
        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = np.array([[0.0], [2.0], [4.0]])
        >>> mixture = DifferentiableGaussianMixture(reg_covar=0.0).fit(X)
        >>> jacobian = mixture.jacobian_wrt_data(X)
        >>> jacobian.covariances[0, 0, 0].ravel().round(6) + 0.0
        array([-1.333333,  0.      ,  1.333333])
        """
        theta = self._theta
        rows = []
        for part in range(3):
            gradients = []
            for index in np.ndindex(tuple(theta)[part].shape):
                parts = [np.zeros(p.shape) for p in theta]
                parts[part][index] = 1.0
                gradients.append(
                    self._vjp(X, tuple(parts), mode, sample_weight, tol, wrt_weight=False).data
                )
            shape = tuple(theta)[part].shape + gradients[0].shape
            rows.append(np.reshape(gradients, shape))
        return MixtureParameters(*rows, self.covariance_type)

    def _differentiation_problem(self, X, mode, sample_weight):
        """The EM problem of the fit, and its path (None for given parameters)."""
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, _MODES))}; got {mode!r}.")
        self._check_is_fitted()
        X = self._validate_X(X, reset=False)
        weight = None if sample_weight is None else checked_weights(sample_weight, X)
        problem = em_problem(
            X,
            weight,
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            temperature=self._last_temperature,
            balanced=self.e_step == "sinkhorn",
            n_threads=effective_n_threads(self.n_jobs),
        )
        path = getattr(self, "_path", None)
        if mode == "unrolled" and path is None:
            raise ValueError(
                "mode='unrolled' differentiates the steps of a fit, but these parameters were "
                "given. Call fit, or use mode='implicit' or 'one_step'."
            )
        if path is not None:
            problem = problem.at(path.temperature)
        if mode == "unrolled" and not path.plain:
            raise ValueError(
                "mode='unrolled' differentiates plain EM steps, and needs a fit with "
                f"acceleration=None; this one had acceleration={self.acceleration!r}. Fit again, "
                "or use mode='implicit', which asks only where the fit ended."
            )
        return problem, path

    def _last_step(self, problem, path):
        """θ_{T-1} and the EM step from it on these data."""
        previous = self._theta if path is None else path.previous
        known = path is not None and path.last is not None
        if known and self._extent == extent_of(problem):
            return previous, path.last
        return previous, em_step(problem, previous)

    def _fixed_point(self, path):
        """θ_T in float64, not rounded to the dtype of the data."""
        theta = self._theta
        if path is not None and all(
            np.array_equal(exact.astype(own.dtype), own)
            for exact, own in zip(path.end, self.parameters_, strict=True)
        ):
            return path.end
        return theta


def extent_of(problem):
    """A few numbers that tell data sets, and the options of the EM map, apart."""
    return (
        len(problem.X),
        problem.total_weight,
        problem.reg_covar,
        problem.fixed_weights,
        problem.temperature,
        problem.balanced,
        *problem.center,
        *problem.checks,
    )


def _check_same_fit(problem, path):
    """Refuse to unroll steps that were not made on these data."""
    problem, path = path.stages(problem)[0]
    if not path.length:
        return
    _, step = next(path.forwards(problem))
    again = em_step(problem, path.start)
    change = scaled_change(again.parameters, step.parameters)
    if not change < _SAME_STEP:
        raise ValueError(
            "mode='unrolled' must be given the data, sample weights and options of the fit: the "
            f"first EM step on these differs from that of the fit by {change:.3g} (scaled). Pass "
            "the same data, or use mode='implicit' or 'one_step'."
        )


def _checked_direction(direction, shape, name):
    direction = np.ascontiguousarray(as_real(direction, name))
    if direction.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {direction.shape}.")
    if not np.isfinite(direction).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return direction
