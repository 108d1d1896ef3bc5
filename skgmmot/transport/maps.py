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
"""

import numpy as np
from scipy.linalg import solve_triangular

from ..families import family_of
from ..numerics.threads import effective_n_threads, one_blas_thread, run
from .bures import EPS, gaussian_maps

# Samples are taken in blocks, of this many numbers over their components and features.
BLOCK_SIZE = 2**16

# Fewer blocks than this are not worth waking a thread for.
FEW_BLOCKS = 4

# Pairs of components are taken in blocks with matrices of about this many numbers (8 MiB).
PAIRS_SIZE = 2**20


def moving_pairs(plan):
    """Pairs (k, l) that mass is moved between; what is smaller is rounding of the masses."""
    return np.nonzero(plan > EPS)


def summed_maps(source, target, plan):
    """Σ_l P_kl T_kl for every component of the source.

    Parameters
    ----------
    source, target : MixtureParameters
        In float64, of K and L components.
    plan : ndarray of shape (K, L)

    Returns
    -------
    sums : ndarray of shape (K, n_features, n_features)
    """
    rows, columns = moving_pairs(plan)
    sums = np.zeros((len(plan), source.n_features, source.n_features))
    size = max(1, PAIRS_SIZE // source.n_features**2)
    for start in range(0, len(rows), size):
        pairs = rows[start : start + size], columns[start : start + size]
        maps = gaussian_maps(source, target, *pairs)
        np.add.at(sums, pairs[0], plan[pairs][:, None, None] * maps)
    return sums


def map_samples(X, source, target, plan, method, rng):
    """Move samples along a plan.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float64
    source, target : MixtureParameters
        In float64.
    plan : ndarray of shape (K, L)
        With some mass.
    method : {"barycentric", "sample", "maximum"}
    rng : numpy.random.Generator or RandomState, or None
        For "sample".

    Returns
    -------
    moved : ndarray of shape (n_samples, n_features)

    Raises
    ------
    ValueError
        If a covariance of the source is singular: it has no density.
    """
    with one_blas_thread():
        return _map_samples(X, source, target, np.where(plan > EPS, plan, 0.0), method, rng)


def _map_samples(X, source, target, plan, method, rng):
    masses = plan.sum(axis=1)
    density = _Density(source, masses)
    if method == "sample":
        return _sampled(X, source, target, plan, density, rng)
    scale = np.where(masses > 0, masses, 1.0)
    slopes = summed_maps(source, target, plan) / scale[:, None, None]
    images = plan @ target.means / scale[:, None]

    moved = np.empty(X.shape)
    if method == "maximum":
        labels = np.empty(len(X), dtype=np.intp)

        def label(block, lifted):
            labels[block] = density(lifted).argmax(axis=0)

        density.each_block(X, label)
        for k, members in _groups(labels, len(plan)):
            moved[members] = images[k] + (X[members] - source.means[k]) @ slopes[k]
        return moved

    affine = _affine(slopes, source.means, images, density.center)

    def move(block, lifted):
        moved[block] = np.einsum("kn,kan->na", _softmax(density(lifted)), _apply(affine, lifted))

    density.each_block(X, move)
    return moved


def _sampled(X, source, target, plan, density, rng):
    K, L = plan.shape
    uniform = rng.random((2, len(X)))
    components = np.empty(len(X), dtype=np.intp)

    def draw(block, lifted):
        cumulative = np.cumsum(_softmax(density(lifted)), axis=0)
        components[block] = (cumulative <= uniform[0, block] * cumulative[-1]).sum(axis=0)

    density.each_block(X, draw)
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


def _softmax(logits):
    """Responsibilities (K, n) in place of their logits."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def _affine(slopes, means, images, center):
    """Matrices (K, n_features, n_features + 1) of the maps x → c_k + A_k (x − m_k).

    They are applied to samples from a common center, with a row of ones below them: a block is
    one product of matrices then, and loses no digits far from the origin.
    """
    offsets = images - np.einsum("kab,kb->ka", slopes, means - center)
    return np.concatenate([slopes, offsets[:, :, None]], axis=2)


class _Density:
    """log p_k g_k(x), up to a constant, for blocks of samples."""

    def __init__(self, mixture, masses):
        means, family = mixture.means, family_of(mixture)
        K, d = means.shape
        if family.is_diagonal:
            deviations = family.factors(mixture.covariances, K, d)
            _refuse_singular((deviations <= 0).any(axis=1))
            whitening = np.eye(d) / deviations[:, None]
            log_volume = np.log(deviations).sum(axis=1)
        else:
            factors = _cholesky(family.batch(mixture.covariances))
            whitening = [solve_triangular(factor, np.eye(d), lower=True) for factor in factors]
            whitening = np.broadcast_to(whitening, (K, d, d))
            log_volume = np.log(np.einsum("kaa->ka", factors)).sum(axis=1)
        self.center = means.mean(axis=0)
        self.whiten = _affine(whitening, means, np.zeros((K, d)), self.center)
        with np.errstate(divide="ignore"):  # a component without mass has no part in (1)
            self.offsets = np.log(masses) - log_volume

    def each_block(self, X, work):
        """Call ``work(block, lifted)`` for slices of the samples, in several threads.

        ``lifted`` has the samples in its columns, about the center, and a row of ones. Blocks do
        not depend on the number of threads.
        """
        K, d, _ = self.whiten.shape
        size = max(64, BLOCK_SIZE // (K * d))
        n_blocks = -(-len(X) // size)

        def task(first, last):
            for start in range(first * size, min(last * size, len(X)), size):
                block = slice(start, start + size)
                lifted = np.ones((d + 1, len(X[block])))
                np.subtract(X[block].T, self.center[:, None], out=lifted[:-1])
                work(block, lifted)

        run(task, n_blocks, effective_n_threads() if n_blocks >= FEW_BLOCKS else 1)

    def __call__(self, lifted):
        """Logits of shape (K, n)."""
        white = _apply(self.whiten, lifted)
        logits = np.einsum("kan,kan->kn", white, white)
        logits *= -0.5
        logits += self.offsets[:, None]
        return logits


def _apply(affine, lifted):
    """Images of a block under K maps, (K, n_features, n)."""
    K, d, _ = affine.shape
    return (affine.reshape(K * d, d + 1) @ lifted).reshape(K, d, -1)


def _cholesky(covariances):
    try:
        return np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        smallest = np.linalg.eigvalsh(covariances)[:, 0]
        _refuse_singular(smallest == smallest.min())


def _refuse_singular(singular):
    if singular.any():
        raise ValueError(
            f"The covariance of component {np.argmax(singular)} of the source is singular: it has "
            "no density, so no sample can be told to belong to it. Regularize the covariances of "
            "the source (reg_covar)."
        )
