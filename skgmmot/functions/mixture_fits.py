"""Many fitted mixtures, each on a set of samples of its own, and the gradients of all fits."""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from ..checks import checked_tol
from ..em.adjoints import ADJOINTS
from ..em.sets_adjoints import pull_back_sets
from ..families import family_of
from ..parameters import FloatArray, GradientMode, MixtureParameters
from ..reprs import count, html_repr, shape_of, short_repr
from ..samples.device_arrays import refuse_on_device

_PARTS = "weights", "means", "covariances"
_MOST_NAMED = 5  # sets, in a warning


class SetsCotangent(NamedTuple):
    """Gradients of a loss with respect to all inputs of many fits.

    What `MixtureFits.vjp` returns.

    Attributes
    ----------
    data : ndarray of shape (n_rows, n_features)
        Of the rows of all sets, one set after the other; of the shape (n_sets, n_samples,
        n_features) if that is how the sets were given.
    sample_weight : ndarray of shape (n_rows,), or (n_sets, n_samples)
    initial_parameters : MixtureParameters or None
        Of ``unrolled``, with a first axis for the sets.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import fit_mixtures
    >>> X = np.random.default_rng(0).normal(size=(5, 20, 2))
    >>> fits = fit_mixtures(X)
    >>> fits.vjp((None, np.ones((5, 1, 2)), None))
    <SetsCotangent: data of shape (5, 20, 2), sample_weight of shape (5, 20)>
    """

    data: FloatArray
    sample_weight: FloatArray
    initial_parameters: Any

    def __repr__(self):
        return short_repr(self)

    def _repr_html_(self):
        return html_repr(self)

    def _summary(self):
        words = [f"{name} of {shape_of(getattr(self, name))}" for name in ("data", "sample_weight")]
        if self.initial_parameters is not None:
            words.append("initial_parameters")
        return ", ".join(words)


class MixtureFits:
    """A Gaussian mixture for each of many sets of samples.

    What `fit_mixtures` returns. It is a sequence of `MixtureParameters`, as functions of mixtures
    take them.

    Attributes
    ----------
    weights : ndarray of shape (n_sets, n_components)
    means : ndarray of shape (n_sets, n_components, n_features)
    covariances : ndarray
        With a first axis for the sets, and otherwise as in `MixtureParameters`.
    covariance_type : {"full", "tied", "diag", "spherical"}
    lower_bounds : ndarray of shape (n_sets,)
        Mean log-likelihood of each set before its last step.
    n_iter : ndarray of shape (n_sets,), int64
        Number of steps.
    residuals : ndarray of shape (n_sets,)
        The scaled change of the parameters in the last step.
    converged : ndarray of shape (n_sets,), bool
    lost : ndarray of shape (n_sets, n_components), bool
        Components that have lost all their mass, and keep their last mean and covariance.
    failed : ndarray of shape (n_sets,), bool
        Sets that no mixture could be fitted to: their parameters are NaN, and ``errors`` tells why.
    errors : dict
        An exception for each set that failed, by its number.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import fit_mixtures, pairwise_mixture_wasserstein
    >>> X = np.random.default_rng(0).normal(size=(5, 20, 2))
    >>> fits = fit_mixtures(X, 2, covariance_type="spherical")
    >>> fits
    <MixtureFits: 5 sets, 2 components, 2 features, spherical>
    >>> fits[0]
    <MixtureParameters: 2 components, 2 features, spherical>
    >>> pairwise_mixture_wasserstein(list(fits)).shape
    (5, 5)
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray

    def __init__(
        self, sets_map: Any, start: Any, fit: Any, errors: Any, rows: Any, n_threads: int
    ) -> None:
        self._map, self._start, self._fit = sets_map, start, fit
        self._shape, self._exponent = rows  # of values of rows, and of the unit of weights
        self._n_threads = n_threads
        self.covariance_type = start.covariance_type
        self.lower_bounds: NDArray[np.float64] = fit.lower_bounds
        self.n_iter: NDArray[np.int64] = fit.n_iter
        self.residuals: NDArray[np.float64] = fit.residuals
        self.converged: NDArray[np.bool_] = fit.converged
        self.lost: NDArray[np.bool_] = fit.lost
        self.errors: dict[int, Exception] = dict(sorted((errors | fit.errors).items()))
        self.failed: NDArray[np.bool_] = np.zeros(len(fit.n_iter), dtype=bool)
        self.failed[list(self.errors)] = True
        for name, part in zip(_PARTS, fit.parameters, strict=True):
            part = part.astype(sets_map.sets.X.dtype)
            part[self.failed] = np.nan
            setattr(self, name, part)

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, number: int) -> MixtureParameters:
        number = range(len(self))[number]
        if self.failed[number]:
            error = self.errors[number]
            raise ValueError(f"The fit of set {number} failed: {error}") from error
        parts = self.weights[number], self.means[number], self.covariances[number]
        return MixtureParameters(*parts, self.covariance_type)

    def __iter__(self) -> Iterator[MixtureParameters]:
        return (self[number] for number in range(len(self)))

    def vjp(
        self, cotangent: Any, *, mode: GradientMode = "implicit", tol: float = 1e-6
    ) -> SetsCotangent:
        """The gradients of a loss of all fitted parameters with respect to all samples.

        Parameters
        ----------
        cotangent : MixtureParameters or tuple (weights, means, covariances)
            Derivatives of the loss with respect to the fitted parameters, with a first axis for
            the sets; None is zero. Those of sets that failed are not read.
        mode : {"implicit", "unrolled", "one_step"}, default="implicit"
            As in `DifferentiableGaussianMixture.gradient_wrt_data`. ``implicit`` asks for fits
            that have converged; ``unrolled`` makes all steps again, and asks for
            ``acceleration=None`` where fits are slow.
        tol : float, default=1e-6
            Relative accuracy that is asked of ``implicit``.

        Returns
        -------
        gradients : SetsCotangent
            Rows of sets that failed have zeros.

        Raises
        ------
        ValueError
            If the mode is unknown, the cotangent has other shapes, ``unrolled`` meets fits that
            were accelerated, or a derivative overflows.
        RuntimeError
            If a linear system of ``implicit`` could not be solved.

        Warns
        -----
        ConvergenceWarning
            If ``implicit`` meets parameters that are not a fixed point, or a singular system.

        Examples
        --------
        The mean of a single component moves with the mean of its set:

        >>> import numpy as np
        >>> from skgmmot import fit_mixtures
        >>> fits = fit_mixtures([np.eye(2), np.arange(8.0).reshape(4, 2) ** 2])
        >>> fits.vjp((None, [[[1.0, 0.0]], [[0.0, 2.0]]], None)).data.round(6) + 0.0
        array([[0.5, 0. ],
               [0.5, 0. ],
               [0. , 0.5],
               [0. , 0.5],
               [0. , 0.5],
               [0. , 0.5]])
        """
        if mode not in ADJOINTS:
            raise ValueError(f"mode must be one of {tuple(ADJOINTS)}; got {mode!r}.")
        if mode == "unrolled" and not self._fit.plain.all():
            numbers = np.flatnonzero(~self._fit.plain)
            raise ValueError(
                "mode='unrolled' differentiates plain EM steps, but slow sets were accelerated: "
                f"{len(numbers)} of {len(self)}, the first of them {numbers[0]}. Fit with "
                "acceleration=None, or use mode='implicit'."
            )
        gradients, complaints = self._vjp(self._checked(cotangent), mode, checked_tol(tol))
        warn_of_sets(complaints, len(self))
        return gradients

    def _vjp(self, cotangent, mode, tol, wrt_weight=True):
        """`SetsCotangent`, and pairs of a set and what there is to warn of."""
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused below
            data_bar, initial_bar, complaints = pull_back_sets(
                self._map,
                self._fit._replace(errors=self.errors),
                self._start,
                cotangent,
                mode,
                tol=tol,
                wrt_weight=wrt_weight,
                n_threads=self._n_threads,
            )
        found = data_bar.X, data_bar.sample_weight, *(initial_bar or ())
        if not all(np.isfinite(part).all() for part in found if part is not None):
            raise ValueError(
                "X: the derivative of a set overflows, since samples are too far from the "
                "components in units of their covariances. Scale the features."
            )
        X_bar = data_bar.X.astype(self.means.dtype, copy=False)
        weight_bar = data_bar.sample_weight
        if weight_bar is not None:
            weight_bar = np.ldexp(weight_bar, -self._exponent).reshape(self._shape)
        X_bar = X_bar.reshape(*self._shape, X_bar.shape[1])
        return SetsCotangent(X_bar, weight_bar, initial_bar), complaints

    def _checked(self, cotangent):
        if (
            not isinstance(cotangent, (MixtureParameters, tuple, list))
            or len(tuple(cotangent)) != 3
        ):
            raise ValueError(
                "cotangent must be a MixtureParameters or a tuple (weights, means, covariances); "
                f"got {type(cotangent).__name__}."
            )
        parts = []
        for name, part, like in zip(_PARTS, cotangent, self._fit.parameters, strict=True):
            refuse_on_device(part, f"cotangent: the {name}")
            part = np.zeros(like.shape) if part is None else np.array(part, dtype=np.float64)
            if part.shape != like.shape:
                raise ValueError(
                    f"cotangent: the {name} of these {self.covariance_type} mixtures have shape "
                    f"{like.shape}; got {part.shape}."
                )
            part[self.failed] = 0.0
            if not np.isfinite(part).all():
                raise ValueError(f"cotangent: the {name} contain NaN or infinity.")
            parts.append(part)
        parts[2] = family_of(self._start).symmetrized(parts[2])
        return MixtureParameters(*parts, self.covariance_type)

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        n_sets, n_components, n_features = self.means.shape
        sizes = (n_sets, "set"), (n_components, "component"), (n_features, "feature")
        words = [*(count(*size) for size in sizes), self.covariance_type]
        if self.failed.any():
            words.append(f"{self.failed.sum()} failed")
        return ", ".join(words)


def warn_of_sets(complaints, n_sets, stacklevel=3):
    """Warn once of all sets to complain of: pairs of their numbers and a sentence."""
    for message in told_of_sets(complaints, n_sets):
        warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel)


def told_of_sets(complaints, n_sets):
    """One sentence in a list, or none: of which sets there are complaints, and the first."""
    if not complaints:
        return []
    numbers = sorted({number for number, _ in complaints})
    named = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", …" * (len(numbers) > _MOST_NAMED))
    return [f"{len(numbers)} of {count(n_sets, 'set')} ({named}): {complaints[0][1]}"]
