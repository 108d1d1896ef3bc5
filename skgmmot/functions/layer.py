"""A fit as a layer of other frameworks: pure functions of arrays, their VJP and their JVP.

What a derivative needs of a fit is a vector of numbers, so that a framework can save it, copy it
and hand it to another process: no function here remembers what another one did.
"""

import inspect
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..checks import as_parameters, checked_temperatures, checked_tol
from ..em.adjoints import ADJOINTS, FitRecord
from ..em.path import PathAgain
from ..estimators.mixture import DifferentiableGaussianMixture
from ..families import FAMILIES
from ..parameters import MixtureParameters, in_dtype
from ..samples.device_arrays import module_of

_OF_ESTIMATOR = inspect.signature(DifferentiableGaussianMixture).parameters
# An estimator keeps these for a second call, and a layer has no memory.
_OF_MEMORY = {"warm_start", "keep_path"}
_INITS = ("weights_init", "means_init", "precisions_init")
N_HEADER = 4  # numbers in front of a record


class LayerFit(NamedTuple):
    """What `MixtureLayer.fit` returns.

    parameters : MixtureParameters, of the dtype of X
    record : ndarray of shape (record_size,), float64, what derivatives need to know
    complaints : list of str, what there is to warn of
    fitted : DifferentiableGaussianMixture, with the steps that it kept (none of the data): who
        can hold it saves a derivative the time to make them again
    """

    parameters: MixtureParameters
    record: np.ndarray
    complaints: list
    fitted: DifferentiableGaussianMixture


class LayerCotangent(NamedTuple):
    """What `MixtureLayer.vjp` returns.

    data : ndarray of shape (n_samples, n_features), of the dtype of X
    sample_weight : ndarray of shape (n_samples,), of the dtype of X, or None if not asked for
    initial : MixtureParameters, or None in modes in which θ_0 plays no part
    complaints : list of str
    """

    data: np.ndarray
    sample_weight: np.ndarray | None
    initial: MixtureParameters | None
    complaints: list


class Told(NamedTuple):
    """What a record tells of its fit.

    converged : bool
    n_iter : int, number of EM steps
    residual, lower_bound : float, as the fitted attributes of the estimator
    """

    converged: bool
    n_iter: int
    residual: float
    lower_bound: float


@dataclass(frozen=True)
class MixtureLayer:
    """Options of a fit and of its derivative.

    ``MixtureLayer.of(...)`` checks them and writes them into a text, the only field. Layers of
    the same options are equal, and a graph that keeps the text, in a file too, can make its layer
    again: ``MixtureLayer(text)``.
    """

    text: str

    @classmethod
    def of(cls, n_components=1, *, mode="implicit", gradient_tol=1e-6, **options):
        """The layer of some options.

        Parameters
        ----------
        n_components : int, default=1
        mode : {"implicit", "unrolled", "one_step"}, default="implicit"
            ``unrolled`` fits by plain EM, the other two as the estimator does by default.
        gradient_tol : float, default=1e-6
            Relative accuracy asked of ``implicit``.
        **options
            Of `DifferentiableGaussianMixture`, but for ``warm_start`` and ``keep_path``.
        """
        if mode not in ADJOINTS:
            raise ValueError(f"mode must be one of {', '.join(map(repr, ADJOINTS))}; got {mode!r}.")
        for name in options:
            if name in _OF_MEMORY:
                raise ValueError(
                    f"{name}: a layer keeps nothing from one call to the next. Pass where EM "
                    "starts as initial."
                )
            if name not in _OF_ESTIMATOR:
                raise TypeError(
                    f"{name!r} is no option of DifferentiableGaussianMixture; it has "
                    f"{', '.join(sorted(_OF_ESTIMATOR.keys() - _OF_MEMORY))}."
                )
        if isinstance(options.get("random_state"), np.random.RandomState):
            raise ValueError(
                "random_state must be an int or None: a layer keeps nothing from one call to the "
                "next. Draw an int of it for each call."
            )
        if mode == "unrolled" and options.setdefault("acceleration") is not None:
            raise ValueError(
                "acceleration must be None for mode='unrolled', which differentiates plain EM "
                f"steps; got {options['acceleration']!r}. Leave it out, or use mode='implicit'."
            )
        options = dict(sorted({"n_components": n_components, **options}.items()))
        DifferentiableGaussianMixture(**options)._validate_params()
        return cls(json.dumps([mode, checked_tol(gradient_tol), options], default=_written))

    @property
    def mode(self):
        return self._read[0]

    @property
    def gradient_tol(self):
        return self._read[1]

    @property
    def covariance_type(self):
        return self.template.covariance_type

    @property
    def has_initial_derivative(self):
        """Whether the mode differentiates θ_0 too."""
        return self.mode == "unrolled"

    def shapes(self, n_features):
        """Shapes of the weights, means and covariances."""
        template = self.template
        n_components = template.n_components
        shape = FAMILIES[template.covariance_type].shape(n_components, n_features)
        return (n_components,), (n_components, n_features), shape

    def record_size(self, n_features):
        """How many numbers a record has."""
        n_parameters = sum(map(math.prod, self.shapes(n_features)))
        return N_HEADER + 2 * len(self.temperatures) + 3 * n_parameters

    def fit(self, X, sample_weight=None, initial=None):
        """Fit a mixture.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features), float32 or float64
        sample_weight : ndarray of shape (n_samples,) or None
        initial : tuple (weights, means, covariances) or None
            θ_0, in the place of an initialization; covariances are symmetrized.

        Returns
        -------
        fit : LayerFit
        """
        estimator = self._estimator()
        if initial is not None:
            estimator.warm_start = True
            estimator._set_parameters(self.checked_initial(initial), np.float64)
        complaints = estimator._fit_with_valid_options(X, sample_weight)
        record = estimator._record
        header = [
            estimator.converged_, estimator.n_iter_, estimator.residual_, estimator.lower_bound_,
        ]  # fmt: skip
        paths = _in_turn(record.path)
        stages = np.zeros((len(self.temperatures), 2))
        stages[: len(paths)] = [(path.temperature, path.length) for path in paths]
        mixtures = record.end, record.previous, paths[0].start
        numbers = [part.ravel() for mixture in mixtures for part in mixture]
        packed = np.concatenate([header, stages.ravel(), *numbers])
        parts = estimator.weights_, estimator.means_, estimator.covariances_
        parameters = MixtureParameters(*parts, estimator.covariance_type)
        return LayerFit(parameters, packed, complaints, estimator)

    def vjp(self, record, X, sample_weight, cotangent, *, wrt_weight=True, fitted=None):
        """Pull a cotangent of the parameters back to all inputs of `fit`.

        Parameters
        ----------
        record : ndarray, of `fit`
        X, sample_weight : as in `fit`
        cotangent : tuple (weights, means, covariances), None for zero
        wrt_weight : bool, default=True
            Whether the cotangents of the weights and of θ_0 are wanted.
        fitted : DifferentiableGaussianMixture, default=None
            Of `fit`. None: what it would know is found from the record.

        Returns
        -------
        cotangent : LayerCotangent
        """
        estimator, X = self._of_record(record, X, fitted)
        cotangent = MixtureParameters(*cotangent, estimator.covariance_type)
        result, complaints = estimator._vjp(
            X, cotangent, self.mode, sample_weight, self.gradient_tol, wrt_weight, is_checked=True
        )
        initial = result.initial_parameters
        if initial is not None:
            initial = in_dtype(initial, X.dtype)
        return LayerCotangent(result.data, result.sample_weight, initial, complaints)

    def jvp(
        self, record, X, sample_weight, X_dot, weight_dot=None, initial_dot=None, *, fitted=None
    ):
        """The tangent of the parameters, as `MixtureParameters`, and what there is to warn of.

        Parameters
        ----------
        record, X, sample_weight, fitted : as in `vjp`
        X_dot, weight_dot : ndarrays of their shapes, or None for zero
        initial_dot : tuple (weights, means, covariances) or None for zero
            Of θ_0, of which only ``unrolled`` has the derivative.
        """
        estimator, X = self._of_record(record, X, fitted)
        adjoint, em_map, found, rows = estimator._differentiation(
            X, self.mode, sample_weight, is_checked=True
        )
        module = module_of(X)
        X_dot = module.zeros(X.shape) if X_dot is None else module.ascontiguousarray(X_dot, float)
        if weight_dot is not None:
            weight_dot = module.ascontiguousarray(weight_dot, float)
        options = {}
        if initial_dot is not None and self.has_initial_derivative:
            parts = [
                np.zeros(shape) if part is None else np.asarray(part, np.float64)
                for part, shape in zip(initial_dot, self.shapes(X.shape[1]), strict=True)
            ]
            parts[2] = em_map.family.symmetrized(parts[2])
            options["initial_dot"] = MixtureParameters(*parts, em_map.family.name)
        data_dot = rows.inward(X_dot, weight_dot)
        with np.errstate(over="ignore", invalid="ignore"):  # the adjoint refuses what overflows
            tangent, complaints = adjoint.jvp(
                em_map, found, data_dot, tol=self.gradient_tol, **options
            )
        return in_dtype(tangent, X.dtype), complaints

    @staticmethod
    def told(record):
        """What a record tells of its fit, as `Told`."""
        converged, n_iter, residual, lower_bound = map(float, record[:N_HEADER])
        return Told(bool(converged), int(n_iter), residual, lower_bound)

    @property
    def template(self):
        """An estimator with the options, not fitted."""
        return self._read[2]

    @cached_property
    def _read(self):
        mode, gradient_tol, options = json.loads(self.text, object_hook=_array_of)
        return mode, gradient_tol, DifferentiableGaussianMixture(**options)

    def _estimator(self):
        """A copy of the template; `copy` would go through what a pickle needs."""
        estimator = DifferentiableGaussianMixture.__new__(DifferentiableGaussianMixture)
        vars(estimator).update(vars(self.template))
        return estimator

    @cached_property
    def temperatures(self):
        """Those that a fit goes through, a list of floats."""
        return checked_temperatures(self.template.temperature)

    def checked_initial(self, initial):
        """θ_0 that is given, as `MixtureParameters`."""
        template = self.template
        given = [name for name in _INITS if getattr(template, name) is not None]
        if given:
            raise ValueError(f"initial takes the place of {given[0]}; pass one of them.")
        if isinstance(initial, (tuple, list)) and len(initial) == 3:
            initial = MixtureParameters(*initial, template.covariance_type)
        theta = as_parameters(initial, "initial")
        symmetric = FAMILIES[theta.covariance_type].symmetrized(theta.covariances)
        return replace(theta, covariances=symmetric)

    def mixtures_of(self, record, n_features):
        """θ_T, θ_{T-1} and θ_0 of a record, or of those of many sets, an axis in front."""
        shapes = 3 * self.shapes(n_features)
        numbers = record[..., N_HEADER + 2 * len(self.temperatures) :]
        cuts = np.cumsum(list(map(math.prod, shapes)))[:-1]
        parts = [
            part.reshape(*record.shape[:-1], *shape)
            for part, shape in zip(np.split(numbers, cuts, axis=-1), shapes, strict=True)
        ]
        kind = self.covariance_type
        return tuple(MixtureParameters(*parts[i : i + 3], kind) for i in (0, 3, 6))

    def _of_record(self, record, X, fitted):
        """The estimator of a fit, and X as it wants them."""
        if math.isnan(record[0]):
            raise ValueError("record: that of a fit that failed, which has no derivative.")
        X = module_of(X).ascontiguousarray(X)
        return self._fitted(record, X) if fitted is None else fitted, X

    def _fitted(self, record, X):
        """The estimator as the fit of a record has left it, but for steps that it kept."""
        end, previous, start = self.mixtures_of(record, X.shape[1])
        stages = record[N_HEADER : N_HEADER + 2 * len(self.temperatures)].reshape(-1, 2)
        estimator, path = self._estimator(), None
        for temperature, length in stages:
            if temperature > 0:
                path = PathAgain(start, int(length), temperature=float(temperature), before=path)
        estimator._set_parameters(end, X.dtype)
        estimator.n_features_in_ = X.shape[1]
        estimator._record = FitRecord(end, previous, path, temperature=path.temperature)
        return estimator


_LAYERS: dict = {}
_MOST_LAYERS = 256


def layer_of(**options):
    """`MixtureLayer.of`, remembered: its checks take as long as a small fit."""
    try:
        key = tuple([(name, *_key(value)) for name, value in options.items()])
        found = _LAYERS.get(key)
    except TypeError:  # lists
        return MixtureLayer.of(**options)
    if found is None:
        found = MixtureLayer.of(**options)
        if len(_LAYERS) >= _MOST_LAYERS:
            _LAYERS.clear()
        _LAYERS[key] = found
    return found


def _key(value):
    """What two options have in common if they are the same: 1 is not True."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return type(value), value


def _in_turn(path):
    """The paths at each temperature that was reached."""
    return [*([] if path.before is None else _in_turn(path.before)), path]


def _written(value):
    """What JSON does not know: numbers of NumPy, and arrays, bit for bit."""
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        return value.item()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Options of a layer must be numbers, texts or arrays; got {value!r}.")
    return {"dtype": array.dtype.str, "shape": array.shape, "hex": array.tobytes().hex()}


def _array_of(written):
    if written.keys() != {"dtype", "shape", "hex"}:
        return written
    content = bytes.fromhex(written["hex"])
    return np.frombuffer(content, written["dtype"]).reshape(written["shape"])
