"""
Two clouds, one coupled fit
===========================

Two samples from mixtures whose components have moved and changed their weights are fitted
together: each mixture by likelihood, both held close to each other by optimal transport. The
coupling then says which component became which, and how much of its mass. The steps are those of
OTT-JAX's tutorial on coupled Gaussian mixtures.
"""

# %%
# Two clouds
# ----------
# The target has the same three clusters, moved, deformed and with other weights.

import time

import matplotlib.pyplot as plt
import numpy as np

from skgmmot import (
    CoupledGMMFitter,
    DifferentiableGaussianMixture,
    mixture_transport,
)
from skgmmot.plotting import MixtureDisplay, TransportDisplay, component_colors

rng = np.random.default_rng(0)


def draw(weights, means, deviations, angles, n_samples=3000):
    """Samples of three Gaussians, given by their axes."""
    parts = []
    for weight, mean, deviation, angle in zip(
        weights,
        means,
        deviations,
        angles,
        strict=True,
    ):
        c, s = np.cos(angle), np.sin(angle)
        normal = rng.normal(size=(round(weight * n_samples), 2)) * deviation
        parts.append(normal @ np.array([[c, s], [-s, c]]) + mean)
    return np.concatenate(parts)


source = draw(
    [0.3, 0.5, 0.2],
    [[-3, -1], [1, 2], [3, -2]],
    [[1.2, 0.5], [1.0, 0.7], [0.6, 0.9]],
    [0.4, 1.2, 0],
)
target = draw(
    [0.3, 0.25, 0.45],
    [[-2.5, 0], [2.5, 3], [2.5, -1.5]],
    [[1.0, 0.8], [0.9, 0.6], [0.7, 1.0]],
    [0.8, 0.9, 0.5],
)

# %%
# One mixture for both
# --------------------
# A single mixture, fitted to all points, is a first answer: its components are the same in both
# clouds by construction, and fit neither of them well.

pooled = DifferentiableGaussianMixture(3, random_state=0).fit(
    np.concatenate([source, target]),
)

# %%
# The coupled fit
# ---------------
# It maximizes the two mean log-likelihoods less ``transport_weight`` · MW2². The start is chosen
# among the independent fits and the pooled one; here is what each of them is worth.

transport_weight = 0.02
fitter = CoupledGMMFitter(3, transport_weight=transport_weight, random_state=0)
fitter.fit_pair(source, target)  # the first call compiles
start = time.perf_counter()
fitter.fit_pair(source, target)
print(f"coupled fit: {fitter.objective_:.5f} in {fitter.n_iter_} sweeps,", end=" ")
print(f"{1e3 * (time.perf_counter() - start):.0f} ms")
print(f"pooled fit, used twice: {pooled.score(source) + pooled.score(target):.5f}")


def show(a, b, title):
    """The mixtures over the clouds, in a color for each component."""
    figure, axes = plt.subplots(
        1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained"
    )
    for axis, X, mixture, name in zip(
        axes, (source, target), (a, b), ("source", "target"), strict=True
    ):
        MixtureDisplay.from_estimator(mixture, X, ax=axis, annotate="weight")
        axis.set(title=f"{name}, {title}", aspect="equal")
    plt.show()


# %%
# The pooled mixture, and the coupled ones. Components are numbered as the coupled fit has them, so
# that what belongs together has the same color in all pictures.

order = mixture_transport(fitter.source_mixture_, pooled).plan.argmax(axis=1)
pooled = DifferentiableGaussianMixture.from_parameters(
    *(part[order] for part in pooled.parameters_)
)
show(pooled, pooled, "pooled")
show(fitter.source_mixture_, fitter.target_mixture_, "coupled")

# %%
# Where the mass goes
# -------------------
# The plan of the transport is a table of masses: rows are components of the source, columns those
# of the target. Its margins are the weights of the two mixtures. A component that is divided is
# moved, by ``transform``, to the mean of where its parts go. Below, samples have the color of their
# component (``predict``): on the left where they are, on the right where they go.

plan = fitter.transport_.plan
print("          " + "".join(f"to {l}    " for l in range(3)) + "weight")  # noqa: E741
for k, row in enumerate(plan):
    print(f"from {k}  " + "".join(f"{mass:8.3f}" for mass in row) + f"{row.sum():8.3f}")
print("weight  " + "".join(f"{mass:8.3f}" for mass in plan.sum(axis=0)))

figure, axis = plt.subplots(figsize=(6, 4.5), layout="constrained")
TransportDisplay.from_estimator(fitter, ax=axis)
axis.set(title="Masses from component to component", aspect="equal")
plt.show()

colors = component_colors(3)
moved = fitter.transform(source)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
for axis, points, title in zip(
    axes, (source, moved), ("The source", "The source moved by transform"), strict=True
):
    axis.scatter(*target.T, s=2, color="0.8", label="target")
    labels = fitter.predict(source, sample_domain=1)  # 1: rows of the source
    for k in range(3):
        label = f"component {k}"
        axis.scatter(*points[labels == k].T, s=2, color=colors[k], label=label)
    axis.set(title=title, aspect="equal", xlabel="feature 0", xlim=(-8, 6))
picked = rng.choice(len(source), 40, replace=False)
axes[1].quiver(
    *source[picked].T,
    *(moved - source)[picked].T,
    angles="xy",
    scale_units="xy",
    scale=1,
    width=0.003,
    color="0.2",
)
axes[0].set(ylabel="feature 1")
axes[0].legend(markerscale=4)
plt.show()

# %%
# Mass that is made and lost
# --------------------------
# Balanced transport has to bring mass from where there is too much to where there is too little,
# however far that is. Unbalanced transport may change the masses instead: with ``reg_m`` the
# margins of the plan are free, and a divergence, KL(P1 | w) + KL(Pᵀ1 | w'), is paid for. A
# component whose mass changes by the factor F costs F log F − F + 1 for each unit of its weight.

unbalanced = CoupledGMMFitter(
    3, transport_weight=0.1, reg=0.01, reg_m=1.0, random_state=0
).fit_pair(source, target)
print("plan:\n", unbalanced.transport_.plan.round(3))
for side, mixture, factors in zip(
    ("leaving ", "arriving"),
    (unbalanced.source_mixture_, unbalanced.target_mixture_),
    unbalanced.reweighting_,
    strict=True,
):
    paid = mixture.weights_ * (factors * np.log(factors) - factors + 1)
    for k in range(3):
        print(f"{side} {k}: weight {mixture.weights_[k]:.3f}", end=" ")
        print(f"× {factors[k]:.3f}, paid {paid[k]:.4f}")

# %%
# A factor below one is mass that is not moved, since moving it would cost more than losing it; a
# factor above one is mass that is made. The price of a factor is zero at one and rises to one when
# all mass is lost, which is why nothing far away is moved at any price.

factors = np.linspace(1e-6, 2.5, 200)
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.plot(factors, factors * np.log(factors) - factors + 1, color="0.4")
for found, marker, name in zip(
    unbalanced.reweighting_,
    "os",
    ("leaving", "arriving"),
    strict=True,
):
    for k, color in enumerate(component_colors(3)):
        price = found[k] * np.log(found[k]) - found[k] + 1
        label = f"component {k}, {name}"
        # hollow, to see both where they meet
        style = {"markersize": 9, "fillstyle": "none" if marker == "s" else "full"}
        axis.plot(found[k], price, marker, color=color, label=label, **style)
axis.set(xlabel="factor F of a component's mass", ylabel="F log F − F + 1")
axis.legend()
plt.show()

# %%
# A sample changes its mass by one factor when it leaves its component, and by the inverse of the
# other when it arrives: ``mass_factors`` is the mean over where it may go. With these weights the
# moved source meets the target, whose components have other weights.

factors = unbalanced.mass_factors(source)
print(f"mass factors of the samples: {factors.min():.2f} to {factors.max():.2f}")
moved = unbalanced.transform(source)
arrived = unbalanced.target_mixture_.predict_proba(moved)
for name, weights in (("all alike", None), ("weighted", factors)):
    shares = np.average(arrived, axis=0, weights=weights)
    print(f"moved source, {name}: {shares.round(3)}")
print("weights of the target:  ", unbalanced.target_mixture_.weights_.round(3))

# %%
# The two mixtures, of which the plan no longer carries all mass:

show(unbalanced.source_mixture_, unbalanced.target_mixture_, "coupled, unbalanced")

# sphinx_gallery_thumbnail_number = 4
