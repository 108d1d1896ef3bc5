"""Components about their own means on a CUDA device, by batches of products of matrices.

Of a tile X (d × m), a component has V = X - point. A form of quadratic features,

    c + l'v + v'Mv / 2,

has the slope l + Mv; logits are c - ‖Uᵀv‖² / 2, with the slope -U Uᵀ v. Sums of weights are
Σ w, V w and V diag(w) Vᵀ. Of diagonal features M, U and the last sum are diagonals.
"""

from functools import cached_property

import numpy as np

_BATCH_BYTES = 8 * 2**20  # of V for the components that are taken at a time


class Apart:
    """The components of a mixture that are apart, on the device.

    Parameters
    ----------
    cupy : module
    mixture : DeviceMixture
    """

    def __init__(self, cupy, mixture):
        self.cupy, own = cupy, slice(mixture.n_near, None)
        d = mixture.features.n_features
        self.n_components, self.features = mixture.n_apart, mixture.features
        self.both_points = self.points, self.origins = tuple(
            cupy.asarray(points[1:, :, None]) for points in (mixture.points, mixture.origins)
        )
        left, right = mixture.features.pairs[:, 1 + d :]
        self.products = left, right
        self.is_norm = bool((left > d).any())
        self.is_dense = not self.is_norm and bool((left != right).any())
        self._direction = mixture.direction[own]
        self._constants = cupy.asarray(mixture.coefficients[own, 0, None])
        self._diagonal = mixture.is_diagonal
        shape = (-1, d, 1) if mixture.is_diagonal else (-1, d, d)
        self._factors = cupy.asarray(mixture.factors.reshape(shape))

    def batches(self, x):
        """Slices of the components, few enough for what a tile x (d, m) makes of them."""
        step = max(1, _BATCH_BYTES // x.nbytes)
        for start in range(0, self.n_components, step):
            yield slice(start, min(start + step, self.n_components))

    @cached_property
    def _form(self):
        """c, l and M of the direction: (K, 1), (K, d, 1), and (K, d, d) or (K, d, 1)."""
        d, K = self.features.n_features, self.n_components
        quadratic, (left, right) = self._direction[:, 1 + d :], self.products
        if self.is_dense:
            M = np.zeros((K, d, d))
            M[:, left - 1, right - 1] = quadratic
            M += M.swapaxes(1, 2)
        else:
            M = 2.0 * np.broadcast_to(quadratic, (K, d))[..., None]
        parts = self._direction[:, :1], self._direction[:, 1 : 1 + d, None], M
        return tuple(self.cupy.asarray(np.ascontiguousarray(part)) for part in parts)

    def _times(self, M, V):
        return self.cupy.matmul(M, V) if self.is_dense else M * V

    def _scaled(self, V, batch):
        """Y = UᵀV."""
        U = self._factors[batch]
        return U * V if self._diagonal else self.cupy.matmul(U.transpose(0, 2, 1), V)

    def _logit_slope(self, V, batch):
        """-U Uᵀ V."""
        U, Y = self._factors[batch], self._scaled(V, batch)
        return -(U * Y if self._diagonal else self.cupy.matmul(U, Y))

    def logits(self, x, out):
        """Write c - ‖Uᵀ(x - point)‖² / 2 into (K, m)."""
        for batch in self.batches(x):
            Y = self._scaled(x - self.points[batch], batch)
            Y *= Y
            out[batch] = self._constants[batch] - 0.5 * Y.sum(axis=1)

    def forms(self, x, points, out):
        """Write the direction's forms about some points into (K, m)."""
        constant, linear, M = self._form
        for batch in self.batches(x):
            V = x - points[batch]
            slope = self._times(M[batch], V)
            slope *= 0.5
            slope += linear[batch]
            slope *= V
            out[batch] = constant[batch] + slope.sum(axis=1)

    def pull_back(self, x, gamma, form, X_bar):
        """Add to (m, d): γ times the slope of the direction, and forms times that of the logits."""
        _, linear, M = self._form
        for batch in self.batches(x):
            slope = self._times(M[batch], x - self.origins[batch])
            slope += linear[batch]
            slope *= gamma[batch][:, None]
            own = self._logit_slope(x - self.points[batch], batch)
            own *= form[batch][:, None]
            slope += own
            X_bar += slope.sum(axis=0).T

    def add_moved_logits(self, x, x_dot, form):
        """Add to (K, m) how the logits move with the samples."""
        for batch in self.batches(x):
            slope = self._logit_slope(x - self.points[batch], batch)
            slope *= x_dot
            form[batch] += slope.sum(axis=1)


class ApartSums:
    """Sums of weights of components that are apart."""

    def __init__(self, cupy, apart):
        self._cupy, self._apart = cupy, apart
        K, d = apart.n_components, apart.features.n_features
        self._mass, self._linear = cupy.zeros(K), cupy.zeros((K, d))
        self._quadratic = cupy.zeros((K, d, d) if apart.is_dense else (K, d))

    def add(self, x, weights, points):
        """Add Σ_i w_ki φ(x_i - point_k) for weights (K, m)."""
        for batch in self._apart.batches(x):
            V, own = x - points[batch], weights[batch][:, None]
            W = V * own
            self._mass[batch] += own[:, 0].sum(axis=1)
            self._linear[batch] += W.sum(axis=2)
            self._quadratic[batch] += self._product(W, V)

    def add_moved(self, x, x_dot, weights, points):
        """Add the tangents of these features."""
        for batch in self._apart.batches(x):
            V, W = x - points[batch], x_dot * weights[batch][:, None]
            self._linear[batch] += W.sum(axis=2)
            moved = self._product(W, V)
            self._quadratic[batch] += moved
            self._quadratic[batch] += moved.transpose(0, 2, 1) if self._apart.is_dense else moved

    def _product(self, W, V):
        if self._apart.is_dense:
            return self._cupy.matmul(W, V.transpose(0, 2, 1))
        W *= V
        return W.sum(axis=2)

    def found(self):
        """The sums (K, p), on the host."""
        quadratic, (left, right) = self._quadratic.get(), self._apart.products
        if self._apart.is_dense:
            quadratic = quadratic[:, left - 1, right - 1]
        elif self._apart.is_norm:
            quadratic = quadratic.sum(axis=1, keepdims=True)
        return np.concatenate([self._mass.get()[:, None], self._linear.get(), quadratic], axis=1)
