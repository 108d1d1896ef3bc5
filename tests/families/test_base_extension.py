"""A covariance type of one's own, without touching the package: spherical of a given variance."""

from dataclasses import replace

import naive
import numpy as np
import pytest

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.data import Data
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, iterate
from skgmmot.em.solvers import SOLVERS
from skgmmot.families.spherical import Spherical
from skgmmot.parameters import MixtureParameters
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataTangent


class GivenVariance(Spherical):
    """All covariances are the variance times the identity."""

    name = "given variance"

    def __init__(self, variance):
        self.variance = variance

    def n_parameters(self, n_components, n_features):
        return 0

    def _covariances(self, sums, divisor, shift, reg_covar, second_moment):
        return np.full(len(shift), self.variance)

    def _covariances_dot(self, moments, mass_dot, shift_dot, quadratic_dot, second_moment_dot):
        return np.zeros(len(shift_dot))

    def _pull_covariances(self, moments, sigma_bar, has_quadratic):
        still = np.zeros((len(sigma_bar), 1))
        return still[:, 0], still, still, None


def setting(X):
    em_map = EMMap(Data(CpuSamples(X)), GivenVariance(1.5))
    start = MixtureParameters(
        np.full(3, 1 / 3), X[[0, 100, 200]], np.full(3, 1.5), em_map.family.name
    )
    return em_map, start


def data():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(m, 1.0, (100, 2)) for m in ([0, 0], [3, 0], [0, 3])])


@pytest.mark.parametrize("acceleration", [None, "anderson", "incremental", "lbfgs", "newton"])
def test_it_is_fitted(acceleration):
    X = data()
    em_map, start = setting(X)
    stopping = Stopping(2000, 1e-3, 1e-10)
    result = iterate(em_map, start, stopping, solver=SOLVERS[acceleration])
    assert result.converged and (np.diff(result.lower_bounds) > -1e-13).all()
    theta = result.parameters
    np.testing.assert_array_equal(theta.covariances, 1.5)
    # a fixed point of means and weights by the textbook
    gamma = naive.responsibilities(naive.log_joint(X, replace(theta, covariance_type="spherical")))
    np.testing.assert_allclose(gamma.mean(axis=0), theta.weights, atol=1e-9)
    np.testing.assert_allclose(gamma.T @ X / gamma.sum(axis=0)[:, None], theta.means, atol=1e-8)


@pytest.mark.parametrize("mode", ADJOINTS)
def test_its_gradients_are_slopes(mode):
    X, rng = data(), np.random.default_rng(1)
    X_dot = rng.normal(size=X.shape)
    stopping = Stopping(3000, np.inf, 1e-13)
    if mode != "implicit":  # of a single step both are exact
        stopping = Stopping(1, 0.0, 0.0)

    def at(t):
        em_map, _ = setting(X + t * X_dot)
        return em_map, iterate(em_map, setting(X)[1], stopping)

    em_map, result = at(0.0)
    bar = MixtureParameters(rng.normal(size=3), rng.normal(size=(3, 2)), np.zeros(3), "")
    record = FitRecord.of(result, em_map)
    back, complaints = ADJOINTS[mode].vjp(em_map, record, bar, tol=1e-8)
    forward, _ = ADJOINTS[mode].jvp(em_map, record, DataTangent(X_dot), tol=1e-8)
    ahead, behind = (naive.inner_product(bar, at(t)[1].parameters) for t in (1e-4, -1e-4))
    assert not complaints
    assert (back.data * X_dot).sum() == pytest.approx((ahead - behind) / 2e-4, rel=1e-5)
    assert naive.inner_product(bar, forward) == pytest.approx((back.data * X_dot).sum(), rel=1e-9)
