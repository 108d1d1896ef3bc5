"""Transport from samples on a device, which stands on the host in tests, to components."""

import naive
import numpy as np
import pytest
from device_data import D, K, close, data, fetched

from skgmmot import balanced_transport, semirelaxed_transport
from skgmmot.entropic import block_coordinate_descent
from skgmmot.parameters import COVARIANCE_TYPES

TOLERANCE = 1e-10


def problem(kind="full", dtype=np.float64):
    mixture = naive.random_mixture(np.random.default_rng(0), K, D, kind, spread=1.0)
    return *data(kind, dtype, n=500), mixture


@pytest.mark.parametrize("function", [semirelaxed_transport, balanced_transport])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("epsilon", [1.0, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_transport_is_that_of_the_host(device_cupy, function, kind, epsilon, weighted):
    X, weight, mixture = problem(kind)
    own = {"sample_weight": weight} if weighted else {}
    there = {name: device_cupy.asarray(values) for name, values in own.items()}
    host = function(X, mixture, epsilon=epsilon, **own)
    device = function(device_cupy.asarray(X), mixture, epsilon=epsilon, **there)
    assert isinstance(device.value, float)
    assert device.value == pytest.approx(host.value, rel=TOLERANCE)
    for name in ("plan", "row_sums"):
        expected = getattr(host, name)
        close([fetched(device_cupy, getattr(device, name), expected)], [expected], TOLERANCE)
    close([device.column_sums], [host.column_sums], TOLERANCE)
    assert repr(device).startswith(f"<{type(host).__name__}: 500 samples to {K} components")


def test_what_is_on_two_sides_is_refused(device_cupy):
    X, weight, mixture = problem()
    rows, own = device_cupy.asarray(X), device_cupy.asarray(weight)
    with pytest.raises(ValueError, match=r"X is on a CUDA device, sample_weight is not"):
        semirelaxed_transport(rows, mixture, sample_weight=weight)
    with pytest.raises(ValueError, match=r"sample_weight is on a CUDA device, X is not"):
        balanced_transport(X, mixture, sample_weight=own)
    with pytest.raises(ValueError, match="X must be on the host.*cupy.asnumpy"):
        block_coordinate_descent(rows, mixture, n_steps=1)
