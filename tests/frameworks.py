"""Frameworks that one public module and its bridges import, and the modules for those installed."""

from importlib import import_module
from importlib.util import find_spec

FRAMEWORKS = ("jax", "torch")
FRAMEWORK_MODULES = [import_module(f"skgmmot.{name}") for name in FRAMEWORKS if find_spec(name)]
