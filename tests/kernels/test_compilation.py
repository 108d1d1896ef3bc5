"""Where compiled kernels are kept, and that they work where nothing can be kept."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from skgmmot.kernels import compilation

SCRIPT = """
import numba
import numpy as np
from skgmmot.kernels import compilation
from skgmmot.kernels.precision import precisions

factors, inverses, log_det = np.empty((1, 1, 1)), np.empty((1, 1, 1)), np.empty(1)
assert precisions(np.full((1, 1, 1), 4.0), factors, inverses, log_det) == -1
print(factors.item(), inverses.item(), compilation._FOLDER)
"""


def run_script(cache_folder):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache_folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(maxsplit=2)


def a_file(folder):
    """A regular file: below it nobody can make a folder, not even the superuser."""
    path = folder / "file"
    path.write_text("")
    return path


def test_kernels_work_where_no_cache_can_be_written(tmp_path):
    *values, folder = run_script(a_file(tmp_path) / "cache")
    assert values == ["0.5", "0.25"]
    assert folder.strip() == "None"


def test_kernels_are_kept_in_the_folder_the_user_names(tmp_path):
    *values, folder = run_script(tmp_path)
    assert values == ["0.5", "0.25"]
    assert Path(folder.strip()).parent == tmp_path
    assert list(Path(folder.strip()).rglob("precision.precisions*.nbi"))


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A stand-in for the folder of the kernels, with a single source."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "one.py").write_text("x = 1")
    monkeypatch.setattr(compilation, "__file__", str(folder / "compilation.py"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return folder


def test_folder_lies_beside_the_sources(sources):
    assert Path(compilation._cache_folder()).parent == sources / "__pycache__"


def test_folder_changes_with_any_source(sources):
    before = compilation._cache_folder()
    assert compilation._cache_folder() == before
    (sources / "one.py").write_text("x = 2")
    assert compilation._cache_folder() != before


def test_folder_of_the_user_comes_second(sources, tmp_path):
    (sources / "__pycache__").write_text("")
    assert Path(compilation._cache_folder()).parent == tmp_path / "home"


def test_no_folder_at_all(sources, tmp_path):
    (sources / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    assert compilation._cache_folder() is None


def double(x):
    return x + x


@pytest.mark.parametrize("kept", [False, True])
def test_kernel_leaves_the_settings_of_numba_alone(monkeypatch, tmp_path, kept):
    before = numba.config.CACHE_DIR
    monkeypatch.setattr(compilation, "_FOLDER", str(tmp_path) if kept else None)
    compiled = compilation.kernel(double)
    assert before == numba.config.CACHE_DIR
    np.testing.assert_array_equal(compiled(np.arange(3.0)), [0.0, 2.0, 4.0])
    assert bool(list(tmp_path.rglob("*.nbi"))) == kept
