"""Linear systems whose matrix is known by products with it."""

from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

_DENSE_SIZE = 40  # up to this many unknowns the matrix is formed at once
_LARGEST_DENSE = 1000  # … and up to this many where GMRES fails
_GMRES_RESTART = 60
_GMRES_MAX_ITER = 300
_SINGULAR = 1e-10


class LinearSolve(NamedTuple):
    """How the linear system of a gradient of mode ``implicit`` was solved.

    The attribute ``solve`` of a `FitCotangent`.

    Attributes
    ----------
    method : {"gmres", "dense"}
        ``dense`` forms the matrix, of a few parameters, or where GMRES has failed.
    n_products : int
        Number of passes over the data, one for each product with the derivative of an EM step.
    residual : float
        Of the system, relative to its right-hand side.
    singular : bool
        Whether the system is singular. The solution is then that of least norm.
    n_lost : int
        Number of directions in which it is singular.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 0.0]])
    >>> mixture = DifferentiableGaussianMixture().fit(X)
    >>> solve = mixture.vjp(X, (None, [[0.0, 1.0]], None)).solve
    >>> solve.method, solve.singular
    ('dense', False)
    """

    method: str
    n_products: int
    residual: float
    singular: bool
    n_lost: int = 0


class UnsolvedSystemError(RuntimeError):
    """GMRES failed on a system that is too large to be formed."""


def solve_linear(product, right, tol):
    """Solve A x = right to a relative residual.

    Parameters
    ----------
    product : callable, v ↦ A v
    right : ndarray of shape (n,)
    tol : float

    Returns
    -------
    x : ndarray of shape (n,)
        Of least norm, if A is singular.
    solve : LinearSolve

    Raises
    ------
    UnsolvedSystemError
    """
    if not right.any():
        return right, LinearSolve("dense", 0, 0.0, False)
    unit = 2.0 ** np.frexp(np.abs(right).max())[1]  # in which no square overflows
    vector, solve = _solve_linear(product, right / unit, tol)
    return unit * vector, solve


def _solve_linear(product, right, tol):
    norm = np.linalg.norm(right)
    if right.size <= _DENSE_SIZE:
        return _solve_dense(product, right, 0)
    count = [0]

    def counted(vector):
        count[0] += 1
        return product(vector)

    operator = LinearOperator((right.size, right.size), matvec=counted, dtype=np.float64)
    restart = min(_GMRES_RESTART, right.size)
    vector, _ = gmres(
        operator,
        right,
        rtol=1e-2 * tol,
        atol=0.0,
        restart=restart,
        maxiter=-(-_GMRES_MAX_ITER // restart),
    )
    residual = float(np.linalg.norm(counted(vector) - right) / norm)
    # a solution that dwarfs its right-hand side tells of a matrix that is singular to rounding
    if residual <= tol and np.linalg.norm(vector) * _SINGULAR < norm:
        return vector, LinearSolve("gmres", count[0], residual, False)
    if right.size > _LARGEST_DENSE:
        raise UnsolvedSystemError(
            f"GMRES left a relative residual of {residual:.3g} after {count[0]} products."
        )
    return _solve_dense(product, right, count[0])


def _solve_dense(product, right, n_products):
    matrix = np.stack([product(e) for e in np.eye(right.size)], axis=1)
    n_products += right.size
    left, values, transposed = np.linalg.svd(matrix)
    regular = values > _SINGULAR * values[0]
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=regular)
    vector = transposed.T @ (inverse * (left.T @ right))
    residual = float(np.linalg.norm(matrix @ vector - right) / np.linalg.norm(right))
    n_lost = int((~regular).sum())
    return vector, LinearSolve("dense", n_products, residual, n_lost > 0, n_lost)
