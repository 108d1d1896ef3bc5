"""ModelSelectionDisplay: criteria over numbers of components and covariance types."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from ..estimators.state import warn_of
from ..parameters import COVARIANCE_TYPES, Estimator, FloatArray
from .drawing import axes_of, figure_of, one_of
from .palette import MARKERS, component_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

CRITERIA = ("bic", "aic", "icl")  # the lower the better
_PARAMETERS = ("n_components", "covariance_type")
_NO_TYPE = "mixture"  # the name of a single line


class ModelSelectionDisplay:
    """Criteria or cross-validated scores of mixtures, a line for each covariance type.

    Use `from_estimator`, which fits the mixtures, or `from_cv_results`; both draw it too.

    Parameters
    ----------
    n_components : sequence of int
    covariance_types : sequence of str
    values : dict of ndarray of shape (n_types, n_numbers)
        By the name of the criterion. NaN where nothing was fitted.
    deviations : dict of ndarray, default=None
        Standard deviations over folds, by the name of the criterion.
    higher_is_better : bool, default=False
    value_name : str, default=None
        Name of the axis. None: that of the criterion.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : dict of matplotlib Line2D
        By covariance type.
    bands_ : dict of matplotlib PolyCollection
        By covariance type: a standard deviation over folds to each side.
    best_ : dict
        ``n_components``, ``covariance_type`` and ``value`` of the best.
    best_mark_ : matplotlib Line2D or None

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgmmot import DifferentiableGaussianMixture
    >>> from skgmmot.plotting import ModelSelectionDisplay
    >>> X = load_iris().data
    >>> mixture = DifferentiableGaussianMixture(random_state=0, reg_covar=1e-3)
    >>> display = ModelSelectionDisplay.from_estimator(
    ...     mixture, X, n_components=(1, 2, 3), covariance_types=("full", "diag")
    ... )
    >>> display.best_["n_components"], display.best_["covariance_type"]
    (2, 'full')
    """

    ax_: Axes
    figure_: Figure
    lines_: dict[str, Line2D]
    bands_: dict[str, PolyCollection]
    best_: dict[str, Any]
    best_mark_: Line2D | None

    def __init__(
        self,
        *,
        n_components: Sequence[int],
        covariance_types: Sequence[str],
        values: dict[str, FloatArray],
        deviations: dict[str, FloatArray] | None = None,
        higher_is_better: bool = False,
        value_name: str | None = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_types = covariance_types
        self.values = values
        self.deviations = deviations
        self.higher_is_better = higher_is_better
        self.value_name = value_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Estimator,
        X: ArrayLike,
        *,
        n_components: Sequence[int] = (1, 2, 3, 4, 5, 6),
        covariance_types: Sequence[str] = COVARIANCE_TYPES,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Fit mixtures, and draw a criterion of them on the data they are fitted to.

        Parameters
        ----------
        estimator : DifferentiableGaussianMixture or mixture of scikit-learn
            Clones of it are fitted; it is not changed.
        X : array-like of shape (n_samples, n_features)
        n_components : sequence of int, default=(1, 2, 3, 4, 5, 6)
        covariance_types : sequence of str, default=("full", "tied", "diag", "spherical")
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : ModelSelectionDisplay

        Warns
        -----
        ConvergenceWarning
            If some fits failed, and what the fits warn of.
        """
        if not hasattr(estimator, "get_params") or not set(_PARAMETERS) <= set(
            estimator.get_params(deep=False)
        ):
            raise ValueError(
                "estimator must be a mixture with the parameters n_components and "
                f"covariance_type; got {type(estimator).__name__}. Pass the last step of a "
                "Pipeline, and as X what its other steps make of the data."
            )
        n_components, covariance_types = list(n_components), list(covariance_types)
        if not n_components or not covariance_types:
            raise ValueError("n_components and covariance_types must not be empty.")
        criteria = [name for name in CRITERIA if hasattr(estimator, name)]
        if not criteria:
            raise ValueError(
                f"estimator: a {type(estimator).__name__} has none of the criteria bic, aic and "
                "icl. Search with GridSearchCV, and pass that to from_cv_results."
            )
        shape = len(covariance_types), len(n_components)
        values = {name: np.full(shape, np.nan) for name in criteria}
        failures = []
        for place in np.ndindex(shape):
            parameters = {
                "n_components": n_components[place[1]],
                "covariance_type": covariance_types[place[0]],
            }
            mixture = clone(estimator).set_params(**parameters)
            try:
                mixture.fit(X)
            except ValueError as error:
                failures.append(f"{parameters}: {error}")
                continue
            for name in criteria:
                values[name][place] = getattr(mixture, name)(X)
        n_fits = shape[0] * shape[1]
        if len(failures) == n_fits:
            raise ValueError(f"None of the {n_fits} fits succeeded. The first: {failures[0]}")
        if failures:
            warn_of([f"{len(failures)} of {n_fits} fits failed. The first: {failures[0]}"])
        display = cls(n_components=n_components, covariance_types=covariance_types, values=values)
        return display.plot(ax, **options)

    @classmethod
    def from_cv_results(
        cls,
        search: Estimator | dict[str, Any],
        *,
        score: str = "score",
        value_name: str | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Draw the mean test scores of a search.

        Parameters
        ----------
        search : fitted GridSearchCV or the like, or its ``cv_results_``
            Over ``n_components``, and ``covariance_type`` or not, of a mixture or of a step of a
            Pipeline. Of other parameters that were searched the best values are drawn.
        score : str, default="score"
            Of a search with several metrics the name of one.
        value_name : str, default=None
            Name of the axis.
        ax : matplotlib Axes, default=None
            None makes a figure.
        **options
            As for `plot`.

        Returns
        -------
        display : ModelSelectionDisplay
        """
        results = search if isinstance(search, dict) else getattr(search, "cv_results_", None)
        if results is None:
            raise ValueError(
                f"search: this {type(search).__name__} has no cv_results_. Pass a fitted search, "
                "such as a GridSearchCV, or its cv_results_."
            )
        if f"mean_test_{score}" not in results:
            known = [key.removeprefix("mean_test_") for key in results if "mean_test_" in key]
            raise ValueError(
                f"score: the search has no {score!r}; it has {', '.join(known) or 'none'}."
            )
        numbers, kinds = (_column(results, name) for name in _PARAMETERS)
        if numbers is None:
            raise ValueError("search: it has not searched over n_components of a mixture.")
        if not all(number is None or isinstance(number, Integral) for number in numbers):
            raise ValueError("search: n_components must be integers, to be drawn along an axis.")
        if kinds is None:
            kinds = [_NO_TYPE] * len(numbers)
        kinds = [kind or "default" for kind in kinds]
        n_components = sorted({int(number) for number in numbers if number is not None})
        order = (*COVARIANCE_TYPES, *sorted(set(kinds) - set(COVARIANCE_TYPES)))
        covariance_types = [kind for kind in order if kind in kinds]
        means = np.full((len(covariance_types), len(n_components)), np.nan)
        deviations = means.copy()
        rows = zip(
            numbers,
            kinds,
            results[f"mean_test_{score}"],
            results[f"std_test_{score}"],
            strict=True,
        )
        for number, kind, mean, deviation in rows:
            if number is None:
                continue
            place = covariance_types.index(kind), n_components.index(number)
            if not mean <= means[place]:  # the best so far, or the first
                means[place], deviations[place] = mean, deviation
        if not np.isfinite(means).any():
            raise ValueError(f"search: all of its scores {score!r} are NaN; its fits failed.")
        if value_name is None:
            plain = score == "score" and getattr(search, "scoring", "given") is None
            value_name = "mean log-likelihood of test folds" if plain else f"mean test {score}"
        display = cls(
            n_components=n_components,
            covariance_types=covariance_types,
            values={score: means},
            deviations={score: deviations},
            higher_is_better=True,
            value_name=value_name,
        )
        return display.plot(ax, **options)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        criterion: Literal["bic", "aic", "icl"] | None = None,
        mark_best: bool = True,
        bands: bool = True,
        line_kw: dict[str, Any] | None = None,
        band_kw: dict[str, Any] | None = None,
        best_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw a criterion over the number of components.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.
        criterion : {"bic", "aic", "icl"}, default=None
            None: BIC, or the score of a search. scikit-learn's mixtures have no ICL.
        mark_best : bool, default=True
            Whether to mark the best, the least criterion or the highest score.
        bands : bool, default=True
            Whether to draw bands of a standard deviation over folds about scores.
        line_kw, band_kw, best_kw : dict, default=None
            Passed on to ``plot`` of the lines, ``fill_between`` of the bands, and ``plot`` of the
            mark.

        Returns
        -------
        display : ModelSelectionDisplay
        """
        shown = next(iter(self.values)) if criterion is None else criterion
        one_of(shown, tuple(self.values), "criterion")
        ax = axes_of(self, ax)
        values = self.values[shown]
        self.lines_, self.bands_, self.best_mark_ = {}, {}, None
        order = np.argsort(self.n_components, kind="stable")
        numbers = np.asarray(self.n_components)[order]
        for i, kind in enumerate(self.covariance_types):
            color, marker = _style(kind)
            own = {"color": color, "marker": marker, "markersize": 5, "linewidth": 1.5}
            (self.lines_[kind],) = ax.plot(
                numbers, values[i][order], **own | {"label": kind} | (line_kw or {})
            )
            if bands and self.deviations is not None:
                spread = self.deviations[shown][i][order]
                own = {"color": color, "alpha": 0.12, "linewidth": 0} | (band_kw or {})
                low, high = values[i][order] - spread, values[i][order] + spread
                self.bands_[kind] = ax.fill_between(numbers, low, high, **own)
        best = np.nanargmax(values) if self.higher_is_better else np.nanargmin(values)
        row, column = map(int, np.unravel_index(best, values.shape))
        self.best_ = {
            "n_components": self.n_components[column],
            "covariance_type": self.covariance_types[row],
            "value": float(values[row, column]),
        }
        if mark_best:
            own = {"marker": "o", "markersize": 15, "linestyle": "none", "color": "black"}
            own |= {"markerfacecolor": "none", "markeredgewidth": 1.5, "label": self._best_label()}
            place = [self.best_["n_components"]], [self.best_["value"]]
            (self.best_mark_,) = ax.plot(*place, **own | (best_kw or {}))
        _name_numbers(ax, numbers)
        ax.set(xlabel="components", ylabel=self.value_name or shown.upper())
        ax.legend()
        self.ax_, self.figure_ = ax, figure_of(ax)
        return self

    def _best_label(self):
        kind = self.best_["covariance_type"]
        words = "" if kind == _NO_TYPE else f"{kind}, "
        return f"best: {words}{self.best_['n_components']}"


def _column(results, name):
    """The values of a parameter of a mixture that was searched over, None where it was not."""
    keys = [key for key in results if key == f"param_{name}" or key.endswith(f"__{name}")]
    keys = [key for key in keys if key.startswith("param_")]
    if len(keys) > 1:
        raise ValueError(
            f"search: it has searched over {name} of several steps ({', '.join(keys)}); pass the "
            "rows of cv_results_ for one of them."
        )
    if not keys:
        return None
    return [None if np.ma.is_masked(value) else value for value in results[keys[0]]]


def _style(kind):
    """The color and marker of a covariance type, in all displays the same."""
    known = COVARIANCE_TYPES.index(kind) if kind in COVARIANCE_TYPES else len(COVARIANCE_TYPES)
    known = 0 if kind == _NO_TYPE else known
    return component_colors(known + 1)[-1], MARKERS[known]


def _name_numbers(ax, numbers):
    """Ticks at whole numbers, at all of them if they are few."""
    from matplotlib.ticker import MaxNLocator

    if len(numbers) <= 12:
        ax.set_xticks(numbers)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
