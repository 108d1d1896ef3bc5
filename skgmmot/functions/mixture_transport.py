"""Mixture-Wasserstein transport MW2 between two Gaussian mixtures."""

from ..checks import as_parameters, checked_regularization, refuse_other_features
from ..estimators.state import warn_of
from ..parameters import MixtureLike, PenaltiesLike
from ..results.transport_result import MixtureTransport, transport_between


def mixture_transport(
    a: MixtureLike, b: MixtureLike, *, reg: float = 0.0, reg_m: PenaltiesLike = None
) -> MixtureTransport:
    """Optimal transport between two Gaussian mixtures: MW2, its plan and its gradient.

    MW2 is the Wasserstein distance when the couplings are restricted to Gaussian mixtures
    [1]_. It is the discrete optimal transport between the weights, where the cost between
    two components is their squared W2 distance.

    Parameters
    ----------
    a, b : estimator, MixtureParameters or tuple
        Source and target: a fitted mixture (of this package or of scikit-learn), a Pipeline or a
        search (such as GridSearchCV) that ends with one, a `MixtureParameters`, or a tuple
        ``(weights, means, covariances)``. The numbers of components and the covariance types may
        differ. The mixture of a Pipeline lives in the space that its earlier steps transform the
        data to: compare it with mixtures of data transformed alike.
    reg : float, default=0.0
        Weight ε of the entropy, in the units of the squared distance. Positive values make the
        plan a smooth function of both mixtures, and the value larger than MW2². Zero: none.
    reg_m : float, tuple of two floats or None, default=None
        Weights λ0 and λ1 of the marginal terms of unbalanced transport, in the units of the
        squared distance; one number stands for both. About, mass is not moved over squared
        distances above λ0 + λ1. ``np.inf`` holds a marginal at the weights, None both. The
        divergence has its mass terms; without them, as in equation 21 of [2]_, the plan is this
        one divided by e (see Notes).

    Returns
    -------
    transport : MixtureTransport
        All in float64: ``value``, ``distance``, ``plan``, ``cost_matrix``, ``potentials``,
        ``converged``, and the methods ``gradient``, ``map`` and ``interpolate``.

    Raises
    ------
    ValueError
        If a mixture is not fitted or not valid, the numbers of features differ, or ``reg`` or
        ``reg_m`` is not a number in its range.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal; ``converged`` is then False. Without entropy, an unbalanced
        plan has converged if its duality gap is below 1e-8 of the value; with it, if the error
        of its marginals is below 1e-10.

    Notes
    -----
    With C the squared W2 distances and KL(f | g) = Σ f log(f/g) − f + g, the value is

        ⟨P, C⟩ + reg KL(P | w ⊗ w') + λ0 KL(P1 | w) + λ1 KL(Pᵀ1 | w')

    where an infinite λ makes a constraint of its term. The gradient is that of this value.

    Where both λ are finite the value is (reg + λ0 + λ1) (1 − m) with m the mass of the plan. The
    other convention, KL(f | g) = Σ f log(f/g) in the marginal terms, has the same plan but for its
    mass m', and the same gradient but for a factor:

        m' = m e^(−(λ0 + λ1) / (reg + λ0 + λ1)),
        value' = (reg + λ0 + λ1) (1 − m') − λ0 − λ1,    gradient' = (m'/m) gradient

    that is m' = m/e without entropy. That value may be negative, and of a mixture to itself it is.
    Where an infinite λ holds a marginal, both masses are one and the two conventions agree.

    There is no density of the coupling of x and y to ask for: an optimal coupling of two
    Gaussians lives on the graph of a map.

    References
    ----------
    .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
       mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020.
    .. [2] Boïté, S., Tanguy, E., Delon, J., Desolneux, A., Flamary, R., "Differentiable
       Expectation-Maximisation and applications to Gaussian mixture model optimal transport",
       arXiv:2509.02109, 2025.

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
    transport, complaints = checked_transport(a, b, reg, reg_m)
    warn_of(complaints)
    return transport


def checked_transport(a, b, reg, reg_m):
    """`transport_between`, of what it checks first."""
    source, target = as_parameters(a, "a", dtype=None), as_parameters(b, "b", dtype=None)
    refuse_other_features(source, "a", target, "b")
    return transport_between(source, target, *checked_regularization(reg, reg_m))
