"""
From one mixture to another: plan, maps and geodesic
====================================================

The Mixture-Wasserstein distance comes with a plan: how much mass goes from each component of one
mixture to each component of the other. With the plan come maps that move samples, and a geodesic,
a path of mixtures of constant speed. We look at them between two mixtures in the plane, and at
what becomes of them when a component of the target is far from everything else.
"""

# %%
# Two mixtures and their plan
# ---------------------------
# Ellipses are drawn at two standard deviations; the wider a line, the more mass it carries.

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse

from skgmmot import DifferentiableGaussianMixture, mixture_transport, mixture_wasserstein

SOURCE, TARGET, BETWEEN = "tab:blue", "tab:red", "tab:purple"

source = DifferentiableGaussianMixture.from_parameters(
    [0.3, 0.5, 0.2],
    [[-4.0, 2.0], [-5.0, -2.0], [-2.5, -0.5]],
    [[[0.6, 0.4], [0.4, 0.8]], [[1.0, -0.3], [-0.3, 0.3]], [[0.1, 0.0], [0.0, 0.5]]],
    random_state=0,
)
target = DifferentiableGaussianMixture.from_parameters(
    [0.55, 0.45],
    [[4.0, 2.2], [5.0, -2.0]],
    [[[0.3, -0.2], [-0.2, 1.0]], [[1.2, 0.5], [0.5, 0.4]]],
)
transport = mixture_transport(source, target)


def draw(axis, mixture, color):
    """Ellipses of a mixture, as opaque as their components are heavy."""
    for weight, mean, covariance in zip(*mixture, strict=True):
        variances, directions = np.linalg.eigh(covariance)
        width, height = 4 * np.sqrt(variances)
        angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
        ellipse = Ellipse(mean, width, height, angle=angle, color=color, lw=0)
        ellipse.set_alpha(0.15 + 0.6 * weight)
        axis.add_patch(ellipse)


def draw_plan(axis, transport):
    """Lines between the means that mass moves between, and the mass."""
    for k, m in zip(*np.nonzero(transport.plan > 0.001), strict=True):
        ends = np.array([transport.source.means[k], transport.target.means[m]])
        axis.plot(*ends.T, color="0.3", lw=10 * transport.plan[k, m], solid_capstyle="round")
        place = 0.6 * ends[0] + 0.4 * ends[1]
        axis.annotate(
            f"{transport.plan[k, m]:.2f}", place, ha="center", va="center",
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"},
        )  # fmt: skip


def panel(axis, title):
    axis.set(title=title, aspect="equal", xlim=(-8, 8), ylim=(-4.5, 5), xticks=[], yticks=[])


figure, axis = plt.subplots(figsize=(8, 4.6), layout="constrained")
draw(axis, source.parameters_, SOURCE)
draw(axis, target.parameters_, TARGET)
draw_plan(axis, transport)
panel(axis, f"The plan; MW2 = {transport.distance:.3f}")
plt.show()

# %%
# Maps of samples
# ---------------
# The barycentric map is smooth, and takes a sample to a mean of its images. The sampled map draws
# one of the images, so that samples of the source become samples of the target. That of the most
# likely component is affine on each of the regions of the components. In the plan above one
# component is split between two targets: its mean image lies between them.

X, _ = source.sample(1500)
figure, axes = plt.subplots(3, 1, figsize=(8, 11), layout="constrained")
for axis, method in zip(axes, ("barycentric", "sample", "maximum"), strict=True):
    moved = transport.map(X, method=method, random_state=0)
    draw(axis, target.parameters_, TARGET)
    axis.scatter(*X.T, s=3, color=SOURCE)
    axis.scatter(*moved.T, s=3, color="k", alpha=0.5, zorder=3)
    shown = np.arange(0, len(X), 30)
    for start, end in zip(X[shown], moved[shown], strict=True):
        axis.plot(*np.transpose([start, end]), color="0.6", lw=0.5, zorder=0)
    panel(axis, f'map(X, method="{method}")')
plt.show()

# %%
# The geodesic
# ------------
# In between, each pair of components that exchanges mass is a component of its own. Distances
# along the path are proportional to time.

figure, axes = plt.subplots(5, 1, figsize=(7, 15), layout="constrained")
for axis, time in zip(axes, np.linspace(0, 1, 5), strict=True):
    mixture = transport.interpolate(time)
    color = {0.0: SOURCE, 1.0: TARGET}.get(time, BETWEEN)
    draw(axis, mixture, color)
    gone = mixture_wasserstein(source, mixture) / transport.distance
    panel(axis, f"t = {time:.2f}, {gone:.0%} of the distance from the source")
plt.show()

# %%
# Unbalanced transport
# --------------------
# An outlying component of the target, with a tenth of its mass. Balanced transport must send mass
# there. The unbalanced plan pays for not doing so: about, nothing is moved over squared distances
# above the sum of the weights of its two marginal terms.

weights, means, covariances = target.parameters_
outlying = (
    np.append(0.9 * weights, 0.1),
    np.append(means, [[6.5, 26.0]], axis=0),
    np.append(covariances, [0.3 * np.eye(2)], axis=0),
)
figure, axes = plt.subplots(1, 2, figsize=(9, 8), layout="constrained")
for axis, reg_m, name in zip(axes, (None, 100.0), ("balanced", "unbalanced"), strict=True):
    plan = mixture_transport(source, outlying, reg_m=reg_m)
    draw(axis, source.parameters_, SOURCE)
    draw(axis, plan.target, TARGET)
    draw_plan(axis, plan)
    outlier = plan.plan[:, -1].sum()
    panel(axis, f"{name}: {outlier:.3f} of the mass to the outlier")
    axis.set(ylim=(-4.5, 28))
    print(f"{name}: {plan.plan.sum():.3f} of the mass is moved, {outlier:.3f} to the outlier.")
plt.show()
