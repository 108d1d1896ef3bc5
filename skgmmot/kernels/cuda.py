"""The GPU kernels: CUDA source that is compiled when a device first needs it, and launched.

The source stands in files of its own (``mixture.cu`` begins with how it works). It is compiled by
NVRTC for each device and dtype of the samples; CuPy keeps the result in its cache on disk.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

SOURCES = "mixture.cu", "mixture_sums.cu", "mixture_derivatives.cu", "mixture_tiles.cu"
# As in the source: components and features of which a thread has sums; features, or samples, that
# are in shared memory at a time; features and samples of a block that pulls back; and flags.
PART, CHUNK, STRIP, COLUMN, DIAGONAL, KEEPS = 4, 16, 32, 64, 1, 2
SHARED = 64 * 1024  # bytes that a block may have on every device since compute capability 7.0
_SHARED_UNASKED = 48 * 1024
_NULL = np.intp(0)

_COLUMNS = 8  # of a block of `add_up`, as in the source
_LANES = 32


@lru_cache(maxsize=1)
def source():
    """All of the CUDA source."""
    folder = Path(__file__).parent
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in SOURCES)


@lru_cache(maxsize=64)
def _module(cupy, options):
    return cupy.RawModule(code=source(), options=options)


@lru_cache(maxsize=256)
def _kernel(cupy, options, name):
    return _module(cupy, options).get_function(name)


def options_of(dtype, has_apart=False):
    """How the source is compiled for a dtype of samples."""
    real = "float" if dtype == np.float32 else "double"
    return f"-DREAL={real}", f"-DAPART={int(has_apart)}"


def launch(cupy, dtype, name, n_blocks, n_threads, arguments, *, shared=0, has_apart=False):
    """Run a kernel on the current stream.

    Parameters
    ----------
    cupy : module
    dtype : dtype of the samples
    name : str
    n_blocks, n_threads : int
    arguments : sequence
        Arrays on the device, or None for no array; int for ``int``, NumPy scalars as they are.
    shared : int, bytes of shared memory of a block
    has_apart : bool
        Whether a fused kernel has components that go the centered way.
    """
    kernel = _kernel(cupy, options_of(dtype, has_apart), name)
    if shared > _SHARED_UNASKED:
        kernel.max_dynamic_shared_size_bytes = shared
    given = tuple(
        _NULL if own is None else np.int32(own) if type(own) is int else own for own in arguments
    )
    kernel((n_blocks,), (n_threads,), given, shared_mem=shared)


def add_up(cupy, dtype, array):
    """The sums of the columns of a float64 array on the device, in an order of its shape alone."""
    n_rows, n_columns = array.shape
    sums = cupy.empty(n_columns)
    n_threads = _COLUMNS * _LANES
    n_blocks = -(-n_columns // _COLUMNS)
    arguments = array, n_rows, n_columns, sums
    launch(cupy, dtype, "add_up", n_blocks, n_threads, arguments, shared=8 * n_threads)
    return sums
