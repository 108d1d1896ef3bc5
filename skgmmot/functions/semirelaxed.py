"""EM as entropic optimal transport, from the samples to the components of a mixture.

With row sums a_i = s_i / Σ s, costs C_ik = -log g_k(x_i) and KL(P | Q) = Σ P log (P / Q) for plans
of equal mass, the semi-relaxed entropic transport holds the row sums and leaves the columns free:

    value = min over P ≥ 0, P 1 = a   of   ⟨P, C⟩ + ε KL(P | a ⊗ w)
          = -ε Σ_i a_i log Σ_k w_k g_k(x_i)^(1/ε),    P_ik = a_i γ_ik,  γ_ik ∝ w_k g_k(x_i)^(1/ε).

At ε = 1 the value is minus the mean log-likelihood, and P holds the responsibilities (Vayer and
Lasalle 2025). Lowering the same expression over P, then the weights, then the Gaussians, each with
the others held, is EM (`block_coordinate_descent`).
"""

from dataclasses import replace
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_parameters, as_real, checked_weights
from ..em.densities import log_density, responsibilities
from ..em.e_steps import SOFTMAX
from ..em.em_map import EMMap
from ..estimators.input_rows import row_weights
from ..families import FULL, family_of
from ..numerics.threads import effective_n_threads
from ..parameters import FloatArray, MixtureLike, MixtureParameters
from ..reprs import count, html_repr, short_repr
from ..samples.device_arrays import device_of, module_of, on_host
from ..transport.plans import divergence
from .validation import as_rows


class SemirelaxedTransport:
    """Result of `semirelaxed_transport`.

    Attributes
    ----------
    value : float
        ⟨P, C⟩ + ε KL(P | a ⊗ w) at the optimal plan, with the costs C_ik = -log g_k(x_i).
    epsilon : float
    row_sums : ndarray of shape (n_samples,)
        a, the sample weights divided by their sum. Where X is an array of CuPy, so are these and
        the plan.
    column_sums : ndarray of shape (n_components,)
        Of the optimal plan: the weights after the next M-step. No plan is stored for them.
    plan : ndarray of shape (n_samples, n_components)
        P, computed when it is asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import semirelaxed_transport
    >>> X = np.array([[0.0], [1.0], [4.0]])
    >>> transport = semirelaxed_transport(X, ([0.5, 0.5], [[0.0], [4.0]], [[[1.0]], [[1.0]]]))
    >>> transport.plan.sum(axis=1)
    array([0.33333333, 0.33333333, 0.33333333])
    """

    value: float
    epsilon: float
    row_sums: FloatArray

    def __init__(self, em_map, theta):
        self.epsilon = em_map.temperature
        X, weight = em_map.samples.rows()
        with device_of(X):
            weight = module_of(X).ones(len(X)) if weight is None else weight
            self.row_sums = weight / weight.sum()
            here = self.row_sums > 0  # elsewhere the log density may be infinite
            values = log_density(em_map, theta)[here]
            self.value = -self.epsilon * float(self.row_sums[here] @ values)
        self._map, self._theta = em_map, theta

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        return (
            f"{count(len(self.row_sums), 'sample')} to "
            f"{count(self._theta.n_components, 'component')}, "
            f"value {self.value:.6g}, epsilon {self.epsilon:.6g}"
        )

    @property
    def plan(self) -> FloatArray:
        """The optimal plan P, row sums times responsibilities."""
        with device_of(self.row_sums):
            return self.row_sums[:, None] * responsibilities(self._map, self._theta)

    @property
    def column_sums(self) -> FloatArray:
        """The column sums of the optimal plan, of which only blocks are computed at a time."""
        with device_of(self.row_sums):
            return sum(
                on_host(
                    self.row_sums[part] @ responsibilities(self._map.of_samples(chunk), self._theta)
                )
                for part, chunk in self._map.samples.chunks()
            )


def semirelaxed_transport(
    X: ArrayLike,
    mixture: MixtureLike,
    *,
    epsilon: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> SemirelaxedTransport:
    """Semi-relaxed entropic transport from samples to the components of a mixture.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        It may be on a CUDA device, where it stays.
    mixture : fitted estimator, MixtureParameters or tuple (weights, means, covariances)
        Its covariances positive definite.
    epsilon : float, default=1.0
        ε > 0. At one, the default, the value is minus the mean log-likelihood of the samples.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples; None: all equal.

    Returns
    -------
    transport : SemirelaxedTransport
        Its ``value``, and ``plan`` and ``column_sums`` on demand.

    Raises
    ------
    ValueError
        If the samples, the mixture or ε cannot be used.

    References
    ----------
    T. Vayer, E. Lasalle. A note on the relations between mixture models, maximum-likelihood and
    entropic optimal transport. arXiv:2501.12005, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture, semirelaxed_transport
    >>> X = load_iris().data
    >>> mixture = DifferentiableGaussianMixture(3, random_state=0).fit(X)
    >>> transport = semirelaxed_transport(X, mixture)
    >>> bool(abs(transport.value + mixture.score(X)) < 1e-12)
    True
    """
    em_map, theta = problem_of(X, mixture, epsilon, sample_weight, SOFTMAX)
    return SemirelaxedTransport(em_map, theta)


def problem_of(X, mixture, epsilon, sample_weight, e_step):
    """The checked input, as an EM map and its parameters."""
    X = as_rows(X, order="C", input_name="X", or_device=True)
    theta = as_parameters(mixture, "mixture")
    theta = replace(theta, weights=theta.weights / theta.weights.sum())
    if X.shape[1] != theta.n_features:
        raise ValueError(f"X has {X.shape[1]} features, but the mixture has {theta.n_features}.")
    if not isinstance(epsilon, Real) or not 0 < epsilon < np.inf:
        raise ValueError(f"epsilon must be positive and finite; got {epsilon!r}.")
    em_map = EMMap.on(
        X,
        row_weights(sample_weight, X)[0],
        covariance_type=theta.covariance_type,
        temperature=epsilon,
        e_step=e_step,
        n_threads=effective_n_threads(),
    )
    return em_map, theta


class BlockCoordinateStep(NamedTuple):
    """One round of `block_coordinate_descent`, and the objective after each of its blocks.

    plan : ndarray of shape (n_samples, n_components)
    parameters : MixtureParameters
    after_plan, after_weights, after_gaussians : float
    """

    plan: FloatArray
    parameters: MixtureParameters
    after_plan: float
    after_weights: float
    after_gaussians: float

    def __repr__(self):
        return short_repr(self)

    def _repr_html_(self):
        return html_repr(self)

    def _summary(self):
        n_samples, n_components = self.plan.shape
        return (
            f"{count(n_samples, 'sample')} to {count(n_components, 'component')}, "
            f"objective {self.after_gaussians:.6g}"
        )


def block_coordinate_descent(
    X: ArrayLike,
    mixture: MixtureLike,
    *,
    n_steps: int,
    epsilon: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> list[BlockCoordinateStep]:
    """Lower ⟨P, C⟩ + ε KL(P | a ⊗ w) over the plan, the weights and the Gaussians in turn.

    A reference to read, and to test EM against: it stores the plan, and its steps are those of
    `skgmmot.DifferentiableGaussianMixture` without ``reg_covar``.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    mixture : fitted estimator, MixtureParameters or tuple (weights, means, covariances)
        Where to start.
    n_steps : int
        Number of rounds.
    epsilon : float, default=1.0
        ε > 0.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weights of the samples; None: all equal.

    Returns
    -------
    steps : list of BlockCoordinateStep
        One for each round.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot.entropic import block_coordinate_descent
    >>> X = np.array([[0.0], [1.0], [4.0], [5.0]])
    >>> start = ([0.5, 0.5], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
    >>> steps = block_coordinate_descent(X, start, n_steps=2)
    >>> values = [v for s in steps for v in (s.after_plan, s.after_weights, s.after_gaussians)]
    >>> bool(np.all(np.diff(values) <= 0))
    True
    """
    X = as_real(X, "X")
    theta = as_parameters(mixture, "mixture")
    s = np.ones(len(X)) if sample_weight is None else checked_weights(sample_weight, X)
    a = s / s.sum()
    if not theta.weights.all():
        raise ValueError("mixture: every weight must be positive; leave empty components out.")
    steps = []
    for _ in range(n_steps):
        costs = _costs(X, theta)
        # the plan: a softmax in each row
        scores = np.log(theta.weights) - costs / epsilon
        scores = scores - scores.max(axis=1, keepdims=True)
        plan = np.exp(scores)
        plan *= a[:, None] / plan.sum(axis=1, keepdims=True)
        after_plan = _objective(plan, costs, a, theta.weights, epsilon)
        # the weights: KL(P | a ⊗ w) is least at the column sums of P
        weights = plan.sum(axis=0)
        after_weights = _objective(plan, costs, a, weights, epsilon)
        # the Gaussians: ⟨P, C⟩ is least at the moments of the samples that P gives to each
        means = plan.T @ X / weights[:, None]
        Z = X[:, None] - means
        scatter = np.einsum("ik,ika,ikb->kab", plan, Z, Z)
        theta = MixtureParameters(
            weights,
            means,
            _covariances(scatter, weights, family_of(theta)),
            theta.covariance_type,
        )
        after_gaussians = _objective(plan, _costs(X, theta), a, weights, epsilon)
        steps.append(BlockCoordinateStep(plan, theta, after_plan, after_weights, after_gaussians))
    return steps


def _costs(X, theta):
    """C_ik = -log g_k(x_i)."""
    n_components, n_features = theta.means.shape
    matrices = family_of(theta).matrices(theta.covariances, n_components, n_features)
    factors, _, log_det = FULL.precisions(np.array(matrices), n_features)
    standardized = np.einsum("ika,kab->ikb", X[:, None] - theta.means, factors)
    constant = 0.5 * n_features * np.log(2 * np.pi) - log_det
    return 0.5 * (standardized * standardized).sum(axis=2) + constant


def _objective(plan, costs, a, weights, epsilon):
    """⟨P, C⟩ + ε KL(P | a ⊗ w)."""
    return float(np.vdot(plan, costs)) + epsilon * divergence(plan, a[:, None] * weights)


def _covariances(scatter, weights, family):
    """Covariances of a type that are closest to the scatter matrices Σ_i P_ik z z ᵀ."""
    if family.is_shared:
        return family.pull(scatter)
    n_features = scatter.shape[1]
    return family.pull(scatter / weights[:, None, None]) / family.multiplicity(n_features)
