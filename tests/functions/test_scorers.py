"""Criteria as scorers: their sign, what they are about, and searches that use them."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture
from skgmmot.metrics import aic_scorer, bic_scorer, icl_scorer

SCORERS = {"aic": aic_scorer, "bic": bic_scorer, "icl": icl_scorer}
RNG = np.random.default_rng(0)
# three groups, of two units of length
X = RNG.normal(size=(300, 2)) + np.repeat([[0, 0], [6, 0], [0, 6]], 100, axis=0)
X = X * [1.0, 100.0]
ALL = [(np.arange(300), np.arange(300))]
DOMAIN = np.tile([1, -1], 150)


def mixture(n_components=3, **params):
    return DifferentiableGaussianMixture(n_components, random_state=0, **params)


@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_minus_the_criteria(name):
    fitted = mixture().fit(X)
    weight = RNG.uniform(size=len(X))
    score = SCORERS[name]
    assert score(fitted, X) == score(fitted, X, DOMAIN) == -getattr(fitted, name)(X)
    expected = -getattr(fitted, name)(X, sample_weight=weight)
    assert score(fitted, X, sample_weight=weight) == expected != score(fitted, X)
    assert type(score(fitted, X)) is float


@pytest.mark.parametrize("name", ["aic", "bic"])
def test_mixtures_of_scikit_learn_have_scores(name):
    theirs = GaussianMixture(3, random_state=0).fit(X)
    assert SCORERS[name](theirs, X) == -getattr(theirs, name)(X)


@pytest.mark.parametrize("name", SCORERS)
def test_scores_of_a_coupled_fit_need_its_domains(name):
    fitter = CoupledGMMFitter(3, random_state=0).fit(X, DOMAIN)
    assert SCORERS[name](fitter, X, DOMAIN) == -getattr(fitter, name)(X, DOMAIN)
    with pytest.raises(ValueError, match="neither sample_domain nor y"):
        SCORERS[name](fitter, X)


def test_a_pipeline_is_scored_where_its_mixture_lives():
    steps = StandardScaler(), "passthrough", PCA(2)
    pipeline = make_pipeline(*steps, mixture()).fit(X)
    Z = PCA(2).fit_transform(StandardScaler().fit_transform(X))
    assert bic_scorer(pipeline, X) == -mixture().fit(Z).bic(Z)
    alone = make_pipeline(mixture()).fit(X)
    assert bic_scorer(alone, X) == -mixture().fit(X).bic(X)
    nested = make_pipeline(StandardScaler(), make_pipeline(PCA(2), mixture())).fit(X)
    assert bic_scorer(nested, X) == bic_scorer(pipeline, X)


@pytest.mark.parametrize("name", SCORERS)
def test_searches_choose_the_groups(name):
    """By the same values as a loop: BIC and ICL find three, and the sign is right."""
    pipeline = make_pipeline(StandardScaler(), mixture(covariance_type="diag"))
    key = "differentiablegaussianmixture__n_components"
    grid = [1, 2, 3, 5]
    search = GridSearchCV(pipeline, {key: grid}, scoring=SCORERS[name], cv=ALL).fit(X)
    Z = StandardScaler().fit_transform(X)
    fits = [mixture(n, covariance_type="diag").fit(Z) for n in grid]
    loop = [-getattr(fit, name)(Z) for fit in fits]
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], loop)
    if name != "aic":
        assert search.best_params_ == {key: 3}
    assert search.best_score_ == max(loop)
    assert SCORERS[name](search, X) == max(loop)  # also of the search itself


def test_several_scorers_at_once():
    found = cross_validate(mixture(), X, scoring=SCORERS, cv=ALL)
    fitted = mixture().fit(X)
    for name in SCORERS:
        assert found[f"test_{name}"] == [-getattr(fitted, name)(X)]


def test_folds_are_scored_by_the_rows_held_out():
    found = cross_val_score(mixture(), X, scoring=bic_scorer, cv=[(ALL[0][0][::2], [1, 3, 5, 7])])
    assert found == -mixture().fit(X[::2]).bic(X[[1, 3, 5, 7]])


def test_coupled_fits_in_a_search():
    fitter = CoupledGMMFitter(random_state=0, covariance_type="spherical")
    Z = X / [1.0, 100.0]
    search = GridSearchCV(fitter, {"n_components": [1, 3, 4]}, scoring=bic_scorer, cv=ALL)
    assert search.fit(Z, DOMAIN).best_params_ == {"n_components": 3}


@pytest.mark.parametrize("name", SCORERS)
def test_what_has_no_criterion_is_refused(name):
    pipeline = make_pipeline(StandardScaler(), KMeans(2, n_init=1, random_state=0)).fit(X)
    with pytest.raises(ValueError, match=f"estimator: a KMeans has no {name}. Score a Gaussian"):
        SCORERS[name](pipeline, X)


def test_icl_of_scikit_learn_is_refused():
    with pytest.raises(ValueError, match="estimator: a GaussianMixture has no icl"):
        icl_scorer(GaussianMixture(2, random_state=0).fit(X), X)
