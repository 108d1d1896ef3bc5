"""Barycenters of Gaussian mixtures in the Mixture-Wasserstein distance MW2.

For mixtures μ_j with K_j components and weights λ_j a barycenter is a mixture ν that minimizes

    V(ν) = Σ_j λ_j MW2²(ν, μ_j).

**Multi-marginal.** To a tuple k = (k_1, …, k_J) of components, one of each mixture, belongs the
barycenter ḡ_k of these Gaussians, at the cost

    c_k = Σ_j λ_j W2²(ḡ_k, g_{j,k_j}).

The least V is that of a linear program over masses π of tuples (Delon & Desolneux 2020),

    min over π ≥ 0 of Σ_k c_k π_k    with    Σ_{k : k_j = l} π_k = w_{j,l} for all j and l,

and Σ_k π_k ḡ_k is a barycenter. A vertex of the program has at most Σ_j K_j − J + 1 tuples
with mass. The number of tuples, Π_j K_j, is the limit of this method.

**Fixed point.** Hold the number of components and their weights w, and descend on V over two
groups of variables in turn, so that no iteration increases it:

1. the plans P_j from ν to each μ_j,
2. given the plans, V = Σ_k Σ_{j,l} λ_j P_{j,kl} W2²(g_k, g_{j,l}), which is least where g_k is
   the barycenter of the Gaussians g_{j,l} with the weights λ_j P_{j,kl} / w_k.

There are finitely many vertices P_j: after finitely many iterations the plans repeat, and V has
reached a local minimum. Where a component sends its mass to a single component of every mixture
this is the map of Tanguy, Delon & Gozlan (2024). Where it splits its mass, theirs splits the
component (and the number of components grows), or projects the images in each mixture first,
which has no guarantee to descend; step 2 does.
"""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog
from scipy.sparse import csc_array

from ..checks import as_full, as_parameters, checked_mixtures, refuse_other_features
from ..estimators.state import warn_of
from ..families import DIAGONAL, FULL, family_of
from ..families.base import Family
from ..parameters import MixtureLike, MixtureParameters, RandomState
from ..transport.bures import square_root_factors, standard_deviations
from ..transport.bures_barycenter import (
    TOL,
    deviation_barycenters,
    factor_barycenters,
    weighted_mean,
)
from ..transport.costs import gaussian_costs
from ..transport.plans import exact_plan

# Tuples in the linear program, which takes seconds then.
MAX_TUPLES = 100_000

# HiGHS's tightest tolerance; its own default of 1e-7 would be that of the masses.
FEASIBILITY = 1e-10

# Masses below this are the rounding of the program, not tuples.
MASS_ROUNDING = 1e-13


def mixture_barycenter(
    mixtures: Sequence[MixtureLike],
    weights: ArrayLike | None = None,
    *,
    method: Literal["multimarginal", "fixed_point"] = "multimarginal",
    n_components: int | None = None,
    init: MixtureLike | None = None,
    max_iter: int = 100,
    tol: float = 1e-9,
    random_state: RandomState = None,
) -> MixtureParameters:
    """Barycenter of Gaussian mixtures in the Mixture-Wasserstein distance MW2.

    A mixture ν for which Σ_j λ_j MW2²(ν, μ_j) is least.

    Parameters
    ----------
    mixtures : sequence of mixtures
        Each a fitted estimator (of this package or of scikit-learn), a `MixtureParameters`, or
        a tuple ``(weights, means, covariances)``, or what else `mixture_transport` takes. The
        numbers of components and the covariance types may differ.
    weights : array-like of shape (n_mixtures,), default=None
        The λ_j: non-negative, sum to one. None: all the same. A mixture of weight zero plays
        no part.
    method : {"multimarginal", "fixed_point"}, default="multimarginal"
        ``multimarginal`` solves the linear program over all tuples of components [1]_. It
        finds a global minimum and the number of components by itself, and is refused where
        there are more than 100 000 tuples. ``fixed_point`` alternates between plans and
        components in the manner of [2]_, for a given number of components of given weights:
        a local minimum, for many or large mixtures.
    n_components : int, default=None
        For ``fixed_point``: the number of components, all of the same weight. They start from
        components of the mixtures, drawn far from one another (k-means++ in W2).
    init : mixture, default=None
        For ``fixed_point``: where to start. Its weights are kept. If neither this nor
        ``n_components`` is given, it starts from that one of the mixtures for which the
        objective is least.
    max_iter : int, default=100
        For ``fixed_point``: iterations at most. It usually needs fewer than ten.
    tol : float, default=1e-9
        For ``fixed_point``: it has converged when an iteration lowers the objective by no more
        than this fraction of it. The decrease becomes zero once the plans repeat.
    random_state : int, RandomState instance or None, default=None
        For ``n_components``: seeds the draw.

    Returns
    -------
    barycenter : MixtureParameters
        In float64; of the covariance type of the mixtures if that is the same for all, diag if
        it is diag for some and spherical for the others, else full.

    Raises
    ------
    ValueError
        If a mixture or an option is not valid, the numbers of features differ, or there are too
        many tuples for ``multimarginal``.

    Warns
    -----
    ConvergenceWarning
        If an iteration ran out of steps: the fixed point, or that of the covariances of
        Gaussian barycenters; the message tells the residual.

    See Also
    --------
    mixture_flow : Moves points to the barycenter of mixtures.

    Notes
    -----
    Covariances that are diagonal by their type have closed forms: standard deviations are
    averaged. Otherwise the covariances of Gaussian barycenters are fixed points [3]_, computed
    on square root factors: singular covariances are fine.

    References
    ----------
    .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
       mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020.
    .. [2] Tanguy, E., Delon, J., Gozlan, N., "Computing barycentres of measures for generic
       transport costs", arXiv:2501.04016, 2024.
    .. [3] Álvarez-Esteban, P. C., del Barrio, E., Cuesta-Albertos, J. A., Matrán, C., "A
       fixed-point approach to barycenters in Wasserstein space", Journal of Mathematical
       Analysis and Applications 441(2), 744-762, 2016.

    Examples
    --------
    >>> from skgmmot import mixture_barycenter
    >>> a = ([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0])
    >>> b = ([0.5, 0.5], [[2.0], [10.0]], [9.0, 1.0])
    >>> barycenter = mixture_barycenter([a, b], weights=[0.5, 0.5])
    >>> barycenter.means
    array([[1.],
           [7.]])
    >>> barycenter.covariances
    array([4., 1.])
    """
    mixtures, lam = checked_mixtures(mixtures, weights)
    mixtures = [_with_weight(mixture) for mixture in mixtures]
    if method not in ("multimarginal", "fixed_point"):
        raise ValueError(f"method must be 'multimarginal' or 'fixed_point'; got {method!r}.")
    pool = _pool_of(mixtures)
    if method == "multimarginal":
        if n_components is not None or init is not None:
            raise ValueError(
                "n_components and init are for method='fixed_point': 'multimarginal' finds the "
                "components by itself."
            )
        barycenter, complaints = _multimarginal(pool, lam)
        warn_of(complaints)
        return barycenter
    for name, number in (("n_components", n_components), ("max_iter", max_iter)):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, Integral) or number < 1:
            raise ValueError(f"{name} must be a positive integer; got {number!r}.")
    complaints = []
    start = _start(mixtures, lam, n_components, init, random_state, complaints)
    barycenter = _fixed_point(mixtures, pool, lam, start, max_iter, tol, complaints)
    warn_of(dict.fromkeys(complaints))
    return barycenter


def _with_weight(mixture):
    """The mixture without components of weight zero, its weights summing to one."""
    support = mixture.weights > 0
    weights, means, covariances = mixture
    covariances = covariances if family_of(mixture).is_shared else covariances[support]
    weights = weights[support] / weights.sum()
    return MixtureParameters(weights, means[support], covariances, mixture.covariance_type)


class _Pool(NamedTuple):
    """The components of all mixtures, one after the other."""

    weights: list  # of each mixture, (K_j,)
    means: np.ndarray  # (M, d)
    roots: np.ndarray  # standard deviations (·, d) if they all are diagonal, else (·, d, d)
    root_of: np.ndarray  # (M,) the root of each component: those of a tied mixture share one
    family: Family  # of a mixture of barycenters

    def root_barycenters(self, members, weights):
        """Barycenters of the covariances of some components."""
        barycenters = deviation_barycenters if self.roots.ndim == 2 else factor_barycenters
        return barycenters(self.roots, self.root_of[members], weights)

    def mixture(self, weights, means, roots):
        """A mixture with these roots of covariances."""
        if not self.family.is_diagonal and roots.ndim == 2:  # one dimension
            roots = roots[:, :, None]
        return MixtureParameters(weights, means, self.family.of_factors(roots), self.family.name)


def _pool_of(mixtures):
    families = {family_of(mixture) for mixture in mixtures}
    family = DIAGONAL if all(family.is_diagonal for family in families) else FULL
    family = families.pop() if len(families) == 1 else family
    roots = [standard_deviations(mixture) for mixture in mixtures]
    if any(part is None for part in roots):
        roots = [square_root_factors(mixture) for mixture in mixtures]
    starts = np.cumsum([0, *map(len, roots)])
    root_of = [
        start + np.arange(len(mixture.weights)) % len(part)
        for start, mixture, part in zip(starts, mixtures, roots, strict=False)
    ]
    return _Pool(
        [mixture.weights for mixture in mixtures],
        np.concatenate([mixture.means for mixture in mixtures]),
        np.concatenate(roots),
        np.concatenate(root_of),
        family,
    )


def _multimarginal(pool, lam):
    """The barycenter by the linear program over all tuples, and what there is to warn of."""
    sizes = [len(weights) for weights in pool.weights]
    n_tuples = math.prod(sizes)
    if n_tuples > MAX_TUPLES:
        raise ValueError(
            f"The mixtures have {n_tuples} tuples of components, more than the {MAX_TUPLES} that "
            "method='multimarginal' solves for. Use method='fixed_point'."
        )
    members = np.indices(sizes).reshape(len(sizes), -1).T + np.cumsum([0, *sizes[:-1]])
    lam = np.broadcast_to(lam, members.shape)
    means, spreads = weighted_mean(pool.means, members, lam)
    # What tuples share, as those of tied mixtures do, is computed once.
    _, first, which = np.unique(
        pool.root_of[members], axis=0, return_index=True, return_inverse=True
    )
    which = which.reshape(-1)  # NumPy 2.0 gives it another shape
    roots = pool.root_barycenters(members[first], lam[first])
    masses = _optimal_masses(spreads + roots.spreads[which], members, pool.weights)
    kept = np.flatnonzero(masses)
    barycenter = pool.mixture(masses[kept], means[kept], roots.factors[which[kept]])
    return barycenter, _complaints_of(roots.residual)


def _complaints_of(residual):
    """What there is to say of the largest residual of all Gaussian barycenters."""
    if residual <= TOL:
        return []
    return [
        "The covariance of a Gaussian barycenter did not converge: its residual is "
        f"{residual:.3g} (tolerance {TOL:.3g}). Covariances that are nearly singular in different "
        "directions converge slowly: regularize them (reg_covar)."
    ]


def _optimal_masses(costs, members, weights):
    """A vertex of the linear program."""
    n_tuples, n_mixtures = members.shape
    marginals = csc_array(
        (np.ones(members.size), members.ravel(), np.arange(0, members.size + 1, n_mixtures)),
        shape=(sum(map(len, weights)), n_tuples),
    )
    result = linprog(
        costs / (costs.max() or 1.0),
        A_eq=marginals,
        b_eq=np.concatenate(weights),
        method="highs-ds",
        options={
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        },
    )
    if result.status != 0:
        raise RuntimeError(f"The linear program of the barycenter failed: {result.message}")
    masses = np.where(result.x > MASS_ROUNDING, result.x, 0.0)
    return masses / masses.sum()


def _fixed_point(mixtures, pool, lam, current, max_iter, tol, complaints):
    """The barycenter by alternating between plans and components; it extends ``complaints``."""
    objective, shares = _shares(current, mixtures, lam, complaints)
    residual = 0.0
    for _ in range(max_iter):
        # A plan is a vertex: its rows have few entries.
        width = np.count_nonzero(shares, axis=1).max()
        members = np.argsort(-shares, axis=1, kind="stable")[:, :width]
        weights = np.take_along_axis(shares, members, axis=1)
        means, _ = weighted_mean(pool.means, members, weights)
        roots = pool.root_barycenters(members, weights)
        residual = max(residual, roots.residual)
        moved = pool.mixture(current.weights, means, roots.factors)
        lower, shares = _shares(moved, mixtures, lam, complaints)
        decrease = (objective - lower) / (objective or 1.0)
        if decrease >= 0:  # below zero is the rounding of an objective that has settled
            current, objective = moved, lower
        if decrease <= tol:
            break
    else:
        complaints.append(
            f"The fixed point did not converge in {max_iter} iterations: the last one lowered the "
            f"objective by the fraction {decrease:.3g} (tol={tol:.3g}). Increase max_iter."
        )
    complaints += _complaints_of(residual)
    return current


def _shares(current, mixtures, lam, complaints):
    """V, and the weights λ_j P_{j,kl} / w_k of the pool's components in each component."""
    objective, shares = 0.0, []
    for mixture, weight in zip(mixtures, lam, strict=True):
        plan, squared = _squared_distance(current, mixture, complaints)
        objective += weight * squared
        shares.append(weight * plan)
    shares = np.hstack(shares)
    return objective, shares / shares.sum(axis=1, keepdims=True)


def _squared_distance(a, b, complaints):
    costs = gaussian_costs(a, b)
    solved = exact_plan(a.weights, b.weights, costs)
    complaints += [] if solved.converged else [solved.complaint]
    return solved.plan, float((solved.plan * costs).sum())


def _start(mixtures, lam, n_components, init, random_state, complaints):
    """The mixture to start from."""
    if n_components is not None and init is not None:
        raise ValueError("Give n_components or init, not both: init has its own components.")
    if init is not None:
        init = as_parameters(init, "init")
        refuse_other_features(init, "init", mixtures[0], "mixtures[0]")
        return _with_weight(init)
    if n_components is not None:
        return _drawn(mixtures, lam, n_components, random_state)
    squares = [[_squared_distance(a, b, complaints)[1] for b in mixtures] for a in mixtures]
    return mixtures[int(np.argmin(np.array(squares) @ lam))]


def _drawn(mixtures, lam, n_components, random_state):
    """Components of the mixtures, each drawn by its squared distance to those before."""
    is_state = isinstance(random_state, np.random.RandomState)
    rng = random_state if is_state else np.random.RandomState(random_state)
    parts = [tuple(as_full(mixture)) for mixture in mixtures]
    weights, means, covariances = (np.concatenate(part) for part in zip(*parts, strict=True))
    weights *= np.repeat(lam, [len(mixture.weights) for mixture in mixtures])
    pool = MixtureParameters(weights, means, covariances, "full")
    chosen, chances = [], weights
    nearest = np.full(len(weights), np.inf)
    for _ in range(n_components):
        # Where all that is left is at no distance, by the weights again.
        chances = chances if chances.any() else weights
        k = rng.choice(len(weights), p=chances / chances.sum())
        chosen.append(k)
        last = MixtureParameters(np.ones(1), means[[k]], covariances[[k]], "full")
        nearest = np.minimum(nearest, gaussian_costs(pool, last)[:, 0])
        chances = weights * nearest
    uniform = np.full(n_components, 1 / n_components)
    return MixtureParameters(uniform, means[chosen], covariances[chosen], "full")
