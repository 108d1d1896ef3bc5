"""Natural parameters and the M-step, against SciPy, the textbook and automatic differentiation."""

import naive
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import EPS

from skgmmot.families import FAMILIES, family_of
from skgmmot.families.base import lost_components
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.numerics.packing import unpack
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
shapes = {"d": st.integers(1, 6), "K": st.integers(1, 6), "seed": st.integers(0, 2**32 - 1)}


# Natural parameters


def forms(logits, X, feature_type):
    """⟨η_k, φ(x_i - r_k)⟩, (n, K), and the largest sum of the sizes of its terms."""
    K, size = logits.n_components, logits.features.size
    eta = logits.coefficients[:K, :size]
    phi = [naive.features(Z, feature_type) for Z in naive.about(X, logits.reference, K)]
    magnitude = np.einsum("kif,kf->ik", np.abs(phi), np.abs(eta)).max()
    return np.einsum("kif,kf->ik", phi, eta), magnitude


@all_types
@given(**shapes, offset=st.sampled_from([0.0, 10.0, 1e3]))
def test_forms_about_a_common_point_are_log_joint_densities(kind, d, K, seed, offset):
    rng = np.random.default_rng(seed)
    theta = naive.moved(naive.random_mixture(rng, K, d, kind), 1.0, offset)
    X = naive.sample(rng, theta, 20)
    reference = rng.normal(size=d) + offset / 2
    logits = family_of(theta).natural(theta, reference)
    assert not len(logits.factors)
    actual, magnitude = forms(logits, X, kind)
    expected = naive.log_joint(X, theta)
    if kind == "tied":  # the common quadratic part is left out: a constant for each sample
        actual = actual - actual[:, :1]
        expected = expected - expected[:, :1]
    # a few dozen roundings of the terms that cancel
    np.testing.assert_allclose(actual, expected, rtol=0, atol=50 * EPS * magnitude)


@all_types
@given(**shapes, offset=st.sampled_from([0.0, 10.0, 1e6]))
def test_forms_about_the_means_are_log_joint_densities(kind, d, K, seed, offset):
    rng = np.random.default_rng(seed)
    theta = naive.moved(naive.random_mixture(rng, K, d, kind), 1.0, offset)
    X = naive.sample(rng, theta, 20)
    logits = family_of(theta).natural(theta)
    expected = naive.log_joint(X, theta)
    actual, magnitude = forms(logits, X, "full" if kind == "tied" else kind)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=50 * EPS * magnitude)
    # and from the factors: log w + log det U - ½ d log 2π - ½ ‖Uᵀ z‖²
    for k in range(K):
        U = logits.factors[k]
        U = np.diag(U[0]) if len(U) == 1 else U
        assert (np.triu(U) == U).all()
        squares = np.array([((U.T @ z) ** 2).sum() for z in X - theta.means[k]])
        column = logits.coefficients[k, 0] - 0.5 * squares
        np.testing.assert_allclose(column, expected[:, k], rtol=0, atol=50 * EPS * magnitude)


@all_types
@pytest.mark.parametrize("centered", [False, True])
def test_a_zero_weight_is_finite_and_impossible(kind, centered):
    theta = naive.random_mixture(np.random.default_rng(0), 3, 2, kind)
    weights = np.array([0.0, 0.25, 0.75])
    theta = MixtureParameters(weights, theta.means, theta.covariances, kind)
    logits = family_of(theta).natural(theta, None if centered else np.zeros(2))
    assert np.isfinite(logits.coefficients).all()
    feature_type = "full" if centered and kind == "tied" else kind
    X = np.vstack([theta.means, np.full((1, 2), 1e6)])
    values, _ = forms(logits, X, feature_type)
    assert (np.exp(values[:, 0] - values[:, 1:].max(axis=1)) == 0.0).all()


@all_types
@pytest.mark.parametrize("centered", [False, True])
def test_one_kernel_serves_mixtures_of_all_sizes(kind, centered):
    """A kernel is compiled anew, in seconds, for every new combination of kinds of arrays."""
    types = set()
    for K, d in [(1, 1), (1, 3), (2, 1), (5, 3)]:
        theta = naive.random_mixture(np.random.default_rng(0), K, d, kind)
        logits = family_of(theta).natural(theta, None if centered else np.zeros(d))
        types.add(tuple(str(numba.typeof(array)) for array in logits[:3]))
    assert len(types) == 1, types


# Precisions


@all_types
@pytest.mark.parametrize("d", [1, 2, 5])
def test_precisions(kind, d):
    theta = naive.random_mixture(np.random.default_rng(d), 3, d, kind)
    factors, precisions, log_det = FAMILIES[kind].precisions(theta.covariances, d)
    shape = FAMILIES[kind].shape(3, d)
    assert factors.shape == precisions.shape == shape
    one = 1 if kind == "tied" else 3
    of_factors = MixtureParameters(theta.weights, theta.means, factors, kind)
    of_precisions = MixtureParameters(theta.weights, theta.means, precisions, kind)
    for k in range(3):
        U, P = naive.matrices(of_factors)[k], naive.matrices(of_precisions)[k]
        inverse = np.linalg.inv(naive.matrices(theta)[k])
        np.testing.assert_allclose(P, inverse, atol=1e-14 * d)
        np.testing.assert_allclose(U @ U.T, inverse, atol=1e-14 * d)
        determinant = 0.5 * np.linalg.slogdet(inverse)[1]
        np.testing.assert_allclose(log_det[min(k, one - 1)], determinant, atol=1e-14 * d)


@pytest.mark.parametrize(
    "kind, covariances, complaint",
    [
        ("full", np.stack([np.eye(2), np.diag([1.0, 0.0]), -np.eye(2)]), "component 1, 2 is not"),
        ("full", np.stack([np.eye(2), np.full((2, 2), 1.0), np.eye(2)]), "component 1 is not"),
        ("tied", np.diag([1.0, -3.0]), r"The tied covariance is not .* eigenvalue -3\)"),
        ("diag", np.array([[1.0, 1.0], [1.0, 0.0], [2.0, 2.0]]), "component 1 is not"),
        ("spherical", np.array([1.0, 2.0, -0.5]), r"component 2 is not .* -0.5\)"),
    ],
)
def test_a_collapsed_component_is_named(kind, covariances, complaint):
    with pytest.raises(CollapsedComponentError, match=complaint) as caught:
        FAMILIES[kind].precisions(covariances, 2)
    assert "Increase reg_covar" in str(caught.value)


@all_types
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_covariance_that_is_not_finite_is_named(kind, bad):
    covariances = naive.random_mixture(np.random.default_rng(0), 3, 2, kind).covariances.copy()
    covariances[-1] = bad
    which = "The tied covariance" if kind == "tied" else "component 2"
    with pytest.raises(CollapsedComponentError, match=f"{which} is not finite.*Scale the features"):
        FAMILIES[kind].precisions(covariances, 2)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_unpack_inverts_packing_the_lower_half(d):
    matrices = naive.random_covariances(np.random.default_rng(d), 3, d)
    packed = np.array([[m[a, b] for a in range(d) for b in range(a + 1)] for m in matrices])
    np.testing.assert_array_equal(unpack(packed, d), matrices)
    np.testing.assert_array_equal(unpack(packed[1], d), matrices[1])


# The M-step


@all_types
@pytest.mark.parametrize("references", ["common", "per component"])
@settings(max_examples=10)
@given(**shapes, fixed_weights=st.booleans(), reg_covar=st.sampled_from([0.0, 0.5]))
def test_maximize(kind, references, d, K, seed, fixed_weights, reg_covar):
    rng = np.random.default_rng(seed)
    per_component = references == "per component"
    reference = rng.normal(size=(K if per_component else 1, d))
    X, weight, gamma, sums = naive.random_statistics(
        rng, kind, reference, n=60, d=d, K=K, quadratic_of_tied=per_component
    )
    second_moment = None
    if kind == "tied" and not per_component:
        Z = X - reference
        second_moment = np.einsum("i,ia,ib->ab", weight, Z, Z)
    previous = naive.random_mixture(rng, K, d, kind)
    options = {"reg_covar": reg_covar, "fixed_weights": fixed_weights}
    theta = family_of(previous).maximize(
        sums, reference, previous, second_moment=second_moment, **options
    )
    assert lost_components(sums[:, 0]) is None
    assert theta.covariance_type == kind
    expected = naive.maximize(X, weight, gamma, previous, **options)
    # squares about the reference cancel down to the covariance: a few hundred to one
    assert naive.errors(theta, expected) < 1e-11


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_a_component_without_mass_keeps_its_place(kind, fixed_weights):
    rng = np.random.default_rng(0)
    reference = np.zeros((1, 2))
    X, weight, gamma, sums = naive.random_statistics(
        rng, kind, reference, n=50, d=2, K=3, quadratic_of_tied=True, lost=1
    )
    previous = naive.random_mixture(rng, 3, 2, kind)
    options = {"reg_covar": 0.25, "fixed_weights": fixed_weights}
    theta = family_of(previous).maximize(sums, reference, previous, **options)
    np.testing.assert_array_equal(lost_components(sums[:, 0]), [False, True, False])
    np.testing.assert_array_equal(theta.means[1], previous.means[1])
    if kind != "tied":
        np.testing.assert_array_equal(theta.covariances[1], previous.covariances[1])
    assert theta.weights[1] == (previous.weights[1] if fixed_weights else 0.0)
    expected = naive.maximize(X, weight, gamma, previous, **options)
    assert naive.errors(theta, expected) < 1e-11


@all_types
def test_a_tiny_mass_is_no_lost_mass(kind):
    """Quotients by a mass of 1e-200 are as good as any."""
    rng = np.random.default_rng(1)
    reference = np.zeros((1, 2))
    X, weight, gamma, sums = naive.random_statistics(
        rng, kind, reference, n=50, d=2, K=3, quadratic_of_tied=True
    )
    previous = naive.random_mixture(rng, 3, 2, kind)
    options = {"reg_covar": 0.0, "fixed_weights": False}
    expected = naive.maximize(X, weight, gamma, previous, **options)
    sums[2] *= 1e-200
    theta = family_of(previous).maximize(sums, reference, previous, **options)
    assert lost_components(sums[:, 0]) is None
    np.testing.assert_allclose(theta.means, expected.means, rtol=1e-12)
    if kind != "tied":
        np.testing.assert_allclose(theta.covariances, expected.covariances, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_variances_never_fall_below_reg_covar(kind):
    """Samples that coincide far from the reference: a difference of squares may round below 0."""
    n, x = 7.0, 1e3 / 3
    square = n * x * x * (1 - 4 * EPS)  # as n x² might be rounded
    squares = [square, square] if kind == "diag" else [2 * square]
    sums = np.array([[n, n * x, n * x, *squares]])
    previous = naive.random_mixture(np.random.default_rng(0), 1, 2, kind)
    theta = family_of(previous).maximize(
        sums, np.zeros((1, 2)), previous, reg_covar=1e-12, fixed_weights=False
    )
    np.testing.assert_array_equal(theta.covariances, np.full_like(theta.covariances, 1e-12))
