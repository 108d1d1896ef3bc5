"""Time of a whole fit against scikit-learn, initialization included.

    python tests/benchmarks/bench_fit.py [--quick]

Each stops by its own default rule; ours is fitted with scikit-learn's rule as well. The mean
log-likelihood that ours reaches has to be as high as the peer's. Where clusters overlap that is
for information: the two start apart, since ours initializes on ``init_size`` rows.
"""

from _report import Table, arguments, clusters, fit_time, heading, medians, verdict
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture

CASES = [(100_000, 2, 3, 10), (1_000_000, 3, 10, 20), (100_000, 30, 30, 10)]  # n, d, K, least ratio
OVERLAPPING = [(100_000, 2, 3), (100_000, 3, 10), (100_000, 30, 30)]
SEPARATED, CLOSE = 6.0, 0.7  # of the closest means, per square root of d
LIKELIHOOD_TOLERANCE = 1e-6
RULES = {"own rule": {}, "peer's rule": {"residual_tol": float("inf"), "max_iter": 100}}


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<34s",
        ours_s="8.3f",
        peer_s="8.2f",
        ratio="7.1f",
        target="6d",
        verdict="<7s",
        steps="5d",
        peer_steps="10d",
        likelihood="11.6f",
        peer_likelihood="15.6f",
        as_high="<7s",
    )

    def compare(n_samples, n_features, n_components, separation, target, repeats):
        X = clusters(n_samples, n_features, n_components, separation)
        ours = DifferentiableGaussianMixture(n_components, random_state=0)
        estimators = [clone(ours).set_params(**rule) for rule in RULES.values()]
        estimators.append(GaussianMixture(n_components, random_state=0))
        for estimator in estimators:
            fit_time(estimator, X[:5000])  # compiles
        timers = [lambda estimator=estimator: fit_time(estimator, X) for estimator in estimators]
        *times, peer_time = medians(*timers, repeats=repeats)
        likelihoods = [estimator.score(X) for estimator in estimators]
        *estimators, peer = estimators
        for rule, estimator, seconds, likelihood in zip(
            RULES, estimators, times, likelihoods[:-1], strict=True
        ):
            high = likelihood >= likelihoods[-1] - LIKELIHOOD_TOLERANCE
            table.row(
                f"n={n_samples} d={n_features} K={n_components} {rule}",
                seconds,
                peer_time,
                peer_time / seconds,
                target,
                verdict(peer_time / seconds, target),
                estimator.n_iter_,
                peer.n_iter_,
                likelihood,
                likelihoods[-1],
                "ok" if high else "LOWER",
            )

    print("well-separated clusters")
    for n_samples, n_features, n_components, target in CASES:
        compare(n_samples, n_features, n_components, SEPARATED, target, 2 if quick else 7)
    print("overlapping clusters, one run, for information")
    for n_samples, n_features, n_components in OVERLAPPING[: 2 if quick else None]:
        compare(n_samples, n_features, n_components, CLOSE, None, 1)


if __name__ == "__main__":
    main()
