"""Densities by row: right wherever the row lies, and the same bits whatever rows there are."""

from fractions import Fraction
from functools import partial

import naive
import numpy as np
import pytest
from naive import LONG, LONG_IS_LONGER

from skgmmot import DifferentiableGaussianMixture
from skgmmot.em import densities
from skgmmot.em.em_map import EMMap
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def log_density(X, theta, temperature=1.0, function=densities.log_density):
    em_map = EMMap.on(X, covariance_type=theta.covariance_type, temperature=temperature)
    return function(em_map, theta)


responsibilities = partial(log_density, function=densities.responsibilities)
labels = partial(log_density, function=densities.labels)
FUNCTIONS = [log_density, responsibilities, labels]
FAR = [1e3, 1e8, 1e80, 1e144, 1e146, 1e152, 1e155, 1e160, 1e300, 1.7e308]
needs_range = pytest.mark.skipif(
    not LONG_IS_LONGER, reason="longdouble has no greater range than double here"
)


def mixture_and_rows(kind, spread=3.0, n_features=2):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, n_features, kind, spread=spread)
    return theta, naive.sample(rng, theta, 300)


@pytest.mark.parametrize("far", FAR)
@all_types
def test_a_far_row_changes_no_bit_of_another_row(kind, far):
    theta, X = mixture_and_rows(kind)
    with_far = np.concatenate([X, [[far, -far]]])
    for function in FUNCTIONS:
        found = function(with_far, theta)
        np.testing.assert_array_equal(found[:-1], function(X, theta))
        assert not np.isnan(found).any()
    gamma = responsibilities(with_far, theta)
    np.testing.assert_allclose(gamma.sum(axis=1), 1.0, rtol=1e-15)
    assert gamma[-1].max() == 1.0 and gamma[-1].argmax() == labels(with_far, theta)[-1]


@pytest.mark.parametrize("spread", [3.0, 1e7])
@pytest.mark.parametrize("temperature", [1e-3, 1.0])
@all_types
def test_rows_alone_and_together_have_the_same_bits(kind, spread, temperature):
    theta, X = mixture_and_rows(kind, spread)
    X = np.concatenate([X[:20], X[20:30] * 1e4, X[30:32] * 1e158, X[32:60]])
    for function in FUNCTIONS:
        together = function(X, theta, temperature)
        alone = [function(x[None], theta, temperature)[0] for x in X]
        np.testing.assert_array_equal(together, alone)


@needs_range
@pytest.mark.parametrize("far", FAR)
@all_types
def test_far_rows_against_extended_range(kind, far):
    theta, _ = mixture_and_rows(kind)
    X = far * np.random.default_rng(1).uniform(-1, 1, size=(40, 2))
    joint = naive.long_log_joint(X, theta)
    expected = naive.log_density(joint)
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float64)
    np.testing.assert_allclose(log_density(X, theta), expected, rtol=1e-12)
    if kind != "tied":
        np.testing.assert_array_equal(labels(X, theta), joint.argmax(axis=1))


@pytest.mark.parametrize("far", FAR)
def test_far_rows_of_a_tied_mixture_against_rational_numbers(far):
    theta, _ = mixture_and_rows("tied")
    X = far * np.random.default_rng(1).uniform(-1, 1, size=(40, 2))
    a, b, c = (Fraction(theta.covariances[i]) for i in [(0, 0), (0, 1), (1, 1)])
    det = a * c - b * b
    means = [[Fraction(m) for m in mean] for mean in theta.means]

    def score(x, mean):  # all but the common square and the weight, which far rows do not feel
        linear = (c * mean[0] - b * mean[1], a * mean[1] - b * mean[0])
        return sum(p * (Fraction(v) - m / 2) for p, v, m in zip(linear, x, mean, strict=True)) / det

    truth = [int(np.argmax([score(x, mean) for mean in means])) for x in X]
    np.testing.assert_array_equal(labels(X, theta), truth)
    np.testing.assert_array_equal(responsibilities(X, theta).argmax(axis=1), truth)


@pytest.mark.parametrize("far", FAR)
@all_types
def test_a_component_of_weight_zero_is_not_where_all_others_are_too_far(kind, far):
    theta, X = mixture_and_rows(kind)
    means = theta.means.copy()
    means[1] = far, -far
    theta = MixtureParameters(np.array([0.4, 0.0, 0.6]), means, theta.covariances, kind)
    X = np.concatenate([X, means[1:2]])
    assert (responsibilities(X, theta)[:, 1] == 0).all()
    assert (labels(X, theta) != 1).all()
    kept = theta.covariances if kind == "tied" else theta.covariances[[0, 2]]
    without = MixtureParameters(theta.weights[[0, 2]], means[[0, 2]], kept, kind)
    np.testing.assert_array_equal(log_density(X, theta), log_density(X, without))


@all_types
def test_single_precision_saturates_without_a_warning(kind):
    theta, X = mixture_and_rows(kind)
    mixture = DifferentiableGaussianMixture.from_parameters(*theta, covariance_type=kind)
    X = np.concatenate([X, [[1e30, 1e30]]]).astype(np.float32)
    assert mixture.score_samples(X)[-1] == -np.inf
    assert np.isfinite(mixture.predict_proba(X)).all()
    assert mixture.score(X) < -1e50  # summed in double


@all_types
def test_a_left_out_row_that_is_infinitely_unlikely_is_no_part_of_the_criteria(kind):
    theta, X = mixture_and_rows(kind)
    mixture = DifferentiableGaussianMixture.from_parameters(*theta, covariance_type=kind)
    with_far, weight = np.concatenate([X, [[1e200, 0.0]]]), np.append(np.ones(len(X)), 0.0)
    for name in ["score", "aic", "bic", "icl", "free_energy"]:
        criterion = getattr(mixture, name)
        assert criterion(with_far, sample_weight=weight) == pytest.approx(criterion(X), rel=1e-14)
    assert mixture.score(with_far) == -np.inf


@needs_range
@all_types
def test_a_step_with_a_far_row_is_accurate_for_the_others(kind):
    """A component sits on the far row; its magnitude must not choose the way for the rest."""
    theta, X = mixture_and_rows(kind)
    X = np.concatenate([X, [[1e146, -1e146]]])
    means = theta.means.copy()
    means[0] = X[-1]
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    step = EMMap.on(X, covariance_type=kind).step(theta)
    truth, bound = naive.em_step(X.astype(LONG), theta, joint_of=naive.long_log_joint)
    assert step.lower_bound == pytest.approx(float(bound), rel=1e-12)
    np.testing.assert_allclose(step.parameters.weights, truth.weights.astype(float), rtol=1e-12)
    np.testing.assert_allclose(step.parameters.means, truth.means.astype(float), rtol=1e-11)
