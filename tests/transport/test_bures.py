"""W2 between Gaussians and the matrices of its maps, against what is known of them."""

import naive
import numpy as np
import ot
import pytest

from skgmmot.families import FAMILIES
from skgmmot.kernels.gaussians import nuclear_norms, small_nuclear_norms
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport import costs as costs_module
from skgmmot.transport.bures import gaussian_maps, square_root_factors, standard_deviations
from skgmmot.transport.costs import costs_between, gaussian_costs, gaussians_of

EPS = np.finfo(float).eps


def random_rotation(rng, d):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


def random_mixture(rng, n_components, d, covariance_type="full"):
    covariances = {
        "full": lambda: naive.random_spd(rng, n_components, d),
        "tied": lambda: naive.random_spd(rng, 1, d)[0],
        "diag": lambda: rng.uniform(0.3, 3, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.3, 3, size=n_components),
    }[covariance_type]()
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = rng.normal(size=(n_components, d))
    return MixtureParameters(weights, means, covariances, covariance_type)


def centered(*covariances):
    """A mixture of centered Gaussians with these covariance matrices."""
    covariances = np.array(covariances, dtype=float)
    n, d, _ = covariances.shape
    return MixtureParameters(np.full(n, 1 / n), np.zeros((n, d)), covariances, "full")


def cost(covariance, target_covariance):
    return gaussian_costs(centered(covariance), centered(target_covariance)).item()


def transport_map(covariance, target_covariance):
    zero = np.zeros(1, dtype=int)
    return gaussian_maps(centered(covariance), centered(target_covariance), zero, zero)[0]


def naive_square_root(matrix):
    eigenvalues, eigenvectors = np.linalg.eigh(matrix)
    return eigenvectors @ np.diag(np.sqrt(np.maximum(eigenvalues, 0))) @ eigenvectors.T


def naive_costs(a, b):
    """tr Σ + tr Σ' − 2 tr (Σ^{1/2} Σ' Σ^{1/2})^{1/2} as the textbook has it."""
    matrices, target_matrices = (
        FAMILIES[m.covariance_type].matrices(m.covariances, *m.means.shape) for m in (a, b)
    )
    costs = np.zeros((a.n_components, b.n_components))
    for k in range(a.n_components):
        for j in range(b.n_components):
            root = naive_square_root(matrices[k])
            cross = naive_square_root(root @ target_matrices[j] @ root)
            costs[k, j] = np.sum((a.means[k] - b.means[j]) ** 2)
            costs[k, j] += np.trace(matrices[k] + target_matrices[j] - 2 * cross)
    return costs


@pytest.mark.parametrize("d", [1, 2, 3, 6])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("target_kind", COVARIANCE_TYPES)
def test_costs_of_all_covariance_types(kind, target_kind, d):
    rng = np.random.default_rng(d)
    a, b = random_mixture(rng, 4, d, kind), random_mixture(rng, 3, d, target_kind)
    # Covariances of condition below 1e3: the textbook formula keeps 13 digits.
    np.testing.assert_allclose(gaussian_costs(a, b), naive_costs(a, b), rtol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 16])
def test_costs_of_pot(d):
    rng = np.random.default_rng(d)
    a, b = random_mixture(rng, 5, d), random_mixture(rng, 4, d)
    peer = [
        [ot.gaussian.bures_wasserstein_distance(m, n, S, R) for _, n, R in zip(*b, strict=True)]
        for _, m, S in zip(*a, strict=True)
    ]
    np.testing.assert_allclose(np.sqrt(gaussian_costs(a, b)), peer, rtol=1e-10)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_distance_of_equal_gaussians_vanishes_to_rounding(d):
    """W2 itself is of size eps, not the square root of eps that cancelling traces leave."""
    mixture = random_mixture(np.random.default_rng(d), 5, d)
    distances = np.sqrt(np.diag(gaussian_costs(mixture, mixture)))
    assert distances.max() < 100 * EPS * np.sqrt(np.einsum("kaa->k", mixture.covariances).max())


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-7])
def test_distance_of_nearly_equal_gaussians(d, size):
    """With Σ' = T Σ T the distance is ‖(I − T) L‖; a difference of traces would lose it."""
    rng = np.random.default_rng(d)
    covariance = naive.random_spd(rng, 1, d)[0]
    change = size * naive.random_spd(rng, 1, d)[0]
    T = np.eye(d) + change
    expected = np.linalg.norm(change @ np.linalg.cholesky(covariance))
    found = np.sqrt(cost(covariance, T @ covariance @ T))
    # Σ' is rounded: its square root is known to eps times the condition, about 1e-14.
    np.testing.assert_allclose(found, expected, rtol=1e-13 / size)


@pytest.mark.parametrize(
    "variances, target_variances, rtol",
    [
        # Rounding 1e-16 of an entry moves a variance of 1e-14 by 1%, its root 1e-7 by 1e-9.
        ([1.0, 1e-14, 2.0], [3.0, 1.0, 1e-14], 1e-8),
        ([1.0, 1e-14, 1e-14], [1e-14, 1.0, 0.5], 1e-8),
        # Taken for what they are, zeros leave no trace of size 1e-8.
        ([1.0, 0.0, 2.0], [3.0, 1.0, 0.5], 1e-13),
        ([1.0, 0.0, 0.0], [3.0, 1.0, 0.5], 1e-13),
        ([1.0, 0.0, 0.0], [0.0, 0.0, 4.0], 1e-13),
        ([1.0, 2.0, 0.0, 0.0], [3.0, 0.0, 5.0, 0.0], 1e-13),
        ([1.0, 0.0], [3.0, 1.0], 1e-13),
        ([1.0, 0.0], [0.0, 2.0], 1e-13),
    ],
)
def test_cost_of_singular_covariances(variances, target_variances, rtol):
    """Covariances with common eigenvectors: Σ (√λ − √λ')²."""
    variances, target_variances = np.array(variances), np.array(target_variances)
    expected = ((np.sqrt(variances) - np.sqrt(target_variances)) ** 2).sum()
    for seed in range(10):
        Q = random_rotation(np.random.default_rng(seed), len(variances))
        rotated, target = ((Q * v) @ Q.T for v in (variances, target_variances))
        np.testing.assert_allclose(cost(rotated, target), expected, rtol=rtol)
        np.testing.assert_allclose(cost(target, rotated), expected, rtol=rtol)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_cost_to_a_point_is_the_trace(d):
    covariance = naive.random_spd(np.random.default_rng(d), 1, d)[0]
    np.testing.assert_allclose(cost(covariance, np.zeros((d, d))), np.trace(covariance), rtol=1e-15)
    assert cost(np.zeros((d, d)), np.zeros((d, d))) == 0


def test_units_of_the_features_do_not_mix():
    """Independent blocks in units 1e-8 and 1e8: the small one counts as it does alone."""
    rng = np.random.default_rng(0)
    small, target_small, big = naive.random_spd(rng, 3, 2)
    blocks, target_blocks = np.zeros((2, 4, 4))
    blocks[:2, :2], target_blocks[:2, :2] = 1e-16 * small, 1e-16 * target_small
    blocks[2:, 2:], target_blocks[2:, 2:] = 1e16 * big, 1e16 * big
    factors = square_root_factors(centered(blocks))[0]
    np.testing.assert_allclose((factors @ factors.T)[:2, :2], 1e-16 * small, rtol=1e-14)
    expected = transport_map(small, target_small)
    found = transport_map(blocks, target_blocks)
    np.testing.assert_allclose(found[:2, :2], expected, rtol=1e-10)


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0], [1.0, 1e-9], [1.0, 0.0], [0.0, 0.0]]
    + [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1e-4, 1e-9], [1.0, 1e-9, 1e-9]]
    + [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
)
def test_nuclear_norm_in_closed_form(values):
    """Factors with orthogonal bases of their own, so that the singular values are given."""
    rng = np.random.default_rng(0)
    d = len(values)
    for _ in range(20):
        Q, R, S = (random_rotation(rng, d) for _ in range(3))
        left, right = (Q * np.sqrt(values)) @ R, (Q * np.sqrt(values)) @ S  # leftᵀ right = Rᵀ D S
        determinants = np.abs(np.linalg.det([left, right]))[:, None]
        found = np.empty((1, 1))
        small_nuclear_norms(left[None], determinants[0], right[None], determinants[1], found)
        # Also where M is nearly of rank one: a determinant wrong by eps would leave 1e-8.
        np.testing.assert_allclose(found, sum(values), rtol=1e-14)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 3.0, 4.0], [1.0] * 5, [1.0, 1e-4, 1e-9, 0.0, 0.0, 0.0]]
)
def test_nuclear_norm_by_rotations(values):
    rng = np.random.default_rng(0)
    d = len(values)
    for _ in range(20):
        Q, R, S = (random_rotation(rng, d) for _ in range(3))
        left, right = (Q * np.sqrt(values)) @ R, (Q * np.sqrt(values)) @ S
        found = np.empty((1, 1))
        nuclear_norms(left[None], right[None], found)
        np.testing.assert_allclose(found.item(), sum(values), rtol=1e-14)


def test_norms_that_rotations_do_not_find_are_left_to_lapack(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 5), random_mixture(rng, 3, 5)
    expected = gaussian_costs(a, b)

    def failing(factors, target_factors, norms):
        nuclear_norms(factors, target_factors, norms)
        norms[:, ::2] = np.nan

    monkeypatch.setattr(costs_module, "nuclear_norms", failing)
    np.testing.assert_allclose(gaussian_costs(a, b), expected, rtol=1e-13)


def test_blocks_do_not_change_the_costs(monkeypatch):
    rng = np.random.default_rng(0)
    mixtures = [random_mixture(rng, 7, d) for d in (2, 3, 5, 8)]
    whole = [gaussian_costs(m, m) for m in mixtures]
    monkeypatch.setattr(costs_module, "BLOCK_SIZE", 60)
    for mixture, costs in zip(mixtures, whole, strict=True):
        # The same numbers in products of other shapes: equal to rounding of the traces.
        scale = np.einsum("kaa->k", mixture.covariances).max()
        np.testing.assert_allclose(
            gaussian_costs(mixture, mixture), costs, rtol=0, atol=1e-14 * scale
        )


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_map_is_the_matrix_that_made_the_target(d):
    rng = np.random.default_rng(d)
    covariance, T = naive.random_spd(rng, 2, d)
    found = transport_map(covariance, T @ covariance @ T)
    np.testing.assert_allclose(found, T, atol=1e-11 * np.abs(T).max())
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("target_kind", COVARIANCE_TYPES)
def test_map_carries_source_to_target(kind, target_kind):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 3, kind), random_mixture(rng, 2, 3, target_kind)
    rows, columns = np.array([0, 1, 3, 3]), np.array([1, 0, 0, 1])
    maps = gaussian_maps(a, b, rows, columns)
    covariances, targets = (
        FAMILIES[m.covariance_type].matrices(m.covariances, *m.means.shape) for m in (a, b)
    )
    np.testing.assert_allclose(maps @ covariances[rows] @ maps, targets[columns], atol=1e-12)
    assert np.linalg.eigvalsh(maps).min() > 0


def test_map_at_repeated_eigenvalues():
    np.testing.assert_allclose(transport_map(np.eye(4), 9 * np.eye(4)), 3 * np.eye(4), rtol=1e-15)


def test_map_between_equal_nearly_singular_covariances_is_the_identity():
    rng = np.random.default_rng(0)
    for d in (2, 3, 5):
        Q = random_rotation(rng, d)
        covariance = (Q * np.r_[np.ones(d - 1), 1e-13]) @ Q.T
        # M = LᵀL has a singular value 1e-13 of its own, known to 1e-16: formula (4) would be
        # wrong by 1e-3. Formula (3) is wrong by eps over the root of the condition.
        np.testing.assert_allclose(transport_map(covariance, covariance), np.eye(d), atol=1e-8)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_map_of_a_singular_covariance_is_of_least_norm(d):
    """Σ and Σ' on the same subspace: T is the map there and zero on the complement."""
    rng = np.random.default_rng(d)
    Q = random_rotation(rng, d)[:, : d - 1]
    covariance, T = naive.random_spd(rng, 2, d - 1)
    found = transport_map(Q @ covariance @ Q.T, Q @ T @ covariance @ T @ Q.T)
    np.testing.assert_allclose(found, Q @ T @ Q.T, atol=1e-11 * np.abs(T).max())


def test_map_out_of_the_range_of_a_singular_covariance():
    """Σ' = v vᵀ turns out of the line of Σ = e eᵀ, where ∂/∂Σ √(vᵀΣv) is still smooth."""
    v = np.array([1.0, 2.0, -1.0])
    found = transport_map(np.diag([1.0, 0.0, 0.0]), np.outer(v, v))
    np.testing.assert_allclose(found, np.outer(v, v), rtol=1e-13)


def test_maps_of_singular_and_regular_components_side_by_side():
    rng = np.random.default_rng(0)
    covariance, T = naive.random_spd(rng, 2, 3)
    a = centered(covariance, np.diag([1.0, 0.0, 4.0]))
    b = centered(T @ covariance @ T, np.diag([4.0, 0.0, 1.0]))
    maps = gaussian_maps(a, b, np.array([1, 0]), np.array([1, 0]))
    np.testing.assert_allclose(maps[0], np.diag([2.0, 0.0, 0.5]), atol=1e-14)
    np.testing.assert_allclose(maps[1], T, atol=1e-11)


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_map_refuses_a_direction_that_only_the_target_has(kind):
    variances = np.array([[1.0, 1.0], [1.0, 0.0]])
    covariances = variances if kind == "diag" else FAMILIES["diag"].matrices(variances, 2, 2)
    a = MixtureParameters(np.full(2, 0.5), np.zeros((2, 2)), covariances, kind)
    b = MixtureParameters(np.full(2, 0.5), np.zeros((2, 2)), np.ones((2, 2)), "diag")
    rows, columns = np.array([0, 1, 1]), np.array([0, 1, 0])
    with pytest.raises(ValueError, match=r"component 1 is singular.*\n?.*component 1 of the other"):
        gaussian_maps(a, b, rows, columns)
    gaussian_maps(b, a, rows, columns)  # the other way there is no obstacle


def test_map_refuses_a_small_direction_as_well_as_a_large_one():
    with pytest.raises(ValueError, match="singular"):
        transport_map(np.diag([1.0, 0.0, 1.0]), np.diag([1.0, 1e-13, 1.0]))


def mixed_list(rng, d):
    """Mixtures of all types, two with a singular component among others."""
    mixtures = [random_mixture(rng, K, d, kind) for K in (1, 3, 4) for kind in COVARIANCE_TYPES]
    flat = random_mixture(rng, 3, d)
    flat.covariances[1] = np.outer(flat.means[1], flat.means[1])
    return [*mixtures, flat, MixtureParameters(*flat)]


@pytest.mark.parametrize("d", [1, 2, 3, 6, 8])
def test_costs_do_not_depend_on_the_other_components(d):
    """Bit by bit, whatever stands beside them."""
    mixtures = mixed_list(np.random.default_rng(d), d)
    everything = gaussians_of(mixtures, with_factors=True)
    starts = np.r_[0, np.cumsum([mixture.n_components for mixture in mixtures])]
    for i, a in enumerate(mixtures):
        for j, b in enumerate(mixtures):
            diagonal = [standard_deviations(m) is not None for m in (a, b)]
            if i == j or (all(diagonal) and d > 1):
                continue
            rows, columns = slice(*starts[i : i + 2]), slice(*starts[j : j + 2])
            all_costs = costs_between(everything[rows], everything)
            np.testing.assert_array_equal(all_costs[:, columns], gaussian_costs(a, b))
