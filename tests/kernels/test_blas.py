"""Products with triangles inside of kernels, against their slow twins."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skgmmot.kernels import blas
from skgmmot.kernels.compilation import kernel


@kernel
def upper(triangle, n, Z):
    blas.multiply_upper(triangle, n, Z)


@kernel
def upper_transposed(triangle, n, Z):
    blas.multiply_upper_transposed(triangle, n, Z)


@kernel
def lower(triangle, n, Z):
    blas.multiply_lower(triangle, n, Z)


@kernel
def gram(n, W, out):
    blas.lower_gram(n, W, out)


sizes = given(
    size=st.integers(1, 70), n=st.integers(1, 40), room=st.integers(0, 9), seed=st.integers(0, 99)
)
products = pytest.mark.parametrize(
    "product, is_lower, transposed",
    [(upper, False, False), (upper_transposed, False, True), (lower, True, False)],
)


@products
@sizes
def test_products(product, is_lower, transposed, size, n, room, seed):
    """What stands in the other half, and beyond the n numbers of a row, is not looked at."""
    rng = np.random.default_rng(seed)
    matrix, Z = rng.normal(size=(size, size)), rng.normal(size=(size, n + room))
    half = np.tril(matrix) if is_lower else np.triu(matrix)
    expected, twin, beyond = half.T @ Z if transposed else half @ Z, Z.copy(), Z[:, n:].copy()
    blas._slow_triangular_product(matrix, is_lower, transposed, n, twin)
    other = np.triu(np.full_like(matrix, np.nan), 1)
    product(half + (other if is_lower else other.T), n, Z)
    np.testing.assert_allclose(Z[:, :n], expected[:, :n], atol=1e-13 * size)
    np.testing.assert_allclose(twin[:, :n], expected[:, :n], atol=1e-13 * size)
    np.testing.assert_array_equal(Z[:, n:], beyond)
    np.testing.assert_array_equal(twin[:, n:], beyond)


@sizes
def test_gram(size, n, room, seed):
    W = np.random.default_rng(seed).normal(size=(size, n + room))
    out, twin = np.full((2, size, size), 7.0)
    gram(n, W, out)
    blas._slow_lower_gram(n, W, twin)
    expected = W[:, :n] @ W[:, :n].T
    for found in (out, twin):
        np.testing.assert_allclose(np.tril(found), np.tril(expected), atol=1e-13 * n)
        assert (found[np.triu_indices(size, 1)] == 7.0).all()


SCRIPT = """
import numpy as np
from kernels_of_a_test import double
Z = np.ones((2, 3))
double(2.0 * np.eye(2), Z)
print(Z.sum(), sum(double.stats.cache_hits.values()))
"""
KERNELS = """
from skgmmot.kernels.blas import multiply_lower
from skgmmot.kernels.compilation import kernel

@kernel
def double(L, Z):
    multiply_lower(L, 3, Z)
"""


def test_kernels_of_a_cache_find_it(tmp_path):
    (tmp_path / "kernels_of_a_test.py").write_text(KERNELS)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "NUMBA_DISABLE_JIT": "0", "PYTHONPATH": path}
    env = os.environ | env
    command = [sys.executable, "-c", SCRIPT]
    for n_hits in (0, 1):
        printed = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert printed.stdout.split() == ["12.0", str(n_hits)]
