"""Functions that NumPy evaluates under JAX's transformations, and threads that do not hang."""

import subprocess
import sys
import textwrap
from dataclasses import dataclass

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy

from skgmmot.bridges.jax_host import _compiled, host_call, one_by_one, over_sets  # noqa: E402
from skgmmot.jax import fit_mixture  # noqa: E402

SECONDS = 120  # a few would do; more than that is a hang


@dataclass(frozen=True)
class Product:
    """A, x to A x, on the host."""

    shape: tuple
    backwards: bool = False

    refusal = "no derivative in A"

    @property
    def transposed(self):
        return Product(self.shape, not self.backwards)

    @property
    def results(self):
        length = self.shape[self.backwards]
        return (jax.ShapeDtypeStruct((length,), "float32"),)

    def __call__(self, A, x):
        assert type(A) is type(x) is np.ndarray
        return ((A.T if self.backwards else A) @ x,)

    def each(self, A, x):
        assert A.ndim == 3 and x.ndim == 2
        return one_by_one(self, (A, x))


A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
STACK = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
x = jnp.arange(4.0)
XS = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)


def product(A, x):
    return host_call(Product(A.shape), A, x, n_linear=1)[0]


def native(A, x):
    return A @ x


def close(ours, expected):
    """Single precision, of sums of a few numbers and their squares."""
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def squares(function):
    return lambda A, x: (function(A, x) ** 3).sum()


@pytest.mark.parametrize(
    "transformed",
    [
        lambda f: f(A, x),
        lambda f: jax.jit(f)(A, x),
        lambda f: jax.jvp(lambda x: f(A, x), (x,), (x + 1,))[1],
        lambda f: jax.grad(squares(f), argnums=1)(A, x),
        lambda f: jax.hessian(squares(f), argnums=1)(A, x),
        lambda f: jax.jacrev(jax.jacrev(squares(f), argnums=1), argnums=1)(A, x),
        lambda f: jax.jacfwd(lambda x: f(A, x))(x),
        lambda f: jax.vmap(f)(STACK, XS),
        lambda f: jax.vmap(f, in_axes=(None, 0))(A, XS),
        lambda f: jax.vmap(f, in_axes=(0, None))(STACK, x),
        lambda f: jax.vmap(f, in_axes=(2, 1), out_axes=1)(jnp.moveaxis(STACK, 0, 2), XS.T),
        lambda f: jax.vmap(jax.vmap(f, in_axes=(None, 0)), in_axes=(0, None))(STACK, XS),
        lambda f: jax.vmap(jax.vmap(f, in_axes=(0, None)), in_axes=(None, 0))(STACK, XS),
        lambda f: jax.vmap(jax.grad(squares(f), argnums=1), in_axes=(0, None))(STACK, x),
        lambda f: jax.grad(lambda x: jax.vmap(squares(f), in_axes=(0, None))(STACK, x).sum())(x),
        lambda f: jax.grad(lambda x: jax.vmap(squares(f), in_axes=(None, 0))(A, x).sum())(XS),
        lambda f: jax.jit(jax.vmap(jax.hessian(squares(f), argnums=1)))(STACK, XS),
        lambda f: jax.lax.map(lambda x: f(A, x), XS),
        lambda f: jax.vmap(f)(STACK[:0], XS[:0]),
        lambda f: jax.linear_transpose(lambda x: f(A, x), x)(jnp.ones(3))[0],
    ],
)
def test_transformations_are_those_of_a_native_function(transformed):
    close(transformed(product), transformed(native))


def test_derivative_that_is_not_there_is_refused_in_the_words_of_the_function():
    with pytest.raises(NotImplementedError, match="no derivative in A"):
        jax.grad(squares(product))(A, x)


def test_sets_that_share_an_operand_do_not_copy_it():
    seen = []

    @dataclass(frozen=True)
    class Watched:
        results = (jax.ShapeDtypeStruct((), "float32"),)

        def __call__(self, shared, own):
            seen.append(np.shares_memory(shared, A))
            return (own[0],)

        def each(self, *arrays):
            return one_by_one(self, arrays)

    (found,) = over_sets(Watched(), [A[None], XS], 1)
    np.testing.assert_array_equal(found, XS[:, 0])
    assert seen == 5 * [True]
    (found,) = over_sets(Watched(), [A[None, None], XS[None]], 2)
    np.testing.assert_array_equal(found, XS[None, :, 0])
    assert over_sets(Watched(), [A[None, None], XS[None, :0]], 2)[0].shape == (1, 0)


def test_call_outside_of_jit_is_compiled_once():
    X = jnp.asarray(np.random.default_rng(0).normal(size=(30, 2)), jnp.float32)
    gradient = jax.grad(lambda X: fit_mixture(X, max_iter=50).means.sum())
    gradient(X)
    before = _compiled.cache_info()
    gradient(X + 1)
    after = _compiled.cache_info()
    assert after.misses == before.misses and after.hits >= before.hits + 2


def run(script):
    """A script, ended where it hangs."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)


def test_a_thousand_calls_from_two_threads_do_not_hang():
    """Of a fit and its gradient, to which main and worker threads add compilation."""
    script = """
        import threading, jax, jax.numpy as jnp, numpy as np
        from skgmmot.jax import fit_mixture
        X = jnp.asarray(np.random.default_rng(0).normal(size=(60, 2)), jnp.float32)
        initial = (jnp.ones(2) / 2, jnp.array([[-1.0, 0.0], [1.0, 0.0]]), jnp.ones(2))
        options = {"covariance_type": "spherical", "mode": "one_step", "max_iter": 1}
        loss = lambda X: (fit_mixture(X, initial=initial, **options).means ** 2).sum()
        step = jax.jit(jax.grad(loss))
        ends = []

        def work(scale):
            for _ in range(500):
                gradient = step(scale * X)
            ends.append(bool(jnp.isfinite(gradient).all()))

        threads = [threading.Thread(target=work, args=(scale,)) for scale in (1.0, 2.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(ends)
    """
    assert run(script).stdout.split("\n")[0] == "[True, True]"


def test_large_arrays_from_more_threads_than_processors_do_not_hang():
    """They do where a callback makes JAX arrays, as that of jax.pure_callback does."""
    script = """
        import os, threading, jax, jax.numpy as jnp, numpy as np
        from skgmmot.bridges.jax_host import host_call

        class Sum:
            results = (jax.ShapeDtypeStruct((), "float32"),)
            transposed, refusal = None, ""
            def __call__(self, X):
                return (X.sum(dtype=np.float32),)

        total = Sum()
        compiled = jax.jit(lambda X: host_call(total, X * 2)[0])
        X = jnp.ones(1_000_000, jnp.float32)

        def work():
            for _ in range(100):
                compiled(X).block_until_ready()

        threads = [threading.Thread(target=work) for _ in range(2 * os.cpu_count())]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(float(compiled(X)))
    """
    assert run(script).stdout.strip() == "2000000.0"
