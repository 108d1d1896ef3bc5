"""Samples some of which have no weight, which only derivatives in the weights still see."""

from typing import NamedTuple

import numpy as np

from .cpu import CpuSamples
from .cuda import CudaSamples
from .device_arrays import is_on_device, module_of
from .interface import DataCotangent, DataTangent


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
                nowhere = data_bar.X[:0, :0]
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
        module = module_of(self.rows()[0])
        weight_bar = module.zeros(n_samples) if wrt_weight else None
        return DataCotangent(module.zeros((n_samples, n_features)), weight_bar)


class RowOrder(NamedTuple):
    """How the rows that a derivative sees lie among those of the user.

    order : ndarray of int, those of weight zero last, as `fit` leaves them out; None: as they are
    n_active : int, number of the others
    exponent : int, of the unit of the sample weights
    """

    order: np.ndarray | None = None
    n_active: int = 0
    exponent: int = 0

    @classmethod
    def of(cls, weight, exponent):
        if weight.all():
            return cls(None, len(weight), exponent)
        active = np.flatnonzero(weight)
        order = np.concatenate([active, np.flatnonzero(weight == 0)])
        return cls(order, len(active), exponent)

    def samples(self, X, weight, n_threads, summary=None):
        """`Samples` of all rows.

        ``summary`` is that of the rows of positive weight, where there may be others than these.
        """
        if self.order is None:
            return _held(X, weight, n_threads)
        active, idle = self.order[: self.n_active], self.order[self.n_active :]
        samples = None
        if self.n_active:
            samples = _held(X[active], weight[active], n_threads)
        inside = _within_reach(X[idle], samples.summary() if summary is None else summary)
        idle = _held(inside, weight[idle], n_threads)
        return idle if samples is None else SamplesWithIdle(samples, idle)

    def inward(self, X_dot, weight_dot):
        """The `DataTangent` of tangents of the user's rows and weights."""
        if weight_dot is not None and self.exponent:
            weight_dot = np.ldexp(weight_dot, -self.exponent)
        if self.order is not None:
            X_dot = None if X_dot is None else X_dot[self.order]
            weight_dot = None if weight_dot is None else weight_dot[self.order]
        return DataTangent(X_dot, weight_dot)

    def outward(self, data_bar, weight_bar, first=0):
        """Cotangents of the user's rows and weights, the number of whose first row is given."""
        if self.order is not None:
            back = np.argsort(self.order)
            data_bar = data_bar[back]
            weight_bar = None if weight_bar is None else weight_bar[back]
        if weight_bar is None:
            return data_bar, None
        with np.errstate(over="ignore"):
            weight_bar = np.ldexp(weight_bar, -self.exponent)
        if not np.isfinite(weight_bar).all():
            row = int(np.flatnonzero(~np.isfinite(weight_bar))[0]) + first
            raise ValueError(
                f"sample_weight: the derivative in the weight of row {row} overflows: the row "
                "lies too far away, or the weights are too small. Leave the row out, scale the "
                "weights, or ask for gradient_wrt_data alone."
            )
        return data_bar, weight_bar


def within(values, dtype):
    """Values of a dtype; what is too large for it becomes its largest number."""
    if values.dtype == dtype:
        return values
    largest = np.finfo(dtype).max
    return np.clip(values, -largest, largest).astype(dtype)


def _within_reach(X, summary):
    """Rows no further from others than 1e100 times their extent: no derivative overflows there."""
    reach = summary.reach.max()
    limit = max(min(1e100 * reach, 1e150), reach)
    module = module_of(X)
    with np.errstate(over="ignore"):
        ends = module.asarray(summary.center - limit), module.asarray(summary.center + limit)
    inside = module.clip(X, *ends)
    return module.ascontiguousarray(inside, dtype=X.dtype)


def _held(X, weight, n_threads):
    """`Samples` of an array, all of whose rows stay."""
    return CudaSamples(X, weight) if is_on_device(X) else CpuSamples(X, weight, n_threads)
