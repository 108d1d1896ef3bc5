"""exp and log, inlined into loops that are compiled as the kernels are."""

import math

import naive
import numpy as np
import pytest
from numba import njit

from skgmmot.kernels import elementary
from skgmmot.kernels.elementary import REORDER

_options = {"fastmath": REORDER, "error_model": "numpy"}


@njit(**_options)
def exp_of_difference(x, top, out):
    for i in range(x.size):
        out[i] = elementary.exp(x[i] - top[i])


@njit(**_options)
def log_of_product(x, factor, out):
    for i in range(x.size):
        out[i] = elementary.log(x[i] * factor[i])


def exp(x):
    x = np.atleast_1d(np.asarray(x, dtype=float))
    out = np.full_like(x, -1.0)
    exp_of_difference(x, np.zeros_like(x), out)
    return out


def log(x):
    x = np.atleast_1d(np.asarray(x, dtype=float))
    out = np.full_like(x, -1.0)
    log_of_product(x, np.ones_like(x), out)
    return out


def ulps(actual, reference):
    """Largest distance from an extended precision reference, in units of the last place."""
    spacing = np.spacing(np.abs(reference).astype(float))
    return float(np.max(np.abs(actual.astype(naive.LONG) - reference) / spacing))


def around(centers, width):
    """The floating point numbers next to each center, and some a little farther away."""
    steps = np.concatenate([np.arange(-40, 41) * 2.0**-52, np.linspace(-width, width, 41)])
    return (np.asarray(centers)[:, None] * (1 + steps)).ravel()


EXP_GRIDS = {
    "the whole range of a softmax": np.linspace(-708, 0, 400_001),
    "close to zero": np.linspace(-1, 1, 100_001),
    "tiny": np.concatenate([-np.logspace(-320, -1, 5_000), np.logspace(-320, -1, 5_000), [0.0]]),
    "where the reduction rounds": around((np.arange(-1000, 1000) + 0.5) * math.log(2), 1e-9),
    "multiples of ln 2": around(np.arange(-1000, 1000) * math.log(2), 1e-9),
    "positive": np.linspace(0, 700, 100_001),
}

LOG_GRIDS = {
    "the sums of a softmax": np.linspace(1, 64, 400_001),
    "close to one": np.concatenate([around([1.0], 1e-6), np.linspace(0.7, 1.5, 100_001)]),
    "every binade": np.logspace(-307, 308, 200_001),
    "powers of two": around(2.0 ** np.arange(-1020, 1020), 1e-9),
    "where the reduction changes": around(math.sqrt(0.5) * 2.0 ** np.arange(-1000, 1000), 1e-9),
}


@pytest.mark.parametrize("grid", EXP_GRIDS)
def test_exp_is_within_2_ulp(grid):
    x = EXP_GRIDS[grid]
    x = x[(x >= -708) & (x <= 700)]
    assert ulps(exp(x), np.exp(x.astype(naive.LONG))) <= 2


@pytest.mark.parametrize("grid", LOG_GRIDS)
def test_log_is_within_2_ulp(grid):
    x = LOG_GRIDS[grid]
    assert ulps(log(x), np.log(x.astype(naive.LONG))) <= 2


def test_exp_of_what_is_no_ordinary_number():
    below = np.nextafter(-708.0, -np.inf)
    # enough of each to fill a vector, and the remainder loop after it
    for value in [-np.inf, -1e300, -1e9, -746.0, below]:
        assert (exp(np.full(19, value)) == 0.0).all(), value
    assert np.isnan(exp(np.full(19, np.nan))).all()
    assert (exp([0.0, -0.0]) == 1.0).all()
    assert exp(-708.0)[0] > 0.0


def test_exp_keeps_special_values_to_their_own_place():
    x = np.linspace(-3, 0, 37)
    expected = np.exp(x)
    x[5], expected[5] = np.nan, np.nan
    x[11], expected[11] = -np.inf, 0.0
    x[20], expected[20] = -800.0, 0.0
    np.testing.assert_allclose(exp(x), expected, rtol=4 * naive.EPS, atol=0)


def test_log_of_one_is_zero():
    assert log(1.0)[0] == 0.0


def test_the_compiler_may_not_assume_that_nan_and_infinity_do_not_occur():
    assert not REORDER & {"fast", "nnan", "ninf"}
