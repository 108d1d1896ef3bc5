"""MW2 between mixtures of JAX arrays, with derivatives in both directions."""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from ..checks import as_parameters
from ..estimators.state import warn_of
from ..families import FAMILIES
from ..functions.layer_sets import FAILURES
from ..functions.transport_layer import TransportLayer
from ..parameters import MixtureParameters, infer_type
from .jax_fit import nothing, structs
from .jax_host import host_call, one_by_one


def distance(a, b, **options):
    """The distance of two mixtures that were `read`, with the options of a `TransportLayer`."""
    layer = TransportLayer.of(types=(a.covariance_type, b.covariance_type), **options)
    if a.n_features != b.n_features:
        raise ValueError(
            f"a and b must have the same number of features; a has {a.n_features} and b has "
            f"{b.n_features}."
        )
    dtype = jnp.result_type(*a, *b)
    a, b = (tuple(part.astype(dtype) for part in mixture) for mixture in (a, b))
    shapes = tuple(part.shape for part in (*a, *b))
    return _distance(_Distance(layer, shapes, str(dtype)), a, b)


def read(mixture, name, covariance_type=None, dtype=None):
    """`MixtureParameters` of JAX arrays, from anything mixture-like that JAX may trace."""
    if isinstance(mixture, MixtureParameters):
        covariance_type = mixture.covariance_type or covariance_type
    elif not isinstance(mixture, (tuple, list)) or len(mixture) not in (3, 4):
        mixture = as_parameters(mixture, name, dtype=None)
        covariance_type = mixture.covariance_type
    if covariance_type not in (None, *FAMILIES):
        raise ValueError(
            f"covariance_type must be one of {', '.join(map(repr, FAMILIES))}, or None; got "
            f"{covariance_type!r}."
        )
    parts = [jnp.asarray(part) for part in tuple(mixture)[:3]]  # without the status of a fit
    if any(jnp.issubdtype(part.dtype, jnp.complexfloating) for part in parts):
        raise TypeError(f"{name} must hold real arrays; got complex ones.")
    weights, means, covariances = (part.astype(dtype or _floating(part)) for part in parts)
    kind = infer_type(means, covariances) if means.ndim == 2 else "full"
    if kind is None and covariance_type is None:
        raise ValueError(
            f"{name}: covariances of shape {covariances.shape} could be tied or diag; pass "
            "covariance_type."
        )
    kind = kind or covariance_type
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
    return MixtureParameters(weights, means, covariances, kind)


def _floating(part):
    """float32 and float64 stay, all else becomes the default."""
    return part.dtype if part.dtype in (jnp.float32, jnp.float64) else jnp.result_type(float)


@dataclass(frozen=True)
class _Distance:
    """(weights, means, covariances) of two mixtures to the distance, and to its gradients.

    moving : of which of the mixtures the gradient is wanted
    """

    layer: TransportLayer
    shapes: tuple
    dtype: str
    moving: tuple = (False, False)

    transposed = None
    refusal = (
        "mixture_wasserstein has first derivatives only. Hold it with jax.lax.stop_gradient where "
        "derivatives of derivatives are taken, or take them by finite differences of a gradient."
    )

    @cached_property
    def results(self):
        sides = self.shapes[:3] * self.moving[0] + self.shapes[3:] * self.moving[1]
        return structs(((), *sides), self.dtype)

    def __call__(self, *parts):
        a, b = parts[:3], parts[3:]
        try:
            value, transport, complaints = self.layer.value(a, b)
            warn_of(complaints)
        except FAILURES:
            return nothing(self.results)
        try:
            bars = self.layer.vjp(a, b, 1.0, transport, wanted=self.moving)
        except FAILURES:  # a singular covariance: there is a value, and no derivative
            return np.asarray(value, self.dtype), *nothing(self.results[1:])
        gradients = (part for bar in bars for part in bar or ())
        return [np.asarray(part, self.dtype) for part in (value, *gradients)]

    def each(self, *parts):
        a, b = parts[:3], parts[3:]
        try:
            values, known, complaints = self.layer.value_each(a, b)
            bars = self.layer.vjp_each(a, b, np.ones(len(values)), known, wanted=self.moving)
            warn_of(complaints)
        except FAILURES:  # of one of the pairs
            return one_by_one(self, parts)
        gradients = (part for bar in bars for part in bar or ())
        return [np.asarray(part, self.dtype) for part in (values, *gradients)]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _distance(function, a, b):
    return host_call(function, *a, *b)[0]


@partial(_distance.defjvp, symbolic_zeros=True)
def _distance_jvp(function, primals, tangents):
    moving = tuple(not all(type(part) is SymbolicZero for part in side) for side in tangents)
    function = _Distance(function.layer, function.shapes, function.dtype, moving)
    distance, *gradients = host_call(function, *primals[0], *primals[1])
    directions = (
        part for side, moves in zip(tangents, moving, strict=True) if moves for part in side
    )
    distance_dot = jnp.zeros_like(distance)
    for gradient, direction in zip(gradients, directions, strict=True):
        if type(direction) is not SymbolicZero:
            distance_dot += jnp.vdot(gradient, direction)
    return distance, distance_dot
