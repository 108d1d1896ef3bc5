"""MixtureDisplay: the ellipses of a mixture, its density and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_parameters
from ..estimators.mixture import DifferentiableGaussianMixture
from ..functions.validation import as_rows
from ..parameters import (
    Estimator,
    FloatArray,
    MixtureLike,
    MixtureParameters,
    final_mixture_and_data,
)
from ..samples.device_arrays import on_host, taken
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
from .palette import GRAY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse
    from matplotlib.text import Text

_PROBABILITIES = (0.25, 0.5, 0.75, 0.95)
_GRID_POINTS = 300  # of each axis, about
_DRAWS = 20_000  # that tell which density encloses which probability


class MixtureDisplay:
    """Two features of a mixture: an ellipse for each component, contours and samples.

    Use `from_estimator` or `from_parameters`, which draw it too.

    Parameters
    ----------
    parameters : MixtureParameters
        The mixture.
    X : ndarray of shape (n_samples, n_features), default=None
        Samples, in the space of the mixture.
    responsibilities : ndarray of shape (n_samples, n_components), default=None
        What share of each sample every component has. None: samples are gray.
    feature_names : sequence of str, default=None
        None numbers them.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    ellipses_ : list of matplotlib Ellipse
        One for each component; None for a component without weight, which is not drawn.
    samples_ : matplotlib PathCollection or None
    contours_ : matplotlib QuadContourSet or None
    texts_ : list of matplotlib Text

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.plotting import MixtureDisplay
    >>> X = load_iris(as_frame=True).data
    >>> mixture = DifferentiableGaussianMixture(3, random_state=0).fit(X)
    >>> display = MixtureDisplay.from_estimator(mixture, X, features=(2, 3))
    >>> display.ax_.get_xlabel()
    'petal length (cm)'
    """

    ax_: Axes
    figure_: Figure
    ellipses_: list[Ellipse | None]
    samples_: PathCollection | None
    contours_: QuadContourSet | None
    texts_: list[Text]

    def __init__(
        self,
        *,
        parameters: MixtureParameters,
        X: FloatArray | None = None,
        responsibilities: FloatArray | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.parameters = parameters
        self.X = X
        self.responsibilities = responsibilities
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Estimator,
        X: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw a fitted mixture.

        Parameters
        ----------
        estimator : fitted mixture, Pipeline or search
            A mixture of this package or of scikit-learn. Of a search the best estimator is
            drawn, of a Pipeline the mixture that it ends with, in the space that its earlier
            steps transform the data to.
        X : array-like of shape (n_samples, n_features), default=None
            Samples as ``estimator.predict`` takes them, colored by the responsibilities of the
            components. From a CUDA device they are copied to the host, where they are drawn.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : MixtureDisplay
        """
        mixture, X = final_mixture_and_data(estimator, X)
        parameters = as_parameters(mixture, "estimator")
        names = names_of_features(mixture, parameters.n_features)
        responsibilities = None
        if X is not None:
            columns = getattr(X, "columns", None)
            if columns is not None and len(columns) == parameters.n_features:
                names = tuple(map(str, columns))
            X = on_host(taken(X))
            responsibilities = mixture.predict_proba(X)
            X = np.asarray(X)
        display = cls(
            parameters=parameters, X=X, responsibilities=responsibilities, feature_names=names
        )
        return display.plot(ax, **options)

    @classmethod
    def from_parameters(
        cls,
        mixture: MixtureLike,
        X: ArrayLike | None = None,
        *,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw a mixture that is given by its parameters.

        Parameters
        ----------
        mixture : MixtureParameters, tuple (weights, means, covariances) or fitted estimator
        X : array-like of shape (n_samples, n_features), default=None
            Samples in the space of the mixture, colored by the responsibilities of the components.
        feature_names : sequence of str, default=None
            None numbers the features.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : MixtureDisplay
        """
        parameters = as_parameters(mixture, "mixture")
        n_features = parameters.n_features
        names = checked_names(feature_names, n_features)
        responsibilities = None
        if X is not None:
            X = as_rows(on_host(taken(X)), input_name="X")
            if X.shape[1] != n_features:
                raise ValueError(
                    f"X must have the {n_features} features of the mixture; it has {X.shape[1]}."
                )
            responsibilities = _estimator_of(parameters, "X").predict_proba(X)
        display = cls(
            parameters=parameters, X=X, responsibilities=responsibilities, feature_names=names
        )
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        features: Sequence[int | str] = (0, 1),
        n_std: float = 2.0,
        density: bool | Sequence[float] = False,
        annotate: Literal["number", "weight"] | None = None,
        fill: bool = True,
        colors: Any = None,
        name: str | None = None,
        ellipse_kw: dict[str, Any] | None = None,
        scatter_kw: dict[str, Any] | None = None,
        contour_kw: dict[str, Any] | None = None,
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
            The half axes of the ellipses, in standard deviations. In two dimensions an ellipse of
            two standard deviations holds 86 % of its component.
        density : bool or sequence of float, default=False
            Whether to draw contours of the density of the two features. Each encloses the region
            of highest density that has a given probability: 25, 50, 75 and 95 %, or those of the
            sequence.
        annotate : {None, "number", "weight"}, default=None
            What to write at the means.
        fill : bool, default=True
            Whether ellipses are filled, more opaque the larger the weight.
        colors : color or sequence of colors, default=None
            One for all components, or one for each. None: `component_colors`.
        name : str, default=None
            Name of the mixture in a legend.
        ellipse_kw, scatter_kw, contour_kw, text_kw : dict, default=None
            Passed on to the Ellipses, and to ``scatter``, ``contour`` and ``text``.

        Returns
        -------
        display : MixtureDisplay
        """
        ax = axes_of(self, ax)
        n_components, n_features = np.shape(self.parameters.means)
        names = checked_names(self.feature_names, n_features)
        pair = pair_of_features(features, n_features, names)
        n_std = positive(n_std, "n_std")
        one_of(annotate, (None, "number", "weight"), "annotate")
        colors = colors_of(colors, n_components)
        probabilities = _checked_probabilities(density)
        parts = marginal(self.parameters, pair)
        self.samples_ = self.contours_ = None
        if self.X is not None:
            self.samples_ = self._draw_samples(ax, pair, colors, scatter_kw or {})
        self.ellipses_ = draw_ellipses(
            ax, parts, colors, n_std=n_std, fill=fill, **(ellipse_kw or {})
        )
        if name is not None:
            next(filter(None, self.ellipses_)).set_label(name)
        if len(probabilities):
            self.contours_ = _draw_contours(ax, parts, probabilities, contour_kw or {})
        self.texts_ = []
        for k, (weight, mean) in enumerate(zip(*parts[:2], strict=True)):
            if annotate is not None and weight > 0:
                text = str(k) if annotate == "number" else f"{weight:.2f}"
                self.texts_.append(write(ax, mean, text, **(text_kw or {})))
        name_axes(ax, pair, names)
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _draw_samples(self, ax, pair, colors, options):
        own = {"s": float(np.clip(4000 / len(self.X), 2, 16)), "linewidth": 0, "zorder": 0.9}
        if not {"c", "color", "facecolor"} & set(options):
            own["c"] = GRAY
            if self.responsibilities is not None:
                own["c"] = np.clip(self.responsibilities @ colors, 0.0, 1.0)
        return ax.scatter(*self.X[:, pair].T, **own | options)


def _estimator_of(parameters, argument):
    """An estimator that knows densities, or an error."""
    try:
        return DifferentiableGaussianMixture.from_mixture(parameters, random_state=0)
    except ValueError as error:
        raise ValueError(
            f"{argument}: this mixture has no density to draw or to color samples by, since a "
            "covariance is singular. Regularize it (reg_covar), or draw the ellipses alone."
        ) from error


def _checked_probabilities(density):
    """Probabilities of the regions to enclose, the largest first."""
    if isinstance(density, (bool, np.bool_)):
        return np.array(_PROBABILITIES[::-1] if density else ())
    values = np.atleast_1d(np.array(density, dtype=float)) if _are_numbers(density) else np.zeros(1)
    if not ((values > 0) & (values < 1)).all():
        raise ValueError(
            f"density must be True, False or probabilities between 0 and 1; got {density!r}."
        )
    return np.unique(values)[::-1]


def _are_numbers(values):
    return all(isinstance(value, Real) for value in np.ravel(np.array(values, dtype=object)))


def _draw_contours(ax, parts, probabilities, options):
    """Contours of the density, each about the smallest region of its probability."""
    weighted = parts[0] > 0
    theta = MixtureParameters(*(part[weighted] for part in parts), "full")
    mixture = _estimator_of(theta, "density")
    drawn = mixture.score_samples(mixture.sample(_DRAWS)[0])
    levels = np.unique(np.quantile(drawn, 1 - probabilities))
    axes = [_grid(theta, j) for j in range(2)]
    points = np.stack(np.meshgrid(*axes), axis=-1)
    log_density = mixture.score_samples(points.reshape(-1, 2)).reshape(points.shape[:2])
    own = {"colors": "0.35", "linewidths": 0.8, "linestyles": "-", "zorder": 1.5}
    if set(options) & {"cmap"}:
        del own["colors"]
    return ax.contour(*axes, log_density, levels=levels, **own | options)


def _grid(theta, j):
    """Points along an axis, some of them about the mean of every component."""
    deviations = np.sqrt(theta.covariances[:, j, j])[:, None]
    n_own = max(_GRID_POINTS // (2 * len(deviations)), 8)
    about = theta.means[:, j, None] + deviations * np.linspace(-4.5, 4.5, n_own)
    return np.unique([*about.ravel(), *np.linspace(about.min(), about.max(), _GRID_POINTS // 2)])
