"""Textures, against their definition and what is known of fields and energies."""

import re

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.image import extract_patches_2d

from skgmmot import DifferentiableGaussianMixture, mixture_wasserstein
from skgmmot.images import synthesize_texture
from skgmmot.imaging.synthesis import gaussian_field


def texture(shape=(40, 36), seed=0):
    """Bright and dark spots under noise: patches of two kinds."""
    rng = np.random.default_rng(seed)
    spots = gaussian_filter(rng.normal(size=shape), 2.0, mode="wrap") > 0
    return 0.2 + 0.4 * spots + 0.2 * rng.random(shape)


FAST = {"n_components": 2, "scales": [1, 2], "patch_size": 3, "n_steps": 30, "random_state": 0}


def rows(image, size):
    patches = extract_patches_2d(image, (size, size))
    return patches.reshape(len(patches), -1)


def halved(image):
    height, width = image.shape[0] // 2, image.shape[1] // 2
    return image.reshape(height, 2, width, 2, *image.shape[2:]).mean(axis=(1, 3))


def color(seed=0):
    return np.stack([texture(), 1 - texture(), texture(seed=1)], axis=2)


@pytest.mark.parametrize("reference", [texture(), color()], ids=["gray", "color"])
def test_patches_become_those_of_the_reference(reference):
    """The losses are MW2² of mixtures of patches at two scales, and descend."""
    flow = synthesize_texture(reference, **(FAST | {"n_steps": 150}))
    assert flow.image.shape == reference.shape
    assert flow.image.min() >= 0 and flow.image.max() <= 1
    assert flow.losses.shape == (151,) and flow.losses_by_scale.shape == (151, 2)
    assert (flow.losses_by_scale[-1] < 0.05 * flow.losses_by_scale[0]).all()
    for image, target in zip((reference, halved(reference)), flow.targets, strict=True):
        patches = rows(image, 3)
        np.testing.assert_array_equal(target.weights, [0.5, 0.5])
        floor = 1e-4 * np.linalg.eigvalsh(np.cov(patches.T, bias=True)).max()
        mixture = DifferentiableGaussianMixture(
            2,
            reg_covar=floor,
            fixed_weights=True,
            residual_tol=np.inf,
            acceleration=None,
            random_state=0,
        )
        distance = mixture_wasserstein(mixture.fit(patches), target)
        np.testing.assert_allclose(distance, 0, atol=1e-6)  # a root of rounding
    values = [
        mixture_wasserstein(theta, target, squared=True)
        for theta, target in zip(flow.mixtures, flow.targets, strict=True)
    ]
    np.testing.assert_allclose(values, flow.losses_by_scale[-1], rtol=1e-9)


def test_scales_are_weighted():
    weighted = synthesize_texture(texture(), scale_weights=[1.0, 10.0], **FAST)
    np.testing.assert_allclose(weighted.losses, weighted.losses_by_scale @ [1.0, 10.0], rtol=1e-9)
    even = synthesize_texture(texture(), **FAST)
    np.testing.assert_allclose(even.losses, even.losses_by_scale.sum(axis=1), rtol=1e-9)
    assert np.abs(weighted.image - even.image).max() > 1e-3


def test_scales_that_are_left_out_stay_as_they_are():
    """A scale without a term descends less."""
    both = synthesize_texture(texture(), **FAST)
    fine = synthesize_texture(texture(), **(FAST | {"scales": [1]}))
    assert fine.losses_by_scale.shape == (31, 1)
    # of the mixtures at half the size, with one component
    gaps = [
        mixture_wasserstein(
            DifferentiableGaussianMixture(1).fit(rows(halved(flow.image), 3)),
            DifferentiableGaussianMixture(1).fit(rows(halved(texture()), 3)),
        )
        for flow in (both, fine)
    ]
    assert gaps[0] < gaps[1]


@pytest.mark.parametrize("shape", [(20, 50), (64, 30)])
def test_shape_of_the_texture_is_free(shape):
    for reference in (texture(), color()):
        flow = synthesize_texture(reference, shape=shape, **FAST)
        assert flow.image.shape == (*shape, *reference.shape[2:])
        assert flow.losses[-1] < 0.5 * flow.losses[0]


def test_seed_draws_the_texture():
    first, again = (synthesize_texture(texture(), **FAST) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    other = synthesize_texture(texture(), **(FAST | {"random_state": 1}))
    assert np.abs(first.image - other.image).max() > 0.1
    state = synthesize_texture(texture(), **(FAST | {"random_state": np.random.RandomState(0)}))
    assert state.image.shape == first.image.shape


def test_estimator_fits_all_mixtures():
    given = DifferentiableGaussianMixture(3, covariance_type="diag", random_state=0, reg_covar=1e-4)
    before = given.get_params()
    options = FAST | {"n_components": None}
    flow = synthesize_texture(texture(), estimator=given, **options)
    assert given.get_params() == before and not hasattr(given, "means_")
    for mixture in (*flow.mixtures, *flow.targets):
        assert mixture.covariance_type == "diag" and mixture.n_components == 3
    expected = clone(given).fit(rows(texture(), 3)).parameters_
    np.testing.assert_allclose(flow.targets[0].means, expected.means, atol=1e-12)
    default = synthesize_texture(texture((48, 48)), **(options | {"n_steps": 1}))
    assert {mixture.n_components for mixture in default.targets} == {4}


def test_patch_size_and_steps_and_rate():
    flow = synthesize_texture(texture(), **(FAST | {"patch_size": 5}))
    assert flow.targets[0].n_features == 25
    slow = synthesize_texture(texture(), learning_rate=1e-4, **FAST)
    start = gaussian_field(texture(), texture().shape, np.random.RandomState(0))
    assert (
        np.abs(slow.image - np.clip(start, 0, 1)).max() < 4e-3
    )  # a step of Adam may be a little longer
    usual = synthesize_texture(texture(), **FAST)
    np.testing.assert_array_equal(
        usual.image, synthesize_texture(texture(), learning_rate=0.02, **FAST).image
    )


def test_callback_sees_every_step_and_can_stop():
    seen = []

    def callback(step, image, loss):
        with pytest.raises(ValueError, match="read-only"):
            image[...] = 0.0
        seen.append((step, image.copy(), loss))
        return step == 4

    flow = synthesize_texture(texture(), callback=callback, **FAST)
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4]
    assert flow.losses.tolist() == [loss for *_, loss in seen]
    np.testing.assert_array_equal(flow.image, np.clip(seen[-1][1], 0, 1))
    start = gaussian_field(texture(), texture().shape, np.random.RandomState(0))
    np.testing.assert_allclose(seen[0][1], start, atol=1e-12)


@pytest.mark.parametrize("reference", [texture((24, 20)), color()[:24, :20]], ids=["gray", "color"])
def test_field_has_the_mean_and_the_covariances_of_the_reference(reference):
    """Averages over many fields; lags of up to one pixel, between all channels."""
    draws = 4000
    rng = np.random.RandomState(0)
    fields = np.array([gaussian_field(reference, (24, 20), rng) for _ in range(draws)])
    fields = fields.reshape(draws, 24, 20, -1)
    mean = reference.reshape(24, 20, -1).mean(axis=(0, 1))
    centered = reference.reshape(24, 20, -1) - mean
    fields -= mean
    deviation = centered.std()
    # of a mean over all pixels, which is zero but for rounding: the reference's mean was taken off
    np.testing.assert_allclose(fields.mean(axis=(1, 2)), 0, atol=1e-12)
    for lag in ((0, 0), (1, 0), (0, 1)):
        moved = np.roll(centered, lag, axis=(0, 1))
        expected = np.einsum("ijc,ije->ce", moved, centered) / (24 * 20)
        rolled = np.roll(fields, lag, axis=(1, 2))
        found = np.einsum("nijc,nije->ce", rolled, fields) / fields[..., 0].size
        # of 4000 draws of spots that are independent at a distance: three of a hundred
        np.testing.assert_allclose(found, expected, atol=0.03 * deviation**2)


def test_field_of_another_shape():
    """Larger, it keeps mean and variance; smaller, it is a part of one of the full size."""
    rng = np.random.RandomState(0)
    field = gaussian_field(texture(), (400, 300), rng)
    np.testing.assert_allclose(field.mean(), texture().mean(), atol=0.01)
    np.testing.assert_allclose(field.var(), texture().var(), rtol=0.05)
    part = gaussian_field(texture(), (20, 18), np.random.RandomState(0))
    whole = gaussian_field(texture(), texture().shape, np.random.RandomState(0))
    np.testing.assert_array_equal(part, whole[:20, :18])


def test_integers_of_8_bits_and_single_precision():
    bytes_ = np.rint(255 * texture()).astype(np.uint8)
    single = (bytes_ / 255).astype(np.float32)
    of_bytes, of_doubles, of_singles = (
        synthesize_texture(image, **(FAST | {"n_steps": 3}))
        for image in (bytes_, bytes_ / 255, single)
    )
    np.testing.assert_array_equal(of_bytes.image, of_doubles.image)
    assert of_bytes.image.dtype == np.float64 and of_singles.image.dtype == np.float32
    np.testing.assert_allclose(of_singles.image, of_doubles.image, atol=5e-3)  # a third of a step


def test_result_tells_what_it_is():
    flow = synthesize_texture(texture(), **(FAST | {"n_steps": 2}))
    pattern = r"<ImageFlow: 40 × 36, 2 steps, loss [\d.e-]+ to [\d.e-]+>"
    assert re.fullmatch(pattern, repr(flow))
    assert "40 × 36 × 3" not in repr(flow)
    assert "3 channels" in repr(synthesize_texture(color(), **(FAST | {"n_steps": 1})))


def test_what_fits_of_the_reference_tell_is_passed_on_once():
    given = DifferentiableGaussianMixture(2, max_iter=1, tol=0.0, random_state=0, reg_covar=1e-4)
    with pytest.warns(ConvergenceWarning) as caught:
        synthesize_texture(texture(), estimator=given, **(FAST | {"scales": [2]}))
    (only,) = caught
    assert str(only.message).startswith("reference at the scale 2: ")
    assert only.filename == __file__


def test_images_that_run_away_are_told():
    options = FAST | {"n_components": 1, "n_steps": 5}
    with pytest.warns(ConvergenceWarning, match="run away. Decrease learning_rate") as caught:
        flow = synthesize_texture(texture(), learning_rate=3.0, **options)
    assert [warning.filename for warning in caught] == [__file__]
    assert flow.image.min() >= 0 and flow.image.max() <= 1


def test_reference_is_not_written_to():
    reference = texture()
    reference.flags.writeable = False
    synthesize_texture(reference, **(FAST | {"n_steps": 2}))
    np.testing.assert_array_equal(reference, texture())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"reference": texture()[0]}, "reference must have the shape (height, width) or"),
        ({"reference": 255 * texture()}, "reference must be in [0, 1]; it goes from"),
        ({"reference": texture() - 0.5}, "reference must be in [0, 1]; it goes from"),
        ({"reference": np.where(texture() > 0.6, np.nan, 0.5)}, "reference contains NaN"),
        ({"reference": np.ones((40, 40), int)}, "8-bit integers (uint8); got int64"),
        ({"reference": texture() > 0.5}, "got bool"),
        ({"reference": np.full((40, 40), 0.5)}, "reference is constant: it has no texture"),
        ({"reference": texture((5, 40))}, "reference: at the scale 2 an image of 5 × 40 pixels"),
        ({"reference": np.moveaxis(color(), 2, 0)}, "axes are (height, width, n_channels)"),
        ({"reference": np.ma.masked_greater(texture(), 0.5)}, "reference has masked pixels"),
        (
            {"reference": np.indices((40, 40)).sum(axis=0) % 2 * 1.0},
            "reference is constant at the scale 2: leave it out of scales",
        ),
        (
            {"reference": texture((6, 7)), "shape": (40, 40)},
            "reference: at the scale 2 an image of 6 × 7 pixels has 1 patches, too few for 2",
        ),
        ({"shape": (40, 5)}, "shape: at the scale 2 an image of 40 × 5"),
        ({"shape": (40, 40, 3)}, "shape must be two positive integers (height, width)"),
        ({"shape": (40.0, 40)}, "shape must be two positive integers (height, width)"),
        ({"shape": (0, 40)}, "shape must be two positive integers"),
        ({"scales": []}, "scales must be a list of positive integers"),
        ({"scales": [1, 0]}, "scales must be a list of positive integers"),
        ({"scales": [1.5]}, "scales must be a list of positive integers"),
        ({"scales": [2, 2]}, "scales must differ"),
        ({"scale_weights": [1.0]}, "scale_weights must have shape (2,)"),
        ({"scale_weights": [1j, 1.0]}, "scale_weights"),
        ({"scale_weights": [1.0, 0.0]}, "scale_weights must be positive"),
        ({"estimator": DifferentiableGaussianMixture(3)}, "estimator has n_components=3"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"patch_size": 0}, "'patch_size' parameter"),
        ({"n_steps": 0}, "'n_steps' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"callback": 3}, "'callback' parameter"),
        ({"random_state": "x"}, "'random_state' parameter"),
    ],
)
def test_invalid_arguments_are_named(changes, message):
    arguments = FAST | {"reference": texture()} | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        synthesize_texture(arguments.pop("reference"), **arguments)
