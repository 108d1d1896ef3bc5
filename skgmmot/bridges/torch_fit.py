"""A fit as a function of PyTorch's autograd, and as an operator that it can compile.

Eager code calls `Fit`, which has both modes of derivatives. A compiled graph calls the operator
``skgmmot::fit_mixture``, of which the compiler knows the shapes, and which has reverse mode alone.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..functions.layer import MixtureLayer, layer_of
from ..functions.layer_sets import fit_each, jvp_each, vjp_each
from ..functions.mixture_fits import told_of_sets
from .torch_tensors import (
    Derivative,
    array_of,
    as_array,
    eagerly,
    is_differentiated,
    is_traced,
    on_stream_of,
    operator_over_sets,
    over_sets,
    raise_first,
    refuse_second,
    rows_of,
    signed,
    tensor_of,
    warn_user,
)


class Kept:
    """What a fit leaves for its derivatives beside tensors: steps that need not be made again."""

    def __init__(self):
        self.fitted = self.record = None

    def of(self, record):
        """The fitted estimator, if it is that of a record, which is an array."""
        same = self.record is not None and self.record.data_ptr() == record.ctypes.data
        return self.fitted if same else None


@eagerly
def _fit(X, sample_weight, initial, layer):
    """Weights, means, covariances and the record, and the fitted estimator of a single set."""
    initial = None if initial[0] is None else tuple(map(array_of, initial))
    fitted = None
    with on_stream_of(X):
        arrays = rows_of(X), rows_of(sample_weight), initial
        if X.dim() == 3:
            parameters, record, complaints, errors = fit_each(layer, *arrays)
            raise_first(errors)
            complaints = told_of_sets(complaints, len(X))
        else:
            parameters, record, complaints, fitted = layer.fit(*arrays)
    warn_user(complaints)
    parts = (tensor_of(part, X.dtype, X.device) for part in parameters)
    return (*parts, torch.from_numpy(record)), fitted


@eagerly
def _vjp(record, X, sample_weight, bars, wanted, layer, kept=None):
    """Cotangents of X, of the weights and of the initial parts, empty of what there is none."""
    record, bars = record.numpy(), tuple(map(array_of, bars))
    find = _nothing if kept is None else kept.of
    with on_stream_of(X):
        arrays = rows_of(X), rows_of(sample_weight)
        if X.dim() == 3:
            options = {"wrt_weight": any(wanted), "find": find}
            found, errors = vjp_each(layer, record, *arrays, bars, **options)
            raise_first(errors)
            complaints, empty = told_of_sets(found.complaints, len(X)), X.new_empty(len(X), 0)
        else:
            options = {"wrt_weight": any(wanted), "fitted": find(record)}
            found = layer.vjp(record, *arrays, bars, **options)
            complaints, empty = found.complaints, X.new_empty(0)
        warn_user(complaints)
        initial = found.initial or (None, None, None)
        others = [
            tensor_of(bar, X.dtype, X.device) if want and bar is not None else empty.clone()
            for bar, want in zip((found.sample_weight, *initial), wanted, strict=True)
        ]
        return tensor_of(found.data, X.dtype, X.device), *others


@eagerly
def _jvp(record, X, sample_weight, dots, layer, kept=None):
    """Tangents of the weights, means and covariances."""
    record, find = record.numpy(), _nothing if kept is None else kept.of
    with on_stream_of(X):
        arrays = rows_of(X), rows_of(sample_weight)
        dots = *map(rows_of, dots[:2]), *map(array_of, dots[2:])
        if X.dim() == 3:
            tangent, complaints, errors = jvp_each(layer, record, *arrays, dots, find=find)
            raise_first(errors)
            complaints = told_of_sets(complaints, len(X))
        else:
            X_dot, weight_dot, *initial_dot = dots
            if all(dot is None for dot in initial_dot):
                initial_dot = None
            dots = X_dot, weight_dot, initial_dot
            tangent, complaints = layer.jvp(record, *arrays, *dots, fitted=find(record))
    warn_user(complaints)
    return tuple(tensor_of(part, X.dtype, X.device) for part in tangent)


def _nothing(record):
    return None


def _dtypes(tensors):
    return [None if tensor is None else tensor.dtype for tensor in tensors]


def _in_dtypes(bars, dtypes):
    """Cotangents in the dtypes of their inputs, None for those that are empty."""
    return tuple(
        bar.to(dtype) if bar.numel() else None for bar, dtype in zip(bars, dtypes, strict=True)
    )


class Fit(torch.autograd.Function):
    """(X, sample_weight, three initial parts, layer, kept) → (weights, means, covariances, record).

    The sample weights and the initial parts are None where not given. All tensors may have a first
    axis for sets, and so they do below.
    """

    @signed
    def forward(X, sample_weight, w0, m0, c0, layer, kept):
        if is_traced():
            return fit_operator(X, sample_weight, w0, m0, c0, layer.text)
        outputs, kept.fitted = _fit(X, sample_weight, (w0, m0, c0), layer)
        kept.record = outputs[3].detach()
        return outputs

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.layer, ctx.kept = inputs
        ctx.dtypes = _dtypes(tensors)
        ctx.mark_non_differentiable(output[3])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output[3], *tensors[:2])
        ctx.save_for_forward(output[3], *tensors[:2])

    @staticmethod
    def backward(ctx, *bars):
        wanted = list(ctx.needs_input_grad[1:5])
        found = FitVjp.of(*ctx.saved_tensors, *bars[:3], wanted, ctx.layer, ctx.kept)
        return *_in_dtypes(found, ctx.dtypes), None, None

    @staticmethod
    def jvp(ctx, *dots):
        return *FitJvp.apply(*ctx.saved_tensors, *dots[:5], ctx.layer, ctx.kept), None

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(Fit.apply, 0, info, in_dims, (*args[:-1], Kept()))


class FitVjp(Derivative):
    """(record, X, sample_weight, three cotangents, wanted, layer, kept) → those of all inputs.

    ``wanted`` tells whether those of the sample weights and of the initial parts are; what is not,
    or plays no part in the mode, is empty.
    """

    @signed
    def forward(record, X, sample_weight, w_bar, m_bar, c_bar, wanted, layer, kept):
        bars = w_bar, m_bar, c_bar
        if is_traced():
            return fit_vjp_operator(record, X, sample_weight, *bars, wanted, layer.text)
        return _vjp(record, X, sample_weight, bars, wanted, layer, kept)

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(FitVjp.apply, 1, info, in_dims, args)


class FitJvp(Derivative):
    """(record, X, sample_weight, tangents of the five inputs, layer, kept) → the three tangents."""

    @signed
    def forward(record, X, sample_weight, X_dot, weight_dot, w0_dot, m0_dot, c0_dot, layer, kept):
        dots = X_dot, weight_dot, w0_dot, m0_dot, c0_dot
        if is_traced():
            return fit_jvp_operator(record, X, sample_weight, *dots, layer.text)
        return _jvp(record, X, sample_weight, dots, layer, kept)

    @staticmethod
    def vmap(info, in_dims, *args):
        return over_sets(FitJvp.apply, 1, info, in_dims, args)


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
    w_bar: Tensor | None,
    m_bar: Tensor | None,
    c_bar: Tensor | None,
    wanted: list[bool],
    layer: str,
) -> Bars:
    """`FitVjp` as an operator."""
    bars = w_bar, m_bar, c_bar
    return _vjp(record, X, sample_weight, bars, wanted, layer_of_text(layer))


@torch.library.custom_op("skgmmot::fit_mixture_jvp", mutates_args=())
def fit_jvp_operator(
    record: Tensor,
    X: Tensor,
    sample_weight: Tensor | None,
    X_dot: Tensor | None,
    weight_dot: Tensor | None,
    w0_dot: Tensor | None,
    m0_dot: Tensor | None,
    c0_dot: Tensor | None,
    layer: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """`FitJvp` as an operator."""
    dots = X_dot, weight_dot, w0_dot, m0_dot, c0_dot
    return _jvp(record, X, sample_weight, dots, layer_of_text(layer))


@fit_operator.register_fake
def _(X, sample_weight, w0, m0, c0, layer):
    layer, (*sets, _, n_features) = layer_of_text(layer), X.shape
    parts = (X.new_empty((*sets, *shape)) for shape in layer.shapes(n_features))
    size = layer.record_size(n_features)
    return *parts, X.new_empty((*sets, size), dtype=torch.float64, device="cpu")


@fit_vjp_operator.register_fake
def _(record, X, sample_weight, w_bar, m_bar, c_bar, wanted, layer):
    layer = layer_of_text(layer)
    *sets, n_samples, n_features = X.shape
    shapes = [(n_samples,), *layer.shapes(n_features)]
    if not layer.has_initial_derivative:
        wanted = [wanted[0], False, False, False]
    others = (
        X.new_empty((*sets, *(shape if want else (0,))))
        for shape, want in zip(shapes, wanted, strict=True)
    )
    return X.new_empty(X.shape), *others


@fit_jvp_operator.register_fake
def _(record, X, *args):
    *sets, _, n_features = X.shape
    return tuple(X.new_empty((*sets, *s)) for s in layer_of_text(args[-1]).shapes(n_features))


def _setup(ctx, inputs, output):
    *tensors, ctx.layer = inputs
    ctx.dtypes = _dtypes(tensors)
    ctx.save_for_backward(output[3], *tensors[:2])


def _backward(ctx, w_bar, m_bar, c_bar, _):
    wanted = list(ctx.needs_input_grad[1:5])
    found = fit_vjp_operator(*ctx.saved_tensors, w_bar, m_bar, c_bar, wanted, ctx.layer)
    return *_in_dtypes(found, ctx.dtypes), None


fit_operator.register_autograd(_backward, setup_context=_setup)
fit_vjp_operator.register_autograd(refuse_second)
fit_jvp_operator.register_autograd(refuse_second)


for _operator, _place in (fit_operator, 0), (fit_vjp_operator, 1), (fit_jvp_operator, 1):
    _operator.register_vmap(operator_over_sets(_operator, _place))


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
    if torch.compiler.is_compiling() and not is_differentiated():
        return fit_operator(X, sample_weight, *start, text)[:3]
    return _eager(X, sample_weight, start, text)  # also where an operator has no derivative


@eagerly
def _eager(X, sample_weight, start, text):
    return Fit.apply(X, sample_weight, *start, layer_of_text(text), Kept())[:3]
