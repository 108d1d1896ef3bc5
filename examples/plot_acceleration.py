"""
EM in fewer steps
=================

Where clusters overlap, EM needs thousands of steps to settle. Three ways to a fixed point are
shorter: Anderson mixing, a Newton-Krylov method that uses the exact derivative of an EM step, and
L-BFGS, which learns that derivative from the steps it makes. This example follows the residual, the
scaled size of F(θ) - θ, over all passes that they make over the data: steps, refused moves, and
products with the derivative.
"""

# %%
# Three overlapping clouds
# ------------------------
# EM starts from random rows, with the variances of the data.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_blobs

from skgmmot import MixtureParameters
from skgmmot.em.em_map import EMMap
from skgmmot.em.solvers import SOLVERS
from skgmmot.plotting import component_colors

clouds = [
    (500, 2, 3, 1.5, 1),
    (2000, 3, 5, 3.0, 2),
    (5000, 2, 6, 2.5, 3),
]  # n, d, K, std, seed
methods = {
    "plain EM": None,
    "Anderson": "anderson",
    "Newton-Krylov": "newton",
    "L-BFGS": "lbfgs",
}
colors = dict(zip(methods, component_colors(4), strict=True))


def start(n, d, K, std, seed):
    X, _ = make_blobs(n, d, centers=K, cluster_std=std, random_state=seed)
    means = X[np.random.default_rng(0).choice(n, K, replace=False)]
    covariances = np.array([np.diag(X.var(axis=0))] * K)
    theta = MixtureParameters(np.full(K, 1 / K), means, covariances, "full")
    return EMMap.on(X, covariance_type="full", reg_covar=1e-6), theta


# %%
# The residual, pass by pass
# --------------------------
# `skgmmot.DifferentiableGaussianMixture` runs the same loop behind ``acceleration="lbfgs"``. Here
# it is written out, to look at every θ on the way.


def trace(em_map, theta, acceleration, tolerance=1e-9):
    """Passes over the data, residuals and lower bounds."""
    solver = SOLVERS[acceleration]()
    rows, step = [], None
    while not rows or rows[-1][1] > tolerance:
        step = em_map.step(theta) if step is None else step
        rows.append(
            (len(rows) + 1 + solver.n_extra, em_map.residual(step), step.lower_bound),
        )
        theta, step = solver.move(em_map, step, n_left=100_000)
    return np.array(rows).T


figure, axes = plt.subplots(1, 3, figsize=(10, 4.8), sharey=True, layout="constrained")
for cloud, axis in zip(clouds, axes, strict=True):
    print(f"{cloud[0]} samples in {cloud[1]} dimensions, {cloud[2]} components")
    for name, acceleration in methods.items():
        problem, theta = start(*cloud)
        passes, residuals, bounds = trace(problem, theta, acceleration)
        needed = int(passes[np.argmax(residuals < 1e-8)])
        label = f"{name}: {needed}"
        axis.loglog(passes, residuals, label=label, color=colors[name], linewidth=1.2)
        print(
            f"  {name:>13}: residual below 1e-8 after {needed} passes, "
            f"mean log-likelihood {bounds[-1]:.9f}, "
            f"smallest gain {np.diff(bounds).min():.0e}"
        )
    axis.axvline(10, color="black", linewidth=0.5, linestyle=":")
    axis.axhline(1e-8, color="black", linewidth=0.5)
    axis.set_title(f"n = {cloud[0]}, d = {cloud[1]}, K = {cloud[2]}")
    axis.set_xlabel("passes over the data")
    axis.legend(title="passes to 1e-8", loc="upper center", bbox_to_anchor=(0.5, -0.2))
axes[0].set_ylabel("residual")
figure.savefig("acceleration.png", dpi=100)
plt.show()

# %%
# None loses likelihood on its way, but for rounding, and all end at the same maximum. The first 10
# steps (dotted line) are the same: an easy fit is done by then.
