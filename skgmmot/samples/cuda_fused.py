"""Small mixtures on a CUDA device: a fused kernel makes a whole pass over the samples.

Nothing of the size samples × components is in memory (`kernels/mixture.cu`). Each pass takes one
array of the size of the mixture to the device, and one back.
"""

from typing import NamedTuple

import numpy as np

from ..kernels.cuda import DIAGONAL, KEEPS, PART, SHARED, add_up, launch

_THREADS = 128, 256, 64  # of a block: the first with which it has room
_BLOCKS = 1024  # at most, whatever the device
_MOST_KEPT = 32  # features: reading more is no less than making them again
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
        near, apart = slice(mixture.n_near), slice(mixture.n_near, None)
        numbers = (
            _by_parts(mixture.coefficients[near]),
            _by_parts(mixture.direction[near]),
            mixture.points,
            mixture.origins,
            mixture.coefficients[apart],
            mixture.direction[apart],
            mixture.factors,
        )
        self._numbers = samples.cupy.asarray(np.concatenate([np.ravel(own) for own in numbers]))

    @staticmethod
    def fits(mixture):
        """Whether a block has room for what any pass needs."""
        return all(_block(name, mixture) for name in _ROWS)

    def statistics(self):
        """Sums (K, p) and the log-likelihood."""
        sums, log_likelihood = self._sums("statistics")
        return sums, log_likelihood

    def assigned_statistics(self, responsibilities):
        """Sums (K, p) for responsibilities (n_samples, K) on the device."""
        return self._sums("assigned_statistics", responsibilities)[0]

    def overlaps(self):
        """Masses (K,), what components share (K, K), and the log-likelihood."""
        sums, log_likelihood = self._sums("overlaps")
        return sums[:, 0], sums[:, 1:], log_likelihood

    def statistics_vjp(self, *, wrt_logits, X_bar, weight_bar):
        """Pull the direction back: to coefficients (K, p) or None, and into the arrays given."""
        if wrt_logits:
            return self._sums("statistics_vjp", X_bar, weight_bar)[0]
        self._pass("statistics_vjp", X_bar, weight_bar, None)
        return None

    def statistics_jvp(self, X_dot, weight_dot):
        """The tangent of the sums (K, p)."""
        return self._sums("statistics_jvp", X_dot, weight_dot)[0]

    def answer(self, is_completed, log_density, responsibilities, labels):
        """Write what the mixture says of each sample, into arrays that are not None."""
        order = self._samples.cupy.asarray(self._mixture.order.astype(np.int32))
        answers = order, int(is_completed), log_density, responsibilities, labels
        self._pass("densities", *answers)

    def _sums(self, name, *own):
        """Sums (K, n_features) and a total, of a kernel that writes partial sums."""
        K, n_features = self._mixture.n_components, _n_features(name, self._mixture)
        n_columns = K * n_features + 1
        n_blocks = max(1, min(self._n_blocks(name), _PARTIALS // n_columns))
        partials = self._samples.cupy.empty((n_blocks, n_columns))
        self._pass(name, *own, partials, n_blocks=n_blocks)
        found = add_up(self._samples.cupy, self._samples.dtype, partials).get()
        return found[:-1].reshape(K, n_features), float(found[-1])

    def _n_blocks(self, name):
        return min(_BLOCKS, -(-self._samples.shape[0] // _block(name, self._mixture).n_threads))

    def _pass(self, name, *own, n_blocks=None):
        X, weight = self._samples.rows()
        n_samples, mixture = np.int64(len(X)), self._mixture
        data = (X, n_samples) if name == "densities" else (X, weight, n_samples)
        n_threads, shared, keeps = _block(name, mixture)
        arguments = (
            self._numbers,
            self._samples.pairs_of(mixture.features),
            mixture.features.n_features,
            mixture.features.size,
            mixture.n_near,
            mixture.n_apart,
            DIAGONAL * mixture.is_diagonal + KEEPS * keeps,
        )
        launch(
            self._samples.cupy,
            self._samples.dtype,
            name,
            n_blocks or self._n_blocks(name),
            n_threads,
            (*data, *arguments, *own),
            shared=shared,
            has_apart=mixture.n_apart > 0,
        )


class Block(NamedTuple):
    """How a kernel is launched.

    n_threads : int
    shared : int, bytes of shared memory
    keeps : bool, whether features are kept there
    """

    n_threads: int
    shared: int
    keeps: bool


def _block(name, mixture):
    """The `Block` of a kernel, or None if a block has no room for what it needs.

    A thread has a column of shared memory, and in the end of PART² sums and one total.
    """
    n_rows, n_kept = _ROWS[name](mixture)
    n_tasks = _parts(mixture.n_near) + _parts(mixture.n_apart)
    if name == "overlaps":
        n_tasks = _parts(mixture.n_components)
    n_tasks *= _parts(_n_features(name, mixture))
    can_keep = n_kept > 0 and mixture.features.size <= _MOST_KEPT
    for keeps in (True, False) if can_keep else (False,):
        for n_threads in _THREADS:
            column = n_rows + (n_kept if keeps else 0)
            shared = 8 * max(column * (n_threads + 1), (PART * PART + 1) * n_threads)
            if shared <= SHARED and n_tasks <= n_threads:
                return Block(n_threads, shared, keeps)
    return None


def _n_features(name, mixture):
    """Of how many features a kernel takes sums."""
    return mixture.n_components + 1 if name == "overlaps" else mixture.features.size


def _rows(n_of_components, n_of_features=0, n_others=0, n_kept=1):
    """Rows of a column, and those that are kept if there is room.

    They are of a sample, about the common point and as it is, and multiples of the numbers of
    components and features, and some others.
    """

    def of(mixture):
        d, kept = mixture.features.n_features, mixture.features.size if mixture.n_near else 0
        sample = d + 2 + (d if mixture.n_near and mixture.n_apart else 0)
        others = n_of_components * mixture.n_components + n_of_features * d + n_others
        return sample + others, n_kept * kept

    return of


_ROWS = {  # as the kernels lay them out
    "statistics": _rows(1),
    "assigned_statistics": _rows(1),
    "densities": _rows(1),
    "overlaps": _rows(2, 0, 1),
    "statistics_vjp": _rows(2, 1),
    "statistics_jvp": _rows(2, 1, 2, n_kept=2),
}


def _parts(n):
    return -(-n // PART)


def _by_parts(table):
    """A table (K, p) as (parts, p, PART), with zeros for components that the last part lacks."""
    K, p = table.shape
    out = np.zeros((_parts(K) * PART, p))
    out[:K] = table
    return out.reshape(-1, PART, p).swapaxes(1, 2)
