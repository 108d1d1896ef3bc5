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
# Ellipses are drawn at two standard deviations; the wider a link, the more mass it carries.

import matplotlib.pyplot as plt
import numpy as np

from skgmmot import (
    DifferentiableGaussianMixture,
    mixture_transport,
    mixture_wasserstein,
)
from skgmmot.plotting import MixtureDisplay, TransportDisplay, component_colors

SOURCE, TARGET = component_colors(2)

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


figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
TransportDisplay.from_transport(transport, ax=axis)
axis.set(title=f"The plan; MW2 = {transport.distance:.3f}", aspect="equal")
plt.show()

# %%
# Maps of samples
# ---------------
# The barycentric map is smooth, and takes a sample to a mean of its images. The sampled map draws
# one of the images, so that samples of the source become samples of the target. That of the most
# likely component is affine on each of the regions of the components. In the plan above one
# component is split between two targets: its mean image lies between them.

X, _ = source.sample(1500)
figure, axes = plt.subplots(
    3,
    1,
    figsize=(7, 11),
    sharex=True,
    sharey=True,
    layout="constrained",
)
for axis, method in zip(axes, ("barycentric", "sample", "maximum"), strict=True):
    moved = transport.map(X, method=method, random_state=0)
    MixtureDisplay.from_estimator(target, ax=axis, colors=TARGET, fill=False)
    axis.scatter(*X.T, s=3, color=SOURCE, label="samples of the source")
    axis.scatter(*moved.T, s=3, color="black", label="where they are moved to")
    for start, end in zip(X[::30], moved[::30], strict=True):
        axis.plot(*np.transpose([start, end]), color="0.6", lw=0.5, zorder=0)
    axis.set(title=f'map(X, method="{method}")', aspect="equal")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=3)
plt.show()

# %%
# The geodesic
# ------------
# In between, each pair of components that exchanges mass is a component of its own. Distances
# along the path are proportional to time.

figure, axis = plt.subplots(figsize=(9, 3.6), layout="constrained")
for time in np.linspace(0, 1, 5):
    mixture = transport.interpolate(time)
    gone = mixture_wasserstein(source, mixture) / transport.distance
    MixtureDisplay.from_parameters(
        mixture,
        ax=axis,
        colors=(1 - time) * SOURCE + time * TARGET,
        fill=time in (0, 1),
        name=f"t = {time:.2f}, {gone:.0%} of the way",
    )
axis.set(title="The geodesic", aspect="equal")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
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
    np.append(means, [[6.5, 20.0]], axis=0),
    np.append(covariances, [0.3 * np.eye(2)], axis=0),
)
figure, axes = plt.subplots(1, 2, figsize=(9, 5.5), sharey=True, layout="constrained")
for axis, reg_m, name in zip(
    axes,
    (None, 100.0),
    ("balanced", "unbalanced"),
    strict=True,
):
    display = TransportDisplay.from_parameters(
        source, outlying, reg_m=reg_m, ax=axis, link_width=15
    )
    plan = display.transport.plan
    outlier = plan[:, -1].sum()
    axis.set_title(f"{name}: {outlier:.3f} of the mass to the outlier")
    print(
        f"{name}: {plan.sum():.3f} of the mass is moved, {outlier:.3f} to the outlier.",
    )
plt.show()

# sphinx_gallery_thumbnail_number = 3
