"""Sample weights: a weight of two is a row given twice, of zero a row left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import em_step, random_mixture, sample
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
INITIALIZATIONS = ["kmeans", "k-means++", "random", "random_from_data"]
SCORES = ["score", "aic", "bic", "icl"]


def clouds(n_samples=150, n_features=2, seed=0):
    rng = np.random.default_rng(seed)
    return sample(rng, random_mixture(rng, 3, n_features, "full"), n_samples)


def start(n_features, kind):
    """All three *_init parameters of three components."""
    weights, means, covariances = random_mixture(np.random.default_rng(1), 3, n_features, kind)
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    return {"weights_init": weights, "means_init": means, "precisions_init": precisions}


def mixture_of(kind, n_features=2, **options):
    """A mixture whose fit depends on nothing random."""
    options = {"residual_tol": np.inf, "tol": 1e-6, "max_iter": 500} | options
    return DifferentiableGaussianMixture(
        3, covariance_type=kind, **start(n_features, kind), **options
    )


def assert_close_fit(a, b):
    """The same sums in another order: rounding, times what some tens of EM steps make of it."""
    assert a.n_iter_ == b.n_iter_
    for name in ["weights_", "means_", "covariances_", "lower_bounds_"]:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=1e-9)


@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(TYPES),
    n_features=st.integers(1, 4),
    largest=st.integers(1, 5),
)
def test_integer_weights_are_repetitions(seed, kind, n_features, largest):
    rng = np.random.default_rng(seed)
    X = clouds(100, n_features, seed)
    counts = rng.integers(0, largest + 1, size=100)
    counts[:20] = 1
    repeated = np.repeat(X, counts, axis=0)
    # eight steps: where EM ends must not depend on the rounding of a last gain
    options = {"reg_covar": 1e-3, "max_iter": 8, "tol": 0}
    with pytest.warns(ConvergenceWarning, match="did not converge in 8 steps"):
        weighted = mixture_of(kind, n_features, **options).fit(X, sample_weight=counts)
        plain = mixture_of(kind, n_features, **options).fit(repeated)
    assert_close_fit(weighted, plain)
    for name in SCORES:
        value = getattr(weighted, name)(X, sample_weight=counts)
        np.testing.assert_allclose(value, getattr(plain, name)(repeated), rtol=1e-9)


@pytest.mark.parametrize("kind", TYPES)
def test_weighted_step_is_that_of_the_textbook(kind):
    X = clouds()
    weight = np.random.default_rng(5).exponential(size=len(X))
    theta = mixture_of(kind, max_iter=0).fit(X).parameters_
    mixture = mixture_of(kind, max_iter=2, tol=0)
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 steps"):
        mixture.fit(X, sample_weight=weight)
    bounds = []
    for _ in range(2):
        theta, bound = em_step(X, theta, weight, reg_covar=mixture.reg_covar)
        bounds.append(bound)
    np.testing.assert_allclose(mixture.lower_bounds_, bounds, rtol=1e-12)
    for ours, naive in zip(mixture.parameters_, theta, strict=True):
        np.testing.assert_allclose(ours, naive, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-290, 1e-6, 1e6, 1e290])
@pytest.mark.parametrize("kind", TYPES)
def test_only_the_proportions_of_weights_matter(kind, scale):
    X = clouds()
    weight = np.random.default_rng(5).exponential(size=len(X))
    fitted = mixture_of(kind).fit(X, sample_weight=weight)
    assert_close_fit(mixture_of(kind).fit(X, sample_weight=scale * weight), fitted)
    score = fitted.score(X, sample_weight=weight)
    assert fitted.score(X, sample_weight=scale * weight) == pytest.approx(score, rel=1e-12)
    # and they do matter
    assert abs(fitted.means_ - mixture_of(kind).fit(X).means_).max() > 0.01
    assert abs(score - fitted.score(X)) > 1e-3


@pytest.mark.parametrize("init_params", INITIALIZATIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_weight_zero_is_absence(kind, init_params):
    """Also for the initialization, which draws from the rows that are there."""
    X = clouds()
    absent = np.arange(len(X)) % 3 == 0
    spoilt = np.where(absent[:, None], 1e6, X)  # would be seen if they counted for anything
    mixture = DifferentiableGaussianMixture(
        3, covariance_type=kind, init_params=init_params, residual_tol=np.inf, random_state=0
    )
    weighted = mixture.fit(spoilt, sample_weight=(~absent).astype(float))
    shown = {name: getattr(weighted, name) for name in ["weights_", "means_", "covariances_"]}
    plain = mixture.fit(X[~absent], sample_weight=np.ones((~absent).sum()))
    for name, value in shown.items():
        np.testing.assert_array_equal(value, getattr(plain, name))


@pytest.mark.parametrize("init_params", INITIALIZATIONS)
def test_initialization_looks_at_weights(init_params):
    """Two components for two neighbouring clusters, not for a third of hardly any weight."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 1)) + np.repeat([[-100.0], [0.0], [9.0]], 200, axis=0)
    weight = np.where(X[:, 0] < -50, 1e-9, 1.0)
    mixture = DifferentiableGaussianMixture(2, init_params=init_params, max_iter=0)
    for seed in range(5):
        mixture.set_params(random_state=seed).fit(X, sample_weight=weight)
        assert mixture.means_.min() > -50
    mixture.set_params(random_state=0).fit(X)
    assert mixture.means_.min() < -25


@pytest.mark.parametrize("kind", TYPES)
def test_weights_of_one_are_no_weights(kind):
    X = clouds()
    assert_close_fit(
        mixture_of(kind).fit(X, sample_weight=np.ones(len(X))), mixture_of(kind).fit(X)
    )


def test_fit_predict_takes_weights():
    X = clouds()
    weight = np.where(X[:, 0] > np.median(X[:, 0]), 1.0, 1e-3)
    labels = mixture_of("full").fit_predict(X, sample_weight=weight)
    fitted = mixture_of("full").fit(X, sample_weight=weight)
    np.testing.assert_array_equal(labels, fitted.predict(X))
    assert (labels != mixture_of("full").fit_predict(X)).any()


@pytest.mark.parametrize(
    "weight, complaint",
    [
        (lambda n: -np.ones(n), "[Nn]egative"),
        (lambda n: np.r_[-1e-300, np.ones(n - 1)], "[Nn]egative"),
        (lambda n: np.r_[np.nan, np.ones(n - 1)], "NaN"),
        (lambda n: np.r_[np.inf, np.ones(n - 1)], "infinity"),
        (lambda n: np.zeros(n), "at least one"),
        (lambda n: np.ones(n - 1), "shape"),
        (lambda n: np.ones((n, 1)), "1D"),
    ],
    ids=["negative", "one-negative", "nan", "inf", "zeros", "short", "column"],
)
def test_weights_that_mean_nothing_are_refused(weight, complaint):
    X = clouds()
    weight = weight(len(X))
    fitted = mixture_of("full").fit(X)
    cotangent = (None, np.ones((3, 2)), None)
    for call in [
        lambda: mixture_of("full").fit(X, sample_weight=weight),
        lambda: mixture_of("full").fit_predict(X, sample_weight=weight),
        lambda: fitted.score(X, sample_weight=weight),
        lambda: fitted.aic(X, sample_weight=weight),
        lambda: fitted.bic(X, sample_weight=weight),
        lambda: fitted.icl(X, sample_weight=weight),
        lambda: fitted.gradient_wrt_data(X, cotangent, mode="one_step", sample_weight=weight),
    ]:
        with pytest.raises(ValueError, match=complaint):
            call()


def test_too_few_rows_of_positive_weight_are_refused():
    X = clouds()
    weight = np.zeros(len(X))
    weight[:2] = 1
    with pytest.raises(ValueError, match=r"n_components=3 samples \(of positive weight\)"):
        mixture_of("full").fit(X, sample_weight=weight)


def test_weights_are_not_written_to():
    X = clouds()
    weight = np.arange(len(X), dtype=float)
    weight.flags.writeable = False
    mixture = mixture_of("full").fit(X, sample_weight=weight)
    mixture.score(X, sample_weight=weight)
    mixture.icl(X, sample_weight=weight)
    mixture.gradient_wrt_data(
        X, (None, np.ones((3, 2)), None), mode="one_step", sample_weight=weight
    )
    np.testing.assert_array_equal(weight, np.arange(len(X)))


# Metadata routing


def test_grid_search_routes_weights():
    X = clouds()
    weight = np.where(np.arange(len(X)) % 2, 1.0, 1e-3)
    grid, folds = {"reg_covar": [1e-6, 1e-1]}, KFold(2, shuffle=True, random_state=0)
    mixture = mixture_of("full")
    with config_context(enable_metadata_routing=True):
        mixture.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(mixture, grid, cv=folds).fit(X, sample_weight=weight)
    expected = np.zeros(2)
    for train, test in folds.split(X):
        for i, reg_covar in enumerate(grid["reg_covar"]):
            fitted = mixture_of("full", reg_covar=reg_covar)
            fitted.fit(X[train], sample_weight=weight[train])
            expected[i] += fitted.score(X[test], sample_weight=weight[test]) / 2
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected, rtol=1e-12)
    best = mixture_of("full", **search.best_params_).fit(X, sample_weight=weight)
    np.testing.assert_array_equal(search.best_estimator_.means_, best.means_)


def test_pipeline_routes_weights():
    X = clouds()
    weight = np.where(np.arange(len(X)) % 2, 1.0, 1e-3)
    with config_context(enable_metadata_routing=True):
        steps = [
            ("scale", StandardScaler().set_fit_request(sample_weight=False)),
            ("mixture", mixture_of("full").set_fit_request(sample_weight=True)),
        ]
        pipeline = Pipeline(steps).fit(X, sample_weight=weight)
    expected = mixture_of("full").fit(StandardScaler().fit_transform(X), sample_weight=weight)
    np.testing.assert_array_equal(pipeline["mixture"].means_, expected.means_)


def test_weights_nobody_asked_for_are_refused():
    X = clouds()
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(mixture_of("full"), {"reg_covar": [1e-6]}, cv=2)
        with pytest.raises(ValueError, match="sample_weight"):
            search.fit(X, sample_weight=np.ones(len(X)))


@pytest.mark.parametrize("exponent", [-1000, 60, 1015])
@pytest.mark.parametrize("init_params", ["kmeans", "random"])
@pytest.mark.parametrize("kind", TYPES)
def test_weights_in_other_units_change_no_bit(kind, init_params, exponent):
    """Powers of two, up to where the sum of the weights overflows."""
    X = clouds()
    weight = np.random.default_rng(5).uniform(1.0, 255.0, size=len(X))
    mixture = DifferentiableGaussianMixture(
        3, covariance_type=kind, init_params=init_params, residual_tol=np.inf, random_state=0
    )
    plain = mixture.fit(X, sample_weight=weight).__dict__.copy()
    scaled = mixture.fit(X, sample_weight=np.ldexp(weight, exponent))
    for name in ["weights_", "means_", "covariances_", "lower_bounds_", "residual_"]:
        np.testing.assert_array_equal(getattr(scaled, name), plain[name])
    score = scaled.score(X, sample_weight=weight)
    assert scaled.score(X, sample_weight=np.ldexp(weight, exponent)) == score


@pytest.mark.parametrize("weight", [1e-307, 1e-6, 1e306])
@pytest.mark.parametrize("init_params", INITIALIZATIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_fits_of_weights_of_any_size(kind, init_params, weight):
    """200 · 1e306 is more than the greatest number. Where EM ends may depend on its start."""
    X = clouds(200)
    mixture = DifferentiableGaussianMixture(
        3, covariance_type=kind, init_params=init_params, random_state=0, max_iter=5000
    )
    mixture.fit(X, sample_weight=np.full(200, weight))
    assert mixture.lower_bound_ == pytest.approx(mixture.score(X), abs=1e-3)
    assert mixture.weights_.sum() == pytest.approx(1.0, rel=1e-14)
    np.testing.assert_allclose(mixture.weights_ @ mixture.means_, X.mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("exponent", [-1060, -1000, 900, 1015])
def test_criteria_of_weights_of_any_size(exponent):
    """-2 log-likelihood and entropies grow with the weights, to infinity where they overflow."""
    X = clouds()
    mixture = mixture_of("full").fit(X)
    weight = np.ones(len(X))
    count, score = 150.0, mixture.score(X)
    icl, bic = mixture.icl(X), mixture.bic(X)
    n_parameters = (mixture.aic(X) + 2 * count * score) / 2
    scaled = np.ldexp(weight, exponent)
    with np.errstate(over="ignore"):
        likelihood = np.ldexp(-2 * count * score, exponent)
        entropy = np.ldexp(icl - bic, exponent)
    logarithm = np.log(count) + exponent * np.log(2)
    if exponent == 1015:  # 150 · 2^1015 is more than 2^1024 / 2, times 2 · score more than 2^1024
        assert likelihood == np.inf
        assert mixture.aic(X, sample_weight=scaled) == np.inf
        assert mixture.bic(X, sample_weight=scaled) == np.inf
        assert mixture.icl(X, sample_weight=scaled) == np.inf
        return
    actual = mixture.aic(X, sample_weight=scaled)
    assert actual == pytest.approx(likelihood + 2 * n_parameters, rel=1e-12)
    actual = mixture.bic(X, sample_weight=scaled)
    assert actual == pytest.approx(likelihood + logarithm * n_parameters, rel=1e-12)
    actual = mixture.icl(X, sample_weight=scaled)
    assert actual == pytest.approx(likelihood + entropy + logarithm * n_parameters, rel=1e-12)
