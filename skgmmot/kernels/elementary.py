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
# (e^r - 1 - r) / r² = Σ c_j r^j on |r| ≤ ln 2 / 2, interpolated at Chebyshev's nodes: relative
# error 2e-17 of e^r
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9 = map(
    float.fromhex,
    (
        "0x1.0000000000001p-1",
        "0x1.5555555555556p-3",
        "0x1.5555555553d63p-5",
        "0x1.11111111109b3p-7",
        "0x1.6c16c1788bd90p-10",
        "0x1.a01a01a7c41d5p-13",
        "0x1.a019b90d2ae7ap-16",
        "0x1.71de0dae63bb3p-19",
        "0x1.289185613a3d6p-22",
        "0x1.af38a9b0ec855p-26",
    ),
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
    square = r * r
    fourth = square * square
    # Estrin's scheme: few products wait for one another
    p = (_C3 * r + _C2) * square + (_C1 * r + _C0)
    q = (_C7 * r + _C6) * square + (_C5 * r + _C4)
    q = (_C9 * r + _C8) * fourth + q
    p = (q * fourth + p) * square + r
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
