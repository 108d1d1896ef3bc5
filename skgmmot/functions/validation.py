"""scikit-learn's validation, with the hints that it lacks."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_array
from sklearn.utils._param_validation import validate_params

from ..parameters import FloatArray

_Function = TypeVar("_Function", bound=Callable[..., Any])


def validated(constraints: dict[str, Any]) -> Callable[[_Function], _Function]:
    """A decorator that checks arguments, and leaves the type of the function what it is."""
    return validate_params(constraints, prefer_skip_nested_validation=True)


def as_rows(X: Any, **options: Any) -> FloatArray:
    """A finite matrix with rows; float32 and float64 are kept, anything else becomes float64."""
    return check_array(X, dtype=[np.float64, np.float32], **options)
