"""A coupled fit before a classifier, in Pipelines and searches: what is routed where."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skgmmot import CoupledGMMFitter

# Two classes six apart; the target has moved nearly as far, and a tenth of its classes is known.
RNG = np.random.default_rng(0)
DOMAIN = np.repeat([1, -1], 300)
SOURCE, TARGET = DOMAIN > 0, DOMAIN < 0
CLASS = RNG.integers(2, size=600)
X = np.column_stack([6.0 * CLASS, np.zeros(600)]) + RNG.normal(size=(600, 2))
X[TARGET] += [5.0, 2.0]
KNOWN = SOURCE | (np.arange(600) % 10 == 0)
Y = np.where(KNOWN, CLASS, 0)
GRID = {
    "coupledgmmfitter__n_components": [1, 2],
    "coupledgmmfitter__transport_weight": [0.001, 0.1],
}
SPLITS = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, 2 * DOMAIN + KNOWN))


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def adapter(**params):
    fitter = CoupledGMMFitter(random_state=0, **params).set_fit_request(sample_domain=True)
    return fitter.set_transform_request(sample_domain=True)


def aliased():
    """A Pipeline whose classifier learns from ``learn_from``."""
    return make_pipeline(
        adapter(), LogisticRegression().set_fit_request(sample_weight="learn_from")
    )


def judged_by_the_target():
    accuracy = get_scorer("accuracy").set_score_request(sample_weight="judge_by")
    search = GridSearchCV(aliased(), GRID, scoring=accuracy, cv=SPLITS)
    judges = (KNOWN & TARGET).astype(float)
    return search.fit(X, Y, sample_domain=DOMAIN, learn_from=SOURCE.astype(float), judge_by=judges)


def accuracy_on_the_target(model):
    return (model.predict(X[TARGET]) == CLASS[TARGET]).mean()


def test_a_search_judged_by_known_rows_of_the_target():
    search = judged_by_the_target()
    # two settings move the classes to where they are, two do not, as the known rows tell
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    assert (scores[:, 0] > 0.95).all() and (scores[:, 1] < 0.6).all()
    assert search.best_params_["coupledgmmfitter__transport_weight"] == 0.001
    assert accuracy_on_the_target(search) > 0.98
    unadapted = LogisticRegression().fit(X[SOURCE], CLASS[SOURCE])
    assert accuracy_on_the_target(unadapted) < 0.6


def test_known_rows_of_the_target_are_not_learned_from():
    """Their classes may be wrong, or not there: only the judge sees them."""
    known = judged_by_the_target().best_estimator_
    wrong = np.where(TARGET, 1 - Y, Y)
    fitted = clone(known).fit(X, wrong, sample_domain=DOMAIN, learn_from=SOURCE.astype(float))
    np.testing.assert_array_equal(fitted[-1].coef_, known[-1].coef_)


def test_the_source_cannot_judge_where_its_rows_arrive():
    """Held-out rows of the source, moved as those that were learned from, are told apart anyway."""
    for params in ParameterGrid(GRID):
        scores = []
        for train, test in SPLITS:
            pipeline = aliased().set_params(**params)
            learn_from = SOURCE[train].astype(float)
            pipeline.fit(X[train], Y[train], sample_domain=DOMAIN[train], learn_from=learn_from)
            rows = test[SOURCE[test]]
            found = pipeline.predict(X[rows], sample_domain=DOMAIN[rows])
            scores.append((found == CLASS[rows]).mean())
        assert np.mean(scores) > 0.99, params


def test_rows_of_the_source_are_moved_if_they_say_so():
    pipeline = judged_by_the_target().best_estimator_
    told = pipeline.predict(X[SOURCE], sample_domain=DOMAIN[SOURCE])
    assert (told == CLASS[SOURCE]).mean() > 0.98
    assert (pipeline.predict(X[SOURCE]) == CLASS[SOURCE]).mean() < 0.6
    np.testing.assert_array_equal(
        pipeline.predict(X[TARGET]), pipeline.predict(X[TARGET], sample_domain=DOMAIN[TARGET])
    )


def test_a_mark_of_unknown_rows_is_a_class_of_its_own():
    pipeline = aliased().set_params(coupledgmmfitter__transport_weight=0.001)
    pipeline.fit(
        X, np.where(KNOWN, CLASS, -1), sample_domain=DOMAIN, learn_from=SOURCE.astype(float)
    )
    assert pipeline[-1].classes_.tolist() == [-1, 0, 1]


def test_without_domains_the_classes_are_taken_for_them():
    """What the guide warns of: the fitter cannot know that ``y`` is not for it."""
    with sklearn.config_context(enable_metadata_routing=False):
        pipeline = make_pipeline(CoupledGMMFitter(random_state=0), LogisticRegression()).fit(X, Y)
        assert pipeline[0].domains_ == (0, 1)
        assert accuracy_on_the_target(pipeline) < 0.6


def test_folds_hold_all_kinds_of_rows():
    for train, test in SPLITS:
        for rows in (train, test):
            assert len(np.unique((2 * DOMAIN + KNOWN)[rows])) == 3


def test_folds_of_one_domain_are_refused_in_a_pipeline_too():
    pipeline = aliased()
    train = np.flatnonzero(SOURCE)
    search = GridSearchCV(pipeline, {}, cv=[(train, np.flatnonzero(TARGET))], error_score="raise")
    with pytest.raises(ValueError, match=r"cv=StratifiedKFold\(\)\.split\(X, sample_domain\)"):
        search.fit(X, Y, sample_domain=DOMAIN, learn_from=np.ones(600))
