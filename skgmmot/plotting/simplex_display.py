"""SimplexDisplay: how the weights of a mixture change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_real
from ..functions.flow import MixtureFlow
from ..parameters import FloatArray, MixtureParameters
from .drawing import axes_of, figure_of, one_of
from .palette import GRAY, SMALL_TEXT, component_colors, line_style, next_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
_FRAME, _PATH = "frame of a simplex", "path in a simplex"  # how they are found in axes
_MOST_INSIDE = 6  # entries of a legend; longer ones stand beside the axes


class SimplexDisplay:
    """Paths of weights: in the triangle for three components, as lines over steps for others.

    A corner of the triangle is a mixture that has only that component; a point of it divides the
    weight by its nearness to the corners.

    Use `from_weights` or `from_flow`, which draw it too.

    Parameters
    ----------
    weights : ndarray of shape (n_steps, n_components)
        Each row sums to one.
    target : ndarray of shape (n_components,), default=None
        Where the weights should go.
    names : sequence of str, default=None
        Of the components; None numbers them.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The path in the triangle, or a line for each component.
    start_, end_ : matplotlib Line2D or None
        Marks at both ends of the path in the triangle.
    target_ : list of matplotlib Line2D
        A mark in the triangle, or a line for each component.

    Examples
    --------
    >>> from skgmmot.plotting import SimplexDisplay
    >>> display = SimplexDisplay.from_weights([[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    >>> [text.get_text() for text in display.ax_.texts]
    ['component 0', 'component 1', 'component 2']
    """

    ax_: Axes
    figure_: Figure
    lines_: list[Line2D]
    start_: Line2D | None
    end_: Line2D | None
    target_: list[Line2D]

    def __init__(
        self,
        *,
        weights: FloatArray,
        target: FloatArray | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.weights = weights
        self.target = target
        self.names = names

    @classmethod
    def from_weights(
        cls,
        weights: ArrayLike,
        *,
        target: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw a sequence of weights.

        Parameters
        ----------
        weights : array-like of shape (n_steps, n_components)
            Each row non-negative and of sum one.
        target : array-like of shape (n_components,), default=None
            Where the weights should go.
        names : sequence of str, default=None
            Of the components; None numbers them.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : SimplexDisplay
        """
        weights = _checked(weights, "weights", 2)
        n_components = weights.shape[1]
        if target is not None:
            target = _checked(target, "target", 1)
            if len(target) != n_components:
                raise ValueError(
                    f"target must have the {n_components} components of weights; it has "
                    f"{len(target)}."
                )
        if names is not None and len(names) != n_components:
            raise ValueError(f"names: there are {n_components} components; got {len(names)} names.")
        return cls(weights=weights, target=target, names=names).plot(ax, **options)

    @classmethod
    def from_flow(
        cls,
        flow: MixtureFlow,
        *,
        order: Sequence[int] | Callable[[MixtureParameters], Sequence[int]] | None = None,
        target: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw the weights of the mixtures along a flow.

        Parameters
        ----------
        flow : MixtureFlow
            As `skgmmot.mixture_flow` returns it with ``keep_path=True``.
        order : sequence of int or callable, default=None
            Which component comes first, second, …, since EM numbers them as it likes. None: as
            they are. A function of the mixture is asked at every step: a flow with
            ``warm_start=False`` may number its components anew.
        target : array-like of shape (n_components,), default=None
            Where the weights should go, in that order.
        names : sequence of str, default=None
            Of the components in that order; None numbers them.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : SimplexDisplay
        """
        path = getattr(flow, "path", None)
        if path is None:
            raise ValueError(
                "flow: the mixtures on the way were not kept. Call mixture_flow with "
                "keep_path=True."
            )
        weights = np.array([theta.weights for theta in path], dtype=float)
        if order is not None:
            orders = [order(theta) if callable(order) else order for theta in path]
            numbers = list(range(weights.shape[1]))
            for found in orders:
                if sorted(found) != numbers:
                    raise ValueError(
                        f"order must hold each of the numbers 0 to {numbers[-1]} once; got "
                        f"{found!r}."
                    )
            weights = np.take_along_axis(weights, np.array(orders), axis=1)
        return cls.from_weights(weights, target=target, names=names, ax=ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        kind: Literal["auto", "triangle", "lines"] = "auto",
        name: str | None = None,
        line_kw: dict[str, Any] | None = None,
        target_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure. Into a triangle that is there more paths are drawn.
        kind : {"auto", "triangle", "lines"}, default="auto"
            "triangle" is for three components, for which "auto" chooses it.
        name : str, default=None
            Name of a path in a legend.
        line_kw, target_kw : dict, default=None
            Passed on to ``plot`` of the weights, and of the target.

        Returns
        -------
        display : SimplexDisplay
        """
        one_of(kind, ("auto", "triangle", "lines"), "kind")
        n_components = self.weights.shape[1]
        if kind == "auto":
            kind = "triangle" if n_components == 3 else "lines"
        if kind == "triangle" and n_components != 3:
            raise ValueError(
                f"kind='triangle' is for three components; there are {n_components}. Pass "
                "kind='lines'."
            )
        ax = axes_of(self, ax)
        numbered = [f"component {k}" for k in range(n_components)]
        names = numbered if self.names is None else list(map(str, self.names))
        draw = self._draw_triangle if kind == "triangle" else self._draw_lines
        draw(ax, names, name, line_kw or {}, target_kw or {})
        n_entries = len(ax.get_legend_handles_labels()[0])
        if n_entries > _MOST_INSIDE:
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif n_entries:
            ax.legend()
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _draw_triangle(self, ax, names, name, line_kw, target_kw):
        if not any(line.get_gid() == _FRAME for line in ax.lines):
            _draw_frame(ax, names)
        color = next_color(ax, _PATH)
        path = self.weights @ _CORNERS
        own = {"color": color, "linewidth": 1.6, "label": name, "gid": _PATH}
        self.lines_ = ax.plot(*path.T, **own | line_kw)
        mark = {"color": self.lines_[0].get_color(), "markersize": 6, "linestyle": "none"}
        (self.start_,) = ax.plot(*path[0], "o", markerfacecolor="white", **mark)
        (self.end_,) = ax.plot(*path[-1], "o", **mark)
        self.target_ = []
        if self.target is not None:
            own = {"color": "black", "markersize": 9, "markeredgewidth": 2, "linestyle": "none"}
            known = any(line.get_label() == "target" for line in ax.lines)
            own |= {"marker": "x", "label": "_target" if known else "target", "zorder": 4}
            self.target_ = ax.plot(*(self.target @ _CORNERS), **own | target_kw)

    def _draw_lines(self, ax, names, name, line_kw, target_kw):
        colors = component_colors(len(names))
        prefix = "" if name is None else f"{name}, "
        self.lines_, self.target_ = [], []
        self.start_ = self.end_ = None
        for k, component in enumerate(names):
            own = {"color": colors[k], "linestyle": line_style(k), "label": prefix + component}
            self.lines_ += ax.plot(self.weights[:, k], **own | line_kw)
            if self.target is not None:
                own = {"color": colors[k], "linestyle": "none", "marker": "x", "markersize": 8}
                own |= {"markeredgewidth": 2, "label": "_target"}
                place = [len(self.weights) - 1], [self.target[k]]
                self.target_ += ax.plot(*place, **own | target_kw)
        if self.target is not None:  # last in the legend, and gray since it stands for all
            ax.plot([], [], "x", color=GRAY, markersize=8, markeredgewidth=2, label="target")
        ax.set(xlabel="step", ylabel="weight")
        ax.set_ylim(bottom=0.0)


def _checked(weights, name, ndim) -> FloatArray:
    weights = as_real(weights, name)
    if weights.ndim != ndim or not weights.size:
        shape = "(n_steps, n_components)" if ndim == 2 else "(n_components,)"
        raise ValueError(f"{name} must have shape {shape}; got {weights.shape}.")
    if not (weights >= 0).all() or not np.allclose(weights.sum(axis=-1), 1, atol=1e-4):
        raise ValueError(
            f"{name} must be non-negative and sum to 1; got a minimum of {weights.min():.3g} and "
            f"sums from {weights.sum(axis=-1).min():.6g} to {weights.sum(axis=-1).max():.6g}."
        )
    return weights


def _draw_frame(ax, names):
    """The triangle, thin lines at quarters of a weight, and the names of its corners."""
    for quarter in (0.25, 0.5, 0.75):
        for k in range(3):
            one, other = (j for j in range(3) if j != k)
            ends = quarter * _CORNERS[k] + (1 - quarter) * _CORNERS[[one, other]]
            ax.plot(*ends.T, color="0.88", linewidth=0.7, zorder=0.5, gid=_FRAME)
    ax.plot(*_CORNERS[[0, 1, 2, 0]].T, color="0.2", linewidth=1.0, zorder=0.6, gid=_FRAME)
    for corner, name, side in zip(_CORNERS, names, ("top", "top", "bottom"), strict=True):
        shift = -0.03 if side == "top" else 0.03
        ax.text(corner[0], corner[1] + shift, name, ha="center", va=side, fontsize=SMALL_TEXT + 1)
    ax.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.12, np.sqrt(0.75) + 0.12))
    ax.set_axis_off()
