"""What only the host computes refuses arrays on a device, and says how they get there."""

from types import SimpleNamespace

import numpy as np
import pytest

import skgmmot.images
from skgmmot import (
    ChunkedRows,
    DifferentiableGaussianMixture,
    MixtureEmbedding,
    MixtureParameters,
    fit_mixtures,
    mixture_barycenter,
    mixture_bridge,
    mixture_transport,
    mixture_wasserstein,
    pairwise_mixture_wasserstein,
    pairwise_mixture_wasserstein_vjp,
)
from skgmmot.functions.validation import as_rows

MIXTURE = [1.0], [[0.0, 0.0]], [1.0]
SETS = np.random.default_rng(0).normal(size=(4, 30, 2))


def moved(cupy, place=1):
    """`MIXTURE` with a part on the device."""
    parts = [np.asarray(part) for part in MIXTURE]
    parts[place] = cupy.asarray(parts[place])
    return tuple(parts)


CALLS = {
    "fit_mixtures": lambda cupy: fit_mixtures(cupy.asarray(SETS)),
    "fit_mixtures of a list": lambda cupy: fit_mixtures([SETS[0], cupy.asarray(SETS[1])]),
    "fit_mixtures with offsets": lambda cupy: fit_mixtures(
        cupy.asarray(SETS[0]), offsets=np.array([0, 10, 30])
    ),
    "weights of sets": lambda cupy: fit_mixtures(
        SETS, sample_weight=cupy.asarray(np.ones(SETS.shape[:2]))
    ),
    "initial mixtures of sets": lambda cupy: fit_mixtures(SETS, initial=moved(cupy)),
    "cotangents of sets": lambda cupy: fit_mixtures(SETS).vjp(
        (None, cupy.asarray(np.ones((4, 1, 2))), None)
    ),
    "MixtureEmbedding": lambda cupy: MixtureEmbedding().fit(cupy.asarray(SETS)),
    "mixture_wasserstein": lambda cupy: mixture_wasserstein(MIXTURE, moved(cupy, 0)),
    "mixture_transport": lambda cupy: mixture_transport(moved(cupy, 2), MIXTURE),
    "parameters": lambda cupy: mixture_transport(MixtureParameters(*moved(cupy)), MIXTURE),
    "mixture_bridge": lambda cupy: mixture_bridge(moved(cupy), MIXTURE, epsilon=1.0),
    "mixture_barycenter": lambda cupy: mixture_barycenter([moved(cupy)]),
    "weights of mixtures": lambda cupy: mixture_barycenter(
        [MIXTURE, MIXTURE], weights=cupy.asarray([0.5, 0.5])
    ),
    "pairwise_mixture_wasserstein": lambda cupy: pairwise_mixture_wasserstein([moved(cupy)]),
    "pairwise_mixture_wasserstein_vjp": lambda cupy: pairwise_mixture_wasserstein_vjp(
        [MIXTURE, MIXTURE], None, cupy.ones((2, 2))
    ),
    "times": lambda cupy: mixture_bridge(MIXTURE, MIXTURE, epsilon=1.0).sample_paths(
        SETS[0], times=cupy.asarray([0.0, 1.0])
    ),
    "from_parameters": lambda cupy: DifferentiableGaussianMixture.from_parameters(*moved(cupy)),
    "means_init": lambda cupy: DifferentiableGaussianMixture(
        means_init=cupy.asarray([[0.0, 0.0]])
    ).fit(SETS[0]),
    "synthesize_texture": lambda cupy: skgmmot.images.synthesize_texture(cupy.ones((8, 8))),
    "transfer_texture": lambda cupy: skgmmot.images.transfer_texture(
        np.ones((8, 8)), cupy.ones((8, 8))
    ),
    "ChunkedRows": lambda cupy: ChunkedRows([cupy.asarray(SETS[0])]),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_on_a_device_are_refused(device_cupy, name):
    with pytest.raises(ValueError, match="on the host|cupy.asnumpy"):
        CALLS[name](device_cupy)


def test_arrays_of_other_libraries_are_told_without_cupy():
    foreign = SimpleNamespace(__cuda_array_interface__={}, shape=(3, 2), dtype=np.dtype(float))
    with pytest.raises(ValueError, match="Y must be on the host, where this is computed; got an"):
        as_rows(foreign, input_name="Y")


def test_rows_of_the_host_are_what_they_were():
    assert as_rows(SETS[0], or_device=True) is not None
    X = np.ones((3, 2), dtype=np.float32)
    assert as_rows(X).dtype == np.float32 and np.shares_memory(as_rows(X), X)
    assert not np.shares_memory(as_rows(X, copy=True), X)


def test_rows_on_a_device_stay_there(device_cupy):
    X = device_cupy.asarray(SETS[0])
    assert as_rows(X, or_device=True).data.ptr == X.data.ptr
    copied = as_rows(X, or_device=True, copy=True)
    copied += 1.0
    np.testing.assert_array_equal(X.get(), SETS[0])
    assert as_rows(X.astype(np.int32), or_device=True).dtype == np.float64
