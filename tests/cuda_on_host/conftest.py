"""What stands in for CuPy is tested without a device."""

import pytest


@pytest.fixture
def device_cupy(request, device_cupy):
    if request.config.getoption("--on-device"):
        pytest.skip("CuPy itself needs no test")
    return device_cupy
