"""Full covariances of many features: products of matrices against slow twins."""

import naive
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from skgmmot.em.em_map import EMMap
from skgmmot.families import FAMILIES
from skgmmot.families.base import Family
from skgmmot.kernels import compiled
from skgmmot.kernels.blocks import BLOCK
from skgmmot.kernels.large import LARGE
from skgmmot.numerics.threads import thread_pools
from skgmmot.parameters import MixtureParameters
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataCotangent, DataTangent

FULL = FAMILIES["full"]
SITUATIONS = [  # d, K, n, weighted, dtype, distance of the means
    (LARGE, 1, 1, False, np.float64, 2.0),
    (LARGE, 3, BLOCK + 1, True, np.float32, 0.1),
    (LARGE + 1, 3, BLOCK - 1, True, np.float64, 0.1),
    (LARGE + 3, 2, 2 * BLOCK + 5, False, np.float64, 0.2),
    (130, 2, BLOCK + 1, False, np.float32, 0.2),
    (130, 2, BLOCK + 1, True, np.float64, 1e6),
]
all_situations = pytest.mark.parametrize("situation", SITUATIONS)


class Case:
    """Samples, logits about the means and other points for the statistics, in plain arrays."""

    def __init__(self, situation):
        d, K, n, weighted, dtype, spread = situation
        self.rng = rng = np.random.default_rng(d + n)
        theta = naive.random_mixture(rng, K, d, "full", spread=spread)
        self.X = naive.sample(rng, theta, n).astype(dtype)
        self.weight = rng.uniform(0.1, 2.0, size=n) if weighted else None
        self.s = np.ones(n) if self.weight is None else self.weight
        self.samples = CpuSamples(self.X, self.weight)
        self.logits = FULL.natural(theta, None)
        self.eta = self.logits.coefficients
        self.origin = theta.means + rng.normal(size=(K, d))
        self.Z_eta = naive.about(self.X.astype(float), self.logits.reference, K)
        self.Z = naive.about(self.X.astype(float), self.origin, K)
        self.P = np.linalg.inv(theta.covariances)
        squares = np.einsum("kia,kab,kib->ik", self.Z_eta, self.P, self.Z_eta)
        self.joint = self.eta[:, 0] - 0.5 * squares
        self.gamma = naive.responsibilities(self.joint)

    def forms(self, coefficients, Z):
        return np.array(
            [naive.features(z, "full") @ c for z, c in zip(Z, coefficients, strict=True)]
        ).T

    def sums(self, weights, Z):
        return np.array([w @ naive.features(z, "full") for z, w in zip(Z, weights.T, strict=True)])

    def moved_gamma(self, forms_dot):
        return self.gamma * (forms_dot - (self.gamma * forms_dot).sum(axis=1, keepdims=True))

    def slopes(self, coefficients, Z):
        """∂⟨c_k, φ(z)⟩ / ∂z, (K, n, d)."""
        d = Z.shape[2]
        lower = np.zeros((len(Z), d, d))
        lower[:, *np.tril_indices(d)] = coefficients[:, 1 + d :]
        linear = coefficients[:, None, 1 : 1 + d]
        return linear + np.einsum("kab,kib->kia", lower + lower.swapaxes(1, 2), Z)

    def random_coefficients(self):
        return self.rng.normal(size=self.eta.shape)


def assert_close(actual, expected):
    """To rounding, of sums of thousands of terms."""
    assert actual.shape == expected.shape
    scale = np.abs(expected).max() + 1e-300
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=1e-11)


@all_situations
def test_logits_and_statistics(situation):
    case = Case(situation)
    sums, log_likelihood = case.samples.statistics(case.logits, origin=case.origin)
    assert_close(sums, case.sums(case.s[:, None] * case.gamma, case.Z))
    log_density = naive.log_density(case.joint)
    assert log_likelihood == pytest.approx(case.s @ log_density, rel=1e-12)
    np.testing.assert_allclose(case.samples.log_densities(case.logits), log_density, rtol=1e-12)
    np.testing.assert_allclose(case.samples.responsibilities(case.logits), case.gamma, atol=1e-10)


@all_situations
def test_no_entry_of_the_sums_loses_digits(situation):
    """Each within rounding of the sum of the sizes of what it adds up."""
    case = Case(situation)
    reference = case.logits.reference
    sums = case.samples.assigned_statistics(
        lambda part: case.gamma[part], reference, FULL.features(situation[0])
    )
    weights = case.s[:, None] * case.gamma
    expected = case.sums(weights, naive.about(case.X.astype(naive.LONG), reference, situation[1]))
    sizes = np.array(
        [w @ np.abs(naive.features(z, "full")) for z, w in zip(case.Z_eta, weights.T, strict=True)]
    )
    assert (np.abs(sums - expected) <= (situation[2] + 8) * naive.EPS * sizes).all()


@all_situations
def test_jvp(situation):
    case = Case(situation)
    eta_dot = case.random_coefficients()
    X_dot, weight_dot = case.rng.normal(size=case.X.shape), case.rng.normal(size=len(case.X))
    forms_dot = case.forms(eta_dot, case.Z_eta)
    forms_dot += np.einsum("kia,ia->ik", case.slopes(case.eta, case.Z_eta), X_dot)
    gamma_dot = weight_dot[:, None] * case.gamma + case.s[:, None] * case.moved_gamma(forms_dot)
    expected = case.sums(gamma_dot, case.Z)
    d = X_dot.shape[1]
    weights = case.s[:, None] * case.gamma
    expected[:, 1 : 1 + d] += weights.T @ X_dot
    moved = np.einsum("ik,ia,kib->kab", weights, X_dot, case.Z)
    expected[:, 1 + d :] += (moved + moved.swapaxes(1, 2))[:, *np.tril_indices(d)]
    actual = case.samples.statistics_jvp(
        case.logits, eta_dot, origin=case.origin, data_dot=DataTangent(X_dot, weight_dot)
    )
    assert_close(actual, expected)


@all_situations
@pytest.mark.parametrize("wrt_data", [False, True])
def test_vjp(situation, wrt_data):
    case = Case(situation)
    U = case.random_coefficients()
    forms = case.forms(U, case.Z)
    b = case.moved_gamma(forms)
    X_bar, weight_bar = np.ones(case.X.shape), np.ones(len(case.X))
    eta_bar = case.samples.statistics_vjp(
        case.logits,
        U,
        origin=case.origin,
        data_bar=DataCotangent(X_bar, weight_bar) if wrt_data else None,
    )
    assert_close(eta_bar, case.sums(case.s[:, None] * b, case.Z_eta))
    if wrt_data:
        pulled = np.einsum("ik,kia->ia", case.gamma, case.slopes(U, case.Z))
        pulled += np.einsum("ik,kia->ia", b, case.slopes(case.eta, case.Z_eta))
        assert_close(X_bar - 1.0, case.s[:, None] * pulled)
        assert_close(weight_bar - 1.0, (case.gamma * forms).sum(axis=1))


@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits_whatever_the_number_of_threads(threads):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, LARGE + 6, "full", spread=0.1)
    X = naive.sample(rng, theta, 12 * BLOCK)
    results = []
    for n_threads in (1, threads):
        em_map = EMMap.on(X, covariance_type="full", n_threads=n_threads)
        step, data_bar = em_map.step(theta), em_map.zero_cotangent(wrt_weight=True)
        cotangent = naive.random_cotangent(np.random.default_rng(1), theta)
        pulled = em_map.vjp(step, cotangent, data_bar)
        moved = em_map.jvp(step, cotangent, DataTangent(X, np.ones(len(X))))
        results.append([*step.parameters, *pulled, *moved, data_bar.X, data_bar.sample_weight])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def embedded(theta, d):
    """The mixture with independent standard normal features added to it."""
    K, small = theta.means.shape
    means, covariances = np.zeros((K, d)), np.broadcast_to(np.eye(d), (K, d, d)).copy()
    means[:, :small], covariances[:, :small, :small] = theta.means, theta.covariances
    return MixtureParameters(theta.weights, means, covariances, "full")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_few_features(dtype):
    """Features that all components share change nothing in the others, in step, JVP and VJP."""
    rng = np.random.default_rng(0)
    small, d, K, n = 5, 200, 2, 2 * BLOCK + 11
    theta = naive.random_mixture(rng, K, small, "full", spread=1.0)
    X = naive.sample(rng, theta, n).astype(dtype)
    noise = rng.normal(size=(n, d - small)).astype(dtype)
    weight, X_dot = rng.uniform(0.5, 1.5, size=n), rng.normal(size=(n, small))
    tangent = naive.random_cotangent(rng, theta)
    wide_tangent = embedded(tangent, d)
    wide_tangent.covariances[:, range(small, d), range(small, d)] = 0.0
    wide = np.concatenate([X_dot, np.zeros((n, d - small))], axis=1)
    cases = [
        (X, theta, tangent, X_dot),
        (np.concatenate([X, noise], axis=1), embedded(theta, d), wide_tangent, wide),
    ]
    results = []
    for data, start, direction, data_dot in cases:
        em_map = EMMap.on(data, weight, covariance_type="full")
        step, data_bar = em_map.step(start), em_map.zero_cotangent(wrt_weight=True)
        pulled = em_map.vjp(step, direction, data_bar)
        moved = em_map.jvp(step, direction, DataTangent(data_dot, weight))
        parts = []
        for parameters in (step.parameters, pulled, moved):
            parts += [
                parameters.weights,
                parameters.means[:, :small],
                parameters.covariances[:, :small, :small],
            ]
        results.append([*parts, data_bar.X[:, :small], data_bar.sample_weight])
        assert step.logits.is_centered == (data.shape[1] == d)
    for few, many in zip(*results, strict=True):
        np.testing.assert_allclose(many, few, rtol=1e-10, atol=1e-10 * np.abs(few).max())


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_jvp_and_vjp_are_transposes(kind, monkeypatch):
    everybody = np.ones(2, dtype=bool)  # tied: as a full one
    monkeypatch.setattr(Family, "outweighed", lambda *_: everybody)
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 2, LARGE + 6, kind, spread=0.1)
    X, weight = naive.sample(rng, theta, BLOCK + 9), rng.uniform(0.5, 1.5, size=BLOCK + 9)
    em_map = EMMap.on(X, weight, covariance_type=kind)
    step, data_bar = em_map.step(theta), em_map.zero_cotangent(wrt_weight=True)
    assert step.logits.is_centered
    tangent, cotangent = (naive.random_cotangent(rng, theta) for _ in range(2))
    data_dot = DataTangent(rng.normal(size=X.shape), rng.normal(size=len(X)))
    moved = em_map.jvp(step, tangent, data_dot)
    pulled = em_map.vjp(step, cotangent, data_bar)
    em_map.finish(data_bar)
    left = naive.inner_product(cotangent, moved)
    right = naive.inner_product(pulled, tangent) + (data_bar.X * data_dot.X).sum()
    right += data_bar.sample_weight @ data_dot.sample_weight
    assert left == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("kind", ["diag", "spherical", "tied"])
def test_sums_of_other_types_in_the_matrix_way(kind):
    rng = np.random.default_rng(0)
    d, K, n = LARGE + 1, 5, 2 * BLOCK + 3
    theta = naive.random_mixture(rng, K, d, kind, spread=0.1)
    X, weight = naive.sample(rng, theta, n), rng.uniform(0.1, 2.0, size=n)
    center = X.mean(axis=0)
    logits = FAMILIES[kind].natural(theta, center)
    assert not logits.is_centered
    sums, _ = CpuSamples(X, weight).statistics(logits)
    gamma = naive.responsibilities(naive.log_joint(X, theta))
    expected = (weight[:, None] * gamma).T @ naive.features(X - center, kind)
    assert_close(sums, expected)


def test_far_rows_leave_the_rest_of_a_block_out():
    """Squares of what fills a block up overflow about so far a mean, and must not be taken."""
    mean = np.full((1, LARGE), 1e160)
    theta = MixtureParameters(np.ones(1), mean, np.eye(LARGE)[None], "full")
    samples = CpuSamples(np.repeat(mean, 3, axis=0))
    sums, log_likelihood = samples.statistics(FULL.natural(theta, None))
    assert sums[0, 0] == 3 and not sums[0, 1:].any()
    assert log_likelihood == pytest.approx(-1.5 * LARGE * np.log(2 * np.pi), rel=1e-14)


def test_blas_has_one_thread_while_kernels_call_it(monkeypatch):
    case, own, seen = Case(SITUATIONS[2]), compiled.statistics, []

    def n_threads():
        return {
            library.num_threads
            for library in thread_pools().select(user_api="blas").lib_controllers
        }

    def watched(*arguments):
        seen.append(n_threads())
        own(*arguments)

    monkeypatch.setattr(compiled, "statistics", watched)
    with threadpool_limits(2, "blas"):
        case.samples.statistics(case.logits)
        assert n_threads() == {2}
    assert seen == [{1}]
