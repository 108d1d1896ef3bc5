"""Doctests that need PyTorch, JAX or Dask are left out where these are not installed.

`--on-device` runs the tests of arrays on a CUDA device, and no others, with CuPy on such a device;
without it something on the host stands in for CuPy.
"""

from importlib.util import find_spec

collect_ignore = [
    path
    for framework in ("torch", "jax")
    if find_spec(framework) is None
    for path in (f"skgmmot/{framework}.py", "doc/user_guide/torch_and_jax.rst")
]
if find_spec("dask") is None:
    collect_ignore.append("doc/user_guide/dask.rst")
collect_ignore_glob = [
    f"skgmmot/bridges/{framework}_*.py"
    for framework in ("torch", "jax")
    if find_spec(framework) is None
]


def pytest_addoption(parser):
    parser.addoption(
        "--on-device",
        action="store_true",
        help="run the tests of arrays on a CUDA device, and no others, with CuPy on one",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--on-device"):
        asked = {item for item in items if "device_cupy" in getattr(item, "fixturenames", ())}
        config.hook.pytest_deselected(items=[item for item in items if item not in asked])
        items[:] = [item for item in items if item in asked]
