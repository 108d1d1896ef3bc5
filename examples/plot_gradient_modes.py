"""
How good are the three gradients?
=================================

EM can be differentiated in three ways: through all its steps (unrolled), through its fixed point
(implicit), or through its last step alone (one step). This example measures them on three mixtures
of increasing difficulty, as in section 4.5 and Figure 5 of Boïté et al. (2025): how far EM is from
its fixed point, whether its map contracts, and how much the other two gradients differ from the
unrolled one.
"""

# %%
# Three mixtures in three dimensions
# ----------------------------------
# The closer their three components, the more slowly EM contracts.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, MixtureParameters
from skgmmot.em.em_map import EMMap
from skgmmot.plotting import component_colors

n_repetitions = 20
separations = {"easy": 4.5, "medium": 3.2, "hard": 2.5}
corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])


def draw(separation, n_samples, rng):
    """Samples of three Gaussians of unequal shapes, and means not far from theirs."""
    deviations = np.array([[1.0, 0.7, 0.5], [0.6, 1.0, 0.8], [0.8, 0.5, 1.0]])
    labels = rng.integers(3, size=n_samples)
    X = separation * corners[labels] + deviations[labels] * rng.normal(
        size=(n_samples, 3),
    )
    return X, separation * corners + 0.3 * rng.normal(size=(3, 3))


# %%
# The Jacobian of an EM step in the parameters
# --------------------------------------------
# A column for each of the directions (weights, means, symmetric covariances): 30 in all.


def flatten(parameters):
    """Weights, means and the lower halves of the covariances, as one vector."""
    weights, means, covariances = parameters
    rows, columns = np.tril_indices(3)
    return np.concatenate(
        [weights, means.ravel(), covariances[:, rows, columns].ravel()],
    )


def directions():
    """A basis of the tangents."""
    rows, columns = np.tril_indices(3)
    for e in np.eye(30):
        covariances = np.zeros((3, 3, 3))
        covariances[:, rows, columns] = covariances[:, columns, rows] = e[12:].reshape(
            3,
            6,
        )
        yield MixtureParameters(e[:3], e[3:12].reshape(3, 3), covariances)


def step_jacobian(X, theta, reg_covar):
    """∂F/∂θ at θ, of shape (30, 30), and the scaled size of F(θ) - θ."""
    em_map = EMMap.on(X, covariance_type="full", reg_covar=reg_covar)
    step = em_map.step(theta)
    columns = [flatten(em_map.jvp(step, v)) for v in directions()]
    return np.stack(columns, axis=1), em_map.residual(step)


# %%
# One experiment
# --------------
# Fit with T steps, then pull one random cotangent back in the three ways.


def experiment(separation, n_samples, n_steps, rng):
    X, means = draw(separation, n_samples, rng)
    mixture = DifferentiableGaussianMixture(
        3,
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
# Vary the number of samples, and the number of steps
# ---------------------------------------------------

sweeps = {
    "n": [(n, 30) for n in (100, 200, 500, 1000, 1500, 2000)],
    "T": [(1000, T) for T in (1, 2, 5, 10, 15, 20, 30, 40)],
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
for axis in panels(errors, "T", "EM steps (n = 1000)"):
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
# The spectral radius tells of contraction, the norm does not
# -----------------------------------------------------------
# EM converges, but the norm of the Jacobian of its step is often above one. The spectral radius is
# what stays below, but for a few runs of a few steps, which are far from the fixed point.

for axis in panels(
    {"norm of ∂F/∂θ": 1, "spectral radius of ∂F/∂θ": 2},
    "T",
    "EM steps (n = 1000)",
):
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    axis.set_ylim(0, 2)
plt.show()

for name in separations:
    values = results[name, "T"]
    print(
        f"{name:>6}: norm above 1 in {(values[..., 1] > 1).mean():.0%} of the runs, "
        f"spectral radius below 1 in {(values[..., 2] < 1).mean():.0%}, "
        f"and of those of 5 steps or more in {(values[2:, :, 2] < 1).mean():.0%}, "
        f"at T = 40 one-step error² {np.median(values[-1, :, 3]):.0e}, "
        f"implicit error² {np.median(values[-1, :, 4]):.0e}"
    )
