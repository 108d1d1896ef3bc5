"""What skgmmot.jax adds to a call, and what one call is beside automatic differentiation in JAX.

    python tests/benchmarks/bench_jax.py [--quick]

The first table: fits, distances and their gradients under ``jax.jit``, and how much of each call is
spent beyond the NumPy interface that is called back: at most 100 µs for each callback, of which a
gradient of a fit makes two. The second table: the gradient through T steps against an EM
step as one would write it in JAX, compiled, in float64. The third: two threads that call one
compiled function at a time.
"""

import threading
import time
import warnings
from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np
from _report import Table, arguments, clusters, heading, verdict
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture
from skgmmot.functions.layer import MixtureLayer
from skgmmot.functions.transport_layer import TransportLayer
from skgmmot.jax import fit_mixture, mixture_wasserstein

MOST_OVERHEAD = 100.0  # µs
CALLS = [(60, 2, 2), (500, 2, 3), (5_000, 3, 5)]  # n, d, K
AGAINST_JAX = [(2_000, 2, 3, 30), (20_000, 3, 10, 30)]  # n, d, K, T
STEPS = 10
CALLS_AT_ONCE = 1000


LAYERS = [(MixtureLayer, "fit"), (MixtureLayer, "vjp")]
LAYERS += [(TransportLayer, "value"), (TransportLayer, "vjp")]


def start(X, K):
    mixture = DifferentiableGaussianMixture(K, max_iter=2, tol=0.0, residual_tol=0.0)
    return mixture.set_params(random_state=0).fit(X[:20_000])


def options(mixture, n_steps):
    """Those of a fit of so many steps, from the means and the rest of another."""
    return {
        "weights_init": mixture.weights_,
        "means_init": mixture.means_,
        "precisions_init": mixture.precisions_,
        "acceleration": None,
        "max_iter": n_steps,
        "tol": 0.0,
        "residual_tol": 0.0,
        "random_state": 0,
        "n_jobs": 1,  # with more, whose turn it is on the processors weighs more than the bridge
    }


class Within:
    """Adds up the time that is spent in methods of the NumPy interface."""

    def __init__(self, *methods):
        self.spent = 0.0
        for owner, name in methods:
            setattr(owner, name, self.watched(getattr(owner, name)))

    def watched(self, method):
        @wraps(method)
        def call(*args, **options):
            begin = time.perf_counter()
            result = method(*args, **options)
            self.spent += time.perf_counter() - begin
            return result

        return call


WITHIN = Within(*LAYERS)


def overhead_row(table, case, call, n_callbacks, n_calls):
    """Medians of times of a call, and of those beyond NumPy in the same calls."""
    call()
    times = []
    for _ in range(n_calls):
        WITHIN.spent, begin = 0.0, time.perf_counter()
        call()
        times.append((WITHIN.spent, time.perf_counter() - begin))
    numpy, whole = np.transpose(times)
    beyond = 1e6 * np.median(whole - numpy) / n_callbacks
    told = verdict(beyond, MOST_OVERHEAD, at_most=True)
    table.row(case, 1e6 * np.median(numpy), 1e6 * np.median(whole), n_callbacks, beyond, told)


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def overhead(n_calls):
    table = Table(
        case="<40s",
        numpy_us="10.1f",
        jax_us="10.1f",
        callbacks="9d",
        beyond_us="10.1f",
        verdict="<20s",
    )
    for n, d, K in CALLS:
        data = clusters(n, d, K, separation=3.0)
        X, fixed = jnp.asarray(data), options(start(data, K), STEPS)
        fit = jax.jit(lambda X, K=K, fixed=fixed: fit_mixture(X, K, **fixed).means)
        case = f"n={n} d={d} K={K} T={STEPS}"
        overhead_row(
            table,
            f"fit, {case}",
            lambda fit=fit, X=X: fit(X).block_until_ready(),
            1,
            n_calls,
        )
        gradient = jax.jit(
            jax.grad(lambda X, K=K, f=fixed: fit_mixture(X, K, mode="one_step", **f).means.sum())
        )
        overhead_row(
            table,
            f"gradient, {case}",
            lambda gradient=gradient, X=X: gradient(X).block_until_ready(),
            2,
            n_calls,
        )
    a, b = (tuple(start(clusters(200, 2, 3, 3.0, seed), 3).parameters_) for seed in (0, 1))
    jax_a, jax_b = jax.tree.map(jnp.asarray, (a, b))
    distance = jax.jit(mixture_wasserstein)
    overhead_row(
        table,
        "distance, K=3 d=2",
        lambda: distance(jax_a, jax_b).block_until_ready(),
        1,
        n_calls,
    )
    both = jax.jit(jax.grad(lambda a, b: mixture_wasserstein(a, b, squared=True)))
    overhead_row(
        table,
        "gradient of the distance, K=3 d=2",
        lambda: both(jax_a, jax_b)[0].block_until_ready(),
        1,
        n_calls,
    )
    print(f"At most {MOST_OVERHEAD:.0f} µs beyond NumPy, for each callback.")


def native_fit(X, weights, means, covariances, n_steps, reg_covar):
    """EM as one would write it in JAX."""
    density = jax.scipy.stats.multivariate_normal.logpdf
    eye = jnp.eye(X.shape[1])

    def step(theta, _):
        weights, means, covariances = theta
        logits = jax.vmap(density, in_axes=(None, 0, 0), out_axes=1)(X, means, covariances)
        gamma = jax.nn.softmax(jnp.log(weights) + logits, axis=1)
        mass = gamma.sum(axis=0)
        means = gamma.T @ X / mass[:, None]
        centered = X[:, None] - means
        covariances = jnp.einsum("nk,nka,nkb->kab", gamma, centered, centered)
        return (mass / len(X), means, covariances / mass[:, None, None] + reg_covar * eye), None

    return jax.lax.scan(step, (weights, means, covariances), length=n_steps)[0]


def against_jax(repeats):
    table = Table(case="<30s", ours_ms="9.2f", jax_ms="9.1f", ratio="7.1f", difference="10.1e")
    for n, d, K, n_steps in AGAINST_JAX:
        data = clusters(n, d, K, separation=3.0)
        first = start(data, K)
        fixed, X = options(first, n_steps), jnp.asarray(data)
        theta = tuple(map(jnp.asarray, first.parameters_))

        def ours(X, K=K, fixed=fixed):
            return fit_mixture(X, K, mode="unrolled", **fixed).means.sum()

        def native(X, theta=theta, n_steps=n_steps):
            return native_fit(X, *theta, n_steps, 1e-6)[1].sum()

        calls = [jax.jit(jax.grad(function)) for function in (ours, native)]
        gradients = [call(X) for call in calls]
        difference = abs(gradients[0] - gradients[1]).max() / abs(gradients[1]).max()
        calls = [lambda call=call, X=X: call(X).block_until_ready() for call in calls]
        for call in calls:
            call()
        mine, theirs = (min(timed(call) for _ in range(repeats)) for call in calls)
        case = f"n={n} d={d} K={K} T={n_steps}"
        table.row(case, 1e3 * mine, 1e3 * theirs, theirs / mine, float(difference))


def threads():
    data = clusters(500, 2, 3, separation=3.0)
    X, fixed = jnp.asarray(data), options(start(data, 3), STEPS)
    gradient = jax.jit(jax.grad(lambda X: fit_mixture(X, 3, mode="one_step", **fixed).means.sum()))

    def work():
        for _ in range(CALLS_AT_ONCE // 2):
            gradient(X).block_until_ready()

    work()
    begin = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{CALLS_AT_ONCE} gradients from two threads: {time.perf_counter() - begin:.2f} s")


def main():
    jax.config.update("jax_enable_x64", True)
    repeats = 3 if arguments(__doc__).quick else 9
    heading()
    print(f"JAX {jax.__version__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        overhead(50 * repeats)
        print()
        against_jax(repeats)
        print()
        threads()


if __name__ == "__main__":
    main()
