"""What compares and judges mixtures: distances, and criteria as scorers for searches."""

from .functions.distances import mixture_wasserstein, pairwise_mixture_wasserstein
from .functions.scorers import aic_scorer, bic_scorer, icl_scorer

__all__ = [
    "aic_scorer",
    "bic_scorer",
    "icl_scorer",
    "mixture_wasserstein",
    "pairwise_mixture_wasserstein",
]
