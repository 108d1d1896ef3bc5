"""A fit as a layer, of many sets of one size: what maps over a first axis of all inputs.

Sets that are small and of an ordinary kind go through `fit_mixtures` together. Whatever it cannot
take, or fails on, goes through the `MixtureLayer` by itself, which also finds what there is to say.
"""

from typing import Any, NamedTuple

import numpy as np

from ..checks import checked_weights
from ..em.fit import Stopping
from ..em.sets_fit import SetsFit
from ..em.sets_map import SetsMap
from ..estimators.em_options import given_parts
from ..families import family_of
from ..numerics.threads import effective_n_threads
from ..parameters import MixtureParameters, in_dtype
from ..samples.device_arrays import is_on_device, module_of
from ..samples.sets import SampleSets
from .fit_mixtures import complaints_of_fits, fits_of, starts_of
from .layer import N_HEADER, LayerCotangent
from .mixture_fits import MixtureFits

# What cannot be done raises these; warnings do, where they are errors.
FAILURES = (ValueError, RuntimeError, ArithmeticError, Warning)

_MOST_ROWS = 10_000  # a larger set has work for all threads by itself
_ORDINARY = 1e100  # numbers whose squares, added up, are no cause for worry


class LayerFits(NamedTuple):
    """What `fit_each` returns; NaN for sets that failed.

    parameters : MixtureParameters, of the dtype of X, with a first axis for the sets
    records : ndarray of shape (n_sets, record_size), float64
    complaints : list of (number of the set, sentence)
    errors : dict of exceptions, by the numbers of the sets
    """

    parameters: MixtureParameters
    records: np.ndarray
    complaints: list
    errors: dict

    def put(self, s, parameters, record):
        """Write the fit of a set, or of several."""
        for part, values in zip(self.parameters, parameters, strict=True):
            part[s] = values
        self.records[s] = record


def fit_each(layer, X, sample_weight=None, initial=None):
    """Fit a mixture to each set, as `MixtureLayer.fit` does.

    Parameters
    ----------
    layer : MixtureLayer
    X : ndarray of shape (n_sets, n_samples, n_features), float32 or float64
    sample_weight : ndarray of shape (n_sets, n_samples) or None
    initial : tuple (weights, means, covariances) with a first axis for the sets, or None

    Returns
    -------
    fits : LayerFits
    """
    shapes = layer.shapes(X.shape[2])
    parts = (np.full((len(X), *shape), np.nan, X.dtype) for shape in shapes)
    records = np.full((len(X), layer.record_size(X.shape[2])), np.nan)
    out = LayerFits(MixtureParameters(*parts, layer.covariance_type), records, [], {})
    alone = np.ones(len(X), dtype=bool)
    if _is_for_sets(layer, X):
        alone[_fit_together(layer, X, sample_weight, initial, out)] = False
    for s in map(int, np.flatnonzero(alone)):
        own = X[s], _of(sample_weight, s), _of_each(initial, s)
        try:
            fit = layer.fit(*own)
        except FAILURES as error:
            out.errors[s] = error
            continue
        out.put(s, fit.parameters, fit.record)
        out.complaints.extend((s, sentence) for sentence in fit.complaints)
    return out


def vjp_each(layer, records, X, sample_weight, cotangent, *, wrt_weight=True, find=None):
    """Pull cotangents of the parameters of each set back, as `MixtureLayer.vjp` does.

    Parameters
    ----------
    layer : MixtureLayer
    records, X, sample_weight
        Of `fit_each`.
    cotangent : tuple (weights, means, covariances) with a first axis for the sets, None for zero
    wrt_weight : bool, default=True
    find : callable, default=None
        Gives the fitted estimator of a record, or None.

    Returns
    -------
    cotangent : LayerCotangent
        With a first axis for the sets, NaN for those that failed.
    errors : dict of exceptions, by the numbers of the sets
    """
    if _is_for_sets(layer, X) and X.strides[0]:  # not cotangents of one fit, whose steps are known
        found = _pull_together(layer, records, X, sample_weight, cotangent, wrt_weight)
        if found is not None:
            return found, {}
    module = module_of(X)
    data = module.full(X.shape, np.nan, X.dtype)
    weight_bar = module.full(X.shape[:2], np.nan, X.dtype) if wrt_weight else None
    initial, complaints, errors = None, [], {}
    if layer.has_initial_derivative:
        shapes = layer.shapes(X.shape[2])
        parts = (np.full((len(X), *shape), np.nan, X.dtype) for shape in shapes)
        initial = MixtureParameters(*parts, layer.covariance_type)
    for s in range(len(X)):
        own = records[s], X[s], _of(sample_weight, s), _of_each(cotangent, s)
        fitted = None if find is None else find(records[s])
        try:
            bar = layer.vjp(*own, wrt_weight=wrt_weight, fitted=fitted)
        except FAILURES as error:
            errors[s] = error
            continue
        data[s] = bar.data
        if wrt_weight:
            weight_bar[s] = bar.sample_weight
        if bar.initial is not None:
            for whole, part in zip(initial, bar.initial, strict=True):
                whole[s] = part
        complaints.extend((s, sentence) for sentence in bar.complaints)
    return LayerCotangent(data, weight_bar, initial, complaints), errors


def jvp_each(layer, records, X, sample_weight, dots, *, find=None):
    """The tangents of the parameters of each set, as `MixtureLayer.jvp`, one set after the other.

    ``dots`` are those of X, of the sample weights and of the three initial parts, None for zero.

    Returns
    -------
    tangent : MixtureParameters, complaints : list of (number of the set, sentence), errors : dict
    """
    parts = (np.full((len(X), *shape), np.nan, X.dtype) for shape in layer.shapes(X.shape[2]))
    tangent, complaints, errors = MixtureParameters(*parts, layer.covariance_type), [], {}
    for s in range(len(X)):
        X_dot, weight_dot, *initial_dot = _of_each(dots, s)
        if all(dot is None for dot in initial_dot):
            initial_dot = None
        own = records[s], X[s], _of(sample_weight, s), X_dot, weight_dot, initial_dot
        try:
            found, told = layer.jvp(*own, fitted=None if find is None else find(records[s]))
        except FAILURES as error:
            errors[s] = error
            continue
        for whole, part in zip(tangent, found, strict=True):
            whole[s] = part
        complaints.extend((s, sentence) for sentence in told)
    return tangent, complaints, errors


def _of(array, s):
    return None if array is None else array[s]


def _of_each(arrays, s):
    return None if arrays is None else tuple(_of(array, s) for array in arrays)


def _is_for_sets(layer, X):
    """Whether `fit_mixtures` makes of such sets what the layer would, and takes them."""
    options = layer.template
    return (
        len(X) > 1
        and not is_on_device(X)
        and X.shape[1] <= _MOST_ROWS
        and layer.temperatures == [1.0]
        and options.e_step == "softmax"
        and options.acceleration in ("auto", None)
        and options.n_init == 1
        and options.max_iter > 0
        and not options.verbose
    )


def _rows_of(X, sample_weight):
    """The rows of all sets, their weights, and the bounds of the sets."""
    first = np.arange(len(X), dtype=np.int64) * X.shape[1]
    rows = np.ascontiguousarray(X).reshape(-1, X.shape[2])
    if sample_weight is not None:
        sample_weight = checked_weights(np.ravel(sample_weight), rows)
    return rows, sample_weight, np.stack([first, first + X.shape[1]], axis=1)


def _are_ordinary(layer, X, sample_weight):
    """Which sets have samples and weights that need no special care."""
    n_least = max(2, layer.template.n_components)
    ordinary = np.abs(X).max(axis=(1, 2)).astype(np.float64) < _ORDINARY  # not of NaN
    ordinary &= X.shape[1] >= n_least
    if sample_weight is not None:
        largest = sample_weight.max(axis=1).astype(np.float64)
        ordinary &= (largest < _ORDINARY) & (largest > 1 / _ORDINARY)
        ordinary &= sample_weight.min(axis=1) >= 0
        ordinary &= np.count_nonzero(sample_weight, axis=1) >= n_least
    return ordinary


def _fit_together(layer, X, sample_weight, initial, out):
    """Fit the sets that can be, write what comes out, and return their numbers."""
    options, good = layer.template, _are_ordinary(layer, X, sample_weight)
    starts: list[Any] = [None] * len(X)
    if initial is not None:
        for s in np.flatnonzero(good):
            try:
                starts[s] = layer.checked_initial(_of_each(initial, s))
            except FAILURES:
                good[s] = False
    numbers = np.flatnonzero(good)
    if not len(numbers):
        return numbers
    if len(numbers) < len(X):
        X, sample_weight = X[numbers], None if sample_weight is None else sample_weight[numbers]
    sets, errors, of_map = _rows_of(X, sample_weight), {}, _map_options(options)
    if initial is not None:
        parts = (np.stack(part) for part in zip(*(starts[s] for s in numbers), strict=True))
        start = MixtureParameters(*parts, options.covariance_type)
    else:
        try:
            given = given_parts(options, X.shape[2])
            how = options.n_components, options.init_params, options.init_size
            how = *how, options.random_state, given
            start = starts_of(sets, np.arange(len(X)), how, errors, **of_map)
        except FAILURES:
            return numbers[:0]
    stopping = Stopping(options.max_iter, options.tol, options.residual_tol)
    fits = fits_of(
        sets,
        start,
        stopping,
        errors,
        (X.shape[:2], 0),
        is_accelerated=options.acceleration is not None,
        n_threads=effective_n_threads(options.n_jobs),
        **of_map,
    )
    fine = ~fits.failed
    fit, start = fits._fit, fits._start
    header = np.stack([fit.converged, fit.n_iter, fit.residuals, fit.lower_bounds], axis=1)
    stage = np.stack([np.ones(len(X)), fit.n_iter], axis=1)
    mixtures = (*fit.parameters, *fit.previous, *start)
    numbers_of_mixtures = [part.reshape(len(X), -1) for part in mixtures]
    packed = np.concatenate([header, stage, *numbers_of_mixtures], axis=1)
    parameters = fits.weights[fine], fits.means[fine], fits.covariances[fine]
    out.put(numbers[fine], parameters, packed[fine])
    for told in complaints_of_fits(fits, stopping):
        out.complaints.extend((int(numbers[s]), sentence) for s, sentence in told)
    return numbers[fine]


def _map_options(options):
    return {
        "covariance_type": options.covariance_type,
        "reg_covar": float(options.reg_covar),
        "fixed_weights": bool(options.fixed_weights),
    }


def _pull_together(layer, records, X, sample_weight, cotangent, wrt_weight):
    """The `LayerCotangent` of all sets, or None where one of them needs care."""
    if not np.isfinite(records).all() or not _are_ordinary(layer, X, sample_weight).all():
        return None
    options, shapes = layer.template, layer.shapes(X.shape[2])
    end, previous, start = layer.mixtures_of(records, X.shape[2])
    bars = [
        np.zeros((len(X), *shape)) if bar is None else np.asarray(bar, np.float64)
        for bar, shape in zip(cotangent, shapes, strict=True)
    ]
    if not all(np.isfinite(bar).all() for bar in bars):
        return None
    bars[2] = family_of(end).symmetrized(bars[2])
    converged, n_iter, residuals, lower_bounds = records[:, :N_HEADER].T
    plain = np.ones(len(X), bool)  # as a layer of mode unrolled has seen to
    counts = converged.astype(bool), n_iter.astype(np.int64), plain
    lost = np.zeros(end.weights.shape, bool)  # says nothing to a derivative
    fit = SetsFit(end, previous, lower_bounds, residuals, *counts, lost, {})
    rows, weight, bounds = _rows_of(X, sample_weight)
    sets_map = SetsMap(SampleSets(rows, weight, bounds), **_map_options(options))
    n_threads = effective_n_threads(options.n_jobs)
    fits = MixtureFits(sets_map, start, fit, {}, (X.shape[:2], 0), n_threads)
    bars = MixtureParameters(*bars, options.covariance_type)
    try:
        found, complaints = fits._vjp(bars, layer.mode, layer.gradient_tol, wrt_weight)
    except FAILURES:  # of one of them
        return None
    initial = found.initial_parameters
    weight_bar = found.sample_weight
    return LayerCotangent(
        found.data,
        None if weight_bar is None else weight_bar.astype(X.dtype, copy=False),
        None if initial is None else in_dtype(initial, X.dtype),
        complaints,
    )
