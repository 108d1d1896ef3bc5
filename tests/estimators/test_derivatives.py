"""gradient_wrt_data: one step against automatic differentiation, and what cotangents may be.

The other modes, and what joins them, are in `test_differentiable_modes.py`.
"""

import warnings

import numpy as np
import pytest
from naive import inner_product, random_cotangent, random_mixture, sample, torch_gradients
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skgmmot import DifferentiableGaussianMixture, mixture_transport
from skgmmot.checks import as_full
from skgmmot.families import FAMILIES
from skgmmot.parameters import MixtureParameters

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]
REG_COVAR = 0.01


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # on tensors this small more of them only wait for each other
    yield torch
    torch.set_num_threads(before)


def clouds(n_samples=60, n_features=2, seed=0):
    rng = np.random.default_rng(seed)
    return sample(rng, random_mixture(rng, 3, n_features, "full"), n_samples)


def weights_of(X):
    return np.random.default_rng(7).exponential(size=len(X))


def start(kind, n_features=2, n_components=3):
    theta = random_mixture(np.random.default_rng(1), n_components, n_features, kind)
    matrices = kind in ("full", "tied")
    precisions = np.linalg.inv(theta.covariances) if matrices else 1 / theta.covariances
    return {
        "weights_init": theta.weights,
        "means_init": theta.means,
        "precisions_init": precisions,
    }


def fitted(X, kind, sample_weight=None, *, n_steps=2, **params):
    """A mixture after exactly so many EM steps, and the parameters before the last of them."""
    options = {"covariance_type": kind, "reg_covar": REG_COVAR, "tol": 0} | params
    options |= start(kind, X.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        before = DifferentiableGaussianMixture(3, max_iter=n_steps - 1, **options)
        after = DifferentiableGaussianMixture(3, max_iter=n_steps, **options)
        before.fit(X, sample_weight=sample_weight)
        return after.fit(X, sample_weight=sample_weight), before.parameters_


def cotangent_like(mixture):
    return random_cotangent(np.random.default_rng(2), mixture.parameters_)


def one_step(mixture, X, cotangent, sample_weight=None):
    return mixture.gradient_wrt_data(X, cotangent, mode="one_step", sample_weight=sample_weight)


def assert_close(gradient, expected):
    """To rounding: a few hundred sums of numbers of the size of the largest."""
    np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


@pytest.mark.parametrize("n_features", [1, 2, 6])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("torch")
def test_one_step_is_the_derivative_of_the_last_step(kind, weighted, n_features):
    X = clouds(n_features=n_features)
    weight = weights_of(X) if weighted else None
    mixture, previous = fitted(X, kind, weight)
    cotangent = cotangent_like(mixture)
    expected, _ = torch_gradients(X, weight, previous, cotangent, reg_covar=REG_COVAR)
    gradient = one_step(mixture, X, cotangent, weight)
    assert gradient.shape == X.shape
    assert_close(gradient, expected)
    # of the last step, not of another one at the result
    other, _ = torch_gradients(X, weight, mixture.parameters_, cotangent, reg_covar=REG_COVAR)
    assert abs(gradient - other).max() > 1e-4 * abs(gradient).max()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("torch")
def test_fixed_weights_do_not_move(kind):
    X = clouds()
    mixture, previous = fitted(X, kind, fixed_weights=True)
    cotangent = cotangent_like(mixture)
    expected, _ = torch_gradients(
        X, None, previous, cotangent, reg_covar=REG_COVAR, fixed_weights=True
    )
    assert_close(one_step(mixture, X, cotangent), expected)
    free, _ = fitted(X, kind)
    assert abs(one_step(free, X, cotangent) - expected).max() > 1e-3
    of_weights = one_step(mixture, X, (cotangent.weights, None, None))
    np.testing.assert_array_equal(of_weights, 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_warm_started_step_against_differences_of_the_fit(kind, weighted):
    X = clouds()
    weight = weights_of(X) if weighted else None
    rng = np.random.default_rng(3)
    direction = rng.normal(size=X.shape)
    options = {"reg_covar": REG_COVAR, "warm_start": True, "max_iter": 1, "tol": 0}

    def step(X):
        theta = random_mixture(np.random.default_rng(1), 3, 2, kind)
        mixture = DifferentiableGaussianMixture.from_mixture(theta, **options)
        with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
            return mixture.fit(X, sample_weight=weight)

    mixture = step(X)
    cotangent = cotangent_like(mixture)
    h = 1e-4  # the error of central differences is h² times a third derivative, and eps / h
    ahead, behind = step(X + h * direction).parameters_, step(X - h * direction).parameters_
    slope = (inner_product(cotangent, ahead) - inner_product(cotangent, behind)) / (2 * h)
    gradient = one_step(mixture, X, cotangent, weight)
    assert abs(slope) > 0.01
    assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("torch")
def test_fit_of_no_steps_and_given_parameters_use_a_step_from_there(kind):
    X = clouds()
    theta = random_mixture(np.random.default_rng(1), 3, 2, kind)
    given = DifferentiableGaussianMixture.from_mixture(theta)
    unmoved = DifferentiableGaussianMixture(3, covariance_type=kind, max_iter=0, **start(kind)).fit(
        X
    )
    cotangent = cotangent_like(given)
    expected, _ = torch_gradients(X, None, theta, cotangent)
    assert_close(one_step(given, X, cotangent), expected)
    assert_close(one_step(unmoved, X, cotangent), expected)


@pytest.mark.parametrize("kind", TYPES)
def test_gradient_of_single_gaussian_has_a_closed_form(kind):
    """∂/∂x_i of ⟨m̄, mean⟩ + ⟨Σ̄, covariance⟩ is m̄ / n + 2 Σ̄ (x_i − mean) / n."""
    X = clouds()
    mixture = DifferentiableGaussianMixture(covariance_type=kind).fit(X)
    means_bar = np.array([[1.0, -2.0]])
    sigma_bar = {
        "full": np.array([[[1.0, 0.5], [0.5, -3.0]]]),
        "tied": np.array([[1.0, 0.5], [0.5, -3.0]]),
        "diag": np.array([[1.0, -3.0]]),
        "spherical": np.array([4.0]),
    }[kind]
    matrix = {
        "full": lambda s: s[0],
        "tied": lambda s: s,
        "diag": lambda s: np.diag(s[0]),
        "spherical": lambda s: s[0] / 2 * np.eye(2),
    }[kind](sigma_bar)
    expected = (means_bar + 2 * (X - X.mean(axis=0)) @ matrix) / len(X)
    assert_close(one_step(mixture, X, (None, means_bar, sigma_bar)), expected)


@pytest.mark.usefixtures("torch")
def test_one_step_looks_at_the_data_it_is_given():
    """Also at data that have the number, the mean and the extent of those of the fit."""
    X = np.round(64 * clouds()) / 64  # sums of such numbers are exact
    mixture, previous = fitted(X, "full")
    inner = abs(X - X.mean(axis=0)).max(axis=1).argsort()[:2]
    other = X.copy()
    other[inner] += [[0.25, 0.25], [-0.25, -0.25]]
    cotangent = cotangent_like(mixture)
    expected, _ = torch_gradients(other, None, previous, cotangent, reg_covar=REG_COVAR)
    assert_close(one_step(mixture, other, cotangent), expected)


# Cotangents


@pytest.mark.parametrize("kind", TYPES)
def test_none_stands_for_zero_and_gradients_add_up(kind):
    X = clouds()
    mixture, _ = fitted(X, kind)
    weights, means, covariances = cotangent = cotangent_like(mixture)
    whole = one_step(mixture, X, cotangent)
    parts = [
        one_step(mixture, X, part)
        for part in [(weights, None, None), (None, means, None), (None, None, covariances)]
    ]
    assert all(abs(part).max() > 1e-4 for part in parts)
    assert_close(sum(parts), whole)
    np.testing.assert_array_equal(one_step(mixture, X, (None, None, None)), 0)
    without = MixtureParameters(None, means, None, kind)
    np.testing.assert_array_equal(one_step(mixture, X, without), parts[1])


@pytest.mark.parametrize("kind", TYPES)
def test_tuples_and_lists_will_do(kind):
    X = clouds()
    mixture, _ = fitted(X, kind)
    cotangent = cotangent_like(mixture)
    expected = one_step(mixture, X, cotangent)
    lists = tuple(part.tolist() for part in cotangent)
    for same in [tuple(cotangent), list(cotangent), lists]:
        np.testing.assert_array_equal(one_step(mixture, X, same), expected)


@pytest.mark.parametrize("kind", TYPES)
def test_weight_cotangent_is_defined_up_to_a_constant(kind):
    X = clouds()
    mixture, _ = fitted(X, kind)
    weights, means, covariances = cotangent_like(mixture)
    assert_close(
        one_step(mixture, X, (weights + 3, means, covariances)),
        one_step(mixture, X, (weights, means, covariances)),
    )


@pytest.mark.parametrize("kind", ["tied", "diag", "spherical"])
def test_cotangent_of_full_covariances_is_pulled_to_the_type(kind):
    """⟨full cotangent, full covariances⟩ as a function of the covariances of the type."""
    X = clouds()
    mixture, _ = fitted(X, kind)
    full = random_cotangent(np.random.default_rng(5), as_full(mixture.parameters_))
    pulled = (full.weights, full.means, FAMILIES[kind].pull(full.covariances))
    inner = inner_product(full, as_full(mixture.parameters_))
    assert inner_product(pulled, mixture.parameters_) == pytest.approx(inner, rel=1e-12)
    expected = one_step(mixture, X, pulled)
    np.testing.assert_array_equal(one_step(mixture, X, full), expected)
    np.testing.assert_array_equal(one_step(mixture, X, tuple(full)), expected)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_only_the_symmetric_part_of_a_covariance_cotangent_counts(kind):
    X = clouds()
    mixture, _ = fitted(X, kind)
    weights, means, covariances = cotangent_like(mixture)
    skew = np.array([[0.0, 5.0], [-5.0, 0.0]])
    assert_close(
        one_step(mixture, X, (weights, means, covariances + skew)),
        one_step(mixture, X, (weights, means, covariances)),
    )


def test_cotangents_are_not_written_to():
    X = clouds()
    mixture, _ = fitted(X, "full")
    cotangent = cotangent_like(mixture)
    before = [part.copy() for part in cotangent]
    for part in cotangent:
        part.flags.writeable = False
    one_step(mixture, X, cotangent)
    for part, copy in zip(cotangent, before, strict=True):
        np.testing.assert_array_equal(part, copy)


# Inputs


@pytest.mark.parametrize("kind", TYPES)
def test_gradient_has_the_dtype_of_the_data(kind):
    X = clouds().astype(np.float32)
    mixture, _ = fitted(X, kind)
    gradient = one_step(mixture, X, cotangent_like(mixture))
    assert gradient.dtype == np.float32
    double, _ = fitted(X.astype(float), kind)
    expected = one_step(double, X.astype(float), cotangent_like(double))
    # rounding of the result only: sums and the parameters before the last step are in double
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7 * abs(expected).max())


@pytest.mark.parametrize("n_samples", [1, 255, 256, 257, 1000])
def test_every_sample_has_a_gradient(n_samples):
    """Blocks of samples, whole and broken: no gradient depends on where a block ends."""
    X, more = clouds(), clouds(n_samples, seed=9)
    mixture, _ = fitted(X, "full")
    weight = np.full(n_samples + len(X), 1e-300)
    weight[n_samples:] = 1
    cotangent = cotangent_like(mixture)
    both = one_step(mixture, np.concatenate([more, X]), cotangent, weight)
    assert_close(both[n_samples:], one_step(mixture, X, cotangent))
    assert abs(both[:n_samples]).max() < 1e-290


@pytest.mark.parametrize(
    "cotangent, complaint",
    [
        ((np.ones(2), None, None), r"the weights.*\(3,\); got \(2,\)"),
        ((None, np.ones((3, 3)), None), r"the means.*\(3, 2\); got \(3, 3\)"),
        ((None, None, np.ones((3, 3))), r"the covariances.*diag.*\(3, 2\); got \(3, 3\)"),
        ((None, None, np.ones(3)), r"the covariances.*\(3, 2\); got \(3,\)"),
        ((np.full(3, np.nan), None, None), "the weights contain NaN"),
        ((None, np.full((3, 2), np.inf), None), "the means contain NaN or infinity"),
        ((None, None), "cotangent must be"),
        (np.ones(3), "cotangent must be.*ndarray"),
        (None, "cotangent must be.*NoneType"),
    ],
)
def test_cotangent_that_does_not_match_is_refused(cotangent, complaint):
    X = clouds()
    mixture, _ = fitted(X, "diag")
    with pytest.raises(ValueError, match=complaint):
        mixture.gradient_wrt_data(X, cotangent)


def test_unknown_mode_is_refused():
    X = clouds()
    mixture, _ = fitted(X, "full")
    with pytest.raises(ValueError, match="mode must be.*got 'backwards'"):
        mixture.gradient_wrt_data(X, (None, None, None), mode="backwards")


@pytest.mark.parametrize("mode", MODES)
def test_unfitted_estimator_is_refused(mode):
    with pytest.raises(NotFittedError):
        DifferentiableGaussianMixture().gradient_wrt_data(clouds(), (None, None, None), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_other_number_of_features_is_refused(mode):
    X = clouds()
    mixture, _ = fitted(X, "full")
    with pytest.raises(ValueError, match="1 features"):
        mixture.gradient_wrt_data(X[:, :1], (None, None, None), mode=mode)


# Together with transport


@pytest.mark.parametrize("kind", TYPES)
def test_step_down_the_gradient_brings_mixtures_closer(kind):
    """The points move, EM makes a warm-started step, and MW2² falls by what the gradient says."""
    X = clouds()
    target = random_mixture(np.random.default_rng(11), 2, 2, "full")

    def value(X, theta):
        options = {"warm_start": True, "max_iter": 1, "tol": 0}
        mixture = DifferentiableGaussianMixture.from_mixture(theta, **options)
        with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
            mixture.fit(X)
        return mixture, mixture_transport(mixture, target)

    theta = random_mixture(np.random.default_rng(1), 3, 2, kind)
    mixture, transport = value(X, theta)
    gradient = one_step(mixture, X, transport.gradient())
    step = 1e-5 / np.sqrt((gradient**2).sum())
    _, moved = value(X - step * gradient, theta)
    expected = step * (gradient**2).sum()
    assert transport.value - moved.value == pytest.approx(expected, rel=1e-3)
