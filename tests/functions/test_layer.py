"""A fit as pure functions of arrays: it is the estimator's, and its derivatives need no memory."""

import numpy as np
import pytest

from skgmmot import DifferentiableGaussianMixture
from skgmmot.functions.layer import MixtureLayer, layer_of

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]


def sets(seed=0):
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(size=(40, 2)), rng.normal(size=(30, 2)) * [1, 2] + [6, -3]])
    weight = rng.uniform(0.5, 2.0, len(X))
    weight[3] = 0.0
    return X, weight


def cotangent_of(parameters, seed=1):
    """With symmetric covariances."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=part.shape) for part in parameters]
    if parameters.covariance_type in ("full", "tied"):
        parts[2] = parts[2] + np.swapaxes(parts[2], -1, -2)
    return parts


def dot(a, b):
    return sum(np.vdot(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("temperature", [1.0, [2.0, 1.5, 1.0]])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
def test_fit_and_derivative_are_those_of_the_estimator(kind, mode, temperature):
    X, weight = sets()
    options = {"covariance_type": kind, "temperature": temperature, "random_state": 0}
    layer = MixtureLayer.of(2, mode=mode, **options)
    fit = layer.fit(X, weight)
    acceleration = None if mode == "unrolled" else "auto"
    mixture = DifferentiableGaussianMixture(2, acceleration=acceleration, **options)
    mixture.fit(X, sample_weight=weight)
    for ours, theirs in zip(fit.parameters, mixture.parameters_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    told = layer.told(fit.record)
    assert told == (True, mixture.n_iter_, mixture.residual_, mixture.lower_bound_)
    assert fit.record.shape == (layer.record_size(2),) and fit.record.dtype == np.float64

    cotangent = cotangent_of(fit.parameters)
    theirs = mixture.vjp(X, tuple(cotangent), mode=mode, sample_weight=weight)
    for fitted in (None, fit.fitted):
        ours = layer.vjp(fit.record, X, weight, cotangent, fitted=fitted)
        # the same steps, made again: other rounding, and GMRES ends at 1e-6
        np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(ours.sample_weight, theirs.sample_weight, rtol=1e-5, atol=1e-9)
    assert (ours.initial is not None) == (mode == "unrolled") == layer.has_initial_derivative


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
def test_jvp_is_the_transpose_of_vjp(kind, mode):
    X, weight = sets()
    start = MixtureLayer.of(2, covariance_type=kind, random_state=0).fit(X, weight).parameters
    layer = MixtureLayer.of(2, covariance_type=kind, mode=mode, max_iter=5, gradient_tol=1e-10)
    moved = (start.weights, start.means + 0.3, start.covariances)
    fit = layer.fit(X, weight, moved)
    rng = np.random.default_rng(2)
    X_dot, weight_dot = rng.normal(size=X.shape), rng.normal(size=weight.shape)
    initial_dot = cotangent_of(start, 3) if mode == "unrolled" else None
    cotangent = cotangent_of(fit.parameters)
    bars = layer.vjp(fit.record, X, weight, cotangent)
    tangent, _ = layer.jvp(fit.record, X, weight, X_dot, weight_dot, initial_dot)
    right = np.vdot(bars.data, X_dot) + np.vdot(bars.sample_weight, weight_dot)
    if initial_dot:
        of_initial = dot(bars.initial, initial_dot)  # small: EM soon forgets where it began
        alone, _ = layer.jvp(fit.record, X, weight, None, None, initial_dot)
        assert dot(alone, cotangent) == pytest.approx(of_initial, rel=1e-6) and of_initial != 0
        right += of_initial
    assert dot(tangent, cotangent) == pytest.approx(right, rel=1e-6)


def test_derivative_in_the_initial_parameters_is_that_of_finite_differences():
    X, weight = sets()
    layer = MixtureLayer.of(2, mode="unrolled", max_iter=3, residual_tol=np.inf)
    start = MixtureLayer.of(2, random_state=0).fit(X, weight).parameters
    start = (start.weights, start.means + 0.5, start.covariances)
    fit = layer.fit(X, weight, start)
    cotangent = cotangent_of(fit.parameters)
    bars = layer.vjp(fit.record, X, weight, cotangent)
    h = 1e-6
    for k, j in np.ndindex(2, 2):
        values = []
        for sign in (1, -1):
            means = start[1].copy()
            means[k, j] += sign * h
            values.append(
                dot(layer.fit(X, weight, (start[0], means, start[2])).parameters, cotangent)
            )
        # central differences: h² and rounding over h, relative to values of order ten
        assert bars.initial.means[k, j] == pytest.approx((values[0] - values[1]) / 2 / h, abs=1e-6)


def test_partial_tangents_of_the_initial_parameters_leave_the_others_still():
    X, _ = sets()
    layer = MixtureLayer.of(2, mode="unrolled", max_iter=3, random_state=0)
    fit = layer.fit(X)
    means_dot = np.ones((2, 2))
    zeros = [np.zeros(shape) for shape in layer.shapes(2)]
    some, _ = layer.jvp(fit.record, X, None, None, None, (None, means_dot, None))
    all_, _ = layer.jvp(fit.record, X, None, None, None, (zeros[0], means_dot, zeros[2]))
    for part, same in zip(some, all_, strict=True):
        np.testing.assert_array_equal(part, same)
    assert np.abs(some.means).max() > 0


def test_float32_is_kept():
    X, weight = sets()
    X, weight = X.astype(np.float32), weight.astype(np.float32)
    layer = MixtureLayer.of(2, mode="unrolled", random_state=0)
    fit = layer.fit(X, weight)
    bars = layer.vjp(fit.record, X, weight, tuple(fit.parameters))
    tangent, _ = layer.jvp(fit.record, X, weight, np.ones_like(X))
    arrays = [*fit.parameters, bars.data, bars.sample_weight, *bars.initial, *tangent]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    assert fit.record.dtype == np.float64


def test_path_made_again_is_kept_in_bounded_memory(monkeypatch):
    """A path that does not fit is thinned out, and gives the same derivative."""
    from skgmmot.em import path

    X, weight = sets()
    layer = MixtureLayer.of(2, mode="unrolled", random_state=0, residual_tol=1e-12)
    fit = layer.fit(X, weight)
    assert layer.told(fit.record).n_iter > 8
    whole = layer.vjp(fit.record, X, weight, tuple(fit.parameters))
    monkeypatch.setattr(path.Path.__init__, "__defaults__", (3000,))
    thinned = layer.vjp(fit.record, X, weight, tuple(fit.parameters))
    np.testing.assert_allclose(thinned.data, whole.data, rtol=1e-12, atol=1e-14)


def test_layers_are_equal_by_their_options_and_can_be_read_again():
    options = {"residual_tol": np.inf, "temperature": [2.0, 1.0], "random_state": np.int64(3)}
    start = np.array([[0.1, 0.2], [3.0, 4.0]], dtype=np.float32)
    layer = MixtureLayer.of(2, means_init=start, **options)
    same = MixtureLayer.of(2, **dict(reversed(options.items())), means_init=start.copy())
    assert layer == same and hash(layer) == hash(same)
    assert layer != MixtureLayer.of(2, means_init=start + 1e-7, **options)
    again = MixtureLayer(layer.text)
    X, _ = sets()
    np.testing.assert_array_equal(again.fit(X).record, layer.fit(X).record)
    assert layer_of(n_components=2, random_state=0) is layer_of(n_components=2, random_state=0)
    for means in (start, start + 1, start.astype(np.float64), [[0.0, 1.0], [2.0, 3.0]]):
        assert layer_of(n_components=2, means_init=means) == MixtureLayer.of(2, means_init=means)
    with pytest.raises(ValueError, match="n_components"):  # which is no 1
        layer_of(n_components=1), layer_of(n_components=True)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"mode": "exact"}, ValueError, "mode must be one of"),
        ({"warm_start": True}, ValueError, "warm_start: a layer keeps nothing"),
        ({"keep_path": False}, ValueError, "keep_path"),
        ({"components": 3}, TypeError, "'components' is no option"),
        ({"random_state": np.random.RandomState(0)}, ValueError, "Draw an int"),
        ({"mode": "unrolled", "acceleration": "auto"}, ValueError, "acceleration must be None"),
        ({"gradient_tol": 0.0}, ValueError, "tol must be a positive"),
        ({"max_iter": -1}, ValueError, "max_iter"),
        ({"means_init": np.array([["a"]])}, ValueError, "numbers, texts or arrays"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        MixtureLayer.of(2, **options)


def test_initial_parameters_are_checked():
    X, _ = sets()
    good = tuple(MixtureLayer.of(2, random_state=0).fit(X).parameters)
    with pytest.raises(ValueError, match="initial takes the place of means_init"):
        MixtureLayer.of(2, means_init=good[1]).fit(X, None, good)
    with pytest.raises(ValueError, match="initial: the weights must be non-negative and sum"):
        MixtureLayer.of(2).fit(X, None, (2 * good[0], *good[1:]))
    with pytest.raises(ValueError, match="initial: diag covariances"):
        MixtureLayer.of(2, covariance_type="diag").fit(X, None, good)


def test_what_there_is_to_warn_of_comes_back():
    X, _ = sets()
    layer = MixtureLayer.of(2, max_iter=2, random_state=0)
    fit = layer.fit(X)
    assert "EM did not converge in 2 steps" in fit.complaints[0]
    assert not layer.told(fit.record).converged
    bars = layer.vjp(fit.record, X, None, tuple(fit.parameters))
    assert "differentiates a fixed point" in bars.complaints[0]
    _, complaints = layer.jvp(fit.record, X, None, X)
    assert "differentiates a fixed point" in complaints[0]
