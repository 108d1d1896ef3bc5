"""Time to import and to the end of a first small fit, against scikit-learn.

    python tests/benchmarks/bench_startup.py [--quick]

Every figure comes from fresh processes. Cold: compiled kernels have no cache yet, as at the first
use after installation. Warm: they have one.
"""

import os
import subprocess
import sys
import tempfile

from _report import Table, arguments, heading, medians, verdict

MOST_IMPORT_OVER_PEER = 0.3  # seconds
MOST_WARM_FIT = 1.0
MOST_COLD_FIT = 15.0

CHILD = """
import time
begin = time.perf_counter()
from {module} import {estimator} as Mixture
imported = time.perf_counter()
import warnings
import numpy as np
warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(200, 2))
X[:100] += 10.0
start = time.perf_counter()
{fit}
print(imported - begin, time.perf_counter() - start)
"""
OURS = {"module": "skgmmot", "estimator": "DifferentiableGaussianMixture"}
PEER = {"module": "sklearn.mixture", "estimator": "GaussianMixture"}
FIT = "Mixture(2, random_state=0).fit(X)"


def seconds(names, cache, fit=""):
    """Seconds of the import and of the fit in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(**names, fit=fit)],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(map(float, done.stdout.split()))


def main():
    quick = arguments(__doc__).quick
    heading()
    table = Table(
        case="<30s", ours_s="8.3f", peer_s="8.3f", judged_s="9.3f", at_most="8.1f", verdict="<7s"
    )

    def row(case, ours, peer, judged, most):
        table.row(case, ours, peer, judged, most, verdict(judged, most, at_most=True))

    with tempfile.TemporaryDirectory() as warm:

        def cold_fit():
            with tempfile.TemporaryDirectory() as cold:
                return seconds(OURS, cold, FIT)[1]

        for names in (OURS, PEER):
            seconds(names, warm, FIT)  # fills the cache, and the system's cache of files
        few, many = (1, 3) if quick else (3, 11)
        ours, peer = medians(
            lambda: seconds(OURS, warm)[0], lambda: seconds(PEER, warm)[0], repeats=many
        )
        row("import, over the peer's", ours, peer, ours - peer, MOST_IMPORT_OVER_PEER)
        ours, peer = medians(
            lambda: seconds(OURS, warm, FIT)[1], lambda: seconds(PEER, warm, FIT)[1], repeats=many
        )
        row("first fit after it, warm cache", ours, peer, ours, MOST_WARM_FIT)
        cold, peer = medians(cold_fit, lambda: seconds(PEER, warm, FIT)[1], repeats=few)
        row("first fit after it, cold cache", cold, peer, cold, MOST_COLD_FIT)


if __name__ == "__main__":
    main()
