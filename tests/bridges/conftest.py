"""What tests of the bridges to other frameworks share."""

import pytest


@pytest.fixture
def x64():
    """JAX with 64-bit types, in which most comparisons are made."""
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
