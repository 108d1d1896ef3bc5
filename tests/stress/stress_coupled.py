"""Random coupled fits that must neither crash, nor lose mass, nor ever fall.

    python tests/stress/stress_coupled.py [--unbalanced N] [--balanced N] [--only GROUP:SEED]

Fits of unbalanced transport, and balanced ones with a frozen target or with fixed weights, of all
covariance types in one and two dimensions, with as many and with fewer components on either side,
for transport weights from 1e-3 to 1e6, on clouds that lie close together or a hundred apart.

A fit may say that it did not converge. Anything else that is raised or warned of is a failure, as
is a weight that went missing or an objective that fell. The exit code is the number of them, at
most 1.
"""

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgmmot import CoupledGMMFitter

KINDS = "full", "tied", "diag", "spherical"
PAIRS = (2, 3), (3, 2), (2, 2), (3, 3), (1, 3), (3, 1), (2, 4)
LEAST_WEIGHT, MOST_WEIGHT = 1e-3, 1e6
# Rounding of an objective, relative to itself and to the transport term in it.
ROUNDING = 1e-11


def random_fit(group, seed):
    """The options of a fit, and its two clouds."""
    rng = np.random.default_rng([seed, *group.encode()])
    d, n_components = int(rng.integers(1, 3)), PAIRS[rng.integers(len(PAIRS))]
    apart = rng.choice([0.3, 3.0, 10.0, 100.0])
    clouds = []
    for n in rng.integers(20, 80, size=2):
        centers = rng.normal(scale=rng.choice([1.0, 5.0, apart]), size=(rng.integers(1, 4), d))
        rows = rng.integers(len(centers), size=n)
        clouds.append(centers[rows] + rng.uniform(0.3, 1.5) * rng.normal(size=(n, d)))
    clouds[1] += apart * rng.normal(size=d)
    options = {
        "n_components": n_components,
        "covariance_type": str(rng.choice(KINDS)),
        "transport_weight": float(np.exp(rng.uniform(*np.log([LEAST_WEIGHT, MOST_WEIGHT])))),
        "reg": float(rng.choice([0.0, 0.0, 10.0 ** rng.uniform(-2, 1)])),
        "max_iter": 100,
        "random_state": 0,
    }
    if group == "unbalanced":
        penalties = 10.0 ** rng.uniform(-2, 2, size=2)
        options["reg_m"] = (
            tuple(penalties.tolist()),
            float(penalties[0]),
            (float(penalties[0]), np.inf),
        )[rng.integers(3)]
        options["freeze_target"] = bool(rng.integers(4) == 0)
        options["fixed_weights"] = bool(rng.integers(4) == 0)
    else:
        options["freeze_target"] = group == "frozen"
        options["fixed_weights"] = group == "fixed"
    return options, clouds


def faults(options, clouds):
    """What is wrong with a fit, as a list of sentences, and whether it converged."""
    fitter = CoupledGMMFitter(**options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            fitter.fit_pair(*clouds)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rsplit('/', 1)[-1]}:{where.lineno}"
            return [f"{type(error).__name__} in {place}: {error}"], False
    found = []
    state, plan = fitter._state, fitter.transport_.plan
    for side, weights in zip(("source", "target"), state.weights, strict=True):
        if not abs(weights.sum() - 1.0) < 1e-12:
            found.append(f"the {side} weighs {weights.sum():.6g}")
    if options["fixed_weights"]:
        for weights in state.weights:
            if np.ptp(weights) > 1e-15:
                found.append(f"fixed weights are {weights}")
    if options.get("reg_m") is None:
        for axis, weights in zip((1, 0), state.weights, strict=True):
            if not np.abs(plan.sum(axis=axis) - weights).max() < 1e-9:
                found.append(f"the plan carries {plan.sum(axis=axis)} of {weights}")
            if not np.abs(state.plan.sum(axis=axis) - weights).max() < 1e-9:
                found.append(f"the fit's plan carries {state.plan.sum(axis=axis)} of {weights}")
    objectives = np.array(fitter.lower_bounds_)
    penalty = options["transport_weight"] * fitter.transport_.value
    if not np.isfinite(objectives).all():
        found.append("the objective is not finite")
    fall = -np.diff(objectives).min(initial=0.0)
    if fall > ROUNDING * (1.0 + np.abs(objectives).max() + penalty):
        found.append(f"the objective fell by {fall:.3g}")
    return found, fitter.converged_


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unbalanced", type=int, default=150)
    parser.add_argument("--balanced", type=int, default=300, help="half frozen, half fixed")
    parser.add_argument("--first", type=int, default=0, help="seed of the first fit of a group")
    parser.add_argument("--only", help="GROUP:SEED, one fit")
    args = parser.parse_args()
    half = args.balanced // 2
    sizes = {"unbalanced": args.unbalanced, "frozen": args.balanced - half, "fixed": half}
    fits = [(group, args.first + i) for group, n in sizes.items() for i in range(n)]
    if args.only:
        group, seed = args.only.split(":")
        fits = [(group, int(seed))]
    counts, converged, failed = Counter(), Counter(), Counter()
    for group, seed in fits:
        options, clouds = random_fit(group, seed)
        begin = time.perf_counter()
        found, settled = faults(options, clouds)
        counts[group] += 1
        converged[group] += settled
        failed[group] += bool(found)
        for fault in found:
            print(f"{group}:{seed} ({time.perf_counter() - begin:.1f} s) {fault}\n    {options}")
    for group in counts:
        print(
            f"{group:<12s} {counts[group]:5d} fits, {converged[group]:5d} converged, "
            f"{failed[group]:4d} failed"
        )
    return int(sum(failed.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
