"""Time of coupled fits: on a tutorial's data, and as the number of samples grows.

    python tests/benchmarks/bench_coupled.py [--quick]

The first table holds the objective against reference optima, found by other methods from many
starts, and the time against that of OTT-JAX 0.6 for the 30 steps of its tutorial on a 2-core
machine, 4.7 s (OTT-JAX is not run here). The second has a fit of two clouds in three dimensions.
"""

import time
from pathlib import Path

import numpy as np
from _report import Table, arguments, clusters, heading, medians, verdict

from skgmmot import CoupledGMMFitter

DATA = Path(__file__).parents[1] / "data" / "coupled_tutorial.npz"
PEER_SECONDS, LEAST_RATIO = 4.7, 100
CASES = {
    "balanced": ({"transport_weight": 0.01}, -7.28271),
    "unbalanced": ({"transport_weight": 0.1, "reg": 0.01, "reg_m": 1.0}, -7.26325),
}
SIZES, MOST_SECONDS = (10_000, 100_000, 1_000_000), 10.0


def timer(fitter, X, Y):
    def run():
        start = time.perf_counter()
        fitter.fit_pair(X, Y)
        return time.perf_counter() - start

    return run


def main():
    quick = arguments(__doc__).quick
    heading()
    with np.load(DATA) as data:
        clouds = data["X0"].astype(float), data["X1"].astype(float)
    table = Table(
        case="<12s",
        ours_s="8.4f",
        ratio="7.1f",
        target="6d",
        verdict="<7s",
        objective="11.6f",
        reference="11.5f",
        as_high="<7s",
    )
    for name, (options, reference) in CASES.items():
        fitter = CoupledGMMFitter(3, random_state=0, **options)
        fitter.fit_pair(*clouds)  # compiles
        (seconds,) = medians(timer(fitter, *clouds), repeats=5 if quick else 25)
        ratio = PEER_SECONDS / seconds
        table.row(
            name,
            seconds,
            ratio,
            LEAST_RATIO,
            verdict(ratio, LEAST_RATIO),
            fitter.objective_,
            reference,
            verdict(fitter.objective_, reference),
        )
    print()
    table = Table(n_samples="10d", ours_s="8.3f", target="6.1f", verdict="<7s", sweeps="6d")
    for n_samples in SIZES[:2] if quick else SIZES:
        X = clusters(n_samples, 3, 5, 4.0)
        Y = 1.2 * clusters(n_samples, 3, 5, 4.0) + 0.5
        fitter = CoupledGMMFitter(5, random_state=0)
        (seconds,) = medians(timer(fitter, X, Y), repeats=1 if quick else 3)
        table.row(
            n_samples,
            seconds,
            MOST_SECONDS,
            verdict(seconds, MOST_SECONDS, at_most=True),
            fitter.n_iter_,
        )


if __name__ == "__main__":
    main()
