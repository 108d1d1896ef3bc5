"""Accuracy on data that are hard on floating point, against sums in extended precision.

A fit is accurate if another EM step, in extended precision, leaves its parameters where they are:
but for what that step still changes (the residual), and for the rounding of the parameters.
"""

import numpy as np
import pytest
from naive import EPS, LONG, LONG_IS_LONGER, em_step, errors, long_log_joint, random_mixture, sample
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
needs_extended_precision = pytest.mark.skipif(
    not LONG_IS_LONGER, reason="longdouble is no more precise than double here"
)


def clouds(n_samples=300, n_features=3, *, spread=4.0):
    rng = np.random.default_rng(0)
    return sample(rng, random_mixture(rng, 3, n_features, "full", spread=spread), n_samples)


def in_double(mixture):
    parts = (np.asarray(part, dtype=np.float64) for part in mixture.parameters_)
    return MixtureParameters(*parts, mixture.covariance_type)


def errors_of(mixture, X):
    """How far a step in extended precision moves the parameters."""
    theta = in_double(mixture)
    truth, _ = em_step(
        np.asarray(X, LONG), theta, reg_covar=mixture.reg_covar, joint_of=long_log_joint
    )
    return errors(theta, truth)


@needs_extended_precision
@pytest.mark.parametrize("distance", [1e2, 1e6, 1e7])
@pytest.mark.parametrize("kind", TYPES)
def test_clusters_far_apart(kind, distance):
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [distance, 0.0], [distance, distance]])
    X = corners[rng.integers(3, size=300)] + rng.normal(size=(300, 2))
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, reg_covar=0, random_state=0)
    error = errors_of(mixture.fit(X), X)
    assert error["weights"] < 1e-14
    # Means keep the digits of the data. Covariances are sums of differences, which are exact;
    # only near 100 may the matrix way be taken, where it loses (distance/σ)² roundings.
    assert error["means"] < distance * EPS
    assert error["covariances"] < 1e-11


@needs_extended_precision
@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_features_of_scales_far_apart(kind):
    scales = np.array([1e-8, 1.0, 1e8])
    X = clouds()
    options = {"covariance_type": kind, "reg_covar": 0, "random_state": 0}
    options |= {"means_init": X[[0, 100, 200]] * scales, "residual_tol": 1e-10}
    mixture = DifferentiableGaussianMixture(3, **options).fit(X * scales)
    # a last step of 1e-10 may leave ten times that, where EM contracts by 0.9
    assert errors_of(mixture, X * scales) < 1e-9


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_scales_change_nothing(kind):
    """EM is the same in other units: powers of two, which change no digit."""
    X, scales = clouds(), 2.0 ** np.array([-27, 0, 27])
    options = {"covariance_type": kind, "reg_covar": 0, "max_iter": 8, "tol": 0}
    units = {"full": scales[:, None] * scales, "diag": scales**2}.get(
        kind, scales[:, None] * scales
    )

    def fitted(scale, unit):
        precisions = {"full": np.stack([np.eye(3)] * 3), "tied": np.eye(3), "diag": np.ones((3, 3))}
        start = {"means_init": X[[0, 100, 200]] * scale, "precisions_init": precisions[kind] / unit}
        mixture = DifferentiableGaussianMixture(
            3, weights_init=np.full(3, 1 / 3), **start, **options
        )
        with pytest.warns(ConvergenceWarning, match="did not converge"):
            return mixture.fit(X * scale)

    plain, scaled = fitted(1, 1), fitted(scales, units)
    np.testing.assert_allclose(scaled.weights_, plain.weights_, rtol=1e-12)
    np.testing.assert_allclose(scaled.means_ / scales, plain.means_, rtol=1e-11)
    np.testing.assert_allclose(scaled.covariances_ / units, plain.covariances_, rtol=1e-11)
    np.testing.assert_allclose(scaled.residual_, plain.residual_, rtol=1e-9)


@pytest.mark.parametrize("kind", TYPES)
def test_single_precision_data_far_from_the_origin(kind):
    """Data of variance near 1 about 100 000, where neighbours in float32 are 0.008 apart."""
    centers = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(3), 400))
    X = (centers[labels] + rng.normal(size=(1200, 2)) + 1e5).astype(np.float32)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    of_component = mixture.predict(X)
    truth = np.array([np.cov(X[of_component == k].astype(float).T, bias=True) for k in range(3)])
    truth = {
        "full": truth,
        "tied": truth.mean(axis=0),
        "diag": truth.diagonal(axis1=1, axis2=2),
        "spherical": truth.trace(axis1=1, axis2=2) / 2,
    }[kind]
    assert mixture.covariances_.dtype == np.float32
    assert truth[truth > 0.5].min() > 0.8 and truth.max() < 1.2
    # reg_covar is 1e-6, and single precision has seven digits
    np.testing.assert_allclose(mixture.covariances_, truth, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixture.weights_, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("kind", TYPES)
def test_single_precision_data_are_summed_in_double(kind):
    """The same data given in both precisions lead to the same fit, to rounding of the result."""
    X = (clouds(spread=2.0) + 1e3).astype(np.float32)
    options = {"covariance_type": kind, "means_init": X[[0, 100, 200]], "max_iter": 12, "tol": 0}
    with pytest.warns(ConvergenceWarning):
        single = DifferentiableGaussianMixture(3, random_state=0, **options).fit(X)
        double = DifferentiableGaussianMixture(3, random_state=0, **options).fit(X.astype(float))
    np.testing.assert_allclose(single.lower_bounds_, double.lower_bounds_, rtol=1e-9)
    np.testing.assert_allclose(single.residual_, double.residual_, rtol=1e-6)
    for name in ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]:
        expected = getattr(double, name).astype(np.float32)
        np.testing.assert_allclose(getattr(single, name), expected, rtol=1e-5, atol=1e-6)


@needs_extended_precision
@pytest.mark.parametrize("kind", TYPES)
def test_double_precision_data_far_from_the_origin(kind):
    X = clouds(spread=2.0) + 1e8
    options = {"covariance_type": kind, "residual_tol": 1e-8, "max_iter": 5000}
    mixture = DifferentiableGaussianMixture(3, random_state=0, **options).fit(X)
    # neighbours are 1.5e-8 apart here, and EM contracts to about a hundred residuals
    assert errors_of(mixture, X) < 1e-6


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("far", [1e4, 1e9])
def test_means_that_start_far_from_the_data(kind, far):
    """One component: whatever the start, one step is the answer."""
    X = clouds(n_features=2)
    mixture = DifferentiableGaussianMixture(
        1, covariance_type=kind, means_init=np.full((1, 2), far), reg_covar=1e-9
    ).fit(X)
    covariance = np.cov(X.T, bias=True)
    expected = {
        "full": covariance[None],
        "tied": covariance,
        "diag": covariance.diagonal()[None],
        "spherical": np.array([covariance.trace() / 2]),
    }[kind]
    np.testing.assert_allclose(mixture.means_[0], X.mean(axis=0), rtol=1e-6)
    # scikit-learn's full covariances, centred at the new means, are exact here
    np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-6)


@needs_extended_precision
@pytest.mark.parametrize("kind", TYPES)
def test_one_far_outlier(kind):
    X = np.concatenate([clouds(n_features=2), [[1e8, -1e8]]])
    mixture = DifferentiableGaussianMixture(
        4, covariance_type=kind, random_state=0, max_iter=5000
    ).fit(X)
    alone = mixture.means_[:, 0].argmax()
    np.testing.assert_array_equal(mixture.means_[alone], [1e8, -1e8])
    assert mixture.weights_[alone] == pytest.approx(1 / 301, rel=1e-12)
    if kind != "tied":
        np.testing.assert_allclose(
            mixture.parameters_.covariances[alone],
            {"full": 1e-6 * np.eye(2), "diag": [1e-6, 1e-6], "spherical": 1e-6}[kind],
            rtol=1e-9,
            atol=1e-15,
        )
    assert errors_of(mixture, X) < 1e-4  # a hundred residuals
    assert (mixture.predict(X[:-1]) != alone).all()


@pytest.mark.parametrize("kind", TYPES)
def test_an_outlier_is_as_unlikely_as_it_is(kind):
    X = clouds(n_features=2)
    mixture = DifferentiableGaussianMixture(1, covariance_type=kind).fit(X)
    far = np.array([[1e8, -1e8], [-1e12, 1.0]])
    covariance = {
        "full": lambda c: c[0],
        "tied": lambda c: c,
        "diag": lambda c: np.diag(c[0]),
        "spherical": lambda c: c[0] * np.eye(2),
    }[kind](mixture.covariances_)
    z = far - mixture.means_[0]
    quadratic = np.einsum("ia,ab,ib->i", z, np.linalg.inv(covariance), z)
    np.testing.assert_allclose(mixture.score_samples(far), -quadratic / 2, rtol=1e-9)
    np.testing.assert_array_equal(mixture.predict_proba(far), 1.0)


@pytest.mark.parametrize("kind", TYPES)
def test_duplicates(kind):
    """Three places, many times each."""
    places = np.array([[0.0, 0.0], [5.0, 1.0], [-3.0, 7.0]])
    X = np.repeat(places, [10, 20, 30], axis=0)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    order = mixture.weights_.argsort()
    np.testing.assert_allclose(mixture.weights_[order], [1 / 6, 1 / 3, 1 / 2], rtol=1e-12)
    np.testing.assert_allclose(mixture.means_[order], places, atol=1e-14)
    expected = {"full": np.stack([np.eye(2)] * 3), "tied": np.eye(2)}.get(kind, 1.0)
    np.testing.assert_allclose(
        mixture.covariances_,
        1e-6 * np.broadcast_to(expected, mixture.covariances_.shape),
        rtol=1e-8,
        atol=1e-14,
    )


@pytest.mark.parametrize("kind", TYPES)
def test_a_constant_column(kind):
    X = np.c_[clouds(n_features=2), np.full(300, 1e3)]
    options = {"covariance_type": kind, "random_state": 0, "max_iter": 5000}
    mixture = DifferentiableGaussianMixture(3, **options).fit(X)
    np.testing.assert_array_equal(mixture.means_[:, 2], 1e3)
    if kind == "spherical":
        return
    variances = {
        "full": mixture.covariances_[..., 2, 2],
        "tied": mixture.covariances_[..., 2, 2],
        "diag": mixture.covariances_[..., 2],
    }[kind]
    np.testing.assert_allclose(variances, mixture.reg_covar, rtol=1e-12)
    # the other columns are fitted as if it were not there
    without = DifferentiableGaussianMixture(3, **options).fit(X[:, :2])
    np.testing.assert_allclose(mixture.means_[:, :2], without.means_, atol=1e-7)


@pytest.mark.parametrize("kind", TYPES)
def test_as_many_components_as_samples(kind):
    X = clouds(6, 2)
    mixture = DifferentiableGaussianMixture(6, covariance_type=kind, random_state=0).fit(X)
    np.testing.assert_allclose(mixture.weights_, 1 / 6, rtol=1e-12)
    labels = mixture.predict(X)
    assert sorted(labels) == list(range(6))
    np.testing.assert_allclose(mixture.means_[labels], X, rtol=1e-14)


@pytest.mark.parametrize("kind", TYPES)
def test_a_row_beyond_all_comparison_is_a_component_of_its_own(kind):
    """(distance / σ)² is 1e304 there, and the clouds are fitted as if it were 1e16."""
    X = clouds(n_features=2)
    fits = []
    for far in (1e8, 1e152):
        with_far = np.concatenate([X, [[far, -far]]])
        mixture = DifferentiableGaussianMixture(
            2, covariance_type=kind, means_init=[[0.0, 0.0], [far, -far]], random_state=0
        )
        fits.append(mixture.fit(with_far))
    near, beyond = fits
    np.testing.assert_allclose(beyond.lower_bound_, near.lower_bound_, rtol=1e-12)
    np.testing.assert_allclose(beyond.means_[0], near.means_[0], rtol=1e-12)
    np.testing.assert_allclose(beyond.covariances_, near.covariances_, rtol=1e-9, atol=1e-15)
