"""What the documentation owes to public names."""

import inspect
from pathlib import Path

import pytest
from numpydoc.validate import validate

import skgmmot
import skgmmot.entropic
import skgmmot.metrics
import skgmmot.plotting

DOC = Path(__file__).parents[1] / "doc"


def documented_names(source):
    """The names that autosummaries of a page of reStructuredText list, with their modules."""
    names, module, within = set(), None, False
    for line in source.splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        if line and not line.startswith(" "):
            within = line.startswith(".. autosummary::")
        elif within and line.strip() and not line.strip().startswith(":"):
            names.add(f"{module}.{line.strip()}")
    return names


def test_names_are_those_of_autosummaries():
    source = """
.. currentmodule:: package

one is named, two is mentioned.

.. autosummary::
   :toctree: generated

   one

.. currentmodule:: package.inner
.. autosummary::

   two
"""
    assert documented_names(source) == {"package.one", "package.inner.two"}


MODULES = [skgmmot, skgmmot.metrics, skgmmot.plotting, skgmmot.entropic]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_stands_in_the_reference(module):
    names = documented_names((DOC / "api.rst").read_text(encoding="utf-8"))
    unnamed = [
        name
        for name in module.__all__
        if not {f"{module.__name__}.{name}", f"skgmmot.{name}"} & names
    ]
    assert not unnamed


# What numpydoc asks for and docstrings here do without.
NOT_ASKED = {
    "ES01": "a summary may say it all",
    "EX01": "public names have examples (test_house.py), not each of their methods",
    "PR04": "arguments that are as in another method are listed without their types",
    "PR07": "a name, a type and a shape may say it all, as of X",
    "PR08": "float32, k-means and ε are written so at the start as well",
    "RT02": "what is returned has a name, as in scikit-learn",
    "RT03": "and the name may say it all",
    "RT04": "float32, as above",
    "SA01": "there is not always something else to see",
}
# Made by functions. They tell their attributes, and nobody calls them.
BUILT_INSIDE = {
    "BlockCoordinateStep", "FitCotangent", "LinearSolve", "MixtureFlow", "MixtureTransport",
    "SemirelaxedTransport",
}  # fmt: skip


def documented_objects(module):
    """Paths of the public names of a module, and of the methods and properties of classes."""
    for name in module.__all__:
        path, thing = f"{module.__name__}.{name}", getattr(module, name)
        yield path
        for attribute in dir(thing) if inspect.isclass(thing) else ():
            value = inspect.getattr_static(thing, attribute)
            value = getattr(value, "fget", getattr(value, "__func__", value))
            ours = inspect.isfunction(value) and value.__module__.startswith("skgmmot.")
            if ours and not attribute.startswith("_"):
                yield f"{path}.{attribute}"


def complaints(path):
    """What numpydoc finds wrong with a docstring, of what is asked."""
    not_asked = NOT_ASKED.keys() | ({"PR01"} if path.split(".")[-1] in BUILT_INSIDE else set())
    return [(code, words) for code, words in validate(path)["errors"] if code not in not_asked]


OBJECTS = sorted({path for module in MODULES for path in documented_objects(module)})


@pytest.mark.parametrize("path", OBJECTS)
def test_docstring_is_valid_numpydoc(path):
    assert complaints(path) == []


def test_methods_and_properties_are_validated():
    assert set(OBJECTS) >= {
        "skgmmot.mixture_flow",
        "skgmmot.CoupledGMMFitter.fit_pair",
        "skgmmot.DifferentiableGaussianMixture.from_parameters",
        "skgmmot.SemirelaxedTransport.plan",
        "skgmmot.plotting.FlowDisplay.plot",
    }


def badly_documented(x, y):
    """makes nothing

    Parameters
    ----------
    y : int
    z : int
    """


def test_validation_finds_what_is_wrong(monkeypatch):
    monkeypatch.setattr(skgmmot, "badly_documented", badly_documented, raising=False)
    found = {code for code, _ in complaints("skgmmot.badly_documented")}
    assert found == {"PR01", "PR02", "SS02", "SS03", "SS05"}


def test_every_page_of_the_user_guide_stands_in_its_index():
    guide = DOC / "user_guide"
    listed = {line.strip() for line in (guide / "index.rst").read_text("utf-8").splitlines()}
    pages = {page.stem for page in guide.glob("*.rst")} - {"index"}
    assert pages <= listed
