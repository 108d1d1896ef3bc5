"""Patches and scales against scikit-learn and plain loops; maps and adjoints against each other."""

import numpy as np
import pytest
from sklearn.feature_extraction.image import extract_patches_2d

from skgmmot.imaging.patches import downscale, overlap_add, patch_features, patches, upscale

SHAPES = [(9, 7), (9, 7, 3), (8, 11, 1)]


def image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_patches_are_those_of_scikit_learn(shape, size):
    x = image(shape)
    theirs = extract_patches_2d(x, (size, size))
    np.testing.assert_array_equal(patches(x, size), theirs.reshape(len(theirs), -1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_downscale_takes_means_of_blocks(shape, factor):
    x = image(shape)
    coarse = downscale(x, factor)
    assert coarse.shape == (shape[0] // factor, shape[1] // factor, *shape[2:])
    for i, j in np.ndindex(coarse.shape[:2]):
        block = x[i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
        np.testing.assert_allclose(coarse[i, j], block.mean(axis=(0, 1)), atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_adjoints(shape):
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩, which holds to rounding."""
    x = image(shape)
    for size in (1, 2, 5):
        rows = patches(x, size)
        y = image(rows.shape, seed=1)
        pulled = overlap_add(y, shape, size)
        np.testing.assert_allclose(np.vdot(rows, y), np.vdot(x, pulled), rtol=1e-12)
    for factor in (1, 2, 3):
        coarse = downscale(x, factor)
        y = image(coarse.shape, seed=1)
        pulled = upscale(y, shape, factor)
        np.testing.assert_allclose(np.vdot(coarse, y), np.vdot(x, pulled), rtol=1e-12)
    for factor in (1, 2):
        rows, vjp = patch_features(2, factor)(x)
        y = image(rows.shape, seed=1)
        np.testing.assert_allclose(np.vdot(rows, y), np.vdot(x, vjp(y)), rtol=1e-12)
        np.testing.assert_array_equal(rows, patches(downscale(x, factor), 2))


def test_precision_is_that_of_the_image():
    x = image((9, 7, 3)).astype(np.float32)
    rows, vjp = patch_features(3, 2)(x)
    assert rows.dtype == vjp(rows).dtype == np.float32
