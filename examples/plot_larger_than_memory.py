"""
Larger than memory
==================

EM asks of the data a few sums for each component, and sums over parts add up. So a file need not
fit into memory to be fitted exactly: it is read in chunks, and the mixture is the one that a fit in
memory finds. Nor need it be on one machine: with Dask the chunks are wherever the workers are.

The page is made with 4 million samples; with ``--full`` the script writes a file of 4 GB. Read in
chunks, its fit took 122 MB and 28 s on two cores, and in memory 3960 MB and 35 s, 10 of them to
read the file. A step with Dask took 5.4 s on one worker and 3.1 s on two.
"""

# %%
# A file
# ------
# Ten clusters in three dimensions, written to a temporary folder piece by piece.

import os
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import dask.array as da
import matplotlib.pyplot as plt
import numpy as np
from distributed import Client
from distributed.deploy.subprocess import SubprocessCluster
from sklearn.exceptions import ConvergenceWarning

from skgmmot import ChunkedRows, DifferentiableGaussianMixture

n_samples, chunk_size = 4_000_000, 250_000
if "--full" in sys.argv:
    n_samples, chunk_size = 165_000_000, 2_500_000
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "samples.dat"
rng = np.random.default_rng(0)
centers = 4.0 * rng.normal(size=(10, 3))
file = np.memmap(path, mode="w+", dtype=np.float64, shape=(n_samples, 3))
for start in range(0, n_samples, chunk_size):
    rows = file[start : start + chunk_size]
    rows[:] = rng.normal(size=rows.shape) + centers[rng.integers(0, 10, len(rows))]
file.flush()
file_size = path.stat().st_size / 1e6
print(f"{n_samples} samples, {file_size:.0f} MB")

# %%
# A fit that reads it in chunks
# -----------------------------
# A large `numpy.memmap` is read in chunks of 64 MiB without being asked to.
# :class:`~skgmmot.ChunkedRows` takes chunks of another size, and several files as one. While a
# chunk is computed the next one is read, so there are two in memory. We watch the memory of the
# process.


def resident():
    """Memory of this process in megabytes (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return np.nan
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watched(function):
    """Times and the growth of memory while a function runs, and what it returns."""
    seen, done, before, begin = [], threading.Event(), resident(), time.perf_counter()

    def watch():
        while not done.wait(0.01):
            seen.append((time.perf_counter() - begin, resident() - before))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        answer = function()
    finally:
        done.set()
        thread.join()
    return np.transpose(seen), answer


options = {"n_components": 10, "random_state": 0, "acceleration": None, "tol": 1e-4}
options |= {"residual_tol": np.inf, "max_iter": 10, "init_size": 5000}
X = np.memmap(path, mode="r", dtype=np.float64, shape=file.shape)
del file, rows
DifferentiableGaussianMixture(**options).fit(X[:100_000].copy())  # compiles


def fit_chunks():
    rows = ChunkedRows(X, chunk_size=chunk_size)
    return DifferentiableGaussianMixture(**options).fit(rows)


def fit_in_memory():
    rows = np.fromfile(path).reshape(-1, 3)
    return DifferentiableGaussianMixture(**options).fit(rows)


in_chunks, mixture = watched(fit_chunks)
in_memory, other = watched(fit_in_memory)
difference = np.abs(mixture.means_ - other.means_).max()
print(f"{mixture.n_iter_} steps, means as in memory up to {difference:.1e}")
for name, (_, growth) in {"in chunks": in_chunks, "in memory": in_memory}.items():
    print(f"{name}: {growth.max():.0f} MB at most")

# %%
# The gradient goes to a file as well
# -----------------------------------
# The gradient of a loss has the size of the data. ``out`` takes it, chunk by chunk: here how the
# norm of the first mean changes with every sample.

other_path = path.with_suffix(".gradient")
gradient = np.memmap(other_path, mode="w+", dtype=np.float64, shape=X.shape)
cotangent = np.zeros_like(mixture.means_)
cotangent[0] = mixture.means_[0] / np.linalg.norm(mixture.means_[0])
mixture.gradient_wrt_data(
    ChunkedRows(X, chunk_size=chunk_size),
    (None, cotangent, None),
    mode="one_step",
    out=gradient,
)
print(f"A file of {other_path.stat().st_size / 1e6:.0f} MB")
print(f"Largest of the first 1000 rows: {np.abs(gradient[:1000]).max():.2e}")

# %%
# On a cluster
# ------------
# The same fit with Dask. The workers are processes of this machine here; each reads its own rows of
# the file. A step is a task for each chunk, which returns the sums of its samples, and a tree of
# tasks that adds them up: bits do not depend on how many workers there are.


def read(block_info=None):
    """The rows of a chunk, where a worker is."""
    (start, stop), _ = block_info[None]["array-location"]
    file = np.memmap(path, mode="r", dtype=np.float64).reshape(-1, 3)
    return np.array(file[start:stop])


warnings.simplefilter("ignore", ConvergenceWarning)  # we ask for a number of steps
n_chunks = n_samples // chunk_size
chunks = ((chunk_size,) * n_chunks, (3,))
workers, seconds, means = range(1, (os.cpu_count() or 1) + 1)[:4], [], []
for n_workers in workers:
    with (
        SubprocessCluster(n_workers=n_workers, threads_per_worker=1) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(n_workers)
        print(f"{n_workers} workers, dashboard at {client.dashboard_link}")
        samples = da.map_blocks(read, chunks=chunks, dtype=np.float64).persist()
        start = {
            "weights_init": mixture.weights_,
            "means_init": mixture.means_,
            "precisions_init": mixture.precisions_,
        }
        fit = DifferentiableGaussianMixture(**options, **start)
        fit.set_params(tol=0.0, max_iter=1).fit(samples)  # workers compile
        spent = []
        for n_steps in (1, 6):
            begin = time.perf_counter()
            fit.set_params(max_iter=n_steps).fit(samples)
            spent.append(time.perf_counter() - begin)
        seconds.append((spent[1] - spent[0]) / 5)
        means.append(fit.means_)
folder.cleanup()
same = all(np.array_equal(means[0], other) for other in means)
print(f"The means have the same bits on all of them: {same}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
for name, (times, growth) in {"in chunks": in_chunks, "in memory": in_memory}.items():
    left.plot(times, growth, label=name)
left.axhline(file_size, color="0.6", linestyle=":", label="size of the file")
left.set(title="Memory of a fit", xlabel="seconds", ylabel="MB beyond the start")
left.legend()
right.plot(workers, 1e3 * np.array(seconds), "o-", label="measured")
right.plot(workers, 1e3 * seconds[0] / np.array(workers), "0.6", label="in proportion")
right.set(title="An EM step with Dask", xlabel="workers", ylabel="ms", ylim=(0, None))
right.set_xticks(list(workers))
right.legend()
plt.show()
