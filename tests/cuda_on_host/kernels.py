"""CUDA source, compiled by g++ and launched on the host: what stands in for `cupy.RawModule`.

`cuda_on_host.h` says how threads and shared memory are mapped. Launches are checked as on a device
or more strictly: types and layout of arguments, sizes of blocks and of shared memory, and what is
written outside of arrays. `recorded` keeps launches, and `what_sanitizers_see` repeats them in a
program of its own, with threads of the operating system.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from .arrays import ndarray

HEADER = Path(__file__).parent / "cuda_on_host.h"
# A seed of the order in which threads of a block take turns, or 0 for their own order.
order = 0
_recorders = []  # lists that launches are added to
_GUARD = 4096  # bytes around a copy of an array
_ALIGNED = 16  # bytes: as far as that a copy begins where the array does
_POISON = 0xFF  # NaN of floats, -1 of integers
# Those that say something about the source; what depends on how it is optimized varies.
_WARNINGS = "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function", "-Wno-maybe-uninitialized"
_DTYPES = {
    "double": np.float64,
    "float": np.float32,
    "int": np.int32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "unsigned char": np.uint8,
    "bool": np.bool_,
}
# Bytes of shared memory that a block may have: unasked, and asked for on the smallest device that
# CuPy 14 knows (compute capability 7.5).
SHARED_UNASKED, SHARED_MOST = 48 * 1024, 64 * 1024


class Parameter(NamedTuple):
    """A parameter of a kernel."""

    name: str
    kind: str  # as in the source, without const
    is_array: bool
    dtype: np.dtype


class Launch(NamedTuple):
    """A launch, with arguments as they were before it: arrays, NumPy scalars or None."""

    code: str
    macros: tuple
    name: str
    grid: tuple
    block: int
    shared: int
    arguments: tuple
    offsets: tuple  # of arrays, from a place that is aligned


class CompileException(Exception):
    """As `cupy.cuda.compiler.CompileException`."""


@functools.cache
def parameters_of(code, macros=()):
    """The parameters of all kernels of a source, in order: name to a list of `Parameter`."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", code, flags=re.DOTALL)
    replaced = dict(macro[2:].split("=") for macro in macros if "=" in macro)
    kernels = {}
    for name, text in re.findall(
        r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)',
        code,
    ):
        kernels[name] = []
        for own in filter(str.strip, text.split(",")):
            kind, own_name = re.fullmatch(r"\s*(.*?)\s*(\w+)\s*", own, re.DOTALL).groups()
            words = re.sub(r"\bconst\b|\b__restrict__\b|\*", " ", kind).split()
            kind_only = " ".join(replaced.get(word, word) for word in words)
            if kind_only not in _DTYPES or kind.count("*") > 1:
                raise CompileException(f"{name}: the type of {own_name} is unknown, {kind}")
            dtype = np.dtype(_DTYPES[kind_only])
            kernels[name].append(Parameter(own_name, kind_only, "*" in kind, dtype))
    return kernels


def translated(code, macros=()):
    """Source for g++: shared memory as a pointer, and a table of the kernels."""
    code, n_shared = re.subn(
        r"extern\s+__shared__\s+(\w+)\s+(\w+)\s*\[\s*\]\s*;",
        r"\1 *const \2 = reinterpret_cast<\1 *>(cuda_on_host::shared());",
        code,
    )
    if "__shared__" in code:
        raise CompileException("Only dynamic shared memory is mapped: extern __shared__ T name[].")
    entries = []
    for name, parameters in parameters_of(code, macros).items():
        values = ", ".join(
            f"*static_cast<{own.kind}{' *' * own.is_array} *>(a[{i}])"
            for i, own in enumerate(parameters)
        )
        entries.append(f'    {{"{name}", [](void **a) {{ (void)a; {name}({values}); }}}},')
    table = "\n".join(["const cuda_on_host::Kernel cuda_on_host::kernels[] = {", *entries, "};"])
    return f'#include "{HEADER}"\n#line 1 "source.cu"\n{code}\n{table}\n'


def compiled(code, macros=(), options=()):
    """The path of what g++ makes of a source; it is kept in a folder for temporary files."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("kernels are compiled for the host by g++ on Linux")
    import fcntl  # which Windows has not

    text = translated(code, macros)
    command = [compiler, "-std=c++17", "-O2", "-U_FORTIFY_SOURCE", *_WARNINGS, *macros]
    command += options or ["-shared", "-fPIC"]
    key = hashlib.sha256("\0".join([*command, text, HEADER.read_text()]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"cuda_on_host-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / key[:32]
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a process that wants the same waits for it
        if not path.exists():
            _compile(command, text, path)
    return path


def _compile(command, text, path):
    with tempfile.TemporaryDirectory(dir=path.parent) as own:
        source, made = Path(own) / "source.cpp", Path(own) / "made"
        source.write_text(text)
        done = subprocess.run(
            [*command, "-o", made, source], capture_output=True, text=True, check=False
        )
        if done.returncode or done.stderr:
            raise CompileException(done.stderr)
        made.replace(path)  # whole, or not at all


class RawModule:
    """As of CuPy, for the arguments that the package uses."""

    def __init__(self, code=None, *, options=()):
        if not isinstance(code, str) or not isinstance(options, tuple):
            raise TypeError("code is text, and options a tuple")
        self.code = code
        self.macros = tuple(own for own in options if own.startswith("-D"))
        self._library = None

    def get_function(self, name):
        parameters = parameters_of(self.code, self.macros)
        if name not in parameters:
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found, {name}")
        if self._library is None:
            # PyDLL keeps the lock of the interpreter: the fibers are not made for two launches
            self._library = ctypes.PyDLL(str(compiled(self.code, self.macros)))
        return Function(self, name, list(parameters).index(name), parameters[name])


class Function:
    """A kernel that can be launched."""

    def __init__(self, module, name, index, parameters):
        self._module, self.name, self._index, self._parameters = module, name, index, parameters
        self.max_dynamic_shared_size_bytes = SHARED_UNASKED

    def __call__(self, grid, block, args, *, shared_mem=0, stream=None):
        grid, block = tuple(map(int, grid)), tuple(map(int, block))
        self._check_sizes(grid, block, shared_mem)
        if len(args) != len(self._parameters):
            raise TypeError(f"{self.name} has {len(self._parameters)} parameters, not {len(args)}")
        given = [
            self._checked(own, value) for own, value in zip(self._parameters, args, strict=True)
        ]
        launch = Launch(
            self._module.code, self._module.macros, self.name, grid, block[0], shared_mem, (), ()
        )
        for recorder in _recorders:
            offsets = tuple(
                own.ctypes.data % _ALIGNED if isinstance(own, np.ndarray) else 0 for own in given
            )
            copies = tuple(own.copy() if isinstance(own, np.ndarray) else own for own in given)
            recorder.append(launch._replace(arguments=copies, offsets=offsets))
        with _guarded(given, self.name) as pointers:
            self._run(launch, pointers)

    def _run(self, launch, pointers):
        error = ctypes.create_string_buffer(500)
        failed = self._module._library.cuda_on_host_launch(
            self._index,
            (ctypes.c_void_p * len(pointers))(*map(ctypes.addressof, pointers)),
            *(*launch.grid, 1)[:2],
            launch.block,
            ctypes.c_size_t(launch.shared),
            ctypes.c_ulonglong(order),
            error,
            ctypes.c_size_t(len(error)),
        )
        if failed:
            raise RuntimeError(f"{self.name}: {error.value.decode()}")

    def _check_sizes(self, grid, block, shared_mem):
        if not (len(block) == 1 and 1 <= block[0] <= 1024):
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: a block of {block} threads")
        most = 2**31 - 1, 65535
        if not (1 <= len(grid) <= 2 and all(1 <= n <= m for n, m in zip(grid, most, strict=False))):
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: a grid of {grid} blocks")
        if self.max_dynamic_shared_size_bytes > SHARED_MOST:
            raise RuntimeError(
                f"CUDA_ERROR_INVALID_VALUE: {self.max_dynamic_shared_size_bytes} bytes of shared "
                f"memory, and small devices have {SHARED_MOST}"
            )
        if shared_mem > self.max_dynamic_shared_size_bytes:
            raise RuntimeError(
                f"CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of shared memory, of "
                f"{self.max_dynamic_shared_size_bytes}"
            )

    def _checked(self, own, value):
        """An argument: an array of NumPy, None for a null pointer, or a NumPy scalar."""
        where = f"{self.name}, {own.name}"
        if own.is_array:
            if isinstance(value, int | np.integer) and value == 0:
                return None
            if not isinstance(value, ndarray):
                raise TypeError(f"{where}: an array on the device, not {type(value)}")
            if value.dtype != own.dtype:
                raise TypeError(f"{where}: {value.dtype} is not {own.dtype}")
            if not value.flags.c_contiguous:
                raise ValueError(f"{where}: a kernel knows nothing of strides, {value.strides}")
            return value._array
        wide = {int: np.int64, float: np.float64}.get(type(value))  # as CuPy passes them
        if (wide or type(value)) is not own.dtype.type:
            raise TypeError(f"{where}: {type(value)} is not {own.dtype}")
        return own.dtype.type(value)


@contextlib.contextmanager
def _guarded(given, name):
    """Pointers to arguments. Arrays lie between guards, if no two of them share memory."""
    arrays = [value for value in given if isinstance(value, np.ndarray)]
    own_memory = not any(
        np.may_share_memory(one, other) for i, one in enumerate(arrays) for other in arrays[:i]
    )
    rooms, pointers = [], []
    for value in given:
        if value is None:
            pointers.append(ctypes.c_void_p(None))
        elif not isinstance(value, np.ndarray):
            pointers.append(np.ctypeslib.as_ctypes_type(value.dtype)(value))
        elif own_memory:
            room = np.full(2 * _GUARD + value.nbytes, _POISON, np.uint8)
            start = _GUARD + (value.ctypes.data - room.ctypes.data) % _ALIGNED
            inside = room[start : start + value.nbytes]
            inside[:] = value.reshape(-1).view(np.uint8)
            rooms.append((value, room, inside.copy(), start))
            pointers.append(ctypes.c_void_p(inside.ctypes.data))
        else:
            pointers.append(ctypes.c_void_p(value.ctypes.data))
    yield pointers
    for value, room, before, start in rooms:
        inside = room[start : start + value.nbytes].copy()
        room[start : start + value.nbytes] = _POISON
        if (room != _POISON).any():
            raise RuntimeError(f"{name} has written outside of an array of shape {value.shape}")
        if not np.array_equal(inside, before):
            value[...] = inside.view(value.dtype).reshape(value.shape)


@contextlib.contextmanager
def recorded():
    """A list to which all launches are added until the block ends."""
    launches = []
    _recorders.append(launches)
    try:
        yield launches
    finally:
        _recorders.remove(launches)


def what_sanitizers_see(launches, kind, timeout=120):
    """What a sanitizer of g++ reports of launches, "" where it has nothing to say.

    ``kind`` is "thread", which sees races between threads of one block and of several, or
    "address,undefined", which sees what is read or written outside of arrays. Arrays that share
    memory do not do so there.
    """
    reports = []
    for code, macros in {(own.code, own.macros): None for own in launches}:
        own = [launch for launch in launches if (launch.code, launch.macros) == (code, macros)]
        optimized = "-O1" if kind == "thread" else "-O0"  # the other takes long to compile
        flags = ["-g", "-w", optimized, "-DCUDA_ON_HOST_THREADS", f"-fsanitize={kind}", "-pthread"]
        program = compiled(code, macros, flags)
        with tempfile.NamedTemporaryFile() as file:
            for launch in own:
                file.write(_as_bytes(launch))
            file.flush()
            reports.append(_report([program, file.name], timeout))
    return "".join(reports)


def _report(command, timeout):
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "TSAN_OPTIONS": ""}
    for prefix in [], ["setarch", "-R"]:
        done = subprocess.run(
            [*prefix, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=environment,
        )
        # An older sanitizer wants addresses that are less random.
        if "unexpected memory mapping" not in done.stderr:
            break
    report = done.stdout + done.stderr
    return report or (f"It ended with status {done.returncode}." if done.returncode else "")


def _as_bytes(launch):
    """A launch as the program reads it, see `cuda_on_host.h`."""
    index = list(parameters_of(launch.code, launch.macros)).index(launch.name)
    grid = (*launch.grid, 1)[:2]
    parts = [struct.pack("6q", index, *grid, launch.block, launch.shared, len(launch.arguments))]
    for value, offset in zip(launch.arguments, launch.offsets, strict=True):
        if value is None:
            parts.append(struct.pack("2q", 0, 0))
        elif isinstance(value, np.ndarray):
            head = struct.pack("2q", max(value.nbytes, 1), offset)
            parts += [head, value.tobytes() or b"\0"]
        else:
            parts += [struct.pack("2q", -1, 0), value.tobytes().ljust(8, b"\0")]
    return b"".join(parts)
