"""CUDA tensors: fits run on their device, by CuPy on the current stream of PyTorch.

With `--on-device` they are CUDA tensors. Else those of the CPU are taken for such, and what stands
in for CuPy sees their memory as that of a device.
"""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skgmmot import MixtureParameters  # noqa: E402
from skgmmot.bridges import torch_tensors  # noqa: E402
from skgmmot.samples.cuda import CudaSamples  # noqa: E402
from skgmmot.torch import MixtureLoss, fit_mixture, mixture_wasserstein  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by PyTorch

MODES = ["implicit", "unrolled", "one_step"]
GOAL = ([0.5, 0.5], [[0.0, 1.0], [4.0, 1.0]], [1.0, 2.0])
STREAM = 1234


@pytest.fixture
def in_cuda(request, device_cupy, monkeypatch):
    """A function that takes a tensor to a device."""
    if request.config.getoption("--on-device"):
        if not torch.cuda.is_available():
            pytest.skip("PyTorch reaches no CUDA device.")
        return torch.Tensor.cuda
    from cuda_on_host.arrays import ndarray

    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch_tensors, "is_in_cuda", lambda tensor: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(device_cupy, "from_dlpack", lambda tensor: ndarray._of(tensor.numpy()))
    monkeypatch.setattr(torch, "from_dlpack", lambda array: torch.from_numpy(array._array))
    return torch.clone


def points(n=40, dtype=torch.float64):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(n // 2, 2)), rng.normal(size=(n // 2, 2)) + [5, 3]])
    weight = rng.uniform(0.5, 2.0, n)
    weight[3] = 0.0
    return torch.tensor(X, dtype=dtype), torch.tensor(weight, dtype=dtype)


def near(found, expected, tolerance=1e-10):
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=tolerance)


def fit_and_gradients(X, weight, place, **options):
    """The mixture of a fit, and the gradients of a loss of it in all inputs."""
    X, weight = (place(tensor).requires_grad_() for tensor in (X, weight))
    mixture = fit_mixture(X, 2, sample_weight=weight, random_state=0, **options)
    kind = options["covariance_type"]
    loss = mixture_wasserstein(MixtureParameters(*mixture, kind), GOAL)
    return [*mixture, loss, *torch.autograd.grad(loss, (X, weight))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_fits_and_gradients_are_those_of_the_cpu(request, mode, kind):
    data, options = points(), {"mode": mode, "covariance_type": kind, "residual_tol": 1e-9}
    expected = fit_and_gradients(*data, torch.clone, **options)
    asked = []
    count = CudaSamples.statistics_vjp
    place = request.getfixturevalue("in_cuda")
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(
        CudaSamples, "statistics_vjp", lambda *args, **kw: asked.append(1) or count(*args, **kw)
    )
    found = fit_and_gradients(*data, place, **options)
    for mine, theirs in zip(found, expected, strict=True):
        near(mine.detach(), theirs.detach(), 1e-8)
    assert asked


def test_single_precision_and_initial_parts(request):
    X, weight = points(dtype=torch.float32)
    initial = [part.detach() for part in fit_mixture(X, 2, random_state=0)]

    def gradients(place):
        start = [place(part).requires_grad_() for part in initial]
        mixture = fit_mixture(place(X), initial=start, mode="unrolled", max_iter=5, tol=1.0)
        return torch.autograd.grad(mixture.means.sum(), start[1:])

    expected = gradients(torch.clone)
    for mine, theirs in zip(gradients(request.getfixturevalue("in_cuda")), expected, strict=True):
        near(mine, theirs, 1e-5)


def test_tangents_are_those_of_the_cpu(request):
    X, weight = points()
    X_dot, weight_dot = torch.randn_like(X), torch.randn_like(weight)

    def tangents(place):
        def fit(X, weight):
            return fit_mixture(X, 2, sample_weight=weight, random_state=0)

        at, dots = [place(X), place(weight)], [place(X_dot), place(weight_dot)]
        return torch.func.jvp(fit, tuple(at), tuple(dots))[1]

    expected = tangents(torch.clone)
    for mine, theirs in zip(tangents(request.getfixturevalue("in_cuda")), expected, strict=True):
        near(mine, theirs, 1e-8)


def test_sets_along_an_axis(request):
    X = torch.stack([points()[0], 2.0 * points()[0] + 1.0])
    loss = MixtureLoss(GOAL, covariance_type="spherical", random_state=0, residual_tol=1e-9)

    def gradients(place):
        return torch.func.vmap(torch.func.grad(loss.to(place(X).device)))(place(X))

    expected = gradients(torch.clone)
    near(gradients(request.getfixturevalue("in_cuda")), expected, 1e-6)


def test_cupy_works_on_the_stream_of_pytorch(in_cuda, device_cupy, device_traffic, monkeypatch):
    streams = []
    for name in ("statistics", "statistics_vjp", "summary"):
        method = getattr(CudaSamples, name)

        def noting(*args, method=method, **kwargs):
            streams.append(device_cupy.cuda.get_current_stream().ptr)
            return method(*args, **kwargs)

        monkeypatch.setattr(CudaSamples, name, noting)
    X = in_cuda(points(1000)[0]).requires_grad_()
    device_traffic.clear()
    mixture = fit_mixture(X, 2, random_state=0, init_size=50)
    forward = len(streams)
    mixture.means.sum().backward()
    assert 0 < forward < len(streams) and set(streams) == {STREAM}
    assert device_cupy.cuda.get_current_stream().ptr != STREAM
    assert max(size for _, size in device_traffic) <= 50 * 2 * 8  # the rows that k-means sees


def test_the_data_are_not_copied_and_results_are(in_cuda, device_cupy):
    X = in_cuda(points()[0])
    rows = torch_tensors.rows_of(X)
    assert isinstance(rows, device_cupy.ndarray) and rows.data.ptr == X.data_ptr()
    back = torch_tensors.tensor_of(rows, X.dtype, X.device)
    assert back.device == X.device and back.data_ptr() != X.data_ptr()


def test_tensors_in_two_places_are_refused():
    X, elsewhere = points()[0], torch.empty(40, device="meta")
    with pytest.raises(ValueError, match=r"X is on cpu, sample_weight on meta. Pass both on one"):
        torch_tensors.refuse_other_device(elsewhere, "sample_weight", X, "X")
    with pytest.raises(ValueError, match=r"X is on meta, and mixtures are .* on CUDA devices"):
        fit_mixture(elsewhere[:, None])


def test_the_compiler_knows_where_results_are():
    """Mixtures are where the data are; what derivatives need to know of a fit is on the host."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from skgmmot.bridges.torch_fit import fit_operator, layer_text

    text = layer_text(n_components=2, random_state=0)
    with FakeTensorMode():
        X = torch.empty(40, 2, device="cuda")
        *parts, record = fit_operator(X, None, None, None, None, text)
    assert {part.device.type for part in parts} == {"cuda"} and record.device.type == "cpu"
