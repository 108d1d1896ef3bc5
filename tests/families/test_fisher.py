"""Coordinates for Krylov solvers."""

from dataclasses import replace

import naive
import numpy as np
import pytest

from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.families.fisher import FisherCoordinates
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

PARTS = ("weights", "means", "covariances")
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_weights = pytest.mark.parametrize("fixed_weights", [False, True])


def flat(parameters):
    return np.concatenate([part.ravel() for part in parameters])


@all_types
@all_weights
def test_vectors_stand_for_tangents_and_cotangents(kind, fixed_weights):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, 4, kind)
    coordinates = FisherCoordinates(theta, np.array([3.0, 0.5, 7.0]), fixed_weights)
    tangent, cotangent = (naive.random_cotangent(rng, theta) for _ in range(2))
    if fixed_weights:
        tangent.weights[:] = cotangent.weights[:] = 0.0
    u, v = coordinates.of_tangent(tangent), coordinates.of_cotangent(cotangent)
    assert u.size == v.size == coordinates.size
    np.testing.assert_allclose(flat(coordinates.tangent(u)), flat(tangent), atol=1e-13)
    np.testing.assert_allclose(flat(coordinates.cotangent(v)), flat(cotangent), atol=1e-13)
    np.testing.assert_allclose(u @ v, naive.inner_product(cotangent, tangent), rtol=1e-12)


@all_types
@pytest.mark.parametrize("part", ["weights", "means", "covariances"])
def test_changes_are_in_units_of_the_component(kind, part):
    rng = np.random.default_rng(3)
    theta = naive.random_mixture(rng, 3, 2, kind)
    coordinates = FisherCoordinates(theta, 50.0 * theta.weights, False)
    tangent = naive.random_cotangent(rng, theta)
    only = MixtureParameters(
        *(own if name == part else 0 * own for name, own in zip(PARTS, tangent, strict=True)), kind
    )
    factors = np.linalg.cholesky(naive.matrices(theta))
    whitened = [
        np.linalg.solve(L, np.linalg.solve(L, S).T)
        for L, S in zip(factors, naive.matrices(tangent), strict=True)
    ]
    steps = [np.linalg.solve(L, m) for L, m in zip(factors, tangent.means, strict=True)]
    expected = {
        "weights": np.abs(tangent.weights / theta.weights).max(),
        "means": np.linalg.norm(steps, axis=1).max(),
        "covariances": np.linalg.norm(whitened, axis=(1, 2)).max(),
    }[part]
    vector = coordinates.of_tangent(only)
    assert coordinates.within(vector, None, 1.001 * expected, 0.0) is vector
    assert coordinates.within(vector, None, 0.999 * expected, 0.0) is None


@all_types
@all_weights
def test_negligible_components_move_as_another_vector_has_it(kind, fixed_weights):
    rng = np.random.default_rng(3)
    theta = naive.random_mixture(rng, 3, 2, kind)
    mass = np.array([0.5, 1e-9, 0.5])
    theta = replace(theta, weights=mass / mass.sum())
    coordinates = FisherCoordinates(theta, mass, fixed_weights)
    vector, plain = 1e-3 * rng.normal(size=(2, coordinates.size))
    assert coordinates.within(vector, plain, 2.0, 0.0) is None
    tangent, slow = coordinates.tangent(vector), coordinates.tangent(plain)
    mixed = coordinates.tangent(coordinates.within(vector, plain, 2.0, 1e-5))
    for name, both in zip(PARTS, zip(tangent, slow, mixed, strict=True), strict=True):
        fast, other, found = both
        if name == "covariances" and kind == "tied":
            np.testing.assert_array_equal(found, fast)
        else:
            np.testing.assert_array_equal(found[[0, 2]], fast[[0, 2]])
            np.testing.assert_array_equal(found[1], other[1])


@all_types
@all_weights
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_derivative_of_em_is_symmetric_at_a_maximum(kind, fixed_weights, temperature):
    """With eigenvalues between 0 and 1: the share of information that is missing."""
    rng = np.random.default_rng(1)
    theta = naive.random_mixture(rng, 3, 2, kind, spread=3.0)
    problem = EMMap.on(
        naive.sample(rng, theta, 400),
        covariance_type=kind,
        reg_covar=0.0,
        fixed_weights=fixed_weights,
        temperature=temperature,
    )
    theta = iterate(problem, theta, Stopping(5000, np.inf, 1e-13)).parameters
    step = problem.step(theta)
    coordinates = FisherCoordinates(theta, step.mass, fixed_weights, temperature)
    matrix = np.stack(
        [
            coordinates.of_cotangent(problem.vjp(step, coordinates.cotangent(e)))
            for e in np.eye(coordinates.size)
        ],
        axis=1,
    )
    transposed = np.stack(
        [
            coordinates.of_tangent(problem.jvp(step, coordinates.tangent(e)))
            for e in np.eye(coordinates.size)
        ]
    )
    np.testing.assert_allclose(matrix, transposed, atol=1e-11)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues.min() > -1e-10 and eigenvalues.max() < 1


@all_types
def test_components_without_mass_have_no_place(kind):
    rng = np.random.default_rng(2)
    theta = naive.random_mixture(rng, 3, 2, kind)
    cotangent = naive.random_cotangent(rng, theta)
    coordinates = FisherCoordinates(theta, np.array([2.0, 0.0, 1.0]), False)
    back = coordinates.cotangent(coordinates.of_cotangent(cotangent))
    assert (back.means[1] == 0).all()
    np.testing.assert_allclose(back.means[[0, 2]], cotangent.means[[0, 2]], atol=1e-13)
    if kind == "tied":
        np.testing.assert_allclose(back.covariances, cotangent.covariances, atol=1e-13)
    else:
        assert (back.covariances[1] == 0).all() and (back.covariances[0] != 0).any()
