"""`ChunkedRows`: the rows of several arrays, or of what is on a disk, as if they were one array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import OnDisk

from skgmmot import ChunkedRows
from skgmmot.samples import rows as rows_module
from skgmmot.samples.rows import in_chunks


def numbers(n, d=2, dtype=np.float64):
    return np.arange(n * d, dtype=dtype).reshape(n, d)


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    chunk_size=st.one_of(st.none(), st.integers(1, 15)),
    stored=st.one_of(st.none(), st.integers(1, 7)),
    data=st.data(),
)
def test_rows_are_those_of_the_arrays_joined(sizes, chunk_size, stored, data):
    X = numbers(sum(sizes))
    parts = np.split(X, np.cumsum(sizes)[:-1])
    arrays = [
        part if i % 2 else OnDisk(part, None if stored is None else (stored, 2))
        for i, part in enumerate(parts)
    ]
    rows = ChunkedRows(arrays, chunk_size=chunk_size)
    assert rows.shape == X.shape and len(rows) == len(X)
    assert rows.bounds[0] == 0 and rows.bounds[-1] == len(X)
    lengths = np.diff(rows.bounds)
    assert (lengths > 0).all()
    if chunk_size is not None:
        assert lengths.max(initial=0) <= chunk_size
    read = [rows.read(number) for number in range(rows.n_chunks)]
    np.testing.assert_array_equal(np.concatenate([X[:0], *read]), X)
    n = len(X)
    start, stop = (data.draw(st.integers(-n - 1, n + 1)) for _ in range(2))
    step = data.draw(st.sampled_from([None, 1, 2, -1, -3]))
    np.testing.assert_array_equal(rows[start:stop:step], X[start:stop:step])
    if n:
        index = np.array(data.draw(st.lists(st.integers(-n, n - 1), max_size=8)), dtype=int)
        np.testing.assert_array_equal(rows[index], X[index])
        mask = np.arange(n) % 3 == 1
        np.testing.assert_array_equal(rows[mask], X[mask])
        np.testing.assert_array_equal(rows[n - 1], X[n - 1])


def test_a_chunk_of_an_array_in_memory_is_a_view_and_all_of_it():
    X = numbers(1000)
    rows = ChunkedRows(X)
    assert rows.n_chunks == 1 and not rows.is_read
    assert np.shares_memory(rows.read(0), X)


def test_small_arrays_share_a_chunk_and_others_have_their_own():
    rows = ChunkedRows([numbers(n) for n in (2, 3, 4, 9, 2, 25)], chunk_size=10)
    assert rows.bounds.tolist() == [0, 9, 18, 20, 29, 38, 45]


def test_chunks_keep_to_those_of_the_storage():
    stored = OnDisk(numbers(100), chunks=(8, 2))
    rows = ChunkedRows(stored, chunk_size=20)
    assert rows.bounds.tolist() == [0, 16, 32, 48, 64, 80, 96, 100]
    rows.read(1)
    assert stored.asked == [(16, 32)]


@pytest.mark.parametrize(
    "dtypes, expected",
    [
        ("ff", np.float32),
        ("fd", np.float64),
        ("ii", np.float64),
        ("?f", np.float64),
        ("ee", np.float64),
    ],
)
def test_rows_have_one_floating_type(dtypes, expected):
    rows = ChunkedRows([numbers(4).astype(dtype) for dtype in dtypes])
    assert rows.dtype == expected
    assert rows.read(0).dtype == rows[:3].dtype == rows[[1, 2]].dtype == expected


def test_rows_in_any_order_in_memory_become_contiguous():
    X = np.asfortranarray(numbers(6, 3))
    rows = ChunkedRows(X)
    assert rows.is_read and rows.read(0).flags.c_contiguous
    np.testing.assert_array_equal(rows.read(0), X)


@pytest.mark.parametrize(
    "arrays, options, complaint",
    [
        ([], {}, "arrays is empty"),
        ([np.zeros(3)], {}, r"arrays\[0\] must have shape"),
        ([np.zeros((3, 0))], {}, r"arrays\[0\] must have shape"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], {}, r"arrays\[1\] has 1 features"),
        ([np.zeros((3, 2), complex)], {}, "real numbers"),
        ([[["a", "b"]]], {}, "real numbers"),
        ([np.zeros((3, 2))], {"chunk_size": 0}, "chunk_size must be"),
        ([np.zeros((3, 2))], {"chunk_size": True}, "chunk_size must be"),
        ([np.zeros((3, 2))], {"chunk_size": 2.0}, "chunk_size must be"),
    ],
)
def test_what_cannot_be_read_is_refused(arrays, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        ChunkedRows(arrays, **options)


@pytest.mark.parametrize("index", [[10], [-11], np.ones(9, dtype=bool)])
def test_rows_that_are_not_there_are_refused(index):
    with pytest.raises(IndexError):
        ChunkedRows(numbers(10), chunk_size=4)[index]


def test_columns_are_not_indexed():
    X = numbers(10)
    rows = ChunkedRows(X, chunk_size=4)
    np.testing.assert_array_equal(rows[[7, 2], ...], X[[7, 2]])
    for columns in (0, slice(None), [1]):
        with pytest.raises(IndexError, match="only rows are indexed"):
            rows[[1, 2], columns]


def test_only_what_is_large_and_not_in_memory_is_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 1000)
    X = numbers(100)
    file = np.memmap(tmp_path / "X", mode="w+", dtype=X.dtype, shape=X.shape)
    small = file[:50]
    for whole in (X, X.tolist(), small, OnDisk(X[:50]), numbers(100, 1)[:, 0], None):
        assert in_chunks(whole) is whole
    for large in (file, OnDisk(X)):
        rows = in_chunks(large)
        assert isinstance(rows, ChunkedRows) and rows.n_chunks == 2
        assert in_chunks(rows) is rows


def test_arrays_of_others_are_no_files(monkeypatch):
    """Sparse matrices, arrays on a device or of another framework are refused where they were."""
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 10)
    sparse = pytest.importorskip("scipy.sparse").csr_array(numbers(10))

    class OnDevice(OnDisk):
        __cuda_array_interface__ = None

    for other in (sparse, OnDevice(numbers(10))):
        assert in_chunks(other) is other


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_of_a_map_are_given_back_unless_they_are_private(tmp_path, mode):
    X = numbers(4000)
    X.tofile(tmp_path / "X")
    file = np.memmap(tmp_path / "X", dtype=X.dtype, mode=mode, shape=X.shape)
    if mode != "r":
        file[3, 1] = X[3, 1] = -1.0
    rows = ChunkedRows(file, chunk_size=1500)
    for number in range(rows.n_chunks):
        assert np.shares_memory(rows.read(number), file)
        rows.let_go(number)
    np.testing.assert_array_equal(file, X)


@pytest.mark.parametrize("library", ["h5py", "zarr"])
def test_datasets_of_other_libraries_are_read(tmp_path, library):
    module = pytest.importorskip(library)
    X = numbers(1000, 3)
    if library == "h5py":
        with module.File(tmp_path / "X.h5", "w") as file:
            dataset = file.create_dataset("X", data=X, chunks=(64, 3))
            rows = ChunkedRows(dataset, chunk_size=200)
            np.testing.assert_array_equal(rows[:], X)
    else:
        dataset = module.create_array(store=tmp_path / "X", data=X, chunks=(64, 3))
        rows = ChunkedRows(dataset, chunk_size=200)
        np.testing.assert_array_equal(rows[:], X)
    assert np.diff(rows.bounds).max() == 192


def test_repr_tells_the_size():
    rows = ChunkedRows([numbers(30), numbers(40)], chunk_size=25)
    assert repr(rows) == "<ChunkedRows: 70 × 2 of float64 in 4 chunks>"
