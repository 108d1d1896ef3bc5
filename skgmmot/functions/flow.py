"""Points that flow down a loss of the mixture fitted to them (Boïté et al. 2025, Algorithm 3).

With θ(X) the mixture that EM fits to n points X, and mixtures μ_j with weights λ_j,

    L(X) = Σ_j λ_j MW2²(θ(X), μ_j),        x_i ← x_i − η · n ∂L/∂x_i.

One point moves θ by 1/n of its own motion: the factor n makes the step a property of the
mixtures. For a single component that flows to a mean m', n ∂L/∂x_i = 2 (m − m'), so that
gradient descent with η = 1/2 would be there in one step, whatever the number of points.

Of target samples Y, and of a random batch B of the points and C of the samples, a step follows

    ℓ(B, C) = MW2²(F(θ, X_B), F(ν, Y_C)),

where EM starts from what the last step has left, θ and ν, which are constants here. So the
gradient of ℓ is an unbiased estimate of that of its expectation over batches, E ℓ. That is not the
loss of all points: mixtures of two batches differ even where X = Y, and E ℓ > 0 there.
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

from ..checks import RANDOM_STATE, Interval, checked_regularization
from ..estimators.device_input import beside
from ..estimators.input_rows import in_parts
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
from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import device_of, index_for, is_on_device, module_of
from ..samples.rows import ChunkedRows
from .descents import adam, gradient_descent
from .flow_fits import FlowFits
from .flow_targets import GivenTargets, SampledTarget, batch_of, loss_of, size_of_batch
from .validation import as_rows, validated


@dataclass(frozen=True, eq=False, repr=False)
class MixtureFlow:
    """Where points have flowed to, as `mixture_flow` returns it.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        The moved points. Where those of the start are on a CUDA device, these and ``positions``
        are arrays of CuPy.
    mixture : DifferentiableGaussianMixture
        The mixture fitted to them, with the parameters of the estimator given.
    losses : ndarray of shape (n_steps + 1,)
        The loss before each step, of the step's batches, and after the last, of all points.
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
        "target_batch_fraction": [Interval(Real, 0, 1, closed="right")],
        "mode": [StrOptions({"implicit", "unrolled", "one_step"})],
        "warm_start": ["boolean"],
        "callback": [None, callable],
        "keep_path": ["boolean"],
        "random_state": RANDOM_STATE,
    }
)
def mixture_flow(
    X: ArrayLike,
    target: MixtureLike | list[MixtureLike] | None = None,
    *,
    target_samples: ArrayLike | None = None,
    estimator: DifferentiableGaussianMixture | None = None,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    target_weights: ArrayLike | None = None,
    optimizer: Literal["adam", "gd"] = "adam",
    learning_rate: float | None = None,
    n_steps: int = 200,
    batch_fraction: float = 1.0,
    target_batch_fraction: float = 1.0,
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
        They are copied to memory, in which they move; `ChunkedRows` are refused. Points on a CUDA
        device are copied there, and move there.
    target : mixture or list of mixtures, default=None
        Where to: a fitted estimator (of this package or of scikit-learn), a `MixtureParameters`,
        a tuple ``(weights, means, covariances)``, or what else `mixture_transport` takes. A list
        is several of these: the points then flow to their barycenter (section 5.1 of [1]_).
    target_samples : array-like of shape (n_target_samples, n_features), default=None
        Where to, in the place of ``target``: to the mixture of these samples, which a clone of
        ``estimator`` fits. What is large and not in memory is read in chunks, as by
        `DifferentiableGaussianMixture.fit`. An array has to be where ``X`` is.
    estimator : DifferentiableGaussianMixture, default=None
        How to fit the points; a clone is fitted, the estimator itself is not changed. None: as
        many components as the target has (the largest number, if there are several), full
        covariances with ``reg_covar`` 1e-4 times the target's largest variance, below which a
        flat component would have a steep gradient, and free weights. Fixed weights keep
        components from starving, but misfit clusters of other sizes: the loss can then be small
        while the points are far from the target's samples. ``target_samples`` need one, as only
        it says how many components there are.
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
    target_batch_fraction : float, default=1.0
        Fraction of ``target_samples``, drawn likewise, that the target of each step is fitted to;
        with ``warm_start`` that fit starts from the last step's target, and with ``one_step`` it
        is a single EM step. The gradient is then an unbiased estimate of that of the expected
        loss of batches, which stays above zero: mixtures of two batches differ. With 1.0 the
        target is fitted once. The last of the ``losses`` is to the mixture of all samples. Of
        samples in chunks each step reads those that a row is drawn from, which are nearly all;
        of a memory map only the rows themselves.
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
        view, read-only on the host: copy what you keep) and the mixture fitted to them or to a
        batch of them. The flow stops there if it returns True.
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
        If an argument is not valid, the numbers of features differ, or there is not one of
        ``target`` and ``target_samples``.
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
    X = as_rows(X, copy=True, ensure_min_samples=2, or_device=True)
    reg, reg_m = checked_regularization(reg, reg_m)
    rng = check_random_state(random_state)
    follows = warm_start and mode == "one_step"
    if target_samples is None:
        if target is None:
            raise ValueError("mixture_flow needs a target, or target_samples; both are None.")
        if target_batch_fraction != 1:
            raise ValueError("target_batch_fraction is for target_samples, which are None.")
        targets = GivenTargets(target, target_weights, X.shape[1])
        if estimator is None:
            estimator = _default_estimator(X, targets.mixtures, random_state)
    else:
        if target is not None or target_weights is not None:
            raise ValueError(
                "target_samples are instead of target and target_weights: give one or the other."
            )
        if estimator is None:
            raise ValueError("target_samples need an estimator, for its number of components.")
        targets = _sampled_target(target_samples, estimator, X, target_batch_fraction, follows)
    own = _plain_if_unrolled(clone(estimator), mode)
    fits = FlowFits(own, X.dtype, follows)
    batch_size = size_of_batch(batch_fraction, len(X), "batch_fraction")
    shown = X.view()
    if not is_on_device(X):
        shown.flags.writeable = False
    losses, descend = [], None
    positions: list[FloatArray] = []
    path: list[MixtureParameters] = []
    try:
        with device_of(X):
            targets.start(warm_start)
            if warm_start:
                fits.fit(X)
                fits.start_from_the_last()
            for step in range(n_steps):
                rows = index_for(X, batch_of(len(X), batch_size, rng))
                with _blamed_on_the_flow(step):
                    fits.fit(X[rows])
                    targets.draw(rng)
                    loss, cotangent, complaints = loss_of(fits.theta, targets, reg, reg_m)
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
                    descend = _descent(optimizer, X, rate, n_steps, batch_size == len(X))
                descend(rows, gradient)
            with _blamed_on_the_flow(len(losses)):
                fits.fit(X)
                targets.take_all()
                loss, _, complaints = loss_of(fits.theta, targets, reg, reg_m)
                mixture = fits.mixture()
            fits.told += complaints
            losses.append(loss)
            kept = (module_of(X).stack([*positions, X]), [*path, fits.theta]) if keep_path else ()
    finally:  # of what led to an error as well
        told = fits.complaints() | targets.complaints()
        warn_of(told, stacklevel=4)  # above validate_params
    mixture.set_params(warm_start=estimator.warm_start, max_iter=estimator.max_iter)
    return MixtureFlow(X, mixture, np.array(losses), *kept)


def _sampled_target(Y, estimator, X, fraction, follows):
    """The samples that a flow goes to, checked, and who fits them."""
    Y = in_parts(Y)
    if not isinstance(Y, (ChunkedRows, DaskRows)):
        Y = as_rows(Y, ensure_min_samples=2, input_name="target_samples", or_device=True)
        beside(Y, "target_samples", X)
    if Y.shape[1] != X.shape[1]:
        raise ValueError(
            f"target_samples must have the {X.shape[1]} features of X; they have {Y.shape[1]}."
        )
    least = max(2, estimator.n_components)
    name = "target_batch_fraction" if fraction < 1 else "target_samples"
    size = size_of_batch(fraction, len(Y), name, least)
    return SampledTarget(Y, FlowFits(clone(estimator), Y.dtype, follows, "the target"), size)


def _plain_if_unrolled(estimator, mode):
    """An estimator that makes plain steps where all steps are differentiated."""
    if mode == "unrolled" and estimator.acceleration == "auto":
        estimator.acceleration = None
    return estimator


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


def _default_rate(optimizer, loss):
    return 0.1 if optimizer == "gd" else 0.05 * (math.sqrt(loss) or 1.0)


def _descent(optimizer, X, rate, n_steps, whole):
    """A function of rows and their gradient that moves these rows of X."""
    if optimizer == "gd":
        return gradient_descent(X, rate)
    # Adam's ε, in units of X as the gradient is: a point that is nearer to its place than a step
    # moves as in gradient descent.
    return adam(X, rate, n_steps, floor=rate, whole=whole)
