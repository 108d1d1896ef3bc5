"""Symmetric matrices as vectors of their lower halves, row by row; arrays as kernels want them."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=128)
def packing(n_features):
    """Where P_ab (b ≤ a) stands in a flattened P, and its factor in η: -1, or -½ if a = b."""
    a, b = np.tril_indices(n_features)
    return a * n_features + b, np.where(a == b, -0.5, -1.0)


@lru_cache(maxsize=128)
def _unpacking(n_features):
    """Where entry (a, b) of a symmetric matrix stands among its packed lower half."""
    a, b = np.indices((n_features, n_features)).reshape(2, -1)
    high, low = np.maximum(a, b), np.minimum(a, b)
    return high * (high + 1) // 2 + low


def unpack(packed, n_features):
    """Symmetric matrices (..., d, d) from their packed lower halves (..., d(d+1)/2)."""
    return packed[..., _unpacking(n_features)].reshape(*packed.shape[:-1], n_features, n_features)


def plain(array):
    """An array, or a copy of it, of the one kind that kernels are compiled for."""
    return array if array.flags.carray else np.array(array, order="C")
