"""The objective of a coupled fit, and its gradient.

Two clouds of points are fitted by two mixtures θ and θ', with weights w and w', that are held
close to each other:

    J(θ, θ', P) = ℓ(θ) + ℓ'(θ') − τ ⟨P, C(θ, θ')⟩,        P ≥ 0,  P1 = w,  Pᵀ1 = w'.

ℓ and ℓ' are mean log-likelihoods, C_kl is the squared W2 distance of two components and τ the
transport weight. The plan P is a variable like the others. It carries both weights, so that the
penalty is linear in it and the likelihoods concave; the largest J over P for given θ and θ' has
τ MW2² in it. Taking derivatives of MW2² in the weights instead would meet its kinks.

One pass over a cloud, an EM step, gives shares s_k (the mean responsibilities), means m̂_k and
covariances Ŝ_k, and these give the gradient (Fisher's identity). With Σ = L Lᵀ and the whitening
W = L⁻¹,

    ∂ℓ/∂w_k = s_k / w_k
    ∂ℓ/∂m_k = s_k Wᵀ δ,                    δ = W (m̂_k − m_k)
    ∂ℓ/∂L_k = s_k Wᵀ (W Ŝ_k Wᵀ + δ δᵀ − I)

and, with the rotations R_kl that bring factors closest to each other (`transport.bures`),

    C_kl = ‖m_k − m'_l‖² + ‖D_kl‖²,        D_kl = L_k − L'_l R_kl
    ∂C_kl/∂m_k = 2 (m_k − m'_l),    ∂C_kl/∂L_k = 2 D_kl,    ∂C_kl/∂L'_l = −2 D_kl R_klᵀ.

An entropic plan is a variable too. With its marginals as the weights, the derivative of
ε KL(P | w ⊗ w') is ε log(P_kl / (w_k w'_l)), up to a constant.

Unbalanced transport is smooth in the weights. There, and where the weights are fixed or τ = 0, the
plan is not a variable: it is solved for at every step, and by the envelope theorem only the value V
needs a gradient, ∂V/∂w from the potentials and ∂V/∂C = P.

Diagonal and spherical covariances have standard deviations in the place of L, and R = I.

An EM step adds ``reg_covar`` · I to Ŝ_k. Here that is the M-step of a likelihood, so that a
sweep has something to increase: of the densities w_k g_k(x) exp(−½ reg_covar tr Σ_k⁻¹), which is
the mean of log g_k over a cloud about x of covariance reg_covar · I. The components' weights
carry the last factor into the E-step.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..em.em_map import EMMap
from ..families import family_of
from ..families.base import Family
from ..parameters import MixtureParameters
from ..transport.bures import nearest_rotations
from ..transport.plans import BALANCED, mass_gradient, optimal_plan, plan_value

# A component of weight zero is looked at with this weight, which tells what one would gain by
# giving it some.
_LEAST_WEIGHT = 1e-12
_TINY = np.finfo(float).tiny


class OutOfDomainError(ValueError):
    """The objective has no value: squared distances overflow, or a frozen mass went missing."""


class CouplingProblem(NamedTuple):
    """What stays the same from sweep to sweep.

    source, target : EMMap
        Of the same covariance type; their weights are never fixed.
    transport_weight : float, τ
    reg : float, weight of the entropy of the plan
    penalties : tuple of two floats, weights of the penalties of its marginals, inf: constraints
    fixed_weights : bool
    freeze_target : bool
    """

    source: EMMap
    target: EMMap
    transport_weight: float
    reg: float = 0.0
    penalties: tuple = BALANCED
    fixed_weights: bool = False
    freeze_target: bool = False

    @property
    def clouds(self):
        return self.source, self.target

    @property
    def family(self) -> Family:
        return self.source.family

    @property
    def reg_is_likelihood(self):
        """Whether ``reg_covar`` acts on the E-step too. Independent fits are those of EM."""
        return self.transport_weight > 0 and self.source.reg_covar > 0

    @property
    def plan_is_free(self):
        """Whether the plan is a variable, which then carries the weights.

        Where transport costs nothing any plan is as good, and none should tie the weights.
        """
        balanced = self.penalties == BALANCED and not self.fixed_weights
        return balanced and self.transport_weight > 0


class CoupledState(NamedTuple):
    """Two mixtures and the plan between them.

    weights : tuple of ndarray of shape (K,) and ndarray of shape (L,)
    means : ndarray of shape (K + L, n_features), those of the source first
    factors : ndarray of shape (K + L, n_features, n_features), Cholesky factors, or
        (K + L, n_features), standard deviations, for diag and spherical
    plan : ndarray of shape (K, L)
    potentials : tuple of two ndarrays, or None
        Where the plan is solved for, those of a solution nearby.
    """

    weights: tuple
    means: np.ndarray
    factors: np.ndarray
    plan: np.ndarray
    potentials: tuple | None = None


class Terms(NamedTuple):
    """J = ℓ + ℓ' − τ V, and what it is made of.

    objective : float, J
    source, target : float, ℓ and ℓ'
    transport : float, V
    """

    objective: float
    source: float
    target: float
    transport: float


class Statistics(NamedTuple):
    """What one pass over the clouds tells.

    steps : tuple of two EMStep, from where it was made; with tempered weights
    likelihoods : tuple of two floats, ℓ and ℓ'
    shares, means, covariances : ndarray, s, m̂ and Ŝ of all components, those of the source first
    """

    steps: tuple
    likelihoods: tuple
    shares: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


class Evaluation(NamedTuple):
    """J at a state, and its gradient.

    state : CoupledState
        With the plan that was solved for, if it is no variable.
    terms : Terms, J and its parts
    shares : ndarray of shape (K + L,), s of both mixtures
    costs : ndarray of shape (K, L)
    weights_bar : tuple of two ndarrays, gradient where the plan is solved for
    plan_bar : ndarray of shape (K, L), gradient where the plan carries the weights
    means_bar, factors_bar : ndarray, as in the state
    """

    state: CoupledState
    terms: Terms
    shares: np.ndarray
    costs: np.ndarray
    weights_bar: tuple
    plan_bar: np.ndarray
    means_bar: np.ndarray
    factors_bar: np.ndarray

    @property
    def objective(self):
        """J."""
        return self.terms.objective


def state_of(source, target, plan):
    """The state of two `MixtureParameters` of one covariance type."""
    factors = [
        family_of(theta).factors(theta.covariances, *theta.means.shape)
        for theta in (source, target)
    ]
    return CoupledState(
        (source.weights, target.weights),
        np.concatenate([source.means, target.means]),
        np.concatenate(factors),
        plan,
    )


def mixtures_of(state, family):
    """The two `MixtureParameters` of a state."""
    n_source = len(state.weights[0])
    parts = slice(None, n_source), slice(n_source, None)
    mixtures = []
    for part, weights in zip(parts, state.weights, strict=True):
        covariances = family.of_factors(state.factors[part])
        mixtures.append(MixtureParameters(weights, state.means[part], covariances, family.name))
    return tuple(mixtures)


def evaluate(problem, state):
    """J and its gradient at a state."""
    return evaluation_of(problem, state, statistics_of(problem, state))


def statistics_of(problem, state):
    """One pass over each cloud."""
    steps, family = [], problem.family
    mixtures = mixtures_of(state, family)
    for cloud, theta in zip(problem.clouds, mixtures, strict=True):
        weights = np.maximum(theta.weights, _LEAST_WEIGHT)
        if problem.reg_is_likelihood:
            traces = family.trace(cloud.precisions(theta).inverses, theta.n_features)
            weights = weights * np.exp(-0.5 * cloud.reg_covar * traces)
        theta = replace(theta, weights=weights)
        steps.append(cloud.step(theta))
    updated = [step.parameters for step in steps]
    return Statistics(
        tuple(steps),
        tuple(float(step.lower_bound) for step in steps),
        np.concatenate([theta.weights for theta in updated]),
        np.concatenate([theta.means for theta in updated]),
        np.concatenate(
            [family.per_component(theta.covariances, *theta.means.shape) for theta in updated]
        ),
    )


def whitened(state, statistics):
    """W, δ and E = W Ŝ Wᵀ + δ δᵀ − I."""
    shift = statistics.means - state.means
    if state.factors.ndim == 2:
        whitening = 1.0 / state.factors
        shift = whitening * shift
        return whitening, shift, whitening**2 * statistics.covariances + shift * shift - 1.0
    whitening = np.linalg.inv(state.factors)
    shift = (whitening @ shift[:, :, None])[:, :, 0]
    excess = whitening @ statistics.covariances @ np.swapaxes(whitening, 1, 2)
    excess += shift[:, :, None] * shift[:, None, :]
    excess.reshape(len(excess), -1)[:, :: shift.shape[1] + 1] -= 1.0
    return whitening, shift, excess


def evaluation_of(problem, state, statistics):
    """J and its gradient from the statistics; the part of the size of the mixtures."""
    tau, shares = problem.transport_weight, statistics.shares
    whitening, shift, excess = whitened(state, statistics)
    if state.factors.ndim == 3:
        transposed = np.swapaxes(whitening, 1, 2)
        means_bar = (transposed @ shift[:, :, None])[:, :, 0] * shares[:, None]
        factors_bar = transposed @ (excess * shares[:, None, None])
    else:
        means_bar = whitening * shift * shares[:, None]
        factors_bar = whitening * (excess * shares[:, None])

    costs, mean_gaps, factor_gaps, target_gaps = _costs_and_gaps(state)
    n_source = len(state.plan)
    ratios = shares / np.maximum(np.concatenate(state.weights), _LEAST_WEIGHT)
    ratios = ratios[:n_source], ratios[n_source:]
    plan_bar = ratios[0][:, None] + ratios[1] - tau * costs
    if problem.plan_is_free:
        value = plan_value(state.plan, *state.weights, costs, problem.reg)
        if problem.reg > 0:
            plan_bar = plan_bar - tau * problem.reg * _surprise(state)
    else:
        solved = solve_plan(problem, state.weights, costs, state.potentials)
        value = solved.value
        state = state._replace(plan=solved.plan, potentials=solved.potentials)
        ratios = tuple(
            ratio - tau * mass_gradient(potential, problem.reg, penalty)
            for ratio, potential, penalty in zip(
                ratios, solved.potentials, problem.penalties, strict=True
            )
        )
    plan = state.plan
    objective = sum(statistics.likelihoods) - tau * value
    flow = 2.0 * tau * plan
    means_bar[:n_source] -= np.einsum("kl,kla->ka", flow, mean_gaps)
    means_bar[n_source:] += np.einsum("kl,kla->la", flow, mean_gaps)
    factors_bar[:n_source] -= np.einsum("kl,kl...->k...", flow, factor_gaps)
    factors_bar[n_source:] += np.einsum("kl,kl...->l...", flow, target_gaps)
    return Evaluation(
        state,
        Terms(float(objective), *statistics.likelihoods, float(value)),
        shares,
        costs,
        ratios,
        plan_bar,
        means_bar,
        factors_bar,
    )


def starting_state(problem, source, target):
    """The state of two `MixtureParameters`, with the best plan between them."""
    source, target = (_normalized(theta) for theta in (source, target))
    state = state_of(source, target, np.zeros((source.n_components, target.n_components)))
    costs = _costs_and_gaps(state)[0]
    solved = solve_plan(problem, state.weights, costs)
    return state._replace(plan=solved.plan, potentials=solved.potentials)


def _normalized(theta):
    """In float64, with weights that sum to one in it."""
    weights, means, covariances = (np.asarray(part, dtype=np.float64) for part in theta)
    return MixtureParameters(weights / weights.sum(), means, covariances, theta.covariance_type)


def _surprise(state):
    """log(P_kl / (w_k w'_l)), finite where something is zero."""
    plan, w, v = (np.log(np.maximum(part, _TINY)) for part in (state.plan, *state.weights))
    return plan - w[:, None] - v


def solve_plan(problem, weights, costs, near=None):
    """The optimal plan of the problem's variant. What it complains of counts only after the fit."""
    return optimal_plan(*weights, costs, problem.reg, problem.penalties, near)


def _costs_and_gaps(state):
    """C, the gaps m_k − m'_l and D_kl, and D_kl R_klᵀ."""
    n_source = len(state.plan)
    mean_gaps = state.means[:n_source, None] - state.means[n_source:]
    factors, target_factors = state.factors[:n_source, None], state.factors[n_source:]
    if state.factors.ndim == 2:
        gaps = target_gaps = factors - target_factors
        squares = (gaps * gaps).sum(axis=-1)
    else:
        rotations = nearest_rotations(factors, target_factors)
        gaps = factors - target_factors @ rotations
        target_gaps = gaps @ np.swapaxes(rotations, -1, -2)
        squares = (gaps * gaps).sum(axis=(-2, -1))
    costs = (mean_gaps * mean_gaps).sum(axis=-1) + squares
    if not costs.max() < np.inf:  # no solver of plans can use them
        raise OutOfDomainError(
            "The squared distances between components of the source and of the target overflow. "
            "Scale the features."
        )
    return costs, mean_gaps, gaps, target_gaps
