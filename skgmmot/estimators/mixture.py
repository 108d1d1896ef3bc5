"""DifferentiableGaussianMixture: EM as a scikit-learn estimator."""

from collections.abc import Sequence
from functools import partial
from numbers import Integral, Real
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from ..checks import EM_CONSTRAINTS, Interval
from ..em.adjoints import FitRecord
from ..em.fit import complaints_of
from ..em.online import CentredStatistics
from ..numerics.threads import effective_n_threads
from ..parameters import CovarianceType, FloatArray, InitParams, RandomState
from ..samples import samples_of
from ..samples.dask_chunks import DaskRows
from .callbacks import CallbackSupportMixin
from .dask_input import warn_of_small_chunks
from .derivatives import DifferentiableFit
from .device_input import where_X_is
from .em_options import em_map_of, fit_by_em, stopping_of
from .input_rows import row_weights
from .manners import PackageManners
from .online import OnlineFit
from .prediction import MixtureDensity
from .sklearn_exchange import SklearnExchange
from .state import forget_fit, keeping_last_fit, warn_of


class DifferentiableGaussianMixture(
    PackageManners,
    CallbackSupportMixin,
    OnlineFit,
    DifferentiableFit,
    SklearnExchange,
    MixtureDensity,
    DensityMixin,
    BaseEstimator,
):
    """Gaussian mixture fitted by EM, with gradients with respect to the data.

    Takes the place of `sklearn.mixture.GaussianMixture`: the same parameters, methods and fitted
    attributes, and, with ``acceleration=None, residual_tol=np.inf``, the same iterates. It adds
    weights, a stopping rule that looks at the parameters, and gradients through EM.

    Parameters
    ----------
    n_components : int, default=1
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance matrix for each component, one for all, a diagonal or a single variance.
    tol : float, default=1e-3
        For EM to have converged, the gain of the lower bound (mean log-likelihood) in a step must
        fall below this.
    residual_tol : float, default=1e-6
        For EM to have converged, the scaled change of the parameters must fall below this. The
        scaled change is the largest change of a weight, of a mean in standard deviations of its
        component, and of a covariance relative to itself. The gain alone stops far too early
        where components overlap; ``np.inf`` leaves it to the gain, as scikit-learn does.
    reg_covar : float, default=1e-6
        Added to the diagonal of covariances, in squared units of the data.
    max_iter : int, default=1000
        Number of EM steps at most, counting each pass over the data that ``acceleration``
        makes. More than scikit-learn's 100, because ``residual_tol`` asks for more steps and a
        step costs far less. With 0 the initial parameters are kept.
    n_init : int, default=1
        Number of restarts; the one with the highest lower bound is kept. A restart that fails
        is skipped with a warning.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        How to initialize, as in scikit-learn.
    init_size : int or None, default=20_000
        k-means and k-means++ look at this many random rows, because on large data they would
        take longer than EM; k-means begins from the best of several on a part of them. None: at
        all rows. Up to this many rows the initialization is scikit-learn's own. Of data that are
        read in chunks, or on a device, the random ones look at no more either; of chunks None is
        refused.
    weights_init : array-like of shape (n_components,), default=None
        Initial weights.
    means_init : array-like of shape (n_components, n_features), default=None
        Initial means.
    precisions_init : array-like, default=None
        Initial precisions (inverse covariances), in the shape of the covariance type.
    fixed_weights : bool, default=False
        Whether the weights stay at ``weights_init`` (uniform if None) throughout; Algorithm 2
        of Boïté et al. (2025).
    temperature : float or decreasing sequence of floats, default=1.0
        ε in the responsibilities γ_ik ∝ w_k g_k(x_i)^(1/ε). One is EM; towards zero each sample
        is given to one component, above one components share more. EM then climbs minus the
        `free_energy`. With a sequence (annealing) EM settles at each temperature in turn.
    e_step : {"softmax", "sinkhorn"}, default="softmax"
        ``sinkhorn`` holds the masses of the responsibilities at the weights, which then stay
        where they start: EM as balanced entropic transport. With ``fixed_weights`` it is Sinkhorn
        EM (Mena et al. 2020), which keeps components that EM would lose. A step takes several
        passes over the data more. Prediction is that of the mixture.
    acceleration : {"auto", None, "anderson", "incremental", "lbfgs", "newton"}, default="auto"
        ``lbfgs`` (quasi-Newton), ``newton`` (Newton-Krylov, with exact derivatives), both in a
        trust region, and ``anderson`` (Anderson mixing) take far fewer passes over the data where
        EM is slow, because components overlap. They begin after 10 plain steps, and refuse moves
        that lose likelihood. ``auto`` is plain EM that becomes ``lbfgs`` where, from the tenth
        step on, its gains promise more than 30 steps more. ``incremental`` (Neal and Hinton 1998)
        gets furthest in the first passes, for data of which a pass is dear: it makes an M-step
        after each of up to 16 groups of consecutive rows, a plain step after two such passes, and
        becomes ``lbfgs`` where these promise more than 5 passes more. Not with
        ``e_step="sinkhorn"``. None: plain EM, whose iterates are those of scikit-learn, and the
        only one that can be unrolled; the others may climb to another maximum.
    anderson_depth : int, default=10
        Number of steps that ``anderson`` looks back on.
    learning_decay : float, default=0.7
        How fast batches come to count less in `partial_fit`, as in scikit-learn's
        LatentDirichletAllocation: batch t counts (t + ``learning_offset``)^(-``learning_decay``).
        More than 0.5 and at most 1. More averages longer, less forgets the start faster.
    learning_offset : float, default=10.0
        Zero or more; a large one lets the first batches count less.
    random_state : int, RandomState instance or None, default=None
        Seeds the initialization and `sample`.
    warm_start : bool, default=False
        Whether `fit` starts from the last solution. With ``max_iter=1`` each fit is one EM step.
    keep_path : bool, default=True
        Whether `fit` keeps its steps, in memory only and in 4 MiB at most, which gradients of
        mode ``unrolled`` need. A pickle leaves them out.
    verbose : int, default=0
        1 prints restarts and every ``verbose_interval``-th step, 2 adds times and gains.
    verbose_interval : int, default=10
        Number of steps between prints.
    n_jobs : int or None, default=None
        Number of threads. None: as many as scikit-learn's OpenMP code would use. The result
        has the same bits for every number. Tasks of Dask take one thread each, since several of
        them run at once.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
    means_ : ndarray of shape (n_components, n_features)
    covariances_ : ndarray
        (n_components, n_features, n_features) if full, (n_features, n_features) if tied,
        (n_components, n_features) if diag, (n_components,) if spherical.
    precisions_, precisions_cholesky_ : ndarray
        Inverse covariances, and upper triangular factors U with precision U Uᵀ.
    parameters_ : MixtureParameters
        The three parts together.
    converged_ : bool
        Whether both ``tol`` and ``residual_tol`` were met. False after `partial_fit`.
    n_iter_ : int
        Number of EM steps of the best restart; after `partial_fit` ``n_steps_``.
    n_evaluations_ : int
        Number of its passes over the data: steps, and with ``acceleration`` also moves that
        were refused, products with the derivative of a step, and passes of ``incremental``
        between plain steps. (An E-step counts once, ``sinkhorn`` too.)
    lower_bound_ : float
        Mean log-likelihood before the last step; minus the free energy where the temperature is
        not one, minus the value of the balanced transport with ``e_step="sinkhorn"``.
    lower_bounds_ : list of float
        The same before each step, at the temperature of that step.
    marginal_error_ : float
        Largest difference between a mass and its weight in the last E-step, for
        ``e_step="sinkhorn"``.
    residual_ : float
        Scaled size of F(θ) - θ at the fitted parameters, F being an EM step.
    n_samples_seen_ : int
        Number of rows of positive weight of `fit`, and of all calls of `partial_fit` since.
    n_steps_ : int
        Number of steps of `partial_fit`. Beside this and the parameters it leaves those of the
        attributes above that speak of it, and nothing of an earlier fit.
    n_features_in_ : int
        Number of features of ``X``.
    feature_names_in_ : ndarray of shape (n_features,)
        If X has names of columns that are all strings.

    See Also
    --------
    mixture_wasserstein : Compares two mixtures.

    Notes
    -----
    Parameters and results have the dtype of ``X`` (float32 or float64); sums are float64
    inside. Memory beyond the data does not grow with the number of samples, nor need the data be in
    memory (`ChunkedRows`). Where ``X`` is on a CUDA device, parameters are NumPy arrays all the
    same, and arrays with an item for each row are CuPy's, on that device.

    References
    ----------
    S. Boïté, E. Tanguy, J. Delon, A. Desolneux, R. Flamary. Differentiable
    Expectation-Maximisation and applications to Gaussian mixture model optimal transport.
    arXiv:2509.02109, 2025.

    T. Vayer, E. Lasalle. A note on the relations between mixture models, maximum-likelihood and
    entropic optimal transport. arXiv:2501.12005, 2025.

    G. Mena, A. Nejatbakhsh, E. Varol, J. Niles-Weed. Sinkhorn EM: an expectation-maximization
    algorithm based on entropic optimal transport. arXiv:2006.16548, 2020.

    R. M. Neal, G. E. Hinton. A view of the EM algorithm that justifies incremental, sparse, and
    other variants. In M. I. Jordan (ed.), Learning in Graphical Models, 355-368. Kluwer, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> X = np.array([[1.0, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> mixture = DifferentiableGaussianMixture(n_components=2, random_state=0).fit(X)
    >>> mixture.means_
    array([[10.,  2.],
           [ 1.,  2.]])
    >>> mixture.predict([[0, 0], [12, 3]])
    array([1, 0])
    """

    weights_: FloatArray
    means_: FloatArray
    covariances_: FloatArray
    precisions_: FloatArray
    precisions_cholesky_: FloatArray
    converged_: bool
    n_iter_: int
    n_evaluations_: int
    lower_bound_: float
    lower_bounds_: list[float]
    marginal_error_: float
    residual_: float
    n_samples_seen_: int
    n_steps_: int
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    _parameter_constraints: dict = EM_CONSTRAINTS | {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "e_step": [StrOptions({"softmax", "sinkhorn"})],
        "acceleration": [
            StrOptions({"auto", "anderson", "incremental", "lbfgs", "newton"}),
            None,
        ],
        "anderson_depth": [Interval(Integral, 1, None, closed="left")],
        "learning_decay": [Interval(Real, 0.5, 1, closed="right")],
        "learning_offset": [Interval(Real, 0, None, closed="left")],
        "keep_path": ["boolean"],
    }
    _of_fit = (
        "weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_",
        "converged_", "n_iter_", "n_evaluations_", "lower_bound_", "lower_bounds_",
        "marginal_error_", "residual_", "n_samples_seen_", "n_steps_", "_fitted_type", "_record",
        "_statistics", "_time", "_collected",
    )  # fmt: skip
    _as_dict = {"_record": FitRecord, "_statistics": CentredStatistics}

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: CovarianceType = "full",
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
        temperature: float | Sequence[float] = 1.0,
        e_step: Literal["softmax", "sinkhorn"] = "softmax",
        acceleration: (
            Literal["auto", "anderson", "incremental", "lbfgs", "newton"] | None
        ) = "auto",
        anderson_depth: int = 10,
        learning_decay: float = 0.7,
        learning_offset: float = 10.0,
        random_state: RandomState = None,
        warm_start: bool = False,
        keep_path: bool = True,
        verbose: int = 0,
        verbose_interval: int = 10,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
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
        self.temperature = temperature
        self.e_step = e_step
        self.acceleration = acceleration
        self.anderson_depth = anderson_depth
        self.learning_decay = learning_decay
        self.learning_offset = learning_offset
        self.random_state = random_state
        self.warm_start = warm_start
        self.keep_path = keep_path
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.n_jobs = n_jobs

    def fit(
        self, X: ArrayLike, y: object = None, *, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Fit the mixture by EM.

        If it raises, the estimator is what it was before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            float32 and float64 are kept, anything else becomes float64. Memory maps and datasets
            of h5py or zarr larger than 64 MiB are read in chunks, as `ChunkedRows` are. Dask arrays
            and data frames stay where they are, and what a method returns for each of their rows
            is a lazy dask array with the same chunks. So do arrays on a CUDA device, of CuPy or any
            library that shares them with it: answers, and weights, are on that device.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A weight of two is a row given twice, of zero a row left out.

        Returns
        -------
        self : DifferentiableGaussianMixture

        Raises
        ------
        ValueError
            If the data or an initial parameter cannot be used, or if in every restart a
            component collapsed; the message names the component.

        Warns
        -----
        ConvergenceWarning
            If EM did not converge, a restart failed, or a component lost all its mass.
        """
        with keeping_last_fit(self):
            warn_of(self._fit(X, sample_weight))
        return self

    def fit_predict(
        self, X: ArrayLike, y: object = None, *, sample_weight: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Fit the mixture and return the most probable component of each sample.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        with keeping_last_fit(self):
            warn_of(self._fit(X, sample_weight))
            return self.predict(X)

    @_fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X, sample_weight):
        """Fit, and return what there is to warn of."""
        return self._fit_with_valid_options(X, sample_weight)

    @where_X_is
    def _fit_with_valid_options(self, X, sample_weight):
        X = self._validate_X(X, reset=True, ensure_min_samples=2)
        if isinstance(X, DaskRows):
            warn_of_small_chunks(X, self.n_components, self.covariance_type)
        sample_weight, _ = row_weights(sample_weight, X)
        em_map = em_map_of(self, samples_of(X, sample_weight, effective_n_threads(self.n_jobs)))
        last, last_bound = None, -np.inf
        if self.warm_start and hasattr(self, "weights_"):
            last = self._last_solution(X.shape[1])
            last_bound = getattr(self, "lower_bound_", -np.inf)
        forget_fit(self)
        keep = partial(self._keep, em_map=em_map, dtype=X.dtype)
        best = fit_by_em(self, em_map, last=last, last_bound=last_bound, keep=keep)
        return complaints_of(best, stopping_of(self))

    def _keep(self, best, em_map, dtype):
        """Set the fitted attributes."""
        result = best.result
        self._set_parameters(result.parameters, dtype)
        record = FitRecord.of(result, em_map)
        self._record = record if self.keep_path else record.without_steps()
        self.converged_ = result.converged
        self.n_iter_ = len(result.lower_bounds)
        self.n_evaluations_ = result.n_evaluations
        self.lower_bound_ = best.lower_bound
        self.lower_bounds_ = result.lower_bounds
        self.residual_ = result.residual
        self.n_samples_seen_ = em_map.samples.shape[0]
        if result.last.balance is not None:
            self.marginal_error_ = result.last.balance.error
