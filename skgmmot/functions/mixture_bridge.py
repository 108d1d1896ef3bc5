"""Schrödinger bridges between two Gaussian mixtures."""

from numbers import Real

import numpy as np

from ..estimators.state import warn_of
from ..parameters import MixtureLike
from ..results.bridge_result import MixtureBridge
from .mixture_transport import checked_transport


def mixture_bridge(
    a: MixtureLike, b: MixtureLike, *, epsilon: float, reg: float = 0.0
) -> MixtureBridge:
    """A diffusion that carries one Gaussian mixture to another: Schrödinger bridges by pairs.

    The plan of `mixture_transport` says how much mass goes from component to component, and each
    pair of components has the Schrödinger bridge between two Gaussians, which has a closed form
    [1]_. Together they make a process dX = u(t, X) dt + ε dW whose law is a known Gaussian mixture
    at every time, and whose drift u is the mean over pairs of theirs [2]_.

    Parameters
    ----------
    a, b : estimator, MixtureParameters or tuple
        Source and target, as for `mixture_transport`.
    epsilon : float
        ε ≥ 0, the standard deviation of the noise in a unit of time, in the units of the data. At
        zero each pair follows the geodesic of optimal transport, and the mixture at time t is that
        of `MixtureTransport.interpolate`. There is no default: it has a scale, that of the data.
    reg : float, default=0.0
        Weight of the entropy of the plan, as for `mixture_transport`. Zero: the plan is exact.

    Returns
    -------
    bridge : MixtureBridge
        With the methods ``interpolate``, ``log_density``, ``drift`` and ``sample_paths``.

    Raises
    ------
    ValueError
        If a mixture is not fitted or not valid, the numbers of features differ, or ``epsilon`` or
        ``reg`` is not a number in its range.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal.

    Notes
    -----
    Between two mixtures the process is not the Schrödinger bridge itself, which has no closed
    form: its ends and its noise are the same, its energy is larger. It is exact for single
    Gaussians. [2]_ takes the plan of least energy of the bridges, where the cost of a pair depends
    on ε; the plan here is that of MW2, the limit for small ε.

    References
    ----------
    .. [1] Bunne, C., Hsieh, Y.-P., Cuturi, M., Krause, A., "The Schrödinger bridge between
       Gaussian measures has a closed form", AISTATS 2023.
    .. [2] Rapakoulias, G., Pedram, A. R., Liu, F., Zhu, L., Tsiotras, P., "Go with the flow: fast
       diffusion for Gaussian mixture models", arXiv:2412.09059, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import mixture_bridge
    >>> a = ([0.5, 0.5], [[0.0], [8.0]], [1.0, 1.0])
    >>> b = ([0.25, 0.75], [[0.0], [8.0]], [1.0, 1.0])
    >>> bridge = mixture_bridge(a, b, epsilon=0.3)
    >>> weights, means, _ = bridge.interpolate(0.5)
    >>> weights, means.ravel()
    (array([0.25, 0.25, 0.5 ]), array([0., 4., 8.]))
    >>> X = np.repeat([[0.0], [8.0]], 500, axis=0) + np.random.default_rng(0).normal(size=(1000, 1))
    >>> ends = bridge.sample_paths(X, random_state=0)[-1]
    >>> float((ends > 4).mean().round(1))
    0.7
    """
    if not isinstance(epsilon, Real) or isinstance(epsilon, bool) or not 0 <= epsilon < np.inf:
        raise ValueError(f"epsilon must be a finite number, zero or positive; got {epsilon!r}.")
    transport, complaints = checked_transport(a, b, reg, None)
    warn_of(complaints)
    return MixtureBridge(transport, float(epsilon))
