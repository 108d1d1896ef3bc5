"""MW2 as a function of PyTorch's autograd, and as an operator that it can compile."""

from functools import lru_cache

import torch
from torch import Tensor

from ..functions.transport_layer import TransportLayer
from .torch_tensors import (
    Derivative,
    array_of,
    eagerly,
    is_differentiated,
    is_traced,
    operator_over_sets,
    over_sets,
    refuse_second,
    signed,
    tensor_of,
    warn_user,
)


@eagerly
def _value(parts, layer):
    arrays, transport = tuple(map(array_of, parts)), None
    if parts[1].dim() == 3:
        value, _, complaints = layer.value_each(arrays[:3], arrays[3:])
    else:
        value, transport, complaints = layer.value(arrays[:3], arrays[3:])
    warn_user(complaints)
    return tensor_of(value, _dtype(parts), parts[1].device), transport


@eagerly
def _vjp(value_bar, parts, layer, transport=None, wanted=(True, True)):
    """Cotangents of the parts, empty for a mixture of which none is wanted."""
    sets, wanted, a, b = value_bar.shape, tuple(wanted), None, None
    if sets or transport is None:
        a, b = tuple(map(array_of, parts[:3])), tuple(map(array_of, parts[3:]))
    if sets:  # with a transport: that of one pair, of which there are many cotangents
        known = {} if transport is None else dict.fromkeys(range(len(value_bar)), transport)
        bars = layer.vjp_each(a, b, array_of(value_bar), known, wanted=wanted)
    else:
        bars = layer.vjp(a, b, value_bar.item(), transport, wanted=wanted)
    bars = [*(bars[0] or 3 * [None]), *(bars[1] or 3 * [None])]
    return tuple(
        part.new_empty((*sets, 0)) if bar is None else torch.from_numpy(bar).to(part)
        for bar, part in zip(bars, parts, strict=True)
    )


def _dtype(parts):
    """float32 if all parts are."""
    return torch.promote_types(
        torch.promote_types(parts[0].dtype, parts[1].dtype),
        torch.promote_types(parts[3].dtype, parts[4].dtype),
    )


@eagerly
def _jvp(tensors, layer, transport=None):
    arrays = tuple(map(array_of, tensors))
    if tensors[1].dim() == 3:
        slopes = [
            _slope([None if part is None else part[s] for part in arrays], layer)
            for s in range(len(tensors[1]))
        ]
        return tensor_of(slopes, _dtype(tensors), tensors[1].device)
    return tensor_of(_slope(arrays, layer, transport), _dtype(tensors), tensors[1].device)


def _slope(arrays, layer, transport=None):
    return layer.jvp(arrays[:3], arrays[3:6], arrays[6:9], arrays[9:], transport)


class Solved:
    """What a value leaves for its derivatives: the plan, if they are asked of the same mixtures."""

    def __init__(self):
        self.transport, self.places = None, None

    def of(self, parts):
        """The `MixtureTransport`, if it is that of these parts."""
        return self.transport if self.places == [part.data_ptr() for part in parts] else None


class Transport(torch.autograd.Function):
    """(weights, means, covariances of a, of b, layer, solved) → value.

    All tensors may have a first axis for pairs of mixtures, and so they do below.
    """

    @signed
    def forward(*args):
        *parts, layer, solved = args
        if is_traced():
            return transport_operator(*parts, layer.text)
        value, solved.transport = _value(parts, layer)
        solved.places = [part.data_ptr() for part in parts]
        return value

    @staticmethod
    def setup_context(ctx, inputs, output):
        *parts, ctx.layer, ctx.solved = inputs
        ctx.save_for_backward(*parts)
        ctx.save_for_forward(*parts)

    @staticmethod
    def backward(ctx, value_bar):
        needed = ctx.needs_input_grad
        wanted = [any(needed[:3]), any(needed[3:6])]
        bars = TransportVjp.of(value_bar, *ctx.saved_tensors, ctx.layer, ctx.solved, wanted)
        return *(bar if bar.numel() else None for bar in bars), None, None

    @staticmethod
    def jvp(ctx, *dots):
        return TransportJvp.apply(*ctx.saved_tensors, *dots[:6], ctx.layer, ctx.solved)

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(Transport.apply, 1, info, in_dims, (*args[:-1], Solved()))


class TransportVjp(Derivative):
    """(cotangent of the value, six parts, layer, solved, wanted) → cotangents of the parts."""

    @signed
    def forward(value_bar, *args):
        *parts, layer, solved, wanted = args
        if is_traced():
            return transport_vjp_operator(value_bar, *parts, wanted, layer.text)
        return _vjp(value_bar, parts, layer, solved.of(parts), wanted)

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(TransportVjp.apply, 2, info, in_dims, args)


class TransportJvp(Derivative):
    """(six parts, their tangents, layer, solved) → tangent of the value."""

    @signed
    def forward(*args):
        *tensors, layer, solved = args
        if is_traced():
            return transport_jvp_operator(*tensors, layer.text)
        return _jvp(tensors, layer, solved.of(tensors[:6]))

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(TransportJvp.apply, 1, info, in_dims, args)


Parts = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("skgmmot::mixture_wasserstein", mutates_args=())
def transport_operator(
    w: Tensor, m: Tensor, c: Tensor, w1: Tensor, m1: Tensor, c1: Tensor, layer: str
) -> Tensor:
    """`Transport` as an operator; ``layer`` is the text of a `TransportLayer`."""
    return _value((w, m, c, w1, m1, c1), TransportLayer.read(layer))[0]


@torch.library.custom_op("skgmmot::mixture_wasserstein_vjp", mutates_args=())
def transport_vjp_operator(
    value_bar: Tensor,
    w: Tensor,
    m: Tensor,
    c: Tensor,
    w1: Tensor,
    m1: Tensor,
    c1: Tensor,
    wanted: list[bool],
    layer: str,
) -> Parts:
    """`TransportVjp` as an operator."""
    parts = w, m, c, w1, m1, c1
    return _vjp(value_bar, parts, TransportLayer.read(layer), wanted=wanted)


@torch.library.custom_op("skgmmot::mixture_wasserstein_jvp", mutates_args=())
def transport_jvp_operator(
    w: Tensor,
    m: Tensor,
    c: Tensor,
    w1: Tensor,
    m1: Tensor,
    c1: Tensor,
    w_dot: Tensor | None,
    m_dot: Tensor | None,
    c_dot: Tensor | None,
    w1_dot: Tensor | None,
    m1_dot: Tensor | None,
    c1_dot: Tensor | None,
    layer: str,
) -> Tensor:
    """`TransportJvp` as an operator."""
    dots = w_dot, m_dot, c_dot, w1_dot, m1_dot, c1_dot
    return _jvp((w, m, c, w1, m1, c1, *dots), TransportLayer.read(layer))


@transport_operator.register_fake
@transport_jvp_operator.register_fake
def _(*args):
    return args[1].new_empty(args[1].shape[:-2], dtype=_dtype(args))


@transport_vjp_operator.register_fake
def _(value_bar, *args):
    *parts, wanted, _ = args
    wanted = [wanted[0]] * 3 + [wanted[1]] * 3
    return tuple(
        part.new_empty(part.shape if want else (*value_bar.shape, 0))
        for part, want in zip(parts, wanted, strict=True)
    )


def _setup(ctx, inputs, output):
    *parts, ctx.layer = inputs
    ctx.save_for_backward(*parts)


def _backward(ctx, value_bar):
    needed = ctx.needs_input_grad
    wanted = [any(needed[:3]), any(needed[3:6])]
    bars = transport_vjp_operator(value_bar, *ctx.saved_tensors, wanted, ctx.layer)
    return *(bar if bar.numel() else None for bar in bars), None


transport_operator.register_autograd(_backward, setup_context=_setup)
transport_vjp_operator.register_autograd(refuse_second)
transport_jvp_operator.register_autograd(refuse_second)
transport_operator.register_vmap(operator_over_sets(transport_operator, 1))
transport_vjp_operator.register_vmap(operator_over_sets(transport_vjp_operator, 2))
transport_jvp_operator.register_vmap(operator_over_sets(transport_jvp_operator, 1))


@torch.compiler.assume_constant_result
def transport_text(**options):
    """The text of a `TransportLayer`; a constant for the compiler."""
    try:
        return _known_text(**options)
    except TypeError:  # lists
        return TransportLayer.of(**options).text


@lru_cache(maxsize=256, typed=True)
def _known_text(**options):
    return TransportLayer.of(**options).text


def distance(parts, text):
    """The value between two mixtures, of three tensors each, and the text of a layer."""
    if torch.compiler.is_compiling() and not is_differentiated():
        return transport_operator(*parts, text)
    return _eager(parts, text)  # also where an operator has no derivative


@eagerly
def _eager(parts, text):
    return Transport.apply(*parts, TransportLayer.read(text), Solved())
