"""The CUDA source compiles by NVRTC, without a warning, for every architecture that is promised."""

import itertools

import numpy as np
import pytest
from cuda_on_host import nvrtc
from cuda_on_host.kernels import parameters_of

from skgmmot.kernels.cuda import options_of, source

ARCHITECTURES = 70, 80, 90, 100
OPTIONS = {
    options_of(dtype, has_apart)
    for dtype, has_apart in itertools.product((np.dtype("f4"), np.dtype("f8")), (False, True))
}


def compiled(options, architecture):
    if architecture not in nvrtc.architectures():
        pytest.skip(f"this version of NVRTC does not compile for compute_{architecture}")
    return nvrtc.compiled(source(), [*options, f"-arch=compute_{architecture}"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("options", sorted(OPTIONS))
def test_all_kernels_compile_without_a_word(options, architecture):
    ptx, said = compiled([*options, "-G"], architecture)  # not optimized, which takes seconds
    assert said == ""
    kernels = parameters_of(source(), options)
    assert len(kernels) >= 10
    for name in kernels:
        assert f".entry {name}(" in ptx


def test_kernels_are_optimized_as_users_get_them():
    ptx, said = compiled(options_of(np.dtype("f8")), 80)
    assert said == ""
    assert ".entry statistics(" in ptx
    assert "fma.rn.f64" in ptx


@pytest.mark.parametrize("macros", sorted(OPTIONS))
def test_the_host_reads_the_parameters_that_nvrtc_compiles(macros):
    """What the tests on the host launch is what a device would."""
    ptx, _ = compiled([*macros, "-G"], 80)
    sizes = {8: "64", 4: "32"}
    for name, parameters in parameters_of(source(), macros).items():
        declared = ptx.partition(f".entry {name}(")[2].partition(")")[0]
        assert declared.count(".param") == len(parameters), name
        for i, own in enumerate(parameters):
            size = "64" if own.is_array else sizes[own.dtype.itemsize]
            assert f"{size} {name}_param_{i}" in declared, (name, own)
