"""CoupledGMMFitter: two clouds of points, two mixtures, one fit."""

from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import ClassifierTags
from sklearn.utils._param_validation import HasMethods

from ..checks import EM_CONSTRAINTS, Interval
from ..coupling.objective import CoupledState
from ..parameters import (
    CovarianceType,
    FloatArray,
    InitParams,
    MixtureLike,
    MixtureParameters,
    PenaltiesLike,
    RandomState,
)
from .callbacks import CallbackSupportMixin
from .coupled_derivatives import DifferentiableCoupledFit
from .coupled_fit import CoupledFit
from .coupled_input import CoupledInput
from .coupled_prediction import CoupledDensity
from .manners import PackageManners
from .state import keeping_last_fit, warn_of


class CoupledGMMFitter(
    PackageManners,
    CallbackSupportMixin,
    CoupledInput,
    CoupledFit,
    DifferentiableCoupledFit,
    CoupledDensity,
    DensityMixin,
    BaseEstimator,
):
    """Two Gaussian mixtures, fitted to two clouds and held close to each other.

    Maximizes the mean log-likelihood of the source under one mixture, plus that of the target
    under the other, minus ``transport_weight`` times the optimal transport between the two
    mixtures. Components that are coupled by the transport then correspond, and `transform` moves
    samples of the source to the target along it.

    Parameters
    ----------
    n_components : int or pair of int, default=1
        Number of components of both mixtures, or of the source and of the target.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As in `DifferentiableGaussianMixture`, for both mixtures.
    transport_weight : float, default=0.01
        Weight of the transport term. With 0 the mixtures are fitted independently; the larger,
        the more alike they are.
    reg : float, default=0.0
        Weight of the entropy in the transport term; as in `mixture_transport`.
    reg_m : float, pair of float or None, default=None
        Weights of the marginal terms of unbalanced transport: mass may be made and lost at a
        cost. None: the plan carries all mass, as with ``np.inf``, which holds a marginal.
    freeze_target : bool or mixture, default=False
        Whether the target mixture stays at its own independent fit. A fitted mixture, a
        `MixtureParameters` or a tuple (weights, means, covariances) is kept instead of one.
    tol : float, default=1e-3
        For the fit to have converged, the gain of the objective in a sweep must fall below this.
    residual_tol : float, default=1e-6
        For the fit to have converged, the residual must fall below this as well.
    reg_covar : float, default=1e-6
        Added to the diagonal of covariances, in squared units of the data.
    max_iter : int, default=1000
        Number of sweeps at most, and of EM steps of the fits that it starts from. With 0 the
        best start is kept.
    n_init : int, default=1
        Number of restarts, each from several starts: the independent fits of the clouds, and
        one mixture fitted to both of them. The one with the highest objective is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How the fits that it starts from are initialized.
    init_size : int or None, default=20_000
        The starts look at this many random rows of each cloud, in memory. None: at all rows, which
        is refused where some are read in chunks.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights of every mixture that is fitted for a start.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means of them.
    precisions_init : array-like, default=None
        Initial precisions of them, in the shape of the covariance type.
    fixed_weights : bool, default=False
        Whether the weights of both mixtures stay at ``weights_init`` (uniform if None).
    random_state : int, RandomState instance or None, default=None
        Seeds the initialization and `sample`.
    warm_start : bool, default=False
        Whether `fit` starts from the last solution.
    verbose : int, default=0
        1 prints every ``verbose_interval``-th sweep, with the terms of the objective.
    verbose_interval : int, default=10
        Number of sweeps between prints.
    n_jobs : int or None, default=None
        Number of threads. None: as many as scikit-learn's OpenMP code would use. The result
        has the same bits for every number.

    Attributes
    ----------
    source_mixture_, target_mixture_ : DifferentiableGaussianMixture
        The two mixtures. Components that exchange the most mass have the same number.
    transport_ : MixtureTransport
        The transport between them: plan, costs, potentials.
    objective_ : float
        Mean log-likelihoods less ``transport_weight`` · ``transport_.value``.
    lower_bounds_ : list of float
        The objective at the start and after each sweep, which never decreases. With
        ``reg_covar`` it is that of regularized likelihoods (see Notes).
    log_likelihoods_ : ndarray of shape (n_sweeps + 1, 2)
        The mean log-likelihoods of source and target that ``lower_bounds_`` are made of.
    transport_values_ : ndarray of shape (n_sweeps + 1,)
        The transport term, which counts with minus ``transport_weight`` in them.
    mw2_ : float
        Mixture-Wasserstein distance between the two mixtures.
    reweighting_ : tuple of ndarray of shape (K,) and ndarray of shape (L,)
        By which factor the mass of each component of the source changes on leaving, P1 / w, and
        that of each component of the target on arriving, Pᵀ1 / w'. One if balanced.
    domains_ : tuple
        The labels of source and target; (1, -1) after `fit_pair`.
    converged_ : bool
        Whether both ``tol`` and ``residual_tol`` were met.
    n_iter_ : int
        Number of sweeps.
    residual_ : float
        Scaled size of a step along the gradient, at the fitted parameters.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        If X has names of columns that are all strings.

    See Also
    --------
    DifferentiableGaussianMixture : A single mixture.
    mixture_transport : The transport between two mixtures.

    Notes
    -----
    The plan of the transport is a variable of the fit like the parameters, so that the
    objective has no kinks where the support of the optimal plan changes. A sweep passes over the
    data once. Without transport (``transport_weight=0``) the fit is that of two
    `DifferentiableGaussianMixture`. With it ``reg_covar`` stands for noise of that variance in
    the data, in the E-step as in the M-step: log g_k(x) is less ½ reg_covar tr Σ_k⁻¹.

    The optimum is a local one. On the rows that the starts look at the objective is never below
    that of any start, which are fits by EM that stop early. A fit that EM takes elsewhere can
    still be better, and more restarts (``n_init``) find better ones.

    References
    ----------
    J. Delon, A. Desolneux, A Wasserstein-type distance in the space of Gaussian mixture models,
    SIAM Journal on Imaging Sciences 13(2), 2020. K. Lange, A quasi-Newton acceleration of the EM
    algorithm, Statistica Sinica 5, 1995.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import CoupledGMMFitter
    >>> rng = np.random.default_rng(0)
    >>> centers = np.repeat([[0.0, 0.0], [6.0, 0.0]], 100, axis=0)
    >>> source = centers + rng.normal(size=(200, 2))
    >>> target = centers + [0.0, 3.0] + rng.normal(size=(200, 2))
    >>> fitter = CoupledGMMFitter(2, random_state=0).fit_pair(source, target)
    >>> fitter.transport_.plan.round(1) + 0.0
    array([[0.5, 0. ],
           [0. , 0.5]])
    >>> (fitter.transform(source) - source).mean(axis=0).round(0) + 0.0
    array([0., 3.])
    """

    _parameter_constraints: dict = EM_CONSTRAINTS | {
        "n_components": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "transport_weight": [Interval(Real, 0, None, closed="left")],
        "reg": [Interval(Real, 0, None, closed="left")],
        "reg_m": [Interval(Real, 0, None, closed="right"), tuple, list, np.ndarray, None],
        "freeze_target": ["boolean", HasMethods("get_params"), MixtureParameters, tuple],
    }
    _of_fit = (
        "source_mixture_", "target_mixture_", "transport_", "objective_", "lower_bounds_", "mw2_",
        "log_likelihoods_", "transport_values_", "reweighting_", "domains_", "converged_",
        "n_iter_", "residual_", "_fitted_as_pair", "_state", "_target_is_frozen",
    )  # fmt: skip
    _as_dict = {"_state": CoupledState}

    def __init__(
        self,
        n_components: int | tuple[int, int] = 1,
        *,
        covariance_type: CovarianceType = "full",
        transport_weight: float = 0.01,
        reg: float = 0.0,
        reg_m: PenaltiesLike = None,
        freeze_target: bool | MixtureLike = False,
        tol: float = 1e-3,
        residual_tol: float = 1e-6,
        reg_covar: float = 1e-6,
        max_iter: int = 1000,
        n_init: int = 1,
        init_params: InitParams = "kmeans",
        init_size: int | None = 20_000,
        weights_init: ArrayLike | None = None,
        means_init: ArrayLike | None = None,
        precisions_init: ArrayLike | None = None,
        fixed_weights: bool = False,
        random_state: RandomState = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.transport_weight = transport_weight
        self.reg = reg
        self.reg_m = reg_m
        self.freeze_target = freeze_target
        self.tol = tol
        self.residual_tol = residual_tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.init_size = init_size
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.fixed_weights = fixed_weights
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True  # the domains, unless sample_domain tells them
        tags.classifier_tags = ClassifierTags(multi_class=False)  # of which there are two
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Fit the two mixtures to the rows of two domains.

        If it raises, the estimator is what it was before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 and float64 are kept, anything else becomes float64. What is large and not in
            memory is read in chunks, as by `DifferentiableGaussianMixture.fit`: those that have
            rows of both domains twice for each sweep. `fit_pair` reads two files once. Of a dask
            array labels and weights may be dask arrays too; of an array on a CUDA device, which
            stays there, they have to be on that device, and answers are.
        y : array-like of shape (n_samples,), default=None
            The domain of each row, if ``sample_domain`` is not given.
        sample_domain : array-like of shape (n_samples,), default=None
            The domain of each row: two distinct labels. Of two numbers of which one is negative
            that one is the target, as in skada; else the first in sorted order is the source.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. The weights of each domain count by their share in its sum.

        Returns
        -------
        self : CoupledGMMFitter

        Raises
        ------
        ValueError
            If there are not two domains, the data cannot be used, or in every start a component
            collapsed.

        Warns
        -----
        ConvergenceWarning
            If the fit did not converge, or some of its starts failed.
        """
        with keeping_last_fit(self):
            warn_of(self._fit_rows(X, y, sample_domain, sample_weight))
        return self

    def fit_pair(
        self,
        X_source: ArrayLike,
        X_target: ArrayLike,
        *,
        sample_weight_source: ArrayLike | None = None,
        sample_weight_target: ArrayLike | None = None,
    ) -> Self:
        """Fit the two mixtures to two arrays.

        If it raises, the estimator is what it was before. `transform` then takes rows without
        labels for rows of the source.

        Parameters
        ----------
        X_source : array-like of shape (n_source, n_features)
        X_target : array-like of shape (n_target, n_features)
            One may be in memory and the other one be read in chunks, as by
            `DifferentiableGaussianMixture.fit`; or both are on a CUDA device.
        sample_weight_source : array-like of shape (n_source,), default=None
        sample_weight_target : array-like of shape (n_target,), default=None

        Returns
        -------
        self : CoupledGMMFitter
            Its ``domains_`` are 1 for the source and -1 for the target.

        Raises
        ------
        ValueError
            As for `fit`, or if the arrays have different numbers of features.
        """
        weights = {
            "sample_weight_source": sample_weight_source,
            "sample_weight_target": sample_weight_target,
        }
        with keeping_last_fit(self):
            warn_of(self._fit_arrays(X_source, X_target, weights))
        return self

    def fit_transform(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> FloatArray:
        """Fit, then move the samples of the source to the target.

        Parameters
        ----------
        X, y, sample_domain, sample_weight
            As in `fit`.

        Returns
        -------
        moved : ndarray of shape (n_samples, n_features)
            Rows of the target are as they were.
        """
        with keeping_last_fit(self):
            self.fit(X, y, sample_domain=sample_domain, sample_weight=sample_weight)
            return self.transform(X, sample_domain=y if sample_domain is None else sample_domain)
