"""Displays of arrays on a device: what they draw is copied to the host."""

import numpy as np
import pytest

from skgmmot import DifferentiableGaussianMixture, mixture_flow
from skgmmot.plotting import FlowDisplay, MixtureDisplay

X = np.random.default_rng(0).normal(size=(60, 2))
TARGET = [1.0], [[3.0, 0.0]], [1.0]


def test_samples_of_a_mixture(device_cupy):
    rows, mixture = device_cupy.asarray(X), DifferentiableGaussianMixture(2, random_state=0).fit(X)
    for draw in (MixtureDisplay.from_estimator, MixtureDisplay.from_parameters):
        host, device = draw(mixture, X), draw(mixture, rows)
        np.testing.assert_array_equal(device.X, host.X)
        np.testing.assert_array_equal(device.responsibilities, host.responsibilities)
        drawn = (display.samples_.get_offsets() for display in (host, device))
        np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("keep_path", [False, True])
def test_paths_of_a_flow(device_cupy, keep_path):
    rows = device_cupy.asarray(X)
    options = {"n_steps": 5, "random_state": 0, "keep_path": keep_path}
    host = FlowDisplay.from_flow(mixture_flow(X, TARGET, **options), X=X)
    device = FlowDisplay.from_flow(mixture_flow(rows, TARGET, **options), X=rows)
    assert isinstance(device.positions, np.ndarray)
    np.testing.assert_allclose(device.positions, host.positions, rtol=1e-9)
