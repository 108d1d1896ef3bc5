"""Online EM: statistics that are centred, merged and forgotten, against rows that are all kept."""

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skgmmot.em.em_map import EMMap
from skgmmot.em.online import (
    CentredStatistics,
    batch_statistics,
    learning_rate,
    merged,
    parameters_of,
    statistics_of,
)
from skgmmot.families import FAMILIES
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def batches_and_start(kind, seed=0, *, sizes=(40, 60, 25, 50), d=3, K=3, weighted=True):
    """Batches of one mixture, on a grid of 2^-20, with weights; and a mixture to start from."""
    rng = np.random.default_rng(seed)
    truth = naive.random_mixture(rng, K, d, "full")
    batches = []
    for n in sizes:
        X = np.round(naive.sample(rng, truth, n) * 2**20) / 2**20
        batches.append((X, rng.uniform(0.1, 3.0, size=n) if weighted else None))
    start = naive.random_mixture(rng, K, d, kind)
    means = np.round((truth.means + 0.3 * rng.normal(size=(K, d))) * 2**20) / 2**20
    return batches, MixtureParameters(start.weights, means, start.covariances, kind)


def run(batches, theta, rates, *, reg_covar=0.0, fixed_weights=False, temperature=1.0):
    """Steps of online EM."""
    kind = theta.covariance_type
    family = FAMILIES[kind]
    statistics = statistics_of(family, theta, reg_covar)
    for (X, weight), rate in zip(batches, rates, strict=True):
        em_map = EMMap.on(
            X,
            weight,
            covariance_type=kind,
            reg_covar=reg_covar,
            fixed_weights=fixed_weights,
            temperature=temperature,
        )
        new, _ = batch_statistics(em_map, theta)
        statistics = merged(family, statistics, new, rate)
        weights = theta.weights if fixed_weights else None
        theta = parameters_of(family, statistics, reg_covar, weights)
    return theta, statistics


@all_types
@pytest.mark.parametrize("options", [{}, {"reg_covar": 0.2}, {"fixed_weights": True}], ids=str)
def test_steps_are_those_with_all_rows_kept(kind, options):
    batches, start = batches_and_start(kind)
    rates = [0.7, 0.5, 1.0, 0.3]
    for n in range(1, 5):
        theta, _ = run(batches[:n], start, rates[:n], **options)
        expected = naive.online_em(batches[:n], start, rates[:n], **options)
        # a step multiplies rounding by less than ten
        assert naive.errors(theta, expected) < 1e-12


@all_types
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_step_at_rate_one_is_an_em_step_bit_by_bit(kind, temperature):
    ((X, weight), *_), start = batches_and_start(kind)
    X[:, 0] *= 2.0**-20  # of which a way by the old means would lose digits
    options = {"reg_covar": 1e-3, "temperature": temperature}
    theta, _ = run([(X, weight)], start, [1.0], **options)
    expected = EMMap.on(X, weight, covariance_type=kind, **options).step(start).parameters
    for part, other in zip(theta, expected, strict=True):
        np.testing.assert_array_equal(part, other)


@all_types
def test_statistics_of_parts_merge_to_those_of_the_whole(kind):
    ((X, weight), *_), theta = batches_and_start(kind, sizes=(90,))
    family = FAMILIES[kind]

    def of(part):
        em_map = EMMap.on(X[part], weight[part], covariance_type=kind)
        return batch_statistics(em_map, theta)[0]

    share = weight[30:].sum() / weight.sum()
    both = merged(family, of(slice(30)), of(slice(30, 90)), share)
    for part, whole in zip(both, of(slice(90)), strict=True):
        np.testing.assert_allclose(part, whole, rtol=1e-12, atol=1e-13)


@all_types
def test_lower_bound_is_that_of_the_batch_at_the_start(kind):
    ((X, weight), *_), theta = batches_and_start(kind)
    em_map = EMMap.on(X, weight, covariance_type=kind)
    _, bound = naive.em_step(X, theta, weight)
    assert abs(batch_statistics(em_map, theta)[1] - bound) < 1e-12


@all_types
def test_a_component_without_mass_in_a_batch_keeps_its_statistics(kind):
    ((X, _), *_), theta = batches_and_start(kind, weighted=False)
    theta.means[1] = 1e6  # no row is near
    family = FAMILIES[kind]
    statistics = statistics_of(family, theta, 1e-3)
    em_map = EMMap.on(X, covariance_type=kind, reg_covar=1e-3)
    new, _ = batch_statistics(em_map, theta)
    assert new.masses[1] == 0.0
    for rate in (0.25, 1.0):
        after = merged(family, statistics, new, rate)
        assert after.masses[1] == (1 - rate) * statistics.masses[1]
        np.testing.assert_array_equal(after.means[1], statistics.means[1])
        if not family.is_shared:
            np.testing.assert_array_equal(after.scatters[1], statistics.scatters[1])
            assert (after.scatters[0] != statistics.scatters[0]).any()


@all_types
def test_a_fixed_point_of_em_stays(kind):
    ((X, weight), *_), theta = batches_and_start(kind, sizes=(200,), K=2)
    em_map = EMMap.on(X, weight, covariance_type=kind, reg_covar=0.1)
    for _ in range(3000):
        theta = em_map.step(theta).parameters
    assert em_map.residual(em_map.step(theta)) < 1e-12
    after, _ = run([(X, weight)] * 3, theta, [0.9, 0.5, 0.2], reg_covar=0.1)
    assert naive.errors(after, theta) < 1e-10


@all_types
@given(seed=st.integers(0, 2**16), power=st.integers(-200, 200), offset=st.sampled_from([0, 27]))
def test_units_and_origins_do_not_matter(kind, seed, power, offset):
    batches, start = batches_and_start(kind, seed, sizes=(40, 30, 30), K=2)
    rates = [0.8, 0.5, 0.4]
    plain, _ = run(batches, start, rates, reg_covar=0.25)
    scale, offset = 2.0**power, 2.0**offset if offset else 0.0
    elsewhere = [((X + offset) * scale, weight) for X, weight in batches]
    moved, _ = run(
        elsewhere,
        naive.moved(start, scale, offset * scale),
        rates,
        reg_covar=0.25 * scale**2,
    )
    expected = naive.moved(plain, scale, offset * scale)
    found = naive.errors(moved, expected)
    # far away means are rounded to 2^27 ε = 3e-8, some of them a few times
    assert found["means"] < (1e-6 if offset else 1e-11)
    assert found["weights"] < (1e-6 if offset else 1e-11)
    assert found["covariances"] < (1e-6 if offset else 1e-11)


@all_types
def test_many_steps_far_from_the_origin_lose_nothing(kind):
    batches, start = batches_and_start(kind, sizes=(30,) * 60, weighted=False)
    rates = [learning_rate(t, 0.7, 1.0) for t in range(1, 61)]
    offset = 1e8  # on the grid of the rows
    far = [(X + offset, weight) for X, weight in batches]
    moved, _ = run(far, naive.moved(start, 1.0, offset), rates)
    expected = naive.moved(run(batches, start, rates)[0], 1.0, offset)
    # means have no more digits than 1e8 ε = 1.5e-8; squares about the origin would have none left
    assert naive.errors(moved, expected) < 1e-6


@all_types
def test_reg_covar_is_not_among_the_statistics(kind):
    batches, start = batches_and_start(kind)
    rates = [0.7, 0.5, 0.4, 0.3]
    theta, statistics = run(batches, start, rates, reg_covar=0.2)
    family = FAMILIES[kind]
    without = parameters_of(family, statistics, 0.0)
    expected = naive.matrices(without) + 0.2 * np.eye(3)
    np.testing.assert_allclose(naive.matrices(theta), expected, rtol=1e-14, atol=1e-15)
    back = statistics_of(family, theta, 0.2)
    for part, other in zip(back, statistics, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_start_with_less_than_reg_covar_stays_positive(kind):
    batches, start = batches_and_start(kind)
    start = MixtureParameters(start.weights, start.means, 0.1 * start.covariances, kind)
    family = FAMILIES[kind]
    given = parameters_of(family, statistics_of(family, start, 0.5), 0.0)
    assert np.linalg.eigvalsh(naive.matrices(given)).max() < 0
    theta, _ = run(batches, start, [0.1, 0.01, 1e-4, 1e-8], reg_covar=0.5)
    assert np.linalg.eigvalsh(naive.matrices(theta)).min() > 0


def test_masses_are_followed_while_weights_are_fixed():
    batches, start = batches_and_start("full")
    theta, statistics = run(batches, start, [0.7, 0.5, 0.4, 0.3], fixed_weights=True)
    np.testing.assert_array_equal(theta.weights, start.weights)
    assert np.abs(statistics.masses - start.weights).max() > 1e-2
    assert abs(statistics.masses.sum() - 1) < 1e-14


def test_statistics_of_the_batch_alone_may_be_singular():
    """A batch of one row moves the mixture, though no covariance could be made of it."""
    _, start = batches_and_start("full")
    theta, _ = run([(start.means[:1], None)], start, [0.5])
    assert np.linalg.eigvalsh(theta.covariances).min() > 0
    with pytest.raises(CollapsedComponentError, match="component 0"):
        alone, _ = run([(start.means[:1], None)], start, [1.0])
        EMMap.on(start.means, covariance_type="full").step(alone)


def test_learning_rate():
    assert learning_rate(1, 0.7, 0.0) == 1.0
    assert learning_rate(3, 0.5, 1.0) == 0.5
    assert learning_rate(9, 1.0, 1.0) == 0.1
    # α = 1 without an offset is the mean of all batches
    rates = [learning_rate(t, 1.0, 0.0) for t in range(1, 6)]
    means = [
        CentredStatistics(np.ones(1), np.full((1, 1), float(v)), np.zeros(1)) for v in range(1, 6)
    ]
    statistics = means[0]
    for new, rate in zip(means[1:], rates[1:], strict=True):
        statistics = merged(FAMILIES["spherical"], statistics, new, rate)
    assert abs(statistics.means[0, 0] - 3.0) < 1e-15
    assert abs(statistics.scatters[0] - 2.0) < 1e-14
