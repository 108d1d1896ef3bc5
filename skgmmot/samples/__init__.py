"""Who owns the data and loops over them, behind one interface."""

from .cpu import CpuSamples


def samples_of(X, sample_weight=None, n_threads=1):
    """The `Samples` of an array: the place that picks who loops over it.

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_samples, n_features), float32 or float64
    sample_weight : ndarray of shape (n_samples,), float64, positive; or None
    n_threads : int, default=1
    """
    return CpuSamples(X, sample_weight, n_threads)
