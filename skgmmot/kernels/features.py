"""The features φ(x) of a sample: products of pairs of rows.

Write the sample about a reference point as rows z_0 = 1, z_1 … z_d and, for spherical
mixtures, z_{d+1} = ‖z‖². Every feature of every covariance type is then a product of two
rows, φ_f = z_left[f] · z_right[f], and one set of kernels serves all types:

=========  =========================  ==================
type       φ(x)                       p
=========  =========================  ==================
full       1, z, z_a z_b (b ≤ a)      1 + d + d(d+1)/2
diag       1, z, z_a²                 1 + 2d
spherical  1, z, ‖z‖²                 2 + d
tied       1, z                       1 + d
=========  =========================  ==================

(The quadratic part of a tied mixture is common to all components and cancels.)
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

TILE = 4  # components and features are padded to a multiple of this: the register tile


class Features(NamedTuple):
    """The pairs of rows that make up φ, padded to a multiple of `TILE`."""

    pairs: np.ndarray  # (2, padded size): left, right
    size: int
    has_squared_norm: bool


def padded(size):
    """The next multiple of the register tile."""
    return -(-size // TILE) * TILE


@lru_cache(maxsize=128)
def features_of(covariance_type, n_features):
    """The features of a covariance type in ``n_features`` dimensions."""
    rows = np.arange(1, n_features + 1)
    zeros = np.zeros(n_features, dtype=int)
    if covariance_type == "full":
        a, b = np.tril_indices(n_features)
        quadratic = (a + 1, b + 1)
    elif covariance_type == "diag":
        quadratic = (rows, rows)
    elif covariance_type == "spherical":
        quadratic = ([n_features + 1], [0])
    else:
        quadratic = ([], [])
    left = np.concatenate([[0], rows, quadratic[0]])
    right = np.concatenate([[0], zeros, quadratic[1]])
    pairs = np.zeros((2, padded(len(left))), dtype=np.int64)
    pairs[:, : len(left)] = left, right
    pairs.flags.writeable = False
    return Features(pairs, len(left), covariance_type == "spherical")
