"""Data of mixtures that tests put on a device, and how answers from there are compared."""

import naive
import numpy as np

N, D, K = 300, 3, 3  # kernels on the host take their time


def data(kind="full", dtype=np.float64, n=N):
    """Rows in clusters that are told apart, and weights, of which some are zero."""
    rng = np.random.default_rng(0)
    X = naive.sample(rng, naive.random_mixture(rng, K, D, kind, spread=3.0), n).astype(dtype)
    weight = rng.uniform(0.2, 2.0, n)
    weight[50:150:3] = 0.0
    return X, weight


class Foreign:
    """An array of another library on the device, which shares its memory by DLPack."""

    def __init__(self, array):
        self._array, self.shape = array, array.shape
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    def __len__(self):
        return self.shape[0]


def close(actual, expected, rtol):
    """Whether arrays of the host are the same, next to the largest of each, or to 1e-3."""
    for mine, theirs in zip(actual, expected, strict=True):
        assert isinstance(mine, np.ndarray)
        np.testing.assert_allclose(
            mine, theirs, rtol=0, atol=rtol * max(np.abs(theirs).max(), 1e-3)
        )


def fetched(cupy, values, like):
    """An array of the device on the host, after a look at what it is."""
    assert isinstance(values, cupy.ndarray)
    assert (values.shape, values.dtype) == (like.shape, like.dtype)
    return values.get()
