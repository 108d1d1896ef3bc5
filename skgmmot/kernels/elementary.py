"""exp and log that the compiler can vectorize, and the flags that let it."""

import math

import numpy as np
from numba import njit

# Sums may be reordered and products contracted into fused multiply-adds; NaN and infinities
# keep their meaning.
REORDER = {"contract", "reassoc", "nsz", "arcp"}

_LOG2_E = 1.0 / math.log(2.0)
# ln 2 in two parts (Cody and Waite): the first has 20 trailing zero bits, so n · ln 2 is exact
_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_ROUND = 1.5 * 2.0**52  # adding it leaves the nearest integer in the low bits
_ONE_BITS = 0x3FF0000000000000
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13 = (
    1.0 / math.factorial(j) for j in range(2, 14)
)
# 2 atanh(s) / s - 2 = Σ 2 s^{2j} / (2j + 1), economized on |s| < 3 - 2√2 (the minimax
# coefficients that fdlibm's e_log.c made customary)
_A1, _A2, _A3, _A4, _A5, _A6, _A7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


@njit(forceinline=True)
def _bits_of(x):
    return np.float64(x).view(np.int64)


@njit(forceinline=True)
def _from_bits(bits):
    return np.int64(bits).view(np.float64)


# Not REORDER below: regrouping would undo the two-part reductions.


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def exp(x):
    """e^x for x ≤ 700, within 1 ulp; 0 below -708 (and for -inf)."""
    clipped = -708.0 if x < -708.0 else x
    shifted = clipped * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (clipped - n * _LN2_HIGH) - n * _LN2_LOW  # |r| ≤ ln 2 / 2
    p = _C13 * r + _C12
    p = p * r + _C11
    p = p * r + _C10
    p = p * r + _C9
    p = p * r + _C8
    p = p * r + _C7
    p = p * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * (r * r) + r
    power_of_two = _from_bits((_bits_of(shifted) << 52) + _ONE_BITS)
    return 0.0 if x < -708.0 else (1.0 + p) * power_of_two


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def log(x):
    """Natural logarithm of a normal positive number, within 1 ulp."""
    bits = _bits_of(x)
    n = (bits - _SQRT_HALF_BITS) >> 52
    f = _from_bits(bits - (n << 52)) - 1.0  # x = 2^n (1 + f), 1 + f in [√½, √2)
    s = f / (2.0 + f)
    z = s * s
    series = _A7 * z + _A6
    series = series * z + _A5
    series = series * z + _A4
    series = series * z + _A3
    series = series * z + _A2
    series = series * z + _A1
    half_square = 0.5 * f * f
    correction = s * (half_square + z * series) + n * _LN2_LOW
    return n * _LN2_HIGH - ((half_square - correction) - f)
