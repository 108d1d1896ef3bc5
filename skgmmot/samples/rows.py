"""Rows that are read in chunks: of a file, of several arrays, or of many files."""

import mmap
from numbers import Integral

import numpy as np

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
        If there is no array, or one is not two-dimensional, has no real numbers, or has another
        number of features than the first.

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

    def __init__(self, arrays, *, chunk_size=None):
        if isinstance(arrays, np.ndarray) or _has_rows(arrays):
            arrays = [arrays]
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

    ndim = 2

    def __len__(self):
        return self.shape[0]

    def __repr__(self):
        return (
            f"<ChunkedRows: {self.shape[0]} × {self.shape[1]} of {self.dtype} in "
            f"{self.n_chunks} chunks>"
        )

    @property
    def n_chunks(self):
        """Number of chunks."""
        return len(self.bounds) - 1

    @property
    def is_read(self):
        """Whether to get a chunk takes reading, because not all arrays are in memory."""
        return not all(_is_ready(array, self.dtype) for array in self.arrays)

    def __getitem__(self, rows):
        """The rows of a slice, a mask or an array of numbers, in memory."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.shape[0])
            if step == 1:
                return self._between(start, max(start, stop))
            rows = np.arange(start, stop, step)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        rows = np.where(rows < 0, rows + self.shape[0], rows)
        if rows.size and not (rows.min() >= 0 and rows.max() < self.shape[0]):
            raise IndexError(f"A row number is out of range for {self.shape[0]} rows.")
        chunks = np.searchsorted(self.bounds, rows, side="right") - 1
        out = np.empty((*rows.shape, self.shape[1]), dtype=self.dtype)
        for number in np.unique(chunks):
            here = chunks == number
            out[here] = self.read(number)[rows[here] - self.bounds[number]]
        return out

    def read(self, number):
        """A chunk, as a C-contiguous array; of an array in memory without a copy."""
        return self._between(*self.bounds[number : number + 2])

    def _between(self, start, stop):
        first = np.searchsorted(self._starts, start, side="right") - 1
        parts = []
        for array, offset in zip(self.arrays[first:], self._starts[first:-1], strict=True):
            if offset >= stop and parts:
                break
            rows = slice(int(max(start - offset, 0)), int(max(stop - offset, 0)))
            parts.append(_read(array, rows, self.dtype))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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
    """Whether chunks of it are views."""
    return (
        isinstance(array, np.ndarray)
        and not isinstance(array, np.memmap)
        and array.dtype == dtype
        and array.flags.c_contiguous
    )


def _read(array, rows, dtype):
    if not isinstance(array, np.memmap):
        return np.ascontiguousarray(array[rows], dtype=dtype)
    block = np.array(array[rows], dtype=dtype, order="C", subok=False)
    _let_go(array)
    return block


def _let_go(array):
    """Give the pages of a memory map back, which else count as memory of this process.

    They stay in the cache of the system. What a private map ("c") was written is in its pages only.
    """
    pages = getattr(array, "_mmap", None)
    if pages is not None and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
