"""Barycenters of mixtures: the two methods against each other, geodesics, POT and brute force."""

import re
from itertools import permutations

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import random_mixture
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import mixture_barycenter, mixture_transport, mixture_wasserstein
from skgmmot.checks import as_full
from skgmmot.functions import barycenter
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.transport import bures_barycenter

needs_pots_barycenter = pytest.mark.skipif(
    not hasattr(ot.gmm, "gmm_barycenter_fixed_point"), reason="POT 0.9.6 is the first that has it"
)


def objective(candidate, mixtures, lam):
    return sum(
        weight * mixture_wasserstein(candidate, mixture, squared=True)
        for weight, mixture in zip(lam, mixtures, strict=True)
    )


def problem(seed, sizes, d, kinds="full"):
    rng = np.random.default_rng(seed)
    kinds = [kinds] * len(sizes) if isinstance(kinds, str) else kinds
    mixtures = [random_mixture(rng, K, d, kind) for K, kind in zip(sizes, kinds, strict=True)]
    return mixtures, rng.dirichlet(np.full(len(sizes), 5.0))


@pytest.fixture
def program(monkeypatch):
    """Keeps what the linear program was given, and its value in units of the costs."""
    kept = {}

    def spy(costs, members, weights, solve=barycenter._optimal_masses):
        kept["masses"] = solve(costs, members, weights)
        kept["value"] = costs @ kept["masses"]
        return kept["masses"]

    monkeypatch.setattr(barycenter, "_optimal_masses", spy)
    return kept


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("d", [1, 3])
def test_value_of_the_program_is_the_objective_of_the_barycenter(kind, d, program):
    mixtures, lam = problem(d, (2, 3, 4), d, kind)
    result = mixture_barycenter(mixtures, lam)
    assert type(result) is MixtureParameters and result.covariance_type == kind
    np.testing.assert_allclose(objective(result, mixtures, lam), program["value"], rtol=1e-10)
    assert result.n_components <= 2 + 3 + 4 - 2  # a vertex
    np.testing.assert_allclose(result.weights.sum(), 1, rtol=1e-14)
    # the type of the covariances is a shortcut, not another problem
    full = mixture_barycenter([as_full(mixture) for mixture in mixtures], lam)
    np.testing.assert_allclose(
        objective(full, mixtures, lam), objective(result, mixtures, lam), rtol=1e-9
    )


@pytest.mark.parametrize("seed", range(5))
def test_multimarginal_is_below_every_fixed_point(seed):
    mixtures, lam = problem(seed, (3, 4, 3, 2), 2)
    least = objective(mixture_barycenter(mixtures, lam), mixtures, lam)
    starts = [{}, {"n_components": 3}, {"n_components": 9}, {"init": mixtures[seed % 4]}]
    for options in starts:
        local = mixture_barycenter(mixtures, lam, method="fixed_point", random_state=0, **options)
        assert least <= objective(local, mixtures, lam) * (1 + 1e-10)
    # where the program has its minimum the fixed point stays
    best = mixture_barycenter(mixtures, lam)
    still = mixture_barycenter(mixtures, lam, method="fixed_point", init=best)
    np.testing.assert_allclose(still.means, best.means, atol=1e-7)
    np.testing.assert_allclose(still.covariances, best.covariances, atol=1e-7)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_two_mixtures_are_on_their_geodesic(kind, t):
    a, b = problem(0, (3, 4), 2, kind)[0]
    between = mixture_barycenter([a, b], [1 - t, t])
    transport = mixture_transport(a, b)
    distances = mixture_wasserstein(between, a), mixture_wasserstein(between, b)
    expected = np.array([t, 1 - t]) * transport.distance
    np.testing.assert_allclose(distances, expected, rtol=1e-10, atol=1e-7)
    assert mixture_wasserstein(between, transport.interpolate(t)) < 1e-7  # root of 1e-14 of mass
    if 0 < t < 1:  # the masses of the plan, its means between those of its pairs
        rows, columns = np.nonzero(transport.plan > 1e-12)
        order = np.lexsort(between.means.T)
        means = (1 - t) * a.means[rows] + t * b.means[columns]
        other = np.lexsort(means.T)
        np.testing.assert_allclose(between.means[order], means[other], rtol=1e-12)
        np.testing.assert_allclose(
            between.weights[order], transport.plan[rows, columns][other], rtol=1e-9
        )


def test_points_are_the_barycenter_of_discrete_measures():
    """Zero covariances: brute force over permutations, for equal weights."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, 3, 2))
    mixtures = [(np.full(3, 1 / 3), x, np.zeros((3, 2, 2))) for x in points]
    result = mixture_barycenter(mixtures)
    best = min(((points[0] - points[1][list(p)]) ** 2).sum() / 12 for p in permutations(range(3)))
    np.testing.assert_allclose(objective(result, mixtures, [0.5, 0.5]), best, rtol=1e-12)
    assert not result.covariances.any()


@pytest.mark.parametrize("kinds", [("full", "tied", "diag"), ("diag", "spherical", "spherical")])
def test_covariance_types_may_differ(kinds):
    mixtures, lam = problem(0, (3, 2, 3), 3, kinds)
    for options in ({}, {"method": "fixed_point"}):
        result = mixture_barycenter(mixtures, lam, **options)
        assert result.covariance_type == ("full" if "full" in kinds else "diag")
        full = mixture_barycenter([as_full(mixture) for mixture in mixtures], lam, **options)
        np.testing.assert_allclose(
            objective(result, mixtures, lam), objective(full, mixtures, lam), rtol=1e-9
        )


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("n_components", [None, 2, 7])
def test_objective_of_the_fixed_point_never_increases(kind, n_components, monkeypatch):
    """From the start to the last iterate, none of which the function itself may leave out."""
    mixtures, lam = problem(3, (4, 5, 3), 2, kind)
    iterates = []

    def spy(current, *others, shares=barycenter._shares):
        iterates.append(current)
        return shares(current, *others)

    monkeypatch.setattr(barycenter, "_shares", spy)
    result = mixture_barycenter(
        mixtures, lam, method="fixed_point", n_components=n_components, random_state=1
    )
    values = [objective(iterate, mixtures, lam) for iterate in iterates]
    assert (np.diff(values) <= 1e-12 * values[0]).all()
    assert len(values) > 2 and values[-1] < 0.95 * values[0]
    np.testing.assert_allclose(objective(result, mixtures, lam), min(values), rtol=1e-12)
    assert result.covariance_type == kind
    if n_components is not None:
        np.testing.assert_array_equal(result.weights, np.full(n_components, 1 / n_components))


def test_fixed_point_that_runs_out_of_iterations_says_so():
    mixtures, lam = problem(3, (4, 5, 3), 2)
    with pytest.warns(
        ConvergenceWarning, match="not converge in 1 iterations.*Increase max_iter"
    ) as caught:
        early = mixture_barycenter(mixtures, lam, method="fixed_point", max_iter=1)
    assert caught[0].filename == __file__
    # with a large tolerance the same iterate is good enough
    coarse = mixture_barycenter(mixtures, lam, method="fixed_point", max_iter=1, tol=1.0)
    np.testing.assert_array_equal(coarse.means, early.means)


def test_fixed_point_converges_to_a_stationary_mixture():
    """The gradients of Σ λ MW2² with respect to means and covariances vanish."""
    mixtures, lam = problem(0, (4, 5, 3), 3)
    result = mixture_barycenter(mixtures, lam, method="fixed_point", n_components=6, random_state=0)
    gradients = [mixture_transport(result, mixture).gradient() for mixture in mixtures]
    for part in ("means", "covariances"):
        total = sum(w * getattr(g, part) for w, g in zip(lam, gradients, strict=True))
        np.testing.assert_allclose(total, 0, atol=1e-9)


@needs_pots_barycenter
def test_fixed_point_is_not_above_that_of_pot():
    """POT projects the images in each mixture first: it may end higher from the same start."""
    mixtures, lam = problem(1, (4, 5, 3), 2)
    init = random_mixture(np.random.default_rng(5), 4, 2, "full")
    ours = mixture_barycenter(mixtures, lam, method="fixed_point", init=init)
    means, covariances = ot.gmm.gmm_barycenter_fixed_point(
        [m.means for m in mixtures],
        [m.covariances for m in mixtures],
        [m.weights for m in mixtures],
        init.means.copy(),
        init.covariances.copy(),
        lam,
        w_bar=init.weights,
        iterations=30,
        barycentric_proj_method="bures",
    )
    peer = MixtureParameters(init.weights, means, covariances, "full")
    value, peer_value = objective(ours, mixtures, lam), objective(peer, mixtures, lam)
    assert value <= peer_value * (1 + 1e-9)
    assert peer_value < 1.1 * value  # the same basin: it is a comparison


@needs_pots_barycenter
def test_fixed_point_is_that_of_pot_where_no_component_splits():
    """Equal numbers of equal weights: plans are permutations, and the two maps the same."""
    mixtures = [
        MixtureParameters(np.full(4, 0.25), m.means, m.covariances, "full")
        for m in problem(0, (4, 4, 4), 2)[0]
    ]
    lam = np.array([0.5, 0.2, 0.3])
    ours = mixture_barycenter(mixtures, lam, method="fixed_point", init=mixtures[0])
    means, covariances = ot.gmm.gmm_barycenter_fixed_point(
        [m.means for m in mixtures],
        [m.covariances for m in mixtures],
        [m.weights for m in mixtures],
        mixtures[0].means.copy(),
        mixtures[0].covariances.copy(),
        lam,
        iterations=10,
    )
    np.testing.assert_allclose(ours.means, means, rtol=1e-7)  # POT's inner tolerance
    np.testing.assert_allclose(ours.covariances, covariances, atol=1e-5)


def test_starts_of_the_fixed_point():
    mixtures, lam = problem(0, (3, 4, 5), 2)
    medoid = np.argmin([objective(m, mixtures, lam) for m in mixtures])
    default = mixture_barycenter(mixtures, lam, method="fixed_point")
    given = mixture_barycenter(mixtures, lam, method="fixed_point", init=mixtures[medoid])
    np.testing.assert_array_equal(default.means, given.means)

    drawn = [
        mixture_barycenter(
            mixtures, lam, method="fixed_point", n_components=4, random_state=random_state
        )
        for random_state in (0, np.random.RandomState(0), 3)
    ]
    np.testing.assert_array_equal(drawn[0].means, drawn[1].means)
    assert (drawn[0].means != drawn[2].means).any()
    # the draw spreads: all distinct Gaussians of far groups are taken before any is again
    far = [([0.5, 0.5], [[0.0], [100.0]], [1.0, 1.0]), ([1.0], [[1000.0]], [1.0])]
    for seed in range(5):
        start = barycenter._drawn(
            barycenter.checked_mixtures(far, None)[0], np.full(2, 0.5), 4, seed
        )
        assert set(start.means.ravel()) == {0.0, 100.0, 1000.0}


def test_components_and_mixtures_of_weight_zero_play_no_part():
    mixtures, _ = problem(0, (3, 2, 4), 2)
    parts = [np.concatenate([part, part[:1]]) for part in mixtures[0]]
    parts[0][3], parts[1][3] = 0.0, 50.0
    extended = MixtureParameters(*parts, "full")
    elsewhere = MixtureParameters(np.ones(1), np.full((1, 2), 9.0), np.ones(1), "spherical")
    for options in ({}, {"method": "fixed_point"}):
        expected = mixture_barycenter(mixtures, **options)
        result = mixture_barycenter(
            [extended, *mixtures[1:], elsewhere], [1 / 3, 1 / 3, 1 / 3, 0.0], **options
        )
        for part, expected_part in zip(result, expected, strict=True):
            np.testing.assert_allclose(part, expected_part, atol=1e-12)


def test_single_mixture_is_its_own_barycenter():
    (mixture,), _ = problem(0, (4,), 3)
    for options in ({}, {"method": "fixed_point"}):
        result = mixture_barycenter([mixture], **options)
        assert mixture_wasserstein(result, mixture) < 1e-12


def test_weights_are_uniform_by_default_and_matter():
    mixtures, _ = problem(0, (3, 3, 3), 2)
    default = mixture_barycenter(mixtures)
    uniform = mixture_barycenter(mixtures, [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(default.means, uniform.means, rtol=1e-14)
    near = mixture_barycenter(mixtures, [0.98, 0.01, 0.01])
    assert mixture_wasserstein(near, mixtures[0]) < mixture_wasserstein(default, mixtures[0])


def test_estimators_are_mixtures_and_inputs_are_not_written_to():
    X = np.random.default_rng(0).normal(size=(100, 2))
    fitted = GaussianMixture(2, random_state=0, tol=0.1).fit(X)
    (other,), _ = problem(0, (3,), 2)
    for part in (fitted.means_, fitted.weights_, fitted.covariances_, *other):
        part.flags.writeable = False  # a write would raise
    for options in ({}, {"method": "fixed_point", "n_components": 3, "random_state": 0}):
        result = mixture_barycenter([fitted, other, tuple(other)], **options)
        assert {part.dtype for part in result} == {np.dtype(np.float64)}


def test_too_many_tuples_are_refused_with_the_cure(monkeypatch):
    mixtures, _ = problem(0, (30, 30, 30, 30), 2, "diag")
    with pytest.raises(ValueError, match="810000 tuples.*Use method='fixed_point'"):
        mixture_barycenter(mixtures)
    assert mixture_barycenter(mixtures, method="fixed_point").n_components == 30
    monkeypatch.setattr(barycenter, "MAX_TUPLES", 5)
    with pytest.raises(ValueError, match="6 tuples"):
        mixture_barycenter(problem(0, (2, 3), 2)[0])


def test_covariances_that_do_not_converge_are_told(monkeypatch):
    monkeypatch.setattr(bures_barycenter, "MAX_ITER", 2)
    mixtures, _ = problem(0, (2, 2, 2), 3)
    for method in ("multimarginal", "fixed_point"):
        with pytest.warns(ConvergenceWarning, match=r"residual is .*e-.*reg_covar") as caught:
            mixture_barycenter(mixtures, method=method)
        assert {warning.filename for warning in caught} == {__file__}  # the line of the user


def test_failure_of_the_program_is_an_error(monkeypatch):
    def failing(*args, **options):
        return type("Result", (), {"status": 4, "message": "numerical difficulties", "x": None})

    monkeypatch.setattr(barycenter, "linprog", failing)
    with pytest.raises(RuntimeError, match="numerical difficulties"):
        mixture_barycenter(problem(0, (2, 3), 2)[0])


ONE = ([1.0], [[0.0, 0.0]], [1.0])
LINE = ([1.0], [[0.0]], [1.0])


@pytest.mark.parametrize(
    "mixtures, options, message",
    [
        ([], {}, "mixtures must hold at least one"),
        (MixtureParameters(*map(np.array, ONE)), {}, "mixtures must be a sequence"),
        (3, {}, "mixtures must be a sequence of mixtures; got int"),
        ([ONE, np.zeros(3)], {}, "mixtures[1] must be a fitted mixture"),
        ([ONE, GaussianMixture()], {}, "mixtures[1]: this GaussianMixture is not fitted"),
        ([ONE, LINE], {}, "mixtures[1] and mixtures[0] must have the same number of features"),
        ([ONE, ONE], {"weights": [1.0]}, "weights must have shape (2,)"),
        ([ONE, ONE], {"weights": [0.5, 0.6]}, "weights must be non-negative and sum to 1"),
        ([ONE, ONE], {"weights": [-0.5, 1.5]}, "weights must be non-negative"),
        ([ONE, ONE], {"weights": [np.nan, 1.0]}, "weights must be non-negative"),
        ([ONE], {"method": "sinkhorn"}, "method must be 'multimarginal' or 'fixed_point'"),
        ([ONE], {"n_components": 2}, "n_components and init are for method='fixed_point'"),
        ([ONE], {"init": ONE}, "n_components and init are for method='fixed_point'"),
        (
            [ONE],
            {"method": "fixed_point", "init": ONE, "n_components": 1},
            "n_components or init, not both",
        ),
        ([ONE], {"method": "fixed_point", "init": LINE}, "init and mixtures[0] must have"),
        ([ONE], {"method": "fixed_point", "n_components": 0}, "n_components must be a positive"),
        ([ONE], {"method": "fixed_point", "n_components": 1.5}, "n_components must be a positive"),
        ([ONE], {"method": "fixed_point", "max_iter": 0}, "max_iter must be a positive"),
    ],
)
def test_invalid_arguments_are_named(mixtures, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mixture_barycenter(mixtures, **options)


@settings(derandomize=True, max_examples=30, deadline=None, database=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    d=st.integers(1, 3),
    kinds=st.lists(st.sampled_from(COVARIANCE_TYPES), min_size=3, max_size=3),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 10_000),
)
def test_no_mixture_is_better(sizes, d, kinds, exponent, seed):
    """Whatever sizes, types and units: the barycenter is below the mixtures and random others."""
    mixtures, lam = problem(seed, sizes, d, kinds[: len(sizes)])
    scale = 10.0**exponent
    mixtures = [
        MixtureParameters(m.weights, scale * m.means, scale**2 * m.covariances, m.covariance_type)
        for m in mixtures
    ]
    value = objective(mixture_barycenter(mixtures, lam), mixtures, lam)
    local = objective(mixture_barycenter(mixtures, lam, method="fixed_point"), mixtures, lam)
    others = [objective(mixture, mixtures, lam) for mixture in mixtures]
    rounding = 1e-10 * scale**2
    assert value <= local + rounding
    assert local <= min(others) + rounding
