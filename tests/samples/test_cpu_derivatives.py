"""The derivatives of the statistics, against their slow twins."""

import naive
import numpy as np
import pytest

from skgmmot.families import family_of
from skgmmot.kernels.blocks import BLOCK
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataCotangent, DataTangent

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered", "other origin", "mixed"])


class Case:
    """Data, logits, and everything the formulas need, in plain arrays."""

    def __init__(self, kind, way, *, weighted=True, n=2 * BLOCK + 7, dtype=np.float64):
        self.rng = rng = np.random.default_rng(0)
        K, d = 3, 2
        theta = naive.random_mixture(rng, K, d, kind)
        self.X = naive.sample(rng, theta, n).astype(dtype)
        self.weight = rng.uniform(0.1, 2.0, size=n) if weighted else None
        self.s = np.ones(n) if self.weight is None else self.weight
        if way == "mixed" and kind == "tied":
            way = "matrix"
        mixed = np.array([1]) if way == "mixed" else None
        common = np.ones(d) if way in ("matrix", "mixed") else None
        self.logits = family_of(theta).natural(theta, common, apart=mixed)
        self.origin = theta.means + 1.0 if way == "other origin" else None
        if way == "mixed":
            self.origin = self.logits.reference + [[0.0], [1.0], [0.0]]
        self.type = "full" if kind == "tied" and way != "matrix" else kind
        size = self.logits.features.size
        self.eta = self.logits.coefficients[:K, :size]
        points = self.logits.reference if self.origin is None else self.origin
        self.Z_eta = naive.about(self.X.astype(float), self.logits.reference, K)
        self.Z = naive.about(self.X.astype(float), points, K)
        self.phi_eta, self.phi = (self.features(Z) for Z in (self.Z_eta, self.Z))
        joint = np.einsum("kif,kf->ik", self.phi_eta, self.eta)
        self.gamma = naive.responsibilities(joint)

    def features(self, Z):
        return np.array([naive.features(z, self.type) for z in Z])

    def moved_features(self, Z, X_dot):
        """J_φ ẋ, (K, n, p)."""
        jacobians = [naive.features_jacobian(z, self.type) for z in Z]
        return np.array([np.einsum("ifa,ia->if", J, X_dot) for J in jacobians])

    def moved_gamma(self, z_dot):
        return self.gamma * (z_dot - (self.gamma * z_dot).sum(axis=1, keepdims=True))


@all_types
@all_ways
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_jvp(kind, way, weighted, dtype):
    case = Case(kind, way, weighted=weighted, dtype=dtype)
    rng = case.rng
    eta_dot = rng.normal(size=case.eta.shape)
    X_dot, weight_dot = rng.normal(size=case.X.shape), rng.normal(size=len(case.X))
    z_dot = np.einsum("kif,kf->ik", case.phi_eta, eta_dot)
    z_dot += np.einsum("kif,kf->ik", case.moved_features(case.Z_eta, X_dot), case.eta)
    gamma_dot = weight_dot[:, None] * case.gamma + case.s[:, None] * case.moved_gamma(z_dot)
    expected = np.einsum("ik,kif->kf", gamma_dot, case.phi)
    phi_dot = case.moved_features(case.Z, X_dot)
    expected += np.einsum("i,ik,kif->kf", case.s, case.gamma, phi_dot)
    for threads in (1, 2):
        actual = CpuSamples(case.X, case.weight, n_threads=threads).statistics_jvp(
            case.logits, eta_dot, origin=case.origin, data_dot=DataTangent(X_dot, weight_dot)
        )
        # sums of five hundred terms of size up to a hundred
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-9)


@all_types
@all_ways
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_vjp_of_all_inputs(kind, way, weighted):
    case = Case(kind, way, weighted=weighted)
    U = case.rng.normal(size=case.eta.shape)
    u = np.einsum("kif,kf->ik", case.phi, U)
    b = case.moved_gamma(u)
    X_bar, weight_bar = np.ones(case.X.shape), np.ones(len(case.X))
    eta_bar = CpuSamples(case.X, case.weight).statistics_vjp(
        case.logits, U, origin=case.origin, data_bar=DataCotangent(X_bar, weight_bar)
    )
    expected = np.einsum("i,ik,kif->kf", case.s, b, case.phi_eta)
    np.testing.assert_allclose(eta_bar, expected, rtol=1e-10, atol=1e-9)
    pulled = np.zeros(case.X.shape)
    for k in range(3):
        J, J_eta = (naive.features_jacobian(Z[k], case.type) for Z in (case.Z, case.Z_eta))
        pulled += np.einsum("i,f,ifa->ia", case.s * case.gamma[:, k], U[k], J)
        pulled += np.einsum("i,f,ifa->ia", case.s * b[:, k], case.eta[k], J_eta)
    np.testing.assert_allclose(X_bar, 1.0 + pulled, rtol=1e-10, atol=1e-10)  # added to the ones
    np.testing.assert_allclose(weight_bar, 1.0 + (case.gamma * u).sum(axis=1), atol=1e-10)


@all_types
@all_ways
def test_the_hessian_is_symmetric(kind, way):
    """Statistics about the points of the logits are a gradient: one kernel is the other."""
    if way == "other origin":
        pytest.skip("then they are not")
    case = Case(kind, way)
    assert case.origin is None or way == "mixed"
    U = case.rng.normal(size=case.eta.shape)
    pulled = CpuSamples(case.X, case.weight).statistics_vjp(case.logits, U)
    pushed = CpuSamples(case.X, case.weight).statistics_jvp(case.logits, U)
    np.testing.assert_allclose(pulled, pushed, rtol=1e-12, atol=1e-11)


def test_what_is_not_wanted_is_not_computed():
    case = Case("full", "matrix")
    U = case.rng.normal(size=case.eta.shape)
    X_bar = np.zeros(case.X.shape)
    assert (
        CpuSamples(case.X, case.weight).statistics_vjp(
            case.logits, U, wrt_logits=False, data_bar=DataCotangent(X_bar, None)
        )
        is None
    )
    assert X_bar.any()


@pytest.mark.parametrize("way", ["matrix", "centered"])
def test_statistics_about_other_points(way):
    case = Case("full", "centered")
    origin = case.origin if way == "matrix" else case.logits.reference + [3.0, -2.0]
    sums, _ = CpuSamples(case.X, case.weight).statistics(case.logits, origin=origin)
    points = case.logits.reference if origin is None else origin
    expected = naive.statistics(case.X, case.s, case.gamma, points, "full")
    np.testing.assert_allclose(sums, expected, rtol=1e-11, atol=1e-9)
