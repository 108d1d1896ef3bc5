"""Samples, and what EM looks up of them once."""

from functools import cached_property

import numpy as np

from ..families import FULL
from ..numerics.packing import packing, unpack
from ..samples.interface import NO_FACTORS, Logits


class Data:
    """Samples, with their summary and their second moment about the center.

    Parameters
    ----------
    samples : Samples
    """

    def __init__(self, samples):
        self.samples = samples

    @cached_property
    def summary(self):
        """The samples' `Summary`."""
        return self.samples.summary()

    @property
    def center(self):
        """The weighted mean of the samples."""
        return self.summary.center

    @property
    def total_weight(self):
        """Σ_i s_i."""
        return self.summary.total_weight

    @cached_property
    def second_moment(self):
        """T = Σ_i s_i z_i z_iᵀ with z_i = x_i - center."""
        return second_moment(self.samples, self.center)

    def second_moment_jvp(self, data_dot):
        """Ṫ = Σ_i ṡ_i z_i z_iᵀ + s_i (ẋ_i z_iᵀ + z_i ẋ_iᵀ)."""
        logits = _single(self.center)
        sums_dot = self.samples.statistics_jvp(logits, 0.0, data_dot=data_dot)
        return unpack(sums_dot[0, 1 + len(self.center) :], len(self.center))

    def second_moment_vjp(self, moment_bar, data_bar):
        """Add x̄_i = 2 s_i T̄ z_i and s̄_i = z_iᵀ T̄ z_i to a `DataCotangent`."""
        n_features = len(self.center)
        packed, scale = packing(n_features)
        sums_bar = np.zeros((1, 1 + n_features + len(packed)))
        sums_bar[0, 1 + n_features :] = -2.0 * scale * moment_bar.flat[packed]
        self.samples.statistics_vjp(
            _single(self.center), sums_bar, wrt_logits=False, data_bar=data_bar
        )


def second_moment(samples, center):
    """Σ_i s_i z_i z_iᵀ about any center: the statistics of a single component."""
    sums = samples.statistics(_single(center)).sums
    return unpack(sums[0, 1 + len(center) :], len(center))


def _single(center):
    """Logits of a single component about ``center``: its responsibilities are one."""
    features = FULL.features(len(center))
    return Logits(center[None], np.zeros((1, features.size)), NO_FACTORS, features)
