"""Look up, on the sites of other projects, where the pages are that these pages link to.

    python doc/inventories/update.py [project ...]

The files beside this one are Sphinx inventories in the first and readable version of the format: a
name, what it is, and its page. Only names that are linked to are kept, so that the documentation is
built without the network, and with few lines to read. To link to another name, add a line with it
and run this script, which needs the network and Sphinx.
"""

import sys
import urllib.request
from pathlib import Path

from sphinx.util.inventory import InventoryFile

SITES = {
    "joblib": "https://joblib.readthedocs.io/en/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "python": "https://docs.python.org/3/",
    "pot": "https://pythonot.github.io/",
    "sklearn": "https://scikit-learn.org/stable/",
}
HEADER_LINES = 3  # version of the format, project, version


def updated(lines, site):
    """The lines of an inventory, each with the place that the site gives to its name."""
    with urllib.request.urlopen(f"{site}objects.inv", timeout=60) as answer:
        inventory = InventoryFile.loads(answer.read(), uri="").data
    places = {
        name: (kind.removeprefix("py:").replace("module", "mod"), item.uri.partition("#")[0])
        for kind, items in inventory.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }
    names = sorted({line.split()[0] for line in lines[HEADER_LINES:]})
    gone = [name for name in names if name not in places]
    if gone:
        sys.exit(f"{site} does not have {', '.join(gone)}")
    return lines[:HEADER_LINES] + [" ".join([name, *places[name]]) for name in names]


if __name__ == "__main__":
    for project in sys.argv[1:] or SITES:
        path = Path(__file__).with_name(f"{project}.txt")
        lines = updated(path.read_text(encoding="utf-8").splitlines(), SITES[project])
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
