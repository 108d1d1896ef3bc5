"""Large mixtures on a CUDA device: tile by tile, by products of matrices.

A tile is so many samples that what belongs to it fits a cache of the device. It is transposed, with
a column for each sample. With Φ (p × m) its features about the common point and Γ (K × m) weights
of the components there, logits are ηΦ, and sums ΓΦᵀ. Components that are apart go by
`cuda_apart`. Kernels that make one pass stand in between (`kernels/mixture_tiles.cu`).
"""

from functools import cached_property

import numpy as np

from ..kernels.cuda import launch
from .cuda_apart import Apart, ApartSums

_TILE_BYTES = 24 * 2**20
_LEAST, _MOST = 256, 65_536  # samples of a tile
_THREADS = 256


class Tiles:
    """A mixture on the device, and passes over samples with it, tile by tile.

    Parameters
    ----------
    samples : CudaSamples
    mixture : DeviceMixture
    """

    def __init__(self, samples, mixture):
        self.samples, self.mixture, self.cupy = samples, mixture, samples.cupy
        self.n_near, self.n_apart = mixture.n_near, mixture.n_apart
        self.pairs = samples.pairs_of(mixture.features)
        asarray, near = self.cupy.asarray, slice(mixture.n_near)
        self.point = asarray(mixture.points[0])
        self.coefficients = asarray(mixture.coefficients[near])
        self.direction = asarray(mixture.direction[near])
        self.size = self._size()
        self.apart = Apart(self.cupy, mixture, self.size) if self.n_apart else None
        # about which those that are apart have logits, and sums
        self._points, self._origins = self.apart.both_points if self.n_apart else (None, None)

    def _size(self):
        """How many samples a tile has."""
        mixture, d = self.mixture, self.mixture.features.n_features
        numbers = 2 * mixture.n_components + 2 * (d + 2)
        if mixture.n_near:
            numbers += mixture.features.size
        if mixture.n_apart:
            numbers += 4 * d
        return max(_LEAST, min(_MOST, _TILE_BYTES // (8 * numbers) // 128 * 128))

    @cached_property
    def incidence(self):
        """Of which features each x_a is a factor, and of what others: starts, features, others."""
        d, (left, right) = self.mixture.features.n_features, self.mixture.features.pairs
        f = np.arange(len(left))
        norms, every = f[left > d], np.arange(1, d + 1)
        of_norms = np.tile(every, 2 * len(norms))  # ‖z‖² is a product z_a z_a for each a
        rows = np.concatenate([left, right, of_norms])
        features = np.concatenate([f, f, np.repeat(norms, 2 * d)])
        others = np.concatenate([right, left, of_norms])
        order = np.argsort(rows, kind="stable")
        order = order[(rows[order] > 0) & (rows[order] <= d)]
        starts = np.searchsorted(rows[order], np.append(every, d + 1))
        parts = starts, features[order], others[order]
        return [self.cupy.asarray(part.astype(np.int32)) for part in parts]

    def __iter__(self):
        for start in range(0, self.samples.shape[0], self.size):
            yield Tile(self, slice(start, min(start + self.size, self.samples.shape[0])))

    def launch(self, name, n_entries, *arguments):
        """Run a kernel with a thread for each entry."""
        n_blocks = -(-n_entries // _THREADS)
        launch(self.cupy, self.samples.dtype, name, n_blocks, _THREADS, arguments)

    def _sums(self):
        return TileSums(self)

    def statistics(self):
        """Sums (K, p) and the log-likelihood."""
        sums, total = self._sums(), self.cupy.zeros(())
        for tile in self:
            gamma, density = tile.posterior()
            total += tile.weighted(density).sum()
            sums.add(tile, tile.weighted(gamma), self._origins)
        return sums.found(), float(total)

    def assigned_statistics(self, responsibilities):
        """Sums (K, p) for responsibilities (n_samples, K) on the device."""
        sums = self._sums()
        for tile in self:
            gamma = self.cupy.ascontiguousarray(responsibilities[tile.rows_of].T)
            sums.add(tile, tile.weighted(gamma), self._origins)
        return sums.found()

    def overlaps(self):
        """Masses (K,), what components share (K, K), and the log-likelihood."""
        K = self.mixture.n_components
        masses, shared, total = (self.cupy.zeros(shape) for shape in ((K,), (K, K), ()))
        for tile in self:
            gamma, density = tile.posterior()
            weighted = gamma.copy() if tile.weight is None else gamma * tile.weight
            masses += weighted.sum(axis=1)
            shared += weighted @ gamma.T
            total += tile.weighted(density).sum()
        return masses.get(), shared.get(), float(total)

    def statistics_vjp(self, *, wrt_logits, X_bar, weight_bar):
        """Pull the direction back: to coefficients (K, p) or None, and into the arrays given."""
        sums = self._sums() if wrt_logits else None
        for tile in self:
            gamma, _ = tile.posterior()
            form = tile.forms(self._origins)
            tile.center(gamma, form, None if weight_bar is None else weight_bar[tile.rows_of])
            gamma = tile.weighted(gamma)
            form *= gamma
            if X_bar is not None:
                tile.pull_back(gamma, form, X_bar[tile.rows_of])
            if wrt_logits:
                sums.add(tile, form, self._points)
        return sums.found() if wrt_logits else None

    def statistics_jvp(self, X_dot, weight_dot):
        """The tangent of the sums (K, p)."""
        sums = self._sums()
        for tile in self:
            gamma, _ = tile.posterior()
            form = tile.forms(self._points)
            if X_dot is not None:
                tile.move(X_dot[tile.rows_of], form)
            tile.center(gamma, form)
            form = tile.weighted(form)
            if weight_dot is not None:
                form += weight_dot[tile.rows_of]
            form *= gamma
            sums.add(tile, form, self._origins)
            if X_dot is not None:
                sums.add_moved(tile, tile.weighted(gamma), self._origins)
        return sums.found()

    def answer(self, is_completed, log_density, responsibilities, labels):
        """Write what the mixture says of each sample, into arrays that are not None."""
        order = self.cupy.asarray(self.mixture.order.astype(np.int32))
        K = self.mixture.n_components
        for tile in self:
            answers = (
                None if out is None else out[tile.rows_of]
                for out in (log_density, responsibilities, labels)
            )
            logits = tile.logits()
            given = logits, K, tile.count, order, int(is_completed), *answers
            self.launch("tile_answers", tile.count, *given)


class Tile:
    """Some consecutive samples.

    Parameters
    ----------
    tiles : Tiles
    rows : slice
    """

    def __init__(self, tiles, rows):
        self.tiles, self.rows_of = tiles, rows
        X, weight = tiles.samples.rows()
        self._X = X[rows]
        self.weight = None if weight is None else weight[rows]
        self.count = len(self._X)
        self._d, self._near = tiles.samples.shape[1], slice(tiles.n_near)
        self._apart = slice(tiles.n_near, None)

    def _rows_about(self, point):
        rows = self.tiles.cupy.empty((self._d + 2, self.count))
        self.tiles.launch("tile_rows", rows.size, self._X, self.count, point, self._d, rows)
        return rows

    @cached_property
    def rows(self):
        """1, x - point, and the squared norm: (d + 2, m), about the common point."""
        return self._rows_about(self.tiles.point)

    @cached_property
    def features(self):
        """Φ (p, m) about the common point."""
        tiles, p = self.tiles, self.tiles.mixture.features.size
        phi = tiles.cupy.empty((p, self.count))
        tiles.launch("tile_features", phi.size, self.rows, tiles.pairs, p, self.count, phi)
        return phi

    @cached_property
    def x(self):
        """The samples themselves, (d, m)."""
        return self._rows_about(self.tiles.cupy.zeros(self._d))[1:-1]

    def weighted(self, values):
        """Values times the sample weights, in place."""
        if self.weight is not None:
            values *= self.weight
        return values

    def logits(self):
        """(K, m)."""
        tiles = self.tiles
        out = tiles.cupy.empty((tiles.mixture.n_components, self.count))
        if tiles.n_near:
            out[self._near] = tiles.coefficients @ self.features
        if tiles.n_apart:
            tiles.apart.logits(self.x, out[self._apart])
        return out

    def posterior(self):
        """γ (K, m), and log p (m,)."""
        tiles, gamma = self.tiles, self.logits()
        density = tiles.cupy.empty(self.count)
        given = gamma, tiles.mixture.n_components, self.count, density
        tiles.launch("tile_softmax", self.count, *given)
        return gamma, density

    def forms(self, points):
        """⟨direction_k, φ⟩ (K, m), of those apart about some points of theirs."""
        tiles = self.tiles
        out = tiles.cupy.empty((tiles.mixture.n_components, self.count))
        if tiles.n_near:
            out[self._near] = tiles.direction @ self.features
        if tiles.n_apart:
            tiles.apart.forms(self.x, points, out[self._apart])
        return out

    def center(self, gamma, form, mean=None):
        """Subtract Σ_k γ_k form_k, and add it to ``mean`` if given."""
        given = gamma, form, self.tiles.mixture.n_components, self.count, mean
        self.tiles.launch("tile_center", self.count, *given)

    def pull_back(self, gamma, form, X_bar):
        """Add what the samples receive of weights γ of the direction, and of forms."""
        tiles = self.tiles
        if tiles.n_near:
            C = tiles.direction.T @ gamma[self._near]
            C += tiles.coefficients.T @ form[self._near]
            given = C, self.rows, *tiles.incidence, self._d, self.count, X_bar
            tiles.launch("tile_pull_back", self._d * self.count, *given)
        if tiles.n_apart:
            tiles.apart.pull_back(self.x, gamma[self._apart], form[self._apart], X_bar)

    def move(self, X_dot, form):
        """Let the samples move; adds ⟨η_k, φ̇⟩ to the forms."""
        tiles, self.X_dot = self.tiles, X_dot
        if tiles.n_near:
            form[self._near] += tiles.coefficients @ self.features_dot
        if tiles.n_apart:
            tiles.apart.add_moved_logits(self.x, self.x_dot, form[self._apart])

    @cached_property
    def x_dot(self):
        """The tangents of the samples, (d, m)."""
        return self.tiles.cupy.ascontiguousarray(self.X_dot.T)

    @cached_property
    def features_dot(self):
        """Φ̇ (p, m) about the common point."""
        tiles, p = self.tiles, self.tiles.mixture.features.size
        rows_dot, phi_dot = tiles.cupy.empty_like(self.rows), tiles.cupy.empty((p, self.count))
        given = self.X_dot, self.count, self.rows, self._d, rows_dot
        tiles.launch("tile_rows_dot", rows_dot.size, *given)
        given = self.rows, rows_dot, tiles.pairs, p, self.count, phi_dot
        tiles.launch("tile_features_dot", phi_dot.size, *given)
        return phi_dot


class TileSums:
    """Sums (K, p) of tiles, on the device until they are `found`."""

    def __init__(self, tiles):
        self._tiles, features = tiles, tiles.mixture.features
        self._near = tiles.cupy.zeros((tiles.n_near, features.size))
        self._apart = ApartSums(tiles.cupy, tiles.apart) if tiles.n_apart else None

    def add(self, tile, weights, points):
        """Add Σ_i weights_ki φ(x_i), of components apart about some points of theirs."""
        n_near = self._tiles.n_near
        if n_near:
            self._near += weights[:n_near] @ tile.features.T
        if self._apart is not None:
            self._apart.add(tile.x, weights[n_near:], points)

    def add_moved(self, tile, weights, points):
        """Add Σ_i weights_ki φ̇(x_i)."""
        n_near = self._tiles.n_near
        if n_near:
            self._near += weights[:n_near] @ tile.features_dot.T
        if self._apart is not None:
            self._apart.add_moved(tile.x, tile.x_dot, weights[n_near:], points)

    def found(self):
        """The sums, on the host."""
        near = self._near.get()
        if self._apart is None:
            return near
        return np.concatenate([near, self._apart.found()])
