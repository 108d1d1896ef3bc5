"""Covariance types: everything that one of them can do, a file each."""

from ..parameters import COVARIANCE_TYPES
from .diagonal import Diagonal
from .full import Full
from .spherical import Spherical
from .tied import Tied

FULL, TIED, DIAGONAL, SPHERICAL = Full(), Tied(), Diagonal(), Spherical()
FAMILIES = dict(zip(COVARIANCE_TYPES, (FULL, TIED, DIAGONAL, SPHERICAL), strict=True))


def family_of(mixture):
    """The `Family` of a `MixtureParameters`."""
    return FAMILIES[mixture.covariance_type]
