"""Which rows are source and which are target: the labels of two domains."""

import numpy as np
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import is_on_device, module_of, on_host, taken
from .dask_input import dask_labels, is_dask
from .device_input import beside
from .input_rows import is_one_array

_CURE = (
    "Pass sample_domain (or y) with one label for each row: a label that is not negative for the "
    "source and a negative one for the target, or any two labels, of which the first in sorted "
    "order is the source. For two separate arrays there is fit_pair."
)
_CURE_OF_FOLDS = (
    "In cross-validation take cv=StratifiedKFold() where y tells the domains, and else "
    "cv=StratifiedKFold().split(X, sample_domain): they put both domains into every fold."
)


def two_domains(sample_domain, y, X):
    """The labels of source and target, and which rows of X are of the source.

    Where ``sample_domain`` is None, ``y`` takes its place.
    """
    name = "y" if sample_domain is None else "sample_domain"
    labels = y if sample_domain is None else sample_domain
    if labels is None:
        raise ValueError(
            "requires y to be passed, but the target y is None: neither sample_domain nor y "
            f"tells the two domains apart. {_CURE}"
        )
    labels = _checked(labels, X, name)
    found = _distinct(labels, name)
    if len(found) != 2:
        cure = _CURE if len(found) > 1 else f"{_CURE} {_CURE_OF_FOLDS}"
        shown = ", ".join(map(repr, found[:5].tolist())) + (", …" if len(found) > 5 else "")
        raise ValueError(
            f"{name} must have two distinct labels, one for each domain; got {len(found)} "
            f"class{'' if len(found) == 1 else 'es'}: {shown}. {cure}"
        )
    first, second = found.tolist()
    # of two numbers, one of them negative, skada's convention: the negative one is the target
    if np.issubdtype(found.dtype, np.number) and first < 0 <= second:
        first, second = second, first
    return (first, second), labels == first


def rows_of_source(sample_domain, X, domains, name="sample_domain"):
    """Which rows are of the source, for labels that the fit has seen, or one label for all rows.

    A bool for each, or one for all.
    """
    labels = sample_domain if np.isscalar(sample_domain) else _checked(sample_domain, X, name)
    is_elsewhere = is_dask(labels) or is_on_device(labels)
    found = _distinct(labels, name) if is_elsewhere else np.asarray(labels)
    is_known = (found == domains[0]) | (found == domains[1])
    if not is_known.all():
        unknown = np.unique(found[~is_known])[0:1].tolist()[0]
        raise ValueError(
            f"{name}: the label {unknown!r} is not one of the fit, which are "
            f"{domains[0]!r} for the source and {domains[1]!r} for the target."
        )
    return labels == domains[0] if np.ndim(labels) else np.bool_(found == domains[0])


def part_of(X, weight, rows):
    """The rows of one domain (a mask) and their weights, or None.

    Rows in chunks are not taken apart: those of the other domain have weight zero.
    """
    if not rows.ndim:  # all of them
        return X, weight
    if is_one_array(X):
        return X[rows], None if weight is None else weight[rows]
    part = rows.astype(np.float64) if weight is None else np.where(rows, weight, 0.0)
    return X, X.aligned(part) if isinstance(X, DaskRows) else part


def _checked(labels, X, name):
    labels = beside(labels, name, taken(X))
    if is_on_device(labels):
        if labels.ndim != 1:
            raise ValueError(f"{name} must have shape (n_samples,); got {labels.shape}.")
        check_consistent_length(X, labels)
        _refuse_nonfinite(labels, name)
        return labels
    if is_dask(labels) and isinstance(X, DaskRows):
        return dask_labels(labels, X, name)
    labels = column_or_1d(labels)
    check_consistent_length(X, labels)
    _refuse_nonfinite(labels, name)
    return labels


def _distinct(labels, name):
    """Those that differ, in sorted order."""
    if is_dask(labels):
        found = np.unique(labels).compute()
        _refuse_nonfinite(found, name)
        return found
    return on_host(module_of(labels).unique(labels))


def _refuse_nonfinite(labels, name):
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{name} contains NaN or infinity. {_CURE}")
