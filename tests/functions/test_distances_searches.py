"""Distances between mixtures that scikit-learn has cut up: arrays of objects, folds, searches."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import pairwise_distances
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_barycenter,
    mixture_wasserstein,
    pairwise_mixture_wasserstein,
)

LABELS = np.tile([0, 1, 2], 8)


def tuples(seed=0):
    """Mixtures of three kinds, whose components are as many but lie in other directions."""
    rng = np.random.default_rng(seed)
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])
    return [
        ([0.5, 0.5], rng.normal(scale=0.4, size=(2, 2)) + [3 * directions[k], [0, 0]], [1.0, 0.5])
        for k in LABELS
    ]


def pipelines():
    data = np.random.default_rng(0).normal(size=(4, 50, 2)) + np.arange(4)[:, None, None]
    mixture = GaussianMixture(random_state=0)
    return [make_pipeline(StandardScaler(with_std=False), mixture).fit(X) for X in data[:2]] + [
        DifferentiableGaussianMixture(2, random_state=0).fit(X) for X in data[2:]
    ]


def column_of(mixtures):
    return np.fromiter(mixtures, dtype=object)


MIXTURES = {
    "tuples": tuples,
    "parameters": lambda: [MixtureParameters(*map(np.array, mixture)) for mixture in tuples()],
    "estimators": pipelines,
}


@pytest.mark.parametrize("kind", MIXTURES)
def test_arrays_of_objects_are_lists(kind):
    mixtures = MIXTURES[kind]()
    expected = pairwise_mixture_wasserstein(mixtures)
    array = column_of(mixtures)
    for form in (array, array[:, None], pd.Series(array), tuple(mixtures)):
        np.testing.assert_array_equal(pairwise_mixture_wasserstein(form), expected)
    rows = np.array([3, 0, 2])
    found = pairwise_mixture_wasserstein(array[rows], array[:, None][:2])
    np.testing.assert_allclose(found, expected[rows, :2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", MIXTURES)
def test_one_row_of_a_column_is_a_mixture(kind):
    mixtures = MIXTURES[kind]()
    column = column_of(mixtures)[:, None]
    assert mixture_wasserstein(column[0], column[1]) == mixture_wasserstein(*mixtures[:2])
    mean = mixture_barycenter(column[:3])
    # the square root of a rounding, of squares below ten
    assert mixture_wasserstein(mean, mixture_barycenter(mixtures[:3])) < 1e-7


@pytest.mark.parametrize(
    "array, shape",
    [
        (np.array([column_of([1.0, 2.0, 3.0])] * 4), r"\(4, 3\)"),  # tuples taken apart
        (column_of(pipelines()[:1]).reshape(()), r"\(\)"),
        (np.ones((4, 1)), r"\(4, 1\)"),
    ],
)
def test_other_arrays_are_refused_with_the_cure(array, shape):
    words = rf"^{{}}: an array must hold objects, one mixture.*{shape}.*np\.fromiter"
    with pytest.raises(ValueError, match=words.format("A")):
        pairwise_mixture_wasserstein(array)
    with pytest.raises(ValueError, match=words.format("B")):
        pairwise_mixture_wasserstein(tuples(), array)
    with pytest.raises(ValueError, match="^A is empty"):
        pairwise_mixture_wasserstein(np.empty(0, dtype=object))
    with pytest.raises(ValueError, match="^A must be a sequence of mixtures; got MixtureParameter"):
        pairwise_mixture_wasserstein(MixtureParameters([1.0], [[0.0]], [1.0]))


def test_the_distance_is_a_metric_of_pairwise_distances():
    mixtures = column_of(tuples()[:5])
    expected = pairwise_mixture_wasserstein(mixtures)
    for form in (mixtures, mixtures[:, None]):
        found = pairwise_distances(form, metric=mixture_wasserstein)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


FOLDS = StratifiedKFold(4, shuffle=True, random_state=0)


def test_neighbours_by_a_precomputed_metric_in_a_search():
    """Splitters take the rows and the columns of a precomputed metric."""
    mixtures = tuples()
    neighbours = KNeighborsClassifier(metric="precomputed")
    search = GridSearchCV(neighbours, {"n_neighbors": [1, 3, 15]}, cv=FOLDS)
    distances = pairwise_mixture_wasserstein(mixtures)
    search.fit(distances, LABELS)
    assert search.best_score_ > 0.9
    # fifteen neighbours of eighteen are of all kinds
    assert search.cv_results_["mean_test_score"][2] < search.best_score_
    again = pairwise_mixture_wasserstein(tuples(1), mixtures)  # others of the same kinds
    assert search.score(again, LABELS) > 0.9


class Distances(TransformerMixin, BaseEstimator):
    """To the mixtures that it is fitted to."""

    def __init__(self, reg=0.0):
        self.reg = reg

    def fit(self, X, y=None):
        self.mixtures_ = X
        return self

    def transform(self, X):
        return pairwise_mixture_wasserstein(X, self.mixtures_, reg=self.reg)


def test_mixtures_themselves_in_a_search():
    pipeline = make_pipeline(Distances(), KNeighborsClassifier(metric="precomputed"))
    grid = {"distances__reg": [0.0, 1.0], "kneighborsclassifier__n_neighbors": [1, 3]}
    mixtures = tuples()
    scores = []
    for form in (mixtures, column_of(mixtures), column_of(mixtures)[:, None]):
        search = GridSearchCV(pipeline, grid, cv=FOLDS).fit(form, LABELS)
        scores.append(search.cv_results_["mean_test_score"])
        assert search.best_score_ > 0.9
        assert (search.predict(form) == LABELS).all()
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    best = search.best_estimator_
    assert (cross_val_score(best, column_of(mixtures), LABELS, cv=FOLDS) > 0.8).all()
