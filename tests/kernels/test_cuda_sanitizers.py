"""Sanitizers watch every kernel on the host: races, and what is read or written out of bounds.

That they see both is tested in `tests/cuda_on_host/test_kernels.py`.
"""

import sys

import naive
import numpy as np
import pytest
from cuda_on_host import kernels

from skgmmot.families import family_of
from skgmmot.kernels import cuda as cuda_kernels
from skgmmot.samples import cuda as cuda_samples
from skgmmot.samples import cuda_fused, cuda_tiles
from skgmmot.samples.interface import DataTangent


def ask_everything(cupy, kind, d, K, apart):
    """All passes over 70 samples, which are tiles of 16 for two blocks, and a ragged end."""
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, K, d, kind)
    X, weight = cupy.asarray(naive.sample(rng, theta, 70)), cupy.asarray(rng.uniform(size=70))
    logits = family_of(theta).natural(theta, np.zeros(d), apart=np.array(apart, dtype=int))
    samples, direction = (
        cuda_samples.CudaSamples(X, weight),
        rng.normal(size=logits.coefficients.shape),
    )
    samples.summary()
    samples.statistics(logits)
    samples.overlaps(logits)
    samples.completed_log_densities(logits)
    samples.responsibilities(logits)
    samples.labels(logits)
    cotangent = samples.zero_cotangent(wrt_weight=True)
    samples.statistics_vjp(logits, direction, data_bar=cotangent)
    samples.statistics_jvp(logits, direction, data_dot=DataTangent(X, weight))
    gamma = cupy.asarray(rng.dirichlet(np.ones(K), size=70))
    samples.assigned_statistics(gamma.__getitem__, logits.reference, logits.features)


@pytest.fixture(scope="module")
def launches():
    """Launches of each kernel; if fused, with and without centered logits and kept features."""
    from cuda_on_host import cupy

    with pytest.MonkeyPatch.context() as patch, kernels.recorded() as found:
        patch.setitem(sys.modules, "cupy", cupy)
        # threads of the operating system take their time: few of them, and few samples
        patch.setattr(cuda_fused, "_THREADS", (16,))
        patch.setattr(cuda_tiles, "_THREADS", 16)
        patch.setattr(cuda_samples, "_THREADS", 16)
        patch.setattr(cuda_fused, "_BLOCKS", 2)
        patch.setattr(cuda_kernels, "_LANES", 4)
        patch.setattr(cuda_tiles, "_LEAST", 64)
        patch.setattr(cuda_tiles, "_MOST", 64)
        for is_fused, most_kept in ((True, 32), (True, 0), (False, 0)):
            patch.setattr(cuda_fused.Fused, "fits", staticmethod(lambda mixture, own=is_fused: own))
            patch.setattr(cuda_fused, "_MOST_KEPT", most_kept)
            ask_everything(cupy, "full", 2, 5, apart=[1, 4])
            ask_everything(cupy, "diag", 3, 6, apart=[])
        cuda_samples.CudaSamples(cupy.zeros((70, 20))).summary()  # more features than threads
    return list({described(launch): launch for launch in found}.values())


def described(launch):
    """What tells launches apart: others do the same once more."""
    arguments = launch.arguments
    given = ("array" if isinstance(own, np.ndarray) else own for own in arguments)
    return launch.name, launch.macros, launch.block, *given


def test_every_kernel_is_watched(launches):
    found = {(launch.name, launch.macros) for launch in launches}
    assert {name for name, _ in found} == set(
        kernels.parameters_of(cuda_kernels.source(), ("-DREAL=double",))
    )
    assert {macros[1] for name, macros in found if name == "statistics_vjp"} == {
        "-DAPART=0",
        "-DAPART=1",
    }


def test_no_two_threads_race(launches):
    assert kernels.what_sanitizers_see(launches, "thread") == ""


def test_nothing_is_read_or_written_out_of_bounds(launches):
    assert kernels.what_sanitizers_see(launches, "address,undefined") == ""
