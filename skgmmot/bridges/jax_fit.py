"""EM fits of JAX arrays, with derivatives in both directions."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from threading import Lock

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..estimators.state import warn_of
from ..functions.layer import MixtureLayer
from ..functions.layer_sets import FAILURES, fit_each, jvp_each, vjp_each
from ..functions.mixture_fits import told_of_sets
from .jax_host import host_call


class FitStatus(IntEnum):
    """How a fit has ended: the ``status`` of `FittedMixture`, where it is an array of int32.

    Attributes
    ----------
    OK : int
        0: EM has converged.
    NOT_CONVERGED : int
        1: EM was still on its way after ``max_iter``. Parameters and derivatives are those of where
        it got to.
    FAILED : int
        2: there is no mixture, parameters and derivatives are NaN. X or sample_weight are not
        finite, there are too few samples of positive weight, the initial parameters are no
        mixture, or a component has collapsed.
    DOUBTFUL : int
        3: EM has converged, but a component has lost all its mass, some restarts failed, or
        ``e_step="sinkhorn"`` missed its weights.

    See Also
    --------
    check : Raises an error that says so.

    Examples
    --------
    >>> from skgmmot.jax import FitStatus
    >>> FitStatus(2).name
    'FAILED'
    """

    OK = 0
    NOT_CONVERGED = 1
    FAILED = 2
    DOUBTFUL = 3


def fitted(X, n_components, initial, sample_weight, **options):
    """Weights, means, covariances and status, from what `skgmmot.jax.fit_mixture` takes."""
    X = _floats(X, "X")
    if X.ndim != 2:
        raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}.")
    if initial is not None:
        initial = _read_initial(initial, n_components, X.dtype)
        n_components = initial[0].shape[0]
    elif n_components is None:
        n_components = 1
    for name, option in options.items():
        if isinstance(option, jax.core.Tracer):
            raise TypeError(
                f"{name} must be a constant; got a value that JAX traces. Where EM starts can be "
                "passed as initial, other options from outside of the transformed function."
            )
    if options.get("random_state") is None:
        options["random_state"] = 0
    layer = MixtureLayer.of(n_components, **options)
    if len(X) < max(2, n_components):
        raise ValueError(
            f"X has {len(X)} samples, fewer than n_components={n_components} or two. Decrease "
            "n_components."
        )
    if sample_weight is not None:
        sample_weight = _floats(sample_weight, "sample_weight", X.dtype)
        if sample_weight.shape != X.shape[:1]:
            raise ValueError(
                f"sample_weight must have shape {X.shape[:1]}; got {sample_weight.shape}."
            )
    for part, shape in zip(initial or (), layer.shapes(X.shape[1]), strict=initial is not None):
        if part.shape != shape:
            raise ValueError(
                f"initial: a mixture of {n_components} components, {X.shape[1]} features and "
                f"covariance_type={options['covariance_type']!r} has the shapes "
                f"{layer.shapes(X.shape[1])}; got {tuple(part.shape for part in initial)}."
            )
    fit = _Fit(layer, X.shape, str(X.dtype), sample_weight is not None, initial is not None)
    return _fit(fit, X, sample_weight, initial)


def _floats(array, name, dtype=None):
    """A JAX array of floats, in a dtype if one is given."""
    array = jnp.asarray(array)
    if dtype is None and array.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"{name} must be float32 or float64; got {array.dtype}. Pass {name}.astype(float)."
        )
    if dtype is not None and jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real; got {array.dtype}.")
    return array if dtype is None else array.astype(dtype)


def _read_initial(initial, n_components, dtype):
    try:
        initial = tuple(initial)[:3]
        weights, _, _ = initial = tuple(_floats(part, "initial", dtype) for part in initial)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "initial must be a tuple (weights, means, covariances) of real arrays; got "
            f"{type(initial).__name__}."
        ) from error
    if weights.ndim != 1 or n_components not in (None, len(weights)):
        raise ValueError(
            f"initial: its weights, of shape {weights.shape}, must be one for each of "
            f"n_components={n_components}. Leave n_components out, or pass another initial."
        )
    return initial


def structs(shapes, dtype):
    """What JAX knows of arrays before there are any."""
    return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)


def nothing(results):
    """NaN for each of some results."""
    return [np.full(part.shape, np.nan, part.dtype) for part in results]


class _Recent:
    """The latest fits, from whose steps a derivative need not be made again; by their records.

    That it is there saves time and changes nothing: a record is enough for a derivative.
    """

    def __init__(self, most):
        self.most, self.fits, self.lock = most, {}, Lock()

    def keep(self, fit):
        with self.lock:
            self.fits[fit.record.tobytes()] = fit.fitted
            while len(self.fits) > self.most:
                del self.fits[next(iter(self.fits))]

    def find(self, record):
        with self.lock:
            return self.fits.get(record.tobytes())


_RECENT = _Recent(16)


@dataclass(frozen=True)
class _Fit:
    """(X, sample weights?, initial parameters?) to parameters, the record in uint32, status."""

    layer: MixtureLayer
    shape: tuple
    dtype: str
    is_weighted: bool
    is_started: bool

    transposed = None
    refusal = (
        "fit_mixture has first derivatives only. Hold the fit with jax.lax.stop_gradient where "
        "derivatives of derivatives are taken, or take them by finite differences of a gradient."
    )

    @cached_property
    def parameters(self):
        return structs(self.layer.shapes(self.shape[1]), self.dtype)

    @cached_property
    def results(self):
        n_words = 2 * self.layer.record_size(self.shape[1])  # float64, also where JAX has none
        return *self.parameters, *structs([(n_words,)], "uint32"), *structs([()], "int32")

    def __call__(self, X, *others):
        weight, initial = self.split(others)
        try:
            fit = self.layer.fit(X, weight, tuple(initial) if initial else None)
        except FAILURES:
            record = np.full(self.layer.record_size(self.shape[1]), np.nan)
            return *nothing(self.parameters), record.view(np.uint32), np.int32(FitStatus.FAILED)
        _RECENT.keep(fit)
        status = FitStatus.OK if not fit.complaints else FitStatus.DOUBTFUL
        if not self.layer.told(fit.record).converged:
            status = FitStatus.NOT_CONVERGED
        return *fit.parameters, fit.record.view(np.uint32), np.int32(status)

    def each(self, X, *others):
        weight, initial = self.split(others)
        fits = fit_each(self.layer, X, weight, tuple(initial) if initial else None)
        status = np.full(len(X), FitStatus.OK, np.int32)
        status[[s for s, _ in fits.complaints]] = FitStatus.DOUBTFUL
        status[fits.records[:, 0] == 0] = FitStatus.NOT_CONVERGED
        status[list(fits.errors)] = FitStatus.FAILED
        return *fits.parameters, fits.records.view(np.uint32), status

    def split(self, others):
        """The sample weights or None, and the rest."""
        return (others[0], others[1:]) if self.is_weighted else (None, others)


@dataclass(frozen=True)
class _Derivative:
    """(X, sample weights?, record), and tangents to tangents or cotangents to cotangents.

    moving : which of X, sample weights and initial parameters have a tangent
    """

    fit: _Fit
    moving: tuple
    backwards: bool = False

    refusal = _Fit.refusal

    @property
    def transposed(self):
        return _Derivative(self.fit, self.moving, not self.backwards)

    @cached_property
    def inputs(self):
        shape = self.fit.shape
        parts = [shape], [shape[:1]], [part.shape for part in self.fit.parameters]
        moving = [part for part, moves in zip(parts, self.moving, strict=True) if moves]
        return structs(sum(moving, []), self.fit.dtype)

    @cached_property
    def results(self):
        return self.inputs if self.backwards else self.fit.parameters

    def __call__(self, X, *others):
        weight, (record, *linear) = self.fit.split(others)
        record = np.ascontiguousarray(record).view(np.float64)
        if np.isnan(record[0]):  # of a fit that failed
            return nothing(self.results)
        try:
            compute = self._pulled if self.backwards else self._pushed
            parts, complaints = compute((record, X, weight), linear, _RECENT.find(record))
            warn_of(complaints)
        except FAILURES:
            return nothing(self.results)
        return [part.astype(self.fit.dtype, copy=False) for part in parts]

    def each(self, X, *others):
        weight, (record, *linear) = self.fit.split(others)
        of_fits = np.ascontiguousarray(record).view(np.float64), X, weight
        if self.backwards:
            bar, _ = vjp_each(
                self.fit.layer, *of_fits, linear, wrt_weight=self._wrt_weight, find=_RECENT.find
            )
            parts, complaints = self._moved(bar), bar.complaints
        else:
            dots = self._dots(linear)
            dots = *dots[:2], *(dots[2] or (None, None, None))
            parts, complaints, _ = jvp_each(self.fit.layer, *of_fits, dots, find=_RECENT.find)
        try:
            warn_of(told_of_sets(complaints, len(X)))
        except FAILURES:
            return [np.full((len(X), *part.shape), np.nan, part.dtype) for part in self.results]
        return [part.astype(self.fit.dtype, copy=False) for part in parts]

    def _pushed(self, of_fit, tangents, found):
        return self.fit.layer.jvp(*of_fit, *self._dots(tangents), fitted=found)

    def _pulled(self, of_fit, cotangents, found):
        options = {"wrt_weight": self._wrt_weight, "fitted": found}
        bar = self.fit.layer.vjp(*of_fit, cotangents, **options)
        return self._moved(bar), bar.complaints

    def _dots(self, tangents):
        """Those of X, of the sample weights and of the initial parameters, None for zero."""
        data, weighted, _ = self.moving
        left = iter(tangents)
        X_dot = next(left) if data else None
        return X_dot, next(left) if weighted else None, tuple(left) or None

    def _moved(self, bar):
        """The cotangents of what moves."""
        data, weighted, started = self.moving
        parts = [bar.data] * data + [bar.sample_weight] * weighted
        return parts + (list(bar.initial) if started else [])

    @property
    def _wrt_weight(self):
        return self.moving[1] or self.moving[2]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fit(fit, X, weight, initial):
    *parameters, _, status = host_call(fit, *jax.tree.leaves((X, weight, initial)))
    return *parameters, status


@partial(_fit.defjvp, symbolic_zeros=True)
def _fit_jvp(fit, primals, tangents):
    X, weight, initial = primals
    *parameters, record, status = host_call(fit, *jax.tree.leaves((X, weight, initial)))
    X_dot, weight_dot, initial_dot = tangents
    if not fit.layer.has_initial_derivative:
        initial_dot = None
    groups = [jax.tree.leaves(group) for group in ([X_dot], [weight_dot], initial_dot)]
    moving = tuple(not all(type(part) is SymbolicZero for part in group) for group in groups)
    linear = [
        jnp.zeros(part.shape, part.dtype) if type(part) is SymbolicZero else part
        for group, moves in zip(groups, moving, strict=True)
        if moves
        for part in group
    ]
    no_status = np.zeros(status.shape, jax.dtypes.float0)
    if linear:
        fixed = jax.tree.leaves((X, weight, record))
        derivative = _Derivative(fit, moving)
        parameters_dot = host_call(derivative, *fixed, *linear, n_linear=len(linear))
    else:
        parameters_dot = [jnp.zeros_like(part) for part in parameters]
    return (*parameters, status), (*parameters_dot, no_status)
