"""The derivatives of a mixture fitted by EM, as methods of the estimator."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_cotangent, as_real, checked_tol
from ..em.adjoints import ADJOINTS, FitCotangent, FitRecord
from ..numerics.threads import effective_n_threads
from ..parameters import CotangentLike, FloatArray, GradientMode, MixtureParameters
from ..samples import samples_of
from ..samples.chunks import RecordedCotangent
from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import is_on_device, module_of, taken
from ..samples.idle import RowOrder, within
from ..samples.rows import ChunkedRows, in_chunks
from .dask_input import dask_aligned, is_dask
from .device_input import beside, device_aligned, device_of, where_X_is
from .em_options import em_map_of
from .input_rows import in_parts, is_one_array, row_weights
from .state import warn_of


class DifferentiableFit:
    """Derivatives of the fitted parameters.

    Mixed into estimators that are a `MixtureDensity`, have the options of the EM map as
    parameters and keep the path of the fit as ``_path``.
    """

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_record" in state:
            state["_record"] = state["_record"].without_steps()
        return state

    def gradient_wrt_data(
        self,
        X: ArrayLike,
        cotangent: CotangentLike,
        *,
        mode: GradientMode = "implicit",
        sample_weight: ArrayLike | None = None,
        tol: float = 1e-6,
        out: Any = None,
    ) -> FloatArray:
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
        out : array of shape (n_samples, n_features), default=None
            Where to write the gradient: an array, a memory map or a dataset of h5py or zarr. Data
            that are read in chunks are not in memory, and nor needs their gradient to be. For data
            on a device it has to be an array there.

        Returns
        -------
        gradient : ndarray of shape (n_samples, n_features), of the dtype of ``X``
            ``out`` if that is given. A lazy dask array if ``X`` is held by Dask.

        Raises
        ------
        ValueError
            If the mode is unknown, the cotangent does not match the mixture, or ``unrolled`` is
            given data, weights or options that are not those of the fit, or a fit whose
            ``acceleration`` is not None; or if the derivative overflows.
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
        X = in_parts(X)
        if out is not None:
            if tuple(np.shape(out)) != tuple(np.shape(X)):
                shapes = f"{np.shape(X)}; got {np.shape(out)}"
                raise ValueError(f"out must have the shape of X, {shapes}.")
            beside(out, "out", X)
        gradients, complaints = self._vjp(
            X, cotangent, mode, sample_weight, tol, wrt_weight=False, out=out
        )
        warn_of(complaints)
        return gradients.data

    def vjp(
        self,
        X: ArrayLike,
        cotangent: CotangentLike,
        *,
        mode: GradientMode = "implicit",
        sample_weight: ArrayLike | None = None,
        tol: float = 1e-6,
    ) -> FitCotangent:
        """The gradients of a loss of the fitted parameters with respect to all inputs of the fit.

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
        gradients, complaints = self._vjp(X, cotangent, mode, sample_weight, tol, wrt_weight=True)
        warn_of(complaints)
        return gradients

    @where_X_is
    def _vjp(self, X, cotangent, mode, sample_weight, tol, wrt_weight, out=None, **options):
        """The `FitCotangent`, and what there is to warn of; options are of `_differentiation`."""
        adjoint, em_map, record, rows = self._differentiation(X, mode, sample_weight, **options)
        cotangent, tol = as_cotangent(cotangent, self._theta), checked_tol(tol)
        with np.errstate(over="ignore", invalid="ignore"):  # the adjoint refuses what overflows
            result, complaints = adjoint.vjp(
                em_map, record, cotangent, tol=tol, wrt_weight=wrt_weight
            )
        dtype = em_map.samples.dtype
        if isinstance(result.data, RecordedCotangent):
            data_bar, weight_bar = result.data.collected(dtype, out)
        else:
            data_bar, weight_bar = (
                None if bar is None else within(bar, dtype)
                for bar in rows.outward(result.data, result.sample_weight)
            )
            if out is not None:
                taken(out)[:], data_bar = data_bar, out
        return result._replace(data=data_bar, sample_weight=weight_bar), complaints

    def jvp(
        self,
        X: ArrayLike,
        tangent: ArrayLike,
        *,
        mode: GradientMode = "implicit",
        sample_weight: ArrayLike | None = None,
        sample_weight_tangent: ArrayLike | None = None,
        tol: float = 1e-6,
    ) -> MixtureParameters:
        """How the fitted parameters move when the data move.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data of the fit.
        tangent : array-like of shape (n_samples, n_features)
            Direction in which the data move.
        mode, sample_weight
            As in `gradient_wrt_data`.
        sample_weight_tangent : array-like of shape (n_samples,), default=None
            Direction in which the sample weights move; None: not at all.
        tol
            As in `gradient_wrt_data`.

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
        moved, complaints = self._jvp(X, tangent, mode, sample_weight, sample_weight_tangent, tol)
        warn_of(complaints)
        return moved

    @where_X_is
    def _jvp(self, X, tangent, mode, sample_weight, sample_weight_tangent, tol):
        """The tangent of the parameters, and what there is to warn of."""
        X = in_parts(X)
        adjoint, em_map, record, rows = self._differentiation(X, mode, sample_weight)
        shape = tuple(np.shape(X))
        X_dot, weight_dot = _checked_direction(tangent, X, shape, "tangent"), None
        if sample_weight_tangent is not None:
            weight_dot = _checked_direction(
                sample_weight_tangent, X, shape[:1], "sample_weight_tangent"
            )
        data_dot = rows.inward(X_dot, weight_dot)
        tol = checked_tol(tol)
        with np.errstate(over="ignore", invalid="ignore"):  # the adjoint refuses what overflows
            result, complaints = adjoint.jvp(em_map, record, data_dot, tol=tol)
        weights, means, covariances = (
            part.astype(em_map.samples.dtype, copy=False) for part in result
        )
        return MixtureParameters(weights, means, covariances, self.covariance_type), complaints

    def jacobian_wrt_data(
        self,
        X: ArrayLike,
        *,
        mode: GradientMode = "implicit",
        sample_weight: ArrayLike | None = None,
        tol: float = 1e-6,
    ) -> MixtureParameters:
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
        rows, told = [], []
        for part, values in enumerate(self._theta):
            gradients = []
            for index in np.ndindex(values.shape):
                cotangent: list[Any] = [None, None, None]
                cotangent[part] = np.zeros(values.shape)
                cotangent[part][index] = 1.0
                gradient, complaints = self._vjp(
                    X, cotangent, mode, sample_weight, tol, wrt_weight=False
                )
                gradients.append(gradient.data)
                told += complaints
            module, shape = module_of(gradients[0]), values.shape + gradients[0].shape
            with device_of(gradients[0]):
                rows.append(module.stack([*map(module.asarray, gradients)]).reshape(shape))
        warn_of(dict.fromkeys(told))
        weights, means, covariances = rows
        return MixtureParameters(weights, means, covariances, self.covariance_type)

    def _differentiation(self, X, mode, sample_weight, *, is_checked=False):
        """The adjoint of a mode, the EM map of the fit on these data, its record, and `RowOrder`.

        ``is_checked`` says that X is a C-contiguous array that was fitted, and the mode is known.
        """
        if not is_checked:
            if mode not in ADJOINTS:
                raise ValueError(
                    f"mode must be one of {', '.join(map(repr, ADJOINTS))}; got {mode!r}."
                )
            self._check_is_fitted()
            X = self._validate_X(X, reset=False)
        weight, exponent = row_weights(sample_weight, X)
        record = self._fit_record()
        ADJOINTS[mode].check(record, self.acceleration)
        temperature = record.temperature or self._last_temperature
        n_threads = effective_n_threads(self.n_jobs)
        if is_one_array(X):
            rows = RowOrder() if weight is None else RowOrder.of(weight, exponent)
            samples = rows.samples(X, weight, n_threads)
        else:
            rows, samples = RowOrder(exponent=exponent), samples_of(X, weight, n_threads, exponent)
        em_map = em_map_of(self, samples, temperature)
        return ADJOINTS[mode], em_map, record, rows

    @where_X_is
    def _residuals(self, X, sample_weight):
        """The scaled change of the parameters in each step of the fit."""
        self._check_is_fitted()
        path = self._fit_record().path
        if path is None or not path.is_plain:
            raise ValueError(
                "The residuals of a fit are known for plain EM steps that were kept: fit with "
                "acceleration=None and keep_path=True. That of its end is residual_."
            )
        stages = path.stages(self._differentiation(X, "unrolled", sample_weight)[1])
        steps = ((stage, step) for stage, part in stages for step in part.forwards(stage))
        residuals = np.array([stage.residual(step) for stage, step in steps])
        first, start = stages[0][0], stages[0][1].start
        if not np.allclose(residuals[:1], first.residual(first.step(start)), rtol=1e-6):
            raise ValueError("X and sample_weight must be the data of the fit; these are others.")
        return residuals

    def _fit_record(self):
        """What the fit has left, as far as it is still that of the parameters.

        θ_T is in float64, not rounded to the dtype of the data.
        """
        record = getattr(self, "_record", None)
        if record is None:
            return FitRecord(self._theta)
        same = all(
            np.array_equal(exact.astype(own.dtype), own)
            for exact, own in zip(record.end, self.parameters_, strict=True)
        )
        return record if same else record._replace(end=self._theta, last=None)


def _checked_direction(direction, X, shape, name):
    direction = beside(direction, name, X)
    if is_on_device(X):
        return device_aligned(direction, X, shape, name)
    if isinstance(X, DaskRows):
        return dask_aligned(direction, X, shape, name)
    if is_dask(direction):
        raise ValueError(f"{name} is held by Dask, and X is not. Pass {name}.compute().")
    direction = in_chunks(direction)
    in_memory = not isinstance(direction, ChunkedRows)
    if in_memory:
        direction = np.ascontiguousarray(as_real(direction, name))
    if direction.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {direction.shape}.")
    if in_memory and not np.isfinite(direction).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return direction
