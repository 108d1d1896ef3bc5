"""True is no number, though Python and scikit-learn take it for one."""

import numpy as np
import pytest

from skgmmot import (
    CoupledGMMFitter,
    DifferentiableGaussianMixture,
    mixture_barycenter,
    mixture_flow,
    pairwise_mixture_wasserstein,
)

X = np.random.default_rng(0).normal(size=(30, 2))
MIXTURE = ([0.5, 0.5], [[0.0, 0.0], [3.0, 0.0]], [1.0, 1.0])
SWITCHES = {"fixed_weights", "warm_start", "keep_path", "verbose", "freeze_target"}


def fitted(estimator):
    if isinstance(estimator, CoupledGMMFitter):
        return estimator.fit_pair(X, X)
    return estimator.fit(X)


@pytest.mark.parametrize("value", [True, False, np.True_])
@pytest.mark.parametrize(
    "kind, name",
    [
        (kind, name)
        for kind in (DifferentiableGaussianMixture, CoupledGMMFitter)
        for name in sorted(set(kind().get_params()) - SWITCHES)
    ],
)
def test_booleans_are_no_numbers(kind, name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        fitted(kind(**{name: value}))


@pytest.mark.parametrize("kind", [DifferentiableGaussianMixture, CoupledGMMFitter])
@pytest.mark.parametrize("n_jobs", [None, 1, np.int32(2), -1])
@pytest.mark.parametrize("random_state", [None, 0, np.int64(3), np.random.RandomState(0)])
def test_numbers_are(kind, n_jobs, random_state):
    estimator = fitted(kind(np.int64(1), n_jobs=n_jobs, random_state=random_state))
    assert estimator.n_features_in_ == X.shape[1]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: CoupledGMMFitter((True, 2)).fit_pair(X, X), "n_components.*pair"),
        (lambda: CoupledGMMFitter([2, True]).fit_pair(X, X), "n_components.*pair"),
        (lambda: mixture_flow(X, MIXTURE, n_steps=True), "n_steps"),
        (lambda: mixture_flow(X, MIXTURE, random_state=True), "random_state"),
        (lambda: mixture_flow(X, MIXTURE, learning_rate=True), "learning_rate"),
        (
            lambda: mixture_barycenter([MIXTURE] * 2, method="fixed_point", n_components=True),
            "n_components must be a positive integer; got True",
        ),
        (
            lambda: mixture_barycenter([MIXTURE] * 2, method="fixed_point", max_iter=True),
            "max_iter must be a positive integer; got True",
        ),
        (lambda: pairwise_mixture_wasserstein([MIXTURE] * 2, n_jobs=True), "n_jobs"),
        (lambda: DifferentiableGaussianMixture().fit(X).sample(True), "n_samples.*got True"),
        (lambda: CoupledGMMFitter().fit_pair(X, X).sample(True), "n_samples.*got True"),
    ],
)
def test_functions_refuse_them_too(call, words):
    with pytest.raises(ValueError, match=words):
        call()
