"""
Gradients through EM in JAX
===========================

A cloud was turned, stretched and shifted. To find the map that undoes it, no pairs of points are
needed: the mixture fitted to the mapped points shall be the mixture that is known. EM and MW2 are
functions of JAX here (`skgmmot.jax.fit_mixture` and `skgmmot.jax.mixture_wasserstein`), so that
``jax.grad`` goes through them to the matrix of the map, as through anything else.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from skgmmot.jax import check, fit_mixture, mixture_wasserstein
from skgmmot.plotting import MixtureDisplay

# %%
# A mixture, and a cloud that was mapped away from it
# ---------------------------------------------------

weights = np.array([0.5, 0.3, 0.2])
means = np.array([[-2.0, -1.0], [2.0, -1.0], [0.5, 2.5]])
target = (weights, means, np.array([0.3, 0.2, 0.4]))

rng = np.random.default_rng(0)
labels = np.repeat(np.arange(3), (600 * weights).astype(int))
scales = np.sqrt(target[2])[labels, None]
points = means[labels] + scales * rng.normal(size=(600, 2))
away = np.array([[0.9, -1.1], [0.6, 0.8]])
cloud = jnp.asarray(points @ away.T + np.array([1.5, -1.0]))

# %%
# A loss of the map
# -----------------
# Each evaluation fits a mixture to the mapped points, from the means that the target has. The
# gradient is that of the fixed point of EM.

start = (jnp.full(3, 1 / 3), jnp.asarray(means), jnp.full(3, 1.0))


def mapped(parameters):
    return cloud @ parameters["matrix"].T + parameters["shift"]


def loss(parameters):
    X = mapped(parameters)
    fitted = fit_mixture(X, initial=start, covariance_type="spherical")
    return mixture_wasserstein(fitted, target, squared=True), fitted.status


# %%
# Descents from many maps at once
# -------------------------------
# The loss has local minima: components can be taken for one another. ``jax.vmap`` runs a descent
# from each of eight rotations, and ``jax.jit`` compiles them all.


def descend(parameters, n_steps=40, rate=0.05):
    def step(state, _):
        parameters, speed = state
        gradient_and_loss = jax.value_and_grad(loss, has_aux=True)
        (value, status), gradient = gradient_and_loss(parameters)
        speed = jax.tree.map(lambda v, g: 0.6 * v - rate * g, speed, gradient)
        return (jax.tree.map(jnp.add, parameters, speed), speed), (value, status)

    still = jax.tree.map(jnp.zeros_like, parameters)
    (parameters, _), history = jax.lax.scan(step, (parameters, still), length=n_steps)
    return parameters, history


angles = 2 * jnp.pi * jnp.arange(8) / 8
matrices = 0.7 * jnp.stack(
    [
        jnp.stack([jnp.cos(angles), -jnp.sin(angles)], axis=1),
        jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=1),
    ],
    axis=1,
)
shifts = -jnp.einsum("sij,j->si", matrices, cloud.mean(axis=0))
starts = {"matrix": matrices, "shift": shifts}
found, (losses, statuses) = jax.jit(jax.vmap(descend))(starts)
check(statuses)

best = int(losses[:, -1].argmin())
product = np.asarray(found["matrix"][best]) @ away
print("losses at the end:", *(f"{loss:.3f}" for loss in sorted(losses[:, -1])))
print("the map found, after the one to undo:", product.round(2).tolist())

# %%
# What was found
# --------------
# The best map undoes the other one up to sampling noise: their product is close to the identity.

parameters = {name: value[best] for name, value in found.items()}
panels = {"the cloud and the target": cloud, "mapped by the best": mapped(parameters)}

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for axis, (title, X) in zip(axes, panels.items(), strict=False):
    axis.scatter(*np.asarray(X).T, s=6, color="tab:gray", alpha=0.6)
    MixtureDisplay.from_parameters(target, ax=axis)
    axis.set(title=title, xlabel="", ylabel="", aspect="equal")
axes[2].semilogy(np.asarray(losses).T, color="tab:gray", linewidth=1)
axes[2].semilogy(np.asarray(losses[best]), color="tab:red", label="the best")
axes[2].set(title="squared MW2 from eight rotations", xlabel="steps")
axes[2].legend()
plt.savefig("jax_gradients.png", dpi=100)
plt.show()
