"""What the documentation owes to public names."""

import ast
from pathlib import Path

import pytest

import skgmmot
import skgmmot.entropic
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


MODULES = [skgmmot, skgmmot.plotting, skgmmot.entropic]


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


EXAMPLES = sorted((DOC.parent / "examples").glob("plot_*.py"))
WIDEST_CODE = 88  # characters that a cell of the gallery shows without a scroll bar


def example_offences(source):
    """What a page made of an example would show badly, a sentence each."""
    tree, lines = ast.parse(source), source.splitlines()
    first = tree.body[0].end_lineno if ast.get_docstring(tree) else 0
    offences = [
        f"line {number}: {len(line)} characters of code, more than {WIDEST_CODE}"
        for number, line in enumerate(lines[first:], first + 1)
        if len(line) > WIDEST_CODE and not line.startswith("#")
    ]
    cells = [first + 1] + [
        number for number, line in enumerate(lines, 1) if line.startswith("# %%")
    ]
    for start, end in zip(cells, [*cells[1:], len(lines) + 1], strict=True):
        last = [node for node in tree.body if start <= node.lineno < end][-1:]
        if last and isinstance(last[0], ast.Expr):
            called = ast.unparse(last[0].value).partition("(")[0]
            if called not in {"plt.show", "print", "show"}:
                offences.append(f"line {last[0].lineno}: the page prints what {called} returns")
    return offences


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_fits_its_page(path):
    assert not example_offences(path.read_text(encoding="utf-8"))


def test_example_reader_sees_offences():
    assert example_offences('"""Title"""\n# %%\nx = 1\nplt.show()\n') == []
    (offence,) = example_offences('"""Title"""\n# %%\nx = 1\naxis.legend()\n')
    assert "what axis.legend returns" in offence
    (offence,) = example_offences(f'"""Title"""\n# %%\nx = "{88 * "x"}"\n')
    assert "line 3: 94 characters" in offence
    assert example_offences(f"# {88 * 'x'}\nx = 1\n") == []
