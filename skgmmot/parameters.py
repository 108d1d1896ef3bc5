"""Mixture parameters: one structure for values, tangents and cotangents."""

from dataclasses import dataclass

import numpy as np

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")


@dataclass(frozen=True, eq=False)
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
    >>> parameters.covariance_type
    'diag'
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    covariance_type: str | None = None

    def __post_init__(self):
        if self.covariance_type is None and self.covariances is not None:
            object.__setattr__(self, "covariance_type", _infer_type(self.means, self.covariances))

    def __iter__(self):
        return iter((self.weights, self.means, self.covariances))

    @property
    def n_components(self):
        return len(self.weights)

    @property
    def n_features(self):
        return np.shape(self.means)[1]


def _infer_type(means, covariances):
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


def covariance_shape(covariance_type, n_components, n_features):
    """Shape of ``covariances`` for a covariance type."""
    return {
        "full": (n_components, n_features, n_features),
        "tied": (n_features, n_features),
        "diag": (n_components, n_features),
        "spherical": (n_components,),
    }[covariance_type]


def expand_covariances(covariances, covariance_type, n_components, n_features):
    """Covariance matrices of shape (n_components, n_features, n_features).

    This linear map and its transpose `pull_covariances` are the only bridge between
    the covariance types.
    """
    covariances = np.asarray(covariances)
    if covariance_type == "full":
        return covariances
    if covariance_type == "tied":
        return np.broadcast_to(covariances, (n_components, n_features, n_features))
    if covariance_type == "diag":
        return covariances[:, :, None] * np.eye(n_features)
    return covariances[:, None, None] * np.eye(n_features)


def pull_covariances(matrices, covariance_type):
    """Transpose of `expand_covariances`: a cotangent of the matrices, pulled to a type.

    Parameters
    ----------
    matrices : ndarray of shape (n_components, n_features, n_features)
    covariance_type : {"full", "tied", "diag", "spherical"}

    Returns
    -------
    cotangent : ndarray, of the shape of that type's covariances
    """
    if covariance_type == "full":
        return matrices
    if covariance_type == "tied":
        return matrices.sum(axis=0)
    if covariance_type == "diag":
        return np.einsum("kaa->ka", matrices).copy()
    return np.einsum("kaa->k", matrices)


def as_real(values, name, dtype=np.float64):
    """An array of a dtype of real numbers; it is not copied if it is one already."""
    refuse_complex(values, name)
    return np.asarray(values, dtype=dtype)


def refuse_complex(values, name):
    """Raise where NumPy would leave an imaginary part out."""
    if np.iscomplexobj(values):
        raise ValueError(f"{name} must be real; got complex numbers. Pass the real part.")


def as_full(parameters):
    """The same mixture with a covariance matrix for every component."""
    weights, means, covariances = parameters
    matrices = expand_covariances(covariances, parameters.covariance_type, *np.shape(means))
    return MixtureParameters(weights, means, np.array(matrices), "full")


def as_cotangent(cotangent, theta):
    """A checked cotangent of ``theta``: float64, of its shapes, symmetric, without None.

    Parameters
    ----------
    cotangent : MixtureParameters or tuple (weights, means, covariances)
        None stands for zero. Covariances may also be those of a full mixture, which are pulled
        to the covariance type of ``theta``; of a third type they are refused.
    theta : MixtureParameters

    Returns
    -------
    cotangent : MixtureParameters

    Raises
    ------
    ValueError
        If a part has a wrong shape or covariance type, or is not finite or not real.
    """
    if not isinstance(cotangent, (MixtureParameters, tuple, list)) or len(tuple(cotangent)) != 3:
        raise ValueError(
            "cotangent must be a MixtureParameters or a tuple (weights, means, covariances); got "
            f"{type(cotangent).__name__}."
        )
    kind = theta.covariance_type
    full_shape = covariance_shape("full", *theta.means.shape)
    given = getattr(cotangent, "covariance_type", None)  # K = d: a shape does not tell
    if given not in (None, "full", kind) and cotangent.covariances is not None:
        raise ValueError(
            f"cotangent: its covariances are {given}, those of the mixture {kind}. Pass a "
            "cotangent of that type, or one of full covariances, which is pulled back to it."
        )
    parts = []
    for name, part, like in zip(("weights", "means", "covariances"), cotangent, theta, strict=True):
        part = np.zeros(like.shape) if part is None else as_real(part, f"cotangent: the {name}")
        if name == "covariances" and part.shape == full_shape:
            part = pull_covariances(part, kind)
        if part.shape != like.shape:
            raise ValueError(
                f"cotangent: the {name} of this {kind} mixture have shape {like.shape}; got "
                f"{part.shape}."
            )
        if not np.isfinite(part).all():
            raise ValueError(f"cotangent: the {name} contain NaN or infinity.")
        parts.append(part)
    if kind in ("full", "tied"):
        parts[2] = 0.5 * (parts[2] + np.swapaxes(parts[2], -1, -2))
    return MixtureParameters(*parts, kind)


def as_parameters(mixture, name="mixture", *, dtype=np.float64):
    """Read anything mixture-like into checked `MixtureParameters`.

    Parameters
    ----------
    mixture : estimator, MixtureParameters or tuple
        A fitted estimator with ``weights_``, ``means_`` and ``covariances_`` (of this
        package or of scikit-learn), a `MixtureParameters`, or a tuple
        ``(weights, means, covariances)``.
    name : str, default="mixture"
        The argument's name in error messages.
    dtype : dtype, default=float64
        Type of the arrays returned. None keeps single precision: float32 if every part
        is float32, else float64.

    Returns
    -------
    parameters : MixtureParameters
        With arrays of its own: what the caller writes to theirs later does not reach it.

    Raises
    ------
    ValueError
        If a part is missing, has a wrong shape, is not finite or not real, if weights are negative
        or do not sum to one, or a covariance is not symmetric positive semi-definite.
    """
    if hasattr(mixture, "weights_") and hasattr(mixture, "covariances_"):
        parts = (mixture.weights_, mixture.means_, mixture.covariances_)
        # of the fit, also if the parameter was changed since
        covariance_type = getattr(mixture, "_fitted_type", mixture.covariance_type)
    elif hasattr(mixture, "get_params"):
        raise ValueError(f"{name}: this {type(mixture).__name__} is not fitted; call fit first.")
    elif isinstance(mixture, MixtureParameters):
        parts, covariance_type = tuple(mixture), mixture.covariance_type
    elif isinstance(mixture, (tuple, list)) and len(mixture) == 3:
        parts, covariance_type = tuple(mixture), None
    else:
        raise ValueError(
            f"{name} must be a fitted mixture, a MixtureParameters or a tuple (weights, means, "
            f"covariances); got {type(mixture).__name__}."
        )
    # The checks allow for the rounding of the precision the parameters were computed in.
    arrays = [np.asarray(part) for part in parts]
    kinds = [array.dtype.kind for array in arrays]
    if "c" in kinds:
        part = ("weights", "means", "covariances")[kinds.index("c")]
        refuse_complex(arrays[kinds.index("c")], f"{name}: the {part}")
    single = all(array.dtype.char == "f" for array in arrays)
    precision = np.float32 if single else np.float64
    weights, means, covariances = (np.array(array, dtype=precision) for array in arrays)
    for part, array in (("weights", weights), ("means", means), ("covariances", covariances)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: the {part} contain NaN or infinity.")
    if weights.ndim != 1 or means.ndim != 2 or len(means) != len(weights) or not len(weights):
        raise ValueError(
            f"{name}: weights must have shape (n_components,) and means (n_components, "
            f"n_features); got {weights.shape} and {means.shape}."
        )
    covariance_type = covariance_type or _infer_type(means, covariances)
    if covariance_type is None:
        raise ValueError(
            f"{name}: covariances of shape {covariances.shape} could be tied or diag; pass "
            "MixtureParameters(weights, means, covariances, covariance_type=...)."
        )
    if covariance_type not in COVARIANCE_TYPES:
        raise ValueError(
            f"{name}: covariance_type must be one of {COVARIANCE_TYPES}; got {covariance_type!r}."
        )
    if covariances.shape != covariance_shape(covariance_type, *means.shape):
        raise ValueError(
            f"{name}: {covariance_type} covariances of {means.shape[0]} components with "
            f"{means.shape[1]} features have shape "
            f"{covariance_shape(covariance_type, *means.shape)}; got {covariances.shape}."
        )
    check_weights(weights, name)
    check_covariances(covariances, covariance_type, name)
    dtype = precision if dtype is None else dtype
    arrays = (array.astype(dtype, copy=False) for array in (weights, means, covariances))
    return MixtureParameters(*arrays, covariance_type)


def check_weights(weights, name):
    """Refuse weights that are negative or do not sum to one."""
    tolerance = 1e-6 if weights.dtype != np.float32 else 1e-4
    if weights.min() < 0 or abs(weights.sum(dtype=np.float64) - 1) > tolerance:
        raise ValueError(
            f"{name}: the weights must be non-negative and sum to 1; got a minimum of "
            f"{weights.min():.3g} and a sum of {weights.sum():.6g}."
        )


def check_covariances(covariances, covariance_type, name):
    """Refuse covariances that are not symmetric positive semi-definite, to rounding."""
    if covariance_type in ("full", "tied"):
        rounding = 1e-6 if covariances.dtype != np.float32 else 1e-3
        transposed = np.swapaxes(covariances, -1, -2)
        if (covariances != transposed).any():
            asymmetry = np.abs(covariances - transposed).max(axis=(-2, -1))
            if (asymmetry > rounding * np.abs(covariances).max(axis=(-2, -1))).any():
                raise ValueError(f"{name}: the covariances must be symmetric.")
        try:
            np.linalg.cholesky(covariances)
            return  # positive definite, which costs a tenth of the eigenvalues to find
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(covariances)[..., 0]
            scale = np.abs(covariances).max(axis=(-2, -1))
    else:
        scale = np.abs(covariances)
        rounding = 0.0
        smallest = covariances
    if (smallest < -rounding * scale).any():
        raise ValueError(
            f"{name}: the covariances must be positive semi-definite; the smallest eigenvalue "
            f"is {smallest.min():.3g}."
        )


def initial_parts(weights_init, means_init, precisions_init, shape, covariance_type):
    """Weights, means and covariances to start EM from, checked; None for what is not given.

    Parameters
    ----------
    weights_init : array-like of shape (n_components,) or None
    means_init : array-like of shape (n_components, n_features) or None
    precisions_init : array-like, in the shape of the covariance type, or None
    shape : tuple (n_components, n_features)
    covariance_type : {"full", "tied", "diag", "spherical"}

    Raises
    ------
    ValueError
        Names the parameter that has a wrong shape, or values that cannot be used.
    """
    expected = {
        "weights_init": shape[:1],
        "means_init": shape,
        "precisions_init": covariance_shape(covariance_type, *shape),
    }
    parts = []
    for name, part in zip(expected, (weights_init, means_init, precisions_init), strict=True):
        if part is not None:
            part = np.array(as_real(part, name))
            if part.shape != expected[name]:
                raise ValueError(
                    f"{name} must have shape {expected[name]} for n_components={shape[0]}, "
                    f"{shape[1]} features and covariance_type={covariance_type!r}; got "
                    f"{part.shape}."
                )
            if not np.isfinite(part).all():
                raise ValueError(f"{name} contains NaN or infinity.")
        parts.append(part)
    weights, means, precisions = parts
    if weights is not None:
        check_weights(weights, "weights_init")
        weights = weights / weights.sum()
    if precisions is None:
        return weights, means, None
    check_covariances(precisions, covariance_type, "precisions_init")
    of_matrices = covariance_type in ("full", "tied")
    if (np.linalg.eigvalsh(precisions) if of_matrices else precisions).min() <= 0:
        raise ValueError("precisions_init must be positive definite.")
    return weights, means, np.linalg.inv(precisions) if of_matrices else 1.0 / precisions
