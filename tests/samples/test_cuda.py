"""Samples on a device, which stands in tests on the host, against those in NumPy arrays.

Both ways, fused kernels and tiles of products of matrices, are asked all questions about mixtures
of every kind, whichever they would choose.
"""

import naive
import numpy as np
import pytest

from skgmmot.families import FAMILIES, family_of
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples import cuda_apart, cuda_fused, cuda_tiles, samples_of
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.cuda import CudaSamples, DeviceMixture
from skgmmot.samples.cuda_fused import Fused, _block
from skgmmot.samples.interface import DataCotangent, DataTangent

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
all_ways = pytest.mark.parametrize("way", ["matrix", "centered", "mixed"])
both = pytest.mark.parametrize("engine", ["fused", "tiles"])
SIZES = [(1, 1, 1), (301, 2, 3), (1030, 3, 10), (200, 5, 9)]  # samples, features, components


class Case:
    """The same samples on the host and on the device, and logits."""

    def __init__(self, cupy, kind, way, *, n, d, K, dtype=np.float64, weighted=True, spread=2.0):
        self.rng = rng = np.random.default_rng(0)
        theta = naive.random_mixture(rng, K, d, kind, spread=spread)
        self.X = naive.sample(rng, theta, n).astype(dtype)
        self.weight = rng.uniform(0.1, 2.0, n) if weighted else None
        mixed = way == "mixed" and K > 1 and kind != "tied"
        apart = np.arange(n % 2, K, 2) if mixed else None
        common = None if way == "centered" else rng.normal(size=d)
        self.logits = family_of(theta).natural(theta, common, apart=apart)
        self.origin = self.logits.reference.copy()
        self.origin[self.logits.apart] += rng.normal(size=(len(self.logits.apart), d))
        self.host = CpuSamples(self.X, self.weight)
        weight = None if self.weight is None else cupy.asarray(self.weight)
        self.device = CudaSamples(cupy.asarray(self.X), weight)


@pytest.fixture
def case(device_cupy, engine, monkeypatch):
    """Makes cases of which one engine does all the work."""
    monkeypatch.setattr(Fused, "fits", staticmethod(lambda mixture: engine == "fused"))
    monkeypatch.setattr(cuda_tiles, "_LEAST", 128)
    monkeypatch.setattr(cuda_tiles, "_MOST", 128)
    return lambda *args, **options: Case(device_cupy, *args, **options)


def near(actual, expected, tolerance=1e-12):
    """Equal to a tolerance times the largest number, which sums of as large terms keep."""
    actual = actual.get() if hasattr(actual, "get") else actual
    assert isinstance(actual, np.ndarray) == isinstance(expected, np.ndarray)
    assert np.shape(actual) == np.shape(expected)
    scale = np.abs(expected).max(initial=1e-300)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def all_near(actual, expected, tolerance=1e-12):
    for own, other in zip(actual, expected, strict=True):
        near(own, other, tolerance)


@both
@all_types
@all_ways
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_are_those_of_the_host(case, kind, way, size, weighted):
    n, d, K = size
    own = case(kind, way, n=n, d=d, K=K, weighted=weighted)
    for origin in (None, own.origin):
        all_near(
            own.device.statistics(own.logits, origin=origin),
            own.host.statistics(own.logits, origin=origin),
        )
    all_near(own.device.overlaps(own.logits), own.host.overlaps(own.logits))


@both
@all_types
@all_ways
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_answers_for_samples_are_those_of_the_host(case, kind, way, size):
    n, d, K = size
    own = case(kind, way, n=n, d=d, K=K)
    for method in ("log_densities", "completed_log_densities", "responsibilities"):
        near(getattr(own.device, method)(own.logits), getattr(own.host, method)(own.logits))
    labels = own.device.labels(own.logits)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels.get(), own.host.labels(own.logits))


@both
@all_types
@all_ways
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_cotangents_are_those_of_the_host(case, kind, way, size, weighted):
    n, d, K = size
    own = case(kind, way, n=n, d=d, K=K, weighted=weighted)
    sums_bar = own.rng.normal(size=own.logits.coefficients.shape)
    bars = [samples.zero_cotangent(wrt_weight=True) for samples in (own.device, own.host)]
    options = {"origin": own.origin}
    for bar in bars:
        bar.X += 1.0  # is added to
        bar.sample_weight += 1.0
    near(
        own.device.statistics_vjp(own.logits, sums_bar, data_bar=bars[0], **options),
        own.host.statistics_vjp(own.logits, sums_bar, data_bar=bars[1], **options),
    )
    near(bars[0].X, bars[1].X)
    near(bars[0].sample_weight, bars[1].sample_weight)
    for wrt_weight in (False, True):  # each by itself
        bar = own.device.zero_cotangent(wrt_weight=wrt_weight)
        options = {"origin": own.origin, "wrt_logits": False, "data_bar": bar}
        assert own.device.statistics_vjp(own.logits, sums_bar, **options) is None
        near(bar.X.get() + 1.0, bars[1].X)
    near(
        own.device.statistics_vjp(own.logits, sums_bar),
        own.host.statistics_vjp(own.logits, sums_bar),
    )
    nowhere = DataCotangent(own.device.X[:0], own.device.X[:, 0] * 0.0)
    own.device.statistics_vjp(own.logits, sums_bar, wrt_logits=False, data_bar=nowhere)
    beside = DataCotangent(np.zeros((0, 0)), np.zeros(n))
    own.host.statistics_vjp(own.logits, sums_bar, wrt_logits=False, data_bar=beside)
    near(nowhere.sample_weight, beside.sample_weight)


@both
@all_types
@all_ways
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("moves", ["X", "weight", "both", "neither"])
def test_tangents_are_those_of_the_host(device_cupy, case, kind, way, size, moves):
    n, d, K = size
    own = case(kind, way, n=n, d=d, K=K)
    eta_dot = own.rng.normal(size=own.logits.coefficients.shape)
    X_dot = own.rng.normal(size=(n, d)) if moves in ("X", "both") else None
    weight_dot = own.rng.normal(size=n) if moves in ("weight", "both") else None
    moved = (None if part is None else device_cupy.asarray(part) for part in (X_dot, weight_dot))
    tangents = DataTangent(*moved), DataTangent(X_dot, weight_dot)
    for dot in (eta_dot, 0.0):
        found, expected = (
            samples.statistics_jvp(own.logits, dot, origin=own.origin, data_dot=tangent)
            for samples, tangent in zip((own.device, own.host), tangents, strict=True)
        )
        near(found, expected)


@pytest.mark.parametrize("engine", ["tiles"])
@pytest.mark.parametrize("size", [(150, 6, 40), (150, 20, 2), (40, 2, 130)], ids=str)
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_blocks_of_products_have_every_shape(device_cupy, case, kind, size):
    n, d, K = size
    own = case(kind, "mixed", n=n, d=d, K=K, spread=0.2)  # they overlap: nothing cancels
    all_near(own.device.statistics(own.logits), own.host.statistics(own.logits))
    near(own.device.responsibilities(own.logits), own.host.responsibilities(own.logits))
    sums_bar = own.rng.normal(size=own.logits.coefficients.shape)
    bars = [samples.zero_cotangent() for samples in (own.device, own.host)]
    near(
        own.device.statistics_vjp(own.logits, sums_bar, data_bar=bars[0]),
        own.host.statistics_vjp(own.logits, sums_bar, data_bar=bars[1]),
    )
    near(bars[0].X, bars[1].X)
    X_dot = own.rng.normal(size=(n, d))
    near(
        own.device.statistics_jvp(
            own.logits, sums_bar, data_dot=DataTangent(device_cupy.asarray(X_dot))
        ),
        own.host.statistics_jvp(own.logits, sums_bar, data_dot=DataTangent(X_dot)),
    )


@both
@all_types
@pytest.mark.parametrize("rows", ["one", "each"])
def test_assigned_statistics_are_those_of_the_host(case, kind, rows, monkeypatch):
    monkeypatch.setattr("skgmmot.samples.cuda._CHUNK", 300)
    own = case(kind, "matrix", n=700, d=3, K=5)
    gamma = own.rng.dirichlet(np.ones(5), size=700)
    reference = own.rng.normal(size=(1 if rows == "one" else 5, 3))
    features = FAMILIES["full" if kind == "tied" else kind].features(3)
    near(
        own.device.assigned_statistics(gamma.__getitem__, reference, features),
        own.host.assigned_statistics(gamma.__getitem__, reference, features),
    )


@both
@all_ways
def test_samples_of_weight_zero_are_in_no_sum(device_cupy, case, way):
    own = case("full", way, n=400, d=2, K=4)
    own.weight[::3] = 0.0
    kept = own.weight > 0
    whole = CudaSamples(own.device.X, device_cupy.asarray(own.weight))
    expected = CpuSamples(own.X[kept], own.weight[kept])
    all_near(whole.statistics(own.logits), expected.statistics(own.logits))
    all_near(whole.overlaps(own.logits), expected.overlaps(own.logits))
    sums_bar = own.rng.normal(size=own.logits.coefficients.shape)
    bar = whole.zero_cotangent(wrt_weight=True)
    near(
        whole.statistics_vjp(own.logits, sums_bar, data_bar=bar),
        expected.statistics_vjp(own.logits, sums_bar),
    )
    assert not bar.X.get()[~kept].any()
    assert bar.sample_weight.get()[~kept].all()


@both
@all_ways
def test_float32_samples_are_summed_in_float64(case, way):
    own = case("full", way, n=500, d=4, K=6, dtype=np.float32)
    assert own.device.dtype == np.float32
    all_near(own.device.statistics(own.logits), own.host.statistics(own.logits))
    sums_bar = own.rng.normal(size=own.logits.coefficients.shape)
    bars = [samples.zero_cotangent() for samples in (own.device, own.host)]
    for samples, bar in zip((own.device, own.host), bars, strict=True):
        samples.statistics_vjp(own.logits, sums_bar, wrt_logits=False, data_bar=bar)
    near(bars[0].X, bars[1].X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n, d", [(1, 1), (257, 3), (3000, 2), (700, 300)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_summary_is_that_of_the_host(device_cupy, dtype, n, d, weighted):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(5.0, 1.0, (n, d)).astype(dtype), rng.uniform(size=n)
    weights = (weight, device_cupy.asarray(weight)) if weighted else (None, None)
    found = CudaSamples(device_cupy.asarray(X), weights[1]).summary()
    expected = CpuSamples(X, weights[0]).summary()
    for name in ("n_samples", "total_weight", "sums", "lowest", "highest", "checks"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)


def test_far_components_keep_their_digits(device_cupy):
    """About their own means nothing cancels, however far these are from everything else."""
    rng = np.random.default_rng(0)
    theta = naive.moved(naive.random_mixture(rng, 3, 2, "full", spread=3.0), 1.0, 1e9)
    X = naive.sample(rng, theta, 400)
    logits = FAMILIES["full"].natural(theta, None)
    found = CudaSamples(device_cupy.asarray(X)).statistics(logits)
    all_near(found, CpuSamples(X).statistics(logits), 1e-13)


def test_the_way_is_chosen_by_what_a_block_has_room_for(device_cupy):
    rng = np.random.default_rng(0)
    for kind, K, d, fused in [
        ("full", 10, 3, True),
        ("full", 10, 16, True),
        ("diag", 20, 16, True),
        ("full", 2, 64, False),
        ("full", 30, 30, False),
        ("spherical", 300, 2, False),
        ("spherical", 20, 60, False),
    ]:
        theta = naive.random_mixture(rng, K, d, kind)
        logits = family_of(theta).natural(theta, np.zeros(d))
        assert Fused.fits(DeviceMixture(logits)) == fused
        X = naive.sample(rng, theta, 600)
        device = samples_of(device_cupy.asarray(X))
        all_near(device.statistics(logits), CpuSamples(X).statistics(logits))


@pytest.mark.parametrize("engine", ["fused"])
@pytest.mark.parametrize("d, is_kept", [(3, True), (9, False)])
def test_few_features_are_kept(device_cupy, case, d, is_kept, monkeypatch):
    own = case("full", "mixed", n=300, d=d, K=3)
    names = "statistics", "statistics_jvp"
    assert all(_block(name, DeviceMixture(own.logits)).keeps == is_kept for name in names)
    X_dot = device_cupy.asarray(own.rng.normal(size=(300, d)))

    def found():
        dot = own.device.statistics_jvp(own.logits, 0.0, data_dot=DataTangent(X_dot))
        return *own.device.statistics(own.logits), *own.device.overlaps(own.logits), dot

    before = found()
    monkeypatch.setattr(cuda_fused, "_MOST_KEPT", 0)
    all_near(found(), before, 1e-13)


@pytest.mark.parametrize("engine", ["tiles"])
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_components_apart_go_in_batches(device_cupy, case, kind, monkeypatch):
    own = case(kind, "centered", n=200, d=3, K=5)
    X_dot = device_cupy.asarray(own.rng.normal(size=(200, 3)))

    def found():
        bar = own.device.zero_cotangent()
        return (
            *own.device.statistics(own.logits),
            own.device.statistics_jvp(own.logits, 1.0, data_dot=DataTangent(X_dot)),
            own.device.statistics_vjp(own.logits, own.logits.coefficients, data_bar=bar),
            bar.X.get(),
        )

    together = found()
    monkeypatch.setattr(cuda_apart, "_BATCH_BYTES", 1)
    all_near(found(), together, 1e-13)


def test_no_array_has_a_number_for_each_sample_and_component(device_cupy, monkeypatch):
    own = Case(device_cupy, "full", "matrix", n=3000, d=3, K=4)
    largest = []
    empty = device_cupy.empty

    def noted(shape, *args, **options):
        largest.append(int(np.prod(shape)))
        return empty(shape, *args, **options)

    monkeypatch.setattr(device_cupy, "empty", noted)
    own.device.statistics(own.logits)
    assert 0 < max(largest) < 3000


def test_reruns_have_the_same_bits(device_cupy):
    own = Case(device_cupy, "full", "mixed", n=5000, d=3, K=6)
    first, second = (own.device.statistics(own.logits) for _ in range(2))
    np.testing.assert_array_equal(first.sums, second.sums)
    assert first.log_likelihood == second.log_likelihood


def test_rows_without_weight_are_left_out(device_cupy):
    X, weight = np.arange(6.0)[:, None], np.array([0, 1, 0, 2, 3, 0.0])
    given = device_cupy.asarray(X), device_cupy.asarray(weight)
    assert samples_of(*given).shape == (3, 1)
    assert samples_of(*given, with_zeros=True).shape == (6, 1)


def test_parts_of_the_rows(device_cupy):
    own = Case(device_cupy, "full", "matrix", n=1000, d=2, K=2)
    rows = np.array([3, 1, 999])
    for part in (own.device.subset(rows), own.device.subset(device_cupy.asarray(rows))):
        assert isinstance(part, CpuSamples)
        np.testing.assert_array_equal(part.X, own.X[rows])
        np.testing.assert_array_equal(part.sample_weight, own.weight[rows])
    np.testing.assert_array_equal(own.device.picked(rows).X.get(), own.X[rows])
    groups = own.device.groups(3)
    assert [len(group.X) for group in groups] == [len(group.X) for group in own.host.groups(3)]
    found = sum((group.statistics(own.logits).sums for group in groups), 0.0)
    near(found, own.host.statistics(own.logits).sums)


def test_only_what_has_the_size_of_the_mixture_comes_and_goes(device_cupy, device_traffic):
    own = Case(device_cupy, "full", "matrix", n=20_000, d=2, K=3)
    own.device.summary()
    device_traffic.clear()
    own.device.statistics(own.logits)
    assert 0 < sum(size for _, size in device_traffic) < 2000
    bar = own.device.zero_cotangent(wrt_weight=True)
    own.device.statistics_vjp(own.logits, own.logits.coefficients, data_bar=bar)
    assert sum(size for _, size in device_traffic) < 4000
