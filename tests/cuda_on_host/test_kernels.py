"""Kernels on the host do what they would on a device, and what is wrong with one is seen."""

import numpy as np
import pytest

from cuda_on_host import cupy, kernels, nvrtc

ON_HOST = np.arange(12.0).reshape(4, 3)
SOURCE = r"""
// Sums of the columns of X, by block; a comment with extern "C" __global__ void nothing(int n)
extern "C" __global__ void column_sums(const REAL *__restrict__ X, const double *weight,
                                       long long n, int d, double scale, double *out) {
    extern __shared__ double shared[];
    int t = threadIdx.x;
    for (int a = 0; a < d; a++) {
        double sum = 0.0;
        for (long long i = blockIdx.x * blockDim.x + t; i < n; i += gridDim.x * blockDim.x)
            sum += (weight ? weight[i] : 1.0) * (double)X[i * d + a];
        shared[t] = sum;
        __syncthreads();
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            if (t < half) shared[t] += shared[t + half];
            __syncthreads();
        }
        if (t == 0) out[blockIdx.x * d + a] = scale * shared[0];
        __syncthreads();
    }
}

// Each thread takes the number of its neighbor, for which nobody has waited.
extern "C" __global__ void without_barrier(double *out) {
    extern __shared__ double shared[];
    shared[threadIdx.x] = threadIdx.x;
    out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

// Some may go on and write while others still read.
extern "C" __global__ void one_barrier_in_two(double *out) {
    extern __shared__ double shared[];
    double sum = 0.0;
    for (int i = 0; i < 3; i++) {
        shared[threadIdx.x] = i;
        __syncthreads();
        sum += shared[(threadIdx.x + 1) % blockDim.x];
    }
    out[threadIdx.x] = sum;
}

extern "C" __global__ void all_blocks_write_one(double *out) { out[0] = 1.0; }

extern "C" __global__ void reads_what_nobody_wrote(double *out) {
    extern __shared__ double shared[];
    if (blockIdx.x == 0) shared[threadIdx.x] = 1.0;  // and the next block does not find it
    if (blockIdx.x == 1) out[threadIdx.x] = shared[threadIdx.x];
}

extern "C" __global__ void writes_shared(int where) {
    extern __shared__ double shared[];
    shared[where] = 1.0;
}

extern "C" __global__ void writes_array(double *out, int where) { out[where] = 1.0; }

extern "C" __global__ void reads_array(const double *array, int where, double *out) {
    out[0] = array[where];
}

extern "C" __global__ void reads_two(const double *array, double *out) {
    double2 both = *(const double2 *)array;
    out[0] = both.x + both.y;
}

extern "C" __global__ void some_wait(double *out) {
    if (threadIdx.x < 3) __syncthreads();
    out[threadIdx.x] = 1.0;
}

extern "C" __global__ void wait_apart(double *out) {
    if (threadIdx.x < 3)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1.0;
}

extern "C" __global__ void places(double *out) {
    int block = blockIdx.y * gridDim.x + blockIdx.x;
    out[block * blockDim.x + threadIdx.x] = 100 * blockIdx.x + 10 * blockIdx.y + threadIdx.x;
}
"""
OUT_OF_BOUNDS = "has written outside"


def launch(name, grid, block, *args, shared_mem=0, dtype="double"):
    module = cupy.RawModule(code=SOURCE, options=(f"-DREAL={dtype}", "-std=c++17"))
    module.get_function(name)(grid, block, args, shared_mem=shared_mem)


def column_sums(X, weight=None, *, n_blocks=3, n_threads=32):
    """Sums by the kernel, NaN where it wrote none."""
    n, d = X.shape
    out = cupy.empty((n_blocks, d))
    dtype = {"float32": "float", "float64": "double"}[X.dtype.name]
    given = np.intp(0) if weight is None else weight
    args = X, given, np.int64(n), np.int32(d), np.float64(2.0), out
    launch("column_sums", (n_blocks,), (n_threads,), *args, shared_mem=8 * n_threads, dtype=dtype)
    return out.get().sum(axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 31, 500])
def test_a_kernel_sums_as_numpy(device_cupy, dtype, n):
    X = np.random.default_rng(0).normal(size=(n, 3)).astype(dtype)
    weight = np.random.default_rng(1).uniform(size=n)
    on_device = device_cupy.asarray(X)
    # rounding of sums of n terms
    np.testing.assert_allclose(column_sums(on_device), 2.0 * X.sum(0, dtype=float), atol=1e-12)
    found = column_sums(on_device, device_cupy.asarray(weight))
    np.testing.assert_allclose(found, 2.0 * weight @ X, atol=1e-12)


def test_blocks_and_threads_know_their_places(device_cupy):
    out = device_cupy.empty((3, 2, 4))
    launch("places", (2, 3), (4,), out)
    y, x, t = np.indices((3, 2, 4))
    np.testing.assert_array_equal(out.get(), 100 * x + 10 * y + t)


def test_a_missing_barrier_shows_in_the_order_of_threads(device_cupy, monkeypatch):
    X = device_cupy.asarray(np.random.default_rng(0).normal(size=(200, 3)))
    results, others = [], []
    for order in 0, 1, 2:
        monkeypatch.setattr(kernels, "order", order)
        out = device_cupy.empty(32)
        launch("without_barrier", (1,), (32,), out, shared_mem=256)
        results.append(out.get())
        others.append(column_sums(X))
    assert not np.array_equal(results[0], results[1], equal_nan=True)
    assert not np.array_equal(results[1], results[2], equal_nan=True)
    np.testing.assert_array_equal(others[0], others[1])
    np.testing.assert_array_equal(others[0], others[2])


def test_a_race_is_seen_and_a_barrier_is_believed(device_cupy):
    X = device_cupy.asarray(np.random.default_rng(0).normal(size=(200, 3)))
    with kernels.recorded() as clean:
        column_sums(X)
    assert kernels.what_sanitizers_see(clean, "thread") == ""
    for name in ("without_barrier", "one_barrier_in_two"):
        with kernels.recorded() as racing:
            launch(name, (1,), (32,), device_cupy.empty(32), shared_mem=256)
        assert "data race" in kernels.what_sanitizers_see(racing, "thread")
    with kernels.recorded() as between_blocks:
        launch("all_blocks_write_one", (2,), (1,), device_cupy.empty(1))
    assert "data race" in kernels.what_sanitizers_see(between_blocks, "thread")


def test_reading_and_writing_outside_of_arrays_is_seen(device_cupy):
    array = device_cupy.zeros(4)
    with kernels.recorded() as clean:
        column_sums(device_cupy.asarray(ON_HOST), device_cupy.ones(4))
        launch("reads_array", (1,), (1,), array[1:], np.int32(2), device_cupy.empty(1))
        launch("reads_two", (1,), (1,), array[2:], device_cupy.empty(1))
    assert kernels.what_sanitizers_see(clean, "address,undefined") == ""
    with kernels.recorded() as reading:
        out = device_cupy.empty(1)
        launch("reads_array", (1,), (1,), array, np.int32(4), out)
    assert np.isnan(float(out[0]))
    assert "heap-buffer-overflow" in kernels.what_sanitizers_see(reading, "address,undefined")
    with kernels.recorded() as unaligned:
        launch("reads_two", (1,), (1,), array[1:], device_cupy.empty(1))
    assert "misaligned" in kernels.what_sanitizers_see(unaligned, "address,undefined")
    for where in -1, 4:
        with pytest.raises(RuntimeError, match=OUT_OF_BOUNDS):
            launch("writes_array", (1,), (1,), array, np.int32(where))


def test_writing_outside_of_shared_memory_is_seen(device_cupy):
    launch("writes_shared", (1,), (1,), np.int32(4), shared_mem=40)
    for where in -1, 5:
        with pytest.raises(RuntimeError, match=OUT_OF_BOUNDS):
            launch("writes_shared", (1,), (1,), np.int32(where), shared_mem=40)


def test_shared_memory_is_new_for_each_block(device_cupy):
    out = device_cupy.zeros(4)
    launch("reads_what_nobody_wrote", (2,), (4,), out, shared_mem=32)
    assert np.isnan(out.get()).all()


@pytest.mark.parametrize("name, complaint", [("some_wait", "ended"), ("wait_apart", "line")])
def test_threads_that_do_not_meet_are_seen(device_cupy, name, complaint):
    with pytest.raises(RuntimeError, match=f"meet at a barrier: .* {complaint}"):
        launch(name, (1,), (4,), device_cupy.empty(4))
    # and the next launch is none the worse for it
    launch(name, (1,), (3,), device_cupy.empty(3))


def test_arguments_have_the_types_of_the_parameters(device_cupy):
    X, out = device_cupy.asarray(ON_HOST), device_cupy.empty((1, 3))
    right = [X, np.intp(0), np.int64(4), np.int32(3), np.float64(1.0), out]
    launch("column_sums", (1,), (8,), *right, shared_mem=64)
    launch("column_sums", (1,), (8,), X, 0, 4, np.int32(3), 1.0, out, shared_mem=64)
    for place, wrong, error in [
        (0, ON_HOST, TypeError),
        (0, X.astype(np.float32), TypeError),
        (0, X.T, ValueError),
        (2, np.int32(4), TypeError),
        (3, 3, TypeError),
        (3, np.int64(3), TypeError),
        (4, np.float32(1.0), TypeError),
        (5, 3, TypeError),
    ]:
        args = [*right[:place], wrong, *right[place + 1 :]]
        with pytest.raises(error, match="column_sums"):
            launch("column_sums", (1,), (8,), *args, shared_mem=64)
    with pytest.raises(TypeError, match="6 parameters"):
        launch("column_sums", (1,), (8,), *right[:5], shared_mem=64)


def test_sizes_are_those_that_a_device_has(device_cupy):
    out = device_cupy.empty(4)
    for grid, block, shared_mem in [
        ((0,), (4,), 0),
        ((1,), (1025,), 0),
        ((1,), (4,), 48 * 1024 + 1),
    ]:
        with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_VALUE"):
            launch("places", grid, block, out, shared_mem=shared_mem)
    module = cupy.RawModule(code=SOURCE, options=("-DREAL=double",))
    kernel = module.get_function("places")
    kernel.max_dynamic_shared_size_bytes = 64 * 1024
    kernel((1,), (4,), (out,), shared_mem=64 * 1024)
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        module.get_function("nothing")


@pytest.mark.parametrize(
    "source, complaint",
    [
        ('extern "C" __global__ void f(double *x) { x[0] = y; }', "not declared"),
        ('extern "C" __global__ void f(double *x) { int y = 0; }', "unused"),
        ('extern "C" __global__ void f(strange *x) {}', "type of x"),
        ('extern "C" __global__ void f() { __shared__ double x[3]; }', "dynamic"),
    ],
)
def test_source_that_does_not_compile_says_why(device_cupy, source, complaint):
    with pytest.raises(device_cupy.cuda.compiler.CompileException, match=complaint):
        cupy.RawModule(code=source).get_function("f")


def test_nvrtc_says_what_it_thinks():
    kernel = 'extern "C" __global__ void f(double *x) {{ {} }}'
    ptx, said = nvrtc.compiled(kernel.format("x[0] = 1.0;"), ["-arch=compute_80"])
    assert ".entry f(" in ptx and said == ""
    ptx, said = nvrtc.compiled(kernel.format("x[0] = y;"), ["-arch=compute_80"])
    assert ptx == "" and "undefined" in said
    _, said = nvrtc.compiled(kernel.format("int y = 0;"), ["-arch=compute_80"])
    assert "warning" in said
