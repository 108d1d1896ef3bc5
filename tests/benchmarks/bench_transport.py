"""Transport between mixtures against POT: values, maps of samples, all pairs of a list.

python tests/benchmarks/bench_transport.py [--quick]
"""

import time

import numpy as np
import ot
from _report import Table, arguments, heading, medians, verdict

from skgmmot import mixture_transport, pairwise_mixture_wasserstein

VALUES = [(50, 16, 5.0), (20, 64, 60.0), (100, 3, 2.0), (3, 2, 1.0)]  # K, d, target
MAPS = [("barycentric", "bary", 5.0), ("sample", "rand", 50.0)]  # method, POT's name, target
VARIANTS = [{}, {"reg_m": 1.0}, {"reg": 0.1}, {"reg": 0.1, "reg_m": 1.0}]
PAIRWISE_SECONDS = 10.0


def random_mixture(rng, n_components, n_features):
    roots = rng.normal(size=(n_components, n_features, 2 * n_features))
    covariances = roots @ np.swapaxes(roots, 1, 2) / (2 * n_features)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    return weights, rng.normal(size=(n_components, n_features)), covariances


def for_pot(a, b):
    """Two mixtures in the order of POT's arguments."""
    return a[1], b[1], a[2], b[2], a[0], b[0]


def timer(function, runs=1):
    """A function that measures the milliseconds of one of several runs in a row."""

    def measure():
        begin = time.perf_counter()
        for _ in range(runs):
            function()
        return (time.perf_counter() - begin) / runs * 1e3

    measure()
    return measure


def values(rng, repeats):
    print("\nMW2², without and with its gradient; milliseconds")
    table = Table(
        K="4d", d="4d", ours="9.3f", with_grad="9.3f", POT="9.2f", ratio="7.2f", target="6.1f",
        verdict="<7s",
    )  # fmt: skip
    for n_components, n_features, target in VALUES:
        a = random_mixture(rng, n_components, n_features)
        b = random_mixture(rng, n_components, n_features)
        np.testing.assert_allclose(
            mixture_transport(a, b).value, ot.gmm.gmm_ot_loss(*for_pot(a, b)), rtol=1e-10
        )
        runs = 200 if n_components * n_features < 100 else 1
        ours, with_gradient, peer = medians(
            timer(lambda a=a, b=b: mixture_transport(a, b).value, runs),
            timer(lambda a=a, b=b: mixture_transport(a, b).gradient(), runs),
            timer(lambda a=a, b=b: ot.gmm.gmm_ot_loss(*for_pot(a, b)), runs),
            repeats=repeats,
        )
        ratio = peer / ours
        table.row(
            n_components, n_features, ours, with_gradient, peer, ratio, target,
            verdict(ratio, target),
        )  # fmt: skip


def maps(rng, repeats):
    print("\nMaps of 20 000 samples, K = 10, d = 5; milliseconds")
    table = Table(
        method="<12s", ours="9.3f", POT="9.2f", ratio="7.2f", target="6.1f", verdict="<7s"
    )
    a, b = random_mixture(rng, 10, 5), random_mixture(rng, 10, 5)
    X = rng.normal(size=(20_000, 5))
    transport = mixture_transport(a, b)
    for method, peer_method, target in MAPS:
        ours, peer = medians(
            timer(lambda m=method: transport.map(X, method=m, random_state=0)),
            timer(lambda m=peer_method: ot.gmm.gmm_ot_apply_map(X, *for_pot(a, b), method=m)),
            repeats=repeats,
        )
        table.row(method, ours, peer, peer / ours, target, verdict(peer / ours, target))


def variants(rng, repeats):
    print("\nVariants, K = 10, d = 3; milliseconds")
    table = Table(variant="<28s", value="9.3f", with_grad="9.3f")
    a, b = random_mixture(rng, 10, 3), random_mixture(rng, 10, 3)
    for variant in VARIANTS:
        times = medians(
            timer(lambda v=variant: mixture_transport(a, b, **v).value, 5),
            timer(lambda v=variant: mixture_transport(a, b, **v).gradient(), 5),
            repeats=repeats,
        )
        table.row(str(variant or "exact"), *times)


def pairwise(rng):
    print("\nAll pairs of 200 mixtures, K = 10, d = 3")
    mixtures = [random_mixture(rng, 10, 3) for _ in range(200)]
    seconds = timer(lambda: pairwise_mixture_wasserstein(mixtures))() / 1e3
    table = Table(seconds="8.2f", at_most="8.1f", verdict="<7s")
    table.row(seconds, PAIRWISE_SECONDS, verdict(seconds, PAIRWISE_SECONDS, at_most=True))


def main():
    repeats = 3 if arguments(__doc__).quick else 15
    heading()
    print(f"POT {ot.__version__}")
    rng = np.random.default_rng(0)
    values(rng, repeats)
    maps(rng, repeats)
    variants(rng, repeats)
    pairwise(rng)


if __name__ == "__main__":
    main()
