"""Compositions of JAX's transformations with fits and distances, against loops without them."""

import numpy as np
import pytest
from naive import random_mixture

from skgmmot import mixture_wasserstein as numpy_wasserstein

jax = pytest.importorskip("jax")
jnp = jax.numpy

from skgmmot.jax import FitStatus, fit_mixture, mixture_loss, mixture_wasserstein  # noqa: E402

pytestmark = pytest.mark.usefixtures("x64")

rng = np.random.default_rng(0)
# clusters that are so far apart that no way to a maximum leads to another one
SETS = rng.normal(size=(4, 30, 2)) + 5 * rng.integers(0, 2, size=(4, 30, 1))
WEIGHTS = rng.exponential(size=(3, 30))
TARGET = random_mixture(rng, 3, 2, "full")
OPTIONS = {"max_iter": 3000, "residual_tol": 1e-9}


def loss(X, weight=None, scale=1.0):
    return scale * mixture_loss(X, TARGET, 2, sample_weight=weight, **OPTIONS)


def loop(function, *lists):
    return np.array([function(*args) for args in zip(*lists, strict=True)])


def same(ours, expected):
    """The same calls of the same functions, to rounding of their products with cotangents."""
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-14)


def near(ours, expected):
    """Fits of sets that are fitted together end elsewhere within residual_tol; systems at 1e-6."""
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-8)


def test_jit_of_vmap_of_grad_is_the_loop():
    near(jax.jit(jax.vmap(jax.grad(loss)))(SETS), loop(jax.grad(loss), SETS))


def test_grad_of_vmap_is_the_loop():
    total = jax.jit(jax.grad(lambda sets: (jax.vmap(loss)(sets) ** 2).sum()))
    expected = loop(lambda X: 2 * loss(X) * jax.grad(loss)(X), SETS)
    near(total(SETS), expected)


def test_vmap_of_vmap_over_sets_and_weights():
    inner = jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, 0))
    both = jax.jit(jax.vmap(inner, in_axes=(0, None)))(SETS, WEIGHTS)
    single = jax.jit(jax.grad(loss, argnums=(0, 1)))
    expected = [[single(X, weight) for weight in WEIGHTS] for X in SETS]
    for part in (0, 1):
        near(both[part], np.array([[cell[part] for cell in row] for row in expected]))


def test_vmap_takes_any_axis():
    moved = np.moveaxis(SETS, 0, 2)
    gradients = jax.vmap(jax.grad(loss), in_axes=2, out_axes=2)(moved)
    near(gradients, np.moveaxis(loop(jax.grad(loss), SETS), 0, 2))


def test_vmap_of_jvp_and_jacobians():
    def means(X):
        return fit_mixture(X, 2, **OPTIONS).means

    tangents = np.random.default_rng(3).normal(size=SETS.shape)
    pushed = jax.vmap(lambda X, dot: jax.jvp(means, (X,), (dot,))[1])(SETS, tangents)
    near(pushed, loop(lambda X, dot: jax.jvp(means, (X,), (dot,))[1], SETS, tangents))
    forwards, backwards = jax.jacfwd(means)(SETS[0]), jax.jit(jax.jacrev(means))(SETS[0])
    assert forwards.shape == (2, 2, 30, 2)
    np.testing.assert_allclose(forwards, backwards, rtol=1e-5, atol=1e-8)  # systems, each solved


def test_scan_is_the_loop():
    def move(X, _):
        value, gradient = jax.value_and_grad(loss)(X)
        return X - gradient, value

    moved, losses = jax.jit(lambda X: jax.lax.scan(move, X, length=3))(SETS[0])
    X, values = jnp.asarray(SETS[0]), []
    for _ in range(3):
        X, value = move(X, None)
        values.append(value)
    same(losses, values)
    same(moved, X)
    assert losses[-1] < losses[0]


def test_checkpoint_makes_the_same_gradient():
    same(jax.jit(jax.grad(jax.checkpoint(loss)))(SETS[0]), jax.grad(loss)(SETS[0]))


def test_set_that_fails_does_not_take_the_others_down():
    sets = SETS.copy()
    sets[1, 0, 0] = np.nan
    fitted = jax.jit(jax.vmap(lambda X: fit_mixture(X, 2, **OPTIONS)))(sets)
    assert fitted.status.tolist() == [FitStatus.OK, FitStatus.FAILED, FitStatus.OK, FitStatus.OK]
    gradients = np.array(jax.vmap(jax.grad(loss))(sets))
    assert np.isnan(gradients[1]).all() and np.isfinite(gradients[[0, 2, 3]]).all()
    near(gradients[[0, 2, 3]], loop(jax.grad(loss), SETS[[0, 2, 3]]))


def test_distances_of_all_pairs():
    mixtures = [random_mixture(np.random.default_rng(i), 3, 2, "full") for i in range(4)]
    stacked = tuple(np.stack(parts) for parts in zip(*mixtures, strict=True))
    pairwise = jax.vmap(jax.vmap(mixture_wasserstein, in_axes=(None, 0)), in_axes=(0, None))
    expected = [[numpy_wasserstein(a, b) for b in mixtures] for a in mixtures]
    np.testing.assert_allclose(jax.jit(pairwise)(stacked, stacked), expected, rtol=1e-13)


def test_derivative_of_a_gradient_in_what_does_not_enter_the_fit():
    """A penalty on the gradient: the pull-back is linear in its cotangent."""
    X = SETS[0]

    def penalty(scale):
        return (jax.grad(loss)(X, None, scale) ** 2).sum()

    expected = 2 * 1.5 * (jax.grad(loss)(X) ** 2).sum()
    same(jax.grad(penalty)(1.5), expected)
    same(jax.jvp(penalty, (1.5,), (1.0,))[1], expected)


def test_derivative_of_a_gradient_in_the_points_is_refused():
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.hessian(loss)(SETS[0])
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.jvp(lambda X: jax.jvp(loss, (X,), (X,))[1], (SETS[0],), (SETS[0],))

    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.hessian(lambda weight: loss(SETS[0], weight))(WEIGHTS[0])


def test_stop_gradient_holds_a_fit():
    X = jnp.asarray(SETS[0])

    def held(X):
        mixture = fit_mixture(jax.lax.stop_gradient(X), 2, **OPTIONS)
        return (mixture.means.sum() * X**2).sum()

    factor = fit_mixture(X, 2, **OPTIONS).means.sum()
    hessian = jax.hessian(held)(X).reshape(60, 60)
    np.testing.assert_allclose(hessian, 2 * factor * np.eye(60), rtol=1e-12, atol=1e-12)
