"""SimplexDisplay: paths in the triangle, and lines over steps."""

import numpy as np
import pytest

from skgmmot import mixture_flow
from skgmmot.plotting import SimplexDisplay, component_colors

WEIGHTS = np.array([[0.2, 0.2, 0.6], [0.3, 0.25, 0.45], [0.5, 0.3, 0.2]])
FOUR = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]])
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def points(line):
    return np.transpose(line.get_data())


def test_a_path_divides_the_weight_between_the_corners():
    display = SimplexDisplay.from_weights(WEIGHTS, target=[1.0, 0.0, 0.0])
    (line,) = display.lines_
    np.testing.assert_allclose(points(line), WEIGHTS @ CORNERS)
    np.testing.assert_allclose(points(display.start_), WEIGHTS[:1] @ CORNERS)
    np.testing.assert_allclose(points(display.end_), WEIGHTS[-1:] @ CORNERS)
    np.testing.assert_allclose(points(display.target_[0]), CORNERS[:1])
    assert display.start_.get_markerfacecolor() == "white"
    np.testing.assert_allclose(display.end_.get_markerfacecolor(), component_colors(1)[0])
    assert SimplexDisplay.from_weights(WEIGHTS).target_ == []


@pytest.mark.parametrize("names", [None, ("left", "right", "top"), np.array(["l", "r", "t"])])
def test_corners_have_names_that_stand_at_them(names):
    display = SimplexDisplay.from_weights(WEIGHTS, names=names)
    expected = [f"component {k}" for k in range(3)] if names is None else list(names)
    texts = display.ax_.texts
    assert [text.get_text() for text in texts] == expected
    for text, corner in zip(texts, CORNERS, strict=True):
        assert np.linalg.norm(np.subtract(text.get_position(), corner)) < 0.05
    display.figure_.canvas.draw()
    for text in texts:  # beside the triangle, and inside the figure
        box = text.get_window_extent().transformed(display.ax_.transData.inverted())
        assert box.y1 < 0 or box.y0 > np.sqrt(0.75)
        assert display.figure_.bbox.containsx(text.get_window_extent().x0)
        assert display.figure_.bbox.containsx(text.get_window_extent().x1)


def test_more_paths_share_one_triangle(axes):
    first = SimplexDisplay.from_weights(WEIGHTS, ax=axes, name="a", target=WEIGHTS[-1])
    n_lines = len(axes.lines)
    second = SimplexDisplay.from_weights(WEIGHTS[::-1], ax=axes, name="b", target=WEIGHTS[-1])
    assert len(axes.lines) - n_lines == 4  # path, start, end, target
    assert len(axes.texts) == 3
    colors = [display.lines_[0].get_color() for display in (first, second)]
    np.testing.assert_allclose(colors, component_colors(2))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "target", "b"]


@pytest.mark.parametrize("kind", ["auto", "lines"])
def test_other_numbers_of_components_are_lines_over_steps(kind):
    display = SimplexDisplay.from_weights(FOUR, target=FOUR[0], kind=kind, name="a")
    for k, (line, mark) in enumerate(zip(display.lines_, display.target_, strict=True)):
        np.testing.assert_allclose(points(line), np.stack([[0, 1], FOUR[:, k]], axis=1))
        np.testing.assert_allclose(line.get_color(), component_colors(4)[k])
        np.testing.assert_allclose(points(mark), [[1, FOUR[0, k]]])
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert words == [*(f"a, component {k}" for k in range(4)), "target"]
    assert display.start_ is display.end_ is None


def test_kind_lines_serves_three_components_too():
    display = SimplexDisplay.from_weights(WEIGHTS, kind="lines")
    assert len(display.lines_) == 3 and display.ax_.get_xlabel() == "step"


def test_a_long_legend_stands_beside_the_axes():
    weights = np.full((3, 9), 1 / 9)
    display = SimplexDisplay.from_weights(weights)
    display.figure_.canvas.draw()
    assert display.ax_.get_legend().get_window_extent().x0 > display.ax_.get_window_extent().x1
    short = SimplexDisplay.from_weights(FOUR)
    short.figure_.canvas.draw()
    assert short.ax_.get_legend().get_window_extent().x1 < short.ax_.get_window_extent().x1


def test_weights_of_a_flow_in_an_order():
    X = np.random.default_rng(0).normal(size=(60, 2))
    target = ([0.5, 0.3, 0.2], [[6.0, 0.0], [6.0, 5.0], [0.0, 9.0]], [1.0, 0.5, 1.0])
    flow = mixture_flow(X, target, n_steps=3, keep_path=True, random_state=0)
    found = np.array([theta.weights for theta in flow.path])
    for order in (None, [2, 0, 1]):
        display = SimplexDisplay.from_flow(flow, order=order, target=target[0])
        expected = found if order is None else found[:, order]
        np.testing.assert_array_equal(display.weights, expected)
        np.testing.assert_array_equal(display.target, target[0])
    by_mean = SimplexDisplay.from_flow(flow, order=lambda theta: np.argsort(theta.means[:, 1]))
    for weights, theta in zip(by_mean.weights, flow.path, strict=True):
        np.testing.assert_array_equal(weights, theta.weights[np.argsort(theta.means[:, 1])])
    with pytest.raises(ValueError, match="order must hold each of the numbers 0 to 2 once"):
        SimplexDisplay.from_flow(flow, order=[0, 1, 1])
    plain = mixture_flow(X, target, n_steps=1, random_state=0)
    with pytest.raises(ValueError, match="not kept. Call mixture_flow with keep_path=True"):
        SimplexDisplay.from_flow(plain)


def test_options_reach_the_artists():
    options = {"line_kw": {"linewidth": 5}, "target_kw": {"markersize": 20}}
    for weights in (WEIGHTS, FOUR):
        display = SimplexDisplay.from_weights(weights, target=weights[0], **options)
        assert {line.get_linewidth() for line in display.lines_} == {5}
        assert {line.get_markersize() for line in display.target_} == {20}


@pytest.mark.parametrize(
    "weights, options, message",
    [
        (WEIGHTS[0], {}, r"weights must have shape \(n_steps, n_components\); got \(3,\)"),
        (WEIGHTS + 0.1, {}, "weights must be non-negative and sum to 1"),
        ([[-0.5, 1.0, 0.5]], {}, "weights must be non-negative.*a minimum of -0.5"),
        (WEIGHTS * np.nan, {}, "weights must be non-negative"),
        (WEIGHTS, {"target": FOUR[0]}, "target must have the 3 components of weights; it has 4"),
        (WEIGHTS, {"target": [0.5, 0.5, 0.5]}, "target must be non-negative and sum to 1"),
        (WEIGHTS, {"names": ("a", "b")}, "names: there are 3 components; got 2 names"),
        (WEIGHTS, {"kind": "simplex"}, "kind must be one of"),
        (FOUR, {"kind": "triangle"}, "kind='triangle' is for three components; there are 4"),
    ],
)
def test_what_cannot_be_drawn_is_refused(weights, options, message):
    with pytest.raises(ValueError, match="^" + message):
        SimplexDisplay.from_weights(weights, **options)
