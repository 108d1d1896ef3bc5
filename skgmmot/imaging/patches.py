"""Patches of images and images at coarser scales: linear maps, each with its adjoint.

Images have the shape (height, width) or (height, width, n_channels). With the patch at (i, j),

    patches(x)[(i, j), (a, b, c)] = x[i + a, j + b, c],
    overlap_add(y)[h, w, c] = Σ_ab y[(h − a, w − b), (a, b, c)],

where the sum is over patches that are there. With blocks of s × s pixels, without those that are
left over at the right and at the bottom,

    downscale(x)[i, j] = 1/s² Σ_ab x[s i + a, s j + b],
    upscale(y)[h, w] = 1/s² y[h // s, w // s].
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def patches(image, size):
    """All patches of size × size pixels: rows of a matrix, from left to right and down."""
    windows = sliding_window_view(image, (size, size), axis=(0, 1))
    if image.ndim == 3:
        windows = np.moveaxis(windows, 2, -1)  # channels last, as in the image
    return windows.reshape(windows.shape[0] * windows.shape[1], -1)


def overlap_add(rows, shape, size):
    """The adjoint of `patches` of an image of a shape: each patch is added where it was."""
    height, width = shape[0] - size + 1, shape[1] - size + 1
    parts = rows.reshape(height, width, size, size, *shape[2:])
    image = np.zeros(shape, rows.dtype)
    for a in range(size):
        for b in range(size):
            image[a : a + height, b : b + width] += parts[:, :, a, b]
    return image


def downscale(image, factor):
    """Means of blocks of factor × factor pixels."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    whole = image[: height * factor, : width * factor]
    blocks = whole.reshape(height, factor, width, factor, *image.shape[2:])
    return blocks.mean(axis=(1, 3))


def upscale(image, shape, factor):
    """The adjoint of `downscale` of an image of a shape: each pixel is shared among its block."""
    spread = np.zeros(shape, image.dtype)
    blocks = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
    spread[: blocks.shape[0], : blocks.shape[1]] = blocks
    return spread / factor**2


def patch_features(size, factor):
    """A feature map for `MixtureEnergy`: the patches of an image at a coarser scale."""

    def extract(image):
        coarse = downscale(image, factor)

        def vjp(cotangent):
            return upscale(overlap_add(cotangent, coarse.shape, size), image.shape, factor)

        return patches(coarse, size), vjp

    return extract
