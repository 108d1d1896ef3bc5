"""Estimators made of given parameters: from_parameters, from_mixture and parameters_."""

import numpy as np
import pytest
from naive import em_step, random_mixture, sample
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
PARTS = ["weights", "means", "covariances"]


def known(kind, n_components=3, n_features=2):
    """Parameters, and samples of them."""
    rng = np.random.default_rng(0)
    theta = random_mixture(rng, n_components, n_features, kind)
    return theta, sample(rng, theta, 200)


def made_of(theta, **params):
    return DifferentiableGaussianMixture.from_parameters(
        *theta, covariance_type=theta.covariance_type, **params
    )


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("kind", TYPES)
def test_from_parameters_sets_every_fitted_attribute(kind, n_components):
    theta, X = known(kind, n_components)
    mixture = made_of(theta)
    assert (mixture.n_components, mixture.covariance_type) == (n_components, kind)
    for name, value in zip(PARTS, theta, strict=True):
        np.testing.assert_array_equal(getattr(mixture, f"{name}_"), value)
    fitted = DifferentiableGaussianMixture(n_components, covariance_type=kind, random_state=0)
    fitted.fit(X)
    of_data = {"lower_bound_", "residual_", "n_samples_seen_"}
    assert {n for n in vars(fitted) if n.endswith("_")} - of_data <= set(vars(mixture))
    assert (mixture.n_features_in_, mixture.n_iter_, mixture.converged_) == (2, 0, False)
    factors, precisions = mixture.precisions_cholesky_, mixture.precisions_
    if kind in ("full", "tied"):
        product = precisions @ theta.covariances
        np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-13)
        np.testing.assert_allclose(factors @ factors.swapaxes(-1, -2), precisions, rtol=1e-13)
        np.testing.assert_array_equal(factors, np.triu(factors))
    else:
        np.testing.assert_allclose(precisions, 1 / theta.covariances, rtol=1e-14)
        np.testing.assert_allclose(factors, theta.covariances**-0.5, rtol=1e-14)


def test_from_parameters_passes_constructor_parameters_on():
    theta, _ = known("full")
    mixture = made_of(theta, reg_covar=0.5, random_state=3, fixed_weights=True)
    expected = DifferentiableGaussianMixture(3, reg_covar=0.5, random_state=3, fixed_weights=True)
    assert mixture.get_params() == expected.get_params()


def test_from_parameters_keeps_copies():
    theta, _ = known("full")
    mixture = made_of(theta)
    for name, given in zip(PARTS, theta, strict=True):
        assert not np.shares_memory(getattr(mixture, f"{name}_"), given)


@pytest.mark.parametrize("kind", TYPES)
def test_from_parameters_takes_lists_and_single_precision(kind):
    theta, X = known(kind)
    weights, means, covariances = theta
    lists = DifferentiableGaussianMixture.from_parameters(
        weights.tolist(), means.tolist(), covariances.tolist(), covariance_type=kind
    )
    np.testing.assert_array_equal(lists.score_samples(X), made_of(theta).score_samples(X))
    single = DifferentiableGaussianMixture.from_parameters(
        *(part.astype(np.float32) for part in theta), covariance_type=kind
    )
    for name in [*PARTS, "precisions", "precisions_cholesky"]:
        assert getattr(single, f"{name}_").dtype == np.float32
    # parameters rounded to seven digits
    np.testing.assert_allclose(single.score_samples(X), lists.score_samples(X), rtol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_parameters_come_back(kind):
    theta, _ = known(kind)
    parameters = made_of(theta).parameters_
    assert isinstance(parameters, MixtureParameters)
    assert parameters.covariance_type == kind
    for ours, given in zip(parameters, theta, strict=True):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("kind", TYPES)
def test_warm_start_goes_on_from_given_parameters(kind):
    theta, X = known(kind)
    mixture = made_of(theta, warm_start=True, max_iter=1)
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
        mixture.fit(X)
    expected, bound = em_step(X, theta, reg_covar=mixture.reg_covar)
    for ours, naive in zip(mixture.parameters_, expected, strict=True):
        np.testing.assert_allclose(ours, naive, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mixture.lower_bounds_, [bound], rtol=1e-13)


def test_fit_without_warm_start_starts_anew():
    theta, X = known("full")
    fitted = made_of(theta, random_state=0, max_iter=5000).fit(X)
    plain = DifferentiableGaussianMixture(3, random_state=0, max_iter=5000).fit(X)
    np.testing.assert_array_equal(fitted.means_, plain.means_)


WEIGHTS, MEANS = [0.5, 0.5], [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
EYES = np.stack([np.eye(3)] * 2)


@pytest.mark.parametrize(
    "weights, means, covariances, kind, complaint",
    [
        ([0.5, 0.6], MEANS, EYES, "full", "weights must be non-negative and sum to 1.*1.1"),
        ([1.5, -0.5], MEANS, EYES, "full", "weights must be non-negative and sum to 1.*-0.5"),
        ([0.5, np.nan], MEANS, EYES, "full", "the weights contain NaN"),
        ([1.0], MEANS, EYES, "full", r"weights must have shape.*\(1,\) and \(2, 3\)"),
        ([[0.5], [0.5]], MEANS, EYES, "full", "weights must have shape"),
        ([], np.zeros((0, 3)), np.zeros((0, 3, 3)), "full", "weights must have shape"),
        (WEIGHTS, [0.0, 1.0], EYES, "full", r"means.*\(2,\)"),
        (WEIGHTS, np.full((2, 3), np.inf), EYES, "full", "the means contain NaN or infinity"),
        (WEIGHTS, MEANS, EYES[0], "full", r"full covariances.*\(2, 3, 3\); got \(3, 3\)"),
        (WEIGHTS, MEANS, EYES, "tied", r"tied covariances.*\(3, 3\); got \(2, 3, 3\)"),
        (WEIGHTS, MEANS, EYES, "diag", r"diag covariances.*\(2, 3\); got \(2, 3, 3\)"),
        (WEIGHTS, MEANS, [1.0], "spherical", r"spherical covariances.*\(2,\); got \(1,\)"),
        (WEIGHTS, MEANS, EYES * np.nan, "full", "the covariances contain NaN"),
        (WEIGHTS, MEANS, EYES + np.triu(EYES + 1, 1), "full", "covariances must be symmetric"),
        (WEIGHTS, MEANS, EYES - 2 * EYES, "full", "covariances must be positive.*-1"),
        (WEIGHTS, MEANS, np.diag([1.0, 1.0, -1.0]), "tied", "covariances must be positive.*-1"),
        (WEIGHTS, MEANS, [[1, 1, 1], [1, 1, -2]], "diag", "covariances must be positive.*-2"),
        (WEIGHTS, MEANS, [1.0, -3.0], "spherical", "covariances must be positive.*-3"),
        (WEIGHTS, MEANS, EYES * [[[1.0]], [[0.0]]], "full", "component 1 is not positive def"),
        (WEIGHTS, MEANS, [[0, 1, 1], [1, 1, 1]], "diag", "component 0 is not positive def"),
        (WEIGHTS, MEANS, [1.0, 0.0], "spherical", "component 1 is not positive def"),
        (WEIGHTS, MEANS, np.zeros((3, 3)), "tied", "tied covariance is not positive def"),
        (WEIGHTS, MEANS, EYES, "round", "covariance_type must be one of.*'round'"),
    ],
)
def test_from_parameters_names_what_is_wrong(weights, means, covariances, kind, complaint):
    with pytest.raises(ValueError, match=complaint):
        DifferentiableGaussianMixture.from_parameters(
            weights, means, covariances, covariance_type=kind
        )


@pytest.mark.parametrize("kind", TYPES)
def test_from_mixture_of_scikit_learn(kind):
    _, X = known("full")
    theirs = GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    ours = DifferentiableGaussianMixture.from_mixture(theirs, reg_covar=0.25)
    assert (ours.n_components, ours.covariance_type, ours.reg_covar) == (3, kind, 0.25)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-12)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-12)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-12)
    np.testing.assert_allclose(ours.precisions_, theirs.precisions_, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(
        ours.precisions_cholesky_, theirs.precisions_cholesky_, rtol=1e-11, atol=1e-12
    )


def test_from_mixture_of_other_mixtures():
    theta, X = known("full")
    bayesian = BayesianGaussianMixture(n_components=3, random_state=0, max_iter=1000).fit(X)
    # not its score, which averages over the posterior of the parameters
    ours = DifferentiableGaussianMixture.from_mixture(bayesian)
    np.testing.assert_array_equal(ours.covariances_, bayesian.covariances_)
    expected = made_of(theta).score(X)
    for mixture in (theta, tuple(theta), made_of(theta)):
        assert DifferentiableGaussianMixture.from_mixture(mixture).score(X) == expected


def test_from_mixture_keeps_single_precision():
    _, X = known("full")
    fitted = DifferentiableGaussianMixture(2, random_state=0).fit(X.astype(np.float32))
    assert DifferentiableGaussianMixture.from_mixture(fitted).means_.dtype == np.float32


@pytest.mark.parametrize("mixture", [GaussianMixture(), DifferentiableGaussianMixture()])
def test_from_mixture_refuses_an_unfitted_one(mixture):
    with pytest.raises(ValueError, match="mixture: this .*GaussianMixture is not fitted"):
        DifferentiableGaussianMixture.from_mixture(mixture)


def test_from_mixture_refuses_what_is_none():
    with pytest.raises(ValueError, match="mixture must be a fitted mixture.*got str"):
        DifferentiableGaussianMixture.from_mixture("abc")
