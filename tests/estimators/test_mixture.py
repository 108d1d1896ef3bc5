"""DifferentiableGaussianMixture as an estimator: what each option does, and what is reported."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import em_step, random_mixture, sample, scaled_change
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skgmmot import DifferentiableGaussianMixture

TYPES = ["full", "tied", "diag", "spherical"]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"]


def clouds(n_samples=300, n_features=2, n_components=3, seed=0, *, spread=4.0):
    rng = np.random.default_rng(seed)
    theta = random_mixture(rng, n_components, n_features, "full", spread=spread)
    return sample(rng, theta, n_samples)


def overlapping(n_samples=1000):
    """Two Gaussians two standard deviations apart, where EM is slow."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(n_samples, 1)) + 2.0 * rng.integers(2, size=(n_samples, 1))


def start(X, n_components, kind="full", seed=0):
    """All three *_init parameters."""
    weights, means, covariances = random_mixture(
        np.random.default_rng(seed), n_components, X.shape[1], kind
    )
    precisions = np.linalg.inv(covariances) if kind in ("full", "tied") else 1 / covariances
    return {"weights_init": weights, "means_init": means, "precisions_init": precisions}


def assert_same_fit(a, b):
    assert a.n_iter_ == b.n_iter_
    for name in FITTED:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def fit_unconverged(estimator, X):
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        return estimator.fit(X)


@parametrize_with_checks([DifferentiableGaussianMixture(covariance_type=kind) for kind in TYPES])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The EM map and its fixed point


@pytest.mark.parametrize("fixed_weights", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_three_steps_are_three_steps_of_the_textbook(kind, fixed_weights):
    X = clouds(200)
    mixture = DifferentiableGaussianMixture(
        3,
        covariance_type=kind,
        max_iter=3,
        tol=0,
        reg_covar=0.125,
        fixed_weights=fixed_weights,
        **start(X, 3, kind),
    )
    theta = DifferentiableGaussianMixture(3, covariance_type=kind, max_iter=0, **start(X, 3, kind))
    theta = theta.fit(X).parameters_
    bounds = []
    for _ in range(3):
        theta, bound = em_step(X, theta, reg_covar=0.125, fixed_weights=fixed_weights)
        bounds.append(bound)
    fit_unconverged(mixture, X)
    np.testing.assert_allclose(mixture.lower_bounds_, bounds, rtol=1e-12)
    assert mixture.lower_bound_ == mixture.lower_bounds_[-1]
    for ours, naive in zip(mixture.parameters_, theta, strict=True):
        np.testing.assert_allclose(ours, naive, rtol=1e-11, atol=1e-12)
    fourth, _ = em_step(X, theta, reg_covar=0.125, fixed_weights=fixed_weights)
    np.testing.assert_allclose(mixture.residual_, scaled_change(fourth, theta), rtol=1e-9)


@pytest.mark.parametrize("n_steps", [1, 2, 7, 40])
def test_zero_tolerances_run_max_iter_steps(n_steps):
    options = {"tol": 0, "residual_tol": 0, "random_state": 0, "acceleration": None}
    mixture = DifferentiableGaussianMixture(2, max_iter=n_steps, **options)
    fit_unconverged(mixture, overlapping())
    assert mixture.n_iter_ == len(mixture.lower_bounds_) == n_steps
    assert not mixture.converged_


@pytest.mark.parametrize("kind", TYPES)
def test_no_step_keeps_the_initial_parameters(kind):
    X = clouds()
    given = start(X, 3, kind)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, max_iter=0, **given).fit(X)
    np.testing.assert_allclose(mixture.weights_, given["weights_init"], rtol=1e-15)
    np.testing.assert_array_equal(mixture.means_, given["means_init"])
    np.testing.assert_allclose(mixture.precisions_, given["precisions_init"], atol=1e-14)
    assert (mixture.n_iter_, mixture.lower_bounds_, mixture.converged_) == (0, [], False)
    one_step, _ = em_step(X, mixture.parameters_, reg_covar=mixture.reg_covar)
    expected = scaled_change(one_step, mixture.parameters_)
    np.testing.assert_allclose(mixture.residual_, expected, rtol=1e-9)


def test_gain_alone_stops_where_the_residual_is_large():
    X = overlapping()
    theirs = GaussianMixture(2, random_state=0).fit(X)
    early = DifferentiableGaussianMixture(2, residual_tol=np.inf, random_state=0).fit(X)
    late = DifferentiableGaussianMixture(2, max_iter=5000, acceleration=None, random_state=0).fit(X)
    assert early.converged_ and early.n_iter_ == theirs.n_iter_ < 10
    assert early.residual_ > 1e-3
    assert late.converged_ and late.n_iter_ > 10 * early.n_iter_
    # EM contracts here: the residual after the last step is below that step's change
    assert late.residual_ < 1e-6
    assert abs(late.means_ - early.means_).max() > 0.1  # standard deviations
    assert late.score(X) > early.score(X)


def test_residual_tol_alone_does_not_end_a_fit():
    X = clouds()
    loose = DifferentiableGaussianMixture(3, tol=1e-1, residual_tol=10, random_state=0).fit(X)
    strict = DifferentiableGaussianMixture(3, tol=1e-9, residual_tol=10, random_state=0).fit(X)
    assert strict.n_iter_ > loose.n_iter_
    assert abs(np.diff(strict.lower_bounds_)[-1]) < 1e-9 <= abs(np.diff(strict.lower_bounds_)[-2])


def test_unconverged_fit_warns_with_residual_and_cure():
    mixture = DifferentiableGaussianMixture(2, max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning) as caught:
        mixture.fit(overlapping())
    (message,) = [str(warning.message) for warning in caught]
    assert f"{mixture.residual_:.3g}" in message and "3 steps" in message
    assert "Increase max_iter" in message


@pytest.mark.parametrize("method", ["fit", "fit_predict"])
def test_warning_points_at_the_call(method):
    mixture = DifferentiableGaussianMixture(2, max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning) as caught:
        getattr(mixture, method)(overlapping())
    assert [warning.filename for warning in caught] == [__file__]


@given(
    seed=st.integers(0, 2**31),
    n_samples=st.integers(60, 150),
    n_features=st.integers(1, 4),
    n_components=st.integers(1, 4),
    kind=st.sampled_from(TYPES),
    init_params=st.sampled_from(["kmeans", "k-means++", "random", "random_from_data"]),
    log_scale=st.integers(-6, 6),
)
def test_lower_bounds_never_fall(
    seed, n_samples, n_features, n_components, kind, init_params, log_scale
):
    scale = 10.0**log_scale
    X = scale * clouds(n_samples, n_features, 3, seed, spread=2.0)
    precisions = start(X / scale, n_components, kind)["precisions_init"] / scale**2
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        init_params=init_params,
        precisions_init=precisions,
        reg_covar=0,  # added after the M-step, it would cost a little of the gain
        max_iter=20,
        tol=0,
        residual_tol=0,
        random_state=seed,
    )
    fit_unconverged(mixture, X)
    bounds = np.array(mixture.lower_bounds_)
    assert np.isfinite(bounds).all()
    assert np.diff(bounds).min() >= -1e-12 * abs(bounds).max()  # rounding of the mean


# Restarts and initialization


def test_n_init_keeps_the_best_restart():
    X = clouds(400, 2, 6, seed=5)
    options = {"init_params": "random_from_data", "tol": 1e-5, "max_iter": 5000}
    many = DifferentiableGaussianMixture(6, n_init=6, random_state=4, **options).fit(X)
    state = np.random.RandomState(4)  # restarts draw from one stream
    single = [
        DifferentiableGaussianMixture(6, random_state=state, **options).fit(X) for _ in range(6)
    ]
    best = max(single, key=lambda mixture: mixture.lower_bound_)
    assert best is not single[0]
    assert_same_fit(many, best)
    assert many.lower_bound_ == best.lower_bound_
    assert many.lower_bounds_ == best.lower_bounds_


def test_random_state_seeds_the_initialization():
    X = clouds()
    options = {"init_params": "random_from_data", "max_iter": 1, "tol": 0}
    fits = [
        fit_unconverged(DifferentiableGaussianMixture(3, random_state=seed, **options), X)
        for seed in (0, 0, 1)
    ]
    assert_same_fit(fits[0], fits[1])
    assert abs(fits[0].means_ - fits[2].means_).max() > 0.1


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++"])
def test_init_size_limits_the_rows_looked_at(init_params):
    rng = np.random.default_rng(0)
    # two of a thousand rows lie far away, and twenty random rows are not among them
    X = np.concatenate([rng.normal(size=(998, 1)), 1000 + rng.normal(size=(2, 1))])

    def seen(init_size):
        mixture = DifferentiableGaussianMixture(
            2, init_params=init_params, init_size=init_size, max_iter=0, random_state=0
        )
        return mixture.fit(X).means_.max() > 500

    assert seen(None) and seen(1000)
    assert not seen(20)
    assert not seen(1)  # at least as many rows as components


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
@pytest.mark.parametrize("name", ["weights_init", "means_init", "precisions_init"])
def test_one_given_part_replaces_that_of_the_initialization(init_params, name):
    X = clouds()
    value = start(X, 3)[name]
    options = {"init_params": init_params, "max_iter": 0, "random_state": 0}
    plain = DifferentiableGaussianMixture(3, **options).fit(X)
    given_one = DifferentiableGaussianMixture(3, **options, **{name: value}).fit(X)
    for part in ["weights_", "means_", "precisions_"]:
        if part == name.replace("init", ""):
            np.testing.assert_allclose(getattr(given_one, part), value, rtol=1e-12, atol=1e-14)
            assert abs(getattr(plain, part) - value).max() > 1e-3
        else:
            np.testing.assert_array_equal(getattr(given_one, part), getattr(plain, part))


def test_reg_covar_is_added_to_the_diagonal():
    X = clouds(n_components=1)
    covariance = np.cov(X.T, bias=True)
    for kind, expected in {
        "full": covariance[None] + 0.5 * np.eye(2),
        "tied": covariance + 0.5 * np.eye(2),
        "diag": np.diag(covariance)[None] + 0.5,
        "spherical": np.array([np.trace(covariance) / 2 + 0.5]),
    }.items():
        mixture = DifferentiableGaussianMixture(covariance_type=kind, reg_covar=0.5).fit(X)
        np.testing.assert_allclose(mixture.covariances_, expected, rtol=1e-13)


# fixed_weights


@pytest.mark.parametrize("weights_init", [None, [0.6, 0.3, 0.1]])
@pytest.mark.parametrize("kind", TYPES)
def test_fixed_weights_stay(kind, weights_init):
    X = clouds()
    options = {"covariance_type": kind, "weights_init": weights_init, "random_state": 0}
    options |= {"max_iter": 5000}
    fixed = DifferentiableGaussianMixture(3, fixed_weights=True, **options).fit(X)
    free = DifferentiableGaussianMixture(3, **options).fit(X)
    expected = np.full(3, 1 / 3) if weights_init is None else weights_init
    np.testing.assert_allclose(fixed.weights_, expected, rtol=1e-15)
    assert abs(free.weights_ - expected).max() > 0.01
    assert fixed.converged_ and fixed.residual_ < 1e-6
    # the best weights are the free ones
    assert fixed.score(X) < free.score(X)


# warm_start and state


def test_warm_start_in_single_steps_is_one_fit():
    X = clouds()
    whole = DifferentiableGaussianMixture(3, max_iter=6, tol=0, random_state=0)
    fit_unconverged(whole, X)
    steps = DifferentiableGaussianMixture(3, max_iter=1, tol=0, random_state=0, warm_start=True)
    bounds = []
    for _ in range(6):
        bounds += fit_unconverged(steps, X).lower_bounds_
    assert bounds == whole.lower_bounds_
    for name in FITTED:
        np.testing.assert_array_equal(getattr(steps, name), getattr(whole, name))
    cold = DifferentiableGaussianMixture(3, max_iter=1, tol=0, random_state=0)
    fit_unconverged(fit_unconverged(cold, X), X)
    assert abs(cold.means_ - whole.means_).max() > 1e-6


def test_warm_start_ignores_n_init_and_converges_at_once():
    X = clouds()
    mixture = DifferentiableGaussianMixture(3, warm_start=True, n_init=3, random_state=0).fit(X)
    again = clone(mixture).set_params(random_state=1)
    again.__dict__.update(mixture.__dict__)
    assert again.fit(X).n_iter_ == 1


def test_warm_start_from_another_number_of_components_is_refused():
    X = clouds()
    mixture = DifferentiableGaussianMixture(3, warm_start=True, random_state=0).fit(X)
    with pytest.raises(ValueError, match="warm_start"):
        mixture.set_params(n_components=2).fit(X)


@pytest.mark.parametrize("kind", TYPES)
def test_fit_leaves_the_constructor_parameters_alone(kind):
    X = clouds()
    given = {name: part.tolist() for name, part in start(X, 3, kind).items()}
    state = np.random.RandomState(0)
    mixture = DifferentiableGaussianMixture(3, covariance_type=kind, random_state=state, **given)
    before = mixture.get_params()
    copies = {name: np.array(part) for name, part in given.items()}
    mixture.set_params(max_iter=5000).fit(X)
    after = mixture.get_params()
    assert before | {"max_iter": 5000} == after
    assert all(after[name] is before[name] for name in given)
    for name, copy in copies.items():
        np.testing.assert_array_equal(given[name], copy)


def test_clone_and_pickle():
    X = clouds()
    mixture = DifferentiableGaussianMixture(3, covariance_type="diag", random_state=0).fit(X)
    assert_same_fit(clone(mixture).fit(X), mixture)
    copy = pickle.loads(pickle.dumps(mixture))
    assert_same_fit(copy, mixture)
    np.testing.assert_array_equal(copy.predict_proba(X), mixture.predict_proba(X))
    np.testing.assert_array_equal(copy.score_samples(X), mixture.score_samples(X))
    cotangent = (None, np.ones((3, 2)), None)
    np.testing.assert_array_equal(
        copy.gradient_wrt_data(X, cotangent, mode="one_step"),
        mixture.gradient_wrt_data(X, cotangent, mode="one_step"),
    )
    unfitted = pickle.loads(pickle.dumps(DifferentiableGaussianMixture(3)))
    assert not hasattr(unfitted, "means_")


def test_pipeline():
    X = clouds()
    pipeline = make_pipeline(StandardScaler(), DifferentiableGaussianMixture(3, random_state=0))
    scaled = StandardScaler().fit_transform(X)
    mixture = DifferentiableGaussianMixture(3, random_state=0).fit(scaled)
    np.testing.assert_array_equal(pipeline.fit(X).predict(X), mixture.predict(scaled))
    assert pipeline.score(X) == mixture.score(scaled)


def test_fit_predict_is_fit_then_predict():
    X = clouds()
    mixture = DifferentiableGaussianMixture(3, random_state=0)
    labels = mixture.fit_predict(X)
    np.testing.assert_array_equal(labels, clone(mixture).fit(X).predict(X))
    assert len(np.unique(labels)) == 3


# verbose


def test_verbose_prints_restarts_and_steps(capsys):
    X = overlapping()
    options = {"max_iter": 7, "n_init": 2, "random_state": 0}

    def printed(**more):
        fit_unconverged(DifferentiableGaussianMixture(2, **options, **more), X)
        return capsys.readouterr().out

    assert printed() == printed(verbose_interval=1) == ""
    brief = printed(verbose=1, verbose_interval=3)
    assert brief.count("Initialization 0\n") == brief.count("Initialization 1\n") == 1
    assert brief.count("converged: False") == 2
    iterations = [int(line.split()[1]) for line in brief.splitlines() if "Iteration" in line]
    assert iterations == [3, 6, 3, 6]
    assert "gain" not in brief
    assert printed(verbose=2, verbose_interval=2).count("gain") == 6
    assert "Iteration" not in printed(verbose=1)  # every tenth
