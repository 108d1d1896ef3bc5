"""Style by patches: an image that keeps its content and takes on the patches of another."""

from collections.abc import Callable, Sequence
from numbers import Real

from numpy.typing import ArrayLike

from ..checks import Interval
from ..estimators.mixture import DifferentiableGaussianMixture
from ..estimators.state import warn_of
from ..functions.validation import validated
from ..parameters import RandomState
from ..results.transport_result import transport_between
from .patch_terms import checked_options, fitted_patches, flow_image, refuse_too_small
from .pictures import ImageFlow, as_image
from .synthesis import CONSTRAINTS, refuse_constant


@validated(
    {
        "content": ["array-like"],
        "style": ["array-like"],
        "strength": [Interval(Real, 0, 1, closed="both")],
        **CONSTRAINTS,
    }
)
def transfer_texture(
    content: ArrayLike,
    style: ArrayLike,
    *,
    strength: float = 1.0,
    patch_size: int = 4,
    n_components: int | None = None,
    scales: Sequence[int] = (1, 2, 4),
    scale_weights: ArrayLike | None = None,
    estimator: DifferentiableGaussianMixture | None = None,
    n_steps: int = 100,
    learning_rate: float = 0.02,
    random_state: RandomState = None,
    callback: Callable[..., object] | None = None,
) -> ImageFlow:
    """Give an image the patches of another: its colors, its contrast, its strokes.

    The energy is that of `synthesize_texture`, with the patches of ``style`` as the reference, and
    the image starts as ``content``. Nothing holds it there but that it takes the shortest way:
    large structures, of which patches do not know, stay.

    Parameters
    ----------
    content : array-like of shape (height, width) or (height, width, n_channels)
        Where the image starts: floats in [0, 1], of which float32 is kept, or 8-bit integers, which
        are divided by 255.
    style : array-like of shape (height, width) or (height, width, n_channels)
        The reference, as ``content``, with as many channels. It may have another size.
    strength : float in [0, 1], default=1.0
        How far to go: the target of each scale is the mixture at this time of the MW2 geodesic from
        the mixture of the content to that of the style. With 0 the content stays, and with 1 its
        patches become those of the style.
    patch_size, n_components, scales, scale_weights, estimator
        As in `synthesize_texture`. Coarse scales change larger structures of the content.
    n_steps : int, default=100
        Number of steps of Adam. Fewer than for a texture, which starts farther away.
    learning_rate, random_state, callback
        As in `synthesize_texture`.

    Returns
    -------
    flow : ImageFlow
        ``image``, clipped to [0, 1]; ``losses`` and ``losses_by_scale``; ``mixtures`` and
        ``targets``.

    Raises
    ------
    ValueError
        If an argument is not valid, an image has too few patches at the coarsest scale, the style
        is constant at one of the scales, or the images differ in their numbers of channels.
    RuntimeError
        If EM cannot be fitted to the patches any more: ``learning_rate`` is too large.

    Warns
    -----
    ConvergenceWarning
        If a fit at the start has not converged, a component lost its mass, or the image ran far
        beyond [0, 1] before it was clipped.

    See Also
    --------
    synthesize_texture : A texture from noise.

    References
    ----------
    Boïté, S., Tanguy, E., Delon, J., Desolneux, A., Flamary, R., "Differentiable
    Expectation-Maximisation and applications to Gaussian mixture model optimal transport",
    arXiv:2509.02109, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot.images import transfer_texture
    >>> rng = np.random.default_rng(0)
    >>> content, style = 0.2 * rng.random((2, 32, 32)) + [[[0.2]], [[0.6]]]
    >>> flow = transfer_texture(content, style, strength=0.5, n_components=1, random_state=0)
    >>> round(float(flow.image.mean()), 2)  # half of the way from 0.3 to 0.7
    0.5
    """
    content, style = as_image(content, "content"), as_image(style, "style")
    if content.shape[2:] != style.shape[2:]:
        raise ValueError(
            f"content and style must have the same channels; their shapes are {content.shape} and "
            f"{style.shape}."
        )
    options = checked_options(
        patch_size, n_components, scales, scale_weights, estimator, random_state
    )
    refuse_constant(style, "style")
    refuse_too_small(content.shape, options, "content")
    refuse_too_small(style.shape, options, "style")
    goal = fitted_patches(style, options, "style")
    targets, complaints = goal.mixtures, list(goal.complaints)
    if strength < 1:
        own = fitted_patches(content, options, "content", goal.estimators)
        complaints += own.complaints
        targets = []
        for start, end in zip(own.mixtures, goal.mixtures, strict=True):
            transport, told = transport_between(start, end)
            targets.append(transport.interpolate(strength))
            complaints += told
    flow, told = flow_image(
        content,
        targets,
        goal.estimators,
        options,
        n_steps=n_steps,
        learning_rate=learning_rate,
        callback=callback,
    )
    warn_of(dict.fromkeys([*complaints, *told]), stacklevel=4)  # above validate_params
    return flow
