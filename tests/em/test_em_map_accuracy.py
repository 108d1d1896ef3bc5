"""EM steps on data of awkward scales, against the textbook in extended precision.

The samples are given exactly, so the truth has no error of its own that counts. Errors are
measured in units of the updated component (`naive.errors`), and what is asked of every step is

* for covariances and weights 1e-10, the accuracy that the package promises for responsibilities
  and squares (a step in double precision about each mean has about 1e-13);
* for means as much, but no less than the rounding of the means themselves: EPS times their
  distance from the origin in standard deviations.
"""

from dataclasses import replace

import naive
import numpy as np
import pytest
from naive import EPS

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.densities import log_density
from skgmmot.em.em_map import EMMap
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples.interface import DataTangent

pytestmark = pytest.mark.skipif(
    not naive.LONG_IS_LONGER, reason="no extended precision on this platform"
)
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
PROMISE = 1e-10


def assert_step_is_accurate(X, theta, weight=None, **options):
    problem = EMMap.on(X, weight, covariance_type=theta.covariance_type, **options)
    step = problem.step(theta)
    expected, bound = naive.em_step(X, theta, weight, **options, joint_of=naive.long_log_joint)
    errors = naive.errors(step.parameters, expected)
    deviations = np.sqrt(np.einsum("kaa->ka", naive.matrices(expected)))
    errors["means"] -= 4 * EPS * float(np.max(np.abs(expected.means) / deviations))
    assert errors < PROMISE
    np.testing.assert_allclose(step.lower_bound, bound, rtol=PROMISE)
    return step.parameters


def start(kind, weights, means, variances):
    """A mixture with variances of shape (K, d), as far as its covariance type can tell them."""
    variances = np.asarray(variances, dtype=float)
    covariances = {
        "full": [np.diag(v) for v in variances],
        "tied": np.diag(variances.mean(axis=0)),
        "diag": variances,
        "spherical": variances.mean(axis=1),
    }[kind]
    return MixtureParameters(
        np.asarray(weights, dtype=float),
        np.asarray(means, dtype=float),
        np.array(covariances, dtype=float),
        kind,
    )


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_features_of_very_different_scales(kind):
    rng = np.random.default_rng(0)
    scales = np.array([1e-8, 1.0, 1e8])
    theta = naive.random_mixture(rng, 3, 3, kind)
    X = naive.sample(rng, theta, 400) * scales
    outer = scales if kind == "diag" else scales[:, None] * scales
    theta = MixtureParameters(
        theta.weights,
        theta.means * scales,
        theta.covariances * (outer**2 if kind == "diag" else outer),
        kind,
    )
    assert_step_is_accurate(X, theta)


def two_clusters(rng, apart, n=200):
    X = rng.normal(size=(2 * n, 2))
    X[n:, 0] += apart
    return X


@all_types
@pytest.mark.parametrize("apart", [1e4, 1e6, 1e8])
def test_clusters_far_apart(kind, apart):
    X = two_clusters(np.random.default_rng(1), apart)
    theta = start(kind, [0.3, 0.7], [[0.5, 0.0], [apart, 0.5]], np.full((2, 2), 1.5))
    assert_step_is_accurate(X, theta)


@all_types
def test_single_precision_far_from_the_origin(kind):
    """At 1e5 single precision has steps of 1/128; the samples are what they were rounded to."""
    rng = np.random.default_rng(2)
    theta = naive.moved(naive.random_mixture(rng, 3, 2, kind), 1.0, 1e5)
    X = naive.sample(rng, theta, 500).astype(np.float32)
    assert_step_is_accurate(X, theta)


@all_types
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("constant", [0.1, 1e8 / 3])
def test_constant_columns(kind, weighted, constant):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 3))
    X[:, 1] = constant
    weight = rng.uniform(0.1, 2.0, size=300) if weighted else None
    theta = start(kind, [0.4, 0.6], X[:2], np.ones((2, 3)))
    found = assert_step_is_accurate(X, theta, weight, reg_covar=1e-6)
    if kind in ("full", "diag"):
        # nothing but reg_covar is left of the constant column, and no trace of its size
        for matrix in naive.matrices(found):
            np.testing.assert_allclose(matrix[1], [0.0, 1e-6, 0.0], rtol=1e-10, atol=1e-16)


@all_types
def test_duplicates(kind):
    """Each component is left with copies of one sample: nothing but reg_covar remains."""
    rng = np.random.default_rng(4)
    places = 10 * rng.normal(size=(4, 2))
    X = np.repeat(places, 50, axis=0)
    theta = start(kind, np.full(4, 0.25), places, np.full((4, 2), 1e-4))
    found = assert_step_is_accurate(X, theta, reg_covar=1e-6)
    for matrix in naive.matrices(found):
        np.testing.assert_allclose(matrix, 1e-6 * np.eye(2), rtol=1e-9, atol=1e-15)


@all_types
def test_one_far_outlier(kind):
    """With a component of its own, at a distance of 1e8."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 2))
    X[17] = [1e8, -1e8]
    means = [[-0.5, 0.0], [0.5, 0.0], [1e8, -1e8]]
    theta = start(kind, [0.5, 0.4, 0.1], means, np.ones((3, 2)))
    found = assert_step_is_accurate(X, theta, reg_covar=1e-6)
    np.testing.assert_allclose(found.weights[2], 1 / 300, rtol=1e-12)


@all_types
def test_as_many_components_as_samples(kind):
    rng = np.random.default_rng(6)
    X = 10 * rng.normal(size=(8, 2))
    theta = start(kind, np.full(8, 1 / 8), X, np.full((8, 2), 1e-6))
    assert_step_is_accurate(X, theta, reg_covar=1e-6)


@all_types
@pytest.mark.parametrize("apart", [0.0, 1e6])
def test_tiny_and_huge_sample_weights(kind, apart):
    rng = np.random.default_rng(7)
    X = two_clusters(rng, apart)
    weight = 10.0 ** rng.uniform(-12, 12, size=len(X))
    theta = start(kind, [0.5, 0.5], [[-0.5, 0.0], [apart + 0.5, 0.0]], np.ones((2, 2)))
    assert_step_is_accurate(X, theta, weight, reg_covar=1e-6)


@all_types
@pytest.mark.parametrize("apart", [1e4, 1e6])
def test_log_densities_of_clusters_far_apart(kind, apart):
    X = two_clusters(np.random.default_rng(1), apart)
    theta = start(kind, [0.3, 0.7], [[0.5, 0.0], [apart, 0.5]], np.full((2, 2), 1.5))
    expected = naive.log_density(naive.long_log_joint(X, theta))
    problem = EMMap.on(X, covariance_type=kind)
    np.testing.assert_allclose(log_density(problem, theta), expected.astype(float), rtol=1e-12)


def check_gradients(X, theta, apart):
    pytest.importorskip("torch")
    cotangent = naive.random_cotangent(np.random.default_rng(8), theta)
    expected = naive.torch_gradients(X, None, theta, cotangent)
    problem = EMMap.on(X, covariance_type=theta.covariance_type)
    result = ADJOINTS["one_step"].vjp(problem, FitRecord(theta), cotangent)[0]
    actual = result.data, result.sample_weight
    for gradient, truth in zip(actual, expected, strict=True):
        # coordinates that large are rounded to EPS · apart: so are the truth's own
        tolerance = (PROMISE + 100 * EPS * apart) * np.abs(truth).max()
        np.testing.assert_allclose(gradient, truth, rtol=0, atol=tolerance)


@all_types
@pytest.mark.parametrize("apart", [1e4, 1e6])
def test_gradients_of_clusters_far_apart(kind, apart):
    X = two_clusters(np.random.default_rng(1), apart)
    theta = start(kind, [0.3, 0.7], [[0.5, 0.0], [apart, 0.5]], np.full((2, 2), 1.5))
    check_gradients(X, theta, apart)


# Components that shrink or move far in the step: what is far for the updated component was close
# for the one before it, from which the samples are seen.


def wide_start(kind, apart):
    """Components at the two clusters, a twentieth of their distance wide."""
    variances = np.full((2, 2), (apart / 20) ** 2)
    return start(kind, [0.5, 0.5], [[0.0, 0.0], [apart, 0.0]], variances)


@all_types
@pytest.mark.parametrize("apart", [1e4, 1e8])
def test_components_that_shrink(kind, apart):
    X = two_clusters(np.random.default_rng(1), apart)
    assert_step_is_accurate(X, wide_start(kind, apart))


@all_types
def test_gradients_of_components_that_shrink(kind):
    X = two_clusters(np.random.default_rng(1), 1e6)
    check_gradients(X, wide_start(kind, 1e6), 1e6)


@all_types
def test_a_component_that_starts_far_from_its_samples(kind):
    X = two_clusters(np.random.default_rng(1), 0.0)
    assert_step_is_accurate(X, start(kind, [1.0], [[1e6, 1e6]], np.ones((1, 2))))


def test_one_far_outlier_in_a_wide_component():
    """The outlier pulls the center of the data away from the cluster of the others."""
    X = np.random.default_rng(5).normal(size=(300, 2))
    X[17] = [1e8, -1e8]
    means = [[-0.5, 0.0], [0.5, 0.0], [1e6, -1e6]]
    variances = [[1.0, 1.0], [1.0, 1.0], [1e14, 1e14]]
    theta = start("diag", [0.5, 0.4, 0.1], means, variances)
    assert_step_is_accurate(X, theta, reg_covar=1e-6)


@pytest.mark.parametrize("n_components", [1, 2])
def test_nearly_collinear_features_of_a_tied_mixture(n_components):
    """Σ = L Lᵀ with L = (1, 0; 1, e), which is exact, and so is y = L⁻¹ z = (z₁, (z₂ - z₁) / e).

    At means in the center the logits of the components say nothing of their common quadratic
    part. In the sum of P times the second moment it would cancel 1 / e² times.
    """
    e = 2.0**-20
    rng = np.random.default_rng(0)
    first = rng.normal(size=100)
    X = np.column_stack([first, first + e * rng.normal(size=100)])
    problem = EMMap.on(X, covariance_type="tied")
    theta = MixtureParameters(
        np.arange(1.0, 1 + n_components) / (n_components * (n_components + 1) / 2),
        np.tile(problem.data.center, (n_components, 1)),
        np.array([[1.0, 1.0], [1.0, 1.0 + e * e]]),
        "tied",
    )
    z = X.astype(naive.LONG) - problem.data.center.astype(naive.LONG)
    squares = z[:, 0] ** 2 + ((z[:, 1] - z[:, 0]) / e) ** 2
    expected = (-squares / 2 - np.log(naive.LONG(e)) - np.log(2 * naive.LONG(np.pi))).astype(float)
    # the center may lie half a rounding of the data off, which 1 / e makes 1e-10
    np.testing.assert_allclose(log_density(problem, theta), expected, rtol=0, atol=1e-8)
    assert problem.step(theta).lower_bound == pytest.approx(expected.mean(), rel=0, abs=1e-8)


# Some components in one way, the others in the other


def starved(kind, shrink):
    """Data, and a mixture one component of which is as much smaller than the others."""
    theta = naive.random_mixture(np.random.default_rng(0), 4, 2, kind)
    covariances = theta.covariances.copy()
    covariances[1] *= shrink**2
    theta = replace(theta, covariances=covariances)
    X = naive.sample(np.random.default_rng(1), theta, 400)
    return X, theta


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_starved_component_goes_its_own_way_alone(kind):
    X, theta = starved(kind, 1e-6)
    em_map = EMMap.on(X, covariance_type=kind, reg_covar=1e-14)
    step = em_map.step(theta)
    assert step.logits.apart.tolist() == [1]
    near = [0, 2, 3]
    assert (step.logits.reference[near] == em_map.data.center).all()
    assert (step.origin[near] == em_map.data.center).all()
    np.testing.assert_array_equal(step.origin[1], step.parameters.means[1])
    assert_step_is_accurate(X, theta, reg_covar=1e-14)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_component_that_shrinks_in_the_step_goes_its_own_way_alone(kind):
    """Its covariance is known to be tiny only after the step."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(300, 2)), [50.0, 50.0] + 1e-7 * rng.normal(size=(50, 2))])
    covariances = {"full": np.eye(2), "diag": np.ones(2), "spherical": 1.0}[kind]
    theta = MixtureParameters(
        np.full(3, 1 / 3),
        np.array([[0.5, 0.0], [50.0, 50.0], [-0.5, 0.0]]),
        np.array([covariances] * 3),
        kind,
    )
    step = EMMap.on(X, covariance_type=kind, reg_covar=1e-16).step(theta)
    assert step.logits.apart.tolist() == [1]
    assert_step_is_accurate(X, theta, reg_covar=1e-16)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_derivatives_do_not_depend_on_the_way(kind):
    """With one component apart, as with all: to the cancellation of a million that is allowed."""
    X, theta = starved(kind, 1e-3)
    rng, weight = np.random.default_rng(2), np.random.default_rng(3).uniform(0.5, 2, size=len(X))
    mixed = EMMap.on(X, weight, covariance_type=kind, reg_covar=1e-14)
    assert 0 < len(mixed.step(theta).logits.apart) < 4
    U, data_dot = (
        naive.random_cotangent(rng, theta),
        DataTangent(rng.normal(size=X.shape), rng.normal(size=len(X))),
    )
    found = []
    for em_map in (mixed, naive.in_way(mixed, "centered")):
        step, data_bar = em_map.step(theta), em_map.zero_cotangent(wrt_weight=True)
        theta_bar = em_map.vjp(step, U, data_bar)
        found.append(
            [*theta_bar, data_bar.X, data_bar.sample_weight, *em_map.jvp(step, U, data_dot)]
        )
    for one, other in zip(*found, strict=True):
        scale = np.abs(other).max(axis=tuple(range(1, other.ndim)), keepdims=True)
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=1e-8)
