"""The module that stands in for `cupy`: what is named here, and nothing else of it.

Signatures are those of CuPy 14.2. Version 13.2 has them all, but for keywords of `asarray`.
"""

import sys
import types

import numpy as np

from . import arrays, kernels
from .arrays import OutOfMemoryError, ndarray, on_device, unwrapped, uploaded, wrapped

__version__ = "13.0.0"

newaxis, inf, nan, pi, e = None, np.inf, np.nan, np.pi, np.e
bool_, dtype, generic, number = np.bool_, np.dtype, np.generic, np.number
int8, int16, int32, int64, intp = np.int8, np.int16, np.int32, np.int64, np.intp
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
float16, float32, float64, floating, integer = (
    np.float16,
    np.float32,
    np.float64,
    np.floating,
    np.integer,
)
iinfo, finfo, isscalar = np.iinfo, np.finfo, np.isscalar

_UNARY = "x, out=None, *, dtype=None, casting='same_kind'"
_BINARY = "x1, x2, out=None, *, dtype=None, casting='same_kind'"

_UFUNCS = """
exp log log1p expm1 log2 exp2 isfinite isinf isnan sqrt square abs absolute fabs sign signbit
negative positive reciprocal logical_not invert floor ceil rint trunc sin cos tan tanh conjugate
minimum maximum fmax fmin logaddexp ldexp copysign power add subtract multiply divide true_divide
floor_divide remainder mod equal not_equal less less_equal greater greater_equal logical_and
logical_or logical_xor bitwise_and bitwise_or bitwise_xor hypot arctan2 nextafter matmul
"""
# Functions, and their parameters in CuPy.
_FUNCTIONS = """\
concatenate: tup, axis=0, out=None, *, dtype=None, casting='same_kind'
stack: tup, axis=0, out=None, *, dtype=None, casting='same_kind'
vstack: tup, *, dtype=None, casting='same_kind'
hstack: tup, *, dtype=None, casting='same_kind'
split: ary, indices_or_sections, axis=0
array_split: ary, indices_or_sections, axis=0
dot: a, b, out=None
outer: a, b, out=None
einsum: *operands, **kwargs
tensordot: a, b, axes=2
where: condition, x=None, y=None
clip: a, a_min, a_max, out=None
argsort: a, axis=-1, kind=None
sort: a, axis=-1, kind=None
lexsort: keys
nonzero: a
flatnonzero: a
count_nonzero: a, axis=None
sum: a, axis=None, dtype=None, out=None, keepdims=False
prod: a, axis=None, dtype=None, out=None, keepdims=False
mean: a, axis=None, dtype=None, out=None, keepdims=False
var: a, axis=None, dtype=None, out=None, ddof=0, keepdims=False
std: a, axis=None, dtype=None, out=None, ddof=0, keepdims=False
min: a, axis=None, out=None, keepdims=False
max: a, axis=None, out=None, keepdims=False
amin: a, axis=None, out=None, keepdims=False
amax: a, axis=None, out=None, keepdims=False
any: a, axis=None, out=None, keepdims=False
all: a, axis=None, out=None, keepdims=False
cumsum: a, axis=None, dtype=None, out=None
cumprod: a, axis=None, dtype=None, out=None
argmax: a, axis=None, dtype=None, out=None, keepdims=False
argmin: a, axis=None, dtype=None, out=None, keepdims=False
broadcast_to: array, shape
broadcast_arrays: *args
searchsorted: a, v, side='left', sorter=None
unique: ar, return_index=False, return_inverse=False, return_counts=False, axis=None
take: a, indices, axis=None, out=None
take_along_axis: a, indices, axis
allclose: a, b, rtol=1e-05, atol=1e-08, equal_nan=False
array_equal: a1, a2, equal_nan=False
isclose: a, b, rtol=1e-05, atol=1e-08, equal_nan=False
squeeze: a, axis=None
expand_dims: a, axis
moveaxis: a, source, destination
swapaxes: a, axis1, axis2
transpose: a, axes=None
ravel: a, order='C'
reshape: a, newshape, order='C'
repeat: a, repeats, axis=None
tile: A, reps
diag: v, k=0
diagonal: a, offset=0, axis1=0, axis2=1
triu: m, k=0
tril: m, k=0
trace: a, offset=0, axis1=0, axis2=1, dtype=None, out=None
atleast_1d: *arys
atleast_2d: *arys
flip: a, axis=None
roll: a, shift, axis=None
copyto: dst, src, casting='same_kind', where=None
copy: a, order='K'
bincount: x, weights=None, minlength=None
diff: a, n=1, axis=-1, prepend=None, append=None
nan_to_num: x, copy=True, nan=0.0, posinf=None, neginf=None
zeros_like: a, dtype=None, order='K', *, shape=None
ones_like: a, dtype=None, order='K', *, shape=None
full_like: a, fill_value, dtype=None, order='K', *, shape=None
zeros: shape, dtype=float, order='C'
ones: shape, dtype=float, order='C'
full: shape, fill_value, dtype=None, order='C'
arange: start, stop=None, step=1, dtype=None
linspace: start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0
eye: N, M=None, k=0, dtype=float, order='C'
identity: n, dtype=float
"""
# Those that return no arrays.
_FACTS = """\
shape: a
ndim: a
size: a, axis=None
may_share_memory: a, b, max_work=None
shares_memory: a, b, max_work=None
result_type: *arrays_and_dtypes
can_cast: from_, to, casting='safe'
"""


def _named(lines, **options):
    """Functions of NumPy for the lines of a list, by name."""
    for line in lines.splitlines():
        name, _, parameters = line.partition(": ")
        yield name, on_device(getattr(np, name), parameters, **options)


for _name in _UFUNCS.split():
    _ufunc = getattr(np, _name)
    globals()[_name] = on_device(_ufunc, _UNARY if _ufunc.nin == 1 else _BINARY)
globals().update(_named(_FUNCTIONS))
globals().update(_named(_FACTS, keep=True))


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype, order=order)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    made = wrapped(np.empty_like(prototype._array, dtype, order, shape=shape))
    arrays._poison(made._array)
    return made


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    if isinstance(obj, ndarray):
        made = np.array(obj._array, dtype, copy=copy or None, order=order, ndmin=ndmin)
        return obj if made is obj._array else wrapped(made)
    if isinstance(obj, list | tuple) and any(isinstance(value, ndarray) for value in obj):
        return wrapped(np.array(unwrapped(obj), dtype))
    shared = getattr(obj, "__cuda_array_interface__", None)
    if shared is not None:
        shared = np.asarray(types.SimpleNamespace(__array_interface__=shared))
        return array(ndarray._of(shared, obj), dtype, copy, order)
    return uploaded(obj, dtype=dtype, order=order, ndmin=ndmin)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy=bool(copy), order=order or "K")


asanyarray = asarray


def ascontiguousarray(a, dtype=None):
    return array(a, dtype, copy=False, order="C", ndmin=1)


def asfortranarray(a, dtype=None):
    return array(a, dtype, copy=False, order="F", ndmin=1)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def get_array_module(*args):
    return sys.modules[__name__] if any(isinstance(a, ndarray) for a in args) else np


def from_dlpack(array):
    """Shares the memory of one that says that it is on a CUDA device."""
    if isinstance(array, ndarray):
        return array.view()
    if array.__dlpack_device__()[0] not in (2, 13):
        raise BufferError("It is not on a CUDA device, and would be uploaded in silence.")
    stream = cuda.get_current_stream().ptr or 1
    shared = types.SimpleNamespace(
        __dlpack__=lambda **options: array.__dlpack__(stream=stream),
        __dlpack_device__=lambda: (1, 0),
    )
    return ndarray._of(np.from_dlpack(shared), array)


class MemoryPool:
    """A limit holds for each array by itself, because nothing here counts what is freed."""

    def set_limit(self, size=None, fraction=None):
        arrays.limit = size or None

    def get_limit(self):
        return arrays.limit or 0

    def used_bytes(self):
        return 0

    total_bytes = free_bytes = used_bytes

    def free_all_blocks(self, stream=None):
        pass


_pool = MemoryPool()


def get_default_memory_pool():
    return _pool


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(f"error {status}")


class Device:
    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)
        self.attributes = {"MaxSharedMemoryPerBlockOptin": 101376, "MultiProcessorCount": 2}
        self.compute_capability = "70"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def use(self):
        return self

    def synchronize(self):
        pass

    mem_info = 2**33, 2**34  # free, and in all


class Stream:
    """A stream; `with` makes it the current one."""

    _current: list = []

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None, *, ptr=None):
        self.ptr = 0 if null else id(self) if ptr is None else ptr

    def __enter__(self):
        Stream._current.append(self)
        return self

    def __exit__(self, *error):
        Stream._current.pop()

    def __eq__(self, other):
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self):
        return hash(self.ptr)

    def use(self):
        Stream._current[-1:] = [self]
        return self

    def synchronize(self):
        pass


def ExternalStream(ptr, device_id=-1):
    return Stream(ptr=ptr)


Stream.null = Stream(null=True)


def get_current_stream(device_id=-1):
    return Stream._current[-1] if Stream._current else Stream.null


RawModule = kernels.RawModule
runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDevice=lambda: 0,
    getDeviceCount=lambda: 1,
    memGetInfo=lambda: Device.mem_info,
    deviceSynchronize=lambda: None,
)
cuda = types.SimpleNamespace(
    runtime=runtime,
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    compiler=types.SimpleNamespace(CompileException=kernels.CompileException),
    Device=Device,
    Stream=Stream,
    ExternalStream=ExternalStream,
    get_current_stream=get_current_stream,
)
