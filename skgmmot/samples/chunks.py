"""Samples in chunks: what is known of the whole is added up, chunk by chunk.

`ChunkedSamples` says what each chunk is asked, and a runner who asks it: `LocalChunks` reads one
chunk after the other in this process. A question is a function of a `Chunk`. Sums are taken in a
tree whose shape depends on the number of chunks alone, so the same chunks give the same bits
whoever computes them.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from operator import methodcaller

import numpy as np

from .cpu import CpuSamples
from .idle import RowOrder, within
from .rows import give_back, row_numbers
from .sums import added, tree_sum


class Chunk:
    """Consecutive rows as the user has them, those of weight zero too.

    Parameters
    ----------
    X : C-contiguous ndarray of shape (n_rows, n_features), float32 or float64
    weight : ndarray of shape (n_rows,), float64, or None
    exponent : int, of the unit of the weights
    first : int, the number of the first row
    n_threads : int
    seen_once : bool
        Whether it is read for a single question, and then forgotten.
    """

    def __init__(self, X, weight=None, exponent=0, first=0, n_threads=1, *, seen_once):
        self.X, self.weight, self.exponent = X, weight, exponent
        self.first, self.n_threads, self._seen_once = first, n_threads, seen_once

    @cached_property
    def order(self):
        """The `RowOrder` of these rows."""
        return RowOrder() if self.weight is None else RowOrder.of(self.weight, self.exponent)

    @cached_property
    def active(self):
        """`Samples` of the rows that have weight, or None if there are none."""
        X, weight = self.X, self.weight
        if self.order.order is not None:
            rows = self.order.order[: self.order.n_active]
            X, weight = X[rows], weight[rows]
        if not len(X):
            return None
        return CpuSamples(X, weight, self.n_threads, seen_once=self._seen_once)

    def whole(self, summary):
        """`Samples` of all rows, in their order; ``summary`` is that of the whole data."""
        if self.order.order is None:
            return self.active
        return self.order.samples(self.X, self.weight, self.n_threads, summary)


class LocalChunks:
    """Chunks that this process reads, the next one while one is computed.

    Parameters
    ----------
    rows : ChunkedRows
    sample_weight : ndarray of shape (n_samples,), float64, or None
    exponent : int, of the unit of the weights
    n_threads : int
    numbers : sequence of int, default=None
        Of the chunks that count; None: all.
    """

    def __init__(self, rows, sample_weight=None, exponent=0, n_threads=1, numbers=None):
        self.rows, self.sample_weight, self.exponent = rows, sample_weight, exponent
        self.n_threads, self.n_features, self.dtype = n_threads, rows.shape[1], rows.dtype
        self.numbers = range(rows.n_chunks) if numbers is None else numbers
        self._kept = {}  # chunks that take no reading

    @property
    def source(self):
        """The rows, and their weights or None."""
        return self.rows, self.sample_weight

    def part(self, numbers):
        """Some of the chunks, by their numbers among these."""
        numbers = [self.numbers[number] for number in numbers]
        part = LocalChunks(self.rows, self.sample_weight, self.exponent, self.n_threads, numbers)
        part._kept = self._kept
        return part

    def __len__(self):
        return len(self.numbers)

    def each(self, question, *aligned):
        """Answers to ``question(chunk, *parts)`` for each chunk, in order.

        ``aligned`` are arrays with a row for each sample, of which the question is given those of
        the chunk, or lists with an item for each chunk, or None.
        """
        coming = None
        chunk_of = partial(self._chunk, whole=question is not picked)
        with ThreadPoolExecutor(1, "skgmmot-reader") as reader:
            read = reader.submit if self.rows.is_read else _Now
            for place, number in enumerate(self.numbers):
                rows = slice(*self.rows.bounds[number : number + 2].tolist())
                with naming_chunk(number, rows):
                    chunk = (read(chunk_of, number) if coming is None else coming).result()
                    more = place + 1 < len(self.numbers)
                    coming = read(chunk_of, self.numbers[place + 1]) if more else None
                    answer = question(chunk, *(_part(own, place, rows) for own in aligned))
                del chunk
                self.rows.let_go(number)
                yield answer

    def total(self, question, *aligned):
        """The sum of the answers."""
        return tree_sum(self.each(question, *aligned), added)

    def gathered(self, question, shapes, dtype, out=None):
        """Answers that are tuples of arrays with a row for each sample, put together.

        ``shapes`` are those of a row of each. The first may be written into ``out``.
        """
        n_samples = self.rows.shape[0]
        outs = [np.empty((n_samples, *shape), dtype) for shape in shapes[out is not None :]]
        outs = outs if out is None else [out, *outs]
        bounds = self.rows.bounds
        for number, answers in zip(self.numbers, self.each(question), strict=True):
            rows = slice(*bounds[number : number + 2].tolist())
            for whole, part in zip(outs, answers, strict=True):
                whole[rows] = part
                give_back(whole, rows)
        return outs

    def _chunk(self, number, whole):
        if number in self._kept:
            return self._kept[number]
        start, stop = self.rows.bounds[number : number + 2].tolist()
        weight = None if self.sample_weight is None else self.sample_weight[start:stop]
        # of a memory map, what is picked from a slice is all that is read
        X = self.rows.read(number) if whole else self.rows[start:stop]
        chunk = Chunk(X, weight, self.exponent, start, self.n_threads, seen_once=self.rows.is_read)
        if not self.rows.is_read:
            self._kept[number] = chunk  # with the order that many components may bring it in
        return chunk


class ChunkedSamples:
    """`Samples` in chunks, with those of the methods that have sums for answers.

    What answers for each row is asked of samples in memory: of a `subset`, or in a `total`.

    Parameters
    ----------
    chunks : LocalChunks or another runner with its methods
    """

    in_memory = False

    def __init__(self, chunks):
        self._chunks, self.dtype = chunks, chunks.dtype

    @cached_property
    def _summaries(self):
        """What the first look says of each chunk; None of one without weight."""
        return list(self._chunks.each(first_look))

    @property
    def shape(self):
        """The number of rows that have weight, and of features."""
        return self.summary().n_samples, self._chunks.n_features

    def summary(self):
        """`Samples.summary`."""
        return tree_sum(self._summaries, added)

    def total(self, question):
        """`Samples.total`; of chunks that the first look has found without weight none is read."""
        known = vars(self).get("_summaries", [True] * len(self._chunks))
        numbers = [number for number, own in enumerate(known) if own is not None]
        return self._chunks.part(numbers).total(partial(of_active, question))

    def statistics(self, logits, *, origin=None):
        """`Samples.statistics`."""
        return self.total(methodcaller("statistics", logits, origin=origin))

    def overlaps(self, logits):
        """`Samples.overlaps`."""
        return self.total(methodcaller("overlaps", logits))

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        """`Samples.statistics_jvp`."""
        if data_dot is None:
            return self.total(
                methodcaller("statistics_jvp", logits, coefficients_dot, origin=origin)
            )
        moved = partial(
            statistics_jvp,
            logits=logits,
            coefficients_dot=coefficients_dot,
            origin=origin,
            summary=self.summary(),
        )
        return self._chunks.total(moved, *data_dot)

    def statistics_vjp(self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None):
        """`Samples.statistics_vjp`."""
        if data_bar is not None:
            data_bar.pulls.append((logits, sums_bar, origin))
        if not wrt_logits:
            return None
        return self.total(methodcaller("statistics_vjp", logits, sums_bar, origin=origin))

    def zero_cotangent(self, *, wrt_weight=False):
        """`Samples.zero_cotangent`."""
        return RecordedCotangent(self._chunks, self.summary(), wrt_weight)

    def rows(self):
        """`Samples.rows`: as they are, in chunks."""
        return self._chunks.source

    def subset(self, index):
        """`Samples.subset`, in memory."""
        counts = [0 if own is None else own.n_samples for own in self._summaries]
        ends = np.cumsum([0, *counts])
        index = row_numbers(index, ends[-1])
        chunks = np.searchsorted(ends, index, side="right") - 1
        needed = np.unique(chunks)
        picks = [index[chunks == number] - ends[number] for number in needed]
        found = list(self._chunks.part(needed).each(picked, picks))
        X, weight = np.empty((len(index), self._chunks.n_features), self.dtype), None
        if found and found[0][1] is not None:
            weight = np.empty(len(index))
        for number, (own, own_weight) in zip(needed, found, strict=True):
            X[chunks == number] = own
            if weight is not None:
                weight[chunks == number] = own_weight
        return CpuSamples(X, weight, self._chunks.n_threads)

    def groups(self, n_groups):
        """`Samples.groups`: of whole chunks that follow each other."""
        heavy = [number for number, own in enumerate(self._summaries) if own is not None]
        groups = []
        for numbers in np.array_split(heavy, min(n_groups, len(heavy))):
            group = ChunkedSamples(self._chunks.part(numbers))
            group._summaries = [self._summaries[number] for number in numbers]  # no second look
            groups.append(group)
        return groups


class RecordedCotangent:
    """What the data receive, written down: `collected` adds it up, in one pass over the chunks.

    Stands where `DataCotangent` does.

    Parameters
    ----------
    chunks : LocalChunks
    summary : Summary, of all samples
    wrt_weight : bool
    """

    def __init__(self, chunks, summary, wrt_weight):
        self._chunks, self._summary, self._wrt_weight = chunks, summary, wrt_weight
        self.pulls, self.second_moment, self._shift = [], 0.0, 0.0

    def shift_weights(self, amount):
        """`DataCotangent.shift_weights`."""
        self._shift += amount

    def found(self):
        """`DataCotangent.found`: this itself, and nothing of the weights."""
        return self, None

    def collected(self, dtype, out=None):
        """Cotangents of the user's rows and, if wanted, of their weights, or None.

        ``out``, of shape (n_samples, n_features), takes the first.
        """
        question = partial(
            pull,
            pulls=self.pulls,
            shift=self._shift,
            wrt_weight=self._wrt_weight,
            summary=self._summary,
            dtype=dtype,
        )
        shapes = [(self._chunks.n_features,), ()][: 1 + self._wrt_weight]
        X_bar, *weight_bar = self._chunks.gathered(question, shapes, dtype, out)
        return X_bar, weight_bar[0] if weight_bar else None


# Questions to a chunk. They can be sent to another process.


def first_look(chunk):
    """The `Summary` of a chunk that is seen for the first time, or None if it has no weight."""
    refuse_nonfinite(chunk.X, chunk.first)
    return of_active(methodcaller("summary"), chunk)


def of_active(question, chunk):
    """The answer of the `Samples` that have weight; None if there are none."""
    return None if chunk.active is None else question(chunk.active)


def picked(chunk, index):
    """Some of the rows that have weight, and their weights or None."""
    return chunk.active.subset(index).rows()


def statistics_jvp(chunk, X_dot, weight_dot, *, logits, coefficients_dot, origin, summary):
    """`Samples.statistics_jvp` where the user's rows of a chunk move."""
    if not len(chunk.X):
        return None
    if X_dot is not None:
        refuse_nonfinite(X_dot, chunk.first, "tangent")
    data_dot = chunk.order._replace(exponent=0).inward(X_dot, weight_dot)
    samples = chunk.whole(summary)
    return samples.statistics_jvp(logits, coefficients_dot, origin=origin, data_dot=data_dot)


def pull(chunk, *, pulls, shift, wrt_weight, summary, dtype):
    """What the user's rows of a chunk receive from all ``pulls``, and their weights if wanted."""
    if not len(chunk.X):
        return (np.zeros(chunk.X.shape, dtype), np.zeros(0, dtype))[: 1 + wrt_weight]
    samples = chunk.whole(summary)
    data_bar = samples.zero_cotangent(wrt_weight=wrt_weight)
    for logits, sums_bar, origin in pulls:
        samples.statistics_vjp(logits, sums_bar, origin=origin, wrt_logits=False, data_bar=data_bar)
    data_bar.shift_weights(shift)
    found = chunk.order.outward(*data_bar.found(), chunk.first)
    return tuple(within(own, dtype) for own in found if own is not None)


def refuse_nonfinite(X, first, name="X"):
    """Refuse rows that hold NaN or infinity; ``first`` is the number of the first one."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(X.sum()):
            return
    wrong = ~np.isfinite(X).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name} contains NaN or infinity, first in row {first + int(wrong.argmax())}. Drop or "
            "impute such rows before."
        )


# Errors


@contextmanager
def naming_chunk(number, rows):
    """Say in an error which chunk it is of."""
    try:
        yield
    except Exception as error:
        name_chunk(error, number, rows)
        raise


def name_chunk(error, number, rows):
    """Say in one error which chunk it is of."""
    error.add_note(f"This was in chunk {number}, rows {rows.start} to {rows.stop - 1}.")


class _Now:
    """What `submit` of an executor returns, computed when it is asked for."""

    def __init__(self, function, *arguments):
        self._task = function, arguments

    def result(self):
        function, arguments = self._task
        return function(*arguments)


def _part(own, place, rows):
    if own is None:
        return None
    return own[place] if isinstance(own, list) else own[rows]
