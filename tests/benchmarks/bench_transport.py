"""Time of the mixture distance against POT, medians in one process.

python tests/benchmarks/bench_transport.py
"""

import time

import numpy as np
import ot

from skgmmot.transport.mixture import mixture_transport

CASES = [(50, 16, 5.0), (20, 64, 60.0), (100, 3, 2.0), (3, 2, 1.0)]  # K, d, least ratio


def random_mixture(rng, n_components, n_features):
    roots = rng.normal(size=(n_components, n_features, 2 * n_features))
    covariances = roots @ np.swapaxes(roots, 1, 2) / (2 * n_features)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    return weights, rng.normal(size=(n_components, n_features)), covariances


def median_time(function, *, least_repeats=5, budget=1.0):
    """Median of as many runs as fit the budget in seconds, after one run to warm up."""
    function()
    times = []
    while len(times) < least_repeats or (sum(times) < budget and len(times) < 1000):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.median(times)


def main():
    rng = np.random.default_rng(0)
    print(
        f"{'K':>4} {'d':>4} {'value ms':>9} {'+grad ms':>9} {'POT ms':>9} {'ratio':>7} {'least':>6}"
    )
    for n_components, n_features, least_ratio in CASES:
        a = random_mixture(rng, n_components, n_features)
        b = random_mixture(rng, n_components, n_features)

        def value(a=a, b=b):
            return mixture_transport(a, b).value

        def value_and_gradient(a=a, b=b):
            transport = mixture_transport(a, b)
            return transport.value, transport.gradient()

        def peer(a=a, b=b):
            return ot.gmm.gmm_ot_loss(a[1], b[1], a[2], b[2], a[0], b[0])

        np.testing.assert_allclose(value(), peer(), rtol=1e-10)
        ours, both, theirs = (
            median_time(function, least_repeats=3) for function in (value, value_and_gradient, peer)
        )
        print(
            f"{n_components:4d} {n_features:4d} {ours * 1e3:9.3f} {both * 1e3:9.3f} "
            f"{theirs * 1e3:9.2f} {theirs / ours:7.2f} {least_ratio:6.1f}"
        )


if __name__ == "__main__":
    main()
