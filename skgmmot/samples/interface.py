"""What EM asks of data, whoever holds them: the interface `Samples`, and what it speaks of.

Everything above this room has the size of the mixture. A new home for data (a GPU, chunks on a
disk, a cluster) is a class with these methods. Sums over parts of the data are sums: `Summary`,
`Statistics` and `Overlaps` add up with ``+``.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

NO_FACTORS = np.zeros((0, 0, 0))
NOBODY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Features:
    """The features φ(x) of a sample, as products of pairs of rows.

    Write the sample about a reference point as rows z_0 = 1, z_1 … z_d and z_{d+1} = ‖z‖². Every
    feature of every covariance type is then a product of two rows, φ_f = z_left[f] · z_right[f],
    so that one set of kernels serves all types. The first of them are 1, z_1 … z_d.

    pairs : ndarray of shape (2, size of φ), left and right
    n_features : int, d
    """

    pairs: np.ndarray
    n_features: int

    @cached_property
    def size(self):
        return self.pairs.shape[1]

    @cached_property
    def has_squared_norm(self):
        return bool((self.pairs > self.n_features).any())


def features_with(n_features, left, right):
    """φ = 1, z, and the products of the rows ``left`` with the rows ``right``."""
    linear = np.arange(n_features + 1)
    pairs = np.array([[*linear, *left], [*np.zeros_like(linear), *right]], dtype=np.int64)
    return Features(pairs, n_features)


class Logits(NamedTuple):
    """log w_k g_k(x) = ⟨coefficients_k, φ(x - reference_k)⟩ for every component k.

    Components go one of two ways: the matrix way, about a point that they have in common, or the
    centered way, each about its own mean, with quadratic forms that are evaluated as squares
    ‖U_kᵀ (x - m_k)‖², P_k = U_k U_kᵀ, so that nothing cancels.

    reference : ndarray of shape (n_components, n_features) or (1, n_features)
        A point for each component, or one for all.
    coefficients : ndarray of shape (n_components, size of φ)
        Natural parameters about the reference points.
    factors : ndarray of shape (n_apart, n_features or 1, n_features), or (0, 0, 0)
        The upper triangular U_k, or their diagonals, of those that go the centered way.
    features : Features
    apart : ndarray of shape (n_apart,), int64
        The numbers of these, in increasing order.
    """

    reference: np.ndarray
    coefficients: np.ndarray
    factors: np.ndarray
    features: Features
    apart: np.ndarray = NOBODY

    @property
    def n_components(self):
        return len(self.coefficients)

    @property
    def is_centered(self):
        """Whether all components go the centered way."""
        return len(self.apart) == len(self.coefficients)

    def shifted(self, potentials):
        """With potentials of shape (n_components,) added to the constants."""
        coefficients = self.coefficients.copy()
        coefficients[:, 0] += potentials
        return self._replace(coefficients=coefficients)


@dataclass(frozen=True, eq=False)
class Summary:
    """What one look at the data tells.

    n_samples : int
    total_weight : float, Σ_i s_i
    sums : ndarray of shape (n_features,), Σ_i s_i x_i
    lowest, highest : ndarray of shape (n_features,)
    checks : ndarray of shape (n_features,), sums that tell other data apart
    """

    n_samples: int
    total_weight: float
    sums: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    checks: np.ndarray

    def __add__(self, other):
        return Summary(
            self.n_samples + other.n_samples,
            self.total_weight + other.total_weight,
            self.sums + other.sums,
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
            self.checks + other.checks,
        )

    @cached_property
    def center(self):
        """The weighted mean of the samples."""
        return np.clip(self.sums / self.total_weight, self.lowest, self.highest)

    @cached_property
    def reach(self):
        """max_i |x_i - center| of every feature."""
        return np.maximum(self.highest - self.center, self.center - self.lowest)


class Statistics(NamedTuple):
    """E-step statistics S_k = Σ_i s_i γ_ik φ(x_i - origin_k), and Σ_i s_i log p(x_i).

    sums : ndarray of shape (n_components, size of φ), float64
    log_likelihood : float
    """

    sums: np.ndarray
    log_likelihood: float

    def __add__(self, other):
        return Statistics(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class Overlaps(NamedTuple):
    """How much components share.

    sums : ndarray of shape (n_components, n_components), Σ_i s_i γ_ik γ_il
    masses : ndarray of shape (n_components,), Σ_i s_i γ_ik
    log_likelihood : float, Σ_i s_i log p(x_i)
    """

    sums: np.ndarray
    masses: np.ndarray
    log_likelihood: float

    def __add__(self, other):
        return Overlaps(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(eq=False)
class DataCotangent:
    """Where derivatives add up what the data receive.

    X : array of shape (n_samples, n_features), float64
    sample_weight : array of shape (n_samples,), float64, or None if not wanted
    second_moment : ndarray of shape (n_features, n_features), or 0.0
        The cotangent T̄ of Σ_i s_i z_i z_iᵀ about the center, which tied steps share; it is pulled
        back to the samples last (`EMMap.finish`).
    """

    X: np.ndarray
    sample_weight: np.ndarray | None
    second_moment: np.ndarray | float = 0.0

    def shift_weights(self, amount):
        """Add the same to the cotangents of all sample weights."""
        if self.sample_weight is not None:
            self.sample_weight += amount

    def found(self):
        """What X and the sample weights have received, in the end."""
        refuse_overflowed([self.X])
        return self.X, self.sample_weight


class DataTangent(NamedTuple):
    """How the data move.

    X : C-contiguous array of shape (n_samples, n_features), float64, or None
    sample_weight : array of shape (n_samples,), float64, or None
    """

    X: np.ndarray | None = None
    sample_weight: np.ndarray | None = None


def refuse_overflowed(arrays):
    """The arrays of a derivative, none of which may have overflowed."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(
            "X: the derivative overflows, since samples are too far from the components in units "
            "of their covariances. Scale the features, or give such samples the weight zero in "
            "sample_weight."
        )
    return arrays


class Samples(Protocol):
    """Samples with their weights, and the loops over them.

    In all methods ``logits`` are `Logits`, and ``origin``, of shape (n_components, n_features), are
    for components in the centered way other points than the logits' to take statistics about.
    """

    shape: tuple  # (n_samples, n_features)
    dtype: np.dtype  # of the samples
    in_memory: bool  # whether `rows` are NumPy arrays

    def summary(self) -> Summary:
        """Look once at all samples."""

    def statistics(self, logits, *, origin=None) -> Statistics:
        """The E-step."""

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        """Push tangents of the logits and the data (a `DataTangent`) forward to the sums.

        ``coefficients_dot`` has the shape of the coefficients, or is 0.0. Returns the tangent of
        `Statistics.sums`.
        """

    def statistics_vjp(
        self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None
    ) -> np.ndarray | None:
        """Pull a cotangent of the sums back to the logits' coefficients, and to the data.

        What the data receive is added to ``data_bar``, a `DataCotangent`, if one is given.
        """

    def assigned_statistics(self, responsibilities, reference, features) -> np.ndarray:
        """Sums for given responsibilities, about one point or a point for each component.

        ``responsibilities(part)`` is asked for slices of the rows in turn, and answers with a
        float64 array of shape (rows, n_components).
        """

    def overlaps(self, logits) -> Overlaps:
        """How much components share."""

    def log_densities(self, logits):
        """log Σ_k exp(logit_ik), float64 of shape (n_samples,)."""

    def completed_log_densities(self, logits):
        """The same plus Σ_k γ_ik log γ_ik."""

    def responsibilities(self, logits):
        """γ_ik, float64 of shape (n_samples, n_components)."""

    def labels(self, logits):
        """argmax_k γ_ik, int64 of shape (n_samples,)."""

    def chunks(self):
        """Slices of the rows, and the `Samples` of each, few enough for their responsibilities."""

    def groups(self, n_groups) -> list:
        """`Samples` of at most ``n_groups`` ranges of rows, none without weight."""

    def zero_cotangent(self, *, wrt_weight=False) -> DataCotangent:
        """A place for what the data receive."""

    def rows(self):
        """All samples, and their weights or None, as they are held."""

    def subset(self, index) -> "Samples":
        """Some of them, in memory."""

    def picked(self, index) -> "Samples":
        """Some of them, where they are."""

    def outside(self, lower, upper):
        """Which of them lie outside a box, bool of shape (n_samples,)."""

    def shrunk(self, scale, center) -> "Samples":
        """`Samples` at (x - center) · scale, in float64 and without weights."""

    def total(self, question):
        """The sum of ``question(samples)`` over parts of these, each in memory."""
