"""
How many samples a mixture needs
================================

Draw n samples of a mixture, fit a mixture to them by EM, and measure MW2² between the two: how fast
does it fall with n, when the components are well separated and when they overlap? This is Figure 1
of Boïté et al. (2025), with 40 repetitions of everything.
"""

# %%
# Three separations
# -----------------
# Three components in the plane, at the corners of a triangle. The separation is the distance
# between means in standard deviations.

import matplotlib.pyplot as plt
import numpy as np

from skgmmot import DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.plotting import component_colors

directions = np.array(
    [[0.0, 1.0], [-np.sqrt(0.75), -0.5], [np.sqrt(0.75), -0.5]],
) / np.sqrt(3)
weights = np.array([0.3, 0.3, 0.4])
separations = {"low": 2.5, "medium": 3.5, "high": 6.0}
sizes = np.geomspace(1_000, 20_000, 5).astype(int)
seeds = range(40)

# %%
# The errors
# ----------
# EM starts at the true parameters, so that the error is that of the samples and not of a local
# maximum. We fit the weights as well, or hold them at the true ones.


def error(mixture, n_samples, seed, fixed_weights):
    """MW2² between a mixture and one fitted to samples of it."""
    mixture.random_state = seed
    X, _ = mixture.sample(n_samples)
    fitted = DifferentiableGaussianMixture(
        3,
        weights_init=mixture.weights_,
        means_init=mixture.means_,
        precisions_init=mixture.precisions_,
        fixed_weights=fixed_weights,
        residual_tol=1e-4,
    )
    return mixture_wasserstein(fitted.fit(X), mixture, squared=True)


colors = dict(zip(separations, component_colors(3), strict=True))
errors = {}
for name, separation in separations.items():
    truth = DifferentiableGaussianMixture.from_parameters(
        weights, separation * directions, np.tile(np.eye(2), (3, 1, 1))
    )
    for fixed in (False, True):
        errors[name, fixed] = np.array(
            [[error(truth, n, seed, fixed) for seed in seeds] for n in sizes]
        )

# %%
# The rates
# ---------
# Means and covariances have errors of the order of 1/√n, and MW2² is quadratic in them: with the
# true weights it falls as 1/n. An error of the weights moves mass from one component to another, at
# a cost that is linear in it, so that with fitted weights MW2² falls as 1/√n only. That part of the
# error is large where components overlap, because their weights are hard to tell, and again where
# they are far apart, because a move is long.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), sharey=True, layout="constrained")
for (name, fixed), values in errors.items():
    slope = np.polyfit(np.log(sizes), np.log(values.mean(axis=1)), 1)[0]
    kind = "true" if fixed else "fitted"
    print(f"{name} separation, {kind} weights: the mean of MW2² falls as n^{slope:.2f}")
    axis = axes[int(fixed)]
    axis.loglog(
        sizes,
        values.mean(axis=1),
        marker="o",
        color=colors[name],
        label=f"{name}: n^{slope:.2f}",
    )
    low, high = np.quantile(values, [0.1, 0.9], axis=1)
    axis.fill_between(sizes, low, high, color=colors[name], alpha=0.2)
    axis.set(xlabel="number of samples", title=f"{kind.capitalize()} weights")
for axis in axes:
    axis.grid(alpha=0.3)
    axis.legend(title="separation")
axes[0].set_ylabel("MW2² to the true mixture")
figure.suptitle("Means of 40 fits, and the range of 80 % of them")
plt.show()
