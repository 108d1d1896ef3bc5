"""Arrays on a CUDA device: which they are, and how they become CuPy's without a copy.

Nothing here imports CuPy before an array is seen that lies on a device.
"""

import sys

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
