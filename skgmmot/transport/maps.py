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
from ..samples.device_arrays import is_on_device, module_of, on_host
from .bures import EPS, gaussian_maps

# Samples are moved in blocks, of this many numbers over their components and features, and what
# they belong to is asked in larger ones, of this many numbers over their components (512 KiB).
BLOCK_SIZE = 2**16
ROWS_SIZE = 2**16
# On a device, which has work for all of its threads then (32 MiB), both are so large.
DEVICE_SIZE = 2**22

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
    method "maximum" the k of the largest. Several threads ask. ``rng`` is for "sample". Samples on
    a device move there; only what has the size of the mixtures, and random numbers, go to it.
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
        xp = module_of(X)
        moved = xp.empty(X.shape)
        labels = xp.empty(len(X), dtype=np.int64)

        def label(rows):
            labels[rows] = posterior(rows)

        _each(label, X, len(plan))
        images, means, slopes = map(xp.asarray, (images, source.means, slopes))
        for k, members in _groups(labels, len(plan)):
            moved[members] = images[k] + (X[members] - means[k]) @ slopes[k]
        return moved


def mean_images(X, means, slopes, images, posterior):
    """Σ_k γ_k(x) (c_k + A_k (x − m_k)) for every sample, with ``posterior`` as above.

    The maps have ``means`` m, symmetric matrices ``slopes`` A and ``images`` c of the means.
    """
    xp, center = module_of(X), means.mean(axis=0)
    moved = xp.empty(X.shape)
    with one_blas_thread():
        affine, center = map(xp.asarray, (_affine(slopes, means, images, center), center))

        def move(rows):
            gamma = posterior(rows)
            for part in _blocks(gamma, BLOCK_SIZE, affine[:, 0].size):
                block = slice(rows.start + part.start, rows.start + part.stop)
                lifted = xp.ones((len(center) + 1, len(gamma[part])))
                xp.subtract(X[block].T, center[:, None], out=lifted[:-1])
                shares = xp.ascontiguousarray(gamma[part].T)
                moved[block] = _mean_image(affine, lifted, shares)

        _each(move, X, len(means))
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


def averaged(X, values, posterior):
    """Σ_k γ_k(x) v_k for every sample, of shape (n_samples,), with ``posterior`` as above."""
    xp = module_of(X)
    means, values = xp.empty(len(X)), xp.asarray(values)

    def average(rows):
        means[rows] = posterior(rows) @ values

    _each(average, X, len(values))
    return means


def _each(work, X, width):
    """Work on blocks of the rows of X, of so many numbers a row; they depend on nothing else.

    Several threads do, but on a device, which they would only wait for.
    """
    blocks = _blocks(X, ROWS_SIZE, width)

    def task(first, last):
        for block in blocks[first:last]:
            work(block)

    several = len(blocks) >= FEW_BLOCKS and not is_on_device(X)
    run(task, len(blocks), effective_n_threads() if several else 1)


def _blocks(X, size, width):
    """Slices of the rows of X, of about so many numbers of so many a row."""
    size = max(64, (DEVICE_SIZE if is_on_device(X) else size) // width)
    return [slice(start, min(start + size, len(X))) for start in range(0, len(X), size)]


def _sampled(X, source, target, plan, rng, posterior):
    (K, L), xp = plan.shape, module_of(X)
    uniform = xp.asarray(rng.random((2, len(X))))
    components, pairs = xp.empty((2, len(X)), dtype=np.int64)

    def draw(rows):
        cumulative = xp.cumsum(xp.ascontiguousarray(posterior(rows).T), axis=0)
        components[rows] = (cumulative <= uniform[0, rows] * cumulative[-1]).sum(axis=0)

    _each(draw, X, K)
    for k, members in _groups(components, K):
        cumulative = np.cumsum(plan[k])
        place = uniform[1, members] * cumulative[-1]
        drawn = xp.searchsorted(xp.asarray(cumulative), place, side="right")
        pairs[members] = k * L + drawn

    moved = xp.empty(X.shape)
    means, images = xp.asarray(source.means), xp.asarray(target.means)
    groups = _groups(pairs, K * L)
    size = max(1, PAIRS_SIZE // source.n_features**2)
    for start in range(0, len(groups), size):
        part = groups[start : start + size]
        rows, columns = np.divmod([pair for pair, _ in part], L)
        slopes = xp.asarray(gaussian_maps(source, target, rows, columns))
        for row, column, slope, (_, members) in zip(rows, columns, slopes, part, strict=True):
            moved[members] = images[column] + (X[members] - means[row]) @ slope
    return moved


def _groups(labels, n_labels):
    """Each label that occurs, with the indices of its samples."""
    small = labels.astype(np.min_scalar_type(n_labels))  # 16 bits are sorted by radix
    order = small.argsort() if is_on_device(small) else small.argsort(kind="stable")
    counts = on_host(module_of(labels).bincount(labels, minlength=n_labels))
    ends = np.cumsum(counts)
    return [(k, order[ends[k] - counts[k] : ends[k]]) for k in np.flatnonzero(counts)]


def _affine(slopes, means, images, center):
    """Matrices (K, n_features, n_features + 1) of the maps x → c_k + A_k (x − m_k).

    They are applied to samples from a common center, with a row of ones below them: a block is
    one product of matrices then, and loses no digits far from the origin.
    """
    offsets = images - np.einsum("kab,kb->ka", slopes, means - center)
    return np.concatenate([slopes, offsets[:, :, None]], axis=2)


def _mean_image(affine, lifted, shares):
    """Σ_k γ_k A_k z of a block z, (n_features + 1, n), for the shares γ, (K, n).

    On the host A z comes first, which is faster there. On a device einsum would make a product of
    each sample; there it is A (γ ⊗ z), a single product that also adds up the components.
    """
    K, d, _ = affine.shape
    if is_on_device(lifted):
        shared = (shares[:, None] * lifted).reshape(K * (d + 1), -1)
        return shared.T @ affine.transpose(0, 2, 1).reshape(-1, d)
    images = (affine.reshape(K * d, d + 1) @ lifted).reshape(K, d, -1)
    return np.einsum("kn,kan->na", shares, images)
