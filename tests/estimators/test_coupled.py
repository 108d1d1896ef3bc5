"""CoupledGMMFitter on the tutorial's data and on others: what each option does."""

import pickle
from pathlib import Path

import naive
import numpy as np
import pytest
from coupled_problems import VARIANTS, random_problem
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgmmot import (
    CoupledGMMFitter,
    DifferentiableGaussianMixture,
    mixture_transport,
    mixture_wasserstein,
)
from skgmmot.coupling.objective import evaluate
from skgmmot.estimators.coupled_fit import _reordered
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
DATA = Path(__file__).parents[1] / "data" / "coupled_tutorial.npz"
# In the generic tests y is the domain, and rows of the target are not moved by fit_transform;
# transform alone, without domains, leaves all rows where they are.
NOT_THE_SAME = "fit_transform leaves rows of the target where they are, transform is not told them"
EXPECTED_FAILURES = {
    "check_transformer_general": NOT_THE_SAME,
    "check_transformer_data_not_an_array": NOT_THE_SAME,
}


@pytest.fixture(scope="module")
def tutorial():
    with np.load(DATA) as data:
        return data["X0"].astype(float), data["X1"].astype(float)


@pytest.fixture(scope="module")
def small(tutorial):
    X, Y = tutorial
    return X[:600], Y[:500]


@parametrize_with_checks(
    [CoupledGMMFitter(covariance_type=kind) for kind in TYPES],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The optimum


@pytest.mark.parametrize("seed", [0, 3])
def test_reaches_the_reference_of_the_balanced_tutorial(tutorial, seed):
    fitter = CoupledGMMFitter(3, random_state=seed).fit_pair(*tutorial)
    assert fitter.converged_
    assert fitter.objective_ >= -7.28271
    np.testing.assert_allclose(
        np.sort(fitter.source_mixture_.weights_), [0.2023, 0.2751, 0.5226], atol=1e-4
    )
    np.testing.assert_allclose(
        np.sort(fitter.target_mixture_.weights_), [0.2659, 0.3194, 0.4147], atol=1e-4
    )
    plan = fitter.transport_.plan
    np.testing.assert_allclose(plan.sum(axis=1), fitter.source_mixture_.weights_, atol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), fitter.target_mixture_.weights_, atol=1e-12)


def test_reaches_the_reference_of_the_unbalanced_tutorial(tutorial):
    fitter = CoupledGMMFitter(3, transport_weight=0.1, reg=0.01, reg_m=1, random_state=0).fit_pair(
        *tutorial
    )
    assert fitter.converged_
    assert fitter.objective_ == pytest.approx(-7.263154, abs=1e-5)
    assert fitter.transport_.value == pytest.approx(0.80609, abs=1e-4)
    pair = fitter.source_mixture_, fitter.target_mixture_
    assert fitter.mw2_ == pytest.approx(mixture_transport(*pair).distance, rel=1e-12)
    np.testing.assert_allclose(
        np.sort(fitter.source_mixture_.weights_), [0.1966, 0.2041, 0.5993], atol=1e-4
    )


def test_objective_is_the_one_that_pot_finds(tutorial):
    gmm = pytest.importorskip("ot.gmm")
    fitter = CoupledGMMFitter(3, random_state=0).fit_pair(*tutorial)
    a, b = fitter.source_mixture_, fitter.target_mixture_
    loss = gmm.gmm_ot_loss(
        a.means_, b.means_, a.covariances_, b.covariances_, a.weights_, b.weights_
    )
    expected = -0.01 * loss
    for X, mixture in zip(tutorial, (a, b), strict=True):
        expected += naive.log_density(naive.log_joint(X, mixture.parameters_)).mean()
    assert fitter.objective_ == pytest.approx(expected, abs=1e-10)
    assert fitter.mw2_**2 == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("variant", [{}, {"reg": 0.05, "reg_m": (1.0, 2.0)}, {"reg": 0.05}])
@pytest.mark.parametrize("transport_weight", [0.0, 1e-3, 0.03, 1.0, 100.0])
@pytest.mark.parametrize("kind", TYPES)
def test_is_at_least_as_good_as_what_it_starts_from(small, kind, transport_weight, variant):
    options = {"covariance_type": kind, "random_state": 0}
    fitter = CoupledGMMFitter(
        3, transport_weight=transport_weight, max_iter=300, **variant, **options
    )
    try:
        fitter.fit_pair(*small)
    except ConvergenceWarning:  # large weights make the entropic problem stiff; see below
        fitter.set_params(residual_tol=np.inf).fit_pair(*small)

    def objective(a, b):
        value = mixture_transport(a, b, **variant).value
        return a.score(small[0]) + b.score(small[1]) - transport_weight * value

    fits = [DifferentiableGaussianMixture(3, **options).fit(X) for X in small]
    pooled = DifferentiableGaussianMixture(3, **options).fit(np.concatenate(small))
    assert fitter.objective_ >= objective(*fits) - 1e-6
    assert fitter.objective_ >= objective(pooled, pooled) - 1e-6 or transport_weight == 0
    found = objective(fitter.source_mixture_, fitter.target_mixture_)
    assert fitter.objective_ == pytest.approx(found, abs=1e-9)
    assert np.diff(fitter.lower_bounds_).min(initial=0.0) >= -1e-11


def overlapping_clouds(rng):
    centers = rng.normal(scale=1.5, size=(4, 3))
    clouds = (centers[rng.integers(4, size=n)] + rng.normal(size=(n, 3)) for n in (900, 700))
    return [scale * cloud + scale for scale, cloud in zip((1.0, 1.3), clouds, strict=True)]


DATA_SETS = {
    "overlapping": overlapping_clouds,
    "one cloud": lambda rng: [rng.normal(size=(600, 2)), rng.normal(size=(500, 2)) + 0.3],
    "skewed": lambda rng: [rng.exponential(size=(900, 2)), rng.gamma(3, size=(800, 2))],
    "heavy tails": lambda rng: [rng.standard_t(3, size=(700, 3)), rng.standard_t(3, (900, 3)) * 2],
    "iris": lambda rng: [load_iris().data[::2], load_iris().data[1::2] + 0.2],
}


@pytest.mark.filterwarnings("ignore:.*did not converge:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", DATA_SETS)
def test_no_independent_fits_and_no_pooled_fit_are_better(name, kind):
    pair = DATA_SETS[name](np.random.default_rng(0))
    options = {"covariance_type": kind, "random_state": 0}
    plain = DifferentiableGaussianMixture(3, acceleration=None, **options)
    source, target = (clone(plain).fit(X) for X in pair)
    both = plain.fit(np.concatenate(pair))
    independent = source.score(pair[0]) + target.score(pair[1])
    cost = mixture_wasserstein(source, target, squared=True)
    pooled = both.score(pair[0]) + both.score(pair[1])
    for tau in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0):
        fitter = CoupledGMMFitter(3, transport_weight=tau, **options).fit_pair(*pair)
        # reg_covar acts on the likelihood of the coupled fit
        assert fitter.objective_ >= max(independent - tau * cost, pooled) - 1e-6


@pytest.mark.parametrize("transport_weight", [1e-3, 0.03, 1.0, 100.0])
def test_thinned_starts_are_as_good_as_fits_to_all_rows(tutorial, transport_weight):
    pair = [X[:4000] for X in tutorial]
    fitter = CoupledGMMFitter(
        3, transport_weight=transport_weight, init_size=500, random_state=0
    ).fit_pair(*pair)
    source, target = (DifferentiableGaussianMixture(3, random_state=0).fit(X) for X in pair)
    both = DifferentiableGaussianMixture(3, random_state=0).fit(np.concatenate(pair))
    independent = source.score(pair[0]) + target.score(pair[1])
    independent -= transport_weight * mixture_wasserstein(source, target, squared=True)
    assert fitter.objective_ >= independent - 1e-6
    assert fitter.objective_ >= both.score(pair[0]) + both.score(pair[1]) - 1e-6


@pytest.mark.parametrize("kind", TYPES)
def test_without_weight_it_is_two_independent_fits(small, kind):
    fitter = CoupledGMMFitter(
        3, covariance_type=kind, transport_weight=0, random_state=0, reg_covar=0.1
    ).fit_pair(*small)
    for X, mixture in zip(small, (fitter.source_mixture_, fitter.target_mixture_), strict=True):
        alone = DifferentiableGaussianMixture(
            3, covariance_type=kind, random_state=0, reg_covar=0.1, acceleration=None
        ).fit(X)
        assert mixture_wasserstein(mixture, alone) < 1e-7
    assert fitter.converged_


def test_with_much_weight_the_mixtures_are_equal(small):
    distances = [
        CoupledGMMFitter(2, transport_weight=tau, random_state=0).fit_pair(*small).mw2_
        for tau in (1.0, 10.0, 1000.0)
    ]
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-2


# Options


def test_covariance_type_is_that_of_both_mixtures(small):
    for kind in TYPES:
        fitter = CoupledGMMFitter(2, covariance_type=kind, random_state=0).fit_pair(*small)
        assert fitter.source_mixture_.covariance_type == kind
        assert isinstance(fitter.target_mixture_, DifferentiableGaussianMixture)


@pytest.mark.parametrize("n_components", [(2, 3), (4, 2), [1, 3]])
def test_a_pair_of_components(small, n_components):
    fitter = CoupledGMMFitter(n_components, random_state=0).fit_pair(*small)
    assert fitter.transport_.plan.shape == tuple(n_components)
    assert fitter.predict_proba(small[1]).shape == (500, max(n_components))


def test_frozen_target_is_its_own_fit(small):
    fitter = CoupledGMMFitter(3, freeze_target=True, transport_weight=0.1, random_state=0).fit_pair(
        *small
    )
    alone = DifferentiableGaussianMixture(3, random_state=0).fit(small[1])
    np.testing.assert_array_equal(fitter.target_mixture_.means_, alone.means_)
    free = CoupledGMMFitter(3, transport_weight=0.1, random_state=0).fit_pair(*small)
    assert free.objective_ > fitter.objective_ + 1e-3


def test_given_target_is_kept(small):
    given = MixtureParameters(np.array([0.3, 0.7]), np.array([[0.0, 0], [3, 3]]), np.ones(2))
    fitter = CoupledGMMFitter(3, freeze_target=given, transport_weight=0.1, random_state=0)
    fitter.fit_pair(*small)
    np.testing.assert_array_equal(fitter.target_mixture_.means_, given.means)
    np.testing.assert_allclose(fitter.target_mixture_.weights_, given.weights, rtol=1e-15)
    assert fitter.transport_.plan.shape == (3, 2)
    strong = clone(fitter).set_params(transport_weight=10.0).fit_pair(*small)
    assert strong.mw2_ < fitter.mw2_


def test_fixed_weights(small):
    fitter = CoupledGMMFitter(3, fixed_weights=True, random_state=0).fit_pair(*small)
    np.testing.assert_allclose(fitter.source_mixture_.weights_, 1 / 3, rtol=1e-15)
    given = CoupledGMMFitter(
        3, fixed_weights=True, weights_init=[0.2, 0.3, 0.5], random_state=0
    ).fit_pair(*small)
    np.testing.assert_allclose(np.sort(given.target_mixture_.weights_), [0.2, 0.3, 0.5])


def test_sample_weights_are_rows_repeated(small):
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 3, len(X)) for X in small]
    fitter = CoupledGMMFitter(2, random_state=0)
    a = clone(fitter).fit_pair(
        *small, sample_weight_source=counts[0], sample_weight_target=counts[1]
    )
    b = clone(fitter).fit_pair(
        *(np.repeat(X, c, axis=0) for X, c in zip(small, counts, strict=True))
    )
    assert a.objective_ == pytest.approx(b.objective_, abs=1e-10)
    assert a.objective_ != pytest.approx(clone(fitter).fit_pair(*small).objective_, abs=1e-3)


def test_rows_of_weight_zero_are_absent(small):
    """However far away they are, to the bit; and they are not counted as rows."""
    X, Y = (np.vstack([part, [[1e9, -1e9]]]) for part in small)
    weights = {
        "sample_weight_source": np.append(np.ones(len(X) - 1), 0.0),
        "sample_weight_target": np.append(np.ones(len(Y) - 1), 0.0),
    }
    fitter = CoupledGMMFitter(2, random_state=0)
    fitted = clone(fitter).fit_pair(X, Y, **weights)
    # weights of one, as those of the rows that are left, sum as their number does
    assert fitted.lower_bounds_ == clone(fitter).fit_pair(*small).lower_bounds_
    weights["sample_weight_target"][1:] = 0.0
    with pytest.raises(ValueError, match=r"target has n_samples = 1 \(of positive weight\)"):
        fitter.fit_pair(X, Y, **weights)


@pytest.mark.parametrize("name", ["balanced", "entropic"])
def test_other_orders_of_the_components_are_the_same_state(name):
    problem, state, _, _ = random_problem(**VARIANTS[name])
    other = _reordered(state, (np.array([2, 0, 1]), np.array([1, 0])))
    found, expected = (evaluate(problem, one).objective for one in (other, state))
    assert found == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(other.plan.sum(axis=0), state.plan.sum(axis=0)[[1, 0]])


def test_n_init_keeps_the_best(small):
    options = {"init_params": "random", "random_state": 1, "transport_weight": 0.02}
    one = CoupledGMMFitter(4, **options).fit_pair(*small)
    many = CoupledGMMFitter(4, n_init=6, **options).fit_pair(*small)
    assert many.objective_ >= one.objective_ - 1e-9


def test_init_size_thins_the_start_only(tutorial):
    thin = CoupledGMMFitter(3, init_size=500, random_state=0).fit_pair(*tutorial)
    assert thin.converged_ and thin.objective_ >= -7.28271


def test_initial_parts_are_used(small):
    means = np.array([[-4.0, 0.0], [3.0, 3.0]])
    fitter = CoupledGMMFitter(2, means_init=means, max_iter=0, random_state=0).fit_pair(*small)
    np.testing.assert_array_equal(fitter.source_mixture_.means_, means)
    assert fitter.n_iter_ == 0


def test_warm_start_goes_on(small):
    fitter = CoupledGMMFitter(3, warm_start=True, random_state=0)
    fitter.fit_pair(*small)
    first = fitter.objective_
    fitter.fit_pair(*small)
    assert fitter.n_iter_ <= 2 and fitter.objective_ >= first - 1e-12
    other = DifferentiableGaussianMixture(3, random_state=0).fit(np.concatenate(small))
    fitter.set_params(freeze_target=other).fit_pair(*small)
    np.testing.assert_array_equal(fitter.target_mixture_.means_, other.means_)
    fitter.set_params(n_components=2, freeze_target=np.False_)
    with pytest.raises(ValueError, match="warm_start"):
        fitter.fit_pair(*small)


def test_too_few_sweeps_are_said(small):
    with pytest.warns(ConvergenceWarning, match="did not converge in 3 sweeps"):
        fitter = CoupledGMMFitter(3, max_iter=3, random_state=0).fit_pair(*small)
    assert fitter.n_iter_ == 3 and len(fitter.lower_bounds_) == 4 and not fitter.converged_


def test_single_precision(small):
    single = [X.astype(np.float32) for X in small]
    fitter = CoupledGMMFitter(3, random_state=0).fit_pair(*single)
    double = CoupledGMMFitter(3, random_state=0).fit_pair(*small)
    assert fitter.source_mixture_.means_.dtype == np.float32
    assert fitter.transform(single[0]).dtype == np.float32
    assert fitter.objective_ == pytest.approx(double.objective_, abs=1e-5)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_threads_change_no_bit(tutorial, n_jobs):
    a = CoupledGMMFitter(3, random_state=0, n_jobs=n_jobs).fit_pair(*tutorial)
    b = CoupledGMMFitter(3, random_state=0, n_jobs=3).fit_pair(*tutorial)
    assert a.lower_bounds_ == b.lower_bounds_


def test_reweighting_is_what_the_plan_takes_and_brings(small):
    fitter = CoupledGMMFitter(
        3, transport_weight=0.1, reg=0.01, reg_m=1.0, random_state=0
    ).fit_pair(*small)
    plan = fitter.transport_.plan
    leaving, arriving = fitter.reweighting_
    np.testing.assert_allclose(leaving * fitter.source_mixture_.weights_, plan.sum(axis=1))
    np.testing.assert_allclose(arriving * fitter.target_mixture_.weights_, plan.sum(axis=0))
    assert leaving.max() < 1.5 and plan.sum() < 0.95
    balanced = CoupledGMMFitter(3, random_state=0).fit_pair(*small)
    np.testing.assert_allclose(np.concatenate(balanced.reweighting_), 1.0, rtol=1e-12)


def test_pickle_and_clone(small):
    fitter = CoupledGMMFitter(2, random_state=0).fit_pair(*small)
    again = pickle.loads(pickle.dumps(fitter))
    np.testing.assert_array_equal(again.transform(small[0]), fitter.transform(small[0]))
    assert not hasattr(clone(fitter), "transport_")


# Gradients


def test_gradient_follows_fits_to_moved_data(small):
    X, Y = small[0][:200], small[1][:200]
    options = {"residual_tol": 1e-9, "tol": 1e-8, "random_state": 0, "transport_weight": 0.05}

    def fit(X, Y):
        try:
            return CoupledGMMFitter(2, **options).fit_pair(X, Y)
        except ConvergenceWarning:  # rounding may end it a little above 1e-9
            return CoupledGMMFitter(2, **options | {"residual_tol": 1e-7}).fit_pair(X, Y)

    fitter = fit(X, Y)
    cotangent = None, np.array([[1.0, 2.0], [0.5, -1.0]]), None
    by_source, by_target = fitter.gradient_wrt_data(X, Y, cotangent, cotangent)
    rng = np.random.default_rng(0)
    dX, dY = rng.normal(size=X.shape), rng.normal(size=Y.shape)

    def loss(t):
        moved = fit(X + t * dX, Y + t * dY)
        both = moved.source_mixture_.means_ + moved.target_mixture_.means_
        return (cotangent[1] * both).sum()

    h = 1e-2  # fits end at a residual of up to 1e-7, which is divided by it
    expected = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    along = (by_source * dX).sum() + (by_target * dY).sum()
    assert along == pytest.approx(expected, rel=1e-3)
    with pytest.raises(ValueError, match="mode must be one of"):
        fitter.gradient_wrt_data(X, Y, cotangent, mode="unrolled")
    one_step, _ = fitter.gradient_wrt_data(X, Y, cotangent, mode="one_step")
    assert one_step.shape == X.shape and not np.allclose(one_step, by_source)


def test_gradient_of_rows_without_weight_is_zero(small):
    X, Y = small
    weight = np.ones(len(X))
    weight[::3] = 0.0
    fitter = CoupledGMMFitter(2, random_state=0).fit_pair(X, Y, sample_weight_source=weight)
    cotangent = None, np.ones((2, 2)), None
    gradient, _ = fitter.gradient_wrt_data(X, Y, cotangent, sample_weight_source=weight)
    assert not gradient[::3].any() and gradient[1::3].any()
