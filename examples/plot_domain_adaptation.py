"""
A classifier for a shifted domain
=================================

A classifier is trained on labelled digits and has to label digits of another camera: scaled,
turned in feature space and with other frequencies. No label of the target is used. We move the
training data to the target with `skgmmot.CoupledGMMFitter.transform`, train on what was moved, and
compare accuracy and time with no adaptation and with the transports of POT's ``ot.da``, on eight
random splits of the digits.
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
from skgmmot.plotting import component_colors

digits, labels = load_digits(n_class=5, return_X_y=True)
digits = PCA(8, whiten=True, random_state=0).fit_transform(digits)
n_seeds = 8
c, s = np.cos(np.radians(35)), np.sin(np.radians(35))
turn = np.kron(np.eye(4), [[c, -s], [s, c]])


def domains(seed):
    """Labelled digits of the source, and others as the target has them."""
    rng = np.random.default_rng(seed)
    in_source = rng.uniform(size=len(digits)) < 0.5
    frequent = rng.uniform(size=len(digits)) < np.where(labels <= 1, 1.0, 0.5)
    in_target = ~in_source & frequent
    X_target = 0.8 * digits[in_target] @ turn.T + 0.7
    return digits[in_source], labels[in_source], X_target, labels[in_target]


# %%
# Six ways
# --------
# Each gives moved training data. A coupled fit finds the clusters of both domains and which of
# them belong together; its map is affine on each cluster. Optimal transport between the points
# themselves has no clusters, costs the square of their number, and has to bring the frequencies of
# the source to those of the target.


def by_mixtures(**options):
    fitter = CoupledGMMFitter(
        5, transport_weight=0.1, reg_covar=1e-2, n_init=3, random_state=0, **options
    )
    return lambda X_source, X_target: fitter.fit_pair(X_source, X_target).transform(
        X_source,
    )


def by_pot(transport):
    return lambda X_source, X_target: transport.fit(Xs=X_source, Xt=X_target).transform(
        X_source,
    )


ways = {
    "no adaptation": lambda X_source, X_target: X_source,
    "coupled mixtures": by_mixtures(),
    "coupled, unbalanced": by_mixtures(reg=0.1, reg_m=5.0),
    "POT, linear": by_pot(ot.da.LinearTransport()),
    "POT, exact": by_pot(ot.da.EMDTransport()),
    "POT, entropic": by_pot(ot.da.SinkhornTransport(reg_e=1.0)),
}
for adapt in ways.values():  # first calls compile and import
    X_source, _, X_target, _ = domains(0)
    adapt(X_source[:100], X_target[:100])

accuracy = {name: [] for name in ways}
seconds = {name: [] for name in ways}
for seed in range(n_seeds):
    X_source, y_source, X_target, y_target = domains(seed)
    for name, adapt in ways.items():
        start = time.perf_counter()
        moved = adapt(X_source, X_target)
        seconds[name].append(time.perf_counter() - start)
        classifier = LogisticRegression(max_iter=1000).fit(moved, y_source)
        accuracy[name].append(classifier.score(X_target, y_target))

# %%
# Accuracy and time
# -----------------
# Diamonds are means over the seeds, lines reach a standard deviation to both sides, and dots are
# single seeds. On the right are medians of the time, without that of the classifier.

figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, layout="constrained")
BLUE, VERMILLION = component_colors(2)
for row, name in enumerate(ways):
    values, milliseconds = np.array(accuracy[name]), 1e3 * np.median(seconds[name])
    mean, deviation = values.mean(), values.std(ddof=1)
    print(f"{name:20s} accuracy {mean:.3f} ± {deviation:.3f}, {milliseconds:7.1f} ms")
    axes[0].plot(values, np.full(n_seeds, row), ".", color="0.6", markersize=5)
    axes[0].errorbar(mean, row, xerr=deviation, fmt="D", color=BLUE, capsize=4)
    if milliseconds > 0.05:  # not for no adaptation
        label = f"{milliseconds:.{int(milliseconds < 1)}f} ms"
        axes[1].plot(milliseconds, row, "o", color=VERMILLION)
        axes[1].text(1.3 * milliseconds, row, label, va="center")
axes[0].set(xlabel="accuracy on the target", xlim=(0.65, 1))
axes[0].set_yticks(range(len(ways)), list(ways))
axes[0].invert_yaxis()
axes[0].grid(axis="x", alpha=0.3)
axes[1].set(xlabel="median time in ms", xscale="log", xlim=(0.1, 3e4))
plt.show()
