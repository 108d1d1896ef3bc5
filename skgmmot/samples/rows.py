"""Rows that are read in chunks: of a file, of several arrays, or of many files."""

import mmap
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device_arrays import lies_on_device

CHUNK_BYTES = 2**26  # of a chunk that has to be read: two of them are in memory


class ChunkedRows:
    """Rows of one or several arrays, one after the other, that are read in chunks.

    Estimators take it where they take ``X``, as they take a large `numpy.memmap` or a dataset of
    h5py or zarr: these are wrapped in one. By itself it is for several arrays, such as one file for
    each day, and for chunks of another size.

    Parameters
    ----------
    arrays : sequence of array-like of shape (n_samples, n_features), or one such array
        Whatever has ``shape``, ``dtype`` and rows that can be sliced is read a chunk at a time;
        anything else becomes an array now.
    chunk_size : int, default=None
        Number of rows in a chunk, at most. None: as many as have 64 MiB, and whole chunks of the
        storage; an array in memory is one chunk. Chunks do not join arrays, unless these are small.

    Attributes
    ----------
    shape : tuple, (n_samples, n_features)
    dtype : dtype
        float32 if all arrays are, else float64, to which rows are converted when they are read.
    bounds : ndarray of shape (n_chunks + 1,)
        The numbers of the rows at which chunks start and end.

    Raises
    ------
    ValueError
        If there is no array, or one is not two-dimensional, has no real numbers, has another
        number of features than the first, or is on a CUDA device.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import ChunkedRows, DifferentiableGaussianMixture
    >>> rng = np.random.default_rng(0)
    >>> days = [rng.normal(size=(100, 2)) for _ in range(3)]
    >>> X = ChunkedRows(days)
    >>> X.shape
    (300, 2)
    >>> mixture = DifferentiableGaussianMixture().fit(X)
    >>> bool(np.allclose(mixture.means_[0], np.concatenate(days).mean(axis=0)))
    True
    """

    shape: tuple[int, int]
    dtype: np.dtype
    bounds: NDArray[np.int64]
    ndim = 2

    def __init__(self, arrays: Sequence[Any] | Any, *, chunk_size: int | None = None) -> None:
        if isinstance(arrays, np.ndarray) or _has_rows(arrays) or lies_on_device(arrays):
            arrays = [arrays]
        arrays = list(arrays)
        for number, array in enumerate(arrays):
            if lies_on_device(array):
                raise ValueError(
                    f"ChunkedRows: arrays[{number}] is on a CUDA device. Pass cupy.asnumpy of it, "
                    "or to the estimator one array on the device, which has no need of chunks."
                )
        self.arrays = [array if _has_rows(array) else np.asarray(array) for array in arrays]
        if not self.arrays:
            raise ValueError("ChunkedRows: arrays is empty; pass at least one array.")
        for number, array in enumerate(self.arrays):
            _check(array, f"arrays[{number}]", self.arrays[0])
        if chunk_size is not None and not (
            isinstance(chunk_size, Integral) and not isinstance(chunk_size, bool) and chunk_size > 0
        ):
            raise ValueError(
                f"chunk_size must be a positive number of rows or None; got {chunk_size!r}."
            )
        single = all(array.dtype == np.float32 for array in self.arrays)
        self.dtype = np.dtype(np.float32 if single else np.float64)
        self._starts = np.cumsum([0, *(array.shape[0] for array in self.arrays)])
        self.shape = (int(self._starts[-1]), int(self.arrays[0].shape[1]))
        self.bounds = np.array(self._bounds(chunk_size), dtype=np.int64)

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return (
            f"<ChunkedRows: {self.shape[0]} × {self.shape[1]} of {self.dtype} in "
            f"{self.n_chunks} chunks>"
        )

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.bounds) - 1

    @property
    def is_read(self) -> bool:
        """Whether to get a chunk takes reading, because not all arrays are in memory."""
        return not all(_is_ready(array, self.dtype) for array in self.arrays)

    def __getitem__(self, rows):
        """The rows of a slice, a mask or an array of numbers, in memory."""
        if isinstance(rows, tuple):  # as scikit-learn asks for rows in cross-validation
            rows, *columns = rows
            if columns != [...]:
                raise IndexError("ChunkedRows: only rows are indexed; take columns of the result.")
        if isinstance(rows, slice) and rows.indices(self.shape[0])[2] == 1:
            start, stop, _ = rows.indices(self.shape[0])
            return self._between(start, max(start, stop))
        rows = row_numbers(rows, self.shape[0])
        chunks = np.searchsorted(self.bounds, rows, side="right") - 1
        out = np.empty((*rows.shape, self.shape[1]), dtype=self.dtype)
        for number in np.unique(chunks):
            here = chunks == number
            out[here] = self.read(number)[rows[here] - self.bounds[number]]
            self.let_go(number)
        return out

    def __array__(self, dtype=None, copy=None):
        raise ValueError(
            "ChunkedRows are not in memory, and this needs an array. X[:] reads them all, if they "
            "are not too many."
        )

    def read(self, number: int) -> NDArray[Any]:
        """A chunk, of what is mapped or in memory without a copy.

        Parameters
        ----------
        number : int

        Returns
        -------
        X : ndarray of shape (n_rows, n_features), C-contiguous
        """
        X = self._between(*self.bounds[number : number + 2])
        if _is_mapped(X):
            _touch(X)
        return X

    def let_go(self, number: int) -> None:
        """Give the pages of a chunk of a memory map back, which count as memory of this process.

        Parameters
        ----------
        number : int
        """
        start, stop = self.bounds[number : number + 2]
        for array, rows in self._pieces(start, stop):
            give_back(array, rows)

    def _between(self, start, stop):
        parts = [
            np.ascontiguousarray(array[rows], dtype=self.dtype)
            for array, rows in self._pieces(start, stop)
        ]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self.shape[1]), self.dtype), *parts])

    def _pieces(self, start, stop):
        """The arrays that hold some rows, and slices of them."""
        first = np.searchsorted(self._starts, start, side="right") - 1
        for array, offset in zip(self.arrays[first:], self._starts[first:], strict=False):
            if offset >= stop:
                return
            if array.shape[0]:
                yield array, slice(int(max(start - offset, 0)), int(stop - offset))

    def _bounds(self, chunk_size):
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        usual = max(1, CHUNK_BYTES // row_bytes)
        size = chunk_size or usual
        bounds, joined = [0], 0  # rows of the last chunk, where small arrays may still join it
        for array, start in zip(self.arrays, self._starts[:-1], strict=True):
            n_rows = array.shape[0]
            is_small = 2 * n_rows <= size
            if is_small and joined and joined + n_rows <= size:
                bounds[-1] += n_rows
                joined += n_rows
                continue
            whole = chunk_size is None and _is_ready(array, self.dtype)
            n_chunks = 1 if whole else max(1, -(-n_rows // size))
            each = max(1, -(-n_rows // n_chunks))
            stored = (getattr(array, "chunks", None) or (1,))[0]
            if isinstance(stored, Integral) and stored < size and not whole:
                each = min(-(-each // stored), size // stored) * stored
            bounds += [start + min(row + each, n_rows) for row in range(0, n_rows, each)]
            joined = n_rows if is_small else 0
        return bounds


def row_numbers(index, n_rows):
    """The numbers of the rows that an index of NumPy means."""
    if isinstance(index, slice):
        return np.arange(*index.indices(n_rows))
    index = np.asarray(index)
    if index.dtype == bool:
        if index.shape != (n_rows,):
            raise IndexError(f"A mask must have shape ({n_rows},); got {index.shape}.")
        return np.flatnonzero(index)
    index = np.where(index < 0, index + n_rows, index)
    if index.size and not (index.min() >= 0 and index.max() < n_rows):
        raise IndexError(f"A row number is out of range for {n_rows} rows.")
    return index


def in_chunks(X):
    """`ChunkedRows` of what would have to be read whole otherwise, and is large; else X itself."""
    if isinstance(X, ChunkedRows):
        return X
    is_file = isinstance(X, np.memmap) or (not isinstance(X, np.ndarray) and _has_rows(X))
    if not is_file or len(X.shape) != 2 or X.dtype.kind not in "biuf":
        return X
    n_bytes = X.shape[0] * X.shape[1] * max(X.dtype.itemsize, 4)
    return ChunkedRows(X) if n_bytes > CHUNK_BYTES else X


def _has_rows(array):
    """Whether rows can be sliced off it: what has a shape, a dtype of NumPy, and indices.

    Sparse matrices and arrays of other frameworks are not meant: they are no files.
    """
    if isinstance(array, (np.ndarray, ChunkedRows)):
        return True
    others = "__cuda_array_interface__", "__array_namespace__", "__dask_graph__", "tocsr"
    return (
        hasattr(array, "shape")
        and isinstance(getattr(array, "dtype", None), np.dtype)
        and hasattr(array, "__getitem__")
        and not any(hasattr(array, name) for name in others)
    )


def _check(array, name, first):
    if len(array.shape) != 2 or array.shape[1] < 1:
        raise ValueError(
            f"ChunkedRows: {name} must have shape (n_samples, n_features); got {array.shape}."
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"ChunkedRows: {name} must hold real numbers; its dtype is {array.dtype}.")
    if array.shape[1] != first.shape[1]:
        raise ValueError(
            f"ChunkedRows: {name} has {array.shape[1]} features, arrays[0] has {first.shape[1]}."
        )


def _is_ready(array, dtype):
    """Whether it is in memory, and chunks of it are views."""
    return (
        isinstance(array, np.ndarray)
        and not isinstance(array, np.memmap)
        and array.dtype == dtype
        and array.flags.c_contiguous
    )


def _is_mapped(X):
    return isinstance(X, np.memmap) or isinstance(X.base, np.memmap)


def _touch(X):
    """Have the pages of a memory map read."""
    if X.size:
        X.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE].max()


def give_back(array, rows):
    """Give the pages of some rows of a memory map back, and do nothing for other arrays.

    They stay in the cache of the system. What a private map ("c") was written is in its pages only.
    """
    pages = getattr(array, "_mmap", None)
    if not isinstance(array, np.memmap) or pages is None or array.mode == "c":
        return
    rows = array[rows]
    if not rows.size or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first, last = np.lib.array_utils.byte_bounds(rows)
    start = first - np.frombuffer(pages, dtype=np.uint8).ctypes.data
    start, stop = start - start % mmap.PAGESIZE, start + last - first
    pages.madvise(mmap.MADV_DONTNEED, start, stop - start)
