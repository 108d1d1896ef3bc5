"""EM steps, fits and gradients of many sets at once, against those of each set by itself."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skgmmot.em import sets_adjoints, sets_fit
from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.lbfgs import LBFGS
from skgmmot.em.sets_adjoints import pull_back_sets
from skgmmot.em.sets_fit import fit_sets, taken
from skgmmot.em.sets_map import SetsMap
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.kernels.large import LARGE
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples.interface import DataCotangent
from skgmmot.samples.sets import SampleSets

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
SIZES = [20, 300, 7, 60]


class Case:
    """Sets, a mixture to start from for each, and their maps one by one."""

    def __init__(
        self, kind, *, seed=0, K=3, d=2, sizes=SIZES, weighted=True, fixed=False, offset=0.0
    ):
        self.rng = rng = np.random.default_rng(seed)
        self.kind, self.n_sets = kind, len(sizes)
        mixtures = [naive.random_mixture(rng, K, d, kind, spread=1.0) for _ in sizes]
        X = [naive.sample(rng, own, n) for own, n in zip(mixtures, sizes, strict=True)]
        self.X = np.concatenate(X) + offset
        self.weight = rng.uniform(0.1, 2.0, size=len(self.X)) if weighted else None
        cuts = np.concatenate([[0], np.cumsum(sizes)])
        self.rows = [slice(*cut) for cut in zip(cuts[:-1], cuts[1:], strict=True)]
        bounds = np.stack([cuts[:-1], cuts[1:]], axis=1)
        self.starts = [naive.moved(own, 1.0, offset) for own in mixtures]
        self.theta = stacked(self.starts)
        self.map = SetsMap(SampleSets(self.X, self.weight, bounds), kind, 1e-6, fixed)
        options = {"covariance_type": kind, "reg_covar": 1e-6, "fixed_weights": fixed}
        self.maps = [
            EMMap.on(self.X[own], None if self.weight is None else self.weight[own], **options)
            for own in self.rows
        ]

    def cotangent(self):
        return stacked([naive.random_cotangent(self.rng, own) for own in self.starts])

    def zero(self):
        return DataCotangent(np.zeros(self.X.shape), np.zeros(len(self.X)))


def stacked(mixtures):
    parts = (np.stack(part) for part in zip(*mixtures, strict=True))
    return MixtureParameters(*parts, mixtures[0].covariance_type)


def assert_close(actual, expected, rtol=1e-11):
    """To rounding, relative to the largest entry; derivatives may be zero but for rounding."""
    for one, other in zip(actual, expected, strict=True):
        scale = np.abs(other).max() + 1e-3
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=rtol)


def assert_same_step(case):
    """θ', the likelihood, the residual, and the derivatives in θ, the data and the weights."""
    step = case.map.step(case.theta)
    changes, cotangent, data_bar = case.map.changes(step), case.cotangent(), case.zero()
    pulled = case.map.vjp(step, cotangent, data_bar)
    for s, em_map in enumerate(case.maps):
        own = em_map.step(taken(case.theta, s))
        assert_close(taken(step.parameters, s), own.parameters)
        assert step.lower_bounds[s] == pytest.approx(own.lower_bound, rel=1e-12)
        assert changes[s] == pytest.approx(em_map.residual(own), rel=1e-8)
        bar = em_map.zero_cotangent(wrt_weight=True)
        assert_close(taken(pulled, s), em_map.vjp(own, taken(cotangent, s), bar))
        em_map.finish(bar)
        rows = case.rows[s]
        assert_close([data_bar.X[rows], data_bar.sample_weight[rows]], [bar.X, bar.sample_weight])
    return step


@all_types
@given(
    seed=st.integers(0, 2**32 - 1),
    K=st.integers(1, 5),
    d=st.integers(1, 5),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=4),
    weighted=st.booleans(),
    fixed=st.booleans(),
)
def test_a_step_of_all_sets_is_one_of_each(kind, seed, K, d, sizes, weighted, fixed):
    assert_same_step(Case(kind, seed=seed, K=K, d=d, sizes=sizes, weighted=weighted, fixed=fixed))


@all_types
def test_some_sets_go_about_their_means(kind):
    """Those of which a component is tiny, beside others that are not."""
    case = Case(kind)
    tiny = 1e-9 * case.theta.covariances[1]
    case.theta.covariances[1] = tiny
    case.theta.means[1] = case.X[case.rows[1]][:3]
    step = assert_same_step(case)
    np.testing.assert_array_equal(step.points.centered, [False, True, False, False])


def test_components_that_come_to_lie_far_away():
    """The M-step leaves a component so small that squares about the center cancel."""
    case = Case("full", K=2, sizes=[40, 40], weighted=False)
    X = case.X[case.rows[0]]
    X[:20] = 1e5 + 1e-2 * case.rng.normal(size=(20, 2))
    case.theta.means[0], case.theta.covariances[0] = [[1e5, 1e5], [0.0, 0.0]], 1e8 * np.eye(2)
    case.map = case.map._replace(sets=SampleSets(case.X, None, case.map.sets.bounds))
    options = {"covariance_type": "full", "reg_covar": 1e-6}
    case.maps = [EMMap.on(case.X[own], **options) for own in case.rows]
    step = assert_same_step(case)
    np.testing.assert_array_equal(step.points.centered, [True, False])
    assert not np.array_equal(step.points.origins[0], case.theta.means[0])


@all_types
def test_sets_far_from_the_origin(kind):
    assert_same_step(Case(kind, offset=1e6))


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_many_features(kind):
    """As many as BLAS is called for, and as many as never go the matrix way."""
    assert_same_step(Case(kind, K=2, d=LARGE + 1, sizes=[150, 90]))
    step = assert_same_step(Case(kind, K=2, d=200, sizes=[300], weighted=False))
    assert step.points.centered.all() == (kind == "full")


@all_types
def test_a_component_that_has_lost_its_mass(kind):
    case = Case(kind)
    case.theta.weights[2] = [0.5, 0.0, 0.5]
    step = assert_same_step(case)
    np.testing.assert_array_equal(step.parameters.means[2, 1], case.theta.means[2, 1])


@all_types
@pytest.mark.parametrize("stopping", [(7, 0.0, 0.0), (400, 1e-3, 1e-6), (400, 1e-5, np.inf)])
def test_a_fit_of_all_sets_is_one_of_each(kind, stopping):
    case = Case(kind)
    fit = fit_sets(case.map, case.theta, Stopping(*stopping), 2)
    for s, em_map in enumerate(case.maps):
        own = iterate(em_map, case.starts[s], Stopping(*stopping))
        assert fit.n_iter[s] == len(own.lower_bounds)
        assert fit.converged[s] == own.converged
        assert fit.lower_bounds[s] == pytest.approx(own.lower_bounds[-1], rel=1e-12)
        # rounding grows along the slow directions of EM
        assert_close(taken(fit.parameters, s), own.parameters, rtol=1e-8)
        assert_close(taken(fit.previous, s), own.path.previous, rtol=1e-8)


@all_types
def test_slow_sets_go_on_by_themselves(kind, monkeypatch):
    case, stopping = Case(kind, sizes=[300, 40, 200]), Stopping(3000, 1e-3, 1e-8)
    plain = fit_sets(case.map, case.theta, stopping)
    middle = int(np.sort(plain.n_iter)[1])
    monkeypatch.setattr(sets_fit, "PATIENCE", middle)
    fit = fit_sets(case.map, case.theta, stopping, solver=LBFGS)
    assert fit.converged.all() and fit.n_iter.sum() < plain.n_iter.sum()
    np.testing.assert_array_equal(fit.plain, plain.n_iter <= middle)
    assert list(np.sort(fit.plain)) == [False, True, True]
    slow = int(np.flatnonzero(~fit.plain)[0])
    assert fit.lower_bounds[slow] == pytest.approx(plain.lower_bounds[slow], rel=1e-6)
    step = case.maps[slow].step(taken(fit.previous, slow))
    assert_close(step.parameters, taken(fit.parameters, slow), rtol=1e-12)
    assert case.maps[slow].residual(step) < 1e-8


def test_slow_sets_that_collapse_are_told_of(monkeypatch):
    case = Case("full", sizes=[300, 200])
    monkeypatch.setattr(sets_fit, "PATIENCE", 3)

    def collapse(em_map, theta, *args, **options):
        raise CollapsedComponentError("no more")

    monkeypatch.setattr(sets_fit, "iterate", collapse)
    fit = fit_sets(case.map, case.theta, Stopping(50, 1e-3, 1e-6), solver=LBFGS)
    assert list(fit.errors) == [0, 1] and not fit.converged.any()


def test_no_step():
    case = Case("full")
    fit = fit_sets(case.map, case.theta, Stopping(0, 1e-3, 1e-6))
    assert_close(fit.parameters, case.theta, rtol=0.0)
    assert not fit.n_iter.any() and not fit.converged.any()


@all_types
def test_a_set_that_fails_takes_no_other_down(kind):
    case = Case(kind)
    good = fit_sets(case.map, case.theta, Stopping(50, 1e-3, 1e-6))
    bad = MixtureParameters(*(part.copy() for part in case.theta), kind)
    bad.covariances[[0, 2]] *= -1.0
    fit = fit_sets(case.map, bad, Stopping(50, 1e-3, 1e-6))
    assert sorted(fit.errors) == [0, 2]
    assert all(isinstance(error, CollapsedComponentError) for error in fit.errors.values())
    for s in (1, 3):
        assert_close(taken(fit.parameters, s), taken(good.parameters, s), rtol=0.0)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_same_bits_in_whatever_parts(n_threads, monkeypatch):
    case = Case("full", sizes=[30] * 9)
    stopping, cotangent = Stopping(40, 1e-3, 1e-6), case.cotangent()
    results = []
    for most in (500, 2):
        monkeypatch.setattr(sets_fit, "_SETS_OF_A_PART", most)
        fit = fit_sets(case.map, case.theta, stopping, n_threads)
        pulled = pull_back_sets(
            case.map, fit, case.theta, cotangent, "one_step", tol=1e-6, n_threads=n_threads
        )[0]
        results.append([*fit.parameters, fit.lower_bounds, fit.n_iter, pulled.X])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_parts_have_few_rows_and_few_sets():
    sets = SampleSets(np.zeros((300_000, 1)), None, np.array([[0, 150_000], [150_000, 300_000]]))
    assert [list(part) for part in sets_fit.parts_of(sets)] == [[0], [1]]
    small = SampleSets(np.zeros((1, 1)), None, np.repeat([[0, 1]], 1200, axis=0))
    assert [len(part) for part in sets_fit.parts_of(small)] == [500, 500, 200]


@all_types
@pytest.mark.parametrize("mode", ADJOINTS)
@pytest.mark.parametrize("fixed", [False, True])
def test_gradients_are_those_of_each_set(kind, mode, fixed):
    case = Case(kind, fixed=fixed, sizes=[120, 300, 90, 160])
    stopping, cotangent = Stopping(3000, 1e-3, 1e-9), case.cotangent()
    fit = fit_sets(case.map, case.theta, stopping)
    found, initial, complaints = pull_back_sets(
        case.map, fit, case.theta, cotangent, mode, tol=1e-7, n_threads=2
    )
    assert not complaints
    assert (initial is None) == (mode != "unrolled")
    # the linear systems of implicit are solved to 1e-7, by other means
    rtol = 1e-6 if mode == "implicit" else 1e-8
    for s, em_map in enumerate(case.maps):
        record = FitRecord.of(iterate(em_map, case.starts[s], stopping), em_map)
        own, _ = ADJOINTS[mode].vjp(em_map, record, taken(cotangent, s), tol=1e-7)
        rows = case.rows[s]
        actual = found.X[rows], found.sample_weight[rows]
        assert_close(actual, [own.data, own.sample_weight], rtol)
        if initial is not None:
            assert_close(taken(initial, s), own.initial_parameters, rtol)


def test_conjugate_gradients_solve_the_systems(monkeypatch):
    """… so that nothing is left to do set by set."""
    case = Case("full", sizes=[120, 300, 90, 160])
    fit = fit_sets(case.map, case.theta, Stopping(3000, 1e-3, 1e-9))
    monkeypatch.setattr(SetsMap, "alone", None)
    found = pull_back_sets(case.map, fit, case.theta, case.cotangent(), "implicit", tol=1e-6)[0]
    assert np.abs(found.X).max() > 0.0


def test_what_conjugate_gradients_do_not_solve_is_solved_one_by_one(monkeypatch):
    case = Case("full", sizes=[120, 300, 90, 160])
    fit = fit_sets(case.map, case.theta, Stopping(3000, 1e-3, 1e-9))
    cotangent = case.cotangent()
    options = case.map, fit, case.theta, cotangent, "implicit"
    together = pull_back_sets(*options, tol=1e-6)[0]
    monkeypatch.setattr(sets_adjoints, "_MOST_ITERATIONS", 1)
    alone = pull_back_sets(*options, tol=1e-6)[0]
    assert_close([alone.X, alone.sample_weight], [together.X, together.sample_weight], 1e-5)
    assert np.abs(alone.X - together.X).max() > 0.0


@pytest.mark.parametrize("n_steps", [3, 60])
def test_implicit_complains_of_sets_that_have_not_settled(n_steps):
    """… those far from a maximum, and those near one, where the systems can be solved."""
    case = Case("full", sizes=[120, 300])
    fit = fit_sets(case.map, case.theta, Stopping(n_steps, 0.0, 0.0))
    found, _, complaints = pull_back_sets(
        case.map, fit, case.theta, case.cotangent(), "implicit", tol=1e-6
    )
    assert sorted({number for number, _ in complaints}) == [0, 1]
    assert "fixed point" in complaints[0][1]


@pytest.mark.parametrize("mode", ADJOINTS)
def test_sets_that_failed_get_no_gradient(mode):
    case = Case("full", sizes=[120, 300, 90])
    case.theta.covariances[1] *= -1.0
    fit = fit_sets(case.map, case.theta, Stopping(3000, 1e-3, 1e-9))
    found, _, _ = pull_back_sets(case.map, fit, case.theta, case.cotangent(), mode, tol=1e-6)
    assert not found.X[case.rows[1]].any()
    assert found.X[case.rows[0]].any() and found.X[case.rows[2]].any()
