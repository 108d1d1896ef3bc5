"""Images as they come from a user, and as they go back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..parameters import FloatArray, MixtureParameters
from ..reprs import count, html_repr, short_repr
from ..samples.device_arrays import refuse_on_device


@dataclass(frozen=True, eq=False, repr=False)
class ImageFlow:
    """An image that descended an energy, as functions of ``skgmmot.images`` return it.

    Attributes
    ----------
    image : ndarray of shape (height, width) or (height, width, n_channels)
        The image, clipped to [0, 1].
    losses : ndarray of shape (n_steps + 1,)
        The energy before each step and after the last, of the image before it is clipped.
    losses_by_scale : ndarray of shape (n_steps + 1, n_scales)
        What each scale adds to it, without its weight.
    mixtures : list of MixtureParameters
        The mixture of the patches of the last image, for each scale.
    targets : list of MixtureParameters
        The mixture that these descend to, for each scale.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot.images import synthesize_texture
    >>> noise = np.random.default_rng(0).random((32, 32))
    >>> flow = synthesize_texture(noise, n_components=1, scales=[1], n_steps=5, random_state=0)
    >>> flow.image.shape, flow.losses.shape, flow.losses_by_scale.shape
    ((32, 32), (6,), (6, 1))
    """

    image: FloatArray
    losses: FloatArray
    losses_by_scale: FloatArray
    mixtures: list[MixtureParameters]
    targets: list[MixtureParameters]

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        height, width, *channels = self.image.shape
        words = [f"{height} × {width}"]
        words += [count(n_channels, "channel") for n_channels in channels]
        words += [count(len(self.losses) - 1, "step")]
        return ", ".join([*words, f"loss {self.losses[0]:.6g} to {self.losses[-1]:.6g}"])


def as_image(values: Any, name: str) -> FloatArray:
    """An image in [0, 1], float32 or float64; 8-bit integers are divided by 255."""
    if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
        raise ValueError(f"{name} has masked pixels, which patches cannot leave out. Fill them.")
    refuse_on_device(values, name)
    image = np.asarray(values)
    if image.dtype == np.uint8:
        image = image / 255
    if image.dtype.kind != "f":
        raise ValueError(
            f"{name} must hold floats in [0, 1], or 8-bit integers (uint8); got {image.dtype}. "
            "Divide it by its white."
        )
    if image.dtype != np.float32:
        image = image.astype(np.float64)
    if image.ndim not in (2, 3) or not image.size:
        raise ValueError(
            f"{name} must have the shape (height, width) or (height, width, n_channels); got "
            f"{image.shape}."
        )
    if not np.isfinite(image).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    least, largest = float(image.min()), float(image.max())
    if least < 0 or largest > 1:
        raise ValueError(
            f"{name} must be in [0, 1]; it goes from {least:.6g} to {largest:.6g}. Divide it by "
            "its white, or clip it."
        )
    return image


def told_of_far(image: FloatArray) -> list[str]:
    """What there is to warn of where an image, before it is clipped, is far from [0, 1]."""
    least, largest = float(image.min()), float(image.max())
    if least >= -1 and largest <= 2:
        return []
    return [
        f"The image went from {least:.3g} to {largest:.3g} before it was clipped to [0, 1]: it "
        "has run away. Decrease learning_rate."
    ]


def number_of_components(n_components, estimator, default):
    """That of an argument or of an estimator, which must agree."""
    of_estimator = None if estimator is None else estimator.n_components
    if n_components is not None and of_estimator not in (None, n_components):
        raise ValueError(
            f"n_components={n_components}, but estimator has n_components={of_estimator}. Leave "
            "n_components out."
        )
    return n_components or of_estimator or default
