"""Gradients through EM against automatic differentiation in PyTorch, and against EM itself.

    python tests/benchmarks/bench_gradients.py [--quick]

The first table: T EM steps and the gradient through all of them, forward and backward together.
The peer is the EM step written as one would in PyTorch, in float64. The second table: what each
mode costs beside the fit, without the peer. ``one_step`` is given the data only once, so the
checks of its input and the room for its result weigh on it where an EM step is short.
"""

import time
import warnings

import numpy as np
import torch
from _report import PAUSE, Table, arguments, clusters, heading, medians, verdict
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture

AGAINST_TORCH = [  # n, d, K, T, least ratio
    (20_000, 3, 10, 30, 30.0),
    (100_000, 3, 10, 10, 30.0),
    (20_000, 16, 8, 10, 25.0),
    (2_000, 2, 3, 30, 10.0),
]
AGAINST_EM = [  # n, d, K, T
    (20_000, 3, 10, 50),
    (100_000, 3, 10, 50),
    (20_000, 16, 8, 50),
    (2_000, 3, 3, 50),
    (5_000, 256, 8, 5),
]
MOST = {"unrolled": 2.0, "one_step": 2.5, "implicit": 40.0}  # fits, EM steps, EM steps
MODES = ("unrolled", "one_step", "implicit")


def torch_fit(X, weights, means, covariances, n_steps, reg_covar):
    """EM as one would write it in PyTorch."""
    eye = torch.eye(X.shape[1], dtype=X.dtype)
    for _ in range(n_steps):
        density = torch.distributions.MultivariateNormal(
            means, scale_tril=torch.linalg.cholesky(covariances), validate_args=False
        )
        gamma = torch.softmax(weights.log() + density.log_prob(X[:, None]), dim=1)
        mass = gamma.sum(dim=0)
        weights = mass / len(X)
        means = gamma.T @ X / mass[:, None]
        centered = X[:, None] - means
        covariances = torch.einsum("nk,nka,nkb->kab", gamma, centered, centered)
        covariances = covariances / mass[:, None, None] + reg_covar * eye
    return weights, means, covariances


def problem(n, d, K, n_steps):
    """Data, an estimator that makes ``n_steps`` steps, and a cotangent."""
    X = clusters(n, d, K, separation=3.0)
    rng = np.random.default_rng(1)
    start = DifferentiableGaussianMixture(K, max_iter=2, tol=0.0, residual_tol=0.0, random_state=0)
    start.fit(X[:20_000])
    mixture = DifferentiableGaussianMixture(
        K,
        weights_init=start.weights_,
        means_init=start.means_,
        precisions_init=start.precisions_,
        acceleration=None,
        max_iter=n_steps,
        tol=0.0,
        residual_tol=0.0,
    )
    cotangent = tuple(rng.normal(size=part.shape) for part in start.parameters_)
    return X, mixture, cotangent


def timer(call):
    """Times a second call: the first, after a pause for the other's threads, warms the caches."""

    def measure():
        time.sleep(PAUSE)
        call()
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    return measure


def against_torch(repeats):
    table = Table(
        case="<30s", ours_ms="9.2f", torch_ms="9.1f", ratio="7.1f", target="7.0f", verdict="<7s"
    )
    for n, d, K, n_steps, least in AGAINST_TORCH:
        X, mixture, cotangent = problem(n, d, K, n_steps)
        covariances = np.linalg.inv(mixture.precisions_init)

        def ours(X=X, mixture=mixture, cotangent=cotangent):
            return mixture.fit(X).gradient_wrt_data(X, cotangent, mode="unrolled")

        def peer(X=X, mixture=mixture, cotangent=cotangent, T=n_steps, covariances=covariances):
            data = torch.tensor(X, requires_grad=True)
            start = (mixture.weights_init, mixture.means_init, covariances)
            result = torch_fit(data, *map(torch.tensor, start), T, mixture.reg_covar)
            loss = sum((a * torch.tensor(b)).sum() for a, b in zip(result, cotangent, strict=True))
            return torch.autograd.grad(loss, data)[0].numpy()

        ours_gradient, peer_gradient = ours(), peer()
        error = np.abs(ours_gradient - peer_gradient).max() / np.abs(peer_gradient).max()
        mine, theirs = medians(timer(ours), timer(peer), repeats=repeats)
        ratio = theirs / mine
        case = f"n={n} d={d} K={K} T={n_steps}"
        table.row(case, 1e3 * mine, 1e3 * theirs, ratio, least, verdict(ratio, least))
        print(f"    largest difference of the gradients, relative: {error:.1e}")


def against_em(repeats):
    table = Table(
        case="<30s",
        fit_ms="8.2f",
        unrolled_by_fit="15.2f",
        one_step_by_step="16.2f",
        implicit_by_step="16.1f",
        verdict="<20s",
    )
    for n, d, K, n_steps in AGAINST_EM:
        X, mixture, cotangent = problem(n, d, K, n_steps)
        mixture.fit(X)

        def gradient(mode, X=X, mixture=mixture, cotangent=cotangent):
            return lambda: mixture.gradient_wrt_data(X, cotangent, mode=mode)

        def fit(X=X, mixture=mixture):
            mixture.fit(X)

        for mode in MODES:
            gradient(mode)()  # compiles
        of_fit, unrolled, one_step, implicit = medians(
            timer(fit), *(timer(gradient(mode)) for mode in MODES), repeats=repeats
        )
        step = of_fit / (n_steps + 1)  # a fit ends with one more E-step
        told = [
            verdict(unrolled / of_fit, MOST["unrolled"], at_most=True),
            verdict(one_step / step, MOST["one_step"], at_most=True),
            verdict(implicit / step, MOST["implicit"], at_most=True),
            verdict(implicit, unrolled, at_most=True),
        ]
        case = f"n={n} d={d} K={K} T={n_steps}"
        table.row(
            case, 1e3 * of_fit, unrolled / of_fit, one_step / step, implicit / step, " ".join(told)
        )
    print(f"At most {MOST}, and implicit below unrolled.")


def main():
    repeats = 3 if arguments(__doc__).quick else 9
    heading()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        against_torch(repeats)
        print()
        against_em(repeats)


if __name__ == "__main__":
    main()
