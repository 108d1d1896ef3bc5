"""Samples some of which have no weight, which only derivatives in the weights still see."""

import numpy as np

from .interface import DataCotangent


class SamplesWithIdle:
    """`Samples` of positive weight, followed by others of weight zero.

    The latter are in no sum, however far away they lie. What would change if they had weight is
    added to derivatives in the sample weights, and to nothing else. Cotangents of the data have
    rows for all of them, those of positive weight first.

    Parameters
    ----------
    active : Samples
    idle : Samples
        All weights zero.
    """

    def __init__(self, active, idle):
        self._active, self._idle = active, idle

    def __getattr__(self, name):
        return getattr(self._active, name)

    @property
    def _n_active(self):
        return self._active.shape[0]

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        """`Samples.statistics_jvp`."""
        n = self._n_active
        active_dot, idle_dot = data_dot, None
        if data_dot is not None:
            X_dot, weight_dot = data_dot
            active_dot = data_dot._replace(
                X=None if X_dot is None else X_dot[:n],
                sample_weight=None if weight_dot is None else weight_dot[:n],
            )
            if weight_dot is not None and weight_dot[n:].any():
                idle_dot = data_dot._replace(X=None, sample_weight=weight_dot[n:])
        sums = self._active.statistics_jvp(
            logits, coefficients_dot, origin=origin, data_dot=active_dot
        )
        if idle_dot is not None:
            sums = sums + self._idle.statistics_jvp(logits, 0.0, origin=origin, data_dot=idle_dot)
        return sums

    def statistics_vjp(self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None):
        """`Samples.statistics_vjp`."""
        n, active_bar = self._n_active, data_bar
        if data_bar is not None:
            weight_bar = data_bar.sample_weight
            active_bar = DataCotangent(
                data_bar.X[:n], None if weight_bar is None else weight_bar[:n]
            )
            if weight_bar is not None:
                nowhere = np.zeros((0, 0))
                self._idle.statistics_vjp(
                    logits,
                    sums_bar,
                    origin=origin,
                    wrt_logits=False,
                    data_bar=DataCotangent(nowhere, weight_bar[n:]),
                )
        return self._active.statistics_vjp(
            logits, sums_bar, origin=origin, wrt_logits=wrt_logits, data_bar=active_bar
        )

    def zero_cotangent(self, *, wrt_weight=False):
        """`Samples.zero_cotangent`."""
        n_samples, n_features = self._n_active + self._idle.shape[0], self._active.shape[1]
        weight_bar = np.zeros(n_samples) if wrt_weight else None
        return DataCotangent(np.zeros((n_samples, n_features)), weight_bar)
