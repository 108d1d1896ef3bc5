"""
Images as sets of points
========================

A digit on paper is a set of points, and a mixture fitted to them describes its strokes. Here each
image of a data set becomes the set of its inked pixels, weighted by how dark they are. All
mixtures are fitted in one call, and compared by MW2: nearest neighbors in that distance recognize
the digits.
"""

# %%
# Sets of weighted pixels
# -----------------------
# The images are those that scikit-learn brings, of 8 × 8 pixels. Sets have 20 to 50 points.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import MDS
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureEmbedding,
    fit_mixtures,
    pairwise_mixture_wasserstein,
)
from skgmmot.plotting import component_colors

images, labels = load_digits(return_X_y=True)
images, labels = images[:500].reshape(-1, 8, 8), labels[:500]
rows, columns = np.indices((8, 8))
places = np.stack([columns, 7 - rows], axis=-1).astype(float)
sets = [places[image > 0] for image in images]
weights = [image[image > 0] for image in images]
print(f"{len(sets)} sets of {min(map(len, sets))} to {max(map(len, sets))} points")

# %%
# A mixture for each
# ------------------
# One start for all: a mixture of the ink of all images. A pixel is as wide as one unit, so a
# variance of 1/12 is added to all, that of a point anywhere in it.

K = 6
options = {"covariance_type": "full", "reg_covar": 1 / 12, "residual_tol": 1e-3}
common = DifferentiableGaussianMixture(K, random_state=0, **options)
common.fit(np.concatenate(sets), sample_weight=np.concatenate(weights))
fits = fit_mixtures(sets, sample_weight=weights, initial=common, **options)
steps = fits.n_iter
print(f"{steps.min()} to {steps.max()} steps, converged: {fits.converged.all()}")

# %%
# Distances between all of them
# -----------------------------

distances = pairwise_mixture_wasserstein(list(fits))

# %%
# Nearest neighbors
# -----------------
# Cross-validated, beside what only the mean and the covariance of the ink tell.

neighbors = KNeighborsClassifier(5, metric="precomputed", weights="distance")
by_mixtures = cross_val_score(neighbors, distances, labels, cv=5).mean()
single = fit_mixtures(sets, sample_weight=weights, **options)
by_moments = cross_val_score(
    neighbors, pairwise_mixture_wasserstein(list(single)), labels, cv=5
).mean()
print(f"accuracy by MW2 of mixtures of {K}: {by_mixtures:.3f}")
print(f"accuracy by MW2 of single Gaussians: {by_moments:.3f}")

# %%
# The data set, drawn by its distances
# ------------------------------------
# Multidimensional scaling lays the mixtures out so that distances are about those of MW2.

map_of_digits = MDS(2, metric="precomputed", n_init=1, init="random", random_state=0)
points = map_of_digits.fit_transform(distances)
sizes = {"figsize": (10, 4.6), "width_ratios": [1, 1.6]}
figure, axes = plt.subplots(1, 2, layout="constrained", **sizes)
chosen = 8
axes[0].imshow(images[chosen], cmap="Greys", extent=(-0.5, 7.5, -0.5, 7.5))
angle = np.linspace(0, 2 * np.pi, 60)
circle = np.stack([np.cos(angle), np.sin(angle)])
for *part, color in zip(*fits[chosen], component_colors(K), strict=True):
    weight, mean, covariance = part
    ellipse = mean[:, None] + 1.5 * np.linalg.cholesky(covariance) @ circle
    axes[0].plot(*ellipse, color=color, linewidth=1 + 6 * weight)
axes[0].set(xticks=[], yticks=[], title="a digit, and its mixture at 1.5 σ")
for digit in range(10):
    own = labels == digit
    axes[1].scatter(*points[own].T, s=18, marker=f"${digit}$", linewidths=0.3)
axes[1].set(xticks=[], yticks=[], title="500 digits, as far apart as MW2 has them")
figure.savefig("set_embedding.png", dpi=100)
plt.show()

# %%
# In a Pipeline
# -------------
# `skgmmot.MixtureEmbedding` fits and describes sets as a transformer does. It knows no weights, so
# here each pixel is repeated as often as its ink says.

pairs = zip(sets, weights, strict=True)
inked = [np.repeat(own, ink.astype(int), axis=0) for own, ink in pairs]
model = make_pipeline(
    MixtureEmbedding(K, random_state=0, **options),
    StandardScaler(),
    LogisticRegression(max_iter=1000),
)
accuracy = cross_val_score(model, inked, labels, cv=5).mean()
print(f"accuracy of a linear model of the parameters: {accuracy:.3f}")
