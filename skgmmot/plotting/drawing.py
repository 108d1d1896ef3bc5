"""What the displays share: axes, checks of their options, and ellipses."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from ..checks import as_full
from .palette import SMALL_TEXT, component_colors, line_style


def axes_of(display, ax, *, figsize=None):
    """The axes to draw into: those given, or of a new figure. Says what to install without it."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    return checked_axes(ax)


def figure_of(ax):
    """The figure that axes lie in, of subfigures the one."""
    return ax.figure


def checked_axes(ax, name="ax"):
    """The axes given, or an error."""
    if not (hasattr(ax, "add_patch") and hasattr(ax, "figure")):
        raise ValueError(f"{name} must be the Axes of a figure; got {type(ax).__name__}.")
    return ax


def pair_of_features(features, n_features, names):
    """Two distinct features, given by number or name, as numbers."""
    if n_features < 2:
        raise ValueError(
            f"features: ellipses need two features; this mixture has {n_features}. Plot "
            "exp(score_samples) over a grid instead."
        )
    if isinstance(features, str) or not hasattr(features, "__len__") or len(features) != 2:
        raise ValueError(f"features must be a pair, of numbers or names; got {features!r}.")
    pair = []
    for feature in features:
        if isinstance(feature, str):
            if feature not in names:
                raise ValueError(
                    f"features: there is no feature {feature!r}; choose from {', '.join(names)}."
                )
            pair.append(list(names).index(feature))
        elif isinstance(feature, Integral) and -n_features <= feature < n_features:
            pair.append(int(feature) % n_features)
        else:
            raise ValueError(
                f"features: {feature!r} is none of the {n_features} features; they are numbered "
                f"from 0 to {n_features - 1}."
            )
    if pair[0] == pair[1]:
        raise ValueError(f"features must be two different ones; got {features!r}.")
    return pair


def names_of_features(mixture, n_features):
    """The names that the last fit has seen, or numbers."""
    names = getattr(mixture, "feature_names_in_", None)
    if names is None or len(names) != n_features:
        return tuple(f"feature {j}" for j in range(n_features))
    return tuple(map(str, names))


def checked_names(feature_names, n_features):
    """Names of features, one for each; numbers if there are none."""
    if feature_names is None:
        return names_of_features(None, n_features)
    if isinstance(feature_names, str) or len(feature_names) != n_features:
        raise ValueError(
            f"feature_names must be {n_features} names, one for each feature; got "
            f"{feature_names!r}."
        )
    return tuple(map(str, feature_names))


def positive(value, name):
    """A positive and finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number; got {value!r}.")
    return float(value)


def one_of(value, choices, name):
    """One of some choices, of which one may be None."""
    if not any(value is choice or value == choice for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.")
    return value


def colors_of(colors, n_components):
    """A row of red, green and blue for each component: of the palette, one for all, or given."""
    from matplotlib.colors import is_color_like, to_rgb

    if colors is None:
        return component_colors(n_components)
    if is_color_like(colors):
        return np.tile(to_rgb(colors), (n_components, 1))
    if isinstance(colors, str) or not all(map(is_color_like, colors)):
        raise ValueError(f"colors: {colors!r} is neither a color nor a sequence of colors.")
    if len(colors) < n_components:
        raise ValueError(
            f"colors: there are {n_components} components, but {len(colors)} colors. Pass one for "
            "each, a single one for all, or None."
        )
    return np.array([to_rgb(color) for color in colors[:n_components]])


def marginal(parameters, pair):
    """Weights, means and covariance matrices of two features."""
    weights, means, covariances = as_full(parameters)
    return weights, means[:, pair], covariances[:, pair][:, :, pair]


def draw_ellipses(ax, parts, colors, *, n_std, fill, line_styles=None, **options):
    """Ellipses of a marginal, for each component one; None for those without weight.

    The area is the more opaque the larger the weight.
    """
    from matplotlib.patches import Ellipse

    weights, means, covariances = parts
    opacities = 0.08 + 0.37 * weights / weights.max()
    ellipses = []
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        if weights[k] == 0:
            ellipses.append(None)
            continue
        variances, directions = np.linalg.eigh(covariance)
        width, height = 2 * n_std * np.sqrt(np.maximum(variances, 0.0))[::-1]
        ellipse = Ellipse(
            mean,
            width,
            height,
            angle=np.degrees(np.arctan2(directions[1, 1], directions[0, 1])),
            **{
                "facecolor": (*colors[k], opacities[k] if fill else 0.0),
                "edgecolor": colors[k],
                "linestyle": line_styles or line_style(k),
                "linewidth": 1.5,
            }
            | options,
        )
        ellipses.append(ax.add_patch(ellipse))
    ax.autoscale_view()
    return ellipses


def write(ax, place, text, **options):
    """Text with a white border, to be read on anything."""
    from matplotlib.patheffects import withStroke

    options = {
        "ha": "center",
        "va": "center",
        "fontsize": SMALL_TEXT,
        "zorder": 5,
        "path_effects": [withStroke(linewidth=3, foreground="white")],
    } | options
    return ax.text(*place, text, **options)


def name_axes(ax, pair, names):
    """Write the names of the features, unless something stands there, or no numbers do.

    Numbers are hidden on the inner sides of panels that share their axes.
    """
    for axis, j, side in zip((ax.xaxis, ax.yaxis), pair, ("bottom", "left"), strict=True):
        has_numbers = axis.get_tick_params().get(f"label{side}", True)
        if has_numbers and not axis.get_label_text():
            axis.set_label_text(names[j])


def log_scale(ax):
    """A logarithmic axis of values, with plain numbers where it spans less than two decades.

    Where no value is positive the axis is left as it is.
    """
    from matplotlib.ticker import LogFormatter

    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    values = values[values > 0]
    if not len(values):
        return
    ax.set_yscale("log", nonpositive="mask")
    if values.max() < 100 * values.min():
        for set_formatter in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            set_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
