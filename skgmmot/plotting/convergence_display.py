"""ConvergenceDisplay: how a fit proceeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ..estimators.mixture import DifferentiableGaussianMixture
from ..parameters import Estimator, FloatArray
from .drawing import axes_of, figure_of, log_scale, one_of
from .palette import next_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

QUANTITIES = ("lower_bound", "gain", "residual")
_FIT = "fit"  # how lines of fits are found in axes


class ConvergenceDisplay:
    """What a fit climbed, what each step gained, or by how much it moved the parameters.

    Use `from_estimator`, which draws it too.

    Parameters
    ----------
    lower_bounds : ndarray of shape (n_steps,)
        What was climbed, before each step.
    residuals : ndarray of shape (n_steps,), default=None
        Scaled change of the parameters in each step.
    converged : bool, default=None
    summary : str, default=""
        For a legend: steps, passes over the data, and the last residual.
    bound_name, step_name : str
        Names of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    line_ : matplotlib Line2D
    end_ : matplotlib Line2D
        A mark at the end: a dot if the fit has converged, a cross if it has not.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.plotting import ConvergenceDisplay
    >>> X = load_iris().data
    >>> mixture = DifferentiableGaussianMixture(3, random_state=0).fit(X)
    >>> display = ConvergenceDisplay.from_estimator(mixture)
    >>> display.ax_.get_ylabel()
    'mean log-likelihood'
    """

    ax_: Axes
    figure_: Figure
    line_: Line2D
    end_: Line2D

    def __init__(
        self,
        *,
        lower_bounds: FloatArray,
        residuals: FloatArray | None = None,
        converged: bool | None = None,
        summary: str = "",
        bound_name: str = "lower bound",
        step_name: str = "step",
    ) -> None:
        self.lower_bounds = lower_bounds
        self.residuals = residuals
        self.converged = converged
        self.summary = summary
        self.bound_name = bound_name
        self.step_name = step_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Estimator,
        X: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw how a fit proceeded.

        Parameters
        ----------
        estimator : DifferentiableGaussianMixture, CoupledGMMFitter or mixture of scikit-learn
            A fitted one, with ``lower_bounds_``.
        X : array-like of shape (n_samples, n_features), default=None
            The data of the fit, which ``quantity="residual"`` needs.
        sample_weight : array-like of shape (n_samples,), default=None
            The weights of the fit, if it had some.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : ConvergenceDisplay
        """
        kind = type(estimator).__name__
        bounds = getattr(estimator, "lower_bounds_", None)
        if bounds is None:
            raise ValueError(
                f"estimator: this {kind} has no lower_bounds_; pass a fitted "
                "DifferentiableGaussianMixture or CoupledGMMFitter, or a mixture of scikit-learn "
                "that has them."
            )
        if not len(bounds):
            raise ValueError(
                f"estimator: this {kind} has made no step: its parameters were given, or "
                "max_iter is 0."
            )
        residuals = None
        if X is not None:
            if not isinstance(estimator, DifferentiableGaussianMixture):
                raise ValueError(
                    "X: residuals of each step are known for a DifferentiableGaussianMixture "
                    f"only; this is a {kind}. Leave X out."
                )
            residuals = estimator._residuals(X, sample_weight)
        coupled = hasattr(estimator, "objective_")
        display = cls(
            lower_bounds=np.array(bounds, dtype=float),
            residuals=residuals,
            converged=getattr(estimator, "converged_", None),
            summary=_summary(estimator, "sweep" if coupled else "step"),
            bound_name=_bound_name(estimator, coupled),
            step_name="sweep" if coupled else "EM step",
        )
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        quantity: Literal["lower_bound", "gain", "residual"] = "lower_bound",
        name: str | None = None,
        line_kw: dict[str, Any] | None = None,
        end_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw one quantity over the steps.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure. Several fits can be drawn into one.
        quantity : {"lower_bound", "gain", "residual"}, default="lower_bound"
            What the fit climbed, the log-likelihood for instance or the objective of a coupled
            fit; the gain of each step in it, or the scaled change of the parameters in each step,
            both on a logarithmic scale.
        name : str, default=None
            Name of the fit in the legend, where its steps, passes over the data and last residual
            stand as well.
        line_kw, end_kw : dict, default=None
            Passed on to ``plot`` of the line, and of the mark at its end.

        Returns
        -------
        display : ConvergenceDisplay
        """
        one_of(quantity, QUANTITIES, "quantity")
        if quantity == "residual" and self.residuals is None:
            raise ValueError(
                "quantity='residual' needs the data of the fit: pass X to from_estimator."
            )
        ax = axes_of(self, ax)
        values: Any = {
            "lower_bound": self.lower_bounds,
            "gain": np.diff(self.lower_bounds),
            "residual": self.residuals,
        }[quantity]
        first = 1 if quantity == "gain" else 0
        steps = np.arange(first, first + len(values))
        label = ": ".join(filter(None, (name, self.summary))) or None
        own = {"color": next_color(ax, _FIT), "linewidth": 1.5, "label": label, "gid": _FIT}
        (self.line_,) = ax.plot(steps, values, **own | (line_kw or {}))
        drawn = np.flatnonzero(values > 0) if quantity != "lower_bound" else np.arange(len(values))
        own = {"color": self.line_.get_color(), "marker": "x" if self.converged is False else "o"}
        own |= {"markersize": 6, "linestyle": "none"}
        (self.end_,) = ax.plot(steps[drawn[-1:]], values[drawn[-1:]], **own | (end_kw or {}))
        if quantity != "lower_bound":
            log_scale(ax)
        ylabel = {
            "lower_bound": self.bound_name,
            "gain": f"gain in {self.bound_name}",
            "residual": "residual",
        }[quantity]
        ax.set(xlabel=self.step_name, ylabel=ylabel)
        if label:
            ax.legend()
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self


def _summary(estimator, step_name):
    """Steps, passes over the data where they are more, and the last residual, in words."""
    n_iter = estimator.n_iter_
    words = [f"{n_iter} {step_name}{'' if n_iter == 1 else 's'}"]
    n_evaluations = getattr(estimator, "n_evaluations_", n_iter)
    if n_evaluations != n_iter:
        words.append(f"{n_evaluations} passes")
    if hasattr(estimator, "residual_"):
        words.append(f"residual {estimator.residual_:.0e}")
    if not getattr(estimator, "converged_", True):
        words.append("not converged")
    return ", ".join(words)


def _bound_name(estimator, coupled):
    if coupled:
        return "objective"
    options = estimator.get_params()
    temperature = np.ravel(options.get("temperature", 1.0))
    plain = options.get("e_step", "softmax") == "softmax" and (temperature == 1.0).all()
    return "mean log-likelihood" if plain else "lower bound"
