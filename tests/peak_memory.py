"""Peaks of resident memory, measured in a process of its own: not all of it is NumPy's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import gc, json, sys, warnings
import numpy as np
from skgmmot import DifferentiableGaussianMixture

warnings.simplefilter("ignore")  # a few steps do not converge

def resident(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])

def peak_of(function):
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts again from what is resident now
    before = resident("VmRSS")
    function()
    return (resident("VmHWM") - before) / 1e6

"""


def peaks_of(script, *arguments):
    """What a script prints as JSON: megabytes that ``peak_of`` found."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs the peak of resident memory, as Linux tells it")
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        # large arrays come from the system and go back to it
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
