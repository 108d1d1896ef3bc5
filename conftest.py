"""Doctests that need PyTorch, JAX or Dask are left out where these are not installed."""

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
