"""MW2 between mixtures and its gradient, against POT, finite differences and PyTorch."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot.checks import as_full
from skgmmot.families import FAMILIES
from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport import plans

METRIC_AXIOMS = settings(derandomize=True, max_examples=40, deadline=None, database=None)


def random_mixture(rng, n_components, d, covariance_type="full"):
    def spd(*shape):
        roots = rng.normal(size=(*shape, d, 2 * d))
        return roots @ roots.swapaxes(-1, -2) / d

    covariances = {
        "full": lambda: spd(n_components),
        "tied": lambda: spd(),
        "diag": lambda: rng.uniform(0.3, 3, size=(n_components, d)),
        "spherical": lambda: rng.uniform(0.3, 3, size=n_components),
    }[covariance_type]()
    weights = rng.dirichlet(np.full(n_components, 5.0))
    means = rng.normal(size=(n_components, d))
    return MixtureParameters(weights, means, covariances, covariance_type)


def replace_part(mixture, part, array):
    parts = list(mixture)
    parts[part] = array
    return MixtureParameters(*parts, mixture.covariance_type)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 4)])
def test_value_and_plan_of_pot(shape, d):
    rng = np.random.default_rng(d)
    a, b = random_mixture(rng, shape[0], d), random_mixture(rng, shape[1], d)
    arguments = (a.means, b.means, a.covariances, b.covariances, a.weights, b.weights)
    transport = mixture_transport(a, b)
    np.testing.assert_allclose(transport.value, ot.gmm.gmm_ot_loss(*arguments), rtol=1e-10)
    np.testing.assert_allclose(transport.distance**2, transport.value, rtol=1e-15)
    np.testing.assert_allclose(transport.plan, ot.gmm.gmm_ot_plan(*arguments), atol=1e-12)
    assert transport.cost_matrix.shape == shape
    assert transport.converged


def test_result_is_consistent():
    """The value is the cost of the plan and, by duality, what the potentials earn."""
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 3), random_mixture(rng, 5, 3, "tied")
    transport = mixture_transport(a, b)
    u, v = transport.potentials
    np.testing.assert_allclose(transport.value, a.weights @ u + b.weights @ v, rtol=1e-13)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("target_kind", COVARIANCE_TYPES)
def test_covariance_types_agree_with_full_matrices(kind, target_kind):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 3, kind), random_mixture(rng, 3, 3, target_kind)
    typed, full = mixture_transport(a, b), mixture_transport(as_full(a), as_full(b))
    np.testing.assert_allclose(typed.value, full.value, rtol=1e-13)
    np.testing.assert_allclose(typed.cost_matrix, full.cost_matrix, rtol=1e-12)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["weights", "means", "covariances"])
@pytest.mark.parametrize("wrt", ["source", "target"])
@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("other_kind", ["full", "spherical"])
def test_gradient_against_finite_differences(kind, other_kind, d, wrt, part):
    rng = np.random.default_rng(d)
    mixture, other = random_mixture(rng, 4, d, kind), random_mixture(rng, 3, d, other_kind)
    direction = rng.normal(size=np.shape(tuple(mixture)[part]))
    if part == 0:
        direction -= direction.mean()
    elif part == 2 and kind in ("full", "tied"):
        direction += direction.swapaxes(-1, -2)

    def transport_at(step):
        moved = replace_part(mixture, part, tuple(mixture)[part] + step * direction)
        pair = (moved, other) if wrt == "source" else (other, moved)
        return mixture_transport(*pair)

    gradient = transport_at(0.0).gradient(wrt)
    assert gradient.covariance_type == kind
    slope = (tuple(gradient)[part] * direction).sum()
    # Differences of fourth order: rounding leaves 1e-15 / step, truncation less than that.
    step = 2e-4
    f = [transport_at(n * step).value for n in (-2, -1, 1, 2)]
    np.testing.assert_allclose(slope, (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step), rtol=1e-6)


def test_gradient_against_automatic_differentiation():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for d in (2, 5):
        mixtures = random_mixture(rng, 4, d), random_mixture(rng, 3, d)
        tensors = [[torch.tensor(part, requires_grad=True) for part in m] for m in mixtures]
        (w, m, S), (target_w, target_m, target_S) = tensors
        ot.gmm.gmm_ot_loss(m, target_m, S, target_S, w, target_w).backward()
        transport = mixture_transport(*mixtures)
        for wrt, peer in zip(("source", "target"), tensors, strict=True):
            gradient = transport.gradient(wrt)
            w_bar, m_bar, S_bar = (tensor.grad.numpy() for tensor in peer)
            # POT differentiates square roots by eigenvectors, which costs it some digits.
            np.testing.assert_allclose(gradient.weights, w_bar - w_bar.mean(), rtol=1e-10)
            np.testing.assert_allclose(gradient.means, m_bar, atol=1e-10)
            np.testing.assert_allclose(
                gradient.covariances, (S_bar + S_bar.swapaxes(1, 2)) / 2, atol=1e-10
            )


def test_gradient_at_repeated_eigenvalues():
    """Where differentiating eigenvectors divides zero by zero."""
    a = MixtureParameters(np.ones(1), np.zeros((1, 3)), np.eye(3)[None], "full")
    b = MixtureParameters(np.ones(1), np.ones((1, 3)), 4 * np.eye(3)[None], "full")
    gradient = mixture_transport(a, b).gradient()
    np.testing.assert_allclose(gradient.covariances, -np.eye(3)[None], atol=1e-15)
    np.testing.assert_allclose(gradient.means, [[-2, -2, -2]], rtol=1e-15)
    assert gradient.weights == 0


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_identity(kind, d):
    mixture = random_mixture(np.random.default_rng(d), 5, d, kind)
    transport = mixture_transport(mixture, mixture)
    assert 0 <= transport.distance < 1e-13  # a cost of cancelled traces would leave 1e-8
    np.testing.assert_allclose(transport.plan, np.diag(mixture.weights), atol=1e-16)
    gradient = transport.gradient()
    np.testing.assert_array_equal(gradient.means, 0)
    np.testing.assert_allclose(gradient.covariances, 0, atol=1e-13)


def test_equal_components():
    """A component split in two is the same mixture; its halves share its gradient."""
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
    parts = [np.concatenate([part, part[:1]]) for part in a]
    parts[0][[0, 3]] /= 2
    split = MixtureParameters(*parts, "full")
    assert mixture_transport(split, a).distance < 1e-13
    whole, halves = mixture_transport(a, b), mixture_transport(split, b)
    np.testing.assert_allclose(halves.value, whole.value, rtol=1e-14)
    gradient, shared = whole.gradient(), halves.gradient()
    for part in ("means", "covariances"):
        total = getattr(shared, part)[[0, 1, 2]].copy()
        total[0] += getattr(shared, part)[3]
        np.testing.assert_allclose(total, getattr(gradient, part), atol=1e-13)


def test_component_of_weight_zero():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
    extended = MixtureParameters(
        np.r_[a.weights, 0.0],
        np.r_[a.means, [[9.0, 9.0]]],
        np.concatenate([a.covariances, np.zeros((1, 2, 2))]),
        "full",
    )
    transport = mixture_transport(extended, b)
    np.testing.assert_allclose(transport.value, mixture_transport(a, b).value, rtol=1e-14)
    gradient = transport.gradient()
    assert not gradient.means[3].any() and not gradient.covariances[3].any()
    u, v = transport.potentials
    assert (transport.cost_matrix - u[:, None] - v).min() > -1e-13


@pytest.mark.parametrize(
    "kind, shape", [("full", (4, 2, 2)), ("diag", (4, 2)), ("spherical", (4,))]
)
def test_points_are_discrete_optimal_transport(kind, shape):
    rng = np.random.default_rng(0)
    w, w2 = rng.dirichlet(np.ones(4), size=2)
    x, x2 = rng.normal(size=(2, 4, 2))
    a, b = (MixtureParameters(*pair, np.zeros(shape), kind) for pair in ((w, x), (w2, x2)))
    transport = mixture_transport(a, b)
    np.testing.assert_allclose(transport.value, ot.emd2(w, w2, ot.dist(x, x2)), rtol=1e-12)
    expected = 2 * (w[:, None] * x - transport.plan @ x2)
    np.testing.assert_allclose(transport.gradient().means, expected, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_gradient_at_rank_deficient_covariances(seed):
    """One-sided differences into the cone, for two mixtures on one line of the plane."""
    rng = np.random.default_rng(seed)
    line = rng.normal(size=2)
    normal = np.array([-line[1], line[0]])
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 2, 2)
    a, b = (
        replace_part(m, 2, rng.uniform(1, 2, size=(m.n_components, 1, 1)) * np.outer(line, line))
        for m in (a, b)
    )
    gradient = mixture_transport(a, b).gradient().covariances
    for vector in (line, normal):
        direction, step = np.outer(vector, vector), 1e-5
        f = [
            mixture_transport(replace_part(a, 2, a.covariances + n * step * direction), b).value
            for n in (0, 1, 2)
        ]
        slope = (-3 * f[0] + 4 * f[1] - f[2]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6)


def test_gradient_refuses_where_there_is_none():
    a = ([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 0.0]]])
    b = ([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    transport = mixture_transport(a, b)
    with pytest.raises(ValueError, match="component 0 is singular"):
        transport.gradient("source")
    expected = [[[0.0, 0.0], [0.0, 1.0]]]
    np.testing.assert_allclose(transport.gradient("target").covariances, expected, atol=1e-15)


def test_rounding_of_the_masses_moves_nothing():
    """Groups that match to rounding: the 1e-17 left over may go where there is no map."""
    left_over = 0
    means = np.array([0.0, 0.1, 10, 11, 20, 21])[:, None]
    for seed, group in np.ndindex(20, 3):
        weights = np.random.default_rng(seed).dirichlet(np.ones(6))
        points = np.arange(3) == group  # these have no variance
        a = (weights, means, np.where(np.repeat(points, 2), 0.0, 1.0))
        b = (weights.reshape(3, 2).sum(axis=1), means[::2], np.where(points, 0.0, 2.0))
        transport = mixture_transport(a, b)
        left_over += transport.plan[np.ix_(np.repeat(points, 2), ~points)].any()
        transport.gradient()  # raises where a point is moved to a Gaussian
    assert left_over > 0


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_estimators_of_scikit_learn(kind):
    X = np.random.default_rng(0).normal(size=(200, 3))
    a, b = (
        GaussianMixture(3, covariance_type=kind, random_state=0, tol=0.1).fit(part)
        for part in (X[:100], X[100:])
    )
    full = [(m.weights_, m.means_, FAMILIES[kind].matrices(m.covariances_, 3, 3)) for m in (a, b)]
    transport = mixture_transport(a, b)
    np.testing.assert_allclose(transport.value, mixture_transport(*full).value, rtol=1e-13)
    assert transport.gradient().covariances.shape == a.covariances_.shape


def test_gradient_has_the_precision_of_its_mixture():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 2, 2)
    single = MixtureParameters(*(part.astype(np.float32) for part in a), "full")
    transport = mixture_transport(single, b)
    assert {part.dtype for part in transport.gradient("source")} == {np.dtype(np.float32)}
    assert {part.dtype for part in transport.gradient("target")} == {np.dtype(np.float64)}
    assert transport.plan.dtype == transport.cost_matrix.dtype == np.float64
    double = MixtureParameters(*(part.astype(np.float64) for part in single), "full")
    assert transport.value == mixture_transport(double, b).value


def test_offset_of_the_data_does_not_matter():
    """Means 1e8 away lose only the digits that their own rounding takes."""
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 2, 2)
    far = [replace_part(m, 1, m.means + 1e8) for m in (a, b)]
    near = [replace_part(m, 1, m.means - 1e8) for m in far]
    np.testing.assert_allclose(
        mixture_transport(*far).value, mixture_transport(*near).value, rtol=1e-15
    )


def test_inputs_are_not_written_to():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 2, 2, "tied")
    parts = (*a, *b)
    before = [part.copy() for part in parts]
    for part in parts:
        part.flags.writeable = False  # a write would raise, too
    mixture_transport(a, b).gradient()
    for part, kept in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_invalid_arguments_are_named():
    a, b = ([1.0], [[0.0, 0.0]], [1.0]), ([1.0], [[0.0, 0.0, 0.0]], [1.0])
    with pytest.raises(ValueError, match="a has 2 and b has 3"):
        mixture_transport(a, b)
    with pytest.raises(ValueError, match=r"^b: this GaussianMixture is not fitted"):
        mixture_transport(a, GaussianMixture())
    with pytest.raises(ValueError, match=r"^a must be a fitted mixture"):
        mixture_transport(np.zeros(3), b)
    with pytest.raises(ValueError, match="wrt must be 'source' or 'target'; got 'a'"):
        mixture_transport(a, a).gradient("a")


def test_failure_to_converge_is_said_and_kept(monkeypatch):
    monkeypatch.setattr(plans, "MAX_ITER", 1)
    rng = np.random.default_rng(0)
    with pytest.warns(ConvergenceWarning, match="not optimal"):
        transport = mixture_transport(random_mixture(rng, 80, 2), random_mixture(rng, 9, 2))
    assert not transport.converged


@st.composite
def mixtures(draw, n):
    """n random mixtures in one dimension of space, of any type and number of components."""
    d = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = st.sampled_from(COVARIANCE_TYPES)
    return [random_mixture(rng, draw(st.integers(1, 4)), d, draw(kinds)) for _ in range(n)]


@METRIC_AXIOMS
@given(mixtures(2))
def test_distance_is_symmetric(pair):
    a, b = pair
    forth, back = mixture_transport(a, b), mixture_transport(b, a)
    np.testing.assert_allclose(forth.distance, back.distance, rtol=1e-13)


@METRIC_AXIOMS
@given(mixtures(1))
def test_distance_of_the_same_mixture_in_another_order_is_zero(single):
    (a,) = single
    covariances = a.covariances if a.covariance_type == "tied" else a.covariances[::-1]
    b = MixtureParameters(a.weights[::-1], a.means[::-1], covariances, a.covariance_type)
    assert mixture_transport(a, b).distance < 1e-13


@METRIC_AXIOMS
@given(mixtures(3))
def test_triangle_inequality(triple):
    a, b, c = triple
    direct = mixture_transport(a, c).distance
    detour = mixture_transport(a, b).distance + mixture_transport(b, c).distance
    assert direct <= detour * (1 + 1e-13)
