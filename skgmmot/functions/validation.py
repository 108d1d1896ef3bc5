"""scikit-learn's validation, with the hints that it lacks."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import validate_params

from ..estimators.device_input import device_matrix
from ..parameters import FloatArray
from ..samples.device_arrays import device_of, is_on_device, refuse_on_device, taken

_Function = TypeVar("_Function", bound=Callable[..., Any])


def validated(constraints: dict[str, Any]) -> Callable[[_Function], _Function]:
    """A decorator that checks arguments, and leaves the type of the function what it is."""
    return validate_params(constraints, prefer_skip_nested_validation=True)


def as_rows(X: Any, *, or_device: bool = False, **options: Any) -> FloatArray:
    """A finite matrix with rows; float32 and float64 are kept, anything else becomes float64.

    With ``or_device`` it may be on a CUDA device, and becomes an array of CuPy there.
    """
    name = options.get("input_name") or "X"
    if not or_device:
        refuse_on_device(X, name)
    X = taken(X)
    if is_on_device(X):
        checked = {"ensure_min_samples", "copy"} & options.keys()
        with device_of(X):
            return device_matrix(X, name, **{key: options[key] for key in checked})
    return check_array(X, dtype=[np.float64, np.float32], **options)
