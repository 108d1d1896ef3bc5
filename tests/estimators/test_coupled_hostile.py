"""Coupled fits at their limits: plans that move nothing, frozen columns, far steps, collapse."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from stress.stress_coupled import faults, random_fit

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture, mixture_transport
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]


def clouds(seed=0, d=2, shift=1.0):
    rng = np.random.default_rng(seed)
    centers = np.repeat([np.zeros(d), np.full(d, 5.0)], [30, 20], axis=0)
    return [centers + rng.normal(size=(50, d)) + offset for offset in (0.0, shift)]


def overlapping_clouds():
    """EM takes its time with these."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 2)), rng.normal(size=(50, 2)) + 1.0


# Of `python tests/stress/stress_coupled.py`: plans that vanish, columns of a frozen target that
# lose their mass, costs that overflow at a far step, and both in coordinates of the plan.
@pytest.mark.parametrize(
    "fit",
    ["unbalanced:4", "unbalanced:45", "unbalanced:104", "unbalanced:139"]
    + ["frozen:13", "frozen:49", "frozen:97", "frozen:140"]
    + ["fixed:4", "fixed:42", "fixed:53", "fixed:54", "fixed:103", "fixed:118"],
)
def test_neither_crashes_nor_loses_mass_nor_falls(fit):
    group, seed = fit.split(":")
    found, _ = faults(*random_fit(group, int(seed)))
    assert not found


@pytest.mark.parametrize("kind", TYPES)
def test_a_plan_that_moves_nothing_leaves_two_independent_fits(kind):
    X, Y = clouds(shift=100.0)
    options = {"covariance_type": kind, "random_state": 0, "residual_tol": 1e-8, "reg_covar": 0.0}
    fitter = CoupledGMMFitter(2, reg_m=(1.0, 0.5), **options).fit_pair(X, Y)
    alone = [DifferentiableGaussianMixture(2, **options).fit(data) for data in (X, Y)]
    assert fitter.converged_ and not fitter.transport_.plan.any()
    # both marginal terms are those of no mass, KL(0 | w) = 1
    expected = alone[0].score(X) + alone[1].score(Y) - 0.01 * (1.0 + 0.5)
    assert fitter.objective_ == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(np.concatenate(fitter.reweighting_), 0.0)
    cotangent = None, np.array([[1.0, 0.0], [0.5, -1.0]]), None
    for side, data, mixture in zip((0, 1), (X, Y), alone, strict=True):
        own = fitter._mixtures[side]
        order = [np.abs(mixture.means_ - mean).sum(axis=1).argmin() for mean in own.means_]
        back = np.argsort(order)
        found = fitter.gradient_wrt_data(
            X, Y, *((cotangent, None) if side == 0 else (None, cotangent))
        )
        expected = mixture.gradient_wrt_data(data, (None, cotangent[1][back], None))
        # differences of fourth order in the one, products in the other
        np.testing.assert_allclose(found[side], expected, atol=1e-7)
        assert np.abs(found[1 - side]).max() < 1e-14  # zero, but for rounding of the system
    with pytest.raises(ValueError, match="moves no mass"):
        fitter.transform(X)


# Components of weight zero


def with_an_empty_component():
    """A fit to which two of three components of the source are enough."""
    rng = np.random.default_rng(29)
    X, Y = rng.normal(size=(40, 1)), rng.normal(size=(40, 1)) + 2.0
    options = {"random_state": 0, "reg_covar": 1e-3, "transport_weight": 10.0}
    options |= {"tol": 1e-9, "residual_tol": 1e-7, "warm_start": True}
    fitter = CoupledGMMFitter((3, 2), **options).fit_pair(X, Y)
    return fitter, X, Y


def test_gradient_of_a_component_of_weight_zero_is_that_of_refits():
    fitter, X, Y = with_an_empty_component()
    weights = fitter.source_mixture_.weights_
    assert (weights == 0).tolist() == [False, False, True]
    only = None, np.array([[0.0], [0.0], [1.0]]), np.array([[[0.0]], [[0.0]], [[1.0]]])
    for gradient in fitter.gradient_wrt_data(X, Y, only):
        np.testing.assert_array_equal(gradient, 0.0)
    rng = np.random.default_rng(1)
    dX, dY = rng.normal(size=X.shape), rng.normal(size=Y.shape)
    cotangent = rng.normal(size=3), rng.normal(size=(3, 1)), rng.normal(size=(3, 1, 1))
    by_source, by_target = fitter.gradient_wrt_data(X, Y, cotangent)
    state = fitter._state

    def loss(t):
        fitter._state = state
        source = fitter.fit_pair(X + t * dX, Y + t * dY).source_mixture_
        assert source.weights_[2] == 0.0  # so the mixture is in the same order
        return sum((c * p).sum() for c, p in zip(cotangent, source.parameters_, strict=True))

    h = 1e-3
    expected = (8 * (loss(h) - loss(-h)) - (loss(2 * h) - loss(-2 * h))) / (12 * h)
    # residuals of 1e-7, divided by h
    assert (by_source * dX).sum() + (by_target * dY).sum() == pytest.approx(expected, abs=2e-3)


def test_components_without_samples_are_moved_by_their_partners():
    """Of two clusters the source has one. Its other component lies where the target's does."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 1)), rng.normal(size=(40, 1))
    Y[:20] += 30.0
    fitter = CoupledGMMFitter(2, random_state=0, tol=1e-9, residual_tol=1e-8).fit_pair(X, Y)
    far = int(fitter.source_mixture_.means_[:, 0].argmax())
    # J in the plan of two pairs: 1.5 log P + 0.5 log P' less 0.01 times the costs of both
    weights, costs = fitter.source_mixture_.weights_, np.diag(fitter.transport_.cost_matrix)
    slopes = 0.5 / weights[far] - 0.01 * costs[far], 1.5 / weights[1 - far] - 0.01 * costs[1 - far]
    assert slopes[0] == pytest.approx(slopes[1], abs=1e-6)
    assert fitter.source_mixture_.means_[far, 0] == pytest.approx(Y[:20].mean(), abs=1e-6)
    by_source, by_target = fitter.gradient_wrt_data(X, Y, (None, np.eye(2)[far][:, None], None))
    np.testing.assert_allclose(by_source, 0.0, atol=1e-8)
    np.testing.assert_allclose(by_target[:20], 1 / 20, rtol=0, atol=1e-8)
    np.testing.assert_allclose(by_target[20:], 0.0, atol=1e-8)


def test_gradients_are_linear_in_the_cotangent():
    X, Y = clouds()
    fitter = CoupledGMMFitter(2, random_state=0, residual_tol=1e-8).fit_pair(X, Y)
    cotangent = np.array([0.2, -0.1]), np.array([[1.0, 2.0], [0.5, -1.0]]), None
    large = tuple(part if part is None else 1e6 * part for part in cotangent)
    for mode in ("implicit", "one_step"):
        one, many = (fitter.gradient_wrt_data(X, Y, c, mode=mode) for c in (cotangent, large))
        np.testing.assert_allclose(many[0], 1e6 * one[0], rtol=1e-9, atol=1e-4)


# Without a transport penalty


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("reg_covar", [1e-3, 1e-1, 1.0])
def test_warm_starts_without_transport_go_on_with_em(kind, reg_covar):
    X, Y = overlapping_clouds()
    options = {"covariance_type": kind, "reg_covar": reg_covar, "random_state": 0}
    fitter = CoupledGMMFitter(2, transport_weight=0.0, warm_start=True, max_iter=2, **options)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        fitter.fit_pair(X, Y)
    fitter.set_params(max_iter=5000).fit_pair(X, Y)
    assert fitter.converged_ and fitter.residual_ < 1e-6
    plain = {"acceleration": None}  # a faster climb may end at another maximum
    expected = sum(
        DifferentiableGaussianMixture(2, residual_tol=1e-8, max_iter=50_000, **plain, **options)
        .fit(data)
        .score(data)
        for data in (X, Y)
    )
    # slow: a residual of 1e-6 is still this far from the end
    assert fitter.objective_ == pytest.approx(expected, abs=1e-4)


def test_converged_without_transport_means_the_tolerance():
    X, Y = overlapping_clouds()
    options = {"reg_covar": 1.0, "transport_weight": 0.0, "random_state": 0}
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        fitter = CoupledGMMFitter(2, max_iter=20, **options).fit_pair(X, Y)
    assert 1e-6 < fitter.residual_ < 1e-3 and not fitter.converged_


@pytest.mark.parametrize("kind", TYPES)
def test_gradient_without_transport_is_that_of_each_mixture(kind):
    """The plan plays no part: its support ties no weights, and is not complained about."""
    X, Y = clouds()
    options = {"covariance_type": kind, "reg_covar": 0.1, "random_state": 0, "residual_tol": 1e-9}
    fitter = CoupledGMMFitter(2, transport_weight=0.0, **options).fit_pair(X, Y)
    alone = fitter.source_mixture_.fit(X)
    cotangent = np.array([1.0, -0.5]), np.array([[1.0, 2.0], [0.5, -1.0]]), None
    found, other = fitter.gradient_wrt_data(X, Y, cotangent)
    expected = alone.gradient_wrt_data(X, cotangent)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not other.any()


@pytest.mark.parametrize("transport_weight", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("kind", TYPES)
def test_collapse_is_refused_as_by_a_single_mixture(kind, transport_weight):
    X = np.repeat([[0.0, 0.0], [5.0, 5.0]], 20, axis=0)
    options = {"covariance_type": kind, "reg_covar": 0.0, "random_state": 0}
    with pytest.raises(ValueError, match="not positive definite.*reg_covar"):
        DifferentiableGaussianMixture(2, **options).fit(X)
    fitter = CoupledGMMFitter(2, transport_weight=transport_weight, **options)
    with pytest.raises(ValueError, match="not positive definite.*reg_covar"):
        fitter.fit_pair(X, X + 1.0)


# Arguments


@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_infinite_reg_m_holds_the_marginals(reg):
    X, Y = clouds()
    options = {"reg": reg, "transport_weight": 0.1, "random_state": 0}
    expected = CoupledGMMFitter(2, **options).fit_pair(X, Y)
    for reg_m in (np.inf, (np.inf, np.inf), [np.inf, np.inf], np.array([np.inf, np.inf])):
        fitter = CoupledGMMFitter(2, reg_m=reg_m, **options).fit_pair(X, Y)
        assert fitter.lower_bounds_ == expected.lower_bounds_
    half = CoupledGMMFitter(2, reg_m=(1.0, np.inf), **options).fit_pair(X, Y)
    np.testing.assert_allclose(
        half.transport_.plan.sum(axis=0), half.target_mixture_.weights_, rtol=0, atol=1e-9
    )
    again = mixture_transport(*half._mixtures, reg=reg, reg_m=(1.0, np.inf))
    assert half.transport_.value == pytest.approx(again.value, rel=1e-9)
    for reg_m in (0.0, -1.0, np.nan, (1.0, 0.0)):
        with pytest.raises(ValueError, match="reg_m"):
            CoupledGMMFitter(2, reg_m=reg_m).fit_pair(X, Y)


@pytest.mark.parametrize("kind", TYPES)
def test_a_singular_frozen_target_is_named(kind):
    X, Y = clouds()
    shapes = {"full": (2, 2, 2), "tied": (2, 2), "diag": (2, 2), "spherical": (2,)}
    target = MixtureParameters(np.full(2, 0.5), np.zeros((2, 2)), np.zeros(shapes[kind]), kind)
    with pytest.raises(ValueError, match="freeze_target: .*reg_covar"):
        CoupledGMMFitter(2, covariance_type=kind, freeze_target=target).fit_pair(X, Y)


def test_distances_that_overflow_are_named():
    X, Y = clouds()
    target = MixtureParameters(np.full(2, 0.5), np.full((2, 2), 1e200), np.ones(2), "spherical")
    fitter = CoupledGMMFitter(2, covariance_type="spherical", freeze_target=target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of the overflow
        with pytest.raises(ValueError, match="squared distances .* overflow. Scale"):
            fitter.fit_pair(X, Y)
