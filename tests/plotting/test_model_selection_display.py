"""ModelSelectionDisplay: lines against criteria and cross-validated scores."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import DifferentiableGaussianMixture
from skgmmot.plotting import ModelSelectionDisplay

rng = np.random.default_rng(0)
X = rng.permutation(
    np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(40, 2)) * [0.3, 2] + 7])
)
OURS = DifferentiableGaussianMixture(random_state=0, residual_tol=np.inf, reg_covar=1e-2)
THEIRS = GaussianMixture(random_state=0, reg_covar=1e-2)
TYPES = ("full", "spherical")


def words(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def search(estimator=OURS, prefix="", grid=None, **options):
    grid = grid or {f"{prefix}n_components": [1, 2, 3], f"{prefix}covariance_type": list(TYPES)}
    return GridSearchCV(estimator, grid, cv=3, **options).fit(X)


@pytest.mark.parametrize("estimator", [OURS, THEIRS])
@pytest.mark.parametrize("criterion", ["bic", "aic"])
def test_criteria_of_fits_and_the_least(estimator, criterion):
    from sklearn.base import clone

    display = ModelSelectionDisplay.from_estimator(
        estimator, X, n_components=(1, 2, 3), covariance_types=TYPES, criterion=criterion
    )
    expected = {
        (kind, n): getattr(
            clone(estimator).set_params(n_components=n, covariance_type=kind).fit(X), criterion
        )(X)
        for kind in TYPES
        for n in (1, 2, 3)
    }
    for kind in TYPES:
        numbers, values = display.lines_[kind].get_data()
        np.testing.assert_array_equal(numbers, [1, 2, 3])
        np.testing.assert_allclose(values, [expected[kind, n] for n in (1, 2, 3)])
    kind, n = min(expected, key=expected.get)
    best = {"n_components": n, "covariance_type": kind, "value": pytest.approx(expected[kind, n])}
    assert display.best_ == best
    np.testing.assert_allclose(np.ravel(display.best_mark_.get_data()), [n, expected[kind, n]])
    assert words(display) == [*TYPES, f"best: {kind}, {n}"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("components", criterion.upper())
    assert not hasattr(estimator, "means_")


def test_icl_is_ours_alone():
    display = ModelSelectionDisplay.from_estimator(
        OURS, X, n_components=[2], covariance_types=["full"], criterion="icl"
    )
    fitted = DifferentiableGaussianMixture(2, random_state=0, residual_tol=np.inf, reg_covar=1e-2)
    assert display.best_["value"] == pytest.approx(fitted.fit(X).icl(X))
    with pytest.raises(ValueError, match="criterion must be one of 'bic', 'aic'; got 'icl'"):
        ModelSelectionDisplay.from_estimator(THEIRS, X, n_components=[1], criterion="icl")


def test_bic_is_drawn_unless_another_is_asked_for():
    display = ModelSelectionDisplay.from_estimator(OURS, X, n_components=[1, 2])
    assert display.ax_.get_ylabel() == "BIC" and display.bands_ == {}
    values = display.lines_["tied"].get_ydata()
    display.plot(criterion="aic")
    assert display.ax_.get_ylabel() == "AIC"
    assert not np.allclose(values, display.lines_["tied"].get_ydata())
    assert list(display.lines_) == ["full", "tied", "diag", "spherical"]


def test_numbers_are_drawn_in_order():
    display = ModelSelectionDisplay.from_estimator(
        OURS, X, n_components=[3, 1], covariance_types=["full"]
    )
    np.testing.assert_array_equal(display.lines_["full"].get_xdata(), [1, 3])
    at_one = ModelSelectionDisplay.from_estimator(
        OURS, X, n_components=[1], covariance_types=["full"]
    )
    assert display.lines_["full"].get_ydata()[0] == at_one.best_["value"]


@pytest.mark.parametrize("form", ["search", "results"])
def test_scores_of_a_search_and_the_highest(form):
    found = search()
    given = found if form == "search" else found.cv_results_
    display = ModelSelectionDisplay.from_cv_results(given)
    results = found.cv_results_
    for kind in TYPES:
        rows = np.flatnonzero(results["param_covariance_type"] == kind)
        means, spreads = results["mean_test_score"][rows], results["std_test_score"][rows]
        numbers, values = display.lines_[kind].get_data()
        np.testing.assert_array_equal(numbers, [1, 2, 3])
        np.testing.assert_allclose(values, means)
        corners = display.bands_[kind].get_paths()[0].vertices
        for n, mean, spread in zip(numbers, means, spreads, strict=True):
            edges = corners[corners[:, 0] == n, 1]
            np.testing.assert_allclose([edges.min(), edges.max()], [mean - spread, mean + spread])
    parameters = {name: display.best_[name] for name in ("n_components", "covariance_type")}
    assert parameters == found.best_params_
    assert display.best_["value"] == found.best_score_
    label = "mean log-likelihood of test folds" if form == "search" else "mean test score"
    assert display.ax_.get_ylabel() == label
    assert ModelSelectionDisplay.from_cv_results(found, bands=False).bands_ == {}


def test_a_search_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), THEIRS)
    found = search(pipeline, "gaussianmixture__")
    display = ModelSelectionDisplay.from_cv_results(found)
    assert display.best_["n_components"] == found.best_params_["gaussianmixture__n_components"]
    assert list(display.lines_) == list(TYPES)


def test_a_search_over_components_alone_is_one_line():
    found = search(grid={"n_components": [1, 2]})
    display = ModelSelectionDisplay.from_cv_results(found)
    (line,) = display.lines_.values()
    np.testing.assert_allclose(line.get_ydata(), found.cv_results_["mean_test_score"])
    assert words(display)[-1] == f"best: {found.best_params_['n_components']}"


def test_of_other_parameters_the_best_values_are_drawn():
    found = search(grid={"n_components": [1, 2], "reg_covar": [1e-2, 5.0]})
    display = ModelSelectionDisplay.from_cv_results(found)
    scores = found.cv_results_["mean_test_score"].reshape(2, 2)
    np.testing.assert_allclose(display.lines_["mixture"].get_ydata(), scores.max(axis=1))


def test_lists_of_grids_leave_gaps():
    grid = [{"n_components": [1, 2], "covariance_type": ["diag"]}, {"n_components": [3]}]
    display = ModelSelectionDisplay.from_cv_results(search(grid=grid))
    assert list(display.lines_) == ["diag", "default"]
    np.testing.assert_array_equal(
        np.isnan(display.lines_["diag"].get_ydata()), [False, False, True]
    )
    np.testing.assert_array_equal(
        np.isnan(display.lines_["default"].get_ydata()), [True, True, False]
    )


def test_one_of_several_metrics_and_scores_that_are_nan():
    def likelihood(estimator, X, y=None):
        return estimator.score(X)

    def broken(estimator, X, y=None):
        return np.nan if estimator.n_components == 2 else -float(estimator.n_components)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NaN
        found = search(scoring={"a": likelihood, "b": broken}, refit="a")
    display = ModelSelectionDisplay.from_cv_results(found, score="b")
    np.testing.assert_array_equal(display.lines_["full"].get_ydata(), [-1, np.nan, -3])
    assert display.best_["n_components"] == 1 and display.ax_.get_ylabel() == "mean test b"
    named = ModelSelectionDisplay.from_cv_results(found, score="a", value_name="likelihood")
    assert named.ax_.get_ylabel() == "likelihood"
    with pytest.raises(ValueError, match="score: the search has no 'score'; it has a, b"):
        ModelSelectionDisplay.from_cv_results(found)


def test_a_type_has_its_color_whatever_is_beside_it():
    wide = ModelSelectionDisplay.from_estimator(OURS, X, n_components=[1])
    narrow = ModelSelectionDisplay.from_estimator(
        OURS, X, n_components=[1], covariance_types=["spherical", "diag"]
    )
    for kind in ("spherical", "diag"):
        np.testing.assert_array_equal(
            wide.lines_[kind].get_color(), narrow.lines_[kind].get_color()
        )
        assert wide.lines_[kind].get_marker() == narrow.lines_[kind].get_marker()
    assert len({tuple(line.get_color()) for line in wide.lines_.values()}) == 4


def test_fits_that_fail_leave_gaps_and_are_told():
    with pytest.warns(ConvergenceWarning, match="1 of 2 fits failed. The first: {'n_comp.*: 90"):
        display = ModelSelectionDisplay.from_estimator(
            OURS, X, n_components=[1, 90], covariance_types=["diag"]
        )
    assert np.isnan(display.lines_["diag"].get_ydata()).tolist() == [False, True]
    with pytest.raises(ValueError, match="None of the 1 fits succeeded"):
        ModelSelectionDisplay.from_estimator(OURS, X, n_components=[90], covariance_types=["diag"])


def test_options_reach_the_artists():
    found = search()
    display = ModelSelectionDisplay.from_cv_results(
        found, line_kw={"linewidth": 4}, band_kw={"alpha": 0.7}, best_kw={"markersize": 30}
    )
    assert {line.get_linewidth() for line in display.lines_.values()} == {4}
    assert {band.get_alpha() for band in display.bands_.values()} == {0.7}
    assert display.best_mark_.get_markersize() == 30
    plain = display.plot(mark_best=False)
    assert plain.best_mark_ is None and words(plain) == list(TYPES)


@pytest.mark.parametrize("n", [3, 30])
def test_ticks_are_whole_numbers(n, axes):
    numbers = list(range(1, n + 1))
    display = ModelSelectionDisplay(
        n_components=numbers, covariance_types=["full"], values={"bic": np.ones((1, n))}
    )
    display.plot(axes)
    ticks = axes.get_xticks()
    assert all(tick == round(tick) for tick in ticks)
    assert (list(ticks) == numbers) == (n == 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ModelSelectionDisplay.from_estimator(StandardScaler(), X), "estimator must be a"),
        (
            lambda: ModelSelectionDisplay.from_estimator(make_pipeline(StandardScaler(), OURS), X),
            "estimator must be a mixture.*Pass the last step of a Pipeline",
        ),
        (
            lambda: ModelSelectionDisplay.from_estimator(OURS, X, n_components=[]),
            "n_components and covariance_types must not be empty",
        ),
        (
            lambda: ModelSelectionDisplay.from_estimator(BayesianGaussianMixture(), X),
            "estimator: a BayesianGaussianMixture has none of the criteria bic, aic and icl",
        ),
        (
            lambda: ModelSelectionDisplay.from_cv_results(GridSearchCV(OURS, {})),
            "search: this GridSearchCV has no cv_results_. Pass a fitted search",
        ),
        (
            lambda: ModelSelectionDisplay.from_cv_results(search(grid={"reg_covar": [1.0, 2.0]})),
            "search: it has not searched over n_components",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ValueError, match="^" + message):
        make()
