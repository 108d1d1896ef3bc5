"""Time of an EM step against scikit-learn, medians in one process.

    python tests/benchmarks/bench_em.py [--quick]

A step is the difference of a long and a short fit from the same start, over the steps between:
validation and the last pass over the data, which both have, are not in it. The peer's long fit of
large data has few steps, so a busy machine can make its figure far too high or too low.
"""

from _report import Table, arguments, clusters, heading, medians, ours_and_peer, step_timer, verdict
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

CASES = [  # covariance type, n, d, K, least ratio
    ("full", 100_000, 2, 3, 30),
    ("full", 100_000, 3, 10, 30),
    ("full", 1_000_000, 2, 5, 45),
    ("full", 100_000, 8, 8, 25),
    ("full", 100_000, 16, 8, 14),
    ("full", 100_000, 30, 30, 12),
    ("full", 20_000, 64, 16, 4),
    ("full", 20_000, 128, 8, 8),
    ("full", 5_000, 256, 8, 5),
    ("full", 3_000, 512, 5, 4),
    ("diag", 20_000, 512, 16, 5),
    ("spherical", 20_000, 512, 16, 5),
    ("diag", 100_000, 30, 30, 12),
    ("spherical", 100_000, 30, 30, 12),
    ("tied", 100_000, 30, 30, 60),
    ("full", 200, 2, 3, 8),
    ("full", 1000, 3, 4, 12),
]
DIGITS = (10, 16, 10)  # K, d after PCA, least ratio
FAR_APART = [("full", 100_000, 2, 3), ("full", 100_000, 8, 8), ("full", 100_000, 30, 30)]


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<34s", ours_ms="9.3f", peer_ms="9.2f", ratio="7.1f", target="6d", verdict="<7s"
    )

    def compare(case, X, n_components, covariance_type, target, repeats=5):
        estimators = ours_and_peer(X, n_components, covariance_type)
        timers = [step_timer(estimator, X, 0.1 if quick else 0.3) for estimator in estimators]
        ours, peer = medians(*timers, repeats=2 if quick else repeats)
        ratio = peer / ours
        table.row(case, ours * 1e3, peer * 1e3, ratio, target, verdict(ratio, target))

    for covariance_type, n_samples, n_features, n_components, target in CASES:
        case = f"{covariance_type} n={n_samples} d={n_features} K={n_components}"
        X = clusters(n_samples, n_features, n_components, separation=1.0)
        compare(case, X, n_components, covariance_type, target)

    n_components, n_features, target = DIGITS
    X = PCA(n_features, random_state=0).fit_transform(load_digits().data)
    compare(f"full digits d={n_features} K={n_components}", X, n_components, "full", target)

    print("clusters 1e6 standard deviations apart, where the slow and accurate way is taken:")
    for covariance_type, n_samples, n_features, n_components in FAR_APART:
        case = f"{covariance_type} n={n_samples} d={n_features} K={n_components}"
        X = clusters(n_samples, n_features, n_components, separation=1e6)
        compare(case, X, n_components, covariance_type, None, repeats=3)


if __name__ == "__main__":
    main()
