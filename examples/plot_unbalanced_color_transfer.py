"""
Unbalanced color transfer: leave out what does not belong
=========================================================

The colors of a photograph flow to those of another one, which somebody has painted a red patch on.
Balanced transport has to move mass to every color of the target, red included. Unbalanced transport
(``reg_m``) may leave out mass of the target at a price, and leaves out the patch, as in section 5.2
of Boïté et al. (2025).
"""

# %%
# A photograph by day, and by evening with a red patch
# ----------------------------------------------------
# The photograph is reduced to a sixteenth of its pixels, in [0, 1]. A tone curve makes the target.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_flow, mixture_transport

RED = np.array([1.0, 0.0, 0.0])
source_image = load_sample_image("china.jpg")[::4, ::4] / 255.0
corrupted_image = source_image ** [0.7, 1.2, 2.0]
corrupted_image[10:50, 10:50] = RED
pixels, corrupted_pixels = source_image.reshape(-1, 3), corrupted_image.reshape(-1, 3)


def share_of_red(image):
    """Share of the pixels that are nearer than 0.25 to the red of the patch."""
    return np.mean(np.linalg.norm(image.reshape(-1, 3) - RED, axis=1) < 0.25)


# %%
# The target's mixture
# --------------------
# All components have the same fixed weight. One of them is the patch.

n_components = 10
options = {"fixed_weights": True, "random_state": 0, "max_iter": 200, "residual_tol": 1e-4}
with warnings.catch_warnings():
    # the mixture need not have settled for the flow
    warnings.simplefilter("ignore", ConvergenceWarning)
    target = DifferentiableGaussianMixture(n_components, reg_covar=1e-4, **options)
    target.fit(corrupted_pixels)
patch = np.argmin(np.linalg.norm(target.means_ - RED, axis=1))
print(f"The mean of component {patch} is {target.means_[patch].round(3)}.")

# %%
# Balanced and unbalanced flows
# -----------------------------
# The first number of ``reg_m`` is the price of leaving out mass of the source: high, as all pixels
# are to be recolored. The second is that of the target, in squared distances of colors. Moving mass
# to the patch costs at least 0.5 and to other colors far less, so at 0.1 the patch is left out. (If
# every color of the target were as far away as red, nothing could tell the patch from them.)

prices = {"balanced": None, "unbalanced": (10, 0.1)}
results, red = {}, {"source": share_of_red(source_image)}
for name, reg_m in prices.items():
    flow = mixture_flow(
        pixels,
        target,
        estimator=DifferentiableGaussianMixture(n_components, reg_covar=1e-4, **options),
        reg_m=reg_m,
        learning_rate=0.02,
        n_steps=200,
    )
    results[name] = np.clip(flow.X, 0, 1).reshape(source_image.shape)
    red[name] = share_of_red(results[name])
    mass = mixture_transport(flow.mixture, target, reg_m=reg_m).plan.sum(axis=0)[patch]
    print(f"{name}: {100 * red[name]:.2f} % of the pixels have become red;", end=" ")
    print(f"mass {mass:.4f} of the patch's {1 / n_components} is used.")

if not red["unbalanced"] < 0.01 < 0.05 < red["balanced"]:
    raise RuntimeError(f"The shares of red pixels are not as described: {red}")

# %%
# The result
# ----------

figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
images = {
    "Source": source_image,
    "Target with a patch": corrupted_image,
    f"Balanced: {100 * red['balanced']:.1f} % red": results["balanced"],
    f"Unbalanced: {100 * red['unbalanced']:.1f} % red": results["unbalanced"],
}
for axis, (title, image) in zip(axes.flat, images.items(), strict=True):
    axis.imshow(image)
    axis.set_title(title)
    axis.axis("off")
plt.show()
