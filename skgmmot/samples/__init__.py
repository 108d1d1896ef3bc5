"""Who owns the data and loops over them, behind one interface."""

from .chunks import ChunkedSamples, LocalChunks
from .cpu import CpuSamples
from .cuda import CudaSamples
from .dask_chunks import DaskChunks, DaskRows
from .device_arrays import is_on_device
from .rows import ChunkedRows


def samples_of(X, sample_weight=None, n_threads=1, exponent=0, *, with_zeros=False):
    """The `Samples` of an array: the place that picks who loops over it.

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_samples, n_features), float32 or float64; or ChunkedRows;
        or DaskRows; or cupy.ndarray
    sample_weight : ndarray of shape (n_samples,), float64, not all zero; or None
        Of DaskRows a dask array as well; of cupy.ndarray another one.
    n_threads : int, default=1
    exponent : int, default=0
        Of the unit of the weights.
    with_zeros : bool, default=False
        Whether rows of weight zero of an array in memory stay among them.
    """
    if isinstance(X, (ChunkedRows, DaskRows)):
        return ChunkedSamples(chunks_of(X, sample_weight, exponent, n_threads))
    if not with_zeros and sample_weight is not None and not sample_weight.all():
        X, sample_weight = X[sample_weight > 0], sample_weight[sample_weight > 0]
    if is_on_device(X):
        return CudaSamples(X, sample_weight)
    return CpuSamples(X, sample_weight, n_threads)


def chunks_of(X, sample_weight=None, exponent=0, n_threads=1):
    """Who asks the chunks of data that are not in memory."""
    runner = DaskChunks if isinstance(X, DaskRows) else LocalChunks
    return runner(X, sample_weight, exponent, n_threads)
