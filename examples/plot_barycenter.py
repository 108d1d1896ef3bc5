"""
Barycenters of mixtures
=======================

The barycenter of several mixtures is the mixture that is nearest to all of them in the
Mixture-Wasserstein distance MW2 (Delon and Desolneux 2020). We compute the barycenters of four
mixtures, and let points flow to the barycenter of three, as in section 5.1 of Boïté et al. (2025).
Last, points in space flow to what three mixtures in the plane are views of.
"""

# %%
# Four mixtures on a square
# -------------------------
# A ring, a cross, a bow and a triangle stand at the corners of a square. Every place in it gives
# the four of them weights. `skgmmot.mixture_barycenter` solves a linear program over all 144 ways
# to pick a component of each, and returns those that get mass, about ten.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_barycenter,
    mixture_flow,
    mixture_transport,
    mixture_wasserstein,
)
from skgmmot.plotting import FlowDisplay, MixtureDisplay, component_colors


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
    return MixtureParameters(
        np.full(n, 1 / n),
        np.array(means, dtype=float),
        covariances,
    )


four, three = np.ones(4), np.ones(3)
ring = strokes(
    [[2, 0], [0, 2], [-2, 0], [0, -2]],
    [90, 0, 90, 0],
    0.9 * four,
    0.25 * four,
)
cross = strokes(
    [[1, 1], [-1, 1], [-1, -1], [1, -1]],
    [45, -45, 45, -45],
    0.8 * four,
    0.2 * four,
)
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
        density = np.exp(
            DifferentiableGaussianMixture.from_mixture(barycenter).score_samples(grid),
        )
        axes[row, column].imshow(
            density.reshape(60, 60),
            origin="lower",
            cmap="magma_r",
        )
        axes[row, column].set(xticks=[], yticks=[])
    axes[row, 0].set_ylabel(f"{down:.0%} down")
for column, right in enumerate(np.linspace(0, 1, n_places)):
    axes[-1, column].set_xlabel(f"{right:.0%} to the right")
for (row, column), name in zip(
    ((0, 0), (0, -1), (-1, 0), (-1, -1)),
    ("ring", "cross", "bow", "triangle"),
    strict=True,
):
    axes[row, column].set_title(name)
figure.suptitle(
    "Densities of barycenters between a ring, a cross, a bow and a triangle",
)
plt.show()

# %%
# The two methods
# ---------------
# The fixed point descends on the same objective with a given number of components. It
# needs no list of all tuples, so that it serves large problems, and may stop at a local minimum.


def objective(candidate, mixtures):
    """Mean of the squared distances."""
    return np.mean(
        [mixture_wasserstein(candidate, mixture, squared=True) for mixture in mixtures],
    )


corners = [ring, cross, bow, triangle]
least = objective(mixture_barycenter(corners), corners)
print(f"Objective in the middle, by the linear program: {least:.4f}")
for n_components in (3, 4, 12):
    fixed_point = mixture_barycenter(
        corners, method="fixed_point", n_components=n_components, random_state=0
    )
    value = objective(fixed_point, corners)
    print(f"by the fixed point, {n_components} components of equal weight: {value:.4f}")

# %%
# Points flow to a barycenter
# ---------------------------
# Given several targets, `skgmmot.mixture_flow` moves points down the mean of the squared distances
# between the mixture that EM fits to them and each target. Nobody computes a barycenter, and yet
# that is where the fitted mixture goes: the loss ends at the least value, which the linear program
# knows.

rng = np.random.default_rng(0)
weights = np.full(3, 1 / 3)
targets = []
for center in ([-7.0, 0.0], [7.0, 0.0], [0.0, 11.0]):
    corners = np.array([[-2, -2], [2, -2], [0, 2]])
    means = center + corners + rng.normal(scale=0.8, size=(3, 2))
    roots = rng.normal(scale=0.6, size=(3, 2, 2))
    covariances = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(2)
    targets.append(MixtureParameters(weights, means, covariances))

X = rng.normal(scale=2.5, size=(500, 2)) + [-3.0, -5.0]
flow = mixture_flow(
    X,
    targets,
    target_weights=weights,
    estimator=DifferentiableGaussianMixture(
        3,
        fixed_weights=True,
        reg_covar=1e-4,
        max_iter=200,
        residual_tol=1e-4,
        random_state=0,
    ),
    optimizer="gd",
    learning_rate=0.05,
    n_steps=150,
    keep_path=True,
)
barycenter = mixture_barycenter(targets, weights)
least = objective(barycenter, targets)
distance = mixture_wasserstein(flow.mixture, barycenter)
print(
    f"The loss ends at {flow.losses[-1]:.4f}, the least value is {least:.4f},",
    end=" ",
)
print(f"and the fitted mixture is {distance:.4f} from the barycenter.")

figure, axes = plt.subplots(
    1,
    2,
    figsize=(11, 5),
    layout="constrained",
    width_ratios=(3, 2),
)
FlowDisplay.from_flow(flow, ax=axes, least=least, max_paths=100, legend=False)
MixtureDisplay.from_parameters(
    barycenter, ax=axes[0], colors="black", fill=False, name="barycenter"
)
for number, (target, color) in enumerate(
    zip(targets, component_colors(5)[2:], strict=True),
):
    MixtureDisplay.from_parameters(
        target, ax=axes[0], colors=color, fill=False, name=f"target {number}"
    )
axes[0].set(aspect="equal", title="Points flow to the barycenter of three targets")
axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=3)
axes[1].set(
    title="Loss above the least value",
    ylabel="mean MW2² to the targets, less the least",
)
plt.show()

# %%
# A barycenter of views
# ---------------------
# More general barycenters compare what a map :math:`A_j` makes of a point with the target of number
# j, and minimize (Tanguy, Delon and Gozlan 2024)
#
# .. math::
#
#    X \mapsto \sum_j \lambda_j\, \mathrm{MW}_2^2(\mathrm{EM}(A_j X), \nu_j) .
#
# The gradient is that of each flow, pulled back by the map. Here the points live in space, the maps
# are the three projections along an axis, and the targets are three views of a mixture that the
# points do not know. EM follows each view with one step, from the last one's end.

views = np.eye(3)[[[1, 2], [0, 2], [0, 1]]]
unknown = MixtureParameters(
    weights,
    np.array([[-3.0, 0.0, 2.0], [3.0, 1.0, 0.0], [0.0, -3.0, -2.0]]),
    np.array([np.diag([1.0, 0.2, 0.2]), np.diag([0.2, 1.0, 0.3]), 0.4 * np.eye(3)]),
)
goals = [
    MixtureParameters(weights, unknown.means @ A.T, A @ unknown.covariances @ A.T)
    for A in views  # of each view the marginal
]
options = {"fixed_weights": True, "random_state": 0, "reg_covar": 1e-4}
X, losses = rng.normal(scale=2.0, size=(300, 3)), []
followers = [DifferentiableGaussianMixture(3, **options).fit(X @ A.T) for A in views]
for follower in followers:
    follower.set_params(warm_start=True, max_iter=1)
with warnings.catch_warnings():
    # of single EM steps
    warnings.simplefilter("ignore", ConvergenceWarning)
    for _ in range(300):
        step, loss = np.zeros_like(X), 0.0
        for A, goal, follower in zip(views, goals, followers, strict=True):
            seen = X @ A.T
            transport = mixture_transport(follower.fit(seen), goal)
            cotangent = transport.gradient()
            pulled = follower.gradient_wrt_data(seen, cotangent, mode="one_step")
            step += len(X) / 3 * pulled @ A
            loss += transport.value / 3
        losses.append(loss)
        X -= 0.1 * step
print(f"Views: the loss falls from {losses[0]:.2f} to {losses[-1]:.1e}.")
fitted = DifferentiableGaussianMixture(3, fixed_weights=True, random_state=0).fit(X)
distance = mixture_wasserstein(fitted, unknown)
print(f"In space the points are {distance:.2f} from what these are views of.")

figure, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
names = np.array(["x", "y", "z"])
for axis, A, goal in zip(axes, views, goals, strict=True):
    axis.scatter(*(X @ A.T).T, s=3, color="0.5")
    MixtureDisplay.from_parameters(goal, ax=axis, colors="black", fill=False)
    across, up = names[A.argmax(axis=1)]
    axis.set(aspect="equal", xlabel=across, ylabel=up)
figure.suptitle("Points in space, and the three mixtures they were to look like")
plt.show()
