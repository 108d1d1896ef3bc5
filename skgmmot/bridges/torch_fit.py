"""A fit as a function of PyTorch's autograd, and as an operator that it can compile.

Eager code calls `Fit`, which has both modes of derivatives. A compiled graph calls the operator
``skgmmot::fit_mixture``, of which the compiler knows the shapes, and which has reverse mode alone.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..functions.layer import MixtureLayer, layer_of
from .torch_tensors import (
    Derivative,
    array_of,
    as_array,
    each_set,
    refuse_second,
    tensor_of,
    warn_user,
)


class Kept:
    """What a fit leaves for its derivatives beside tensors: steps that need not be made again."""

    def __init__(self):
        self.fitted = self.record = None

    def of(self, record):
        """The fitted estimator, if it is that of a record."""
        same = self.record is not None and self.record.data_ptr() == record.data_ptr()
        return self.fitted if same else None


def _fit(X, sample_weight, initial, layer):
    """Weights, means, covariances and the record, and the fitted estimator."""
    initial = None if initial[0] is None else tuple(map(array_of, initial))
    fit = layer.fit(array_of(X), array_of(sample_weight), initial)
    warn_user(fit.complaints)
    parts = (tensor_of(part, X.dtype) for part in fit.parameters)
    return (*parts, torch.from_numpy(fit.record)), fit.fitted


def _vjp(record, X, sample_weight, bars, layer, fitted, dtypes):
    """Cotangents of X, of the weights and of the three initial parts, empty where there are none.

    ``dtypes`` are those of the last four, None of what is not wanted.
    """
    wrt_weight = any(dtype is not None for dtype in dtypes)
    found = layer.vjp(
        record.numpy(),
        array_of(X),
        array_of(sample_weight),
        tuple(map(array_of, bars)),
        wrt_weight=wrt_weight,
        fitted=fitted,
    )
    warn_user(found.complaints)
    initial = found.initial or (None, None, None)
    others = (
        torch.empty(0) if bar is None or dtype is None else tensor_of(bar, dtype)
        for bar, dtype in zip((found.sample_weight, *initial), dtypes, strict=True)
    )
    return tensor_of(found.data, X.dtype), *others


class Fit(torch.autograd.Function):
    """(X, sample_weight, three initial parts, layer, kept) → (weights, means, covariances, record).

    The sample weights and the initial parts are None where not given.
    """

    @staticmethod
    def forward(X, sample_weight, w0, m0, c0, layer, kept):
        outputs, kept.fitted = _fit(X, sample_weight, (w0, m0, c0), layer)
        kept.record = outputs[3].detach()
        return outputs

    @staticmethod
    def setup_context(ctx, inputs, output):
        X, sample_weight, *initial, ctx.layer, ctx.kept = inputs
        ctx.dtypes = [None if part is None else part.dtype for part in (sample_weight, *initial)]
        ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(X, sample_weight, output[3])
        ctx.save_for_forward(X, sample_weight, output[3])

    @staticmethod
    def backward(ctx, *bars):
        X, sample_weight, record = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:5]
        dtypes = [dtype if need else None for dtype, need in zip(ctx.dtypes, needed, strict=True)]
        found = FitVjp.apply(record, X, sample_weight, *bars[:3], ctx.layer, ctx.kept, dtypes)
        return *(bar if bar.numel() else None for bar in found), None, None

    @staticmethod
    def jvp(ctx, X_dot, weight_dot, w0_dot, m0_dot, c0_dot, *_):
        X, sample_weight, record = ctx.saved_tensors
        dots = X_dot, weight_dot, w0_dot, m0_dot, c0_dot
        return *FitJvp.apply(record, X, sample_weight, *dots, ctx.layer, ctx.kept), None

    @staticmethod
    def vmap(info, in_dims, *args):
        return each_set(lambda *of_one: Fit.apply(*of_one[:-1], Kept()), info, in_dims, args)


class FitVjp(Derivative):
    """(record, X, sample_weight, three cotangents, layer, kept, dtypes) → those of all inputs."""

    @staticmethod
    def forward(record, X, sample_weight, w_bar, m_bar, c_bar, layer, kept, dtypes):
        bars = w_bar, m_bar, c_bar
        return _vjp(record, X, sample_weight, bars, layer, kept.of(record), dtypes)

    @staticmethod
    def vmap(info, in_dims, *args):
        return each_set(FitVjp.apply, info, in_dims, args)


class FitJvp(Derivative):
    """(record, X, sample_weight, tangents of the five inputs, layer, kept) → the three tangents."""

    @staticmethod
    def forward(record, X, sample_weight, X_dot, weight_dot, w0_dot, m0_dot, c0_dot, layer, kept):
        initial_dot = [array_of(dot) for dot in (w0_dot, m0_dot, c0_dot)]
        if all(dot is None for dot in initial_dot):
            initial_dot = None
        tangent, complaints = layer.jvp(
            record.numpy(),
            array_of(X),
            array_of(sample_weight),
            array_of(X_dot),
            array_of(weight_dot),
            initial_dot,
            fitted=kept.of(record),
        )
        warn_user(complaints)
        return tuple(tensor_of(part, X.dtype) for part in tangent)

    @staticmethod
    def vmap(info, in_dims, *args):
        return each_set(FitJvp.apply, info, in_dims, args)


Parts = tuple[Tensor, Tensor, Tensor, Tensor]
Bars = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("skgmmot::fit_mixture", mutates_args=())
def fit_operator(
    X: Tensor,
    sample_weight: Tensor | None,
    w0: Tensor | None,
    m0: Tensor | None,
    c0: Tensor | None,
    layer: str,
) -> Parts:
    """`Fit` as an operator; ``layer`` is the text of a `MixtureLayer`."""
    return _fit(X, sample_weight, (w0, m0, c0), layer_of_text(layer))[0]


@torch.library.custom_op("skgmmot::fit_mixture_vjp", mutates_args=())
def fit_vjp_operator(
    record: Tensor,
    X: Tensor,
    sample_weight: Tensor | None,
    w0: Tensor | None,
    m0: Tensor | None,
    c0: Tensor | None,
    w_bar: Tensor,
    m_bar: Tensor,
    c_bar: Tensor,
    layer: str,
) -> Bars:
    """`FitVjp` as an operator; the initial parts tell what is wanted, and its dtype."""
    dtypes = [None if part is None else part.dtype for part in (sample_weight, w0, m0, c0)]
    bars = w_bar, m_bar, c_bar
    return _vjp(record, X, sample_weight, bars, layer_of_text(layer), None, dtypes)


@fit_operator.register_fake
def _(X, sample_weight, w0, m0, c0, layer):
    layer, n_features = layer_of_text(layer), X.shape[1]
    parts = (X.new_empty(shape) for shape in layer.shapes(n_features))
    return *parts, X.new_empty(layer.record_size(n_features), dtype=torch.float64)


@fit_vjp_operator.register_fake
def _(record, X, sample_weight, w0, m0, c0, w_bar, m_bar, c_bar, layer):
    wanted = [
        sample_weight,
        *((w0, m0, c0) if layer_of_text(layer).has_initial_derivative else 3 * [None]),
    ]
    nothing = X.new_empty(0, dtype=torch.float32)
    others = (nothing.clone() if part is None else torch.empty_like(part) for part in wanted)
    return torch.empty_like(X, memory_format=torch.contiguous_format), *others


def _setup(ctx, inputs, output):
    *tensors, ctx.layer = inputs
    ctx.save_for_backward(output[3], *tensors)


def _backward(ctx, w_bar, m_bar, c_bar, _):
    bars = (bar.contiguous() for bar in (w_bar, m_bar, c_bar))
    found = torch.ops.skgmmot.fit_mixture_vjp(*ctx.saved_tensors, *bars, ctx.layer)
    has_initial = layer_of_text(ctx.layer).has_initial_derivative
    there = [part is not None for part in ctx.saved_tensors[1:]]
    there[2:] = [has_initial and part for part in there[2:]]
    return *(bar if part else None for bar, part in zip(found, there, strict=True)), None


fit_operator.register_autograd(_backward, setup_context=_setup)
fit_vjp_operator.register_autograd(refuse_second)


@fit_operator.register_vmap
def _(info, in_dims, *args):
    return each_set(fit_operator, info, in_dims, args)


@fit_vjp_operator.register_vmap
def _(info, in_dims, *args):
    return each_set(fit_vjp_operator, info, in_dims, args)


@lru_cache(maxsize=256)
def layer_of_text(text):
    """The layer that wrote a text."""
    return MixtureLayer(text)


@torch.compiler.assume_constant_result
def layer_text(**options):
    """The text of a `MixtureLayer`; a constant for the compiler."""
    return layer_of(**{name: as_array(value) for name, value in options.items()}).text


def fitted(X, sample_weight, start, text):
    """Weights, means and covariances; ``start`` are the three initial parts, or None for each."""
    if torch.compiler.is_compiling():
        return fit_operator(X, sample_weight, *start, text)[:3]
    return Fit.apply(X, sample_weight, *start, layer_of_text(text), Kept())[:3]
