"""
Points flow to a mixture
========================

Two hundred points in the plane move down the gradient of MW2² between the mixture that EM fits to
them and a target mixture, as in sections 4.2 to 4.4 of Boïté et al. (2025). We compare the three
gradients through EM with the warm-start flow, fixed weights with free ones, and flows of all points
with flows of random batches.
"""

# %%
# The flow
# --------
# `mixture_flow` moves the points, here by plain gradient descent: a point moves by its share of the
# gradient of its component. A callback keeps what it passes.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, MixtureParameters, mixture_flow


def flow(X, target, mode, *, fixed_weights, n_steps=120, batch_fraction=1.0):
    """Positions, energies and fitted weights along a flow; mode may also be "warm start"."""
    positions, weights = [], []

    def keep(step, X, mixture, loss):
        positions.append(X.copy())
        weights.append(mixture.weights_)

    warm = mode == "warm start"
    result = mixture_flow(
        X,
        target,
        estimator=DifferentiableGaussianMixture(
            3,
            fixed_weights=fixed_weights,
            max_iter=30,
            reg_covar=1e-4,
            acceleration=None,
            random_state=0,
        ),
        optimizer="gd",
        learning_rate=0.05,
        n_steps=n_steps,
        batch_fraction=batch_fraction,
        mode="one_step" if warm else mode,
        warm_start=warm,
        callback=keep,
        random_state=0,
    )
    return np.array([*positions, result.X]), result.losses, np.array(weights)


def draw(weights, means, n_samples=200, seed=0):
    """Round clusters whose sizes are exactly as the weights say."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), np.round(np.multiply(weights, n_samples)).astype(int))
    return np.array(means)[labels] + 0.5 * rng.normal(size=(len(labels), 2))


source_means = [[-4.0, 0.0], [-3.0, 8.0], [-4.0, -8.0]]
target_means = np.array([[4.0, 0.0], [3.0, 8.0], [4.0, -8.0]])
target_covariances = np.array([[[0.6, 0.3], [0.3, 0.5]], [[0.3, 0.0], [0.0, 0.8]], np.eye(2) / 3])
modes = ("unrolled", "implicit", "one_step", "warm start")

# %%
# Fixed weights, and free ones
# ----------------------------
# With fixed uniform weights every gradient brings the points to the target, along straight lines.
# With free weights the flow has to change the masses of the clusters, from (1/5, 1/5, 3/5) to
# (1/2, 3/10, 1/5). Points far from the boundary between two components belong to one of them: no
# gradient moves them to the other one, and the flow gets stuck.

uniform = MixtureParameters(np.full(3, 1 / 3), target_means, target_covariances)
uneven = MixtureParameters(np.array([0.5, 0.3, 0.2]), target_means, target_covariances)
cases = {
    "fixed uniform weights": (draw([0.335, 0.33, 0.335], source_means), uniform, True),
    "free weights": (draw([0.2, 0.2, 0.6], source_means), uneven, False),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # EM is stopped early on purpose
    flows = {
        (case, mode): flow(X, target, mode, fixed_weights=fixed)
        for case, (X, target, fixed) in cases.items()
        for mode in modes
    }

figure, axes = plt.subplots(2, 5, figsize=(15, 6), layout="constrained")
for row, case in enumerate(cases):
    for column, mode in enumerate(modes):
        positions, energies, _ = flows[case, mode]
        axis = axes[row, column]
        axis.plot(*positions.transpose(2, 0, 1), color="lightgray", linewidth=0.4, zorder=0)
        axis.scatter(*positions[0].T, s=4, label="start")
        axis.scatter(*positions[-1].T, s=4, label="end")
        axis.scatter(*target_means.T, marker="x", color="black", label="target means")
        axis.set(title=mode, xlim=(-6, 8), ylim=(-11, 15), xticks=[], yticks=[])
        axes[row, 4].semilogy(energies, label=mode)
        print(f"{case}, {mode}: energy fell to {100 * energies[-1] / energies[0]:.2g} %")
    axes[row, 0].set_ylabel(case)
    axes[row, 4].set(title="energy MW2²", xlabel="flow step")
axes[0, 0].legend(fontsize="x-small", loc="upper left", ncols=3)
axes[0, 4].legend(fontsize="small")
figure.savefig("em_flow_2d.png", dpi=100)

# %%
# The weights on the simplex
# --------------------------
# Free weights stop on their way to the target's.

corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]])
figure, axis = plt.subplots(figsize=(5, 4.5), layout="constrained")
axis.plot(*corners[[0, 1, 2, 0]].T, color="black", linewidth=0.8)
for mode in modes:
    path = flows["free weights", mode][2]
    # EM numbers the components as it likes: sort by the target each one has the plan's mass on
    order = np.argsort(path[0])
    axis.plot(*(path[:, order] @ corners).T, marker=".", markersize=3, label=mode)
axis.scatter(*(np.sort(uneven.weights) @ corners), marker="x", color="black", label="target")
axis.set(aspect="equal", xticks=[], yticks=[], title="Free weights along the flow")
axis.legend()

# %%
# Batches
# -------
# The warm-start flow needs only some of the points at each step. With fewer points the energy is
# noisier, and falls as far.

figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
X, target, _ = cases["fixed uniform weights"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    for fraction in (1.0, 0.5, 0.25):
        _, energies, _ = flow(
            X, target, "warm start", fixed_weights=True, n_steps=500, batch_fraction=fraction
        )
        axis.semilogy(energies, label=f"{100 * fraction:.0f} % of the points", linewidth=0.8)
axis.set(xlabel="flow step", ylabel="MW2² of the batch to the target")
axis.legend()
plt.show()
