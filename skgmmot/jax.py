"""Mixtures fitted by EM, and MW2 between mixtures, as functions of arrays that JAX differentiates.

JAX is imported here and nowhere else: ``import skgmmot`` does without.
"""

from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from .bridges.jax_fit import FitStatus, fitted
from .bridges.jax_transport import distance, read
from .parameters import CovarianceType, GradientMode, PenaltiesLike

__all__ = [
    "FitStatus",
    "FittedMixture",
    "check",
    "fit_mixture",
    "mixture_loss",
    "mixture_wasserstein",
]

_WORDS = {
    FitStatus.NOT_CONVERGED: "EM did not converge: increase max_iter or residual_tol",
    FitStatus.FAILED: (
        "no mixture could be fitted: X, sample_weight or initial are not valid, or a component "
        "collapsed"
    ),
    FitStatus.DOUBTFUL: "a component lost all its mass, or some restarts failed",
}


class FittedMixture(NamedTuple):
    """What `fit_mixture` returns: a tuple of arrays, which JAX takes apart as it does any other.

    Under ``jax.vmap`` each has the axis of the sets in front.

    Attributes
    ----------
    weights : jax.Array of shape (n_components,)
    means : jax.Array of shape (n_components, n_features)
    covariances : jax.Array
        Of the shape that belongs to ``covariance_type``, see `~skgmmot.MixtureParameters`.
    status : jax.Array of shape (), int32
        A `FitStatus`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import fit_mixture
    >>> X = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 2.0]])
    >>> fit_mixture(X, covariance_type="spherical")._fields
    ('weights', 'means', 'covariances', 'status')
    """

    weights: jax.Array
    means: jax.Array
    covariances: jax.Array
    status: jax.Array


_Checked = TypeVar("_Checked")


def check(fitted: _Checked, *, accept: tuple[FitStatus, ...] = ()) -> _Checked:
    """Raise an error if fits have not ended well; for results, outside of ``jax.jit``.

    Parameters
    ----------
    fitted : FittedMixture or array of int
        What `fit_mixture` has returned, also under ``jax.vmap``, or its ``status``.
    accept : tuple of FitStatus, default=()
        What is let pass beside ``OK``.

    Returns
    -------
    fitted : FittedMixture or array of int
        The same object.

    Raises
    ------
    RuntimeError
        If a fit has another status; it counts them and says what to do.
    TypeError
        If the status is not known yet, within ``jax.jit`` and other transformations.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import check, fit_mixture
    >>> X = jnp.array([[0.0], [1.0], [jnp.nan]])
    >>> check(fit_mixture(X))
    Traceback (most recent call last):
        ...
    RuntimeError: 1 of 1 fits: no mixture could be fitted: X, ...
    """
    status = fitted.status if isinstance(fitted, FittedMixture) else fitted
    if isinstance(status, jax.core.Tracer):
        raise TypeError(
            "check needs a status that is known: return the status from the function that is "
            "transformed by jax.jit, jax.vmap or jax.grad, and check it there."
        )
    statuses = np.asarray(status).ravel()
    told = [
        f"{(statuses == bad).sum()} of {statuses.size} fits: {words}"
        for bad, words in _WORDS.items()
        if bad not in accept and (statuses == bad).any()
    ]
    if told:
        raise RuntimeError(
            "; ".join(told) + ". DifferentiableGaussianMixture().fit, with the same data and "
            "options, tells more."
        )
    return fitted


def fit_mixture(
    X: Any,
    n_components: int | None = None,
    *,
    initial: Any = None,
    covariance_type: CovarianceType = "full",
    mode: GradientMode = "implicit",
    sample_weight: Any = None,
    gradient_tol: float = 1e-6,
    **options: Any,
) -> FittedMixture:
    """Fit a Gaussian mixture by EM, as a function that JAX differentiates.

    It is what `~skgmmot.DifferentiableGaussianMixture` computes, called back from compiled code.
    ``jax.jit``, ``jax.vmap``, ``jax.grad``, ``jax.jvp``, ``jax.jacfwd``, ``jax.jacrev`` and their
    compositions work.

    Parameters
    ----------
    X : jax.Array of shape (n_samples, n_features)
        float32 or float64. There is a derivative with respect to it.
    n_components : int, default=None
        Number of components. None: one, or as many as ``initial`` has.
    initial : tuple (weights, means, covariances), default=None
        Where EM starts, in the place of an initialization. ``mode="unrolled"`` has a derivative
        with respect to it. In the other modes it plays no part, and the derivative is zero.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance matrix for each component, one for all, a diagonal or a single variance.
    mode : {"implicit", "unrolled", "one_step"}, default="implicit"
        How EM is differentiated, see :ref:`gradients`. ``unrolled`` fits by plain EM.
    sample_weight : jax.Array of shape (n_samples,), default=None
        Non-negative weights. There is a derivative with respect to them.
    gradient_tol : float, default=1e-6
        Relative accuracy asked of ``implicit``, ``tol`` of
        `~skgmmot.DifferentiableGaussianMixture.gradient_wrt_data`.
    **options
        Further parameters of `~skgmmot.DifferentiableGaussianMixture`, such as
        ``means_init``, ``residual_tol`` and ``max_iter``, but for ``warm_start`` and ``keep_path``.
        They are constants. ``random_state`` is 0 by default: a function in JAX has no memory.

    Returns
    -------
    mixture : FittedMixture
        ``weights``, ``means`` and ``covariances`` of the dtype of ``X``, and a ``status``.

    Raises
    ------
    TypeError
        If ``X`` is neither float32 nor float64, an option is unknown, or not a constant.
    ValueError
        If a shape or an option is not valid. What depends on numbers ends in a ``status``: see
        `check`.
    NotImplementedError
        For derivatives of derivatives.

    Warns
    -----
    ConvergenceWarning
        If a derivative of ``implicit`` is taken where EM has not converged, or where the mixture
        is not determined by the data. Where that is made an error, the derivative is NaN.

    See Also
    --------
    mixture_wasserstein : Compares mixtures.
    mixture_loss : The two in one.

    Notes
    -----
    Without 64-bit types (``jax_enable_x64``) X is float32, and so is what comes back. Sums are
    float64 inside, also of derivatives, which start from parameters that were not rounded.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import fit_mixture
    >>> X = jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 2.0]])
    >>> jax.grad(lambda X: fit_mixture(X).means[0, 1])(X).round(4) + 0.0
    Array([[0.    , 0.3333],
           [0.    , 0.3333],
           [0.    , 0.3333]], dtype=float32)
    """
    found = fitted(
        X,
        n_components,
        initial,
        sample_weight,
        covariance_type=covariance_type,
        mode=mode,
        gradient_tol=gradient_tol,
        **options,
    )
    return FittedMixture(*found)


def mixture_wasserstein(
    a: Any,
    b: Any,
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    covariance_type: CovarianceType | None = None,
) -> jax.Array:
    """Mixture-Wasserstein distance MW2 between two mixtures, as a function that JAX differentiates.

    It is `skgmmot.mixture_wasserstein`, called back from compiled code. ``jax.jit``, ``jax.vmap``,
    ``jax.grad``, ``jax.jvp`` and their compositions work.

    Parameters
    ----------
    a, b : FittedMixture, tuple, MixtureParameters or estimator
        What `fit_mixture` returns, a tuple ``(weights, means, covariances)`` of arrays or a
        `~skgmmot.MixtureParameters`, with a derivative with respect to each array; or, as a
        constant, a fitted mixture, of this package or of scikit-learn.
    squared : bool, default=False
        Whether to return the squared distance, which is smooth also where it is zero. Of the
        distance the gradient there is zero, one of its subgradients.
    reg, reg_m : float, and float, tuple of two floats or None
        Weights of the entropy and of the marginal terms, see `~skgmmot.mixture_transport`.
        Constants.
    covariance_type : {"full", "tied", "diag", "spherical"}, default=None
        That of tuples whose shapes leave it open, since there are as many components as features.

    Returns
    -------
    distance : jax.Array of shape ()
        float32 or float64, as the mixtures are. NaN if a mixture is none: if its weights do not sum
        to one, a covariance is not positive semi-definite, or a number is not finite.

    Raises
    ------
    ValueError
        If a shape does not fit, or ``reg`` or ``reg_m`` is not a number in its range.
    NotImplementedError
        For derivatives of derivatives.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal.

    Notes
    -----
    The derivative in the weights is one in directions that sum to zero; its gradient has mean zero.
    Where several potentials are optimal it is one of the subgradients.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import mixture_wasserstein
    >>> target = (jnp.ones(1), jnp.array([[3.0, 4.0]]), jnp.ones(1))
    >>> def distance(mean):
    ...     return mixture_wasserstein((jnp.ones(1), mean[None], jnp.ones(1)), target)
    >>> jax.value_and_grad(distance)(jnp.zeros(2))
    (Array(5., dtype=float32), Array([-0.6, -0.8], dtype=float32))
    """
    a, b = read(a, "a", covariance_type), read(b, "b", covariance_type)
    return distance(a, b, squared=squared, reg=reg, reg_m=reg_m)


def mixture_loss(
    X: Any,
    target: Any,
    n_components: int | None = None,
    *,
    squared: bool = True,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
    initial: Any = None,
    covariance_type: CovarianceType = "full",
    mode: GradientMode = "implicit",
    sample_weight: Any = None,
    gradient_tol: float = 1e-6,
    **options: Any,
) -> jax.Array:
    """MW2 from the mixture fitted to points to a target, a loss of the points.

    Parameters
    ----------
    X : jax.Array of shape (n_samples, n_features)
        float32 or float64.
    target : FittedMixture, tuple, MixtureParameters or estimator
        As in `mixture_wasserstein`.
    n_components : int, default=None
        Number of components of the mixture that is fitted, as in `fit_mixture`.
    squared : bool, default=True
        Whether the loss is the squared distance, as that of `~skgmmot.mixture_flow`.
    reg, reg_m
        As in `mixture_wasserstein`.
    initial, covariance_type, mode, sample_weight, gradient_tol, **options
        As in `fit_mixture`.

    Returns
    -------
    loss : jax.Array of shape (), of the dtype of ``X``
        NaN where no mixture could be fitted; the status of `fit_mixture` tells why.

    See Also
    --------
    skgmmot.mixture_flow : Points that move down this loss, without JAX.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from skgmmot.jax import mixture_loss
    >>> X = jnp.array([[0.0], [2.0], [4.0]])
    >>> target = (jnp.ones(1), jnp.array([[5.0]]), jnp.array([[[8 / 3]]]))
    >>> loss, gradient = jax.value_and_grad(mixture_loss)(X, target)
    >>> loss.round(4), gradient.round(4)
    (Array(9., dtype=float32), Array([[-2.],
           [-2.],
           [-2.]], dtype=float32))
    """
    mixture = fit_mixture(
        X,
        n_components,
        initial=initial,
        covariance_type=covariance_type,
        mode=mode,
        sample_weight=sample_weight,
        gradient_tol=gradient_tol,
        **options,
    )
    source = read(mixture, "X", covariance_type)
    goal = read(target, "target", covariance_type, source.means.dtype)
    return distance(source, goal, squared=squared, reg=reg, reg_m=reg_m)
