"""What PyTorch's transforms make of a fit and of MW2."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from skgmmot import MixtureParameters  # noqa: E402
from skgmmot.bridges import torch_fit, torch_transport  # noqa: E402
from skgmmot.torch import MixtureLoss, fit_mixture, mixture_wasserstein  # noqa: E402

# PyTorch's own, at the first use of forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]
GOAL = ([0.5, 0.5], [[0.0, 1.0], [4.0, 1.0]], [[[1.0, 0.2], [0.2, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])


def points(n=8, seed=0):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) + [4, 2]])
    return torch.tensor(X), torch.tensor(rng.uniform(0.5, 2.0, 2 * n))


def covariances_of(root, kind):
    """Covariances, of what may be any numbers."""
    return root @ root.mT if kind in ("full", "tied") else root.square()


def starts(kind):
    X, weight = points()
    mixture = fit_mixture(X, 2, sample_weight=weight, covariance_type=kind, random_state=0)
    root = mixture.covariances
    root = torch.linalg.cholesky(root) if kind in ("full", "tied") else root.sqrt()
    return [part.requires_grad_() for part in (mixture.weights.log(), mixture.means + 0.3, root)]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode, kind):
    """Both modes of derivatives against finite differences; one_step where one step is all."""
    X, weight = points()
    X.requires_grad_(), weight.requires_grad_()
    logits, means, root = starts(kind)
    options = {"covariance_type": kind, "gradient_tol": 1e-10}
    if mode == "implicit":
        options |= {"residual_tol": 1e-12, "tol": 1e-9}
    else:
        options |= {"max_iter": 1 if mode == "one_step" else 4, "tol": 1e3, "residual_tol": 0.0}

    def fit(X, weight, logits, means, root):
        initial = logits.softmax(0), means, covariances_of(root, kind)
        return fit_mixture(X, initial=initial, mode=mode, sample_weight=weight, **options)

    start = (logits, means, root)
    if mode != "unrolled":
        start = tuple(part.detach() for part in start)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EM did not converge")
        # differences are made of fixed points that are exact to 1e-12: 1e-6 over a step of 1e-6
        assert torch.autograd.gradcheck(
            fit, (X, weight, *start), check_forward_ad=True, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("reg, reg_m", [(0.0, None), (0.3, None), (0.1, 2.0), (0.0, (3.0, 5.0))])
def test_gradcheck_of_the_distance(kind, squared, reg, reg_m):
    logits, means, root = starts(kind)
    other_logits = torch.tensor([0.1, 0.0], dtype=torch.float64, requires_grad=True)
    other_means = torch.tensor(GOAL[1], dtype=torch.float64, requires_grad=True)
    other_root = torch.tensor(GOAL[2], dtype=torch.float64, requires_grad=True)

    def value(logits, means, root, other_logits, other_means, other_root):
        a = logits.softmax(0), means, covariances_of(root, kind)
        b = other_logits.softmax(0), other_means, covariances_of(other_root, "full")
        typed = MixtureParameters(*a, kind)
        return mixture_wasserstein(typed, b, squared=squared, reg=reg, reg_m=reg_m)

    inputs = (logits, means, root, other_logits, other_means, other_root)
    assert torch.autograd.gradcheck(value, inputs, check_forward_ad=True)


@pytest.mark.parametrize("mode", MODES)
def test_operators_pass_the_checks_of_pytorch(mode):
    X, weight = points()
    X.requires_grad_(), weight.requires_grad_()
    text = torch_fit.layer_text(n_components=2, mode=mode, random_state=0)
    none = (None, None, None)
    initial = [part.detach().requires_grad_() for part in fit_mixture(X, 2, random_state=0)]
    for arguments in ((X, None, *none), (X, weight, *none), (X, weight, *initial)):
        torch.library.opcheck(torch_fit.fit_operator, (*arguments, text))
    *mixture, record = (out.detach() for out in torch_fit.fit_operator(X, weight, *none, text))
    data = (record, X.detach(), weight.detach())
    for wanted in ([True] * 4, [False] * 4):
        torch.library.opcheck(torch_fit.fit_vjp_operator, (*data, *mixture, wanted, text))
    torch.library.opcheck(torch_fit.fit_jvp_operator, (*data, data[1], None, *none, text))
    two = torch.stack([X.detach(), X.detach() + 1]).requires_grad_()
    torch.library.opcheck(torch_fit.fit_operator, (two, None, *none, text))
    *_, records = outputs = torch_fit.fit_operator(two.detach(), None, *none, text)
    data = (records, two.detach(), None)
    for wanted in ([True] * 4, [False] * 4):
        torch.library.opcheck(torch_fit.fit_vjp_operator, (*data, *outputs[:3], wanted, text))
    torch.library.opcheck(torch_fit.fit_jvp_operator, (*data, data[1], None, *none, text))

    goal = [torch.tensor(part, dtype=torch.float64) for part in GOAL]
    parts = [*(part.requires_grad_() for part in mixture), *goal]
    text = torch_transport.transport_text(reg=0.1)
    torch.library.opcheck(torch_transport.transport_operator, (*parts, text))
    constants = [part.detach() for part in parts]
    arguments = (torch.tensor(2.0), *constants, [True, False], text)
    torch.library.opcheck(torch_transport.transport_vjp_operator, arguments)
    arguments = (*constants, *(part + 1 for part in constants[:3]), *none, text)
    torch.library.opcheck(torch_transport.transport_jvp_operator, arguments)
    two = [torch.stack([part, part]) for part in constants]
    torch.library.opcheck(torch_transport.transport_operator, (*two, text))
    for wanted in ([True, False], [False, True]):
        arguments = (torch.tensor([2.0, 3.0]), *two, wanted, text)
        torch.library.opcheck(torch_transport.transport_vjp_operator, arguments)
    arguments = (*two, *(part + 1 for part in two[:3]), *none, text)
    torch.library.opcheck(torch_transport.transport_jvp_operator, arguments)


def test_what_is_kept_is_of_one_fit():
    X, _ = points()
    layer = torch_fit.layer_of_text(torch_fit.layer_text(n_components=2, random_state=0))
    kept, other = torch_fit.Kept(), torch_fit.Kept()
    record = torch_fit.Fit.apply(X, None, None, None, None, layer, kept)[3]
    same = torch_fit.Fit.apply(X, None, None, None, None, layer, other)[3]
    assert torch.equal(record, same)
    record, same = record.numpy(), same.numpy()
    assert kept.of(record) is kept.fitted is not other.of(same)
    assert kept.of(same) is None and torch_fit.Kept().of(record) is None


def loss_of(mode="implicit"):
    return MixtureLoss(GOAL, random_state=0, mode=mode, residual_tol=1e-9, gradient_tol=1e-9)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr:UserWarning")  # of linearize
@pytest.mark.parametrize("mode", MODES)
def test_transforms_agree(mode):
    X, weight = points()
    loss, func = loss_of(mode), torch.func

    def means(X):
        return fit_mixture(X, 2, random_state=0, mode=mode, residual_tol=1e-9).means

    # GMRES ends at 1e-6, in one direction and in the other
    near = {"rtol": 1e-5, "atol": 1e-7}
    reverse = func.jacrev(means)(X)
    assert reverse.shape == (2, 2, *X.shape) and reverse.abs().max() > 0.01
    torch.testing.assert_close(func.jacfwd(means)(X), reverse, **near)

    gradient = X.clone().requires_grad_()
    loss(gradient).backward()
    torch.testing.assert_close(func.grad(loss)(X), gradient.grad, **near)
    direction = torch.ones_like(X)
    value, slope = func.jvp(loss, (X,), (direction,))
    torch.testing.assert_close(slope, gradient.grad.sum(), **near)
    assert value == loss(X)
    torch.testing.assert_close(func.linearize(loss, X)[1](direction), slope, **near)

    sets = torch.stack([X, 2 * X + 1, X - 3])
    weights = torch.stack([weight, weight + 1, weight * 2])
    one_by_one = torch.stack([loss(*one) for one in zip(sets, weights, strict=True)])
    # sets that are fitted together end elsewhere within residual_tol
    torch.testing.assert_close(func.vmap(loss)(sets, weights), one_by_one, **near)
    moved = func.vmap(loss, in_dims=(1, None))(sets.movedim(0, 1), weight)
    torch.testing.assert_close(moved[0], loss(X, weight), **near)
    gradients = torch.stack([func.grad(loss)(one) for one in sets])
    for found in (
        func.vmap(func.grad(loss))(sets),
        func.grad(lambda sets: func.vmap(loss)(sets).sum())(sets),
    ):
        torch.testing.assert_close(found, gradients, **near)
    jacobians = torch.stack([func.jacrev(means)(one) for one in sets])
    torch.testing.assert_close(func.vmap(func.jacrev(means))(sets), jacobians, **near)
    torch.testing.assert_close(func.vmap(func.jacfwd(means))(sets), jacobians, **near)
    nested = func.vmap(func.vmap(loss))(torch.stack([sets, sets + 1]))
    torch.testing.assert_close(nested[1, 2], loss(sets[2] + 1), **near)
    gradients = func.vmap(func.vmap(func.grad(loss)))(torch.stack([sets, sets + 1]))
    torch.testing.assert_close(gradients[1, 2], func.grad(loss)(sets[2] + 1), **near)


@pytest.mark.parametrize(
    "second",
    [
        lambda f, X: torch.func.hessian(f)(X),
        lambda f, X: torch.func.jacrev(torch.func.jacrev(f))(X),
        lambda f, X: torch.func.jacfwd(torch.func.jacfwd(f))(X),
        lambda f, X: torch.autograd.functional.hessian(f, X),
        lambda f, X: torch.autograd.functional.hvp(f, X, X),
    ],
)
def test_second_derivatives_are_refused(second):
    X, _ = points()
    parts = [torch.tensor(part, dtype=torch.float64) for part in GOAL]
    for function, at in (
        (lambda X: fit_mixture(X, 2, random_state=0).means.square().sum(), X),
        (lambda m: mixture_wasserstein((parts[0], m, parts[2]), GOAL, squared=True), parts[1] + 1),
    ):
        with pytest.raises(NotImplementedError, match="first derivatives alone"):
            second(function, at)
    X.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of()(X), X, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives alone"):
        gradient.square().sum().backward()


def compiled(function, **options):
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager", **options)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_loss(mode):
    X, weight = points()
    X.requires_grad_(), weight.requires_grad_()
    loss = loss_of(mode)
    value = compiled(loss, fullgraph=True)(X, weight)
    found = torch.autograd.grad(value, (X, weight))
    assert value == loss(X, weight)
    # the compiled graph makes the steps again
    for ours, eager in zip(found, torch.autograd.grad(loss(X, weight), (X, weight)), strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-6, atol=1e-9)


def test_compiled_functions():
    X, _ = points()
    X.requires_grad_()

    def function(X, initial):
        first = fit_mixture(X, initial=initial, mode="unrolled")
        second = fit_mixture(
            X * 2, 2, means_init=[[0.0, 0.0], [8.0, 4.0]], random_state=0, covariance_type="diag"
        )
        return mixture_wasserstein(first, MixtureParameters(*second, "diag"), reg=0.1)

    initial = tuple(part.detach().requires_grad_() for part in fit_mixture(X, 2, random_state=0))
    fast = compiled(function, fullgraph=True)
    inputs = X, *initial
    ours, eager = (torch.autograd.grad(f(X, initial), inputs) for f in (fast, function))
    for one, other in zip(ours, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)
    dynamic = compiled(loss_of(), fullgraph=True, dynamic=True)
    for n in (6, 9, 12):
        more = points(n)[0]
        assert dynamic(more) == loss_of()(more)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_derivatives_inside_of_a_compiled_function_are_not_lost():
    """Operators have none there, so these calls leave the graph."""
    X, _ = points()
    loss, ones = loss_of(), torch.ones_like(X)
    near = {"rtol": 1e-6, "atol": 1e-8}
    gradient, slope = torch.func.grad(loss)(X), torch.func.jvp(loss, (X,), (ones,))[1]
    torch.testing.assert_close(compiled(torch.func.grad(loss))(X), gradient, **near)
    found = compiled(lambda X: torch.func.jvp(loss, (X,), (ones,))[1])(X)
    torch.testing.assert_close(found, slope, **near)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(X, ones)
        found = torch.autograd.forward_ad.unpack_dual(compiled(loss)(dual)).tangent
    torch.testing.assert_close(found, slope, **near)
    with pytest.raises(
        torch._dynamo.exc.Unsupported, match="is not compiled. Compile the function"
    ):
        compiled(torch.func.grad(loss), fullgraph=True)(X)
    sets = torch.stack([X, X + 1])
    mapped = compiled(torch.func.vmap(loss), fullgraph=True)(sets)
    assert torch.equal(mapped, torch.func.vmap(loss)(sets))
