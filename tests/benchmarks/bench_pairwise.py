"""All pairs of many small mixtures, and their gradients, against a loop over pairs and POT.

python tests/benchmarks/bench_pairwise.py [--quick]

The loop is what `mixture_transport` computes for each pair, of mixtures that were read, the peer
ot.gaussian's distances and ot.emd2. Both are measured on some of the pairs, and their times taken
for all.
"""

import time

import numpy as np
import ot
from _report import Table, arguments, heading, medians, verdict

from skgmmot import pairwise_mixture_wasserstein, pairwise_mixture_wasserstein_vjp
from skgmmot.checks import as_parameters
from skgmmot.results.transport_result import transport_between

CASES = [(1000, 5, 3, 10.0), (1000, 3, 2, None), (300, 10, 5, None), (200, 5, 16, None)]
SOME = 150  # pairs of the loop, and of POT's a tenth


def random_mixture(rng, n_components, n_features):
    roots = rng.normal(size=(n_components, n_features, 2 * n_features))
    covariances = roots @ np.swapaxes(roots, 1, 2) / (2 * n_features)
    weights = rng.dirichlet(np.full(n_components, 5.0))
    return weights, rng.normal(size=(n_components, n_features)), covariances


def by_pot(a, b):
    costs = np.array(
        [
            [
                ot.gaussian.bures_wasserstein_distance(m, n, S, R) ** 2
                for _, n, R in zip(*b, strict=True)
            ]
            for _, m, S in zip(*a, strict=True)
        ]
    )
    return ot.emd2(a.weights, b.weights, costs)


def timer(function, factor=1.0):
    """A function that measures seconds, times a factor."""

    def measure():
        begin = time.perf_counter()
        function()
        return (time.perf_counter() - begin) * factor

    return measure


def measure(n_mixtures, n_components, n_features, target, with_gradient, repeats, table):
    rng = np.random.default_rng(0)
    mixtures = [random_mixture(rng, n_components, n_features) for _ in range(n_mixtures)]
    pairs = np.argwhere(np.triu(np.ones((n_mixtures, n_mixtures)), 1))
    read = [as_parameters(mixture) for mixture in mixtures]
    some = [(read[i], read[j]) for i, j in rng.permutation(pairs)[:SOME]]
    G = rng.normal(size=(n_mixtures, n_mixtures))

    def all_at_once():
        if with_gradient:
            pairwise_mixture_wasserstein_vjp(mixtures, None, G)
        else:
            pairwise_mixture_wasserstein(mixtures)

    def one_by_one():
        for pair in some:
            transport, _ = transport_between(*pair)
            if with_gradient:
                transport.gradient("source"), transport.gradient("target")

    pairwise_mixture_wasserstein_vjp(mixtures[:2], None, G[:2, :2])  # compiles
    by_pot(*some[0])
    timers = [timer(all_at_once), timer(one_by_one, len(pairs) / SOME)]
    if not with_gradient:
        peers = some[: SOME // 10]
        timers.append(timer(lambda: [by_pot(*pair) for pair in peers], len(pairs) / len(peers)))
    ours, loop, *peer = medians(*timers, repeats=repeats)
    table.row(
        n_mixtures, n_components, n_features, "vjp" if with_gradient else "value", ours, loop,
        *(peer or [None]), loop / ours, peer[0] / ours if peer else None, target,
        verdict(loop / ours, target),
    )  # fmt: skip


def main():
    repeats = 1 if arguments(__doc__).quick else 3
    heading()
    print(f"POT {ot.__version__}; seconds for all pairs, those of the loop and of POT from some")
    table = Table(
        mixtures="8d", K="3d", d="3d", what="<5s", ours="8.2f", loop="8.1f", POT="8.0f",
        ratio="7.1f", to_POT="7.0f", target="6.1f", verdict="<7s",
    )  # fmt: skip
    for n_mixtures, n_components, n_features, target in CASES:
        for with_gradient in (False, True):
            measure(
                n_mixtures, n_components, n_features, None if with_gradient else target,
                with_gradient, repeats, table,
            )  # fmt: skip


if __name__ == "__main__":
    main()
