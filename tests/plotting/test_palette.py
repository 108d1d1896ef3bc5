"""The colors of components."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from skgmmot.plotting import component_colors
from skgmmot.plotting.palette import PALETTE, line_style


def test_the_first_eight_are_those_of_okabe_and_ito():
    np.testing.assert_allclose(component_colors(8), [to_rgb(color) for color in PALETTE])
    assert component_colors(0).shape == (0, 3)


def test_a_component_has_its_color_whatever_the_number_of_components():
    many = component_colors(60)
    for n in (1, 5, 9, 24, 33):
        np.testing.assert_array_equal(component_colors(n), many[:n])


def test_color_and_style_tell_96_components_apart():
    colors = component_colors(96)
    assert len(np.unique(colors[:24], axis=0)) == 24
    np.testing.assert_array_equal(colors[24:48], colors[:24])
    assert len({(*color, line_style(k)) for k, color in enumerate(colors)}) == 96
    assert [line_style(k) for k in (0, 7, 8, 16, 24, 32)] == ["-", "-", "--", ":", "-.", "-"]


def seen_without(colors, kind):
    """Linear light as people without one kind of cone see it (Viénot, Brettel, Mollon 1999)."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    to_cones = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714],
                         [0.0299566, 0.184309, 1.46709]])  # fmt: skip
    cones = linear @ to_cones.T
    if kind == "protan":
        cones[:, 0] = 2.02344 * cones[:, 1] - 2.52581 * cones[:, 2]
    else:
        cones[:, 1] = 0.494207 * cones[:, 0] + 1.24827 * cones[:, 2]
    seen = np.clip(cones @ np.linalg.inv(to_cones).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["protan", "deutan"])
def test_the_first_eight_stay_apart_without_red_or_green_cones(kind):
    seen = seen_without(component_colors(8), kind)
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)[np.triu_indices(8, 1)]
    assert apart.min() > 0.1
    red_and_green = seen_without(np.array([[0.8, 0.3, 0.2], [0.5, 0.5, 0.2]]), kind)
    assert np.linalg.norm(np.diff(red_and_green, axis=0)) < 0.3  # the eye of the test works


@pytest.mark.parametrize("wrong", [-1, 2.0, "3"])
def test_a_number_of_components_is_an_integer(wrong):
    with pytest.raises(ValueError, match="n_components must be an integer from zero on"):
        component_colors(wrong)
