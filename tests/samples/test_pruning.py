"""What is left out changes nothing: results with lists of components against those of all."""

from functools import lru_cache
from unittest.mock import patch

import naive
import numpy as np
import pytest

from skgmmot.em.em_map import EMMap
from skgmmot.families import family_of
from skgmmot.kernels.blocks import BLOCK
from skgmmot.parameters import MixtureParameters
from skgmmot.samples import pruning
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataCotangent, DataTangent

N, K = 30_011, 150  # many segments, the last block not whole
all_types = pytest.mark.parametrize("kind", ["full", "diag", "spherical"])


@pytest.fixture(autouse=True)
def small_problems_are_pruned_too(monkeypatch):
    monkeypatch.setattr(pruning, "_LEAST_PAIRS", 0)


def dense(X, weight=None, n_threads=1):
    """Samples all of whose components are evaluated."""
    samples = CpuSamples(X, weight, n_threads)
    samples._pruning.selection = lambda logits, **_: samples._pruning.dense
    return samples


@lru_cache
def problem(kind, d, dtype=np.float64):
    """Samples of the unit cube, weights, and a mixture that covers it; with rows of all sorts."""
    rng = np.random.default_rng(d)
    X = rng.uniform(size=(N, d))
    X[:700] = X[0]  # duplicates, more than two blocks of them
    X[700:900, 0] = 0.25
    X[900] = 8.0  # a row far from all components
    X = rng.permutation(X).astype(dtype)
    theta = naive.random_mixture(rng, K, d, kind)
    means = rng.uniform(size=(K, d))
    covariances = theta.covariances * {2: 0.1, 3: 0.02}[d] / K ** (2 / d)
    weights = rng.dirichlet(np.full(K, 2.0))
    weights[7] = 0.0
    weights /= weights.sum()
    theta = MixtureParameters(weights, means, covariances, kind)
    return X, rng.uniform(0.1, 2.0, size=N), theta, family_of(theta).natural(theta, np.full(d, 0.5))


def assert_close(actual, expected, scale, tolerance=1e-11):
    """Within the tolerance, relative to the scale, and somewhere not zero."""
    assert actual.shape == expected.shape and np.any(expected)
    error = np.abs(actual - expected)
    assert (error <= tolerance * scale).all(), (error / scale).max()


def of_components(sums):
    """What sums of components are compared with: the greatest of each component."""
    return np.abs(sums).max(axis=1, keepdims=True) + 1e-300


def share(samples, logits, **options):
    return samples._pruning.selection(logits, **options).share


@all_types
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics(kind, d, dtype):
    X, weight, _, logits = problem(kind, d, dtype)
    samples = CpuSamples(X, weight)
    assert share(samples, logits) < {2: 0.3, 3: 0.6}[d]
    actual, expected = samples.statistics(logits), dense(X, weight).statistics(logits)
    assert_close(actual.sums, expected.sums, of_components(expected.sums))
    np.testing.assert_allclose(actual.log_likelihood, expected.log_likelihood, rtol=1e-12)
    assert (actual.sums[7] == 0.0).all()


@all_types
@pytest.mark.parametrize("d", [2, 3])
def test_derivatives(kind, d):
    X, weight, _, logits = problem(kind, d)
    rng = np.random.default_rng(1)
    everyone = dense(X, weight)
    mass = everyone.statistics(logits).sums[:, :1]
    U = rng.normal(size=logits.coefficients.shape) / (mass + 1e-3)  # as the M-step pulls back
    tangent = DataTangent(rng.normal(size=X.shape), rng.normal(size=N))
    results = []
    for samples in (CpuSamples(X, weight), everyone):
        bar = DataCotangent(np.ones(X.shape), np.ones(N))
        pulled = samples.statistics_vjp(logits, U, data_bar=bar)
        pushed = samples.statistics_jvp(logits, U, data_dot=tangent)
        results.append((pulled, pushed, bar.X, bar.sample_weight))
    (pulled, pushed, X_bar, weight_bar), (pulled_, pushed_, X_bar_, weight_bar_) = results
    assert_close(pulled, pulled_, of_components(pulled_))
    assert_close(pushed, pushed_, of_components(pushed_))
    assert_close(X_bar, X_bar_, np.abs(X_bar_).max(axis=1, keepdims=True))
    assert_close(weight_bar, weight_bar_, np.abs(weight_bar_) + 1.0)


@all_types
def test_overlaps(kind):
    X, weight, _, logits = problem(kind, 2)
    actual, expected = (s.overlaps(logits) for s in (CpuSamples(X, weight), dense(X, weight)))
    root = np.sqrt(expected.masses)
    assert_close(actual.masses, expected.masses, expected.masses + 1e-300)
    assert_close(actual.sums, expected.sums, np.outer(root, root) + 1e-300)
    np.testing.assert_allclose(actual.log_likelihood, expected.log_likelihood, rtol=1e-12)


@all_types
@pytest.mark.parametrize("d", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_said_of_each_sample_leaves_nothing_out(kind, d, dtype):
    X, _, _, logits = problem(kind, d, dtype)
    samples, everyone = CpuSamples(X), dense(X)
    assert share(samples, logits) < 1.0
    for method in ("labels", "log_densities", "responsibilities"):
        alone, among = (getattr(s, method)(logits) for s in (samples, everyone))
        np.testing.assert_array_equal(alone, among)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_bits_do_not_depend_on_the_number_of_threads(n_threads):
    X, weight, _, logits = problem("full", 2)
    U = np.random.default_rng(1).normal(size=logits.coefficients.shape)
    results = []
    for threads in (1, n_threads):
        samples = CpuSamples(X, weight, threads)
        bar = DataCotangent(np.zeros(X.shape), np.zeros(N))
        results.append(
            [
                *samples.statistics(logits),
                samples.statistics_vjp(logits, U, data_bar=bar),
                samples.statistics_jvp(logits, U),
                bar.X,
                bar.sample_weight,
                *samples.overlaps(logits),
                samples.log_densities(logits),
                samples.responsibilities(logits),
                samples.labels(logits),
            ]
        )
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_bits_do_not_depend_on_earlier_calls():
    X, weight, _, logits = problem("full", 2)
    other = logits.shifted(np.linspace(0.0, 3.0, K))
    U = np.random.default_rng(1).normal(size=logits.coefficients.shape)
    samples = CpuSamples(X, weight)
    first = samples.statistics_vjp(logits, U)
    samples.statistics(other)
    np.testing.assert_array_equal(samples.statistics_vjp(logits, U), first)
    changed = samples.statistics_vjp(other, U)
    np.testing.assert_array_equal(changed, CpuSamples(X, weight).statistics_vjp(other, U))


def tiny(weight_of_tiny=1e-9):
    """A mixture with a component whose mass is tiny, wide, and mostly that of others' rows."""
    X, weight, theta, _ = problem("full", 2)
    weights, means, covariances = (np.array(part) for part in theta)
    weights[3] = weight_of_tiny
    covariances[3] *= 3.0
    theta = MixtureParameters(weights / weights.sum(), means, covariances, "full")
    return X, weight, theta


@pytest.mark.parametrize("weight_of_tiny", [1e-5, 1e-9, 1e-30, 1e-100])
def test_tiny_components_have_the_right_covariances(weight_of_tiny):
    X, weight, theta = tiny(weight_of_tiny)
    results = []
    for samples in (CpuSamples(X, weight), dense(X, weight)):
        em_map = EMMap.of(samples, "full", reg_covar=1e-9)
        results.append(em_map.step(theta).parameters)
    actual, expected = results
    for k in (3, 11):
        np.testing.assert_allclose(actual.weights[k], expected.weights[k], rtol=1e-11)
        np.testing.assert_allclose(actual.means[k], expected.means[k], rtol=1e-11)
        scale = np.abs(expected.covariances[k]).max()
        np.testing.assert_allclose(
            actual.covariances[k], expected.covariances[k], atol=1e-11 * scale
        )


def left_out(logits, selection):
    """Mass and squared distances, times mass, that the lists leave out, component by component."""
    X, weight = selection.data
    d = X.shape[1]
    Z = X - logits.reference
    joint = naive.features(Z, "full") @ logits.coefficients.T
    gamma = weight[:, None] * naive.responsibilities(joint)
    listed = np.zeros((len(selection.starts) - 1, K), dtype=bool)
    for block, members in enumerate(np.split(selection.active, selection.starts[1:-1])):
        listed[block, members] = True
    gamma[np.repeat(listed, BLOCK, axis=0)[: len(X)]] = 0.0
    P = np.zeros((K, d, d))
    f = 1 + d
    for a in range(d):
        for b in range(a + 1):
            P[:, a, b] = P[:, b, a] = -logits.coefficients[:, f] * (1 + (a == b))
            f += 1
    means = np.linalg.solve(P, logits.coefficients[:, 1 : 1 + d, None])[:, :, 0]
    distance = np.array(
        [np.einsum("ia,ab,ib->i", Z - m, Q, Z - m) for m, Q in zip(means, P, strict=True)]
    )
    return gamma.sum(axis=0), (gamma * distance.T).sum(axis=0)


@pytest.mark.parametrize("step", ["bounds", "logits"])
def test_the_certificate_bounds_what_is_left_out(step):
    """Both the mass and the squared distances, with lists so short that it is seen."""
    X, weight, theta = tiny()
    logits = family_of(theta).natural(theta, np.full(2, 0.5))
    with patch.object(pruning, "ACCURACY", 1e-4):
        samples = CpuSamples(X, weight)
        selection = samples._pruning.selection(logits)
        if step == "logits":
            selection = selection.narrowed(samples._statistics(logits, None, selection)[1])
        mass, distances = left_out(logits, selection)
        bound = selection.certificate * pruning.SHARE * pruning.ACCURACY * selection.masses
    assert (mass <= bound * (1 + 1e-9)).all() and (distances <= bound * (1 + 1e-9)).all()
    assert (distances > mass).any() and mass.max() > 0.0


def test_a_component_that_lost_too_much_is_evaluated_again():
    X, weight, _, logits = problem("full", 2)
    samples, guess = CpuSamples(X, weight), pruning._Bounds.masses
    expected = dense(X, weight).statistics(logits).sums
    calls = []

    def counted(*args):
        calls.append(args)
        return evaluate(*args)

    evaluate = samples._statistics
    samples._statistics = counted
    with patch.object(pruning._Bounds, "masses", lambda *args: 1e9 * guess(*args)):
        sums = samples.statistics(logits).sums
    assert len(calls) > 1
    assert_close(sums, expected, of_components(expected))


def test_few_components_and_such_that_overlap_are_all_evaluated():
    X, weight, theta, logits = problem("full", 2)
    samples = CpuSamples(X, weight)
    wide = MixtureParameters(theta.weights, theta.means, 100.0 * theta.covariances, "full")
    assert share(samples, family_of(wide).natural(wide, np.full(2, 0.5))) == 1.0
    assert samples._pruning._ordered is None
    few = logits._replace(coefficients=logits.coefficients[:40])
    assert share(samples, few) == 1.0
    assert share(samples, family_of(theta).natural(theta, None)) == 1.0
    assert share(samples, logits) < 0.3


def test_a_nan_sample_does_not_touch_the_others():
    X, _, _, logits = problem("full", 2)
    X = X.copy()
    X[17, 1] = np.nan
    others = np.arange(N) != 17
    result = CpuSamples(X).log_densities(logits)
    assert np.isnan(result[17])
    expected = dense(X).log_densities(logits)[others]
    assert_close(result[others], expected, 1.0 + np.abs(expected))
    assert np.isnan(CpuSamples(X).statistics(logits).log_likelihood)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1000, 5000, 20_000])
def test_the_order_has_each_row_once_and_boxes_hold_their_rows(n):
    rng = np.random.default_rng(n)
    X = np.round(rng.normal(size=(n, 3)), 1)
    data, order, boxes, weights = pruning._ordered(X, np.zeros(0), 2)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(data[0], X[order])
    assert weights.sum() == n and len(boxes) == -(-n // BLOCK)
    for block, (center, width) in enumerate(boxes):
        rows = data[0][block * BLOCK : (block + 1) * BLOCK]
        assert (np.abs(rows - center) <= width + 1e-15).all()
    if n == 20_000:
        assert boxes[:, 1].prod(axis=1).mean() < 0.1 * np.ptp(X, axis=0).prod() / 8


def test_gradients_of_a_fit():
    """All steps pulled back, to where they start and to the data."""
    X, weight, theta, _ = problem("full", 2)
    X, weight = X[:8000], weight[:8000]
    results = []
    for samples in (CpuSamples(X, weight), dense(X, weight)):
        em_map = EMMap.of(samples, "full", reg_covar=1e-6)
        steps = [em_map.step(theta)]
        for _ in range(4):
            steps.append(em_map.step(steps[-1].parameters))
        bar = naive.random_cotangent(np.random.default_rng(3), theta)
        data_bar = em_map.zero_cotangent(wrt_weight=True)
        for step in reversed(steps):
            bar = em_map.vjp(step, bar, data_bar)
        data_bar = em_map.finish(data_bar)
        results.append((*steps[-1].parameters, *bar, data_bar.X, data_bar.sample_weight))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10 * np.abs(other).max())
