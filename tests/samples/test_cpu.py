"""Every kernel against its slow twin, in both ways, for all covariance types and precisions.

The truth is evaluated in extended precision from the definition in `Logits`,
log w_k g_k(x) = ⟨η_k, φ(x - r_k)⟩. A sum of p products of rounded factors has an error of at most
(p + few) roundings of the sum of their absolute values: that bounds the errors of logits
(`Case.logit_error`), and responsibilities have twice as large relative errors. The bounds of all
other results follow from these.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import EPS, LONG
from scipy.special import entr

from skgmmot.families import FAMILIES, family_of
from skgmmot.kernels.blocks import BLOCK
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters
from skgmmot.samples import cpu
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataCotangent, Logits

WAYS = ("matrix", "centered", "mixed")


class Case(NamedTuple):
    """Data and logits for the kernels, and what the definitions make of them."""

    X: np.ndarray
    weight: np.ndarray | None
    logits: Logits
    feature_type: str  # the covariance type whose features the logits are forms in
    phi: np.ndarray  # φ(x_i - r_k), (K, n, p)
    eta: np.ndarray
    joint: np.ndarray
    gamma: np.ndarray
    logit_error: float

    @property
    def s(self):
        return np.ones(len(self.X)) if self.weight is None else self.weight

    @property
    def gamma_error(self):
        """Relative error of responsibilities."""
        return 2 * self.logit_error + 8 * EPS

    @property
    def sum_error(self):
        """Relative error of a sum of terms s γ φ, in units of the sum of their sizes."""
        return self.gamma_error + (len(self.X) + 8) * EPS


def make_case(kind, way, dtype, *, n, d, K, weighted, scale, offset, seed, spread=2.0):
    rng = np.random.default_rng(seed)
    theta = naive.random_mixture(rng, K, d, kind, spread=spread)
    theta = naive.moved(theta, scale, offset * scale)
    X = naive.sample(rng, theta, n).astype(dtype)
    weight = rng.uniform(0.1, 3.0, size=n) if weighted else None
    if way == "mixed" and (kind == "tied" or K == 1):
        way = "matrix"
    reference, apart = None, None
    if way != "centered":
        reference = X.mean(axis=0).astype(float) + scale * rng.normal(size=d)
    if way == "mixed":
        apart = np.arange(seed % 2, K, 2)
    logits = family_of(theta).natural(theta, reference, apart=apart)
    assert len(logits.factors) == {"matrix": 0, "centered": K}.get(way, (K + 1 - seed % 2) // 2)
    return described(X, weight, logits, "full" if (kind, way) == ("tied", "centered") else kind)


def described(X, weight, logits, feature_type):
    K, size = logits.n_components, logits.features.size
    centers = logits.reference.astype(LONG)
    phi = np.array(
        [naive.features(Z, feature_type) for Z in naive.about(X.astype(LONG), centers, K)]
    )
    eta = logits.coefficients[:K, :size]
    joint = np.einsum("kif,kf->ik", phi, eta)
    magnitude = np.einsum("kif,kf->ik", np.abs(phi), np.abs(eta)).max()
    # condition numbers up to 4 stand between η and the factors of the centered way
    error = float(4 * (size + 8) * EPS * magnitude)
    return Case(
        X, weight, logits, feature_type, phi, eta, joint, naive.responsibilities(joint), error
    )


all_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
all_ways = pytest.mark.parametrize("way", WAYS)
all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)

# sample sizes around a block, two blocks and below the eight samples that are loaded at a time
sizes = st.one_of(
    st.sampled_from([1, 2, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1]),
    st.integers(1, 700),
)
situations = st.fixed_dictionaries(
    {
        "n": sizes,
        "d": st.integers(1, 9),
        "K": st.integers(1, 9),
        "weighted": st.booleans(),
        "scale": st.sampled_from([1e-6, 1.0, 1e5]),
        "offset": st.sampled_from([0.0, 3.0, 1e3]),
        "spread": st.sampled_from([0.5, 2.0, 100.0]),  # the last: logits that differ by thousands
        "seed": st.integers(0, 2**32 - 1),
    }
)
few = settings(max_examples=8)


def assert_close(actual, expected, bound):
    """Within ``bound``, element by element."""
    assert actual.shape == expected.shape
    assert actual.dtype == np.float64
    worse = ~(np.abs(actual - expected) <= bound + 1e-300)
    assert not worse.any(), (actual[worse][:5], expected[worse][:5])


@all_dtypes
@all_types
@all_ways
@few
@given(situation=situations)
def test_statistics(kind, way, dtype, situation):
    case = make_case(kind, way, dtype, **situation)
    sums, log_likelihood = CpuSamples(case.X, case.weight).statistics(case.logits)
    terms = np.einsum("i,ik,kif->kif", case.s, case.gamma, case.phi)
    assert_close(sums, terms.sum(axis=1), case.sum_error * np.abs(terms).sum(axis=1))
    log_density = naive.log_density(case.joint)
    bound = (case.s * (case.logit_error + (len(case.X) + 8) * EPS * np.abs(log_density))).sum()
    assert abs(log_likelihood - (case.s * log_density).sum()) <= bound


@all_dtypes
@all_types
@pytest.mark.parametrize("references", ["common", "per component"])
@few
@given(situation=situations)
def test_assigned_statistics(kind, references, dtype, situation):
    case = make_case(kind, "matrix", dtype, **situation)
    rng = np.random.default_rng(situation["seed"])
    n, K = case.gamma.shape
    reference = case.logits.reference
    if references == "per component":
        spread = situation["scale"] * rng.normal(size=(K, case.X.shape[1]))
        reference = reference + spread
    gamma = rng.dirichlet(np.ones(K), size=n)
    features = FAMILIES[kind].features(case.X.shape[1])
    samples = CpuSamples(case.X, case.weight)
    sums = samples.assigned_statistics(gamma.__getitem__, reference, features)

    centers = naive.about(case.X.astype(LONG), reference.astype(LONG), K)
    phi = np.array([naive.features(Z, kind) for Z in centers])
    terms = np.einsum("i,ik,kif->kif", case.s, gamma, phi)
    bound = (n + 8 + case.X.shape[1]) * EPS * np.abs(terms).sum(axis=1)
    assert_close(sums, terms.sum(axis=1), bound)


@all_dtypes
@all_types
@all_ways
@few
@given(situation=situations)
def test_densities_responsibilities_and_labels(kind, way, dtype, situation):
    case = make_case(kind, way, dtype, **situation)
    expected = naive.log_density(case.joint)
    log_density = CpuSamples(case.X).log_densities(case.logits)
    assert_close(log_density, expected, case.logit_error + 8 * EPS * np.abs(expected))
    gamma = CpuSamples(case.X).responsibilities(case.logits)
    assert_close(gamma, case.gamma, case.gamma_error * case.gamma)
    completed = CpuSamples(case.X).completed_log_densities(case.logits)
    assert_close(
        completed - log_density, -entr(gamma).sum(axis=1), 16 * EPS * (1 + np.abs(log_density))
    )
    labels = CpuSamples(case.X).labels(case.logits)
    assert labels.shape == (len(case.X),) and labels.dtype == np.int64
    chosen = np.take_along_axis(case.joint, labels[:, None], axis=1)[:, 0]
    assert (chosen >= case.joint.max(axis=1) - 2 * case.logit_error).all()


@all_dtypes
@given(situation=situations)
@settings(max_examples=20)
def test_summary(dtype, situation):
    case = make_case("diag", "matrix", dtype, **situation)
    summary = CpuSamples(case.X, case.weight).summary()
    sums, lowest, highest = summary.sums, summary.lowest, summary.highest
    np.testing.assert_allclose(summary.total_weight, case.s.sum(), rtol=1e-13)
    assert summary.n_samples == len(case.X)
    terms = case.s[:, None] * case.X.astype(LONG)
    assert_close(sums, terms.sum(axis=0), len(case.X) * EPS * np.abs(terms).sum(axis=0))
    np.testing.assert_array_equal(lowest, case.X.min(axis=0))
    np.testing.assert_array_equal(highest, case.X.max(axis=0))


def pulled_back(X, weight, logits, U, n_threads=1):
    """Cotangents of the data and the sample weights, from empty room for them."""
    X_bar, weight_bar = np.zeros(X.shape), np.zeros(len(X))
    CpuSamples(X, weight, n_threads=n_threads).statistics_vjp(
        logits, U, data_bar=DataCotangent(X_bar, weight_bar)
    )
    return X_bar, weight_bar


def naive_statistics_vjp(case, U):
    """x̄ and s̄ by the chain rule, sample by sample, and sums of the sizes of their terms.

    log γ_ik = ⟨η_k, φ⟩ - log Σ_l exp⟨η_l, φ⟩, so ∂γ_ik = γ_ik (∂⟨η_k, φ⟩ - Σ_l γ_il ∂⟨η_l, φ⟩).
    """
    K = case.logits.n_components
    centers = naive.about(case.X.astype(LONG), case.logits.reference.astype(LONG), K)
    jacobian = np.array([naive.features_jacobian(Z, case.feature_type) for Z in centers])
    form = np.einsum("kf,kif->ik", U, case.phi)
    form_bar = np.einsum("kf,kifa->ika", U, jacobian)
    logit_bar = np.einsum("kf,kifa->ika", case.eta, jacobian)
    mean_logit_bar = np.einsum("ik,ika->ia", case.gamma, logit_bar)[:, None]
    gamma_bar = case.gamma[:, :, None] * (logit_bar - mean_logit_bar)
    weight_bar = (case.gamma * form).sum(axis=1)
    X_bar = np.einsum("ika,ik->ia", gamma_bar, form) + np.einsum("ik,ika->ia", case.gamma, form_bar)
    # the same with absolute values: b = γ (u - ū) is a difference
    size = np.einsum("kf,kif->ik", np.abs(U), np.abs(case.phi))
    b_size = case.gamma * (size + (case.gamma * size).sum(axis=1, keepdims=True))
    weight_size = (case.gamma * size).sum(axis=1)
    X_size = np.einsum("ik,kf,kifa->ia", b_size, np.abs(case.eta), np.abs(jacobian))
    X_size += np.einsum("ik,kf,kifa->ia", case.gamma, np.abs(U), np.abs(jacobian))
    return case.s[:, None] * X_bar, weight_bar, case.s[:, None] * X_size, weight_size


def test_summary_tells_data_apart_that_agree_in_sum_and_extent():
    X = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]])
    other = np.array([[0.0], [1.5], [1.5], [3.0], [9.0]])
    one, two, back = (CpuSamples(rows).summary() for rows in (X, other, X[::-1].copy()))
    for name in ("sums", "lowest", "highest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.checks != two.checks and back.checks != one.checks


@all_dtypes
@all_types
@all_ways
@few
@given(situation=situations)
def test_statistics_vjp(kind, way, dtype, situation):
    situation = situation | {"n": min(situation["n"], 2 * BLOCK + 1)}
    case = make_case(kind, way, dtype, **situation)
    rng = np.random.default_rng(situation["seed"])
    U = rng.normal(size=case.eta.shape)
    X_bar, weight_bar = pulled_back(case.X, case.weight, case.logits, U)
    expected, expected_weight, size, weight_size = naive_statistics_vjp(case, U)
    # two responsibilities in a product, and sums over p features of K components
    error = 3 * case.gamma_error + 2 * (case.eta.size + 8) * EPS
    assert_close(X_bar, expected, error * size)
    assert_close(weight_bar, expected_weight, error * weight_size)


@all_dtypes
@all_types
@all_ways
@pytest.mark.parametrize("weighted", [False, True])
def test_statistics_vjp_against_automatic_differentiation(kind, way, weighted, dtype):
    torch = pytest.importorskip("torch")
    case = make_case(
        kind, way, dtype, n=300, d=3, K=4, weighted=weighted, scale=1.0, offset=2.0, seed=8
    )
    U = np.random.default_rng(1).normal(size=case.eta.shape)
    X = torch.tensor(case.X, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(case.s, requires_grad=True)
    sums = naive.torch_statistics(X, weight, case.eta, case.logits.reference, case.feature_type)
    (sums * torch.as_tensor(U)).sum().backward()
    X_bar, weight_bar = pulled_back(case.X, case.weight, case.logits, U)
    # entries of size 1 to 100 from terms up to a thousand times larger
    np.testing.assert_allclose(X_bar, X.grad.numpy(), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(weight_bar, weight.grad.numpy(), rtol=1e-11, atol=1e-11)


@all_types
@all_ways
def test_statistics_vjp_against_finite_differences(kind, way):
    """For weights this is exact up to rounding: statistics are linear in them."""
    case = make_case(
        kind, way, np.float64, n=40, d=2, K=3, weighted=True, scale=1.0, offset=0.0, seed=2
    )
    rng = np.random.default_rng(3)
    U = rng.normal(size=case.eta.shape)
    X_step, weight_step = rng.normal(size=case.X.shape), rng.normal(size=case.weight.shape)
    X_bar, weight_bar = pulled_back(case.X, case.weight, case.logits, U)

    def loss(t, u):
        X, weight = case.X + t * X_step, case.weight + u * weight_step
        return (U * CpuSamples(X, weight).statistics(case.logits)[0]).sum()

    h = 1e-4  # a fourth order formula: h⁴ and EPS / h are both about 1e-12 to 1e-16
    slope = (8 * (loss(h, 0) - loss(-h, 0)) - (loss(2 * h, 0) - loss(-2 * h, 0))) / (12 * h)
    np.testing.assert_allclose((X_bar * X_step).sum(), slope, rtol=1e-7)
    slope = (loss(0, 0.05) - loss(0, -0.05)) / 0.1
    np.testing.assert_allclose((weight_bar * weight_step).sum(), slope, rtol=1e-10)


def results_of_all_kernels(case, U, gamma, references, n_threads):
    features = case.logits.features
    summary = CpuSamples(case.X, case.weight, n_threads=n_threads).summary()
    results = [
        *CpuSamples(case.X, case.weight, n_threads=n_threads).statistics(case.logits),
        *pulled_back(case.X, case.weight, case.logits, U, n_threads),
        *(getattr(summary, name) for name in ("sums", "lowest", "highest", "checks")),
        CpuSamples(case.X, n_threads=n_threads).log_densities(case.logits),
        CpuSamples(case.X, n_threads=n_threads).responsibilities(case.logits),
        CpuSamples(case.X, n_threads=n_threads).labels(case.logits),
    ]
    samples = CpuSamples(case.X, case.weight, n_threads=n_threads)
    for reference in references:
        results.append(samples.assigned_statistics(gamma.__getitem__, reference, features))
    return [np.asarray(result) for result in results]


@pytest.fixture(scope="module", params=[("full", "matrix"), ("diag", "centered")], ids="-".join)
def many_segments(request):
    """60 011 rows: many segments, of which the last ends within a block."""
    kind, way = request.param
    case = make_case(
        kind, way, np.float64, n=60_011, d=3, K=5, weighted=True, scale=1.0, offset=0.0, seed=0
    )
    rng = np.random.default_rng(1)
    gamma = rng.dirichlet(np.ones(5), size=len(case.X))
    references = [np.zeros((1, 3)), rng.normal(size=(5, 3))]
    return case, rng.normal(size=case.eta.shape), gamma, references


@pytest.mark.parametrize("n_threads", [2, 3, 16])
def test_bits_do_not_depend_on_the_number_of_threads(many_segments, n_threads, monkeypatch):
    ranges = []

    def run(task, n_segments, n_threads):
        def noted(first, last):
            ranges.append((first, last, n_segments))
            task(first, last)

        original(noted, n_segments, n_threads)

    original = cpu.run
    expected = results_of_all_kernels(*many_segments, 1)
    monkeypatch.setattr(cpu, "run", run)
    for result, reference in zip(
        results_of_all_kernels(*many_segments, n_threads), expected, strict=True
    ):
        np.testing.assert_array_equal(result, reference)
    assert all(last - first < n_segments for first, last, n_segments in ranges), "not parallel"


def test_segments_add_up_to_the_whole(many_segments):
    case, U, gamma, references = many_segments
    K = case.logits.n_components
    sums, log_likelihood, X_bar, weight_bar, column_sums, lowest, highest, *_, common, own = (
        results_of_all_kernels(*many_segments, 2)
    )
    np.testing.assert_allclose(column_sums, case.weight @ case.X, rtol=1e-11)
    np.testing.assert_array_equal(lowest, case.X.min(axis=0))
    np.testing.assert_array_equal(highest, case.X.max(axis=0))
    terms = np.einsum("i,ik,kif->kif", case.s, case.gamma, case.phi)
    assert_close(sums, terms.sum(axis=1), case.sum_error * np.abs(terms).sum(axis=1))
    np.testing.assert_allclose(
        log_likelihood, float((case.s * naive.log_density(case.joint)).sum()), rtol=1e-13
    )
    for result, reference in zip([common, own], references, strict=True):
        expected = naive.statistics(
            case.X, case.weight, gamma, np.broadcast_to(reference, (K, 3)), case.feature_type
        )
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12 * len(case.X))
    # of the derivatives every 97th sample
    part = case._replace(
        X=case.X[::97],
        weight=case.weight[::97],
        phi=case.phi[:, ::97],
        joint=case.joint[::97],
        gamma=case.gamma[::97],
    )
    expected, expected_weight, size, weight_size = naive_statistics_vjp(part, U)
    error = 3 * case.gamma_error + 2 * (case.eta.size + 8) * EPS
    assert_close(X_bar[::97], expected, error * size)
    assert_close(weight_bar[::97], expected_weight, error * weight_size)


def test_kernels_may_be_called_from_several_threads_at_once(many_segments):
    expected = results_of_all_kernels(*many_segments, 1)
    with ThreadPoolExecutor(4) as callers:
        calls = [callers.submit(results_of_all_kernels, *many_segments, 2) for _ in range(8)]
        for call in calls:
            for result, reference in zip(call.result(timeout=120), expected, strict=True):
                np.testing.assert_array_equal(result, reference)


@all_types
@all_ways
def test_inputs_are_only_read(kind, way):
    case = make_case(
        kind, way, np.float64, n=70, d=2, K=3, weighted=True, scale=1.0, offset=0.0, seed=4
    )
    gamma = np.full((70, 3), 1 / 3)
    U = np.ones(case.eta.shape)
    references = [np.zeros((1, 2)), np.zeros((3, 2))]
    inputs = [case.X, case.weight, U, gamma, *references, *case.logits[:3]]
    before = [array.copy() for array in inputs]
    results_of_all_kernels(case, U, gamma, references, 1)
    for array, copy in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@all_ways
def test_a_nan_sample_does_not_touch_the_others(way):
    case = make_case(
        "full", way, np.float64, n=300, d=2, K=3, weighted=False, scale=1.0, offset=0.0, seed=5
    )
    X = case.X.copy()
    X[17, 1] = np.nan
    others = np.arange(300) != 17
    for method in (CpuSamples.log_densities, CpuSamples.responsibilities):
        result, expected = (method(CpuSamples(own), case.logits) for own in (X, case.X))
        assert np.isnan(result[17]).all()
        np.testing.assert_array_equal(result[others], expected[others])
    assert np.isnan(CpuSamples(X, None).statistics(case.logits)[1])


@all_ways
def test_a_component_without_weight_is_never_chosen(way):
    rng = np.random.default_rng(6)
    theta = naive.random_mixture(rng, 3, 2, "full")
    weights = np.array([0.4, 0.0, 0.6])
    theta = MixtureParameters(weights, theta.means, theta.covariances, "full")
    X = np.vstack([naive.sample(rng, theta, 300), theta.means])
    logits = family_of(theta).natural(theta, None if way == "centered" else np.zeros(2))
    gamma = CpuSamples(X).responsibilities(logits)
    expected = naive.responsibilities(naive.log_joint(X, theta))
    assert (gamma[:, 1] == 0.0).all()
    np.testing.assert_allclose(gamma, expected, atol=1e-13)
    assert not (CpuSamples(X).labels(logits) == 1).any()
    sums, log_likelihood = CpuSamples(X, None).statistics(logits)
    assert (sums[1] == 0.0).all() and np.isfinite(sums).all() and np.isfinite(log_likelihood)
    for result in pulled_back(X, None, logits, rng.normal(size=sums.shape)):
        assert np.isfinite(result).all()


# Groups


@pytest.mark.parametrize(
    "n, n_groups, sizes",
    [
        (1, 16, [1]),
        (256, 16, [256]),
        (600, 16, [256, 256, 88]),
        (2600, 4, [512, 768, 768, 552]),
        (2600, 1, [2600]),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_groups_are_views_of_whole_blocks(n, n_groups, sizes, weighted):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 2))
    samples = CpuSamples(X, rng.uniform(0.5, 2.0, n) if weighted else None, 2)
    groups = samples.groups(n_groups)
    assert [len(group.X) for group in groups] == sizes
    np.testing.assert_array_equal(np.concatenate([group.X for group in groups]), X)
    for group in groups:
        assert np.shares_memory(group.X, X) and group.n_threads == 2
        assert (group.sample_weight is None) == (not weighted)
    if weighted:
        weights = np.concatenate([group.sample_weight for group in groups])
        np.testing.assert_array_equal(weights, samples.sample_weight)
