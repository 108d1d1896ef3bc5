"""What steps share: the second moment and its derivatives, and the data's cotangent."""

import naive
import numpy as np
import pytest

from skgmmot.em.data import second_moment
from skgmmot.em.em_map import EMMap
from skgmmot.samples.interface import DataTangent


def problem_of(weighted, n=700):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3)) + 5.0
    weight = rng.uniform(0.1, 2.0, size=n) if weighted else None
    return EMMap.on(X, weight, covariance_type="tied"), rng


def naive_moment(problem, X, weight):
    Z = X - problem.data.center
    return np.einsum("i,ia,ib->ab", weight, Z, Z)


@pytest.mark.parametrize("weighted", [False, True])
def test_second_moment_its_jvp_and_its_vjp(weighted):
    problem, rng = problem_of(weighted)
    X = problem.samples.X
    weight = (
        np.ones(len(X)) if problem.samples.sample_weight is None else problem.samples.sample_weight
    )
    moment = second_moment(problem.samples, problem.data.center)
    np.testing.assert_allclose(moment, naive_moment(problem, X, weight), rtol=1e-12, atol=1e-10)

    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=len(X))
    Z = X - problem.data.center
    expected = np.einsum("i,ia,ib->ab", weight, X_dot, Z)
    expected = expected + expected.T + np.einsum("i,ia,ib->ab", weight_dot, Z, Z)
    actual = problem.data.second_moment_jvp(DataTangent(X_dot, weight_dot))
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-10)

    bar = naive.random_covariances(rng, 1, 3)[0]
    data_bar = problem.zero_cotangent(wrt_weight=True)
    data_bar.second_moment += bar
    problem.finish(data_bar)
    np.testing.assert_allclose(data_bar.X, 2 * weight[:, None] * Z @ bar, rtol=1e-12, atol=1e-12)
    quadratic = np.einsum("ia,ab,ib->i", Z, bar, Z)
    np.testing.assert_allclose(data_bar.sample_weight, quadratic, rtol=1e-12)


def test_finish_pulls_the_second_moment_back_once():
    problem, _ = problem_of(False)
    data_bar = problem.zero_cotangent()
    data_bar.second_moment += np.eye(3)
    once = problem.finish(data_bar).X.copy()
    np.testing.assert_array_equal(problem.finish(data_bar).X, once)
    assert data_bar.sample_weight is None and once.any()
