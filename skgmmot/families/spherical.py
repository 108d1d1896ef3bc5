"""A single variance for each component. φ(x) = 1, x, ‖x‖²; p = 2 + d."""

from functools import lru_cache

import numpy as np

from ..samples.interface import features_with
from .diagonal import Diagonal


@lru_cache(maxsize=128)
def _features(n_features):
    return features_with(n_features, (n_features + 1,), (0,))


class Spherical(Diagonal):
    """A single variance for each component."""

    name = "spherical"

    def features(self, n_features):
        return _features(n_features)

    def shape(self, n_components, n_features):
        return (n_components,)

    def n_parameters(self, n_components, n_features):
        return n_components

    def of_variances(self, variances, n_components):
        return np.full(n_components, variances.mean())

    def of_factors(self, factors):
        return factors[:, 0] ** 2

    def multiplicity(self, n_features):
        return n_features

    def batch(self, covariances):
        return covariances[:, None]

    def unbatch(self, batch):
        return batch[:, 0]

    def fold(self, values):
        return values.sum(axis=1, keepdims=True)
