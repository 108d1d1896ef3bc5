"""
A classifier for a shifted domain
=================================

A classifier is trained on labelled digits and has to label digits of another camera: scaled,
turned in feature space and with other frequencies. No label of the target is used. We move the
training data to the target with `skgmmot.CoupledGMMFitter.transform`, train on what was moved, and
compare accuracy and time with no adaptation and with the transports of POT's ``ot.da``.
"""

# %%
# Two domains
# -----------
# The digits 0 to 4, reduced to eight features. The target's features are turned and shifted, and
# it has far more zeros and ones.

import time

import matplotlib.pyplot as plt
import numpy as np
import ot
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from skgmmot import CoupledGMMFitter

rng = np.random.default_rng(0)
X, y = load_digits(n_class=5, return_X_y=True)
X = PCA(8, whiten=True, random_state=0).fit_transform(X)

is_source = rng.uniform(size=len(X)) < 0.5
X_source, y_source = X[is_source], y[is_source]
frequent = rng.uniform(size=len(X)) < np.where(y <= 1, 1.0, 0.5)
X_target, y_target = X[~is_source & frequent], y[~is_source & frequent]

turn = np.eye(8)
angle = np.radians(35)
for a in range(0, 8, 2):
    turn[a : a + 2, a : a + 2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
X_target = 0.8 * X_target @ turn.T + 0.7

# %%
# Five ways to adapt
# ------------------
# Each gives moved training data. A coupled fit finds the clusters of both domains and which of
# them belong together; its map is affine on each cluster. Optimal transport between the points
# themselves has no clusters, costs the square of their number, and has to bring the frequencies of
# the source to those of the target.


def coupled(X_source, X_target):
    fitter = CoupledGMMFitter(5, transport_weight=0.1, reg_covar=1e-2, n_init=3, random_state=0)
    return fitter.fit_pair(X_source, X_target).transform(X_source)


def unbalanced(X_source, X_target):
    fitter = CoupledGMMFitter(
        5, transport_weight=0.1, reg=0.1, reg_m=5.0, reg_covar=1e-2, n_init=3, random_state=0
    )
    return fitter.fit_pair(X_source, X_target).transform(X_source)


def by_pot(transport):
    return lambda X_source, X_target: transport.fit(Xs=X_source, Xt=X_target).transform(X_source)


ways = {
    "no adaptation": lambda X_source, X_target: X_source,
    "coupled mixtures": coupled,
    "coupled, unbalanced": unbalanced,
    "POT, linear": by_pot(ot.da.LinearTransport()),
    "POT, exact": by_pot(ot.da.EMDTransport()),
    "POT, entropic": by_pot(ot.da.SinkhornTransport(reg_e=1.0)),
}
coupled(X_source, X_target), unbalanced(X_source, X_target)  # the first calls compile

accuracy, seconds = {}, {}
for name, adapt in ways.items():
    start = time.perf_counter()
    moved = adapt(X_source, X_target)
    seconds[name] = time.perf_counter() - start
    classifier = LogisticRegression(max_iter=1000).fit(moved, y_source)
    accuracy[name] = classifier.score(X_target, y_target)
    print(f"{name:20s} accuracy {accuracy[name]:.3f}, {1e3 * seconds[name]:7.1f} ms")

# %%
# The same as a bar each. On the right the time, without that of the classifier.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="tight")
axes[0].barh(list(accuracy), list(accuracy.values()), color="C0")
axes[0].set(xlabel="accuracy on the target", xlim=(0, 1))
axes[0].invert_yaxis()
axes[1].barh(list(seconds), [1e3 * max(value, 1e-4) for value in seconds.values()], color="C1")
axes[1].set(xlabel="time in ms", xscale="log", xlim=(0.1, None))
plt.show()
