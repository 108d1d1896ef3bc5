"""What a mixture with known parameters tells: densities, predictions, criteria and samples."""

import numpy as np
import pytest
from naive import log_density, log_joint, matrices, random_mixture, responsibilities, sample
from scipy.special import xlogy
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skgmmot import DifferentiableGaussianMixture
from skgmmot.estimators.prediction import MixtureDensity
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
METHODS = ["predict", "predict_proba", "score_samples", "score", "aic", "bic", "icl"]


def known(kind, n_components=3, n_features=2, *, spread=1.5, **params):
    """A mixture, its parameters, and samples of it."""
    rng = np.random.default_rng(0)
    theta = random_mixture(rng, n_components, n_features, kind, spread=spread)
    mixture = DifferentiableGaussianMixture.from_mixture(theta, **params)
    return mixture, theta, sample(rng, theta, 200)


@pytest.mark.parametrize("n_features", [1, 2, 7])
@pytest.mark.parametrize("kind", TYPES)
def test_densities_and_predictions_are_those_of_the_textbook(kind, n_features):
    mixture, theta, X = known(kind, n_features=n_features)
    joint = log_joint(X, theta)
    np.testing.assert_allclose(mixture.score_samples(X), log_density(joint), rtol=1e-12)
    assert mixture.score(X) == pytest.approx(log_density(joint).mean(), rel=1e-12)
    gamma = mixture.predict_proba(X)
    np.testing.assert_allclose(gamma, responsibilities(joint), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(gamma.sum(axis=1), 1, rtol=1e-14)
    labels = mixture.predict(X)
    np.testing.assert_array_equal(labels, joint.argmax(axis=1))
    assert labels.dtype == np.int64
    assert type(mixture.score(X)) is float


@pytest.mark.parametrize("kind", TYPES)
def test_far_away_the_density_is_that_of_the_textbook(kind):
    """Where every density is zero in floating point, logarithms and labels still are right."""
    mixture, theta, _ = known(kind)
    X = np.array([[1e4, -1e4], [-3e5, 10.0], [1e9, 1e9]])
    joint = log_joint(X, theta)
    np.testing.assert_allclose(mixture.score_samples(X), log_density(joint), rtol=1e-11)
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    np.testing.assert_allclose(mixture.predict_proba(X).sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("kind", TYPES)
def test_component_of_weight_zero_is_never_predicted(kind):
    weights, means, covariances = known(kind)[1]
    mixture = DifferentiableGaussianMixture.from_parameters(
        [0.0, 0.4, 0.6], means, covariances, covariance_type=kind
    )
    X = np.concatenate([means, means + 1])
    assert (mixture.predict_proba(X)[:, 0] == 0).all()
    assert (mixture.predict(X) != 0).all()
    assert np.isfinite(mixture.score_samples(X)).all()
    assert np.isfinite(mixture.icl(X))
    assert (mixture.sample(1000)[1] != 0).all()


@pytest.mark.parametrize(
    "kind, expected",  # K = 3 components, d = 4 features
    [
        ("full", 3 * 4 + 3 * 10 + 2),
        ("tied", 3 * 4 + 10 + 2),
        ("diag", 3 * 4 + 3 * 4 + 2),
        ("spherical", 3 * 4 + 3 + 2),
    ],
)
@pytest.mark.parametrize("fixed_weights", [False, True])
def test_criteria_count_free_parameters(kind, expected, fixed_weights):
    mixture, theta, X = known(kind, n_features=4, fixed_weights=fixed_weights)
    free = expected - 2 * fixed_weights
    log_likelihood = log_density(log_joint(X, theta)).sum()
    assert mixture.aic(X) == pytest.approx(-2 * log_likelihood + 2 * free, rel=1e-12)
    assert mixture.bic(X) == pytest.approx(-2 * log_likelihood + np.log(200) * free, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_icl_is_bic_plus_twice_the_entropy(kind, weighted):
    mixture, theta, X = known(kind)
    weight = np.random.default_rng(1).exponential(size=len(X)) if weighted else None
    gamma = responsibilities(log_joint(X, theta))
    entropies = -xlogy(gamma, gamma).sum(axis=1)
    entropy = entropies @ (np.ones(len(X)) if weight is None else weight)
    assert entropy > 10  # the components overlap
    expected = mixture.bic(X, sample_weight=weight) + 2 * entropy
    assert mixture.icl(X, sample_weight=weight) == pytest.approx(expected, rel=1e-12)


def test_icl_prefers_separated_components():
    """Two far groups of two close components each: BIC takes the components, ICL the groups."""
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 30.0], [1.5, 30.0]])
    X = centers[rng.integers(4, size=2000)] + rng.normal(size=(2000, 2)) * [0.5, 1.0]
    fits = {
        k: DifferentiableGaussianMixture(k, covariance_type="diag", random_state=0).fit(X)
        for k in (2, 4)
    }
    assert fits[4].bic(X) < fits[2].bic(X)
    assert fits[4].icl(X) > fits[2].icl(X)


def test_long_data_are_looked_at_in_chunks(monkeypatch):
    """Entropies of chunks add up, also where the last chunk is not a whole one."""
    mixture, _, X = known("full")
    weight = np.random.default_rng(1).exponential(size=len(X))
    whole, whole_weighted = mixture.icl(X), mixture.icl(X, sample_weight=weight)
    monkeypatch.setattr("skgmmot.samples.cpu._CHUNK", 37)
    assert mixture.icl(X) == pytest.approx(whole, rel=1e-13)
    assert mixture.icl(X, sample_weight=weight) == pytest.approx(whole_weighted, rel=1e-13)


# Samples


@pytest.mark.parametrize("kind", TYPES)
def test_samples_have_the_moments_of_the_mixture(kind):
    mixture, (weights, means, _), _ = known(kind, random_state=0)
    n = 20_000
    X, labels = mixture.sample(n)
    assert X.shape == (n, 2) and labels.shape == (n,)
    assert (np.diff(labels) >= 0).all()
    for k, covariance in enumerate(matrices(mixture.parameters_)):
        drawn = X[labels == k]
        # five standard errors; variances are at most 2
        error = 5 / np.sqrt(len(drawn))
        assert abs(len(drawn) / n - weights[k]) < 5 * np.sqrt(weights[k] / n)
        assert abs(drawn.mean(axis=0) - means[k]).max() < np.sqrt(2) * error
        assert abs(np.cov(drawn.T) - covariance).max() < 2 * np.sqrt(2) * error


def test_samples_follow_random_state():
    mixture, _, _ = known("full", random_state=3)
    again, _, _ = known("full", random_state=3)
    other, _, _ = known("full", random_state=4)
    np.testing.assert_array_equal(mixture.sample(5)[0], again.sample(5)[0])
    assert (mixture.sample(5)[0] != other.sample(5)[0]).all()
    assert mixture.sample()[0].shape == (1, 2)


@pytest.mark.parametrize("n_samples", [0, -1])
def test_fewer_than_one_sample_is_refused(n_samples):
    with pytest.raises(ValueError, match=f"n_samples must be at least 1; got {n_samples}"):
        known("full")[0].sample(n_samples)


def test_samples_have_the_dtype_of_the_parameters():
    mixture, theta, X = known("full", random_state=0)
    single = DifferentiableGaussianMixture(3, random_state=0).fit(X.astype(np.float32))
    assert single.sample(3)[0].dtype == np.float32
    assert mixture.sample(3)[0].dtype == np.float64


# Anything that has parameters


@pytest.mark.parametrize("kind", TYPES)
def test_any_estimator_with_parameters_can_mix_it_in(kind):
    class Known(MixtureDensity, BaseEstimator):
        n_jobs, random_state, covariance_type = None, 0, kind

        def fit(self, theta):
            self.weights_, self.means_, self.covariances_ = theta
            return self

    mixture, theta, X = known(kind)
    density = Known().fit(theta)
    assert isinstance(density.parameters_, MixtureParameters)
    assert density.parameters_.covariance_type == kind
    for ours, given in zip(density.parameters_, theta, strict=True):
        np.testing.assert_array_equal(ours, given)
    for name in METHODS:
        np.testing.assert_array_equal(getattr(density, name)(X), getattr(mixture, name)(X))


@pytest.mark.parametrize("name", METHODS)
def test_unfitted_estimator_is_refused(name):
    X = np.zeros((4, 2))
    with pytest.raises(NotFittedError):
        getattr(DifferentiableGaussianMixture(), name)(X)


def test_unfitted_estimator_has_nothing_to_sample_and_no_parameters():
    mixture = DifferentiableGaussianMixture()
    with pytest.raises(NotFittedError):
        mixture.sample()
    with pytest.raises(NotFittedError):
        _ = mixture.parameters_


@pytest.mark.parametrize("name", METHODS)
def test_other_number_of_features_is_refused(name):
    mixture, _, X = known("full")
    with pytest.raises(ValueError, match="3 features.*2 features"):
        getattr(mixture, name)(np.c_[X, X[:, 0]])


@pytest.mark.parametrize("name", METHODS)
def test_a_single_sample_will_do(name):
    mixture, theta, X = known("full")
    assert np.isfinite(getattr(mixture, name)(X[:1])).all()


def test_complex_input_is_refused():
    X = np.random.default_rng(0).normal(size=(30, 2))
    mixture = DifferentiableGaussianMixture(2, random_state=0).fit(X)
    complex_weight = np.ones(30) + 1j
    for call in (
        lambda: mixture.fit(X, sample_weight=complex_weight),
        lambda: mixture.score(X, sample_weight=complex_weight),
        lambda: mixture.gradient_wrt_data(
            X, tuple(mixture.parameters_), sample_weight=1j * X[:, 0]
        ),
    ):
        with pytest.raises(ValueError, match="^sample_weight must be real; got complex numbers"):
            call()
    with pytest.raises(ValueError, match="^tangent must be real"):
        mixture.jvp(X, 1j * X)
    with pytest.raises(ValueError, match="^means_init must be real"):
        DifferentiableGaussianMixture(2, means_init=1j * X[:2]).fit(X)
    with pytest.raises(ValueError, match="^temperature must be real"):
        DifferentiableGaussianMixture(2, temperature=np.array([2, 1 + 1j])).fit(X)


@pytest.mark.parametrize("power", [-600, 600])
def test_criteria_count_weights_that_sums_cannot_hold(power):
    """The log-likelihood and log n are those of the weights as they are."""
    mixture, _, X = known("full")
    weight = np.ldexp(np.random.default_rng(2).uniform(1, 2, size=len(X)), power)
    n, free = weight.sum(), 3 * 2 + 3 * 3 + 2
    log_likelihood = n * mixture.score(X, sample_weight=weight)
    assert mixture.aic(X, sample_weight=weight) == pytest.approx(-2 * log_likelihood + 2 * free)
    expected = -2 * log_likelihood + np.log(n) * free
    assert mixture.bic(X, sample_weight=weight) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["aic", "bic", "icl"])
def test_weights_whose_sum_overflows_count_nothing(name):
    mixture, _, X = known("full")
    weight = np.full(len(X), 1e308)
    assert np.isfinite(mixture.score(X, sample_weight=weight))
    with pytest.raises(ValueError, match="sum overflows"):
        getattr(mixture, name)(X, sample_weight=weight)


@pytest.mark.parametrize("ratio", [1e-10, 1e-8, 1e-2, 1.0, 20.0, 1e8, 1e150])
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_samples_of_features_of_scales_far_apart(kind, ratio):
    deviations, rho, n = np.array([1.0 / ratio, 1.0, ratio]), 0.5, 20_000
    correlation = np.where(np.eye(3), 1.0, rho)
    sigma = correlation * deviations[:, None] * deviations
    mixture = DifferentiableGaussianMixture.from_parameters(
        [1.0], np.zeros((1, 3)), sigma if kind == "tied" else sigma[None], covariance_type=kind
    )
    X, _ = mixture.set_params(random_state=0).sample(n)
    Z = X / deviations
    # four standard errors of a variance, √(2 / n), and of a correlation, (1 - ρ²) / √n
    np.testing.assert_allclose(Z.var(axis=0), 1.0, atol=4 * np.sqrt(2 / n))
    np.testing.assert_allclose(np.corrcoef(Z.T), correlation, atol=4 * (1 - rho**2) / np.sqrt(n))
    np.testing.assert_allclose(Z.mean(axis=0), 0.0, atol=4 / np.sqrt(n))
