"""Pickles of estimators, which know their version and stay small, and links to their pages."""

import copy
import pickle
import pickletools

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skgmmot
from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture
from skgmmot.em.adjoints import FitRecord
from skgmmot.estimators.manners import OtherVersionWarning, PackageManners

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 2)) + np.repeat([[0, 0], [5, 0], [0, 5]], 100, axis=0)
COTANGENT = (None, np.ones((3, 2)), None)


def single(**params):
    return DifferentiableGaussianMixture(3, **({"random_state": 0, "n_jobs": 1} | params))


def coupled(**params):
    return CoupledGMMFitter(3, **({"random_state": 0, "n_jobs": 1} | params))


FITTED = {
    "mixture": lambda: single().fit(X),
    "stream": lambda: single().partial_fit(X),
    "coupled": lambda: coupled().fit_pair(X[::2], X[1::2]),
}


@pytest.fixture(params=FITTED)
def fitted(request):
    return FITTED[request.param]()


def test_state_has_the_version_and_the_estimator_does_not(fitted):
    assert fitted.__getstate__()["_skgmmot_version"] == skgmmot.__version__
    loaded = pickle.loads(pickle.dumps(fitted))  # warnings are errors
    assert vars(loaded).keys() == vars(fitted).keys()
    assert "_skgmmot_version" not in vars(fitted)


@pytest.mark.parametrize("version", ["0.0.1", "99.0"])
def test_pickles_of_other_versions_load_and_say_so(fitted, version, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("skgmmot.estimators.manners.__version__", version)
        written = pickle.dumps(fitted)
    words = f"was pickled by skgmmot {version} and .*Fit it again"
    with pytest.warns(OtherVersionWarning, match=words) as caught:
        loaded = pickle.loads(written)
    assert {warning.filename for warning in caught} == {__file__}  # of who loads
    assert type(fitted).__name__ in str(caught[-1].message)
    assert len(caught) == (1 if hasattr(fitted, "means_") else 3)  # with its two mixtures
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


def test_pickles_without_a_version_say_so():
    mixture = FITTED["mixture"]()
    state = {name: value for name, value in vars(mixture).items() if name != "_record"}
    state |= {"_record": mixture._record.without_steps()}  # as they were written
    loaded = DifferentiableGaussianMixture()
    with pytest.warns(OtherVersionWarning, match=r"by skgmmot pre-0\.1 and"):
        loaded.__setstate__(state)
    np.testing.assert_array_equal(
        loaded.gradient_wrt_data(X, COTANGENT), mixture.gradient_wrt_data(X, COTANGENT)
    )


def test_warning_is_one_of_scikit_learn_and_can_be_pickled():
    warning = OtherVersionWarning("Mixture", "0.1", "0.2")
    assert isinstance(warning, InconsistentVersionWarning)
    again = pickle.loads(pickle.dumps(warning))
    assert str(again) == str(warning)
    assert (again.estimator_name, again.pickled_version) == ("Mixture", "0.1")


def test_pickles_refer_to_public_classes_alone(fitted):
    """Another version may have moved or changed the others: then nothing could say so."""
    operations = pickletools.genops(pickle.dumps(fitted))
    strings = [argument for _, argument, _ in operations if isinstance(argument, str)]
    modules = {text for text in strings if text.startswith("skgmmot.")}
    public = {getattr(skgmmot, name).__module__ for name in skgmmot.__all__}
    assert modules and modules <= public


def test_private_tuples_come_back(fitted):
    loaded = pickle.loads(pickle.dumps(fitted))
    kinds = {name: kind for name, kind in fitted._as_dict.items() if name in vars(fitted)}
    assert kinds
    for name, kind in kinds.items():
        found, expected = getattr(loaded, name), getattr(fitted, name)
        assert type(found) is type(expected) is kind
        assert isinstance(fitted.__getstate__()[name], dict)


def test_gradients_of_what_was_loaded():
    mixture, fitter = single().fit(X), coupled().fit_pair(X[::2], X[1::2])
    again = pickle.loads(pickle.dumps(mixture))
    np.testing.assert_array_equal(
        again.gradient_wrt_data(X, COTANGENT), mixture.gradient_wrt_data(X, COTANGENT)
    )
    again = pickle.loads(pickle.dumps(fitter))
    for found, expected in zip(
        again.gradient_wrt_data(X[::2], X[1::2], COTANGENT),
        fitter.gradient_wrt_data(X[::2], X[1::2], COTANGENT),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_warm_starts_of_what_was_loaded():
    for estimator in (single(warm_start=True).fit(X), coupled(warm_start=True).fit_pair(X, X + 1)):
        again = pickle.loads(pickle.dumps(estimator))
        again = again.fit(X) if hasattr(again, "means_") else again.fit_pair(X, X + 1)
        assert again.n_iter_ <= 1  # it was there already


@pytest.mark.parametrize("acceleration", [None, "newton"])
def test_size_of_a_pickle_is_that_of_the_parameters(acceleration):
    """Not that of the data, nor that of the steps."""
    sizes = []
    for n in (300, 3000):
        data = np.concatenate([X + shift for shift in np.linspace(0, 1, n // 300)])
        mixture = single(acceleration=acceleration, residual_tol=1e-9).fit(data)
        sizes.append(len(pickle.dumps(mixture)) - 9 * mixture.n_iter_)  # lower_bounds_
        assert mixture._record.path is not None
    # three sets of parameters of 21 numbers, precisions, and the constructor's parameters
    assert max(sizes) < 5000
    fitter = coupled().fit_pair(*np.split(data, 2))
    assert len(pickle.dumps(fitter)) < 10_000 < data.nbytes


def test_a_kept_path_stays_in_memory():
    mixture = single(acceleration=None).fit(X)
    assert mixture._record.path.length == mixture.n_iter_
    again = pickle.loads(pickle.dumps(mixture))._record
    assert again.path is None and again.last is None
    assert again.extent == mixture._record.extent


def test_copies_and_clones_are_of_this_version(fitted):
    for other in (copy.copy(fitted), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))
    assert not hasattr(clone(fitted), "n_iter_")


def test_joblib_and_pipelines(tmp_path):
    pipeline = make_pipeline(StandardScaler(), single()).fit(X)
    joblib.dump(pipeline, tmp_path / "pipeline")
    again = joblib.load(tmp_path / "pipeline")
    np.testing.assert_array_equal(again.score_samples(X), pipeline.score_samples(X))


def test_fields_of_another_version_come_after_the_warning():
    class Other(PackageManners, BaseEstimator):
        _as_dict = {"_record": FitRecord}

    state = {"_record": {"end": None, "invented": 1}, "_skgmmot_version": "99.0"}
    with (
        pytest.warns(InconsistentVersionWarning, match=r"99\.0"),
        pytest.raises(TypeError, match="invented"),
    ):
        Other().__setstate__(state)
    assert "_skgmmot_version" in state  # it is not ours to change


@pytest.mark.parametrize("kind", [DifferentiableGaussianMixture, CoupledGMMFitter])
def test_displays_link_to_the_page_of_the_reference(kind):
    name = kind.__name__
    link = f"/generated/skgmmot.{name}.html"
    assert kind()._get_doc_link().endswith(link)
    assert link in kind()._repr_html_()
    assert f"Documentation for {name}" in kind()._repr_html_()

    class Derived(kind):
        """Of another package: it has no page in ours."""

        __module__ = "elsewhere"

    assert Derived()._get_doc_link() == ""
