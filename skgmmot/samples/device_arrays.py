"""Arrays on a CUDA device: which they are, and how they become CuPy's without a copy.

Nothing here imports CuPy before an array is seen that lies on a device.
"""

import sys
from contextlib import contextmanager

_CUDA, _CUDA_MANAGED = 2, 13  # kinds of devices in DLPack


def is_on_device(array):
    """Whether it is an array of CuPy."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(array, cupy.ndarray)


def lies_on_device(array):
    """Whether it is an array on a CUDA device, of any library.

    That is, of one that speaks DLPack or has ``__cuda_array_interface__``.
    """
    kind = getattr(array, "__dlpack_device__", None)
    if callable(kind) and not isinstance(array, type):
        return kind()[0] in (_CUDA, _CUDA_MANAGED)
    return hasattr(array, "__cuda_array_interface__")


def taken(array):
    """An array of CuPy that shares the memory of one on a CUDA device; all else as it is."""
    if is_on_device(array) or not lies_on_device(array):
        return array
    module = cupy()
    return module.from_dlpack(array) if hasattr(array, "__dlpack__") else module.asarray(array)


def refuse_on_device(array, name):
    """Refuse an array on a CUDA device, of any library, where only the host computes."""
    if lies_on_device(array):
        raise ValueError(
            f"{name} must be on the host, where this is computed; got an array on a CUDA device. "
            "Pass an array of NumPy, which cupy.asnumpy makes of it."
        )


def index_for(X, rows):
    """A slice, or numbers of rows, as an index of X: if it is on a device, numbers have to be."""
    return rows if isinstance(rows, slice) else module_of(X).asarray(rows)


def cupy():
    """The module `cupy`, with a device that it can reach."""
    try:
        import cupy
    except ImportError as error:
        raise ImportError(
            "Arrays on a CUDA device need CuPy. Install skgmmot[cuda12] or skgmmot[cuda13], by the "
            "version of the CUDA driver."
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(
            f"CuPy reaches no CUDA device ({error}). Look at its driver with nvidia-smi, or pass "
            "NumPy arrays."
        ) from error
    if not count:
        raise RuntimeError(
            "No CUDA device is visible. Look at CUDA_VISIBLE_DEVICES, or pass NumPy arrays."
        )
    return cupy


def module_of(array):
    """The module whose functions take an array: `cupy` or `numpy`."""
    return sys.modules["cupy" if is_on_device(array) else "numpy"]


def on_host(array):
    """A NumPy array of one that may be on a device."""
    return array.get() if is_on_device(array) else array


def device_floats(values, name, dtype=None):
    """An array of CuPy, C-contiguous, of a dtype; None: of its own, or float64 if that is none."""
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers; its dtype is {values.dtype}.")
    if dtype is None:
        dtype = "float32" if values.dtype == "float32" else "float64"
    return module_of(values).ascontiguousarray(values, dtype=dtype)


@contextmanager
def device_of(X):
    """The CUDA device of an array of CuPy as the current one; for all else nothing."""
    if not is_on_device(X):
        yield
        return
    try:
        with X.device:
            yield
    except cupy().cuda.memory.OutOfMemoryError as error:
        raise MemoryError(
            f"CUDA device {X.device.id} has not enough memory beside X, which takes "
            f"{X.nbytes / 2**20:.3g} MiB: {error} Pass float32, fewer rows at a time where a "
            "method answers for each of them, or chunks that stay on the host: "
            "ChunkedRows(cupy.asnumpy(X)), which the CPU computes."
        ) from error
