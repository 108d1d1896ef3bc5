"""FlowDisplay: the paths of points that flow to a mixture, and the energy on the way."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_parameters
from ..functions.flow import MixtureFlow
from ..parameters import FloatArray, MixtureLike, MixtureParameters
from ..samples.device_arrays import on_host, taken
from .drawing import (
    axes_of,
    checked_axes,
    checked_names,
    draw_ellipses,
    log_scale,
    marginal,
    name_axes,
    one_of,
    pair_of_features,
)
from .palette import BLUE, GRAY, VERMILLION, next_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse

_INK = np.zeros(3)
_ENERGY = "energy of a flow"  # how such lines are found in axes
_MANY = 5000  # points, among which no best place for a legend is sought


class FlowDisplay:
    """Points on their way, and the loss over the steps.

    Use `from_flow`, which draws it too.

    Parameters
    ----------
    positions : ndarray of shape (n_steps + 1, n_samples, n_features)
        The points before each step, and after the last.
    losses : ndarray of shape (n_steps + 1,)
    targets : sequence of MixtureParameters, default=()
    feature_names : sequence of str, default=None
        None numbers them.

    Attributes
    ----------
    ax_ : matplotlib Axes, or ndarray of two of them
        Of the points, of the energy, or of both.
    figure_ : matplotlib Figure
    paths_ : matplotlib LineCollection or None
    start_, end_ : matplotlib PathCollection or None
    ellipses_ : list of matplotlib Ellipse
        Of the targets.
    line_ : matplotlib Line2D or None
        The energy.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot import mixture_flow
    >>> from skgmmot.plotting import FlowDisplay
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> target = ([1.0], [[6.0, 0.0]], [4.0])
    >>> flow = mixture_flow(X, target, n_steps=30, keep_path=True, random_state=0)
    >>> display = FlowDisplay.from_flow(flow, target=target)
    >>> [ax.get_xlabel() for ax in display.ax_]
    ['feature 0', 'flow step']
    """

    ax_: Any  # Axes, or two of them
    figure_: Figure
    paths_: LineCollection | None
    start_: PathCollection | None
    end_: PathCollection | None
    ellipses_: list[Ellipse | None]
    line_: Line2D | None

    def __init__(
        self,
        *,
        positions: FloatArray,
        losses: FloatArray,
        targets: Sequence[MixtureParameters] = (),
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.positions = positions
        self.losses = losses
        self.targets = targets
        self.feature_names = feature_names

    @classmethod
    def from_flow(
        cls,
        flow: MixtureFlow,
        *,
        X: ArrayLike | None = None,
        target: MixtureLike | list[MixtureLike] | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        **options: Any,
    ) -> Self:
        """Draw a flow.

        Parameters
        ----------
        flow : MixtureFlow
            As `skgmmot.mixture_flow` returns it, with ``keep_path=True`` if paths are to be drawn.
            Points on a CUDA device are copied to the host.
        X : array-like of shape (n_samples, n_features), default=None
            Where the points started, for a flow without its path: straight lines are drawn.
        target : mixture or list of mixtures, default=None
            Where they flow to, drawn as ellipses.
        feature_names : sequence of str, default=None
            None numbers the features.
        ax : matplotlib Axes, pair of them or None, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : FlowDisplay
        """
        if not (hasattr(flow, "losses") and hasattr(flow, "X")):
            raise ValueError(
                "flow must be a MixtureFlow, as mixture_flow returns it; got "
                f"{type(flow).__name__}."
            )
        positions = flow.positions
        if positions is None:
            end = on_host(flow.X)
            start = end if X is None else np.asarray(on_host(taken(X)), dtype=end.dtype)
            if start.shape != end.shape:
                raise ValueError(
                    f"X must have the shape {flow.X.shape} of the points of the flow; got "
                    f"{start.shape}."
                )
            positions = np.array([end] if X is None else [start, end])
        given = target if isinstance(target, list) else [] if target is None else [target]
        targets = [as_parameters(mixture, "target") for mixture in given]
        for mixture in targets:
            if mixture.n_features != flow.X.shape[1]:
                raise ValueError(
                    f"target must have the {flow.X.shape[1]} features of the points; it has "
                    f"{mixture.n_features}."
                )
        display = cls(
            positions=on_host(positions),
            losses=np.asarray(flow.losses),
            targets=targets,
            feature_names=feature_names,
        )
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | Sequence[Axes] | None = None,
        *,
        kind: Literal["both", "points", "energy"] = "both",
        features: Sequence[int | str] = (0, 1),
        max_paths: int = 200,
        least: float = 0.0,
        name: str | None = None,
        legend: bool = True,
        path_kw: dict[str, Any] | None = None,
        start_kw: dict[str, Any] | None = None,
        end_kw: dict[str, Any] | None = None,
        ellipse_kw: dict[str, Any] | None = None,
        line_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the points, the energy, or both side by side.

        Parameters
        ----------
        ax : matplotlib Axes, pair of them or None, default=None
            Of ``kind="both"`` a pair. None makes a figure.
        kind : {"both", "points", "energy"}, default="both"
            What to draw.
        features : pair of int or str, default=(0, 1)
            Which features of the points, by number or by name.
        max_paths : int, default=200
            Of how many points to draw the paths, at most; those of others are left out evenly.
        least : float, default=0.0
            What to subtract from the energy, the least value for instance that it can have.
        name : str, default=None
            Name of the energy in a legend.
        legend : bool, default=True
            Whether to draw a legend of the points.
        path_kw, start_kw, end_kw, ellipse_kw, line_kw : dict, default=None
            Passed on to the LineCollection of paths, ``scatter`` of the points at the start and
            at the end, the Ellipses of the targets, and ``plot`` of the energy.

        Returns
        -------
        display : FlowDisplay
        """
        one_of(kind, ("both", "points", "energy"), "kind")
        axes = self._two_axes(ax) if kind == "both" else [axes_of(self, ax)] * 2
        self.paths_ = self.start_ = self.end_ = self.line_ = None
        self.ellipses_ = []
        if kind != "energy":
            self._draw_points(
                axes[0],
                features,
                max_paths,
                legend,
                path_kw or {},
                start_kw or {},
                end_kw or {},
                ellipse_kw or {},
            )
        if kind != "points":
            self._draw_energy(axes[1], least, name, line_kw or {})
        self.ax_ = np.array(axes) if kind == "both" else axes[0]
        self.figure_ = axes[0].figure
        return self

    def _two_axes(self, ax):
        if ax is None:
            first = axes_of(self, None, figsize=(10, 4.2))
            figure = first.figure
            first.remove()
            return list(figure.subplots(1, 2))
        if not hasattr(ax, "__len__") or len(ax) != 2:
            raise ValueError(
                "ax: kind='both' draws into a pair of Axes. Pass two, or kind='points' or "
                "kind='energy'."
            )
        return [checked_axes(one) for one in ax]

    def _draw_points(self, ax, features, max_paths, legend, path_kw, start_kw, end_kw, ellipse_kw):
        from matplotlib.collections import LineCollection

        if not isinstance(max_paths, Integral) or max_paths < 0:
            raise ValueError(f"max_paths must be an integer from zero on; got {max_paths!r}.")
        n_steps, n_samples, n_features = self.positions.shape
        names = checked_names(self.feature_names, n_features)
        pair = pair_of_features(features, n_features, names)
        positions = self.positions[:, :, pair]
        n_paths = min(max_paths, n_samples)
        if n_steps > 1 and n_paths:
            shown = np.unique(np.linspace(0, n_samples - 1, n_paths).round().astype(int))
            own = {"color": GRAY, "linewidth": 0.6, "alpha": 0.45, "zorder": 0.8}
            self.paths_ = LineCollection(positions[:, shown].transpose(1, 0, 2), **own | path_kw)
            ax.add_collection(self.paths_)
        size = float(np.clip(4000 / n_samples, 2, 14))
        ends = {"s": size, "linewidth": 0, "zorder": 2}
        if n_steps > 1:
            own = {"color": BLUE, "label": "start"}
            self.start_ = ax.scatter(*positions[0].T, **ends | own | start_kw)
        own = {"color": VERMILLION, "label": "end"}
        self.end_ = ax.scatter(*positions[-1].T, **ends | own | end_kw)
        for mixture in self.targets:
            parts = marginal(mixture, pair)
            own = {"linestyle": "--", "linewidth": 1.2, "zorder": 3} | ellipse_kw
            styles = own.pop("linestyle")
            self.ellipses_ += draw_ellipses(
                ax,
                parts,
                np.tile(_INK, (len(parts[0]), 1)),
                n_std=2.0,
                fill=False,
                line_styles=styles,
                **own,
            )
        drawn = [ellipse for ellipse in self.ellipses_ if ellipse is not None]
        if drawn:
            drawn[0].set_label("target")
        ax.autoscale_view()
        name_axes(ax, pair, names)
        if not legend:
            return
        place = "best" if n_samples <= _MANY else "upper right"
        ax.legend(markerscale=max(1.0, (12 / size) ** 0.5), loc=place)

    def _draw_energy(self, ax, least, name, line_kw):
        own = {"color": next_color(ax, _ENERGY), "label": name, "gid": _ENERGY}
        (self.line_,) = ax.plot(self.losses - least, **own | line_kw)
        log_scale(ax)
        ax.set(xlabel="flow step", ylabel="energy" if least == 0.0 else "energy above the least")
        if name is not None:
            ax.legend()
