"""Gradients through EM on many small sets of samples: the modes of `adjoints`, all sets at once.

``one_step`` is one pull-back of all sets. ``unrolled`` makes the steps again, and goes back over
them; a set joins where its own begin. ``implicit`` solves the linear systems of all sets together
by conjugate gradients: at a maximum I - ∂F/∂θ is symmetric and positive definite in Fisher
coordinates. What that does not solve, and mixtures that share a covariance, whose coordinates are
not those of components, are left to `adjoints.Implicit`, one by one.
"""

import numpy as np

from ..families.fisher import FisherCoordinates
from ..numerics.threads import run
from ..parameters import MixtureParameters
from ..samples.interface import DataCotangent
from .adjoints import ADJOINTS, FitRecord
from .sets_fit import parts_of, taken

_MOST_ITERATIONS = 200
_MARGIN = 1e-2  # the recursion's residual is to be so much smaller than what is asked for


def pull_back_sets(sets_map, fit, start, cotangent, mode, *, tol, wrt_weight=True, n_threads=1):
    """Pull cotangents of θ_T of all sets back to the data.

    Parameters
    ----------
    sets_map : SetsMap
    fit : SetsFit
        Sets that failed get nothing.
    start : MixtureParameters, θ_0
    cotangent : MixtureParameters
        With a first axis for the sets; its covariances symmetric.
    mode : {"implicit", "unrolled", "one_step"}
    tol : float
        Relative accuracy that is asked of ``implicit``.
    wrt_weight : bool, default=True
    n_threads : int, default=1

    Returns
    -------
    data_bar : DataCotangent
        Of all rows of the array that the sets are of.
    initial_bar : MixtureParameters or None
        Of θ_0, in mode ``unrolled``.
    complaints : list of (number of the set, sentence)
    """
    X = sets_map.sets.X
    data_bar = DataCotangent(np.zeros(X.shape), np.zeros(len(X)) if wrt_weight else None)
    initial_bar = None
    if mode == "unrolled":
        parts = (np.zeros_like(part) for part in cotangent)
        initial_bar = MixtureParameters(*parts, cotangent.covariance_type)
    good = np.setdiff1d(np.arange(len(fit.n_iter)), list(fit.errors))
    groups = [good[part] for part in parts_of(sets_map.sets.of(good))] if len(good) else []
    complaints = []

    def task(first, last):
        for part in groups[first:last]:
            own = sets_map.of(part), taken(cotangent, part)
            if mode == "one_step":
                step = own[0].step(taken(fit.previous, part))
                own[0].vjp(step, own[1], data_bar, wrt_theta=False)
            elif mode == "unrolled":
                _unroll(*own, taken(start, part), fit.n_iter[part], data_bar, initial_bar, part)
            else:
                found = _implicit(*own, taken(fit.parameters, part), data_bar, tol)
                complaints.extend((int(part[s]), sentence) for s, sentence in found)

    run(task, len(groups), n_threads)
    return data_bar, initial_bar, sorted(complaints)


def _unroll(sets_map, cotangent, start, n_iter, data_bar, initial_bar, part):
    path, theta = [], start
    for t in range(n_iter.max(initial=0)):
        path.append((np.flatnonzero(n_iter > t), theta))
        alive, theta = path[-1]
        theta = sets_map.of(alive).step(theta).parameters
        theta = taken(theta, n_iter[alive] > t + 1)
    adjoint = MixtureParameters(*(p.copy() for p in cotangent), cotangent.covariance_type)
    for alive, theta in reversed(path):
        own = sets_map.of(alive)
        pulled = own.vjp(own.step(theta), taken(adjoint, alive), data_bar)
        for whole, piece in zip(adjoint, pulled, strict=True):
            whole[alive] = piece
    for whole, piece in zip(initial_bar, adjoint, strict=True):
        whole[part] = piece


def _implicit(sets_map, cotangent, theta, data_bar, tol):
    """Add the cotangent of the data, and return what there is to complain of."""
    n_sets, complaints = len(theta.weights), []
    open_ones = np.arange(n_sets)
    if not sets_map.is_shared:
        adjoint, solved = _solve(sets_map, theta, cotangent, tol)
        step = sets_map.step(theta)
        sharp = solved & (sets_map.changes(step) <= tol)
        open_ones = np.flatnonzero(~sharp)
        own, sharp = sets_map.of(sharp), np.flatnonzero(sharp)
        if len(sharp):
            step = own.step(taken(theta, sharp))
            own.vjp(step, taken(adjoint, sharp), data_bar, wrt_theta=False)
    for s in open_ones:
        own = sets_map.alone(s), FitRecord(taken(theta, s)), taken(cotangent, s)
        found, sentences = ADJOINTS["implicit"].vjp(*own, tol=tol)
        complaints += [(s, sentence) for sentence in sentences]
        rows = slice(*sets_map.sets.bounds[s])
        data_bar.X[rows] += found.data
        if data_bar.sample_weight is not None:
            data_bar.sample_weight[rows] += found.sample_weight
    return complaints


def _solve(sets_map, theta, cotangent, tol):
    """λ of (I - ∂F/∂θ)ᵀ λ = θ̄ by conjugate gradients, and for which sets it is one."""
    system = _Systems(sets_map, theta)
    residual = system.vectors(cotangent)
    size = np.abs(residual).max(axis=1, keepdims=True)
    size[size == 0.0] = 1.0
    residual = residual / size
    solution, direction = np.zeros_like(residual), residual.copy()
    square = goal = (residual * residual).sum(axis=1)
    goal, regular = goal * (_MARGIN * tol) ** 2, np.ones(len(residual), bool)
    right = residual.copy()
    for _ in range(_MOST_ITERATIONS):
        active = regular & (square > goal)
        if not active.any():
            break
        moved = system.product(direction)
        curvature = (direction * moved).sum(axis=1)
        regular &= ~active | (curvature > 0.0)
        active &= curvature > 0.0
        step = np.divide(square, curvature, out=np.zeros(len(square)), where=active)[:, None]
        solution += step * direction
        residual = residual - step * moved
        following = (residual * residual).sum(axis=1)
        ratio = np.divide(following, square, out=np.zeros(len(square)), where=active)[:, None]
        direction = residual + ratio * direction
        square = np.where(active, following, square)
    left = right - system.product(solution)
    scale = np.sqrt((right * right).sum(axis=1))
    solved = regular & (np.sqrt((left * left).sum(axis=1)) <= tol * scale)
    # as in `numerics.linear_solve`: what dwarfs its right-hand side tells of a singular matrix
    solved &= np.sqrt((solution * solution).sum(axis=1)) * 1e-10 <= scale
    return system.cotangent(size * solution), solved


class _Systems:
    """I - (∂F/∂θ)ᵀ of each set, in its Fisher coordinates: a row of a matrix is a vector of one."""

    def __init__(self, sets_map, theta):
        self._map, self._step = sets_map, sets_map.step(theta)
        step = self._step
        self._coordinates = FisherCoordinates(
            step.flat,
            step.shares.ravel(),
            sets_map.fixed_weights,
            family=sets_map.family,
            precisions=step.precisions,
            total=1.0,
        )

    def vectors(self, cotangent):
        """The cotangents of all sets, a row each."""
        return self._rows(self._coordinates.of_cotangent(self._map.flat(cotangent)))

    def cotangent(self, rows):
        """What has these vectors."""
        flat = self._coordinates.cotangent(self._whole(rows))
        return self._map.stacked(flat, len(rows))

    def product(self, rows):
        """One product for each set."""
        return rows - self.vectors(self._map.vjp(self._step, self.cotangent(rows)))

    def _sizes(self):
        n_sets, n_components, n_features = self._step.theta.means.shape
        n_weights = 0 if self._map.fixed_weights else n_components
        n_means = n_components * n_features
        n_spread = self._coordinates.size // n_sets - n_weights - n_means
        return n_sets, (n_weights, n_weights + n_means), (n_weights, n_means, n_spread)

    def _rows(self, whole):
        n_sets, cuts, _ = self._sizes()
        parts = np.split(whole, [n_sets * cut for cut in cuts])
        return np.concatenate([part.reshape(n_sets, -1) for part in parts], axis=1)

    def _whole(self, rows):
        _, cuts, _ = self._sizes()
        return np.concatenate([part.ravel() for part in np.split(rows, cuts, axis=1)])
