"""Entropic and unbalanced transport between mixtures: value, gradient and arguments."""

import warnings

import naive
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from skgmmot.functions.mixture_transport import mixture_transport
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport import interior_point

VARIANTS = [
    {"reg": 0.5},
    {"reg_m": 2.0},
    {"reg_m": (0.7, 5.0)},
    {"reg_m": (np.inf, 1.5)},
    {"reg": 0.3, "reg_m": (3.0, 1.0)},
    {"reg": 0.3, "reg_m": (3.0, np.inf)},
]


def random_mixture(rng, n_components, d, covariance_type="full"):
    return naive.random_mixture(rng, n_components, d, covariance_type, spread=1.0)


def replace_part(mixture, part, array):
    parts = list(mixture)
    parts[part] = array
    return MixtureParameters(*parts, mixture.covariance_type)


def kl(f, g):
    return (f * np.log(f / g)).sum() - f.sum() + g.sum()


@pytest.mark.parametrize("variant", VARIANTS)
def test_value_is_that_of_the_definition(variant):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 2), random_mixture(rng, 3, 2)
    transport = mixture_transport(a, b, **variant)
    plan, (penalty, target_penalty) = transport.plan, transport.reg_m
    value = (plan * transport.cost_matrix).sum()
    if transport.reg:
        value += transport.reg * kl(plan, np.outer(a.weights, b.weights))
    if penalty < np.inf:
        value += penalty * kl(plan.sum(axis=1), a.weights)
    if target_penalty < np.inf:
        value += target_penalty * kl(plan.sum(axis=0), b.weights)
    np.testing.assert_allclose(transport.value, value, rtol=1e-12)
    np.testing.assert_allclose(transport.distance**2, value, rtol=1e-12)
    assert transport.converged
    exact = mixture_transport(a, b)
    np.testing.assert_array_equal(transport.cost_matrix, exact.cost_matrix)
    assert np.abs(transport.plan - exact.plan).max() > 1e-3
    if len(variant) == 1:  # entropy is paid for, and a constraint less costs less
        assert (transport.value > exact.value) == ("reg" in variant)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["weights", "means", "covariances"])
@pytest.mark.parametrize("wrt", ["source", "target"])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_against_finite_differences(variant, kind, wrt, part):
    rng = np.random.default_rng(3)
    mixture, other = random_mixture(rng, 4, 3, kind), random_mixture(rng, 3, 3)
    direction = rng.normal(size=np.shape(tuple(mixture)[part]))
    if part == 0:
        direction -= direction.mean()
    elif part == 2 and kind in ("full", "tied"):
        direction += direction.swapaxes(-1, -2)

    def transport_at(step):
        moved = replace_part(mixture, part, tuple(mixture)[part] + step * direction)
        pair = (moved, other) if wrt == "source" else (other, moved)
        return mixture_transport(*pair, **variant)

    gradient = transport_at(0.0).gradient(wrt)
    assert abs(gradient.weights.sum()) < 1e-14
    slope = (tuple(gradient)[part] * direction).sum()
    step = 2e-4
    f = [transport_at(n * step).value for n in (-2, -1, 1, 2)]
    np.testing.assert_allclose(slope, (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step), rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_source_and_target_change_places(variant):
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 2), random_mixture(rng, 3, 2, "tied")
    swapped = dict(variant)
    if isinstance(variant.get("reg_m"), tuple):
        swapped["reg_m"] = variant["reg_m"][::-1]
    forth, back = mixture_transport(a, b, **variant), mixture_transport(b, a, **swapped)
    np.testing.assert_allclose(forth.value, back.value, rtol=1e-12)
    np.testing.assert_allclose(forth.plan, back.plan.T, atol=1e-12)
    for part, other in zip(forth.gradient("source"), back.gradient("target"), strict=True):
        np.testing.assert_allclose(part, other, atol=1e-10)


def test_one_penalty_stands_for_both_and_infinite_ones_for_none():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 2), random_mixture(rng, 3, 2)
    one, both = mixture_transport(a, b, reg_m=2), mixture_transport(a, b, reg_m=[2.0, 2.0])
    assert one.reg_m == both.reg_m == (2.0, 2.0)
    np.testing.assert_array_equal(one.plan, both.plan)
    balanced = mixture_transport(a, b)
    assert balanced.reg_m == (np.inf, np.inf) and balanced.reg == 0
    for reg_m in (np.inf, (np.inf, np.inf)):
        np.testing.assert_array_equal(mixture_transport(a, b, reg_m=reg_m).plan, balanced.plan)


def test_a_far_component_is_left_alone():
    """What unbalanced transport is for: an outlier is paid for once, and moves nothing."""
    a = ([0.5, 0.5], [[0.0, 0.0], [2.0, 0.0]], [1.0, 1.0])
    b = ([0.45, 0.45, 0.1], [[0.0, 0.0], [2.0, 0.0], [1e3, 0.0]], [1.0, 1.0, 1.0])
    transport = mixture_transport(a, b, reg_m=1.0)
    assert transport.plan[:, 2].max() < 1e-100
    gradient = transport.gradient("source")
    assert not gradient.means[1].any()
    assert mixture_transport(a, b).gradient("source").means[1, 0] < -99
    # The optimum of each pair is the geometric mean of its weights.
    np.testing.assert_allclose(np.diag(transport.plan[:, :2]), np.sqrt(0.5 * 0.45), rtol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"reg": -1.0}, r"^reg must be a finite number, zero or positive; got -1.0"),
        ({"reg": np.nan}, r"^reg must be a finite number"),
        ({"reg": np.inf}, r"^reg must be a finite number"),
        ({"reg": None}, r"^reg must be a finite number"),
        ({"reg": "0.1"}, r"^reg must be a finite number"),
        ({"reg": True}, r"^reg must be a finite number"),
        ({"reg_m": 0.0}, r"^reg_m must be None, a positive number or a pair"),
        ({"reg_m": -1}, r"^reg_m must be .* got -1"),
        ({"reg_m": np.nan}, r"^reg_m must be"),
        ({"reg_m": (1.0, 0.0)}, r"^reg_m must be"),
        ({"reg_m": (1.0, 2.0, 3.0)}, r"^reg_m must be"),
        ({"reg_m": (1.0, None)}, r"^reg_m must be"),
        ({"reg_m": "ab"}, r"^reg_m must be"),
    ],
)
def test_invalid_arguments_are_named(arguments, message):
    a = ([1.0], [[0.0]], [1.0])
    with pytest.raises(ValueError, match=message):
        mixture_transport(a, a, **arguments)


def test_numbers_of_numpy_are_numbers():
    a, b = ([1.0], [[0.0]], [1.0]), ([1.0], [[1.0]], [1.0])
    transport = mixture_transport(a, b, reg=np.float32(0.5), reg_m=np.array([1, 2]))
    assert (transport.reg, transport.reg_m) == (0.5, (1.0, 2.0))
    assert mixture_transport(a, b, reg=np.int64(1)).reg == 1.0


def test_a_plan_that_did_not_converge_is_said_where_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(interior_point, "MAX_ITER", 2)
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 9, 2), random_mixture(rng, 9, 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport = mixture_transport(a, b, reg_m=0.1)
    assert not transport.converged and np.isfinite(transport.value)
    (warning,) = caught
    assert warning.category is ConvergenceWarning and "duality gap" in str(warning.message)
    assert warning.filename == __file__


def test_components_of_weight_zero():
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 3, 2), random_mixture(rng, 4, 2)
    extended = MixtureParameters(
        np.r_[a.weights, 0.0], np.r_[a.means, [[9.0, 9.0]]], np.r_[a.covariances, [np.eye(2)]]
    )
    for variant in VARIANTS:
        transport = mixture_transport(extended, b, **variant)
        np.testing.assert_allclose(
            transport.value, mixture_transport(a, b, **variant).value, rtol=1e-13
        )
        gradient = transport.gradient()
        assert not gradient.means[3].any() and np.isfinite(gradient.weights).all()


def test_points_are_unbalanced_discrete_transport():
    """Covariances of zero: the gradient of an entropic plan asks for no density."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 2))
    a, b = ((np.full(4, 0.25), points, np.zeros(4)) for points in (x, y))
    transport = mixture_transport(a, b, reg=0.1, reg_m=1.0)
    plan = transport.plan
    expected = 2 * (plan.sum(axis=1)[:, None] * x - plan @ y)
    np.testing.assert_allclose(transport.gradient().means, expected, atol=1e-14)


@pytest.mark.parametrize("reg, reg_m", [(0.0, (0.7, 5.0)), (0.0, (2.0, 2.0)), (0.3, (3.0, 1.0))])
def test_divergence_without_mass_terms_by_its_formula(reg, reg_m):
    """Equation 21 of Boïté et al. minimized as it stands, against what the notes say of it."""
    rng = np.random.default_rng(0)
    a, b = random_mixture(rng, 4, 2), random_mixture(rng, 3, 2)
    transport = mixture_transport(a, b, reg=reg, reg_m=reg_m)
    total, mass = reg + sum(reg_m), transport.plan.sum()
    np.testing.assert_allclose(transport.value, total * (1 - mass), rtol=1e-7)
    ratio = np.exp(-sum(reg_m) / total)

    def objective(log_plan):
        plan = np.exp(log_plan).reshape(4, 3)
        rows, columns = plan.sum(axis=1), plan.sum(axis=0)
        value = (plan * transport.cost_matrix).sum()
        gradient = transport.cost_matrix.copy()
        for penalty, f, g, shape in (
            (reg_m[0], rows, a.weights, (4, 1)),
            (reg_m[1], columns, b.weights, (1, 3)),
        ):
            value += penalty * (f * np.log(f / g)).sum()
            gradient = gradient + penalty * (np.log(f / g) + 1).reshape(shape)
        if reg:
            prior = np.outer(a.weights, b.weights)
            value += reg * kl(plan, prior)
            gradient = gradient + reg * np.log(plan / prior)
        return value, (gradient * plan).ravel()

    start = np.log(np.outer(a.weights, b.weights)).ravel()
    options = {"maxiter": 20_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-10}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    # masses that vanish are reached slowly in logarithms, and count for little
    np.testing.assert_allclose(found.fun, total * (1 - ratio * mass) - sum(reg_m), rtol=1e-6)
    plan = np.exp(found.x).reshape(4, 3)
    np.testing.assert_allclose(plan, ratio * transport.plan, atol=2e-4)
