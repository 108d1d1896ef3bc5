"""Incremental EM: an M-step after each group, against one that keeps all responsibilities."""

from functools import partial

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skgmmot.em import incremental as module
from skgmmot.em.e_steps import BALANCED
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.incremental import Incremental
from skgmmot.em.lbfgs import LBFGS
from skgmmot.em.solvers import SOLVERS, solver_of
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.families.fisher import scaled_change
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples.cpu import CpuSamples

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
# What sums of some hundreds of log densities, of size one to ten, lose to rounding.
ROUNDING = 1e-13
CUTS = [0, 1, 7, 100, 180, 300]  # groups of one row, and of fewer than features and components
TO_THE_END = Stopping(5000, np.inf, 1e-10)


class CutSamples(CpuSamples):
    """Samples in groups of given rows."""

    cuts = CUTS

    def groups(self, n_groups):
        bounds = [0, *(cut for cut in self.cuts[1:-1] if cut < self.shape[0]), self.shape[0]]
        return [self.subset(slice(*ends)) for ends in zip(bounds, bounds[1:], strict=False)]


def problem(kind="full", *, seed=0, n=300, d=2, K=3, weighted=False, spread=2.0, **options):
    """Data of a mixture in five groups, and a start that is not that mixture."""
    rng = np.random.default_rng(seed)
    truth = naive.random_mixture(rng, K, d, kind, spread=spread)
    X = naive.sample(rng, truth, n)
    weight = rng.uniform(0.2, 2.0, size=n) if weighted else None
    means = X[rng.choice(n, K, replace=False)]
    theta = MixtureParameters(rng.dirichlet(np.full(K, 5.0)), means, truth.covariances * 2, kind)
    return EMMap.of(CutSamples(X, weight), kind, **options), theta


def joint_of(X, theta, temperature):
    """Logits at a temperature, (n, K)."""
    with np.errstate(divide="ignore"):
        log_weights = np.log(theta.weights)
    return log_weights + (naive.log_joint(X, theta) - log_weights) / temperature


class Twin:
    """Incremental EM straight from its definition, with all responsibilities kept."""

    def __init__(self, em_map, theta):
        self.X, weight = em_map.samples.rows()
        self.weight = np.ones(len(self.X)) if weight is None else weight
        self.bounds = [0]
        for group in em_map.samples.groups(16):
            self.bounds.append(self.bounds[-1] + group.shape[0])
        self.em_map, self.theta = em_map, theta
        self.gamma = np.zeros((len(self.X), len(theta.weights)))

    def e_step(self, rows, theta=None):
        joint = joint_of(self.X[rows], theta or self.theta, self.em_map.temperature)
        self.gamma[rows] = naive.responsibilities(joint)

    def m_step(self):
        options = {name: getattr(self.em_map, name) for name in ("reg_covar", "fixed_weights")}
        self.theta = naive.maximize(self.X, self.weight, self.gamma, self.theta, **options)

    def plain(self):
        self.e_step(slice(None))
        self.m_step()

    def sweep(self):
        for number in range(len(self.bounds) - 1):
            self.e_step(self.rows(number))
            self.m_step()

    def rows(self, number):
        return slice(*self.bounds[number : number + 2])

    def free_energy(self):
        """F(γ, θ) over the weights, at a temperature: minus the free energy."""
        temperature, gamma = self.em_map.temperature, self.gamma
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.theta.weights)
            terms = naive.log_joint(self.X, self.theta) + (temperature - 1.0) * log_weights
            terms = np.where(gamma > 0, terms - temperature * np.log(gamma), 0.0)
        return self.weight @ (gamma * terms).sum(axis=1) / self.weight.sum()


# What a sweep is


@all_types
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighted": True},
        {"fixed_weights": True, "reg_covar": 0.1},
        {"temperature": 2.0, "weighted": True},
        {"d": 1, "K": 1},
        {"d": 4, "K": 5, "reg_covar": 1e-3},
    ],
)
def test_sweeps_are_those_of_the_definition(kind, options):
    em_map, theta = problem(kind, **options)
    twin, solver = Twin(em_map, theta), Incremental()
    for _ in range(2):
        twin.plain()
        step = solver.step(em_map, theta)
        assert naive.errors(step.parameters, twin.theta) < 1e-10
        before = solver.n_extra
        theta, following = solver.move(em_map, step, 100)
        for _ in range(solver.n_extra - before):
            twin.sweep()
        assert following is None
        assert naive.errors(theta, twin.theta) < 1e-10
        if em_map.fixed_weights:
            assert theta.weights is step.parameters.weights
        if solver._is_slow:
            break


@all_types
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2e3])
@pytest.mark.parametrize("away", [0.0, 1e4])
def test_the_step_by_groups_is_the_plain_one(kind, temperature, away):
    """With all that derivatives ask of it; also where means come from far away."""
    em_map, theta = problem(kind, weighted=True, temperature=temperature, reg_covar=1e-3)
    theta = MixtureParameters(theta.weights, theta.means + away, theta.covariances * 9, kind)
    step, plain = Incremental().step(em_map, theta), em_map.step(theta)
    assert naive.errors(step.parameters, plain.parameters) < 1e-11
    np.testing.assert_allclose(step.lower_bound, plain.lower_bound, rtol=1e-12)
    np.testing.assert_allclose(step.mass, plain.mass, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(step.origin, plain.origin, rtol=1e-11)
    np.testing.assert_array_equal(step.logits.apart, plain.logits.apart)
    np.testing.assert_array_equal(step.logits.coefficients, plain.logits.coefficients)
    assert step.theta is theta


def test_a_step_takes_components_about_the_means_that_it_finds():
    """One that is wide, until its update shows how small it is, and how far from the others."""
    em_map, theta = problem()
    means = np.array([[0.0, 0.0], [0.0, 1.0], [3000.0, 0.0]])
    X = np.concatenate([em_map.samples.X, means[[2, 2, 2]] + [[0, 1], [1e-3, 0], [0, -1]]])
    em_map = EMMap.of(CutSamples(X), "full", reg_covar=1e-9)
    covariances = np.array([100.0 * np.eye(2)] * 3)
    theta = MixtureParameters(theta.weights, means, covariances, "full")
    step, plain = Incremental().step(em_map, theta), em_map.step(theta)
    np.testing.assert_array_equal(step.logits.apart, plain.logits.apart)
    assert len(step.logits.apart) and len(em_map.logits(theta).apart) < len(step.logits.apart)
    np.testing.assert_allclose(step.origin, plain.origin, rtol=1e-12)


def test_groups_that_see_one_cluster_each():
    """Components have no mass in the others', not even one that can be divided by."""
    rng = np.random.default_rng(3)
    centers = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 200.0]])
    X = np.concatenate([rng.normal(center, 1.0, (100, 2)) for center in centers])
    samples = CutSamples(X)
    samples.cuts = [0, 100, 200, 300]
    for kind in COVARIANCE_TYPES:
        em_map = EMMap.of(samples, kind)
        theta = naive.random_mixture(rng, 3, 2, kind)
        theta = MixtureParameters(theta.weights, centers + 0.5, theta.covariances, kind)
        twin, solver = Twin(em_map, theta), Incremental()
        twin.plain()
        twin.sweep()
        step = solver.step(em_map, theta)
        theta, _ = solver.move(em_map, step, 2)
        assert naive.errors(theta, twin.theta) < 1e-12


@all_types
def test_it_may_lie_far_from_zero(kind):
    """2²⁷ standard deviations away, exact in the data; the means round to 2⁻²⁶."""
    em_map, theta = problem(kind)
    X, offset = np.round(em_map.samples.X * 2**20) / 2**20, 2.0**27
    ends = []
    for move in (0.0, offset):
        moved = EMMap.of(CutSamples(X + move), kind)
        start = MixtureParameters(theta.weights, theta.means + move, theta.covariances, kind)
        solver = Incremental()
        end, _ = solver.move(moved, solver.step(moved, start), 100)
        ends.append(MixtureParameters(end.weights, end.means - move, end.covariances, kind))
    assert naive.errors(*ends) < 1e-7


@all_types
def test_single_precision_loses_nothing_more(kind):
    em_map, theta = problem(kind)
    X = em_map.samples.X.astype(np.float32)
    ends = []
    for own in (X, X.astype(np.float64)):
        rounded, solver = EMMap.of(CutSamples(own), kind), Incremental()
        ends.append(solver.move(rounded, solver.step(rounded, theta), 100)[0])
    assert naive.errors(*ends) < 1e-12


# F never falls, and L not from a plain step to the next


def watched(em_map, theta, stopping, monkeypatch):
    """F after each E- and each M-step of incremental EM, by its twin."""
    twin, found = Twin(em_map, theta), []
    renew, pooled = module._Groups._renew, module.pooled

    def on_e_step(groups, number, theta):
        twin.e_step(twin.rows(number), theta)
        # in a plain step all groups come before the M-step, the first time with none before it
        if twin.gamma.any(axis=1).all():
            found.append(twin.free_energy())
        return renew(groups, number, theta)

    def on_m_step(*args, **options):
        twin.theta = pooled(*args, **options)
        found.append(twin.free_energy())
        return twin.theta

    with monkeypatch.context() as patch:
        patch.setattr(module._Groups, "_renew", on_e_step)
        patch.setattr(module, "pooled", on_m_step)
        patch.setattr(Incremental, "_promises_many", lambda *changes: False)
        result = iterate(em_map, theta, stopping, solver=Incremental)
    return result, np.array(found)


@all_types
@given(
    seed=st.integers(0, 2**32 - 1),
    K=st.integers(1, 4),
    weighted=st.booleans(),
    fixed_weights=st.booleans(),
    temperature=st.sampled_from([1.0, 0.5, 4.0]),
)
def test_nothing_makes_it_fall(kind, seed, K, weighted, fixed_weights, temperature):
    """With so little of reg_covar, which is not of F, that it does not count."""
    options = {"fixed_weights": fixed_weights, "temperature": temperature, "reg_covar": 1e-12}
    em_map, theta = problem(kind, seed=seed, K=K, n=120, weighted=weighted, **options)
    stopping = Stopping(9, 0.0, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        result, found = watched(em_map, theta, stopping, patch)
    least = np.linalg.eigvalsh(naive.matrices(result.parameters)).min()
    # the smaller an axis, the larger the rounding errors of squared distances along it, and the
    # larger the share of reg_covar
    slack = ROUNDING + (1e-12 + 10 * np.finfo(float).eps) / least
    assert len(found) > 20 and np.diff(found).min() > -slack
    bounds = [*result.lower_bounds, result.last.lower_bound]
    assert np.diff(bounds).min() > -slack
    # F is the log-likelihood at plain steps, and below it between them
    assert found[-1] <= result.last.lower_bound + slack
    assert np.isclose(found[-2], result.lower_bounds[-1], rtol=0, atol=10 * slack)


# The fixed point


@all_types
@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_it_ends_where_em_ends(kind, fixed_weights, temperature, monkeypatch):
    """By sweeps and plain steps alone."""
    monkeypatch.setattr(LBFGS, "move", None)
    monkeypatch.setattr(Incremental, "_promises_many", lambda *changes: False)
    options = {"fixed_weights": fixed_weights, "temperature": temperature, "reg_covar": 1e-3}
    em_map, theta = problem(kind, spread=4.0, weighted=True, **options)
    plain = iterate(em_map, theta, TO_THE_END)
    found = iterate(em_map, theta, TO_THE_END, solver=partial(Incremental, 1e-10))
    assert plain.converged and found.converged and found.residual < 1e-10
    assert naive.errors(found.parameters, plain.parameters) < 1e-7
    assert found.n_evaluations > len(found.lower_bounds) > 1
    assert found.path.last.theta is found.path.previous and not found.path.is_plain
    again = em_map.step(found.path.previous)
    assert scaled_change(again.parameters, found.parameters) < 1e-12
    # and there sweeps stay
    solver = Incremental()
    solver.step(em_map, plain.parameters)
    assert scaled_change(solver._groups.sweep(plain.parameters), plain.parameters) < 1e-9


@all_types
def test_a_component_without_mass_stays_where_it_is(kind):
    em_map, theta = problem(kind)
    means = theta.means.copy()
    means[2] = 1e4
    theta = MixtureParameters(theta.weights, means, theta.covariances, kind)
    result = iterate(em_map, theta, TO_THE_END, solver=partial(Incremental, 1e-10))
    assert result.converged and result.last.lost[2]
    np.testing.assert_array_equal(result.parameters.means[2], means[2])
    assert result.parameters.weights[2] == 0.0


# Passes


def blobs(spread, n=4096, K=5, seed=1):
    """Data in as many groups as the engine makes of them, and some of its rows to start from."""
    rng = np.random.default_rng(seed)
    truth = naive.random_mixture(rng, K, 2, "full", spread=spread)
    X = naive.sample(rng, truth, n)
    theta = MixtureParameters(truth.weights, X[:K], np.array([np.cov(X.T)] * K), "full")
    return EMMap.on(X, covariance_type="full", reg_covar=1e-6), theta


@pytest.mark.parametrize("max_iter", [0, 1, 2, 3, 4, 5, 6, 9, 40])
def test_passes_are_limited(max_iter):
    em_map, theta = problem()
    result = iterate(em_map, theta, Stopping(max_iter, 0.0, 0.0), solver=Incremental)
    assert result.n_evaluations == max_iter and not result.converged


def test_every_pass_over_the_data_is_counted(monkeypatch):
    em_map, theta = blobs(2.0)
    rows, statistics = [], CpuSamples.statistics

    def counted(samples, *args, **options):
        rows.append(samples.shape[0])
        return statistics(samples, *args, **options)

    monkeypatch.setattr(CpuSamples, "statistics", counted)
    result = iterate(em_map, theta, Stopping(500, np.inf, 1e-6), solver=Incremental)
    assert result.converged and min(rows) == 256  # 16 groups of a block each
    # one more step looks at the residual of the end
    assert result.n_evaluations == sum(rows) / 4096 - 1


@pytest.mark.parametrize("spread", [1.0, 2.0, 4.0])
def test_the_first_passes_get_further(spread):
    em_map, theta = blobs(spread)
    for n_passes in (3, 5, 9):
        plain, found = (
            iterate(em_map, theta, Stopping(n_passes, 0.0, 0.0), solver=SOLVERS[name])
            for name in (None, "incremental")
        )
        assert found.last.lower_bound > plain.last.lower_bound + 1e-6


def test_more_groups_get_further():
    em_map, theta = blobs(1.0)
    bounds = []
    for n_groups in (1, 2, 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_GROUPS", n_groups)
            result = iterate(em_map, theta, Stopping(5, 0.0, 0.0), solver=Incremental)
        bounds.append(result.last.lower_bound)
    plain = iterate(em_map, theta, Stopping(5, 0.0, 0.0))
    assert np.isclose(bounds[0], plain.last.lower_bound, rtol=1e-12)
    assert bounds[0] < bounds[1] - 1e-6 < bounds[2] - 2e-6


def test_few_groups_where_m_steps_would_fill_memory(monkeypatch):
    em_map, theta = blobs(2.0)
    solver = Incremental()
    solver.step(em_map, theta)
    assert len(solver._groups._maps) == 16
    monkeypatch.setattr(module, "_LARGEST_MEMORY", 3 * sum(part.nbytes for part in theta))
    solver = Incremental()
    solver.step(em_map, theta)
    assert len(solver._groups._maps) == 3
    monkeypatch.setattr(module, "_LARGEST_MEMORY", 1)
    solver = Incremental()
    solver.step(em_map, theta)
    assert len(solver._groups._maps) == 2


# L-BFGS where it is slow


def test_where_it_is_slow_lbfgs_takes_over(monkeypatch):
    em_map, theta = blobs(4.0)
    stopping = Stopping(4000, np.inf, 1e-6)
    plain = iterate(em_map, theta, stopping)
    found = iterate(em_map, theta, stopping, solver=partial(Incremental, 1e-6))
    assert plain.converged and found.converged and found.residual < 1e-6
    assert found.n_evaluations * 3 < plain.n_evaluations
    monkeypatch.setattr(Incremental, "_promises_many", lambda *changes: False)
    sweeps = iterate(em_map, theta, stopping, solver=partial(Incremental, 1e-6))
    # sweeps alone take half the passes at best
    assert 0.4 * plain.n_evaluations < sweeps.n_evaluations < 0.8 * plain.n_evaluations


def test_lbfgs_begins_without_warm_up():
    """Its first step teaches, the second is its own."""
    em_map, theta = blobs(2.0)
    solver = Incremental()
    solver._hand_over()
    for _ in range(2):
        step = solver.step(em_map, theta)
        theta, following = solver.move(em_map, step, 100)
    assert following is not None
    assert scaled_change(theta, step.parameters) > 1e-3


def test_where_it_is_fast_no_other_takes_over(monkeypatch):
    monkeypatch.setattr(LBFGS, "move", None)
    em_map, _ = blobs(6.0, K=3, seed=0)
    truth = naive.random_mixture(np.random.default_rng(0), 3, 2, "full", spread=6.0)
    theta = MixtureParameters(truth.weights, truth.means + 0.5, truth.covariances * 2, "full")
    stopping = Stopping(100, np.inf, 1e-6)
    plain = iterate(em_map, theta, stopping)
    found = iterate(em_map, theta, stopping, solver=partial(Incremental, 1e-6))
    assert found.converged
    assert 6 < found.n_evaluations <= plain.n_evaluations


def test_sweeps_end_at_the_goal():
    em_map, theta = problem(spread=6.0)
    theta = iterate(em_map, theta, TO_THE_END).parameters
    for goal, n_sweeps in ((np.inf, 1), (1e-5, 1), (0.0, 2)):
        solver = Incremental(goal)
        solver.move(em_map, solver.step(em_map, theta), 100)
        assert solver.n_extra == n_sweeps


@pytest.mark.parametrize(
    "tol, residual_tol, goal",
    [(1e-3, 1e-6, 1e-6), (1e-4, np.inf, 1e-2), (0.0, 1e-3, 1e-14), (np.inf, 0.0, 1e-14)],
)
def test_the_goal_is_where_the_fit_may_end(tol, residual_tol, goal):
    solver = solver_of("incremental", 10, Stopping(100, tol, residual_tol))()
    assert solver._goal == pytest.approx(goal, rel=1e-12)


def test_a_sweep_that_collapses_is_left_and_counted(monkeypatch):
    em_map, theta = problem()

    def collapse(groups, theta):
        raise CollapsedComponentError("The covariance of component 0 is not positive definite.")

    monkeypatch.setattr(module._Groups, "sweep", collapse)
    plain = iterate(em_map, theta, Stopping(2, 0.0, 0.0))
    found = iterate(em_map, theta, Stopping(3, 0.0, 0.0), solver=Incremental)
    assert naive.errors(found.parameters, plain.parameters) < 1e-12
    assert found.n_evaluations == 3
    found = iterate(em_map, theta, TO_THE_END, solver=Incremental)
    assert found.converged and found.residual < 1e-10


def test_balanced_masses_are_refused():
    em_map, theta = problem(e_step=BALANCED)
    with pytest.raises(ValueError, match="cannot be combined with e_step='sinkhorn'.*lbfgs"):
        iterate(em_map, theta, TO_THE_END, solver=Incremental)
