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
from matplotlib.patches import Ellipse

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture

rng = np.random.default_rng(0)


def draw(weights, means, deviations, angles, n_samples=3000):
    """Samples of three Gaussians, given by their axes."""
    parts = []
    for weight, mean, deviation, angle in zip(weights, means, deviations, angles, strict=True):
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

pooled = DifferentiableGaussianMixture(3, random_state=0).fit(np.concatenate([source, target]))

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

COLORS = ["C0", "C1", "C2"]


def ellipses(axis, mixture, linestyle):
    """Two standard deviations of every component."""
    for k in range(3):
        values, vectors = np.linalg.eigh(mixture.covariances_[k])
        width, height = 4 * np.sqrt(values)
        angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
        axis.add_patch(
            Ellipse(
                mixture.means_[k], width, height, angle=angle, fill=False, edgecolor=COLORS[k],
                linewidth=2, linestyle=linestyle,
            )
        )  # fmt: skip
        axis.annotate(
            f"{mixture.weights_[k]:.2f}", mixture.means_[k], ha="center", va="center", weight="bold"
        )


def show(a, b, title):
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="tight")
    for axis, X, mixture, name in zip(
        axes, (source, target), (a, b), ("source", "target"), strict=True
    ):
        axis.scatter(*X.T, s=2, color="0.75")
        ellipses(axis, mixture, "-")
        axis.set(title=f"{name}, {title}", aspect="equal")
    return axes


show(pooled, pooled, "pooled")
show(fitter.source_mixture_, fitter.target_mixture_, "coupled")

# %%
# Where the mass goes
# -------------------
# The plan of the transport is a table of masses: rows are components of the source, columns those
# of the target. Its margins are the weights of the two mixtures. A component that is divided is
# moved, by `transform`, to the mean of where its parts go.

plan = fitter.transport_.plan
print("          " + "".join(f"to {l}    " for l in range(3)) + "weight")  # noqa: E741
for k, row in enumerate(plan):
    print(f"from {k}  " + "".join(f"{mass:8.3f}" for mass in row) + f"{row.sum():8.3f}")
print("weight  " + "".join(f"{mass:8.3f}" for mass in plan.sum(axis=0)))

figure, axis = plt.subplots(figsize=(5.5, 4.5), layout="tight")
moved = fitter.transform(source)
axis.scatter(*target.T, s=2, color="0.75", label="target")
axis.scatter(*moved.T, s=2, color="C3", label="source, moved")
picked = rng.choice(len(source), 40, replace=False)
axis.quiver(
    *source[picked].T, *(moved - source)[picked].T, angles="xy", scale_units="xy", scale=1,
    width=0.003,
)  # fmt: skip
axis.set(title="The source moved by transform", aspect="equal")
axis.legend(markerscale=4)

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
        print(
            f"{side} {k}: weight {mixture.weights_[k]:.3f} × {factors[k]:.3f}, paid {paid[k]:.4f}"
        )

# %%
# A factor below one is mass that is not moved, since moving it would cost more than losing it; a
# factor above one is mass that is made. The price of a factor is zero at one and rises to one when
# all mass is lost, which is why nothing far away is moved at any price.

factors = np.linspace(1e-6, 2.5, 200)
figure, axis = plt.subplots(figsize=(6, 3.5), layout="tight")
axis.plot(factors, factors * np.log(factors) - factors + 1, color="0.4")
for found, marker, name in zip(unbalanced.reweighting_, "os", ("leaving", "arriving"), strict=True):
    for k in range(3):
        price = found[k] * np.log(found[k]) - found[k] + 1
        axis.plot(found[k], price, marker, color=COLORS[k], label=name if k == 0 else None)
axis.set(xlabel="factor F of a component's mass", ylabel="F log F − F + 1")
axis.legend()
show(unbalanced.source_mixture_, unbalanced.target_mixture_, "coupled, unbalanced")
plt.show()
