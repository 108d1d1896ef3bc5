"""TransportDisplay: links against the plan."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from skgmmot import CoupledGMMFitter, MixtureParameters, mixture_transport
from skgmmot.plotting import TransportDisplay, component_colors
from skgmmot.plotting.transport_display import printing_decimals

SOURCE = MixtureParameters(
    np.array([0.3, 0.5, 0.2]),
    np.array([[-4.0, 2.0, 0.0], [-5.0, -2.0, 1.0], [-2.5, -0.5, 2.0]]),
    np.array([0.5, 1.0, 0.2]),
)
TARGET = MixtureParameters(
    np.array([0.55, 0.45]), np.array([[4.0, 2.2, 1.0], [5.0, -2.0, 0.0]]), np.array([0.5, 1.0])
)


def plan_of(source, target, plan):
    """A transport whose plan is set by hand."""
    transport = mixture_transport(source, target)
    transport.plan[:] = plan
    return transport


@pytest.mark.parametrize("features", [(0, 1), (2, 1)])
def test_links_join_the_means_and_are_as_wide_as_their_masses(features):
    transport = mixture_transport(SOURCE, TARGET, reg=2.0)
    display = TransportDisplay.from_transport(transport, features=features)
    plan, pair = transport.plan, list(features)
    assert set(display.links_) == set(zip(*np.nonzero(plan >= 0.005), strict=True))
    assert len(display.links_) < plan.size  # something is left out
    for (k, j), link in display.links_.items():
        ends = np.array([SOURCE.means[k][pair], TARGET.means[j][pair]])
        np.testing.assert_allclose(np.transpose(link.get_data()), ends)
        assert link.get_linewidth() == pytest.approx(8 * plan[k, j] / plan.max())
        assert display.texts_[k, j].get_text() == f"{plan[k, j]:.2f}"


def test_link_width_is_that_of_a_mass_of_one():
    for reg_m in (None, 40.0):
        display = TransportDisplay.from_parameters(SOURCE, TARGET, reg_m=reg_m, link_width=20)
        plan = mixture_transport(SOURCE, TARGET, reg_m=reg_m).plan
        for key, link in display.links_.items():
            assert link.get_linewidth() == pytest.approx(20 * plan[key])


def test_reg_and_reg_m_reach_the_transport():
    for options in ({"reg": 3.0}, {"reg_m": (5.0, 60.0)}):
        display = TransportDisplay.from_parameters(SOURCE, TARGET, **options)
        expected = mixture_transport(SOURCE, TARGET, **options)
        np.testing.assert_allclose(display.transport.plan, expected.plan)
        assert not np.allclose(expected.plan, mixture_transport(SOURCE, TARGET).plan, atol=1e-3)


def test_masses_that_are_zero_to_printing_precision_have_neither_link_nor_text():
    plan = np.array([[0.3, 0.0], [0.2451, 0.2549], [0.1951, 0.0049]])
    display = TransportDisplay.from_transport(plan_of(SOURCE, TARGET, plan))
    assert set(display.links_) == set(display.texts_) == {(0, 0), (1, 0), (1, 1), (2, 0)}
    plan = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    nothing = TransportDisplay.from_transport(plan_of(SOURCE, TARGET, plan))
    assert nothing.links_ == nothing.texts_ == {}


@pytest.mark.parametrize(
    "largest, decimals", [(1.0, 2), (0.1, 2), (0.05, 3), (0.004, 4), (0.0, 2), (1.5e-9, 10)]
)
def test_decimals_show_two_digits_of_the_largest_mass(largest, decimals):
    assert printing_decimals(np.array([[0.0, largest]])) == decimals


def test_many_small_masses_are_drawn():
    n = 400
    means = np.random.default_rng(0).normal(size=(n, 2))
    mixture = (np.full(n, 1 / n), means, np.ones(n))
    display = TransportDisplay.from_parameters(mixture, (mixture[0], means + 50, mixture[2]),
                                               masses=False)  # fmt: skip
    assert len(display.links_) == n


def test_texts_keep_clear_of_each_other_and_of_other_links():
    ends = {(0, 0): ((0.0, 0.0), (10.0, 10.0)), (1, 1): ((0.0, 10.0), (10.0, 0.0))}
    a = ([0.5, 0.5], [ends[0, 0][0], ends[1, 1][0]], [0.1, 0.1])
    b = ([0.5, 0.5], [ends[0, 0][1], ends[1, 1][1]], [0.1, 0.1])
    plan = np.diag([0.5, 0.5])
    transport = mixture_transport(a, b)
    transport.plan[:] = plan
    display = TransportDisplay.from_transport(transport)
    places = np.array([text.get_position() for text in display.texts_.values()])
    assert np.linalg.norm(places - 5.0, axis=1).min() > 1.0  # where they cross
    assert np.linalg.norm(np.diff(places, axis=0)) > 1.0
    for (key, text), (start, end) in zip(display.texts_.items(), ends.values(), strict=True):
        place, direction = np.subtract(text.get_position(), start), np.subtract(end, start)
        assert abs(np.cross([*place, 0], [*direction, 0])[2]) < 1e-9, key  # on its link


def test_colors_tell_the_mixtures_or_the_components():
    display = TransportDisplay.from_parameters(SOURCE, TARGET)
    sides = display.source_ellipses_, display.target_ellipses_
    edges = [{ellipse.get_edgecolor()[:3] for ellipse in side} for side in sides]
    assert len(edges[0]) == len(edges[1]) == 1 and edges[0] != edges[1]
    assert len({link.get_color() for link in display.links_.values()}) == 1
    display = TransportDisplay.from_parameters(SOURCE, TARGET, color_by="component")
    palette = component_colors(3)
    for side in (display.source_ellipses_, display.target_ellipses_):
        for ellipse, color in zip(side, palette, strict=False):
            np.testing.assert_allclose(ellipse.get_edgecolor()[:3], color)
    for (k, _), link in display.links_.items():
        np.testing.assert_allclose(to_rgb(link.get_color()), palette[k])
    styles = [side[0].get_linestyle() for side in (display.source_ellipses_,
                                                   display.target_ellipses_)]  # fmt: skip
    assert styles == ["-", "--"]


@pytest.mark.parametrize("color_by, colors", [("mixture", "gk"), ("component", "rgb")])
def test_colors_are_those_given(color_by, colors):
    display = TransportDisplay.from_parameters(
        SOURCE, TARGET, color_by=color_by, colors=list(colors)
    )
    found = [ellipse.get_edgecolor()[:3] for ellipse in display.target_ellipses_]
    expected = "kk" if color_by == "mixture" else "rg"
    np.testing.assert_allclose(found, [to_rgb(color) for color in expected])


def test_masses_legend_and_options_of_artists():
    display = TransportDisplay.from_parameters(
        SOURCE, TARGET, n_std=1.0, masses=False, legend=False, ellipse_kw={"linewidth": 5},
        link_kw={"color": "red"},
    )  # fmt: skip
    assert display.texts_ == {} and display.ax_.get_legend() is None
    assert display.source_ellipses_[0].width == pytest.approx(2 * np.sqrt(0.5))
    assert {e.get_linewidth() for e in display.target_ellipses_} == {5}
    assert {link.get_color() for link in display.links_.values()} == {"red"}
    display.plot(text_kw={"fontsize": 13})
    assert {text.get_fontsize() for text in display.texts_.values()} == {13}
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert words == ["source", "target"]


def test_a_coupled_fit_is_drawn_by_components():
    X = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0, 0], [8, 0]], 30, axis=0)
    fitter = CoupledGMMFitter(2, random_state=0).fit_pair(X, X + [0, 4])
    display = TransportDisplay.from_estimator(fitter)
    assert display.transport is fitter.transport_
    np.testing.assert_allclose(to_rgb(display.links_[1, 1].get_color()), component_colors(2)[1])
    plain = TransportDisplay.from_estimator(fitter, color_by="mixture")
    assert len({link.get_color() for link in plain.links_.values()}) == 1


def test_what_cannot_be_drawn_is_refused():
    flat = (TARGET.weights, TARGET.means[:, :2], TARGET.covariances)
    with pytest.raises(ValueError, match="same number of features; source has 3 and target has 2"):
        TransportDisplay.from_parameters(SOURCE, flat)
    with pytest.raises(ValueError, match="^target must be a fitted mixture"):
        TransportDisplay.from_parameters(SOURCE, "target")
    with pytest.raises(ValueError, match="transport must be a MixtureTransport.*from_parameters"):
        TransportDisplay.from_transport((SOURCE, TARGET))
    with pytest.raises(ValueError, match="has no transport_. Call fit first"):
        TransportDisplay.from_estimator(CoupledGMMFitter())
    with pytest.raises(ValueError, match="color_by must be one of 'mixture', 'component'"):
        TransportDisplay.from_parameters(SOURCE, TARGET, color_by="source")
    for width in (0, -1.0, np.inf, "2"):
        with pytest.raises(ValueError, match="link_width must be a positive number"):
            TransportDisplay.from_parameters(SOURCE, TARGET, link_width=width)
