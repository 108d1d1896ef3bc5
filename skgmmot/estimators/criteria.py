"""Criteria by which mixtures of different sizes are compared."""

import numpy as np
from numpy.typing import ArrayLike

from ..checks import counted
from ..em.densities import completed_log_density
from ..families import FAMILIES


class InformationCriteria:
    """AIC, BIC and ICL.

    Mixed into a `MixtureDensity`.
    """

    def _n_parameters(self):
        """Number of free parameters."""
        n_components, n_features = self.means_.shape
        family = FAMILIES[self.covariance_type]
        held = getattr(self, "fixed_weights", False) or getattr(self, "e_step", "") == "sinkhorn"
        of_weights = 0 if held else n_components - 1
        of_covariances = family.n_parameters(n_components, n_features)
        return n_components * n_features + of_covariances + of_weights

    def aic(self, X: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """Akaike information criterion on ``X``; the lower the better.

        -2 log-likelihood + 2 · number of free parameters. Fixed weights are not counted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the samples; None: one each.

        Returns
        -------
        aic : float
        """
        deviance, _ = _deviance(*self._log_likelihood(X, sample_weight))
        return deviance + 2 * self._n_parameters()

    def bic(self, X: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """Bayesian information criterion on ``X``; the lower the better.

        -2 log-likelihood + log n · number of free parameters, with n the sum of the sample
        weights. Fixed weights are not counted.

        Parameters
        ----------
        X, sample_weight
            As in `aic`.

        Returns
        -------
        bic : float
        """
        return self._with_log_penalty(X, sample_weight)

    def icl(self, X: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """Integrated completed likelihood criterion on ``X``; the lower the better.

        BIC plus twice the entropy of the responsibilities, -2 Σ_i s_i Σ_k γ_ik log γ_ik: a
        criterion that also asks for well-separated components (Biernacki, Celeux, Govaert 2000,
        in the entropy form of McLachlan and Peel 2000, section 6.10).

        Parameters
        ----------
        X, sample_weight
            As in `aic`.

        Returns
        -------
        icl : float
        """
        return self._with_log_penalty(X, sample_weight, density=completed_log_density)

    def _with_log_penalty(self, X, sample_weight, **options):
        deviance, n = _deviance(*self._log_likelihood(X, sample_weight, **options))
        return deviance + np.log(n) * self._n_parameters()


def _deviance(mean, total, exponent):
    """-2 log-likelihood, and the number of samples, from what `_log_likelihood` returns."""
    n = counted(total, exponent)
    return -2 * mean * n, n


def weighted_sums(density, X, weight):
    """Σ_i s_i ``density(X)``_i and Σ_i s_i; what has no weight is left out, infinite or not."""
    values = density(X)
    with np.errstate(over="ignore"):
        if weight is None:
            return np.array([float(values.sum()), len(values)])
        if not weight.all():
            values, weight = values[weight > 0], weight[weight > 0]
        return np.array([float(values @ weight), float(weight.sum())])
