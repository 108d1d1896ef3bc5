"""How kernels are compiled, and where the results are kept.

numba's own cache notices a change of the file a function stands in, not of the functions it
calls. Kernels call functions of other files, so their cache lies in a folder named after the
sources of all of them. A folder that cannot be written is read all the same, and a file in it that
is damaged is replaced. What no folder keeps is compiled anew in each process, which then warns
once. Folders of other sources are removed when they have not been used for a month.
"""

import hashlib
import os
import pickle
import shutil
import sys
import time
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.serialize import dumps

from .elementary import REORDER

_OPTIONS: dict[str, Any] = {"fastmath": REORDER, "error_model": "numpy", "nogil": True}

# For functions that only kernels call. Inlined, so that a kernel is the same code however it came
# about: numba may otherwise link in the copy of a function that another kernel brought along, and
# compilers round differently in different surroundings.
inner = njit(forceinline=True, **_OPTIONS)


_DAY = 86_400.0  # seconds
_ABANDONED = 30 * _DAY


def _cache_folders():
    """Folders for compiled kernels that can be written or at least read, first choice first."""
    here = Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    sources = sorted(set(here.glob("*.py")) - {here / "cuda.py"})  # none of which is numba's
    for source in sources:
        digest.update(source.read_bytes())
    name = f"skgmmot-{digest.hexdigest()[:16]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folders = []
    for base in [chosen] if chosen else [here / "__pycache__", user]:
        with suppress(OSError):
            _make(Path(base) / name)
            folders.append(str(Path(base) / name))
    return folders if sources else []  # within an archive: no source, no name


def _make(folder):
    """Make a folder. Once a day note that it is used, and look for abandoned ones."""
    is_new = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if is_new or time.time() - folder.stat().st_mtime > _DAY:
        with suppress(OSError):
            os.utime(folder)
            _remove_abandoned(folder)


def _remove_abandoned(current):
    """Remove the folders beside the current one that nobody has used for long.

    A process may use one all the same, having started long ago. It compiles what it does not find,
    and makes the folder again to keep it.
    """
    for folder in current.parent.glob("skgmmot-" + 16 * "[0-9a-f]"):
        if folder != current and time.time() - folder.stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)


FOLDERS = _cache_folders()


class _Folder:
    """What numba asks of a folder for a function, where all else is said by the folder's name."""

    def __init__(self, path, function):
        self._path, self._function = path, function

    def from_function(self, function, source):
        return self

    def ensure_cache_path(self):
        os.makedirs(self._path, exist_ok=True)

    def get_cache_path(self):
        return self._path

    def get_source_stamp(self):
        return None

    def get_disambiguator(self):
        return str(self._function.__code__.co_firstlineno)


class _Sealed(CompileResultCacheImpl):
    """Compiled code with its digest: a damaged file may be read without an error."""

    def __init__(self, folder, function):
        self._locator_classes = [_Folder(folder, function)]
        super().__init__(function)

    def reduce(self, result):
        code = dumps(super().reduce(result))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context, payload):
        digest, code = payload
        if hashlib.sha256(code).digest() != digest:
            raise ValueError("The file is damaged.")
        return super().rebuild(target_context, pickle.loads(code))


class _FolderCache(FunctionCache):
    def __init__(self, folder, function):
        self._impl_class = partial(_Sealed, folder)
        super().__init__(function)


class _Cache(NullCache):
    """What numba asks for a compiled function, over several folders.

    Whatever is wrong with a file, the function is compiled as if the file were not there. numba
    puts whole files in place of others, so it does not matter how many processes do so at once.
    """

    def __init__(self, caches):
        self._caches = caches

    def load_overload(self, signature, target_context):
        for cache in self._caches:
            with suppress(Exception):  # damaged files raise nearly anything
                found = cache.load_overload(signature, target_context)
                # Two processes that begin an index at once may both number their first file 1.
                if found is not None and found.signature.args == signature:
                    return found
        return None

    def save_overload(self, signature, result):
        for cache in self._caches:
            with suppress(OSError):  # as where the folder can only be read, or the disk is full
                try:
                    return cache.save_overload(signature, result)
                except Exception:
                    cache.flush()  # puts an empty index in place of a damaged one
                    return cache.save_overload(signature, result)
        _warn_of_no_folder()


_has_warned = False


def _warn_of_no_folder():
    """Warn, once in a process, at the line of the user if that is in this thread."""
    global _has_warned
    if _has_warned:
        return
    _has_warned = True
    tried = f"in {' or '.join(FOLDERS)}" if FOLDERS else "in any folder"
    warnings.warn(
        f"skgmmot: compiled kernels cannot be kept {tried}, so that each process compiles them "
        "anew, which takes half a minute and more. Before the import, set NUMBA_CACHE_DIR to a "
        "folder that can be written.",
        RuntimeWarning,
        stacklevel=_level_of_the_user(),
    )


def _level_of_the_user():
    """The stack level, for who calls this, of the line that has called the package."""
    frame, level, found = sys._getframe(1), 1, 1
    while frame is not None:
        level += 1
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in {"skgmmot", "numba", "sklearn"}:
            found = level
        frame = frame.f_back
    return found


def kernel(function):
    """Compile ``function`` at its first call, cached on disk where that is possible."""
    if numba.config.DISABLE_JIT:
        return np.errstate(all="ignore")(function)  # as error_model="numpy" has it
    compiled = njit(**_OPTIONS)(function)
    compiled._cache = _Cache([_FolderCache(folder, function) for folder in FOLDERS])
    return compiled
