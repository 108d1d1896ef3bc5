"""Rows outside of boxes and rows brought closer, of samples on the host and on a device."""

import numpy as np
import pytest

from skgmmot.samples import samples_of

LOWER, UPPER = np.array([-1.0, -0.5]), np.array([0.5, np.inf])


@pytest.fixture(params=["host", "device"])
def module(request):
    return np if request.param == "host" else request.getfixturevalue("device_cupy")


def host(array):
    return array if isinstance(array, np.ndarray) else array.get()


def test_rows_outside_a_box_are_those_with_a_feature_outside(module):
    X = np.array([[0.0, 0.0], [-1.0, -0.5], [0.6, 0.0], [0.0, -0.6], [0.0, 1e300], [-2.0, -2.0]])
    outside = samples_of(module.asarray(X)).outside(LOWER, UPPER)
    assert isinstance(outside, module.ndarray)
    assert host(outside).tolist() == [False, False, True, True, False, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shrunk_rows_are_in_double_precision_without_weights(module, dtype):
    rng = np.random.default_rng(0)
    X, center = (1e30 * rng.normal(size=(5, 2))).astype(dtype), np.array([1e29, -1e30])
    samples = samples_of(module.asarray(X), module.asarray(rng.uniform(1, 2, size=5)))
    shrunk = samples.shrunk(2.0**-260, center)
    assert type(shrunk) is type(samples)
    rows, weight = shrunk.rows()
    assert weight is None and rows.dtype == np.float64
    expected = 2.0**-260 * (X.astype(np.float64) - center)
    np.testing.assert_allclose(host(rows), expected, rtol=1e-13)


def test_picked_rows_stay_where_they_are_with_their_weights(module):
    X, weight = np.arange(10.0).reshape(5, 2), np.arange(1.0, 6.0)
    samples = samples_of(module.asarray(X), module.asarray(weight))
    index = np.array([4, 0, 2])
    for given, rows in ((module.asarray(index), index), (slice(1, 3), slice(1, 3))):
        picked = samples.picked(given)
        assert type(picked) is type(samples) and isinstance(picked.rows()[0], module.ndarray)
        np.testing.assert_array_equal(host(picked.rows()[0]), X[rows])
        np.testing.assert_array_equal(host(picked.rows()[1]), weight[rows])
