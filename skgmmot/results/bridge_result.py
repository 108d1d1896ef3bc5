"""A process from one mixture to another: bridges between Gaussians, put together by a plan.

With the masses P_kl of the plan and the bridge between components k and l of `gaussian_bridges`,
which at time t has the density g_kl(t, x) and the drift u_kl(t, x), let

    p(t, x) = Σ_kl P_kl g_kl(t, x),
    u(t, x) = Σ_kl p_kl(t, x) u_kl(t, x),    p_kl(t, x) = P_kl g_kl(t, x) / p(t, x).

Each bridge solves its Fokker-Planck equation ∂g/∂t = − ∇·(u g) + ½ ε² Δg, which is linear in g and
u g, so p solves that of u: the process dX = u(t, X) dt + ε dW that starts in p(0, ·), the source,
has the density p(t, ·) at all times and ends in the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_real
from ..em.densities import log_density, responsibilities
from ..families import DIAGONAL
from ..parameters import CovarianceType, FloatArray, MixtureParameters, RandomState, in_dtype
from ..reprs import count, html_repr, short_repr
from ..samples.device_arrays import module_of
from ..transport.gaussian_bridges import covariances_at, gaussian_bridges, means_at, slopes_at
from ..transport.maps import mean_images, moving_pairs
from .posteriors import asking, given_samples
from .transport_result import MixtureTransport


@dataclass(frozen=True, eq=False, repr=False)
class MixtureBridge:
    """A process that carries one Gaussian mixture to another, as `mixture_bridge` returns it.

    dX = u(t, X) dt + ε dW for t from 0 to 1, with the source as the law of X_0 and the target as
    that of X_1.

    Attributes
    ----------
    transport : MixtureTransport
        The two mixtures, ``transport.source`` and ``transport.target``, and the plan between
        their components.
    epsilon : float
        ε, the standard deviation of the noise in a unit of time.

    Examples
    --------
    >>> from skgmmot import mixture_bridge
    >>> a, b = ([1.0], [[0.0, 0.0]], [1.0]), ([1.0], [[3.0, 4.0]], [9.0])
    >>> bridge = mixture_bridge(a, b, epsilon=1.0)
    >>> bridge.interpolate(0.5).means
    array([[1.5, 2. ]])
    >>> bridge.drift([[1.5, 2.0]], 0.5)
    array([[3., 4.]])
    """

    transport: MixtureTransport
    epsilon: float

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        n_source, n_target = self.transport.plan.shape
        return f"{n_source} to {count(n_target, 'component')}, epsilon {self.epsilon:.6g}"

    def interpolate(self, t: float) -> MixtureParameters:
        """The mixture at time t: the law of X_t.

        Each pair of components that mass moves between becomes a component, with the mass P_kl as
        its weight. For ε = 0 it is `MixtureTransport.interpolate`; noise makes the mixture wider
        on the way, and not at the ends.

        Parameters
        ----------
        t : float
            In [0, 1].

        Returns
        -------
        mixture : MixtureParameters
            In float64, of type "diag" if the covariances of both mixtures are diagonal by type,
            else "full".

        Raises
        ------
        ValueError
            If t is not in [0, 1].

        Examples
        --------
        >>> from skgmmot import mixture_bridge
        >>> a, b = ([1.0], [[0.0]], [1.0]), ([1.0], [[2.0]], [1.0])
        >>> [mixture_bridge(a, b, epsilon=e).interpolate(0.5).covariances.item() for e in (0, 1)]
        [1.0, 1.0590169943749475]
        """
        _refuse_other_times(t)
        covariances = covariances_at(self._bridges, t)
        kind: CovarianceType = "full" if covariances.ndim == 3 else "diag"
        return MixtureParameters(self._weights, means_at(self._bridges, t), covariances, kind)

    def log_density(self, X: ArrayLike, t: float) -> FloatArray:
        """Log density of X_t.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        t : float
            In [0, 1].

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            float32 if ``X`` is, else float64.

        Raises
        ------
        ValueError
            If ``X`` or t cannot be used, or a covariance at time t is singular. With noise that
            can be only at t = 0 and t = 1.
        """
        mixture = self.interpolate(t)
        with self._given(X) as rows:
            density = self._asking(log_density, rows.astype(np.float64, copy=False), mixture, t)
            found = density(slice(None)) if len(rows) else module_of(rows).empty(0)
            return found.astype(rows.dtype, copy=False)

    def drift(self, X: ArrayLike, t: float) -> FloatArray:
        """The drift u(t, x): the mean rate at which what is at x moves on at time t.

        It is the mean of the drifts of the bridges between pairs of components, each with the
        probability that a sample at x is of that pair.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where.
        t : float
            When, in [0, 1].

        Returns
        -------
        drift : ndarray of shape (n_samples, n_features)
            float32 if ``X`` is, else float64.

        Raises
        ------
        ValueError
            If ``X`` or t cannot be used, or a covariance at time t is singular. With noise that
            can be only at t = 0 and t = 1.
        """
        _refuse_other_times(t)
        with self._given(X) as rows:
            drift = self._drift(rows.astype(np.float64, copy=False), t)
            return drift.astype(rows.dtype, copy=False)

    def sample_paths(
        self,
        X: ArrayLike,
        *,
        n_steps: int = 50,
        times: Sequence[float] | NDArray[np.floating] | None = None,
        random_state: RandomState | np.random.Generator = None,
    ) -> FloatArray:
        """Draw paths of the process that start at samples.

        From samples of the source they arrive at samples of the target, up to the error of the
        discretization. Each step is one of the Euler-Maruyama method, with the mean of the drifts
        at its start and at its end in the place of the former (Heun's method). At ε = 0 nothing
        is random: the paths are those of the flow of the drift.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples of the source. On a CUDA device the paths are there as well.
        n_steps : int, default=50
            Number of steps. The error of variances is about in proportion to 1 / n_steps², and at
            the default below one percent where ε is at most five times the smallest standard
            deviation of the target. Steps become shorter towards the end, where noise has to be
            steered to its goal: the i-th ends at s (2 − s) with s = i / n_steps.
        times : array-like of shape (n_times,), default=None
            Increasing times in [0, 1] at which the paths are wanted. They are added to those of
            the steps, and the paths end at the last. None: all ``n_steps + 1`` of the steps.
        random_state : int, Generator, RandomState or None, default=None
            Makes the noise reproducible, which is drawn on the host.

        Returns
        -------
        paths : ndarray of shape (n_times, n_samples, n_features)
            float32 if ``X`` is, else float64.

        Raises
        ------
        ValueError
            If an argument cannot be used, or a covariance of the source is singular. The target
            may be singular, if ε > 0.

        Examples
        --------
        >>> import numpy as np
        >>> from skgmmot import mixture_bridge
        >>> a, b = ([1.0], [[0.0]], [1.0]), ([1.0], [[10.0]], [4.0])
        >>> X = np.random.default_rng(0).normal(size=(1000, 1))
        >>> bridge = mixture_bridge(a, b, epsilon=0.5)
        >>> paths = bridge.sample_paths(X, times=[0.0, 0.5, 1.0], random_state=0)
        >>> paths.shape, paths.mean(axis=1).round().ravel() + 0.0, paths[-1].std().round().item()
        ((3, 1000, 1), array([ 0.,  5., 10.]), 2.0)
        """
        steps, kept = _steps_and_times(n_steps, times)
        rng = random_state
        if not isinstance(rng, np.random.RandomState):
            rng = np.random.default_rng(random_state)
        with self._given(X) as rows:
            moved = rows.astype(np.float64)
            paths = module_of(rows).empty((len(kept), *rows.shape), dtype=rows.dtype)
            n_kept = 0
            for t, h in zip(steps, [*np.diff(steps), None], strict=True):
                if t == kept[n_kept]:
                    paths[n_kept] = moved
                    n_kept += 1
                if h is not None:
                    self._step(moved, t, h, rng)
            return paths

    def _step(self, X, t, h, rng):
        """Move X from time t by a step of length h, in place."""
        drift = self._drift(X, t)
        if self.epsilon:
            noise = rng.normal(scale=self.epsilon * np.sqrt(h), size=X.shape)
            X += module_of(X).asarray(noise)
        if t + h < 1:  # at the end the target may have no density; that step is the shortest
            drift = (drift + self._drift(X + h * drift, t + h)) / 2
        X += h * drift

    def _drift(self, X, t):
        """The drift, of what was checked."""
        mixture = self.interpolate(t)
        posterior = self._asking(responsibilities, X, mixture, t)
        slopes = slopes_at(self._bridges, t)
        if slopes.ndim == 2:
            slopes = DIAGONAL.matrices(slopes, *slopes.shape)
        velocities = self._bridges.target_means - self._bridges.means
        return mean_images(X, mixture.means, slopes, velocities, posterior)

    def _asking(self, question, X, mixture, t):
        whose = f"of the bridge at t = {t:.6g}"
        cure = "Regularize the covariances of both mixtures (reg_covar)."
        if 0 < t < 1:
            cure = "Take epsilon > 0, or regularize the covariances of both mixtures (reg_covar)."
        return asking(question, X, mixture, whose, cure)

    def _given(self, X):
        return given_samples(X, self.transport.source.n_features)

    @cached_property
    def _pairs(self):
        return moving_pairs(self.transport.plan)

    @cached_property
    def _weights(self):
        weights = self.transport.plan[self._pairs]
        return weights / weights.sum()

    @cached_property
    def _bridges(self):
        mixtures = self.transport.source, self.transport.target
        source, target = (in_dtype(mixture, np.float64) for mixture in mixtures)
        return gaussian_bridges(source, target, *self._pairs, self.epsilon)


def _refuse_other_times(t):
    if not isinstance(t, Real) or not 0 <= t <= 1:
        raise ValueError(f"t must be a number from 0 to 1; got {t!r}.")


def _steps_and_times(n_steps, times):
    """The times of the steps, in order, and those of them at which paths are wanted."""
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)) or n_steps < 1:
        raise ValueError(f"n_steps must be a positive integer; got {n_steps!r}.")
    s = np.linspace(0.0, 1.0, n_steps + 1)
    steps = s * (2 - s)
    if times is None:
        return steps, steps
    kept = as_real(times, "times")
    if (
        kept.ndim != 1
        or not len(kept)
        or not ((kept >= 0) & (kept <= 1)).all()
        or (np.diff(kept) <= 0).any()
    ):
        raise ValueError(f"times must be increasing numbers from 0 to 1; got {times!r}.")
    steps = np.union1d(steps, kept)
    return steps[steps <= kept[-1]], kept
