"""What the documentation owes to public names, and its built pages to their reader.

The tests of built pages are skipped unless the environment variable ``SKGMMOT_HTML`` names their
folder, as the gate does after it has built them.
"""

import ast
import inspect
import os
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from frameworks import FRAMEWORK_MODULES
from numpydoc.validate import validate

import skgmmot
import skgmmot.entropic
import skgmmot.images
import skgmmot.metrics
import skgmmot.plotting

DOC = Path(__file__).parents[1] / "doc"
EXAMPLES = DOC.parent / "examples"
HTML = Path(os.environ.get("SKGMMOT_HTML", "no pages"))

needs_pages = pytest.mark.skipif(not HTML.is_dir(), reason="SKGMMOT_HTML names no built pages")


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


MODULES = [
    skgmmot,
    skgmmot.images,
    skgmmot.metrics,
    skgmmot.plotting,
    skgmmot.entropic,
    *FRAMEWORK_MODULES,
]


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
    "BalancedTransport", "BlockCoordinateStep", "FitCotangent", "FitStatus", "FittedMixture",
    "ImageFlow", "LinearSolve", "MixtureBridge", "MixtureFits", "MixtureFlow", "MixtureTensors",
    "MixtureTransport", "SemirelaxedTransport", "SetsCotangent", "StyleFlow",
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


def test_every_example_stands_in_one_section_of_the_gallery_and_in_its_sidebar():
    gallery = (EXAMPLES / "index.rst").read_text("utf-8")
    scripts = sorted(path.stem for path in EXAMPLES.glob("plot_*.py"))
    assert sorted(re.findall(r"^   \.\./examples/(\w+)\.py$", gallery, re.MULTILINE)) == scripts
    assert sorted(re.findall(r"^   (plot_\w+)$", gallery, re.MULTILINE)) == scripts


def public_methods(cls):
    """Names of the methods of a class that the package defines, in whatever class it is."""
    names = (name for name in dir(cls) if not name.startswith("_"))
    methods = {name: inspect.getattr_static(cls, name) for name in names}
    functions = {name: getattr(method, "__func__", method) for name, method in methods.items()}
    return {
        name
        for name, function in functions.items()
        if inspect.isfunction(function) and function.__module__.startswith("skgmmot.")
    }


def test_public_methods_are_those_of_all_classes_of_the_package():
    methods = public_methods(skgmmot.DifferentiableGaussianMixture)
    assert {"fit", "vjp", "predict", "from_parameters"} <= methods
    assert not methods & {"get_params", "parameters_", "weights_"}
    assert public_methods(skgmmot.MixtureTransport) == {
        "gradient",
        "interpolate",
        "map",
        "mass_factors",
    }


def inventory_names(path):
    """The Python names that pages document, from the inventory that Sphinx writes of them."""
    with path.open("rb") as file:
        for _ in range(4):  # lines of a header
            file.readline()
        lines = zlib.decompress(file.read()).decode().splitlines()
    return {line.split()[0] for line in lines if " py:" in line}


CLASSES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if inspect.isclass(getattr(module, name))
}


@needs_pages
def test_every_public_method_stands_on_a_page():
    names = inventory_names(HTML / "objects.inv")
    hidden = {"get_feature_names_out"}  # what that is scikit-learn says: conf.py leaves it out
    wanted = {
        f"{name}.{method}"
        for name, cls in CLASSES.items()
        for method in public_methods(cls) - hidden
    }
    assert len(wanted) > 40
    assert wanted - names == set()


class Page(HTMLParser):
    """What a page links to and loads, and the places in it that may be linked to."""

    def __init__(self, source):
        super().__init__()
        self.links, self.loads, self.places = set(), set(), {"", "top"}
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.places |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        if tag == "a":
            self.links.add(attrs.get("href") or "")
        elif tag == "link":
            self.loads.add(attrs.get("href") or "")
        elif attrs.get("src"):
            self.loads.add(attrs["src"])


def dead_links(folder):
    """Links within a folder of pages that lead nowhere, and what pages load from elsewhere."""
    pages = {
        path: Page(path.read_text("utf-8"))
        for path in folder.rglob("*.html")
        if "_static" not in path.parts
    }
    dead = []
    for path, page in pages.items():
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    dead.append(f"{path.name} loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.is_file() or (target in pages and place not in pages[target].places):
                dead.append(f"{path.name} links to {link}")
    return sorted(dead)


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text("""
        <p id="here"><a href="#here">1</a> <a href="b.html#there">2</a> <a href="b.html?q=1">3</a>
        <a href="https://example.org">4</a> <img src="picture.png"> <img src="data:,">""")
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "picture.png").touch()
    assert dead_links(tmp_path) == []
    (tmp_path / "b.html").write_text("""
        <a href="#gone">1</a> <a href="c.html">2</a> <a href="a.html#gone">3</a>
        <script src="https://example.org/a.js"></script> <img src="gone.png">""")
    assert dead_links(tmp_path) == [
        "a.html links to b.html#there",
        "b.html links to #gone",
        "b.html links to a.html#gone",
        "b.html links to c.html",
        "b.html links to gone.png",
        "b.html loads https://example.org/a.js",
    ]


@needs_pages
def test_links_of_built_pages_lead_somewhere_and_nothing_comes_from_the_network():
    assert (HTML / "index.html").is_file()
    assert dead_links(HTML) == []


@needs_pages
def test_mathematics_is_set_by_files_of_the_site():
    page = (HTML / "user_guide" / "em.html").read_text("utf-8")
    (script,) = re.findall(r'src="\.\./(_static/mathjax/[\w./-]*\.js)', page)
    assert (HTML / script).is_file()


@needs_pages
def test_reference_and_examples_link_to_each_other():
    reference = HTML / "generated" / "skgmmot.mixture_flow.html"
    example = HTML / "auto_examples" / "plot_color_transfer.html"
    links_of_reference = Page(reference.read_text("utf-8")).links
    links_of_example = Page(example.read_text("utf-8")).links
    assert any(link.endswith("plot_color_transfer.html") for link in links_of_reference)
    assert "../generated/skgmmot.mixture_flow.html#skgmmot.mixture_flow" in links_of_example


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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("plot_*.py")), ids=lambda path: path.stem)
def test_example_fits_its_page(path):
    assert not example_offences(path.read_text(encoding="utf-8"))


def test_example_reader_sees_offences():
    assert example_offences('"""Title"""\n# %%\nx = 1\nplt.show()\n') == []
    (offence,) = example_offences('"""Title"""\n# %%\nx = 1\naxis.legend()\n')
    assert "what axis.legend returns" in offence
    (offence,) = example_offences(f'"""Title"""\n# %%\nx = "{88 * "x"}"\n')
    assert "line 3: 94 characters" in offence
    assert example_offences(f"# {88 * 'x'}\nx = 1\n") == []
