"""Gradients of distances between Gaussian mixtures, many at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..checks import N_JOBS, as_real, checked_regularization
from ..estimators.state import warn_of
from ..families import family_of
from ..numerics.threads import effective_n_threads
from ..parameters import MixtureLike, MixtureParameters, PenaltiesLike, in_dtype
from ..results.transport_result import transport_between
from ..transport.many_gradients import exact_gradients
from ..transport.plans import BALANCED
from .distances import checked_lists
from .validation import validated


@validated({"n_jobs": N_JOBS})
def pairwise_mixture_wasserstein_vjp(
    A: Sequence[MixtureLike],
    B: Sequence[MixtureLike] | None,
    cotangent: ArrayLike,
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    n_jobs: int | None = None,
) -> tuple[list[MixtureParameters], list[MixtureParameters] | None]:
    """Pull a cotangent of all distances back to the mixtures: one for each of them.

    Of a loss of the matrix of distances that `pairwise_mixture_wasserstein` returns, with the
    derivatives ``cotangent`` in its entries, these are the derivatives in the parameters of the
    mixtures.

    Parameters
    ----------
    A : sequence of mixtures
        As in `pairwise_mixture_wasserstein`.
    B : sequence of mixtures or None
        None for the distances between those of ``A``. A mixture then moves rows and columns: what
        it gets from an entry (i, j) and from (j, i) is added up, and entries of the diagonal, which
        are zero whatever the mixture is, count only if ``reg`` is positive.
    cotangent : array-like of shape (len(A), len(B))
        Derivatives of the loss in the distances, or in their squares if ``squared``. Pairs with
        zeros are not computed.
    squared, reg, reg_m
        As in `pairwise_mixture_wasserstein`.
    n_jobs : int, default=None
        Number of threads: None means as many as scikit-learn's own code would take, and -1 all
        processors. With ``reg`` or ``reg_m`` one pair is computed after the other.

    Returns
    -------
    gradients : list of MixtureParameters
        For each mixture of ``A``, as `MixtureTransport.gradient` returns them: of its covariance
        type, float32 if it is float32, else float64; those of weights have mean zero over the
        components that have weight.
    other_gradients : list of MixtureParameters or None
        For each mixture of ``B``; None if that is None.

    Raises
    ------
    ValueError
        As `pairwise_mixture_wasserstein`; if ``cotangent`` has a wrong shape or is not finite; or
        if a covariance is singular in a direction in which the component it is moved to varies:
        there is no derivative.

    Warns
    -----
    ConvergenceWarning
        If a plan is not optimal.

    See Also
    --------
    pairwise_mixture_wasserstein : The distances.
    MixtureTransport.gradient : The gradient of one squared distance.

    Notes
    -----
    A distance has a kink where two mixtures are equal, of which zero is a subgradient: that is
    taken where it is exactly zero. Where it is zero but for rounding the gradient is one of
    another direction. Squares have no kink there.

    Examples
    --------
    >>> from skgmmot import pairwise_mixture_wasserstein_vjp
    >>> A = [([1.0], [[0.0]], [1.0]), ([1.0], [[3.0]], [1.0])]
    >>> B = [([1.0], [[1.0]], [1.0])]
    >>> gradients, (other,) = pairwise_mixture_wasserstein_vjp(A, B, [[1.0], [10.0]])
    >>> [gradient.means.item() for gradient in gradients], other.means.item()
    ([-1.0, 10.0], -9.0)
    """
    mixtures, others = checked_lists(A, B)
    reg, reg_m = checked_regularization(reg, reg_m)
    G = _checked(cotangent, (len(mixtures), len(others)))
    if B is None:
        off_diagonal = G - np.diag(np.diag(G))
        if reg_m[0] == reg_m[1]:
            off_diagonal = np.triu(off_diagonal + off_diagonal.T)
        G = off_diagonal + np.diag(np.diag(G)) * (reg > 0)
    doubles = [in_dtype(mixture, np.float64) for mixture in mixtures]
    other_doubles = doubles if others is mixtures else [in_dtype(b, np.float64) for b in others]
    sides = [_zeros(doubles)]
    sides.append(sides[0] if B is None else _zeros(other_doubles))
    left = G != 0
    if reg == 0 and reg_m == BALANCED:
        threads = effective_n_threads(n_jobs)
        *found, left = exact_gradients(doubles, other_doubles, G, squared, threads)
        for side, thetas, sums in zip(sides, (doubles, other_doubles), found, strict=True):
            _add_sums(side, thetas, sums)
    complaints: dict[str, None] = {}
    for i, j in np.argwhere(left):
        told = _add_pair(sides, i, j, doubles[i], other_doubles[j], G[i, j], squared, reg, reg_m)
        complaints |= dict.fromkeys(told)
    warn_of(complaints, stacklevel=4)  # above validate_params
    lists = [
        [_as_cotangent(parts, theta) for parts, theta in zip(side, thetas, strict=True)]
        for side, thetas in ((sides[0], mixtures), (sides[1], others))
    ]
    return lists[0], None if B is None else lists[1]


def _checked(cotangent, shape):
    G = as_real(cotangent, "cotangent")
    if G.shape != shape:
        raise ValueError(
            f"cotangent must have the shape {shape} of the distances between the mixtures; got "
            f"{G.shape}."
        )
    if not np.isfinite(G).all():
        raise ValueError("cotangent contains NaN or infinity.")
    return G


def _zeros(thetas):
    return [[np.zeros(part.shape) for part in theta] for theta in thetas]


def _add_sums(side, thetas, sums):
    """Add what was found of components, pulled back to covariance types."""
    for parts, theta, found in zip(side, thetas, sums, strict=True):
        if found is not None and len(found.weights) == len(theta.weights):
            pulled = found.weights, found.means, family_of(theta).pull(found.matrices)
            for part, its in zip(parts, pulled, strict=True):
                part += its


def _add_pair(sides, i, j, a, b, cotangent, squared, reg, reg_m):
    """Add the gradients of one pair; what there is to warn of."""
    transport, complaints = transport_between(a, b, reg, reg_m)
    if not squared:
        cotangent = cotangent / (2 * transport.distance) if transport.distance > 0 else 0.0
    if cotangent != 0:
        try:
            gradients = transport.gradient("source"), transport.gradient("target")
        except ValueError as error:
            raise ValueError(f"A[{i}] and a mixture it is compared with, [{j}]: {error}") from error
        for parts, gradient in zip((sides[0][i], sides[1][j]), gradients, strict=True):
            for part, its in zip(parts, gradient, strict=True):
                part += cotangent * its
    return complaints


def _as_cotangent(parts, theta):
    cotangent = MixtureParameters(*parts, theta.covariance_type)
    return in_dtype(cotangent, theta.means.dtype)
