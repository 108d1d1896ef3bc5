"""Which components each block of samples needs, where that is few of many.

The rows are put into an order in which blocks are compact, once, in a copy. At every call bounds
tell which components a block needs (`kernels.pruned`), and kernels see only these. Results are
those of all components within `ACCURACY`: relative to one, of each sample's responsibilities, and
relative to N_k of the mass and of the squared distances that component k loses. What is said of
single samples leaves nothing out: it would depend on the samples nearby.

N_k is known only after the pass. Until then what the weights would make of it is taken, and where
it turns out that what was left out is too much, the pass is made again, with longer lists.

Few components, or such that overlap, are all needed everywhere. Whether it pays is seen from some
boxes of a sample of the rows, and depends on data and logits alone: never on earlier calls.
"""

from typing import NamedTuple

import numpy as np

from ..kernels import pruned
from ..kernels.blocks import BLOCK
from ..kernels.pruned import SHARE
from ..numerics.threads import run

ACCURACY = 1e-12
LEAST_COMPONENTS = 48
LEAST_OF_ONE_LOOK = 160  # where rows are brought into order for each pass anew
_LEAST_PAIRS = 4_000_000  # of samples and components: below, to look whether it pays does not pay
_LARGEST_SHARE = 0.6  # of components that are needed, at which it pays
_PROBES = 16  # boxes from which the share is taken
_PROBE_SIZE = 65_536
_RANGES = 16  # of blocks, of which bounds are found at a time
_EVERYTHING = np.zeros(0, dtype=np.int64)
_NO_NUMBERS = np.zeros(0)


class Selection(NamedTuple):
    """Rows as kernels see them, and the components that each block of them needs.

    data : (X, sample_weight), in the order of the blocks
    order : ndarray of shape (n_samples,), the rows' numbers for the user; empty where they are as
        they were
    starts, active : ndarrays, where the list of each block starts, and the lists; empty where all
        blocks need all components
    cuts : ndarray, logarithms of responsibilities below which those that are listed may be left
        out all the same
    kept : ndarray of bool, those of the lists that statistics needed
    masses : ndarray of shape (n_components,), what N_k was taken for
    certificate : ndarray of shape (n_components,), bounds of what was left out, in units of what a
        single block may lose
    """

    data: tuple
    order: np.ndarray = _EVERYTHING
    starts: np.ndarray = _EVERYTHING
    active: np.ndarray = _EVERYTHING
    cuts: np.ndarray = _NO_NUMBERS
    kept: np.ndarray = _NO_NUMBERS
    masses: np.ndarray = _NO_NUMBERS
    certificate: np.ndarray = _NO_NUMBERS

    @property
    def is_dense(self):
        return self.starts.size == 0

    def ordered(self, rows):
        """The user's rows, in the order of the blocks."""
        return rows[self.order] if self.order.size else rows

    @property
    def lists(self):
        """What kernels take of them."""
        if self.is_dense:
            return None
        return self.order, self.starts, self.active, self.cuts, self.kept

    def narrowed(self, certificate):
        """With those of the lists that statistics kept, and what else these left out."""
        ends = np.concatenate([[0], np.cumsum(self.kept)])
        return self._replace(
            starts=ends[self.starts],
            active=self.active[self.kept],
            certificate=self.certificate + certificate,
        )

    @property
    def share(self):
        """Of pairs of blocks and components, those that are evaluated."""
        if self.is_dense:
            return 1.0
        return len(self.active) / ((len(self.starts) - 1) * len(self.masses))


class Pruning:
    """Selections for samples.

    Parameters
    ----------
    X : C-contiguous read-only ndarray of shape (n_samples, n_features)
    sample_weight : read-only ndarray of shape (n_samples,), or empty
    n_threads : int
    seen_once : bool, default=False
        Whether the samples are read for a single pass, and then forgotten.
    """

    def __init__(self, X, sample_weight, n_threads, seen_once=False):
        self.dense = Selection((X, sample_weight))
        self._n_threads = n_threads
        least = LEAST_OF_ONE_LOOK if seen_once else LEAST_COMPONENTS
        self._least = max(least, _LEAST_PAIRS / max(len(X), 1))
        self._probe = self._ordered = self._certain = None

    def selection(self, logits):
        """The components that blocks need, with which sums may have to be made again."""
        n_components = len(logits.coefficients)
        if n_components < self._least:
            return self.dense
        X, weight = self.dense.data
        if len(logits.apart) or logits.features.size == 1 + X.shape[1]:
            return self.dense
        bounds = _Bounds(logits)
        if self._probe is None:
            self._probe = _probe(X)
        _, active, *_ = bounds.needed(*self._probe, bounds.masses(len(X)), self._n_threads)
        if len(active) > _LARGEST_SHARE * _PROBES * n_components:
            return self.dense
        if self._ordered is None:
            self._ordered = _ordered(X, weight, self._n_threads)
        return self._select(bounds, bounds.masses(self._total_weight))

    @property
    def _total_weight(self):
        return self._ordered[-1].sum()

    def _select(self, bounds, masses):
        data, order, boxes, weights = self._ordered
        lists = bounds.needed(boxes, weights, masses, self._n_threads)
        starts, active, cuts, certificate = lists
        kept = np.zeros(len(active), dtype=bool)
        return Selection(data, order, starts, active, cuts, kept, masses, certificate)

    def longer(self, logits, selection, mass):
        """A selection with longer lists if the masses found show it to be needed, else None.

        What a component may lose is about proportional to the mass it is taken to have. One that
        loses too much again gets all there is.
        """
        if selection.is_dense:
            return None
        lost = selection.certificate * (SHARE * ACCURACY * selection.masses)
        failed = ~(lost <= ACCURACY * mass) & (selection.masses != 0.0)
        if not failed.any():
            self._certain = logits.reference.copy(), logits.coefficients.copy(), selection
            return None
        bounds = _Bounds(logits)
        first = failed & (selection.masses == bounds.masses(self._total_weight))
        goal = 0.5 * ACCURACY * mass / np.maximum(lost, 1e-300)
        scale = np.where(failed, np.where(first & (goal > 0.0), goal, 0.0), 1.0)
        return self._select(bounds, scale * selection.masses)

    def certain(self, logits):
        """The selection that was last found to be enough, if it was for these logits."""
        if self._certain is None:
            return None
        reference, coefficients, selection = self._certain
        same = np.array_equal(reference, logits.reference)
        same = same and np.array_equal(coefficients, logits.coefficients)
        return selection if same and not len(logits.apart) else None


class _Bounds:
    """Logits as `kernels.pruned.needed` takes them."""

    def __init__(self, logits):
        n_components, d = len(logits.coefficients), logits.features.n_features
        self._reference = logits.reference[0]
        self._precisions = np.empty((d, d, n_components))
        self._peaks, self._log_shares = np.empty((2, n_components))
        coefficients = np.array(logits.coefficients, order="C")
        pairs = logits.features.pairs
        pruned.quadratics(coefficients, pairs, self._precisions, self._peaks, self._log_shares)
        self._coefficients = np.array(coefficients[:, : 1 + d].T, order="C")

    def masses(self, total):
        """What N_k is likely to be."""
        with np.errstate(all="ignore"):
            shares = np.exp(self._log_shares - self._log_shares.max())
            shares /= shares.sum()
        return total * np.where(shares >= 0, shares, 0.0)

    def needed(self, boxes, weights, masses, n_threads):
        """Starts, lists, cuts and certificate of all blocks."""
        n_blocks = len(boxes)
        n_ranges = min(_RANGES, n_blocks)
        cuts = n_blocks * np.arange(n_ranges + 1) // n_ranges
        found, certificates = [None] * n_ranges, np.zeros((n_ranges, len(masses)))

        def task(first, last):
            for r in range(first, last):
                found[r] = pruned.needed(
                    boxes,
                    weights,
                    cuts[r],
                    cuts[r + 1],
                    self._reference,
                    self._coefficients,
                    self._precisions,
                    self._peaks,
                    ACCURACY,
                    masses,
                    certificates[r],
                )

        run(task, n_ranges, n_threads)
        starts, active, cuts = zip(*found, strict=True)
        lengths = np.concatenate([np.diff(own) for own in starts])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return starts, np.concatenate(active), np.concatenate(cuts), certificates.sum(axis=0)


def _keys(X):
    """Columns to order rows by: finite, whatever the samples."""
    keys = np.array(X.T, dtype=np.float64, order="C")
    if not np.isfinite(keys.sum()):
        keys[~np.isfinite(keys)] = 0.0
    return keys


def _enclosed(keys, weight, leaf):
    n_boxes = -(-keys.shape[1] // leaf)
    boxes, weights = np.empty((n_boxes, 2, len(keys))), np.empty(n_boxes)
    pruned.enclose(keys, weight, leaf, boxes, weights)
    return boxes, weights


def _ordered(X, weight, n_threads):
    """The data in order, the order, and the boxes of all blocks with their weights."""
    keys, order = _keys(X), np.arange(len(X))
    pieces = [(0, len(X))]
    while len(pieces) < _RANGES and pieces[0][1] > BLOCK * _RANGES:
        cuts = [0] * len(pieces)

        def halve(first, last, pieces=pieces, cuts=cuts):
            for r in range(first, last):
                cuts[r] = pruned.halve(keys, order, *pieces[r], BLOCK)

        run(halve, len(pieces), n_threads)
        both = zip(pieces, cuts, strict=True)
        pieces = [half for (low, high), cut in both for half in ((low, cut), (cut, high))]

    def arrange(first, last):
        for low, high in pieces[first:last]:
            pruned.arrange(keys, order, low, high, BLOCK)

    run(arrange, len(pieces), n_threads)
    data = X[order], weight[order] if weight.size else weight
    for array in data:
        array.flags.writeable = False
    return data, order, *_enclosed(keys, data[1], BLOCK)


def _probe(X):
    """Boxes of some blocks that the order would have, and their weights.

    A sample of the rows has the same tree, whose leaves are smaller: rows evenly spread over the
    extent of m others reach over (m - 1) / (m + 1) of it.
    """
    rng = np.random.default_rng(0)
    n_rows = min(max(len(X) // 16, 64 * _PROBES), _PROBE_SIZE)
    keys = _keys(X[rng.integers(len(X), size=n_rows)])
    leaf = max(4, BLOCK * n_rows // len(X))
    pruned.arrange(keys, np.arange(n_rows), 0, n_rows, leaf)
    boxes, _ = _enclosed(keys, np.zeros(0), leaf)
    boxes = boxes[np.linspace(0, len(boxes) - 1, _PROBES).astype(int)]
    boxes[:, 1] *= (leaf + 1) / (leaf - 1)
    return boxes, np.full(_PROBES, float(BLOCK))
