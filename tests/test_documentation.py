"""What the documentation owes to public names."""

from pathlib import Path

import pytest

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


def test_every_page_of_the_user_guide_stands_in_its_index():
    guide = DOC / "user_guide"
    listed = {line.strip() for line in (guide / "index.rst").read_text("utf-8").splitlines()}
    pages = {page.stem for page in guide.glob("*.rst")} - {"index"}
    assert pages <= listed
