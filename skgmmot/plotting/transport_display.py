"""TransportDisplay: two mixtures, and the mass that goes from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..checks import as_parameters
from ..estimators.coupled import CoupledGMMFitter
from ..functions.mixture_transport import mixture_transport
from ..parameters import MixtureLike, PenaltiesLike
from ..results.transport_result import MixtureTransport
from .drawing import (
    axes_of,
    checked_names,
    colors_of,
    draw_ellipses,
    figure_of,
    marginal,
    name_axes,
    names_of_features,
    one_of,
    pair_of_features,
    positive,
    write,
)
from .palette import BLUE, GRAY, LIGHT_GRAY, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Ellipse
    from matplotlib.text import Text

_WIDEST = 8.0  # points, of the link with the most mass
_PLACES = np.linspace(0.25, 0.75, 11)  # of a label, along its link


class TransportDisplay:
    """Two features of a transport: both mixtures, and links as wide as the mass they carry.

    Use `from_transport`, `from_parameters` or `from_estimator`, which draw it too.

    Parameters
    ----------
    transport : MixtureTransport
    feature_names : sequence of str, default=None
        None numbers them.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    source_ellipses_, target_ellipses_ : list of matplotlib Ellipse
        One for each component; None for a component without weight, which is not drawn.
    links_ : dict of matplotlib Line2D
        By (component of the source, component of the target). Masses that are zero to printing
        precision have none.
    texts_ : dict of matplotlib Text
        Their masses, by the same keys.

    Examples
    --------
    >>> from skgmmot.plotting import TransportDisplay
    >>> a = ([0.5, 0.5], [[0.0, 0.0], [0.0, 4.0]], [1.0, 1.0])
    >>> b = ([0.25, 0.75], [[6.0, 0.0], [6.0, 4.0]], [1.0, 1.0])
    >>> display = TransportDisplay.from_parameters(a, b)
    >>> sorted(display.links_)
    [(0, 0), (0, 1), (1, 1)]
    """

    ax_: Axes
    figure_: Figure
    source_ellipses_: list[Ellipse | None]
    target_ellipses_: list[Ellipse | None]
    links_: dict[tuple[int, int], Line2D]
    texts_: dict[tuple[int, int], Text]

    def __init__(
        self, *, transport: MixtureTransport, feature_names: Sequence[str] | None = None
    ) -> None:
        self.transport = transport
        self.feature_names = feature_names

    @classmethod
    def from_transport(
        cls,
        transport: MixtureTransport,
        *,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw a transport.

        Parameters
        ----------
        transport : MixtureTransport
            As `skgmmot.mixture_transport` returns it.
        feature_names : sequence of str, default=None
            None numbers the features.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : TransportDisplay
        """
        if not isinstance(transport, MixtureTransport):
            raise ValueError(
                "transport must be a MixtureTransport, as mixture_transport returns it; got "
                f"{type(transport).__name__}. Two mixtures are drawn by from_parameters."
            )
        return cls(transport=transport, feature_names=feature_names).plot(ax, **options)

    @classmethod
    def from_parameters(
        cls,
        source: MixtureLike,
        target: MixtureLike,
        *,
        reg: float = 0.0,
        reg_m: PenaltiesLike = None,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw the transport between two mixtures.

        Parameters
        ----------
        source, target : MixtureParameters, tuple (weights, means, covariances) or fitted estimator
            Of as many features.
        reg, reg_m
            As for `skgmmot.mixture_transport`.
        feature_names : sequence of str, default=None
            None numbers the features.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : TransportDisplay
        """
        pair = as_parameters(source, "source"), as_parameters(target, "target")
        n_source, n_target = (mixture.n_features for mixture in pair)
        if n_source != n_target:
            raise ValueError(
                "source and target must have the same number of features; source has "
                f"{n_source} and target has {n_target}."
            )
        transport = mixture_transport(*pair, reg=reg, reg_m=reg_m)
        return cls(transport=transport, feature_names=feature_names).plot(ax, **options)

    @classmethod
    def from_estimator(
        cls, estimator: CoupledGMMFitter, *, ax: Axes | None = None, **options: Any
    ) -> Self:
        """Draw the transport between the two mixtures of a coupled fit.

        Parameters
        ----------
        estimator : CoupledGMMFitter
            A fitted one.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`; ``color_by`` is "component" unless given, because the components of a
            coupled fit correspond.

        Returns
        -------
        display : TransportDisplay
        """
        transport = getattr(estimator, "transport_", None)
        if transport is None:
            raise ValueError(
                "estimator must be a fitted CoupledGMMFitter; this "
                f"{type(estimator).__name__} has no transport_. Call fit first, or pass two "
                "mixtures to from_parameters."
            )
        names = names_of_features(estimator, transport.source.n_features)
        display = cls(transport=transport, feature_names=names)
        return display.plot(ax, **{"color_by": "component"} | options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        features: Sequence[int | str] = (0, 1),
        n_std: float = 2.0,
        color_by: Literal["mixture", "component"] = "mixture",
        colors: Any = None,
        link_width: float | None = None,
        masses: bool = True,
        legend: bool = True,
        ellipse_kw: dict[str, Any] | None = None,
        link_kw: dict[str, Any] | None = None,
        text_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw two features.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.
        features : pair of int or str, default=(0, 1)
            Which features, by number or by name.
        n_std : float, default=2.0
            The half axes of the ellipses, in standard deviations.
        color_by : {"mixture", "component"}, default="mixture"
            Whether each mixture has a color, or each number of a component, in both mixtures.
            The edges of the target's ellipses are dashed either way.
        colors : sequence of colors, default=None
            Of the two mixtures, or of the components; None: blue and vermillion, or
            `component_colors`.
        link_width : float, default=None
            Width of a link that carries a mass of one, in points. None: the widest has 8.
        masses : bool, default=True
            Whether to write the mass on each link.
        legend : bool, default=True
            Whether to draw a legend of the two mixtures.
        ellipse_kw, link_kw, text_kw : dict, default=None
            Passed on to the Ellipses, and to ``plot`` and ``text``.

        Returns
        -------
        display : TransportDisplay
        """
        ax = axes_of(self, ax)
        from matplotlib.patheffects import withStroke

        transport = self.transport
        n_features = transport.source.n_features
        names = checked_names(self.feature_names, n_features)
        pair = pair_of_features(features, n_features, names)
        n_std = positive(n_std, "n_std")
        one_of(color_by, ("mixture", "component"), "color_by")
        plan = transport.plan
        if link_width is None:
            link_width = _WIDEST / (np.max(plan) or 1.0)
        link_width = positive(link_width, "link_width")
        sides = [marginal(side, pair) for side in (transport.source, transport.target)]
        side_colors, link_colors = self._colors(color_by, colors)
        drawn = [
            draw_ellipses(
                ax, parts, own, n_std=n_std, fill=True, line_styles=style, **(ellipse_kw or {})
            )
            for parts, own, style in zip(sides, side_colors, ("-", "--"), strict=True)
        ]
        self.source_ellipses_, self.target_ellipses_ = drawn
        decimals = printing_decimals(plan)
        means = [parts[1] for parts in sides]
        self.links_, self.texts_ = {}, {}
        for k, j in zip(*np.nonzero(plan.round(decimals)), strict=True):
            ends = np.array([means[0][k], means[1][j]])
            width = link_width * plan[k, j]
            own = {
                "color": link_colors[k],
                "linewidth": width,
                "solid_capstyle": "round",
                "zorder": 2,
                "path_effects": [withStroke(linewidth=width + 1.5, foreground="white")],
            }
            (self.links_[int(k), int(j)],) = ax.plot(*ends.T, **own | (link_kw or {}))
        if masses:
            places = _places({key: (means[0][key[0]], means[1][key[1]]) for key in self.links_})
            for key, place in places.items():
                text = f"{plan[key]:.{decimals}f}"
                self.texts_[key] = write(ax, place, text, **(text_kw or {}))
        if legend:
            _draw_legend(ax, side_colors if color_by == "mixture" else None)
        name_axes(ax, pair, names)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _colors(self, color_by, colors):
        """Colors of the components of both mixtures, and of the links from each of the first."""
        numbers = len(self.transport.source.weights), len(self.transport.target.weights)
        if color_by == "mixture":
            pair = colors_of((BLUE, VERMILLION) if colors is None else colors, 2)
            sides = [np.tile(color, (n, 1)) for color, n in zip(pair, numbers, strict=True)]
            return sides, [LIGHT_GRAY] * numbers[0]
        palette = colors_of(colors, max(numbers))
        return [palette[:n] for n in numbers], palette


def printing_decimals(plan):
    """Decimals that show the masses of a plan: two, or two digits of the largest."""
    largest = plan.max()
    return 2 if not 0 < largest < 0.1 else 1 - int(np.floor(np.log10(largest)))


def _places(links):
    """Where to write on each link: on none of the others, nor on the labels before."""
    if not links:
        return {}
    extent = np.ptp(np.concatenate([np.stack(ends) for ends in links.values()]), axis=0)
    unit = np.where(extent > 0, extent, 1.0)
    steps = np.linspace(0.0, 1.0, 41)[:, None]
    lines = {key: ((1 - steps) * a + steps * b) / unit for key, (a, b) in links.items()}
    places = {}
    for key, (a, b) in links.items():
        candidates = (1 - _PLACES[:, None]) * a + _PLACES[:, None] * b
        others = [line for other, line in lines.items() if other != key]
        others += [place / unit for place in places.values()]
        if others:
            others = np.vstack(others)
            apart = np.linalg.norm(candidates[:, None] / unit - others, axis=2).min(axis=1)
        else:
            apart = np.zeros(len(_PLACES))
        # about the middle where there is room
        score = np.minimum(apart, 0.12) - 0.02 * np.abs(_PLACES - 0.5)
        places[key] = candidates[np.argmax(score)]
    return places


def _draw_legend(ax, side_colors):
    from matplotlib.patches import Patch

    handles = []
    for side, (name, style) in enumerate((("source", "-"), ("target", "--"))):
        color = GRAY if side_colors is None else side_colors[side][0]
        handles.append(
            Patch(facecolor=(*_rgb(color), 0.3), edgecolor=color, linestyle=style, label=name)
        )
    ax.legend(handles=handles)


def _rgb(color):
    from matplotlib.colors import to_rgb

    return to_rgb(color)
