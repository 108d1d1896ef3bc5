"""Sets of samples as rows of features: a transformer for scikit-learn's Pipelines."""

import warnings
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from ..checks import EM_CONSTRAINTS, Interval, as_parameters
from ..estimators.manners import PackageManners
from ..estimators.mixture import DifferentiableGaussianMixture
from ..families import FAMILIES
from ..parameters import CovarianceType, InitParams, MixtureParameters, RandomState
from .distances import pairwise_mixture_wasserstein
from .fit_mixtures import fit_mixtures, sets_of
from .mixture_fits import MixtureFits

_SHARED = ["covariance_type", "tol", "residual_tol", "reg_covar", "max_iter", "init_params"]
_SHARED += ["random_state", "n_jobs"]


class MixtureEmbedding(PackageManners, TransformerMixin, BaseEstimator):
    """A mixture for each set of samples, and of each mixture a row of features.

    `fit` fits one mixture to the samples of all sets. `transform` runs EM from it on each set, so
    that component k of one set corresponds to component k of another, and makes features of the
    mixtures: their parameters, or their MW2 distances to some anchors.

    Parameters
    ----------
    n_components : int, default=3
        Number of components of each mixture. A set needs as many samples, and more if its
        covariances are to mean something.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="diag"
        As in `DifferentiableGaussianMixture`; small sets seldom tell more than diagonals.
    features : {"parameters", "distances"}, default="parameters"
        ``"parameters"`` are weights, means and covariances, those above a diagonal left out.
        ``"distances"`` are the MW2 distances to the anchors, which know nothing of the order of
        components.
    anchors : int or sequence of mixtures, default=20
        What distances are to: some of the sets of `fit`, drawn at random, or given mixtures.
    tol, residual_tol, max_iter, reg_covar
        As in `fit_mixtures`; but with ``residual_tol=inf``, since features need no fixed point.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default="kmeans"
        Where the fit to all samples starts.
    random_state : int, RandomState instance or None, default=None
        Of that start, and for which sets are anchors.
    n_jobs : int, default=None
        Number of threads for fits, as in `fit_mixtures`.

    Attributes
    ----------
    mixture_ : MixtureParameters
        The mixture of all samples.
    anchors_ : list of MixtureParameters
        Only with ``features="distances"``.
    n_features_in_ : int
        Number of features of the samples.

    See Also
    --------
    fit_mixtures : The fits, and their gradients.
    pairwise_mixture_wasserstein : Distances between all mixtures, for k-NN on sets.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skgmmot import MixtureEmbedding
    >>> rng = np.random.default_rng(0)
    >>> sets = [rng.normal(scale=1 + i % 2, size=(40 + i, 2)) for i in range(20)]
    >>> kinds = [i % 2 for i in range(20)]
    >>> model = make_pipeline(MixtureEmbedding(2, random_state=0), LogisticRegression())
    >>> model.fit(sets, kinds).score(sets, kinds)
    1.0
    """

    mixture_: MixtureParameters
    anchors_: list[MixtureParameters]
    n_features_in_: int

    _parameter_constraints: dict = {name: EM_CONSTRAINTS[name] for name in _SHARED} | {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "features": [StrOptions({"parameters", "distances"})],
        "anchors": [Interval(Integral, 1, None, closed="left"), "array-like", list, tuple],
    }

    def __init__(
        self,
        n_components: int = 3,
        *,
        covariance_type: CovarianceType = "diag",
        features: Literal["parameters", "distances"] = "parameters",
        anchors: Any = 20,
        tol: float = 1e-3,
        residual_tol: float = np.inf,
        max_iter: int = 1000,
        reg_covar: float = 1e-6,
        init_params: InitParams = "kmeans",
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.features = features
        self.anchors = anchors
        self.tol = tol
        self.residual_tol = residual_tol
        self.max_iter = max_iter
        self.reg_covar = reg_covar
        self.init_params = init_params
        self.random_state = random_state
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: object = None) -> Self:
        """Fit a mixture to the samples of all sets, and choose the anchors.

        Parameters
        ----------
        X : sequence of arrays of shape (n_samples, n_features), or one with an axis for the sets
            Sets of samples, as in `fit_mixtures`.
        y : Ignored

        Returns
        -------
        self : MixtureEmbedding

        Raises
        ------
        ValueError
            If the sets or the anchors cannot be used.

        Warns
        -----
        ConvergenceWarning
            If the fit to all samples did not converge.
        """
        rows, bounds, _ = sets_of(X)
        random_state = check_random_state(self.random_state)
        names = ("tol", "max_iter", "reg_covar", "init_params", "n_jobs", "covariance_type")
        options = {name: getattr(self, name) for name in names}
        mixture = DifferentiableGaussianMixture(
            self.n_components,
            residual_tol=self.residual_tol,
            random_state=random_state,
            **options,
        ).fit(rows)
        self.mixture_, self.n_features_in_ = mixture.parameters_, rows.shape[1]
        if self.features == "distances":
            self.anchors_ = self._chosen_anchors(rows, bounds, random_state)
        return self

    def _chosen_anchors(self, rows, bounds, random_state):
        if not isinstance(self.anchors, Integral):
            anchors = [as_parameters(own, f"anchors[{i}]") for i, own in enumerate(self.anchors)]
            if not anchors:
                raise ValueError("anchors must be a number or a sequence of mixtures; it is empty.")
            return anchors
        number = min(self.anchors, len(bounds))
        chosen = np.sort(random_state.permutation(len(bounds))[:number])
        return list(self._fits([rows[slice(*bounds[s])] for s in chosen], chosen))

    def _fits(self, X, numbers=None) -> MixtureFits:
        """A mixture for each set; those that cannot be fitted are refused."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of sets that failed: an error
            fits = fit_mixtures(
                X,
                initial=self.mixture_,
                covariance_type=self.covariance_type,
                tol=self.tol,
                residual_tol=self.residual_tol,
                max_iter=self.max_iter,
                reg_covar=self.reg_covar,
                n_jobs=self.n_jobs,
            )
        if fits.failed.any():
            first, error = next(iter(fits.errors.items()))
            number = first if numbers is None else numbers[first]
            raise ValueError(
                f"X: no mixture can be fitted to {fits.failed.sum()} of {len(fits)} sets. Set "
                f"{number}: {error}"
            ) from error
        return fits

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Make features of sets.

        Parameters
        ----------
        X : sequence of arrays of shape (n_samples, n_features), or one with an axis for the sets

        Returns
        -------
        features : ndarray of shape (n_sets, n_features_out)

        Raises
        ------
        ValueError
            If a set cannot be used, as one of fewer samples than components.
        """
        check_is_fitted(self)
        rows, bounds, _ = sets_of(X)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X: sets have {rows.shape[1]} features, but {type(self).__name__} was fitted to "
                f"{self.n_features_in_}."
            )
        fits = self._fits([rows[slice(*own)] for own in bounds])
        if self.features == "distances":
            return pairwise_mixture_wasserstein(list(fits), self.anchors_)
        covariances = fits.covariances
        if not FAMILIES[self.covariance_type].is_diagonal:
            covariances = covariances[..., *np.tril_indices(self.n_features_in_)]
        parts = fits.weights, fits.means, covariances
        return np.concatenate([part.reshape(len(fits), -1) for part in parts], axis=1)

    def fit_transform(self, X: Any, y: object = None) -> NDArray[np.float64]:
        """Fit, and make features of the same sets.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        features : ndarray of shape (n_sets, n_features_out)
        """
        return self.fit(X).transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Name the features.

        Parameters
        ----------
        input_features : Ignored

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        if self.features == "distances":
            return np.array([f"distance{i}" for i in range(len(self.anchors_))], dtype=object)
        family, d = FAMILIES[self.covariance_type], range(self.n_features_in_)
        components = range(self.n_components)
        names = [f"weight{k}" for k in components] + [f"mean{k}_{a}" for k in components for a in d]
        entries = [f"_{a}_{b}" for a in d for b in range(a + 1)]
        if family.is_diagonal:
            whole = family.shape(self.n_components, self.n_features_in_)
            entries = [f"_{a}" for a in d] if len(whole) > 1 else [""]
        owners = [""] if family.is_shared else components
        names += [f"covariance{k}{entry}" for k in owners for entry in entries]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags
