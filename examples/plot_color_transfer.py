"""
Color transfer: a photograph flows to the colors of another
===========================================================

The pixels of a photograph are a cloud of points in color space. We fit a Gaussian mixture to
them, compare it with the mixture of another photograph by the Mixture-Wasserstein distance MW2,
and move every pixel down the gradient of that distance, which passes through the EM algorithm.
After each move a single EM step brings the mixture up to date: this is the warm-start flow,
Algorithm 3 of Boïté et al. (2025). Their weights stay uniform, so that no component starves, and
covariances are regularized by 1e-4 times the largest eigenvalue of the target's.

Give two paths of images to use your own::

    python examples/plot_color_transfer.py my_photo.jpg my_colors.jpg
"""

# %%
# Two photographs
# ---------------
# Pixels are scaled to [0, 1]; every pixel of both takes part.

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from rich.progress import track
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_transport, mixture_wasserstein

if len(sys.argv) == 3:
    source_image, target_image = (plt.imread(path)[..., :3] for path in sys.argv[1:])
else:
    source_image, target_image = load_sample_image("china.jpg"), load_sample_image("flower.jpg")


def to_pixels(image):
    """Colors as rows, in [0, 1] whether the image came as bytes or as floats."""
    scale = 255.0 if np.issubdtype(image.dtype, np.integer) else 1.0
    return image.reshape(-1, 3) / scale


pixels, target_pixels = to_pixels(source_image), to_pixels(target_image)

# %%
# The target's mixture, and that of the source
# --------------------------------------------

n_components = 10
options = {"fixed_weights": True, "random_state": 0, "max_iter": 200, "residual_tol": 1e-4}

with warnings.catch_warnings():
    # the mixtures need not have settled for the flow
    warnings.simplefilter("ignore", ConvergenceWarning)
    target = DifferentiableGaussianMixture(n_components, **options).fit(target_pixels)
    reg_covar = 1e-4 * np.linalg.eigvalsh(target.covariances_).max()
    target.set_params(reg_covar=reg_covar).fit(target_pixels)
    mixture = DifferentiableGaussianMixture(n_components, reg_covar=reg_covar, **options)
    mixture.fit(pixels)

# %%
# The flow
# --------
# One EM step, one exact plan between ten and ten components, one gradient, one step of Adam
# (Kingma and Ba 2015) for each of the pixels. Components that are nearly flat have steep
# gradients, to which Adam adapts and plain gradient descent with a fixed step does not.

n_steps, learning_rate, beta1, beta2 = 200, 0.02, 0.9, 0.999
mixture.set_params(warm_start=True, max_iter=1)
momentum, second_moment = np.zeros_like(pixels), np.zeros_like(pixels)
moved, energies = pixels.copy(), []

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # one EM step never converges
    for step in track(range(1, n_steps + 1), description="Flowing pixels"):
        mixture.fit(moved)
        transport = mixture_transport(mixture, target)
        energies.append(transport.value)
        gradient = mixture.gradient_wrt_data(moved, transport.gradient("source"), mode="one_step")
        momentum += (1 - beta1) * (gradient - momentum)
        second_moment += (1 - beta2) * (gradient**2 - second_moment)
        rate = learning_rate * np.sqrt(1 - beta2**step) / (1 - beta1**step)
        moved -= rate * momentum / (np.sqrt(second_moment) + 1e-16)
    energies.append(mixture_wasserstein(mixture.fit(moved), target, squared=True))

print(f"MW2² fell from {energies[0]:.4f} to {energies[-1]:.2e}, ", end="")
print(f"that is by {100 * (1 - energies[-1] / energies[0]):.2f} %.")

# %%
# The result
# ----------

result = np.clip(moved, 0, 1).reshape(source_image.shape)
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
