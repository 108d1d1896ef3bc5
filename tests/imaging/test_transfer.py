"""Transfer of patches, along the geodesic between two mixtures."""

import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.images import synthesize_texture, transfer_texture

FAST = {"n_components": 2, "scales": [1, 2], "patch_size": 3, "random_state": 0}


def content(shape=(40, 36, 3)):
    """A bright and a dark half, under noise."""
    rng = np.random.default_rng(0)
    image = 0.2 + 0.1 * rng.random(shape)
    image[:, shape[1] // 2 :] += 0.3
    return image


def style(shape=(36, 36, 3)):
    """Bright and dark spots under noise, brighter in the first channel."""
    rng = np.random.default_rng(1)
    spots = gaussian_filter(rng.normal(size=shape[:2]), 3.0, mode="wrap") > 0
    image = 0.25 + 0.4 * spots[..., None] + 0.2 * rng.random(shape)
    image[..., 0] += 0.1  # far from a content of mean 0.4
    return image


@pytest.mark.parametrize("axes", [3, 2], ids=["color", "gray"])
def test_patches_become_those_of_the_style_and_halves_stay_apart(axes):
    given, goal = (
        image if axes == 3 else np.ascontiguousarray(image[..., 0])
        for image in (content(), style())
    )
    flow = transfer_texture(given, goal, **FAST)
    assert flow.image.shape == given.shape and flow.losses.shape == (101,)
    assert flow.losses[-1] < 0.05 * flow.losses[0]
    # with fixed weights the mean of a mixture is not that of its patches: they differ by 0.04
    np.testing.assert_allclose(flow.image.mean(axis=(0, 1)), goal.mean(axis=(0, 1)), atol=0.06)
    assert flow.image[:, 18:].mean() > flow.image[:, :18].mean() + 0.1
    expected = synthesize_texture(goal, n_steps=1, **FAST).targets
    for target, other in zip(flow.targets, expected, strict=True):
        np.testing.assert_array_equal(target.means, other.means)


def test_strength_is_a_time_of_the_geodesic():
    """The distance at the start is in proportion to it, and where it is zero nothing moves."""
    roots = []
    for strength in (0.25, 0.5, 1.0):
        flow = transfer_texture(content(), style(), strength=strength, n_steps=1, **FAST)
        roots.append(np.sqrt(flow.losses_by_scale[0]))
    # the mixture of the first loss is one EM step ahead
    np.testing.assert_allclose(roots[0], 0.25 * roots[2], rtol=0.05)
    np.testing.assert_allclose(roots[1], 0.5 * roots[2], rtol=0.05)
    still = transfer_texture(content(), style(), strength=0.0, n_steps=20, **FAST)
    np.testing.assert_allclose(still.image, content(), atol=0.02)
    half = transfer_texture(content(), style(), strength=0.5, **FAST)
    middle = (content().mean(axis=(0, 1)) + style().mean(axis=(0, 1))) / 2
    np.testing.assert_allclose(half.image.mean(axis=(0, 1)), middle, atol=0.04)
    far = mixture_wasserstein(half.targets[0], flow.targets[0])
    assert half.losses[-1] < 0.1 * far**2


def test_free_weights_have_a_geodesic_too():
    """Its mixtures may have more components than the images' have."""
    given = DifferentiableGaussianMixture(2, reg_covar=1e-4, random_state=0)
    options = FAST | {"n_components": None, "n_steps": 60}
    flow = transfer_texture(content(), style(), strength=0.5, estimator=given, **options)
    assert flow.targets[0].n_components == 3
    assert flow.losses[-1] < 0.5 * flow.losses[0]


def test_callback_sees_the_content_first():
    seen = []
    flow = transfer_texture(
        content(), style(), callback=lambda *of_step: seen.append(of_step) or len(seen) == 3, **FAST
    )
    assert [step for step, *_ in seen] == [0, 1, 2]
    assert flow.losses.tolist() == [loss for *_, loss in seen]


def test_defaults_of_the_optimizer_are_options():
    options = FAST | {"n_steps": 5}
    usual = transfer_texture(content(), style(), **options)
    slow = transfer_texture(content(), style(), learning_rate=1e-3, **options)
    assert np.abs(slow.image - content()).max() < 6e-3 < np.abs(usual.image - content()).max()
    single = transfer_texture(content().astype(np.float32), style().astype(np.float32), **options)
    assert single.image.dtype == np.float32
    weighted = transfer_texture(content(), style(), scale_weights=[1.0, 5.0], **options)
    np.testing.assert_allclose(weighted.losses, weighted.losses_by_scale @ [1.0, 5.0], rtol=1e-9)


def test_what_fits_tell_is_passed_on():
    given = DifferentiableGaussianMixture(2, max_iter=1, tol=0.0, random_state=0, reg_covar=1e-4)
    options = FAST | {"scales": [1], "n_components": None, "n_steps": 1}
    with pytest.warns(ConvergenceWarning) as caught:
        transfer_texture(content(), style(), strength=0.5, estimator=given, **options)
    starts = [str(warning.message).partition(" at")[0] for warning in caught]
    assert starts == ["style", "content"]
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"content": content()[..., 0]}, "content and style must have the same channels"),
        ({"content": 2 * content()}, "content must be in [0, 1]"),
        ({"style": 2 + style()}, "style must be in [0, 1]"),
        ({"style": np.full((40, 40, 3), 0.5)}, "style is constant: it has no texture"),
        ({"content": content()[:5]}, "content: at the scale 2"),
        ({"style": style()[:, :5]}, "style: at the scale 2"),
        ({"strength": 1.5}, "'strength' parameter"),
        ({"strength": -0.1}, "'strength' parameter"),
        ({"scales": [0]}, "scales must be"),
    ],
)
def test_invalid_arguments_are_named(changes, message):
    arguments = FAST | {"content": content(), "style": style()} | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        transfer_texture(arguments.pop("content"), arguments.pop("style"), **arguments)
