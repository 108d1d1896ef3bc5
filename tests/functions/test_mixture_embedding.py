"""Sets of samples as rows of features, in scikit-learn's manner."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureEmbedding,
    MixtureParameters,
    fit_mixtures,
    pairwise_mixture_wasserstein,
)
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def sets_of_two_kinds(n_sets=24, seed=0, apart=1.0):
    """Two clusters along one diagonal, or along the other; sets of many sizes."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n_sets) % 2
    sets = []
    for kind in kinds:
        sign = rng.permutation(np.arange(rng.integers(30, 90)) % 2) * 2.0 - 1.0
        X = rng.normal(size=(len(sign), 2)) + apart * sign[:, None] * [4.0, 3.0 - 6.0 * kind]
        sets.append(X)
    return sets, kinds


SETS, KINDS = sets_of_two_kinds()


@all_types
def test_parameters_are_those_of_fits_from_the_common_mixture(kind):
    embedding = MixtureEmbedding(2, covariance_type=kind, random_state=0)
    rows = embedding.fit_transform(SETS)
    common = DifferentiableGaussianMixture(
        2, covariance_type=kind, random_state=np.random.RandomState(0), residual_tol=np.inf
    ).fit(np.concatenate(SETS))
    np.testing.assert_array_equal(embedding.mixture_.means, common.means_)
    fits = fit_mixtures(SETS, initial=common, covariance_type=kind, residual_tol=np.inf)
    values = dict(zip(embedding.get_feature_names_out(), rows.T, strict=True))
    np.testing.assert_array_equal(values["weight1"], fits.weights[:, 1])
    np.testing.assert_array_equal(values["mean1_0"], fits.means[:, 1, 0])
    name, entry = {
        "full": ("covariance1_1_0", (1, 1, 0)),
        "tied": ("covariance_1_0", (1, 0)),
        "diag": ("covariance1_0", (1, 0)),
        "spherical": ("covariance1", (1,)),
    }[kind]
    np.testing.assert_array_equal(values[name], fits.covariances[:, *entry])


def test_distances_to_some_of_the_sets():
    embedding = MixtureEmbedding(2, features="distances", anchors=5, random_state=0)
    rows = embedding.fit_transform(SETS)
    assert rows.shape == (24, 5) and len(embedding.anchors_) == 5
    assert list(embedding.get_feature_names_out()) == [f"distance{i}" for i in range(5)]
    # each anchor is one of the sets, and no two are the same
    nearest = rows.argmin(axis=0)
    np.testing.assert_allclose(rows[nearest, range(5)], 0.0, atol=1e-6)
    assert len(set(nearest)) == 5
    options = {"covariance_type": "diag", "residual_tol": np.inf}
    fits = fit_mixtures(SETS, initial=embedding.mixture_, **options)
    expected = pairwise_mixture_wasserstein(list(fits), embedding.anchors_)
    np.testing.assert_array_equal(rows, expected)


def test_anchors_that_are_given():
    anchors = [MixtureParameters(np.ones(1), np.full((1, 2), x), np.ones((1, 2))) for x in (0.0, 9)]
    embedding = MixtureEmbedding(2, features="distances", anchors=anchors, random_state=0)
    rows = embedding.fit_transform(SETS)
    assert rows.shape == (24, 2) and (rows[:, 1] > rows[:, 0]).all()


def test_no_more_anchors_than_sets():
    embedding = MixtureEmbedding(2, features="distances", random_state=0).fit(SETS[:3])
    assert len(embedding.anchors_) == 3


@pytest.mark.parametrize("features", ["parameters", "distances"])
def test_before_a_classifier(features):
    model = make_pipeline(
        MixtureEmbedding(2, features=features, random_state=0),
        StandardScaler(),
        LogisticRegression(),
    )
    search = GridSearchCV(model, {"mixtureembedding__n_components": [1, 2]}, cv=3)
    search.fit(SETS, KINDS)
    others, kinds = sets_of_two_kinds(seed=1)
    assert search.score(others, kinds) > 0.9
    assert search.best_params_ == {"mixtureembedding__n_components": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"tol": 10.0},
        {"residual_tol": 1e-8},
        {"reg_covar": 1.0},
        {"init_params": "random_from_data"},
        {"random_state": 5, "features": "distances"},
        {"n_components": 3},
        {"max_iter": 1},
    ],
)
@pytest.mark.filterwarnings("ignore:EM did not converge")
def test_options_do_something(options):
    sets, _ = sets_of_two_kinds(apart=0.3)
    plain = {"random_state": 0, "features": options.get("features", "parameters"), "anchors": 4}
    ours = MixtureEmbedding(2, **plain).fit_transform(sets)
    others = MixtureEmbedding(**{"n_components": 2, **plain, **options}).fit_transform(sets)
    assert ours.shape != others.shape or not np.allclose(ours, others, rtol=1e-9)


def test_threads_change_nothing():
    one, many = (MixtureEmbedding(2, random_state=0, n_jobs=n).fit(SETS) for n in (1, 3))
    np.testing.assert_array_equal(one.transform(SETS), many.transform(SETS))


def test_what_becomes_of_a_set_does_not_depend_on_the_others():
    embedding = MixtureEmbedding(2, random_state=0).fit(SETS)
    whole = embedding.transform(SETS)
    np.testing.assert_array_equal(embedding.transform(SETS[3:5]), whole[3:5])
    cube = embedding.transform(np.stack([own[:20] for own in SETS]))
    np.testing.assert_array_equal(cube, embedding.transform([own[:20] for own in SETS]))


def test_manners():
    embedding = MixtureEmbedding(2, features="distances", anchors=3, random_state=0)
    parameters = embedding.get_params()
    with pytest.raises(NotFittedError):
        embedding.transform(SETS)
    fitted = embedding.fit(SETS)
    assert fitted is embedding and embedding.get_params() == parameters
    assert embedding.n_features_in_ == 2
    copy = pickle.loads(pickle.dumps(embedding))
    np.testing.assert_array_equal(copy.transform(SETS), embedding.transform(SETS))
    assert not hasattr(clone(embedding), "mixture_")
    tags = embedding.__sklearn_tags__()
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array
    frame = clone(embedding).set_output(transform="pandas").fit_transform(SETS)
    assert list(frame.columns) == ["distance0", "distance1", "distance2"]


def test_a_fit_that_has_not_converged_is_told_of():
    with pytest.warns(ConvergenceWarning, match="EM did not converge"):
        MixtureEmbedding(2, max_iter=1, tol=0.0, random_state=0).fit(SETS)


def test_a_set_that_cannot_be_fitted_is_refused():
    embedding = MixtureEmbedding(3, random_state=0).fit(SETS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"1 of 3 sets. Set 1: it has 2 samples"):
            embedding.transform([SETS[0], SETS[1][:2], SETS[2]])
    few = MixtureEmbedding(3, features="distances", random_state=0)
    with pytest.raises(ValueError, match=r"Set 7: it has 2 samples"):
        few.fit([*SETS[:7], SETS[7][:2]])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"features": "all"}, "features"),
        ({"anchors": 0, "features": "distances"}, "anchors"),
        ({"anchors": [], "features": "distances"}, "anchors"),
        ({"anchors": [3], "features": "distances"}, r"anchors\[0\]"),
        ({"n_components": 0}, "n_components"),
        ({"tol": -1.0}, "tol"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        MixtureEmbedding(**options).fit(SETS)


def test_other_features_are_refused():
    embedding = MixtureEmbedding(2, random_state=0).fit(SETS)
    with pytest.raises(
        ValueError, match="sets have 3 features, but MixtureEmbedding was fitted to 2"
    ):
        embedding.transform([np.zeros((5, 3))])
