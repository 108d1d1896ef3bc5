"""Mixture-Wasserstein transport MW2 between two Gaussian mixtures, and its gradient.

With C_kl the squared W2 distance between the components k and l,

    MW2² = min over plans P with P1 = w, Pᵀ1 = w' of Σ_kl P_kl C_kl

and, with the matrices T_kl of the Gaussian maps and the dual potential u of w,

    ∂/∂w_k = u_k,   ∂/∂m_k = 2 Σ_l P_kl (m_k − m'_l),   ∂/∂Σ_k = Σ_l P_kl (I − T_kl).

Entropic and unbalanced variants have another plan and another derivative in the weights
(see `plans`). The other two formulas hold for all of them: the plan is optimal, so to first
order its own change does not count.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..em.densities import labels, responsibilities
from ..families import family_of
from ..parameters import FloatArray, MixtureParameters, RandomState, in_dtype
from ..reprs import count, html_repr, short_repr
from ..transport.bures import EPS, gaussian_geodesics
from ..transport.costs import gaussian_costs, unit_of_length
from ..transport.many import LARGEST_COST, SMALLEST_COST
from ..transport.maps import (
    averaged,
    component_factors,
    map_samples,
    moving_pairs,
    pair_factors,
    summed_maps,
)
from ..transport.plans import BALANCED, extended, mass_gradient, optimal_plan
from .posteriors import asking, given_samples

_SIDES = ("source", "target")
MAP_METHODS = ("barycentric", "sample", "maximum")


@dataclass(frozen=True, eq=False, repr=False)
class MixtureTransport:
    """Optimal transport between two Gaussian mixtures, as `mixture_transport` returns it.

    Attributes
    ----------
    source, target : MixtureParameters
        The two mixtures, of K and L components.
    value : float
        The squared distance, MW2², or its entropic or unbalanced variant.
    distance : float
        The distance MW2, or its variant: the square root of ``value``, also where that underflows.
    plan : ndarray of shape (K, L)
        Mass moved from component k of the source to component l of the target.
    cost_matrix : ndarray of shape (K, L)
        Squared W2 distances between the components.
    potentials : tuple of ndarray of shape (K,) and ndarray of shape (L,)
        Dual potentials u and v. Without entropy u_k + v_l ≤ C_kl, with equality where mass
        moves. The constant that can be moved from u to v in a balanced plan is such that
        ⟨u, w⟩ = ⟨v, w'⟩.
    converged : bool
        Whether the plan is optimal, to the accuracy that `mixture_transport` promises.
    reg : float
        Weight ε of the entropy.
    reg_m : tuple of two floats
        Weights λ0 and λ1 of the marginal terms, infinite where a marginal is a constraint.
    pair_factors : ndarray of shape (K, L)
        By which factor mass changes that goes from component k to component l.

    Examples
    --------
    >>> from skgmmot import mixture_transport
    >>> a, b = ([1.0], [[0.0, 0.0]], [1.0]), ([1.0], [[3.0, 4.0]], [1.0])
    >>> transport = mixture_transport(a, b)
    >>> transport.distance
    5.0
    >>> transport.gradient("target").means
    array([[6., 8.]])
    """

    source: MixtureParameters
    target: MixtureParameters
    value: float
    distance: float
    plan: NDArray[np.float64]
    cost_matrix: NDArray[np.float64]
    potentials: tuple[NDArray[np.float64], NDArray[np.float64]]
    converged: bool
    reg: float = 0.0
    reg_m: tuple[float, float] = BALANCED

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        n_source, n_target = self.plan.shape
        words = [f"{n_source} to {count(n_target, 'component')}", f"distance {self.distance:.6g}"]
        if self.reg:
            words.append(f"reg={self.reg:.6g}")
        if self.reg_m != BALANCED:
            words.append("reg_m=({:.6g}, {:.6g})".format(*self.reg_m))
        return ", ".join(words if self.converged else [*words, "not converged"])

    def gradient(self, wrt: Literal["source", "target"] = "source") -> MixtureParameters:
        """Gradient of ``value`` with respect to the parameters of one of the mixtures.

        Parameters
        ----------
        wrt : {"source", "target"}, default="source"
            The mixture that moves; the other one is held.

        Returns
        -------
        cotangent : MixtureParameters
            Of the covariance type of that mixture, float32 if it is float32, else float64.
            The gradient of the weights is defined up to a constant and has mean zero over the
            components that have weight. For a component without, it is the slope of a first bit
            of weight, which can be beyond all bounds, and then is minus infinity, where it would
            serve a component of the other mixture that unbalanced mass does not reach. The
            gradient of full and tied covariances is symmetric.

        Raises
        ------
        ValueError
            If a covariance is singular in a direction in which the component it is moved
            to varies: there is no derivative.

        Notes
        -----
        Where several potentials are optimal (when the mass of some components of the source
        equals that of some of the target) ``value`` has a kink in the weights, and the
        gradient of the weights is one of its subgradients.
        """
        if wrt not in _SIDES:
            raise ValueError(f"wrt must be 'source' or 'target'; got {wrt!r}.")
        side = _SIDES.index(wrt)
        mixture, other, plan, costs = self.source, self.target, self.plan, self.cost_matrix
        if wrt == "target":
            mixture, other, plan, costs = other, mixture, plan.T, costs.T
        moved, other = in_dtype(mixture, np.float64), in_dtype(other, np.float64)
        rows, columns = moving_pairs(plan)
        mass = plan[rows, columns][:, None]
        means = np.zeros(moved.means.shape)
        np.add.at(means, rows, 2 * mass * (moved.means[rows] - other.means[columns]))
        masses = np.bincount(rows, mass[:, 0], minlength=len(plan))
        matrices = masses[:, None, None] * np.eye(moved.n_features)
        matrices -= summed_maps(moved, other, plan)
        covariances = family_of(moved).pull(matrices)
        weights = self._weight_gradient(side, moved.weights, other.weights, costs)
        cotangent = MixtureParameters(weights, means, covariances, moved.covariance_type)
        return in_dtype(cotangent, mixture.means.dtype)

    def _weight_gradient(self, side, weights, other_weights, costs):
        """Slopes in the weights: of mean zero over the components that have weight.

        Those of the others may be so large, or infinite, that no digit of the rest would be left.
        """
        potential, other = self.potentials[side], self.potentials[1 - side]
        penalty = self.reg_m[side]
        if weights.min() > EPS:
            slopes = mass_gradient(potential, self.reg, penalty)
            return slopes - slopes.mean()
        support, others = weights > 0, other_weights > 0
        if self.reg == 0:  # a first bit goes where there is weight, not to others without
            potential = extended(potential[support], other[others], None, costs[:, others], support)
        with np.errstate(over="ignore"):
            slopes = mass_gradient(potential, self.reg, penalty)
        return slopes - slopes[weights > EPS].mean()

    def map(
        self,
        X: ArrayLike,
        *,
        method: Literal["barycentric", "sample", "maximum"] = "barycentric",
        random_state: RandomState | np.random.Generator = None,
    ) -> FloatArray:
        """Move samples from the source to the target.

        A sample x belongs to the pair of components (k, l) with the probability
        p_kl(x) ∝ P_kl g_k(x), where g_k is the density of component k of the source, and the
        pair has an affine map T_kl [1]_.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of the source. On a CUDA device they move there, and so in `mass_factors`.
        method : {"barycentric", "sample", "maximum"}, default="barycentric"
            "barycentric": the mean Σ_kl p_kl(x) T_kl(x), a smooth map. "sample": T_kl(x) of a
            pair that is drawn from p_kl(x); samples of the source are moved to samples that
            have about the distribution of the target. "maximum": the map of the component k
            that most likely holds x, which is affine on the region of each component.
        random_state : int, Generator, RandomState or None, default=None
            Makes the draws of "sample" reproducible, which are made on the host.

        Returns
        -------
        moved : ndarray of shape (n_samples, n_features)
            float32 if ``X`` is, else float64.

        Raises
        ------
        ValueError
            If ``X`` has a wrong shape or is not finite, if a covariance of the source is
            singular, or if the plan moves nothing.

        Notes
        -----
        Of an unbalanced plan, components of the source count with the mass that the plan takes
        from them, Σ_l P_kl, and not with their weight.

        References
        ----------
        .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
           mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020, section 6.3.

        Examples
        --------
        >>> from skgmmot import mixture_transport
        >>> a, b = ([1.0], [[0.0, 0.0]], [1.0]), ([1.0], [[3.0, 4.0]], [4.0])
        >>> mixture_transport(a, b).map([[0.0, 0.0], [1.0, 0.0]])
        array([[3., 4.],
               [5., 4.]])
        """
        if method not in MAP_METHODS:
            raise ValueError(f"method must be one of {MAP_METHODS}; got {method!r}.")
        self._refuse_nothing()
        source, target = self._in_double
        rng = random_state
        if not isinstance(rng, np.random.RandomState):
            rng = np.random.default_rng(random_state)
        plan = self._moved_mass
        question = labels if method == "maximum" else responsibilities
        with given_samples(X, self.source.n_features) as rows:
            doubles = rows.astype(np.float64, copy=False)
            posterior = asking(question, doubles, replace(source, weights=plan.sum(axis=1)))
            moved = map_samples(doubles, source, target, plan, method, rng, posterior)
            return moved.astype(rows.dtype, copy=False)

    def interpolate(self, t: float) -> MixtureParameters:
        """The mixture at time t of the geodesic from the source to the target.

        Each pair of components that mass moves between becomes a component, that moves along
        the geodesic between two Gaussians with the mass P_kl as its weight. At t = 0 and t = 1
        these are the source and the target, with some of their components in several parts.

        Parameters
        ----------
        t : float
            In [0, 1].

        Returns
        -------
        mixture : MixtureParameters
            In float64, of type "diag" if the covariances of both mixtures are diagonal by type,
            else "full".

        Raises
        ------
        ValueError
            If t is not in [0, 1], or the plan moves nothing.

        Notes
        -----
        The weights are divided by their sum. Of an unbalanced plan that makes the path between
        the two mixtures that the plan does couple, whose weights are its marginals.

        Examples
        --------
        >>> from skgmmot import mixture_transport
        >>> a, b = ([1.0], [[0.0, 0.0]], [1.0]), ([1.0], [[3.0, 4.0]], [9.0])
        >>> weights, means, covariances = mixture_transport(a, b).interpolate(0.5)
        >>> means, covariances
        (array([[1.5, 2. ]]), array([[4., 4.]]))
        """
        if not isinstance(t, Real) or not 0 <= t <= 1:
            raise ValueError(f"t must be a number from 0 to 1; got {t!r}.")
        self._refuse_nothing()
        source, target = self._in_double
        rows, columns = moving_pairs(self.plan)
        weights = self.plan[rows, columns]
        means = (1 - t) * source.means[rows] + t * target.means[columns]
        covariances = gaussian_geodesics(source, target, rows, columns, t)
        kind = "full" if covariances.ndim == 3 else "diag"
        return MixtureParameters(weights / weights.sum(), means, covariances, kind)

    @property
    def pair_factors(self) -> NDArray[np.float64]:
        """By which factor mass changes that goes from component k to component l.

        (P1)_k / w_k on leaving times w'_l / (Pᵀ1)_l on arriving: one if balanced, and zero of a
        component that no mass leaves or reaches.
        """
        return pair_factors(self._moved_mass, *(theta.weights for theta in self._in_double))

    def mass_factors(self, X: ArrayLike) -> FloatArray:
        """By which factor the mass of each sample changes when it is moved to the target.

        It is the mean of ``pair_factors`` over the pairs of components that the sample may belong
        to: samples of the source with these weights arrive at the components of the target with
        the weights w'. One if balanced, up to rounding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of the source.

        Returns
        -------
        factors : ndarray of shape (n_samples,)
            float32 if ``X`` is, else float64.

        Raises
        ------
        ValueError
            If ``X`` has a wrong shape or is not finite, or if a covariance of the source is
            singular.

        Notes
        -----
        The mean over the source is one, less the weights of target components that no mass
        reaches. OTT-JAX's tutorial on coupled mixtures has the factors of a known pair.

        Examples
        --------
        Of two places one is emptied and the other filled, which is far cheaper than to move:

        >>> from skgmmot import mixture_transport
        >>> places = [[0.0], [9.0]]
        >>> a, b = ([0.75, 0.25], places, [1.0, 1.0]), ([0.25, 0.75], places, [1.0, 1.0])
        >>> transport = mixture_transport(a, b, reg_m=1.0)
        >>> transport.mass_factors(places).round(3)
        array([0.333, 3.   ])
        """
        source, target = self._in_double
        factors = component_factors(self._moved_mass, source.weights, target.weights)
        with given_samples(X, self.source.n_features) as rows:
            posterior = asking(responsibilities, rows.astype(np.float64, copy=False), source)
            return averaged(rows, factors, posterior).astype(rows.dtype, copy=False)

    @property
    def _moved_mass(self):
        """The plan without what is rounding of the masses."""
        return np.where(self.plan > EPS, self.plan, 0.0)

    @property
    def _in_double(self):
        return in_dtype(self.source, np.float64), in_dtype(self.target, np.float64)

    def _refuse_nothing(self):
        if not len(moving_pairs(self.plan)[0]):
            raise ValueError(
                "This plan moves no mass, so it maps nothing: the costs are far above reg_m = "
                f"{self.reg_m}. Take a larger reg_m."
            )


def transport_between(source, target, reg=0.0, penalties=BALANCED):
    """The `MixtureTransport` of two mixtures that were checked, and what there is to warn of.

    ``penalties`` are λ0 and λ1, infinite for a constraint.
    """
    doubles = in_dtype(source, np.float64), in_dtype(target, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        costs, unit = gaussian_costs(*doubles), 1.0
    if not SMALLEST_COST < costs.max() < LARGEST_COST:
        unit = unit_of_length(*doubles)
        costs = gaussian_costs(*doubles, unit)
    solved = optimal_plan(
        doubles[0].weights, doubles[1].weights, costs, *_in_units(unit, reg, penalties)
    )
    value, potentials, converged = solved.value, solved.potentials, solved.converged
    distance = unit * math.sqrt(value)
    if unit != 1.0:
        value, costs, *potentials = (part * unit * unit for part in (value, costs, *potentials))
        potentials = tuple(potentials)
    transport = MixtureTransport(
        source, target, value, distance, solved.plan, costs, potentials, converged, reg, penalties
    )
    return transport, [] if converged else [solved.complaint]


def _in_units(unit, reg, reg_m):
    """The weights of the entropy and of the marginal terms in units of the square of length.

    Beyond 1e250 of those, and below 1e-250, nothing that they decide changes any more.
    """
    if unit == 1.0:
        return reg, reg_m
    reg, *reg_m = (
        weight if weight in (0.0, np.inf) else min(max(weight / unit / unit, 1e-250), 1e250)
        for weight in (reg, *reg_m)
    )
    return reg, tuple(reg_m)
