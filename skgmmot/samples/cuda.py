"""Samples in an array on a CUDA device, by CuPy: what has the size of the samples stays there.

What has the size of the mixture is NumPy's, on the host. Small mixtures go through fused kernels
(`cuda_fused`), large ones through products of matrices (`cuda_tiles`). Results have the same bits
in every run on the same kind of device.
"""

from functools import cached_property

import numpy as np

from ..kernels.cuda import add_up, launch
from .cpu import CpuSamples, groups_of_rows
from .cuda_fused import Fused
from .cuda_tiles import Tiles
from .device_arrays import module_of
from .interface import NO_FACTORS, NOBODY, DataCotangent, Logits, Overlaps, Statistics, Summary
from .row_boxes import RowBoxes

_CHUNK = 65_536  # rows of which responsibilities are in memory at a time
_THREADS, _BLOCKS = 256, 512  # of the first look


class DeviceMixture:
    """Some logits, with components about the common point first, and those that are apart last.

    Parameters
    ----------
    logits : Logits
    origin : ndarray of shape (n_components or 1, n_features), default=None
        Where statistics are taken about; None: the logits' reference.
    direction : ndarray of shape (n_components, size of φ), or a number, default=0.0
        A cotangent of statistics, or a tangent of coefficients.
    """

    def __init__(self, logits, origin=None, direction=0.0):
        self.features, self.n_apart = logits.features, len(logits.apart)
        self.n_components = logits.n_components
        self.n_near = self.n_components - self.n_apart
        near = np.delete(np.arange(self.n_components), logits.apart)
        self.order = np.concatenate([near, logits.apart])
        self.coefficients = logits.coefficients[self.order]
        self.direction = np.broadcast_to(direction, logits.coefficients.shape)[self.order]
        self.factors = logits.factors
        d = self.features.n_features
        self.is_diagonal = bool(self.n_apart) and self.factors.shape[1] == 1 and d > 1
        self.points = self._points(logits.reference)
        self.origins = self.points if origin is None else self._points(origin)

    def _points(self, points):
        """The common point, and those of components that are apart."""
        common = points[self.order[0]] if self.n_near and len(points) > 1 else points[0]
        if not self.n_apart:
            return common[None]
        common = common if self.n_near else np.zeros_like(common)
        return np.concatenate([common[None], points[self.order[self.n_near :]]])

    def in_order(self, values):
        """Values of the components, along the first axis, in the order of the logits."""
        out = np.empty_like(values)
        out[self.order] = values
        return out


class CudaSamples(RowBoxes):
    """`Samples` on a CUDA device.

    Parameters
    ----------
    X : C-contiguous cupy.ndarray of shape (n_samples, n_features), float32 or float64
    sample_weight : cupy.ndarray of shape (n_samples,), float64, positive; or None
    """

    in_memory = False

    def __init__(self, X, sample_weight=None):
        self.X, self.sample_weight = X, sample_weight
        self.shape, self.dtype, self.cupy = X.shape, X.dtype, module_of(X)
        self._pairs = {}

    def pairs_of(self, features):
        """The pairs of rows of some features, (p, 2), on the device."""
        if features not in self._pairs:
            pairs = np.ascontiguousarray(features.pairs.T, dtype=np.int32)
            self._pairs[features] = self.cupy.asarray(pairs)
        return self._pairs[features]

    def _with(self, mixture):
        return (Fused if Fused.fits(mixture) else Tiles)(self, mixture)

    def summary(self):
        """`Samples.summary`."""
        return self._summary

    @cached_property
    def _summary(self):
        n_samples, d = self.shape
        n_blocks = max(1, min(_BLOCKS, n_samples // _THREADS))
        partials = self.cupy.empty((n_blocks, 4, d))
        arguments = self.X, self.sample_weight, np.int64(n_samples), d, partials
        shared = 4 * 8 * _THREADS
        launch(self.cupy, self.dtype, "summary", n_blocks, _THREADS, arguments, shared=shared)
        sums = add_up(self.cupy, self.dtype, partials.reshape(n_blocks, 4 * d)).get()
        weight = self.sample_weight
        return Summary(
            n_samples,
            float(n_samples if weight is None else weight.sum()),
            sums[:d],
            partials[:, 2].min(axis=0).get(),
            partials[:, 3].max(axis=0).get(),
            sums[d : 2 * d],
        )

    def statistics(self, logits, *, origin=None):
        """`Samples.statistics`."""
        mixture = DeviceMixture(logits, origin)
        sums, log_likelihood = self._with(mixture).statistics()
        return Statistics(mixture.in_order(sums), log_likelihood)

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        """`Samples.statistics_jvp`."""
        mixture = DeviceMixture(logits, origin, coefficients_dot)
        X_dot, weight_dot = (None, None) if data_dot is None else data_dot
        return mixture.in_order(self._with(mixture).statistics_jvp(X_dot, weight_dot))

    def statistics_vjp(self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None):
        """`Samples.statistics_vjp`."""
        mixture = DeviceMixture(logits, origin, sums_bar)
        X_bar, weight_bar = None, None
        if data_bar is not None:
            X_bar = data_bar.X if data_bar.X.size else None
            weight_bar = data_bar.sample_weight
        eta_bar = self._with(mixture).statistics_vjp(
            wrt_logits=wrt_logits, X_bar=X_bar, weight_bar=weight_bar
        )
        return None if eta_bar is None else mixture.in_order(eta_bar)

    def assigned_statistics(self, responsibilities, reference, features):
        """`Samples.assigned_statistics`; the responsibilities may be on the device."""
        total = 0.0
        for part, chunk in self.chunks():
            given = self.cupy.asarray(responsibilities(part))
            n_components = given.shape[1]
            apart = np.arange(n_components) if len(reference) > 1 else NOBODY
            factors = np.zeros((len(apart), 1, features.n_features)) if len(apart) else NO_FACTORS
            zeros = np.zeros((n_components, features.size))
            mixture = DeviceMixture(Logits(reference, zeros, factors, features, apart))
            total = total + chunk._with(mixture).assigned_statistics(given)
        return total

    def overlaps(self, logits):
        """`Samples.overlaps`."""
        mixture = DeviceMixture(logits)
        masses, shared, log_likelihood = self._with(mixture).overlaps()
        shared = mixture.in_order(mixture.in_order(shared).T)
        return Overlaps(shared, mixture.in_order(masses), log_likelihood)

    def log_densities(self, logits):
        """`Samples.log_densities`."""
        return self._answer(logits, log_density=self.cupy.empty(len(self.X)))

    def completed_log_densities(self, logits):
        """`Samples.completed_log_densities`."""
        out = self.cupy.empty(len(self.X))
        return self._answer(logits, log_density=out, is_completed=True)

    def responsibilities(self, logits):
        """`Samples.responsibilities`."""
        out = self.cupy.empty((len(self.X), logits.n_components))
        return self._answer(logits, responsibilities=out)

    def labels(self, logits):
        """`Samples.labels`."""
        return self._answer(logits, labels=self.cupy.empty(len(self.X), dtype=np.int64))

    def _answer(
        self, logits, *, is_completed=False, log_density=None, responsibilities=None, labels=None
    ):
        """Write what is wanted of each sample into an array, and return it."""
        way = self._with(DeviceMixture(logits))
        way.answer(is_completed, log_density, responsibilities, labels)
        return next(out for out in (log_density, responsibilities, labels) if out is not None)

    def chunks(self):
        """`Samples.chunks`, on the device."""
        for start in range(0, len(self.X), _CHUNK):
            part = slice(start, start + _CHUNK)
            yield part, self.picked(part)

    def groups(self, n_groups):
        """`Samples.groups`: views of the rows, those that the host would take."""
        return [self.picked(part) for part in groups_of_rows(len(self.X), n_groups)]

    def zero_cotangent(self, *, wrt_weight=False):
        """`Samples.zero_cotangent`, on the device."""
        zeros = self.cupy.zeros
        return DataCotangent(zeros(self.shape), zeros(len(self.X)) if wrt_weight else None)

    def rows(self):
        """`Samples.rows`."""
        return self.X, self.sample_weight

    def picked(self, index):
        """`Samples.picked`."""
        if isinstance(index, np.ndarray):
            index = self.cupy.asarray(index)
        weight = None if self.sample_weight is None else self.sample_weight[index]
        return CudaSamples(self.X[index], weight)

    def subset(self, index):
        """`Samples.subset`: on the host."""
        X, weight = self.picked(index).rows()
        return CpuSamples(X.get(), None if weight is None else weight.get())

    def total(self, question):
        """`Samples.total`."""
        return question(self)
