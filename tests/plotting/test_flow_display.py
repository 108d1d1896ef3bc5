"""FlowDisplay: paths, ends and energies against the flow."""

import numpy as np
import pytest

from skgmmot import mixture_flow
from skgmmot.plotting import FlowDisplay, component_colors

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 3))
TARGET = ([0.4, 0.6], [[6.0, 0.0, 1.0], [6.0, 5.0, 0.0]], [1.0, 0.5])
OPTIONS = {"n_steps": 4, "random_state": 0}
FLOW = mixture_flow(X, TARGET, keep_path=True, **OPTIONS)
PLAIN = mixture_flow(X, TARGET, **OPTIONS)


def test_both_panels_of_a_flow_with_its_path():
    display = FlowDisplay.from_flow(FLOW, target=TARGET, features=(2, 0))
    assert len(display.ax_) == 2 and display.ax_[0] is not display.ax_[1]
    paths = np.array(display.paths_.get_segments())
    np.testing.assert_allclose(paths, FLOW.positions[:, :, [2, 0]].transpose(1, 0, 2))
    np.testing.assert_allclose(display.start_.get_offsets(), X[:, [2, 0]])
    np.testing.assert_allclose(display.end_.get_offsets(), FLOW.X[:, [2, 0]])
    np.testing.assert_allclose(display.line_.get_ydata(), FLOW.losses)
    for ellipse, mean, variance in zip(display.ellipses_, *TARGET[1:], strict=True):
        np.testing.assert_allclose(ellipse.center, np.array(mean)[[2, 0]])
        np.testing.assert_allclose([ellipse.width, ellipse.height], 4 * np.sqrt(variance))
    words = [text.get_text() for text in display.ax_[0].get_legend().get_texts()]
    assert words == ["start", "end", "target"]
    assert display.plot(legend=False).ax_[0].get_legend() is None
    assert display.ax_[1].get_yscale() == "log"
    assert len(display.figure_.axes) == 2


@pytest.mark.parametrize("kind", ["points", "energy"])
def test_one_panel_alone(kind, axes):
    display = FlowDisplay.from_flow(FLOW, kind=kind, ax=axes)
    assert display.ax_ is axes
    assert (display.end_ is None) == (display.paths_ is None) == (kind == "energy")
    assert (display.line_ is None) == (kind == "points")


def test_a_pair_of_axes_is_drawn_into():
    import matplotlib.pyplot as plt

    axes = plt.subplots(1, 2)[1]
    display = FlowDisplay.from_flow(FLOW, ax=axes)
    assert list(display.ax_) == list(axes) and display.figure_ is axes[0].figure
    assert len(axes[0].collections) == 3 and len(axes[1].lines) == 1
    with pytest.raises(ValueError, match="draws into a pair of Axes"):
        FlowDisplay.from_flow(FLOW, ax=axes[0])


def test_a_flow_without_its_path_is_drawn_as_straight_lines_or_its_end_alone():
    display = FlowDisplay.from_flow(PLAIN, X=X, kind="points")
    paths = np.array(display.paths_.get_segments())
    np.testing.assert_allclose(paths, np.stack([X, PLAIN.X], axis=1)[:, :, :2])
    display = FlowDisplay.from_flow(PLAIN, kind="points")
    assert display.paths_ is None and display.start_ is None
    np.testing.assert_allclose(display.end_.get_offsets(), PLAIN.X[:, :2])


@pytest.mark.parametrize("max_paths, n_drawn", [(7, 7), (49, 49), (1000, 50)])
def test_max_paths_leaves_paths_out(max_paths, n_drawn):
    display = FlowDisplay.from_flow(FLOW, kind="points", max_paths=max_paths)
    assert len(display.paths_.get_segments()) == n_drawn
    assert len(display.end_.get_offsets()) == 50
    assert FlowDisplay.from_flow(FLOW, kind="points", max_paths=0).paths_ is None


def test_least_is_subtracted_and_said():
    display = FlowDisplay.from_flow(FLOW, kind="energy", least=0.25)
    np.testing.assert_allclose(display.line_.get_ydata(), FLOW.losses - 0.25)
    assert display.ax_.get_ylabel() == "energy above the least"


def test_several_energies_share_axes_in_colors_of_their_own(axes):
    displays = [FlowDisplay.from_flow(FLOW, kind="energy", ax=axes, name=name) for name in "abc"]
    colors = [display.line_.get_color() for display in displays]
    np.testing.assert_allclose(colors, component_colors(3))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]


def test_several_targets_are_all_drawn():
    display = FlowDisplay.from_flow(FLOW, target=[TARGET, ([1.0], [[0.0, 9.0, 9.0]], [1.0])])
    assert len(display.ellipses_) == 3
    handles, words = display.ax_[0].get_legend_handles_labels()
    assert words == ["start", "end", "target"]


def test_options_reach_the_artists():
    display = FlowDisplay.from_flow(
        FLOW, target=TARGET, path_kw={"linewidth": 2}, start_kw={"s": 40}, end_kw={"marker": "x"},
        ellipse_kw={"linewidth": 3, "linestyle": ":"}, line_kw={"linewidth": 4},
    )  # fmt: skip
    assert display.paths_.get_linewidth() == [2]
    assert display.start_.get_sizes() == [40] and display.end_.get_sizes() != [40]
    assert len(display.end_.get_paths()[0]) < len(display.start_.get_paths()[0])
    assert {e.get_linewidth() for e in display.ellipses_} == {3}
    assert {e.get_linestyle() for e in display.ellipses_} == {":"}
    assert display.line_.get_linewidth() == 4


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "all"}, "kind must be one of 'both', 'points', 'energy'"),
        ({"max_paths": -1}, "max_paths must be an integer from zero on"),
        ({"target": ([1.0], [[0.0, 0.0]], [1.0])}, "target must have the 3 features of the points"),
        ({"target": "there"}, "target must be a fitted mixture"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + message):
        FlowDisplay.from_flow(FLOW, **options)


def test_wrong_flows_and_starts_are_refused():
    with pytest.raises(ValueError, match="flow must be a MixtureFlow.*got ndarray"):
        FlowDisplay.from_flow(X)
    with pytest.raises(ValueError, match=r"X must have the shape \(50, 3\) of the points"):
        FlowDisplay.from_flow(PLAIN, X=X[:9])
