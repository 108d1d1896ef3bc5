"""What all tests share: the path to `naive`, and how hypothesis draws its examples."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # for `import naive`

# The same examples in every run: a failure is a change of the code, never the luck of the draw.
settings.register_profile(
    "gate", derandomize=True, database=None, deadline=None, max_examples=25, print_blob=False
)
# Other examples in every run, and many: `pytest tests/properties --hypothesis-profile=long`.
settings.register_profile(
    "long",
    deadline=None,
    max_examples=2500,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gate")


@pytest.fixture
def device_cupy(request, monkeypatch):
    """CuPy on a device with `--on-device`; else what stands in for it, also for `import cupy`."""
    if request.config.getoption("--on-device"):
        from skgmmot.samples.device_arrays import cupy

        try:
            return cupy()
        except (ImportError, RuntimeError) as error:
            pytest.skip(str(error))
    from cuda_on_host import arrays, cupy

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(arrays, "limit", None)
    arrays.traffic.clear()
    return cupy


@pytest.fixture
def device_traffic(request, device_cupy):
    """What has gone between host and device, a list of ("up" or "down", bytes)."""
    if request.config.getoption("--on-device"):
        pytest.skip("Only what stands in for CuPy counts what goes to and fro.")
    from cuda_on_host.arrays import traffic

    return traffic
