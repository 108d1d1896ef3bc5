"""Differentiable and comparable Gaussian mixtures for scikit-learn."""

from .estimators.coupled import CoupledGMMFitter
from .estimators.mixture import DifferentiableGaussianMixture
from .functions.barycenter import mixture_barycenter
from .functions.distances import mixture_wasserstein, pairwise_mixture_wasserstein
from .functions.flow import MixtureFlow, mixture_flow
from .functions.mixture_transport import mixture_transport
from .functions.semirelaxed import SemirelaxedTransport, semirelaxed_transport
from .parameters import MixtureParameters
from .results.transport_result import MixtureTransport

__version__ = "0.1.0.dev0"

__all__ = [
    "CoupledGMMFitter",
    "DifferentiableGaussianMixture",
    "MixtureFlow",
    "MixtureParameters",
    "MixtureTransport",
    "SemirelaxedTransport",
    "mixture_barycenter",
    "mixture_flow",
    "mixture_transport",
    "mixture_wasserstein",
    "pairwise_mixture_wasserstein",
    "semirelaxed_transport",
]
