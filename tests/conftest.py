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
def device_cupy(monkeypatch):
    """The module that stands in for `cupy`, which `import cupy` finds during a test."""
    from cuda_on_host import arrays, cupy

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(arrays, "limit", None)
    arrays.traffic.clear()
    return cupy
