"""Optimal plans of many small transport problems, exact, by successive shortest paths.

Of a problem with weights w (K,), w' (L,) and costs C (K, L) the plan P, and potentials u, v with
reduced costs C_kl − u_k − v_l ≥ 0, zero where P_kl > 0, are grown together: what is left of a
weight of the source goes along a shortest path, in reduced costs, to the nearest component of the
target that lacks some, forwards along any pair and backwards along pairs that carry mass; then u
and v move by the distances. Whatever is computed is optimal for the mass that is moved so far.

The pairs that carry mass form a forest, so that the plan is a vertex: where a path comes to a tree
the whole tree is reached at once, at the same distance, and a path never leaves a tree to come
back. No tolerance decides anything, and the unit of the costs does not matter.

What comes out is proven: v_l = min_k C_kl − u_k and then u_k = min_l C_kl − v_l are feasible, so
that Σ P_kl (C_kl − u_k − v_l), together with the error of the marginals, bounds what a better plan
could save.
"""

import math

import numpy as np

from .compilation import inner, kernel

# What a better plan could save, beside the largest cost and for each component; and the error of
# a marginal, beside the mass of 1. Both are roundings.
LARGEST_GAP = 4 * 2.0**-52
LARGEST_ERROR = 16 * 2.0**-52

# A plan needs about two paths for each component, and equal weights one.
PATHS_PER_COMPONENT = 50


@inner
def _start(C, K, L, supply, demand, flow, u, v):
    """Feasible potentials, and mass along the pairs that are first to have no reduced cost."""
    for j in range(L):
        v[j] = math.inf
        for k in range(K):
            v[j] = min(v[j], C[k, j])
    for k in range(K):
        nearest, u[k] = 0, math.inf
        for j in range(L):
            flow[k, j] = 0.0
            reduced = C[k, j] - v[j]
            if reduced < u[k]:
                nearest, u[k] = j, reduced
        mass = min(supply[k], demand[nearest])
        flow[k, nearest] = mass
        supply[k] -= mass
        demand[nearest] -= mass


@inner
def _reach(column, K, reached, flow, rows, stack, depth):
    """Note the components of the source that one of the target gets mass from."""
    for i in range(K):
        if flow[i, column] > 0.0 and rows[i, 0] < 0.0:
            rows[i, 0], rows[i, 1] = reached, column
            stack[depth] = i
            depth += 1
    return depth


@inner
def _shortest_path(C, K, L, source, demand, flow, u, v, ahead, columns, before, rows, stack):
    """The nearest component of the target that lacks mass, or -1, and its distance.

    ahead : (L,), distances of components of the target so far, -1 for those that are reached
    columns : (L,), distances of components of the target that are reached, or -1
    before : (L,), the component of the source before one of the target
    rows : (K, 2), distance of components of the source (-1: not reached), and the one before
    """
    reached = 0.0
    for j in range(L):
        ahead[j], columns[j], before[j] = math.inf, -1.0, -1
    for k in range(K):
        rows[k, 0] = -1.0
    rows[source, 0], rows[source, 1] = 0.0, -1.0
    stack[0] = source
    depth = 1
    while True:
        while depth > 0:
            depth -= 1
            k = stack[depth]
            for j in range(L):
                if flow[k, j] > 0.0 and columns[j] < 0.0:
                    ahead[j], columns[j], before[j] = -1.0, reached, k
                    if demand[j] > 0.0:
                        return j, reached
                    depth = _reach(j, K, reached, flow, rows, stack, depth)
            potential = u[k]
            for j in range(L):
                longer = reached + max(C[k, j] - potential - v[j], 0.0)
                if longer < ahead[j]:
                    ahead[j], before[j] = longer, k
        reached, nearest = math.inf, -1
        for j in range(L):
            reached = min(reached, ahead[j] if columns[j] < 0.0 else math.inf)
        for j in range(L):
            if ahead[j] == reached:
                nearest = j
                break
        if nearest < 0 or reached == math.inf:
            return -1, 0.0
        ahead[nearest], columns[nearest] = -1.0, reached
        if demand[nearest] > 0.0:
            return nearest, reached
        depth = _reach(nearest, K, reached, flow, rows, stack, depth)


@inner
def _move_along(source, goal, supply, demand, flow, before, rows):
    """Move as much mass along a path as it can take."""
    mass = min(supply[source], demand[goal])
    j = goal
    while before[j] != source:
        k = before[j]
        j = int(rows[k, 1])
        mass = min(mass, flow[k, j])
    j = goal
    while True:
        k = before[j]
        flow[k, j] += mass
        if k == source:
            break
        j = int(rows[k, 1])
        flow[k, j] -= mass
    supply[source] -= mass
    demand[goal] -= mass


@inner
def _certify(C, K, L, weights, first, target_weights, target_first, flow, u, v):
    """Make u and v feasible to rounding. The value of the plan, and whether it is optimal."""
    largest, value, gap, error = 0.0, 0.0, 0.0, 0.0
    for j in range(L):
        v[j], mass = math.inf, 0.0
        for k in range(K):
            v[j] = min(v[j], C[k, j] - u[k])
            mass += flow[k, j]
        error = max(error, abs(mass - target_weights[target_first + j]))
    for k in range(K):
        u[k], mass = math.inf, 0.0
        for j in range(L):
            u[k] = min(u[k], C[k, j] - v[j])
            largest = max(largest, C[k, j])
            value += flow[k, j] * C[k, j]
            mass += flow[k, j]
        error = max(error, abs(mass - weights[first + k]))
    for k in range(K):
        for j in range(L):
            gap += flow[k, j] * (C[k, j] - u[k] - v[j])
    return value, gap <= LARGEST_GAP * (K + L) * largest and error <= LARGEST_ERROR, largest


@kernel
def exact_plans(
    costs, weights, target_weights, starts, target_starts, pairs, smallest, largest,
    values, certified, plans, potentials, target_potentials,
):  # fmt: skip
    """Solve the problems of some pairs of mixtures whose components stand one after the other.

    costs : (n, m) between all components of the sources and all of the targets
    weights, target_weights : (n,) and (m,), positive, of mass 1 for each mixture
    starts, target_starts : where the components of each mixture begin, and the last ones end
    pairs : (p, 2), numbers of mixtures
    smallest, largest : only problems with a largest cost between them are certified
    values : (p,), filled in with ⟨P, C⟩
    certified : (p,), filled in with whether the plan is optimal to rounding; else it is to be
        found in another way
    plans : (n, m), or empty: filled in, for the pairs
    potentials, target_potentials : (n, n_targets) and (n_sources, m), or empty: filled in as well,
        with no constant that they share fixed
    """
    K = L = 0
    for i in range(len(starts) - 1):
        K = max(K, starts[i + 1] - starts[i])
    for i in range(len(target_starts) - 1):
        L = max(L, target_starts[i + 1] - target_starts[i])
    C, flow = np.empty((K, L)), np.empty((K, L))
    supply, demand, u, v = np.empty(K), np.empty(L), np.empty(K), np.empty(L)
    ahead, columns, rows = np.empty(L), np.empty(L), np.empty((K, 2))
    before, stack = np.empty(L, np.int64), np.empty(K, np.int64)
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        first, target_first = starts[a], target_starts[b]
        K, L = starts[a + 1] - first, target_starts[b + 1] - target_first
        for k in range(K):
            supply[k] = weights[first + k]
            for j in range(L):
                C[k, j] = costs[first + k, target_first + j]
        for j in range(L):
            demand[j] = target_weights[target_first + j]
        _start(C, K, L, supply, demand, flow, u, v)
        n_left = PATHS_PER_COMPONENT * (K + L)
        for source in range(K):
            while supply[source] > 0.0 and n_left > 0:
                n_left -= 1
                goal, reached = _shortest_path(
                    C, K, L, source, demand, flow, u, v, ahead, columns, before, rows, stack
                )
                if goal < 0:  # what is left is rounding, or the plan is not certified
                    break
                _move_along(source, goal, supply, demand, flow, before, rows)
                for k in range(K):
                    if rows[k, 0] >= 0.0:
                        u[k] += reached - rows[k, 0]
                for j in range(L):
                    if columns[j] >= 0.0:
                        v[j] -= reached - columns[j]
        value, optimal, most = _certify(
            C, K, L, weights, first, target_weights, target_first, flow, u, v
        )
        values[p] = value
        certified[p] = optimal and smallest < most < largest
        if plans.size:
            for k in range(K):
                for j in range(L):
                    plans[first + k, target_first + j] = flow[k, j]
        if potentials.size:
            for k in range(K):
                potentials[first + k, b] = u[k]
            for j in range(L):
                target_potentials[a, target_first + j] = v[j]
