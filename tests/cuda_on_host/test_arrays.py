"""What stands in for CuPy refuses what CuPy refuses."""

import copy
import inspect
import pickle
import sys

import numpy as np
import pytest

from cuda_on_host import arrays, cupy
from skgmmot.samples.device_arrays import is_on_device, module_of, taken

ON_HOST = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def x(device_cupy):
    return device_cupy.asarray(ON_HOST)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x + ON_HOST,
        lambda x: ON_HOST + x,
        lambda x: np.array(2.0) * x,
        lambda x: x @ ON_HOST.T,
        lambda x: ON_HOST.T @ x,
        lambda x: np.less(ON_HOST, x),
        lambda x: x.__iadd__(ON_HOST),
        lambda x: ON_HOST.__iadd__(x),
        lambda x: cupy.exp(ON_HOST),
        lambda x: cupy.sum(ON_HOST),
        lambda x: cupy.concatenate([x, ON_HOST]),
        lambda x: np.concatenate([x, ON_HOST]),
        lambda x: np.exp(ON_HOST, out=x),
        lambda x: cupy.exp(x, out=ON_HOST),
        lambda x: cupy.where(x > 0, x, ON_HOST),
        lambda x: x[np.array([0, 1])],
        lambda x: x[[0, 1]],
        lambda x: x[ON_HOST > 3.0],
        lambda x: x.take(np.array([0])),
        lambda x: x.__setitem__(slice(None), ON_HOST),
        lambda x: x.__setitem__(0, [1.0, 2.0, 3.0]),
        lambda x: ON_HOST.__setitem__(slice(None), x),
    ],
)
def test_host_and_device_do_not_mix(x, mixed):
    with pytest.raises((TypeError, ValueError)):
        mixed(x)
    np.testing.assert_array_equal(x.get(), np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(ON_HOST, np.arange(12.0).reshape(4, 3))


@pytest.mark.parametrize(
    "converted",
    [
        np.asarray,
        np.array,
        np.linalg.inv,
        np.add.reduce,
        lambda x: range(x.astype(int)[0, 0]),
        lambda x: np.array([x[0, 0], x[0, 1]]),
        lambda x: np.zeros(x.astype(int)[0, 1]),
        np.from_dlpack,
    ],
)
def test_nothing_is_converted_in_silence(x, converted):
    with pytest.raises((TypeError, BufferError)):
        converted(x)


def test_types_are_those_of_all_versions(x):
    """CuPy 13 has the promotion of types of NumPy 1, and 14 that of NumPy 2."""
    single = x.astype(np.float32)
    assert (single * 2.0).dtype == (np.float32(2.0) * single).dtype == np.float32
    assert (single + x).dtype == (np.float32(2.0) * x).dtype == np.float64
    for mixed in (lambda: single * np.float64(2.0), lambda: np.float64(2.0) - single):
        with pytest.raises(TypeError, match="wider"):
            mixed()


@pytest.mark.parametrize(
    "asked",
    [
        lambda x: cupy.sum(x, where=x > 0),
        lambda x: np.max(x, initial=3.0),
        lambda x: cupy.exp(x, where=x > 0),
        lambda x: np.heaviside(x, 0.0),
        lambda x: cupy.linalg,
        lambda x: cupy.no_such_function,
    ],
)
def test_what_cupy_has_not_is_not_there(x, asked):
    with pytest.raises((TypeError, AttributeError)):
        asked(x)


def test_results_stay_on_the_device(x, device_cupy):
    results = [
        x.sum(),
        x.max(axis=0),
        x[0, 0],
        x[0],
        x[x > 3.0],
        np.exp(x),
        np.sum(x, axis=0),
        np.float64(2.0) * x,
        2.0 - x,
        x.T @ x,
        -x,
        abs(x),
        x == 1.0,
        cupy.where(x > 3.0, x, 0.0),
        cupy.count_nonzero(x),
        cupy.allclose(x, x),
        *cupy.nonzero(x),
        *cupy.unique(x, return_inverse=True),
        *x,
        copy.deepcopy(x),
        pickle.loads(pickle.dumps(x)),
    ]
    assert {type(result) for result in results} == {device_cupy.ndarray}
    assert np.shape(x) == (4, 3)
    np.testing.assert_array_equal(cupy.asnumpy(np.exp(x)), np.exp(ON_HOST))
    assert sys.modules["cupy"] is device_cupy is module_of(x)
    assert is_on_device(x)


def test_an_operator_in_place_keeps_the_array(x):
    same = x
    same += 1.0
    same *= x
    assert same is x
    out = cupy.empty_like(x)
    assert cupy.sqrt(x, out=out) is out
    np.testing.assert_array_equal(out.get(), ON_HOST + 1.0)


def test_views_share_memory_and_copies_do_not(x):
    x.reshape(2, 6)[0, 0] = 5.0
    x.T[1, 0] = 6.0
    x.copy()[0, 2] = 7.0
    assert cupy.asarray(x) is x is x.astype(float, copy=False) is taken(x)
    np.testing.assert_array_equal(x[0].get(), [5.0, 6.0, 2.0])


def test_what_goes_between_host_and_device_is_written_down(x):
    assert arrays.traffic == [("up", 96)]
    x.sum().get()
    float(x[0, 0])
    bool(x[0, 0] > 0.0)
    assert arrays.traffic[1:] == [("down", 8), ("down", 8), ("down", 1)]


def test_memory_is_poisoned_and_limited(device_cupy):
    assert np.isnan(device_cupy.empty((2, 3)).get()).all()
    assert device_cupy.empty(2, dtype=np.int32).get().min() > 1000
    device_cupy.get_default_memory_pool().set_limit(size=80)
    device_cupy.zeros(10)
    with pytest.raises(device_cupy.cuda.memory.OutOfMemoryError, match="88 bytes"):
        device_cupy.zeros(11)


def test_arrays_of_others_on_the_device_are_shared(device_cupy):
    class Other:
        def __dlpack__(self, *, stream=None):
            self.stream = stream
            return ON_HOST.__dlpack__()

        def __dlpack_device__(self):
            return 2, 0

    other = Other()
    with device_cupy.cuda.ExternalStream(17):
        shared = taken(other)
    assert other.stream == 17
    assert shared.data.ptr == ON_HOST.ctypes.data
    with pytest.raises(BufferError):
        device_cupy.from_dlpack(ON_HOST)


def test_streams_are_current_as_long_as_they_are_entered(device_cupy):
    stream = device_cupy.cuda.Stream()
    with stream:
        assert device_cupy.cuda.get_current_stream() == stream
    assert device_cupy.cuda.get_current_stream() == device_cupy.cuda.Stream.null


def test_names_and_parameters_are_those_of_cupy():
    theirs = pytest.importorskip("cupy")
    listed = [*cupy._UFUNCS.split(), "empty", "empty_like", "array", "asarray", "asnumpy"]
    assert [name for name in listed if not hasattr(theirs, name)] == []
    for line in (cupy._FUNCTIONS + cupy._FACTS).splitlines():
        name, _, parameters = line.partition(": ")
        if inspect.isfunction(getattr(theirs, name)):
            own = list(arrays.signature(parameters).parameters)
            known = list(inspect.signature(getattr(theirs, name)).parameters)
            assert [parameter for parameter in own if parameter in known] == own, name
    for name in vars(cupy.ndarray):
        assert name == "_of" or name.startswith("_") or hasattr(theirs.ndarray, name), name
