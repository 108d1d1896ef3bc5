"""How kernels are compiled, and where the results are kept.

numba's own cache notices a change of the file a function stands in, not of the functions it
calls. Kernels call functions of other files, so their cache lies in a folder named after the
sources of all of them. Where no folder can be written, kernels are compiled anew in each process.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numba
from numba import njit

from .elementary import REORDER

_OPTIONS = {"fastmath": REORDER, "error_model": "numpy", "nogil": True}

# For functions that only kernels call. Inlined, so that a kernel is the same code however it came
# about: numba may otherwise link in the copy of a function that another kernel brought along, and
# compilers round differently in different surroundings.
inner = njit(forceinline=True, **_OPTIONS)


def _cache_folder():
    """A writable folder for compiled kernels, or None."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    name = f"skgmmot-{digest.hexdigest()[:16]}"
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for base in [chosen] if chosen else [here / "__pycache__", user]:
        folder = Path(base) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
        except OSError:
            continue
    return None


_FOLDER = _cache_folder()


def kernel(function):
    """Compile ``function`` at its first call, cached on disk where that is possible."""
    if _FOLDER is None:
        return njit(**_OPTIONS)(function)
    chosen, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _FOLDER
    try:
        return njit(cache=True, **_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = chosen
