"""Where compiled kernels are kept, and that they work where nothing can be kept."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from skgmmot.kernels import compilation

SCRIPT = """
import numba
import numpy as np
from skgmmot.kernels import compilation
from skgmmot.kernels.small_matrices import precisions

factors, inverses, log_det = np.empty((1, 1, 1)), np.empty((1, 1, 1)), np.empty(1)
assert precisions(np.full((1, 1, 1), 4.0), factors, inverses, log_det) == -1
print(factors.item(), inverses.item(), *compilation.FOLDERS)
"""


def run_script(cache_folder, *, warnings_are="error"):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache_folder)}
    done = subprocess.run(
        [sys.executable, "-W", warnings_are, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(maxsplit=2) if warnings_are == "error" else (done.stdout, done.stderr)


def a_file(folder):
    """A regular file: below it nobody can make a folder, not even the superuser."""
    path = folder / "file"
    path.write_text("")
    return path


def test_kernels_work_where_no_cache_can_be_written(tmp_path):
    """With a warning at the line of the script."""
    out, told = run_script(a_file(tmp_path) / "cache", warnings_are="always")
    assert out.split() == ["0.5", "0.25"]
    (line,) = re.findall(r"^<string>:(\d+): RuntimeWarning: .*NUMBA_CACHE_DIR", told, re.MULTILINE)
    assert "precisions(" in SCRIPT.splitlines()[int(line) - 1]
    assert told.count("Warning") == 1


def test_kernels_are_kept_in_the_folder_the_user_names(tmp_path):
    *values, folder = run_script(tmp_path)
    assert values == ["0.5", "0.25"]
    assert Path(folder.strip()).parent == tmp_path
    assert list(Path(folder.strip()).rglob("small_matrices.precisions*.nbi"))


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


def bases():
    return [Path(folder).parent for folder in compilation._cache_folders()]


def test_folder_lies_beside_the_sources_or_else_with_the_user(sources, tmp_path):
    assert bases() == [sources / "__pycache__", tmp_path / "home"]


def test_folder_changes_with_any_source(sources):
    before = compilation._cache_folders()
    assert compilation._cache_folders() == before and len(before) == 2
    (sources / "one.py").write_text("x = 2")
    assert not set(compilation._cache_folders()) & set(before)


def test_folder_changes_with_the_compiler(sources, monkeypatch):
    before = compilation._cache_folders()
    monkeypatch.setattr(numba, "__version__", "0.0.0")
    assert not set(compilation._cache_folders()) & set(before)


def test_folder_of_the_user_alone(sources, tmp_path):
    (sources / "__pycache__").write_text("")
    assert bases() == [tmp_path / "home"]


def test_no_folder_at_all(sources, tmp_path):
    (sources / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    assert bases() == []


def test_without_sources_nothing_would_tell_what_the_kernels_are_made_of(sources):
    (sources / "one.py").unlink()
    assert bases() == []


def folder_of(base, digest, days):
    """A folder of other sources, with a file, that was used some days ago."""
    folder = base / f"skgmmot-{digest}"
    folder.mkdir()
    (folder / "kernel.nbc").write_text("")
    used = time.time() - 86_400 * days
    os.utime(folder, (used, used))
    return folder


def test_folders_unused_for_a_month_are_removed(sources):
    """As soon as there is a new one; none else, whatever it is called."""
    base = sources / "__pycache__"
    base.mkdir()
    old = folder_of(base, "0123456789abcdef", days=31)
    recent = folder_of(base, "fedcba9876543210", days=29)
    others = folder_of(base, "0123456789abcdefg", days=99), folder_of(base, "notes", days=99)
    (folder, _) = compilation._cache_folders()
    assert not old.exists()
    assert {Path(folder), recent, *others} == set(base.iterdir())


def test_folder_in_use_stays(sources):
    """Each process that uses it says so, once a day."""
    (current, _) = map(Path, compilation._cache_folders())
    a_while_ago, long_ago = (time.time() - 86_400 * days for days in (0.9, 40.0))
    os.utime(current, (a_while_ago, a_while_ago))
    old = folder_of(current.parent, "0123456789abcdef", days=31)
    compilation._cache_folders()
    assert current.stat().st_mtime == pytest.approx(a_while_ago, abs=1.0)
    assert old.exists()  # nobody looks more than once a day
    os.utime(current, (long_ago, long_ago))
    compilation._cache_folders()
    assert current.stat().st_mtime > time.time() - 3600.0
    assert not old.exists()


def test_process_whose_folder_is_removed_makes_it_again(monkeypatch, tmp_path):
    folder = tmp_path / "skgmmot-0123456789abcdef"
    monkeypatch.setattr(compilation, "FOLDERS", [str(folder)])
    compiled = compilation.kernel(double)
    assert compiled(2.0) == 4.0
    shutil.rmtree(folder)
    assert compiled(2) == 4
    assert len(list(folder.glob("*.nbc"))) == 1


def double(x):
    return x + x


def compiled_anew(monkeypatch, *folders):
    """``double`` as a new process has it, and whether it had to compile it."""
    monkeypatch.setattr(compilation, "FOLDERS", [str(folder) for folder in folders])
    compiled = compilation.kernel(double)
    np.testing.assert_array_equal(compiled(np.arange(3.0)), [0.0, 2.0, 4.0])
    return sum(compiled.stats.cache_misses.values()) == 1


@pytest.fixture(autouse=True)
def warned_already(monkeypatch):
    """As at the second kernel that no folder keeps."""
    monkeypatch.setattr(compilation, "_has_warned", True)


def test_what_cannot_be_kept_is_told_once(monkeypatch, tmp_path, no_writing):
    """Also where a folder is there; and not by what is found in it."""
    monkeypatch.setattr(compilation, "_has_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled_anew(monkeypatch, tmp_path)
        no_writing(tmp_path)
        assert not compiled_anew(monkeypatch, tmp_path)
    with pytest.warns(RuntimeWarning, match=re.escape(f"cannot be kept in {tmp_path}")) as told:
        compiled = compilation.kernel(double)
        assert compiled(2) == 4 and compiled(2.0) == 4.0
    assert len(told) == 1


@pytest.mark.parametrize("kept", [False, True])
def test_kernel_leaves_the_settings_of_numba_alone(monkeypatch, tmp_path, kept):
    before = numba.config.CACHE_DIR
    assert compiled_anew(monkeypatch, *[tmp_path] * kept)
    assert before == numba.config.CACHE_DIR
    assert bool(list(tmp_path.rglob("*.nbi"))) == kept


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "another pickle": lambda content: pickle.dumps(numba.__version__) + pickle.dumps((None, [])),
    "one bit flipped": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["nbi", "nbc"])
def test_damaged_file_is_replaced(monkeypatch, tmp_path, ending, damage):
    assert compiled_anew(monkeypatch, tmp_path)
    assert not compiled_anew(monkeypatch, tmp_path)
    (file,) = tmp_path.rglob(f"*.{ending}")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert compiled_anew(monkeypatch, tmp_path)
    assert not compiled_anew(monkeypatch, tmp_path)


def test_file_of_other_arguments_is_not_taken(monkeypatch, tmp_path):
    """Two processes that begin an index at once may write their code to the same file."""
    assert compiled_anew(monkeypatch, tmp_path)
    (file,) = tmp_path.rglob("*.nbc")
    compilation.kernel(double)(np.arange(3, dtype=np.float32))
    (other,) = set(tmp_path.rglob("*.nbc")) - {file}
    file.write_bytes(other.read_bytes())
    assert compiled_anew(monkeypatch, tmp_path)
    assert not compiled_anew(monkeypatch, tmp_path)


def test_processes_replace_damaged_files_at_once(tmp_path):
    """Each finds every file damaged, now and then one that another has just replaced."""
    run_script(tmp_path)
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(b"")
    with ThreadPoolExecutor(2) as pool:
        for *values, _ in pool.map(run_script, [tmp_path] * 2):
            assert values == ["0.5", "0.25"]
    assert all(file.stat().st_size for file in tmp_path.rglob("*.nb?"))
    assert not list(tmp_path.rglob("*.tmp.*"))


@pytest.fixture
def no_writing(monkeypatch):
    """Makes a folder read-only, to the superuser as well."""

    def refuse(folder):
        def opened(file, *args):
            if Path(file._cache_path) == folder:
                raise PermissionError(13, "Permission denied", str(folder))
            return written(file, *args)

        written = IndexDataCacheFile._open_for_write
        monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", opened)

    return refuse


def test_folder_that_can_only_be_read_is_read(monkeypatch, tmp_path, no_writing):
    assert compiled_anew(monkeypatch, tmp_path)
    no_writing(tmp_path)
    assert not compiled_anew(monkeypatch, tmp_path)
    # what it does not hold is compiled, and kept nowhere
    of_integers = compilation.kernel(double)
    assert of_integers(np.arange(2)).tolist() == [0, 2]
    assert len(list(tmp_path.rglob("*.nbc"))) == 1


def test_second_folder_keeps_what_the_first_does_not_take(monkeypatch, tmp_path, no_writing):
    first, second = tmp_path / "first", tmp_path / "second"
    no_writing(first)
    assert compiled_anew(monkeypatch, first, second)
    assert not list(first.rglob("*.nb?"))
    assert not compiled_anew(monkeypatch, first, second)
    assert not compiled_anew(monkeypatch, second)


def test_damaged_file_in_a_folder_that_can_only_be_read(monkeypatch, tmp_path, no_writing):
    assert compiled_anew(monkeypatch, tmp_path)
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(b"")
    no_writing(tmp_path)
    assert compiled_anew(monkeypatch, tmp_path)


FIT = """
import numpy as np
from skgmmot import DifferentiableGaussianMixture

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 2)) + 5 * rng.integers(2, size=(90, 1))
for kind in ["full", "diag"]:
    mixture = DifferentiableGaussianMixture(
        2, covariance_type=kind, tol=1e-9, residual_tol=1e-8, max_iter=500, random_state=0
    ).fit(X)
    cotangent = (np.arange(2.0), np.ones((2, 2)), None)
    print(*mixture.means_.ravel(), *mixture.covariances_.ravel(), *mixture.score_samples(X[:3]))
    print(*mixture.gradient_wrt_data(X, cotangent)[:3].ravel())
"""


def test_everything_runs_as_plain_python():
    """NUMBA_DISABLE_JIT, to step through kernels and to see which of their lines are run."""
    plain, compiled = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", FIT],
            env=os.environ | {"NUMBA_DISABLE_JIT": setting},
            capture_output=True,
            text=True,
            timeout=300,
        )
        for setting in "10"
    )
    assert plain.returncode == 0, plain.stderr
    assert compiled.returncode == 0, compiled.stderr
    np.testing.assert_allclose(
        np.array(plain.stdout.split(), dtype=float),
        np.array(compiled.stdout.split(), dtype=float),
        rtol=1e-9,  # sums in another order, through an EM that ends at 1e-8 of its way
    )
