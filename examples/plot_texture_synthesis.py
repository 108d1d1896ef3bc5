"""
Textures from noise, by the mixtures of their patches
=====================================================

A texture is an image that looks the same all over. Two images of the same texture have different
pixels, but their small patches, taken from everywhere, are alike: the same cloud of points. We fit
a Gaussian mixture to the patches of a reference, start with noise, and let the noise descend the
MW2 distance from the mixture of its own patches, at three scales at once. This is section 5.4 of
Boïté et al. (2025).

Here images are small and descend for 100 steps, so that the page is built in a minute. For 128 ×
128 pixels and 300 steps::

    python examples/plot_texture_synthesis.py --full
"""

# %%
# References
# ----------
# Photographs that come with scikit-image: three gray ones at half of their size, and a part of a
# stained tissue in color.

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import ot
from skimage import data
from skimage.color import rgb2gray
from skimage.transform import downscale_local_mean
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d

from skgmmot import DifferentiableGaussianMixture
from skgmmot.images import synthesize_texture

size, n_steps = (128, 300) if "--full" in sys.argv else (96, 100)


def halved(image):
    """The upper left corner of an image at half of its size, in [0, 1]."""
    return downscale_local_mean(image, (2, 2))[:size, :size] / 255


references = {
    "brick": halved(data.brick()),
    "gravel": halved(data.gravel()),
    "grass": halved(data.grass()),
    "tissue": data.immunohistochemistry()[30 : 30 + size, :size] / 255,
}

# %%
# How many components?
# --------------------
# The mean log-likelihood of 4 × 4 patches tells what a mixture gains over a single Gaussian. The
# first few components bring most of it: four are what we take below.


def patches(image, patch_size):
    rows = extract_patches_2d(image, (patch_size, patch_size))
    return rows.reshape(len(rows), -1)


def mixture_of(rows, n_components):
    """With the settings that `synthesize_texture` has by default."""
    largest_variance = np.linalg.eigvalsh(np.cov(rows.T)).max()
    return DifferentiableGaussianMixture(
        n_components,
        reg_covar=1e-4 * largest_variance,
        fixed_weights=True,
        residual_tol=np.inf,
        acceleration=None,
        random_state=0,
    ).fit(rows)


figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
numbers = np.arange(1, 11)
for name in ("brick", "gravel", "grass"):
    rows = patches(references[name], 4)
    scores = np.array([mixture_of(rows, k).score(rows) for k in numbers])
    axis.plot(numbers, scores - scores[0], "o-", label=name)
axis.set(
    xlabel="components",
    ylabel="log-likelihood per patch,\nabove a single Gaussian",
    xticks=numbers,
)
axis.grid(alpha=0.3)
axis.legend()
plt.show()

# %%
# How good is a texture?
# ----------------------
# We look at patches that were not fitted: all of 6 × 6 pixels. The measure is their squared
# sliced Wasserstein distance, over 50 directions.


def distance(image, reference):
    return (
        ot.sliced_wasserstein_distance(
            patches(image, 6),
            patches(reference, 6),
            n_projections=50,
            seed=0,
        )
        ** 2
    )


# %%
# One Gaussian or four, one scale or three
# ----------------------------------------
# All start with the same noise: a Gaussian field with the mean and the covariances of the
# reference. For a single Gaussian that is nearly all there is to know, and it remains noise. With
# four components, but at one scale, edges are right and what is larger than a patch is lost. With
# both the bricks are bricks. The tissue, smooth at this size, is the one for which a Gaussian field
# does nearly as well.

variants = {
    "K = 1, three scales": {"n_components": 1},
    "K = 4, one scale": {"scales": [1]},
    "K = 4, three scales": {},
}


def synthesized(reference, **options):
    """The texture, the noise at its start, and the seconds that it took."""
    seen = []

    def keep_the_first(step, image, loss):
        if step == 0:
            seen.append(np.clip(image, 0, 1))

    begin = time.perf_counter()
    flow = synthesize_texture(
        reference,
        n_steps=n_steps,
        random_state=0,
        callback=keep_the_first,
        **options,
    )
    return flow.image, seen[0], time.perf_counter() - begin


def show(axis, image, title):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")


textures = {}
figure, axes = plt.subplots(
    len(references), 2 + len(variants), figsize=(10, 8.6), layout="constrained"
)
for row, (name, reference) in zip(axes, references.items(), strict=True):
    show(row[0], reference, f"{name}: reference")
    for axis, (label, options) in zip(row[2:], variants.items(), strict=True):
        image, noise, seconds = synthesized(reference, **options)
        found = distance(image, reference)
        print(f"{name}, {label}: {found:.1e}, {seconds:.1f} s")
        show(axis, image, f"{label}: {found:.1e}")
        textures[name, label] = image
    show(row[1], noise, f"start: {distance(noise, reference):.1e}")
figure.savefig("textures.png", dpi=170)
plt.show()

# %%
# Of 128 × 128 pixels and after 300 steps (``tests/benchmarks/bench_textures.py``) the distances
# are, in this order and over 200 directions, 1.5e-3, 1.4e-3, 2.6e-3 and 1.5e-4 for brick, 5.8e-5,
# 3.8e-5, 8.4e-5 and 1.2e-5 for gravel, 2.9e-5, 2.6e-5, 8.0e-5 and 1.2e-5 for grass, and 8.3e-5,
# 5.9e-5, 1.3e-4 and 5.5e-5 for tissue.
#
# Larger patches
# --------------
# Of 8 × 8 pixels, with 64 features, at one scale: much better than 4 × 4 at one scale, and not as
# good as 4 × 4 at three, which look at structures of 16 × 16 pixels.

image, _, seconds = synthesized(references["brick"], patch_size=8, scales=[1])
print(f"brick, 8 × 8, one scale: {seconds:.1f} s")
pictures = {
    "4 × 4, one scale": textures["brick", "K = 4, one scale"],
    "8 × 8, one scale": image,
    "4 × 4, three scales": textures["brick", "K = 4, three scales"],
}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
show(axes[0], references["brick"], "reference")
for axis, (title, image) in zip(axes[1:], pictures.items(), strict=True):
    show(axis, image, f"{title}: {distance(image, references['brick']):.1e}")
plt.show()

# %%
# What is no texture
# ------------------
# The model knows which patches there are, and not where. Of a view with dark trees in front of a
# bright lake it makes another image with patches of both, anywhere. Nothing warns.

trees = downscale_local_mean(rgb2gray(load_sample_image("china.jpg")), (2, 2))
trees = trees[110 : 110 + 96, 220 : 220 + 96]
image, _, _ = synthesized(trees)
figure, axes = plt.subplots(1, 2, figsize=(5, 2.8), layout="constrained")
show(axes[0], trees, "trees and a lake")
show(axes[1], image, f"no texture: {distance(image, trees):.1e}")
plt.show()
