"""EM as entropic optimal transport: `semirelaxed_transport`, and EM read as its descent."""

from .functions.semirelaxed import (
    BlockCoordinateStep,
    SemirelaxedTransport,
    block_coordinate_descent,
    semirelaxed_transport,
)

__all__ = [
    "BlockCoordinateStep",
    "SemirelaxedTransport",
    "block_coordinate_descent",
    "semirelaxed_transport",
]
