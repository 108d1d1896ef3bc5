"""`acceleration` as an option of the estimator."""

import pickle

import naive
import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture

METHODS = ["anderson", "incremental", "lbfgs", "newton", "auto"]
all_methods = pytest.mark.parametrize("acceleration", METHODS)


def clouds(dtype=np.float64):
    return make_blobs(300, 2, centers=3, cluster_std=1.5, random_state=1)[0].astype(dtype)


def mixture_of(acceleration, **params):
    params = {"residual_tol": 1e-9, "max_iter": 10_000, "random_state": 0} | params
    return DifferentiableGaussianMixture(3, acceleration=acceleration, **params)


@all_methods
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_it_ends_where_em_ends(acceleration, covariance_type, fixed_weights):
    X = clouds()
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(X))
    params = {"covariance_type": covariance_type, "fixed_weights": fixed_weights}
    plain = mixture_of(None, **params).fit(X, sample_weight=weight)
    fast = mixture_of(acceleration, **params).fit(X, sample_weight=weight)
    assert fast.converged_ and fast.residual_ < 1e-9
    # k-means starts close enough for all to find the same maximum
    assert naive.errors(fast.parameters_, plain.parameters_) < 1e-5
    assert plain.n_evaluations_ == plain.n_iter_
    if plain.n_iter_ > 60:
        assert fast.n_evaluations_ < plain.n_iter_
        assert fast.n_iter_ == len(fast.lower_bounds_) < fast.n_evaluations_ + 1


@all_methods
def test_a_warm_start_goes_on(acceleration):
    X = clouds()
    mixture = mixture_of(acceleration, warm_start=True).fit(X)
    first = mixture.parameters_
    mixture.fit(X)
    assert mixture.n_iter_ <= 2 and mixture.converged_
    assert naive.errors(mixture.parameters_, first) < 1e-7


@all_methods
def test_single_precision_is_kept(acceleration):
    mixture = mixture_of(acceleration, residual_tol=1e-6).fit(clouds(np.float32))
    exact = mixture_of(acceleration, residual_tol=1e-6).fit(clouds())
    assert mixture.means_.dtype == np.float32 and mixture.converged_
    assert naive.errors(mixture.parameters_, exact.parameters_) < 1e-3


@all_methods
def test_the_same_bits_for_every_number_of_threads(acceleration):
    X = clouds()
    one, two = (mixture_of(acceleration, n_jobs=n).fit(X) for n in (1, 2))
    for a, b in zip(one.parameters_, two.parameters_, strict=True):
        np.testing.assert_array_equal(a, b)


@all_methods
def test_implicit_gradients_are_those_of_the_fixed_point(acceleration):
    X = clouds()
    plain, fast = (mixture_of(a, residual_tol=1e-11).fit(X) for a in (None, acceleration))
    cotangent = naive.random_cotangent(np.random.default_rng(1), plain.parameters_)
    expected = plain.gradient_wrt_data(X, cotangent)
    actual = fast.gradient_wrt_data(X, cotangent)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())


@all_methods
def test_one_step_gradients_are_those_of_the_last_step(acceleration):
    X = clouds()
    fast = mixture_of(acceleration).fit(X)
    previous = fast._record.previous
    last = DifferentiableGaussianMixture(
        3,
        weights_init=previous.weights,
        means_init=previous.means,
        precisions_init=np.linalg.inv(previous.covariances),
        max_iter=1,
        random_state=0,
    )
    with pytest.warns(ConvergenceWarning):
        last.fit(X)
    assert naive.errors(fast.parameters_, last.parameters_) < 1e-9
    cotangent = naive.random_cotangent(np.random.default_rng(2), fast.parameters_)
    np.testing.assert_allclose(
        fast.gradient_wrt_data(X, cotangent, mode="one_step"),
        last.gradient_wrt_data(X, cotangent, mode="unrolled"),
        atol=1e-9,
    )


@all_methods
def test_unrolled_needs_plain_steps(acceleration):
    X = clouds()
    mixture = mixture_of(acceleration).fit(X)
    cotangent = (np.ones(3), None, None)
    for call in [mixture.gradient_wrt_data, mixture.vjp]:
        with pytest.raises(ValueError, match="needs a fit with acceleration=None"):
            call(X, cotangent, mode="unrolled")
    with pytest.raises(ValueError, match="needs a fit with acceleration=None"):
        mixture.jvp(X, X, mode="unrolled")


@all_methods
def test_a_fit_that_runs_out_of_passes_says_so(acceleration):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mixture = mixture_of(acceleration, max_iter=18, residual_tol=1e-14).fit(clouds())
    assert mixture.n_evaluations_ == 18 >= mixture.n_iter_


def test_depth_reaches_anderson():
    X = clouds()
    counts = {
        depth: mixture_of("anderson", anderson_depth=depth).fit(X).n_evaluations_
        for depth in (1, 10)
    }
    assert counts[1] != counts[10]


@all_methods
def test_a_fit_can_be_pickled(acceleration):
    X = clouds()
    mixture = mixture_of(acceleration).fit(X)
    again = pickle.loads(pickle.dumps(mixture))
    cotangent = (np.ones(3), None, None)
    np.testing.assert_array_equal(
        mixture.gradient_wrt_data(X, cotangent), again.gradient_wrt_data(X, cotangent)
    )


@all_methods
def test_a_component_that_starves_on_the_way(acceleration):
    """Its mass falls to where tangents of ordinary length overflow; nothing warns of that."""
    X = make_blobs(424, 1, centers=5, cluster_std=3.1889663392898324, random_state=5)[0]
    mixture = DifferentiableGaussianMixture(
        5, init_params="random_from_data", acceleration=acceleration, max_iter=4000, random_state=0
    ).fit(X)
    assert mixture.converged_ and np.isfinite(mixture.means_).all()


def far_clouds():
    """Data on which plain EM is done in a few steps."""
    return make_blobs(300, 2, centers=[[0, 0], [6, 0], [0, 6]], cluster_std=1.2, random_state=0)[0]


def test_auto_is_plain_where_that_is_fast():
    X = far_clouds()
    plain, auto = (mixture_of(a).fit(X) for a in (None, "auto"))
    assert 3 < auto.n_iter_ == plain.n_iter_ == auto.n_evaluations_
    for one, other in zip(auto.parameters_, plain.parameters_, strict=True):
        np.testing.assert_array_equal(one, other)
    unrolled = [
        m.gradient_wrt_data(X, (None, np.ones((3, 2)), None), mode="unrolled")
        for m in (plain, auto)
    ]
    np.testing.assert_array_equal(*unrolled)


def test_auto_begins_where_plain_steps_would_go_on():
    X = clouds()
    plain, auto, lbfgs = (mixture_of(a).fit(X) for a in (None, "auto", "lbfgs"))
    assert plain.n_iter_ > 100
    assert auto.n_evaluations_ < 45
    assert auto.lower_bounds_[:11] == plain.lower_bounds_[:11]
    assert auto.lower_bounds_[13] != plain.lower_bounds_[13]
    assert lbfgs.lower_bounds_[:11] == plain.lower_bounds_[:11]


def test_auto_asks_no_more_than_the_tolerances():
    """With a rule that is soon met there are few steps more, whatever the contraction."""
    X = clouds()
    loose = {"residual_tol": np.inf, "tol": 1e-3}
    plain, auto = (mixture_of(a, **loose).fit(X) for a in (None, "auto"))
    assert auto.lower_bounds_ == plain.lower_bounds_


def test_steps_of_a_hotter_stage_count_as_well():
    """A path whose last stage alone is plain cannot be unrolled."""
    X, temperature = clouds(), [1.0001, 1.0]
    mixture = mixture_of("auto", temperature=temperature, max_iter=400).fit(X)
    path = mixture._record.path
    assert path.plain and not path.before.plain
    with pytest.raises(ValueError, match="needs a fit with acceleration=None"):
        mixture.gradient_wrt_data(X, (np.ones(3), None, None), mode="unrolled")
