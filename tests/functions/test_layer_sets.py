"""A fit as a layer, of many sets at once: it is that of each set by itself."""

import numpy as np
import pytest

from skgmmot.functions import layer_sets
from skgmmot.functions.layer import MixtureLayer
from skgmmot.functions.layer_sets import fit_each, jvp_each, vjp_each

TYPES = ["full", "tied", "diag", "spherical"]
MODES = ["implicit", "unrolled", "one_step"]
SHARP = {"residual_tol": 1e-10, "tol": 1e-9, "max_iter": 3000, "random_state": 0}


def sets(n_sets=5, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_sets, 40, 2)) + 6 * rng.integers(0, 2, size=(n_sets, 40, 1))
    weight = rng.uniform(0.5, 2.0, X.shape[:2])
    weight[:, 3] = 0.0
    return X.astype(dtype), weight.astype(dtype)


def cotangents(shapes, n_sets, seed=1):
    rng = np.random.default_rng(seed)
    weights, means, covariances = (rng.normal(size=(n_sets, *shape)) for shape in shapes)
    if covariances.ndim > 2 and covariances.shape[-1] == covariances.shape[-2]:
        covariances = covariances + np.swapaxes(covariances, -1, -2)
    return weights, means, covariances


@pytest.fixture
def no_single_fits(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("This set is not fitted together with the others.")

    monkeypatch.setattr(MixtureLayer, "fit", refuse)
    monkeypatch.setattr(MixtureLayer, "vjp", refuse)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", TYPES)
def test_sets_that_are_fitted_together_are_those_fitted_alone(kind, mode, weighted, started):
    X, weight = sets()
    weight = weight if weighted else None
    layer = MixtureLayer.of(2, mode=mode, covariance_type=kind, gradient_tol=1e-9, **SHARP)
    alone = [layer.fit(X[s], None if weight is None else weight[s]) for s in range(len(X))]
    initial = None
    if started:
        starts = zip(*(fit.parameters for fit in alone), strict=True)
        initial = tuple(np.stack(part) for part in starts)
        initial = initial[0], initial[1] + 0.1, initial[2]
        alone = [
            layer.fit(X[s], *(part if part is None else part[s] for part in (weight,)),
                      tuple(part[s] for part in initial))
            for s in range(len(X))
        ]  # fmt: skip
    assert layer_sets._is_for_sets(layer, X)
    fits = fit_each(layer, X, weight, initial)
    assert not fits.errors and not fits.complaints
    bars = cotangents(layer.shapes(2), len(X))
    gradients, errors = vjp_each(layer, fits.records, X, weight, bars)
    assert not errors and not gradients.complaints
    for s, fit in enumerate(alone):
        for ours, theirs in zip(fits.parameters, fit.parameters, strict=True):
            np.testing.assert_allclose(ours[s], theirs, rtol=1e-7, atol=1e-8)  # of residual_tol
        told, expected = layer.told(fits.records[s]), layer.told(fit.record)
        assert told.converged and told.lower_bound == pytest.approx(expected.lower_bound, abs=1e-9)
        if mode == "unrolled":
            assert told.n_iter == expected.n_iter
            assert told.residual == pytest.approx(expected.residual, rel=1e-3, abs=1e-10)
        own = None if weight is None else weight[s]
        theirs = layer.vjp(fits.records[s], X[s], own, tuple(part[s] for part in bars))
        near = {"rtol": 1e-6, "atol": 1e-8}  # of gradient_tol, and systems of condition 100
        np.testing.assert_allclose(gradients.data[s], theirs.data, **near)
        np.testing.assert_allclose(gradients.sample_weight[s], theirs.sample_weight, **near)
        if mode == "unrolled":
            for ours, its in zip(gradients.initial, theirs.initial, strict=True):
                np.testing.assert_allclose(ours[s], its, **near)
        else:
            assert gradients.initial is theirs.initial is None


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.usefixtures("no_single_fits")
def test_ordinary_sets_are_fitted_together(kind):
    X, weight = sets(dtype=np.float32)
    layer = MixtureLayer.of(2, covariance_type=kind, random_state=0)
    fits = fit_each(layer, X, weight)
    bars = cotangents(layer.shapes(2), len(X))
    if kind != "tied":  # whose systems are solved one by one
        gradients, _ = vjp_each(layer, fits.records, X, weight, bars, wrt_weight=False)
        assert gradients.data.dtype == np.float32 and gradients.sample_weight is None
    assert {part.dtype for part in fits.parameters} == {np.dtype(np.float32)}
    assert fits.records.dtype == np.float64


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": [2.0, 1.0]},
        {"temperature": 2.0},
        {"e_step": "sinkhorn"},
        {"acceleration": "newton"},
        {"n_init": 2},
    ],
)
def test_options_that_only_the_estimator_knows_are_heeded(options):
    X, weight = sets(3)
    layer = MixtureLayer.of(2, random_state=0, **options)
    fits = fit_each(layer, X, weight)
    bars = cotangents(layer.shapes(2), len(X))
    gradients, _ = vjp_each(layer, fits.records, X, weight, bars)
    for s in range(3):
        fit = layer.fit(X[s], weight[s])
        np.testing.assert_array_equal(fits.records[s], fit.record)
        theirs = layer.vjp(fit.record, X[s], weight[s], tuple(part[s] for part in bars))
        np.testing.assert_array_equal(gradients.data[s], theirs.data)


@pytest.mark.parametrize(
    "options",
    [
        {"means_init": [[0.0, 1.0], [5.0, 6.0]]},
        {"weights_init": [0.2, 0.8], "fixed_weights": True},
        {"init_params": "random_from_data"},
        {"reg_covar": 0.5},
        {"max_iter": 3, "residual_tol": 0.0},
    ],
)
def test_options_of_sets_are_heeded(options):
    X, weight = sets(3)
    layer = MixtureLayer.of(2, **SHARP | options)
    fits = fit_each(layer, X, weight)
    assert layer_sets._is_for_sets(layer, X)
    for s in range(3):
        fit = layer.fit(X[s], weight[s])
        for ours, theirs in zip(fits.parameters, fit.parameters, strict=True):
            np.testing.assert_allclose(ours[s], theirs, rtol=1e-7, atol=1e-8)
        assert (len(fit.complaints) > 0) == any(number == s for number, _ in fits.complaints)


def test_sets_that_fail_take_no_other_down():
    X, weight = sets(6)
    layer = MixtureLayer.of(2, **SHARP)
    expected = fit_each(layer, X, weight)
    X, weight = X.copy(), weight.copy()
    X[1, 0, 0], weight[2], weight[3, 5] = np.nan, 0.0, -1.0
    X[4] = np.where(np.arange(40)[:, None] < 20, 1e200, -1e200)
    fits = fit_each(layer, X, weight)
    assert sorted(fits.errors) == [1, 2, 3, 4]
    for s, words in (1, "NaN"), (2, "non-zero"), (3, "[Nn]egative"), (4, "overflow"):
        with pytest.raises(ValueError, match=words):
            raise fits.errors[s]
    assert np.isnan(fits.records[[1, 2, 3, 4]]).all()
    np.testing.assert_array_equal(fits.records[[0, 5]], expected.records[[0, 5]])

    bars = cotangents(layer.shapes(2), len(X))
    gradients, errors = vjp_each(layer, fits.records, X, weight, bars)
    assert sorted(errors) == [1, 2, 3, 4] and np.isnan(gradients.data[1]).all()
    good = vjp_each(layer, expected.records, sets(6)[0], sets(6)[1], bars)[0]
    np.testing.assert_allclose(gradients.data[[0, 5]], good.data[[0, 5]], rtol=1e-5, atol=1e-8)


def test_few_steps_are_unrolled_to_where_they_began():
    X, weight = sets(3)
    X = X + np.random.default_rng(4).normal(scale=3.0, size=X.shape)  # so that clusters overlap
    start = fit_each(MixtureLayer.of(2, **SHARP), X).parameters
    start = start.weights, start.means + 0.5, start.covariances
    layer = MixtureLayer.of(2, mode="unrolled", max_iter=2, tol=1e9, residual_tol=np.inf)
    fits, bars = fit_each(layer, X, weight, start), cotangents(layer.shapes(2), 3)
    gradients, _ = vjp_each(layer, fits.records, X, weight, bars)
    for s in range(3):
        alone = layer.fit(X[s], weight[s], tuple(part[s] for part in start))
        theirs = layer.vjp(alone.record, X[s], weight[s], tuple(part[s] for part in bars))
        np.testing.assert_allclose(gradients.data[s], theirs.data, rtol=1e-8, atol=1e-10)
        assert np.abs(theirs.initial.means).max() > 1e-3
        np.testing.assert_allclose(gradients.initial.means[s], theirs.initial.means, rtol=1e-8)


def test_start_that_is_no_mixture_fails_alone():
    X, _ = sets(3)
    layer = MixtureLayer.of(2, **SHARP)
    start = [part.copy() for part in fit_each(layer, X).parameters]
    start[0][1] = [0.5, 0.9]
    fits = fit_each(layer, X, None, tuple(start))
    assert list(fits.errors) == [1] and "initial: the weights" in str(fits.errors[1])


def test_component_that_is_lost_is_told_of():
    X = np.stack([sets(1)[0][0], np.vstack([np.zeros((39, 2)) + np.eye(2)[np.arange(39) % 2],
                                            [[1.0, 1.0]]])])  # fmt: skip
    start = (
        np.array([0.5, 0.5]),
        np.array([[0.0, 0.0], [500.0, 500.0]]),
        np.stack([np.eye(2)] * 2),
    )
    layer = MixtureLayer.of(2, **SHARP)
    fits = fit_each(layer, X, None, tuple(np.stack([part, part]) for part in start))
    alone = [layer.fit(one, None, start).complaints for one in X]
    assert [sum(s == number for number, _ in fits.complaints) for s in (0, 1)] == [
        len(told) for told in alone
    ]
    assert "Component 1 lost all its mass" in fits.complaints[-1][1] == alone[1][-1]


@pytest.mark.parametrize("mode", MODES)
def test_tangents_are_those_of_each_set(mode):
    X, weight = sets(3)
    layer = MixtureLayer.of(2, mode=mode, **SHARP)
    fits = fit_each(layer, X, weight)
    rng = np.random.default_rng(2)
    dots = rng.normal(size=X.shape), rng.normal(size=weight.shape), None, None, None
    tangent, complaints, errors = jvp_each(layer, fits.records, X, weight, dots)
    assert not complaints and not errors
    bars = cotangents(layer.shapes(2), 3)
    pulled, _ = vjp_each(layer, fits.records, X, weight, bars)
    for s in range(3):
        left = sum(np.vdot(part[s], bar[s]) for part, bar in zip(tangent, bars, strict=True))
        right = np.vdot(pulled.data[s], dots[0][s]) + np.vdot(pulled.sample_weight[s], dots[1][s])
        assert left == pytest.approx(right, rel=1e-5)
    broken = fits.records.copy()
    broken[1] = np.nan
    tangent, _, errors = jvp_each(layer, broken, X, weight, dots)
    assert list(errors) == [1] and np.isnan(tangent.means[1]).all()


def test_cotangents_of_one_fit_use_the_steps_that_it_kept():
    X, _ = sets(1)
    layer = MixtureLayer.of(2, mode="unrolled", random_state=0)
    fit, found = layer.fit(X[0]), []

    def find(record):
        found.append(record)
        return fit.fitted

    bars = cotangents(layer.shapes(2), 4)
    same = np.broadcast_to(X[0], (4, *X[0].shape))
    records = np.broadcast_to(fit.record, (4, len(fit.record)))
    pulled, _ = vjp_each(layer, records, same, None, bars, find=find)
    assert len(found) == 4
    for s in range(4):
        own = layer.vjp(fit.record, X[0], None, tuple(part[s] for part in bars))
        np.testing.assert_allclose(pulled.data[s], own.data, rtol=1e-9, atol=1e-12)
