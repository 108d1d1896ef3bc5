"""The EM map F, one step θ' = F(θ, X), and its derivative.

    θ ──natural──▶ η ──statistics──▶ S ──maximize──▶ θ'

The first and the last arrow have the size of the mixture (`skgmmot.families`), the middle one
passes over the data (`skgmmot.samples`). With A(η) = Σ_i s_i log Σ_k exp⟨η_k, φ(x_i)⟩, the
log-likelihood, S = ∂A/∂η.

The temperature ε makes the E-step's responsibilities γ_ik ∝ w_k g_k(x_i)^(1/ε). They are the plan
of the semi-relaxed entropic transport (`skgmmot.entropic`) whose value an EM step lowers.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from ..families import FAMILIES
from ..families.base import Family, lost_components
from ..families.covariances import Precisions
from ..families.fisher import FisherCoordinates, scaled_change
from ..parameters import MixtureParameters
from ..samples import samples_of
from ..samples.interface import Logits
from .data import Data
from .densities import HOT, log_density
from .e_steps import SOFTMAX, Balance, Softmax
from .ways import LARGEST_CANCELLATION, feature_sizes, is_faster_centered

# Colder than this is as cold as this: assignments are hard, and no logit overflows.
_COLDEST = 1e-100


class EMStep(NamedTuple):
    """One EM step from θ, with what its derivative needs.

    It does not hold the data, so that a fit can keep its path and let go of them: derivatives are
    those of the map, `EMMap.jvp` and `EMMap.vjp`.

    theta : MixtureParameters, θ
    precisions : Precisions of θ
    parameters : MixtureParameters, F(θ, X)
    lower_bound : float, the mean log-likelihood of the data at θ; at a temperature ε the negative
        free energy, ε times the mean of log Σ_k w_k g_k^(1/ε); and with masses held at the weights
        minus the value of the balanced transport
    mass : ndarray of shape (n_components,), N_k = Σ_i s_i γ_ik at θ
    logits : Logits of θ
    origin : ndarray of shape (n_components, n_features) or (1, n_features), the points about
        which derivatives take the statistics
    balance : Balance of the masses, or None where they are free
    """

    theta: MixtureParameters
    precisions: Precisions
    parameters: MixtureParameters
    lower_bound: float
    mass: np.ndarray
    logits: Logits
    origin: np.ndarray
    balance: Balance | None = None

    @property
    def nbytes(self):
        """Memory that a kept step takes."""
        arrays = (*self.parameters, *self.precisions, self.logits.coefficients)
        arrays = (*arrays, self.logits.factors, self.origin)
        return sum(array.nbytes for array in arrays)

    @property
    def lost(self):
        """Which components have lost all their mass, or None."""
        return lost_components(self.mass)


@dataclass(frozen=True, eq=False)
class EMMap:
    """F, for data and options that stay the same from step to step.

    Parameters
    ----------
    data : Data
    family : Family
        The covariance type.
    e_step : Softmax or another E-step
    temperature : float, ε
    reg_covar : float
        Added to the diagonal of covariances.
    fixed_weights : bool
        Whether the M-step leaves the weights alone.
    """

    data: Data
    family: Family
    e_step: Softmax = SOFTMAX
    temperature: float = 1.0
    reg_covar: float = 0.0
    fixed_weights: bool = False

    def __post_init__(self):
        object.__setattr__(self, "temperature", max(float(self.temperature), _COLDEST))
        object.__setattr__(self, "fixed_weights", self.fixed_weights or self.e_step.holds_weights)

    @classmethod
    def on(cls, X, sample_weight=None, *, covariance_type, n_threads=1, **options):
        """The map of an array, with all its rows: ``options`` are those of the class."""
        samples = samples_of(X, sample_weight, n_threads, with_zeros=True)
        return cls.of(samples, covariance_type, **options)

    @classmethod
    def of(cls, samples, covariance_type, **options):
        """The map of `Samples`: ``options`` are those of the class."""
        return cls(Data(samples), FAMILIES[covariance_type], **options)

    @property
    def samples(self):
        """The data's `Samples`."""
        return self.data.samples

    def of_samples(self, samples):
        """The same map of other samples."""
        return replace(self, data=Data(samples))

    def at(self, temperature):
        """The same map at another temperature."""
        return replace(self, temperature=temperature)

    def precisions(self, theta):
        """`Precisions` of θ."""
        return self.family.precisions(theta.covariances, theta.n_features)

    def logits(self, theta, precisions=None):
        """Logits of θ, for each component in the matrix way if it is accurate on these data.

        The centered way is accurate always, so it is taken also where it is the faster one.
        """
        precisions = precisions or self.precisions(theta)
        if is_faster_centered(self.family.features(theta.n_features)):
            return self.natural(theta, precisions, None)
        logits = self.natural(theta, precisions, self.data.center)
        apart = self.family.outweighed(
            logits,
            self._feature_reach,
            theta,
            precisions.inverses,
            self.data.summary.reach,
            LARGEST_CANCELLATION,
        )
        return logits if apart is None else self._with_apart(theta, precisions, apart)

    def _with_apart(self, theta, precisions, apart):
        """Logits of θ with some components (a mask) in the centered way."""
        if apart.all() or self.family.is_shared:
            return self.natural(theta, precisions, None)
        return self.natural(theta, precisions, self.data.center, apart=np.flatnonzero(apart))

    @cached_property
    def _feature_reach(self):
        return feature_sizes(self.family.features(self.samples.shape[1]), self.data.summary.reach)

    def natural(self, theta, precisions, reference, apart=None):
        """Logits of θ about a reference point, but for some components, or about the means."""
        return self.family.natural(
            theta, reference, apart=apart, temperature=self.temperature, precisions=precisions
        )

    def step(self, theta):
        """One EM step.

        Parameters
        ----------
        theta : MixtureParameters

        Returns
        -------
        step : EMStep
        """
        precisions = self.precisions(theta)
        plain = self.logits(theta, precisions)
        logits, balance = self.e_step.logits(self, theta, plain, precisions)
        step = self._step(theta, precisions, logits, logits.reference)
        closer = self._closer(theta, precisions, logits, step.parameters)
        if closer is not None:
            # take them about the means that are known now
            logits = closer if balance is None else closer.shifted(balance.potentials)
            step = self._step(theta, precisions, logits, _origin(logits, step.parameters))
        if len(logits.apart):
            # a derivative needs no statistics: it may as well take them about the new means
            step = step._replace(origin=_origin(logits, step.parameters))
        if self.temperature > HOT:
            step = step._replace(lower_bound=self._hot_lower_bound(theta, balance))
        if balance is not None:
            dual = step.lower_bound - self.temperature * (theta.weights @ balance.potentials)
            step = step._replace(lower_bound=dual, balance=balance)
        return step

    def _closer(self, theta, precisions, logits, updated):
        """Logits with more components about their means, where they should be; else None.

        That is, for those which an update takes so far from their reference points that squares
        about these cancel.
        """
        apart = self.family.beyond(updated, logits.reference, LARGEST_CANCELLATION)
        if apart is None:
            return None
        apart[logits.apart] = True
        return self._with_apart(theta, precisions, apart)

    def known_step(self, theta, updated, mass, lower_bound):
        """An `EMStep` from θ to an update that is known, as from parts of the data."""
        precisions = self.precisions(theta)
        logits = self.logits(theta, precisions)
        logits = self._closer(theta, precisions, logits, updated) or logits
        origin = _origin(logits, updated)
        return EMStep(theta, precisions, updated, lower_bound, mass, logits, origin)

    def _step(self, theta, precisions, logits, origin):
        """The step with statistics about ``origin``, by the way that the logits stand for."""
        statistics = self.samples.statistics(logits, origin=origin)
        log_likelihood, common = statistics.log_likelihood, None
        if self.has_common(logits):
            common = self.data.second_moment
            log_likelihood -= 0.5 * (precisions.inverses * common).sum() / self.temperature
        updated = self.family.maximize(
            statistics.sums,
            origin,
            theta,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            second_moment=common,
        )
        lower_bound = self.temperature * log_likelihood / self.data.total_weight
        mass = statistics.sums[:, 0]
        return EMStep(theta, precisions, updated, lower_bound, mass, logits, origin)

    def has_common(self, logits):
        """Whether the logits lack a quadratic part that all components share."""
        return self.family.is_shared and not logits.is_centered

    # The derivative of a step from θ to θ' with masses N: the chain of the three arrows. Given
    # (θ', N) the M-step's derivative needs no statistics, so a pull-back is a single pass.

    def jvp(self, step, theta_dot=None, data_dot=None):
        """Tangent of F(θ, X) when θ, the data and the sample weights move.

        Parameters
        ----------
        step : EMStep
        theta_dot : MixtureParameters or None
        data_dot : DataTangent or None

        Returns
        -------
        tangent : MixtureParameters
        """
        eta_dot, weights_dot = 0.0, None
        if theta_dot is not None:
            weights_dot = theta_dot.weights
            eta_dot = self.family.natural_jvp(
                step.theta,
                step.logits,
                theta_dot,
                temperature=self.temperature,
                precisions=step.precisions,
            )
        sums_dot = self.e_step.statistics_jvp(self, step, eta_dot, weights_dot, data_dot)
        common_dot = None
        if self.has_common(step.logits):
            common_dot = self.data.second_moment_jvp(data_dot)
        tangent = self.family.maximize_jvp(
            step.parameters,
            step.mass,
            step.origin,
            sums_dot,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            second_moment_dot=common_dot,
        )
        return tangent if theta_dot is None else self._with_kept(step, tangent, theta_dot)

    def vjp(self, step, cotangent, data_bar=None, *, wrt_theta=True):
        """Pull a cotangent of F(θ, X) back to θ, and to the data and the sample weights.

        With U the cotangent of the statistics, u_ik = ⟨U_k, φ_i⟩, ū_i = Σ_k γ_ik u_ik and
        b_ik = γ_ik (u_ik - ū_i),

            η̄_k = Σ_i s_i b_ik φ_i,   x̄_i = s_i J_φ(x_i)ᵀ Σ_k (γ_ik U_k + b_ik η_k),   s̄_i = ū_i.

        Parameters
        ----------
        step : EMStep
        cotangent : MixtureParameters
            Of F(θ, X); its covariances symmetric.
        data_bar : DataCotangent, default=None
            What the data receive is added to this; `finish` completes it.
        wrt_theta : bool, default=True
            Whether the cotangent of θ is wanted.

        Returns
        -------
        theta_bar : MixtureParameters or None
        """
        sums_bar, moment_bar = self.family.maximize_vjp(
            step.parameters,
            step.mass,
            step.origin,
            cotangent,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            has_quadratic=not self.has_common(step.logits),
        )
        if data_bar is not None and moment_bar is not None:
            data_bar.second_moment = data_bar.second_moment + moment_bar
        sums_bar, weights_bar = self.e_step.pulled(self, step, sums_bar, data_bar)
        eta_bar = self.samples.statistics_vjp(
            step.logits, sums_bar, origin=step.origin, wrt_logits=wrt_theta, data_bar=data_bar
        )
        if not wrt_theta:
            return None
        theta_bar = self.family.natural_vjp(
            step.theta,
            step.logits,
            eta_bar,
            temperature=self.temperature,
            precisions=step.precisions,
        )
        theta_bar = replace(theta_bar, weights=theta_bar.weights + weights_bar)
        return self._with_kept(step, theta_bar, cotangent)

    def _with_kept(self, step, moved, original):
        """Add the identity: fixed weights, and the means and covariances of lost components."""
        lost = step.lost
        if self.fixed_weights:
            moved = replace(moved, weights=moved.weights + original.weights)
        if lost is not None:
            moved.means[lost] += original.means[lost]
            if not self.family.is_shared:
                moved.covariances[lost] += original.covariances[lost]
        return moved

    def zero_cotangent(self, *, wrt_weight=False):
        """A `DataCotangent` to add up in."""
        return self.samples.zero_cotangent(wrt_weight=wrt_weight)

    def finish(self, data_bar):
        """Pull the second moment's cotangent back, and return ``data_bar``."""
        if np.any(data_bar.second_moment):
            self.data.second_moment_vjp(data_bar.second_moment, data_bar)
            data_bar.second_moment = 0.0
        return data_bar

    def _hot_lower_bound(self, theta, balance):
        potentials = None if balance is None else balance.potentials
        question = partial(
            _total_log_density, replace(self, data=None), theta=theta, potentials=potentials
        )
        return self.temperature * self.samples.total(question) / self.data.total_weight

    def residual(self, step, enough=np.inf):
        """Scaled size of F(θ) - θ, or what is ``enough`` of it (`scaled_change`)."""
        return scaled_change(
            step.parameters,
            step.theta,
            family=self.family,
            precisions=step.precisions,
            enough=enough,
        )

    def coordinates(self, step):
        """`FisherCoordinates` at θ."""
        return FisherCoordinates(
            step.theta,
            step.mass,
            self.fixed_weights,
            self.temperature,
            family=self.family,
            precisions=step.precisions,
        )


def _total_log_density(em_map, samples, *, theta, potentials):
    """Σ_i s_i log Σ_k w_k e^{ψ_k} g_k(x_i)^(1/ε) over samples in memory."""
    values, weight = log_density(em_map.of_samples(samples), theta, potentials), samples.rows()[1]
    return float((values if weight is None else values * weight).sum())


def _origin(logits, theta):
    """The logits' reference points, with those of components that are apart at the means of θ."""
    origin = logits.reference.copy()
    origin[logits.apart] = theta.means[logits.apart]
    return origin
