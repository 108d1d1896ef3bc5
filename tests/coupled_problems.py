"""Small coupled fits to try: what the tests of `skgmmot.coupling` share."""

import numpy as np
from naive import random_mixture

from skgmmot.coupling.objective import CouplingProblem, starting_state, state_of
from skgmmot.em.em_map import EMMap
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
VARIANTS = {
    "balanced": {},
    "entropic": {"reg": 0.3},
    "unbalanced": {"penalties": (1.0, 2.0)},
    "unbalanced entropic": {"reg": 0.2, "penalties": (1.0, 2.0)},
    "half unbalanced": {"reg": 0.2, "penalties": (1.0, np.inf)},
    "fixed weights": {"fixed_weights": True},
    "frozen": {"freeze_target": True},
    "frozen entropic": {"reg": 0.3, "freeze_target": True},
    "frozen unbalanced": {"reg": 0.2, "penalties": (1.0, 2.0), "freeze_target": True},
}


def random_problem(kind="full", *, reg_covar=0.1, weighted=False, seed=0, **variant):
    rng = np.random.default_rng(seed)
    K, L = 3, 2
    source, target = (random_mixture(rng, n, 2, kind) for n in (K, L))
    clouds = [2.0 * rng.normal(size=(n, 2)) for n in (60, 50)]
    weights = [rng.uniform(0.1, 2.0, len(X)) if weighted else None for X in clouds]
    problem = CouplingProblem(
        *(
            EMMap.on(X, weight, covariance_type=kind, reg_covar=reg_covar)
            for X, weight in zip(clouds, weights, strict=True)
        ),
        transport_weight=0.1,
        **variant,
    )
    plan = rng.uniform(0.1, 1.0, (K, L))
    plan /= plan.sum()
    if problem.freeze_target:
        plan *= target.weights / plan.sum(axis=0)
    if problem.plan_is_free:
        source = MixtureParameters(plan.sum(axis=1), *tuple(source)[1:], kind)
        target = MixtureParameters(plan.sum(axis=0), *tuple(target)[1:], kind)
    return problem, state_of(source, target, plan), clouds, weights


def separated_problem(kind="full", *, reg_covar=1e-3, seed=3, **variant):
    """Two clouds of three and two clear components, and a state from which to start.

    The fit is well conditioned: its derivatives can be compared with differences.
    """
    rng = np.random.default_rng(seed)
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    source = np.repeat(centers, [40, 60, 50], axis=0) + rng.normal(size=(150, 2))
    target = np.repeat(centers[:2] + [0.5, 1.0], [60, 80], axis=0) + rng.normal(size=(140, 2))
    problem = CouplingProblem(
        *(EMMap.on(X, covariance_type=kind, reg_covar=reg_covar) for X in (source, target)),
        transport_weight=0.05,
        **variant,
    )
    pair = [random_mixture(rng, n, 2, kind) for n in (3, 2)]
    starts = [
        MixtureParameters(np.full(n, 1 / n), centers[:n] + 0.2, theta.covariances, kind)
        for n, theta in zip((3, 2), pair, strict=True)
    ]
    if problem.freeze_target:
        starts[1] = MixtureParameters(np.array([0.4, 0.6]), *tuple(starts[1])[1:], kind)
    return problem, starting_state(problem, *starts)
