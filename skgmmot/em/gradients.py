"""Gradients through EM: how the fitted parameters move when the data move.

θ_T is the result of T steps θ_{t+1} = F(θ_t, X) from a θ_0 that is held constant, and a loss of
θ_T has the cotangent L_θ. The modes (in brackets the names of Boïté et al. 2025, section 2):

``unrolled`` (AD)
    The exact derivative of the T steps. Backwards over the path, λ_T = L_θ,

        λ_t = ∂_θ F(θ_t, X)ᵀ λ_{t+1},    L_X = Σ_t ∂_X F(θ_t, X)ᵀ λ_{t+1}.

``implicit`` (AI)
    The derivative of the fixed point θ = F(θ, X), taken at θ_T,

        L_X = ∂_X Fᵀ λ,    (I - ∂_θ F)ᵀ λ = L_θ.

``one_step`` (OS)
    The last step alone, L_X = ∂_X F(θ_{T-1}, X)ᵀ L_θ (Bolte, Pauwels, Vaiter 2023): exact for a
    single step from a warm start, otherwise as good as EM contracts.

Each has its transpose, a JVP, which pushes tangents of the data forward to θ̇_T. The functions
know nothing of the solver that found θ_T.
"""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres
from sklearn.exceptions import ConvergenceWarning

from .coordinates import FisherCoordinates
from .fixed_point import scaled_change
from .problem import DataCotangent
from .step import em_step, em_step_jvp, em_step_vjp

_DENSE_SIZE = 40  # up to this many unknowns the matrix is formed at once
_LARGEST_DENSE = 1000  # … and up to this many where GMRES fails
_GMRES_RESTART = 60
_GMRES_MAX_ITER = 300
_SINGULAR = 1e-10


class LinearSolve(NamedTuple):
    """How the linear system of ``implicit`` was solved.

    method : {"gmres", "dense"}
    n_products : int, passes over the data that the products with ∂_θ F took
    residual : float, relative
    singular : bool, whether the system is singular and the solution that of least norm
    """

    method: str
    n_products: int
    residual: float
    singular: bool


class FitCotangent(NamedTuple):
    """What a loss of the fitted parameters asks of the inputs of the fit.

    data : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    initial_parameters : MixtureParameters, or None where θ_0 plays no part (only ``unrolled``
        has one)
    solve : LinearSolve of ``implicit``, else None
    """

    data: np.ndarray
    sample_weight: np.ndarray | None
    initial_parameters: object
    solve: LinearSolve | None


def one_step_vjp(problem, previous, step, cotangent, *, wrt_weight=True):
    """Pull L_θ back through the last step.

    Parameters
    ----------
    problem : EMProblem
    previous : MixtureParameters, θ_{T-1}
    step : EMStep, from θ_{T-1}
    cotangent : MixtureParameters, L_θ with symmetric covariances
    wrt_weight : bool, default=True
        Whether the gradient with respect to the sample weights is wanted.

    Returns
    -------
    fit_cotangent : FitCotangent
    """
    data_bar = DataCotangent.zeros(problem, wrt_weight=wrt_weight)
    em_step_vjp(problem, previous, step, cotangent, data_bar, wrt_theta=False)
    data_bar.finish(problem)
    return FitCotangent(data_bar.X, data_bar.sample_weight, None, None)


def one_step_jvp(problem, previous, step, X_dot, weight_dot=None):
    """θ̇_T of the last step alone; parameters as in `one_step_vjp`."""
    return em_step_jvp(problem, previous, step, None, X_dot, weight_dot)


def unrolled_vjp(problem, path, cotangent, *, wrt_weight=True):
    """Pull L_θ back through all steps.

    Parameters
    ----------
    problem : EMProblem
    path : Path
    cotangent : MixtureParameters, L_θ with symmetric covariances
    wrt_weight : bool, default=True

    Returns
    -------
    fit_cotangent : FitCotangent
    """
    data_bar = DataCotangent.zeros(problem, wrt_weight=wrt_weight)
    for stage, part in reversed(path.stages(problem)):
        for theta, step in part.backwards(stage):
            cotangent = em_step_vjp(stage, theta, step, cotangent, data_bar)
    data_bar.finish(problem)
    return FitCotangent(data_bar.X, data_bar.sample_weight, cotangent, None)


def unrolled_jvp(problem, path, X_dot, weight_dot=None, initial_dot=None):
    """θ̇_T of all steps; θ_0 moves by ``initial_dot``, None for not at all."""
    tangent = initial_dot
    for stage, part in path.stages(problem):
        for theta, step in part.forwards(stage):
            tangent = em_step_jvp(stage, theta, step, tangent, X_dot, weight_dot)
    return tangent


def implicit_vjp(problem, theta, cotangent, *, tol, wrt_weight=True):
    """Pull L_θ back through the fixed point.

    Parameters
    ----------
    problem : EMProblem
    theta : MixtureParameters, θ_T
    cotangent : MixtureParameters, L_θ with symmetric covariances
    tol : float
        Relative accuracy that is asked of the result.
    wrt_weight : bool, default=True

    Returns
    -------
    fit_cotangent : FitCotangent

    Warns
    -----
    ConvergenceWarning
        If θ is not a fixed point to this accuracy, or the system is singular.

    Raises
    ------
    RuntimeError
        If the linear system could not be solved.
    """
    step = _checked_fixed_point(problem, theta, tol)
    coordinates = FisherCoordinates(theta, step.mass, problem.fixed_weights, problem.temperature)

    def product(vector):
        v = coordinates.cotangent(vector)
        return vector - coordinates.of_cotangent(em_step_vjp(problem, theta, step, v))

    vector, solve = solve_linear(product, coordinates.of_cotangent(cotangent), tol)
    data_bar = DataCotangent.zeros(problem, wrt_weight=wrt_weight)
    adjoint = coordinates.cotangent(vector)
    em_step_vjp(problem, theta, step, adjoint, data_bar, wrt_theta=False)
    data_bar.finish(problem)
    return FitCotangent(data_bar.X, data_bar.sample_weight, None, solve)


def implicit_jvp(problem, theta, X_dot, weight_dot=None, *, tol):
    """θ̇ of the fixed point; as `implicit_vjp`. Returns the tangent and the `LinearSolve`."""
    step = _checked_fixed_point(problem, theta, tol)
    coordinates = FisherCoordinates(theta, step.mass, problem.fixed_weights, problem.temperature)

    def product(vector):
        v = coordinates.tangent(vector)
        return vector - coordinates.of_tangent(em_step_jvp(problem, theta, step, v))

    pushed = em_step_jvp(problem, theta, step, None, X_dot, weight_dot)
    vector, solve = solve_linear(product, coordinates.of_tangent(pushed), tol)
    return coordinates.tangent(vector), solve


def _checked_fixed_point(problem, theta, tol):
    """The step from θ, after a look at whether it leads back to θ."""
    step = em_step(problem, theta)
    residual = scaled_change(step.parameters, theta)
    if residual > tol:
        warnings.warn(
            f"mode='implicit' differentiates a fixed point of EM, but these parameters move by "
            f"{residual:.3g} (scaled) in one more step, and the gradient is asked to {tol:.3g}. "
            "Fit on with a smaller residual_tol and a larger max_iter, or use mode='unrolled'.",
            ConvergenceWarning,
            stacklevel=5,
        )
    return step


def solve_linear(product, right, tol):
    """Solve the linear system whose matrix is known by products with it."""
    norm = np.linalg.norm(right)
    if norm == 0.0:
        return right, LinearSolve("dense", 0, 0.0, False)
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
        raise RuntimeError(
            f"mode='implicit': GMRES left a relative residual of {residual:.3g} after {count[0]} "
            "products. Components may have merged, or EM contracts too slowly: decrease "
            "n_components, or use mode='unrolled'."
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
    singular = not regular.all()
    if singular:
        warnings.warn(
            f"mode='implicit': the linear system is singular ({(~regular).sum()} of "
            f"{len(values)} directions); components have merged or are undetermined by the data. "
            f"The solution of least norm is used; its relative residual is {residual:.3g}. "
            "Decrease n_components, or use mode='unrolled'.",
            ConvergenceWarning,
            stacklevel=6,
        )
    return vector, LinearSolve("dense", n_products, residual, singular)
