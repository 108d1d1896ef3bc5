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

Each is an object with a VJP, and its transpose, a JVP, which pushes tangents of the data forward to
θ̇_T. They know nothing of the solver that found θ_T, only the record that the fit has left. What
there is to complain of comes back with the result.
"""

from typing import NamedTuple

import numpy as np

from ..families.fisher import scaled_change
from ..numerics.linear_solve import LinearSolve, UnsolvedSystemError, solve_linear
from ..parameters import MixtureParameters
from ..reprs import html_repr, shape_of, short_repr
from ..samples.interface import refuse_overflowed
from .em_map import EMStep
from .path import Path

# One EM step repeated on the same data has the same bits, but for rows of weight zero, which
# `fit` leaves out. Other data show.
_SAME_STEP = 1e-9


class FitRecord(NamedTuple):
    """What a fit leaves for its derivatives.

    end : MixtureParameters, θ_T in float64
    previous : MixtureParameters, θ_{T-1}, or None if there was no step
    path : Path to it, or None where it was not kept, or the parameters were given
    last : EMStep from it, or None
    extent : tuple of the map's `extent_of`, by which data and options are told apart
    temperature : float, ε at the end, or None for that of the map
    """

    end: MixtureParameters
    previous: MixtureParameters | None = None
    path: Path | None = None
    last: EMStep | None = None
    extent: tuple = ()
    temperature: float | None = None

    @classmethod
    def of(cls, result, em_map):
        """The record of an `EMResult`."""
        path = result.path
        extent = extent_of(em_map.at(path.temperature))
        return cls(result.parameters, path.previous, path, result.last, extent, path.temperature)

    def step_to_end(self, em_map):
        """The step from θ_{T-1} on these data."""
        known = self.path is not None and self.path.last is not None
        if known and self.extent == extent_of(em_map):
            return self.path.last
        return em_map.step(self.end if self.previous is None else self.previous)

    def without_steps(self):
        """What is left where memory counts: the size of two mixtures."""
        return self._replace(path=None, last=None)

    def step_from_end(self, em_map):
        """The step from θ_T on these data."""
        if self.last is not None and self.extent == extent_of(em_map):
            return self.last
        return em_map.step(self.end)


def extent_of(em_map):
    """A few numbers that tell data sets, and the options of the EM map, apart."""
    summary = em_map.data.summary
    return (
        summary.n_samples,
        summary.total_weight,
        em_map.reg_covar,
        em_map.fixed_weights,
        em_map.temperature,
        em_map.e_step.holds_weights,
        *summary.center,
        *summary.checks,
    )


class FitCotangent(NamedTuple):
    """Gradients of a loss with respect to all inputs of a fit.

    What `DifferentiableGaussianMixture.vjp` returns.

    Attributes
    ----------
    data : ndarray of shape (n_samples, n_features)
    sample_weight : ndarray of shape (n_samples,)
    initial_parameters : MixtureParameters or None
        Of ``unrolled``. In the other modes the initial parameters play no part.
    solve : LinearSolve or None
        How the linear system of ``implicit`` was solved. The other modes have none.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 0.0], [1.0, 0.0]])
    >>> mixture = DifferentiableGaussianMixture().fit(X)
    >>> mixture.vjp(X, (None, [[0.0, 1.0]], None), mode="one_step")
    <FitCotangent: data of shape (4, 2), sample_weight of shape (4,)>
    """

    data: np.ndarray
    sample_weight: np.ndarray | None
    initial_parameters: object
    solve: LinearSolve | None

    def __repr__(self):
        return short_repr(self)

    def _repr_html_(self):
        return html_repr(self)

    def _summary(self):
        arrays = ("data", self.data), ("sample_weight", self.sample_weight)
        words = [f"{name} of {shape_of(array)}" for name, array in arrays if array is not None]
        others = ("initial_parameters", self.initial_parameters), ("solve", self.solve)
        return ", ".join(words + [name for name, value in others if value is not None])


class OneStep:
    """``one_step``."""

    def check(self, record, acceleration):
        """Refuse what this mode cannot differentiate."""

    def vjp(self, em_map, record, cotangent, *, tol=None, wrt_weight=True):
        """Pull L_θ back to the data.

        Parameters
        ----------
        em_map : EMMap
            On the data of the fit, at the temperature at which it ended.
        record : FitRecord
        cotangent : MixtureParameters, L_θ with symmetric covariances
        tol : float
            Relative accuracy that is asked of ``implicit``.
        wrt_weight : bool, default=True
            Whether the gradients with respect to the sample weights and θ_0 are wanted.

        Returns
        -------
        fit_cotangent : FitCotangent
        complaints : list of str
        """
        data_bar = em_map.zero_cotangent(wrt_weight=wrt_weight)
        em_map.vjp(record.step_to_end(em_map), cotangent, data_bar, wrt_theta=False)
        return _finished(em_map, data_bar), []

    def jvp(self, em_map, record, data_dot, *, tol=None):
        """θ̇_T when the data move by a `DataTangent`, and a list of complaints."""
        return refuse_overflowed(em_map.jvp(record.step_to_end(em_map), None, data_dot)), []


class Unrolled(OneStep):
    """``unrolled``."""

    def check(self, record, acceleration):
        if record.path is None:
            raise ValueError(
                "mode='unrolled' differentiates the steps of a fit, but these parameters were "
                "given, or found by partial_fit, or their steps not kept: a pickle leaves them "
                "out, and keep_path=False. "
                "Call fit, or use mode='implicit' or 'one_step'."
            )
        if not record.path.is_plain:
            raise ValueError(
                "mode='unrolled' differentiates plain EM steps, and needs a fit with "
                f"acceleration=None; this one had acceleration={acceleration!r}. Fit again, "
                "or use mode='implicit', which asks only where the fit ended."
            )

    def vjp(self, em_map, record, cotangent, *, tol=None, wrt_weight=True):
        _check_same_fit(em_map, record.path)
        data_bar = em_map.zero_cotangent(wrt_weight=wrt_weight)
        for stage, part in reversed(record.path.stages(em_map)):
            for step in part.backwards(stage):
                cotangent = stage.vjp(step, cotangent, data_bar)
        initial = cotangent if wrt_weight else None
        return _finished(em_map, data_bar, initial_parameters=initial), []

    def jvp(self, em_map, record, data_dot, *, tol=None, initial_dot=None):
        """As `OneStep.jvp`; θ_0 moves by ``initial_dot``, None: not at all."""
        _check_same_fit(em_map, record.path)
        tangent = initial_dot
        if tangent is None:
            still = (np.zeros_like(part) for part in record.path.start)
            tangent = MixtureParameters(*still, em_map.family.name)
        for stage, part in record.path.stages(em_map):
            for step in part.forwards(stage):
                tangent = stage.jvp(step, tangent, data_dot)
        return refuse_overflowed(tangent), []


class Implicit(OneStep):
    """``implicit``."""

    def vjp(self, em_map, record, cotangent, *, tol=None, wrt_weight=True):
        step = record.step_from_end(em_map)
        coordinates = em_map.coordinates(step)

        def product(vector):
            return vector - coordinates.of_cotangent(
                em_map.vjp(step, coordinates.cotangent(vector))
            )

        right = coordinates.of_cotangent(cotangent)
        vector, solve, complaints = implicit_solve(product, right, tol)
        data_bar = em_map.zero_cotangent(wrt_weight=wrt_weight)
        em_map.vjp(step, coordinates.cotangent(vector), data_bar, wrt_theta=False)
        complaints = _off_the_fixed_point(em_map, step, tol) + complaints
        return _finished(em_map, data_bar, solve=solve), complaints

    def jvp(self, em_map, record, data_dot, *, tol=None):
        step = record.step_from_end(em_map)
        coordinates = em_map.coordinates(step)

        def product(vector):
            return vector - coordinates.of_tangent(em_map.jvp(step, coordinates.tangent(vector)))

        right = coordinates.of_tangent(em_map.jvp(step, None, data_dot))
        vector, _, complaints = implicit_solve(product, right, tol)
        tangent = refuse_overflowed(coordinates.tangent(vector))
        return tangent, _off_the_fixed_point(em_map, step, tol) + complaints


ADJOINTS = {"implicit": Implicit(), "unrolled": Unrolled(), "one_step": OneStep()}


def _finished(em_map, data_bar, *, initial_parameters=None, solve=None):
    X_bar, weight_bar = em_map.finish(data_bar).found()
    refuse_overflowed(initial_parameters or ())
    return FitCotangent(X_bar, weight_bar, initial_parameters, solve)


def _check_same_fit(em_map, path):
    """Refuse to unroll steps that were not made on these data."""
    em_map, path = path.stages(em_map)[0]
    if not path.length:
        return
    again = em_map.step(path.start)
    first = next(path.forwards(em_map)).parameters
    change = scaled_change(again.parameters, first, family=em_map.family)
    if not change < _SAME_STEP:
        raise ValueError(
            "mode='unrolled' must be given the data, sample weights and options of the fit: the "
            f"first EM step on these differs from that of the fit by {change:.3g} (scaled). Pass "
            "the same data, or use mode='implicit' or 'one_step'."
        )


def _off_the_fixed_point(em_map, step, tol):
    residual = em_map.residual(step)
    if residual <= tol:
        return []
    return [
        f"mode='implicit' differentiates a fixed point of EM, but these parameters move by "
        f"{residual:.3g} (scaled) in one more step, and the gradient is asked to {tol:.3g}. "
        "Fit on with a smaller residual_tol and a larger max_iter, or use mode='unrolled'."
    ]


def implicit_solve(product, right, tol):
    """The solution of a linear system, its `LinearSolve`, and a list of complaints.

    Raises
    ------
    RuntimeError
        If it could not be solved.
    ValueError
        If the right-hand side or a product overflows.
    """
    try:
        vector, solve = solve_linear(
            lambda vector: refuse_overflowed([product(vector)])[0], *refuse_overflowed([right]), tol
        )
    except UnsolvedSystemError as error:
        raise RuntimeError(
            f"mode='implicit': {error} Components may have merged, or EM contracts too slowly: "
            "decrease n_components, or use mode='unrolled'."
        ) from error
    if not solve.singular:
        return vector, solve, []
    complaint = (
        f"mode='implicit': the linear system is singular ({solve.n_lost} of {right.size} "
        "directions); components have merged or are undetermined by the data. The solution of "
        f"least norm is used; its relative residual is {solve.residual:.3g}. Decrease "
        "n_components, or use mode='unrolled'."
    )
    return vector, solve, [complaint]
