"""Tensors of PyTorch as arrays and back, and what all our functions of its autograd share.

Rows of CUDA tensors are arrays of CuPy that share their memory. What has the size of a mixture is
on the host, and comes back to where the tensors are.
"""

import inspect
import os
import sys
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from ..checks import as_parameters
from ..estimators.state import warn_of
from ..parameters import MixtureParameters
from ..samples.device_arrays import cupy, is_on_device

PARTS = ("weights", "means", "covariances")
FLOATS = (torch.float32, torch.float64)
# Frames of ours, of PyTorch, and of what it compiles, are no lines of a user.
_NOT_OF_USERS = (
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    os.path.dirname(torch.__file__) + os.sep,
    "<eval_with_key>",
    "<string>",
)
SECOND_DERIVATIVE = (
    "skgmmot.torch has first derivatives alone. A second one was asked for, by the derivative of a "
    "gradient that create_graph=True or torch.func made. Detach that gradient, or differentiate "
    "it by finite differences."
)
_NOT_COMPILED = (
    "skgmmot.torch: what torch.func.grad, jvp and the like, or forward mode, differentiate inside "
    "a compiled function is not compiled. Compile the function that they differentiate, not the "
    "one that calls them, or leave fullgraph=True out."
)
eagerly = partial(torch.compiler.disable, reason=_NOT_COMPILED)


def checked_tensor(tensor, name, n_dims):
    """Refuse what is no dense tensor of real floating-point numbers on the CPU or in CUDA."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor; got {type(tensor).__name__}. Pass "
            "torch.as_tensor(...), or take the functions of skgmmot itself."
        )
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be dense; got {tensor.layout}. Pass {name}.to_dense().")
    if tensor.dtype not in FLOATS:
        raise ValueError(
            f"{name} must be float32 or float64; got {tensor.dtype}. Pass "
            + (f"{name}.real." if tensor.dtype.is_complex else f"{name}.to(torch.float32).")
        )
    if tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{name} is on {tensor.device}, and mixtures are fitted and compared on the CPU and on "
            f"CUDA devices. Pass {name}.cpu(), and take what comes back to the device by "
            f".to({name}.device)."
        )
    if n_dims is not None and tensor.dim() != n_dims:
        raise ValueError(
            f"{name} must have {n_dims} dimensions; got the shape {tuple(tensor.shape)}. "
            "torch.func.vmap goes over further ones."
        )


def refuse_other_device(tensor, name, like, of, cure="Pass both on one device, by .to(device)."):
    """Refuse a tensor that is not where another one is."""
    if tensor.device != like.device:
        raise ValueError(f"{of} is on {like.device}, {name} on {tensor.device}. {cure}")


def checked_inputs(X, sample_weight, initial, n_components):
    """The three initial parts, or None for each."""
    checked_tensor(X, "X", 2)
    if sample_weight is not None:
        checked_tensor(sample_weight, "sample_weight", 1)
        refuse_other_device(sample_weight, "sample_weight", X, "X")
    if initial is None:
        return None, None, None
    start = checked_triple(initial, "initial")
    refuse_other_device(start[1], "initial", X, "X")
    if n_components not in (None, start[0].shape[0]):
        raise ValueError(
            f"n_components is {n_components}, and initial has {start[0].shape[0]} components. "
            "Let them agree, or leave n_components out."
        )
    return start


def checked_triple(mixture, name):
    """The three tensors of a mixture."""
    if not consists_of_tensors(mixture):
        raise TypeError(f"{name} must be a tuple of tensors (weights, means, covariances).")
    parts = tuple(mixture)
    for part, part_name, n_dims in zip(parts, PARTS, (1, 2, None), strict=True):
        checked_tensor(part, f"{name}: the {part_name}", n_dims)
        refuse_other_device(part, f"the {part_name}", parts[0], f"{name}: the weights")
    return parts


def consists_of_tensors(mixture):
    """Whether a mixture is three tensors."""
    return isinstance(mixture, (tuple, list, MixtureParameters)) and all(
        isinstance(part, torch.Tensor) for part in mixture
    )


def read_pair(a, b):
    """The tensors of two mixtures, their covariance types where they tell them, and a dtype.

    It is that of those which the user gave as tensors.
    """
    parts, types, dtypes = [], [], []
    for mixture, name in (a, "a"), (b, "b"):
        if consists_of_tensors(mixture):
            types.append(getattr(mixture, "covariance_type", None))
            parts += checked_triple(mixture, name)
            dtypes += [part.dtype for part in parts[-3:]]
        else:
            constant = constant_mixture(mixture, name)
            types.append(constant.covariance_type)
            parts += constant
    if not dtypes:
        raise TypeError(
            "a or b must consist of tensors, and neither does. For arrays and estimators there is "
            "skgmmot.mixture_wasserstein."
        )
    both = consists_of_tensors(a) and consists_of_tensors(b)
    if both:
        refuse_other_device(parts[3], "b", parts[0], "a")
    else:  # the constant goes to the tensors
        place = parts[0 if consists_of_tensors(a) else 3].device
        parts = [part.to(place) for part in parts]
    return parts, tuple(types), torch.float64 if torch.float64 in dtypes else torch.float32


def constant_mixture(mixture, name):
    """`MixtureParameters` of tensors to which no gradient flows."""
    if consists_of_tensors(mixture):
        kind = getattr(mixture, "covariance_type", None)
        mixture = MixtureParameters(*map(array_of, checked_triple(mixture, name)), kind)
    parameters = as_parameters(mixture, name)
    return MixtureParameters(*map(torch.from_numpy, parameters), parameters.covariance_type)


def array_of(tensor):
    """An array of NumPy, which shares the memory of a tensor on the CPU; None of None.

    It is for what has the size of a mixture.
    """
    return None if tensor is None else tensor.detach().resolve_neg().cpu().numpy()


def rows_of(tensor):
    """An array that shares the memory of a tensor of rows, of CuPy in CUDA; None of None."""
    if tensor is None or not is_in_cuda(tensor):
        return array_of(tensor)
    return cupy().from_dlpack(tensor.detach().resolve_neg())


def is_in_cuda(tensor):
    """Whether a tensor is on a CUDA device."""
    return tensor.device.type == "cuda"


@contextmanager
def on_stream_of(tensor):
    """CuPy works on PyTorch's current stream, where a tensor is in CUDA."""
    if not is_in_cuda(tensor):
        yield
        return
    stream = torch.cuda.current_stream(tensor.device).cuda_stream
    with cupy().cuda.Device(tensor.device.index), cupy().cuda.ExternalStream(stream):
        yield


def as_array(option):
    """An option, of NumPy where it is a tensor."""
    return array_of(option.cpu()) if isinstance(option, torch.Tensor) else option


def tensor_of(array, dtype, device):
    """A tensor with memory of its own."""
    if is_on_device(array):
        return torch.from_dlpack(array).to(dtype, copy=True)
    return torch.from_numpy(np.array(array)).to(dtype).to(device)


def is_traced():
    """Whether operations are recorded or run on shapes alone, so that arrays would tell nothing."""
    return torch._C._len_torch_dispatch_stack() > 0


@torch.compiler.assume_constant_result
def is_differentiated():
    """Whether `torch.func` or forward mode differentiates what runs now.

    The compiler asks when it traces, and asks again where this has changed.
    """
    if torch.autograd.forward_ad._current_level >= 0:
        return True
    levels = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() != torch._C._functorch.TransformType.Vmap for level in levels)


def warn_user(complaints):
    """Warn of each, at the line of the user, however deep in PyTorch this is called."""
    if not complaints:
        return
    frame, level = sys._getframe(1), 3  # of warn_of, this, its caller
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_NOT_OF_USERS):
        frame, level = frame.f_back, level + 1
    warn_of(complaints, stacklevel=level)


def over_sets(function, place, info, in_dims, args):
    """The vmap of a function that takes sets along a first axis of all its tensors.

    ``place`` is that of an argument that has two dimensions without them. A vmap around another
    one makes a single long axis of both.
    """
    if not info.batch_size:
        raise ValueError("vmap of skgmmot.torch: there must be at least one set; got none.")
    is_nested = args[place].dim() - (in_dims[place] is not None) == 3
    folded = []
    for arg, dim in zip(args, in_dims, strict=True):
        if isinstance(arg, torch.Tensor):
            arg = arg.expand(info.batch_size, *arg.shape) if dim is None else arg.movedim(dim, 0)
            arg = arg.flatten(0, 1) if is_nested else arg
        folded.append(arg)
    outputs = function(*folded)
    single = isinstance(outputs, torch.Tensor)
    if is_nested:
        outputs = [
            out.unflatten(0, (info.batch_size, -1)) for out in ([outputs] if single else outputs)
        ]
        return (outputs[0], 0) if single else (tuple(outputs), (0,) * len(outputs))
    return outputs, 0 if single else (0,) * len(outputs)


def operator_over_sets(operator, place):
    """The vmap of an operator."""
    return lambda info, in_dims, *args: over_sets(operator, place, info, in_dims, args)


def raise_first(errors):
    """Raise the error of the first set that has one."""
    for s, error in sorted(errors.items()):
        error.add_note(f"This is set {s} along the axis of vmap.")
        raise error


def refuse_second(ctx, *_):
    """The derivative of a derivative."""
    raise NotImplementedError(SECOND_DERIVATIVE)


def signed(forward):
    """A function that remembers its signature, which PyTorch looks up in every call."""
    forward.__signature__ = inspect.signature(forward)
    return staticmethod(forward)


class Derivative(torch.autograd.Function):
    """A derivative, which has none itself: an error is better than a wrong number."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)

    backward = jvp = staticmethod(refuse_second)

    @classmethod
    def of(cls, *args):
        """`apply`, but where nobody could ask for a derivative: without a node in the graph."""
        if (
            torch.is_grad_enabled()
            or torch._C._are_functorch_transforms_active()
            or torch.autograd.forward_ad._current_level >= 0
        ):
            return cls.apply(*args)
        return cls.forward(*args)
