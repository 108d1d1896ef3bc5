"""What every coupled fit owes its user: no crash, no mass lost, an objective that never falls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.strategies import (
    Cloud,
    Refused,
    Untouched,
    are_apart,
    assert_finite,
    assert_same_mixture,
    budget,
    clouds,
    kinds,
    outcome,
    result_or_none,
    sample_weights,
    seeds,
)

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture, mixture_transport

transport_weights = st.sampled_from([0.0, 1e-3, 0.01, 1.0, 30.0, 1e3, 1e4, 1e6])
variants = st.sampled_from(
    [
        {},
        {"reg": 0.1},
        {"reg": 1e-3},
        {"reg_m": 1.0},
        {"reg_m": (0.5, 20.0)},
        {"reg_m": 1e-3},
        {"reg_m": (1.0, np.inf), "reg": 0.1},
        {"reg_m": 1e4},
        {"freeze_target": True},
        {"freeze_target": True, "reg": 0.3},
        {"freeze_target": True, "reg_m": 2.0},
        {"fixed_weights": True},
        {"fixed_weights": True, "reg": 0.3},
        {"fixed_weights": True, "freeze_target": True},
        {"fixed_weights": True, "reg_m": 1.0},
    ]
)
components = st.sampled_from([1, 2, 3, (1, 3), (2, 3), (3, 2), (4, 2)])


@st.composite
def pairs(draw):
    """Two clouds of ordinary size, near or far apart."""
    d = draw(st.sampled_from([1, 1, 2, 3]))
    seed = draw(seeds)
    recipe = {"d": d, "distance": draw(st.sampled_from([3.0, 5.0, 30.0]))}
    one = Cloud(seed, n=draw(st.integers(8, 60)), clusters=draw(st.integers(1, 3)), **recipe)
    other = Cloud(
        seed + 1,
        n=draw(st.integers(8, 60)),
        clusters=draw(st.integers(1, 3)),
        offset=draw(st.sampled_from([0.0, 1.0, 100.0, 1e4])),
        **recipe,
    )
    return one, other


def assert_valid(fitter, X, Y, *, reg_covar=1e-6):
    bounds = np.array(fitter.lower_bounds_)
    assert_finite(bounds, fitter.objective_, fitter.residual_, fitter.mw2_, *fitter.reweighting_)
    assert len(bounds) == fitter.n_iter_ + 1
    plan, pair = fitter.transport_.plan, (fitter.source_mixture_, fitter.target_mixture_)
    assert_finite(plan, fitter.transport_.value)
    for mixture, rows in zip(pair, (X, Y), strict=True):
        assert_finite(*mixture.parameters_)
        assert all(part.dtype == rows.dtype for part in mixture.parameters_)
        rounding = 100 * float(np.finfo(rows.dtype).eps)
        assert mixture.weights_.sum() == pytest.approx(1, abs=rounding)
        assert (mixture.weights_ >= 0).all()
    if fitter.reg_m is None:
        rounding = 1e-8 + 10 * float(np.finfo(X.dtype).eps)
        for axis, mixture in zip((1, 0), pair, strict=True):
            np.testing.assert_allclose(plan.sum(axis=axis), mixture.weights_, rtol=0, atol=rounding)


def assert_never_falls(fitter):
    bounds = np.array(fitter.lower_bounds_)
    penalty = fitter.transport_weight * fitter.transport_.value
    rounding = 1e-9 * (1 + np.abs(bounds[1:]) + penalty)
    assert (np.diff(bounds) >= -rounding).all(), np.diff(bounds)


@budget(0.6)
@given(pairs(), components, kinds, transport_weights, variants, st.sampled_from([1e-6, 0.05]))
def test_a_coupled_fit_is_valid_and_never_falls(
    pair, n_components, kind, transport_weight, variant, reg_covar
):
    X, Y = (cloud.X for cloud in pair)
    fitter = CoupledGMMFitter(
        n_components,
        covariance_type=kind,
        transport_weight=transport_weight,
        reg_covar=reg_covar,
        max_iter=40,
        random_state=0,
        **variant,
    )
    with Untouched(X, Y):
        try:
            outcome(lambda: fitter.fit_pair(X, Y))
        except Refused as refusal:
            # there are rows enough, so nothing but flat components is a reason
            assert "not positive definite" in str(refusal)
            return
    assert_valid(fitter, X, Y)
    if transport_weight:
        assert_never_falls(fitter)
    if variant.get("fixed_weights"):
        for mixture in (fitter.source_mixture_, fitter.target_mixture_):
            K = mixture.n_components
            np.testing.assert_allclose(mixture.weights_, np.full(K, 1 / K), rtol=1e-12)
    moved = result_or_none(lambda: fitter.transform(X))
    if moved is not None:
        assert moved.shape == X.shape
        assert_finite(moved)
    elif not variant.get("reg_m"):
        raise AssertionError("a balanced plan moves nothing")


@budget(0.6)
@given(clouds(), clouds(), st.sampled_from([1, 2, (2, 3)]), kinds, transport_weights, variants)
def test_hostile_clouds_are_fitted_or_refused(
    one, other, n_components, kind, transport_weight, variant
):
    Y = other.X
    X = Cloud(**{**vars(one), "d": other.d, "power": other.power, "dtype": other.dtype}).X
    unit = other.scale**2
    variant = {
        name: tuple(unit * part for part in value) if isinstance(value, tuple) else unit * value
        if name in ("reg", "reg_m") else value
        for name, value in variant.items()
    }  # fmt: skip
    fitter = CoupledGMMFitter(
        n_components,
        covariance_type=kind,
        transport_weight=transport_weight / unit,
        reg_covar=1e-4 * unit,
        max_iter=15,
        random_state=0,
        **variant,
    )
    with Untouched(X, Y):
        if result_or_none(lambda: fitter.fit_pair(X, Y)) is None:
            return
    assert_valid(fitter, X, Y)


@budget(0.6)
@given(pairs(), components, kinds, st.sampled_from([0.0, 0.05]))
def test_without_transport_the_fits_are_those_of_single_mixtures(
    pair, n_components, kind, reg_covar
):
    X, Y = (cloud.X for cloud in pair)
    options = {"covariance_type": kind, "reg_covar": reg_covar, "random_state": 0, "max_iter": 200}
    fitter = CoupledGMMFitter(n_components, transport_weight=0.0, **options)
    n_pair = np.broadcast_to(n_components, 2)
    fitted = result_or_none(lambda: fitter.fit_pair(X, Y))
    single = [
        result_or_none(
            lambda n=n, rows=rows: DifferentiableGaussianMixture(int(n), **options).fit(rows)
        )
        for n, rows in zip(n_pair, (X, Y), strict=True)
    ]
    if fitted is None or None in single:
        assert fitted is None and None in single
        return
    likelihoods = [mixture.score(rows) for mixture, rows in zip(single, (X, Y), strict=True)]
    assert fitter.objective_ >= sum(likelihoods) - 1e-6 * (1 + np.abs(likelihoods).sum())


@budget(0.6)
@given(pairs(), components, kinds, transport_weights, variants)
def test_what_the_attributes_say_agrees(pair, n_components, kind, transport_weight, variant):
    X, Y = (cloud.X for cloud in pair)
    fitter = CoupledGMMFitter(
        n_components,
        covariance_type=kind,
        transport_weight=transport_weight,
        reg_covar=0.05,
        max_iter=10,
        random_state=0,
        **variant,
    )
    outcome(lambda: fitter.fit_pair(X, Y))
    a, b = fitter.source_mixture_, fitter.target_mixture_
    transport = outcome(lambda: mixture_transport(a, b, reg=fitter.reg, reg_m=fitter.reg_m))[0]
    unit = np.abs(transport.cost_matrix).max()
    assert fitter.transport_.value == pytest.approx(transport.value, rel=1e-7, abs=1e-9 * unit)
    penalty = transport_weight * fitter.transport_.value
    expected = a.score(X) + b.score(Y) - penalty
    assert fitter.objective_ == pytest.approx(expected, rel=1e-9, abs=1e-9 * (1 + penalty))
    domain = np.repeat([1, -1], [len(X), len(Y)])
    both = np.concatenate([X, Y])
    np.testing.assert_allclose(
        fitter.score(both, sample_domain=domain), 0.5 * (a.score(X) + b.score(Y)), rtol=1e-12
    )
    labels = fitter.predict(both, sample_domain=domain)
    np.testing.assert_array_equal(labels, np.concatenate([a.predict(X), b.predict(Y)]))
    proba = fitter.predict_proba(both, sample_domain=domain)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=1e-12)


@budget(0.6)
@given(pairs(), components, kinds, st.sampled_from([0.0, 0.01, 1.0, 1e3]), variants)
def test_rows_without_weight_and_threads_do_not_matter(
    pair, n_components, kind, transport_weight, variant
):
    X, Y = (cloud.X for cloud in pair)
    weights = [sample_weights(cloud, "tame") for cloud in pair]
    for weight in weights:
        weight[::4] = 0.0
    X[::4] = 1e160
    kept = [weight > 0 for weight in weights]
    reached = []
    for n_jobs, part in ((1, False), (2, False), (1, True)):
        fitter = CoupledGMMFitter(
            n_components,
            covariance_type=kind,
            transport_weight=transport_weight,
            reg_covar=0.05,
            max_iter=10,
            random_state=0,
            n_jobs=n_jobs,
            **variant,
        )
        rows, s = (X, Y), weights
        if part:
            rows = [A[k] for A, k in zip(rows, kept, strict=True)]
            s = [w[k] for w, k in zip(s, kept, strict=True)]
        outcome(
            lambda fitter=fitter, rows=rows, s=s: fitter.fit_pair(
                *rows, sample_weight_source=s[0], sample_weight_target=s[1]
            )
        )
        reached.append(fitter)
    for other in reached[1:]:
        for name in ("source_mixture_", "target_mixture_"):
            one, same = (getattr(fitter, name).parameters_ for fitter in (reached[0], other))
            for left, right in zip(one, same, strict=True):
                np.testing.assert_array_equal(left, right)


@budget(0.6)
@given(pairs(), kinds, st.sampled_from([1e-3, 0.01, 1.0]), variants, st.integers(-240, 240))
def test_coupled_fits_know_no_unit(pair, kind, transport_weight, variant, power):
    """Data in another unit, and options in its square: the same fit.

    Line searches carry roundings on, where transport weighs a lot: to 1e-7 of the objective.
    """
    X, Y = (cloud.X for cloud in pair)
    scale = 2.0**power
    fits = []
    for unit in (1.0, scale):
        options = dict(variant)
        for name in ("reg", "reg_m"):
            if name in options:
                options[name] = (
                    tuple(part * unit**2 for part in options[name])
                    if isinstance(options[name], tuple)
                    else options[name] * unit**2
                )
        fitter = CoupledGMMFitter(
            2,
            covariance_type=kind,
            transport_weight=transport_weight / unit**2,
            reg_covar=0.05 * unit**2,
            max_iter=3,
            random_state=0,
            **options,
        )
        fits.append(outcome(lambda f=fitter, u=unit: f.fit_pair(X * u, Y * u))[0])
    rng = np.random.default_rng(0)
    w, m, c = (rng.normal(size=part.shape) for part in fits[0].source_mixture_.parameters_)
    one, other = (
        outcome(
            lambda f=fitter, u=unit: f.gradient_wrt_data(
                X * u, Y * u, (w, m / u, c / u**2), mode="one_step"
            )
        )[0]
        for fitter, unit in zip(fits, (1.0, scale), strict=True)
    )
    for actual, expected in zip(other, one, strict=True):
        size = np.abs(one[0]).max()
        np.testing.assert_allclose(actual * scale, expected, rtol=0, atol=1e-3 * size)
    shift = 2 * X.shape[1] * np.log(scale)
    size = 1 + abs(fits[0].objective_) + abs(shift)
    assert fits[1].objective_ + shift == pytest.approx(fits[0].objective_, abs=1e-7 * size)
    for name in ("source_mixture_", "target_mixture_"):
        one, other = (getattr(fitter, name).parameters_ for fitter in fits)
        assert_same_mixture(
            (other.weights, other.means / scale, other.covariances / scale**2), one, rtol=1e-4
        )


@budget(0.3)
@given(pairs(), components, kinds, st.sampled_from([0.0, 0.01, 1.0, 1e3]), variants, seeds)
def test_coupled_gradients_are_finite_linear_and_invariant(
    pair, n_components, kind, transport_weight, variant, seed
):
    X, Y = (cloud.X for cloud in pair)
    fitter = CoupledGMMFitter(
        n_components,
        covariance_type=kind,
        transport_weight=transport_weight,
        reg_covar=0.05,
        residual_tol=1e-9,
        max_iter=300,
        random_state=0,
        **variant,
    )
    outcome(lambda: fitter.fit_pair(X, Y))
    rng = np.random.default_rng(seed)
    cotangents = []
    for mixture in (fitter.source_mixture_, fitter.target_mixture_):
        w, m, c = (rng.normal(size=part.shape) for part in mixture.parameters_)
        cotangents.append((w - w.mean(), m, c))

    def gradients(mode, factor=1.0):
        scaled = [tuple(factor * part for part in cotangent) for cotangent in cotangents]
        try:
            return outcome(lambda: fitter.gradient_wrt_data(X, Y, *scaled, mode=mode))
        except Refused as refusal:
            assert "GMRES" in str(refusal)
            return None

    for mode in ("one_step", "implicit"):
        found = gradients(mode)
        if found is None:
            continue
        (by_source, by_target), told = found
        assert by_source.shape == X.shape and by_target.shape == Y.shape
        assert_finite(by_source, by_target)
        if told:
            continue
        size = np.abs(by_source).max() + np.abs(by_target).max()
        twice = gradients(mode, 2.0)[0]
        for one, two in zip((by_source, by_target), twice, strict=True):
            np.testing.assert_allclose(two, 2 * one, rtol=0, atol=1e-5 * size)
        pair_is_apart = are_apart(fitter.source_mixture_) and are_apart(fitter.target_mixture_)
        if mode == "implicit" and pair_is_apart and not variant.get("freeze_target"):
            # moving both clouds moves all means with them
            total = by_source.sum(axis=0) + by_target.sum(axis=0)
            expected = sum(cotangent[1].sum(axis=0) for cotangent in cotangents)
            size = np.abs(by_source).sum() + np.abs(by_target).sum()
            np.testing.assert_allclose(total, expected, rtol=0, atol=1e-4 * size)
