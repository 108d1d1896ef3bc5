"""The rows that a method of an estimator is given: in memory, on a device or in chunks; questions.

Arrays are NumPy's or, on a CUDA device, CuPy's.
"""

from contextlib import contextmanager
from functools import partial

import numpy as np
from sklearn.utils.validation import validate_data

from ..checks import as_real, weights_and_unit
from ..numerics.threads import effective_n_threads
from ..samples import chunks_of
from ..samples.chunks import refuse_nonfinite
from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import is_on_device, module_of, taken
from ..samples.rows import ChunkedRows, in_chunks
from .dask_input import dask_aligned, dask_rows, dask_stacked, dask_weights, is_dask
from .device_input import beside, device_aligned, device_rows, device_weights


def checked_rows(estimator, X, *, reset=False, ensure_min_samples=1, or_chunks=False):
    """The data of an estimator by scikit-learn's checks: a plain C-contiguous array of floats.

    What is on a CUDA device becomes an array of CuPy there. With ``or_chunks`` what is large and
    not in memory becomes `ChunkedRows`, and what Dask holds `DaskRows`. Of them only the shape is
    checked here: numbers are when they are read first.
    """
    X = taken(X)
    if is_on_device(X):
        return device_rows(estimator, X, reset=reset, ensure_min_samples=ensure_min_samples)
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
    """`DaskRows`, `ChunkedRows` or an array of CuPy of what is not in memory; else X itself."""
    return dask_rows(X) if is_dask(X) else in_chunks(taken(X))


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
    like = getattr(X, "like", None)
    validate_data(estimator, X if like is None else like, reset=reset, skip_check_array=True)
    return X if like is None else DaskRows(X.array)  # the names of its features are checked now


def row_weights(sample_weight, X):
    """`checks.weights_and_unit` of rows wherever they are; None has the exponent zero."""
    if sample_weight is None:
        return None, 0
    if is_on_device(X):
        return device_weights(sample_weight, X)
    sample_weight = beside(sample_weight, "sample_weight", X)
    return (dask_weights if isinstance(X, DaskRows) else weights_and_unit)(sample_weight, X)


def row_counts(sample_weight, X):
    """Weights that count, in the unit in which they are given."""
    if isinstance(X, DaskRows):
        return dask_aligned(sample_weight, X, X.shape[:1], "sample_weight")
    if is_on_device(X):
        return device_aligned(sample_weight, X, X.shape[:1], "sample_weight")
    return as_real(sample_weight, "sample_weight")


def n_threads_of(X, n_jobs):
    """Number of threads for one question to rows; Dask asks several at once."""
    return 1 if isinstance(X, DaskRows) else effective_n_threads(n_jobs)


def stacked(parts):
    """Rows of several arrays, one after the other: an array, `ChunkedRows` or a dask array."""
    if any(isinstance(X, DaskRows) for X in parts):
        return dask_stacked(parts)
    if all(is_one_array(X) for X in parts):
        return parts[0] if len(parts) == 1 else module_of(parts[0]).concatenate(parts)
    return parts[0] if len(parts) == 1 else ChunkedRows(parts)


def is_one_array(X):
    """Whether rows are an array, in memory or on a device, and no parts."""
    return isinstance(X, np.ndarray) or is_on_device(X)


@contextmanager
def naming(argument):
    """Say in an error which argument it is of."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from error


def answers_of(X, question, shape, dtype):
    """``question(X)``, an array of a dtype with a row of a ``shape`` for each of X."""
    if is_one_array(X):
        return question(X)
    return chunks_of(X).gathered(partial(_answers, question), [shape], dtype)[0]


def answers_by_domain(X, is_source, questions, shape, dtype):
    """The same, of one question for rows of the source and of another one for all others.

    ``is_source`` has a bool for each row, or one for all.
    """
    ask = partial(_each_domain, questions=questions, shape=shape, dtype=dtype)
    if is_one_array(X) or not is_source.ndim:
        return answers_of(X, partial(ask, is_source), shape, dtype)
    chunks = chunks_of(X, is_source.astype(np.float64))  # in the place of weights
    return chunks.gathered(partial(_answers_by_domain, ask), [shape], dtype)[0]


def total_of(X, weight, exponent, question):
    """``question(X, weight)``, an array of sums over the rows."""
    if is_one_array(X):
        return question(X, weight)
    return chunks_of(X, weight, exponent).total(partial(_sums, question))


def _answers(question, chunk):
    refuse_nonfinite(chunk.X, chunk.first)
    return (question(chunk.X),)


def _each_domain(is_source, X, *, questions, shape, dtype):
    module = module_of(X)
    out = module.zeros((len(X), *shape), dtype)
    is_source = module.broadcast_to(module.asarray(is_source), len(X))
    for question, rows in zip(questions, (is_source, ~is_source), strict=True):
        if rows.any():
            out[rows] = question(X[rows])
    return out


def _answers_by_domain(ask, chunk):
    refuse_nonfinite(chunk.X, chunk.first)
    return (ask(chunk.weight > 0, chunk.X),)


def _sums(question, chunk):
    refuse_nonfinite(chunk.X, chunk.first)
    return question(chunk.X, chunk.weight)
