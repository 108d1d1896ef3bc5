"""Chunks that Dask holds: the answers and the bits of chunks in this process, and lazy arrays."""

import gc
import weakref
from functools import partial

import naive
import numpy as np
import pytest

from skgmmot import ChunkedRows
from skgmmot.em.em_map import EMMap
from skgmmot.families import FAMILIES
from skgmmot.samples import chunks_of, samples_of
from skgmmot.samples.dask_chunks import DaskRows

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

N, D, K, SIZE = 1035, 2, 3, 45  # more chunks than the tree adds up at a time, twice


def problem(dtype=np.float64):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, K, D, "full")
    X, weight = naive.sample(rng, theta, N).astype(dtype), rng.uniform(0.2, 2.0, N)
    weight[: SIZE + 20 : 3] = 0.0  # some of a chunk, …
    weight[2 * SIZE : 3 * SIZE] = 0.0  # … and all of one
    logits = FAMILIES["full"].natural(theta, X.mean(axis=0).astype(float))
    return theta, X, weight, logits, rng


class Counted:
    """A function of blocks that notes which it is called with."""

    def __init__(self):
        self.asked = []

    def __call__(self, block, block_info=None):
        if block_info:
            self.asked.append(block_info[0]["chunk-location"][0])
        return block


def counted(X, **options):
    """A dask array of which blocks are computed each time, and the function that counts them."""
    count = Counted()
    return da.from_array(X, chunks=(SIZE, D)).map_blocks(count, dtype=X.dtype, **options), count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("persisted", [False, True])
def test_statistics_have_the_bits_of_local_chunks(dtype, persisted):
    _, X, weight, logits, _ = problem(dtype)
    array = da.from_array(X, chunks=(SIZE, D))
    array = array.persist() if persisted else array.map_blocks(np.copy)
    for given in (None, weight):
        local = samples_of(ChunkedRows([X], chunk_size=SIZE), given).statistics(logits)
        for scheduler in ({"num_workers": 1}, {"num_workers": 3}, {"scheduler": "sync"}):
            with dask.config.set(**scheduler):
                found = samples_of(DaskRows(array), given).statistics(logits)
            np.testing.assert_array_equal(found.sums, local.sums)
            assert found.log_likelihood == local.log_likelihood


def rows_and_parts(chunk, whole, items, blocks, nothing):
    assert nothing is None
    return np.column_stack([chunk.X[:, 0], whole, np.full(len(whole), items), blocks]).sum(axis=0)


def test_parts_that_belong_to_chunks_come_with_them():
    _, X, _, _, rng = problem()
    whole, blocks = rng.normal(size=(2, N))
    items = list(range(-(-N // SIZE)))
    chunks = chunks_of(DaskRows(da.from_array(X, chunks=(SIZE, D))))
    lazy = da.from_array(blocks, chunks=77)  # other chunks than those of the rows
    local = chunks_of(ChunkedRows([X], chunk_size=SIZE))
    mine = chunks.each(rows_and_parts, whole, items, lazy, None)
    theirs = local.each(rows_and_parts, whole, items, blocks, None)
    np.testing.assert_array_equal(mine, list(theirs))
    total = chunks.total(rows_and_parts, whole, items, lazy, None)
    np.testing.assert_array_equal(total, local.total(rows_and_parts, whole, items, blocks, None))


def test_only_blocks_that_are_needed_are_computed():
    _, X, _, _, _ = problem()
    array, count = counted(X)
    chunks = chunks_of(DaskRows(array))
    found = chunks.part([3, 5]).each(lambda chunk: (chunk.first, len(chunk.X)))
    assert found == [(3 * SIZE, SIZE), (5 * SIZE, SIZE)]
    assert sorted(count.asked) == [3, 5]
    assert len(chunks.part([3, 5]).part([1])) == 1


def test_each_block_is_computed_once_for_a_question():
    _, X, weight, logits, _ = problem()
    array, count = counted(X)
    samples = samples_of(DaskRows(array), weight)
    samples.statistics(logits)
    samples.statistics(logits)
    assert sorted(count.asked) == sorted(2 * list(range(-(-N // SIZE))))


def test_empty_blocks_are_skipped():
    _, X, _, logits, _ = problem()
    array = da.from_array(X, chunks=((0, 400, 0, N - 400, 0), D))
    count = Counted()
    array = array.map_blocks(count, dtype=X.dtype)
    chunks = chunks_of(DaskRows(array))
    assert len(chunks) == 2
    found = samples_of(DaskRows(array)).statistics(logits)
    local = samples_of(ChunkedRows([X[:400], X[400:]], chunk_size=700)).statistics(logits)
    np.testing.assert_array_equal(found.sums, local.sums)
    (doubled,) = chunks.gathered(lambda chunk: (2.0 * chunk.X,), [(D,)], np.float64)
    assert doubled.chunks == array.chunks
    np.testing.assert_array_equal(doubled, 2.0 * X)
    assert set(count.asked) == {1, 3}


def test_answers_for_rows_are_lazy_and_say_what_they_will_be():
    _, X, weight, _, _ = problem(np.float32)
    array, count = counted(X)
    chunks = chunks_of(DaskRows(array), weight)

    def question(chunk):
        return chunk.X[:, None, :].astype(np.float64), chunk.weight

    rows, weights = chunks.gathered(question, [(1, D), ()], np.float64)
    assert not count.asked
    assert rows.shape == (N, 1, D) and rows.chunks == (array.chunks[0], (1,), (D,))
    assert rows.dtype == rows._meta.dtype == np.float64 and rows._meta.shape == (0, 0, 0)
    assert weights.chunks == array.chunks[:1]
    both = dask.compute(rows, weights)
    np.testing.assert_array_equal(both[0][:, 0], X)
    np.testing.assert_array_equal(both[1], weight)
    assert len(count.asked) == -(-N // SIZE)  # once for both
    np.testing.assert_array_equal(rows[100:103, 0].compute(), X[100:103])


def test_answers_are_written_block_by_block():
    _, X, _, _, _ = problem()
    out, living, most = np.zeros_like(X), weakref.WeakValueDictionary(), [0]

    class Block(np.ndarray):
        pass

    def question(chunk):
        answer = chunk.X.view(Block)
        living[id(answer)] = answer
        gc.collect()
        most[0] = max(most[0], len(living))
        return (answer,)

    chunks = chunks_of(DaskRows(da.from_array(X, chunks=(SIZE, D))))
    with dask.config.set(num_workers=2):
        (written,) = chunks.gathered(question, [(D,)], np.float64, out)
    assert written is out
    np.testing.assert_array_equal(out, X)
    assert most[0] <= 4  # of 23: those that run, and those before


def the_chunk(chunk):
    return chunk


def test_chunks_of_blocks_in_memory_are_kept():
    _, X, weight, _, _ = problem()
    array = da.from_array(X, chunks=(SIZE, D)).persist()
    chunks = chunks_of(DaskRows(array), da.from_array(weight, chunks=SIZE).persist())
    first, again = chunks.each(the_chunk), chunks.part([1, 2]).each(the_chunk)
    assert first[1] is again[0] and first[2] is again[1]
    assert np.shares_memory(first[1].X, dict(array.__dask_graph__())[array.name, 1, 0])


@pytest.mark.parametrize("why", ["computed", "weights", "copies"])
def test_chunks_that_would_take_memory_are_not_kept(why):
    _, X, weight, _, _ = problem()
    array = da.from_array(X, chunks=(SIZE, D)).persist()
    weight = da.from_array(weight, chunks=SIZE).persist()
    if why == "computed":
        array = array + 1.0
    elif why == "weights":
        weight = weight + 1.0
    else:
        array = array.map_blocks(np.asfortranarray).persist()
    chunks = chunks_of(DaskRows(array), weight)
    first, again = chunks.each(the_chunk), chunks.each(the_chunk)
    assert first[1] is not again[1]
    assert first[1].X.flags.c_contiguous


@pytest.mark.parametrize("which", ["rows", "features", "weights", "parts"])
def test_blocks_that_are_not_as_they_say_are_refused(which):
    """Kernels would read what is not there."""
    _, X, weight, _, _ = problem()
    X, weight = da.from_array(X, chunks=(SIZE, D)), da.from_array(weight, chunks=SIZE)
    shorter = {"dtype": X.dtype, "meta": np.empty((0, D))}
    short = weight.map_blocks(lambda block: block[1:], dtype=X.dtype, meta=np.empty(0))
    message = r"Block \d+ of a dask array has 44 rows, where its chunks say 45"
    parts = []
    if which == "rows":
        X = X.map_blocks(lambda block: block[1:], **shorter)
    elif which == "features":
        X = X.map_blocks(lambda block: block[:, 1:], **shorter)
        message = r"X: block \d+ has shape \(45, 1\), where X says \(45, 2\)"
    elif which == "weights":
        weight = short
    else:
        parts = [short]
    with pytest.raises(ValueError, match=message):
        chunks_of(DaskRows(X), weight).each(lambda chunk, *parts: None, *parts)


def fail(chunk, number):
    if chunk.first == number * SIZE:
        raise RuntimeError("no answer")


def test_error_names_its_chunk():
    _, X, _, _, _ = problem()
    chunks = chunks_of(DaskRows(da.from_array(X, chunks=(SIZE, D))))
    for ask in (chunks.each, chunks.total):
        with pytest.raises(RuntimeError, match="no answer") as caught:
            ask(partial(fail, number=7))
        assert caught.value.__notes__ == ["This was in chunk 7, rows 315 to 359."]


def test_error_of_a_block_names_it():
    _, X, _, logits, _ = problem()

    def broken(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][0] == 4:
            raise OSError("the disk is gone")
        return block

    array = da.from_array(X, chunks=(SIZE, D)).map_blocks(broken, dtype=X.dtype)
    with pytest.raises(OSError, match="disk") as caught:
        samples_of(DaskRows(array)).statistics(logits)
    assert caught.value.__notes__ == ["This was in chunk 4, rows 180 to 224."]


def test_step_keeps_no_block():
    """Of what is computed for a step nothing stays in memory."""
    theta, X, _, _, _ = problem()
    living = weakref.WeakValueDictionary()

    class Block(np.ndarray):
        pass

    def tracked(block):
        block = block.copy().view(Block)
        living[id(block)] = block
        return block

    array = da.from_array(X, chunks=(SIZE, D)).map_blocks(tracked, dtype=X.dtype, meta=X[:0])
    em_map = EMMap.of(samples_of(DaskRows(array)), "full")
    em_map.step(theta)
    gc.collect()
    assert not living
