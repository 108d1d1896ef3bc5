"""fit_mixture of JAX arrays: the estimator's values and derivatives, and what goes wrong."""

import warnings

import numpy as np
import pytest
from naive import inner_product, random_cotangent, random_mixture
from sklearn.exceptions import ConvergenceWarning

from skgmmot import DifferentiableGaussianMixture, MixtureParameters
from skgmmot.functions.layer import MixtureLayer

jax = pytest.importorskip("jax")
jnp = jax.numpy

from jax.test_util import check_grads  # noqa: E402

from skgmmot.bridges import jax_fit  # noqa: E402
from skgmmot.jax import FitStatus, FittedMixture, check, fit_mixture  # noqa: E402

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]
TIGHT = {"tol": 1e-12, "residual_tol": 1e-11, "max_iter": 20_000}  # a fixed point, to rounding
STEPS = {"tol": 0.0, "residual_tol": 0.0}  # as many steps as max_iter says


def cloud():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-1.5, 1, (26, 2)), rng.normal(1.5, 1.2, (14, 2))])


def weights_of(X):
    return np.random.default_rng(7).exponential(size=len(X))


def start(kind):
    return random_mixture(np.random.default_rng(1), 2, 2, kind)


def assert_same(ours, expected):
    for mine, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), other)


def quiet_fit(X, weight=None, **options):
    mixture = DifferentiableGaussianMixture(2, random_state=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(X, sample_weight=weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_values_are_those_of_the_estimator(kind, weighted):
    X = cloud()
    weight = weights_of(X) if weighted else None
    expected = quiet_fit(X, weight, covariance_type=kind).parameters_
    fitted = fit_mixture(X, 2, covariance_type=kind, sample_weight=weight)
    assert isinstance(fitted, FittedMixture) and all(isinstance(p, jax.Array) for p in fitted)
    assert_same(fitted[:3], expected)
    assert fitted.status == FitStatus.OK and fitted.status.dtype == np.int32
    assert check(fitted) is fitted
    compiled = jax.jit(
        lambda X, weight: fit_mixture(X, 2, covariance_type=kind, sample_weight=weight)
    )
    assert_same(compiled(X, weight)[:3], expected)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_estimator(kind, mode, weighted):
    X = cloud()
    weight = weights_of(X) if weighted else None
    options = {"covariance_type": kind} | (
        {"max_iter": 5, "acceleration": None} | STEPS if mode == "unrolled" else {}
    )
    mixture = quiet_fit(X, weight, **options)
    cotangent = random_cotangent(np.random.default_rng(2), mixture.parameters_)
    expected = mixture.vjp(X, cotangent, mode=mode, sample_weight=weight)

    def loss(X, weight):
        fitted = fit_mixture(X, 2, mode=mode, sample_weight=weight, **options)
        return inner_product_of(cotangent, fitted)

    arguments = (0, 1) if weighted else (0,)
    gradients = jax.jit(jax.grad(loss, argnums=arguments))(X, weight)
    assert_close(gradients[0], expected.data)
    if weighted:
        assert_close(gradients[1], expected.sample_weight)
        # X alone, and the weights alone: whatever has no tangent is left out
        assert_close(jax.grad(loss, argnums=1)(X, weight), expected.sample_weight)


def inner_product_of(cotangent, fitted):
    return sum(jnp.vdot(a, b) for a, b in zip(cotangent, fitted[:3], strict=True))


def assert_close(gradient, expected):
    """To rounding; the steps of a fit are made again, from a record, for its derivative."""
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_derivatives_against_differences_in_both_directions(kind, mode):
    """One step alone is differentiated exactly by ``one_step``."""
    X = cloud()
    exact = {
        "implicit": TIGHT,
        "unrolled": {"max_iter": 4} | STEPS,
        "one_step": {"max_iter": 1} | STEPS,
    }[mode]

    def fitted(X, weight):
        options = exact | {"covariance_type": kind, "reg_covar": 1e-3, "mode": mode}
        return fit_mixture(X, sample_weight=weight, initial=tuple(start(kind)), **options)[:3]

    arguments = (jnp.asarray(X), jnp.asarray(weights_of(X) + 0.5))
    check_grads(fitted, arguments, order=1, modes=["rev", "fwd"], atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_initial_parameters_have_the_derivative_of_unrolled_and_otherwise_none(kind, mode):
    theta, X = start(kind), cloud()
    roots = [jnp.log(theta.weights), theta.means, theta.covariances]

    def fitted(logits, means, covariances):
        """Along mixtures only: weights that sum to one, and symmetric covariances."""
        if kind in ("full", "tied"):
            covariances = (covariances + covariances.swapaxes(-1, -2)) / 2
        initial = (jax.nn.softmax(logits), means, covariances)
        options = {"covariance_type": kind, "mode": mode, "max_iter": 3}
        return fit_mixture(X, initial=initial, **options | STEPS)[:3]

    if mode == "unrolled":
        check_grads(fitted, roots, order=1, modes=["rev", "fwd"], atol=1e-6, rtol=1e-6, eps=1e-5)
        return
    gradients = jax.grad(lambda *roots: fitted(*roots)[1].sum(), argnums=(0, 1, 2))(*roots)
    assert not any(np.asarray(gradient).any() for gradient in gradients)
    _, tangents = jax.jvp(fitted, tuple(roots), tuple(map(jnp.ones_like, roots)))
    assert not any(np.asarray(tangent).any() for tangent in tangents)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("x64")
def test_pull_back_is_the_transpose_of_push_forward(kind, mode):
    """Also where a derivative is no exact one, and of all inputs together."""
    X, rng, theta = jnp.asarray(cloud()), np.random.default_rng(5), start(kind)
    options = {"covariance_type": kind, "mode": mode, "max_iter": 300}

    def fitted(X, weight, initial):
        return fit_mixture(X, sample_weight=weight, initial=initial, **options)[:3]

    inputs = (X, jnp.asarray(weights_of(X)), tuple(map(jnp.asarray, theta)))
    directions = random_cotangent(rng, theta)
    tangents = (rng.normal(size=X.shape), rng.normal(size=len(X)), tuple(directions))
    cotangent = random_cotangent(rng, theta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, pushed = jax.jvp(fitted, inputs, tangents)
        _, pull = jax.vjp(fitted, *inputs)
        pulled = pull(tuple(map(jnp.asarray, cotangent)))
    left = inner_product(cotangent, pushed)
    pairs = zip(jax.tree.leaves(pulled), jax.tree.leaves(tangents), strict=True)
    right = sum(float((a * b).sum()) for a, b in pairs)
    assert abs(left) > 1e-3
    assert left == pytest.approx(right, rel=1e-6 if mode == "implicit" else 1e-9)


def test_without_x64_all_is_single_precision_about_parameters_that_are_not_rounded():
    """The warning that a rounded θ is no fixed point would be an error here."""
    X = cloud().astype(np.float32)
    fitted = fit_mixture(X, 2, gradient_tol=1e-9, **TIGHT)
    assert {part.dtype for part in fitted[:3]} == {np.dtype(np.float32)}
    mixture = quiet_fit(X, **TIGHT)
    assert_same(fitted[:3], mixture.parameters_)
    gradient = jax.grad(lambda X: fit_mixture(X, 2, gradient_tol=1e-9, **TIGHT).means[0, 0])(X)
    assert gradient.dtype == np.float32
    cotangent = (None, [[1.0, 0.0], [0.0, 0.0]], None)
    expected = mixture.gradient_wrt_data(X, cotangent, tol=1e-9)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_single_precision_is_kept_also_with_x64():
    X = jnp.asarray(cloud(), jnp.float32)
    weight = jnp.ones(len(X), jnp.float64)
    loss = lambda X, weight: fit_mixture(X, 2, sample_weight=weight).means.sum()  # noqa: E731
    gradients = jax.grad(loss, argnums=(0, 1))(X, weight)
    assert [gradient.dtype for gradient in gradients] == [jnp.float32, jnp.float64]


@pytest.mark.usefixtures("x64")
def test_random_state_is_a_constant_and_matters():
    X = np.random.default_rng(3).uniform(size=(60, 2))
    options = {"init_params": "random_from_data", "max_iter": 2} | STEPS
    means = {seed: fit_mixture(X, 4, random_state=seed, **options).means for seed in (0, 1, None)}
    assert (means[0] == means[None]).all() and not (means[0] == means[1]).all()
    assert (fit_mixture(X, 4, **options).means == means[0]).all()


@pytest.mark.usefixtures("x64")
def test_options_of_the_estimator_are_passed():
    X = cloud()
    for options in ({"reg_covar": 0.5}, {"temperature": 2.0}, {"fixed_weights": True}):
        expected = quiet_fit(X, **options).parameters_
        assert_same(fit_mixture(X, 2, **options)[:3], expected)
        assert abs(fit_mixture(X, 2).means - expected.means).max() > 1e-6


# What goes wrong


@pytest.mark.parametrize("mode", MODES)
def test_a_fit_that_fails_is_flagged_and_nan_and_so_is_its_derivative(mode):
    X = jnp.asarray(cloud()).at[3, 1].set(jnp.nan)
    fitted = fit_mixture(X, 2, mode=mode)
    assert fitted.status == FitStatus.FAILED
    assert all(np.isnan(part).all() for part in fitted[:3])
    loss = lambda X: fit_mixture(X, 2, mode=mode).means.sum()  # noqa: E731
    assert np.isnan(jax.grad(loss)(X)).all()
    assert np.isnan(jax.jvp(loss, (X,), (jnp.ones_like(X),))[1])
    with pytest.raises(RuntimeError, match="1 of 1 fits: no mixture could be fitted.*tells more"):
        check(fitted)


def test_collapse_and_too_few_samples_of_weight_fail():
    collapsed = fit_mixture(jnp.zeros((10, 2)), 1, reg_covar=0.0)
    weight = jnp.zeros(10).at[0].set(1.0)
    few = fit_mixture(jnp.asarray(cloud()[:10]), 2, sample_weight=weight)
    initial = (jnp.array([0.9, 0.9]), jnp.zeros((2, 2)), jnp.ones(2))
    none = fit_mixture(cloud(), initial=initial, covariance_type="spherical")
    assert [fit.status for fit in (collapsed, few, none)] == 3 * [FitStatus.FAILED]


@pytest.mark.usefixtures("x64")
def test_fit_that_has_not_converged_is_flagged_and_there():
    X = cloud()
    fitted = fit_mixture(X, 2, max_iter=2, **STEPS)
    assert fitted.status == FitStatus.NOT_CONVERGED
    assert_same(fitted[:3], quiet_fit(X, max_iter=2, **STEPS).parameters_)
    with pytest.raises(RuntimeError, match="1 of 1 fits: EM did not converge.*max_iter"):
        check(fitted)
    with pytest.raises(RuntimeError, match="EM did not converge"):
        check(fitted.status)
    assert check(fitted, accept=(FitStatus.NOT_CONVERGED,)) is fitted


def test_component_that_is_lost_is_doubtful():
    X = cloud()
    initial = (jnp.array([0.75, 0.25]), jnp.array([[0.0, 0.0], [1e9, 1e9]]), jnp.ones(2))
    fitted = fit_mixture(X, initial=initial, covariance_type="spherical")
    assert fitted.status == FitStatus.DOUBTFUL and np.isfinite(fitted.means).all()
    with pytest.raises(RuntimeError, match="a component lost all its mass"):
        check(fitted)


@pytest.mark.usefixtures("x64")
def test_derivative_off_the_fixed_point_warns_or_is_nan_where_that_is_an_error():
    loss = lambda X: fit_mixture(X, 2, max_iter=1, **STEPS).means.sum()  # noqa: E731
    X = jnp.asarray(cloud())
    with pytest.warns(ConvergenceWarning, match="mode='implicit' differentiates a fixed point"):
        assert np.isfinite(jax.grad(loss)(X)).all()
    assert np.isnan(jax.grad(loss)(X)).all()


def test_check_within_a_transformation_says_where_to_call_it():
    with pytest.raises(TypeError, match="return the status from the function"):
        jax.jit(lambda X: check(fit_mixture(X)))(jnp.asarray(cloud()))


GIVEN = (jnp.ones(1), jnp.zeros((1, 2)), jnp.ones(1))


@pytest.mark.parametrize(
    "arguments, error, complaint",
    [
        ({"mode": "backwards"}, ValueError, "mode must be one of 'implicit'"),
        ({"covariance_type": "round"}, ValueError, "covariance_type"),
        ({"n_components": 0}, ValueError, "n_components"),
        ({"step_size": 1.0}, TypeError, "'step_size' is no option"),
        ({"warm_start": True}, ValueError, "warm_start.*initial"),
        ({"mode": "unrolled", "acceleration": "lbfgs"}, ValueError, "acceleration must be None"),
        ({"X": jnp.ones((5, 2), int)}, TypeError, r"X must be float32 or float64; got int"),
        ({"X": jnp.ones((5, 2), complex)}, TypeError, r"X must be float32 or float64; got complex"),
        ({"X": jnp.ones(5)}, ValueError, r"X must have shape \(n_samples, n_features\); got \(5,"),
        ({"n_components": 6}, ValueError, "X has 5 samples, fewer than n_components=6"),
        ({"X": jnp.ones((1, 2))}, ValueError, "X has 1 samples, fewer than"),
        ({"sample_weight": jnp.ones(4)}, ValueError, r"sample_weight must have shape \(5,\); got"),
        ({"sample_weight": jnp.ones(5, complex)}, TypeError, "sample_weight must be real"),
        ({"initial": 3.0}, TypeError, "initial must be a tuple"),
        (
            {"initial": GIVEN},
            ValueError,
            r"initial: .*'full' has the shapes .*got \(\(1,\), \(1, 2",
        ),
        ({"initial": GIVEN, "n_components": 2}, ValueError, "one for each of n_components=2"),
    ],
)
def test_what_is_wrong_before_any_number_is_known_raises(arguments, error, complaint):
    options = {"X": jnp.ones((5, 2))} | arguments
    X = options.pop("X")
    with pytest.raises(error, match=complaint):
        jax.eval_shape(lambda X: fit_mixture(X, **options), X)


def test_option_that_is_traced_is_refused_by_name():
    with pytest.raises(TypeError, match="reg_covar must be a constant.*from outside"):
        jax.jit(lambda X, reg: fit_mixture(X, reg_covar=reg))(cloud(), 0.1)


def test_initial_and_means_init_exclude_each_other():
    initial = MixtureParameters(np.ones(1), np.zeros((1, 2)), np.ones(1))
    fitted = fit_mixture(
        cloud(), initial=tuple(initial), covariance_type="spherical", means_init=np.zeros((1, 2))
    )
    assert fitted.status == FitStatus.FAILED


def test_second_derivatives_are_refused():
    loss = lambda X: (fit_mixture(X, 2).means ** 2).sum()  # noqa: E731
    X = jnp.asarray(cloud())
    for twice in (jax.hessian(loss), jax.jacfwd(jax.jacfwd(loss)), jax.jacrev(jax.jacrev(loss))):
        with pytest.raises(NotImplementedError, match="fit_mixture has first derivatives only"):
            twice(X)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("x64")
def test_derivative_needs_the_record_only(mode, monkeypatch):
    """What is remembered of the latest fits saves time, and changes a gradient by rounding."""
    X = jnp.asarray(cloud())
    options = {"mode": mode, "max_iter": 400, "covariance_type": "diag"}
    gradient = jax.grad(lambda X: (fit_mixture(X, 2, **options).covariances ** 2).sum())
    remembered = gradient(X)
    monkeypatch.setattr(jax_fit, "_RECENT", jax_fit._Recent(0))
    np.testing.assert_allclose(gradient(X), remembered, rtol=1e-9, atol=1e-12)
    assert not jax_fit._RECENT.fits


def test_latest_fits_are_forgotten_in_their_turn():
    recent = jax_fit._Recent(2)
    fits = [MixtureLayer.of(random_state=0).fit(cloud() + i) for i in range(3)]
    for fit in fits:
        recent.keep(fit)
    found = [recent.find(fit.record) for fit in fits]
    assert found == [None, fits[1].fitted, fits[2].fitted]
