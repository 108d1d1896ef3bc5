"""The gradient modes as methods of the estimator."""

import pickle

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture

from skgmmot import DifferentiableGaussianMixture, mixture_transport
from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_modes = pytest.mark.parametrize("mode", ["implicit", "unrolled", "one_step"])


def data(seed=0, n=150, dtype=np.float64):
    rng = np.random.default_rng(seed)
    means = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    return (means[rng.integers(3, size=n)] + rng.normal(size=(n, 2))).astype(dtype)


def fitted(kind="full", X=None, sample_weight=None, **params):
    params = {"residual_tol": 1e-11, "random_state": 0, "reg_covar": 1e-3} | params
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, **params)
    return mixture.fit(data() if X is None else X, sample_weight=sample_weight)


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_implicit_is_the_slope_of_the_fit(kind, fixed_weights):
    """Central differences of fits that are started at the solution and run to convergence."""
    X = data()
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2.0, size=len(X))
    mixture = fitted(kind, X, weight, fixed_weights=fixed_weights)
    cotangent = naive.random_cotangent(rng, mixture.parameters_)
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=len(X))
    weights, means, _ = mixture.parameters_

    def value(t):
        moved = fitted(
            kind,
            X + t * X_dot,
            weight + t * weight_dot,
            fixed_weights=fixed_weights,
            weights_init=weights,
            means_init=means,
            precisions_init=mixture.precisions_,
        )
        return naive.inner_product(cotangent, moved.parameters_)

    gradients = mixture.vjp(X, cotangent, sample_weight=weight)
    slope = (value(1e-4) - value(-1e-4)) / 2e-4
    pulled = (gradients.data * X_dot).sum() + gradients.sample_weight @ weight_dot
    np.testing.assert_allclose(pulled, slope, rtol=1e-5)
    pushed = mixture.jvp(X, X_dot, sample_weight=weight, sample_weight_tangent=weight_dot)
    np.testing.assert_allclose(naive.inner_product(cotangent, pushed), pulled, rtol=1e-6)
    assert gradients.initial_parameters is None
    assert gradients.solve.residual < 1e-6


@all_types
def test_unrolled_is_the_slope_of_the_fit(kind):
    X = data()
    rng = np.random.default_rng(2)
    start = {"means_init": X[:3], "weights_init": np.full(3, 1 / 3)}
    start["precisions_init"] = np.broadcast_to(
        np.eye(2) if kind in ("full", "tied") else 1.0, fitted(kind).precisions_.shape
    )
    options = start | {"max_iter": 4, "tol": 0.0, "residual_tol": 0.0}

    def fit(t):
        with pytest.warns(ConvergenceWarning):
            return fitted(kind, X + t * X_dot, **options)

    X_dot = rng.normal(size=X.shape)
    mixture = fit(0.0)
    cotangent = naive.random_cotangent(rng, mixture.parameters_)

    def value(t):
        return naive.inner_product(cotangent, fit(t).parameters_)

    gradient = mixture.gradient_wrt_data(X, cotangent, mode="unrolled")
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    np.testing.assert_allclose((gradient * X_dot).sum(), slope, rtol=1e-6)
    gradients = mixture.vjp(X, cotangent, mode="unrolled")
    assert gradients.initial_parameters.means.shape == (3, 2) and gradients.solve is None


@all_modes
def test_jacobian_rows_are_gradients(mode):
    X = data(n=40)
    mixture = fitted("diag", X)
    jacobian = mixture.jacobian_wrt_data(X, mode=mode)
    cotangent = naive.random_cotangent(np.random.default_rng(3), mixture.parameters_)
    summed = sum(np.tensordot(c, j, axes=c.ndim) for c, j in zip(cotangent, jacobian, strict=True))
    expected = mixture.gradient_wrt_data(X, cotangent, mode=mode)
    assert jacobian.means.shape == (3, 2, 40, 2)
    np.testing.assert_allclose(summed, expected, atol=1e-8 * np.abs(expected).max())


@all_modes
@pytest.mark.parametrize("kind", ["tied", "diag", "spherical"])
def test_full_cotangents_are_pulled_to_the_covariance_type(kind, mode):
    X = data()
    mixture = fitted(kind, X)
    rng = np.random.default_rng(4)
    matrices = naive.random_covariances(rng, 3, 2)
    actual = mixture.gradient_wrt_data(X, (None, None, matrices), mode=mode)
    own = (None, None, FAMILIES[kind].pull(matrices))
    np.testing.assert_array_equal(actual, mixture.gradient_wrt_data(X, own, mode=mode))
    # a loss of the full matrices, by its slope in the own ones
    assert np.einsum(
        "kab,kab", matrices, FAMILIES[kind].matrices(mixture.covariances_, 3, 2)
    ) == pytest.approx((own[2] * mixture.covariances_).sum())
    assert actual.any()


@all_modes
def test_float32(mode):
    X = data(dtype=np.float32)
    mixture = fitted(X=X)
    cotangent = naive.random_cotangent(np.random.default_rng(5), mixture.parameters_)
    gradients = mixture.vjp(X, cotangent, mode=mode)
    assert gradients.data.dtype == gradients.sample_weight.dtype == np.float32
    exact = fitted(X=X.astype(np.float64)).vjp(X.astype(np.float64), cotangent, mode=mode)
    assert naive.relative_error(gradients.data, exact.data) < 1e-6  # the result's own rounding
    assert mixture.jvp(X, np.ones_like(X), mode=mode).means.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_implicit_is_taken_at_the_fixed_point_itself(dtype):
    """Not at parameters rounded to float32, which a step moves by some 1e-7: it would be told."""
    X = data(dtype=dtype)
    mixture = fitted(X=X)
    cotangent = naive.random_cotangent(np.random.default_rng(10), mixture.parameters_)
    actual = mixture.gradient_wrt_data(X, cotangent, tol=1e-9)
    expected = mixture.gradient_wrt_data(X, cotangent, mode="unrolled")
    assert naive.relative_error(actual, expected) < (1e-6 if dtype == np.float32 else 1e-8)
    assert np.isfinite(mixture.jvp(X, np.ones_like(X), tol=1e-9).means).all()


@all_modes
def test_zero_weights_are_absent_and_still_have_a_gradient(mode):
    X = data()
    weight = np.ones(len(X))
    weight[::7] = 0.0
    mixture = fitted(X=X, sample_weight=weight)
    present = fitted(X=X[weight > 0])
    cotangent = naive.random_cotangent(np.random.default_rng(6), mixture.parameters_)
    gradients = mixture.vjp(X, cotangent, mode=mode, sample_weight=weight)
    expected = present.vjp(X[weight > 0], cotangent, mode=mode)
    assert (gradients.data[weight == 0] == 0).all()
    assert naive.relative_error(gradients.data[weight > 0], expected.data) < 1e-7
    assert gradients.sample_weight[weight == 0].all()


def test_unrolled_refuses_what_is_not_the_fit():
    X = data()
    mixture = fitted(X=X)
    cotangent = (None, np.ones((3, 2)), None)
    for others in (X + 1e-3, X[:100]):
        with pytest.raises(ValueError, match="data, sample weights and options of the fit"):
            mixture.gradient_wrt_data(others, cotangent, mode="unrolled")
    with pytest.raises(ValueError, match="sample weights"):
        weight = np.linspace(1, 2, len(X))
        mixture.gradient_wrt_data(X, cotangent, mode="unrolled", sample_weight=weight)
    mixture.set_params(reg_covar=0.5)
    with pytest.raises(ValueError, match="options"):
        mixture.gradient_wrt_data(X, cotangent, mode="unrolled")


def test_one_step_of_other_data_is_that_of_a_step_on_them():
    X, others = data(), data(seed=1)
    mixture = fitted(X=X)
    cotangent = naive.random_cotangent(np.random.default_rng(7), mixture.parameters_)
    actual = mixture.gradient_wrt_data(others, cotangent, mode="one_step")
    pytest.importorskip("torch")
    previous = mixture._record.previous
    expected, _ = naive.torch_gradients(others, None, previous, cotangent, reg_covar=1e-3)
    assert naive.relative_error(actual, expected) < 1e-11


def test_given_parameters_have_implicit_and_one_step_gradients_only():
    X = data()
    mixture = fitted(X=X)
    given = DifferentiableGaussianMixture.from_mixture(mixture, reg_covar=1e-3)
    cotangent = naive.random_cotangent(np.random.default_rng(8), mixture.parameters_)
    for mode in ("implicit", "one_step"):
        actual = given.gradient_wrt_data(X, cotangent, mode=mode)
        expected = mixture.gradient_wrt_data(X, cotangent, mode=mode)
        assert naive.relative_error(actual, expected) < 1e-7  # θ_T for θ_{T-1}
    with pytest.raises(ValueError, match="Call fit"):
        given.gradient_wrt_data(X, cotangent, mode="unrolled")
    peer = GaussianMixture(3, reg_covar=1e-3, tol=1e-13, max_iter=1000, random_state=0).fit(X)
    given = DifferentiableGaussianMixture.from_mixture(peer, reg_covar=1e-3)
    assert np.isfinite(given.gradient_wrt_data(X, (None, np.ones((3, 2)), None), tol=1e-3)).all()


def test_implicit_of_an_unconverged_fit_warns_and_tol_matters():
    X = data()
    with pytest.warns(ConvergenceWarning):
        mixture = fitted(X=X, max_iter=3)
    cotangent = (None, np.ones((3, 2)), None)
    with pytest.warns(ConvergenceWarning, match="in one more step"):
        mixture.gradient_wrt_data(X, cotangent)
    mixture.gradient_wrt_data(X, cotangent, tol=1.0)  # asked for no more than that


def test_no_step_has_no_unrolled_gradient_of_the_data():
    X = data()
    mixture = fitted(X=X, max_iter=0)
    cotangent = naive.random_cotangent(np.random.default_rng(9), mixture.parameters_)
    gradients = mixture.vjp(X, cotangent, mode="unrolled")
    assert not gradients.data.any() and not gradients.sample_weight.any()
    np.testing.assert_array_equal(gradients.initial_parameters.means, cotangent.means)
    assert not mixture.jvp(X, np.ones_like(X), mode="unrolled").means.any()


@pytest.mark.parametrize("mode", ["implicit", "one_step"])
def test_pickled_estimators_have_the_same_gradients(mode):
    X = data()
    mixture = fitted(X=X)
    copy = pickle.loads(pickle.dumps(mixture))
    cotangent = (None, np.ones((3, 2)), None)
    np.testing.assert_array_equal(
        copy.gradient_wrt_data(X, cotangent, mode=mode),
        mixture.gradient_wrt_data(X, cotangent, mode=mode),
    )


@all_modes
def test_a_small_step_along_the_gradient_brings_mixtures_closer(mode):
    X = data()
    mixture, target = fitted(X=X), fitted(X=data(seed=5) * 0.7 + 1.0)
    before = mixture_transport(mixture, target)
    gradient = mixture.gradient_wrt_data(X, before.gradient(), mode=mode)
    moved = fitted(X=X - gradient, means_init=mixture.means_)
    expected = -(gradient**2).sum() if mode != "one_step" else None
    change = mixture_transport(moved, target).value - before.value
    assert change < 0
    if expected is not None:
        assert change == pytest.approx(expected, rel=0.1)  # first order


def test_wrong_arguments():
    X = data()
    mixture = fitted(X=X)
    with pytest.raises(ValueError, match="mode must be one of 'implicit', 'unrolled', 'one_step'"):
        mixture.gradient_wrt_data(X, (None, None, None), mode="ad")
    with pytest.raises(ValueError, match="tangent must have shape"):
        mixture.jvp(X, np.ones(3))
    with pytest.raises(ValueError, match="sample_weight_tangent must have shape"):
        mixture.jvp(X, np.ones_like(X), sample_weight_tangent=np.ones(3))
    with pytest.raises(ValueError, match="tangent contains NaN"):
        mixture.jvp(X, np.full_like(X, np.nan))
    with pytest.raises(NotFittedError):
        DifferentiableGaussianMixture().vjp(X, (None, None, None))


@pytest.mark.parametrize("how", ["pickle", "keep_path"])
def test_steps_that_were_not_kept_cannot_be_unrolled(how):
    X = data()
    mixture = fitted(X=X)
    assert len(pickle.dumps(mixture)) < 10_000
    if how == "pickle":
        mixture = pickle.loads(pickle.dumps(mixture))
    else:
        mixture.set_params(keep_path=False).fit(X)
    with pytest.raises(ValueError, match="steps not kept.*Call fit"):
        mixture.gradient_wrt_data(X, (None, np.ones((3, 2)), None), mode="unrolled")


@pytest.mark.parametrize("power", [-600, 600])
@all_modes
def test_derivatives_are_those_of_weights_in_the_unit_they_have(mode, power):
    X, rng = data(), np.random.default_rng(7)
    weight, weight_dot = rng.uniform(1, 2, size=len(X)), rng.normal(size=len(X))
    X_dot, scaled = rng.normal(size=X.shape), np.ldexp(weight, power)
    mixture, other = fitted(X=X, sample_weight=weight), fitted(X=X, sample_weight=scaled)
    cotangent = naive.random_cotangent(rng, mixture.parameters_)
    expected = mixture.vjp(X, cotangent, mode=mode, sample_weight=weight)
    actual = other.vjp(X, cotangent, mode=mode, sample_weight=scaled)
    assert naive.relative_error(actual.data, expected.data) < 1e-6
    in_unit = np.ldexp(actual.sample_weight, power)
    assert naive.relative_error(in_unit, expected.sample_weight) < 1e-6
    options = {"mode": mode, "sample_weight": weight, "sample_weight_tangent": weight_dot}
    expected = mixture.jvp(X, X_dot, **options)
    options |= {"sample_weight": scaled, "sample_weight_tangent": np.ldexp(weight_dot, power)}
    for part, truth in zip(other.jvp(X, X_dot, **options), expected, strict=True):
        assert naive.relative_error(part, truth) < 1e-6


@all_modes
def test_zero_weights_may_grow(mode):
    """The tangent is the transpose of the gradient, rows of weight zero among the others."""
    X, rng = data(), np.random.default_rng(8)
    weight = rng.uniform(1, 2, size=len(X))
    weight[::7] = 0.0
    mixture = fitted(X=X, sample_weight=weight, acceleration=None)
    cotangent = naive.random_cotangent(rng, mixture.parameters_)
    X_dot, weight_dot = rng.normal(size=X.shape), np.where(weight == 0, 1.0, 0.1)
    given = {"mode": mode, "sample_weight": weight}
    pulled = mixture.vjp(X, cotangent, **given)
    pushed = mixture.jvp(X, X_dot, sample_weight_tangent=weight_dot, **given)
    back = np.vdot(pulled.data, X_dot) + pulled.sample_weight @ weight_dot
    assert naive.inner_product(cotangent, pushed) == pytest.approx(back, rel=1e-6)
    grown = np.where(weight == 0, weight_dot, 0.0)  # to which they add what is not small
    still = mixture.jvp(X, X_dot, sample_weight_tangent=weight_dot - grown, **given)
    assert naive.relative_error(pushed.means, still.means) > 1e-2


@pytest.mark.parametrize("tol", [np.nan, -1e-6, "small", None])
def test_a_tolerance_that_says_nothing_is_refused(tol):
    """NaN would silence the look at the fixed point."""
    X = data()
    mixture = fitted(X=X)
    for call in (mixture.gradient_wrt_data, mixture.vjp):
        with pytest.raises(ValueError, match="tol must be a positive and finite number"):
            call(X, (None, None, None), tol=tol)
    with pytest.raises(ValueError, match="tol must be a positive and finite number"):
        mixture.jvp(X, X, tol=tol)
