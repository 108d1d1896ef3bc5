"""What is handed out with the package, and what a package index shows of it."""

import configparser
import re
import tomllib
from pathlib import Path

import skgmmot

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def link_targets(text):
    """Where the links and pictures of a Markdown text lead."""
    inline = re.findall(r"\]\(([^)\s]+)", text)
    named = re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    quoted = re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    return [*inline, *named, *quoted]


def test_links_of_all_kinds_are_read():
    text = '[a](one) ![b](two "title")\n[c]\n\n[c]: three\n<img src="four"> [d][c]'
    assert link_targets(text) == ["one", "two", "three", "four"]


def test_links_of_the_readme_are_absolute_and_lead_to_files():
    """An index knows no relative ones."""
    targets = link_targets(README)
    assert len(targets) >= 8
    assert [target for target in targets if not target.startswith("https://")] == []
    source = re.escape(PROJECT["urls"]["Source"])
    owner = re.escape(PROJECT["urls"]["Source"].removeprefix("https://github.com/"))
    raw = rf"https://raw\.githubusercontent\.com/{owner}/main/"
    paths = [re.sub(rf"^(?:{source}/blob/main/|{raw})", "", target) for target in targets]
    own = [path for path in paths if not path.startswith("https://")]
    assert len(own) >= 8
    assert [path for path in own if not (ROOT / path).is_file()] == []


def test_named_links_of_the_readme_are_used_and_defined_once():
    """What looks like a definition is none, if it stands in a list for instance."""
    defined = re.findall(r"\[([^\]]+)\]: ", README)
    assert len(set(defined)) == len(defined)
    assert [name for name in defined if README.count(f"[{name}]") < 2] == []


def test_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    (cited,) = re.findall(r"^version: (.+)$", citation, flags=re.MULTILINE)
    assert PROJECT["version"] == skgmmot.__version__ == cited


def test_project_urls_lead_to_one_place():
    urls = PROJECT["urls"]
    assert urls.keys() >= {"Source", "Documentation", "Changelog", "Issues"}
    assert all(url.startswith(urls["Source"]) for url in urls.values())


def test_hints_are_shipped():
    """Type checkers look for the file in the installed package."""
    assert (Path(skgmmot.__file__).parent / "py.typed").is_file()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "py.typed" in setup["options.package_data"]["skgmmot"].split()
