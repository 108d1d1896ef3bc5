"""
Color transfer: a photograph flows to the colors of another
===========================================================

The pixels of a photograph are a cloud of points in color space. We fit a Gaussian mixture to
them, compare it with the mixture of another photograph by the Mixture-Wasserstein distance MW2,
and move every pixel down the gradient of that distance, which passes through the EM algorithm.
After each move a single EM step brings the mixture up to date: this is the warm-start flow,
Algorithm 3 of Boïté et al. (2025). Weights stay uniform, so that no component starves, and
covariances are regularized by 1e-4 times the largest eigenvalue of the target's.

Give two paths of images to use your own::

    python examples/plot_color_transfer.py my_photo.jpg my_colors.jpg
"""

# %%
# Two photographs
# ---------------
# Colors are scaled to [0, 1]; every pixel of both takes part. Images may also be gray, of 16 bits,
# have a palette, or be transparent, in which case they are laid on white.

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps
from rich.progress import Progress
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_flow


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


if len(sys.argv) == 3:
    source_image, target_image = map(read_image, sys.argv[1:])
else:
    source_image, target_image = (
        load_sample_image(name) / 255 for name in ("china.jpg", "flower.jpg")
    )
pixels, target_pixels = source_image.reshape(-1, 3), target_image.reshape(-1, 3)

# %%
# The target's mixture
# --------------------

n_components = 10
options = {"fixed_weights": True, "random_state": 0, "max_iter": 200, "residual_tol": 1e-4}

with warnings.catch_warnings():
    # the mixture need not have settled for the flow
    warnings.simplefilter("ignore", ConvergenceWarning)
    target = DifferentiableGaussianMixture(n_components, **options).fit(target_pixels)
    reg_covar = 1e-4 * np.linalg.eigvalsh(target.covariances_).max()
    target.set_params(reg_covar=reg_covar).fit(target_pixels)

# %%
# The flow
# --------
# A mixture is fitted to the source. Then in each step: one EM step, one exact plan between ten and
# ten components, one gradient, one step of Adam (Kingma and Ba 2015) for each of the pixels.
# Components that are nearly flat have steep gradients, to which Adam adapts and plain gradient
# descent with a fixed step does not.

n_steps = 200
with Progress() as progress:
    task = progress.add_task("Flowing pixels", total=n_steps)
    flow = mixture_flow(
        pixels,
        target,
        estimator=DifferentiableGaussianMixture(n_components, reg_covar=reg_covar, **options),
        learning_rate=0.02,  # of the range of a color
        n_steps=n_steps,
        callback=lambda step, X, mixture, loss: progress.update(task, completed=step + 1),
    )
energies = flow.losses

print(f"MW2² fell from {energies[0]:.4f} to {energies[-1]:.2e}, ", end="")
print(f"that is by {100 * (1 - energies[-1] / energies[0]):.2f} %.")

# %%
# The result
# ----------

result = np.clip(flow.X, 0, 1).reshape(source_image.shape)
figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
for axis, image, title in zip(
    axes.flat, (source_image, result, target_image), ("Source", "Result", "Target"), strict=False
):
    axis.imshow(image)
    axis.set_title(title)
    axis.axis("off")
axes[1, 1].semilogy(energies)
axes[1, 1].set(title="Energy", xlabel="flow step", ylabel="MW2² to the target")
axes[1, 1].grid(alpha=0.3)
figure.savefig("color_transfer.png", dpi=120)
plt.show()
