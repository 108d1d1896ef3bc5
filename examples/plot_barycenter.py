"""
Barycenters of mixtures
=======================

The barycenter of several mixtures is the mixture that is nearest to all of them in the
Mixture-Wasserstein distance MW2 (Delon and Desolneux 2020). We compute the barycenters of four
mixtures, and let points flow to the barycenter of three, as in section 5.1 of Boïté et al. (2025).
"""

# %%
# Four mixtures on a square
# -------------------------
# A ring, a cross, a bow and a triangle stand at the corners of a square. Every place in it gives
# the four of them weights. `mixture_barycenter` solves a linear program over all 144 ways to
# pick a component of each, and returns those that get mass, about ten.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_barycenter,
    mixture_flow,
    mixture_wasserstein,
)


def strokes(means, angles, lengths, widths):
    """A mixture of equal weights, with a Gaussian for each stroke."""
    angles = np.radians(angles)
    along = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    across = np.stack([-np.sin(angles), np.cos(angles)], axis=-1)
    covariances = sum(
        np.square(size)[:, None, None] * direction[:, :, None] * direction[:, None, :]
        for size, direction in ((lengths, along), (widths, across))
    )
    n = len(means)
    return MixtureParameters(np.full(n, 1 / n), np.array(means, dtype=float), covariances)


four, three = np.ones(4), np.ones(3)
ring = strokes([[2, 0], [0, 2], [-2, 0], [0, -2]], [90, 0, 90, 0], 0.9 * four, 0.25 * four)
cross = strokes([[1, 1], [-1, 1], [-1, -1], [1, -1]], [45, -45, 45, -45], 0.8 * four, 0.2 * four)
bow = strokes([[-2, 0.5], [0, -1], [2, 0.5]], [-50, 0, 50], 0.8 * three, 0.2 * three)
triangle = strokes([[-1, 0], [1, 0], [0, -1.7]], [60, -60, 0], 0.9 * three, 0.2 * three)

axis_points = np.linspace(-3.5, 3.5, 60)
grid = np.stack(np.meshgrid(axis_points, axis_points), axis=-1).reshape(-1, 2)
n_places = 5
figure, axes = plt.subplots(n_places, n_places, figsize=(8, 8), layout="constrained")
for row, down in enumerate(np.linspace(0, 1, n_places)):
    for column, right in enumerate(np.linspace(0, 1, n_places)):
        corners = np.outer([1 - down, down], [1 - right, right]).ravel()
        barycenter = mixture_barycenter([ring, cross, bow, triangle], corners)
        density = np.exp(DifferentiableGaussianMixture.from_mixture(barycenter).score_samples(grid))
        axes[row, column].imshow(density.reshape(60, 60), origin="lower", cmap="magma_r")
        axes[row, column].set(xticks=[], yticks=[])
figure.suptitle("Between a ring, a cross, a bow and a triangle")

# %%
# The two methods
# ---------------
# The fixed point descends on the same objective with a given number of components. It
# needs no list of all tuples, so that it serves large problems, and may stop at a local minimum.


def objective(candidate, mixtures):
    """Mean of the squared distances."""
    return np.mean([mixture_wasserstein(candidate, mixture, squared=True) for mixture in mixtures])


corners = [ring, cross, bow, triangle]
least = objective(mixture_barycenter(corners), corners)
print(f"Objective in the middle, by the linear program: {least:.4f}")
for n_components in (3, 4, 12):
    fixed_point = mixture_barycenter(
        corners, method="fixed_point", n_components=n_components, random_state=0
    )
    value = objective(fixed_point, corners)
    print(f"by the fixed point, with {n_components} components of equal weight: {value:.4f}")

# %%
# Points flow to a barycenter
# ---------------------------
# Given several targets, `mixture_flow` moves points down the mean of the squared distances between
# the mixture that EM fits to them and each target. Nobody computes a barycenter, and yet that is
# where the fitted mixture goes: the loss ends at the least value, which the linear program knows.

rng = np.random.default_rng(0)
weights = np.full(3, 1 / 3)
targets = []
for center in ([-7.0, 0.0], [7.0, 0.0], [0.0, 11.0]):
    means = center + np.array([[-2, -2], [2, -2], [0, 2]]) + rng.normal(scale=0.8, size=(3, 2))
    roots = rng.normal(scale=0.6, size=(3, 2, 2))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(2)
    targets.append(MixtureParameters(weights, means, covariances))

X = rng.normal(scale=2.5, size=(500, 2)) + [-3.0, -5.0]
paths = []
flow = mixture_flow(
    X,
    targets,
    target_weights=weights,
    estimator=DifferentiableGaussianMixture(
        3, fixed_weights=True, reg_covar=1e-4, max_iter=200, residual_tol=1e-4, random_state=0
    ),
    optimizer="gd",
    learning_rate=0.05,
    n_steps=150,
    callback=lambda step, X, mixture, loss: paths.append(X[::5].copy()),
)
barycenter = mixture_barycenter(targets, weights)
least = objective(barycenter, targets)
distance = mixture_wasserstein(flow.mixture, barycenter)
print(f"The loss ends at {flow.losses[-1]:.4f}, the least value is {least:.4f},", end=" ")
print(f"and the fitted mixture is {distance:.4f} from the barycenter.")


def draw_ellipses(axis, mixture, color):
    """Two standard deviations of every component."""
    for mean, covariance in zip(mixture.means, mixture.covariances, strict=True):
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        width, height = 4 * np.sqrt(variances[::-1])
        axis.add_patch(Ellipse(mean, width, height, angle=angle, fill=False, color=color, lw=1.5))


figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained", width_ratios=(3, 2))
axes[0].plot(*np.transpose(paths, (2, 0, 1)), color="lightgray", linewidth=0.5, zorder=0)
axes[0].scatter(*X.T, s=4, label="points at the start")
axes[0].scatter(*flow.X.T, s=4, label="points at the end")
for target, color in zip(targets, ("tab:green", "tab:red", "tab:purple"), strict=True):
    draw_ellipses(axes[0], target, color)
draw_ellipses(axes[0], barycenter, "black")
axes[0].set(aspect="equal", xlim=(-12, 14), title="Three targets, and their barycenter in black")
axes[0].legend(loc="lower right", fontsize="small")
axes[1].semilogy(np.maximum(flow.losses - least, 1e-16 * least))
axes[1].set(xlabel="flow step", title="Loss above the least value")
axes[1].grid(alpha=0.3)
plt.show()
