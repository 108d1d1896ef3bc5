"""Maps of samples, and the geodesic, from a plan P between the components of two mixtures.

With the densities g_k of the source, the maps x → T_kl(x) = m'_l + T_kl (x − m_k) between
Gaussians, and the masses p_k = Σ_l P_kl that the plan takes from the components, a sample x
belongs to the pair (k, l) with the probability

    p_kl(x) = P_kl g_k(x) / Σ_j p_j g_j(x) = γ_k(x) P_kl / p_k,    γ_k ∝ p_k g_k.           (1)

For a balanced plan p is w, and (1) is the posterior under the source; an unbalanced one weighs
the components by the mass that it does move. Three maps are made of it (Delon & Desolneux
2020, section 6.3, have the first two, T_mean and T_rand):

    barycentric   x → Σ_kl p_kl(x) T_kl(x) = Σ_k γ_k(x) (m̄_k + A_k (x − m_k))              (2)
    sample        x → T_kl(x), with (k, l) drawn from p_kl(x)
    maximum       x → m̄_k + A_k (x − m_k), with the k of the largest γ_k(x)

where A_k = Σ_l P_kl T_kl / p_k and m̄_k = Σ_l P_kl m'_l / p_k: K affine maps, and not K L.

Where the plan is unbalanced a sample also changes its mass: by (P1)_k / w_k when it leaves
component k, and by w'_l / (Pᵀ1)_l when it arrives at l. Of a sample x from the source, with
γ_k ∝ w_k g_k, the mean factor is

    F(x) = Σ_kl γ_k(x) P_kl / p_k · p_k / w_k · w'_l / (Pᵀ1)_l = Σ_k γ_k(x) F_k,
    F_k = Σ_l P_kl w'_l / (w_k (Pᵀ1)_l).                                                  (3)

Σ_k w_k F_k = Σ_l w'_l over the l that mass reaches: the mean of F over the source is one where it
reaches all. (γ is not that of (1), which is of samples that have left already.)
"""

import numpy as np

from ..numerics.threads import effective_n_threads, one_blas_thread, run
from .bures import EPS, gaussian_maps

# Samples are moved in blocks, of this many numbers over their components and features, and what
# they belong to is asked in larger ones, of this many numbers over their components (512 KiB).
BLOCK_SIZE = 2**16
ROWS_SIZE = 2**16

# Fewer blocks than this are not worth waking a thread for.
FEW_BLOCKS = 4

# Pairs of components are taken in blocks with matrices of about this many numbers (8 MiB).
PAIRS_SIZE = 2**20


def moving_pairs(plan):
    """Pairs (k, l) that mass is moved between; what is smaller is rounding of the masses."""
    return np.nonzero(plan > EPS)


def summed_maps(source, target, plan):
    """Σ_l P_kl T_kl (K, d, d) for every component of the source, of mixtures in float64."""
    rows, columns = moving_pairs(plan)
    sums = np.zeros((len(plan), source.n_features, source.n_features))
    size = max(1, PAIRS_SIZE // source.n_features**2)
    for start in range(0, len(rows), size):
        pairs = rows[start : start + size], columns[start : start + size]
        maps = gaussian_maps(source, target, *pairs)
        np.add.at(sums, pairs[0], plan[pairs][:, None, None] * maps)
    return sums


def map_samples(X, source, target, plan, method, rng, posterior):
    """Move samples along a plan that has some mass, all in float64.

    ``posterior`` gives γ of formula (1), of shape (n_rows, K), for a slice of the rows; for the
    method "maximum" the k of the largest. Several threads ask. ``rng`` is for "sample".
    """
    with one_blas_thread():
        if method == "sample":
            return _sampled(X, source, target, plan, rng, posterior)
        masses = plan.sum(axis=1)
        scale = np.where(masses > 0, masses, 1.0)
        slopes = summed_maps(source, target, plan) / scale[:, None, None]
        images = plan @ target.means / scale[:, None]
        if method == "barycentric":
            return mean_images(X, source.means, slopes, images, posterior)
        moved = np.empty(X.shape)
        labels = np.empty(len(X), dtype=np.intp)

        def label(rows):
            labels[rows] = posterior(rows)

        _each(label, _blocks(len(X), ROWS_SIZE // len(plan)))
        for k, members in _groups(labels, len(plan)):
            moved[members] = images[k] + (X[members] - source.means[k]) @ slopes[k]
        return moved


def mean_images(X, means, slopes, images, posterior):
    """Σ_k γ_k(x) (c_k + A_k (x − m_k)) for every sample, with ``posterior`` as above.

    The maps have ``means`` m, symmetric matrices ``slopes`` A and ``images`` c of the means.
    """
    moved, center = np.empty(X.shape), means.mean(axis=0)
    with one_blas_thread():
        affine = _affine(slopes, means, images, center)

        def move(rows):
            gamma = posterior(rows)
            for part in _blocks(len(gamma), BLOCK_SIZE // affine[:, 0].size):
                block = slice(rows.start + part.start, rows.start + part.stop)
                lifted = np.ones((len(center) + 1, len(gamma[part])))
                np.subtract(X[block].T, center[:, None], out=lifted[:-1])
                shares = np.ascontiguousarray(gamma[part].T)
                moved[block] = np.einsum("kn,kan->na", shares, _apply(affine, lifted))

        _each(move, _blocks(len(X), ROWS_SIZE // len(means)))
    return moved


def pair_factors(plan, weights, target_weights):
    """p_k / w_k · w'_l / (Pᵀ1)_l of formula (3), zero where no mass leaves or arrives."""
    leaving = _quotients(plan.sum(axis=1), weights)
    return leaving[:, None] * _quotients(target_weights, plan.sum(axis=0))


def component_factors(plan, weights, target_weights):
    """F_k of formula (3)."""
    return _quotients(plan @ _quotients(target_weights, plan.sum(axis=0)), weights)


def _quotients(a, b):
    """a / b, and zero where b is."""
    return np.divide(a, b, out=np.zeros(np.shape(b)), where=b > 0)


def averaged(n_samples, values, posterior):
    """Σ_k γ_k(x) v_k for every sample, of shape (n_samples,), with ``posterior`` as above."""
    means = np.empty(n_samples)

    def average(rows):
        means[rows] = posterior(rows) @ values

    _each(average, _blocks(n_samples, ROWS_SIZE // len(values)))
    return means


def _each(work, blocks):
    """Work on each block, by several threads; blocks do not depend on their number."""

    def task(first, last):
        for block in blocks[first:last]:
            work(block)

    run(task, len(blocks), effective_n_threads() if len(blocks) >= FEW_BLOCKS else 1)


def _blocks(n, size):
    """Slices of n rows, of so many each."""
    size = max(64, size)
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _sampled(X, source, target, plan, rng, posterior):
    K, L = plan.shape
    uniform = rng.random((2, len(X)))
    components = np.empty(len(X), dtype=np.intp)

    def draw(rows):
        cumulative = np.cumsum(np.ascontiguousarray(posterior(rows).T), axis=0)
        components[rows] = (cumulative <= uniform[0, rows] * cumulative[-1]).sum(axis=0)

    _each(draw, _blocks(len(X), ROWS_SIZE // K))
    pairs = np.empty(len(X), dtype=np.intp)
    for k, members in _groups(components, K):
        cumulative = np.cumsum(plan[k])
        drawn = np.searchsorted(cumulative, uniform[1, members] * cumulative[-1], side="right")
        pairs[members] = k * L + drawn

    moved = np.empty(X.shape)
    groups = _groups(pairs, K * L)
    size = max(1, PAIRS_SIZE // source.n_features**2)
    for start in range(0, len(groups), size):
        part = groups[start : start + size]
        rows, columns = np.divmod([pair for pair, _ in part], L)
        slopes = gaussian_maps(source, target, rows, columns)
        for row, column, slope, (_, members) in zip(rows, columns, slopes, part, strict=True):
            moved[members] = target.means[column] + (X[members] - source.means[row]) @ slope
    return moved


def _groups(labels, n_labels):
    """Each label that occurs, with the indices of its samples."""
    small = labels.astype(np.min_scalar_type(n_labels))  # 16 bits are sorted by radix
    order = np.argsort(small, kind="stable")
    counts = np.bincount(labels, minlength=n_labels)
    values = np.flatnonzero(counts)
    parts = np.split(order, np.cumsum(counts[values]))  # and what is left: nothing
    return list(zip(values, parts, strict=False))


def _affine(slopes, means, images, center):
    """Matrices (K, n_features, n_features + 1) of the maps x → c_k + A_k (x − m_k).

    They are applied to samples from a common center, with a row of ones below them: a block is
    one product of matrices then, and loses no digits far from the origin.
    """
    offsets = images - np.einsum("kab,kb->ka", slopes, means - center)
    return np.concatenate([slopes, offsets[:, :, None]], axis=2)


def _apply(affine, lifted):
    """Images of a block under K maps, (K, n_features, n)."""
    K, d, _ = affine.shape
    return (affine.reshape(K * d, d + 1) @ lifted).reshape(K, d, -1)
