"""
Color transfer: a photograph flows to the colors of another
===========================================================

The pixels of a photograph are a cloud of points in color space. We fit a Gaussian mixture to
them, compare it with the mixture of another photograph by the Mixture-Wasserstein distance MW2,
and move every pixel down the gradient of that distance, which passes through the EM algorithm.
After each move a single EM step brings the mixture up to date: this is the warm-start flow,
Algorithm 3 of Boïté et al. (2025). Beside it stands the map between the two mixtures, which
moves all pixels at once.

Give two paths of images to use your own::

    python examples/plot_color_transfer.py my_photo.jpg my_colors.jpg
"""

# %%
# Two photographs
# ---------------
# Colors are scaled to [0, 1]; every pixel of both takes part. Images may also be gray, of 16
# bits, have a palette, or be transparent, in which case they are laid on white.

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps
from rich.progress import Progress
from scipy.ndimage import uniform_filter
from skimage import data
from skimage.color import lab2rgb, rgb2lab
from sklearn.base import clone
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    DifferentiableGaussianMixture,
    mixture_flow,
    mixture_transport,
    mixture_wasserstein,
)


def read_image(path):
    """An image of any kind as an array of red, green and blue in [0, 1]."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):  # gray, of more than 8 bits or of floats
        gray = np.asarray(image, dtype=float)
        if image.mode != "F":
            gray = gray / max(65535, gray.max())
        return np.repeat(np.clip(gray, 0, 1)[..., None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB")) / 255


# %%
# Noise is no color
# -----------------
# A sky is nearly one color, so that transport has to stretch it to reach many, and stretches the
# noise and the JPEG blocks in it as well. Three things keep them small, and all are in units of
# what an eye can tell apart: colors are those of CIELAB, where 2.3 is a just noticeable
# difference. First, covariances have a floor, 8² here, below which nothing is stretched any more.
# Second, the pixels that move are smoothed before, and the noise is put back afterwards, as it was.
# Third, it is the shifts of the pixels that are smoothed, and not the picture, as in Rabin, Delon
# and Gousseau (2011). Both times the guided filter of He, Sun and Tang (2013) follows the edges of
# the photograph: in every window, values become an affine function of its lightness.


def smoothed(values, guide, radius, noise=3.0):
    """Values smoothed wherever the guide varies by less than the noise."""

    def mean(x):
        return uniform_filter(x, size=2 * radius + 1, axes=(0, 1))

    guide = guide[..., None]
    covariance = mean(guide * values) - mean(guide) * mean(values)
    variance = mean(guide**2) - mean(guide) ** 2
    slope = covariance / (variance + noise**2)
    return mean(slope) * guide + mean(mean(values) - slope * mean(guide))


def to_rgb(lab):
    """Colors in red, green and blue, clipped to those that a screen shows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Conversion from CIE-LAB", UserWarning)
        return lab2rgb(lab)


# %%
# The map and the flow
# --------------------
# Both start from the same pixels and have the same mixtures, of five components. The map takes
# each component to the mean of where its mass goes, and a component of the source that is divided
# ends in between. The flow goes step by step: one EM step, one exact plan, one gradient, a step
# of gradient descent for each pixel. Its components follow the pixels and divide them anew.

mixture = DifferentiableGaussianMixture(
    5,
    reg_covar=8.0**2,
    max_iter=200,
    residual_tol=1e-4,
    acceleration=None,  # plain EM is fast here, and has less to compile
    random_state=0,
)
n_steps = 100


def fit(image):
    """The mixture of the pixels of an image in CIELAB."""
    with warnings.catch_warnings():
        # the mixture need not have settled
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(mixture).fit(image.reshape(-1, 3))


def recolored(source, target, callback=None):
    """A source in a target's colors by map and by flow, and the losses of the flow."""
    lab, goal = rgb2lab(source), fit(rgb2lab(target))
    guide, radius = lab[..., 0], max(1, lab.shape[1] // 64)
    clean = smoothed(lab, guide, radius)
    pixels = clean.reshape(-1, 3)
    flow = mixture_flow(
        pixels,
        goal,
        estimator=mixture,
        optimizer="gd",
        n_steps=n_steps,
        callback=callback,
    )
    mapped = mixture_transport(fit(clean), goal).map(pixels)

    def recolor(moved):
        shift = (moved - pixels).reshape(lab.shape)
        return to_rgb(lab + smoothed(shift, guide, radius))

    return recolor(mapped), recolor(flow.X), flow.losses


# %%
# Two numbers
# -----------
# The energy is MW2² to the target, of the mixture fitted to the finished picture in the same way
# for all. Grain is what happened to the smooth quarter of the photograph, here its sky: the mean
# length of the gradient there, after by before. One is the photograph's own.


def gradient_lengths(image):
    return np.linalg.norm(np.gradient(rgb2lab(image), axis=(0, 1)), axis=(0, -1))


def grain(image, source):
    """Ratio of gradients where the source is smooth."""
    before = gradient_lengths(source)
    around = uniform_filter(before, 17)
    textured = around > 0
    smooth = textured & (around <= np.quantile(around[textured], 0.25))
    return gradient_lengths(image)[smooth].mean() / before[smooth].mean()


def judged(images, source, target):
    """For each image the share of the source's energy that remains, and its grain."""
    goal = fit(rgb2lab(target))
    start, *ends = (
        mixture_wasserstein(fit(rgb2lab(picture)), goal, squared=True)
        for picture in (source, *images)
    )
    grains = (grain(image, source) for image in images)
    return [(end / start, grained) for end, grained in zip(ends, grains, strict=True)]


# %%
# The result
# ----------

if len(sys.argv) == 3:
    source, target = map(read_image, sys.argv[1:])
else:
    source = load_sample_image("china.jpg") / 255
    target = load_sample_image("flower.jpg") / 255

with Progress() as progress:
    task = progress.add_task("Flowing pixels", total=n_steps)
    mapped, result, energies = recolored(
        source,
        target,
        lambda step, X, mixture, loss: progress.update(task, completed=step + 1),
    )
Image.fromarray(np.uint8(np.rint(255 * result))).save("color_transfer_result.png")

titles = [
    f"{name}: {remains:.1%} of MW2², grain × {grained:.2f}"
    for name, (remains, grained) in zip(
        ("Map", "Flow"), judged([mapped, result], source, target), strict=True
    )
]
print("What remains of the energy, and grain:", *titles, sep="\n  ")

figure = plt.figure(figsize=(10, 5.2), layout="constrained")
axes = figure.subplot_mosaic(
    [
        ["source", "result", "result"],
        ["target", "result", "result"],
        ["map", "result", "result"],
    ]
)
for name, image, title in (
    ("source", source, "Source"),
    ("target", target, "Target"),
    ("map", mapped, titles[0]),
    ("result", result, titles[1]),
):
    axes[name].imshow(image)
    axes[name].set_title(title, fontsize=10)
    axes[name].axis("off")
figure.savefig("color_transfer.png", dpi=170)
plt.show()

# %%
# The map divides the sky between the flower and its dark leaves, for every pixel alike: it
# becomes something in between, and a third of the energy remains. The flow has to decide for
# each pixel, ends near the target's colors, and pays with some more contrast in the sky.
#
# On the way
# ----------
# The energy is that of the mixture that follows the pixels, before the shifts are smoothed.

figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.semilogy(energies)
axis.set(xlabel="flow step", ylabel="MW2² to the target, in CIELAB")
axis.grid(alpha=0.3)
plt.show()

# %%
# Four more pairs
# ---------------
# At half their size, by the same settings. All these photographs come with scikit-learn and
# scikit-image.


def half(image):
    """An image of 8 bits at half its size, in [0, 1]."""
    return np.asarray(Image.fromarray(image).reduce(2)) / 255


def sheet():
    """A row for each pair: source, map, flow, target."""
    china, flower = map(load_sample_image, ("china.jpg", "flower.jpg"))
    motorcycle, coffee, rocket = (
        data.stereo_motorcycle()[0],
        data.coffee(),
        data.rocket(),
    )
    pairs = [(china, coffee), (motorcycle, flower), (flower, coffee), (coffee, rocket)]
    figure, axes = plt.subplots(4, 4, figsize=(10, 8), layout="constrained")
    for row, pair in zip(axes, pairs, strict=True):
        source, target = map(half, pair)
        mapped, result, _ = recolored(source, target)
        pictures = [mapped, result]
        (by_map, of_map), (by_flow, of_flow) = judged(pictures, source, target)
        row_of = {
            "Source": source,
            f"Map: {by_map:.0%} of MW2²,\ngrain × {of_map:.2f}": mapped,
            f"Flow: {by_flow:.0%} of MW2²,\ngrain × {of_flow:.2f}": result,
            "Target": target,
        }
        for axis, (title, image) in zip(row, row_of.items(), strict=True):
            axis.imshow(image)
            axis.set_title(title, fontsize=10)
            axis.axis("off")
    figure.savefig("color_transfer_pairs.png", dpi=170)


if len(sys.argv) != 3:
    sheet()
    plt.show()
