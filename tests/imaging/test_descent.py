"""Descents of energies with known gradients."""

import numpy as np
import pytest

from skgmmot.imaging.descent import descend
from skgmmot.imaging.energy import EnergyAt


def bowl(x):
    """The mean of c x² with curvatures c from 0.2 to 0.4, about zero."""
    curvature = np.linspace(0.2, 0.4, x.size).reshape(x.shape)
    gradient = 2 * curvature * x / x.size
    parts = np.array([x.sum(), 0.0])
    return EnergyAt(float((curvature * x**2).mean()), parts, gradient.astype(x.dtype))


def start(dtype=float):
    return np.random.default_rng(0).normal(size=(3, 4, 2)).astype(dtype)


@pytest.mark.parametrize("floor", [None, 1e-8, 1.0])
def test_steps_are_those_of_adam(floor):
    """The formulas of Kingma and Ba, by hand, on an array of three axes."""
    rate, x = 0.1, start()
    epsilon = rate / x.size if floor is None else floor
    mean, square, values = 0.0, 0.0, []
    for step in range(1, 8):
        at = bowl(x)
        values.append(at.value)
        mean = 0.9 * mean + 0.1 * at.gradient
        square = 0.999 * square + 0.001 * at.gradient**2
        x = x - rate * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + epsilon)
    found = descend(bowl, start(), learning_rate=rate, n_steps=7, floor=floor)
    np.testing.assert_allclose(found.x, x, rtol=1e-12)
    np.testing.assert_allclose(found.values, [*values, bowl(x).value], rtol=1e-12)


def test_it_arrives_and_tells_of_all_steps():
    given = start()
    given.flags.writeable = False
    found = descend(bowl, given, learning_rate=0.05, n_steps=200)
    assert found.values.shape == (201,) and found.parts.shape == (201, 2)
    assert found.values[-1] < 1e-3 * found.values[0]
    np.testing.assert_allclose(found.parts[0], [given.sum(), 0.0])
    np.testing.assert_array_equal(given, start())


def test_an_array_that_is_there_stays():
    """Gradients that are rounding are not scaled up to whole steps."""
    found = descend(bowl, np.full((5, 5), 1e-15), learning_rate=0.1, n_steps=5)
    assert np.abs(found.x).max() < 1e-12


def test_precision_is_that_of_the_array():
    single, double = (
        descend(bowl, start(t), learning_rate=0.1, n_steps=10).x for t in (np.float32, float)
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_callback_sees_every_step_and_can_stop():
    seen = []

    def callback(step, x, value):
        with pytest.raises(ValueError, match="read-only"):
            x[...] = 0.0
        seen.append((step, x.copy(), value))
        return step == 3

    found = descend(bowl, start(), learning_rate=0.1, n_steps=9, callback=callback)
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    np.testing.assert_array_equal(seen[-1][1], found.x)
    assert found.values.tolist() == [value for *_, value in seen]
    same = descend(bowl, start(), learning_rate=0.1, n_steps=3)
    # with fewer steps planned the bias corrections are the same
    np.testing.assert_array_equal(same.x, found.x)


def test_an_energy_that_fails_on_the_way_is_blamed_on_the_descent():
    def fails(x):
        if np.abs(x).max() > 10.0:
            raise ValueError("X contains infinity.")
        return EnergyAt(0.0, np.zeros(1), -np.ones_like(x))

    with pytest.raises(RuntimeError, match="after .* steps.*decrease learning_rate.*infinity"):
        descend(fails, start(), learning_rate=5.0, n_steps=9)
    with pytest.raises(ValueError, match="^X contains infinity.$"):
        descend(fails, 20.0 + start(), learning_rate=5.0, n_steps=9)
