"""EM steps of many small mixtures at once, each on a set of samples of its own, and their VJP.

A mixture of K components on each of S sets is one of S K components as long as no component hears
of another: precisions, natural parameters, means and covariances are those of `families`, all in
one call. What components of a set share is seen to here. With the masses N_k and n = Σ_k N_k,

    w_k = N_k / n,    and if they share a covariance    Σ = Σ_k N_k / n Σ_k,

where the Σ_k are those of a full mixture: tied ones are taken as full ones that are equal. So a
cotangent of (w, Σ) is one of shares N_k / n, w̄_k + ⟨Σ̄, Σ_k⟩, and Σ̄_k = N_k / n Σ̄; and

    N̄_k = (s̄_k - Σ_l N_l / n s̄_l) / n    for cotangents s̄ of shares.
"""

from typing import NamedTuple

import numpy as np

from ..families import FAMILIES, FULL
from ..families.base import LOST_SHARE, lost_components
from ..families.covariances import CollapsedComponentError, Precisions
from ..families.fisher import component_changes
from ..parameters import MixtureParameters
from ..samples.interface import NO_FACTORS, Logits
from ..samples.sets import Points, SampleSets, SetsLogits
from .em_map import EMMap
from .ways import LARGEST_CANCELLATION, is_faster_centered


class SetsStep(NamedTuple):
    """One EM step of the mixtures of some sets.

    theta, parameters : MixtureParameters, θ and F(θ, X), with a first axis for the sets
    flat, precisions : MixtureParameters and Precisions, θ as one mixture of all components
    moved : MixtureParameters, F(θ, X) likewise, before covariances are shared
    lower_bounds : ndarray of shape (n_sets,), mean log-likelihoods at θ
    mass : ndarray of shape (n_sets, n_components)
    logits : SetsLogits
    points : Points
    """

    theta: MixtureParameters
    parameters: MixtureParameters
    flat: MixtureParameters
    precisions: Precisions
    moved: MixtureParameters
    lower_bounds: np.ndarray
    mass: np.ndarray
    logits: SetsLogits
    points: Points

    @property
    def shares(self):
        """N_k / n."""
        return self.mass / self.mass.sum(axis=1, keepdims=True)

    @property
    def lost(self):
        """Which components have lost all their mass."""
        return self.shares <= LOST_SHARE


class SetsMap(NamedTuple):
    """θ' = F(θ, X), of all sets.

    sets : SampleSets
    covariance_type : str
    reg_covar : float
    fixed_weights : bool
    """

    sets: SampleSets
    covariance_type: str
    reg_covar: float
    fixed_weights: bool

    @property
    def family(self):
        """That of the mixture of all components."""
        return FULL if self.is_shared else FAMILIES[self.covariance_type]

    @property
    def is_shared(self):
        """Whether the components of a set share a covariance."""
        return FAMILIES[self.covariance_type].is_shared

    def of(self, chosen):
        """The map of some of the sets."""
        return self._replace(sets=self.sets.of(chosen))

    def alone(self, s):
        """The `EMMap` of one of the sets."""
        X, weight = self.sets.rows(s)
        return EMMap.on(
            X,
            weight,
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
        )

    def flat(self, theta):
        """The mixtures of all sets as one; a covariance that is shared becomes one of each."""
        n_components = theta.weights.shape[1]
        covariances = theta.covariances
        if self.is_shared:
            covariances = np.repeat(covariances, n_components, axis=0)
        else:
            covariances = covariances.reshape(-1, *covariances.shape[2:])
        means = theta.means.reshape(-1, theta.means.shape[2])
        return MixtureParameters(theta.weights.ravel(), means, covariances, self.family.name)

    def stacked(self, flat, n_sets):
        """A mixture of all components as one of each set, whose covariances are not shared yet."""
        parts = (part.reshape(n_sets, -1, *part.shape[1:]) for part in flat)
        return MixtureParameters(*parts, self.covariance_type)

    def collapsed(self, theta):
        """The errors of sets of which a covariance is not positive definite, by their numbers."""
        errors, flat = {}, self.stacked(self.flat(theta), len(theta.weights))
        for s, covariances in enumerate(flat.covariances):
            try:
                self.family.precisions(covariances, flat.means.shape[2])
            except CollapsedComponentError as error:
                errors[s] = error
        return errors

    def step(self, theta):
        """An EM step of every set.

        Raises
        ------
        CollapsedComponentError
            If a covariance is not positive definite; `collapsed` tells of which sets.
        """
        family, flat, shape = self.family, self.flat(theta), theta.means.shape
        precisions = family.precisions(flat.covariances, shape[2])
        logits = self._logits(theta, flat, precisions)
        everybody, is_faster = np.arange(shape[0]), is_faster_centered(logits.features)
        points = Points(np.full(shape[0], is_faster), theta.means.copy())
        sums = np.empty(logits.coefficients.shape)
        log_likelihoods = np.empty(shape[0])
        out = sums, log_likelihoods
        self.sets.fill_statistics(everybody, logits, LARGEST_CANCELLATION, points, *out)
        moved = self._maximized(flat, sums, points)
        marks = family.beyond(moved, points.origins.reshape(-1, shape[2]), LARGEST_CANCELLATION)
        if marks is not None:
            # as in `EMMap.step`: about the means that are known now
            again = np.flatnonzero(marks.reshape(shape[:2]).any(axis=1))
            points.centered[again] = True
            points.origins[again] = self.stacked(moved, shape[0]).means[again]
            self.sets.fill_statistics(again, logits, LARGEST_CANCELLATION, points, *out)
            moved = self._maximized(flat, sums, points)
        mass = sums[:, :, 0]
        parameters = self._shared(theta, moved, mass)
        bounds = log_likelihoods / self.sets.total_weight
        return SetsStep(
            theta, parameters, flat, precisions, moved, bounds, mass.copy(), logits, points
        )

    def _logits(self, theta, flat, precisions):
        n_sets, n_components, n_features = theta.means.shape
        centers = np.repeat(self.sets.centers, n_components, axis=0)
        near = self.family.natural(flat, centers, precisions=precisions)
        apart = self.family.natural(flat, None, precisions=precisions)
        by_set = n_sets, n_components
        return SetsLogits(
            theta.weights,
            theta.means,
            near.coefficients.reshape(*by_set, -1),
            apart.coefficients[:, 0].reshape(by_set),
            apart.factors.reshape(*by_set, -1, n_features),
            near.features,
        )

    def _maximized(self, flat, sums, points):
        """The M-step of all components, whose weights mean nothing yet."""
        origins = points.origins.reshape(flat.means.shape)
        sums = sums.reshape(len(origins), -1)
        options = {"reg_covar": self.reg_covar, "fixed_weights": True}
        return self.family.maximize(sums, origins, flat, **options)

    def _shared(self, theta, moved, mass):
        """Parameters of each set: shares of masses as weights, and covariances that are shared."""
        parameters = self.stacked(moved, len(mass))
        shares = mass / mass.sum(axis=1, keepdims=True)
        covariances = parameters.covariances
        if self.is_shared:
            covariances = np.einsum("sk,skab->sab", shares, covariances)
        weights = theta.weights if self.fixed_weights else shares
        return MixtureParameters(weights, parameters.means, covariances, self.covariance_type)

    def changes(self, step):
        """The scaled change of each set (`families.fisher.scaled_change`)."""
        n_sets, weights = len(step.mass), step.parameters.weights - step.theta.weights
        if self.is_shared:
            step = step._replace(moved=self.flat(step.parameters))
        changes = component_changes(step.moved, step.flat, self.family, step.precisions)
        changes = changes.reshape(n_sets, -1).max(axis=1)
        return np.sqrt(np.maximum(np.abs(weights).max(axis=1) ** 2, changes))

    def vjp(self, step, cotangent, data_bar=None, *, wrt_theta=True):
        """Pull a cotangent of F(θ, X) back to θ, and add that of the data to ``data_bar``.

        Parameters
        ----------
        step : SetsStep
        cotangent : MixtureParameters
            With a first axis for the sets; its covariances symmetric.
        data_bar : DataCotangent, default=None
            Of all rows of the array that the sets are of.
        wrt_theta : bool, default=True
            Whether the cotangent of θ is wanted.

        Returns
        -------
        theta_bar : MixtureParameters or None
        """
        family, mass, shares = self.family, step.mass, step.shares
        (n_sets, n_components, n_features), flat_bar = step.theta.means.shape, self.flat(cotangent)
        shares_bar = np.zeros(mass.shape) if self.fixed_weights else cotangent.weights
        if self.is_shared:
            covariances = self.stacked(step.moved, n_sets).covariances
            gained = np.einsum("sab,skab->sk", cotangent.covariances, covariances)
            shares_bar = shares_bar + gained
            spread = flat_bar.covariances * shares.reshape(-1, 1, 1)
            flat_bar = MixtureParameters(flat_bar.weights, flat_bar.means, spread, "full")
        sums_bar, _ = family.maximize_vjp(
            step.moved,
            mass.ravel(),
            step.points.origins.reshape(-1, n_features),
            flat_bar,
            reg_covar=self.reg_covar,
            fixed_weights=True,
        )
        sums_bar = sums_bar.reshape(n_sets, n_components, -1)
        mean = (shares * shares_bar).sum(axis=1, keepdims=True)
        mass_bar = (shares_bar - mean) / mass.sum(axis=1, keepdims=True)
        lost = lost_components(mass.ravel())
        if lost is not None:
            mass_bar[lost.reshape(mass.shape)] = 0.0
        sums_bar[:, :, 0] += mass_bar
        eta_bar = self.sets.statistics_vjp(
            step.logits, step.points, sums_bar, wrt_logits=wrt_theta, data_bar=data_bar
        )
        if not wrt_theta:
            return None
        is_centered = np.repeat(step.points.centered, n_components)[:, None]
        centers = np.repeat(self.sets.centers, n_components, axis=0)
        references = np.where(is_centered, step.flat.means, centers)
        own = Logits(references, step.logits.coefficients, NO_FACTORS, step.logits.features)
        theta_bar = family.natural_vjp(
            step.flat, own, eta_bar.reshape(len(references), -1), precisions=step.precisions
        )
        if lost is not None:  # their means and covariances stay what they are
            theta_bar.means[lost] += flat_bar.means[lost]
            theta_bar.covariances[lost] += flat_bar.covariances[lost]
        theta_bar = self.stacked(theta_bar, n_sets)
        weights, means, covariances = theta_bar
        if self.fixed_weights:
            weights = weights + cotangent.weights
        if self.is_shared:
            covariances = covariances.sum(axis=1)
        return MixtureParameters(weights, means, covariances, self.covariance_type)
