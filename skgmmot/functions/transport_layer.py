"""MW2 as a layer of other frameworks: pure functions of arrays, their VJP and their JVP."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..checks import as_parameters, checked_regularization, refuse_other_features
from ..families import family_of
from ..parameters import MixtureParameters
from ..results.transport_result import transport_between
from ..transport.many import exact_values
from ..transport.many_gradients import exact_gradients
from ..transport.plans import BALANCED


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
        source, target = (
            as_parameters(MixtureParameters(*mixture, kind), name, dtype=None)
            for mixture, kind, name in zip((a, b), self.types, "ab", strict=True)
        )
        refuse_other_features(source, "a", target, "b")
        transport, complaints = transport_between(source, target, self.reg, self.reg_m)
        value = transport.value if self.squared else transport.distance
        return value, transport, complaints

    def vjp(self, a, b, value_bar, transport=None, *, wanted=(True, True)):
        """The cotangents of both mixtures, two tuples, None of what is not wanted.

        With what `value` has returned as transport, a and b are not read. Of a distance of zero
        they are zero, one of its subgradients.
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

    def value_each(self, a, b):
        """The values between mixtures of two lists, as many; transports, and complaints.

        a, b : tuples (weights, means, covariances) with a first axis for the mixtures. Where one of
            them is the same for all, all are compared with it at once.

        The transports, by the numbers of pairs, are those that `vjp_each` may be given: of pairs
        that were computed one by one.
        """
        values, transports, complaints = np.full(len(a[0]), np.nan), {}, []
        left = np.ones(len(values), dtype=bool)
        if (against := self._against_one(a, b)) is not None:
            *_, lists, shape = against
            found = exact_values(*lists, np.ones(shape, dtype=bool), n_threads=1).ravel()
            left = np.isnan(found)
            values[~left] = found[~left] if self.squared else np.sqrt(found[~left])
        for s in np.flatnonzero(left):
            values[s], transports[s], told = self.value(*_pair(a, b, s))
            complaints += told
        return values, transports, list(dict.fromkeys(complaints))

    def vjp_each(self, a, b, value_bars, transports=None, *, wanted=(True, True)):
        """The cotangents of all mixtures, as `vjp`, with a first axis for them."""
        bars = [
            [np.empty(part.shape) for part in side] if want else None
            for side, want in zip((a, b), wanted, strict=True)
        ]
        left = np.full(len(value_bars), any(wanted))
        against = None if all(wanted) or not any(wanted) else self._against_one(a, b)
        if against is not None and wanted[against[0]]:
            side, lists, shape = against
            given = np.reshape(value_bars, shape).astype(np.float64)
            *sums, missing = exact_gradients(*lists, given, self.squared, n_threads=1)
            left = missing.ravel()
            for s, mixture in enumerate(lists[side]):
                found = sums[side][s]
                left[s] |= found is None or len(found.weights) != len(mixture.weights)
                if not left[s]:
                    spread = family_of(mixture).pull(found.matrices)
                    _put(bars[side], s, (found.weights, found.means, spread))
        for s in np.flatnonzero(left):
            known = None if transports is None else transports.get(s)
            found = self.vjp(*_pair(a, b, s), value_bars[s], known, wanted=wanted)
            for whole, own in zip(bars, found, strict=True):
                if whole is not None:
                    _put(whole, s, own)
        return tuple(None if side is None else tuple(side) for side in bars)

    def _against_one(self, a, b):
        """Which side (0 or 1) has many mixtures, where the other has one; lists of both; a shape.

        None where both sides differ, or plans are not exact, or what is no mixture is among them.
        """
        single = [not any(part.strides[0] for part in side) for side in (a, b)]
        if self.reg or self.reg_m != BALANCED or len(a[0]) < 2 or not any(single):
            return None
        side = 0 if single[1] else 1
        numbers = [range(1 if alone else len(a[0])) for alone in (side == 1, side == 0)]
        try:
            lists = [
                [_mixture(parts, s, kind) for s in own]
                for parts, own, kind in zip((a, b), numbers, self.types, strict=True)
            ]
        except ValueError:
            return None
        same = lists[0][0].n_features == lists[1][0].n_features
        return (side, lists, tuple(map(len, lists))) if same else None

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


def _mixture(parts, s, kind):
    mixture = MixtureParameters(*(part[s] for part in parts), kind)
    return as_parameters(mixture, f"set {s}")


def _pair(a, b, s):
    return tuple(part[s] for part in a), tuple(part[s] for part in b)


def _put(parts, s, values):
    for part, value in zip(parts, values, strict=True):
        part[s] = value
