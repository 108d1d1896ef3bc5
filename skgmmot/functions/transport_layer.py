"""MW2 as a layer of other frameworks: pure functions of arrays, their VJP and their JVP."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..checks import checked_regularization
from ..parameters import MixtureParameters
from .mixture_transport import checked_transport


@dataclass(frozen=True)
class TransportLayer:
    """Options of a distance between two mixtures, each three arrays.

    Made by `TransportLayer.of`, which checks them.

    squared : bool
    reg : float
    reg_m : tuple of two floats, infinite for a constraint
    types : tuple of two covariance types, None where a shape tells it
    """

    squared: bool
    reg: float
    reg_m: tuple
    types: tuple

    @classmethod
    def of(cls, *, squared=False, reg=0.0, reg_m=None, types=(None, None)):
        return cls(bool(squared), *checked_regularization(reg, reg_m), types)

    @classmethod
    @lru_cache(maxsize=256)
    def read(cls, text):
        """The layer of a `text`."""
        squared, reg, reg_m, types = json.loads(text)
        return cls(squared, reg, tuple(reg_m), tuple(types))

    @property
    def text(self):
        """The options in a form that a graph can keep, in a file too."""
        return json.dumps([self.squared, self.reg, self.reg_m, self.types])

    def value(self, a, b):
        """The value, what `vjp` and `jvp` may be given to save time, and complaints.

        a, b : tuples (weights, means, covariances) of ndarrays
        """
        mixtures = (
            MixtureParameters(*mixture, kind)
            for mixture, kind in zip((a, b), self.types, strict=True)
        )
        transport, complaints = checked_transport(*mixtures, self.reg, self.reg_m)
        value = transport.value if self.squared else transport.distance
        return value, transport, complaints

    def vjp(self, a, b, value_bar, transport=None, *, wanted=(True, True)):
        """The cotangents of both mixtures, two tuples, None of what is not wanted.

        Of a distance of zero they are zero, one of its subgradients.
        """
        if transport is None:
            transport = self.value(a, b)[1]
        scale = float(value_bar)
        if not self.squared:
            scale = scale / (2 * transport.distance) if transport.distance > 0 else 0.0
        return tuple(
            tuple(scale * part for part in transport.gradient(side)) if want else None
            for side, want in zip(("source", "target"), wanted, strict=True)
        )

    def jvp(self, a, b, a_dot, b_dot, transport=None):
        """The tangent of the value; a tangent, or a part of one, may be None."""
        dots = [[] if dot is None else dot for dot in (a_dot, b_dot)]
        wanted = [any(part is not None for part in dot) for dot in dots]
        bars, tangent = self.vjp(a, b, 1.0, transport, wanted=wanted), 0.0
        for bar, dot in zip(bars, dots, strict=True):
            for part_bar, part_dot in zip(bar or (), dot, strict=False):
                if part_dot is not None:
                    tangent += float(np.vdot(part_bar, part_dot))
        return tangent
