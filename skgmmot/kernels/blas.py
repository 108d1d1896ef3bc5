"""Products with triangles, by the BLAS that SciPy brings, called inside of kernels.

np.dot in a kernel is of whole matrices, of which a triangle wastes half, or of panels, at three
quarters of the rate. numba cannot call more of BLAS. So the addresses of two functions of SciPy's
C interface get names that compiled code can be linked to, in every process anew: a kernel that is
read from a cache finds them by these names.

Matrices are in row order here, and the transposes of BLAS's. Rows of Z may have more room than the
``n`` numbers of them that take part.
"""

import llvmlite.binding as llvm
import numba
import numpy as np
from numba import types
from numba.extending import get_cython_function_address

from .compilation import inner

_ADDRESS = types.intp  # all arguments of BLAS are


def _linked(name, n_arguments):
    """A function of BLAS, for compiled code."""
    symbol = f"skgmmot_{name}"
    llvm.add_symbol(symbol, get_cython_function_address("scipy.linalg.cython_blas", name))
    return types.ExternalFunction(symbol, types.void(*[_ADDRESS] * n_arguments))


_dtrmm, _dsyrk = _linked("dtrmm", 11), _linked("dsyrk", 10)
_RIGHT, _LOWER, _UPPER, _AS_IS, _TRANSPOSED = (np.uint8(ord(letter)) for letter in "RLUNT")


def _slow_triangular_product(triangle, is_lower, transposed, n, Z):
    factor = np.tril(triangle) if is_lower else np.triu(triangle)
    Z[:, :n] = (factor.T if transposed else factor) @ Z[:, :n]


def _slow_lower_gram(n, W, out):
    lower = np.tril_indices(len(W))
    out[lower] = (W[:, :n] @ W[:, :n].T)[lower]


def _or(slow):
    """Compile a function, or take its slow twin where nothing is compiled that could be linked."""
    return lambda function: slow if numba.config.DISABLE_JIT else inner(function)


@_or(_slow_triangular_product)
def _triangular_product(triangle, is_lower, transposed, n, Z):
    options, sizes = np.empty(4, np.uint8), np.empty(4, np.int32)
    options[0], options[3] = _RIGHT, _AS_IS
    options[1] = _UPPER if is_lower else _LOWER
    options[2] = _TRANSPOSED if transposed else _AS_IS
    sizes[0], sizes[1] = n, Z.shape[0]
    sizes[2], sizes[3] = triangle.strides[0] // 8, Z.strides[0] // 8
    one, letter, size = np.ones(1), options.ctypes.data, sizes.ctypes.data
    _dtrmm(
        letter,
        letter + 1,
        letter + 2,
        letter + 3,
        size,
        size + 4,
        one.ctypes.data,
        triangle.ctypes.data,
        size + 8,
        Z.ctypes.data,
        size + 12,
    )
    one[0] = options[0] = sizes[0] = 0  # numba frees an array after its last use: not before this


@_or(_slow_lower_gram)
def lower_gram(n, W, out):
    """The lower triangle of out ← W Wᵀ."""
    options, sizes = np.empty(2, np.uint8), np.empty(4, np.int32)
    options[0], options[1] = _UPPER, _TRANSPOSED
    sizes[0], sizes[1] = W.shape[0], n
    sizes[2], sizes[3] = W.strides[0] // 8, out.strides[0] // 8
    factors = np.array([1.0, 0.0])
    letter, size, factor = options.ctypes.data, sizes.ctypes.data, factors.ctypes.data
    _dsyrk(
        letter,
        letter + 1,
        size,
        size + 4,
        factor,
        W.ctypes.data,
        size + 8,
        factor + 8,
        out.ctypes.data,
        size + 12,
    )
    factors[0] = options[0] = sizes[0] = 0


@inner
def multiply_upper(U, n, Z):
    """Z ← U Z, in place, of an upper triangle."""
    _triangular_product(U, False, False, n, Z)


@inner
def multiply_upper_transposed(U, n, Z):
    """Z ← Uᵀ Z, in place, of an upper triangle."""
    _triangular_product(U, False, True, n, Z)


@inner
def multiply_lower(L, n, Z):
    """Z ← L Z, in place, of a lower triangle."""
    _triangular_product(L, True, False, n, Z)
