"""Fits and distances of mixtures as functions of JAX arrays, for ``jax.grad`` and its kin.

JAX is not installed with skgmmot, and imported only by who imports this module.
"""

from .distances import mixture_loss, mixture_wasserstein
from .fits import FitStatus, FittedMixture, check, fit_mixture

__all__ = [
    "FitStatus",
    "FittedMixture",
    "check",
    "fit_mixture",
    "mixture_loss",
    "mixture_wasserstein",
]
