"""Which way logits are evaluated: about one common point, or about the components' means.

The matrix way expands squares about a common point and loses (distance/σ)² roundings. Components
for which that is little take it, the others the centered way.
"""

import numpy as np

# The relative error that the matrix way may have.
_MATRIX_WAY_ERROR = 1e-10
LARGEST_CANCELLATION = _MATRIX_WAY_ERROR / (np.finfo(np.float64).eps / 2)

# From so many features on, quadratic features cost less about the means, by products of matrices
# (`kernels/large.py`).
_MANY_FEATURES = 192


def is_faster_centered(features):
    """Whether logits in these features are faster about the components' means."""
    d = features.n_features
    return d >= _MANY_FEATURES and 2 * features.size > d * d


def feature_sizes(features, reach):
    """Largest sizes of the features of samples within ``reach`` (n_features,) of the reference."""
    left, right = features.pairs
    rows = np.concatenate([[1.0], reach, [reach @ reach]])
    return rows[left] * rows[right]
