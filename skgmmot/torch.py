"""Mixtures fitted by EM, and MW2 between mixtures, as differentiable functions of PyTorch.

PyTorch is imported here and nowhere else: ``import skgmmot`` does without.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .bridges.torch_fit import fitted, layer_text
from .bridges.torch_layers import checked_layers, layers_of
from .bridges.torch_tensors import (
    PARTS,
    checked_inputs,
    constant_mixture,
    read_pair,
    refuse_other_device,
)
from .bridges.torch_transport import distance, transport_text
from .parameters import CovarianceType, FloatArray, GradientMode, MixtureLike, PenaltiesLike

__all__ = [
    "MixtureLoss",
    "MixtureTensors",
    "feature_extractor",
    "fit_mixture",
    "mixture_wasserstein",
]

# An image to the features of layers, and their vector-Jacobian product.
LayerExtractor = Callable[
    [FloatArray], tuple[list[FloatArray], Callable[[Sequence[FloatArray]], FloatArray]]
]


class MixtureTensors(NamedTuple):
    """Weights, means and covariances of a mixture as tensors, as `fit_mixture` returns them.

    Attributes
    ----------
    weights : Tensor of shape (n_components,)
    means : Tensor of shape (n_components, n_features)
    covariances : Tensor
        (n_components, n_features, n_features) if full, (n_features, n_features) if tied,
        (n_components, n_features) if diag, (n_components,) if spherical.

    Examples
    --------
    >>> import torch
    >>> from skgmmot.torch import fit_mixture
    >>> weights, means, covariances = fit_mixture(torch.eye(3), covariance_type="diag")
    >>> covariances.shape
    torch.Size([1, 3])
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


def fit_mixture(
    X: Tensor,
    n_components: int | None = None,
    *,
    initial: tuple[Tensor, Tensor, Tensor] | None = None,
    covariance_type: CovarianceType = "full",
    mode: GradientMode = "implicit",
    sample_weight: Tensor | None = None,
    gradient_tol: float = 1e-6,
    **options: Any,
) -> MixtureTensors:
    """Fit a mixture by EM, with gradients that flow back to what it was fitted to.

    Parameters
    ----------
    X : Tensor of shape (n_samples, n_features), float32 or float64
        The data, on the CPU or in CUDA. They are read where they are, without a copy, if they are
        contiguous; CUDA needs CuPy (:doc:`/installation`). All other tensors have to be with them,
        and what comes back is.
    n_components : int, default=None
        Number of components. None: one, or as many as ``initial`` has.
    initial : tuple of Tensor (weights, means, covariances), default=None
        Where EM starts, in the place of an initialization; at the last temperature, where there
        are several. Only ``mode="unrolled"`` has a derivative in them; in the other modes the
        result is taken not to depend on them.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        As of `~skgmmot.DifferentiableGaussianMixture`.
    mode : {"implicit", "unrolled", "one_step"}, default="implicit"
        How gradients go through EM, see `~skgmmot.DifferentiableGaussianMixture.gradient_wrt_data`.
        ``unrolled`` fits by plain EM (``acceleration=None``), the only steps that it can
        differentiate.
    sample_weight : Tensor of shape (n_samples,), default=None
        Non-negative weights of the rows, to which gradients flow too.
    gradient_tol : float, default=1e-6
        Relative accuracy asked of ``implicit``, ``tol`` of
        `~skgmmot.DifferentiableGaussianMixture.gradient_wrt_data`.
    **options
        Further parameters of `~skgmmot.DifferentiableGaussianMixture`, such as ``means_init``,
        ``residual_tol`` and ``random_state``, but for ``warm_start`` and ``keep_path``. They are
        constants: no gradient flows to them.

    Returns
    -------
    mixture : MixtureTensors
        ``weights``, ``means`` and ``covariances``, of the dtype of ``X`` and part of its graph.

    Raises
    ------
    TypeError
        If ``X`` is no tensor, or an option is none of the estimator's.
    ValueError
        If a tensor is not on the CPU or in CUDA, not where the others are, or not a dense one of
        real floating-point numbers, and where the estimator raises one: if the data cannot be
        used, or a component collapsed.
    NotImplementedError
        By the derivative of a gradient: there are no second derivatives.
    RuntimeError
        By a gradient, if the linear system of ``implicit`` could not be solved.

    Warns
    -----
    ConvergenceWarning
        If EM did not converge, or, by a gradient of ``implicit``, if the fit is no fixed point.

    See Also
    --------
    MixtureLoss : A fit and its distance to a target, as a module.

    Notes
    -----
    ``backward``, forward mode, ``torch.func`` and ``torch.compile`` work: see
    :doc:`/user_guide/torch_and_jax`.

    Examples
    --------
    >>> import torch
    >>> from skgmmot.torch import fit_mixture
    >>> X = torch.tensor([[0.0], [2.0], [10.0], [14.0]], requires_grad=True)
    >>> weights, means, covariances = fit_mixture(X, 2, random_state=0)
    >>> means.max().backward()
    >>> X.grad.round(decimals=2).ravel() + 0.0
    tensor([0.0000, 0.0000, 0.5000, 0.5000])
    """
    start = checked_inputs(X, sample_weight, initial, n_components)
    if n_components is None:
        n_components = 1 if initial is None else start[0].shape[0]
    text = layer_text(
        n_components=n_components,
        covariance_type=covariance_type,
        mode=mode,
        gradient_tol=gradient_tol,
        **options,
    )
    return MixtureTensors(*fitted(X, sample_weight, start, text))


def mixture_wasserstein(
    a: MixtureLike | tuple[Tensor, Tensor, Tensor],
    b: MixtureLike | tuple[Tensor, Tensor, Tensor],
    *,
    squared: bool = False,
    reg: float = 0.0,
    reg_m: PenaltiesLike = None,
) -> Tensor:
    """Mixture-Wasserstein distance MW2 between two mixtures of tensors, with its gradient.

    Parameters
    ----------
    a, b : tuple of Tensor (weights, means, covariances), or a mixture
        Gradients flow to those that are tensors: what `fit_mixture` returned, any other tuple, or
        a `~skgmmot.MixtureParameters` of tensors, which tells the covariance type where there are
        as many components as features. At least one must be; the other may be any mixture that
        `skgmmot.mixture_wasserstein` reads, and is a constant.
    squared, reg, reg_m
        As of `skgmmot.mixture_wasserstein`.

    Returns
    -------
    distance : Tensor of shape ()
        float32 if all tensors are.

    Raises
    ------
    TypeError
        If neither of the mixtures consists of tensors.
    ValueError
        As `skgmmot.mixture_wasserstein`, and if a tensor is not where the others are, or not a
        dense one of real floating-point numbers; by a gradient, where a singular covariance has
        none.
    NotImplementedError
        By the derivative of a gradient: there are no second derivatives.

    Warns
    -----
    ConvergenceWarning
        If the plan is not optimal.

    Notes
    -----
    The gradient in the weights is defined up to a constant, and has mean zero. At a distance of
    zero, where the distance itself has none, it is zero, a subgradient; ``squared=True`` is smooth
    there. Mixtures in CUDA are compared on the host, to which their few numbers are copied.

    Examples
    --------
    >>> import torch
    >>> from skgmmot.torch import mixture_wasserstein
    >>> means = torch.tensor([[0.0, 0.0]], requires_grad=True)
    >>> target = ([1.0], [[3.0, 4.0]], [[1.0, 1.0]])
    >>> distance = mixture_wasserstein((torch.ones(1), means, torch.ones(1, 2)), target)
    >>> distance.backward()
    >>> distance.item(), means.grad
    (5.0, tensor([[-0.6000, -0.8000]]))
    """
    parts, types, dtype = read_pair(a, b)
    text = transport_text(squared=squared, reg=reg, reg_m=reg_m, types=types)
    return distance(parts, text).to(dtype)


class MixtureLoss(torch.nn.Module):
    """The MW2 distance of the mixture that EM fits to its input, from a target: EM as a layer.

    Parameters
    ----------
    target : mixture
        What the fitted mixture is compared with: anything that `skgmmot.mixture_wasserstein`
        reads, or a tuple of tensors. A constant, kept in buffers.
    n_components : int, default=None
        Number of components that are fitted. None: as many as the target has.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        Of the fitted mixture.
    mode : {"implicit", "unrolled", "one_step"}, default="implicit"
        How gradients go through EM, as in `fit_mixture`.
    squared : bool, default=True
        Whether the loss is MW2², as of `skgmmot.mixture_flow`: smooth also where it is zero.
    reg : float, default=0.0
        As of `skgmmot.mixture_wasserstein`.
    reg_m : float, tuple of two floats or None, default=None
        As of `skgmmot.mixture_wasserstein`.
    gradient_tol : float, default=1e-6
        As of `fit_mixture`.
    **options
        As of `fit_mixture`.

    See Also
    --------
    fit_mixture : The fit alone.
    mixture_wasserstein : The distance alone.

    Examples
    --------
    >>> import torch
    >>> from skgmmot.torch import MixtureLoss
    >>> loss = MixtureLoss(([1.0], [[3.0, 4.0]], [[[1.0, 0.0], [0.0, 1.0]]]))
    >>> X = torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]], requires_grad=True)
    >>> value = loss(X)
    >>> value.backward()
    >>> round(value.item(), 4)
    25.0
    >>> X.grad.round(decimals=4)[0]
    tensor([-1.5000, -2.0000])
    """

    def __init__(
        self,
        target: MixtureLike | tuple[Tensor, Tensor, Tensor],
        n_components: int | None = None,
        *,
        covariance_type: CovarianceType = "full",
        mode: GradientMode = "implicit",
        squared: bool = True,
        reg: float = 0.0,
        reg_m: PenaltiesLike = None,
        gradient_tol: float = 1e-6,
        **options: Any,
    ) -> None:
        super().__init__()
        parameters = constant_mixture(target, "target")
        for name, part in zip(PARTS, parameters, strict=True):
            self.register_buffer(f"target_{name}", part)
        self._n_components = parameters.n_components if n_components is None else n_components
        self._fit_text = layer_text(
            n_components=self._n_components,
            covariance_type=covariance_type,
            mode=mode,
            gradient_tol=gradient_tol,
            **options,
        )
        self._transport_text = transport_text(
            squared=squared,
            reg=reg,
            reg_m=reg_m,
            types=(covariance_type, parameters.covariance_type),
        )

    def forward(
        self,
        X: Tensor,
        sample_weight: Tensor | None = None,
        initial: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The loss of some points.

        Parameters
        ----------
        X, sample_weight, initial
            As of `fit_mixture`.

        Returns
        -------
        loss : Tensor of shape (), of the dtype of ``X``
        """
        start = checked_inputs(X, sample_weight, initial, self._n_components)
        cure = "Move the module: .to(X.device)."
        refuse_other_device(self.target_means, "the target", X, "X", cure)
        mixture = fitted(X, sample_weight, start, self._fit_text)
        target = (getattr(self, f"target_{name}") for name in PARTS)
        return distance([*mixture, *target], self._transport_text).to(X.dtype)


def feature_extractor(
    module: torch.nn.Module,
    layers: Sequence[str],
    *,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> LayerExtractor:
    """Make an extractor for `skgmmot.images.transfer_style` of layers of a module.

    Parameters
    ----------
    module : torch.nn.Module
        A network that takes images, of shape (1, n_channels, height, width). All of it runs: cut
        off what follows the last of the layers, for instance ``vgg19().features[:21]``.
    layers : sequence of str
        Names of layers, those of ``module.named_modules()``. Each returns a tensor of shape
        (1, n_channels, height, width) or (1, n_positions, n_channels) for an image.
    transform : callable, default=None
        What the module expects of images, as a differentiable function of a tensor of shape
        (1, n_channels, height, width), channels as in the image: for instance less their means,
        divided by their standard deviations. None: images as they are.

    Returns
    -------
    extract : callable
        A function of an image, an array of shape (height, width) or (height, width, n_channels). It
        returns the list of the features, arrays of shape (n_positions, n_channels), and a function
        that pulls a list of their cotangents back to the image.

    Raises
    ------
    TypeError
        If ``module`` is no module, ``layers`` no list, or, when it extracts, a layer returns no
        tensor.
    ValueError
        If the module has no layer of a name. When it extracts: if the image is no such array of
        floats, or a layer did not run, ran twice or returns another shape, or if there is a
        dropout or a batch normalization in training mode.

    See Also
    --------
    skgmmot.images.transfer_style : Style transfer by mixtures of features.

    Notes
    -----
    The module computes on its device and in the dtype of its parameters, to which images are cast.
    Its parameters get no gradient, and nothing of it is changed. Results of layers are copied
    before a layer that follows, such as a ReLU in place, overwrites them.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skgmmot.torch import feature_extractor
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2)
    ... )
    >>> extract = feature_extractor(network, ["1", "2"])
    >>> features, vjp = extract(np.zeros((6, 8, 3)))
    >>> [rows.shape for rows in features]
    [(48, 4), (12, 4)]
    >>> vjp(features).shape
    (6, 8, 3)
    """
    return layers_of(module, checked_layers(module, layers), transform)
