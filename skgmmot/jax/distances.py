"""MW2 between mixtures of JAX arrays, with derivatives in both directions."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..checks import as_parameters, checked_regularization
from ..estimators.state import warn_of
from ..families import FAMILIES
from ..functions.mixture_transport import checked_transport
from ..parameters import CovarianceType, GradientMode, MixtureParameters, PenaltiesLike, infer_type
from .fits import FAILURES, FittedMixture, fit_mixture, nothing
from .host import host_call


def mixture_wasserstein(
    a: Any,
    b: Any,
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    covariance_type: CovarianceType | None = None,
) -> jax.Array:
    """Mixture-Wasserstein distance MW2 between two mixtures, as a function that JAX differentiates.

    It is `skgmmot.mixture_wasserstein`, called back from compiled code. `jax.jit`, `jax.vmap`,
    `jax.grad`, `jax.jvp` and their compositions work.

    Parameters
    ----------
    a, b : FittedMixture, tuple, MixtureParameters or estimator
        What `fit_mixture` returns, a tuple ``(weights, means, covariances)`` of arrays or a
        `MixtureParameters`, with a derivative with respect to each array; or, as a constant, a
        fitted mixture, of this package or of scikit-learn.
    squared : bool, default=False
        Whether to return the squared distance, which has a derivative also where it is zero. That
        of the distance is NaN there.
    reg, reg_m : float, and float, tuple of two floats or None
        Weights of the entropy and of the marginal terms, see `mixture_transport`. Constants.
    covariance_type : {"full", "tied", "diag", "spherical"}, default=None
        That of tuples whose shapes leave it open, since there are as many components as features.

    Returns
    -------
    distance : jax.Array of shape ()
        float32 or float64, as the mixtures are. NaN if a mixture is none: if its weights do not sum
        to one, a covariance is not positive semi-definite, or a number is not finite.

    Raises
    ------
    ValueError
        If a shape does not fit, or ``reg`` or ``reg_m`` is not a number in its range.
    NotImplementedError
        For derivatives of derivatives.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal.

    Notes
    -----
    The derivative in the weights is one in directions that sum to zero; its gradient has mean zero.
    Where several potentials are optimal it is one of the subgradients.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import mixture_wasserstein
    >>> target = (jnp.ones(1), jnp.array([[3.0, 4.0]]), jnp.ones(1))
    >>> def distance(mean):
    ...     return mixture_wasserstein((jnp.ones(1), mean[None], jnp.ones(1)), target)
    >>> jax.value_and_grad(distance)(jnp.zeros(2))
    (Array(5., dtype=float32), Array([-0.6, -0.8], dtype=float32))
    """
    reg, reg_m = checked_regularization(reg, reg_m)
    a, kind_a = _read(a, "a", covariance_type)
    b, kind_b = _read(b, "b", covariance_type)
    if a[1].shape[1] != b[1].shape[1]:
        raise ValueError(
            f"a and b must have the same number of features; got {a[1].shape[1]} and "
            f"{b[1].shape[1]}."
        )
    dtype = jnp.result_type(*a, *b)
    a, b = (tuple(part.astype(dtype) for part in mixture) for mixture in (a, b))
    shapes = tuple(part.shape for part in (*a, *b))
    of = _Distance(shapes, (kind_a, kind_b), str(dtype), bool(squared), reg, reg_m)
    return _distance(of, a, b)


def mixture_loss(
    X: Any,
    target: Any,
    n_components: int = 1,
    *,
    squared: bool = True,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    initial: Any = None,
    covariance_type: CovarianceType = "full",
    mode: GradientMode = "implicit",
    sample_weight: Any = None,
    **options: Any,
) -> jax.Array:
    """MW2 from the mixture fitted to points to a target, a loss of the points.

    Parameters
    ----------
    X : jax.Array of shape (n_samples, n_features)
        float32 or float64.
    target : FittedMixture, tuple, MixtureParameters or estimator
        As in `mixture_wasserstein`.
    n_components : int, default=1
        Number of components of the mixture that is fitted.
    squared : bool, default=True
        Whether the loss is the squared distance, as that of `mixture_flow`.
    reg, reg_m
        As in `mixture_wasserstein`.
    initial, covariance_type, mode, sample_weight, **options
        As in `fit_mixture`.

    Returns
    -------
    loss : jax.Array of shape (), of the dtype of ``X``
        NaN where no mixture could be fitted; the status of `fit_mixture` tells why.

    See Also
    --------
    skgmmot.mixture_flow : Points that move down this loss, without JAX.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import mixture_loss
    >>> X = jnp.array([[0.0], [2.0], [4.0]])
    >>> target = (jnp.ones(1), jnp.array([[5.0]]), jnp.array([[[8 / 3]]]))
    >>> loss, gradient = jax.value_and_grad(mixture_loss)(X, target)
    >>> loss.round(4), gradient.round(4)
    (Array(9., dtype=float32), Array([[-2.],
           [-2.],
           [-2.]], dtype=float32))
    """
    fitted = fit_mixture(
        X,
        n_components,
        initial=initial,
        covariance_type=covariance_type,
        mode=mode,
        sample_weight=sample_weight,
        **options,
    )
    source = MixtureParameters(*fitted[:3], covariance_type)
    target, kind = _read(target, "target", covariance_type)
    target = MixtureParameters(*(part.astype(fitted.means.dtype) for part in target), kind)
    return mixture_wasserstein(source, target, squared=squared, reg=reg, reg_m=reg_m)


def _read(mixture, name, covariance_type):
    """Three JAX arrays and their covariance type, from anything mixture-like."""
    if isinstance(mixture, FittedMixture):
        mixture = mixture[:3]
    if isinstance(mixture, MixtureParameters):
        covariance_type = mixture.covariance_type or covariance_type
    elif not isinstance(mixture, (tuple, list)) or len(mixture) != 3:
        mixture = as_parameters(mixture, name, dtype=None)
        covariance_type = mixture.covariance_type
    parts = tuple(map(jnp.asarray, mixture))
    if any(jnp.issubdtype(part.dtype, jnp.complexfloating) for part in parts):
        raise TypeError(f"{name} must hold real arrays; got complex ones.")
    weights, means, covariances = parts = tuple(part.astype(_floating(part)) for part in parts)
    kind = infer_type(means, covariances) if means.ndim == 2 else None
    kind = kind or covariance_type
    if kind is None and means.ndim == 2:
        raise ValueError(
            f"{name}: covariances of shape {covariances.shape} could be tied or diag; pass "
            "covariance_type."
        )
    shapes = weights.shape, means.shape, covariances.shape
    if means.ndim != 2 or shapes != (
        means.shape[:1],
        means.shape,
        FAMILIES[kind].shape(*means.shape),
    ):
        raise ValueError(
            f"{name} must have weights of shape (n_components,), means (n_components, "
            f"n_features), and covariances of one of the shapes of MixtureParameters; got {shapes}."
        )
    return parts, kind


def _floating(part):
    """float32 and float64 stay, all else becomes the default."""
    return part.dtype if part.dtype in (jnp.float32, jnp.float64) else jnp.result_type(float)


@dataclass(frozen=True)
class _Distance:
    """(weights, means, covariances) of two mixtures to the distance.

    moving : of which mixtures the gradient follows
    """

    shapes: tuple
    kinds: tuple
    dtype: str
    squared: bool
    reg: float
    reg_m: tuple
    moving: tuple = (False, False)

    transposed = None
    refusal = (
        "mixture_wasserstein has first derivatives only. Hold it with jax.lax.stop_gradient where "
        "derivatives of derivatives are taken, or take them by finite differences of a gradient."
    )

    @cached_property
    def results(self):
        sides = self.shapes[:3] * self.moving[0] + self.shapes[3:] * self.moving[1]
        return tuple(jax.ShapeDtypeStruct(shape, self.dtype) for shape in ((), *sides))

    def __call__(self, *parts):
        mixtures = (
            MixtureParameters(*some, kind)
            for some, kind in zip((parts[:3], parts[3:]), self.kinds, strict=True)
        )
        try:
            transport, complaints = checked_transport(*mixtures, self.reg, self.reg_m)
            warn_of(complaints)
        except FAILURES:
            return nothing(self.results)
        value = transport.value if self.squared else transport.distance
        return [np.asarray(value, self.dtype), *self._gradients(transport)]

    def _gradients(self, transport):
        sides = [
            side for side, moves in zip(("source", "target"), self.moving, strict=True) if moves
        ]
        try:
            gradients = [part for side in sides for part in transport.gradient(side)]
        except FAILURES:  # a singular covariance: there is a value, and no derivative
            return nothing(self.results[1:])
        if self.squared:
            return [part.astype(self.dtype, copy=False) for part in gradients]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scale = np.divide(0.5, transport.distance)
            return [(scale * part).astype(self.dtype) for part in gradients]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _distance(of, a, b):
    return host_call(of, *a, *b)[0]


@partial(_distance.defjvp, symbolic_zeros=True)
def _distance_jvp(of, primals, tangents):
    def moves(side):
        return not all(type(part) is SymbolicZero for part in side)

    a, b = primals
    sides = [side for side in tangents if moves(side)]
    moving = tuple(map(moves, tangents))
    options = of.shapes, of.kinds, of.dtype, of.squared, of.reg, of.reg_m
    distance, *gradients = host_call(_Distance(*options, moving), *a, *b)
    distance_dot = jnp.zeros_like(distance)
    for gradient, tangent in zip(gradients, [part for side in sides for part in side], strict=True):
        if type(tangent) is not SymbolicZero:
            distance_dot += jnp.vdot(gradient, tangent)
    return distance, distance_dot
