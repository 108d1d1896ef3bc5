"""Differentiable and comparable Gaussian mixtures for scikit-learn."""

from .coupled import CoupledGMMFitter
from .entropic import SemirelaxedTransport, semirelaxed_transport
from .flow import MixtureFlow, mixture_flow
from .metrics import mixture_wasserstein, pairwise_mixture_wasserstein
from .mixture import DifferentiableGaussianMixture
from .parameters import MixtureParameters
from .transport.barycenter import mixture_barycenter
from .transport.mixture import MixtureTransport, mixture_transport

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
