"""What the functions for PyTorch cost beyond the NumPy interface, a call.

    python tests/benchmarks/bench_torch.py [--quick]

Both make the same fit of few rows, one EM step from given parameters, so that what a call costs by
itself is seen, and the same transport between two small mixtures. Then the gradient alone. At most
100 µs more are allowed for each call. Last, the gradients of many sets by vmap, and by a loop.
"""

import time
import warnings

import numpy as np
import torch
from _report import Table, arguments, clusters, heading, verdict

import skgmmot
from skgmmot import DifferentiableGaussianMixture, mixture_transport
from skgmmot.torch import MixtureLoss, fit_mixture, mixture_wasserstein

MOST = 100.0  # microseconds
MODES = ("implicit", "unrolled", "one_step")


def least_times(functions, repetitions):
    """The least time of each in microseconds, taken in turn: what is slower was disturbed."""
    least = np.full(len(functions), np.inf)
    for function in functions:
        function()
    for _ in range(repetitions):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            least[i] = min(least[i], time.perf_counter() - start)
    return 1e6 * least


def fits(mode):
    """The name of a call, its function of NumPy, and that of PyTorch."""
    X = clusters(100, 2, 3, 2.0)
    start = DifferentiableGaussianMixture(3, random_state=0, max_iter=3).fit(X)
    options = {
        "random_state": 0, "max_iter": 1, "n_jobs": 1,
        "acceleration": None if mode == "unrolled" else "auto",
        "weights_init": start.weights_, "means_init": start.means_,
        "precisions_init": start.precisions_,
    }  # fmt: skip
    mixture = DifferentiableGaussianMixture(3, **options).fit(X)
    cotangent = tuple(np.ones_like(part) for part in start.parameters_)
    bars = [torch.from_numpy(part) for part in cotangent]
    tensor = torch.from_numpy(X).requires_grad_()
    fitted = fit_mixture(tensor, 3, mode=mode, **options)
    yield (
        f"fit, {mode}",
        lambda: mixture.fit(X),
        lambda: fit_mixture(tensor, 3, mode=mode, **options),
    )
    yield (
        f"gradient, {mode}",
        lambda: mixture.gradient_wrt_data(X, cotangent, mode=mode),
        lambda: torch.autograd.grad(fitted, tensor, bars, retain_graph=True),
    )


def distances():
    """The same of MW2."""
    a, b = (
        tuple(DifferentiableGaussianMixture(3, random_state=0).fit(X).parameters_)
        for X in (clusters(200, 2, 3, 2.0), clusters(200, 2, 3, 3.0))
    )
    transport = mixture_transport(a, b)
    source, target = ([torch.from_numpy(part) for part in mixture] for mixture in (a, b))
    source = [part.requires_grad_() for part in source]
    value = mixture_wasserstein(source, target, squared=True)
    yield (
        "MW2",
        lambda: skgmmot.mixture_wasserstein(a, b, squared=True),
        lambda: mixture_wasserstein(source, target, squared=True),
    )
    yield (
        "gradient, MW2",
        lambda: transport.gradient(),
        lambda: torch.autograd.grad(value, source, retain_graph=True),
    )


def times_of_sets(mode, n_sets):
    """Microseconds that the gradient of a set takes by vmap, and by a loop."""
    sets = torch.from_numpy(np.stack([clusters(200, 2, 3, 2.0)] * n_sets))
    sets += 0.1 * torch.randn(sets.shape, generator=torch.Generator().manual_seed(0))
    fitted = DifferentiableGaussianMixture(3, random_state=0).fit(sets[0].numpy())
    names = "weights_init", "means_init", "precisions_init"
    start = fitted.weights_, fitted.means_ + 0.1, fitted.precisions_
    goal = fitted.weights_, fitted.means_ + 1.0, fitted.covariances_
    loss = MixtureLoss(goal, mode=mode, **dict(zip(names, start, strict=True)))
    gradient = torch.func.grad(loss)
    at_once = torch.func.vmap(gradient)
    ways = lambda: at_once(sets), lambda: [gradient(one) for one in sets]
    return least_times(ways, 3) / n_sets


def main():
    quick = arguments(__doc__).quick
    heading()
    print(f"PyTorch {torch.__version__}")
    table = Table(call="<22s", NumPy_us="8.0f", PyTorch_us="10.0f", more_us="8.0f", verdict="7s")
    all_calls = [call for mode in MODES for call in fits(mode)] + list(distances())
    for name, ours, bridge in all_calls:
        times = least_times([ours, bridge], 200 if quick else 2000)
        more = times[1] - times[0]
        table.row(name, *times, more, verdict(more, MOST, at_most=True))
    table = Table(sets="<22s", vmap_us="8.0f", loop_us="10.0f", ratio="8.1f")
    for mode in MODES:
        times = times_of_sets(mode, 50 if quick else 500)
        table.row(f"gradient, {mode}", *times, times[1] / times[0])


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single step has not converged
        main()
