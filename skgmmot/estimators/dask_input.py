"""Dask arrays and data frames as the data of an estimator: what is checked before any is computed.

Nothing here imports Dask before the user has. Arrays stay lazy; numbers are looked at when they are
first computed, as those of all rows in chunks.
"""

import sys
import warnings

import numpy as np

from ..checks import as_real, exponent_of
from ..families import FAMILIES
from ..samples.dask_chunks import DaskRows
from ..samples.rows import ChunkedRows, in_chunks

_TASK_COST = 0.5e6  # nanoseconds that Dask takes for a task: 0.2e6 on threads, 0.6e6 on a cluster
_FEW_CHUNKS = 32  # whose tasks cost too little to speak of
_GOOD_RATIO = 10.0  # of work to scheduling


def is_dask(X):
    """Whether it is an array, data frame or series of Dask."""
    return hasattr(X, "__dask_graph__") and hasattr(X, "_meta")


def dask_rows(X):
    """`DaskRows` of a dask array or data frame.

    A data frame is computed once, to know how many rows its partitions have.
    """
    like = None
    if hasattr(X, "to_dask_array"):
        like, X = X._meta, X.to_dask_array(lengths=True)
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead. Pass X with a row for each sample: "
            "X[:, None] if it has a single feature."
        )
    _refuse_unknown(X, "X")
    _refuse_kind(X, "X")
    if X.shape[1] < 1:
        raise ValueError(f"Found array with 0 feature(s) (shape={X.shape}) while 1 is required.")
    if len(X.chunks[1]) > 1:
        _warn_of_performance(
            f"X has {len(X.chunks[1])} blocks of columns, put together again in every pass over "
            f"the data: {X.nbytes / 2**20:.3g} MiB are copied each time. Call "
            "X = X.rechunk({1: -1}).persist() once, before."
        )
        X = X.rechunk({1: -1})
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    return DaskRows(X, like)


def dask_weights(sample_weight, X):
    """`checks.weights_and_unit` for `DaskRows`; it computes weights that Dask holds once."""
    if np.ndim(sample_weight) == 0:
        sample_weight = np.full(len(X), sample_weight, dtype=np.float64)
    weight = dask_aligned(sample_weight, X, X.shape[:1], "sample_weight")
    exponent = exponent_of_weights(*_extremes(weight))
    return np.ldexp(weight, -exponent) if exponent else weight, exponent


def exponent_of_weights(lowest, highest):
    """`checks.exponent_of` for weights that lie between two numbers, or an error."""
    if not np.isfinite(lowest + highest):
        raise ValueError("sample_weight contains NaN or infinity.")
    if lowest < 0:
        raise ValueError(f"sample_weight must not be negative; the lowest is {lowest:.3g}.")
    if not highest > 0:
        raise ValueError("sample_weight: at least one weight must be positive.")
    return exponent_of(highest)


def dask_aligned(values, X, shape, name):
    """What has an item for each row of `DaskRows`, as a float64 dask array with its chunks."""
    if not is_dask(values):
        if isinstance(in_chunks(values), ChunkedRows):
            raise ValueError(
                f"{name} is read in chunks, and X is a dask array. Pass a dask array of the same "
                f"chunks: dask.array.from_array({name}, chunks=X.chunks)."
            )
        values = np.ascontiguousarray(as_real(values, name))
        if not np.isfinite(values).all():
            raise ValueError(f"{name} contains NaN or infinity.")
    elif hasattr(values, "to_dask_array"):
        values = values.to_dask_array(lengths=True)
    if is_dask(values):
        _refuse_unknown(values, name)
        _refuse_kind(values, name)
    if values.shape != shape:
        raise ValueError(
            f"{name} must have shape {shape}, a row for each of X; got {values.shape}."
        )
    return X.aligned(values.astype(np.float64, copy=False))


def dask_stacked(parts):
    """A dask array of the rows of several, at least one of which Dask holds."""
    import dask
    import dask.array as da

    arrays = []
    for X in parts:
        if isinstance(X, ChunkedRows):
            read, sizes = dask.delayed(X.read), np.diff(X.bounds).tolist()
            arrays += [
                da.from_delayed(read(number), (size, X.shape[1]), X.dtype)
                for number, size in enumerate(sizes)
            ]
        else:
            arrays.append(X.array if isinstance(X, DaskRows) else X)
    return da.concatenate(arrays)


def dask_labels(labels, X, name):
    """Labels of the rows of `DaskRows`, a dask array with its chunks."""
    if hasattr(labels, "to_dask_array"):
        labels = labels.to_dask_array(lengths=True)
    if labels.ndim != 1:
        raise ValueError(f"{name} must have one label for each row; got shape {labels.shape}.")
    _refuse_unknown(labels, name)
    if len(labels) != len(X):
        raise ValueError(
            f"{name} has {len(labels)} labels, and X has {len(X)} rows: inconsistent numbers."
        )
    return X.aligned(labels)


def warn_of_small_chunks(X, n_components, covariance_type):
    """Warn where Dask takes longer for a task than the task for its rows."""
    n_features = X.shape[1]
    size = FAMILIES[covariance_type].features(n_features).size
    per_row = n_components * (0.05 * size + 0.7) + n_features  # nanoseconds of an EM step
    n_chunks = np.count_nonzero(X.array.chunks[0])
    rows = X.shape[0] / n_chunks
    if n_chunks <= _FEW_CHUNKS or rows * per_row >= _TASK_COST:
        return
    good = float(f"{_GOOD_RATIO * _TASK_COST / per_row:.1g}")
    _warn_of_performance(
        f"X has {n_chunks} chunks of {rows:.0f} rows on average. To schedule the task of a chunk "
        f"takes about {1e-6 * _TASK_COST:.1g} ms, longer than its part of an EM step. Take chunks "
        f"of {min(good, X.shape[0]):.0f} rows or more: X = X.rechunk(({good:.0f}, -1)).persist()."
    )


def _refuse_unknown(array, name):
    if np.isnan(np.concatenate([*array.chunks, [0.0]])).any():
        raise ValueError(
            f"{name} has chunks of unknown sizes. Call {name}.compute_chunk_sizes() before."
        )


def _refuse_kind(array, name):
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers; its dtype is {array.dtype}. Convert it, as with "
            f"{name}.astype(float)."
        )
    if not isinstance(array._meta, np.ndarray) or isinstance(array._meta, np.ma.MaskedArray):
        raise ValueError(
            f"{name} must be made of NumPy arrays; its blocks are {type(array._meta).__name__}. "
            f"Convert them with {name}.map_blocks."
        )


def _extremes(weight):
    """The lowest and the highest, by one task for each block.

    With two of them Dask would not fuse what makes the block into either, and a cluster would be
    told of the same key twice: as a task of its own, and as one that is fused, in a fit.
    """
    chunks = ((2,) * weight.numblocks[0],)
    of_blocks = weight.map_blocks(_extremes_of, chunks=chunks, meta=np.empty(0)).compute()
    return float(of_blocks[::2].min()), float(of_blocks[1::2].max())


def _extremes_of(block):
    return np.array([block.min(initial=np.inf), block.max(initial=-np.inf)])


def _warn_of_performance(message):
    """Warn, as Dask does of bad chunks, at the line of the user."""
    from dask.array import PerformanceWarning

    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, PerformanceWarning, stacklevel=level)


_INSIDE = {"skgmmot", "sklearn"}
