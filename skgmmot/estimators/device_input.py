"""Arrays on a CUDA device as the input of a method: what is checked of them, and where it runs.

They stay where they are. What belongs to rows on a device, such as their weights, has to be there
too: nothing of the size of the data is copied to a device, or from it, unless the user does so.
"""

from functools import wraps
from numbers import Real

import numpy as np
from sklearn.utils.validation import validate_data

from ..samples.chunks import refuse_nonfinite
from ..samples.device_arrays import device_floats, device_of, is_on_device, module_of, taken
from .dask_input import exponent_of_weights


def beside(values, name, X, *, of="X"):
    """Values that lie where X lies, as an array of CuPy if that is a device; or an error."""
    values = taken(values)
    if is_on_device(values) and is_on_device(X):
        if values.device != X.device:
            raise ValueError(
                f"{of} is on CUDA device {X.device.id}, {name} on {values.device.id}. Pass both on "
                "one of them."
            )
    elif is_on_device(X):
        raise ValueError(f"{of} is on a CUDA device, {name} is not. Pass cupy.asarray({name}).")
    elif is_on_device(values):
        raise ValueError(f"{name} is on a CUDA device, {of} is not. Pass cupy.asnumpy({name}).")
    return values


def device_rows(estimator, X, *, reset, ensure_min_samples):
    """The rows of an array of CuPy, C-contiguous floats, by the checks of scikit-learn."""
    name = type(estimator).__name__
    X = device_matrix(X, ensure_min_samples=ensure_min_samples, by=f" by {name}")
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return X


def device_matrix(X, name="X", *, ensure_min_samples=1, by="", copy=False):
    """A finite matrix with rows, C-contiguous floats, of an array of CuPy."""
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead. Pass {name} with a row for each "
            f"sample: {name}[:, None] if it has a single feature."
        )
    if X.shape[0] < ensure_min_samples:
        raise ValueError(
            f"Found array with {X.shape[0]} sample(s) (shape={X.shape}) while a minimum of "
            f"{ensure_min_samples} is required{by}."
        )
    if X.shape[1] < 1:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required{by}."
        )
    floats = device_floats(X, name)
    refuse_nonfinite(floats, 0, name)
    return floats.copy() if copy else floats


def device_weights(sample_weight, X):
    """`checks.weights_and_unit` for rows on a device."""
    if isinstance(sample_weight, Real):
        sample_weight = module_of(X).full(X.shape[0], float(sample_weight))
    weight = device_aligned(sample_weight, X, X.shape[:1], "sample_weight")
    exponent = exponent_of_weights(float(weight.min()), float(weight.max()))
    return np.ldexp(weight, -exponent) if exponent else weight, exponent


def device_aligned(values, X, shape, name):
    """What has an item for each row on a device, in float64; all finite."""
    values = device_floats(beside(values, name, X), name, np.float64)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}; got {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return values


def where_X_is(method):
    """A method of X that runs on the CUDA device that X is on, if it is on one.

    X becomes an array of CuPy then. Where the memory of the device is not enough the error says
    what may help.
    """

    @wraps(method)
    def run(self, X, *args, **kwargs):
        X = taken(X)
        with device_of(X):
            return method(self, X, *args, **kwargs)

    return run
