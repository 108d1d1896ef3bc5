"""The house: who may import whom, and what every module and public name owes its reader.

The rules read the source, so they hold for code that no other test runs. `import_offences` and
`shape_offences` take source as text, and are tested themselves on small sources that offend.
"""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from frameworks import FRAMEWORK_MODULES, FRAMEWORKS

import skgmmot
import skgmmot.images
import skgmmot.metrics
import skgmmot.plotting

PACKAGE = Path(skgmmot.__file__).parent
TESTS = Path(__file__).parent

# The rooms from the top floor down, and the rooms of ours that each may import.
ROOMS = {
    "plotting": {
        "functions",
        "estimators",
        "results",
        "samples",
        "checks",
        "parameters",
    },
    "jax": {"bridges", "parameters"},  # public functions for another framework
    "torch": {"bridges", "parameters"},
    "bridges": {"functions", "estimators", "families", "samples", "checks", "parameters"},
    "images": {"imaging"},  # public names of their own for what stands there
    "imaging": {
        "functions",
        "estimators",
        "results",
        "families",
        "samples",
        "checks",
        "parameters",
        "reprs",
    },
    "entropic": {"functions"},  # public names of their own for what stands there
    "metrics": {"functions"},
    "warm_up": {
        "estimators",
        "functions",
        "kernels",
        "parameters",
    },  # compiles ahead, and says where
    "functions": {
        "estimators",
        "results",
        "em",
        "transport",
        "families",
        "samples",
        "numerics",
        "checks",
        "parameters",
        "reprs",
    },
    "estimators": {
        "about",
        "results",
        "coupling",
        "em",
        "transport",
        "families",
        "samples",
        "numerics",
        "checks",
        "parameters",
    },
    "results": {
        "em",
        "transport",
        "families",
        "samples",
        "numerics",
        "checks",
        "parameters",
        "reprs",
    },
    "checks": {"families", "samples", "parameters"},
    "coupling": {"em", "transport", "families", "numerics", "parameters"},
    "em": {"families", "samples", "numerics", "parameters", "reprs"},
    "transport": {"families", "samples", "kernels", "numerics", "parameters"},
    "families": {"samples", "kernels", "numerics", "parameters"},
    "samples": {"kernels", "numerics"},
    "kernels": set(),
    "numerics": set(),
    "parameters": {"reprs"},
    "reprs": set(),
    "about": set(),
}
# Of the samples, families see only the interface; and of the kernels, small matrices. Transport
# sees those of the size of mixtures.
NARROWER = {
    ("families", "samples"): {"skgmmot.samples.interface"},
    ("families", "kernels"): {"skgmmot.kernels.small_matrices"},
    ("transport", "kernels"): {
        "skgmmot.kernels.gaussians",
        "skgmmot.kernels.transportation",
    },
    ("warm_up", "kernels"): {"skgmmot.kernels.compilation"},
}
# All that take arrays of users, and who moves rows himself, may ask whether they are on a device.
NARROWER |= {
    (room, "samples"): {"skgmmot.samples.device_arrays"}
    for room in ("plotting", "bridges", "imaging", "results", "checks", "transport")
}
# The rooms that know scikit-learn's manners.
UPPER_ROOMS = {"plotting", "functions", "estimators", "results", "checks", "entropic"}
UPPER_ROOMS |= {"jax", "torch", "bridges", "images", "imaging"}

# What of scikit-learn a module of the others may use.
SKLEARN_BELOW = {
    "skgmmot.em.initialization": {
        "sklearn.cluster": {"KMeans", "kmeans_plusplus"},
        "sklearn.utils.random": {"sample_without_replacement"},
    }
}
# The rooms that may warn. The others return what there is to warn of.
WARNING_ROOMS = {"bridges", "functions", "estimators", "checks"}
# Below them one module warns: nobody above sees that a kernel is compiled, and cannot be kept.
WARNING_MODULES = {"skgmmot.kernels.compilation"}

COVARIANCE_TYPES = {"full", "tied", "diag", "spherical"}
NEVER_AT_MODULE_LEVEL = {"ot", "matplotlib", "dask", "distributed", "cupy"}
LONGEST_MODULE = 400


def module_name(path):
    """Dotted name of a file of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree, package):
    """Every import of a tree: (line, module, name or None, whether at module level)."""
    deferred = {
        id(node)
        for later in ast.walk(tree)
        if isinstance(later, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        or (isinstance(later, ast.If) and ast.unparse(later.test) == "TYPE_CHECKING")
        for node in ast.walk(later)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None, id(node) not in deferred
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = package.split(".")
                anchor = parts[: len(parts) - node.level + 1]
                module = ".".join([*anchor, module] if module else anchor)
            for alias in node.names:
                yield node.lineno, module, alias.name, id(node) not in deferred


def room_of(module):
    """First name below the package: `em` for `skgmmot.em.step`, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def sklearn_is_allowed(importer, module, name):
    if room_of(importer) in UPPER_ROOMS:
        return True
    return name in SKLEARN_BELOW.get(importer, {}).get(module, ())


def bridges_to(importer, framework):
    """Whether a module is of those that may import a framework."""
    return importer == f"skgmmot.{framework}" or importer.startswith(
        f"skgmmot.bridges.{framework}_"
    )


def import_offences(source, importer, *, is_package=False):
    """Imports in a module's source that the house forbids, a sentence each."""
    package = importer if is_package else importer.rpartition(".")[0]
    room = room_of(importer)
    if room and room not in ROOMS:
        return [f"{importer}: the room {room!r} is not in the table of rooms"]
    offences = []
    for line, module, name, at_module_level in imports(ast.parse(source), package):
        where = f"{importer}:{line}"
        top = module.split(".")[0]
        if top == "skgmmot":
            target = room_of(module) or (name if name in ROOMS else "")
            if room and target not in ROOMS[room] | {room}:
                offences.append(f"{where}: {room} may not import {target or 'the package itself'}")
            elif module not in NARROWER.get((room, target), {module}):
                offences.append(f"{where}: {room} may not import {module}")
        if top == "sklearn" and not sklearn_is_allowed(importer, module, name):
            offences.append(f"{where}: {name or module} of scikit-learn belongs to the estimators")
        if top in FRAMEWORKS and not bridges_to(importer, top):
            offences.append(f"{where}: {top} belongs to skgmmot.{top} and its bridges")
        if top == "cupy" and importer != "skgmmot.samples.device_arrays":
            offences.append(f"{where}: take cupy from skgmmot.samples.device_arrays")
        if top in NEVER_AT_MODULE_LEVEL and at_module_level:
            offences.append(f"{where}: import {top} inside the function that needs it")
    return offences


def names_a_covariance_type(comparison):
    """Whether something is compared with the name of a covariance type."""
    constants = (node for node in ast.walk(comparison) if isinstance(node, ast.Constant))
    return any(node.value in COVARIANCE_TYPES for node in constants if isinstance(node.value, str))


def warns(node):
    """Whether a node names a function that warns, of the standard library."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "warnings" and any("warn" in alias.name for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in {"warn", "warn_explicit"}


def shape_offences(source, importer):
    """What a module's source is not to contain, whatever it imports."""
    offences = [
        f"{importer}:{node.lineno}: raise an error that names the cure instead of assert"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assert)
    ]
    if room_of(importer) not in {"families", "parameters"}:
        offences += [
            f"{importer}:{node.lineno}: what a covariance type can do stands in families"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Compare) and names_a_covariance_type(node)
        ]
    if room_of(importer) not in WARNING_ROOMS and importer not in WARNING_MODULES:
        offences += [
            f"{importer}:{node.lineno}: return what there is to warn of"
            for node in ast.walk(ast.parse(source))
            if warns(node)
        ]
    n_lines = len(source.splitlines())
    if n_lines > LONGEST_MODULE:
        offences.append(f"{importer}: {n_lines} lines, more than {LONGEST_MODULE}")
    return offences


def test_every_room_is_read_and_in_the_table():
    assert {room_of(module) for module in MODULES} == {"", *ROOMS}


@pytest.mark.parametrize("module", MODULES)
def test_module_keeps_the_import_direction(module):
    path = MODULES[module]
    offences = import_offences(path.read_text(), module, is_package=path.stem == "__init__")
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_and_free_of_assert(module):
    offences = shape_offences(MODULES[module].read_text(), module)
    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    "importer, source, complaint",
    [
        ("skgmmot.functions.layer", "import torch", "belongs to skgmmot.torch"),
        ("skgmmot.bridges.jax_fit", "from torch import nn", "belongs to skgmmot.torch"),
        ("skgmmot.functions.flow", "from ..torch import fit_mixture", "may not import torch"),
        ("skgmmot.kernels.blocks", "from skgmmot.parameters import x", "may not import parameters"),
        ("skgmmot.samples.cpu", "from ..parameters import x", "may not import parameters"),
        ("skgmmot.parameters", "from . import em", "may not import em"),
        ("skgmmot.parameters", "import skgmmot.kernels", "may not import kernels"),
        ("skgmmot.em.em_map", "from ..transport.bures import x", "may not import transport"),
        ("skgmmot.em.em_map", "from ..kernels import compiled", "may not import kernels"),
        ("skgmmot.em.em_map", "import skgmmot.estimators.mixture", "may not import estimators"),
        ("skgmmot.estimators.mixture", "from ..functions.flow import x", "import functions"),
        ("skgmmot.em.em_map", "from ..checks import as_parameters", "may not import checks"),
        ("skgmmot.em.em_map", "from skgmmot import MixtureParameters", "the package itself"),
        ("skgmmot.transport.plans", "def f():\n    from ..em import fit", "may not import em"),
        ("skgmmot.functions.flow", "from .. import MixtureParameters", "the package itself"),
        ("skgmmot.estimators.mixture", "from ..plotting import x", "may not import plotting"),
        ("skgmmot.plotting.palette", "import matplotlib.pyplot as plt", "inside the function"),
        ("skgmmot.em.em_map", "from ..coupling import objective", "may not import coupling"),
        ("skgmmot.coupling.sweeps", "from ..estimators.mixture import x", "import estimators"),
        ("skgmmot.families.full", "from ..samples.cpu import CpuSamples", "skgmmot.samples.cpu"),
        ("skgmmot.families.full", "from ..kernels.compiled import x", "skgmmot.kernels.compiled"),
        ("skgmmot.transport.bures", "from ..kernels.blocks import x", "skgmmot.kernels.blocks"),
        ("skgmmot.samples.cpu", "from ..families import FULL", "may not import families"),
        ("skgmmot.helpers", "import math", "not in the table of rooms"),
        ("skgmmot.em.em_map", "from sklearn.utils import check_array", "belongs to the estimators"),
        ("skgmmot.em.em_map", "from sklearn.cluster import KMeans", "belongs to the estimators"),
        ("skgmmot.em.initialization", "from sklearn.cluster import DBSCAN", "the estimators"),
        ("skgmmot.em.initialization", "import sklearn", "belongs to the estimators"),
        ("skgmmot.transport.plans", "import ot", "inside the function"),
        ("skgmmot.samples.dask_chunks", "import dask.array as da", "inside the function"),
        ("skgmmot.samples.dask_chunks", "from distributed import x", "inside the function"),
        ("skgmmot.samples.device_arrays", "import cupy", "inside the function"),
        ("skgmmot.samples.cuda", "def f():\n    import cupy", "take cupy from"),
        ("skgmmot.transport.maps", "from ..samples.cpu import x", "import skgmmot.samples.cpu"),
        ("skgmmot.checks", "from .samples import samples_of", "may not import skgmmot.samples"),
        ("skgmmot.transport.plans", "from sklearn.exceptions import x", "to the estimators"),
        (
            "skgmmot.functions.distances",
            "class A:\n    from ot.lp import emd",
            "inside the function",
        ),
        ("skgmmot.estimators.mixture", "import matplotlib.pyplot as plt", "inside the function"),
        ("skgmmot.functions.layer", "def f():\n    import jax", "belongs to skgmmot.jax"),
        ("skgmmot.functions.layer", "from ..bridges.jax_fit import x", "may not import bridges"),
    ],
)
def test_import_reader_sees_an_offence(importer, source, complaint):
    (offence,) = import_offences(source, importer)
    assert complaint in offence


@pytest.mark.parametrize(
    "importer, source",
    [
        ("skgmmot.bridges.torch_fit", "import torch\nfrom ..functions.layer import layer_of"),
        ("skgmmot.kernels.blocks", "import numba\nfrom .elementary import exp"),
        ("skgmmot.em.em_map", "from ..samples import samples_of\nfrom . import path"),
        ("skgmmot.em.adjoints", "from skgmmot.parameters import MixtureParameters"),
        ("skgmmot.families.full", "from ..kernels.small_matrices import precisions"),
        ("skgmmot.functions.flow", "from sklearn.exceptions import ConvergenceWarning"),
        ("skgmmot.em.initialization", "from sklearn.cluster import KMeans, kmeans_plusplus"),
        ("skgmmot.transport.plans", "def exact(cost):\n    import ot"),
        ("skgmmot.jax", "import jax\nfrom .bridges.jax_fit import fitted"),
        ("skgmmot.bridges.jax_fit", "import jax.numpy as jnp\nfrom ..checks import as_parameters"),
        ("skgmmot.plotting.palette", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("skgmmot.functions.distances", "from .mixture_transport import mixture_transport"),
        (
            "skgmmot.estimators.mixture",
            "from sklearn.base import clone\nfrom ..em import fit",
        ),
        ("skgmmot", "from skgmmot.estimators.mixture import DifferentiableGaussianMixture"),
    ],
)
def test_import_reader_lets_the_house_style_pass(importer, source):
    assert import_offences(source, importer, is_package=importer == "skgmmot") == []


def test_relative_imports_of_a_package_are_resolved_from_the_package():
    source = "from .blocks import BLOCK\nfrom ..parameters import MixtureParameters"
    (offence,) = import_offences(source, "skgmmot.kernels", is_package=True)
    assert offence == "skgmmot.kernels:2: kernels may not import parameters"


def test_shape_reader_sees_offences():
    (offence,) = shape_offences("def f(x):\n    assert x > 0\n", "skgmmot.mixture")
    assert offence.startswith("skgmmot.mixture:2: raise an error")
    (offence,) = shape_offences("\n" * (LONGEST_MODULE + 1), "skgmmot.mixture")
    assert "more than" in offence
    assert shape_offences("\n" * LONGEST_MODULE, "skgmmot.mixture") == []


@pytest.mark.parametrize(
    "source", ['if kind == "tied":\n    f()', 'x = 1 if kind in ("full", "diag") else 2']
)
def test_shape_reader_sees_branches_on_the_covariance_type(source):
    (offence,) = shape_offences(source, "skgmmot.em.em_map")
    assert "families" in offence
    assert shape_offences(source, "skgmmot.families.full") == []


@pytest.mark.parametrize(
    "source",
    [
        "import warnings\nwarnings.warn('x')",
        "from warnings import warn",
        "import logging as w\nw.warn",
    ],
)
def test_shape_reader_sees_what_warns(source):
    (offence,) = shape_offences(source, "skgmmot.transport.plans")
    assert "return what there is to warn of" in offence
    assert shape_offences(source, "skgmmot.functions.flow") == []


def mirrors_a_module(test, modules):
    """Whether `test_<name>.py`, a path below tests/, belongs to the module or room <name>.

    A second file about the same module carries its name in front, as `test_mixture_routing.py`.
    """
    subject = ".".join(["skgmmot", *test.parent.parts, test.stem.removeprefix("test_")])
    return any(subject == module or subject.startswith(f"{module}_") for module in modules)


def test_test_files_mirror_the_package():
    free = {"peers", "benchmarks", "properties", "examples", "bridges", "cuda_on_host"}
    free |= {Path(__file__).name, "test_distribution.py", "test_documentation.py", "test_hints.py"}
    tests = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    mirroring = [test for test in tests if test.parts[0] not in free]
    assert [str(test) for test in mirroring if not mirrors_a_module(test, MODULES)] == []


def test_mirror_reader_tells_strays():
    modules = {"skgmmot", "skgmmot.mixture", "skgmmot.em", "skgmmot.em.step"}
    for test in ["test_mixture.py", "test_mixture_routing.py", "em/test_step.py", "test_em.py"]:
        assert mirrors_a_module(Path(test), modules), test
    for test in ["test_step.py", "em/test_mixture.py", "test_mix.py", "test_regressions.py"]:
        assert not mirrors_a_module(Path(test), modules), test


def docstring_offences(docstring):
    """Sections of the numpydoc standard that a public name's docstring lacks."""
    sections = set(re.findall(r"^ *(\w[\w ]*)\n *-{3,}$", docstring or "", flags=re.MULTILINE))
    offences = []
    if not sections & {"Parameters", "Attributes"}:
        offences.append("neither Parameters nor Attributes")
    if "Examples" not in sections or ">>> " not in docstring.partition("Examples\n")[2]:
        offences.append("no Examples that run")
    return offences


PUBLIC_ROOMS = skgmmot, skgmmot.images, skgmmot.metrics, skgmmot.plotting, *FRAMEWORK_MODULES
PUBLIC = [(room, name) for room in PUBLIC_ROOMS for name in room.__all__]


def test_public_names_are_listed_and_there():
    assert {room for room, _ in PUBLIC} == {*PUBLIC_ROOMS}
    assert [name for room, name in PUBLIC if not hasattr(room, name)] == []


@pytest.mark.parametrize("room, name", PUBLIC)
def test_public_name_has_a_numpydoc_docstring_with_examples(room, name):
    assert docstring_offences(getattr(room, name).__doc__) == []


def test_docstring_reader_sees_offences():
    assert len(docstring_offences(None)) == 2
    assert len(docstring_offences("Parameters: x. Examples: none.")) == 2
    documented = "Do it.\n\n    Parameters\n    ----------\n    x : int\n"
    assert docstring_offences(documented) == ["no Examples that run"]
    assert docstring_offences(documented + "\n    Examples\n    --------\n    >>> do(1)\n") == []


def test_import_brings_no_optional_library_and_no_transport_solver():
    """`import ot` loads every array library it finds, so it waits for its first use."""
    script = "import sys, skgmmot.plotting; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(done.stdout.split())
    assert "skgmmot" in loaded
    assert not loaded & {"ot", "torch", "cupy", "jax", "matplotlib", "dask", "distributed"}


def test_mutants_change_the_source_as_it_is():
    """A list of mutants that no longer fits the package would test nothing."""
    mutants = runpy.run_path(TESTS / "mutants" / "run.py")["all_mutants"]()
    for mutant in mutants:
        source = (PACKAGE / mutant.file).read_text()
        changed = mutant.applied(source)  # raises an error if there is not one place to change
        assert changed != source, mutant.title
        compile(changed, mutant.file, "exec")
        assert all((TESTS / path).is_file() for path in mutant.paths.split()), mutant.title
    assert len({mutant.title for mutant in mutants}) == len(mutants) >= 80
