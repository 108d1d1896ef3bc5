"""Small mixtures on a CUDA device: a fused kernel makes a whole pass over the samples.

Nothing of the size samples × components is in memory (`kernels/mixture.cu`). Each pass takes one
array of the size of the mixture to the device, and one back.
"""

import numpy as np

from ..kernels.cuda import PART, SHARED, add_up, launch

_THREADS = 128, 256, 64  # of a block: the first with which it has room
_BLOCKS = 1024  # at most, whatever the device
_PARTIALS = 2**21  # numbers of partial sums at most, 16 MiB


class Fused:
    """A mixture on the device, in one array, and passes over samples with it.

    Parameters
    ----------
    samples : CudaSamples
    mixture : DeviceMixture
    """

    def __init__(self, samples, mixture):
        self._samples, self._mixture = samples, mixture
        parts = (
            mixture.points,
            mixture.coefficients,
            mixture.factors,
            mixture.origins,
            mixture.direction,
        )
        self._arguments = (
            samples.cupy.asarray(np.concatenate([np.ravel(part) for part in parts])),
            samples.pairs_of(mixture.features),
            samples.shape[1],
            mixture.features.size,
            mixture.n_near,
            mixture.n_apart,
            int(mixture.is_diagonal),
        )

    @staticmethod
    def fits(mixture):
        """Whether a block has room for what any pass needs."""
        n_rows, n_tasks = _most_rows(mixture), _tasks_of(mixture)
        return _block(n_rows, n_tasks) is not None

    def statistics(self):
        """Sums (K, p) and the log-likelihood."""
        sums, log_likelihood = self._sums("statistics")
        return sums, log_likelihood

    def assigned_statistics(self, responsibilities):
        """Sums (K, p) for responsibilities (n_samples, K) on the device."""
        return self._sums("assigned_statistics", responsibilities)[0]

    def overlaps(self):
        """Masses (K,), what components share (K, K), and the log-likelihood."""
        K = self._mixture.n_components
        pairs = np.zeros((2, K + 1), dtype=np.int32)
        pairs[0] = np.arange(K + 1)
        n_tasks = _parts(K) * _parts(K + 1)
        sums, log_likelihood = self._sums(
            "overlaps", self._samples.cupy.asarray(pairs), n_features=K + 1, n_tasks=n_tasks
        )
        return sums[:, 0], sums[:, 1:], log_likelihood

    def statistics_vjp(self, *, wrt_logits, X_bar, weight_bar):
        """Pull the direction back: to coefficients (K, p) or None, and into the arrays given."""
        if wrt_logits:
            return self._sums("statistics_vjp", X_bar, weight_bar)[0]
        self._pass("statistics_vjp", _tasks_of(self._mixture), X_bar, weight_bar, None)
        return None

    def statistics_jvp(self, X_dot, weight_dot):
        """The tangent of the sums (K, p)."""
        return self._sums("statistics_jvp", X_dot, weight_dot)[0]

    def answer(self, is_completed, log_density, responsibilities, labels):
        """Write what the mixture says of each sample, into arrays that are not None."""
        order = self._samples.cupy.asarray(self._mixture.order.astype(np.int32))
        answers = order, int(is_completed), log_density, responsibilities, labels
        self._pass("densities", _tasks_of(self._mixture), *answers)

    def _sums(self, name, *own, n_features=None, n_tasks=None):
        """Sums (K, n_features) and a total, of a kernel that writes partial sums."""
        K = self._mixture.n_components
        n_features = n_features or self._mixture.features.size
        n_tasks = n_tasks or _tasks_of(self._mixture)
        n_columns = K * n_features + 1
        n_blocks = self._n_blocks(name, n_tasks, _PARTIALS // n_columns)
        partials = self._samples.cupy.empty((n_blocks, n_columns))
        self._pass(name, n_tasks, *own, partials, n_blocks=n_blocks)
        found = add_up(self._samples.cupy, self._samples.dtype, partials).get()
        return found[:-1].reshape(K, n_features), float(found[-1])

    def _n_blocks(self, name, n_tasks, limit=_BLOCKS):
        n_threads, _ = _block(_ROWS[name](self._mixture), n_tasks)
        return max(1, min(_BLOCKS, limit, -(-self._samples.shape[0] // n_threads)))

    def _pass(self, name, n_tasks, *own, n_blocks=None):
        X, weight = self._samples.rows()
        n_threads, shared = _block(_ROWS[name](self._mixture), n_tasks)
        data = (X, np.int64(len(X))) if name == "densities" else (X, weight, np.int64(len(X)))
        launch(
            self._samples.cupy,
            X.dtype,
            name,
            n_blocks or self._n_blocks(name, n_tasks),
            n_threads,
            (*data, *self._arguments, *own),
            shared=shared,
            has_apart=self._mixture.n_apart > 0,
        )


def _block(n_rows, n_tasks):
    """Threads of a block, and its shared memory in bytes; None if it has no room.

    A thread has a column of ``n_rows``, and in the end of PART² sums and one total.
    """
    for n_threads in _THREADS:
        shared = 8 * max(n_rows * (n_threads + 1), (PART * PART + 1) * n_threads)
        if shared <= SHARED and n_tasks <= n_threads:
            return n_threads, shared
    return None


def _parts(n):
    return -(-n // PART)


def _tasks_of(mixture):
    """How many threads it takes to have all sums, PART² each."""
    parts = _parts(mixture.n_near) + _parts(mixture.n_apart)
    return parts * _parts(mixture.features.size)


def _sample(mixture):
    """Rows of a sample, about the common point and as it is."""
    d = mixture.features.n_features
    return d + 2 + (d if mixture.n_near and mixture.n_apart else 0)


# Rows of a column in shared memory, by kernel.
_ROWS = {
    "statistics": lambda mixture: _sample(mixture) + mixture.n_components,
    "assigned_statistics": lambda mixture: _sample(mixture) + mixture.n_components,
    "densities": lambda mixture: _sample(mixture) + mixture.n_components,
    "overlaps": lambda mixture: _sample(mixture) + 2 * mixture.n_components + 1,
    "statistics_vjp": lambda mixture: (
        _sample(mixture) + 2 * mixture.n_components + mixture.features.n_features
    ),
    "statistics_jvp": lambda mixture: (
        _sample(mixture) + 2 * mixture.n_components + mixture.features.n_features + 2
    ),
}


def _most_rows(mixture):
    return max(rows(mixture) for rows in _ROWS.values())
