"""The functions for PyTorch: what they compute, keep, refuse and warn of."""

import copy
import inspect
import pickle
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import skgmmot
from skgmmot import DifferentiableGaussianMixture, MixtureParameters, mixture_transport

torch = pytest.importorskip("torch")

from skgmmot.torch import MixtureLoss, fit_mixture, mixture_wasserstein  # noqa: E402

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]
GOAL = ([0.5, 0.5], [[0.0, 1.0], [4.0, 1.0]], [1.0, 2.0])


def points(dtype=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(size=(20, 2)), rng.normal(size=(20, 2)) + [5, 3]])
    weight = rng.uniform(0.5, 2.0, 40)
    return torch.tensor(X, dtype=dtype), torch.tensor(weight, dtype=dtype)


def tensors(mixture, dtype=torch.float64):
    return tuple(torch.tensor(np.array(part), dtype=dtype) for part in mixture)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
def test_values_and_gradients_are_those_of_the_estimator(kind, mode):
    X, weight = points()
    X.requires_grad_(), weight.requires_grad_()
    options = {"covariance_type": kind, "random_state": 0, "residual_tol": 1e-8}
    ours = fit_mixture(X, 2, mode=mode, sample_weight=weight, **options)
    acceleration = None if mode == "unrolled" else "auto"
    mixture = DifferentiableGaussianMixture(2, acceleration=acceleration, **options)
    arrays = X.detach().numpy(), weight.detach().numpy()
    mixture.fit(arrays[0], sample_weight=arrays[1])
    for part, same in zip(ours, mixture.parameters_, strict=True):
        np.testing.assert_array_equal(part.detach().numpy(), same)

    bars = [torch.randn(part.shape, dtype=part.dtype) for part in ours]
    found = torch.autograd.grad(ours, (X, weight), bars)
    cotangent = tuple(bar.numpy() for bar in bars)
    expected = mixture.vjp(arrays[0], cotangent, mode=mode, sample_weight=arrays[1])
    np.testing.assert_array_equal(found[0].numpy(), expected.data)  # the same steps, not remade
    np.testing.assert_array_equal(found[1].numpy(), expected.sample_weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    X, weight = points(dtype)
    initial = [part.double().requires_grad_() for part in fit_mixture(X, 2, random_state=0)]
    X.requires_grad_(), weight.requires_grad_()
    weight64 = weight.double().detach().requires_grad_()
    mixture = fit_mixture(X, initial=initial, mode="unrolled", sample_weight=weight64)
    assert {part.dtype for part in mixture} == {dtype}
    loss = mixture_wasserstein(mixture, GOAL)
    assert loss.dtype == dtype == MixtureLoss(GOAL, random_state=0)(X).dtype
    loss.backward()
    assert X.grad.dtype == dtype
    assert weight64.grad.dtype == torch.float64 == initial[1].grad.dtype


def test_gradients_flow_to_what_needs_them_alone():
    X, weight = points()
    weight.requires_grad_()
    initial = [part.requires_grad_() for part in fit_mixture(X, 2, random_state=0)]
    for mode in MODES:
        mixture = fit_mixture(X, initial=initial, mode=mode, sample_weight=weight)
        found = torch.autograd.grad(
            mixture.means.sum(), (weight, *initial), allow_unused=True, materialize_grads=False
        )
        assert found[0].abs().max() > 0
        has_initial = [bar is not None for bar in found[1:]]
        assert has_initial == 3 * [mode == "unrolled"]
    assert not fit_mixture(X.detach(), 2, random_state=0).means.requires_grad
    with torch.no_grad():
        assert not fit_mixture(X, 2, sample_weight=weight, random_state=0).means.requires_grad


def test_the_data_are_not_copied():
    """Beyond blocks of rows, memory does not grow with the data."""
    X = torch.randn(200_000, 8, dtype=torch.float64, requires_grad=True)
    options = {"init_params": "random_from_data", "random_state": 0, "max_iter": 2, "n_jobs": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fit_mixture(X[:1000], 2, **options)  # kernels are compiled
        tracemalloc.start()
        fit_mixture(X, 2, **options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 0.5 * X.numel() * 8


def test_results_have_memory_of_their_own():
    X, _ = points()
    X.requires_grad_()
    first = fit_mixture(X, 2, random_state=0)
    expected = torch.autograd.grad(first.means.sum(), X, retain_graph=True)[0]
    with torch.no_grad():
        first.means.data.zero_()
    assert torch.equal(torch.autograd.grad(first.means.sum(), X)[0], expected)
    assert fit_mixture(X, 2, random_state=0).means.abs().max() > 1


def test_data_changed_in_place_before_backward_are_refused():
    X, _ = points()
    X.requires_grad_()
    moved = X + 0.0
    loss = fit_mixture(moved, 2, random_state=0).means.sum()
    moved.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_strided_data_and_rows_without_weight():
    X, weight = points()
    wide = torch.stack([X, X + 1], dim=2)[:, :, 0].requires_grad_()
    weight[[0, 30]] = 0.0
    weight.requires_grad_()
    assert not wide.is_contiguous()
    means = fit_mixture(wide, 2, sample_weight=weight, random_state=0).means
    means.sum().backward()
    assert (wide.grad[[0, 30]] == 0).all() and weight.grad[0] != 0
    left = torch.cat([X[1:30], X[31:]])
    kept = torch.cat([weight[1:30], weight[31:]]).detach()
    expected = fit_mixture(left, 2, sample_weight=kept, random_state=0).means
    assert torch.equal(means, expected)


@pytest.mark.parametrize("squared", [True, False])
def test_distance_is_that_of_arrays(squared):
    a = tensors(([0.3, 0.7], [[0.0, 1.0], [3.0, 0.0]], [1.0, 2.0]))
    means = a[1].requires_grad_()
    options = {"squared": squared, "reg": 0.1, "reg_m": (1.0, 2.0)}
    loss = mixture_wasserstein(a, GOAL, **options)
    arrays = tuple(part.detach().numpy() for part in a)
    assert loss.item() == skgmmot.mixture_wasserstein(arrays, GOAL, **options)
    loss.backward()
    transport = mixture_transport(arrays, GOAL, reg=0.1, reg_m=(1.0, 2.0))
    scale = 1.0 if squared else 0.5 / transport.distance
    np.testing.assert_allclose(means.grad, scale * transport.gradient().means, rtol=1e-14)
    swapped = mixture_wasserstein(GOAL, a, squared=squared, reg=0.1, reg_m=(2.0, 1.0))
    assert swapped.item() == pytest.approx(loss.item(), rel=1e-12)


def test_distance_of_zero_has_a_gradient_of_zero():
    a = [part.requires_grad_() for part in tensors(GOAL)]
    mixture_wasserstein(a, GOAL).backward()
    assert all((part.grad == 0).all() for part in a)


def test_loss_is_fit_and_distance():
    X, weight = points()
    X.requires_grad_()
    options = {"covariance_type": "diag", "random_state": 0, "residual_tol": 1e-7}
    target = DifferentiableGaussianMixture(3, random_state=0).fit(X.detach().numpy() + 1)
    for given in (target, tensors(target.parameters_)):
        loss = MixtureLoss(given, 2, squared=False, reg=0.2, reg_m=5.0, mode="one_step", **options)
        value = loss(X, weight)
        mixture = fit_mixture(X, 2, mode="one_step", sample_weight=weight, **options)
        typed = MixtureParameters(*mixture, "diag")  # as many components as features
        same = mixture_wasserstein(typed, target, reg=0.2, reg_m=5.0)
        assert value.item() == same.item()
        ours, theirs = (torch.autograd.grad(loss, X)[0] for loss in (value, same))
        assert torch.equal(ours, theirs)
    assert MixtureLoss(GOAL, random_state=0)(X).item() == pytest.approx(
        MixtureLoss(GOAL, 2, squared=False, random_state=0)(X).item() ** 2
    )
    assert set(loss.state_dict()) == {"target_weights", "target_means", "target_covariances"}
    started = MixtureLoss(GOAL, covariance_type="diag", max_iter=1, tol=1e9, residual_tol=np.inf)
    with pytest.warns(ConvergenceWarning):
        assert started(X, initial=tensors((*GOAL[:2], [[1.0, 1.0], [1.0, 1.0]]))).item() > 0


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda X: X.int(), "X must be float32 or float64; got torch.int32"),
        (lambda X: X.half(), r"Pass X.to\(torch.float32\)"),
        (lambda X: X.to(torch.complex64), "Pass X.real"),
        (lambda X: X.to_sparse(), r"Pass X.to_dense\(\)"),
        (lambda X: X.to("meta"), r"X is on meta.*Pass X.cpu\(\)"),
        (lambda X: X[None], "torch.func.vmap goes over further ones"),
        (lambda X: torch.full_like(X, torch.nan), "NaN"),
    ],
)
def test_tensors_that_cannot_be_used_are_refused(make, words):
    X, _ = points()
    with pytest.raises(ValueError, match=words):
        fit_mixture(make(X), 2, random_state=0)


def test_arguments_that_do_not_fit_are_refused():
    X, weight = points()
    start = tensors(GOAL)
    with pytest.raises(TypeError, match="X must be a torch.Tensor; got ndarray"):
        fit_mixture(X.numpy(), 2)
    with pytest.raises(ValueError, match="sample_weight must have 1 dim"):
        fit_mixture(X, 2, sample_weight=weight[:, None])
    with pytest.raises(ValueError, match="n_components is 3, and initial has 2"):
        fit_mixture(X, 3, initial=start, covariance_type="spherical")
    with pytest.raises(TypeError, match="initial must be a tuple of tensors"):
        fit_mixture(X, initial=GOAL)
    with pytest.raises(ValueError, match="initial takes the place of means_init"):
        fit_mixture(X, initial=start, covariance_type="spherical", means_init=start[1])
    with pytest.raises(TypeError, match="'n_comp' is no option"):
        fit_mixture(X, n_comp=2)
    with pytest.raises(TypeError, match="a or b must consist of tensors"):
        mixture_wasserstein(GOAL, GOAL)
    with pytest.raises(ValueError, match="a: the weights must be float32"):
        mixture_wasserstein((start[0].int(), *start[1:]), GOAL)
    with pytest.raises(ValueError, match="a: the weights must be non-negative and sum to 1"):
        mixture_wasserstein((2 * start[0], *start[1:]), GOAL)


def test_options_may_be_tensors():
    X, _ = points()
    means = torch.tensor([[0.0, 0.0], [5.0, 3.0]], requires_grad=True)
    ours = fit_mixture(X, 2, means_init=means, random_state=0).means
    array = means.detach().numpy()
    assert torch.equal(ours, fit_mixture(X, 2, means_init=array, random_state=0).means)
    assert not ours.requires_grad


def test_warnings_come_at_the_line_of_the_user():
    X, _ = points()
    X.requires_grad_()

    def line():
        return inspect.currentframe().f_back.f_lineno

    with pytest.warns(ConvergenceWarning, match="did not converge in 1 step") as told:
        number = line() + 1
        mixture = fit_mixture(X, 2, max_iter=1, random_state=0, init_params="random")
    assert [(w.filename, w.lineno) for w in told] == [(__file__, number)]
    with pytest.warns(ConvergenceWarning, match="differentiates a fixed point") as told:
        number = line() + 1
        mixture.means.sum().backward()
    assert [(w.filename, w.lineno) for w in told] == [(__file__, number)]


def test_loss_can_be_copied_pickled_and_used_in_inference():
    X, _ = points()
    loss = MixtureLoss(GOAL, random_state=0, means_init=X[[0, 30]].numpy())
    value = loss(X)
    assert copy.deepcopy(loss)(X) == pickle.loads(pickle.dumps(loss))(X) == value
    with torch.inference_mode():
        assert loss(X) == loss(X + 0.0) == value


def test_threads_do_not_disturb_each_other():
    def gradient(seed):
        X = points(seed=seed)[0].requires_grad_()
        MixtureLoss(GOAL, random_state=0)(X).backward()
        return X.grad

    alone = [gradient(seed) for seed in range(8)]
    with ThreadPoolExecutor(2) as pool:
        for one, other in zip(alone, pool.map(gradient, range(8)), strict=True):
            assert torch.equal(one, other)


def test_the_set_that_cannot_be_fitted_is_named():
    sets = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0))
    sets[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN") as caught:
        torch.func.vmap(lambda X: fit_mixture(X, 2, random_state=0).means)(sets)
    assert caught.value.__notes__ == ["This is set 1 along the axis of vmap."]


def test_vmap_over_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one set"):
        torch.func.vmap(lambda X: fit_mixture(X, 2).means)(torch.zeros(0, 10, 2))
