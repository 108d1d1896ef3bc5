"""What may be given as data: dtypes, memory layouts, data frames; and what is refused."""

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from naive import random_mixture, sample

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]


def clouds(n_samples=200, n_features=3):
    rng = np.random.default_rng(0)
    return sample(rng, random_mixture(rng, 3, n_features, "full", spread=4.0), n_samples)


def mixture_of(kind="full", **params):
    return DifferentiableGaussianMixture(3, covariance_type=kind, random_state=0, **params)


def results(mixture, X):
    """Everything that a fit on X, and X again, leads to."""
    mixture.fit(X)
    cotangent = (None, np.ones((3, 3)), None)
    return {
        **{name: getattr(mixture, name) for name in FITTED},
        "predict_proba": mixture.predict_proba(X),
        "score_samples": mixture.score_samples(X),
        "sample": mixture.sample(5)[0],
        "gradient": mixture.gradient_wrt_data(X, cotangent, mode="one_step"),
    }


@pytest.mark.parametrize("kind", TYPES)
def test_single_precision_stays(kind):
    X = clouds()
    single = results(mixture_of(kind), X.astype(np.float32))
    double = results(mixture_of(kind), X)
    for name, value in single.items():
        assert value.dtype == np.float32, name
        assert double[name].dtype == np.float64, name
        if name != "predict_proba":  # which is as sensitive as densities are steep
            # rounding of the data, to seven digits, and of the results
            scale = abs(double[name]).max()
            np.testing.assert_allclose(value, double[name], rtol=1e-4, atol=1e-5 * scale)
    mixture = mixture_of(kind).fit(X.astype(np.float32))
    assert type(mixture.score(X)) is float
    assert mixture.predict(X.astype(np.float32)).dtype == np.int64


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, bool, object])
def test_other_dtypes_become_double(dtype):
    X = np.round(clouds()).astype(dtype)
    found = results(mixture_of(reg_covar=0.1), X)
    expected = results(mixture_of(reg_covar=0.1), X.astype(np.float64))
    for name, value in found.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, expected[name])


def strided(X):
    wide = np.full((2 * len(X), 2 * X.shape[1]), np.nan)
    wide[::2, ::2] = X
    return wide[::2, ::2]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray,
        strided,
        read_only,
        lambda X: X[::-1].copy()[::-1],
        lambda X: X.tolist(),
        lambda X: tuple(map(tuple, X)),
        lambda X: pd.DataFrame(X),
        lambda X: X.astype(">f8"),
    ],
    ids=["fortran", "strided", "read_only", "backwards", "list", "tuple", "frame", "big-endian"],
)
def test_memory_layout_changes_no_bit(layout):
    X = clouds()
    found, expected = results(mixture_of(), layout(X)), results(mixture_of(), X)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_maps(tmp_path, dtype):
    X = clouds().astype(dtype)
    X.tofile(tmp_path / "raw")
    joblib.dump(X, tmp_path / "joblib")
    expected = results(mixture_of(), X)
    for mapped in [
        np.memmap(tmp_path / "raw", dtype=dtype, mode="r", shape=X.shape),
        joblib.load(tmp_path / "joblib", mmap_mode="r"),
    ]:
        assert isinstance(mapped, np.memmap)
        for name, value in results(mixture_of(), mapped).items():
            assert type(value) is np.ndarray, name
            np.testing.assert_array_equal(value, expected[name])


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_are_not_written_to(init_params, dtype):
    X = clouds().astype(dtype)
    before, weight = X.copy(), np.ones(len(X))
    mixture = mixture_of(init_params=init_params, residual_tol=np.inf)
    results(mixture, X)
    mixture.fit(X, sample_weight=weight).icl(X, sample_weight=weight)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(weight, 1)


def test_results_are_no_views_of_each_other_or_of_the_data():
    X = clouds()
    mixture = mixture_of().fit(X)
    parameters = [mixture.means_.copy(), mixture.covariances_.copy()]
    moved = mixture.predict_proba(X), mixture.score_samples(X), mixture.sample(5)[0]
    for array in moved:
        array.fill(0)
    np.testing.assert_array_equal(mixture.means_, parameters[0])
    np.testing.assert_array_equal(mixture.covariances_, parameters[1])
    means_init = X[:3]
    kept = mixture_of(max_iter=0, means_init=means_init).fit(X)
    assert not np.shares_memory(kept.means_, X)


# Data frames


def test_feature_names():
    X = pd.DataFrame(clouds(), columns=["a", "b", "c"])
    mixture = mixture_of().fit(X)
    assert mixture.feature_names_in_.tolist() == ["a", "b", "c"]
    assert mixture.n_features_in_ == 3
    np.testing.assert_array_equal(mixture.predict(X), mixture_of().fit(X.values).predict(X.values))
    with pytest.raises(ValueError, match="feature names should match"):
        mixture.predict(X.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="feature names"):
        mixture.score(X[["b", "a", "c"]])
    with pytest.raises(ValueError, match="feature names"):
        mixture.gradient_wrt_data(X[["b", "a", "c"]], (None, None, None), mode="one_step")
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        mixture.predict(X.values)
    assert not hasattr(mixture_of().fit(X.values), "feature_names_in_")


# What is refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_are_refused(bad):
    X = clouds()
    mixture = mixture_of().fit(X)
    X[17, 1] = bad
    for call in [
        lambda: mixture_of().fit(X),
        lambda: mixture.predict(X),
        lambda: mixture.score_samples(X),
        lambda: mixture.gradient_wrt_data(X, (None, None, None), mode="one_step"),
    ]:
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            call()


def test_too_few_samples_are_refused():
    X = clouds()
    with pytest.raises(ValueError, match=r"n_components=3 samples.*n_samples = 2"):
        mixture_of().fit(X[:2])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        DifferentiableGaussianMixture().fit(X[:1])


@pytest.mark.parametrize(
    "X, complaint",
    [
        (np.ones(10), "2D array"),
        (np.ones((5, 2, 2)), "dim 3"),
        (np.ones((0, 2)), "0 sample"),
        (np.ones((5, 0)), "0 feature"),
        (np.ones((5, 2), dtype=complex), "Complex"),
        (np.full((5, 2), "a"), "could not convert|dtype"),
    ],
    ids=["1d", "3d", "no samples", "no features", "complex", "strings"],
)
def test_arrays_that_are_no_data_are_refused(X, complaint):
    with pytest.raises(ValueError, match=complaint):
        mixture_of().fit(X)


def test_sparse_data_are_refused():
    with pytest.raises(TypeError, match="[Ss]parse"):
        mixture_of().fit(scipy.sparse.csr_matrix(clouds()))


EYES = np.stack([np.eye(3)] * 3)


@pytest.mark.parametrize(
    "kind, name, value, complaint",
    [
        ("full", "weights_init", [0.5, 0.5], r"must have shape \(3,\).*got \(2,\)"),
        ("full", "weights_init", [[0.2, 0.4, 0.4]], r"must have shape \(3,\).*got \(1, 3\)"),
        ("full", "weights_init", [0.5, 0.5, 0.5], "sum to 1.*1.5"),
        ("full", "weights_init", [1.5, 0.5, -1.0], "non-negative.*-1"),
        ("full", "weights_init", [0.5, 0.5, np.nan], "NaN"),
        ("full", "means_init", np.ones((3, 2)), r"must have shape \(3, 3\).*got \(3, 2\)"),
        ("full", "means_init", np.ones((2, 3)), r"must have shape \(3, 3\).*got \(2, 3\)"),
        ("full", "means_init", np.ones(3), r"must have shape \(3, 3\).*got \(3,\)"),
        ("full", "means_init", np.full((3, 3), np.inf), "infinity"),
        ("full", "precisions_init", EYES[0], r"must have shape \(3, 3, 3\).*got \(3, 3\)"),
        ("tied", "precisions_init", EYES, r"must have shape \(3, 3\).*got \(3, 3, 3\)"),
        ("diag", "precisions_init", EYES, r"must have shape \(3, 3\).*got \(3, 3, 3\)"),
        ("spherical", "precisions_init", EYES[0], r"must have shape \(3,\).*got \(3, 3\)"),
        ("full", "precisions_init", EYES * np.nan, "NaN"),
        ("full", "precisions_init", EYES + np.triu(EYES + 1, 1), "symmetric"),
        ("full", "precisions_init", EYES - 2 * EYES[0], "positive"),
        ("full", "precisions_init", 0 * EYES, "positive definite"),
        ("tied", "precisions_init", np.diag([1.0, 0.0, 1.0]), "positive definite"),
        ("diag", "precisions_init", EYES[0], "positive definite"),
        ("diag", "precisions_init", -EYES[0], "positive"),
        ("spherical", "precisions_init", [1.0, 1.0, 0.0], "positive definite"),
    ],
)
def test_initial_parameters_that_cannot_be_used_are_named(kind, name, value, complaint):
    with pytest.raises(ValueError, match=f"{name}.*{complaint}"):
        mixture_of(kind, **{name: value}).fit(clouds())


def test_initial_parameters_are_not_written_to():
    weights, means, covariances = random_mixture(np.random.default_rng(1), 3, 3, "full")
    given = {
        "weights_init": weights,
        "means_init": means,
        "precisions_init": np.linalg.inv(covariances),
    }
    before = {name: part.copy() for name, part in given.items()}
    for part in given.values():
        part.flags.writeable = False
    mixture_of(**given, residual_tol=np.inf).fit(clouds())
    for name, part in given.items():
        np.testing.assert_array_equal(part, before[name])


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_components", 0),
        ("n_components", 2.0),
        ("covariance_type", "round"),
        ("tol", -1e-3),
        ("residual_tol", -1e-3),
        ("residual_tol", None),
        ("reg_covar", -1.0),
        ("reg_covar", np.inf),
        ("max_iter", -1),
        ("n_init", 0),
        ("init_params", "guess"),
        ("init_size", 0),
        ("fixed_weights", "yes"),
        ("acceleration", "warp"),
        ("e_step", "hard"),
        ("anderson_depth", 0),
        ("learning_decay", 0.5),
        ("learning_decay", 1.1),
        ("learning_offset", -1.0),
        ("learning_offset", np.inf),
        ("warm_start", "yes"),
        ("verbose", -1),
        ("verbose_interval", 0),
        ("n_jobs", 1.5),
    ],
)
def test_parameters_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        DifferentiableGaussianMixture(**{name: value}).fit(clouds())


def test_no_jobs_are_refused():
    with pytest.raises(ValueError, match="n_jobs must not be 0"):
        mixture_of(n_jobs=0).fit(clouds())
