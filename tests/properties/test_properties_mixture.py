"""What every fit of a DifferentiableGaussianMixture owes its user, whatever the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties.strategies import (
    SPREADS,
    TYPES,
    Refused,
    Untouched,
    assert_finite,
    assert_same_mixture,
    budget,
    clouds,
    expanded,
    gentle_clouds,
    kinds,
    mixtures,
    outcome,
    powers,
    result_or_none,
    sample_weights,
    seeds,
    start_of,
)

from skgmmot import DifferentiableGaussianMixture
from skgmmot.families import FAMILIES
from skgmmot.parameters import MixtureParameters

# Rounding of the bound, relative to its terms: the matrix way is taken where it errs by less.
BOUND_ROUNDING = 1e-9

options = st.fixed_dictionaries(
    {
        "covariance_type": kinds,
        "n_components": st.integers(1, 5),
        "init_params": st.sampled_from(["kmeans", "k-means++", "random", "random_from_data"]),
        "acceleration": st.sampled_from([None, "auto", "newton", "lbfgs", "anderson"]),
        "e_step": st.sampled_from(["softmax", "softmax", "softmax", "sinkhorn"]),
        "temperature": st.sampled_from([1.0, 1.0, 1.0, 1e-3, 30.0, (4.0, 1.0)]),
        "fixed_weights": st.booleans(),
        "max_iter": st.sampled_from([0, 1, 30]),
        "random_state": st.integers(0, 3),
        "n_init": st.sampled_from([1, 1, 2]),
    }
)
regs = st.sampled_from(["default", "none", "small", "large"])


def reg_covar(name, scale):
    return {"default": 1e-6, "none": 0.0, "small": 1e-6 * scale**2, "large": 0.1 * scale**2}[name]


def fitted(X, weight=None, **params):
    """A fit that made the steps it was asked for."""
    mixture = DifferentiableGaussianMixture(**params)
    return outcome(lambda: mixture.fit(X, sample_weight=weight))[0]


def few_steps(cloud, kind, n_components, weight=None, X=None, *, n_steps=5, **params):
    """A few plain steps from a start that is a function of the cloud."""
    params = {"reg_covar": 1e-3} | start_of(cloud, n_components, kind) | params
    return fitted(
        cloud.X if X is None else X,
        weight,
        n_components=n_components,
        covariance_type=kind,
        max_iter=n_steps,
        tol=0.0,
        residual_tol=0.0,
        **params,
    )


def assert_valid(mixture, X):
    """Finite, of the right shapes and type, weights of sum one, covariances positive definite."""
    K, d, kind = mixture.n_components, X.shape[1], mixture.covariance_type
    theta = mixture.parameters_
    shapes = (K,), (K, d), FAMILIES[kind].shape(K, d)
    for part, shape in zip(theta, shapes, strict=True):
        assert part.shape == shape and part.dtype == X.dtype
    for part in (mixture.precisions_, mixture.precisions_cholesky_):
        assert part.shape == shapes[2] and part.dtype == X.dtype
    assert_finite(*theta, mixture.precisions_, mixture.precisions_cholesky_)
    assert (theta.weights >= 0).all()
    assert theta.weights.sum(dtype=float) == pytest.approx(
        1, abs=10 * K * float(np.finfo(X.dtype).eps)
    )
    if kind in ("diag", "spherical"):
        assert (theta.covariances > 0).all()
    else:
        transposed = np.swapaxes(theta.covariances, -1, -2)
        size = np.abs(transposed).max()
        rounding = 10 * float(np.finfo(X.dtype).eps)
        np.testing.assert_allclose(theta.covariances, transposed, rtol=0, atol=rounding * size)
        assert (np.einsum("kaa->ka", expanded(theta)) > 0).all()
    bounds = mixture.lower_bounds_
    assert_finite(np.array(bounds), mixture.lower_bound_, mixture.residual_)
    assert len(bounds) == mixture.n_iter_ <= max(mixture.max_iter, 0)
    assert mixture.converged_ in (True, False)


def assert_consistent(mixture, X, weight=None):
    """What the methods say of rows agrees."""
    proba = mixture.predict_proba(X)
    labels = mixture.predict(X)
    values = mixture.score_samples(X)
    assert proba.shape == (len(X), mixture.n_components) and values.shape == (len(X),)
    assert proba.dtype == values.dtype == X.dtype and labels.dtype == np.int64
    assert_finite(proba, values)
    rounding = 100 * np.finfo(X.dtype).eps
    assert (proba >= 0).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=rounding)
    best = proba[np.arange(len(X)), labels]
    np.testing.assert_allclose(best, proba.max(axis=1), rtol=1e-6)
    mean = np.average(values.astype(float), weights=weight)
    size = 1.0 + np.abs(values).max()
    score = mixture.score(X, sample_weight=weight)
    np.testing.assert_allclose(score, mean, rtol=0, atol=rounding * size)
    total = len(X) if weight is None else weight.sum()
    n = mixture._n_parameters()
    aic, bic, icl = (
        getattr(mixture, name)(X, sample_weight=weight) for name in ("aic", "bic", "icl")
    )
    np.testing.assert_allclose(aic, -2 * score * total + 2 * n, rtol=1e-12)
    np.testing.assert_allclose(bic, -2 * score * total + np.log(total) * n, rtol=1e-12)
    assert icl >= bic - 1e-9 * abs(bic)


@budget(6)
@given(clouds(), options, st.sampled_from(SPREADS), regs)
def test_a_fit_is_valid_or_refused(cloud, options, spread, reg):
    X, weight = cloud.X, sample_weights(cloud, spread)
    mixture = DifferentiableGaussianMixture(reg_covar=reg_covar(reg, cloud.scale), **options)
    with Untouched(X, weight):
        if result_or_none(lambda: mixture.fit(X, sample_weight=weight)) is None:
            return
    assert_valid(mixture, X)


@budget(3)
@given(clouds(), kinds, st.integers(1, 4), regs)
def test_what_is_said_of_rows_agrees(cloud, kind, n_components, reg):
    X = cloud.X
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        random_state=0,
        reg_covar=reg_covar(reg, cloud.scale),
        max_iter=20,
    )
    if result_or_none(lambda: mixture.fit(X)) is None:
        return
    with Untouched(X):
        said_of_rows(mixture, X)


def said_of_rows(mixture, X):
    """`assert_consistent`, unless rounding to float32 has left a covariance that is singular."""
    try:
        outcome(lambda: assert_consistent(mixture, X))
    except Refused:
        if X.dtype == np.float64:
            raise


@budget(2)
@given(
    clouds(),
    kinds,
    st.integers(1, 4),
    st.sampled_from([None, "newton", "lbfgs", "anderson", "incremental"]),
    st.sampled_from([0.3, 1.0, 5.0]),
    st.sampled_from(["none", "tame", "300 decades"]),
)
def test_the_bound_never_falls(cloud, kind, n_components, acceleration, temperature, spread):
    """Without reg_covar, which is not of the likelihood that EM climbs."""
    X = cloud.X
    mixture = DifferentiableGaussianMixture(
        n_components,
        covariance_type=kind,
        acceleration=acceleration,
        temperature=temperature,
        random_state=0,
        reg_covar=0.0,
        max_iter=60,
    )
    weight = sample_weights(cloud, spread)
    if result_or_none(lambda: mixture.fit(X, sample_weight=weight)) is None:
        return
    # of a component that is flat to rounding, so is the likelihood uncertain
    matrices = expanded(mixture._theta)
    deviations = np.sqrt(np.einsum("kaa->ka", matrices))
    condition = np.linalg.cond(matrices / (deviations[:, :, None] * deviations[:, None])).max()
    if condition < 1e8:
        bounds = np.array(mixture.lower_bounds_)
        rounding = BOUND_ROUNDING * (1 + np.abs(bounds[1:]))
        assert (np.diff(bounds) >= -rounding).all(), np.diff(bounds)


# Invariance


@budget(1)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.booleans())
def test_rows_may_come_in_any_order(cloud, kind, n_components, weighted):
    weight = sample_weights(cloud, "tame" if weighted else "none")
    order = np.random.default_rng(cloud.seed).permutation(cloud.n)
    one = few_steps(cloud, kind, n_components, weight)
    other = few_steps(
        cloud, kind, n_components, None if weight is None else weight[order], cloud.X[order]
    )
    assert_same_mixture(one.parameters_, other.parameters_)
    np.testing.assert_allclose(one.lower_bounds_, other.lower_bounds_, rtol=BOUND_ROUNDING)


@budget(1)
@given(gentle_clouds(), kinds, st.integers(2, 4))
def test_components_may_come_in_any_order(cloud, kind, n_components):
    order = np.random.default_rng(cloud.seed).permutation(n_components)
    start = start_of(cloud, n_components, kind)
    one = few_steps(cloud, kind, n_components)
    permuted = {
        name: part if kind == "tied" and name == "precisions_init" else part[order]
        for name, part in start.items()
    }
    other = few_steps(cloud, kind, n_components, **permuted)
    w, m, c = one.parameters_
    expected = MixtureParameters(w[order], m[order], c if kind == "tied" else c[order], kind)
    assert_same_mixture(other.parameters_, expected)


@budget(0.5)
@given(gentle_clouds(), kinds, st.integers(1, 3))
def test_features_may_come_in_any_order(cloud, kind, n_components):
    order = np.random.default_rng(cloud.seed).permutation(cloud.d)
    start = start_of(cloud, n_components, kind)
    start["means_init"] = start["means_init"][:, order]
    one = few_steps(cloud, kind, n_components)
    other = few_steps(cloud, kind, n_components, X=cloud.X[:, order], **start)
    w, m, c = one.parameters_
    if kind in ("full", "tied"):
        c = c[..., order, :][..., order]
    elif kind == "diag":
        c = c[:, order]
    assert_same_mixture(other.parameters_, MixtureParameters(w, m[:, order], c, kind))


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), powers, st.sampled_from([0.0, 1e-3]))
def test_a_power_of_two_as_unit_changes_nothing(cloud, kind, n_components, power, reg):
    """Scaled data, start and reg_covar make a scaled fit, to 1e-11: from 1e-150 to 1e150."""
    scale = 2.0**power
    start = start_of(cloud, n_components, kind, scale=scale)
    start |= {"X": cloud.X * scale, "reg_covar": reg * scale**2}
    try:
        one = few_steps(cloud, kind, n_components, reg_covar=reg)
    except Refused:  # a component has collapsed
        with pytest.raises(Refused):
            few_steps(cloud, kind, n_components, **start)
        return
    other = few_steps(cloud, kind, n_components, **start)
    w, m, c = other.parameters_
    scaled_back = MixtureParameters(w, m / scale, c / scale**2, kind)
    assert_same_mixture(scaled_back, one.parameters_, rtol=1e-11)
    shift = cloud.d * np.log(scale)
    np.testing.assert_allclose(
        np.add(other.lower_bounds_, shift), one.lower_bounds_, atol=1e-11 * (1 + abs(shift))
    )
    assert other.residual_ == pytest.approx(one.residual_, rel=1e-6, abs=1e-11)


@budget(1)
@given(
    gentle_clouds(distance=5.0),
    kinds,
    st.integers(-490, 490),
    st.sampled_from([None, "newton", "lbfgs", "anderson", "incremental"]),
)
def test_a_whole_fit_knows_no_unit(cloud, kind, power, acceleration):
    """With its initialization by k-means, and with derivatives in its steps."""
    scale = 2.0**power
    params = {
        "n_components": cloud.clusters + 1,
        "covariance_type": kind,
        "random_state": 0,
        "acceleration": acceleration,
        "max_iter": 40,
    }
    one = fitted(cloud.X, reg_covar=1e-3, **params)
    other = fitted(cloud.X * scale, reg_covar=1e-3 * scale**2, **params)
    if acceleration is None:
        w, m, c = other.parameters_
        assert_same_mixture(MixtureParameters(w, m / scale, c / scale**2, kind), one.parameters_)
        assert other.n_iter_ == one.n_iter_ and other.converged_ == one.converged_
    elif one.converged_ and other.converged_:
        # what is accepted on the way depends on roundings of the bound
        shift = cloud.d * np.log(scale)
        assert other.lower_bound_ + shift == pytest.approx(one.lower_bound_, abs=1e-8)


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.integers(1, 30))
def test_an_offset_moves_the_means_alone(cloud, kind, n_components, power):
    """Offsets up to 1e9 standard deviations, exact in the data; the means round to them."""
    offset = 2.0**power
    one = few_steps(cloud, kind, n_components)
    start = start_of(cloud, n_components, kind)
    start["means_init"] = start["means_init"] + offset
    other = few_steps(cloud, kind, n_components, X=cloud.X + offset, **start)
    w, m, c = other.parameters_
    # a mean errs by eps |offset| / 2 in each of five steps, which move responsibilities
    rtol = 1e-10 + 50 * np.finfo(float).eps * offset
    assert_same_mixture(MixtureParameters(w, m - offset, c, kind), one.parameters_, rtol=rtol)


# Sample weights


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.integers(-990, 990))
def test_the_unit_of_weights_does_not_matter(cloud, kind, n_components, power):
    weight = sample_weights(cloud, "tame")
    one = few_steps(cloud, kind, n_components, weight)
    other = few_steps(cloud, kind, n_components, weight * 2.0**power)
    assert_same_mixture(other.parameters_, one.parameters_, rtol=1e-12)
    np.testing.assert_allclose(other.lower_bounds_, one.lower_bounds_, rtol=1e-12)


@budget(1)
@given(gentle_clouds(), kinds, st.integers(1, 3))
def test_a_weight_of_two_is_a_row_given_twice(cloud, kind, n_components):
    weight = sample_weights(cloud, "counts")
    one = few_steps(cloud, kind, n_components, weight)
    other = few_steps(cloud, kind, n_components, X=np.repeat(cloud.X, weight.astype(int), axis=0))
    assert_same_mixture(one.parameters_, other.parameters_)
    np.testing.assert_allclose(one.lower_bounds_, other.lower_bounds_, rtol=BOUND_ROUNDING)


@budget(2)
@given(
    gentle_clouds(),
    kinds,
    st.integers(1, 3),
    st.sampled_from(["kmeans", "random", "k-means++", "random_from_data"]),
    st.sampled_from([1.0, 1e100, 1e160, 1e308]),
)
def test_rows_without_weight_are_rows_left_out(cloud, kind, n_components, init, far):
    """To the bit, and wherever these rows are."""
    X, weight = cloud.X, sample_weights(cloud, "tame")
    weight[::3] = 0.0
    X[::3] *= far / np.abs(X).max()
    params = {
        "n_components": n_components,
        "covariance_type": kind,
        "init_params": init,
        "random_state": 0,
    }
    kept = weight > 0
    one, other = fitted(X, weight, **params), fitted(X[kept], weight[kept], **params)
    for part, same in zip(one.parameters_, other.parameters_, strict=True):
        np.testing.assert_array_equal(part, same)
    assert one.lower_bounds_ == other.lower_bounds_


@budget(2)
@given(gentle_clouds(), kinds, st.integers(1, 3), st.sampled_from(["300 decades", "1e±150"]))
def test_rows_of_weight_next_to_nothing_play_next_to_no_part(cloud, kind, n_components, spread):
    """Leaving out what is below 1e-25 of the largest weight changes nothing that can be seen."""
    weight = sample_weights(cloud, spread)
    kept = weight > 1e-25 * weight.max()
    kept[np.argsort(weight)[-2:]] = True
    try:
        one = few_steps(cloud, kind, n_components, weight)
        other = few_steps(cloud, kind, n_components, weight[kept], cloud.X[kept])
    except Refused as refusal:
        assert "n_components" in str(refusal)  # too few rows
        return
    live = one.weights_ > 1e-20
    np.testing.assert_allclose(one.weights_, other.weights_, atol=1e-12)
    np.testing.assert_allclose(one.means_[live], other.means_[live], rtol=1e-8, atol=1e-8)


# One far row


@budget(3)
@given(
    gentle_clouds(),
    kinds,
    st.integers(1, 3),
    st.sampled_from([1e8, 1e100, 1e150, 1e160, 1e300, 1e308]),
    st.sampled_from(["softmax", "sinkhorn"]),
    st.sampled_from([1.0, 0.1]),
)
def test_a_far_row_changes_no_answer_but_its_own(
    cloud, kind, n_components, far, e_step, temperature
):
    X = cloud.X
    mixture = few_steps(cloud, kind, n_components, e_step=e_step, temperature=temperature)
    with_far = np.concatenate([X, [far * np.where(np.arange(cloud.d) % 2, -1, 1)], X[:1]])
    for method in (mixture.predict_proba, mixture.predict, mixture.score_samples):
        alone = method(X)
        try:
            together = outcome(lambda method=method: method(with_far))[0]
        except Refused:
            assert far >= 1e150
            continue
        assert not np.isnan(together).any()
        # the far row may send all rows the centered way, which rounds otherwise
        others = np.concatenate([together[:-2], together[-1:]])
        np.testing.assert_allclose(others, np.append(alone, alone[:1], axis=0), rtol=1e-10)


# The form of the input


@budget(1)
@given(clouds(), kinds, st.integers(1, 3), st.booleans())
def test_any_number_of_threads_has_the_same_bits(cloud, kind, n_components, weighted):
    X = np.tile(cloud.X, (40, 1))  # several blocks of rows
    weight = np.tile(sample_weights(cloud, "tame"), 40) if weighted else None
    fits = []
    for n_jobs in (1, 2, 5):
        mixture = DifferentiableGaussianMixture(
            n_components, covariance_type=kind, random_state=0, max_iter=8, n_jobs=n_jobs
        )
        try:
            outcome(lambda mixture=mixture: mixture.fit(X, sample_weight=weight))
        except Refused as refusal:
            fits.append(str(refusal))
            continue
        parts = *mixture.parameters_, np.array(mixture.lower_bounds_)
        values = result_or_none(lambda mixture=mixture: mixture.score_samples(X))
        parts += () if values is None else (values,)
        fits.append([part.tobytes() for part in parts])
    assert fits[0] == fits[1] == fits[2]


@budget(1)
@given(gentle_clouds(), kinds, st.sampled_from(["float32", "float64"]))
def test_the_layout_of_the_input_does_not_matter(cloud, kind, dtype):
    X = cloud.X.astype(dtype)
    one = few_steps(cloud, kind, 2, X=X)
    wide = np.full((2 * cloud.n, cloud.d + 1), np.nan, dtype=dtype)
    wide[::2, 1:] = X
    frozen = X.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(X), wide[::2, 1:], frozen):
        other = few_steps(cloud, kind, 2, X=same)
        for part, equal in zip(one.parameters_, other.parameters_, strict=True):
            np.testing.assert_array_equal(part, equal)
            assert part.dtype == equal.dtype == dtype


# Given parameters


@budget(3)
@given(mixtures(), seeds, st.sampled_from(["float32", "float64"]))
def test_given_parameters_predict_and_sample(recipe, seed, dtype):
    w, m, c = theta = recipe.parameters
    mixture = result_or_none(
        lambda: DifferentiableGaussianMixture.from_parameters(
            w, m.astype(dtype), c, covariance_type=theta.covariance_type, random_state=seed
        )
    )
    if mixture is None:
        return
    X, labels = outcome(lambda: mixture.sample(20))[0]
    assert X.shape == (20, recipe.d) and X.dtype == dtype and labels.shape == (20,)
    assert_finite(X)
    assert (w[labels] > 0).all()
    said_of_rows(mixture, X)
    again = result_or_none(
        lambda: DifferentiableGaussianMixture.from_mixture(mixture, random_state=seed)
    )
    if again is None:  # rounding to single precision has made a covariance singular
        assert dtype == "float32"
        return
    for part, same in zip(again.parameters_, mixture.parameters_, strict=True):
        np.testing.assert_array_equal(part, same)


@budget(1)
@given(seeds, kinds, st.sampled_from([0, 6, 8, 10, 100]), st.sampled_from([0.0, 0.5, -0.9]))
def test_samples_have_the_moments_of_the_mixture(seed, kind, decades, rho):
    """Standard deviations 10^±decades side by side, in 4000 draws: to six standard errors."""
    deviations = np.array([10.0**-decades, 10.0**decades])
    covariances = {
        "diag": (deviations**2)[None],
        "spherical": deviations[:1] ** 2,
    }.get(kind, np.outer(deviations, deviations) * [[1, rho], [rho, 1]])
    if kind == "full":
        covariances = covariances[None]
    mixture = DifferentiableGaussianMixture.from_parameters(
        [1.0], [[0.0, 0.0]], covariances, covariance_type=kind, random_state=seed
    )
    X, _ = mixture.sample(4000)
    unit = deviations[:1] if kind == "spherical" else deviations
    Z = X / unit
    expected = np.eye(2) if kind in ("diag", "spherical") else np.array([[1, rho], [rho, 1]])
    np.testing.assert_allclose(Z.T @ Z / len(Z), expected, atol=6 * np.sqrt(2 / len(Z)))


# Input that cannot be used


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["X", "sample_weight"])
def test_numbers_that_are_none_are_refused(kind, bad, where):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(20, 2)), np.ones(20)
    if where == "X":
        X = X.astype(np.result_type(X, bad))
        X[3, 1] = bad
    else:
        weight = weight.astype(np.result_type(weight, bad))
        weight[3] = bad
    mixture = DifferentiableGaussianMixture(2, covariance_type=kind, random_state=0)
    with pytest.raises(Refused):
        outcome(lambda: mixture.fit(X, sample_weight=weight))
