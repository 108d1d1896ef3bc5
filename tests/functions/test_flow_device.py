"""Points that flow on a device, which stands on the host in tests."""

import numpy as np
import pytest
from device_data import Foreign, close, fetched

from skgmmot import ChunkedRows, DifferentiableGaussianMixture, mixture_flow

TARGET = [0.5, 0.5], [[4.0, 0.0], [0.0, 4.0]], [[[1.0, 0.3], [0.3, 1.0]]] * 2
# How far the two may be apart: rounding to 1e-12, which some steps hand on.
TOLERANCE = 1e-9


def points(n=150, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    centers = np.array([[-2.0, 0.0], [2.0, 1.0]])
    return (centers[rng.integers(2, size=n)] + rng.normal(size=(n, 2))).astype(dtype)


def flow(X, target=TARGET, **options):
    return mixture_flow(X, target, n_steps=6, random_state=0, **options)


def estimator(**options):
    return DifferentiableGaussianMixture(2, random_state=0, **options)


def same_flows(cupy, device, host, tolerance=TOLERANCE):
    """Two flows to the same place, that on the device on it."""
    close([fetched(cupy, device.X, host.X)], [host.X], tolerance)
    close([device.losses], [host.losses], tolerance)
    close(device.mixture.parameters_, host.mixture.parameters_, tolerance)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize("batch_fraction", [1.0, 0.4])
@pytest.mark.parametrize(
    "mode, warm_start", [("one_step", True), ("one_step", False), ("implicit", True)]
)
def test_flows_are_those_of_the_host(device_cupy, optimizer, batch_fraction, mode, warm_start):
    X = points()
    options = {
        "optimizer": optimizer,
        "batch_fraction": batch_fraction,
        "learning_rate": 0.05,
        "mode": mode,
        "warm_start": warm_start,
        "estimator": estimator(residual_tol=1e-9, tol=1e-9),
    }
    rows = device_cupy.asarray(X)
    same_flows(device_cupy, flow(rows, **options), flow(X, **options))
    np.testing.assert_array_equal(rows.get(), X)  # a copy has moved


def test_the_default_estimator_and_single_precision(device_cupy):
    X = points(dtype=np.float32)
    same_flows(device_cupy, flow(device_cupy.asarray(X)), flow(X), 1e-4)


def test_points_of_another_library(device_cupy):
    X = points()
    rows = device_cupy.asarray(X)
    options = {"target_samples": Foreign(rows + 1.0), "estimator": estimator()}
    device = flow(Foreign(rows), None, **options)
    options["target_samples"] = X + 1.0
    same_flows(device_cupy, device, flow(X, None, **options))
    np.testing.assert_array_equal(rows.get(), X)  # a copy has moved


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_samples_of_the_target(device_cupy, fraction):
    X, Y = points(), points(200, seed=1) + [3.0, 1.0]
    options = {"estimator": estimator(), "target_batch_fraction": fraction}
    host = flow(X, None, target_samples=Y, **options)
    rows, samples = map(device_cupy.asarray, (X, Y))
    same_flows(device_cupy, flow(rows, None, target_samples=samples, **options), host)
    # those in chunks stay on the host, and their mixture is what the points flow to
    chunks = ChunkedRows([Y], chunk_size=100)
    whole = flow(X, None, target_samples=Y, estimator=estimator())
    found = flow(rows, None, target_samples=chunks, estimator=estimator())
    same_flows(device_cupy, found, whole, 1e-6)


def test_the_path_and_what_a_callback_sees(device_cupy):
    X, seen = points(), []

    def callback(step, X, mixture, loss):
        assert isinstance(X, device_cupy.ndarray)
        seen.append(X.get())
        return step == 4

    host = flow(X, keep_path=True)
    device = flow(device_cupy.asarray(X), keep_path=True, callback=callback)
    expected = host.positions[:5]
    close([fetched(device_cupy, device.positions, expected)], [expected], TOLERANCE)
    close(seen, expected, TOLERANCE)
    close(device.path[3], host.path[3], TOLERANCE)
    assert "150 points with 2 features" in repr(device)


def test_nothing_of_the_size_of_the_data_goes_to_and_fro(device_cupy, device_traffic):
    """But the rows that k-means sees, and the numbers of the rows of a batch."""
    rows = device_cupy.asarray(points(20_000))
    device_traffic.clear()
    flow(rows, estimator=estimator(init_size=100), batch_fraction=0.05)
    assert max(size for way, size in device_traffic if way == "down") == 100 * rows.itemsize * 2
    assert max(size for way, size in device_traffic if way == "up") == 1000 * 8


@pytest.mark.parametrize(
    "fails, complaint",
    [
        (
            lambda X, rows: flow(rows, None, target_samples=X, estimator=estimator()),
            "X is on a CUDA device, target_samples is not. Pass cupy.asarray",
        ),
        (
            lambda X, rows: flow(X, None, target_samples=rows, estimator=estimator()),
            "target_samples is on a CUDA device, X is not. Pass cupy.asnumpy",
        ),
        (lambda X, rows: flow(rows[:, 0]), "Expected 2D array, got 1D"),
        (lambda X, rows: flow(rows[:1]), "a minimum of 2 is required"),
        (lambda X, rows: flow(rows[:, :0]), r"0 feature\(s\)"),
        (lambda X, rows: flow(rows / 0.0), "X contains.* infinity|infinity"),
        (lambda X, rows: flow(rows.astype(complex)), "X must hold real numbers"),
        (
            lambda X, rows: flow(X, (TARGET[0], rows[:2], TARGET[2])),
            "the means must be on the host",
        ),
    ],
)
def test_what_cannot_flow_is_refused(device_cupy, fails, complaint):
    X = points(20)
    with pytest.raises(ValueError, match=complaint):
        fails(X, device_cupy.asarray(X))


def test_integers_become_double_precision(device_cupy):
    X = points().round().astype(np.int64)
    same_flows(device_cupy, flow(device_cupy.asarray(X)), flow(X))
