"""Information criteria as scorers, for scikit-learn's searches and cross-validation."""

from numpy.typing import ArrayLike

from ..estimators.coupled import CoupledGMMFitter
from ..parameters import Estimator, final_mixture_and_data


def aic_scorer(
    estimator: Estimator,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Score by AIC with its sign changed: the greater the better.

    The Akaike information criterion, for searches as in `bic_scorer`.

    Parameters
    ----------
    estimator, X, y, sample_weight
        As in `bic_scorer`.

    Returns
    -------
    score : float

    See Also
    --------
    bic_scorer : Has the same cautions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.metrics import aic_scorer
    >>> X = load_iris().data
    >>> mixture = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    >>> bool(aic_scorer(mixture, X) == -mixture.aic(X))
    True
    """
    return _score("aic", estimator, X, y, sample_weight)


def bic_scorer(
    estimator: Estimator,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Score by BIC with its sign changed: the greater the better.

    The Bayesian information criterion, for the ``scoring`` of scikit-learn's searches. It judges
    the rows that a mixture was fitted to, so give the search one split that trains and tests on
    all of them, as in the example. On rows that were held out a penalty for parameters has no
    meaning: there the likelihood, which is the default of searches, is enough.

    Parameters
    ----------
    estimator : fitted estimator
        A mixture of this package or of scikit-learn, a `skgmmot.CoupledGMMFitter`, or a Pipeline
        or search that ends with one. Steps before it transform ``X``; the criterion is about what
        they make of it, and can be compared only where they do the same.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), default=None
        The domains, for a `skgmmot.CoupledGMMFitter`. Others ignore it.
    sample_weight : array-like of shape (n_samples,), default=None
        Counts of the samples. Searches hand no weights to a scorer that is a function: where rows
        have weights call it in a loop.

    Returns
    -------
    score : float

    Raises
    ------
    ValueError
        If the estimator has no such criterion.

    See Also
    --------
    skgmmot.plotting.ModelSelectionDisplay : Draws criteria over components and types.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.metrics import bic_scorer
    >>> X = load_iris().data
    >>> rows = np.arange(len(X))
    >>> search = GridSearchCV(
    ...     DifferentiableGaussianMixture(random_state=0),
    ...     {"n_components": [1, 2, 3]},
    ...     scoring=bic_scorer,
    ...     cv=[(rows, rows)],
    ... )
    >>> search.fit(X).best_params_
    {'n_components': 2}
    """
    return _score("bic", estimator, X, y, sample_weight)


def icl_scorer(
    estimator: Estimator,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Score by ICL with its sign changed: the greater the better.

    The integrated completed likelihood criterion, for searches as in `bic_scorer`.

    Parameters
    ----------
    estimator, X, y, sample_weight
        As in `bic_scorer`. Mixtures of scikit-learn have no ``icl``.

    Returns
    -------
    score : float

    See Also
    --------
    bic_scorer : Has the same cautions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.metrics import icl_scorer
    >>> X = load_iris().data
    >>> mixture = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    >>> bool(icl_scorer(mixture, X) == -mixture.icl(X))
    True
    """
    return _score("icl", estimator, X, y, sample_weight)


def _score(criterion, estimator, X, y, sample_weight):
    mixture, X = final_mixture_and_data(estimator, X)
    if not hasattr(mixture, criterion):
        raise ValueError(
            f"estimator: a {type(mixture).__name__} has no {criterion}. Score a Gaussian mixture, "
            "or a Pipeline that ends with one."
        )
    domains = (y,) if isinstance(mixture, CoupledGMMFitter) else ()
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    return -float(getattr(mixture, criterion)(X, *domains, **weights))
