"""Fit a mixture to each of many sets of samples."""

import warnings
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from ..checks import EM_CONSTRAINTS, as_parameters, refuse_overflow, weights_and_unit
from ..em.em_map import EMMap
from ..em.fit import Stopping, complaint_of_lost
from ..em.initialization import initial_parameters
from ..em.lbfgs import LBFGS
from ..em.sets_fit import fit_sets
from ..em.sets_map import SetsMap
from ..numerics.threads import effective_n_threads
from ..parameters import CovarianceType, InitParams, MixtureParameters, RandomState
from ..samples import samples_of
from ..samples.device_arrays import refuse_on_device
from ..samples.sets import SampleSets
from .mixture_fits import MixtureFits, warn_of_sets
from .validation import as_rows, validated

_OPTIONS = ["covariance_type", "tol", "residual_tol", "reg_covar", "max_iter", "init_params"]
_OPTIONS += ["fixed_weights", "random_state", "n_jobs"]


@validated(
    {"X": "no_validation", "acceleration": [StrOptions({"auto"}), None]}
    | {name: EM_CONSTRAINTS[name] for name in _OPTIONS}
)
def fit_mixtures(
    X: Any,
    n_components: int | None = None,
    *,
    offsets: ArrayLike | None = None,
    sample_weight: Any = None,
    initial: Any = None,
    covariance_type: CovarianceType = "full",
    tol: float = 1e-3,
    residual_tol: float = 1e-6,
    max_iter: int = 1000,
    reg_covar: float = 1e-6,
    fixed_weights: bool = False,
    acceleration: Literal["auto"] | None = "auto",
    init_params: InitParams = "kmeans",
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> MixtureFits:
    """Fit a mixture to each of many sets of samples, all in one call.

    For thousands of small sets, such as the points of an image, the cells of a patient or the words
    of a text, a loop over estimators spends its time between the fits. Here all sets make
    their EM steps together, in compiled code and in threads. Each fit is what
    `DifferentiableGaussianMixture` with ``acceleration=None`` would make of the set; plain steps
    cost so little here that acceleration pays for the slowest sets only.

    A set that cannot be fitted is told of, and takes no other down.

    Parameters
    ----------
    X : sequence of arrays of shape (n_samples, n_features), or one array
        The sets, of any sizes. An array of shape (n_sets, n_samples, n_features) holds
        sets of one size; one of shape (n_rows, n_features) is cut at ``offsets``. If all are
        float32 so are the results; EM runs in float64.
    n_components : int, default=None
        Number of components of each mixture. None: that of ``initial``, or one.
    offsets : array-like of shape (n_sets + 1,), default=None
        Set s has the rows from ``offsets[s]`` to ``offsets[s + 1]``, if X is one matrix.
    sample_weight : as X, without the axis of features, default=None
        Non-negative weights of the samples.
    initial : mixture, sequence of mixtures, or tuple of arrays, default=None
        Where EM starts: one mixture for all sets; or one for each; or their weights, means and
        covariances with a first axis for the sets. None: as ``init_params`` says,
        which takes longer than the fit of a small set.
    covariance_type, tol, residual_tol, max_iter, reg_covar, fixed_weights
        As in `DifferentiableGaussianMixture`.
    acceleration : {"auto"} or None, default="auto"
        ``"auto"`` lets sets that have not settled after 200 steps go on by L-BFGS, as
        `DifferentiableGaussianMixture` does sooner. None: all steps are plain ones, as gradients of
        mode ``unrolled`` need them.
    init_params, random_state
        As in `DifferentiableGaussianMixture`.
    n_jobs : int, default=None
        Number of threads, as in `DifferentiableGaussianMixture`. Results do not depend on it.

    Returns
    -------
    fits : MixtureFits
        The parameters of all mixtures, what became of each fit, and gradients.

    Raises
    ------
    ValueError
        If the sets, their weights, or the mixtures to start from cannot be used.

    Warns
    -----
    ConvergenceWarning
        Once each, if sets could not be fitted, if sets did not converge, and if components lost
        all their mass.

    See Also
    --------
    pairwise_mixture_wasserstein : Distances between all fitted mixtures.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import fit_mixtures
    >>> rng = np.random.default_rng(0)
    >>> sets = [rng.normal(size=(n, 2)) + n for n in (20, 50, 30)]
    >>> fits = fit_mixtures(sets)
    >>> fits.means.round(0)
    array([[[20., 20.]],
    <BLANKLINE>
           [[50., 50.]],
    <BLANKLINE>
           [[30., 30.]]])
    """
    rows, bounds, shape = sets_of(X, offsets)
    weight, exponent = None, 0
    if sample_weight is not None:
        weight, exponent = _weights_of(sample_weight, rows, bounds, shape)
    refuse_overflow(samples_of(rows).summary())
    given = None
    if initial is not None:
        given = _given(initial, len(bounds), rows.shape[1], covariance_type)
    n_components = _checked_number(n_components, given)
    errors = _too_small(weight, bounds, n_components)
    good = np.setdiff1d(np.arange(len(bounds)), list(errors))
    if not len(good):
        raise ValueError(f"X: no set can be fitted. Set 0: {errors[0]}")
    options: dict[str, Any] = {
        "covariance_type": covariance_type,
        "reg_covar": float(reg_covar),
        "fixed_weights": bool(fixed_weights),
    }
    complaints: list[tuple[int, str]] = []
    if given is None:
        weights = np.full(n_components, 1.0 / n_components) if fixed_weights else None
        how = n_components, init_params, None, random_state, (weights, None, None)
        given = starts_of((rows, weight, bounds), good, how, errors, complaints, **options)
    stopping = Stopping(max_iter, tol, residual_tol)
    fits = fits_of(
        (rows, weight, bounds),
        given,
        stopping,
        errors,
        (shape, exponent),
        is_accelerated=acceleration is not None,
        n_threads=effective_n_threads(n_jobs),
        **options,
    )
    _warn_of(fits, complaints, stopping)
    return fits


def fits_of(
    sets,
    start,
    stopping,
    errors,
    values,
    *,
    covariance_type,
    reg_covar,
    fixed_weights,
    is_accelerated,
    n_threads,
):
    """`MixtureFits` of input that was checked.

    Parameters
    ----------
    sets : tuple (rows, sample weights or None, bounds)
    start : MixtureParameters, θ_0 of each set
    stopping : Stopping
    errors : dict, why sets are left out, by their numbers
    values : tuple, the shape of values of rows, and the exponent of the unit of their weights
    """
    rows, weight, bounds = sets
    if errors:
        # a set without samples has no center: it stands for nothing, and is not gone to
        good = np.setdiff1d(np.arange(len(bounds)), list(errors))
        bounds = bounds.copy()
        bounds[list(errors)] = bounds[good[0]]
    sets_map = SetsMap(SampleSets(rows, weight, bounds), covariance_type, reg_covar, fixed_weights)
    solver = LBFGS if is_accelerated else None
    fit = fit_sets(sets_map, start, stopping, n_threads, solver=solver, leave_out=errors)
    return MixtureFits(sets_map, start, fit, errors, values, n_threads)


def sets_of(X, offsets=None):
    """All rows in one array, the bounds of the sets, and the shape of values of rows."""
    refuse_on_device(X, "X")
    if offsets is not None:
        rows = as_rows(X, order="C")
        cuts = np.asarray(offsets)
        is_cut = cuts.ndim == 1 and len(cuts) > 1 and np.issubdtype(cuts.dtype, np.integer)
        if not is_cut or cuts[0] != 0 or cuts[-1] != len(rows) or (np.diff(cuts) < 0).any():
            raise ValueError(
                "offsets must be integers that rise from 0 to the number of rows of X, "
                f"{len(rows)}, one more than there are sets; got {offsets!r}."
            )
        return rows, np.stack([cuts[:-1], cuts[1:]], axis=1).astype(np.int64), (len(rows),)
    if isinstance(X, np.ndarray) and X.ndim == 3:
        n_sets, n_samples, n_features = X.shape
        rows = as_rows(X.reshape(-1, n_features), order="C")
        first = np.arange(n_sets, dtype=np.int64) * n_samples
        return rows, np.stack([first, first + n_samples], axis=1), (n_sets, n_samples)
    if isinstance(X, np.ndarray) and X.dtype != object:
        raise ValueError(
            f"X: an array of shape {X.shape} is no collection of sets. Pass a list of arrays, one "
            "of shape (n_sets, n_samples, n_features), or offsets."
        )
    if not isinstance(X, (Sequence, np.ndarray)) or not len(X):
        raise ValueError(f"X must be a sequence of arrays, one for each set; got {X!r:.60}.")
    sets = [as_rows(part, input_name=f"X[{s}]", ensure_min_samples=0) for s, part in enumerate(X)]
    widths = {part.shape[1] for part in sets}
    if len(widths) > 1:
        raise ValueError(f"X: all sets must have the same features; got {sorted(widths)} of them.")
    cuts = np.concatenate([[0], np.cumsum([len(part) for part in sets])]).astype(np.int64)
    rows = np.concatenate(sets)
    if not len(rows):
        raise ValueError("X: all sets are empty.")
    return rows, np.stack([cuts[:-1], cuts[1:]], axis=1), (len(rows),)


def _weights_of(sample_weight, rows, bounds, shape):
    """Weights of all rows, given as the rows are, and the exponent of their unit."""
    if isinstance(sample_weight, (list, tuple)) and np.ndim(sample_weight[0]) == 1:
        sizes = [len(part) for part in sample_weight]
        if sizes != list(np.diff(bounds)[:, 0]):
            raise ValueError("sample_weight must have an array for each set, of as many weights.")
        sample_weight = np.concatenate(sample_weight)
    elif np.shape(sample_weight) not in (shape, (len(rows),)):
        raise ValueError(
            f"sample_weight must have the shape {shape}, or be a list of arrays as the sets are; "
            f"got {np.shape(sample_weight)}."
        )
    return weights_and_unit(np.ravel(sample_weight), rows)


def _given(initial, n_sets, n_features, covariance_type):
    """θ_0 with a first axis for the sets."""
    if isinstance(initial, tuple) and len(initial) == 3 and np.ndim(initial[0]) == 2:
        each = [MixtureParameters(*parts, covariance_type) for parts in zip(*initial, strict=True)]
    elif isinstance(initial, (list, np.ndarray)) or hasattr(initial, "failed"):
        each = list(initial)
    else:
        each = [initial]
    if len(each) not in (1, n_sets):
        raise ValueError(f"initial must be of one mixture, or of {n_sets}, one for each set.")
    names = ["initial"] if len(each) == 1 else [f"initial[{s}]" for s in range(n_sets)]
    each = [as_parameters(own, name) for own, name in zip(each, names, strict=True)]
    shapes = {own.means.shape for own in each}
    kinds = {own.covariance_type for own in each}
    if len(shapes) > 1 or next(iter(shapes))[1] != n_features or kinds != {covariance_type}:
        raise ValueError(
            f"initial must be mixtures of as many components each, with {n_features} features and "
            f"{covariance_type} covariances (covariance_type); got {sorted(shapes)}, "
            f"{', '.join(sorted(kinds))}."
        )
    parts = (np.stack(part) for part in zip(*each, strict=True))
    weights, means, covariances = (np.repeat(p, n_sets // len(each), axis=0) for p in parts)
    return MixtureParameters(weights, means, covariances, covariance_type)


def _checked_number(n_components, given):
    known = 1 if given is None else given.weights.shape[1]
    if n_components is None:
        return known
    is_number = isinstance(n_components, (int, np.integer)) and not isinstance(n_components, bool)
    if not is_number or n_components < 1 or (given is not None and n_components != known):
        expected = "a positive integer" if given is None else f"that of initial, {known}"
        raise ValueError(f"n_components must be {expected}; got {n_components!r}.")
    return int(n_components)


def _too_small(weight, bounds, n_components):
    """An error for each set that has too few rows, by its number."""
    sizes, least = np.diff(bounds)[:, 0], max(2, n_components)
    if weight is not None:
        sizes = np.array([np.count_nonzero(weight[first:last]) for first, last in bounds])
    return {
        int(s): ValueError(
            f"it has {sizes[s]} samples (of positive weight), and needs {least} for n_components="
            f"{n_components}. Decrease n_components, or leave it out."
        )
        for s in np.flatnonzero(sizes < least)
    }


def starts_of(sets, good, how, errors, told=None, **options):
    """θ_0 of each set by an initialization, which may warn; that of the others is of any.

    Parameters
    ----------
    sets : tuple (rows, sample weights or None, bounds)
    good : ndarray of int, the sets that have samples enough
    how : tuple (n_components, init_params, init_size, random_state, given)
        As `initial_parameters` takes them, but that an integer seeds each set anew: what a set
        begins with does not depend on the others.
    errors : dict
        Sets for which there is none are added, with the reason.
    told : list, default=None
        Takes pairs of a set and a sentence, in the place of warnings.
    **options
        Of `EMMap.on`.
    """
    (rows, weight, bounds), (n_components, init_params, init_size, random_state, given) = sets, how
    found, places = [], np.zeros(len(bounds), dtype=np.int64)
    for s in good:
        X, own = rows[slice(*bounds[s])], None
        if weight is not None:
            own = weight[slice(*bounds[s])]
            X, own = X[own > 0], own[own > 0]
        rng = check_random_state(random_state)
        em_map, places[s] = EMMap.on(X, own, **options), len(found)
        begin = partial(initial_parameters, em_map, n_components, init_params, init_size)
        try:
            with nullcontext() if told is None else _telling(told, int(s)):
                found.append(begin(rng, given))
        except (ValueError, ArithmeticError) as error:
            errors[int(s)], places[s] = error, 0
    if not found:
        raise ValueError(f"X: no set can be fitted. Set {good[0]}: {errors[int(good[0])]}")
    parts = (np.stack(part)[places] for part in zip(*found, strict=True))
    return MixtureParameters(*parts, options["covariance_type"])


@contextmanager
def _telling(told, s):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told += [(s, str(warning.message)) for warning in caught]


def _warn_of(fits, complaints, stopping):
    failed = [(s, f"no mixture was fitted: {error}") for s, error in fits.errors.items()]
    warn_of_sets(failed, len(fits), stacklevel=5)
    complaints = [(s, sentence) for s, sentence in complaints if not fits.failed[s]]
    warn_of_sets(complaints, len(fits), stacklevel=5)
    for told in complaints_of_fits(fits, stopping):
        warn_of_sets(told, len(fits), stacklevel=5)


def complaints_of_fits(fits, stopping):
    """Of sets that did not converge, and of those that lost components, by their numbers."""
    slow, lost = ~fits.converged & ~fits.failed, fits.lost.any(axis=1) & ~fits.failed
    return [
        [
            (
                int(s),
                f"EM did not converge in {fits.n_iter[s]} steps: the residual is "
                f"{fits.residuals[s]:.3g} (residual_tol={stopping.residual_tol:.3g}). Increase "
                "max_iter or residual_tol, or start closer (initial).",
            )
            for s in np.flatnonzero(slow & (stopping.max_iter > 0))
        ],
        [(int(s), complaint_of_lost(fits.lost[s])) for s in np.flatnonzero(lost)],
    ]
