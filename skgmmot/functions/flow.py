"""Points that flow down a loss of the mixture fitted to them (Boïté et al. 2025, Algorithm 3).

With θ(X) the mixture that EM fits to n points X, and mixtures μ_j with weights λ_j,

    L(X) = Σ_j λ_j MW2²(θ(X), μ_j),        x_i ← x_i − η · n ∂L/∂x_i.

One point moves θ by 1/n of its own motion: the factor n makes the step a property of the
mixtures. For a single component that flows to a mean m', n ∂L/∂x_i = 2 (m − m'), so that
gradient descent with η = 1/2 would be there in one step, whatever the number of points.
"""

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from ..checks import (
    RANDOM_STATE,
    Interval,
    as_parameters,
    checked_mixtures,
    checked_regularization,
)
from ..estimators.mixture import DifferentiableGaussianMixture
from ..estimators.state import warn_of
from ..families import family_of
from ..parameters import (
    FloatArray,
    GradientMode,
    MixtureLike,
    MixtureParameters,
    PenaltiesLike,
    RandomState,
)
from ..reprs import count, html_repr, short_repr
from ..results.transport_result import transport_between
from .descents import adam, gradient_descent
from .flow_fits import FlowFits
from .validation import as_rows, validated


@dataclass(frozen=True, eq=False, repr=False)
class MixtureFlow:
    """Where points have flowed to, as `mixture_flow` returns it.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        The moved points.
    mixture : DifferentiableGaussianMixture
        The mixture fitted to them, with the parameters of the estimator given.
    losses : ndarray of shape (n_steps + 1,)
        The loss before each step, of the step's batch, and after the last, of all points.
    positions : ndarray of shape (n_steps + 1, n_samples, n_features) or None
        The points before each step, and after the last. With ``keep_path``, else None.
    path : list of MixtureParameters or None
        The mixtures fitted there, of which ``losses`` are. With ``keep_path``, else None.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import mixture_flow
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> flow = mixture_flow(X, ([1.0], [[3.0, 0.0]], [4.0]), n_steps=50, random_state=0)
    >>> flow.X.shape, flow.losses.shape
    ((100, 2), (51,))
    """

    X: FloatArray
    mixture: DifferentiableGaussianMixture
    losses: FloatArray
    positions: FloatArray | None = None
    path: list[MixtureParameters] | None = None

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        n_points, n_features = self.X.shape
        return (
            f"{count(n_points, 'point')} with {count(n_features, 'feature')}, "
            f"{count(len(self.losses) - 1, 'step')}, "
            f"loss {self.losses[0]:.6g} to {self.losses[-1]:.6g}"
        )


@validated(
    {
        "X": ["array-like"],
        "estimator": [None, DifferentiableGaussianMixture],
        "optimizer": [StrOptions({"adam", "gd"})],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_fraction": [Interval(Real, 0, 1, closed="right")],
        "mode": [StrOptions({"implicit", "unrolled", "one_step"})],
        "warm_start": ["boolean"],
        "callback": [None, callable],
        "keep_path": ["boolean"],
        "random_state": RANDOM_STATE,
    }
)
def mixture_flow(
    X: ArrayLike,
    target: MixtureLike | list[MixtureLike],
    *,
    estimator: DifferentiableGaussianMixture | None = None,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    target_weights: ArrayLike | None = None,
    optimizer: Literal["adam", "gd"] = "adam",
    learning_rate: float | None = None,
    n_steps: int = 200,
    batch_fraction: float = 1.0,
    mode: GradientMode = "one_step",
    warm_start: bool = True,
    callback: Callable[..., object] | None = None,
    keep_path: bool = False,
    random_state: RandomState = None,
) -> MixtureFlow:
    """Move points down the MW2 loss of the mixture fitted to them.

    Each step fits a mixture to the points, takes the gradient of its loss with respect to every
    point through EM, and moves the points against it (Algorithm 3 of [1]_, with its defaults).

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The points at the start; float32 and float64 are kept, anything else becomes float64.
        They are copied.
    target : mixture or list of mixtures
        Where to: a fitted estimator (of this package or of scikit-learn), a `MixtureParameters`,
        a tuple ``(weights, means, covariances)``, or what else `mixture_transport` takes. A list
        is several of these: the points then flow to their barycenter (section 5.1 of [1]_).
    estimator : DifferentiableGaussianMixture, default=None
        How to fit the points; a clone is fitted, the estimator itself is not changed. None: as
        many components as the target has (the largest number, if there are several), full
        covariances with ``reg_covar`` 1e-4 times the target's largest variance, below which a
        flat component would have a steep gradient, and free weights. Fixed weights keep
        components from starving, but misfit clusters of other sizes: the loss can then be small
        while the points are far from the target's samples.
    reg, reg_m
        Entropic and marginal relaxation of the loss, as in `mixture_transport`.
    target_weights : array-like of shape (n_targets,), default=None
        Weights λ of several targets: non-negative, sum to one. None: all the same.
    optimizer : {"adam", "gd"}, default="adam"
        ``gd`` moves a point by ``learning_rate * n_samples`` times its gradient: by its share of
        the gradient of its component, however many points there are. ``adam`` [2]_ moves each
        coordinate by about ``learning_rate``, or less where it is nearly there: steep gradients
        of nearly flat components need no care. A point that is not in a batch rests, and so do
        its averages.
    learning_rate : float, default=None
        For ``gd`` a number without unit; 0.5 would move a single component to its target at
        once, and None is 0.1. For ``adam`` a length in units of ``X``; None is 0.05 times the
        distance at the start (the root of the first loss), so that 20 steps could cover it.
    n_steps : int, default=200
        Number of steps.
    batch_fraction : float, default=1.0
        Fraction of the points, drawn anew without replacement, that each step looks at and
        moves (section 4.4 of [1]_).
    mode : {"one_step", "implicit", "unrolled"}, default="one_step"
        How to differentiate EM, as in `DifferentiableGaussianMixture.gradient_wrt_data`.
        ``unrolled`` makes plain steps where the estimator says ``acceleration="auto"``.
    warm_start : bool, default=True
        Whether EM starts from the last step's mixture. With ``one_step`` it then makes a single
        step, of which the gradient is exact: a mixture that follows the points, and the cheapest
        flow. With other modes it goes on to ``max_iter`` or convergence, which is near. False:
        each step starts from the initialization of the estimator.
    callback : callable, default=None
        Called before each move as ``callback(step, X, mixture, loss)``, with the points (a
        read-only view: copy what you keep) and the mixture fitted to them or to a batch of them.
        The flow stops there if it returns True.
    keep_path : bool, default=False
        Whether the result has all positions of the points and all mixtures on the way, for
        `skgmmot.plotting.FlowDisplay` and `skgmmot.plotting.SimplexDisplay`.
    random_state : int, RandomState instance or None, default=None
        Draws the batches, and seeds the default estimator.

    Returns
    -------
    flow : MixtureFlow
        ``X``, the moved points; ``mixture``, fitted to them; ``losses``; with ``keep_path``
        also ``positions`` and ``path``.

    Raises
    ------
    ValueError
        If an argument is not valid, or the numbers of features differ.
    RuntimeError
        If EM cannot be fitted to the points any more, or their mixture not be compared, for
        instance because they have run away: the learning rate is too large.

    Warns
    -----
    ConvergenceWarning
        If fits did not converge, once, with their number and the largest residual; not for the
        single EM steps of a warm start. What else the fits and plans have to tell is passed on.

    See Also
    --------
    mixture_barycenter : The barycenter of mixtures, without points.

    References
    ----------
    .. [1] Boïté, S., Tanguy, E., Delon, J., Desolneux, A., Flamary, R., "Differentiable
       Expectation-Maximisation and applications to Gaussian mixture model optimal transport",
       arXiv:2509.02109, 2025.
    .. [2] Kingma, D. P., Ba, J., "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import mixture_flow
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-2, 1, (100, 2)), rng.normal(2, 1, (100, 2))])
    >>> target = ([0.5, 0.5], [[5.0, 0.0], [9.0, 0.0]], [1.0, 0.2])
    >>> flow = mixture_flow(X, target, optimizer="gd", n_steps=100, random_state=0)
    >>> bool(flow.losses[-1] < 1e-3 * flow.losses[0])
    True
    """
    X = as_rows(X, copy=True, ensure_min_samples=2)
    targets, lam = _checked_targets(target, target_weights, X.shape[1])
    reg, reg_m = checked_regularization(reg, reg_m)
    rng = check_random_state(random_state)
    if estimator is None:
        estimator = _default_estimator(X, targets, random_state)
    own = clone(estimator)
    if mode == "unrolled" and own.acceleration == "auto":
        own.acceleration = None
    fits = FlowFits(own, X.dtype, follows=warm_start and mode == "one_step")
    batch_size = math.ceil(batch_fraction * len(X))
    if batch_size < 2:
        raise ValueError(
            f"batch_fraction: a batch must have 2 points at least; it has {batch_size}."
        )
    shown = X.view()
    shown.flags.writeable = False
    losses, descend = [], None
    positions: list[FloatArray] = []
    path: list[MixtureParameters] = []
    try:
        if warm_start:
            fits.fit(X)
            fits.start_from_the_last()
        for step in range(n_steps):
            whole = batch_size == len(X)
            rows = slice(None) if whole else rng.choice(len(X), batch_size, replace=False)
            with _blamed_on_the_flow(step):
                fits.fit(X[rows])
                loss, cotangent, complaints = _loss(fits.theta, targets, lam, reg, reg_m)
                mixture = None if callback is None else fits.mixture()
            fits.told += complaints
            if callback is not None and callback(step, shown, mixture, loss):
                break
            losses.append(loss)
            if keep_path:
                positions.append(X.copy())
                path.append(fits.theta)
            gradient = fits.pulled_back(cotangent, mode)
            gradient *= batch_size
            if descend is None:
                rate = learning_rate or _default_rate(optimizer, loss)
                descend = _descent(optimizer, X, rate, n_steps, whole)
            descend(rows, gradient)
        with _blamed_on_the_flow(len(losses)):
            fits.fit(X)
            loss, _, complaints = _loss(fits.theta, targets, lam, reg, reg_m)
            mixture = fits.mixture()
        fits.told += complaints
        losses.append(loss)
    finally:  # of what led to an error as well
        warn_of(fits.complaints(), stacklevel=4)  # above validate_params
    mixture.set_params(warm_start=estimator.warm_start, max_iter=estimator.max_iter)
    if not keep_path:
        return MixtureFlow(X, mixture, np.array(losses))
    kept = np.array([*positions, X]), [*path, fits.theta]
    return MixtureFlow(X, mixture, np.array(losses), *kept)


def _checked_targets(target, target_weights, n_features):
    """The targets that have weight, and their weights."""
    several = isinstance(target, list)
    if target_weights is not None and not several:
        raise ValueError("target_weights are for a list of targets; target is not a list.")
    targets = target if several else [as_parameters(target, "target")]
    targets, lam = checked_mixtures(targets, target_weights, names=("target", "target_weights"))
    if targets[0].n_features != n_features:
        raise ValueError(
            f"target must have the {n_features} features of X; it has {targets[0].n_features}."
        )
    return targets, lam


def _default_estimator(X, targets, random_state):
    largest = max(
        np.linalg.eigvalsh(matrices).max()
        for matrices in (family_of(t).matrices(t.covariances, *t.means.shape) for t in targets)
    )
    return DifferentiableGaussianMixture(
        max(target.n_components for target in targets),
        reg_covar=float(1e-4 * largest or 1e-6 * X.var()),  # points have no variance
        random_state=random_state,
    )


@contextmanager
def _blamed_on_the_flow(moves):
    """Points that have moved are no input of the caller's: say what may have become of them."""
    try:
        yield
    except ValueError as error:
        if not moves:
            raise
        raise RuntimeError(
            f"EM or transport failed after {moves} steps of the flow. If the points have run away, "
            f"decrease learning_rate; if a component has become flat, increase reg_covar. {error}"
        ) from error


def _loss(theta, targets, lam, reg, reg_m):
    """Σ_j λ_j MW2²(θ, μ_j), or its variant, its cotangent of θ, and what there is to warn of."""
    loss, parts, complaints = 0.0, (0.0, 0.0, 0.0), []
    for target, weight in zip(targets, lam, strict=True):
        transport, words = transport_between(theta, target, reg, reg_m)
        complaints += words
        loss += float(weight) * transport.value
        gradient = transport.gradient("source")
        parts = [total + weight * part for total, part in zip(parts, gradient, strict=True)]
    return loss, MixtureParameters(*parts, theta.covariance_type), complaints


def _default_rate(optimizer, loss):
    return 0.1 if optimizer == "gd" else 0.05 * (math.sqrt(loss) or 1.0)


def _descent(optimizer, X, rate, n_steps, whole):
    """A function of rows and their gradient that moves these rows of X."""
    if optimizer == "gd":
        return gradient_descent(X, rate)
    # Adam's ε, in units of X as the gradient is: a point that is nearer to its place than a step
    # moves as in gradient descent.
    return adam(X, rate, n_steps, floor=rate, whole=whole)
