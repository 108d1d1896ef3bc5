"""Sphinx configuration. The build reads nothing from the network."""

from importlib.metadata import version as installed_version

project = "skgmmot"
author = "The skgmmot developers"
copyright = "2026, The skgmmot developers"
release = version = installed_version("skgmmot")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

# Methods that are not ours to document: what scikit-learn writes on every estimator, beside the
# ``set_fit_request`` and kin, and Python on every tuple. The template of classes reads them too.
others_methods = {
    "count", "index",
    "get_feature_names_out", "get_metadata_routing", "get_params", "set_callbacks",
    "set_output", "set_params",
}  # fmt: skip
autosummary_generate = True
autosummary_context = {"hidden_methods": sorted(others_methods)}
autodoc_default_options = {
    "members": True,
    "inherited-members": "tuple",  # public methods come from mixin classes
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the sections say more, and signatures stay short
default_role = "py:obj"  # single backticks in docstrings are links, where there is such a name
numpydoc_show_class_members = False  # autodoc shows them already

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": None,
    "download_all_examples": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "skgmmot"
html_theme_options = {"show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {"installation": [], "changelog": []}


def skip_others(app, what, name, obj, skip, options):
    """Leave out what others document; scikit-learn's docstrings refer to labels of its own."""
    is_request = name.startswith("set_") and name.endswith("_request")
    is_tuple_field = type(obj).__name__ == "_tuplegetter"  # "Alias for field number 0"
    return True if is_request or is_tuple_field or name in others_methods else None


def setup(app):
    app.connect("autodoc-skip-member", skip_others)
