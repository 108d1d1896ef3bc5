"""Tangents and cotangents of the two small maps, against PyTorch and differences."""

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skgmmot.families import FAMILIES, family_of
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
shapes = {"d": st.integers(1, 5), "K": st.integers(1, 5), "seed": st.integers(0, 2**32 - 1)}


def along(theta, tangent, t):
    """θ + t θ̇."""
    parts = (a + t * b for a, b in zip(theta, tangent, strict=True))
    return MixtureParameters(*parts, theta.covariance_type)


def slope(value, h=1e-3):
    """Derivative of ``value`` at 0 by a formula of fourth order."""
    return (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)


# Natural parameters


@all_types
@pytest.mark.parametrize("way", ["matrix", "centered"])
def test_natural_parameters_jvp_against_differences(kind, way):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, 2, kind)
    tangent = naive.random_cotangent(rng, theta)
    logits = family_of(theta).natural(theta, None if way == "centered" else np.array([1.0, -2.0]))
    reference = logits.reference
    size = logits.features.size

    def coefficients(t):
        """About the same points, whatever way: expanded by hand in the centered way."""
        moved = along(theta, tangent, t)
        about = [family_of(moved).natural(moved, point) for point in reference]
        eta = [a.coefficients[k if len(about) > 1 else slice(3)] for k, a in enumerate(about)]
        return np.array(eta).reshape(3, -1)[:, :size]

    if kind == "tied" and way == "centered":  # written as a full mixture
        theta = MixtureParameters(
            theta.weights, theta.means, np.stack([theta.covariances] * 3), "full"
        )
        tangent = MixtureParameters(
            tangent.weights, tangent.means, np.stack([tangent.covariances] * 3), "full"
        )
    actual = family_of(theta).natural_jvp(theta, logits, tangent)
    np.testing.assert_allclose(actual, slope(coefficients), rtol=1e-8, atol=1e-8)


@all_types
@pytest.mark.parametrize("way", ["matrix", "centered"])
@settings(max_examples=10)
@given(**shapes)
def test_natural_parameters_vjp_is_the_transpose(kind, way, d, K, seed):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind)
    tangent = naive.random_cotangent(rng, theta)
    logits = family_of(theta).natural(theta, None if way == "centered" else rng.normal(size=d))
    forward = family_of(theta).natural_jvp(theta, logits, tangent)
    bar = rng.normal(size=forward.shape)
    backward = family_of(theta).natural_vjp(theta, logits, bar)
    scale = np.abs(forward * bar).sum()
    assert abs((forward * bar).sum() - naive.inner_product(backward, tangent)) < 1e-12 * scale


def test_a_weight_of_zero_has_no_derivative():
    theta = naive.random_mixture(np.random.default_rng(0), 2, 2, "full")
    theta = MixtureParameters(np.array([1.0, 0.0]), theta.means, theta.covariances, "full")
    logits = family_of(theta).natural(theta, np.zeros(2))
    bar = family_of(theta).natural_vjp(theta, logits, np.ones((2, logits.features.size)))
    assert bar.weights[1] == 0.0
    assert all(np.isfinite(part).all() for part in bar)


# The M-step


@all_types
@pytest.mark.parametrize("references", ["common", "per component"])
@settings(max_examples=10)
@given(**shapes, fixed_weights=st.booleans(), reg_covar=st.sampled_from([0.0, 0.5]))
def test_maximize_jvp_against_differences_and_its_transpose(
    kind, references, d, K, seed, fixed_weights, reg_covar
):
    rng = np.random.default_rng(seed)
    per_component = references == "per component"
    reference = rng.normal(size=(K if per_component else 1, d))
    X, weight, _, sums = naive.random_statistics(
        rng, kind, reference, n=60, d=d, K=K, quadratic_of_tied=per_component
    )
    previous = naive.random_mixture(rng, K, d, kind)
    options = {"reg_covar": reg_covar, "fixed_weights": fixed_weights}
    moment = moment_dot = None
    if kind == "tied" and not per_component:
        Z = X - reference
        moment = np.einsum("i,ia,ib->ab", weight, Z, Z)
        moment_dot = naive.random_covariances(rng, 1, d)[0]
    sums_dot = rng.normal(size=sums.shape)

    def moved(t):
        second_moment = None if moment is None else moment + t * moment_dot
        theta = family_of(previous).maximize(
            sums + t * sums_dot, reference, previous, second_moment=second_moment, **options
        )
        return np.concatenate([part.ravel() for part in theta])

    updated = family_of(previous).maximize(
        sums, reference, previous, second_moment=moment, **options
    )
    tangent = family_of(updated).maximize_jvp(
        updated, sums[:, 0], reference, sums_dot, second_moment_dot=moment_dot, **options
    )
    flat = np.concatenate([part.ravel() for part in tangent])
    scale = np.abs(flat).max()
    np.testing.assert_allclose(flat, slope(moved), rtol=0, atol=1e-7 * scale)

    cotangent = naive.random_cotangent(rng, updated)
    bar, moment_bar = family_of(updated).maximize_vjp(
        updated, sums[:, 0], reference, cotangent, has_quadratic=moment is None, **options
    )
    backward = (bar * sums_dot).sum()
    if moment is not None:
        backward += (moment_bar * moment_dot).sum()
    forward = naive.inner_product(cotangent, tangent)
    size = sum(np.abs(a * b).sum() for a, b in zip(cotangent, tangent, strict=True))
    assert abs(forward - backward) < 1e-11 * (size + np.abs(bar * sums_dot).sum())


def pulled_back(sums, reference, theta, cotangent, *, fixed_weights, reg_covar=0.1):
    """`maximize_vjp` at the M-step of these statistics."""
    options = {"reg_covar": reg_covar, "fixed_weights": fixed_weights}
    updated = family_of(theta).maximize(sums, reference, theta, **options)
    bar, _ = family_of(updated).maximize_vjp(updated, sums[:, 0], reference, cotangent, **options)
    return bar


def statistics_of(torch, X, s, gamma, reference, kind):
    """Statistics as a function of tensors: the samples, weights and responsibilities."""
    K, d = gamma.shape[1], X.shape[1]
    reference = torch.as_tensor(np.broadcast_to(reference, (K, d)).copy())
    sums = []
    for k in range(K):
        Z = X - reference[k]
        if kind in ("full", "tied"):
            quadratic = [Z[:, a] * Z[:, b] for a in range(d) for b in range(a + 1)]
        elif kind == "diag":
            quadratic = [*(Z**2).T]
        else:
            quadratic = [(Z**2).sum(1)]
        phi = torch.stack([torch.ones_like(Z[:, 0]), *Z.T, *quadratic])
        sums.append(phi @ (s * gamma[:, k]))
    return torch.stack(sums)


@all_types
@pytest.mark.parametrize("references", ["common", "per component"])
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("d", [1, 3])
def test_maximize_vjp_against_automatic_differentiation(kind, references, fixed_weights, d):
    """The M-step of samples, pulled back at once or by way of the statistics."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    K = 3
    reference = rng.normal(size=(K if references == "per component" else 1, d))
    X, weight, gamma, sums = naive.random_statistics(
        rng, kind, reference, n=30, d=d, K=K, quadratic_of_tied=True
    )
    theta = naive.random_mixture(rng, K, d, kind)
    cotangent = naive.random_cotangent(rng, theta)

    samples = [torch.tensor(array, requires_grad=True) for array in (X, weight, gamma)]
    parts = naive.torch_maximize(*samples, theta, reg_covar=0.1, fixed_weights=fixed_weights)
    loss = sum((torch.as_tensor(c) * p).sum() for c, p in zip(cotangent, parts, strict=True))
    expected = torch.autograd.grad(loss, samples)

    bar = pulled_back(sums, reference, theta, cotangent, fixed_weights=fixed_weights)
    assert bar.shape == sums.shape
    pulled = (statistics_of(torch, *samples, reference, kind) * torch.as_tensor(bar)).sum()
    for gradient, truth in zip(torch.autograd.grad(pulled, samples), expected, strict=True):
        # a hundred terms, of which the squares about the reference cancel a hundredfold
        scale = float(truth.abs().max())
        np.testing.assert_allclose(gradient.numpy(), truth.numpy(), rtol=0, atol=1e-11 * scale)


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_maximize_vjp_against_finite_differences(kind, fixed_weights):
    rng = np.random.default_rng(5)
    reference = np.zeros((1, 2))
    *_, sums = naive.random_statistics(rng, kind, reference, n=40, d=2, K=3, quadratic_of_tied=True)
    theta = naive.random_mixture(rng, 3, 2, kind)
    cotangent = naive.random_cotangent(rng, theta)
    direction = rng.normal(size=sums.shape)

    def value(t):
        moved = sums + t * direction
        new = family_of(theta).maximize(
            moved, reference, theta, reg_covar=0.1, fixed_weights=fixed_weights
        )
        return naive.inner_product(cotangent, new)

    bar = pulled_back(sums, reference, theta, cotangent, fixed_weights=fixed_weights)
    h = 1e-3
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    np.testing.assert_allclose((bar * direction).sum(), slope, rtol=1e-9)


@all_types
def test_maximize_vjp_of_a_component_without_mass_is_zero(kind):
    rng = np.random.default_rng(6)
    reference = np.zeros((1, 2))
    *_, sums = naive.random_statistics(
        rng, kind, reference, n=40, d=2, K=3, quadratic_of_tied=True, lost=0
    )
    theta = naive.random_mixture(rng, 3, 2, kind)
    cotangent = naive.random_cotangent(rng, theta)
    bar = pulled_back(sums, reference, theta, cotangent, fixed_weights=False)
    assert (bar[0] == 0.0).all()
    assert np.isfinite(bar).all() and bar[1:].any()


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_a_component_without_mass_moves_with_nothing(kind, fixed_weights):
    """Whatever a pass over the data says of it: it keeps its mean and its covariance."""
    rng = np.random.default_rng(8)
    reference = rng.normal(size=(3, 2))
    *_, sums = naive.random_statistics(
        rng, kind, reference, n=40, d=2, K=3, quadratic_of_tied=True, lost=0
    )
    options = {"reg_covar": 0.1, "fixed_weights": fixed_weights}
    family = FAMILIES[kind]
    updated = family.maximize(sums, reference, naive.random_mixture(rng, 3, 2, kind), **options)
    sums_dot = rng.normal(size=sums.shape)
    tangent = family.maximize_jvp(updated, sums[:, 0], reference, sums_dot, **options)
    assert (tangent.means[0] == 0.0).all() and tangent.means[1:].all()
    if kind != "tied":
        assert (tangent.covariances[0] == 0.0).all() and tangent.covariances[1:].all()


@all_types
def test_fixed_weights_ignore_the_cotangent_of_the_weights(kind):
    rng = np.random.default_rng(7)
    reference = np.zeros((1, 2))
    *_, sums = naive.random_statistics(rng, kind, reference, n=40, d=2, K=3, quadratic_of_tied=True)
    theta = naive.random_mixture(rng, 3, 2, kind)
    only_weights = MixtureParameters(
        rng.normal(size=3), np.zeros_like(theta.means), np.zeros_like(theta.covariances), kind
    )
    bar = pulled_back(sums, reference, theta, only_weights, fixed_weights=True)
    assert (bar == 0.0).all()
    assert pulled_back(sums, reference, theta, only_weights, fixed_weights=False).any()
