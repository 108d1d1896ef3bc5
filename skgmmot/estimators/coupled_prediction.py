"""What two coupled mixtures can do once they are fitted: move, label and score samples."""

from copy import copy
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..checks import counted
from ..em.densities import completed_log_density, log_density
from ..parameters import FloatArray
from ..results.transport_result import transport_between
from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import module_of
from .device_input import where_X_is
from .domains import part_of, rows_of_source, two_domains
from .input_rows import answers_by_domain, checked_rows, row_counts, row_weights
from .state import warn_of

_SIDES = ("source", "target")


class CoupledDensity(OneToOneFeatureMixin, TransformerMixin):
    """Maps, prediction, likelihood, criteria and sampling.

    Mixed into estimators with the attributes ``source_mixture_``, ``target_mixture_``,
    ``transport_`` and ``domains_``. Rows without labels are of the target, which is skada's
    convention: what comes after the fit is of the domain that was adapted to.
    """

    def _checked(self, X, sample_domain, *, name="sample_domain", unlabelled_are_source=False):
        """Checked data and which rows are of the source: a bool for each, or one for all."""
        check_is_fitted(self)
        X = checked_rows(self, X, or_chunks=True)
        if sample_domain is None:
            return X, np.bool_(unlabelled_are_source)
        return X, rows_of_source(sample_domain, X, self.domains_, name)

    @where_X_is
    def _by_domain(self, X, sample_domain, question, shape=(), dtype=None):
        """``question(rows, mixture=…)`` of each domain's rows, in the order of ``X``.

        An array of a dtype (None: that of ``X``), with a row of a ``shape`` for each.
        """
        X, is_source = self._checked(X, sample_domain)
        mixtures = self._mixtures
        if isinstance(X, DaskRows):  # of which several are asked about at once
            mixtures = [copy(mixture).set_params(n_jobs=1) for mixture in mixtures]
        questions = [partial(question, mixture=mixture) for mixture in mixtures]
        return answers_by_domain(X, is_source, questions, shape, dtype or X.dtype)

    @property
    def _mixtures(self):
        check_is_fitted(self)
        return self.source_mixture_, self.target_mixture_

    def transform(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> FloatArray:
        """Move the samples of the source to the target.

        Each is moved by the barycentric map of the two mixtures, the mean over pairs of
        components of their Gaussian maps (see `MixtureTransport.map`).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or a label, default=None
            The domain of each row, or of all. Rows of the target are left as they are. None: all
            rows are of the target, as in skada; but after `fit_pair`, which no labels were given
            to, ``X`` is what is to be moved, and all rows are of the source.

        Returns
        -------
        moved : ndarray of shape (n_samples, n_features), of the dtype of ``X``
        """
        check_is_fitted(self)
        return self._moved(X, sample_domain, self.transport_)

    def inverse_transform(
        self, X: ArrayLike, *, sample_domain: ArrayLike | None = None
    ) -> FloatArray:
        """Move samples that `transform` has moved back from the target to the source.

        The barycentric map of the other direction; it undoes `transform` exactly only where a
        single pair of components plays a part.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or a label, default=None
            The domain from which each row came. Rows that were of the target are left as they
            are. None: as in `transform`.

        Returns
        -------
        moved : ndarray of shape (n_samples, n_features), of the dtype of ``X``
        """
        check_is_fitted(self)
        there = self.transport_
        back, complaints = transport_between(
            there.target, there.source, there.reg, there.reg_m[::-1]
        )
        warn_of(complaints)
        return self._moved(X, sample_domain, back)

    @where_X_is
    def _moved(self, X, sample_domain, transport):
        X, is_source = self._checked(X, sample_domain, unlabelled_are_source=self._fitted_as_pair)
        return answers_by_domain(X, is_source, (transport.map, _same), X.shape[1:], X.dtype)

    @where_X_is
    def mass_factors(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> FloatArray:
        """By which factor the mass of each sample changes on its way to the target.

        Samples of the source, moved by `transform` and weighted by these factors, stand for the
        target: they arrive at its components with their weights. All factors are one if the
        transport is balanced, see `MixtureTransport.mass_factors`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or a label, default=None
            The domain of each row, or of all. Rows of the target have the factor one. None: as in
            `transform`.

        Returns
        -------
        factors : ndarray of shape (n_samples,), of the dtype of ``X``
        """
        check_is_fitted(self)
        as_source = self._fitted_as_pair
        rows, is_source = self._checked(X, sample_domain, unlabelled_are_source=as_source)
        questions = self.transport_.mass_factors, _ones
        return answers_by_domain(rows, is_source, questions, (), rows.dtype)

    def predict(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> NDArray[np.int64]:
        """Most probable component of each sample, under the mixture of its own domain.

        Components of the two mixtures that exchange the most mass have the same number.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        sample_domain : array-like of shape (n_samples,) or a label, default=None
            The domain of each row, or of all. None: all rows are of the target.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        return self._by_domain(X, sample_domain, _labels, dtype=np.dtype(np.int64))

    def predict_proba(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> FloatArray:
        """Probability of each component, under the mixture of the sample's own domain.

        Parameters
        ----------
        X, sample_domain
            As in `predict`.

        Returns
        -------
        responsibilities : ndarray of shape (n_samples, n_components), of the dtype of ``X``
            With as many columns as the larger of the mixtures has components; those that the
            other one lacks are zero.
        """
        width = max(mixture.n_components for mixture in self._mixtures)
        return self._by_domain(X, sample_domain, partial(_responsibilities, width=width), (width,))

    def score_samples(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> FloatArray:
        """Log-likelihood of each sample, under the mixture of its own domain.

        Parameters
        ----------
        X, sample_domain
            As in `predict`.

        Returns
        -------
        log_likelihood : ndarray of shape (n_samples,), of the dtype of ``X``
        """
        return self._by_domain(X, sample_domain, _log_densities)

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Mean over the two domains of the mean log-likelihood.

        The transport penalty is left out: with it, weak coupling would always look better. Where
        all rows are of one domain the score is the mean log-likelihood of that one.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
            The domain of each row, if ``sample_domain`` is not given.
        sample_domain : array-like of shape (n_samples,), default=None
            The domain of each row. If this and ``y`` are None all rows are of the target.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the samples; None: all equal.

        Returns
        -------
        log_likelihood : float
        """
        likelihoods = self._log_likelihoods(X, y, sample_domain, sample_weight)
        return float(np.mean([mean for mean, *_ in likelihoods]))

    @where_X_is
    def _log_likelihoods(self, X, y, sample_domain, sample_weight, density=log_density):
        """Mean log-likelihood and sum of weights of each domain that is there."""
        if sample_domain is None:
            X, is_source = self._checked(X, y, name="y")
        else:
            X, is_source = self._checked(X, sample_domain)
        weight = None
        if sample_weight is not None:
            row_weights(sample_weight, X)
            weight = row_counts(sample_weight, X)
        return [
            mixture._log_likelihood(*part_of(X, weight, rows), density=density)
            for mixture, rows in zip(self._mixtures, (is_source, ~is_source), strict=True)
            if (rows if weight is None else rows & (weight > 0)).any()
        ]

    def _n_parameters(self):
        """Number of free parameters of both mixtures; of a frozen target there are none."""
        free = self._mixtures[:1] if self._target_is_frozen else self._mixtures
        return sum(mixture._n_parameters() for mixture in free)

    def aic(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Akaike information criterion of both mixtures on ``X``; the lower the better.

        -2 log-likelihood + 2 · number of free parameters. The transport penalty plays no part;
        it makes the parameters less free than their number tells.

        Parameters
        ----------
        X, y, sample_domain, sample_weight
            As in `score`, but the domains are needed.

        Returns
        -------
        aic : float
        """
        log_likelihood, _ = self._total(X, y, sample_domain, sample_weight)
        return -2 * log_likelihood + 2 * self._n_parameters()

    def bic(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Bayesian information criterion of both mixtures on ``X``; the lower the better.

        -2 log-likelihood + log n · number of free parameters, with n the sum of the sample
        weights of both domains.

        Parameters
        ----------
        X, y, sample_domain, sample_weight
            As in `score`, but the domains are needed.

        Returns
        -------
        bic : float
        """
        log_likelihood, total = self._total(X, y, sample_domain, sample_weight)
        return -2 * log_likelihood + np.log(total) * self._n_parameters()

    def icl(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Integrated completed likelihood criterion of both mixtures; the lower the better.

        `bic` plus twice the entropy of the responsibilities, of each row under the mixture of its
        own domain: see `DifferentiableGaussianMixture.icl`.

        Parameters
        ----------
        X, y, sample_domain, sample_weight
            As in `score`, but the domains are needed.

        Returns
        -------
        icl : float
        """
        completed, total = self._total(
            X, y, sample_domain, sample_weight, density=completed_log_density
        )
        return -2 * completed + np.log(total) * self._n_parameters()

    def _total(self, X, y, sample_domain, sample_weight, density=log_density):
        check_is_fitted(self)
        two_domains(sample_domain, y, X)
        likelihoods = self._log_likelihoods(X, y, sample_domain, sample_weight, density)
        if len(likelihoods) < 2:
            raise ValueError(
                "sample_weight: at least one weight of each domain must be positive. For one "
                "domain alone there is the criterion of source_mixture_ or target_mixture_."
            )
        totals = [counted(*total) for _, *total in likelihoods]
        means = [mean for mean, *_ in likelihoods]
        return sum(mean * n for mean, n in zip(means, totals, strict=True)), sum(totals)

    def sample(
        self, n_samples: int = 1, *, domain: object = "source"
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Draw samples from one of the mixtures.

        Parameters
        ----------
        n_samples : int, default=1
        domain : {"source", "target"} or one of the labels in ``domains_``, default="source"

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Sorted by component.
        labels : ndarray of shape (n_samples,), int64
            The component of each sample.
        """
        mixtures = self._mixtures
        for names in (self.domains_, _SIDES):
            if domain in names:
                return mixtures[list(names).index(domain)].sample(n_samples)
        raise ValueError(
            f"domain must be one of {_SIDES} or a label of the fit, {self.domains_}; got "
            f"{domain!r}."
        )


# Questions to rows in memory. They can be sent to another process.


def _labels(X, mixture):
    return mixture.predict(X)


def _log_densities(X, mixture):
    return mixture.score_samples(X)


def _responsibilities(X, mixture, width):
    proba = mixture.predict_proba(X)
    if proba.shape[1] == width:
        return proba
    module = module_of(proba)
    rest = module.zeros((len(proba), width - proba.shape[1]), proba.dtype)
    return module.concatenate([proba, rest], axis=1)


def _same(X):
    return X


def _ones(X):
    return module_of(X).ones(len(X))
