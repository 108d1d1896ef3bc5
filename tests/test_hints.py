"""Hints of the public interface: that they are there, and that they say what comes back.

mypy reads the functions that return None as a user's code, pytest runs them: ``assert_type`` is for
the former, ``assert`` for the latter.
"""

import inspect
import typing

import numpy as np
import pytest
from frameworks import FRAMEWORK_MODULES
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions

import skgmmot
import skgmmot.entropic
import skgmmot.images
import skgmmot.metrics
import skgmmot.plotting
from skgmmot import (
    CoupledGMMFitter,
    DifferentiableGaussianMixture,
    MixtureFlow,
    MixtureParameters,
    MixtureTransport,
    mixture_barycenter,
    mixture_flow,
    mixture_transport,
    mixture_wasserstein,
    pairwise_mixture_wasserstein,
    pairwise_mixture_wasserstein_vjp,
)
from skgmmot.em.adjoints import FitCotangent
from skgmmot.parameters import FloatArray

X = np.random.default_rng(0).normal(size=(60, 2))
GOAL = ([1.0], [[3.0, 0.0]], [1.0])


def hinted(function):
    """Whether every argument and the result have hints."""
    signature = inspect.signature(function)
    arguments = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    empty = inspect.Parameter.empty
    return signature.return_annotation is not empty and all(
        argument.annotation is not empty for argument in arguments
    )


def public_functions(module):
    """The functions of a module, and its classes' constructors, methods and properties."""
    for name in module.__all__:
        thing = getattr(module, name)
        if not inspect.isclass(thing):
            yield name, thing
            continue
        ours = [base for base in thing.__mro__ if base.__module__.startswith("skgmmot.")]
        for base in ours:
            for attribute, value in vars(base).items():
                value = getattr(value, "fget", getattr(value, "__func__", value))
                public = attribute == "__init__" or not attribute.startswith("_")
                if public and inspect.isfunction(value) and "request" not in attribute:
                    yield f"{name}.{attribute}", value


FUNCTIONS = {
    name: function
    for module in (skgmmot, skgmmot.entropic, skgmmot.images, skgmmot.metrics, skgmmot.plotting)
    for name, function in public_functions(module)
}
FUNCTIONS |= {  # some names are in several of them
    f"{module.__name__}.{name}": function
    for module in FRAMEWORK_MODULES
    for name, function in public_functions(module)
}
# Made by their functions only, of what is not public.
BUILT_INSIDE = {"BalancedTransport.__init__", "SemirelaxedTransport.__init__"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - BUILT_INSIDE))
def test_public_function_has_hints(name):
    assert hinted(FUNCTIONS[name])


def test_functions_of_all_kinds_are_looked_at():
    assert len(FUNCTIONS) > 70
    assert FUNCTIONS.keys() >= {
        "mixture_flow",
        "CoupledGMMFitter.__init__",
        "DifferentiableGaussianMixture.from_parameters",
        "DifferentiableGaussianMixture.vjp",
        "MixtureTransport.gradient",
        "MixtureParameters.n_features",
        "MixtureDisplay.plot",
    }


def test_reader_sees_what_lacks_hints():
    def whole(self, x: int, *, y: float = 0.0, **more: int) -> None: ...
    def no_result(x: int): ...
    def no_argument(x) -> None: ...
    def no_options(**more) -> None: ...

    assert hinted(whole)
    assert not any(map(hinted, (no_result, no_argument, no_options)))


def fitted_attributes(docstring):
    """What a docstring lists in its section Attributes, of what ends with an underscore."""
    _, _, section = docstring.partition("Attributes\n")
    section = section.partition("See Also\n")[0].partition("Examples\n")[0]
    lines = [line.strip() for line in section.splitlines() if " : " in line]
    return {name for line in lines for name in line.split(" : ")[0].split(", ") if name[-1] == "_"}


CLASSES = {
    name: getattr(module, name)
    for module in (skgmmot, skgmmot.plotting)
    for name in module.__all__
    if inspect.isclass(getattr(module, name))
}


@pytest.mark.parametrize("name", CLASSES)
def test_attributes_have_hints(name):
    thing = CLASSES[name]
    known = {attribute for base in thing.__mro__ for attribute in base.__dict__}
    known |= {
        attribute for base in thing.__mro__ for attribute in getattr(base, "__annotations__", ())
    }
    documented = fitted_attributes(thing.__doc__)
    assert documented <= known
    if issubclass(thing, BaseEstimator) or name.endswith("Display"):
        assert len(documented) >= 2


def test_hints_can_be_resolved():
    """But for matplotlib's, which are not imported."""
    for name, function in FUNCTIONS.items():
        if "Display" not in name and name not in BUILT_INSIDE:
            assert "return" in typing.get_type_hints(function)


def literals(hint):
    """All strings that a hint names."""
    if isinstance(hint, str):
        return {hint}
    return set().union(*map(literals, typing.get_args(hint)))


@pytest.mark.parametrize("estimator", [DifferentiableGaussianMixture, CoupledGMMFitter])
def test_hints_name_the_options_that_are_accepted(estimator):
    hints, n_compared = typing.get_type_hints(estimator.__init__), 0
    for name, constraints in estimator._parameter_constraints.items():
        accepted = [c.options for c in constraints if isinstance(c, StrOptions)]
        if accepted:
            assert literals(hints[name]) == set().union(*accepted), name
            n_compared += 1
    assert n_compared >= 2


def test_mixture() -> None:
    mixture = DifferentiableGaussianMixture(2, covariance_type="diag", random_state=0).fit(X)
    typing.assert_type(mixture, DifferentiableGaussianMixture)
    typing.assert_type(mixture.means_, FloatArray)
    typing.assert_type(mixture.converged_, bool)
    typing.assert_type(mixture.lower_bounds_, list[float])
    assert isinstance(mixture.means_, np.ndarray) and isinstance(mixture.converged_, bool)
    assert all(isinstance(bound, float) for bound in mixture.lower_bounds_)

    labels = typing.assert_type(mixture.predict(X), NDArray[np.int64])
    score = typing.assert_type(mixture.bic(X), float)
    drawn, _ = typing.assert_type(mixture.sample(3), tuple[FloatArray, NDArray[np.int64]])
    assert labels.dtype == np.int64 and isinstance(score, float) and drawn.shape == (3, 2)

    cotangent = (None, np.ones((2, 2)), None)
    gradient = typing.assert_type(mixture.gradient_wrt_data(X, cotangent), FloatArray)
    pulled = typing.assert_type(mixture.vjp(X, cotangent, mode="one_step"), FitCotangent)
    assert gradient.shape == pulled.data.shape == X.shape


def test_coupled() -> None:
    fitter = CoupledGMMFitter((2, 1), random_state=0).fit_pair(X, X + 1.0)
    typing.assert_type(fitter, CoupledGMMFitter)
    typing.assert_type(fitter.source_mixture_, DifferentiableGaussianMixture)
    typing.assert_type(fitter.transport_, MixtureTransport)
    typing.assert_type(fitter.mw2_, float)
    moved = typing.assert_type(fitter.transform(X), FloatArray)
    assert isinstance(fitter.source_mixture_, DifferentiableGaussianMixture)
    assert isinstance(fitter.transport_, MixtureTransport)
    assert isinstance(fitter.mw2_, float) and moved.shape == X.shape


def test_functions() -> None:
    mixture = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    transport = typing.assert_type(mixture_transport(mixture, GOAL), MixtureTransport)
    typing.assert_type(transport.plan, NDArray[np.float64])
    typing.assert_type(transport.gradient("target"), MixtureParameters)
    assert isinstance(transport.gradient("target"), MixtureParameters)
    assert transport.plan.dtype == np.float64

    distance = typing.assert_type(mixture_wasserstein(mixture, transport.target), float)
    typing.assert_type(pairwise_mixture_wasserstein([GOAL, mixture]), NDArray[np.float64])
    gradients, nothing = typing.assert_type(
        pairwise_mixture_wasserstein_vjp([GOAL, mixture], None, np.ones((2, 2))),
        tuple[list[MixtureParameters], list[MixtureParameters] | None],
    )
    assert len(gradients) == 2 and nothing is None
    center = typing.assert_type(mixture_barycenter([GOAL, mixture]), MixtureParameters)
    assert isinstance(distance, float) and isinstance(center, MixtureParameters)

    flow = typing.assert_type(mixture_flow(X, GOAL, n_steps=2, random_state=0), MixtureFlow)
    typing.assert_type(flow.path, list[MixtureParameters] | None)
    assert isinstance(flow, MixtureFlow) and flow.path is None
