"""How the covariances of a type act: shapes, batches, products, factors."""

from typing import NamedTuple

import numpy as np


class CollapsedComponentError(ValueError):
    """A component's covariance is not positive definite."""


class Precisions(NamedTuple):
    """Σ⁻¹ = U Uᵀ of every component, each in the shape of the covariance type.

    factors : ndarray, upper triangular U, as scikit-learn's ``precisions_cholesky_``
    inverses : ndarray, Σ⁻¹
    log_det : ndarray of shape (n_components,) or (1,) if tied, log det U
    """

    factors: np.ndarray
    inverses: np.ndarray
    log_det: np.ndarray


class Covariances:
    """The covariances of a type. One object for each type is enough: it has no state.

    Products work on batches: covariances, or symmetric (co)tangents of them, with a first axis for
    the components, of length one if they share one (`batch`).
    """

    name: str
    is_shared = False  # one covariance for all components
    is_diagonal = False  # all covariances have the same eigenvectors, the axes

    # The type

    def features(self, n_features):
        """The `Features` whose sums the M-step needs."""
        raise NotImplementedError

    def shape(self, n_components, n_features):
        """Shape of ``covariances``."""
        raise NotImplementedError

    def n_parameters(self, n_components, n_features):
        """Number of free numbers in the covariances."""
        raise NotImplementedError

    def matrices(self, covariances, n_components, n_features):
        """Covariance matrices (n_components, n_features, n_features): a linear map."""
        raise NotImplementedError

    def pull(self, matrices):
        """The transpose of `matrices`: cotangents of matrices as one of ``covariances``."""
        raise NotImplementedError

    def per_component(self, covariances, n_components, n_features):
        """Matrices (K, d, d), or variances (K, d) if diagonal, of every component."""
        raise NotImplementedError

    def pull_per_component(self, spread):
        """The transpose of `per_component`."""
        raise NotImplementedError

    def of_variances(self, variances, n_components):
        """Covariances with these variances (n_features,) for every component, about."""
        raise NotImplementedError

    def variances(self, covariances):
        """Variances of the features, of shape (n_components or 1, n_features or 1)."""
        raise NotImplementedError

    def factors(self, covariances, n_components, n_features):
        """Cholesky factors of every component, or standard deviations (K, d) if diagonal."""
        raise NotImplementedError

    def of_factors(self, factors):
        """Covariances of such factors; of a shared one the first counts."""
        raise NotImplementedError

    def symmetrized(self, covariances):
        """The symmetric part of what has the shape of covariances."""
        return covariances

    def pull_trace(self, weights, inverses, n_features):
        """Gradient of -Σ_k c_k tr Σ_k⁻¹ in the covariances: Σ_k c_k Σ_k⁻²."""
        raise NotImplementedError

    # How covariances act, in batches

    def batch(self, covariances):
        """Covariances with a first axis for components, and a last one."""
        return covariances

    def unbatch(self, batch):
        """The inverse of `batch`."""
        return batch

    def multiplicity(self, n_features):
        """How many diagonal entries of a matrix a number stands for."""
        return 1

    def times(self, batch, vectors):
        """Σ_k v_k."""
        raise NotImplementedError

    def sandwich(self, outer, inner):
        """P S P."""
        raise NotImplementedError

    def inner(self, left, right):
        """Σ_ab P_ab S_ab over the entries, (n_components,) or (1,): tr P S / `multiplicity`."""
        raise NotImplementedError

    def transform(self, root, means, batch):
        """R m and R Σ Rᵀ."""
        raise NotImplementedError

    def roots(self, factors):
        """Of factors U: L⁻¹ = Uᵀ and L, with Σ = L Lᵀ, as roots for `transform`."""
        raise NotImplementedError

    def transposed(self, root):
        """Rᵀ."""
        return root

    def flatten(self, batch):
        """Vectors, of shape (n_components or 1, …), whose inner products are those of matrices.

        But for the `multiplicity`.
        """
        return batch

    def unflatten(self, vectors, n_features):
        """The inverse of `flatten`."""
        return vectors

    def moments(self, covariances, n_features):
        """The quadratic part of the mean of φ(x - m) where covariances about m are these."""
        raise NotImplementedError

    def precisions(self, covariances, n_features):
        """`Precisions` of covariances.

        Raises
        ------
        CollapsedComponentError
            Names the components whose covariance is not positive definite.
        """
        raise NotImplementedError

    def trace(self, inverses, n_features):
        """tr Σ_k⁻¹, of shape (n_components,) or (1,)."""
        raise NotImplementedError

    def retract(self, theta, tangent, inverses):
        """Covariances in the direction of Σ̇, positive definite however far that is.

        Σ + Σ̇ + ½ Σ̇ Σ⁻¹ Σ̇ = ½ (Σ + (Σ + Σ̇) Σ⁻¹ (Σ + Σ̇)).
        """
        moved = self.batch(tangent.covariances)
        second = self.unbatch(self.sandwich(moved, self.batch(inverses)))
        return theta.covariances + tangent.covariances + self.symmetrized(0.5 * second)


def collapsed(smallest, which="The covariance of component {}"):
    """The error of covariances whose smallest eigenvalues, one for each, are not all positive."""
    if not np.isfinite(smallest).all():
        which = which.format(", ".join(map(str, np.flatnonzero(~np.isfinite(smallest)))))
        return CollapsedComponentError(
            f"{which} is not finite: squares of the data over- or underflow. Scale the features."
        )
    guilty = np.flatnonzero(~(smallest > 0))
    if not len(guilty):  # positive, but Cholesky met a pivot lost to rounding
        guilty = np.array([smallest.argmin()])
    which = which.format(", ".join(map(str, guilty)))
    return CollapsedComponentError(
        f"{which} is not positive definite (smallest eigenvalue {smallest.min():.3g}): the "
        "component holds too few distinct samples, or features are collinear. Increase reg_covar, "
        "decrease n_components, or scale the features."
    )
