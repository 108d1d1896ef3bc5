"""Many small sets of samples in one array, and the passes over all of them."""

from typing import Any, NamedTuple

import numpy as np

from ..kernels import sets as kernels
from .cpu import pairs_of, read_only

_UNWEIGHTED = np.zeros(0)


class SetsLogits(NamedTuple):
    """The `Logits` of the mixtures of some sets, in both ways.

    weights : ndarray of shape (n_sets, n_components)
    means : ndarray of shape (n_sets, n_components, n_features)
    coefficients : ndarray of shape (n_sets, n_components, size of φ), about the sets' centers
    constants : ndarray of shape (n_sets, n_components), those of coefficients about the means
    factors : ndarray of shape (n_sets, n_components, n_features or 1, n_features)
    features : Features
    """

    weights: np.ndarray
    means: np.ndarray
    coefficients: np.ndarray
    constants: np.ndarray
    factors: np.ndarray
    features: Any

    def for_kernels(self):
        """The arguments of kernels from the means on."""
        return *self[1:-1], pairs_of(self.features), self.features.has_squared_norm


class Points(NamedTuple):
    """About which points the sums of sets are.

    centered : ndarray of shape (n_sets,), bool
        Whether logits are about the means of the components, and not about the center of the set.
    origins : ndarray of shape (n_sets, n_components, n_features)
    """

    centered: np.ndarray
    origins: np.ndarray


class SampleSets:
    """Sets of consecutive rows of an array. None is empty, or of weight zero.

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_rows, n_features), float32 or float64
    sample_weight : ndarray of shape (n_rows,), float64, not negative; or None
    bounds : ndarray of shape (n_sets, 2), int64
        The first row of each set, and the one beyond its last.
    """

    def __init__(self, X, sample_weight, bounds):
        self.X, self.sample_weight, self.bounds = X, sample_weight, bounds
        self.total_weight = np.empty(len(bounds))
        self.centers, self.reaches = np.empty((2, *self.shape))
        kernels.summaries_of_sets(*self._data, self.total_weight, self.centers, self.reaches)

    @property
    def shape(self):
        """Number of sets, and of features."""
        return len(self.bounds), self.X.shape[1]

    @property
    def _data(self):
        weight = _UNWEIGHTED if self.sample_weight is None else self.sample_weight
        bounds = np.ascontiguousarray(self.bounds, dtype=np.int64)
        return tuple(map(read_only, (self.X, weight, bounds)))

    def of(self, chosen):
        """Some of the sets."""
        part = object.__new__(SampleSets)
        part.X, part.sample_weight = self.X, self.sample_weight
        for name in "bounds", "total_weight", "centers", "reaches":
            setattr(part, name, getattr(self, name)[chosen])
        return part

    def rows(self, s):
        """X and the sample weights of a set."""
        own = slice(*self.bounds[s])
        return self.X[own], None if self.sample_weight is None else self.sample_weight[own]

    def fill_statistics(self, chosen, logits, limit, points, sums, log_likelihood):
        """Write statistics of chosen sets, and the points of those that are not centered yet."""
        kernels.statistics_of_sets(
            *self._data,
            chosen,
            self.centers,
            self.reaches,
            logits.weights,
            *logits.for_kernels(),
            limit,
            *points,
            sums,
            log_likelihood,
        )

    def statistics_vjp(self, logits, points, sums_bar, *, wrt_logits, data_bar):
        """Pull a cotangent of the statistics back to the logits and to the data.

        Returns that of the coefficients, about centers or means, if it is wanted.
        """
        coefficients_bar = np.empty(sums_bar.shape if wrt_logits else (0, 0, 0))
        rows_bar, weight_bar = np.zeros((0, 0)), None
        if data_bar is not None:
            rows_bar, weight_bar = data_bar.X, data_bar.sample_weight
        kernels.statistics_vjp_of_sets(
            *self._data,
            self.centers,
            *logits.for_kernels(),
            *points,
            sums_bar,
            coefficients_bar,
            rows_bar,
            _UNWEIGHTED if weight_bar is None else weight_bar,
        )
        return coefficients_bar if wrt_logits else None
