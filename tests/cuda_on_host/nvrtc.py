"""NVRTC without a device: whether CUDA source compiles, for which architectures, and what it says.

It is called by itself, because CuPy's way to it asks for a device. The library is that of the
wheel `nvidia-cuda-nvrtc-cu12`.
"""

import ctypes
import functools
import importlib.metadata

import pytest

_WHEEL = "nvidia-cuda-nvrtc-cu12"
# Of compute_70, for which version 12 is the last: no fault of the source.
_DEPRECATED = "Architectures prior to"


@functools.cache
def library():
    """NVRTC; what needs it is skipped where it is not installed."""
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [
        file.locate() for file in files if file.name in {"libnvrtc.so.12", "nvrtc64_120_0.dll"}
    ]
    if not paths:
        pytest.skip(f"{_WHEEL} compiles CUDA source, and is not installed")
    return ctypes.CDLL(str(paths[0]))


def architectures():
    """Those that it can compile for, as 70 for compute_70."""
    count = ctypes.c_int()
    library().nvrtcGetNumSupportedArchs(ctypes.byref(count))
    found = (ctypes.c_int * count.value)()
    library().nvrtcGetSupportedArchs(found)
    return set(found)


def compiled(source, options):
    """PTX of a source, or "" where it does not compile; and what NVRTC says of it."""
    program = ctypes.c_void_p()
    library().nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"source.cu", 0, None, None
    )
    given = [option.encode() for option in options]
    status = library().nvrtcCompileProgram(
        program, len(given), (ctypes.c_char_p * len(given))(*given)
    )
    log = _text(program, "ProgramLog")
    ptx = "" if status else _text(program, "PTX")
    library().nvrtcDestroyProgram(ctypes.byref(program))
    said = [line for line in log.splitlines() if line.strip() and _DEPRECATED not in line]
    return ptx, "\n".join(said)


def _text(program, name):
    size = ctypes.c_size_t()
    getattr(library(), f"nvrtcGet{name}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library(), f"nvrtcGet{name}")(program, text)
    return text.value.decode()
