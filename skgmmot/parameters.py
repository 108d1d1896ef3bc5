"""Mixture parameters: one structure for values, tangents and cotangents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .reprs import count, html_repr, short_repr

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")

CovarianceType: TypeAlias = Literal["full", "tied", "diag", "spherical"]
InitParams: TypeAlias = Literal["kmeans", "k-means++", "random", "random_from_data"]
FloatArray: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64
RandomState: TypeAlias = int | np.random.RandomState | None


@dataclass(frozen=True, eq=False, repr=False)
class MixtureParameters:
    """Weights, means and covariances of a Gaussian mixture, or a (co)tangent of them.

    Parameters
    ----------
    weights : ndarray of shape (n_components,)
        Component weights. They sum to one for a mixture, to zero for a tangent.
    means : ndarray of shape (n_components, n_features)
        Component means.
    covariances : ndarray
        Component covariances; the shape depends on ``covariance_type``::

            (n_components, n_features, n_features)  if 'full',
            (n_features, n_features)                if 'tied',
            (n_components, n_features)              if 'diag',
            (n_components,)                         if 'spherical'.
    covariance_type : {"full", "tied", "diag", "spherical"}, default=None
        None reads the type from the shape of ``covariances``. That is possible unless
        there are as many components as features, where a square matrix could be
        ``tied`` or ``diag``: then the type must be given.

    Notes
    -----
    The arrays are kept as they are given, not copied. Functions and estimators that read a
    mixture make copies.

    The object unpacks as ``weights, means, covariances = parameters``. In a cotangent
    any of the three may be None, which stands for zero.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import MixtureParameters
    >>> parameters = MixtureParameters(np.ones(1), np.zeros((1, 3)), np.ones((1, 3)))
    >>> parameters
    <MixtureParameters: 1 component, 3 features, diag>
    >>> parameters.covariance_type
    'diag'
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray
    covariance_type: CovarianceType | None = None

    def __post_init__(self) -> None:
        if self.covariance_type is None and self.covariances is not None:
            object.__setattr__(self, "covariance_type", infer_type(self.means, self.covariances))

    def __iter__(self) -> Iterator[FloatArray]:
        return iter((self.weights, self.means, self.covariances))

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        shape, words = np.shape(self.means), []
        if self.weights is not None or shape:
            words.append(count(len(self.means if shape else self.weights), "component"))
        if len(shape) > 1:
            words.append(count(shape[1], "feature"))
        if self.covariance_type is not None:
            words.append(self.covariance_type)
        parts = zip(("weights", "means", "covariances"), self, strict=True)
        return ", ".join([*words, *(f"no {name}" for name, part in parts if part is None)])

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.weights)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return np.shape(self.means)[1]


class Estimator(Protocol):
    """An estimator, of scikit-learn's or any other: a mixture, or what ends with one."""

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...


# What functions take for a mixture, for a cotangent of one, and for the weights λ0 and λ1 of
# marginal terms; and the ways through EM that gradients take.
MixtureLike: TypeAlias = MixtureParameters | tuple[ArrayLike, ArrayLike, ArrayLike] | Estimator
CotangentLike: TypeAlias = (
    MixtureParameters | tuple[ArrayLike | None, ArrayLike | None, ArrayLike | None]
)
PenaltiesLike: TypeAlias = float | tuple[float, float] | None
GradientMode: TypeAlias = Literal["implicit", "unrolled", "one_step"]


def infer_type(means, covariances):
    """Read the covariance type from the shapes; None where the shape leaves it open."""
    shape = np.shape(covariances)
    if len(shape) == 3:
        return "full"
    if len(shape) == 1:
        return "spherical"
    if len(shape) == 2 and means is not None:
        n_components, n_features = np.shape(means)
        if n_components != n_features or n_components == 1:
            return "diag" if shape == (n_components, n_features) else "tied"
    return None


def in_dtype(parameters, dtype):
    """The same parameters, or another (co)tangent, in a dtype; what is beyond it is infinite."""
    if parameters.means.dtype == dtype:  # that of all three
        return parameters
    with np.errstate(over="ignore"):
        weights, means, covariances = (part.astype(dtype, copy=False) for part in parameters)
    return replace(parameters, weights=weights, means=means, covariances=covariances)


def final_mixture(estimator):
    """The mixture that a fitted search or a Pipeline ends with; anything else as it is.

    That of a Pipeline is a mixture of what its earlier steps make of the data.
    """
    return final_mixture_and_data(estimator, None)[0]


def final_mixture_and_data(estimator, X):
    """`final_mixture`, and what the steps of a Pipeline before the last make of X, if not None."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(getattr(estimator, "steps", None), list):
            if X is not None and len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X


def refusal_of(estimator):
    """What is wrong with an estimator that has no weights and covariances, and the cure."""
    kind = type(estimator).__name__
    if hasattr(estimator, "source_mixture_"):
        return f"this {kind} holds two mixtures; pass its source_mixture_ or its target_mixture_."
    if hasattr(estimator, "cv_results_"):
        return f"this {kind} keeps no fitted mixture; fit it with refit=True."
    says_it_is_fitted = getattr(estimator, "__sklearn_is_fitted__", lambda: True)
    known = any(name.endswith("_") and not name.startswith("_") for name in vars(estimator))
    if known and says_it_is_fitted():
        return f"this {kind} is no Gaussian mixture: it has no weights_ and covariances_."
    return f"this {kind} is not fitted; call fit first."
