"""What a fit leaves on its estimator: all of itself, or if it fails, all of the last fit."""

import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import skgmmot
from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.parameters import MixtureParameters

RNG = np.random.default_rng(0)
# the last fit is of two features with names, what fails is of three
NAMED = pd.DataFrame(RNG.normal(size=(40, 2)) + np.repeat([[0], [5]], 20, axis=0), columns=[*"ab"])
OTHER = RNG.normal(size=(50, 3)) + np.repeat([[0], [4]], 25, axis=0)
DOMAIN = np.tile([1, -1], 20)
OTHER_DOMAIN = np.tile(["left", "right"], 25)


def single(**params):
    return DifferentiableGaussianMixture(2, **({"random_state": 0, "n_jobs": 1} | params))


def coupled(**params):
    return CoupledGMMFitter(2, **({"random_state": 0, "n_jobs": 1} | params))


# How each estimator is fitted at first, and the ways in which it is fitted again.
FITS = {
    "fit": (single, lambda m: m.fit(NAMED), lambda m, X: m.fit(X)),
    "fit_predict": (single, lambda m: m.fit(NAMED), lambda m, X: m.fit_predict(X)),
    "coupled fit": (
        coupled,
        lambda m: m.fit(NAMED, DOMAIN),
        lambda m, X: m.fit(X, OTHER_DOMAIN[: len(X)]),
    ),
    "fit_pair": (
        coupled,
        lambda m: m.fit(NAMED, DOMAIN),
        lambda m, X: m.fit_pair(X[:25], X[25:]),
    ),
    "fit_transform": (
        coupled,
        lambda m: m.fit_pair(NAMED[:20], NAMED[20:]),
        lambda m, X: m.fit_transform(X, OTHER_DOMAIN[: len(X)]),
    ),
}


# By scikit-learn itself, where a callback is interrupted in its teardown.
LEFT = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}


def fails(estimator, call, error=KeyboardInterrupt):
    """That what is called raises, and that the estimator is what it was: the same objects."""
    before = dict(vars(estimator))
    arrays = {name: value.copy() for name, value in before.items() if hasattr(value, "dtype")}
    with pytest.raises(error):
        call()
    assert vars(estimator).keys() - LEFT == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())
    for name, array in arrays.items():
        np.testing.assert_array_equal(before[name], array)


def pairs_of_estimators(make, first):
    """One that was fitted, and one that was not."""
    return first(make()), make()


class InterruptAt:
    """Raises KeyboardInterrupt as Python enters the n-th function of the package.

    The samples and what is below are left out: they have threads and locks of their own.
    """

    PACKAGE = str(Path(skgmmot.__file__).parent)
    LEFT_OUT = tuple(
        str(Path(skgmmot.__file__).parent / room) for room in ("samples", "kernels", "numerics")
    )

    def __init__(self, n=None):
        self.n, self.count = n, 0

    def __call__(self, frame, event, arg):
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        counts = file.startswith(self.PACKAGE) and not file.startswith(self.LEFT_OUT)
        # Python enters a generator to close it as well, and drops what that raises
        if event == "call" and counts and name != "<genexpr>":
            self.count += 1
            if self.count == self.n:
                raise KeyboardInterrupt

    def __enter__(self):
        self.last = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_):
        sys.settrace(self.last)


@pytest.mark.filterwarnings("ignore:.*did not converge:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_interrupts_anywhere_leave_the_last_fit(name):
    make, first, again = FITS[name]
    fitted, unfitted = pairs_of_estimators(lambda: make(max_iter=4), first)
    trial = clone(fitted)
    again(trial, OTHER)  # what is done only once is done
    with InterruptAt() as counting:
        again(trial, OTHER)
    # all of the beginning and the end, and some in between
    last = counting.count
    places = {*range(1, 10), *np.linspace(10, last - 10, 12), *range(last - 10, last + 1)}

    def call(estimator, n):
        with InterruptAt(n):
            again(estimator, OTHER)

    for n in sorted({int(n) for n in places}):
        for estimator in (fitted, unfitted):
            fails(estimator, lambda estimator=estimator, n=n: call(estimator, n))


def stop(*args, **kwargs):
    raise KeyboardInterrupt


STAGES = {
    "data": lambda m, again: again(m, np.where(OTHER > 4, np.nan, OTHER)),
    "number of rows": lambda m, again: again(m.set_params(n_components=51), OTHER),
    "parameters": lambda m, again: again(m.set_params(tol=-1), OTHER),
    "initial parameters": lambda m, again: again(m.set_params(means_init=OTHER[:3]), OTHER),
    "collapse": lambda m, again: again(m.set_params(reg_covar=0), 0 * OTHER),
    "not converged": lambda m, again: again(m.set_params(max_iter=1), OTHER),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", FITS)
def test_failed_fits_leave_the_last_one(name, stage):
    make, first, again = FITS[name]
    for estimator in pairs_of_estimators(make, first):
        params = estimator.get_params()
        before = dict(vars(estimator))
        with pytest.raises((ValueError, ConvergenceWarning)):
            STAGES[stage](estimator, again)
        estimator.set_params(**params)
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is value for name, value in before.items())


@pytest.mark.parametrize(
    "name, place",
    [
        ("fit", "estimators.em_options.initial_parameters"),
        ("fit", "em.adjoints.extent_of"),
        ("fit_predict", "estimators.mixture.complaints_of"),
        ("fit_predict", "DifferentiableGaussianMixture.predict"),
        ("coupled fit", "estimators.coupled_starts.independent_fit"),
        ("coupled fit", "estimators.coupled_fit.CoupledFit._attributes"),
        ("fit_pair", "estimators.coupled_starts.pooled"),
        ("fit_pair", "estimators.coupled_fit.CoupledFit._complaints"),
        ("fit_transform", "estimators.coupled_fit.maximize"),
        ("fit_transform", "CoupledGMMFitter.transform"),
    ],
)
def test_interrupts_where_it_matters(monkeypatch, name, place):
    make, first, again = FITS[name]
    fitted, unfitted = pairs_of_estimators(make, first)
    monkeypatch.setattr(f"skgmmot.{place}", stop)
    for estimator in (fitted, unfitted):
        fails(estimator, lambda estimator=estimator: again(estimator, OTHER))


@pytest.mark.parametrize("hook", ["setup", "on_fit_task_begin", "on_fit_task_end", "teardown"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("name", FITS)
def test_failing_callbacks_leave_the_last_fit(name, error, hook):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from version 1.9")
    make, first, again = FITS[name]

    class Failing:
        def __init__(self, fail_at):
            self.left = fail_at

        def count(self, name):
            if name == hook:
                self.left -= 1
                if self.left < 0:
                    raise error

        def setup(self, estimator, context):
            self.count("setup")

        def teardown(self, estimator, context):
            self.count("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.count("on_fit_task_begin")

        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            self.count("on_fit_task_end")

    for estimator in pairs_of_estimators(make, first):
        # at the first task, and in the midst of the steps
        for at in (0, 3) if hook.startswith("on_") else (0,):
            estimator.set_callbacks(Failing(at))
            fails(estimator, lambda estimator=estimator: again(estimator, OTHER), error)


def test_last_task_of_a_callback_fails():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from version 1.9")

    class Failing:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            if context.task_name == "fit":
                raise RuntimeError

    for make, first, again in FITS.values():
        estimator = first(make()).set_callbacks(Failing())
        fails(estimator, lambda again=again, m=estimator: again(m, OTHER), RuntimeError)


@pytest.mark.parametrize("name", FITS)
def test_what_failed_at_first_is_clearly_unfitted(name):
    make, _, again = FITS[name]
    estimator = make()
    with pytest.raises(ValueError, match="NaN"):
        again(estimator, np.where(OTHER > 4, np.nan, OTHER))
    assert vars(estimator) == vars(make())
    with pytest.raises(NotFittedError):
        estimator.predict(OTHER)


def test_predictions_go_on_after_a_failed_fit():
    mixture = single(init_params="random").fit(NAMED).set_params(reg_covar=0)
    fitter = coupled().fit(NAMED, DOMAIN)
    expected = mixture.predict_proba(NAMED), fitter.transform(NAMED, sample_domain=DOMAIN)
    with pytest.raises(ValueError, match="not positive definite"):
        mixture.fit(0 * OTHER)
    fitter.set_params(freeze_target=True, n_components=26)
    with pytest.raises(ValueError, match="n_samples"):
        fitter.fit(OTHER, OTHER_DOMAIN)
    np.testing.assert_array_equal(mixture.predict_proba(NAMED), expected[0])
    moved = fitter.transform(NAMED, sample_domain=DOMAIN)  # still the old labels, and features
    np.testing.assert_array_equal(moved, expected[1])
    free = coupled().fit(NAMED, DOMAIN)
    assert fitter.bic(NAMED, DOMAIN) == free.bic(NAMED, DOMAIN)  # of a target that is not frozen


@pytest.mark.parametrize("name", FITS)
def test_failed_warm_starts_are_as_if_they_had_not_been(name, monkeypatch):
    make, _, again = FITS[name]
    estimator, untouched = (make(warm_start=True) for _ in range(2))
    for one in (estimator, untouched):
        again(one, OTHER)
    with monkeypatch.context() as patch:
        patch.setattr("skgmmot.em.adjoints.extent_of", stop)
        patch.setattr("skgmmot.estimators.coupled_fit.CoupledFit._complaints", stop)
        with pytest.raises(KeyboardInterrupt):
            again(estimator, OTHER + 1)
    for one in (estimator, untouched):
        again(one, OTHER + 0.1)
    assert estimator.lower_bounds_ == untouched.lower_bounds_


# Nothing of a fit outlives the next one

OPTIONS = [
    {},
    {"e_step": "sinkhorn", "fixed_weights": True},
    {"temperature": [2.0, 1.0]},
    {"acceleration": "newton", "max_iter": 50},
    {"max_iter": 0},
]


@pytest.mark.parametrize("before, after", [*permutations(range(len(OPTIONS)), 2)])
def test_refits_have_the_attributes_of_a_fresh_fit(before, after):
    fresh = single(**OPTIONS[after]).fit(OTHER)
    again = single(**OPTIONS[before]).fit(NAMED)
    again.set_params(**single(**OPTIONS[after]).get_params()).fit(OTHER)
    assert vars(again).keys() == vars(fresh).keys()
    assert again.lower_bounds_ == fresh.lower_bounds_
    assert hasattr(again, "marginal_error_") == (again.e_step == "sinkhorn")


def test_fits_set_what_they_say_they_set():
    of_input = {"n_features_in_", "feature_names_in_"}
    found = set()
    for options in OPTIONS:
        found |= vars(single(**options).fit(NAMED)).keys() - single().get_params().keys()
    for rows in (NAMED, pd.concat([NAMED] * 3)):  # too few to begin, and enough
        found |= vars(single().partial_fit(rows)).keys() - single().get_params().keys()
    assert found == {*DifferentiableGaussianMixture._of_fit} | of_input
    fitter = coupled().fit(NAMED, DOMAIN)
    found = vars(fitter).keys() - coupled().get_params().keys()
    assert found == {*CoupledGMMFitter._of_fit} | of_input


def test_callbacks_see_nothing_of_the_last_fit():
    pytest.importorskip("sklearn.callback", reason="scikit-learn has callbacks from version 1.9")

    class Recorder:
        def __init__(self):
            self.seen = []

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            self.seen.append(set(vars(fitted_estimator or estimator)))

    for make, first, again in FITS.values():
        seen = []
        for estimator in pairs_of_estimators(make, first):
            recorder = Recorder()
            again(estimator.set_callbacks(recorder), OTHER)
            seen.append(recorder.seen)
        assert seen[0] == seen[1]


# A fit is of the covariance type that it was made with


@pytest.mark.parametrize("before, after", [*permutations(["full", "tied", "diag", "spherical"], 2)])
def test_warm_starts_from_another_covariance_type_are_refused(before, after):
    X = NAMED.to_numpy()  # as many features as components: tied and diag have the same shape
    mixture = single(covariance_type=before, warm_start=True).fit(X)
    mixture.set_params(covariance_type=after)
    words = f"warm_start.*{before}.*{after}.*warm_start=False"
    fails(mixture, lambda: mixture.fit(X), ValueError)
    with pytest.raises(ValueError, match=words):
        mixture.fit(X)
    mixture.set_params(warm_start=False).fit(X)
    expected = single(covariance_type=after).fit(X)
    np.testing.assert_array_equal(mixture.covariances_, expected.covariances_)


@pytest.mark.parametrize(
    "params, X",
    [({"n_components": 3}, NAMED.to_numpy()), ({}, OTHER), ({"n_components": 1}, OTHER)],
)
def test_warm_starts_of_other_shapes_are_refused(params, X):
    mixture = single(warm_start=True).fit(NAMED.to_numpy()).set_params(**params)
    with pytest.raises(ValueError, match="warm_start: the last solution.*warm_start=False"):
        mixture.fit(X)
    assert mixture.n_features_in_ == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda m, X: m.predict(X),
        lambda m, X: m.predict_proba(X),
        lambda m, X: m.score_samples(X),
        lambda m, X: m.free_energy(X),
        lambda m, X: m.sample(3),
        lambda m, X: m.icl(X),
        lambda m, X: m.parameters_,
        lambda m, X: m.gradient_wrt_data(X, (None, [[1, 0], [0, 1]], None), mode="one_step"),
        lambda m, X: m.jvp(X, X, mode="one_step"),
        lambda m, X: m.jvp(X, X, mode="unrolled"),
    ],
)
def test_arrays_are_not_misread_as_another_type(call):
    X = NAMED.to_numpy()
    mixture = single(covariance_type="diag").fit(X)
    mixture.set_params(covariance_type="tied")
    with pytest.raises(ValueError, match="covariance_type was changed to 'tied'.*set it back"):
        call(mixture, X)
    call(mixture.set_params(covariance_type="diag"), X)


def test_another_mixture_is_read_in_the_type_of_its_fit():
    mixture = single(covariance_type="diag").fit(NAMED.to_numpy())
    theta = MixtureParameters(mixture.weights_, mixture.means_, mixture.covariances_, "diag")
    mixture.set_params(covariance_type="tied")
    assert mixture_wasserstein(mixture, theta) < 1e-7  # rounding of a difference of squares


def test_attributes_set_by_hand_are_of_the_parameter():
    theirs, ours = single().fit(NAMED.to_numpy()), single()
    for name in ("weights_", "means_", "covariances_"):
        setattr(ours, name, getattr(theirs, name))
    ours.n_features_in_ = 2
    X = NAMED.to_numpy()
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("before, after", [("diag", "tied"), ("tied", "diag"), ("full", "tied")])
def test_coupled_fits_are_not_misread_either(before, after):
    X = NAMED.to_numpy()
    fitter = coupled(covariance_type=before, warm_start=True).fit(X, DOMAIN)
    fitter.set_params(covariance_type=after)
    with pytest.raises(ValueError, match=f"warm_start.*{before}.*{after}.*warm_start=False"):
        fitter.fit(X, DOMAIN)
    with pytest.raises(ValueError, match=f"covariance_type was changed to '{after}'"):
        fitter.gradient_wrt_data(X[:20], X[20:])
    assert fitter.source_mixture_.covariance_type == before
