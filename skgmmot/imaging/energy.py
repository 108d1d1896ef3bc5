"""The energy of an array: how far the mixtures of its features are from targets.

An array x, an image for instance, has feature maps Φ_ℓ(x) of n_ℓ rows of d_ℓ numbers: patches, or
what layers of a network make of x. With the mixture θ_ℓ(x) that EM fits to these rows, targets μ_ℓ
and weights λ_ℓ (Boïté et al. 2025, sections 5.3 and 5.4),

    E(x) = Σ_ℓ λ_ℓ MW2²(θ_ℓ(x), μ_ℓ),    ∂E/∂x = Σ_ℓ λ_ℓ (∂Φ_ℓ)ᵀ (∂EM)ᵀ ∂MW2²/∂θ_ℓ.

The first call fits each θ_ℓ as its estimator says. From then on each call makes a single EM step
from the θ_ℓ of the last call, and (∂EM)ᵀ is the derivative of this step: x has moved by a little,
and so have the mixtures (Algorithm 3 there).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from ..estimators.mixture import DifferentiableGaussianMixture
from ..functions.flow_fits import FlowFits
from ..parameters import FloatArray, MixtureParameters
from ..results.transport_result import transport_between

# x to its features, of shape (n, d), and the function that pulls a cotangent of these back to x.
Extractor = Callable[[Any], tuple[FloatArray, Callable[[FloatArray], FloatArray]]]
# x to several such arrays at once, and the function that pulls a cotangent of each back to x.
JointExtractor = Callable[
    [Any], tuple[Sequence[FloatArray], Callable[[Sequence[FloatArray]], FloatArray]]
]


@dataclass(frozen=True, eq=False)
class EnergyTerm:
    """One feature map, and where its mixture is to go.

    extract : callable, x to (features of shape (n, d), vjp); ``vjp(cotangent)`` takes an array of
        that shape and returns one of the shape of x. None where one pass finds those of all terms
    target : MixtureParameters of d features, μ
    estimator : DifferentiableGaussianMixture, how to fit θ; it is cloned
    weight : float, λ
    """

    extract: Extractor | None
    target: MixtureParameters
    estimator: DifferentiableGaussianMixture
    weight: float = 1.0


class EnergyAt(NamedTuple):
    """What an energy is at an array.

    value : float, E
    parts : ndarray of shape (n_terms,), MW2²(θ_ℓ, μ_ℓ), without their weights
    gradient : ndarray, of the shape and dtype of x
    """

    value: float
    parts: np.ndarray
    gradient: FloatArray


class MixtureEnergy:
    """E, as a function of an array that moves a little from one call to the next.

    extract : callable, x to (list of the features of all terms, vjp) in one pass, as of the layers
        of a network; ``vjp`` takes the list of their cotangents. None: each term has its own
    """

    def __init__(self, terms: Sequence[EnergyTerm], extract: JointExtractor | None = None) -> None:
        self.terms = list(terms)
        self._extract = extract or one_by_one([term.extract for term in self.terms])
        self._fits: list[FlowFits | None] = [None] * len(self.terms)
        self._told: list[str] = []

    def __call__(self, x: FloatArray) -> EnergyAt:
        """E(x), its parts and its gradient; the mixtures follow x.

        Raises
        ------
        ValueError
            If a mixture cannot be fitted to features, or not be compared with its target.
        """
        features, vjp = self._extract(x)
        parts, cotangents = np.zeros(len(self.terms)), []
        for index, (term, rows) in enumerate(zip(self.terms, features, strict=True)):
            fits = self._fitted(index, rows)
            transport, complaints = transport_between(fits.theta, term.target)
            self._told += complaints
            parts[index] = transport.value
            cotangent = fits.pulled_back(transport.gradient("source"), "one_step")
            cotangents.append(term.weight * cotangent)
        value = sum(term.weight * part for term, part in zip(self.terms, parts, strict=True))
        return EnergyAt(float(value), parts, vjp(cotangents))

    @property
    def mixtures(self) -> list[MixtureParameters]:
        """θ_ℓ of the last call."""
        return [fits.theta for fits in self._fits if fits is not None]

    def complaints(self) -> dict[str, None]:
        """What there is to warn of, each once, as the keys of a dict."""
        of_fits = [fits.complaints() for fits in self._fits if fits is not None]
        return dict.fromkeys([*(words for told in of_fits for words in told), *self._told])

    def _fitted(self, index, features):
        """The fits of a term, the last of which is that to these features."""
        fits = self._fits[index]
        if fits is None:
            fits = FlowFits(clone(self.terms[index].estimator), features.dtype, follows=True)
            fits.fit(features)
            fits.start_from_the_last()
            self._fits[index] = fits
        fits.fit(features)
        return fits


def one_by_one(extractors):
    """Feature maps that know nothing of each other, as one."""

    def extract(x):
        found = [extractor(x) for extractor in extractors]

        def vjp(cotangents):
            gradient = np.zeros_like(x)
            for (_, pull_back), cotangent in zip(found, cotangents, strict=True):
                gradient += pull_back(cotangent)
            return gradient

        return [features for features, _ in found], vjp

    return extract
