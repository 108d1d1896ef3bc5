"""Reads input: whatever a user hands over becomes checked arrays, or an error names the cure."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import _param_validation
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight

from .families import FAMILIES, FULL, family_of
from .parameters import COVARIANCE_TYPES, MixtureParameters, final_mixture, infer_type, refusal_of
from .samples.device_arrays import device_floats, is_on_device, refuse_on_device, taken

_ORDINARY_EXPONENT = 64  # of two, of the largest sample weight
_PARTS = "weights", "means", "covariances"


class Interval(_param_validation.Interval):
    """An interval of numbers. Booleans, which Python takes for zero and one, are in none."""

    def is_satisfied_by(self, val):
        return not isinstance(val, bool) and super().is_satisfied_by(val)


N_JOBS = [Interval(Integral, None, None, closed="neither"), None]
RANDOM_STATE = [Interval(Integral, 0, 2**32 - 1, closed="both"), np.random.RandomState, None]
# Of the parameters that all estimators fitted by EM have.
EM_CONSTRAINTS = {
    "covariance_type": [StrOptions(set(COVARIANCE_TYPES))],
    "tol": [Interval(Real, 0, None, closed="left")],
    "residual_tol": [Interval(Real, 0, None, closed="both")],
    "reg_covar": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "init_params": [StrOptions({"kmeans", "random", "random_from_data", "k-means++"})],
    "init_size": [Interval(Integral, 1, None, closed="left"), None],
    "weights_init": ["array-like", None],
    "means_init": ["array-like", None],
    "precisions_init": ["array-like", None],
    "fixed_weights": ["boolean"],
    "random_state": RANDOM_STATE,
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    "n_jobs": N_JOBS,
}


def as_real(values, name, dtype=np.float64) -> np.ndarray:
    """An array of a dtype of real numbers; it is not copied if it is one already."""
    refuse_complex(values, name)
    return np.asarray(values, dtype=dtype)


def refuse_complex(values, name):
    """Raise where NumPy would leave an imaginary part out, and where values are on a device."""
    refuse_on_device(values, name)
    if np.asarray(values).dtype.kind == "c":
        raise ValueError(f"{name} must be real; got complex numbers. Pass the real part.")


def as_full(parameters) -> MixtureParameters:
    """The same mixture with a covariance matrix for every component."""
    weights, means, covariances = parameters
    matrices = family_of(parameters).matrices(covariances, *np.shape(means))
    return MixtureParameters(weights, means, np.array(matrices), "full")


def as_cotangent(cotangent, theta):
    """A checked cotangent of ``theta``: float64, of its shapes, symmetric, without None.

    Of the three parts None stands for zero. Covariances may also be those of a full mixture, which
    are pulled to the covariance type of ``theta``; of a third type they are refused.
    """
    if not isinstance(cotangent, (MixtureParameters, tuple, list)) or len(tuple(cotangent)) != 3:
        raise ValueError(
            "cotangent must be a MixtureParameters or a tuple (weights, means, covariances); got "
            f"{type(cotangent).__name__}."
        )
    kind = theta.covariance_type
    family, full_shape = family_of(theta), FULL.shape(*theta.means.shape)
    given = getattr(cotangent, "covariance_type", None)  # K = d: a shape does not tell
    if given not in (None, FULL.name, kind) and cotangent.covariances is not None:
        raise ValueError(
            f"cotangent: its covariances are {given}, those of the mixture {kind}. Pass a "
            "cotangent of that type, or one of full covariances, which is pulled back to it."
        )
    parts = []
    for name, part, like in zip(_PARTS, cotangent, theta, strict=True):
        part = np.zeros(like.shape) if part is None else as_real(part, f"cotangent: the {name}")
        if name == "covariances" and part.shape == full_shape:
            part = family.pull(part)
        if part.shape != like.shape:
            raise ValueError(
                f"cotangent: the {name} of this {kind} mixture have shape {like.shape}; got "
                f"{part.shape}."
            )
        if not np.isfinite(part).all():
            raise ValueError(f"cotangent: the {name} contain NaN or infinity.")
        parts.append(part)
    parts[2] = family.symmetrized(parts[2])
    return MixtureParameters(*parts, kind)


def as_parameters(mixture, name="mixture", *, dtype=np.float64):
    """Read anything mixture-like into checked `MixtureParameters`, with arrays of its own.

    Parameters
    ----------
    mixture : estimator, MixtureParameters or tuple (weights, means, covariances)
        A fitted mixture, or a Pipeline or search that ends with one (`final_mixture`); or an array
        of objects that holds just one of these, such as a row of a column of mixtures.
    name : str, default="mixture"
        The argument's name in error messages.
    dtype : dtype, default=float64
        Of the arrays returned. None keeps single precision: float32 if every part is float32,
        else float64.

    Raises
    ------
    ValueError
        If a part is missing, has a wrong shape, is not finite or not real, if weights are negative
        or do not sum to one, or a covariance is not symmetric positive semi-definite.
    """
    if isinstance(mixture, np.ndarray) and mixture.dtype == object and mixture.size == 1:
        mixture = mixture.item()
    mixture = final_mixture(mixture)
    if hasattr(mixture, "weights_") and hasattr(mixture, "covariances_"):
        parts = (mixture.weights_, mixture.means_, mixture.covariances_)
        # of the fit, also if the parameter was changed since
        covariance_type = getattr(mixture, "_fitted_type", mixture.covariance_type)
    elif hasattr(mixture, "get_params"):
        raise ValueError(f"{name}: {refusal_of(mixture)}")
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
    for part, array in zip(_PARTS, parts, strict=True):
        refuse_complex(array, f"{name}: the {part}")
    arrays = dict(zip(_PARTS, map(np.asarray, parts), strict=True))
    single = all(array.dtype.char == "f" for array in arrays.values())
    precision = np.float32 if single else np.float64
    arrays = {part: np.array(array, dtype=precision) for part, array in arrays.items()}
    for part, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: the {part} contain NaN or infinity.")
    weights, means, covariances = arrays.values()
    if weights.ndim != 1 or means.ndim != 2 or len(means) != len(weights) or not len(weights):
        raise ValueError(
            f"{name}: weights must have shape (n_components,) and means (n_components, "
            f"n_features); got {weights.shape} and {means.shape}."
        )
    covariance_type = covariance_type or infer_type(means, covariances)
    if covariance_type is None:
        raise ValueError(
            f"{name}: covariances of shape {covariances.shape} could be tied or diag; pass "
            "MixtureParameters(weights, means, covariances, covariance_type=...)."
        )
    if covariance_type not in COVARIANCE_TYPES:
        raise ValueError(
            f"{name}: covariance_type must be one of {COVARIANCE_TYPES}; got {covariance_type!r}."
        )
    expected = FAMILIES[covariance_type].shape(*means.shape)
    if covariances.shape != expected:
        raise ValueError(
            f"{name}: {covariance_type} covariances of {means.shape[0]} components with "
            f"{means.shape[1]} features have shape {expected}; got {covariances.shape}."
        )
    check_weights(weights, name)
    check_covariances(covariances, covariance_type, name)
    dtype = precision if dtype is None else dtype
    arrays = (array.astype(dtype, copy=False) for array in (weights, means, covariances))
    return MixtureParameters(*arrays, covariance_type)


def checked_mixtures(mixtures, weights, *, names=("mixtures", "weights")):
    """Those of the mixtures that have weight, in float64, and their weights λ, of sum one."""
    name, weights_name = names
    if isinstance(mixtures, MixtureParameters) or not hasattr(mixtures, "__len__"):
        raise ValueError(f"{name} must be a sequence of mixtures; got {type(mixtures).__name__}.")
    if not len(mixtures):
        raise ValueError(f"{name} must hold at least one mixture; it is empty.")
    mixtures = [as_parameters(mixture, f"{name}[{j}]") for j, mixture in enumerate(mixtures)]
    for j, mixture in enumerate(mixtures):
        refuse_other_features(mixture, f"{name}[{j}]", mixtures[0], f"{name}[0]")
    if weights is None:
        weights = np.full(len(mixtures), 1 / len(mixtures))
    weights = as_real(weights, weights_name)
    if weights.shape != (len(mixtures),):
        raise ValueError(
            f"{weights_name} must have shape ({len(mixtures)},), one for each mixture; got "
            f"{weights.shape}."
        )
    if not (weights >= 0).all() or not abs(weights.sum() - 1) <= 1e-6:
        raise ValueError(
            f"{weights_name} must be non-negative and sum to 1; got a minimum of "
            f"{weights.min():.3g} and a sum of {weights.sum():.6g}."
        )
    weighted = [mixture for mixture, weight in zip(mixtures, weights, strict=True) if weight > 0]
    return weighted, weights[weights > 0] / weights.sum()


def refuse_other_features(mixture, name, like, like_name):
    """Refuse a mixture whose number of features is not that of another."""
    if mixture.n_features != like.n_features:
        raise ValueError(
            f"{name} and {like_name} must have the same number of features; {name} has "
            f"{mixture.n_features} and {like_name} has {like.n_features}."
        )


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
    if not FAMILIES[covariance_type].is_diagonal:
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

    ``shape`` is (n_components, n_features).
    """
    parts = []
    for name, part, expected in (
        ("weights_init", weights_init, shape[:1]),
        ("means_init", means_init, shape),
        ("precisions_init", precisions_init, FAMILIES[covariance_type].shape(*shape)),
    ):
        if part is not None:
            part = np.array(as_real(part, name))
            if part.shape != expected:
                raise ValueError(
                    f"{name} must have shape {expected} for n_components={shape[0]}, "
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
    of_matrices = not FAMILIES[covariance_type].is_diagonal
    if (np.linalg.eigvalsh(precisions) if of_matrices else precisions).min() <= 0:
        raise ValueError("precisions_init must be positive definite.")
    return weights, means, np.linalg.inv(precisions) if of_matrices else 1.0 / precisions


def checked_temperatures(temperature):
    """The temperatures that a fit goes through, as a list of floats."""
    if _is_number(temperature) and 0 < temperature < np.inf:  # every prediction asks
        return [float(temperature)]
    values = np.atleast_1d(as_real(temperature, "temperature"))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(
            f"temperature must be a positive number or a sequence of them; got {temperature!r}."
        )
    if (np.diff(values) > 0).any():
        raise ValueError(f"temperature: a sequence must not increase; got {temperature!r}.")
    return values.tolist()


def checked_weights(sample_weight, X) -> np.ndarray:
    """Non-negative float64 weights, not all zero, in a unit in which their sum is a number."""
    return weights_and_unit(sample_weight, X)[0]


def weights_and_unit(sample_weight, X):
    """`checked_weights`, and the exponent of their unit, a power of two.

    It is one (the exponent zero) unless the largest weight is so extreme that sums of weights, or
    quotients by them, could over- or underflow.
    """
    refuse_complex(sample_weight, "sample_weight")
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not weight.any():
        raise ValueError("sample_weight: at least one weight must be positive.")
    exponent = exponent_of(weight.max())
    if not exponent:
        return weight, 0
    return np.ldexp(weight, -exponent), exponent


def exponent_of(largest):
    """The exponent of the unit of weights, by the largest of them."""
    exponent = int(np.frexp(largest)[1])
    if abs(exponent) <= _ORDINARY_EXPONENT:
        return 0
    return exponent


def counted(total, exponent):
    """A sum over samples in the unit of their weights, where these are counts."""
    with np.errstate(over="ignore"):
        total = float(np.ldexp(total, exponent))
    if not np.isfinite(total):
        raise ValueError("sample_weight: their sum overflows, and here they count. Scale them.")
    return total


def refuse_overflow(summary):
    """Refuse data whose squares about their mean, added up, are beyond floating point."""
    with np.errstate(over="ignore"):
        largest = 16.0 * summary.total_weight * (summary.reach @ summary.reach)
    if not np.isfinite(largest):
        raise ValueError(
            f"X: features reach {summary.reach.max():.3g} from their mean, so that sums of squares "
            "overflow. Scale the features."
        )


def checked_tol(tol):
    """A tolerance, as a float."""
    if not isinstance(tol, Real) or isinstance(tol, bool) or not 0 < tol < np.inf:
        raise ValueError(f"tol must be a positive and finite number; got {tol!r}.")
    return float(tol)


def checked_regularization(reg, reg_m) -> tuple[float, tuple[float, float]]:
    """`reg` as a float and `reg_m` as a pair of floats, or an error that names them."""
    if not _is_number(reg) or not 0 <= reg < np.inf:
        raise ValueError(f"reg must be a finite number, zero or positive; got {reg!r}.")
    if reg_m is None:
        return float(reg), (np.inf, np.inf)
    pair = (reg_m, reg_m) if _is_number(reg_m) else reg_m
    if (
        not isinstance(pair, (tuple, list, np.ndarray))
        or len(pair) != 2
        or not all(_is_number(penalty) and penalty > 0 for penalty in pair)
    ):
        raise ValueError(
            "reg_m must be None, a positive number or a pair of them, where np.inf holds a "
            f"marginal at the weights; got {reg_m!r}."
        )
    return float(reg), (float(pair[0]), float(pair[1]))


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def checked_samples(X, n_features):
    """Samples as a finite matrix of floats, where they are, or an error of what is wrong with X."""
    X = taken(X)
    X = device_floats(X, "X") if is_on_device(X) else as_real(X, "X", dtype=None)
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.ndim != 2 or X.shape[1] != n_features:
        raise ValueError(
            f"X must have shape (n_samples, {n_features}), as the mixtures have {n_features} "
            f"features; got {X.shape}."
        )
    if not np.isfinite(X).all():
        raise ValueError("X contains NaN or infinity; drop or impute those samples.")
    return X
