"""Samples in chunks that Dask holds: what is asked of them is a graph of tasks.

`DaskChunks` stands where `LocalChunks` does. A question is one node of the graph, and each chunk a
task that answers it; sums are taken in the tree of `tree_sum`, whose nodes are tasks too. So the
same chunks give the bits of `LocalChunks`, whoever computes what, and when. Each question is one
graph, computed by the scheduler that Dask would take: threads, or a cluster.

A task works with one thread: several of them run at once.
"""

import sys
from copy import copy
from functools import partial
from typing import NamedTuple
from uuid import uuid4

import numpy as np

from .chunks import Chunk, name_chunk, naming_chunk
from .sums import added, tree_sum

_LARGE = 2**20  # bytes of a question from which on workers are sent it ahead of the graph


class DaskRows:
    """A dask array that was checked, as the data of an estimator.

    Parameters
    ----------
    array : dask array of shape (n_samples, n_features), float32 or float64
        In blocks of whole rows, whose sizes are known.
    like : DataFrame without rows that tells the names of the features, or None
    """

    ndim = 2

    def __init__(self, array, like=None):
        self.array, self.dtype, self.shape = array, array.dtype, array.shape
        self.like = like

    def __len__(self):
        return self.shape[0]

    def aligned(self, array):
        """An array with an item for each row, or one that Dask holds, in the same blocks."""
        import dask.array as da

        chunks = self.array.chunks[0], *((size,) for size in array.shape[1:])
        if isinstance(array, np.ndarray):
            return da.from_array(array, chunks=chunks, name=False)
        return array.rechunk(chunks)


class DaskChunks:
    """Chunks that Dask holds: a runner, as `LocalChunks` is.

    Blocks that are in memory already, as those of an array that was persisted, are made a `Chunk`
    once: it keeps the order that many components may bring its rows in. All others are computed
    anew for each question.

    Parameters
    ----------
    rows : DaskRows
    sample_weight : ndarray or dask array of shape (n_samples,), float64; or None
    exponent : int, of the unit of the weights
    n_threads : int
        Of what is done in this process.
    """

    def __init__(self, rows, sample_weight=None, exponent=0, n_threads=1):
        self.rows, self.n_threads = rows, n_threads
        self.n_features, self.dtype = rows.shape[1], rows.dtype
        weight = None if sample_weight is None else rows.aligned(sample_weight)
        self._arrays = [rows.array] if weight is None else [rows.array, weight]
        sizes = rows.array.chunks[0]
        starts = np.cumsum([0, *sizes]).tolist()
        self._places = [
            _Place(number, starts[number], (size, self.n_features), exponent, rows.dtype)
            for number, size in enumerate(sizes)
        ]
        self.numbers = [place.number for place in self._places if place.n_rows]
        self._held = None  # the graph of all chunks, and the keys of each

    @property
    def source(self):
        """The rows, and their weights or None."""
        return self._arrays[0], self._arrays[1] if len(self._arrays) > 1 else None

    def part(self, numbers):
        """Some of the chunks, by their numbers among these."""
        if list(numbers) == list(range(len(self))):
            return self
        graph, made = self._hold()
        part = copy(self)
        part.numbers = [self.numbers[number] for number in numbers]
        made = {number: made[number] for number in part.numbers}
        part._held = _needed(graph, made.values()), made
        return part

    def __len__(self):
        return len(self.numbers)

    def each(self, question, *aligned):
        """As `LocalChunks.each`, a list; ``aligned`` may be dask arrays as well."""
        return list(self._computed(*self._asked(question, aligned)))

    def total(self, question, *aligned):
        """The sum of the answers."""
        graph, answers = self._asked(question, aligned)
        name = _new_name("sum")

        def add_up(keys):
            key = name, len(graph)
            graph[key] = added, list(keys)
            return key

        return self._computed(graph, [tree_sum(answers, add_up)])[0]

    def gathered(self, question, shapes, dtype, out=None):
        """As `LocalChunks.gathered`, but lazy dask arrays. What goes into ``out`` is computed."""
        from dask.highlevelgraph import HighLevelGraph

        name, key = _new_name("answers"), _new_name("question")
        layer = {key: question}
        for place in self._places:
            task = place.ask, key, *self._blocks(place.number)
            layer[name, place.number] = task if place.n_rows else (partial(_empty, shapes, dtype),)
        graph = HighLevelGraph.from_collections(name, layer, dependencies=self._arrays)
        found = [self._lazy(graph, name, which, shape, dtype) for which, shape in enumerate(shapes)]
        return found if out is None else [self._written(found[0], out), *found[1:]]

    def _lazy(self, graph, name, which, shape, dtype):
        """The dask array of one of the arrays that answers are tuples of."""
        import dask.array as da
        from dask.highlevelgraph import HighLevelGraph

        own, zeros = f"{name}-{which}", (0,) * len(shape)
        layer = {
            (own, place.number, *zeros): (partial(_item, which), (name, place.number))
            for place in self._places
        }
        layers = {**graph.layers, own: layer}
        graph = HighLevelGraph(layers, {**graph.dependencies, own: {name}})
        chunks = self.rows.array.chunks[0], *((size,) for size in shape)
        return da.Array(graph, own, chunks, meta=np.empty((0,) * (1 + len(shape)), dtype))

    def _written(self, array, out):
        """``out``, into which this process writes a dask array, as many blocks as run at once."""
        graph, n_blocks = _graph_of(array), _n_at_once(array)
        for first in range(0, len(self._places), n_blocks):
            places = self._places[first : first + n_blocks]
            keys = [_block(array, place.number) for place in places]
            blocks = self._computed(_needed(graph, [keys]), keys)
            for place, block in zip(places, blocks, strict=True):
                out[place.rows] = block
        return out

    def _asked(self, question, aligned):
        """A graph, and the keys of the answers in it."""
        held, made = self._hold()
        graph, key, name = dict(held), _new_name("question"), _new_name("answer")
        graph[key] = _sent_ahead(question, _client(self._arrays[0]))
        parts = {number: [] for number in self.numbers}
        for which, own in enumerate(aligned):
            if isinstance(own, list):
                keys = [(f"{name}-{which}", number) for number in self.numbers]
                graph.update(zip(keys, own, strict=True))
            elif own is not None:
                own = self.rows.aligned(own)
                keys = [(self._places[n].refuse_others, _block(own, n)) for n in self.numbers]
                graph.update(_graph_of(own))
            else:
                keys = [None] * len(self.numbers)
            for number, part in zip(self.numbers, keys, strict=True):
                parts[number].append(part)
        for number in self.numbers:
            graph[name, number] = self._places[number].ask, key, *made[number], *parts[number]
        return graph, [(name, number) for number in self.numbers]

    def _blocks(self, number):
        """The keys of a block of rows, and of its weights or None."""
        keys = [_block(array, number) for array in self._arrays]
        return keys if len(keys) > 1 else [*keys, None]

    def _hold(self):
        """The graph of what chunks are made of, and what `_Place.ask` is to be told of it."""
        if self._held is None:
            graph = {}
            for array in self._arrays:
                graph.update(_graph_of(array))
            made = {number: self._blocks(number) for number in self.numbers}
            graph = _needed(graph, made.values())
            self._held = self._kept(graph, made) or (graph, made)
        return self._held

    def _kept(self, graph, made):
        """As `_hold`, of chunks that are made now, of blocks in memory; None if these are not.

        In this process rows have to be as they are wanted: copies would be memory that nobody has
        asked for.
        """
        name, client = _new_name("chunk"), _client(self._arrays[0])
        tasks = {
            (name, number): (self._places[number].chunk, *keys) for number, keys in made.items()
        }
        blocks = [[_data(graph.get(key)) for key in keys if key] for keys in made.values()]
        if client is not None:
            if not all(_is_future(own) for parts in blocks for own in parts):
                return None
            chunks = client.get({**graph, **tasks}, list(tasks), sync=False)
        else:
            plain = all(isinstance(own, np.ndarray) for parts in blocks for own in parts)
            if not plain or not all(X.flags.c_contiguous for X, *_ in blocks):
                return None
            chunks = [task(*own) for (task, *_), own in zip(tasks.values(), blocks, strict=True)]
        made = {number: [(name, number), None] for number in made}
        return dict(zip(tasks, chunks, strict=True)), made

    def _computed(self, graph, keys):
        """What some keys of a graph are."""
        try:
            return _get(self._arrays[0])(graph, keys)
        except Exception as error:
            self._note_block(error)
            raise

    def _note_block(self, error):
        """Say in an error of another task than ours which block raises it, if one does again."""
        of_a_cluster = type(error).__module__.partition(".")[0] == "distributed"
        if of_a_cluster or getattr(error, "__notes__", ()):
            return
        array = self._arrays[0]
        graph = _graph_of(array)
        for number in self.numbers:
            key = _block(array, number)
            try:
                _get(array)(_needed(graph, [[key]]), [key])
            except type(error):
                name_chunk(error, number, self._places[number].rows)
                return


class _Place(NamedTuple):
    """Which block it is, which rows it has, and what is the same for all.

    Its methods are tasks.
    """

    number: int
    start: int
    shape: tuple
    exponent: int
    dtype: np.dtype

    @property
    def n_rows(self):
        return self.shape[0]

    @property
    def rows(self):
        return slice(self.start, self.start + self.n_rows)

    def chunk(self, X, weight=None, *, seen_once=False):
        """The `Chunk` of a block and its weights."""
        if X.shape[1:] != self.shape[1:]:
            raise ValueError(
                f"X: block {self.number} has shape {X.shape}, where X says {self.shape}. Tell Dask "
                "the shapes that blocks will have."
            )
        X = np.ascontiguousarray(self.refuse_others(X), dtype=self.dtype)
        if weight is not None:
            weight = np.ascontiguousarray(self.refuse_others(weight), dtype=np.float64)
        return Chunk(X, weight, self.exponent, self.start, seen_once=seen_once)

    def refuse_others(self, block):
        """A block, which has as many rows as Dask was told."""
        if len(block) != self.n_rows:
            raise ValueError(
                f"Block {self.number} of a dask array has {len(block)} rows, where its chunks say "
                f"{self.n_rows}. Tell Dask the shapes that blocks will have, or call "
                "compute_chunk_sizes() of the array."
            )
        return block

    def ask(self, question, own, weight, *parts):
        """What a `Chunk` answers, or one that is made of a block and its weights."""
        with naming_chunk(self.number, self.rows):
            if not isinstance(own, Chunk):
                own = self.chunk(own, weight, seen_once=True)
            return question(own, *parts)


def _item(which, answer):
    return answer[which]


def _empty(shapes, dtype):
    """The answers of no rows."""
    return tuple(np.empty((0, *shape), dtype) for shape in shapes)


# Dask: schedulers, graphs, and what stands in them.


def _get(array):
    """The function of the scheduler that Dask would take: of a graph, and keys."""
    from dask.base import get_scheduler

    return get_scheduler(collections=[array])


def _client(array):
    """The client of the cluster that would compute, or None."""
    client = getattr(_get(array), "__self__", None)
    return client if hasattr(client, "scatter") else None


def _n_at_once(array):
    """How many tasks run at once."""
    import dask

    client = _client(array)
    if client is None:
        return dask.config.get("num_workers", None) or dask.system.CPU_COUNT
    return max(1, sum(client.nthreads().values()))


def _sent_ahead(question, client):
    """A question as a node of a graph; a large one is sent to all workers of a cluster at once."""
    if client is None:
        return question
    from distributed.protocol.pickle import dumps

    if len(dumps(question)) < _LARGE:
        return question
    return client.scatter([question], broadcast=True, hash=False)[0]


def _new_name(kind):
    return f"skgmmot-{kind}-{uuid4().hex}"


def _block(array, number):
    """The key of a block of rows."""
    return array.name, number, *(0,) * (array.ndim - 1)


def _graph_of(array):
    """The graph of a dask array, as it was optimized if there is anything to compute."""
    from dask.core import flatten

    graph, keys = array.__dask_graph__(), list(flatten(array.__dask_keys__()))
    futures = {key: node for key, node in dict(graph).items() if _is_future(node)}
    return {**futures, **array.__dask_optimize__(graph, keys)}


def _needed(graph, lists):
    """What of a graph lists of keys, or None, need: older schedulers compute all there is."""
    from dask.optimization import cull

    return dict(cull(graph, [key for keys in lists for key in keys if key])[0])


def _data(node):
    """The array that stands in a graph as it is, or its future, or another node."""
    return getattr(node, "value", node)


def _is_future(node):
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(node, distributed.Future)
