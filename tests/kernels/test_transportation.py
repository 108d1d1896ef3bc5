"""Many exact plans in compiled code: optimal, vertices, and proven, against linear programs."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skgmmot.kernels import transportation
from skgmmot.kernels.transportation import exact_plans

NOTHING = np.empty((0, 0))
EPS = np.finfo(float).eps


def solved(weights, target_weights, costs, limits=(-1.0, np.inf)):
    """Value, certificate, plan and potentials of one problem."""
    K, L = costs.shape
    value, certified = np.empty(1), np.empty(1, dtype=bool)
    plan, u, v = np.empty((K, L)), np.empty((K, 1)), np.empty((1, L))
    starts, pairs = (np.array([0, K]), np.array([0, L])), np.zeros((1, 2), dtype=int)
    exact_plans(
        costs, weights, target_weights, *starts, pairs, *limits, value, certified, plan, u, v
    )
    return value[0], certified[0], plan, u[:, 0], v[0]


def naive_value(weights, target_weights, costs):
    """The value of the linear program, by another method than ours."""
    K, L = costs.shape
    marginals = np.vstack([np.kron(np.eye(K), np.ones(L)), np.kron(np.ones(K), np.eye(L))])
    result = linprog(
        costs.ravel(), A_eq=marginals, b_eq=np.r_[weights, target_weights], method="highs-ds"
    )
    if not result.success:
        raise RuntimeError(result.message)
    return result.fun


def check(weights, target_weights, costs):
    """Feasible, complementary, and as good as POT's plan: to rounding, beside the largest cost."""
    value, certified, plan, u, v = solved(weights, target_weights, costs)
    assert certified
    rounding = 4 * EPS * sum(costs.shape) * costs.max()
    # HiGHS meets its constraints to 1e-7 only; POT's simplex calls 2e-15 of the largest cost zero
    unit = costs.max() or 1.0
    peer = ot.emd2(weights, target_weights, costs / unit, check_marginals=False) * unit
    assert value <= peer + rounding + 2e-15 * unit
    assert value >= weights @ u + target_weights @ v - rounding  # no plan is better
    assert value <= weights @ u + target_weights @ v + rounding
    np.testing.assert_allclose(value, (plan * costs).sum(), rtol=4 * EPS * sum(costs.shape))
    assert plan.min() >= 0
    np.testing.assert_allclose(plan.sum(axis=1), weights, rtol=0, atol=16 * EPS)
    np.testing.assert_allclose(plan.sum(axis=0), target_weights, rtol=0, atol=16 * EPS)
    assert (costs - u[:, None] - v).min() >= -rounding
    return plan


def is_forest(plan):
    K, L = plan.shape
    rows, columns = np.nonzero(plan)
    edges = coo_array((np.ones(len(rows)), (rows, K + columns)), shape=(K + L, K + L))
    n_trees, _ = connected_components(edges, directed=False)
    return len(rows) == K + L - n_trees


sides = st.integers(1, 12) | st.integers(13, 64)
kinds = st.sampled_from(["random", "ties", "nearly tied", "duplicates", "scales", "metric"])
masses = st.sampled_from(["random", "equal", "tiny"])


def costs_of(kind, rng, K, L):
    costs = rng.uniform(size=(K, L))
    if kind == "ties":
        costs = rng.integers(0, 3, size=(K, L)).astype(float)
    elif kind == "nearly tied":
        costs = 1.0 + 1e-12 * costs
    elif kind == "duplicates":  # of components of either side
        costs = costs[rng.integers(K, size=K)][:, rng.integers(L, size=L)]
    elif kind == "scales":
        costs = 10.0 ** rng.uniform(-8, 8, size=(K, L))
    elif kind == "metric":  # the mixture itself, moved a little
        points = rng.normal(size=(max(K, L), 3))
        moved = points + 1e-3 * rng.normal(size=points.shape)
        costs = ((points[:K, None] - moved[:L]) ** 2).sum(axis=-1)
    return costs


def weights_of(kind, rng, n):
    if kind == "equal":
        return np.full(n, 1 / n)
    weights = rng.dirichlet(np.full(n, 1.0 if kind == "random" else 0.05)) + 1e-300
    return weights / weights.sum()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), sides, sides, kinds, masses, masses, st.integers(-280, 280))
def test_plans_are_optimal_vertices(seed, K, L, kind, mass, target_mass, power):
    rng = np.random.default_rng(seed)
    costs = np.ldexp(costs_of(kind, rng, K, L), power)
    plan = check(weights_of(mass, rng, K), weights_of(target_mass, rng, L), costs)
    assert is_forest(plan)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (5, 5), (4, 9), (12, 3)])
@pytest.mark.parametrize("mass", ["random", "equal"])
def test_values_are_optimal_for_a_linear_program(shape, mass):
    rng = np.random.default_rng(sum(shape))
    problem = *(weights_of(mass, rng, n) for n in shape), rng.uniform(size=shape)
    np.testing.assert_allclose(solved(*problem)[0], naive_value(*problem), rtol=1e-10)


def test_assignment():
    """Equal weights: the plan is a permutation, the one that SciPy finds."""
    from scipy.optimize import linear_sum_assignment

    costs = np.random.default_rng(0).uniform(size=(40, 40))
    weights = np.full(40, 1 / 40)
    plan = check(weights, weights, costs)
    rows, columns = linear_sum_assignment(costs)
    np.testing.assert_array_equal(np.argwhere(plan), np.c_[rows, columns])


def problems(seed, n, m):
    """Costs between mixtures of 1 to 6 components, and their weights."""
    rng = np.random.default_rng(seed)
    sizes, target_sizes = rng.integers(1, 7, size=n), rng.integers(1, 7, size=m)
    weights = np.concatenate([rng.dirichlet(np.ones(size)) for size in sizes])
    target_weights = np.concatenate([rng.dirichlet(np.ones(size)) for size in target_sizes])
    starts, target_starts = (np.r_[0, np.cumsum(part)] for part in (sizes, target_sizes))
    return (
        rng.uniform(size=(starts[-1], target_starts[-1])),
        weights,
        target_weights,
        (
            starts,
            target_starts,
        ),
    )


def test_a_problem_has_the_same_bits_alone_and_among_others():
    costs, weights, target_weights, (starts, target_starts) = problems(0, 7, 9)
    pairs = np.random.default_rng(1).permutation(np.argwhere(np.ones((7, 9))))[:40]
    values, certified = np.empty(40), np.empty(40, dtype=bool)
    plans, u, v = np.zeros(costs.shape), np.zeros((len(costs), 9)), np.zeros((7, costs.shape[1]))
    exact_plans(
        costs, weights, target_weights, starts, target_starts, pairs, -1.0, np.inf, values,
        certified, plans, u, v,
    )  # fmt: skip
    assert certified.all()
    for (i, j), value in zip(pairs, values, strict=True):
        rows = slice(starts[i], starts[i + 1])
        columns = slice(target_starts[j], target_starts[j + 1])
        problem = weights[rows], target_weights[columns], costs[rows, columns].copy()
        one = solved(*problem)
        assert one[0] == value
        np.testing.assert_array_equal(one[2], plans[rows, columns])
        np.testing.assert_array_equal(one[3], u[rows, j])
        np.testing.assert_array_equal(one[4], v[i, columns])
    again = np.empty(40)
    exact_plans(
        costs, weights, target_weights, starts, target_starts, pairs, -1.0, np.inf, again,
        certified, NOTHING, NOTHING, NOTHING,
    )  # fmt: skip
    np.testing.assert_array_equal(again, values)


def test_what_is_not_optimal_is_not_proven(monkeypatch):
    """Of plans that are cut short: with too few paths, and with marginals that do not agree."""
    rng = np.random.default_rng(0)
    weights, target_weights = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    costs = rng.uniform(size=(8, 8))
    assert solved(weights, target_weights, costs)[1]
    assert not solved(weights, 0.999 * target_weights, costs)[1]
    assert not solved(0.999 * weights, target_weights, costs)[1]
    for limits in ((1.0, np.inf), (-1.0, 0.5)):
        assert not solved(weights, target_weights, costs, limits)[1]


def test_a_gap_is_not_proven():
    """The certificate itself: of a plan at random, which has the marginals."""
    rng = np.random.default_rng(0)
    w, w2, costs = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5)), rng.uniform(size=(4, 5))
    certify = getattr(transportation._certify, "py_func", transportation._certify)
    for plan, is_optimal in ((np.outer(w, w2), False), (solved(w, w2, costs)[2], True)):
        u, v = solved(w, w2, costs)[3:]
        value, optimal, most = certify(costs, 4, 5, w, 0, w2, 0, plan, u.copy(), v.copy())
        assert optimal == is_optimal and most == costs.max()
        np.testing.assert_allclose(value, (plan * costs).sum(), rtol=1e-14)
