"""Where a coupled fit starts: from mixtures fitted without coupling."""

from functools import cached_property

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from ..coupling.objective import starting_state
from ..coupling.sweeps import maximize
from ..families.covariances import CollapsedComponentError
from ..samples import samples_of
from ..samples.device_arrays import module_of
from .em_options import em_map_of, fit_by_em
from .input_rows import is_one_array, row_weights, stacked
from .mixture import DifferentiableGaussianMixture

# The labels of source and target after `fit_pair`: skada's.
PAIR_DOMAINS = (1, -1)
# Sweeps from each start, at most, before the best is followed to the end, and the residual at
# which its objective is known well enough: to about the square of that.
_SCREENING, _SCREENING_RESIDUAL = 50, 1e-3
# Starts with the same optimum differ by less: the first of them is taken.
_TIE = 1e-9
# The mixtures to start from are fitted to this residual, in so many EM steps at most.
_EM_RESIDUAL, _EM_STEPS = 1e-3, 100


class Cloud:
    """The rows of a domain: an array, or in chunks.

    Parameters
    ----------
    X : C-contiguous array of shape (n_samples, n_features), float32 or float64; or ChunkedRows
    weight : array of shape (n_samples,), float64, not all zero; or None
    n_threads : int, default=1
    n_rows : int, default=None
        Of the domain, where X has rows of the other one too, with weight zero. None: all.
    """

    def __init__(self, X, weight=None, n_threads=1, n_rows=None):
        self.X, self.weight, self.n_threads = X, weight, n_threads
        self.n_rows = len(X) if n_rows is None else n_rows

    @cached_property
    def samples(self):
        """`Samples` of the rows that have weight. Of chunks the first look is made only once."""
        return samples_of(self.X, self.weight, self.n_threads)

    @property
    def is_read(self):
        """Whether it is in chunks."""
        return not is_one_array(self.X)


def thinned(cloud, size, random_state):
    """At most ``size`` random rows of those of a cloud that have weight: an array."""
    samples = cloud.samples
    if samples.shape[0] <= size and not cloud.is_read:
        return cloud
    rows = slice(None)
    if samples.shape[0] > size:
        rows = sample_without_replacement(samples.shape[0], size, random_state=random_state)
        rows.sort()
    X, weight = (samples.subset(rows) if cloud.is_read else samples.picked(rows)).rows()
    return Cloud(X, row_weights(weight, X)[0], cloud.n_threads)


def seeds_of(random_state, n_init):
    """A seed for each restart; the first is ``random_state`` itself if that is a number."""
    draws = check_random_state(random_state)
    seeds = [int(draws.randint(np.iinfo(np.int32).max)) for _ in range(n_init)]
    if isinstance(random_state, (int, np.integer)):
        seeds[0] = int(random_state)
    return seeds


def independent_fit(cloud, n_components, options, seed, start=None):
    """A mixture fitted to one cloud. That it did not converge is for the caller to mind.

    ``start`` is a `MixtureParameters` to start from, or None for an initialization.
    """
    mixture = DifferentiableGaussianMixture(
        n_components, acceleration=None, random_state=seed, **options
    )
    em_map = em_map_of(mixture, cloud.samples)
    fitted = fit_by_em(mixture, em_map, last=start).result.parameters
    mixture._set_parameters(fitted, cloud.samples.dtype)
    return mixture.parameters_


def starting_pairs(clouds, n_components, options, seed, *, frozen, coupled, starts=(None, None)):
    """Pairs of mixtures to start from: a list of functions that make two `MixtureParameters`.

    The independent fits of the two clouds, which go on from ``starts``; one mixture fitted to both,
    used twice; and where the target is frozen that mixture, used twice. Without a transport penalty
    (``coupled``) the independent fits are all there is. ``options`` are those of
    `DifferentiableGaussianMixture`.
    """
    if coupled:
        options = options | {
            "max_iter": min(options["max_iter"], _EM_STEPS),
            "residual_tol": max(options["residual_tol"], _EM_RESIDUAL),
        }
    fitted = {}

    def fit(cloud, n, start=None):
        key = id(cloud), n
        if key not in fitted:
            fitted[key] = independent_fit(cloud, n, options, seed, start)
        return fitted[key]

    def target():
        return fit(clouds[1], n_components[1], starts[1]) if frozen is None else frozen

    pairs = [lambda: (fit(clouds[0], n_components[0], starts[0]), target())]
    if not coupled:
        return pairs
    both = pooled(clouds)
    if frozen is not None:
        pairs.append(lambda: (fit(both, n_components[0]), target()))
        if n_components[0] == n_components[1]:
            pairs.append(lambda: (target(), target()))
    else:
        pairs.append(lambda: tuple(fit(both, n) for n in n_components))
    return pairs


def pooled(clouds):
    """One cloud of the rows of both."""
    weight = None
    if any(cloud.weight is not None for cloud in clouds):
        module = module_of(clouds[0].X)
        parts = (module.ones(len(c.X)) if c.weight is None else c.weight for c in clouds)
        weight = module.concatenate(list(parts))
    return Cloud(stacked([cloud.X for cloud in clouds]), weight, clouds[0].n_threads)


def rows_of(clouds):
    """All rows of a pair of clouds, their domains and their weights."""
    both, module = pooled(clouds), module_of(clouds[0].X)
    domains = module.asarray(PAIR_DOMAINS).repeat([len(cloud.X) for cloud in clouds])
    return both.X, domains, both.weight


def best_of(problem, pairs, sweeping, stopping):
    """Sweep from every start for a while, and return the best result and the failures.

    ``sweeping(problem, max_iter)`` is a context for each run, which yields its callback. If every
    start failed, the first `CollapsedComponentError` is raised.
    """
    best, failures = None, []
    most = min(stopping.max_iter, _SCREENING)
    stopping = stopping._replace(max_iter=most)
    if most:
        residual_tol = max(stopping.residual_tol, _SCREENING_RESIDUAL)
        stopping = stopping._replace(residual_tol=residual_tol)
    for pair in pairs:
        with sweeping(problem, most) as callback:
            try:
                start = starting_state(problem, *pair())
                result = maximize(problem, start, stopping, callback)
            except CollapsedComponentError as error:
                failures.append(error)
                continue
        objective = result.evaluation.objective
        if best is None or objective > best.evaluation.objective + _TIE * (1 + abs(objective)):
            best = result
    if best is None:
        raise failures[0]
    return best, failures


def matched_orders(plan, *, keep_target):
    """Orders of the components that put those that exchange the most mass at the same place.

    With ``keep_target`` the target keeps its order.
    """
    orders = linear_sum_assignment(plan, maximize=True)
    if keep_target:
        rows, columns = orders
        orders = rows[np.argsort(columns)], np.arange(plan.shape[1])
    return tuple(
        np.concatenate([order, np.setdiff1d(np.arange(size), order)])
        for order, size in zip(orders, plan.shape, strict=True)
    )
