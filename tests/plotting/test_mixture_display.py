"""MixtureDisplay: ellipses against eigenvalues, colors against responsibilities."""

import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture, MixtureParameters
from skgmmot.plotting import MixtureDisplay, component_colors

rng = np.random.default_rng(0)
X = np.concatenate(
    [rng.normal(size=(80, 3)) @ rng.normal(size=(3, 3)) + shift for shift in (0, 4, [9, 0, 3])]
)
KINDS = ("full", "tied", "diag", "spherical")


def fitted(kind="full", n_components=3):
    return DifferentiableGaussianMixture(
        n_components, covariance_type=kind, random_state=0, max_iter=20, residual_tol=np.inf
    ).fit(X)


def matrices(mixture):
    """Covariance matrices from the attributes, type by type."""
    covariances, (n, d) = mixture.covariances_, mixture.means_.shape
    return {
        "full": lambda: covariances,
        "tied": lambda: np.stack([covariances] * n),
        "diag": lambda: np.array([np.diag(variances) for variances in covariances]),
        "spherical": lambda: np.array([variance * np.eye(d) for variance in covariances]),
    }[mixture.covariance_type]()


def boundary(ellipse):
    """Points of the boundary of an ellipse."""
    unit = np.linspace(0, 2 * np.pi, 50)
    return ellipse.get_patch_transform().transform(np.stack([np.cos(unit), np.sin(unit)], axis=1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_std", [1.0, 2.5])
def test_ellipses_lie_at_the_standard_deviations_of_the_marginal(kind, n_std):
    mixture, pair = fitted(kind), (2, 0)
    display = MixtureDisplay.from_estimator(mixture, features=pair, n_std=n_std)
    assert len(display.ellipses_) == 3
    for ellipse, mean, matrix in zip(
        display.ellipses_, mixture.means_, matrices(mixture), strict=True
    ):
        centered = boundary(ellipse) - mean[list(pair)]
        squares = np.einsum(
            "ia,ab,ib->i", centered, np.linalg.inv(matrix[np.ix_(pair, pair)]), centered
        )
        np.testing.assert_allclose(squares, n_std**2, rtol=1e-9)
        variances = np.linalg.eigvalsh(matrix[np.ix_(pair, pair)])
        axes = np.sort([ellipse.width, ellipse.height])
        np.testing.assert_allclose(axes, 2 * n_std * np.sqrt(variances), rtol=1e-9)


def test_the_axes_show_all_of_the_ellipses():
    display = MixtureDisplay.from_estimator(fitted(), n_std=3.0)
    points = np.concatenate([boundary(ellipse) for ellipse in display.ellipses_])
    for limits, values in zip((display.ax_.get_xlim(), display.ax_.get_ylim()), points.T,
                              strict=True):  # fmt: skip
        assert limits[0] <= values.min() and values.max() <= limits[1]


def test_samples_have_the_mixed_colors_of_their_components():
    mixture = fitted()
    display = MixtureDisplay.from_estimator(mixture, X, features=(1, 2))
    np.testing.assert_allclose(display.samples_.get_offsets(), X[:, [1, 2]])
    expected = mixture.predict_proba(X) @ component_colors(3)
    np.testing.assert_allclose(display.samples_.get_facecolors()[:, :3], expected, atol=1e-12)
    for ellipse, color in zip(display.ellipses_, component_colors(3), strict=True):
        np.testing.assert_allclose(ellipse.get_edgecolor()[:3], color)
    given = MixtureDisplay.from_parameters(mixture.parameters_, X, features=(1, 2))
    np.testing.assert_allclose(given.samples_.get_facecolors()[:, :3], expected, atol=1e-12)
    assert MixtureDisplay.from_estimator(mixture).samples_ is None


def test_samples_without_responsibilities_are_gray():
    parameters = fitted().parameters_
    colors = MixtureDisplay(parameters=parameters, X=X).plot().samples_.get_facecolors()
    assert len(np.unique(colors, axis=0)) == 1 and np.ptp(colors[0, :3]) == 0


@pytest.mark.parametrize("colors", ["red", ["red", "#00FF00", (0.0, 0.0, 1.0)]])
def test_colors_are_those_given(colors):
    from matplotlib.colors import to_rgb

    display = MixtureDisplay.from_estimator(fitted(), colors=colors)
    expected = [colors] * 3 if isinstance(colors, str) else colors
    for ellipse, color in zip(display.ellipses_, expected, strict=True):
        np.testing.assert_allclose(ellipse.get_edgecolor()[:3], to_rgb(color))


@pytest.mark.parametrize(
    "colors, message",
    [(["red", "blue"], "there are 3 components, but 2 colors"), ("rouge", "neither a color nor")],
)
def test_wrong_colors_are_refused(colors, message):
    with pytest.raises(ValueError, match="^colors: .*" + message):
        MixtureDisplay.from_estimator(fitted(), colors=colors)


def test_filled_ellipses_are_the_more_opaque_the_larger_the_weight():
    mixture = ([0.1, 0.3, 0.6], [[0.0, 0.0], [5.0, 0.0], [9.0, 0.0]], [1.0, 1.0, 1.0])
    faces = [e.get_facecolor()[3] for e in MixtureDisplay.from_parameters(mixture).ellipses_]
    assert 0 < faces[0] < faces[1] < faces[2] < 1
    unfilled = MixtureDisplay.from_parameters(mixture, fill=False)
    assert [e.get_facecolor()[3] for e in unfilled.ellipses_] == [0, 0, 0]


def test_components_without_weight_are_not_drawn():
    mixture = ([0.0, 1.0], [[90.0, 0.0], [5.0, 0.0]], [1.0, 1.0])
    display = MixtureDisplay.from_parameters(mixture, annotate="number")
    assert display.ellipses_[0] is None and display.ellipses_[1] is not None
    assert [text.get_text() for text in display.texts_] == ["1"]
    assert display.ax_.get_xlim()[1] < 20
    dense = MixtureDisplay.from_parameters(mixture, density=True)
    assert len(dense.contours_.levels) == 4 and dense.ax_.get_xlim()[1] < 20


@pytest.mark.parametrize("annotate", [None, "number", "weight"])
def test_numbers_or_weights_stand_at_the_means(annotate):
    mixture = fitted()
    display = MixtureDisplay.from_estimator(mixture, annotate=annotate, features=(0, 2))
    words = [text.get_text() for text in display.texts_]
    assert (
        words
        == {
            None: [],
            "number": ["0", "1", "2"],
            "weight": [f"{weight:.2f}" for weight in mixture.weights_],
        }[annotate]
    )
    for text, mean in zip(display.texts_, mixture.means_, strict=False):
        np.testing.assert_allclose(text.get_position(), mean[[0, 2]])


@pytest.mark.parametrize("density, shares", [(True, (0.25, 0.5, 0.75, 0.95)), ([0.5, 0.9], None)])
def test_contours_enclose_the_probability_they_say(density, shares):
    mixture = fitted()
    display = MixtureDisplay.from_estimator(mixture, density=density, features=(0, 1))
    levels = np.sort(display.contours_.levels)[::-1]
    marginal = DifferentiableGaussianMixture.from_parameters(
        mixture.weights_, mixture.means_[:, :2], mixture.covariances_[:, :2, :2], random_state=1
    )
    found = marginal.score_samples(marginal.sample(40_000)[0])
    expected = shares or density
    np.testing.assert_allclose([(found > level).mean() for level in levels], expected, atol=0.01)
    for level, path in zip(display.contours_.levels, display.contours_.get_paths(), strict=True):
        on_contour = marginal.score_samples(path.vertices)
        np.testing.assert_allclose(on_contour, level, atol=0.05)
    assert MixtureDisplay.from_estimator(mixture).contours_ is None


def test_contours_of_small_components_are_smooth():
    mixture = ([0.5, 0.5], [[0.0, 0.0], [100.0, 0.0]], [1e-3, 30.0])
    contours = MixtureDisplay.from_parameters(mixture, density=[0.2]).contours_
    vertices = contours.get_paths()[0].vertices
    radii = np.linalg.norm(vertices[vertices[:, 0] < 50], axis=1)
    assert len(radii) > 30 and np.ptp(radii) < 0.02 * radii.mean()


@pytest.mark.parametrize("density", [0.0, 1.0, [0.5, 1.5], "full", None, [np.nan]])
def test_wrong_probabilities_are_refused(density):
    with pytest.raises(ValueError, match="^density must be True, False or probabilities"):
        MixtureDisplay.from_estimator(fitted(), density=density)


@pytest.mark.parametrize("option", ["n_std", "annotate"])
def test_wrong_options_are_refused(option):
    for value in (0.0, np.inf, -1, True) if option == "n_std" else ("name", 1):
        with pytest.raises(ValueError, match=f"^{option} must be"):
            MixtureDisplay.from_estimator(fitted(), **{option: value})


def test_options_reach_the_artists():
    display = MixtureDisplay.from_estimator(
        fitted(),
        X,
        density=True,
        annotate="number",
        name="mine",
        ellipse_kw={"linewidth": 4, "edgecolor": "black"},
        scatter_kw={"s": 3, "color": "0.5", "label": "flowers"},
        contour_kw={"colors": "red", "linewidths": 3},
        text_kw={"fontsize": 14},
    )
    assert {ellipse.get_linewidth() for ellipse in display.ellipses_} == {4}
    assert {ellipse.get_edgecolor() for ellipse in display.ellipses_} == {(0, 0, 0, 1)}
    assert display.samples_.get_sizes() == [3]
    np.testing.assert_allclose(display.samples_.get_facecolors(), [[0.5, 0.5, 0.5, 1]])
    assert set(np.ravel(display.contours_.get_linewidths())) == {3}
    np.testing.assert_allclose(display.contours_.get_edgecolors()[0], [1, 0, 0, 1])
    assert {text.get_fontsize() for text in display.texts_} == {14}
    assert display.ax_.get_legend_handles_labels()[1] == ["flowers", "mine"]
    colored = MixtureDisplay.from_estimator(fitted(), density=True, contour_kw={"cmap": "viridis"})
    assert len(np.unique(colored.contours_.get_edgecolors(), axis=0)) == 4


@pytest.mark.parametrize("wrap", ["pipeline", "search", "search of a pipeline"])
def test_a_pipeline_or_search_is_drawn_in_the_space_of_its_mixture(wrap):
    mixture = GaussianMixture(2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mixture)
    grids = {"search": {"n_components": [2]}, "search of a pipeline": {
        "gaussianmixture__n_components": [2]}}  # fmt: skip
    estimator = {"pipeline": pipeline, "search": GridSearchCV(mixture, grids["search"], cv=2)}.get(
        wrap, GridSearchCV(pipeline, grids["search of a pipeline"], cv=2)
    )
    estimator.fit(X)
    best = getattr(estimator, "best_estimator_", estimator)
    inner = best if wrap == "search" else best[-1]
    seen = X if wrap == "search" else StandardScaler().fit_transform(X)
    display = MixtureDisplay.from_estimator(estimator, X)
    np.testing.assert_allclose(display.samples_.get_offsets(), seen[:, :2])
    for ellipse, mean in zip(display.ellipses_, inner.means_, strict=True):
        np.testing.assert_allclose(ellipse.center, mean[:2])
    expected = inner.predict_proba(seen) @ component_colors(2)
    np.testing.assert_allclose(display.samples_.get_facecolors()[:, :3], expected, atol=1e-9)


def test_features_have_the_names_of_the_columns():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    mixture = DifferentiableGaussianMixture(2, random_state=0).fit(frame)
    for display in (
        MixtureDisplay.from_estimator(mixture, features=("b", "c")),
        MixtureDisplay.from_estimator(mixture, frame, features=(1, 2)),
    ):
        assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("b", "c")
    np.testing.assert_allclose(display.samples_.get_offsets(), X[:, 1:])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="^estimator: this GaussianMixture is not fitted"):
        MixtureDisplay.from_estimator(GaussianMixture())
    coupled = CoupledGMMFitter(random_state=0).fit_pair(X, X + 1)
    with pytest.raises(ValueError, match="holds two mixtures; pass its source_mixture_"):
        MixtureDisplay.from_estimator(coupled)
    mixture = fitted().parameters_
    with pytest.raises(ValueError, match="X must have the 3 features of the mixture; it has 2"):
        MixtureDisplay.from_parameters(mixture, X[:, :2])
    singular = MixtureParameters([1.0], [[0.0, 0.0]], np.array([[[1.0, 1.0], [1.0, 1.0]]]), "full")
    with pytest.raises(ValueError, match="^density: this mixture has no density"):
        MixtureDisplay.from_parameters(singular, density=True)
    with pytest.raises(ValueError, match="^X: this mixture has no density"):
        MixtureDisplay.from_parameters(singular, X[:, :2])
    (ellipse,) = MixtureDisplay.from_parameters(singular).ellipses_
    np.testing.assert_allclose([ellipse.width, ellipse.height], [4 * np.sqrt(2), 0], atol=1e-7)
    np.testing.assert_allclose(ellipse.angle % 180, 45)
