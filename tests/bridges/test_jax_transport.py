"""mixture_wasserstein and mixture_loss of JAX arrays: NumPy's values and derivatives."""

import numpy as np
import pytest
from naive import random_mixture
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

import skgmmot
from skgmmot import DifferentiableGaussianMixture, MixtureParameters, mixture_transport

jax = pytest.importorskip("jax")
jnp = jax.numpy

from jax.test_util import check_grads  # noqa: E402

from skgmmot.jax import fit_mixture, mixture_loss, mixture_wasserstein  # noqa: E402

TYPES = ["full", "tied", "diag", "spherical"]
ONE = (np.ones(1), np.zeros((1, 2)), np.ones(1))
VARIANTS = [{}, {"reg": 0.5}, {"reg_m": (2.0, np.inf)}, {"reg": 0.5, "reg_m": 2.0}]


def mixtures(kind_a="full", kind_b="diag"):
    rng = np.random.default_rng(0)
    return random_mixture(rng, 3, 2, kind_a), random_mixture(rng, 4, 2, kind_b)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.usefixtures("x64")
def test_values_and_gradients_are_those_of_numpy(squared, variant):
    a, b = mixtures()
    transport = mixture_transport(a, b, **variant)

    def distance(a, b):
        return mixture_wasserstein(a, b, squared=squared, **variant)

    value, gradients = jax.jit(jax.value_and_grad(distance, argnums=(0, 1)))(tuple(a), tuple(b))
    assert value == (transport.value if squared else transport.distance)
    assert value == skgmmot.mixture_wasserstein(a, b, squared=squared, **variant)
    scale = 1.0 if squared else 0.5 / transport.distance
    for side, gradient in zip(("source", "target"), gradients, strict=True):
        for part, expected in zip(gradient, transport.gradient(side), strict=True):
            np.testing.assert_allclose(part, scale * expected, rtol=1e-14)
    # one of them, or some of its parts, alone
    alone = jax.grad(lambda means: distance(tuple(a), (b.weights, means, b.covariances)))(b.means)
    np.testing.assert_allclose(alone, gradients[1][1], rtol=1e-14)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_derivatives_against_differences_in_both_directions(kind, squared):
    a, b = mixtures(kind, kind)

    def distance(logits, means, roots, target_means):
        """Along mixtures only."""
        matrices = kind in ("full", "tied")
        covariances = roots @ roots.swapaxes(-1, -2) if matrices else roots**2
        source = (jax.nn.softmax(logits), means, covariances)
        goal = (b.weights, target_means, b.covariances)
        return mixture_wasserstein(source, goal, squared=squared)

    roots = np.linalg.cholesky(a.covariances) if kind in ("full", "tied") else a.covariances**0.5
    arguments = (np.log(a.weights), a.means, roots, b.means)
    arguments = tuple(map(jnp.asarray, arguments))
    check_grads(distance, arguments, order=1, modes=["rev", "fwd"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_single_precision_is_computed_in_double_and_rounded():
    a, b = (tuple(map(jnp.asarray, mixture)) for mixture in mixtures())
    distance = mixture_wasserstein(a, b)
    rounded = [MixtureParameters(*map(np.asarray, mixture)) for mixture in (a, b)]
    assert distance.dtype == np.float32 and a[0].dtype == np.float32
    assert distance == np.float32(skgmmot.mixture_wasserstein(*rounded))


def test_distance_of_zero_has_the_subgradient_zero():
    one = tuple(map(jnp.asarray, ONE))
    for squared in (False, True):
        distance = lambda a, squared=squared: mixture_wasserstein(a, ONE, squared=squared)  # noqa: E731
        value, gradient = jax.value_and_grad(distance)(one)
        assert value == 0 and not any(np.asarray(part).any() for part in gradient)


@pytest.mark.usefixtures("x64")
def test_any_mixture_may_be_a_constant():
    a, b = mixtures()
    X = np.random.default_rng(0).normal(size=(50, 2))
    theirs = GaussianMixture(2, covariance_type="diag", random_state=0).fit(X)
    ours = DifferentiableGaussianMixture.from_mixture(b)
    for other in (theirs, ours, b, tuple(b)):
        assert mixture_wasserstein(tuple(a), other) == skgmmot.mixture_wasserstein(a, other)
    fitted = fit_mixture(X, 2)  # with a status
    expected = skgmmot.mixture_wasserstein(
        DifferentiableGaussianMixture(2, random_state=0).fit(X), b
    )
    assert mixture_wasserstein(fitted, b) == expected


@pytest.mark.usefixtures("x64")
def test_covariance_type_where_shapes_leave_it_open():
    b = mixtures("diag", "full")[1]
    square = (np.full(2, 0.5), np.eye(2), np.array([[2.0, 0.5], [0.5, 1.0]]))
    for kind in ("tied", "diag"):
        expected = skgmmot.mixture_wasserstein(MixtureParameters(*square, kind), b)
        assert mixture_wasserstein(square, b, covariance_type=kind) == expected
        assert mixture_wasserstein(MixtureParameters(*square, kind), b) == expected
    with pytest.raises(ValueError, match="a: .*could be tied or diag; pass covariance_type"):
        mixture_wasserstein(square, b)


# What goes wrong


@pytest.mark.parametrize(
    "a, options, error, complaint",
    [
        ((np.ones(2), *ONE[1:]), {}, ValueError, "a must have weights of shape"),
        ((np.ones(1), np.zeros(2), np.ones(1)), {}, ValueError, "a must have weights of shape"),
        ((*ONE[:2], np.ones((1, 3))), {}, ValueError, "covariances of one of the shapes"),
        ((*ONE[:2], np.ones(1, complex)), {}, TypeError, "a must hold real arrays"),
        (ONE[:2], {}, ValueError, "a must be a fitted mixture"),
        (DifferentiableGaussianMixture(), {}, ValueError, "a: .* is not fitted"),
        ((np.ones(1), np.zeros((1, 3)), np.ones(1)), {}, ValueError, "same number of features"),
        (ONE, {"covariance_type": "round"}, ValueError, "covariance_type must be one of 'full'"),
        (ONE, {"reg": -1.0}, ValueError, "reg must be a finite number"),
        (ONE, {"reg_m": (1.0, -1.0)}, ValueError, "reg_m must be None, a positive number"),
    ],
)
def test_what_is_wrong_before_any_number_is_known_raises(a, options, error, complaint):
    with pytest.raises(error, match=complaint):
        mixture_wasserstein(a, ONE, **options)


@pytest.mark.parametrize(
    "broken",
    [
        (np.full(1, 0.5), *ONE[1:]),
        (ONE[0], np.full((1, 2), np.nan), ONE[2]),
        (*ONE[:2], np.full(1, -1.0)),
    ],
)
def test_what_is_no_mixture_has_no_distance_and_no_gradient(broken):
    value, gradient = jax.value_and_grad(mixture_wasserstein)(tuple(map(jnp.asarray, broken)), ONE)
    assert np.isnan(value) and all(np.isnan(part).all() for part in gradient)


@pytest.mark.usefixtures("x64")
def test_singular_covariance_has_a_distance_and_no_gradient():
    flat = (jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[[1.0, 0.0], [0.0, 0.0]]]))
    value, gradient = jax.value_and_grad(mixture_wasserstein)(flat, ONE)
    assert value == pytest.approx(1.0)
    assert all(np.isnan(part).all() for part in gradient)


def test_plan_that_is_not_optimal_warns(monkeypatch):
    monkeypatch.setattr(
        skgmmot.functions.transport_layer,
        "transport_between",
        lambda *args: (mixture_transport(ONE, ONE), ["the plan is not optimal"]),
    )
    with pytest.warns(ConvergenceWarning, match="the plan is not optimal"):
        assert mixture_wasserstein(ONE, ONE) == 0
    assert np.isnan(mixture_wasserstein(ONE, ONE))  # where the warning is an error


def test_second_derivatives_are_refused():
    a = tuple(map(jnp.asarray, ONE))
    with pytest.raises(NotImplementedError, match="mixture_wasserstein has first derivatives only"):
        jax.hessian(mixture_wasserstein)(a, (ONE[0], ONE[1] + 1, ONE[2]))


# The loss


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_loss_is_the_distance_of_the_fit_and_so_is_its_gradient(kind, squared):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(40, 2)), rng.exponential(size=40)
    target = mixtures(kind)[0]
    mixture = DifferentiableGaussianMixture(2, covariance_type=kind, max_iter=5000, random_state=0)
    mixture.fit(X, sample_weight=weight)
    transport = mixture_transport(mixture, target, reg=0.1)

    def loss(X, **options):
        options |= {"covariance_type": kind, "max_iter": 5000, "sample_weight": weight, "reg": 0.1}
        return mixture_loss(X, target, 2, **options)

    options = {} if squared else {"squared": False}
    value, gradient = jax.value_and_grad(lambda X: loss(X, **options))(X)
    assert value == (transport.value if squared else transport.distance)
    expected = mixture.gradient_wrt_data(X, transport.gradient(), sample_weight=weight)
    if not squared:
        expected = expected / (2 * transport.distance)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_loss_passes_mode_start_and_marginal_terms():
    X = np.random.default_rng(0).normal(size=(40, 2))
    target, initial = mixtures("spherical")[0], tuple(mixtures("spherical", "spherical")[1])
    options = {"initial": initial, "covariance_type": "spherical", "mode": "unrolled"}
    options |= {"max_iter": 2, "tol": 0.0, "residual_tol": 0.0}

    def loss(X, initial):
        return mixture_loss(X, target, reg_m=3.0, **options | {"initial": initial})

    mixture = MixtureParameters(*fit_mixture(X, **options)[:3], "spherical")
    expected = skgmmot.mixture_wasserstein(mixture, target, squared=True, reg_m=3.0)
    assert loss(X, initial) == expected
    gradients = jax.grad(loss, argnums=1)(X, initial)
    assert all(abs(np.asarray(part)).max() > 1e-6 for part in gradients)


def test_loss_of_single_precision_to_a_target_of_any():
    X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    assert mixture_loss(X, mixtures()[0], 2).dtype == np.float32
