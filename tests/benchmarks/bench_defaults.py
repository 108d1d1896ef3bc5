"""Whole fits with the defaults on both sides, ours against scikit-learn.

    python tests/benchmarks/bench_defaults.py [--quick]

Nothing is given but the number of components and the seed. Likelihoods are means over the seeds, so
that both sides are held to what they find, not only to how soon they stop.
"""

import numpy as np
from _report import Table, arguments, fit_time, heading, verdict
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_sample_image,
    load_wine,
    make_blobs,
    make_moons,
)
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from skgmmot import DifferentiableGaussianMixture

SEEDS = 3
OF_ALL, OF_EACH, WORST = 6.0, 1.5, 0.5  # least ratios: geometric mean, medians, single fits
SAME = 1e-6  # of a likelihood


def data_sets():
    """Name, samples and number of components."""
    photo = load_sample_image("china.jpg").reshape(-1, 3) / 255.0
    return {
        "iris": (load_iris().data, 3),
        "wine, scaled": (StandardScaler().fit_transform(load_wine().data), 3),
        "digits, 16 axes": (PCA(16, random_state=0).fit_transform(load_digits().data), 10),
        "photo, 8 colors": (photo, 8),
        "photo, 32 colors": (photo, 32),
        "blobs of 30": (make_blobs(50_000, 30, centers=30, cluster_std=2.0, random_state=0)[0], 30),
        "tumors, 8 axes": (
            PCA(8, random_state=0).fit_transform(
                StandardScaler().fit_transform(load_breast_cancer().data)
            ),
            4,
        ),
        "diabetes, scaled": (StandardScaler().fit_transform(load_diabetes().data), 3),
        "moons": (make_moons(5000, noise=0.1, random_state=0)[0], 8),
    }


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        data="<18s",
        ours_ms="9.1f",
        peer_ms="9.1f",
        ratio="7.1f",
        worst="7.2f",
        verdict="<7s",
        passes="6d",
        peer_steps="10d",
        likelihood="11.5f",
        peer_likelihood="15.5f",
        as_high="<7s",
    )
    medians = []
    for name, (X, n_components) in data_sets().items():
        if quick and len(X) > 10_000:
            continue
        times, likelihoods, passes = [], [], []
        for seed in range(SEEDS):
            pair = [
                cls(n_components, random_state=seed)
                for cls in (DifferentiableGaussianMixture, GaussianMixture)
            ]
            repeats = 1 if len(X) > 10_000 else 5
            rounds = [[fit_time(estimator, X) for estimator in pair] for _ in range(repeats + 1)]
            times.append(np.median(rounds[1:], axis=0))
            likelihoods.append([estimator.score(X) for estimator in pair])
            passes.append([pair[0].n_evaluations_, pair[1].n_iter_])
        ratios = np.divide(*np.transpose(times)[::-1])
        (ours, peer), (mine, theirs) = np.median(times, axis=0), np.mean(likelihoods, axis=0)
        median, worst = np.median(ratios), ratios.min()
        medians.append(median)
        told = verdict(min(median / OF_EACH, worst / WORST), 1.0)
        counts = np.median(passes, axis=0).astype(int)
        as_high = verdict(mine, theirs - SAME)
        table.row(name, ours * 1e3, peer * 1e3, median, worst, told, *counts, mine, theirs, as_high)
    mean = float(np.exp(np.mean(np.log(medians))))
    print(f"Geometric mean of the medians: {mean:.1f} ({verdict(mean, OF_ALL)}).")


if __name__ == "__main__":
    main()
