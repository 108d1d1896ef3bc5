"""Balanced entropic transport, from the samples to the components of a mixture.

With a, C and w as in `semirelaxed`, balanced transport holds the columns as well as the rows,
P 1 = a and Pᵀ1 = w. Its plan is P_ik = a_i γ_ik with potentials v on top of the log densities,
γ_ik ∝ w_k (e^{v_k} g_k(x_i))^(1/ε), and its value by duality

    value = -ε Σ_i a_i log Σ_k w_k (e^{v_k} g_k(x_i))^(1/ε) + ⟨w, v⟩,

the largest of this over v: never below the semi-relaxed one, which has v = 0, and equal where the
columns of that are w already, as they are at the w that makes it least. `em.e_steps` finds v.
"""

from numpy.typing import ArrayLike

from ..checks import refuse_overflow
from ..em.e_steps import BALANCED, TOLERANCE
from ..estimators.state import warn_of
from ..parameters import FloatArray, MixtureLike
from ..reprs import count, html_repr, short_repr
from ..samples.device_arrays import device_of, module_of
from .semirelaxed import problem_of


class BalancedTransport:
    """Result of `balanced_transport`.

    Attributes
    ----------
    value : float
        ⟨P, C⟩ + ε KL(P | a ⊗ w) at the optimal plan, with the costs C_ik = -log g_k(x_i).
    epsilon : float
    row_sums : ndarray of shape (n_samples,)
        a, the sample weights divided by their sum. Where X is an array of CuPy, so are these and
        the plan.
    column_sums : ndarray of shape (n_components,)
        w, the weights of the mixture.
    potentials : ndarray of shape (n_components,)
        v, with ⟨w, v⟩ = 0: the derivative of ``value`` with respect to the weights.
    marginal_error : float
        The largest error of a column sum of the plan.
    plan : ndarray of shape (n_samples, n_components)
        P, computed when it is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import balanced_transport
    >>> X = np.array([[0.0], [1.0], [4.0]])
    >>> transport = balanced_transport(X, ([0.5, 0.5], [[0.0], [4.0]], [[[1.0]], [[1.0]]]))
    >>> transport.plan.sum(axis=0).round(9)
    array([0.5, 0.5])
    """

    value: float
    epsilon: float
    row_sums: FloatArray
    column_sums: FloatArray
    potentials: FloatArray
    marginal_error: float

    def __init__(self, em_map, theta):
        X, weight = em_map.samples.rows()
        with device_of(X):
            step = em_map.step(theta)
            weight = module_of(X).ones(len(X)) if weight is None else weight
            self.row_sums, self.column_sums = weight / weight.sum(), theta.weights
        self.value, self.epsilon = -step.lower_bound, em_map.temperature
        potentials = self.epsilon * step.balance.potentials
        self.potentials = potentials - theta.weights @ potentials
        self.marginal_error = float(step.balance.error)
        self._samples, self._logits = em_map.samples, step.logits

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        return (
            f"{count(len(self.row_sums), 'sample')} to "
            f"{count(len(self.column_sums), 'component')}, "
            f"value {self.value:.6g}, epsilon {self.epsilon:.6g}"
        )

    @property
    def plan(self) -> FloatArray:
        """The optimal plan P."""
        with device_of(self.row_sums):
            return self.row_sums[:, None] * self._samples.responsibilities(self._logits)


def balanced_transport(
    X: ArrayLike,
    mixture: MixtureLike,
    *,
    epsilon: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> BalancedTransport:
    """Entropic transport from samples to the components of a mixture, with both marginals held.

    It minimizes ⟨P, C⟩ + ε KL(P | a ⊗ w) over plans P whose row sums are the sample weights a and
    whose column sums are the weights w of the mixture, with the costs C_ik = -log g_k(x_i). Its
    plan is what ``e_step="sinkhorn"`` puts in the place of responsibilities (Sinkhorn EM).
    `semirelaxed_transport`, whose plan is the responsibilities, leaves the column sums free.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        It may be on a CUDA device, where it stays.
    mixture : fitted estimator, MixtureParameters or tuple (weights, means, covariances)
        Its covariances positive definite.
    epsilon : float, default=1.0
        ε > 0. At one, the default, costs and entropy have the weights that they have in a
        log-likelihood.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples; None: all equal.

    Returns
    -------
    transport : BalancedTransport
        Its ``value``, ``potentials`` and ``marginal_error``, and ``plan`` on demand.

    Raises
    ------
    ValueError
        If the samples, the mixture or ε cannot be used.

    Warns
    -----
    ConvergenceWarning
        If column sums of the plan miss the weights by more than 1e-10, which may be where ε is
        far below the differences of the costs.

    References
    ----------
    T. Vayer, E. Lasalle. A note on the relations between mixture models, maximum-likelihood and
    entropic optimal transport. arXiv:2501.12005, 2025. G. Mena, A. Nejatbakhsh, E. Varol, J.
    Niles-Weed. Sinkhorn EM: an expectation-maximization algorithm based on entropic optimal
    transport. arXiv:2006.16548, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import balanced_transport, semirelaxed_transport
    >>> X = np.array([[0.0], [1.0], [2.0], [9.0]])
    >>> mixture = [0.5, 0.5], [[0.0], [9.0]], [[[1.0]], [[1.0]]]
    >>> semirelaxed_transport(X, mixture).column_sums.round(2)
    array([0.75, 0.25])
    >>> balanced_transport(X, mixture).plan.round(2)
    array([[0.25, 0.  ],
           [0.25, 0.  ],
           [0.  , 0.25],
           [0.  , 0.25]])
    """
    em_map, theta = problem_of(X, mixture, epsilon, sample_weight, BALANCED)
    refuse_overflow(em_map.data.summary)
    transport = BalancedTransport(em_map, theta)
    if transport.marginal_error > TOLERANCE:
        complaint = (
            f"Column sums of the plan miss the weights by {transport.marginal_error:.3g}. Take a "
            f"larger epsilon (here {epsilon:.3g})."
        )
        warn_of([complaint])
    return transport
