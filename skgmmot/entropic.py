"""EM as entropic optimal transport, semi-relaxed or balanced, and EM read as its descent."""

from .functions.balanced import BalancedTransport, balanced_transport
from .functions.semirelaxed import (
    BlockCoordinateStep,
    SemirelaxedTransport,
    block_coordinate_descent,
    semirelaxed_transport,
)

__all__ = [
    "BalancedTransport",
    "BlockCoordinateStep",
    "SemirelaxedTransport",
    "balanced_transport",
    "block_coordinate_descent",
    "semirelaxed_transport",
]
