"""The colors and line styles of components, the same in every display, and sizes of text."""

from numbers import Integral

import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's colors, which people with any color vision can tell apart. Yellow, which is hard
# to see on white, comes last.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, YELLOW = "#E69F00", "#56B4E9", "#000000", "#F0E442"
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)
GRAY, LIGHT_GRAY = "#8C8C8C", "#B5B5B5"  # of what is not a component

LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Beyond eight the same hues come again, darker and then lighter: (gray level, its share).
_ROUNDS = ((0.0, 0.0), (0.0, 0.45), (1.0, 0.5))
_BLACK_LEVELS = (0.0, 0.4, 0.65)

SMALL_TEXT = 9  # points, the smallest in use


def component_colors(n_components: int) -> NDArray[np.float64]:
    """The colors of components, that people with any color vision can tell apart.

    The first eight are those of Okabe and Ito, the next eight are darker, the next eight lighter;
    then they come again. Displays draw component ``k`` in the color ``k`` of this list, and from
    the ninth component on with other line styles.

    Parameters
    ----------
    n_components : int

    Returns
    -------
    colors : ndarray of shape (n_components, 3)
        Red, green and blue from 0 to 1.

    Examples
    --------
    >>> from skgmmot.plotting import component_colors
    >>> component_colors(2).round(2)
    array([[0.  , 0.45, 0.7 ],
           [0.84, 0.37, 0.  ]])
    """
    if not isinstance(n_components, Integral) or n_components < 0:
        raise ValueError(f"n_components must be an integer from zero on; got {n_components!r}.")
    colors = np.empty((n_components, 3))
    for k in range(n_components):
        turn, k_hue = divmod(k, len(PALETTE))
        turn %= len(_ROUNDS)
        level, share = _ROUNDS[turn]
        hue = PALETTE[k_hue].removeprefix("#")
        rgb = np.array([int(hue[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        mixed = (1 - share) * rgb + share * level
        colors[k] = _BLACK_LEVELS[turn] if PALETTE[k_hue] == BLACK else mixed
    return colors


def line_style(k):
    """The line style of component ``k``: that of its turn through the palette."""
    return LINE_STYLES[k // len(PALETTE) % len(LINE_STYLES)]


def next_color(ax, gid):
    """The color of the next of several series that are marked by ``gid`` in the same axes."""
    n_series = sum(line.get_gid() == gid for line in ax.lines)
    return component_colors(n_series % len(PALETTE) + 1)[-1]
