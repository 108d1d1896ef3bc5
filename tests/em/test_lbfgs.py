"""L-BFGS by itself: its direction, what it keeps, and its trust region."""

from types import SimpleNamespace

import numpy as np
import pytest

from skgmmot.em import lbfgs as module
from skgmmot.em.lbfgs import LBFGS, _direction


def random_pairs(rng, n_pairs, size):
    """Steps, and the changes of a gradient along them."""
    root = rng.normal(size=(size, size))
    matrix = root @ root.T + np.eye(size)
    steps = rng.normal(size=(n_pairs, size))
    return [(s, matrix @ s, s @ matrix @ s) for s in steps], matrix


def dense_inverse(pairs, size):
    """H by updates of the whole matrix (Nocedal and Wright 2006, eq. 6.17)."""
    inverse = np.eye(size)
    for s, y, curvature in pairs:
        left = np.eye(size) - np.outer(s, y) / curvature
        inverse = left @ inverse @ left.T + np.outer(s, s) / curvature
    return inverse


@pytest.mark.parametrize("n_pairs", [1, 2, 7])
def test_direction_is_that_of_the_dense_updates(n_pairs):
    rng = np.random.default_rng(n_pairs)
    pairs, _ = random_pairs(rng, n_pairs, 5)
    residual = rng.normal(size=5)
    np.testing.assert_allclose(
        module._direction(pairs, residual), dense_inverse(pairs, 5) @ residual, rtol=1e-10
    )


def test_without_pairs_the_direction_is_that_of_em():
    residual = np.arange(3.0)
    np.testing.assert_array_equal(module._direction([], residual), residual)


class OnModel(LBFGS):
    """Moves whose gain is a share of what the model promises."""

    def __init__(self, pairs=(), *, radius, shares):
        super().__init__()
        self._pairs, self._radius = list(pairs), radius
        self._shares, self.tried = iter(shares), []
        self.unit = 1e6  # of the components: none changes much

    def try_move(self, em_map, step, coordinates, vector):
        self.n_extra += 1
        self.tried.append(vector)
        slope = self.residual @ module._direction(self._pairs, self.residual)
        part = vector @ self.residual / slope
        predicted = (part - 0.5 * part**2) * slope
        return next(self._shares) * predicted, "there", "the step from there"

    def within(self, vector, plain, most, negligible):
        assert plain is self.residual and (most, negligible) == (2.0, 1e-5)
        return vector if np.linalg.norm(vector) / self.unit <= most else None

    def moved(self, residual, lower_bound=-1.0):
        self.residual = residual
        step = SimpleNamespace(lower_bound=lower_bound)
        coordinates = SimpleNamespace(within=self.within)
        return self.accelerated(None, step, coordinates, residual, 10)


def far(size=4, n_pairs=3):
    """Pairs of a problem so flat that steps are a hundred times longer than those of EM."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(n_pairs, size))
    return [(s, 0.01 * s, 0.01 * (s @ s)) for s in steps], np.linalg.qr(steps.T)[0][:, 0]


def test_steps_end_at_the_border_of_the_region():
    pairs, residual = far()
    solver = OnModel(pairs, radius=7.0, shares=[0.4])
    assert solver.moved(residual) == ["there", "the step from there"]
    assert np.linalg.norm(solver.tried[0]) == pytest.approx(7.0, rel=1e-12)
    assert solver._radius == 7.0
    inside = OnModel(pairs, radius=1e3, shares=[0.4])
    inside.moved(residual)
    np.testing.assert_allclose(inside.tried[0], module._direction(pairs, residual), rtol=1e-12)


def test_a_step_of_em_is_never_too_long():
    pairs, residual = far()
    solver = OnModel(pairs, radius=1e-3, shares=[0.4])
    solver.moved(residual)
    assert np.linalg.norm(solver.tried[0]) == pytest.approx(1.0, rel=1e-12)  # that of the residual


def test_the_region_follows_the_gain():
    pairs, residual = far()
    grown = OnModel(pairs, radius=4.0, shares=[0.9])
    grown.moved(residual)
    assert grown._radius == 8.0
    largest = OnModel(pairs, radius=8.0, shares=[0.9])
    largest.moved(residual)
    assert largest._radius == module.LARGEST_MOVE
    shrunk = OnModel(pairs, radius=4.0, shares=[0.1])
    shrunk.moved(residual)
    assert shrunk._radius == pytest.approx(1.0, rel=1e-12)
    # what ends inside says nothing of a larger region
    inside = OnModel(pairs, radius=1e3, shares=[0.9])
    inside.moved(residual)
    assert inside._radius == 1e3
    # and a gain of rounding errors says nothing at all
    vague = OnModel(pairs, radius=4.0, shares=[0.1])
    vague.moved(residual, lower_bound=-1e16)
    assert vague._radius == 4.0


def test_a_refused_move_is_tried_once_more_nearby():
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[-1.0, 0.4])
    assert solver.moved(residual) is not None
    lengths = np.linalg.norm(solver.tried, axis=1)
    np.testing.assert_allclose(lengths, [8.0, 2.0], rtol=1e-12)
    assert solver.n_extra == 1 and len(solver._pairs) == 3


def test_after_two_refusals_only_the_last_pair_is_kept():
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[-1.0, -1.0])
    assert solver.moved(residual) is None
    assert solver.n_extra == 2 and solver._pairs == pairs[-1:]
    # the plain step in its place teaches the next pair
    step, before, _ = solver._last
    assert step is residual and before is residual


def test_pairs_are_the_steps_that_were_made():
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[0.4, 0.4])
    solver.moved(residual)
    made = solver.tried[0]
    following = residual - 0.1 * made
    solver.moved(following)
    step, change, curvature = solver._pairs[-1]
    np.testing.assert_array_equal(step, made)
    np.testing.assert_allclose(change, 0.1 * made, rtol=1e-12)
    assert curvature == pytest.approx(0.1 * 8.0**2, rel=1e-12)


def test_a_pair_of_negative_curvature_leads_on_in_longer_steps():
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[0.4, 0.4])
    solver.moved(residual)
    made = solver.tried[0]
    solver.moved(residual + 0.1 * made + np.roll(made, 1))
    step, change, curvature = solver._pairs[-1]
    part = 8.0 / np.linalg.norm(_direction(pairs, residual))  # so much of the residual is H⁻¹ s
    assert curvature == pytest.approx(0.2 * (made @ residual) * part, rel=1e-12)
    assert step @ change == pytest.approx(curvature, rel=1e-12)
    # across the step the change is what it was
    across = change - (step @ change) / (step @ step) * step
    expected = -np.roll(made, 1) + (np.roll(made, 1) @ step) / (step @ step) * step
    np.testing.assert_allclose(across, expected, atol=1e-12)


def test_steps_on_the_way_from_a_saddle_grow():
    residual = np.array([0.0, 1e-3])
    solver = OnModel([], radius=1e3, shares=[0.4] * 3)
    for growth in (1.0, 1.1, 1.2, 1.3):
        solver.moved(growth * residual)
    for made, expected in zip(solver.tried, (5 * 1.1, 25 * 1.2, 125 * 1.3), strict=True):
        np.testing.assert_allclose(made, expected * residual, rtol=1e-12)


def test_no_pair_is_without_curvature():
    solver = LBFGS()
    solver._last = np.ones(3), np.ones(3), np.full(3, 1e-9)
    solver._learn(np.full(3, 2.0))
    assert solver._pairs[0][2] == pytest.approx(1e-6 * 3, rel=1e-12)


def test_a_step_of_no_length_teaches_nothing():
    solver = LBFGS()
    solver._last = np.zeros(3), np.ones(3), np.zeros(3)
    solver._learn(np.ones(3))
    assert solver._pairs == []


def test_no_component_is_flung_away():
    """What changes one by over two of its units is not made, what led to it forgotten."""
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[0.4])
    solver.unit = 3.9
    assert solver.moved(residual) is None
    assert solver.tried == [] and solver.n_extra == 0 and solver._pairs == pairs[-1:]
    solver = OnModel(pairs, radius=8.0, shares=[0.4])
    solver.unit = 4.1
    assert solver.moved(residual) is not None


def test_what_was_made_is_learned_where_it_is_not_what_was_wanted():
    pairs, residual = far()
    solver = OnModel(pairs, radius=8.0, shares=[0.4, 0.4])
    solver.within = lambda vector, *_: 0.5 * vector
    solver.moved(residual)
    assert np.linalg.norm(solver.tried[0]) == pytest.approx(4.0, rel=1e-12)
    np.testing.assert_array_equal(solver._last[0], solver.tried[0])


@pytest.mark.parametrize("memory, n_kept", [(2**26, 20), (5 * 2 * 4 * 8, 5), (1, 3)])
def test_so_many_pairs_are_kept(monkeypatch, memory, n_kept):
    monkeypatch.setattr(module, "_LARGEST_MEMORY", memory)
    solver = LBFGS()
    for number in range(1, 41):
        solver._last = (np.full(4, float(number)),) * 3
        solver._learn(np.zeros(4))
    assert [s[0] for s, _, _ in solver._pairs] == list(range(41 - n_kept, 41))
