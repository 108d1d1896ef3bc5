"""Functions that NumPy evaluates on the host, as JAX sees them.

JAX knows a single primitive, `host_call`: a `HostFunction` of arrays, whose last ``n_linear``
operands enter linearly. It has the derivative and the transpose in these, and none in the others:
who has one for them says so with `jax.custom_jvp`, by a host function that is linear in tangents.

`jax.pure_callback` would do, but that it turns operands into JAX arrays within the callback. Such a
copy waits for the threads that run callbacks, and where these are all waiting nothing moves any
more: on two cores, two threads with 4 MB each are enough. Here callbacks see NumPy arrays only.
"""

from functools import lru_cache, partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

_MOST_COMPILED = 1024  # calls outside jit that are kept compiled: a function and shapes each


class HostFunction(Protocol):
    """What `host_call` evaluates: immutable, equal to others that do the same, and hashable.

    results : tuple of jax.ShapeDtypeStruct, what comes back
    transposed : HostFunction or None, of the same operands that are not linear, and cotangents of
        the results, to cotangents of the linear operands
    refusal : str, why it cannot be differentiated in the operands that are not linear
    """

    results: tuple
    transposed: "HostFunction | None"
    refusal: str

    def __call__(self, *arrays: np.ndarray) -> tuple: ...

    def each(self, *arrays: np.ndarray) -> tuple:
        """The results for each index of a first axis of all operands."""
        ...


def host_call(function, *operands, n_linear=0):
    """The results of a `HostFunction`, as a list."""
    return _host_call.bind(*operands, function=function, n_linear=n_linear, n_axes=0)


def over_sets(function, arrays, n_axes):
    """The results of a function for each index of ``n_axes`` leading axes, those of vmap.

    An operand that is the same for all has the length one there.
    """
    if n_axes == 0:
        return function(*arrays)
    axes = np.broadcast_shapes(*(array.shape[:n_axes] for array in arrays))
    if 0 in axes:
        return [np.empty(axes + part.shape, part.dtype) for part in function.results]
    whole = (np.broadcast_to(array, axes + array.shape[n_axes:]) for array in arrays)
    results = function.each(*(array.reshape(-1, *array.shape[n_axes:]) for array in whole))
    return [result.reshape(axes + result.shape[1:]) for result in results]


def one_by_one(function, arrays):
    """What `HostFunction.each` is to return, by calls of the function."""
    results = [np.empty((len(arrays[0]), *part.shape), part.dtype) for part in function.results]
    for s, own in enumerate(zip(*arrays, strict=True)):
        for result, part in zip(results, function(*own), strict=True):
            result[s] = part
    return results


_host_call = Primitive("skgmmot_host_call")
_host_call.multiple_results = True


@lru_cache(_MOST_COMPILED)
def _compiled(**params):
    return jax.jit(partial(_host_call.bind, **params))


@_host_call.def_impl
def _evaluated(*operands, **params):
    return _compiled(**params)(*operands)


@_host_call.def_abstract_eval
def _abstract(*operands, function, n_linear, n_axes):
    axes = np.broadcast_shapes(*(operand.shape[:n_axes] for operand in operands))
    return [jax.core.ShapedArray(axes + part.shape, part.dtype) for part in function.results]


def _lowered(context, *operands, function, n_linear, n_axes):
    def callback(*arrays):
        return tuple(over_sets(function, arrays, n_axes))

    results, *_ = mlir.emit_python_callback(
        context,
        callback,
        None,
        list(operands),
        context.avals_in,
        context.avals_out,
        has_side_effect=False,
    )
    return results


mlir.register_lowering(_host_call, _lowered)


def _batched(operands, axes, *, function, n_linear, n_axes):
    """One more leading axis. Along it linear operands are of full size, as their results are."""
    pairs = list(zip(operands, axes, strict=True))
    size = next(operand.shape[axis] for operand, axis in pairs if axis is not None)
    moved = [
        operand[None] if axis is None else jnp.moveaxis(operand, axis, 0) for operand, axis in pairs
    ]
    n_others = len(moved) - n_linear
    linear = (jnp.broadcast_to(part, (size, *part.shape[1:])) for part in moved[n_others:])
    results = _host_call.bind(
        *moved[:n_others], *linear, function=function, n_linear=n_linear, n_axes=n_axes + 1
    )
    return results, [0] * len(results)


batching.primitive_batchers[_host_call] = _batched


def _is_zero(tangent):
    return type(tangent) is ad.Zero or tangent.dtype == jax.dtypes.float0


def _pushed(operands, tangents, *, function, n_linear, n_axes):
    n_others = len(operands) - n_linear
    if not all(map(_is_zero, tangents[:n_others])):
        raise NotImplementedError(function.refusal)
    bind = partial(_host_call.bind, function=function, n_linear=n_linear, n_axes=n_axes)
    linear = map(ad.instantiate_zeros, tangents[n_others:])
    return bind(*operands), bind(*operands[:n_others], *linear)


ad.primitive_jvps[_host_call] = _pushed


def _pulled(cotangents, *operands, function, n_linear, n_axes):
    n_others = len(operands) - n_linear
    cotangents = map(ad.instantiate_zeros, cotangents)
    pulled = _host_call.bind(
        *operands[:n_others],
        *cotangents,
        function=function.transposed,
        n_linear=len(function.results),
        n_axes=n_axes,
    )
    wanted = map(ad.is_undefined_primal, operands[n_others:])
    return [None] * n_others + [
        part if want else None for part, want in zip(pulled, wanted, strict=True)
    ]


ad.primitive_transposes[_host_call] = _pulled
