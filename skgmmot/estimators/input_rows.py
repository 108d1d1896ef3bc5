"""The rows that a method of an estimator is given, in memory or in chunks; questions to them."""

from functools import partial

import numpy as np
from sklearn.utils.validation import validate_data

from ..checks import weights_and_unit
from ..numerics.threads import effective_n_threads
from ..samples import chunks_of
from ..samples.chunks import refuse_nonfinite
from ..samples.dask_chunks import DaskRows
from ..samples.rows import ChunkedRows, in_chunks
from .dask_input import dask_rows, dask_weights, is_dask


def checked_rows(estimator, X, *, reset=False, ensure_min_samples=1, or_chunks=False):
    """The data of an estimator by scikit-learn's checks: a plain C-contiguous array of floats.

    With ``or_chunks`` what is large and not in memory becomes `ChunkedRows`, and what Dask holds
    `DaskRows`. Of them only the shape is checked here: numbers are when they are read first.
    """
    if or_chunks:
        X = in_parts(X)
    if isinstance(X, (ChunkedRows, DaskRows)):
        return _checked_chunks(estimator, X, reset, ensure_min_samples, or_chunks)
    X = validate_data(
        estimator,
        X,
        reset=reset,
        dtype=[np.float64, np.float32],
        order="C",
        ensure_min_samples=ensure_min_samples,
    )
    return np.asarray(X)  # of a memory map


def in_parts(X):
    """`DaskRows` or `ChunkedRows` of what is not in memory; else X itself."""
    return dask_rows(X) if is_dask(X) else in_chunks(X)


def _checked_chunks(estimator, X, reset, ensure_min_samples, are_taken):
    name = type(estimator).__name__
    if not are_taken:
        raise ValueError(
            f"X is {type(X).__name__}, which this method of {name} does not take. Pass an array in "
            "memory."
        )
    if X.shape[0] < ensure_min_samples:
        raise ValueError(
            f"Found array with {X.shape[0]} sample(s) (shape={X.shape}) while a minimum of "
            f"{ensure_min_samples} is required by {name}."
        )
    named = X if getattr(X, "like", None) is None else X.like
    validate_data(estimator, named, reset=reset, skip_check_array=True)
    return X


def row_weights(sample_weight, X):
    """`checks.weights_and_unit` of rows in memory or not; None has the exponent zero."""
    if sample_weight is None:
        return None, 0
    return (dask_weights if isinstance(X, DaskRows) else weights_and_unit)(sample_weight, X)


def n_threads_of(X, n_jobs):
    """Number of threads for one question to rows; Dask asks several at once."""
    return 1 if isinstance(X, DaskRows) else effective_n_threads(n_jobs)


def answers_of(X, question, shape, dtype):
    """``question(X)``, an array of a dtype with a row of a ``shape`` for each of X."""
    if isinstance(X, np.ndarray):
        return question(X)
    return chunks_of(X).gathered(partial(_answers, question), [shape], dtype)[0]


def total_of(X, weight, exponent, question):
    """``question(X, weight)``, an array of sums over the rows."""
    if isinstance(X, np.ndarray):
        return question(X, weight)
    return chunks_of(X, weight, exponent).total(partial(_sums, question))


def _answers(question, chunk):
    refuse_nonfinite(chunk.X, chunk.first)
    return (question(chunk.X),)


def _sums(question, chunk):
    refuse_nonfinite(chunk.X, chunk.first)
    return question(chunk.X, chunk.weight)
