"""Textures: images of noise that take on the patches of a reference."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from ..checks import RANDOM_STATE, Interval
from ..estimators.mixture import DifferentiableGaussianMixture
from ..estimators.state import warn_of
from ..functions.validation import validated
from ..parameters import RandomState
from .patch_terms import checked_options, fitted_patches, flow_image, refuse_too_small
from .pictures import ImageFlow, as_image

# Of all functions of images by patches.
CONSTRAINTS = {
    "patch_size": [Interval(Integral, 1, None, closed="left")],
    "n_components": [Interval(Integral, 1, None, closed="left"), None],
    "scales": ["array-like"],
    "scale_weights": ["array-like", None],
    "estimator": [None, DifferentiableGaussianMixture],
    "n_steps": [Interval(Integral, 1, None, closed="left")],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "random_state": RANDOM_STATE,
    "callback": [None, callable],
}


@validated({"reference": ["array-like"], "shape": [tuple, list, None], **CONSTRAINTS})
def synthesize_texture(
    reference: ArrayLike,
    *,
    patch_size: int = 4,
    n_components: int | None = None,
    scales: Sequence[int] = (1, 2, 4),
    scale_weights: ArrayLike | None = None,
    shape: tuple[int, int] | None = None,
    estimator: DifferentiableGaussianMixture | None = None,
    n_steps: int = 300,
    learning_rate: float = 0.02,
    random_state: RandomState = None,
    callback: Callable[..., object] | None = None,
) -> ImageFlow:
    """Synthesize a texture: another image with the patches of a reference.

    A Gaussian mixture is fitted to the patches of the reference at each scale. An image that starts
    as a stationary Gaussian field, with the mean and the covariances of the reference, then
    descends the sum of the squared MW2 distances from the mixtures of its own patches to these
    (section 5.4 of [1]_, with several scales).

    Parameters
    ----------
    reference : array-like of shape (height, width) or (height, width, n_channels)
        Floats in [0, 1], of which float32 is kept, or 8-bit integers, which are divided by 255.
        It should be stationary: the same all over, in a statistical sense.
    patch_size : int, default=4
        Patches have this many pixels in height and in width. All of them are compared, so that
        features are ``patch_size ** 2 * n_channels`` numbers.
    n_components : int, default=None
        Number of components of each mixture. None: 4, or that of ``estimator``. With 1, a texture
        is little more than the field that it starts from: patches that are Gaussian have no edges.
    scales : sequence of int, default=(1, 2, 4)
        Factors by which images are made smaller, by means of blocks, before patches are taken. With
        1 alone, structures that are larger than a patch are lost.
    scale_weights : array-like of shape (n_scales,), default=None
        Weights of the scales in the energy. None: one for each.
    shape : tuple (height, width), default=None
        Of the texture. None: that of the reference.
    estimator : DifferentiableGaussianMixture, default=None
        How to fit patches; clones are fitted, the estimator itself is not changed. None: full
        covariances with ``reg_covar`` 1e-4 times the largest variance of the reference's patches,
        below which a flat component would have a steep gradient; fixed uniform weights, with which
        every component counts; and plain EM that stops by ``tol`` alone, as scikit-learn's: a
        mixture is a target before it has settled.
    n_steps : int, default=300
        Number of steps of Adam [2]_.
    learning_rate : float, default=0.02
        By how much a pixel moves in a step, at most, of the way from black to white.
    random_state : int, RandomState instance or None, default=None
        Draws the field, and seeds the default estimator.
    callback : callable, default=None
        Called before each step as ``callback(step, image, loss)``, with the image before it is
        clipped (a read-only view: copy what you keep). It ends there if this returns True.

    Returns
    -------
    flow : ImageFlow
        ``image``, the texture, clipped to [0, 1]; ``losses`` and ``losses_by_scale``; ``mixtures``
        and ``targets``.

    Raises
    ------
    ValueError
        If an argument is not valid, an image has too few patches at the coarsest scale, or the
        reference is constant at one of the scales.
    RuntimeError
        If EM cannot be fitted to the patches any more: ``learning_rate`` is too large.

    Warns
    -----
    ConvergenceWarning
        If a fit of the reference's patches has not converged, a component lost its mass, or the
        image ran far beyond [0, 1] before it was clipped.

    See Also
    --------
    transfer_texture : An image that keeps its content and takes on the patches of another.

    Notes
    -----
    The field is (X − m) = 1/√N (Y − m) ∗ W, with the reference Y of N pixels, its mean m, and the
    same white noise W for all channels [3]_. It is periodic; the texture is not.

    Patches know of structures up to ``patch_size * max(scales)`` pixels. An image with larger ones,
    half of it dark for instance, gets their patches at random places.

    References
    ----------
    .. [1] Boïté, S., Tanguy, E., Delon, J., Desolneux, A., Flamary, R., "Differentiable
       Expectation-Maximisation and applications to Gaussian mixture model optimal transport",
       arXiv:2509.02109, 2025.
    .. [2] Kingma, D. P., Ba, J., "Adam: a method for stochastic optimization", ICLR 2015.
    .. [3] Galerne, B., Gousseau, Y., Morel, J.-M., "Random phase textures: theory and synthesis",
       IEEE Transactions on Image Processing 20(1), 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot.images import synthesize_texture
    >>> noise = np.random.default_rng(0).random((32, 32))
    >>> stripes = np.tile([0.2, 0.2, 0.6, 0.6], (32, 8)) + 0.2 * noise
    >>> flow = synthesize_texture(stripes, n_components=2, scales=[1], n_steps=40, random_state=0)
    >>> bool(flow.losses[-1] < 0.1 * flow.losses[0])
    True
    """
    reference = as_image(reference, "reference")
    options = checked_options(
        patch_size, n_components, scales, scale_weights, estimator, random_state
    )
    refuse_constant(reference, "reference")
    refuse_too_small(reference.shape, options, "reference")
    size = reference.shape[:2] if shape is None else _checked_shape(shape)
    refuse_too_small(size, options, "shape")
    start = gaussian_field(reference, size, check_random_state(random_state))
    goal = fitted_patches(reference, options, "reference")
    flow, complaints = flow_image(
        start,
        goal.mixtures,
        goal.estimators,
        options,
        n_steps=n_steps,
        learning_rate=learning_rate,
        callback=callback,
    )
    warn_of([*goal.complaints, *complaints], stacklevel=4)  # above validate_params
    return flow


def gaussian_field(reference, shape, rng):
    """A stationary Gaussian field of a shape (height, width), of the dtype of the reference.

    X = m + 1/√N (Y − m) ∗ W: its mean is the reference's, and its covariances are those of the
    reference continued by its mean. The convolution is periodic on what holds both images.
    """
    mean = reference.mean(axis=(0, 1), dtype=np.float64)
    height, width = np.maximum(shape, reference.shape[:2]).tolist()
    spot = np.zeros((height, width, *reference.shape[2:]))
    spot[: reference.shape[0], : reference.shape[1]] = reference - mean
    spot /= np.sqrt(reference.shape[0] * reference.shape[1])
    noise = np.fft.rfft2(rng.normal(size=(height, width)))
    noise = noise.reshape(*noise.shape, *(1,) * (reference.ndim - 2))
    product = np.fft.rfft2(spot, axes=(0, 1)) * noise
    field = mean + np.fft.irfft2(product, (height, width), axes=(0, 1))
    return field[: shape[0], : shape[1]].astype(reference.dtype)


def refuse_constant(image, name):
    """An image of one color has no patches to fit a mixture to."""
    if not np.ptp(image, axis=(0, 1)).any():
        raise ValueError(f"{name} is constant: it has no texture.")


def _checked_shape(shape):
    if len(shape) != 2 or not all(
        isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in shape
    ):
        raise ValueError(f"shape must be two positive integers (height, width); got {shape}.")
    return tuple(map(int, shape))
