"""Mixture-Wasserstein transport MW2 between two Gaussian mixtures, and its gradient.

With C_kl the squared W2 distance between the components k and l,

    MW2² = min over plans P with P1 = w, Pᵀ1 = w' of Σ_kl P_kl C_kl

and, with the matrices T_kl of the Gaussian maps and the dual potential u of w,

    ∂/∂w_k = u_k,   ∂/∂m_k = 2 Σ_l P_kl (m_k − m'_l),   ∂/∂Σ_k = Σ_l P_kl (I − T_kl).
"""

from dataclasses import dataclass, replace

import numpy as np

from skgmmot.parameters import MixtureParameters, as_parameters, pull_covariances
from skgmmot.transport.bures import EPS, gaussian_costs, gaussian_maps
from skgmmot.transport.plans import exact_plan


@dataclass(frozen=True, eq=False)
class MixtureTransport:
    """Optimal transport between two Gaussian mixtures, as `mixture_transport` returns it.

    Attributes
    ----------
    source, target : MixtureParameters
        The two mixtures, of K and L components.
    value : float
        The squared distance, MW2².
    plan : ndarray of shape (K, L)
        Mass moved from component k of the source to component l of the target.
    cost_matrix : ndarray of shape (K, L)
        Squared W2 distances between the components.
    potentials : tuple of ndarray of shape (K,) and ndarray of shape (L,)
        Dual potentials u and v: u_k + v_l ≤ C_kl, with equality where mass moves. The
        constant that can be moved from u to v is such that ⟨u, w⟩ = ⟨v, w'⟩.
    converged : bool
        Whether the plan is optimal.

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
    plan: np.ndarray
    cost_matrix: np.ndarray
    potentials: tuple
    converged: bool

    @property
    def distance(self):
        """The distance MW2, square root of `value`."""
        return float(np.sqrt(self.value))

    def gradient(self, wrt="source"):
        """Gradient of `value` with respect to the parameters of one of the mixtures.

        Parameters
        ----------
        wrt : {"source", "target"}, default="source"
            The mixture that moves; the other one is held.

        Returns
        -------
        cotangent : MixtureParameters
            Of the covariance type of that mixture, float32 if it is float32, else float64.
            The gradient of the weights is defined up to a constant and has mean zero; that
            of full and tied covariances is symmetric.

        Raises
        ------
        ValueError
            If a covariance is singular in a direction in which the component it is moved
            to varies: there is no derivative.

        Notes
        -----
        Where several potentials are optimal (when the mass of some components of the source
        equals that of some of the target) `value` has a kink in the weights, and the
        gradient of the weights is one of its subgradients.
        """
        u, v = self.potentials
        if wrt == "source":
            mixture, other, plan, potential = self.source, self.target, self.plan, u
        elif wrt == "target":
            mixture, other, plan, potential = self.target, self.source, self.plan.T, v
        else:
            raise ValueError(f"wrt must be 'source' or 'target'; got {wrt!r}.")
        moved, other = _in_double(mixture), _in_double(other)
        rows, columns = np.nonzero(plan > EPS)  # what is smaller is rounding of the masses
        mass = plan[rows, columns][:, None]
        means = np.zeros(moved.means.shape)
        np.add.at(means, rows, 2 * mass * (moved.means[rows] - other.means[columns]))
        matrices = np.zeros((*moved.means.shape, moved.n_features))
        maps = gaussian_maps(moved, other, rows, columns)
        np.add.at(matrices, rows, mass[:, None] * (np.eye(moved.n_features) - maps))
        covariances = pull_covariances(matrices, moved.covariance_type)
        cotangent = MixtureParameters(
            potential - potential.mean(), means, covariances, moved.covariance_type
        )
        return _astype(cotangent, mixture.means.dtype)


def mixture_transport(a, b):
    """Optimal transport between two Gaussian mixtures: MW2, its plan and its gradient.

    MW2 is the Wasserstein distance when the couplings are restricted to Gaussian mixtures
    [1]_. It is the discrete optimal transport between the weights, where the cost between
    two components is their squared W2 distance.

    Parameters
    ----------
    a, b : estimator, MixtureParameters or tuple
        Source and target: a fitted mixture (of this package or of scikit-learn), a
        `MixtureParameters`, or a tuple ``(weights, means, covariances)``. The numbers of
        components and the covariance types may differ.

    Returns
    -------
    transport : MixtureTransport
        All in float64: ``value``, ``distance``, ``plan``, ``cost_matrix``, ``potentials``,
        ``converged``, and the method ``gradient``.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal; ``converged`` is then False.

    Raises
    ------
    ValueError
        If a mixture is not fitted or not valid, or the numbers of features differ.

    References
    ----------
    .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
       mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020.

    Examples
    --------
    >>> from skgmmot import mixture_transport
    >>> a = ([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0])
    >>> b = ([0.75, 0.25], [[1.0], [4.0]], [1.0, 4.0])
    >>> transport = mixture_transport(a, b)
    >>> transport.plan
    array([[0.5 , 0.  ],
           [0.25, 0.25]])
    >>> transport.value
    3.0
    >>> transport.gradient().means
    array([[-1. ],
           [ 1.5]])
    """
    source, target = as_parameters(a, "a", dtype=None), as_parameters(b, "b", dtype=None)
    if source.n_features != target.n_features:
        raise ValueError(
            "a and b must have the same number of features; a has "
            f"{source.n_features} and b has {target.n_features}."
        )
    doubles = _in_double(source), _in_double(target)
    costs = gaussian_costs(*doubles)
    plan, potentials, converged = exact_plan(doubles[0].weights, doubles[1].weights, costs)
    value = float((plan * costs).sum())
    return MixtureTransport(source, target, value, plan, costs, potentials, converged)


def _in_double(parameters):
    return _astype(parameters, np.float64)


def _astype(parameters, dtype):
    weights, means, covariances = (part.astype(dtype, copy=False) for part in parameters)
    return replace(parameters, weights=weights, means=means, covariances=covariances)
