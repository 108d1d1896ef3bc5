"""
Mixture pooling: sets of pixels, a network, and EM between them
===============================================================

A classifier of *sets* has to make one vector of many points, in whatever order they come. The
usual way is to take the mean of what a network makes of each point. Here the points go through a
small network, EM fits a mixture to where they end up, and the mixture's parameters are the vector.
Mean pooling is the special case of one component whose covariance is thrown away.

Gradients flow from the loss through the mixture to the network, so that it learns to put points
where a mixture tells classes apart. The sets are the digits of scikit-learn, each as the set of its
dark pixels.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skgmmot.torch import fit_mixture

# %%
# Sets
# ----
# Every pixel that is not empty is a point: its place, and its ink as its weight. Nothing tells the
# network the order of pixels or that they come from a grid.

torch.set_num_threads(1)
warnings.simplefilter("ignore", ConvergenceWarning)  # of a few steps: all we want

digits = load_digits()
chosen = digits.target < 5
images, labels = digits.images[chosen][:360], digits.target[chosen][:360]


def as_set(image):
    rows, columns = np.nonzero(image)
    places = np.stack([columns - 3.5, 3.5 - rows], axis=1) / 3.5
    return torch.tensor(places), torch.tensor(image[rows, columns] / 16)


sets = [as_set(image) for image in images]
targets = torch.tensor(labels)
order = np.random.default_rng(0).permutation(len(sets))
train, test = order[:240], order[240:]

# %%
# Two poolings
# ------------
# The same network moves the points in both models. EM starts from the same three means in every
# set, so that component k means the same part of an image everywhere, and makes a few steps, which
# ``mode="unrolled"`` differentiates exactly. The parameters of the components are the features.

K = 3
START = (
    torch.full((K,), 1 / K, dtype=torch.float64),
    torch.tensor([[0.0, 0.7], [0.0, 0.0], [0.0, -0.7]], dtype=torch.float64),
    torch.eye(2, dtype=torch.float64).expand(K, 2, 2) / 4,
)


class Classifier(torch.nn.Module):
    def __init__(self, pooling, n_features):
        super().__init__()
        self.pooling = pooling
        self.move = torch.nn.Sequential(
            torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
        )
        self.head = torch.nn.Sequential(
            torch.nn.Linear(n_features, 32), torch.nn.ReLU(), torch.nn.Linear(32, 5)
        )
        self.double()

    def forward(self, sets):
        pooled = [self.pooling(X + self.move(X), ink) for X, ink in sets]
        return self.head(torch.stack(pooled))


def mean_pooling(X, ink):
    return (ink[:, None] * X).sum(0) / ink.sum()


def mixture_pooling(X, ink):
    weights, means, covariances = fit_mixture(
        X, initial=START, mode="unrolled", sample_weight=ink,
        max_iter=8, reg_covar=1e-2, n_jobs=1,
    )  # fmt: skip
    lower = torch.tril_indices(2, 2)
    return torch.cat([weights, means.ravel(), covariances[:, *lower].ravel()])


# %%
# Training
# --------


def trained(pooling, n_features, n_epochs=10, batch_size=24):
    torch.manual_seed(0)
    model = Classifier(pooling, n_features)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for epoch in range(n_epochs):
        shuffled = np.random.default_rng(epoch).permutation(train)
        for start in range(0, len(train), batch_size):
            batch = shuffled[start : start + batch_size]
            optimizer.zero_grad()
            logits = model([sets[i] for i in batch])
            loss = torch.nn.functional.cross_entropy(logits, targets[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        predicted = model([sets[i] for i in test]).argmax(1)
    return losses, (predicted == targets[test]).double().mean().item()


results = {}
for name, pooling, n_features in (
    ("mean pooling", mean_pooling, 2),
    ("mixture pooling", mixture_pooling, K * 6),
):
    results[name] = losses, accuracy = trained(pooling, n_features)
    last = np.mean(losses[-10:])
    print(f"{name}: loss {losses[0]:.2f} to {last:.2f}, accuracy {accuracy:.3f}")

# %%
# A mean of two coordinates says little about the shape of a digit, however the network bends the
# plane first. Three components with their covariances say most of it.

_, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, (losses, accuracy) in results.items():
    axis.plot(losses, label=f"{name}, accuracy {accuracy:.2f}")
axis.set(xlabel="step", ylabel="cross-entropy", ylim=(0, None))
axis.legend()
plt.show()
