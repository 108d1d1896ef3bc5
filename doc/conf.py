"""Sphinx configuration. The build reads nothing from the network, and neither do its pages."""

from importlib.metadata import version as installed_version

from numpydoc.xref import DEFAULT_LINKS

import skgmmot
import skgmmot.plotting

try:
    import torch
except ImportError:  # the pages of skgmmot.torch need it; others do not
    torch = None

project = "skgmmot"
author = "The skgmmot developers"
copyright = "2026, The skgmmot developers"
release = version = installed_version("skgmmot")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # MathJax comes with the pages
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]
nitpicky = True

# Where other projects' pages are: small inventories that `inventories/update.py` looks after.
intersphinx_mapping = {
    "joblib": ("https://joblib.readthedocs.io/en/stable/", "inventories/joblib.txt"),
    "matplotlib": ("https://matplotlib.org/stable/", "inventories/matplotlib.txt"),
    "numpy": ("https://numpy.org/doc/stable/", "inventories/numpy.txt"),
    "python": ("https://docs.python.org/3/", "inventories/python.txt"),
    "pot": ("https://pythonot.github.io/", "inventories/pot.txt"),
    "sklearn": ("https://scikit-learn.org/stable/", "inventories/sklearn.txt"),
}

# Methods that are not ours to document: what scikit-learn writes on every estimator, beside the
# ``set_fit_request`` and kin, and Python on every tuple and int. The template of classes reads
# them too.
others_methods = {
    "count", "index",
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag",
    "is_integer", "numerator", "real", "to_bytes",
    "get_feature_names_out", "get_metadata_routing", "get_params", "set_callbacks",
    "set_output", "set_params",
}  # fmt: skip
methods_of_modules = set(dir(torch.nn.Module)) - {"forward"} if torch else set()
autosummary_generate = True
autosummary_context = {"hidden_methods": sorted(others_methods | methods_of_modules)}
autodoc_default_options = {
    "members": True,
    "inherited-members": "tuple, Module",  # public methods come from mixin classes
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections say more, and signatures stay short
default_role = "py:obj"  # single backticks in docstrings are links, where there is such a name
numpydoc_show_class_members = False  # autodoc shows them already
toc_object_entries_show_parents = "hide"  # the page of a class need not repeat its name

# Types of parameters are links where they are ours, NumPy's or matplotlib's, and words otherwise:
# nobody needs to be told what an int is.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    **{word: word for word in DEFAULT_LINKS},
    **{name: f"skgmmot.{name}" for name in skgmmot.__all__},
    **{name: f"skgmmot.plotting.{name}" for name in skgmmot.plotting.__all__},
    "ndarray": "numpy.ndarray",
    "RandomState": "numpy.random.RandomState",
    "Axes": "matplotlib.axes.Axes",
    "Ellipse": "matplotlib.patches.Ellipse",
    "Figure": "matplotlib.figure.Figure",
    "Line2D": "matplotlib.lines.Line2D",
    "LineCollection": "matplotlib.collections.LineCollection",
    "PathCollection": "matplotlib.collections.PathCollection",
    "PolyCollection": "matplotlib.collections.PolyCollection",
    "QuadContourSet": "matplotlib.contour.QuadContourSet",
    "Text": "matplotlib.text.Text",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "copyfile_regex": r"index\.rst",  # the gallery's page is ours: it has sections, in our order
    # Pages of the reference show the examples that use their names, and code links back.
    "backreferences_dir": "generated/backreferences",
    "doc_module": "skgmmot",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # that page would load scripts from the network
}

plot_html_show_formats = False
plot_html_show_source_link = False

html_theme = "pydata_sphinx_theme"
html_title = "skgmmot"
html_static_path = ["_static"]
html_css_files = ["skgmmot.css"]
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"index": [], "installation": [], "changelog": []}


def skip_others(app, what, name, obj, skip, options):
    """Leave out what others document; scikit-learn's docstrings refer to labels of its own."""
    is_request = name.startswith("set_") and name.endswith("_request")
    is_tuple_field = type(obj).__name__ == "_tuplegetter"  # "Alias for field number 0"
    return True if is_request or is_tuple_field or name in others_methods else None


def setup(app):
    app.connect("autodoc-skip-member", skip_others)
