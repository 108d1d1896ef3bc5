"""How close `partial_fit` comes to the fit of all rows, and what it costs.

    python tests/benchmarks/bench_stream.py [--quick]

A million rows in 100 batches, from a start by k-means on the first of them. The loss is what the
mean log-likelihood of all rows lacks of that of the batch fit from the same start, here after one
pass over the stream and after two; ``start`` is the loss of the start, ``EM step`` the loss after
one EM step on all rows, which reads as many rows as a pass, and ``passes`` is what the batch fit
took. Then random clouds, of which more overlap, and small batches, in which noise counts. Last,
seconds of a pass over those of an EM step.
"""

import time

import numpy as np
from _report import (
    PAUSE,
    Table,
    arguments,
    clusters,
    heading,
    medians,
    quiet_fit,
    step_timer,
    verdict,
)

from skgmmot import DifferentiableGaussianMixture

N_BATCHES = 100
# d, K, separation of `clusters`, seed; whether the defaults are held to the target
CASES = {
    "apart": ((3, 5, 2.0, 1), True),
    "overlap": ((3, 5, 1.5, 1), True),
    "much overlap": ((3, 5, 1.0, 1), False),
    "ten components": ((3, 10, 1.0, 2), True),
}
DEFAULTS = 0.7, 10.0
RATES = [DEFAULTS, (0.7, 0.0), (0.6, 10.0), (0.6, 0.0), (0.8, 10.0), (1.0, 0.0)]
LARGEST_LOSS = 1e-3  # nats
N_SEEDS = 16
SMALL, N_SMALL, N_START = [5, 20, 100, 1000], 40_000, 250  # rows in a batch, in all, to start


def start_of(X, n_components):
    """All that a mixture starts from, by k-means on some rows."""
    start = DifferentiableGaussianMixture(n_components, max_iter=0, random_state=0).fit(X)
    return {
        "n_components": n_components,
        "weights_init": start.weights_,
        "means_init": start.means_,
        "precisions_init": start.precisions_,
    }


def batches_of(X, size):
    return [X[begin : begin + size] for begin in range(0, len(X), size)]


def follow(mixture, batches):
    """One pass over the stream."""
    for batch in batches:
        mixture.partial_fit(batch)
    return mixture


def rate(decay, offset):
    return {"learning_decay": decay, "learning_offset": offset}


def pass_timer(start, batches):
    """A function that measures the seconds of a pass over the stream."""

    def measure():
        time.sleep(PAUSE)
        begin = time.perf_counter()
        follow(DifferentiableGaussianMixture(**start), batches)
        return time.perf_counter() - begin

    measure()
    return measure


def losses_of_cases(n_samples):
    table = Table(
        case="<15s",
        decay="5.1f",
        offset="6.0f",
        one_pass="9.1e",
        target="7.0e",
        verdict="<7s",
        two_passes="10.1e",
        start="8.1e",
        EM_step="8.1e",
        passes="6d",
    )
    for case, ((d, K, separation, seed), is_held) in CASES.items():
        X = clusters(n_samples, d, K, separation, seed=seed)
        batches = batches_of(X, n_samples // N_BATCHES)
        start = start_of(batches[0], K)
        fitted = quiet_fit(DifferentiableGaussianMixture(**start, tol=1e-7, residual_tol=1e-4), X)
        best = fitted.score(X)

        def loss_after(n_steps, start=start, X=X, best=best):
            return best - quiet_fit(
                DifferentiableGaussianMixture(**start, max_iter=n_steps), X
            ).score(X)

        loss_of_start, loss_of_step = loss_after(0), loss_after(1)
        for decay, offset in RATES:
            mixture = DifferentiableGaussianMixture(**start, **rate(decay, offset))
            one, two = (best - follow(mixture, batches).score(X) for _ in range(2))
            target = LARGEST_LOSS if is_held and (decay, offset) == DEFAULTS else None
            holds = verdict(one, target, at_most=True)
            others = loss_of_start, loss_of_step, fitted.n_evaluations_
            table.row(case, decay, offset, one, target, holds, two, *others)


def losses_of_random_clusters():
    print(f"\n{N_SEEDS} random clouds of 100 000 x 3, K=5: how many end within {LARGEST_LOSS} nats")
    table = Table(
        separation="10.1f",
        decay="5.1f",
        offset="6.0f",
        one_pass="8d",
        two_passes="10d",
        median="8.1e",
        largest="8.1e",
        median_passes_of_the_fit="24.0f",
    )
    for separation in (1.0, 1.5, 2.0):
        losses, passes = {rates: [] for rates in (DEFAULTS, (0.6, 0.0))}, []
        for seed in range(N_SEEDS):
            X = clusters(100_000, 3, 5, separation, seed=seed)
            batches = batches_of(X, len(X) // N_BATCHES)
            start = start_of(batches[0], 5)
            fitted = quiet_fit(DifferentiableGaussianMixture(**start), X)
            passes.append(fitted.n_evaluations_)
            best = fitted.score(X)
            for rates, own in losses.items():
                mixture = DifferentiableGaussianMixture(**start, **rate(*rates))
                own.append([best - follow(mixture, batches).score(X) for _ in range(2)])
        for rates, own in losses.items():
            one, two = np.transpose(own)
            n_one, n_two = (int((loss < LARGEST_LOSS).sum()) for loss in (one, two))
            of_fits = np.median(passes)
            table.row(separation, *rates, n_one, n_two, np.median(one), one.max(), of_fits)


def losses_of_small_batches():
    print(f"\nloss after {N_SMALL} rows, those of the start and small batches, K=5")
    table = Table(
        case="<15s", decay="5.1f", offset="6.0f", **{f"rows_{size}": "9.1e" for size in SMALL}
    )
    for d in (3, 10):
        X = clusters(N_SMALL, d, 5, 1.0, seed=1)
        start = start_of(X[:N_START], 5)
        best = quiet_fit(DifferentiableGaussianMixture(**start, residual_tol=1e-4), X).score(X)
        for decay, offset in [*RATES, (1.0, 10.0)]:
            losses = []
            for size in SMALL:
                mixture = DifferentiableGaussianMixture(**start, **rate(decay, offset))
                batches = [X[:N_START], *batches_of(X[N_START:], size)]
                losses.append(best - follow(mixture, batches).score(X))
            table.row(f"d={d}", decay, offset, *losses)


def times(n_samples, quick):
    print("\nseconds of a pass over the stream, and of one EM step on all rows, d=3, K=5")
    table = Table(
        rows_in_a_batch="15d",
        pass_s="8.3f",
        step_s="8.3f",
        ratio="6.2f",
        ms_a_call="9.2f",
    )
    X = clusters(n_samples, 3, 5, 1.5, seed=1)
    start = start_of(X[:10_000], 5)
    step = step_timer(
        DifferentiableGaussianMixture(**start, tol=0.0, residual_tol=0.0, acceleration=None),
        X,
        0.1 if quick else 0.5,
    )
    for size in (100_000, 10_000, 1000):
        ours, theirs = medians(
            pass_timer(start, batches_of(X, size)), step, repeats=3 if quick else 7
        )
        n_calls = -(-n_samples // size)
        table.row(size, ours, theirs, ours / theirs, 1e3 * ours / n_calls)


def main():
    quick = arguments(__doc__).quick
    n_samples = 100_000 if quick else 1_000_000
    heading()
    losses_of_cases(n_samples)
    losses_of_random_clusters()
    losses_of_small_batches()
    times(n_samples, quick)


if __name__ == "__main__":
    main()
