"""Differentiable and comparable Gaussian mixtures for scikit-learn."""

from .about import __version__ as __version__
from .em.adjoints import FitCotangent
from .estimators.coupled import CoupledGMMFitter
from .estimators.mixture import DifferentiableGaussianMixture
from .functions.balanced import BalancedTransport, balanced_transport
from .functions.barycenter import mixture_barycenter
from .functions.distance_gradients import pairwise_mixture_wasserstein_vjp
from .functions.distances import mixture_wasserstein, pairwise_mixture_wasserstein
from .functions.fit_mixtures import fit_mixtures
from .functions.flow import MixtureFlow, mixture_flow
from .functions.mixture_bridge import mixture_bridge
from .functions.mixture_embedding import MixtureEmbedding
from .functions.mixture_fits import MixtureFits, SetsCotangent
from .functions.mixture_transport import mixture_transport
from .functions.semirelaxed import SemirelaxedTransport, semirelaxed_transport
from .numerics.linear_solve import LinearSolve
from .parameters import MixtureParameters
from .results.bridge_result import MixtureBridge
from .results.transport_result import MixtureTransport
from .samples.rows import ChunkedRows

__all__ = [
    "BalancedTransport",
    "ChunkedRows",
    "CoupledGMMFitter",
    "DifferentiableGaussianMixture",
    "FitCotangent",
    "LinearSolve",
    "MixtureBridge",
    "MixtureEmbedding",
    "MixtureFits",
    "MixtureFlow",
    "MixtureParameters",
    "MixtureTransport",
    "SemirelaxedTransport",
    "SetsCotangent",
    "balanced_transport",
    "fit_mixtures",
    "mixture_barycenter",
    "mixture_bridge",
    "mixture_flow",
    "mixture_transport",
    "mixture_wasserstein",
    "pairwise_mixture_wasserstein",
    "pairwise_mixture_wasserstein_vjp",
    "semirelaxed_transport",
]
