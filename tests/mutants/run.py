"""Mutation testing: break the package in small ways, one at a time, and see whether tests notice.

    python tests/mutants/run.py [--only PATTERN] [--jobs N] [--time-limit SECONDS]

The lists beside this file hold the mutants, by room: for each file of the package a list of

    (title, old text, new text, tests)    or    (title, old text, new text, tests, reason)

The old text stands exactly once in the file (`tests/test_house.py` holds the lists to that). The
tests are the fewest that should fail: files below tests/, and after " -k " an expression for
pytest. The reason says why a mutant is known to survive.

Each worker has a copy of package and tests in the folder for temporary files, where it puts one
mutant in and takes it out again. The copies' places stay the same from run to run, and with them
the compiled kernels; a mutant of a kernel compiles its own.
"""

import argparse
import fnmatch
import os
import queue
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ROOMS = (
    "em",
    "families",
    "samples",
    "sets",
    "kernels",
    "numerics",
    "transport",
    "coupling",
    "estimators",
    "functions",
    "results",
    "plotting",
    "bridges",
    "bridges_jax",
    "imaging",
    "shared",
)
SCRATCH = Path(tempfile.gettempdir()) / f"skgmmot-mutants-{getattr(os, 'getuid', int)()}"
LEAST_KILLED = 0.95


class Mutant(NamedTuple):
    """One change of one file, the pytest arguments that should notice, and why they do not."""

    title: str
    file: str
    old: str
    new: str
    tests: str
    reason: str = ""

    @property
    def paths(self):
        """The test files."""
        return self.tests.partition(" -k ")[0]

    @property
    def pattern(self):
        """Which of their tests, as an expression for pytest; none stands for all."""
        return self.tests.partition(" -k ")[2]

    def applied(self, source):
        """The source with the change made."""
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.file}: the old text of the mutant {self.title!r} must stand there once, "
                f"but does {source.count(self.old)} times: {self.old!r}. Mend the list."
            )
        return source.replace(self.old, self.new)


def all_mutants():
    """The mutants of all lists."""
    return [
        Mutant(f"{file[:-3]}: {title}", file, *rest)
        for room in ROOMS
        for file, mutants in runpy.run_path(HERE / f"{room}.py")["MUTANTS"].items()
        for title, *rest in mutants
    ]


class Worker:
    """A copy of package and tests."""

    def __init__(self, number):
        self.folder = SCRATCH / str(number)
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("skgmmot", "tests"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        for name in ("pyproject.toml", "conftest.py"):
            shutil.copy2(ROOT / name, self.folder)

    def outcome(self, paths, pattern, time_limit=None):
        """Whether tests pass, fail, take too long, or cannot be run at all; and what they say."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        command += ["-k", pattern, *(f"tests/{path}" for path in paths.split())]
        environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",  # a mutant may have the size and time of the original
            "NUMBA_CACHE_DIR": str(self.folder / "kernels"),
        }
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=time_limit,
            )
        except subprocess.TimeoutExpired:
            return "timeout", ""
        return {0: "passed", 1: "failed"}.get(done.returncode, "broken"), done.stdout + done.stderr

    def fate(self, mutant, time_limit):
        """What becomes of a mutant."""
        path = self.folder / "skgmmot" / mutant.file
        source, status = path.read_text(), path.stat()
        path.write_text(mutant.applied(source))
        try:
            return self.outcome(mutant.paths, mutant.pattern, time_limit)
        finally:
            path.write_text(source)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # by which numba goes


def check_baseline(worker, mutants):
    """Run the tests without a mutant, those of the same files together: they must pass."""
    patterns = {}
    for mutant in mutants:
        patterns.setdefault(mutant.paths, {})[f"({mutant.pattern})"] = None
    for paths, own in patterns.items():
        outcome, words = worker.outcome(paths, "" if "()" in own else " or ".join(own))
        if outcome != "passed":
            sys.exit(f"{words}\nWithout any mutant, the tests of {paths} {outcome}.")
        print(f"passed without a mutant: {paths}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="*", help="mutants whose title matches, as *em/step*")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time")
    parser.add_argument("--time-limit", type=float, default=300.0, help="seconds for each")
    parser.add_argument("--no-baseline", action="store_true", help="trust the tests to pass")
    options = parser.parse_args()
    mutants = [m for m in all_mutants() if fnmatch.fnmatch(m.title, options.only)]
    if not mutants:
        sys.exit(f"No mutant matches {options.only!r}.")
    workers = [Worker(number) for number in range(options.jobs)]
    if not options.no_baseline:
        check_baseline(workers[0], mutants)
    idle = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def judge(mutant):
        worker, started = idle.get(), time.perf_counter()
        try:
            outcome, words = worker.fate(mutant, options.time_limit)
        finally:
            idle.put(worker)
        fate = {"failed": "killed", "passed": "survived"}.get(outcome, outcome)
        print(f"{fate:9}{time.perf_counter() - started:5.0f} s  {mutant.title}", flush=True)
        if fate == "broken":
            print(words[-2000:], flush=True)
        return fate

    with ThreadPoolExecutor(options.jobs) as pool:
        fates = list(pool.map(judge, mutants))
    counts = Counter(fates)
    for mutant, fate in zip(mutants, fates, strict=True):
        if fate != "killed":
            print(f"{fate}: {mutant.title} ({mutant.reason or 'not expected'})")
    share = counts["killed"] / len(mutants)
    print(f"{share:.1%} of {len(mutants)} mutants killed: {dict(counts)}")
    return share < LEAST_KILLED


if __name__ == "__main__":
    sys.exit(main())
