"""A fitted mixture from scikit-learn's `GaussianMixture`, and back to one."""

from copy import copy
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.mixture import GaussianMixture

from ..parameters import Estimator, final_mixture

_ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
# Of their fits, as of ours.
_SHARED_RESULTS = ("converged_", "n_iter_", "lower_bound_", "lower_bounds_", "feature_names_in_")
# With these a fit of ours is one of theirs, step by step.
_AS_THEY_FIT = {"acceleration": None, "residual_tol": np.inf, "init_size": None}


class SklearnExchange:
    """Mixed into `DifferentiableGaussianMixture`."""

    @classmethod
    def from_sklearn(cls, mixture: Estimator, **params: Any) -> Self:
        """A fitted estimator from a fitted `sklearn.mixture.GaussianMixture`.

        It predicts what the other predicts. Fitted again it makes the same steps, because it is
        set to plain EM that stops as scikit-learn does (``acceleration=None``,
        ``residual_tol=np.inf``, ``init_size=None``).

        Parameters
        ----------
        mixture : sklearn.mixture.GaussianMixture
            Fitted, or a Pipeline or search that ends with one. That of a Pipeline is a mixture of
            transformed data.
        **params : constructor parameters
            In the place of those of ``mixture``.

        Returns
        -------
        mixture : DifferentiableGaussianMixture
            With the parameters, the fitted attributes and the names of features of the other.

        Raises
        ------
        ValueError
            If ``mixture`` is not a ``GaussianMixture``, or not fitted.

        See Also
        --------
        from_mixture : From any mixture, with the defaults of this class.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.mixture import GaussianMixture
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = load_iris().data
        >>> theirs = GaussianMixture(3, tol=1e-4, random_state=0).fit(X)
        >>> ours = DifferentiableGaussianMixture.from_sklearn(theirs)
        >>> ours.tol, bool((ours.predict(X) == theirs.predict(X)).all())
        (0.0001, True)
        """
        theirs = final_mixture(mixture)
        if not isinstance(theirs, GaussianMixture):
            raise ValueError(
                "mixture must be a fitted sklearn.mixture.GaussianMixture; got "
                f"{type(theirs).__name__}. The parameters of any other mixture are read by "
                "from_mixture."
            )
        shared = clone(theirs).get_params()
        del shared["n_components"], shared["covariance_type"]  # those of the fit are
        ours = cls.from_mixture(theirs, **_AS_THEY_FIT | shared | params)
        _copy_results(theirs, ours)
        ours.n_evaluations_ = ours.n_iter_
        return ours

    def to_sklearn(self) -> GaussianMixture:
        """A fitted `sklearn.mixture.GaussianMixture` that predicts the same.

        Parameters that scikit-learn does not have are left out: they say how to fit, and the other
        fits as scikit-learn does. Samples of full and tied covariances have the same distribution,
        and not the same bits.

        Returns
        -------
        mixture : sklearn.mixture.GaussianMixture
            With the parameters that both have, the fitted attributes and the names of features.

        Raises
        ------
        ValueError
            If the temperature is not one, the weights are fixed or ``e_step`` is ``"sinkhorn"``:
            predictions, or the numbers of parameters in criteria, would be others.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> X = load_iris().data
        >>> ours = DifferentiableGaussianMixture(3, random_state=0).fit(X)
        >>> theirs = ours.to_sklearn()
        >>> theirs
        GaussianMixture(max_iter=1000, n_components=3, random_state=0)
        >>> bool(abs(theirs.bic(X) - ours.bic(X)) < 1e-6)
        True
        """
        self._check_is_fitted()
        self._refuse_what_they_lack()
        names = GaussianMixture().get_params()
        params = {name: value for name, value in self.get_params().items() if name in names}
        params |= {"n_components": len(self.weights_)}  # of the fit
        theirs = clone(GaussianMixture(**params))
        for name in _ARRAYS:
            setattr(theirs, name, getattr(self, name).copy())
        theirs.n_features_in_ = self.n_features_in_
        theirs.lower_bound_, theirs.lower_bounds_ = -np.inf, []  # of parameters that were given
        _copy_results(self, theirs)
        return theirs

    def _refuse_what_they_lack(self):
        for name, value, plain in (
            ("temperature", self._last_temperature, 1.0),
            ("fixed_weights", self.fixed_weights, False),
            ("e_step", self.e_step, "softmax"),
        ):
            if value != plain:
                raise ValueError(
                    f"{name}: scikit-learn's mixtures have {plain!r} alone, this one {value!r}, "
                    "which changes predictions or criteria. For a plain mixture with these "
                    "parameters take from_mixture(self).to_sklearn()."
                )


def _copy_results(source, target):
    for name in _SHARED_RESULTS:
        if hasattr(source, name):
            setattr(target, name, copy(getattr(source, name)))
