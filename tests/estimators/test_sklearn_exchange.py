"""Mixtures that come from scikit-learn and go back: what they predict, and how they fit again."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
PREDICTIONS = ["predict", "predict_proba", "score_samples", "score", "aic", "bic"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)) * [1, 2, 0.5] + 2.0 * RNG.integers(3, size=(200, 1))
NAMED = pd.DataFrame(X, columns=[*"abc"])


def theirs_on(data, kind="full", **params):
    params = {"random_state": 0, "max_iter": 300} | params
    return GaussianMixture(3, covariance_type=kind, **params).fit(data)


def ours_on(data, kind="full", **params):
    params = {"random_state": 0} | params
    return DifferentiableGaussianMixture(3, covariance_type=kind, **params).fit(data)


def assert_same_predictions(one, other, data, rtol=1e-11):
    """Two evaluations in float64, through other sums: a few hundred roundings."""
    for name in PREDICTIONS:
        found, expected = getattr(one, name)(data), getattr(other, name)(data)
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol, err_msg=name)


@pytest.mark.parametrize("kind", TYPES)
def test_predictions_of_theirs_are_kept(kind):
    theirs = theirs_on(X, kind)
    ours = DifferentiableGaussianMixture.from_sklearn(theirs)
    assert ours.covariance_type == kind
    assert_same_predictions(ours, theirs, X)


@pytest.mark.parametrize("kind", TYPES)
def test_predictions_of_ours_are_kept(kind):
    ours = ours_on(X, kind)
    theirs = ours.to_sklearn()
    assert type(theirs) is GaussianMixture and theirs.covariance_type == kind
    assert_same_predictions(theirs, ours, X)
    for name in ("precisions_", "precisions_cholesky_"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name))


@pytest.mark.parametrize("kind", TYPES)
def test_samples_have_the_same_distribution(kind):
    ours = ours_on(X, kind)
    (drawn, labels), (theirs, their_labels) = ours.sample(20_000), ours.to_sklearn().sample(20_000)
    np.testing.assert_array_equal(labels, their_labels)  # the counts come first
    if kind in ("diag", "spherical"):
        np.testing.assert_allclose(drawn, theirs, rtol=1e-12)
    # five standard errors of a mean of 20 000, two of them, with variances below 8
    np.testing.assert_allclose(
        drawn.mean(axis=0), theirs.mean(axis=0), atol=5 * np.sqrt(2 * 8 / 20_000)
    )
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(theirs.T), atol=0.3)


@pytest.mark.parametrize("kind", TYPES)
def test_there_and_back_is_the_same_mixture(kind):
    theirs = theirs_on(NAMED, kind, tol=1e-4, n_init=2, reg_covar=1e-5)
    back = DifferentiableGaussianMixture.from_sklearn(theirs).to_sklearn()
    assert back.get_params() == theirs.get_params()
    assert vars(back).keys() == vars(theirs).keys()
    for name in ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "n_features_in_"):
        assert getattr(back, name) == getattr(theirs, name), name
    assert back.lower_bounds_ is not theirs.lower_bounds_
    for name in ("weights_", "means_", "covariances_", "feature_names_in_"):
        np.testing.assert_array_equal(getattr(back, name), getattr(theirs, name))
        assert not np.shares_memory(getattr(back, name), getattr(theirs, name))


@pytest.mark.parametrize("kind", TYPES)
def test_fitted_again_it_makes_the_same_steps(kind):
    theirs = theirs_on(X, kind, tol=1e-5)
    again = clone(DifferentiableGaussianMixture.from_sklearn(theirs)).fit(X)
    assert again.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(again.means_, theirs.means_, rtol=1e-9)  # after dozens of steps
    ours = ours_on(X, kind)
    assert ours.n_iter_ != theirs_on(X, kind).n_iter_  # with its own rule it goes on


def test_constructor_parameters_are_taken_over_or_replaced():
    start = {"means_init": X[:3].copy(), "random_state": np.random.RandomState(0)}
    theirs = theirs_on(X, reg_covar=1e-3, warm_start=True, **start)
    ours = DifferentiableGaussianMixture.from_sklearn(theirs, tol=1e-7, n_jobs=1)
    assert (ours.reg_covar, ours.warm_start, ours.max_iter) == (1e-3, True, 300)
    assert (ours.tol, ours.n_jobs) == (1e-7, 1)
    assert ours.means_init is not theirs.means_init
    assert ours.random_state is not theirs.random_state
    replaced = DifferentiableGaussianMixture.from_sklearn(theirs, acceleration="newton")
    assert (replaced.acceleration, replaced.residual_tol) == ("newton", np.inf)


def test_names_of_features_go_both_ways():
    ours = DifferentiableGaussianMixture.from_sklearn(theirs_on(NAMED))
    assert ours.feature_names_in_.tolist() == [*"abc"]
    ours.predict(NAMED)
    theirs = ours_on(NAMED).to_sklearn()
    assert theirs.feature_names_in_.tolist() == [*"abc"]
    with pytest.raises(ValueError, match="feature names"):
        theirs.predict(NAMED[[*"cba"]])
    assert not hasattr(ours_on(X).to_sklearn(), "feature_names_in_")


def test_single_precision_stays():
    ours = ours_on(X.astype(np.float32))
    theirs = ours.to_sklearn()
    assert theirs.means_.dtype == np.float32
    # theirs rounds every logarithm to float32, of values of about ten
    np.testing.assert_allclose(theirs.score_samples(X), ours.score_samples(X), atol=1e-4)
    assert DifferentiableGaussianMixture.from_sklearn(theirs).means_.dtype == np.float32


def test_parameters_that_were_given_become_theirs():
    given = DifferentiableGaussianMixture.from_parameters(
        [0.25, 0.75], [[0.0], [4.0]], [1.0, 2.0], covariance_type="spherical"
    )
    theirs = given.to_sklearn().set_params(warm_start=True, max_iter=1000)
    assert (theirs.n_components, theirs.converged_, theirs.n_iter_) == (2, False, 0)
    assert_same_predictions(theirs, given, X[:, :1])
    theirs.fit(X[:, :1])  # goes on from there


def test_number_of_components_is_that_of_the_fit():
    ours = ours_on(X).set_params(n_components=7)
    assert ours.to_sklearn().bic(X) == pytest.approx(ours.bic(X), rel=1e-12)
    theirs = theirs_on(X).set_params(n_components=7)
    assert DifferentiableGaussianMixture.from_sklearn(theirs).n_components == 3


@pytest.mark.parametrize(
    "params, words",
    [
        ({"temperature": 2.0}, "^temperature: .*1.0 alone, this one 2.0"),
        ({"temperature": [2.0, 1.5]}, "^temperature: .* this one 1.5"),
        ({"fixed_weights": True}, "^fixed_weights: "),
        ({"e_step": "sinkhorn"}, "^e_step: .*'softmax' alone, this one 'sinkhorn'"),
    ],
)
def test_what_scikit_learn_does_not_have_is_refused_with_the_cure(params, words):
    ours = ours_on(X, **params, max_iter=2000)
    with pytest.raises(ValueError, match=words + ".*from_mixture"):
        ours.to_sklearn()
    plain = DifferentiableGaussianMixture.from_mixture(ours).to_sklearn()
    np.testing.assert_allclose(plain.score_samples(X), ours.score_samples(X), rtol=1e-11)


def test_annealed_to_one_is_a_plain_mixture():
    ours = ours_on(X, temperature=[2.0, 1.0])
    assert_same_predictions(ours.to_sklearn(), ours, X)


def test_other_mixtures_are_refused():
    bayesian = BayesianGaussianMixture(n_components=2, max_iter=500, random_state=0).fit(X)
    for mixture, kind in ((bayesian, "BayesianGaussianMixture"), (ours_on(X).parameters_, "Mix")):
        with pytest.raises(ValueError, match=f"fitted sklearn.*; got {kind}.*from_mixture"):
            DifferentiableGaussianMixture.from_sklearn(mixture)
    with pytest.raises(ValueError, match="this GaussianMixture is not fitted; call fit first"):
        DifferentiableGaussianMixture.from_sklearn(GaussianMixture())
    with pytest.raises(NotFittedError):
        DifferentiableGaussianMixture().to_sklearn()


def test_what_a_pipeline_or_a_search_ends_with_is_taken():
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(max_iter=500, random_state=0))
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [2, 3]}, cv=2).fit(X)
    ours = DifferentiableGaussianMixture.from_sklearn(search)
    Z = search.best_estimator_[0].transform(X)
    np.testing.assert_allclose(ours.score_samples(Z), search.score_samples(X), rtol=1e-10)
