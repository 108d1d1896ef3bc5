"""Samples that are moved on a device, which stands on the host in tests."""

import naive
import numpy as np
import pytest
from device_data import close, fetched

from skgmmot import mixture_bridge, mixture_transport
from skgmmot.transport import maps

TOLERANCE = 1e-12  # a sum over few components
METHODS = ["barycentric", "sample", "maximum"]


def mixtures(kind="full", d=3):
    rng = np.random.default_rng(0)
    return naive.random_mixture(rng, 4, d, kind), naive.random_mixture(rng, 3, d, "full")


def samples(n=500, d=3, dtype=np.float64):
    X = np.random.default_rng(1).normal(size=(n, d)).astype(dtype)
    X[0] *= 100.0  # a sample far from all components
    return X


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["full", "tied", "spherical"])
def test_maps_are_those_of_the_host(device_cupy, method, dtype, kind):
    transport = mixture_transport(*mixtures(kind), reg=0.5)
    X = samples(dtype=dtype)
    rows = device_cupy.asarray(X)
    expected = transport.map(X, method=method, random_state=0)
    found = transport.map(rows, method=method, random_state=0)
    tolerance = TOLERANCE if dtype == np.float64 else 1e-6
    close([fetched(device_cupy, found, expected)], [expected], tolerance)
    np.testing.assert_array_equal(rows.get(), X)
    # columns in another order are not contiguous
    turned = device_cupy.asarray(np.asfortranarray(X))
    again = transport.map(turned, method=method, random_state=0)
    np.testing.assert_array_equal(again.get(), found.get())


@pytest.mark.parametrize("method", METHODS)
def test_blocks_on_the_device_do_not_matter(device_cupy, monkeypatch, method):
    transport = mixture_transport(*mixtures(), reg=0.5)
    rows = device_cupy.asarray(samples())
    whole = transport.map(rows, method=method, random_state=0)
    monkeypatch.setattr(maps, "DEVICE_SIZE", 1)
    monkeypatch.setattr(maps, "PAIRS_SIZE", 1)
    blocks = transport.map(rows, method=method, random_state=0)
    close([blocks.get()], [whole.get()], TOLERANCE)


def test_masses_are_those_of_the_host(device_cupy):
    transport = mixture_transport(*mixtures(), reg_m=1.0)
    X = samples()
    expected = transport.mass_factors(X)
    found = transport.mass_factors(device_cupy.asarray(X))
    close([fetched(device_cupy, found, expected)], [expected], TOLERANCE)


def test_paths_of_a_bridge_are_those_of_the_host(device_cupy):
    bridge = mixture_bridge(*mixtures(), epsilon=0.7)
    X = samples(100)
    rows = device_cupy.asarray(X)
    for name in ("log_density", "drift"):
        expected, found = (getattr(bridge, name)(own, 0.3) for own in (X, rows))
        close([fetched(device_cupy, found, expected)], [expected], TOLERANCE)
    options = {"n_steps": 5, "times": [0.0, 0.5, 1.0], "random_state": 0}
    expected, found = (bridge.sample_paths(own, **options) for own in (X, rows))
    close([fetched(device_cupy, found, expected)], [expected], 1e-10)
    np.testing.assert_array_equal(rows.get(), X)
    assert bridge.log_density(rows[:0], 0.3).shape == (0,)


@pytest.mark.parametrize("method", METHODS)
def test_samples_stay_where_they_are(device_cupy, device_traffic, method):
    """Only random numbers go to the device: two for each sample."""
    transport = mixture_transport(*mixtures(), reg=0.5)
    rows = device_cupy.asarray(samples(20_000))
    device_traffic.clear()
    transport.map(rows, method=method, random_state=0)
    numbers = 2 * len(rows) * 8 if method == "sample" else 0
    sizes = sorted((size, way) for way, size in device_traffic)
    if numbers:
        assert sizes.pop() == (numbers, "up")
    assert sizes[-1][0] < 2000  # mixtures
    assert len(sizes) < 100  # all rows are one block


def test_what_cannot_be_moved_is_refused(device_cupy):
    transport = mixture_transport(*mixtures())
    rows = device_cupy.asarray(samples())
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 3\)"):
        transport.map(rows[:, :2])
    with pytest.raises(ValueError, match="X contains NaN or infinity"):
        transport.map(rows / 0.0)
    with pytest.raises(ValueError, match="X must hold real numbers"):
        transport.mass_factors(rows.astype(complex))
    with pytest.raises(ValueError, match="a: the means must be on the host"):
        mixture_transport(([1.0], rows[:1], np.eye(3)[None]), mixtures()[1])
    found = transport.map(device_cupy.asarray([[1, 2, 3]]))
    close([found.get()], [transport.map([[1, 2, 3]])], TOLERANCE)


def test_memory_is_told_of(device_cupy, device_traffic):
    transport = mixture_transport(*mixtures())
    rows = device_cupy.asarray(samples(4000))
    device_cupy.get_default_memory_pool().set_limit(rows.nbytes // 4)
    with pytest.raises(MemoryError, match="CUDA device 0 has not enough memory"):
        transport.map(rows)
