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

from skgmmot.transport.bures import EPS, gaussian_maps

# Samples are taken in blocks of about this many numbers, whether of features or components.
BLOCK_SIZE = 2**16

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
    plan = np.where(plan > EPS, plan, 0.0)
    masses = plan.sum(axis=1)
    density = _Density(source, masses)
    if method == "sample":
        return _sampled(X, source, target, plan, density, rng)
    taking = masses > 0
    scale = np.where(taking, masses, 1.0)
    slopes = summed_maps(source, target, plan) / scale[:, None, None]
    images = plan @ target.means / scale[:, None]

    moved = np.zeros(X.shape)
    if method == "maximum":
        labels = np.empty(len(X), dtype=np.intp)
        for block in density.blocks(len(X)):
            labels[block] = density.logits(X[block]).argmax(axis=1)
        for k, members in _groups(labels):
            moved[members] = images[k] + (X[members] - source.means[k]) @ slopes[k]
        return moved
    for block in density.blocks(len(X)):
        responsibilities = density.responsibilities(X[block])
        for k in np.flatnonzero(taking):
            image = (X[block] - source.means[k]) @ slopes[k]
            image += images[k]
            image *= responsibilities[:, k, None]
            moved[block] += image
    return moved


def _sampled(X, source, target, plan, density, rng):
    K, L = plan.shape
    uniform = rng.random((2, len(X)))
    k = np.empty(len(X), dtype=np.intp)
    for block in density.blocks(len(X)):
        cumulative = np.cumsum(density.responsibilities(X[block]), axis=1)
        cumulative /= cumulative[:, -1:]
        k[block] = (cumulative <= uniform[0, block, None]).sum(axis=1)
    pairs = np.empty(len(X), dtype=np.intp)
    for row, members in _groups(k):
        cumulative = np.cumsum(plan[row])
        cumulative /= cumulative[-1]
        pairs[members] = row * L + np.searchsorted(cumulative, uniform[1, members], side="right")

    moved = np.empty(X.shape)
    groups = list(_groups(pairs))
    size = max(1, PAIRS_SIZE // source.n_features**2)
    for start in range(0, len(groups), size):
        part = groups[start : start + size]
        rows, columns = np.divmod([pair for pair, _ in part], L)
        maps = gaussian_maps(source, target, rows, columns)
        for row, column, slope, (_, members) in zip(rows, columns, maps, part, strict=True):
            moved[members] = target.means[column] + (X[members] - source.means[row]) @ slope
    return moved


def _groups(labels):
    """Each label that occurs, with the indices of its samples."""
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return zip(values, np.split(order, starts[1:]), strict=True)


class _Density:
    """log p_k g_k(x), up to a constant, for blocks of samples."""

    def __init__(self, mixture, masses):
        self.means, kind = mixture.means, mixture.covariance_type
        K, d = self.means.shape
        self.diagonal = kind in ("diag", "spherical")
        if self.diagonal:
            variances = mixture.covariances.reshape(K, -1)
            _refuse_singular((variances <= 0).any(axis=1))
            self.whitening = np.broadcast_to(1 / np.sqrt(variances), (K, d))
            log_volume = -np.log(self.whitening).sum(axis=1)
        else:
            n_matrices = 1 if kind == "tied" else K
            factors = _cholesky(mixture.covariances.reshape(n_matrices, d, d))
            whitening = [solve_triangular(L, np.eye(d), lower=True).T for L in factors]
            self.whitening = np.broadcast_to(whitening, (K, d, d))
            log_volume = np.log(np.einsum("kaa->ka", factors)).sum(axis=1)
        with np.errstate(divide="ignore"):  # a component without mass has no part in (1)
            self.offsets = np.log(masses) - log_volume

    def blocks(self, n_samples):
        size = max(256, BLOCK_SIZE // max(self.means.shape))
        return [slice(start, start + size) for start in range(0, n_samples, size)]

    def logits(self, X):
        logits = np.empty((len(X), len(self.means)))
        for k, (mean, whitening) in enumerate(zip(self.means, self.whitening, strict=True)):
            white = (X - mean) * whitening if self.diagonal else (X - mean) @ whitening
            np.einsum("ia,ia->i", white, white, out=logits[:, k])
        logits *= -0.5
        logits += self.offsets
        return logits

    def responsibilities(self, X):
        """γ_k(x), of shape (samples of the block, K)."""
        logits = self.logits(X)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits


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


def checked_samples(X, n_features):
    """Samples as a finite matrix of floats, or an error that says what is wrong with X."""
    X = np.asarray(X)
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.ndim != 2 or X.shape[1] != n_features:
        raise ValueError(
            f"X must have shape (n_samples, {n_features}), as the mixtures have {n_features} "
            f"features; got {X.shape}."
        )
    if not np.isfinite(X).all():
        raise ValueError("X contains NaN or infinity; drop or impute those samples.")
    return X
