"""Samples in a NumPy array: numba kernels over blocks of them, run by a pool of threads.

The data are cut into segments, the segments into blocks. Neither cut depends on the number of
threads, each segment has sums of its own, and these are added in order: results have the same
bits for every number of threads. Memory beyond the data is that of the segments' sums.
"""

from contextlib import nullcontext
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..kernels import compiled, compiled_derivatives
from ..kernels.blocks import BLOCK, PAIR, TILE, padded
from ..kernels.large import LARGE
from ..numerics.threads import one_blas_thread, run
from .interface import NOBODY, DataCotangent, Overlaps, Statistics, Summary
from .pruning import Pruning
from .row_boxes import RowBoxes

_SEGMENT_COST = 120e3  # nanoseconds of work of which half is worth waking a thread for
_MAX_SEGMENTS = 64
_MAX_SUMS_BYTES = 2**23
_CHUNK = 65_536  # rows of which responsibilities are in memory at a time
_UNWEIGHTED = np.zeros(0)
_NO_DENSITY = np.zeros(0)
_NO_RESPONSIBILITIES = np.zeros((0, 0))
_NO_LABELS = np.zeros(0, dtype=np.int64)
_NO_ROWS = np.zeros((0, 0))
_NO_SUMS = np.zeros((0, 0, 0))


def read_only(array):
    """A read-only view, so that a kernel is compiled for one kind of array only."""
    view = array.view()
    view.flags.writeable = False
    return view


class _Layout:
    """How the kernels want what belongs to the components of some logits (`kernels.compiled`)."""

    def __init__(self, n_components, size, apart):
        self.size, self.apart, n_apart = size, apart, len(apart)
        self.n_near = n_components - n_apart
        # where some go apart, `pull_back` takes the others by themselves
        self.n_padded = padded(self.n_near, TILE if n_apart else PAIR)
        self.shape = self.n_padded + n_apart, padded(size, TILE)
        self.order = None  # of the components, if not as they are
        if 0 < n_apart < n_components:
            self.order = np.concatenate([self._near(), self.apart])

    def _near(self):
        return np.delete(np.arange(self.n_near + len(self.apart)), self.apart)

    def rows(self, coefficients):
        """Coefficients, or cotangents of sums, among zeros."""
        out = np.zeros(self.shape)
        if self.order is None:
            n_components = self.n_near + len(self.apart)
            out[:n_components, : self.size] = coefficients
        elif np.ndim(coefficients):
            out[: self.n_near, : self.size] = coefficients[self.order[: self.n_near]]
            out[self.n_padded :, : self.size] = coefficients[self.apart]
        return out

    def of_rows(self, rows):
        """What `rows` was made of, from sums in that form."""
        if self.order is None:
            return rows[: self.n_near + len(self.apart), : self.size]
        packed = np.concatenate([rows[: self.n_near], rows[self.n_padded :]])
        return self.of_order(packed[:, : self.size])

    def of_order(self, values):
        """Values of components, along the first axis, without padding."""
        if self.order is None:
            return values
        out = np.empty_like(values)
        out[self.order] = values
        return out

    def points(self, points):
        """The common point, and those of the components that are apart."""
        if not len(self.apart):
            return points
        common = points[self.order[0]] if self.n_near else np.zeros(points.shape[1])
        return np.concatenate([common[None], points[self.apart]])


@lru_cache(maxsize=256)
def _layout_of_near(n_components, size):
    """The `_Layout` where all components are near."""
    return _Layout(n_components, size, NOBODY)


@lru_cache(maxsize=256)
def pairs_of(features):
    """The pairs of rows of some features, padded to whole tiles."""
    pairs = np.zeros((2, padded(features.size, TILE)), dtype=np.int64)
    pairs[:, : features.size] = features.pairs
    return read_only(pairs)


@lru_cache(maxsize=256)
def _segments(n_samples, n_features, shape=(0, 0)):
    """Row numbers at which segments start and end, whole blocks each."""
    n_components, size = shape
    n_blocks = -(-n_samples // BLOCK)
    cost = n_blocks * BLOCK * (n_components * (0.05 * size + 0.7) + n_features)
    limit = min(_MAX_SEGMENTS, max(8, _MAX_SUMS_BYTES // (8 * n_components * size + 1)))
    wanted = 1
    while wanted < limit and wanted * _SEGMENT_COST < cost:
        wanted *= 2
    wanted = min(wanted, n_blocks)
    bounds = BLOCK * (np.arange(wanted + 1) * n_blocks // wanted)
    bounds[-1] = n_samples
    bounds.flags.writeable = False
    return bounds


def groups_of_rows(n_samples, n_groups):
    """At most so many slices of all rows, whole blocks each."""
    n_blocks = -(-n_samples // BLOCK)
    bounds = BLOCK * (np.arange(n_groups + 1) * n_blocks // n_groups)
    return [slice(*ends) for ends in pairwise(np.unique(bounds).tolist())]


class CpuSamples(RowBoxes):
    """`Samples` in a NumPy array.

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_samples, n_features), float32 or float64
    sample_weight : ndarray of shape (n_samples,), float64, positive; or None
    n_threads : int, default=1
    seen_once : bool, default=False
        Whether they are forgotten after a single pass.
    """

    in_memory = True

    def __init__(self, X, sample_weight=None, n_threads=1, *, seen_once=False):
        self.X, self.sample_weight, self.n_threads = X, sample_weight, n_threads
        self.shape, self.dtype = X.shape, X.dtype
        weight = _UNWEIGHTED if sample_weight is None else sample_weight
        self._data = read_only(X), read_only(weight)
        self._pruning = Pruning(*self._data, n_threads, seen_once)

    def _each_segment(self, shape, allocate, task):
        """Run ``task(bounds, *buffers)`` on ranges of segments, and return the buffers.

        ``allocate(n_segments)`` makes them, with an entry for each segment.
        """
        bounds = _segments(*self.shape, shape)
        buffers = allocate(len(bounds) - 1)
        if len(bounds) == 2 and self.shape[1] < LARGE:
            task(bounds, *buffers)
            return buffers

        def run_task(first, last):
            task(bounds[first : last + 1], *(buffer[first:last] for buffer in buffers))

        with one_blas_thread() if self.shape[1] >= LARGE else nullcontext():
            run(run_task, len(bounds) - 1, self.n_threads)
        return buffers

    def summary(self):
        """`Samples.summary`."""
        n_samples, n_features = self.shape
        sums, lowest, highest, checks = self._each_segment(
            (0, 0),
            lambda n_segments: np.zeros((4, n_segments, n_features)),
            lambda bounds, *out: compiled.summary(*self._data, bounds, *out),
        )
        weight = self.sample_weight
        return Summary(
            n_samples,
            float(n_samples if weight is None else weight.sum()),
            sums.sum(axis=0),
            lowest.min(axis=0),
            highest.max(axis=0),
            checks.sum(axis=0),
        )

    def statistics(self, logits, *, origin=None):
        """`Samples.statistics`."""
        selection = self._pruning.selection(logits)
        if selection.is_dense:
            return self._statistics(logits, origin, selection)[0]
        return self._with_certainty(logits, origin, selection)[1]

    def _with_certainty(self, logits, origin, selection):
        """The components that blocks need, for sums, and the statistics."""
        while True:
            found, certificate = self._statistics(logits, origin, selection)
            selection = selection.narrowed(certificate)
            longer = self._pruning.longer(logits, selection, found.sums[:, 0])
            if longer is None:
                return selection, found
            selection = longer

    def _certain(self, logits):
        """The components that blocks need, for sums."""
        known = self._pruning.certain(logits)
        if known is not None:
            return known
        selection = self._pruning.selection(logits)
        if selection.is_dense:
            return selection
        return self._with_certainty(logits, None, selection)[0]

    def _statistics(self, logits, origin, selection):
        """Statistics, and the certificate of what of the lists was left out."""
        arguments, layout = self._arguments(logits, origin, selection)

        n_certified = len(selection.masses)

        def allocate(n_segments):
            buffers = np.zeros((n_segments, *layout.shape)), np.zeros(n_segments)
            return (*buffers, np.zeros((n_segments, n_certified))) if n_certified else buffers

        def task(bounds, sums, log_likelihood, certificate=None):
            compiled.statistics(*arguments, bounds, sums, log_likelihood, certificate)

        sums, log_likelihood, *certificate = self._each_segment(layout.shape, allocate, task)
        statistics = Statistics(layout.of_rows(_total(sums)), _total(log_likelihood))
        return statistics, _total(certificate[0]) if certificate else None

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        """`Samples.statistics_jvp`."""
        selection = self._certain(logits)
        arguments, layout = self._arguments(logits, origin, selection)
        coefficients_dot = layout.rows(coefficients_dot)
        X_dot, weight_dot = (None, None) if data_dot is None else data_dot
        moved = (
            read_only(_NO_ROWS if X_dot is None else selection.ordered(X_dot)),
            read_only(_UNWEIGHTED if weight_dot is None else selection.ordered(weight_dot)),
        )
        (sums,) = self._each_segment(
            layout.shape,
            lambda n_segments: (np.zeros((n_segments, *layout.shape)),),
            lambda bounds, out: compiled_derivatives.statistics_jvp(
                *arguments, coefficients_dot, *moved, bounds, out
            ),
        )
        return layout.of_rows(_total(sums))

    def statistics_vjp(self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None):
        """`Samples.statistics_vjp`."""
        selection = self._certain(logits)
        arguments, layout = self._arguments(logits, origin, selection)
        sums_bar = layout.rows(sums_bar)
        X_bar, weight_bar = _NO_ROWS, _NO_DENSITY
        if data_bar is not None:
            X_bar = data_bar.X
            weight_bar = _NO_DENSITY if data_bar.sample_weight is None else data_bar.sample_weight
        (sums,) = self._each_segment(
            layout.shape,
            lambda n_segments: (np.zeros((n_segments, *layout.shape)) if wrt_logits else _NO_SUMS,),
            lambda bounds, out: compiled_derivatives.statistics_vjp(
                *arguments, sums_bar, bounds, out, X_bar, weight_bar
            ),
        )
        return layout.of_rows(_total(sums)) if wrt_logits else None

    def assigned_statistics(self, responsibilities, reference, features):
        """`Samples.assigned_statistics`."""
        total = 0.0
        for part, chunk in self.chunks():
            total = total + chunk._assigned(responsibilities(part), reference, features)
        return total

    def _assigned(self, responsibilities, reference, features):
        n_components, rows = responsibilities.shape[1], len(reference)
        if rows > 1:  # a point for each component, and none in common
            reference = np.concatenate([np.zeros((1, reference.shape[1])), reference])
        else:
            rows = padded(n_components, PAIR)
        shape = rows, padded(features.size, TILE)
        arguments = (responsibilities, reference, pairs_of(features), features.has_squared_norm)
        (sums,) = self._each_segment(
            shape,
            lambda n_segments: (np.zeros((n_segments, *shape)),),
            lambda bounds, out: compiled.assigned_statistics(*self._data, *arguments, bounds, out),
        )
        return sums.sum(axis=0)[:n_components, : features.size]

    def overlaps(self, logits):
        """`Samples.overlaps`."""
        arguments, layout = self._arguments(logits, None, self._certain(logits))
        n_components = len(logits.coefficients)
        sums, masses, log_likelihood = self._each_segment(
            layout.shape,
            lambda n_segments: (
                np.zeros((n_segments, n_components, n_components)),
                np.zeros((n_segments, n_components)),
                np.zeros(n_segments),
            ),
            lambda bounds, *out: compiled.overlaps(*arguments[:-1], bounds, *out),
        )
        lower = sums.sum(axis=0)
        shared = lower + np.tril(lower, -1).T
        shared = layout.of_order(layout.of_order(shared).T)
        return Overlaps(shared, layout.of_order(masses.sum(axis=0)), float(log_likelihood.sum()))

    def log_densities(self, logits):
        """`Samples.log_densities`."""
        out = np.empty(self.shape[0])
        self._densities(logits, out, False, _NO_RESPONSIBILITIES, _NO_LABELS)
        return out

    def completed_log_densities(self, logits):
        """`Samples.completed_log_densities`."""
        out = np.empty(self.shape[0])
        self._densities(logits, out, True, _NO_RESPONSIBILITIES, _NO_LABELS)
        return out

    def responsibilities(self, logits):
        """`Samples.responsibilities`."""
        out = np.empty((self.shape[0], len(logits.coefficients)))
        layout = self._densities(logits, _NO_DENSITY, False, out, _NO_LABELS)
        return layout.of_order(out.T).T

    def labels(self, logits):
        """`Samples.labels`."""
        out = np.empty(self.shape[0], dtype=np.int64)
        layout = self._densities(logits, _NO_DENSITY, False, _NO_RESPONSIBILITIES, out)
        return out if layout.order is None else layout.order[out]

    def _densities(self, logits, *out):
        arguments, layout = self._arguments(logits, None, self._pruning.dense)
        arguments = arguments[:1] + arguments[2:-2]  # no sample weights, lists, origin
        self._each_segment(
            layout.shape,
            lambda n_segments: (),
            lambda bounds: compiled.densities(*arguments, bounds, *out),
        )
        return layout

    def chunks(self):
        """`Samples.chunks`."""
        for start in range(0, self.shape[0], _CHUNK):
            part = slice(start, start + _CHUNK)
            yield part, self.subset(part)

    def groups(self, n_groups):
        """`Samples.groups`: views of the rows, whole blocks each."""
        return [self.subset(part) for part in groups_of_rows(self.shape[0], n_groups)]

    def zero_cotangent(self, *, wrt_weight=False):
        """`Samples.zero_cotangent`."""
        return DataCotangent(np.zeros(self.shape), np.zeros(self.shape[0]) if wrt_weight else None)

    def rows(self):
        """`Samples.rows`."""
        return self.X, self.sample_weight

    def subset(self, index):
        """`Samples.subset`."""
        weight = None if self.sample_weight is None else self.sample_weight[index]
        return CpuSamples(self.X[index], weight, self.n_threads)

    def picked(self, index):
        """`Samples.picked`."""
        return self.subset(index)

    def total(self, question):
        """`Samples.total`."""
        return question(self)

    def _arguments(self, logits, origin, selection):
        """What the kernels take: data, logits as plain arrays, origin; and their `_Layout`."""
        shape, n_apart = logits.coefficients.shape, len(logits.apart)
        layout = _Layout(*shape, logits.apart) if n_apart else _layout_of_near(*shape)
        reference = layout.points(logits.reference)
        arguments = (
            *selection.data,
            reference,
            layout.rows(logits.coefficients),
            logits.factors,
            pairs_of(logits.features),
            logits.features.has_squared_norm,
            layout.n_near,
            selection.lists,
            reference if origin is None else np.array(layout.points(origin), order="C"),
        )
        return arguments, layout


def _total(sums):
    """What segments add up to."""
    return sums[0] if len(sums) == 1 else sums.sum(axis=0)
