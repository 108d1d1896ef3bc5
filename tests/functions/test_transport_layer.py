"""MW2 as pure functions of arrays: it is `mixture_wasserstein`, with its gradient."""

import numpy as np
import pytest

from skgmmot import mixture_transport, mixture_wasserstein
from skgmmot.functions.transport_layer import TransportLayer

A = (np.array([0.3, 0.7]), np.array([[0.0, 1.0], [3.0, 0.0]]), np.array([1.0, 2.0]))
B = (np.array([0.6, 0.4]), np.array([[1.0, 1.0], [4.0, 2.0]]), np.stack([np.eye(2), 2 * np.eye(2)]))


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("reg, reg_m", [(0.0, None), (0.5, None), (0.1, (1.0, np.inf))])
def test_value_and_gradient(squared, reg, reg_m):
    layer = TransportLayer.of(squared=squared, reg=reg, reg_m=reg_m)
    value, transport, complaints = layer.value(A, B)
    assert value == mixture_wasserstein(A, B, squared=squared, reg=reg, reg_m=reg_m)
    assert complaints == [] and TransportLayer.read(layer.text) == layer

    expected = mixture_transport(A, B, reg=reg, reg_m=reg_m)
    factor = 2.0 if squared else 2.0 / (2 * expected.distance)
    for given in (None, transport):
        bars = layer.vjp(A, B, 2.0, given)
        for bar, side in zip(bars, ("source", "target"), strict=True):
            for part, gradient in zip(bar, expected.gradient(side), strict=True):
                np.testing.assert_allclose(part, factor * gradient, rtol=1e-14)
    assert layer.vjp(A, B, 1.0, wanted=(False, True))[0] is None

    rng = np.random.default_rng(0)
    dots = [[rng.normal(size=part.shape) for part in mixture] for mixture in (A, B)]
    pairs = zip([*bars[0], *bars[1]], [*dots[0], *dots[1]], strict=True)
    right = sum(np.vdot(b, d) for b, d in pairs)
    assert 2 * layer.jvp(A, B, *dots) == pytest.approx(right, rel=1e-12)
    half = sum(np.vdot(b, d) for b, d in zip(bars[0], dots[0], strict=True))
    assert 2 * layer.jvp(A, B, dots[0], None) == pytest.approx(half, rel=1e-12)
    only_means = np.vdot(bars[1][1], dots[1][1])
    partial = layer.jvp(A, B, None, (None, dots[1][1], None))
    assert 2 * partial == pytest.approx(only_means, rel=1e-12)


def test_gradient_of_a_distance_of_zero_is_zero():
    bars = TransportLayer.of().vjp(A, A, 1.0)
    assert all((part == 0).all() for bar in bars for part in bar)


def test_covariance_types_are_told_where_shapes_leave_them_open():
    diag = (np.array([0.5, 0.5]), np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="could be tied or diag"):
        TransportLayer.of().value(diag, B)
    assert TransportLayer.of(types=("diag", "full")).value(diag, B)[0] > 0
    with pytest.raises(ValueError, match="reg must be"):
        TransportLayer.of(reg=-1.0)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("reg", [0.0, 0.5])
@pytest.mark.parametrize("same", [None, "source", "target"])
def test_many_values_and_gradients_are_those_of_each_pair(squared, reg, same):
    rng = np.random.default_rng(0)
    many = [(A[0], A[1] + rng.normal(size=(2, 2)), A[2] * s) for s in (1.0, 2.0, 3.0)]
    many = tuple(np.stack(part) for part in zip(*many, strict=True))
    other = tuple(np.stack(3 * [part]) for part in B)  # with memory of their own
    if same is not None:
        other = tuple(np.broadcast_to(part, (3, *part.shape)) for part in B)
    pair = (other, many) if same == "source" else (many, other)
    layer = TransportLayer.of(squared=squared, reg=reg)
    values, transports, complaints = layer.value_each(*pair)
    assert len(transports) == (0 if same and not reg else 3)
    bars = np.array([1.0, 0.0, -2.0])
    for wanted in ((True, True), (True, False), (False, True)):
        gradients = layer.vjp_each(*pair, bars, transports, wanted=wanted)
        for s in range(3):
            a, b = (tuple(part[s] for part in side) for side in pair)
            assert values[s] == pytest.approx(layer.value(a, b)[0], rel=1e-12) and not complaints
            expected = layer.vjp(a, b, bars[s], wanted=wanted)
            for ours, theirs in zip(gradients, expected, strict=True):
                assert (ours is None) == (theirs is None)
                for part, its in zip(ours or (), theirs or (), strict=True):
                    np.testing.assert_allclose(part[s], its, rtol=1e-10, atol=1e-12)


def test_what_is_no_mixture_among_many_is_refused():
    many = tuple(np.stack([part, part]) for part in A)
    many[0][1] = 2.0
    with pytest.raises(ValueError, match="a: the weights"):
        TransportLayer.of().value_each(many, tuple(np.broadcast_to(p, (2, *p.shape)) for p in B))
