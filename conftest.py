"""Doctests of what needs a framework are left out where it is not installed."""

import importlib.util

collect_ignore_glob = []
if importlib.util.find_spec("torch") is None:
    collect_ignore_glob += ["skgmmot/torch.py", "skgmmot/bridges/torch_*.py"]
    collect_ignore_glob += ["doc/user_guide/torch_and_jax.rst"]
