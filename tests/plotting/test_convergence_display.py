"""ConvergenceDisplay: lines against the attributes of fits."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture
from skgmmot.em.em_map import EMMap
from skgmmot.plotting import ConvergenceDisplay, component_colors

rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(size=(100, 2)), rng.normal(size=(60, 2)) + 2.0])


def fitted(**options):
    options = {"acceleration": None, "random_state": 0, "tol": 0.1, "residual_tol": 1e-3} | options
    return DifferentiableGaussianMixture(2, **options).fit(X)


def words(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def test_the_lower_bound_of_each_step():
    mixture = fitted()
    display = ConvergenceDisplay.from_estimator(mixture, name="plain")
    steps, values = display.line_.get_data()
    np.testing.assert_array_equal(steps, np.arange(mixture.n_iter_))
    np.testing.assert_array_equal(values, mixture.lower_bounds_)
    assert display.ax_.get_ylabel() == "mean log-likelihood"
    assert display.ax_.get_xlabel() == "EM step"
    assert words(display) == [f"plain: {mixture.n_iter_} steps, residual {mixture.residual_:.0e}"]


def test_the_gain_of_each_step_on_a_logarithmic_scale():
    mixture = fitted()
    display = ConvergenceDisplay.from_estimator(mixture, quantity="gain")
    steps, values = display.line_.get_data()
    np.testing.assert_array_equal(values, np.diff(mixture.lower_bounds_))
    np.testing.assert_array_equal(steps, np.arange(1, mixture.n_iter_))
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_ylabel() == "gain in mean log-likelihood"


@pytest.mark.parametrize("weighted", [False, True])
def test_the_residual_of_each_step(weighted):
    weight = rng.uniform(0.5, 2.0, len(X)) if weighted else None
    mixture = DifferentiableGaussianMixture(
        2, acceleration=None, random_state=0, tol=0.1, residual_tol=1e-3
    ).fit(X, sample_weight=weight)
    display = ConvergenceDisplay.from_estimator(
        mixture, X, sample_weight=weight, quantity="residual"
    )
    em_map = EMMap.on(X, weight, covariance_type="full", reg_covar=mixture.reg_covar)
    theta, expected = mixture._record.path.start, []
    for _ in range(mixture.n_iter_):
        step = em_map.step(theta)
        expected.append(em_map.residual(step))
        theta = step.parameters
    np.testing.assert_allclose(display.line_.get_ydata(), expected, rtol=1e-8)
    assert expected[-1] < 1e-3 <= expected[-2]  # where the fit stopped
    assert display.ax_.get_ylabel() == "residual"


def test_residuals_over_all_temperatures():
    mixture = fitted(temperature=[2.0, 1.0])
    display = ConvergenceDisplay.from_estimator(mixture, X, quantity="residual")
    assert len(display.line_.get_ydata()) == mixture.n_iter_
    plain = ConvergenceDisplay.from_estimator(mixture)
    assert plain.ax_.get_ylabel() == "lower bound"


def test_passes_are_told_where_they_are_more_than_steps():
    mixture = fitted(acceleration="newton", tol=1e-9, residual_tol=1e-10)
    assert mixture.n_evaluations_ > mixture.n_iter_
    (word,) = words(ConvergenceDisplay.from_estimator(mixture))
    assert f"{mixture.n_iter_} steps, {mixture.n_evaluations_} passes, residual" in word


def test_the_mark_at_the_end_tells_whether_the_fit_has_converged():
    converged = ConvergenceDisplay.from_estimator(fitted())
    with pytest.warns(ConvergenceWarning):
        stopped = fitted(max_iter=2)
    display = ConvergenceDisplay.from_estimator(stopped)
    assert (converged.end_.get_marker(), display.end_.get_marker()) == ("o", "x")
    assert "not converged" in words(display)[0] and "not" not in words(converged)[0]
    for shown in (converged, display):
        end = np.ravel(shown.end_.get_data())
        np.testing.assert_array_equal(end, np.transpose(shown.line_.get_data())[-1])


def test_gains_below_zero_are_left_out_and_the_mark_stands_at_the_last_above(axes):
    display = ConvergenceDisplay(lower_bounds=np.array([0.0, 1.0, 1.5, 1.4]))
    display.plot(axes, quantity="gain")
    np.testing.assert_array_equal(np.ravel(display.end_.get_data()), [2.0, 0.5])


@pytest.mark.parametrize("bounds", [[1.0], [1.0, 1.0], [2.0, 1.0]])
def test_a_fit_without_gains_is_drawn_empty(bounds, axes):
    display = ConvergenceDisplay(lower_bounds=np.array(bounds))
    display.plot(axes, quantity="gain")
    axes.figure.canvas.draw()
    assert len(display.end_.get_xdata()) == 0


def test_the_objective_of_a_coupled_fit_after_each_sweep():
    fitter = CoupledGMMFitter(2, random_state=0).fit_pair(X, X + [3.0, 0.0])
    display = ConvergenceDisplay.from_estimator(fitter)
    np.testing.assert_array_equal(display.line_.get_ydata(), fitter.lower_bounds_)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("sweep", "objective")
    assert f"{fitter.n_iter_} sweeps" in words(display)[0]
    with pytest.raises(ValueError, match="^X: residuals of each step are known for a Diff"):
        ConvergenceDisplay.from_estimator(fitter, X)


@pytest.mark.skipif(
    not hasattr(GaussianMixture().fit(X), "lower_bounds_"), reason="of scikit-learn 1.7 on"
)
def test_a_mixture_of_scikit_learn():
    mixture = GaussianMixture(2, random_state=0).fit(X)
    display = ConvergenceDisplay.from_estimator(mixture)
    np.testing.assert_array_equal(display.line_.get_ydata(), mixture.lower_bounds_)
    assert words(display) == [f"{mixture.n_iter_} steps"]


def test_several_fits_share_axes_in_colors_of_their_own(axes):
    displays = [ConvergenceDisplay.from_estimator(fitted(), ax=axes, name=name) for name in "abc"]
    colors = [display.line_.get_color() for display in displays]
    np.testing.assert_allclose(colors, component_colors(3))
    assert len(axes.get_legend().get_texts()) == 3


def test_options_reach_the_artists():
    display = ConvergenceDisplay.from_estimator(
        fitted(), line_kw={"linewidth": 4}, end_kw={"markersize": 17}
    )
    assert display.line_.get_linewidth() == 4 and display.end_.get_markersize() == 17


def test_what_cannot_be_drawn_is_refused():
    from sklearn.cluster import KMeans

    with pytest.raises(ValueError, match="this KMeans has no lower_bounds_; pass a fitted"):
        ConvergenceDisplay.from_estimator(KMeans(2, n_init=1).fit(X))
    with pytest.raises(ValueError, match="Mixture has no lower_bounds_; pass a fitted"):
        ConvergenceDisplay.from_estimator(DifferentiableGaussianMixture())
    given = DifferentiableGaussianMixture.from_parameters([1.0], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="has made no step: its parameters were given"):
        ConvergenceDisplay.from_estimator(given)
    mixture = fitted()
    with pytest.raises(ValueError, match="quantity must be one of 'lower_bound', 'gain'"):
        ConvergenceDisplay.from_estimator(mixture, quantity="bound")
    with pytest.raises(ValueError, match="quantity='residual' needs the data of the fit"):
        ConvergenceDisplay.from_estimator(mixture, quantity="residual")
    with pytest.raises(ValueError, match="must be the data of the fit; these are others"):
        ConvergenceDisplay.from_estimator(mixture, X + 0.1 * X**2)
    for other in (pickle.loads(pickle.dumps(mixture)), fitted(keep_path=False)):
        with pytest.raises(ValueError, match="fit with acceleration=None and keep_path=True"):
            ConvergenceDisplay.from_estimator(other, X)
