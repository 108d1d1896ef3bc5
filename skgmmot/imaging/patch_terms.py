"""The energy of an image at several scales: its patches are to be those of a reference.

With x_s the image at 1/s of its size (means of blocks of s × s pixels) and weights λ_s,

    E(x) = Σ_s λ_s MW2²(EM(patches(x_s)), EM(patches(reference_s)))

(Boïté et al. 2025, section 5.4; with patches at several scales as in Houdard et al. 2021).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from ..checks import as_real
from ..estimators.mixture import DifferentiableGaussianMixture
from ..parameters import MixtureParameters, RandomState, in_dtype
from .descent import descend
from .energy import EnergyTerm, MixtureEnergy
from .patches import downscale, patch_features, patches
from .pictures import ImageFlow, number_of_components, told_of_far

# The smallest variance of a component, in units of the largest variance of the reference's patches.
# Below it flat components would have steep gradients.
FLOOR = 1e-4
# Of an image in [0, 1] that is not constant but for rounding.
SMALLEST_RANGE = 1e-6


class PatchOptions(NamedTuple):
    """What patches are compared, and how.

    size : int
    scales : list of int, the factors s
    weights : list of float, λ
    n_components : int
    estimator : DifferentiableGaussianMixture or None, for the default
    random_state : seeds the default estimator
    """

    size: int
    scales: list[int]
    weights: list[float]
    n_components: int
    estimator: DifferentiableGaussianMixture | None
    random_state: RandomState


def checked_options(
    patch_size: int,
    n_components: int | None,
    scales: Sequence[int],
    scale_weights: Any,
    estimator: DifferentiableGaussianMixture | None,
    random_state: RandomState,
) -> PatchOptions:
    """Options as a user gives them."""
    factors = np.asarray(scales)
    if factors.ndim != 1 or not factors.size or factors.dtype.kind not in "iu" or min(factors) < 1:
        raise ValueError(f"scales must be a list of positive integers, as [1, 2, 4]; got {scales}.")
    if len(set(factors.tolist())) < len(factors):
        raise ValueError(f"scales must differ from each other; got {scales}.")
    weights = np.ones(len(factors))
    if scale_weights is not None:
        weights = as_real(scale_weights, "scale_weights")
        if weights.shape != factors.shape:
            raise ValueError(
                f"scale_weights must have shape {factors.shape}, one for each of scales; got "
                f"{weights.shape}."
            )
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError(
                f"scale_weights must be positive and finite; got {scale_weights}. Leave scales "
                "without weight out of scales."
            )
    chosen = number_of_components(n_components, estimator, 4)
    return PatchOptions(
        patch_size, factors.tolist(), weights.tolist(), chosen, estimator, random_state
    )


def refuse_too_small(shape, options, name):
    """Refuse an image that has too few patches at the coarsest scale."""
    factor = max(options.scales)
    if min(shape[:2]) // factor < options.size:
        raise ValueError(
            f"{name}: at the scale {factor} an image of {shape[0]} × {shape[1]} pixels is smaller "
            f"than a patch of {options.size} × {options.size}. Decrease patch_size, leave out "
            "coarse scales, or use a larger image; axes are (height, width, n_channels)."
        )
    n_patches = math.prod(n // factor - options.size + 1 for n in shape[:2])
    if n_patches < max(2, options.n_components):
        raise ValueError(
            f"{name}: at the scale {factor} an image of {shape[0]} × {shape[1]} pixels has "
            f"{n_patches} patches, too few for {options.n_components} components. Leave out coarse "
            "scales, or use a larger image."
        )


class FittedPatches(NamedTuple):
    """Mixtures of an image's patches, one for each scale, and how they were fitted.

    mixtures : list of MixtureParameters
    estimators : list of DifferentiableGaussianMixture, not fitted
    complaints : list of str, what there is to warn of
    """

    mixtures: list[MixtureParameters]
    estimators: list[DifferentiableGaussianMixture]
    complaints: list[str]


def fitted_patches(image, options, name, estimators=None):
    """The mixtures of an image at all scales, as `FittedPatches`."""
    found = FittedPatches([], [], [])
    for index, factor in enumerate(options.scales):
        rows = patches(downscale(image, factor), options.size)
        if np.ptp(rows) < SMALLEST_RANGE and estimators is None:
            raise ValueError(f"{name} is constant at the scale {factor}: leave it out of scales.")
        estimator = _estimator(rows, options) if estimators is None else estimators[index]
        mixture = clone(estimator)
        told = mixture._fit(rows, None)
        found.mixtures.append(in_dtype(mixture.parameters_, np.float64))
        found.estimators.append(estimator)
        found.complaints.extend(f"{name} at the scale {factor}: {words}" for words in told)
    return found


def _estimator(rows, options):
    """The estimator of a scale: the default one has a floor in the unit of the patches.

    It stops where the likelihood gains little, as scikit-learn's: a mixture is a target before it
    has settled, and steps of many features are long.
    """
    if options.estimator is not None:
        return options.estimator
    centered = rows - rows.mean(axis=0, dtype=np.float64)
    largest = np.linalg.eigvalsh(centered.T @ centered / len(rows)).max()
    return DifferentiableGaussianMixture(
        options.n_components,
        reg_covar=float(FLOOR * largest),
        fixed_weights=True,
        residual_tol=np.inf,
        acceleration=None,
        random_state=options.random_state,
    )


def flow_image(start, targets, estimators, options, *, n_steps, learning_rate, callback):
    """The `ImageFlow` of an image to mixtures of patches, and what there is to warn of."""
    energy = MixtureEnergy(
        [
            EnergyTerm(patch_features(options.size, factor), target, estimator, weight)
            for factor, target, estimator, weight in zip(
                options.scales, targets, estimators, options.weights, strict=True
            )
        ]
    )
    found = descend(energy, start, learning_rate=learning_rate, n_steps=n_steps, callback=callback)
    image = np.clip(found.x, 0, 1)
    flow = ImageFlow(image, found.values, found.parts, energy.mixtures, targets)
    return flow, [*energy.complaints(), *told_of_far(found.x)]
