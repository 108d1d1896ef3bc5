"""What the displays share: the library they need, axes, features, sizes of text."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture, mixture_flow
from skgmmot.plotting import (
    ConvergenceDisplay,
    FlowDisplay,
    MixtureDisplay,
    ModelSelectionDisplay,
    SimplexDisplay,
    TransportDisplay,
)

MIXTURE = ([0.3, 0.7], [[0.0, 0.0, 1.0], [4.0, 1.0, 0.0]], [1.0, 2.0])
rng = np.random.default_rng(0)
X = np.concatenate([rng.normal(size=(60, 3)), rng.normal(size=(40, 3)) + 5.0])


def drawn():
    """Each display, as a function of its options."""
    fitted = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    flow = mixture_flow(X, MIXTURE, n_steps=2, keep_path=True, random_state=0)
    return {
        MixtureDisplay: lambda **options: MixtureDisplay.from_estimator(fitted, X, **options),
        TransportDisplay: lambda **options: TransportDisplay.from_parameters(
            fitted, MIXTURE, **options
        ),
        FlowDisplay: lambda **options: FlowDisplay.from_flow(
            flow, target=MIXTURE, **({"kind": "points"} | options)
        ),
        SimplexDisplay: lambda **options: SimplexDisplay.from_weights(
            [[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]], **options
        ),
        ConvergenceDisplay: lambda **options: ConvergenceDisplay.from_estimator(fitted, **options),
        ModelSelectionDisplay: lambda **options: ModelSelectionDisplay.from_estimator(
            fitted, X, n_components=(1, 2), **options
        ),
    }


DISPLAYS = drawn()
OF_FEATURES = [MixtureDisplay, TransportDisplay, FlowDisplay]
every = pytest.mark.parametrize("kind", DISPLAYS, ids=lambda kind: kind.__name__)
of_features = pytest.mark.parametrize("kind", OF_FEATURES, ids=lambda kind: kind.__name__)


@every
def test_a_display_draws_into_the_axes_given_or_new_ones_and_returns_itself(kind, axes):
    display = DISPLAYS[kind](ax=axes)
    assert isinstance(display, kind)
    assert display.ax_ is axes and display.figure_ is axes.figure
    options = {"kind": "points"} if kind is FlowDisplay else {}
    assert display.plot(**options) is display
    assert display.ax_ is not axes and display.figure_ is not axes.figure


@every
def test_no_text_is_smaller_than_eight_points(kind):
    figure = DISPLAYS[kind]().figure_
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert len(texts) >= 3 and min(text.get_fontsize() for text in texts) >= 8


@every
def test_without_matplotlib_the_cure_is_named(kind, monkeypatch):
    display = DISPLAYS[kind]()
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"{kind.__name__}.plot requires.*pip install matplotlib"):
        display.plot()
    with pytest.raises(ImportError, match="pip install matplotlib"):
        DISPLAYS[kind]()


@every
def test_axes_that_are_none_are_refused(kind):
    display, options = DISPLAYS[kind](), {"kind": "points"} if kind is FlowDisplay else {}
    with pytest.raises(ValueError, match="ax must be the Axes of a figure; got Figure"):
        display.plot(plt.figure(), **options)


@of_features
@pytest.mark.parametrize("features", [(0, 1), (2, 0), (-1, 1), ("feature 1", "feature 2")])
def test_features_are_chosen_by_number_or_name(kind, features):
    display = DISPLAYS[kind](features=features)
    numbers = [int(f.split()[1]) if isinstance(f, str) else f % 3 for f in features]
    labels = display.ax_.get_xlabel(), display.ax_.get_ylabel()
    assert labels == tuple(f"feature {j}" for j in numbers)
    if kind is not FlowDisplay:
        ellipses = display.ellipses_ if kind is MixtureDisplay else display.target_ellipses_
        mixture = display.parameters if kind is MixtureDisplay else display.transport.target
        for ellipse, mean in zip(ellipses, mixture.means, strict=True):
            np.testing.assert_allclose(ellipse.center, mean[numbers])
    else:
        np.testing.assert_allclose(display.end_.get_offsets(), display.positions[-1][:, numbers])


@of_features
@pytest.mark.parametrize(
    "features, message",
    [
        ((0, 3), ": 3 is none of the 3 features; they are numbered from 0 to 2"),
        ((0, -4), ": -4 is none of the 3 features"),
        ((0, 1.5), ": 1.5 is none of the 3 features"),
        ((1, 1), " must be two different ones"),
        ((1, -2), " must be two different ones"),
        ((0, 1, 2), " must be a pair"),
        (1, " must be a pair"),
        ("01", " must be a pair"),
        (
            ("feature 0", "petal"),
            ": there is no feature 'petal'; choose from feature 0, f",
        ),
    ],
)
def test_wrong_features_are_refused(kind, features, message):
    with pytest.raises(ValueError, match="^features" + message):
        DISPLAYS[kind](features=features)


@pytest.mark.parametrize("names", [("a", "b", "c"), np.array(["a", "b", "c"])])
def test_names_of_features_are_those_given(names):
    flow = mixture_flow(X, MIXTURE, n_steps=1, random_state=0)
    for display in (
        MixtureDisplay.from_parameters(MIXTURE, feature_names=names, features=("c", "a")),
        TransportDisplay.from_parameters(MIXTURE, MIXTURE, feature_names=names, features=(2, 0)),
        FlowDisplay.from_flow(flow, feature_names=names, features=(2, 0), kind="points"),
    ):
        assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("c", "a")


@pytest.mark.parametrize("names", [("a", "b"), "abc"])
def test_names_of_features_are_one_for_each(names):
    with pytest.raises(ValueError, match="feature_names must be 3 names, one for each feature"):
        MixtureDisplay.from_parameters(MIXTURE, feature_names=names)
    with pytest.raises(ValueError, match="feature_names must be 3 names"):
        TransportDisplay.from_parameters(MIXTURE, MIXTURE, feature_names=names)


def test_labels_that_stand_on_the_axes_stay(axes):
    axes.set_xlabel("my own")
    MixtureDisplay.from_parameters(MIXTURE, ax=axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("my own", "feature 1")


def test_panels_that_share_their_axes_have_labels_outside_alone():
    panels = plt.subplots(2, 2, sharex=True, sharey=True)[1]
    for panel in panels.flat:
        MixtureDisplay.from_parameters(MIXTURE, ax=panel)
    labels = [[(panel.get_xlabel(), panel.get_ylabel()) for panel in row] for row in panels]
    x, y = "feature 0", "feature 1"
    assert labels == [[("", y), ("", "")], [(x, y), (x, "")]]


def test_one_feature_has_no_ellipses():
    line = ([1.0], [[0.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="need two features; this mixture has 1. Plot exp"):
        MixtureDisplay.from_parameters(line)


def test_estimators_and_results_are_only_read():
    fitted = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    coupled = CoupledGMMFitter(2, random_state=0).fit_pair(X, X + 1)
    flow = mixture_flow(X, MIXTURE, n_steps=2, keep_path=True, random_state=0)
    before = [dict(vars(thing)) for thing in (fitted, coupled, flow, coupled.transport_)]
    copies = [flow.positions.copy(), fitted.means_.copy(), coupled.transport_.plan.copy()]
    data = X.copy()
    MixtureDisplay.from_estimator(fitted, X, density=True, annotate="weight")
    TransportDisplay.from_estimator(coupled)
    FlowDisplay.from_flow(flow, target=fitted, least=0.1)
    SimplexDisplay.from_flow(flow, order=[1, 0])
    ConvergenceDisplay.from_estimator(fitted, X, quantity="residual")
    ModelSelectionDisplay.from_estimator(fitted, X, n_components=[1])
    for thing, known in zip((fitted, coupled, flow, coupled.transport_), before, strict=True):
        assert vars(thing).keys() == known.keys()
        assert all(vars(thing)[name] is known[name] for name in known)
    now = [flow.positions, fitted.means_, coupled.transport_.plan]
    for array, copy in zip([*now, X], [*copies, data], strict=True):
        np.testing.assert_array_equal(array, copy)


def test_axes_that_span_little_have_plain_numbers(axes):
    from types import SimpleNamespace

    flow = SimpleNamespace(X=np.zeros((2, 2)), losses=np.array([80.0, 30.0, 15.0]), positions=None)
    FlowDisplay.from_flow(flow, kind="energy", ax=axes)
    axes.figure.canvas.draw()
    labels = [text.get_text() for text in axes.get_yticklabels(which="both")]
    assert any(labels) and not any("times" in label or "^" in label for label in labels)
    assert axes.get_yscale() == "log"
