"""EM fits of JAX arrays, with derivatives in both directions."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..estimators.state import warn_of
from ..functions.layer import MixtureLayer
from ..parameters import CovarianceType, GradientMode
from .host import host_call

# What a fit or a derivative raises that cannot be done, and what it warns of where that is an error.
FAILURES = (ValueError, RuntimeError, ArithmeticError, Warning)


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


_WORDS = {
    FitStatus.NOT_CONVERGED: "EM did not converge: increase max_iter or residual_tol",
    FitStatus.FAILED: (
        "no mixture could be fitted: X, sample_weight or initial are not valid, or a component "
        "collapsed"
    ),
    FitStatus.DOUBTFUL: "a component lost all its mass, or some restarts failed",
}


class FittedMixture(NamedTuple):
    """What `fit_mixture` returns: a tuple of arrays, which JAX takes apart as it does any other.

    Under `jax.vmap` each has the axis of the sets in front.

    Attributes
    ----------
    weights : jax.Array of shape (n_components,)
    means : jax.Array of shape (n_components, n_features)
    covariances : jax.Array
        Of the shape that belongs to ``covariance_type``, see `MixtureParameters`.
    status : jax.Array of shape (), int32
        A `FitStatus`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import fit_mixture
    >>> X = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 2.0]])
    >>> fit_mixture(X, covariance_type="spherical")._fields
    ('weights', 'means', 'covariances', 'status')
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array
    status: jax.Array


_Checked = TypeVar("_Checked")


def check(fitted: _Checked, *, accept: tuple[FitStatus, ...] = ()) -> _Checked:
    """Raise an error if fits have not ended well; for results, outside of `jax.jit`.

    Parameters
    ----------
    fitted : FittedMixture or array of int
        What `fit_mixture` has returned, also under `jax.vmap`, or its ``status``.
    accept : tuple of FitStatus, default=()
        What is let pass beside ``OK``.

    Returns
    -------
    fitted : FittedMixture or array of int
        The same object.

    Raises
    ------
    RuntimeError
        If a fit has another status; it counts them and says what to do.
    TypeError
        If the status is not known yet, within `jax.jit` and other transformations.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import check, fit_mixture
    >>> X = jnp.array([[0.0], [1.0], [jnp.nan]])
    >>> check(fit_mixture(X))
    Traceback (most recent call last):
        ...
    RuntimeError: 1 of 1 fits: no mixture could be fitted: X, ...
    """
    status = fitted.status if isinstance(fitted, FittedMixture) else fitted
    if isinstance(status, jax.core.Tracer):
        raise TypeError(
            "check needs a status that is known: return the status from the function that is "
            "transformed by jax.jit, jax.vmap or jax.grad, and check it there."
        )
    statuses = np.asarray(status).ravel()
    told = [
        f"{(statuses == bad).sum()} of {statuses.size} fits: {words}"
        for bad, words in _WORDS.items()
        if bad not in accept and (statuses == bad).any()
    ]
    if told:
        raise RuntimeError(
            "; ".join(told) + ". DifferentiableGaussianMixture().fit, with the same data and "
            "options, tells more."
        )
    return fitted


def fit_mixture(
    X: Any,
    n_components: int = 1,
    *,
    initial: Any = None,
    covariance_type: CovarianceType = "full",
    mode: GradientMode = "implicit",
    sample_weight: Any = None,
    **options: Any,
) -> FittedMixture:
    """Fit a Gaussian mixture by EM, as a function that JAX differentiates.

    It is what `DifferentiableGaussianMixture` computes, called back from compiled code. `jax.jit`,
    `jax.vmap`, `jax.grad`, `jax.jvp`, `jax.jacfwd`, `jax.jacrev` and their compositions work.

    Parameters
    ----------
    X : jax.Array of shape (n_samples, n_features)
        float32 or float64. There is a derivative with respect to it.
    n_components : int, default=1
        Number of components; that of ``initial``, if given.
    initial : tuple (weights, means, covariances), default=None
        Where EM starts, in the place of an initialization. ``mode="unrolled"`` has a derivative
        with respect to it. In the other modes it plays no part, and the derivative is zero.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance matrix for each component, one for all, a diagonal or a single variance.
    mode : {"implicit", "unrolled", "one_step"}, default="implicit"
        How EM is differentiated, see :ref:`gradients`. ``unrolled`` fits by plain EM.
    sample_weight : jax.Array of shape (n_samples,), default=None
        Non-negative weights. There is a derivative with respect to them.
    **options
        Of `DifferentiableGaussianMixture`, such as ``max_iter`` or ``residual_tol``, and
        ``gradient_tol``, the relative accuracy that is asked of ``implicit`` (1e-6 by default). They
        are constants. ``random_state`` is 0 by default: a function in JAX has no memory.

    Returns
    -------
    mixture : FittedMixture
        ``weights``, ``means`` and ``covariances`` of the dtype of ``X``, and a ``status``.

    Raises
    ------
    TypeError
        If ``X`` is neither float32 nor float64, an option is unknown, or not a constant.
    ValueError
        If a shape or an option is not valid. What depends on numbers ends in a ``status``: see
        `check`.
    NotImplementedError
        For derivatives of derivatives.

    Warns
    -----
    ConvergenceWarning
        If a derivative of ``implicit`` is taken where EM has not converged, or where the mixture
        is not determined by the data. Where that is made an error, the derivative is NaN.

    See Also
    --------
    mixture_wasserstein : Compares mixtures.
    mixture_loss : The two in one.

    Notes
    -----
    Without 64-bit types (``jax_enable_x64``) X is float32, and so is what comes back. Sums are
    float64 inside, also of derivatives, which start from parameters that were not rounded.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import fit_mixture
    >>> X = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 2.0]])
    >>> jax.grad(lambda X: fit_mixture(X).means[0, 1])(X).round(4)
    Array([[0.    , 0.3333],
           [0.    , 0.3333],
           [0.    , 0.3333]], dtype=float32)
    """
    X = _floats(X, "X")
    if X.ndim != 2:
        raise ValueError(f"X must have shape (n_samples, n_features); got {X.shape}.")
    if initial is not None:
        initial = _read_initial(initial, n_components, X.dtype)
        n_components = initial[0].shape[0]
    for name, option in options.items():
        if isinstance(option, jax.core.Tracer):
            raise TypeError(
                f"{name} must be a constant; got a value that JAX traces. Where EM starts can be "
                "passed as initial, other options from outside of the transformed function."
            )
    if options.get("random_state") is None:
        options["random_state"] = 0
    layer = MixtureLayer.of(n_components, covariance_type=covariance_type, mode=mode, **options)
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
                f"covariance_type={covariance_type!r} has the shapes "
                f"{layer.shapes(X.shape[1])}; got {tuple(part.shape for part in initial)}."
            )
    fit = _Fit(layer, X.shape, str(X.dtype), sample_weight is not None, initial is not None)
    return FittedMixture(*_fit(fit, X, sample_weight, initial))


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
    if weights.ndim != 1 or n_components not in (1, len(weights)):
        raise ValueError(
            f"initial: its weights, of shape {weights.shape}, must be one for each of "
            f"n_components={n_components}. Leave n_components out, or pass another initial."
        )
    return initial


def _structs(shapes, dtype):
    return tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)


def nothing(results):
    """NaN for each of some results."""
    return [np.full(part.shape, np.nan, part.dtype) for part in results]


@dataclass(frozen=True)
class _Fit:
    """(X, sample weights?, initial parameters?) to parameters, the record, as uint32, and status."""

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
        return _structs(self.layer.shapes(self.shape[1]), self.dtype)

    @cached_property
    def results(self):
        n_words = 2 * self.layer.record_size(self.shape[1])  # float64, also where JAX has none
        return *self.parameters, *_structs([(n_words,)], "uint32"), *_structs([()], "int32")

    def __call__(self, X, *others):
        weight, initial = self.split(others)
        try:
            fit = self.layer.fit(X, weight, tuple(initial) if initial else None)
        except FAILURES:
            record = np.full(self.layer.record_size(self.shape[1]), np.nan)
            return *nothing(self.parameters), record.view(np.uint32), np.int32(FitStatus.FAILED)
        status = FitStatus.OK if not fit.complaints else FitStatus.DOUBTFUL
        if not self.layer.told(fit.record).converged:
            status = FitStatus.NOT_CONVERGED
        return *fit.parameters, fit.record.view(np.uint32), np.int32(status)

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
        return _structs(sum(moving, []), self.fit.dtype)

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
            parts, complaints = compute(record, X, weight, linear)
            warn_of(complaints)
        except FAILURES:
            return nothing(self.results)
        return [part.astype(self.fit.dtype, copy=False) for part in parts]

    def _pushed(self, record, X, weight, tangents):
        data, weighted, started = self.moving
        X_dot = tangents.pop(0) if data else None
        weight_dot = tangents.pop(0) if weighted else None
        return self.fit.layer.jvp(record, X, weight, X_dot, weight_dot, tangents or None)

    def _pulled(self, record, X, weight, cotangents):
        data, weighted, started = self.moving
        wrt_weight = weighted or started
        bar = self.fit.layer.vjp(record, X, weight, cotangents, wrt_weight=wrt_weight)
        parts = [bar.data] * data + [bar.sample_weight] * weighted
        return parts + (list(bar.initial) if started else []), bar.complaints


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
