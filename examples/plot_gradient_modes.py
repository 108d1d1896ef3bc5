"""
How good are the three gradients?
=================================

EM can be differentiated in three ways: through all its steps (unrolled), through its fixed point
(implicit), or through its last step alone (one step). This example measures them on three mixtures
of increasing difficulty, as in section 4.5 and Figure 5 of Boïté et al. (2025): how far EM is from
its fixed point, whether its map contracts, and how much the other two gradients differ from the
unrolled one, for more and more samples, EM steps and components.

The page is made with 10 repetitions; with ``--full`` the script takes 60, as the paper does.
"""

# %%
# Three mixtures in three dimensions
# ----------------------------------
# Components stand at corners of a cube. The closer they are, the more slowly EM contracts.

import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, MixtureParameters
from skgmmot.em.em_map import EMMap
from skgmmot.plotting import component_colors

n_repetitions = 60 if "--full" in sys.argv else 10
separations = {"easy": 4.5, "medium": 3.2, "hard": 2.5}
corners = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [0.0, 0.0, 1.0],
        [1.0, 1.0, 0.0],
        [1.0, 0.0, 1.0],
        [0.0, 1.0, 1.0],
        [1.0, 1.0, 1.0],
    ]
)
shapes = np.array([[1.0, 0.7, 0.5], [0.6, 1.0, 0.8], [0.8, 0.5, 1.0]])


def draw(separation, n_samples, n_components, rng):
    """Samples of Gaussians of unequal shapes, and means not far from theirs."""
    means = separation * corners[:n_components]
    labels = rng.integers(n_components, size=n_samples)
    X = means[labels] + shapes[labels % 3] * rng.normal(size=(n_samples, 3))
    return X, means + 0.3 * rng.normal(size=means.shape)


# %%
# The Jacobian of an EM step in the parameters
# --------------------------------------------
# A column for each of the directions (weights, means, symmetric covariances): 10 for a component.

rows, columns = np.tril_indices(3)


def flatten(parameters):
    """Weights, means and the lower halves of the covariances, as one vector."""
    weights, means, covariances = parameters
    return np.concatenate(
        [weights, means.ravel(), covariances[:, rows, columns].ravel()],
    )


def directions(n_components):
    """A basis of the tangents."""
    for e in np.eye(10 * n_components):
        weights, means, halves = np.split(e, [n_components, 4 * n_components])
        covariances = np.zeros((n_components, 3, 3))
        covariances[:, rows, columns] = halves.reshape(n_components, 6)
        covariances[:, columns, rows] = halves.reshape(n_components, 6)
        yield MixtureParameters(weights, means.reshape(n_components, 3), covariances)


def step_jacobian(X, theta, reg_covar):
    """∂F/∂θ at θ, a square matrix, and the scaled size of F(θ) - θ."""
    em_map = EMMap.on(X, covariance_type="full", reg_covar=reg_covar)
    step = em_map.step(theta)
    images = [flatten(em_map.jvp(step, v)) for v in directions(theta.n_components)]
    return np.stack(images, axis=1), em_map.residual(step)


# %%
# One experiment
# --------------
# Fit with T steps, then pull one random cotangent back in the three ways.


def experiment(separation, n_samples, n_steps, n_components, rng):
    X, means = draw(separation, n_samples, n_components, rng)
    mixture = DifferentiableGaussianMixture(
        n_components,
        means_init=means,
        acceleration=None,
        max_iter=n_steps,
        tol=0.0,
        residual_tol=0.0,
        n_jobs=1,
        random_state=0,
    ).fit(X)
    cotangent = tuple(rng.normal(size=part.shape) for part in mixture.parameters_)
    gradients = {
        mode: mixture.gradient_wrt_data(X, cotangent, mode=mode)
        for mode in ("unrolled", "one_step", "implicit")
    }
    exact = gradients["unrolled"]

    def error(mode):
        return ((gradients[mode] - exact) ** 2).sum() / (exact**2).sum()

    jacobian, residual = step_jacobian(X, mixture.parameters_, mixture.reg_covar)
    norm = np.linalg.norm(jacobian, 2)
    radius = np.abs(np.linalg.eigvals(jacobian)).max()
    return residual**2, norm, radius, error("one_step"), error("implicit")


# %%
# Vary the samples, the steps and the components
# ----------------------------------------------
# n and T take the values of the paper, T at n = 200.

sweeps = {
    "n": [(n, 30, 3) for n in (100, 200, 500, 1000, 1500, 2000)],
    "T": [(200, T, 3) for T in (1, 2, 5, 10, 15, 20, 30, 40)],
    "K": [(1000, 30, K) for K in range(2, 9)],
}
results = {}
with warnings.catch_warnings():
    # most of these fits stop early on purpose
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name, separation in separations.items():
        for sweep, settings in sweeps.items():
            rng = np.random.default_rng(0)
            runs = [
                [experiment(separation, *each, rng) for _ in range(n_repetitions)]
                for each in settings
            ]
            results[name, sweep] = np.array(runs)

# %%
# The implicit gradient is as good as the fixed point
# ---------------------------------------------------
# Medians, with the range from the 10th to the 90th percentile. Step by step EM comes closer to its
# fixed point, and the error of the implicit gradient falls with it, down to rounding. That of the
# one-step gradient stays where it is. (After a single step, it is the unrolled one.)

colors = dict(zip(separations, component_colors(3), strict=True))


def panels(rows, sweep, label):
    """A panel for each quantity, a column of the results, against a sweep."""
    column = list(sweeps).index(sweep)
    x = [setting[column] for setting in sweeps[sweep]]
    size = (3.2 * len(rows), 3.4)
    axes = plt.subplots(1, len(rows), figsize=size, layout="constrained")[1]
    for axis, (title, row) in zip(axes, rows.items(), strict=True):
        for name, color in colors.items():
            values = np.maximum(results[name, sweep][..., row], 1e-33)
            low, median, high = np.percentile(values, [10, 50, 90], axis=1)
            axis.plot(x, median, color=color, label=name)
            axis.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
        axis.set(title=title, xlabel=label)
    axes[-1].legend(title="mixture")
    return axes


errors = {"fixed-point error²": 0, "implicit error²": 4, "one-step error²": 3}
for axis in panels(errors, "T", "EM steps (n = 200)"):
    axis.set(yscale="log", ylim=(1e-34, 1e2))
plt.savefig("gradient_modes.png", dpi=100)
plt.show()

# %%
# More samples do not change that
# -------------------------------
# The same errors after 30 steps, for more and more samples.

for axis in panels(errors, "n", "samples (T = 30)"):
    axis.set(yscale="log", ylim=(1e-34, 1e2))
plt.show()

# %%
# More components make it harder
# ------------------------------
# EM needs more steps where there is more to tell apart: the same errors after 30 steps.

for axis in panels(errors, "K", "components (n = 1000, T = 30)"):
    axis.set(yscale="log", ylim=(1e-34, 1e2))
plt.show()

# %%
# The spectral radius tells of contraction, the norm does not
# -----------------------------------------------------------
# EM converges, but the norm of the Jacobian of its step is often above one. The spectral radius is
# what stays below near a fixed point: in every run whose fixed-point error² is below 1e-6.

for axis in panels(
    {"norm of ∂F/∂θ": 1, "spectral radius of ∂F/∂θ": 2},
    "T",
    "EM steps (n = 200)",
):
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_ylim(0, 2)
plt.show()

for name in separations:
    values = results[name, "T"]
    print(
        f"{name:>6}: norm above 1 in {(values[..., 1] > 1).mean():.0%} of the runs, "
        f"spectral radius below 1 in {(values[..., 2] < 1).mean():.0%}, "
        f"near a fixed point in {(values[values[..., 0] < 1e-6, 2] < 1).mean():.0%}"
    )
    last = {"T = 40": values[-1], "n = 2000": results[name, "n"][-1]}
    last |= {f"K = {K}": results[name, "K"][K - 2] for K in (2, 3, 8)}
    for setting, runs in last.items():
        residual, norm, radius, one_step, implicit = np.median(runs, axis=0)
        print(
            f"        {setting:>8}: fixed-point error² {residual:.0e}, "
            f"norm {norm:.2f}, radius {radius:.2f}, "
            f"one-step error² {one_step:.0e}, implicit error² {implicit:.0e}"
        )
