"""Large mixtures on a CUDA device: tile by tile, a kernel for each step of a pass.

A tile is so many samples that what belongs to them is a few MiB. It is transposed, with a column
for each sample. Logits of components about the common point are a table (p × K) times features
(p × m), sums are weights (K × m) times features: products of matrices, but of features that kernels
make where they multiply them (`kernels/mixture_tiles.cu`). To have them in memory for the products
of a library would, by count, take more launches of smaller tiles than there is work to hide them.
Components that are apart go by such products (`cuda_apart`).
"""

from functools import cached_property

import numpy as np

from ..kernels.cuda import CHUNK, COLUMN, PART, STRIP, add_up, launch
from .cuda_apart import Apart, ApartSums

_TILE_BYTES = 32 * 2**20
_LEAST, _MOST = 256, 65_536  # samples of a tile
_THREADS = 256
_OF_PRODUCTS = 128  # threads
_PARTIALS = 2**21  # numbers of partial sums at most, 16 MiB
_RANGES = 64  # of samples at most, of which there are partial sums


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
        self.point = self.cupy.asarray(mixture.points[0])
        self.coefficients = self._table(mixture.coefficients)
        self.apart = Apart(self.cupy, mixture) if self.n_apart else None
        # about which those that are apart have logits, and sums
        self._points, self._origins = self.apart.both_points if self.n_apart else (None, None)

    def _table(self, values):
        """Numbers (p, K) of components that are near, with zeros up to whole parts."""
        out = np.zeros((self.mixture.features.size, -(-self.n_near // PART) * PART))
        out[:, : self.n_near] = values[: self.n_near].T
        return self.cupy.asarray(out)

    @cached_property
    def direction(self):
        """The direction (p, n_near) of components that are near."""
        return self._table(self.mixture.direction)

    @cached_property
    def both_tables(self):
        """The direction, then the coefficients, of components that are near: (2 n_near, p)."""
        near = slice(self.n_near)
        tables = self.mixture.direction[near], self.mixture.coefficients[near]
        return self.cupy.asarray(np.concatenate(tables))

    def tiles(self, of_features=1, of_components=1):
        """All tiles, for passes with so many arrays of the size of the rows and of the logits."""
        n_samples, d = self.samples.shape
        of_features += 4 if self.n_apart else 0
        numbers = of_features * (d + 2) + of_components * self.mixture.n_components
        size = max(_LEAST, min(_MOST, _TILE_BYTES // (8 * numbers) // 128 * 128))
        for start in range(0, n_samples, size):
            yield Tile(self, slice(start, min(start + size, n_samples)))

    def launch(self, name, n_entries, *arguments):
        """Run a kernel with a thread for each entry."""
        n_blocks = -(-n_entries // _THREADS)
        launch(self.cupy, self.samples.dtype, name, n_blocks, _THREADS, arguments)

    def multiply(self, name, n_columns, n_ranges, given, *rest):
        """Run a kernel of products, of components that are near by ``n_columns``."""
        parts = _parts_of_block(self.n_near, n_columns)
        own, others = PART * parts, PART * _OF_PRODUCTS // parts
        n_blocks = -(-self.n_near // own) * -(-n_columns // others) * n_ranges
        shared = 8 * CHUNK * (own + 2 + others + 2)
        arguments = *given, parts, *rest
        launch(
            self.cupy, self.samples.dtype, name, n_blocks, _OF_PRODUCTS, arguments, shared=shared
        )

    def _sums(self):
        return TileSums(self)

    def statistics(self):
        """Sums (K, p) and the log-likelihood."""
        sums, total = self._sums(), self.cupy.zeros(())
        for tile in self.tiles():
            gamma, density = tile.posterior()
            total += tile.weighted(density).sum()
            sums.add(tile, tile.weighted(gamma), self._origins)
        return sums.found(), float(total)

    def assigned_statistics(self, responsibilities):
        """Sums (K, p) for responsibilities (n_samples, K) on the device."""
        sums = self._sums()
        for tile in self.tiles():
            gamma = self.cupy.ascontiguousarray(responsibilities[tile.rows_of].T)
            sums.add(tile, tile.weighted(gamma), self._origins)
        return sums.found()

    def overlaps(self):
        """Masses (K,), what components share (K, K), and the log-likelihood."""
        K = self.mixture.n_components
        masses, shared, total = (self.cupy.zeros(shape) for shape in ((K,), (K, K), ()))
        for tile in self.tiles(1, 2):
            gamma, density = tile.posterior()
            weighted = gamma.copy() if tile.weight is None else gamma * tile.weight
            masses += weighted.sum(axis=1)
            shared += weighted @ gamma.T
            total += tile.weighted(density).sum()
        return masses.get(), shared.get(), float(total)

    def statistics_vjp(self, *, wrt_logits, X_bar, weight_bar):
        """Pull the direction back: to coefficients (K, p) or None, and into the arrays given."""
        sums = self._sums() if wrt_logits else None
        for tile in self.tiles(2, 2):
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
        for tile in self.tiles(2, 2):
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
        for tile in self.tiles():
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

    def multiplied(self, table, out, *, rows_dot=None, adds=False):
        """Write table times features, or their tangents, into (n_near, m), or add them to it."""
        tiles, p = self.tiles, self.tiles.mixture.features.size
        given = self.rows, rows_dot, self.count, tiles.pairs, p, table, tiles.n_near
        tiles.multiply("tile_forms", self.count, 1, given, int(adds), out)

    def summed(self, weights, *, rows_dot=None):
        """Sums (n_near, p) of weights (n_near, m) times features, or their tangents."""
        tiles, p, K = self.tiles, self.tiles.mixture.features.size, self.tiles.n_near
        n_ranges = max(1, min(_RANGES, _PARTIALS // (K * p), self.count // CHUNK))
        partials = tiles.cupy.empty((n_ranges, K * p))
        given = self.rows, rows_dot, self.count, tiles.pairs, p, weights, K
        tiles.multiply("tile_sums", p, n_ranges, given, n_ranges, partials)
        return add_up(tiles.cupy, tiles.samples.dtype, partials).reshape(K, p)

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
            self.multiplied(tiles.coefficients, out[self._near])
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
            self.multiplied(tiles.direction, out[self._near])
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
            rows_bar, p = tiles.cupy.zeros(self.rows.shape), tiles.mixture.features.size
            given = self.rows, self.count, tiles.pairs, p, tiles.both_tables, tiles.n_near
            given = *given, gamma[self._near], form[self._near], rows_bar
            n_blocks = -(-self.count // COLUMN)
            shared = 8 * (STRIP * COLUMN + CHUNK * (STRIP + COLUMN))
            launch(
                tiles.cupy, self._X.dtype, "tile_pull_back", n_blocks, _OF_PRODUCTS, given,
                shared=shared,
            )  # fmt: skip
            given = self.rows, rows_bar, self.count, self._d, X_bar
            tiles.launch("tile_samples_bar", X_bar.size, *given)
        if tiles.n_apart:
            tiles.apart.pull_back(self.x, gamma[self._apart], form[self._apart], X_bar)

    def move(self, X_dot, form):
        """Let the samples move; adds ⟨η_k, φ̇⟩ to the forms."""
        tiles, self.X_dot = self.tiles, X_dot
        if tiles.n_near:
            self.multiplied(tiles.coefficients, form[self._near], rows_dot=self.rows_dot, adds=True)
        if tiles.n_apart:
            tiles.apart.add_moved_logits(self.x, self.x_dot, form[self._apart])

    @cached_property
    def x_dot(self):
        """The tangents of the samples, (d, m)."""
        return self.tiles.cupy.ascontiguousarray(self.X_dot.T)

    @cached_property
    def rows_dot(self):
        """The tangents of the rows (d + 2, m)."""
        rows_dot = self.tiles.cupy.empty_like(self.rows)
        given = self.X_dot, self.count, self.rows, self._d, rows_dot
        self.tiles.launch("tile_rows_dot", rows_dot.size, *given)
        return rows_dot


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
            self._near += tile.summed(weights[:n_near])
        if self._apart is not None:
            self._apart.add(tile.x, weights[n_near:], points)

    def add_moved(self, tile, weights, points):
        """Add Σ_i weights_ki φ̇(x_i)."""
        n_near = self._tiles.n_near
        if n_near:
            self._near += tile.summed(weights[:n_near], rows_dot=tile.rows_dot)
        if self._apart is not None:
            self._apart.add_moved(tile.x, tile.x_dot, weights[n_near:], points)

    def found(self):
        """The sums, on the host."""
        near = self._near.get()
        if self._apart is None:
            return near
        return np.concatenate([near, self._apart.found()])


def _parts_of_block(n_components, n_columns):
    """How many parts of components a block of products has, for least work on what is not there."""

    def area(parts):
        own, others = PART * parts, PART * _OF_PRODUCTS // parts
        return -(-n_components // own) * own * -(-n_columns // others) * others

    return min((2, 4, 8, 16, 32), key=lambda parts: (area(parts), abs(parts - 8)))
