"""Distances between Gaussian mixtures."""

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from ..checks import N_JOBS, as_parameters, checked_regularization
from ..estimators.state import warn_of
from ..numerics.threads import effective_n_threads
from ..parameters import MixtureLike, MixtureParameters, PenaltiesLike, in_dtype
from ..results.transport_result import transport_between
from ..transport.many import exact_values
from ..transport.plans import BALANCED
from .mixture_transport import checked_transport
from .validation import validated

# Pairs are handed to workers in batches: one alone takes less than its handing over.
PAIRS_PER_TASK = 256


def mixture_wasserstein(
    a: MixtureLike,
    b: MixtureLike,
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
) -> float:
    """Mixture-Wasserstein distance MW2 between two Gaussian mixtures.

    Parameters
    ----------
    a, b : estimator, MixtureParameters or tuple
        A fitted mixture (of this package or of scikit-learn), a Pipeline or a search that ends
        with one, a `MixtureParameters`, or a tuple ``(weights, means, covariances)``, as in
        `mixture_transport`. The numbers of components and the covariance types may differ.
    squared : bool, default=False
        Whether to return the squared distance.
    reg : float, default=0.0
        Weight of the entropy, see `mixture_transport`. Positive values make a smooth function
        that is no distance: that of a mixture to itself is positive.
    reg_m : float, tuple of two floats or None, default=None
        Weights of the marginal terms of unbalanced transport, see `mixture_transport`. None
        moves all mass.

    Returns
    -------
    distance : float
        Without ``reg``, zero if and only if the mixtures are the same.

    Raises
    ------
    ValueError
        If a mixture is not fitted or not valid, the numbers of features differ, or ``reg`` or
        ``reg_m`` is not a number in its range.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal.

    See Also
    --------
    mixture_transport : The plan, the potentials and the gradient as well.
    pairwise_mixture_wasserstein : The distances between all mixtures of a list.

    References
    ----------
    .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
       mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020.

    Examples
    --------
    >>> from skgmmot import mixture_wasserstein
    >>> a = ([1.0], [[0.0, 0.0]], [1.0])
    >>> b = ([0.5, 0.5], [[3.0, 4.0], [3.0, 4.0]], [1.0, 1.0])
    >>> mixture_wasserstein(a, b)
    5.0
    """
    transport, complaints = checked_transport(a, b, reg, reg_m)
    warn_of(complaints)
    return transport.value if squared else transport.distance


@validated({"n_jobs": N_JOBS})
def pairwise_mixture_wasserstein(
    A: Sequence[MixtureLike],
    B: Sequence[MixtureLike] | None = None,
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Mixture-Wasserstein distances between all mixtures of one list, or of two.

    Parameters
    ----------
    A : sequence of mixtures
        Each an estimator, a `MixtureParameters` or a tuple, as in `mixture_wasserstein`. Also an
        array of objects, with one mixture in each row: it can be indexed by scikit-learn's
        splitters. ``np.fromiter(mixtures, dtype=object)`` makes one.
    B : sequence of mixtures, default=None
        None compares those of ``A`` with one another.
    squared, reg, reg_m
        As in `mixture_wasserstein`.
    n_jobs : int, default=None
        Number of threads: None means as many as scikit-learn's own code would take, and -1 all
        processors. With ``reg`` or ``reg_m`` it is the number of processes, by joblib, and None
        means 1 unless in a `joblib.parallel_config` context. No number changes the result.

    Returns
    -------
    distances : ndarray of shape (len(A), len(B))
        With ``B=None`` symmetric if both marginal terms have the same weight, and with a
        diagonal of exact zeros unless ``reg`` is positive: a precomputed metric for
        scikit-learn's estimators.

    Raises
    ------
    ValueError
        As `mixture_wasserstein`, naming the mixture by its place in the list.

    Warns
    -----
    ConvergenceWarning
        If a plan is not optimal.

    Examples
    --------
    >>> from sklearn.cluster import AgglomerativeClustering
    >>> from skgmmot import pairwise_mixture_wasserstein
    >>> mixtures = [([1.0], [[mean]], [1.0]) for mean in (0.0, 1.0, 8.0, 9.0)]
    >>> distances = pairwise_mixture_wasserstein(mixtures)
    >>> distances
    array([[0., 1., 8., 9.],
           [1., 0., 7., 8.],
           [8., 7., 0., 1.],
           [9., 8., 1., 0.]])
    >>> clustering = AgglomerativeClustering(2, metric="precomputed", linkage="average")
    >>> clustering.fit(distances).labels_
    array([1, 1, 0, 0])
    """
    mixtures, others = checked_lists(A, B)
    reg, reg_m = checked_regularization(reg, reg_m)
    symmetric = B is None and reg_m[0] == reg_m[1]
    needed = np.ones((len(mixtures), len(others)), dtype=bool)
    if B is None:
        np.fill_diagonal(needed, reg > 0)
    if symmetric:
        needed = np.triu(needed)
    distances, left = np.zeros(needed.shape), needed
    if reg == 0 and reg_m == BALANCED:
        values = _exact_values(mixtures, others, needed, effective_n_threads(n_jobs))
        left = needed & np.isnan(values)
        found = needed & ~left
        distances[found] = values[found] if squared else np.sqrt(values[found])
    values, complaints = _distances(mixtures, others, np.argwhere(left), reg, reg_m, n_jobs)
    distances[left] = values[:, int(not squared)]
    if symmetric:
        distances.T[needed] = distances[needed]
    warn_of(complaints, stacklevel=4)  # above validate_params
    return distances


def _exact_values(A, B, needed, n_threads):
    """`exact_values` of mixtures of any precision."""
    doubles = [in_dtype(mixture, np.float64) for mixture in A]
    others = doubles if B is A else [in_dtype(mixture, np.float64) for mixture in B]
    return exact_values(doubles, others, needed, n_threads)


def checked_lists(A, B):
    """The mixtures of both lists, the same list twice if B is None."""
    mixtures = _read(A, "A")
    others = mixtures if B is None else _read(B, "B")
    _refuse_other_features(mixtures + others)
    return mixtures, others


def _read(mixtures, name):
    """The mixtures of a list, each checked once."""
    if isinstance(mixtures, np.ndarray):
        if mixtures.dtype != object or not mixtures.ndim or mixtures.size != len(mixtures):
            raise ValueError(
                f"{name}: an array must hold objects, one mixture in each row; got the shape "
                f"{mixtures.shape} and the dtype {mixtures.dtype}. NumPy takes tuples and "
                "Pipelines apart: np.fromiter(mixtures, dtype=object) keeps them whole."
            )
    elif not hasattr(mixtures, "__iter__") or isinstance(mixtures, MixtureParameters):
        raise ValueError(f"{name} must be a sequence of mixtures; got {type(mixtures).__name__}.")
    parameters = [as_parameters(m, f"{name}[{i}]", dtype=None) for i, m in enumerate(mixtures)]
    if not parameters:
        raise ValueError(f"{name} is empty; at least one mixture is needed.")
    return parameters


def _refuse_other_features(mixtures):
    numbers = sorted({mixture.n_features for mixture in mixtures})
    if len(numbers) > 1:
        raise ValueError(f"All mixtures must have the same number of features; got {numbers}.")


def _distances(A, B, pairs, reg, reg_m, n_jobs):
    """Value and distance of each pair, and what there is to warn of."""
    parts = Parallel(n_jobs=n_jobs)(
        delayed(_some_distances)(A, B, pairs[start : start + PAIRS_PER_TASK], reg, reg_m)
        for start in range(0, len(pairs), PAIRS_PER_TASK)
    )
    values = [value for part, _ in parts for value in part]
    return np.reshape(values, (-1, 2)), dict.fromkeys(words for _, told in parts for words in told)


def _some_distances(A, B, pairs, reg, reg_m):
    results = [transport_between(A[i], B[j], reg, reg_m) for i, j in pairs]
    values = [(transport.value, transport.distance) for transport, _ in results]
    return values, [words for _, complaints in results for words in complaints]
