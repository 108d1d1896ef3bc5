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
exclude_patterns = ["_build"]

autosummary_generate = True
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
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


def skip_routing_setters(app, what, name, obj, skip, options):
    """Leave out the ``set_fit_request`` and kin that scikit-learn writes on every estimator.

    Their docstrings refer to labels of scikit-learn's own documentation.
    """
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    app.connect("autodoc-skip-member", skip_routing_setters)
