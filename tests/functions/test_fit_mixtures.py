"""Many mixtures in one call: what may be handed over, what comes back, and what is refused."""

import re
import warnings

import naive
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureFits,
    MixtureParameters,
    SetsCotangent,
    fit_mixtures,
    pairwise_mixture_wasserstein,
)
from skgmmot.parameters import COVARIANCE_TYPES

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def some_sets(kind="full", sizes=(40, 90, 25), K=2, d=2, seed=0):
    rng = np.random.default_rng(seed)
    mixtures = [naive.random_mixture(rng, K, d, kind, spread=3.0) for _ in sizes]
    return [naive.sample(rng, own, n) for own, n in zip(mixtures, sizes, strict=True)], mixtures


def estimator(start, **options):
    inverse = np.linalg.inv if start.covariance_type in ("full", "tied") else np.reciprocal
    return DifferentiableGaussianMixture(
        len(start.weights),
        covariance_type=start.covariance_type,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=inverse(start.covariances),
        acceleration=None,
        **options,
    )


def cotangent_of(fits, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(
        rng.normal(size=part.shape) for part in (fits.weights, fits.means, fits.covariances)
    )


@all_types
@pytest.mark.parametrize("mode", ["implicit", "unrolled", "one_step"])
def test_fits_and_gradients_are_those_of_the_estimator(kind, mode):
    sets, starts = some_sets(kind)
    weights = [np.random.default_rng(n).uniform(0.0, 2.0, size=n) for n in map(len, sets)]
    weights[1][:5] = 0.0
    fits = fit_mixtures(sets, initial=starts, covariance_type=kind, sample_weight=weights)
    assert fits.converged.all() and not fits.failed.any() and fits.covariance_type == kind
    cotangent = cotangent_of(fits)
    gradients = fits.vjp(cotangent, mode=mode)
    first = 0
    for s, (X, weight, start) in enumerate(zip(sets, weights, starts, strict=True)):
        own = estimator(start).fit(X, sample_weight=weight)
        assert own.n_iter_ == fits.n_iter[s]
        assert own.lower_bound_ == pytest.approx(fits.lower_bounds[s], rel=1e-10)
        for name in ("weights", "means", "covariances"):
            expected = getattr(own, f"{name}_")
            np.testing.assert_allclose(getattr(fits, name)[s], expected, rtol=1e-7, atol=1e-9)
            np.testing.assert_array_equal(getattr(fits[s], name), getattr(fits, name)[s])
        part = tuple(whole[s] for whole in cotangent)
        expected = own.vjp(X, part, mode=mode, sample_weight=weight)
        rows = slice(first, first + len(X))
        first += len(X)
        scale = np.abs(expected.data).max()
        np.testing.assert_allclose(gradients.data[rows], expected.data, atol=1e-5 * scale)
        scale = np.abs(expected.sample_weight).max()
        actual = gradients.sample_weight[rows]
        np.testing.assert_allclose(actual, expected.sample_weight, atol=1e-5 * scale)
        if mode == "unrolled":
            for one, other in zip(
                gradients.initial_parameters, expected.initial_parameters, strict=True
            ):
                np.testing.assert_allclose(one[s], other, atol=1e-8 * np.abs(other).max() + 1e-10)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"tol": 1e-1, "residual_tol": np.inf}, "n_iter"),
        ({"residual_tol": 1e-2}, "n_iter"),
        ({"max_iter": 2}, "n_iter"),
        ({"reg_covar": 1e-1}, "covariances"),
        ({"fixed_weights": True}, "weights"),
        ({"sample_weight": [np.linspace(0.1, 1.0, 30)] * 2}, "means"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_options_do_what_those_of_the_estimator_do(options, name):
    sets, starts = some_sets(sizes=(30, 30))
    fits = fit_mixtures(sets, initial=starts, **options)
    plain = fit_mixtures(sets, initial=starts)
    assert not np.array_equal(getattr(fits, name), getattr(plain, name))
    weight = options.pop("sample_weight", [None] * 2)
    for s, start in enumerate(starts):
        own = estimator(start, **options).fit(sets[s], sample_weight=weight[s])
        np.testing.assert_allclose(getattr(fits, name)[s], getattr(own, f"{name}_"), rtol=1e-8)


def test_forms_in_which_sets_are_given():
    sets, starts = some_sets(sizes=(30, 30, 30))
    weight = np.random.default_rng(3).uniform(0.5, 1.5, size=(3, 30))
    cube = fit_mixtures(np.array(sets), initial=starts, sample_weight=weight)
    as_list = fit_mixtures(sets, initial=starts, sample_weight=list(weight))
    matrix = fit_mixtures(
        np.concatenate(sets), initial=starts, offsets=[0, 30, 60, 90], sample_weight=weight.ravel()
    )
    objects = np.empty(3, dtype=object)
    objects[:] = sets
    by_object = fit_mixtures(objects, initial=starts, sample_weight=list(weight))
    lists = fit_mixtures(
        [own.tolist() for own in sets], initial=starts, sample_weight=weight.ravel()
    )
    for other in (as_list, matrix, by_object, lists):
        for name in ("weights", "means", "covariances"):
            np.testing.assert_array_equal(getattr(other, name), getattr(cube, name))
    gradients = cube.vjp(cotangent_of(cube))
    assert gradients.data.shape == (3, 30, 2) and gradients.sample_weight.shape == (3, 30)
    flat = matrix.vjp(cotangent_of(matrix))
    np.testing.assert_array_equal(flat.data, gradients.data.reshape(90, 2))
    np.testing.assert_array_equal(flat.sample_weight, gradients.sample_weight.ravel())


@all_types
def test_forms_in_which_starts_are_given(kind):
    sets, starts = some_sets(kind)
    options = {"covariance_type": kind, "max_iter": 3, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = estimator(starts[0], max_iter=0).fit(sets[0])
        shared = [fit_mixtures(sets, initial=given, **options) for given in (one, starts[0])]
        each = fit_mixtures(sets, initial=[starts[0]] * 3, **options)
        stacked = tuple(np.stack([part] * 3) for part in starts[0])
        triple = fit_mixtures(sets, initial=stacked, **options)
        again = fit_mixtures(sets, initial=each, **options)
    for other in (shared[1], each, triple):
        np.testing.assert_allclose(other.means, shared[0].means, rtol=1e-12)
    assert not np.allclose(again.means, each.means, rtol=1e-6)


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_starts_of_its_own(init_params):
    sets, _ = some_sets()
    options = {"init_params": init_params, "random_state": 3}
    fits = fit_mixtures(sets, 2, **options)
    again = fit_mixtures(sets, 2, **options)
    np.testing.assert_array_equal(fits.means, again.means)
    own = DifferentiableGaussianMixture(2, acceleration=None, **options).fit(sets[0])
    assert fits.lower_bounds[0] == pytest.approx(own.lower_bound_, rel=1e-9)


def test_weights_that_are_fixed_are_equal_without_a_start():
    sets, _ = some_sets(K=3)
    fits = fit_mixtures(sets, 3, fixed_weights=True, random_state=0)
    np.testing.assert_array_equal(fits.weights, 1.0 / 3.0)


def test_single_precision_is_kept():
    sets, starts = some_sets()
    single = [own.astype(np.float32) for own in sets]
    fits = fit_mixtures(single, initial=starts)
    double = fit_mixtures([own.astype(np.float64) for own in single], initial=starts)
    assert fits.means.dtype == fits.weights.dtype == fits.covariances.dtype == np.float32
    np.testing.assert_allclose(fits.means, double.means, rtol=1e-6)
    cotangent = cotangent_of(double)
    gradients = fits.vjp(cotangent)
    assert gradients.data.dtype == np.float32
    expected = double.vjp(cotangent).data
    np.testing.assert_allclose(gradients.data, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("unit", [2.0**-200, 2.0**200])
def test_the_unit_of_weights_does_not_matter(unit):
    sets, starts = some_sets(sizes=(30, 30))
    weight = np.random.default_rng(0).uniform(0.5, 1.5, size=60)
    fits = [
        fit_mixtures(sets, initial=starts, sample_weight=scale * weight) for scale in (1.0, unit)
    ]
    np.testing.assert_allclose(fits[1].means, fits[0].means, rtol=1e-12)
    ours, scaled = (own.vjp(cotangent_of(own)) for own in fits)
    np.testing.assert_allclose(
        scaled.sample_weight * unit, ours.sample_weight, rtol=1e-6, atol=1e-9
    )


def test_input_is_never_written_to():
    sets, starts = some_sets(sizes=(30, 30))
    X, weight = np.array(sets), np.ones((2, 30))
    copies = X.copy(), weight.copy(), starts[0].means.copy()
    fits = fit_mixtures(X, initial=starts, sample_weight=weight)
    cotangent = cotangent_of(fits)
    kept = [part.copy() for part in cotangent]
    fits.vjp(cotangent)
    for one, other in zip((X, weight, starts[0].means), copies, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(cotangent, kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sets_that_cannot_be_fitted_are_told_of():
    sets, starts = some_sets()
    bad = [sets[0], sets[1][:1], np.zeros((30, 2)), sets[2], np.zeros((0, 2))]
    initial = [starts[0], starts[1], starts[1], starts[2], starts[2]]
    with pytest.warns(ConvergenceWarning, match=r"3 of 5 sets \(1, 2, 4\).*1 samples") as caught:
        fits = fit_mixtures(bad, initial=initial, reg_covar=0.0)
    assert [warning.filename for warning in caught] == [__file__]
    np.testing.assert_array_equal(fits.failed, [False, True, True, False, True])
    assert list(fits.errors) == [1, 2, 4] and "positive definite" in str(fits.errors[2])
    assert np.isnan(fits.means[fits.failed]).all()
    good = fit_mixtures([sets[0], sets[2]], initial=[starts[0], starts[2]], reg_covar=0.0)
    np.testing.assert_array_equal(fits.means[~fits.failed], good.means)
    assert "3 failed" in repr(fits)
    with pytest.raises(ValueError, match="set 2 failed"):
        fits[2]
    with pytest.raises(ValueError, match="set 4 failed"):
        fits[-1]
    cotangent = cotangent_of(fits)
    cotangent[1][2] = np.nan
    gradients = fits.vjp(cotangent).data
    assert gradients[:40].any() and not gradients[40:71].any() and gradients[71:].any()


def slow_sets():
    """Two components on one cluster."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 2)) for n in rng.integers(20, 300, size=12)]


def test_slow_sets_are_accelerated():
    sets = slow_sets()
    fits = fit_mixtures(sets, 2, random_state=0)
    assert fits.converged.all() and fits.n_iter.max() > 200
    with pytest.warns(ConvergenceWarning, match="did not converge in 1000 steps"):
        plain = fit_mixtures(sets, 2, random_state=0, acceleration=None)
    quick = plain.n_iter <= 200
    assert 0 < quick.sum() < 12
    np.testing.assert_array_equal(fits.means[quick], plain.means[quick])
    cotangent = cotangent_of(fits)
    with pytest.raises(ValueError, match="acceleration=None"):
        fits.vjp(cotangent, mode="unrolled")
    assert plain.vjp(cotangent, mode="unrolled").data.any()
    assert fits.vjp(cotangent, mode="implicit").data.any()


def test_rows_of_weight_zero_do_not_count():
    sets, starts = some_sets(sizes=(10, 10))
    weight = np.ones(20)
    weight[:9] = 0.0
    with pytest.warns(ConvergenceWarning, match=r"1 of 2 sets \(0\).*it has 1 samples"):
        fits = fit_mixtures(sets, initial=starts, sample_weight=weight)
    np.testing.assert_array_equal(fits.failed, [True, False])


def test_sets_that_have_not_settled_are_told_of():
    sets, starts = some_sets()
    with pytest.warns(ConvergenceWarning, match=r"3 of 3 sets \(0, 1, 2\): EM did not") as caught:
        fits = fit_mixtures(sets, initial=starts, max_iter=2)
    assert [warning.filename for warning in caught] == [__file__]
    assert not fits.converged.any() and (fits.residuals > 1e-6).all()
    with pytest.warns(ConvergenceWarning, match=r"2 of 3 sets \(0, 1\): .* fixed point") as caught:
        fits.vjp(cotangent_of(fits))
    assert caught[0].filename == __file__


def test_a_warning_names_few_of_many_sets():
    sets, starts = some_sets(sizes=(20,) * 12)
    with pytest.warns(ConvergenceWarning, match=re.escape("12 of 12 sets (0, 1, 2, 3, 4, …)")):
        fit_mixtures(sets, initial=starts, max_iter=1)


def test_what_kmeans_complains_of_is_told():
    sets = [np.random.default_rng(0).normal(size=(20, 1)), np.zeros((9, 1))]
    with pytest.warns(ConvergenceWarning) as caught:
        fits = fit_mixtures(sets, 2)
    clusters, lost = (str(warning.message) for warning in caught)
    assert clusters.startswith("1 of 2 sets (1): Number of distinct clusters")
    assert lost.startswith("1 of 2 sets (1): Component 1 lost all its mass")
    np.testing.assert_array_equal(fits.lost, [[False, False], [False, True]])


def test_a_seed_is_that_of_each_set():
    sets, _ = some_sets()
    options = {"init_params": "random_from_data", "max_iter": 2, "residual_tol": np.inf, "tol": 1e9}
    fits = fit_mixtures(sets, 2, random_state=3, **options)
    for X, ours in zip(sets, fits, strict=True):
        alone = DifferentiableGaussianMixture(2, random_state=3, acceleration=None, **options)
        for part, expected in zip(ours, alone.fit(X).parameters_, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-10)
    several = fit_mixtures(sets, 2, random_state=np.random.RandomState(3), **options)
    np.testing.assert_array_equal(several.means[0], fits.means[0])
    assert (several.means[1] != fits.means[1]).any()


def test_fits_are_a_sequence_of_mixtures():
    sets, starts = some_sets()
    fits = fit_mixtures(sets, initial=starts)
    assert len(fits) == 3 and all(isinstance(own, MixtureParameters) for own in fits)
    np.testing.assert_allclose(
        pairwise_mixture_wasserstein(list(fits)),
        pairwise_mixture_wasserstein([fits[0], fits[1], fits[2]]),
    )
    assert isinstance(fits, MixtureFits)
    assert isinstance(fits.vjp((None, None, None)), SetsCotangent)
    assert "3 sets" in fits._repr_html_() and "data" in fits.vjp((None,) * 3)._repr_html_()


def test_a_cotangent_that_is_none_is_zero():
    sets, starts = some_sets()
    fits = fit_mixtures(sets, initial=starts)
    means = np.ones(fits.means.shape)
    zeros = np.zeros(fits.weights.shape), means, np.zeros(fits.covariances.shape)
    one, other = fits.vjp((None, means, None)), fits.vjp(zeros)
    np.testing.assert_array_equal(one.data, other.data)


SETS, STARTS = some_sets()


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((3,), {}, "X must be a sequence of arrays"),
        (([],), {}, "X must be a sequence of arrays"),
        (([np.zeros((0, 2))],), {}, "all sets are empty"),
        (([np.zeros((2, 2))], 3), {}, "no set can be fitted.*2 samples"),
        ((np.zeros((5, 2)),), {}, "no collection of sets.*offsets"),
        (([np.zeros((5, 2)), np.zeros((5, 3))],), {}, r"same features; got \[2, 3\]"),
        (([np.full((5, 2), np.inf)],), {}, "infinity"),
        (([1e200 * SETS[0]],), {}, "overflow"),
        ((np.zeros((5, 2)),), {"offsets": [0, 3, 4]}, "offsets must be integers"),
        ((np.zeros((5, 2)),), {"offsets": [0, 4, 3, 5]}, "offsets must be integers"),
        ((np.zeros((5, 2)),), {"offsets": [0.0, 5.0]}, "offsets must be integers"),
        ((SETS, 0), {}, "n_components must be a positive integer"),
        ((SETS, True), {}, "n_components must be a positive integer"),
        ((SETS, 3), {"initial": STARTS}, "n_components must be that of initial, 2"),
        ((SETS,), {"initial": STARTS[:2]}, "3, one for each set"),
        ((SETS,), {"initial": STARTS, "covariance_type": "diag"}, "diag covariances"),
        ((SETS,), {"initial": [*STARTS[:2], (1, 2)]}, r"initial\[2\] must be"),
        ((SETS,), {"covariance_type": "round"}, "covariance_type"),
        ((SETS,), {"tol": -1.0}, "tol"),
        ((SETS,), {"n_jobs": 0}, "n_jobs"),
        ((SETS,), {"sample_weight": np.ones(7)}, r"shape \(155,\)"),
        ((SETS,), {"sample_weight": [np.ones(7)] * 3}, "an array for each set"),
        ((SETS,), {"sample_weight": [-np.ones(len(own)) for own in SETS]}, "sample_weight"),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        fit_mixtures(*arguments, **options)


@pytest.mark.parametrize(
    "cotangent, options, message",
    [
        ((None, None, None), {"mode": "exact"}, "mode must be one of"),
        ((None, None, None), {"tol": 0.0}, "tol must be"),
        ((None, None), {}, "cotangent must be"),
        (3, {}, "cotangent must be"),
        ((None, np.ones((2, 2)), None), {}, r"means of these full mixtures have shape \(3, 2, 2\)"),
        ((np.full((3, 2), np.nan), None, None), {}, "weights contain NaN"),
    ],
)
def test_gradients_refused(cotangent, options, message):
    fits = fit_mixtures(SETS, initial=STARTS)
    with pytest.raises(ValueError, match=message):
        fits.vjp(cotangent, **options)


def test_a_derivative_that_overflows_is_refused():
    initial = MixtureParameters(np.ones(1), np.zeros((1, 1)), np.ones((1, 1)), "diag")
    fits = fit_mixtures([[[0.0], [1e3], [2e3]]], initial=initial, covariance_type="diag")
    with pytest.raises(ValueError, match="overflows"):
        fits.vjp((None, None, np.full((1, 1, 1), 1e308)))
