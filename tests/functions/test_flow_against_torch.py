"""A flow that runs away, beside the same flow by automatic differentiation in PyTorch.

Clouds that overlap, EM of 30 steps from k-means in every step of the flow, weights that are fixed:
exact gradients are steep there, and a step that is too long throws points away. That is no error
of the gradient: PyTorch throws them just as far.
"""

import numpy as np
import pytest

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_flow,
    mixture_transport,
)

torch = pytest.importorskip("torch")

FLOOR, RATE, N_STEPS = 1e-4, 0.05, 14
WEIGHTS = np.full(3, 1 / 3)
SOURCE = (
    WEIGHTS,
    np.array([[-2.0, 0.0], [-1.0, 1.5], [-1.5, -1.6]]),
    np.array([[[0.7, 0.2], [0.2, 0.5]], [[0.5, -0.1], [-0.1, 0.8]], [[0.6, 0.0], [0.0, 0.4]]]),
)
TARGET = MixtureParameters(
    WEIGHTS,
    np.array([[3.5, 0.5], [3.0, 2.0], [4.0, -1.5]]),
    np.array([[[0.5, -0.2], [-0.2, 0.7]], [[0.9, 0.3], [0.3, 0.4]], [[0.3, 0.0], [0.0, 0.6]]]),
)


def em(X, means, covariances):
    """Thirty steps of EM with fixed weights, in PyTorch."""
    for _ in range(30):
        factors = torch.linalg.cholesky(covariances)
        centered = (X[:, None] - means).permute(1, 2, 0)
        z = torch.linalg.solve_triangular(factors, centered, upper=False)
        log_det = torch.log(torch.diagonal(factors, dim1=1, dim2=2)).sum(1)
        gamma = torch.softmax(-0.5 * (z**2).sum(1).T - log_det, 1)
        mass = gamma.sum(0)
        means = gamma.T @ X / mass[:, None]
        centered = X[:, None] - means
        scatter = torch.einsum("nk,nki,nkj->kij", gamma, centered, centered)
        covariances = scatter / mass[:, None, None] + FLOOR * torch.eye(2, dtype=X.dtype)
    return means, covariances


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_flow_runs_away_as_automatic_differentiation_does():
    source = DifferentiableGaussianMixture.from_parameters(*SOURCE)
    source.random_state = 0
    start = source.sample(200)[0]
    options = {"max_iter": 30, "tol": 0.0, "residual_tol": 0.0, "acceleration": None}
    given = DifferentiableGaussianMixture(
        3, fixed_weights=True, reg_covar=FLOOR, random_state=0, **options
    )
    flow = mixture_flow(
        start,
        TARGET,
        estimator=given,
        mode="unrolled",
        warm_start=False,
        optimizer="gd",
        learning_rate=RATE,
        n_steps=N_STEPS,
    )

    X, losses = start.copy(), []
    for _ in range(N_STEPS + 1):
        _, *first = given.fit(X)._record.path.start  # k-means, held constant
        points = torch.tensor(X, requires_grad=True)
        fitted = em(points, *(torch.tensor(np.array(part)) for part in first))
        theta = MixtureParameters(WEIGHTS, *(part.detach().numpy() for part in fitted))
        transport = mixture_transport(theta, TARGET)
        losses.append(transport.value)
        cotangent = [torch.tensor(part) for part in transport.gradient()][1:]
        sum((c * part).sum() for c, part in zip(cotangent, fitted, strict=True)).backward()
        X = X - RATE * len(X) * points.grad.numpy()
    assert max(losses) > 100 * losses[0]
    np.testing.assert_allclose(flow.losses, losses, rtol=1e-6)
