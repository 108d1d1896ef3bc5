"""The gradient of two coupled mixtures with respect to their clouds."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ..checks import as_cotangent
from ..coupling.objective import mixtures_of
from ..coupling.optimum_gradients import data_cotangents
from ..parameters import CotangentLike, FloatArray
from ..samples.chunks import RecordedCotangent
from ..samples.device_arrays import module_of, taken
from .device_input import beside, where_X_is
from .input_rows import in_parts
from .state import warn_of

_MODES = ("implicit", "one_step")


class DifferentiableCoupledFit:
    """The gradient, of an estimator with the attributes and methods of `CoupledFit`."""

    def gradient_wrt_data(
        self,
        X_source: ArrayLike,
        X_target: ArrayLike,
        cotangent_source: CotangentLike | None = None,
        cotangent_target: CotangentLike | None = None,
        *,
        mode: Literal["implicit", "one_step"] = "implicit",
        sample_weight_source: ArrayLike | None = None,
        sample_weight_target: ArrayLike | None = None,
        tol: float = 1e-6,
        out_source: Any = None,
        out_target: Any = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Gradient of a loss of the two fitted mixtures with respect to the two clouds.

        Parameters
        ----------
        X_source, X_target : array-like of shape (n_source, n_features), (n_target, n_features)
            The data of the fit.
        cotangent_source, cotangent_target : MixtureParameters or tuple, default=None
            Gradients (weights, means, covariances) of the loss with respect to the parameters of
            ``source_mixture_`` and ``target_mixture_``; None stands for zero, as a whole or for
            a part.
        mode : {"implicit", "one_step"}, default="implicit"
            ``implicit`` differentiates the optimum, which moves smoothly with the data as long
            as the support of the transport plan stays what it is. ``one_step`` differentiates
            the last sweep only, which is coarse.
        sample_weight_source : array-like of shape (n_source,), default=None
            The sample weights of the fit.
        sample_weight_target : array-like of shape (n_target,), default=None
        tol : float, default=1e-6
            Relative accuracy asked of ``implicit``, for the linear system and the optimum.
        out_source, out_target : array of the shape of the cloud, default=None
            Where to write the gradients, as ``out`` of
            `DifferentiableGaussianMixture.gradient_wrt_data`.

        Returns
        -------
        gradient_source, gradient_target : ndarray, of the shapes and dtypes of the clouds
            ``out_source`` and ``out_target`` where these are given.

        Raises
        ------
        ValueError
            If the mode is unknown, a cotangent does not match its mixture, the data have
            another number of features, or an array to write to has another shape.
        RuntimeError
            If the linear system of ``implicit`` could not be solved.

        Warns
        -----
        ConvergenceWarning
            If ``implicit`` meets parameters that are no optimum, a plan whose support is about
            to change, or a singular system.

        Examples
        --------
        Without coupling the mean of a component moves with the mean of its cloud, with coupling
        the other cloud pulls it as well:

        >>> import numpy as np
        >>> from skgmmot import CoupledGMMFitter
        >>> X, Y = np.array([[0.0], [1.0], [3.0], [2.0]]), np.array([[6.0], [4.0], [5.0]])
        >>> fitter = CoupledGMMFitter(transport_weight=0.5, residual_tol=1e-9).fit_pair(X, Y)
        >>> by_source, by_target = fitter.gradient_wrt_data(X, Y, (None, [[1.0]], None))
        >>> bool(by_source.sum() < 1.0), round(float(by_source.sum() + by_target.sum()), 6)
        (True, 1.0)
        """
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, _MODES))}; got {mode!r}.")
        check_is_fitted(self)
        fitted_type = self.source_mixture_.covariance_type
        if fitted_type != self.covariance_type:
            raise ValueError(
                f"covariance_type was changed to {self.covariance_type!r} after a fit with "
                f"{fitted_type!r}. Fit again, with warm_start=False, or set it back."
            )
        weights = {
            "sample_weight_source": sample_weight_source,
            "sample_weight_target": sample_weight_target,
        }
        cotangents = cotangent_source, cotangent_target
        outs = {"out_source": out_source, "out_target": out_target}
        gradients, complaints = self._gradients(
            X_source, X_target, cotangents, mode, weights, tol, outs
        )
        warn_of(complaints)
        return gradients

    @where_X_is
    def _gradients(self, X_source, X_target, cotangents, mode, weights, tol, outs):
        """The two gradients, and what there is to warn of."""
        arrays = {"X_source": in_parts(X_source), "X_target": in_parts(X_target)}
        for (name, out), (name_of_rows, X) in zip(outs.items(), arrays.items(), strict=True):
            if out is None:
                continue
            beside(out, name, X, of=name_of_rows)
            if tuple(np.shape(out)) != tuple(np.shape(X)):
                raise ValueError(
                    f"{name} must have the shape of {name_of_rows}, {np.shape(X)}; got "
                    f"{np.shape(out)}."
                )
        checked = {name: self._checked_array(X, name) for name, X in arrays.items()}
        clouds = self._checked_clouds(checked, weights)
        problem = self._problem(clouds)
        pair = mixtures_of(self._state, problem.family)
        nothing = None, None, None
        cotangents = tuple(
            as_cotangent(nothing if cotangent is None else cotangent, theta)
            for cotangent, theta in zip(cotangents, pair, strict=True)
        )
        found, _, complaints = data_cotangents(problem, self._state, cotangents, mode=mode, tol=tol)
        return tuple(map(_gradient, found, clouds, outs.values())), complaints


def _gradient(data_bar, cloud, out):
    """What all rows of a cloud receive, in their dtype; those of weight zero nothing."""
    dtype = cloud.samples.dtype
    if isinstance(data_bar, RecordedCotangent):
        return data_bar.collected(dtype, out)[0]
    rows = _with_zeros(data_bar.X, cloud).astype(dtype, copy=False)
    if out is None:
        return rows
    taken(out)[:] = rows
    return out


def _with_zeros(rows, cloud):
    if len(rows) == len(cloud.X):
        return rows
    out = module_of(rows).zeros((len(cloud.X), rows.shape[1]))
    out[cloud.weight > 0] = rows
    return out
