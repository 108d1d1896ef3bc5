"""Arrays that behave as those of CuPy, on the host: nothing mixes with NumPy in silence.

What CuPy does in silence but must not happen in the package is refused as well: it uploads NumPy
arrays and lists that are indices, and takes NumPy arrays in a few functions.
"""

import inspect
import types

import numpy as np

traffic = []  # what went between host and device, in order: ("up" or "down", bytes)
limit = None  # bytes that an array may have at most, or None

_KINDS = "?bhilqBHILQefdFD"


class OutOfMemoryError(MemoryError):
    """As of CuPy."""


def signature(parameters):
    """The signature of a function, from the text between its parentheses."""
    return inspect.signature(eval(f"lambda {parameters}: None"))


def wrapped(value):
    """Results of NumPy as results of CuPy: even a number is an array, of no dimension."""
    if isinstance(value, np.ndarray | np.generic | bool | int):
        return ndarray._of(np.asarray(value))
    if isinstance(value, tuple | list):
        return type(value)(map(wrapped, value))
    return value


def unwrapped(value):
    """Arguments of CuPy as arguments of NumPy: arrays have to be on the device."""
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}: it is on the host, others are not.")
    if isinstance(value, tuple | list):
        return tuple(map(unwrapped, value))
    return value


def on_device(function, parameters, *, keep=False):
    """A function of NumPy on arrays of the device, with the signature that CuPy gives it.

    With keep=True what comes back is no array, as a shape.
    """
    expected = signature(parameters)

    def call(*args, **kwargs):
        given = expected.bind(*args, **kwargs).arguments
        _check_promotion(args)
        args = [unwrapped(value) for value in args]
        kwargs = {name: unwrapped(value) for name, value in kwargs.items()}
        with np.errstate(all="ignore"):  # a device does not warn
            result = function(*args, **kwargs)
        if given.get("out") is not None:
            return given["out"]
        return result if keep else wrapped(result)

    return call


def _check_promotion(values):
    """Refuse wider scalars of NumPy: with CuPy 14 the result is as wide, with 13 it is not."""
    own = [value.dtype for value in values if isinstance(value, ndarray)]
    for value in values if own else ():
        if not isinstance(value, np.generic) or value.dtype.kind != np.result_type(*own).kind:
            continue
        if np.result_type(*own, value.dtype) != np.result_type(*own):
            raise TypeError(f"The type of {value!r} is wider than that of arrays, {own}.")


def uploaded(array, **options):
    """An array of the host on the device."""
    array = np.array(array, **options)
    traffic.append(("up", array.nbytes))
    return ndarray._of(array)


def _as_index(index):
    """An index of NumPy."""
    if isinstance(index, tuple):
        return tuple(map(_as_index, index))
    if isinstance(index, np.ndarray | list):
        raise TypeError("An index on the host is uploaded in silence. Make it an array of CuPy.")
    return unwrapped(index)


class ndarray:
    """An array of the device, which holds one of NumPy that only this module looks at."""

    __slots__ = ("_array", "_base", "__weakref__")
    __hash__ = None
    __array_priority__ = 100

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        if memptr is not None or strides is not None:
            raise NotImplementedError("memptr and strides")
        self._array, self._base = ndarray._of(np.empty(shape, dtype, order=order))._array, None
        _poison(self._array)

    @classmethod
    def _of(cls, array, base=None):
        if array.dtype.char not in _KINDS:
            raise ValueError(f"Unsupported dtype {array.dtype}")
        if limit is not None and array.base is None and array.nbytes > limit:
            raise OutOfMemoryError(
                f"Out of memory allocating {array.nbytes:,} bytes (allocated so far: 0 bytes)."
            )
        made = object.__new__(cls)
        made._array, made._base = array, base
        return made

    # --- what must not happen in silence

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct "
            "a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        from . import cupy

        function = getattr(cupy, ufunc.__name__, None)
        if method != "__call__" or function is None:
            return NotImplemented
        if out is not None:
            (kwargs["out"],) = out
        return function(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        from . import cupy

        ours = getattr(cupy, function.__name__, None)
        if ours is None or not all(issubclass(kind, ndarray | np.ndarray) for kind in types):
            return NotImplemented
        return ours(*args, **kwargs)

    # --- to the host, said aloud

    def get(self, stream=None, order="C", out=None, blocking=True):
        traffic.append(("down", self._array.nbytes))
        if out is None:
            return np.array(self._array, order=order)
        out[...] = self._array
        return out

    def item(self):
        return self.get().item()

    def tolist(self):
        return self.get().tolist()

    def _scalar(self):
        if self._array.size != 1:
            raise ValueError("Only an array of one element becomes a number.")
        return self.get().reshape(())[()]

    def __bool__(self):
        return bool(self._scalar())

    def __int__(self):
        return int(self._scalar())

    def __float__(self):
        return float(self._scalar())

    def __repr__(self):
        return repr(self._array)

    def __format__(self, form):
        return format(self._array[()] if self._array.ndim == 0 else self._array, form)

    def __reduce__(self):
        return _rebuilt, (self._array,)

    def __deepcopy__(self, memo):
        return self.copy()

    __copy__ = __deepcopy__

    # --- from the host, said aloud

    def set(self, array, stream=None):
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError("Shapes and types have to be the same.")
        traffic.append(("up", array.nbytes))
        self._array[...] = array

    # --- as NumPy

    def __getitem__(self, index):
        return ndarray._of(np.asarray(self._array[_as_index(index)]), self)

    def __setitem__(self, index, value):
        if not isinstance(value, ndarray) and not np.isscalar(value):
            raise TypeError(f"Unsupported type {type(value)}: only scalars are set from the host.")
        with np.errstate(all="ignore"):
            self._array[_as_index(index)] = unwrapped(value)

    def __len__(self):
        return len(self._array)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    itemsize = property(lambda self: self._array.itemsize)
    nbytes = property(lambda self: self._array.nbytes)
    strides = property(lambda self: self._array.strides)
    T = property(lambda self: ndarray._of(self._array.T, self))
    base = property(lambda self: self._base)

    @property
    def flags(self):
        flags = self._array.flags
        return types.SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata
        )

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._array.ctypes.data, device_id=0)

    @property
    def device(self):
        from . import cupy

        return cupy.cuda.Device(0)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        with np.errstate(all="ignore"):
            array = self._array.astype(dtype, order=order, copy=copy)
        return self if array is self._array else ndarray._of(array)

    def copy(self, order="C"):
        return ndarray._of(self._array.copy(order))

    def view(self, dtype=None, type=None):
        return ndarray._of(self._array.view(self.dtype if dtype is None else dtype), self)

    def reshape(self, *shape, order="C"):
        return ndarray._of(self._array.reshape(*shape, order=order), self)

    def ravel(self, order="C"):
        return ndarray._of(self._array.ravel(order), self)

    def flatten(self, order="C"):
        return ndarray._of(self._array.flatten(order))

    def transpose(self, *axes):
        return ndarray._of(self._array.transpose(*axes), self)

    def squeeze(self, axis=None):
        return ndarray._of(self._array.squeeze(axis), self)

    def swapaxes(self, axis1, axis2):
        return ndarray._of(self._array.swapaxes(axis1, axis2), self)

    def fill(self, value):
        self[...] = value

    def sort(self, axis=-1, kind=None):
        self._array.sort(axis)

    # --- for other libraries

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "stream": 1,
            "version": 3,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self._array.ctypes.data, False),
        }

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if stream is None:  # NumPy gives none, and would take the memory to be its own
            raise BufferError("Unsupported device in DLTensor.")
        return self._array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


def _rebuilt(array):
    return ndarray._of(array)


def _poison(array):
    """What was not written shows: NaN, or a large number."""
    if array.dtype.kind in "fc":
        array.fill(np.nan)
    elif array.dtype.kind in "iu":
        array.fill(np.iinfo(array.dtype).max // 3)


def _operator(name, ufunc, turned):
    def operate(self, other):
        if other is None or isinstance(other, str):
            return NotImplemented
        return ufunc(other, self) if turned else ufunc(self, other)

    def in_place(self, other):
        return ufunc(self, other, out=self)

    return in_place if name.startswith("i") and name not in {"invert"} else operate


for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}.items():
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc, False))
    setattr(ndarray, f"__r{_name}__", _operator(_name, _ufunc, True))
    if _name != "matmul":  # CuPy has no __imatmul__
        setattr(ndarray, f"__i{_name}__", _operator(f"i{_name}", _ufunc, False))
for _name, _ufunc in {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}.items():
    setattr(ndarray, f"__{_name}__", _operator(_name, _ufunc, False))
for _name, _ufunc in {"neg": np.negative, "abs": np.absolute, "invert": np.invert}.items():
    setattr(ndarray, f"__{_name}__", lambda self, ufunc=_ufunc: ufunc(self))
for _name, _parameters in {
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "prod": "axis=None, dtype=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "var": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "std": "axis=None, dtype=None, out=None, ddof=0, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "max": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "all": "axis=None, out=None, keepdims=False",
    "argmin": "axis=None, out=None, dtype=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "cumsum": "axis=None, dtype=None, out=None",
    "dot": "b, out=None",
    "argsort": "axis=-1, kind=None",
    "searchsorted": "v, side='left', sorter=None",
    "take": "indices, axis=None, out=None",
    "clip": "min=None, max=None, out=None",
    "repeat": "repeats, axis=None",
    "round": "decimals=0, out=None",
    "trace": "offset=0, axis1=0, axis2=1, dtype=None, out=None",
    "diagonal": "offset=0, axis1=0, axis2=1",
    "nonzero": "",
}.items():
    setattr(ndarray, _name, on_device(getattr(np, _name), f"self, {_parameters}"))
