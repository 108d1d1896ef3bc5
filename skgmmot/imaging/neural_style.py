"""An image that takes on the style of another: what a network sees in it is distributed alike.

Layers ℓ of a network make features of an image X, n_ℓ rows of d_ℓ channels, one for each position.
A style is their distribution, wherever in the image they are. With mixtures μ_ℓ fitted once to the
features of the style image (Boïté et al. 2025, section 5.3), X starts at the content and descends

    E(X) = Σ_ℓ λ_ℓ MW2²(EM(Φ_ℓ(X) U_ℓ), μ_ℓ),

with U_ℓ the leading principal axes of the style. Nothing else ties X to the content.

By default EM of X starts at μ_ℓ and weights are fixed and uniform, so that each component of X has
one of the style to go to. From a start of its own and with free weights, the plan shares components
of X among several of μ_ℓ. No component divides while it follows X: E may stall, or be small for
mixtures that EM would not find in X any more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from ..checks import RANDOM_STATE, Interval
from ..estimators.mixture import DifferentiableGaussianMixture
from ..estimators.state import warn_of
from ..functions.validation import validated
from ..parameters import FloatArray, MixtureParameters, RandomState
from ..reprs import count, html_repr, short_repr
from .descent import descend
from .energy import EnergyTerm, JointExtractor, MixtureEnergy
from .layer_features import (
    checked,
    on_axes,
    principal_axes,
    refuse_few_positions,
    refuse_other_layers,
)
from .pictures import as_image, number_of_components, told_of_far

# The smallest variance of a component, in units of the largest variance of the style's features.
FLOOR = 1e-2


@dataclass(frozen=True, eq=False, repr=False)
class StyleFlow:
    """An image that took on a style, as `transfer_style` returns it.

    Attributes
    ----------
    image : ndarray of shape (height, width) or (height, width, n_channels)
        The image, clipped to [0, 1].
    losses : ndarray of shape (n_steps + 1,)
        The energy before each step and after the last, of the image before it is clipped.
    losses_by_layer : ndarray of shape (n_steps + 1, n_layers)
        MW2² of each layer, without its weight.
    layer_weights : ndarray of shape (n_layers,)
        The weights of the layers in the energy.
    mixtures : list of MixtureParameters
        The mixture of the features of the last image, for each layer, on the axes of the style.
    targets : list of MixtureParameters
        The mixture that these descend to, for each layer.
    axes : list of ndarray of shape (n_channels, n_features)
        The principal axes of the style's features, for each layer.

    Examples
    --------
    >>> import numpy as np
    >>> from skgmmot.images import transfer_style
    >>> def colors(image):
    ...     return [image.reshape(-1, 3)], lambda bars: bars[0].reshape(image.shape)
    >>> content, style = np.random.default_rng(0).random((2, 16, 16, 3))
    >>> flow = transfer_style(content, style, colors, n_steps=5, random_state=0)
    >>> flow.image.shape, flow.losses_by_layer.shape
    ((16, 16, 3), (6, 1))
    """

    image: FloatArray
    losses: FloatArray
    losses_by_layer: FloatArray
    layer_weights: FloatArray
    mixtures: list[MixtureParameters]
    targets: list[MixtureParameters]
    axes: list[FloatArray]

    __repr__ = short_repr
    _repr_html_ = html_repr

    def _summary(self):
        height, width = self.image.shape[:2]
        return (
            f"{height} × {width}, {count(len(self.targets), 'layer')}, "
            f"{count(len(self.losses) - 1, 'step')}, "
            f"loss {self.losses[0]:.6g} to {self.losses[-1]:.6g}"
        )


@validated(
    {
        "content": ["array-like"],
        "style": ["array-like"],
        "extractor": [callable],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "layer_weights": ["array-like", str],
        "estimator": [None, DifferentiableGaussianMixture],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "random_state": RANDOM_STATE,
        "callback": [None, callable],
    }
)
def transfer_style(
    content: ArrayLike,
    style: ArrayLike,
    extractor: JointExtractor,
    *,
    n_components: int | None = None,
    n_features: int | None = 32,
    layer_weights: ArrayLike | Literal["equal", "dimension"] = "equal",
    estimator: DifferentiableGaussianMixture | None = None,
    n_steps: int = 100,
    learning_rate: float = 0.02,
    random_state: RandomState = None,
    callback: Callable[..., object] | None = None,
) -> StyleFlow:
    """Give an image the style of another: the distribution of what layers of a network see in it.

    A Gaussian mixture is fitted once to the style's features of each layer. The image starts as the
    content and descends the weighted sum of the squared MW2 distances from the mixtures of its own
    features to these (section 5.3 of [1]_).

    Parameters
    ----------
    content : array-like of shape (height, width) or (height, width, n_channels)
        Where the image starts: floats in [0, 1], of which float32 is kept, or 8-bit integers, which
        are divided by 255.
    style : array-like of shape (height, width) or (height, width, n_channels)
        As ``content``. It may have another size.
    extractor : callable
        A function of an image, an array of the shape of ``content`` or ``style``. It returns a
        tuple: a list of arrays of shape (n_positions, n_channels), one for each layer, and a
        function that takes a list of cotangents of these shapes and returns the vector-Jacobian
        product, of the shape of the image. `skgmmot.torch.feature_extractor` makes one of layers of
        a PyTorch module.
    n_components : int, default=None
        Number of components of each mixture. None: 3, as in [1]_, or that of ``estimator``.
    n_features : int, default=32
        How many of the principal components of the style's features count, in each layer. Deep
        layers have nearly as many channels as an image has positions, and covariances fitted to so
        few tell little. None: all channels.
    layer_weights : {"equal", "dimension"} or array-like of shape (n_layers,), default="equal"
        Weights of the layers in the energy. ``equal``: each layer makes the same part of the energy
        at the start, where it is about 1. ``dimension``: 1 / n_channels², as in [1]_; shallow
        layers, with large features and few channels, then outweigh the others.
    estimator : DifferentiableGaussianMixture, default=None
        How to fit features; clones are fitted, the estimator itself is not changed. None: full
        covariances with ``reg_covar`` 1e-2 times the largest variance of the style's features, and
        fixed uniform weights, because free weights hardly follow the descent and make it stall.
        Whatever the estimator, EM of the image starts at the mixture of the style.
    n_steps : int, default=100
        Number of steps of Adam [2]_.
    learning_rate : float, default=0.02
        By how much a pixel moves in a step, at most, of the way from black to white.
    random_state : int, RandomState instance or None, default=None
        Seeds the default estimator.
    callback : callable, default=None
        Called before each step as ``callback(step, image, loss)``, with the image before it is
        clipped (a read-only view: copy what you keep). It ends there if this returns True.

    Returns
    -------
    flow : StyleFlow
        ``image``, clipped to [0, 1]; ``losses`` and ``losses_by_layer``; ``layer_weights``;
        ``mixtures``, ``targets`` and ``axes``.

    Raises
    ------
    TypeError
        If ``extractor`` returns something else.
    ValueError
        If an argument is not valid, features are no finite arrays of the same channels for both
        images, or an image has fewer positions in a layer than there are components.
    RuntimeError
        If EM cannot be fitted to features any more: ``learning_rate`` is too large.

    Warns
    -----
    ConvergenceWarning
        If a fit to the style's features has not converged, a component lost its mass, or the image
        has run away, because ``learning_rate`` is too large.

    See Also
    --------
    skgmmot.torch.feature_extractor : An extractor of layers of a PyTorch module.

    References
    ----------
    .. [1] Boïté, S., Tanguy, E., Delon, J., Desolneux, A., Flamary, R., "Differentiable
       Expectation-Maximisation and applications to Gaussian mixture model optimal transport",
       arXiv:2509.02109, 2025.
    .. [2] Kingma, D. P., Ba, J., "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    An extractor in NumPy, with one layer: the differences of neighbors in a row.

    >>> import numpy as np
    >>> from skgmmot.images import transfer_style
    >>> def differences(image):
    ...     def vjp(cotangents):
    ...         bar = cotangents[0].reshape(len(image), -1)
    ...         return np.pad(bar, ((0, 0), (1, 0))) - np.pad(bar, ((0, 0), (0, 1)))
    ...     return [np.diff(image).reshape(-1, 1)], vjp
    >>> noise = 0.1 * np.random.default_rng(0).random((2, 32, 32))
    >>> smooth = np.linspace(0.2, 0.8, 32) + noise[0]
    >>> stripes = np.tile([0.1, 0.1, 0.8, 0.8], (32, 8)) + noise[1]
    >>> flow = transfer_style(smooth, stripes, differences, random_state=0)
    >>> bool(flow.losses[-1] < 0.1 * flow.losses[0])
    True
    """
    content, style = as_image(content, "content"), as_image(style, "style")
    extract = checked(extractor)
    features, of_content = extract(style)[0], extract(content)[0]
    refuse_other_layers(of_content, features)
    n_components = number_of_components(n_components, estimator, 3)
    refuse_few_positions(features, max(2, n_components), "style")
    refuse_few_positions(of_content, max(2, n_components), "content")
    axes = [principal_axes(rows, n_features) for rows in features]
    extract = on_axes(extract, axes)
    terms, complaints = _terms(extract(style)[0], n_components, estimator, random_state)
    energy = MixtureEnergy(terms, extract)
    energy(content)  # a first step of EM from the style
    parts = energy(content).parts
    weights = _weights(layer_weights, parts, [len(U) for U in axes])
    energy.terms = [
        replace(term, weight=weight) for term, weight in zip(terms, weights, strict=True)
    ]
    found = descend(
        energy,
        content,
        learning_rate=learning_rate,
        n_steps=n_steps,
        floor=learning_rate / content.size * (weights @ parts or 1.0),  # in units of features
        callback=callback,
    )
    complaints += [*energy.complaints(), *told_of_far(found.x)]
    warn_of(dict.fromkeys(complaints), stacklevel=4)  # above validate_params
    return StyleFlow(
        np.clip(found.x, 0, 1),
        found.values,
        found.parts,
        weights,
        energy.mixtures,
        [term.target for term in terms],
        axes,
    )


def _terms(features, n_components, estimator, random_state):
    """The terms of the layers, without weights, and what there is to warn of."""
    terms, complaints = [], []
    for index, rows in enumerate(features):
        if estimator is None:
            fitted = _default_estimator(rows, n_components, random_state)
        else:
            fitted = clone(estimator)
        complaints += [f"style in layer {index}: {words}" for words in fitted._fit(rows, None)]
        target = fitted.parameters_
        start = clone(fitted).set_params(
            weights_init=target.weights,
            means_init=target.means,
            precisions_init=fitted.precisions_,
            n_init=1,
            max_iter=1,
        )
        terms.append(EnergyTerm(None, target, start))
    return terms, complaints


def _default_estimator(rows, n_components, random_state):
    largest = rows.var(axis=0).max()  # of principal components, the first is the largest
    return DifferentiableGaussianMixture(
        n_components,
        reg_covar=float(FLOOR * largest or 1e-6),
        fixed_weights=True,
        residual_tol=np.inf,
        random_state=random_state,
    )


def _weights(layer_weights: Any, parts, n_channels):
    """λ, of how a user tells them."""
    if isinstance(layer_weights, str):
        if layer_weights == "equal":
            return 1 / (len(parts) * np.where(parts > 0, parts, 1.0))
        if layer_weights == "dimension":
            return 1 / np.square(n_channels, dtype=np.float64)
        raise ValueError(
            "layer_weights must be 'equal', 'dimension' or one number for each layer; got "
            f"{layer_weights!r}."
        )
    weights = np.asarray(layer_weights, dtype=np.float64)
    if weights.shape != parts.shape:
        raise ValueError(
            f"layer_weights must have shape {parts.shape}, one for each layer; got {weights.shape}."
        )
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError(
            f"layer_weights must be positive and finite; got {layer_weights}. Leave layers without "
            "weight out of the extractor."
        )
    return weights
