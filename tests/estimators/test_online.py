"""`partial_fit`: how an estimator begins on a stream, follows it, and what it keeps of it."""

import pickle

import naive
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skgmmot import (
    ChunkedRows,
    DifferentiableGaussianMixture,
    MixtureParameters,
    mixture_wasserstein,
)
from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.plotting import ConvergenceDisplay

TYPES = ("full", "tied", "diag", "spherical")
all_types = pytest.mark.parametrize("kind", TYPES)
RNG = np.random.default_rng(0)
TRUTH = naive.random_mixture(RNG, 3, 2, "full", spread=3.0)
X = naive.sample(RNG, TRUTH, 1200)
WEIGHT = RNG.uniform(0.5, 2.0, size=len(X))


def mixture_of(kind="full", **params):
    defaults = {"random_state": 0, "n_jobs": 1, "learning_offset": 1.0}
    return DifferentiableGaussianMixture(3, covariance_type=kind, **defaults | params)


def given(kind="full", *, spread=1.0):
    """All that a mixture starts from."""
    theta = naive.random_mixture(np.random.default_rng(1), 3, 2, kind)
    precisions = 1 / theta.covariances
    if kind in ("full", "tied"):
        precisions = np.linalg.inv(theta.covariances)
    means = TRUTH.means + spread * np.random.default_rng(2).normal(size=(3, 2))
    return {"weights_init": theta.weights, "means_init": means, "precisions_init": precisions}


def stream(mixture, rows, size, weight=None):
    for begin in range(0, len(rows), size):
        part = slice(begin, begin + size)
        own = None if weight is None else weight[part]
        mixture = mixture.partial_fit(rows[part], sample_weight=own)
    return mixture


def one_em_step(mixture, rows, weight=None):
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 steps"):
        return mixture.set_params(max_iter=1).fit(rows, sample_weight=weight)


def assert_same(a, b):
    """The same mixture, bit by bit."""
    for part, other in zip(a.parameters_, b.parameters_, strict=True):
        np.testing.assert_array_equal(part, other)


def public(mixture):
    return {name for name in vars(mixture) if name.endswith("_") and name[0] != "_"}


# A step


@all_types
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": [4.0, 2.0]}, {"fixed_weights": True}, {"reg_covar": 0.5}],
    ids=lambda options: "".join(options) or "plain",
)
def test_the_first_step_without_an_offset_is_one_em_step(kind, dtype, options):
    rows, start = X.astype(dtype), given(kind)
    online = mixture_of(kind, learning_offset=0.0, **start, **options)
    online.partial_fit(rows, sample_weight=WEIGHT)
    options |= {"temperature": np.atleast_1d(options.get("temperature", 1.0))[-1]}
    once = one_em_step(mixture_of(kind, **start, **options), rows, WEIGHT)
    assert_same(online, once)
    assert online.lower_bound_ == once.lower_bound_
    assert online.means_.dtype == dtype


@all_types
def test_steps_are_those_of_the_textbook(kind):
    start = given(kind)
    mixture = mixture_of(kind, learning_decay=0.75, learning_offset=2.0, **start, reg_covar=0.1)
    parts = [slice(0, 50), slice(50, 51), slice(51, 300)]
    for part in parts:
        mixture.partial_fit(X[part], sample_weight=WEIGHT[part])
    covariances = 1 / start["precisions_init"]
    if kind in ("full", "tied"):
        covariances = np.linalg.inv(start["precisions_init"])
    theta = MixtureParameters(start["weights_init"], start["means_init"], covariances, kind)
    expected = naive.online_em(
        [(X[part], WEIGHT[part]) for part in parts],
        theta,
        [(t + 2.0) ** -0.75 for t in (1, 2, 3)],
        reg_covar=0.1,
    )
    assert naive.errors(mixture.parameters_, expected) < 1e-12
    assert (mixture.n_steps_, mixture.n_samples_seen_) == (3, 300)


@all_types
def test_a_stream_ends_at_the_batch_fit(kind):
    start = given(kind, spread=0.3)
    batch = mixture_of(kind, **start).fit(X)
    online = mixture_of(kind, **start)
    for _ in range(3):
        stream(online, X, 100)
    assert 0 < batch.score(X) - online.score(X) < 1e-2
    before = batch.score(X) - mixture_of(kind, max_iter=0, **start).fit(X).score(X)
    assert before > 0.1


def test_a_hundred_batches_come_within_a_thousandth_of_the_batch_fit():
    """With the defaults, where components do not overlap much; bench_stream.py has others."""
    rng = np.random.default_rng(9)
    truth = naive.random_mixture(rng, 5, 3, "full", spread=3.0)
    roots = np.linalg.cholesky(truth.covariances)
    labels = rng.choice(5, size=100_000, p=truth.weights)
    noise = rng.normal(size=(100_000, 3, 1))
    rows = truth.means[labels] + (roots[labels] @ noise)[..., 0]
    first = DifferentiableGaussianMixture(5, max_iter=0, random_state=0).fit(rows[:1000])
    start = {"weights_init": first.weights_, "means_init": first.means_}
    start["precisions_init"] = first.precisions_
    best = DifferentiableGaussianMixture(5, **start).fit(rows).score(rows)
    online = stream(DifferentiableGaussianMixture(5, **start), rows, 1000)
    assert best - first.score(rows) > 0.03
    assert 0 < best - online.score(rows) < 1e-3


def test_an_offset_keeps_the_start_longer():
    start = given(spread=0.3)

    def lost(offset):
        mixture = stream(mixture_of(**start, learning_offset=offset), X, 100)
        return best - mixture.score(X)

    best = mixture_of(**start).fit(X).score(X)
    assert 0 < 10 * lost(0.0) < lost(100.0)


def test_weights_of_rows_count_within_a_batch_alone():
    ours = stream(mixture_of(**given()), X[:400], 100, WEIGHT)
    uneven = np.repeat([1.0, 64.0, 2.0**-80, 4.0], 100)  # powers of two
    assert_same(ours, stream(mixture_of(**given()), X[:400], 100, WEIGHT[:400] * uneven))
    other = stream(mixture_of(**given()), X[:400], 100)
    assert abs(ours.means_ - other.means_).max() > 1e-3


def test_rows_of_weight_zero_are_left_out():
    weight = np.where(np.arange(400) % 3 == 0, 0.0, WEIGHT[:400])
    ours = stream(mixture_of(**given()), X[:400], 100, weight)
    mixture = mixture_of(**given())
    for begin in range(0, 400, 100):
        rows = np.arange(begin, begin + 100)
        rows = rows[weight[rows] > 0]
        mixture.partial_fit(X[rows], sample_weight=weight[rows])
    assert_same(ours, mixture)
    assert ours.n_samples_seen_ == np.count_nonzero(weight)


def test_a_batch_without_weight_is_refused():
    mixture = mixture_of(**given()).partial_fit(X[:100])
    with pytest.raises(ValueError, match="sample_weight: no row .* Skip the batch"):
        mixture.partial_fit(X[:10], sample_weight=np.zeros(10))
    assert mixture.n_steps_ == 1


def test_float32_rounds_what_is_shown_and_not_what_goes_on():
    single = stream(mixture_of(**given()), X.astype(np.float32), 10)
    double = stream(mixture_of(**given()), X.astype(np.float32).astype(np.float64), 10)
    assert single.means_.dtype == np.float32
    # E-steps of float32 rows are made in float64
    for part, other in zip(single.parameters_, double.parameters_, strict=True):
        np.testing.assert_allclose(part, other, rtol=3e-7, atol=1e-7)
    assert single._record.end.means.dtype == np.float64


# The beginning


def test_rows_are_collected_until_there_are_enough():
    mixture = mixture_of().partial_fit(X[:100]).partial_fit(X[100:149])
    assert mixture.n_steps_ == 0 and mixture.n_samples_seen_ == 149
    message = "collected 149 rows and needs 1 more"
    for call in (
        lambda: mixture.predict(X),
        lambda: mixture.score(X),
        lambda: mixture.sample(),
        lambda: mixture.parameters_,
        lambda: mixture.to_sklearn(),
        lambda: mixture.gradient_wrt_data(X, (None, np.zeros((3, 2)), None)),
    ):
        with pytest.raises(NotFittedError, match=message):
            call()
    with pytest.raises(ValueError, match="is not fitted; call fit first"):
        mixture_wasserstein(mixture, TRUTH)
    mixture.partial_fit(X[149:150])
    assert mixture.n_steps_ == 1 and mixture.n_samples_seen_ == 150
    assert_same(mixture, mixture_of().partial_fit(X[:150]))


def test_many_features_need_more_rows():
    rows = np.random.default_rng(0).normal(size=(239, 40))
    mixture = mixture_of().partial_fit(rows)
    with pytest.raises(NotFittedError, match="needs 1 more"):
        mixture.predict(rows)


def test_collected_rows_keep_their_weights():
    mixture = mixture_of().partial_fit(X[:50])
    mixture.partial_fit(X[50:100], sample_weight=2.0**100 * WEIGHT[50:100])
    mixture.partial_fit(X[100:200], sample_weight=WEIGHT[100:200])
    weight = np.concatenate([np.ones(50), 2.0**100 * WEIGHT[50:100], WEIGHT[100:200]])
    assert_same(mixture, mixture_of().partial_fit(X[:200], sample_weight=weight))
    unweighted = mixture_of().partial_fit(X[:200])
    assert abs(mixture.means_ - unweighted.means_).max() > 1e-2


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_collected_rows_are_copies(weight):
    """A stream may use its buffers again."""
    buffer, own = X[:100].copy(), None if weight is None else weight[:100].copy()
    mixture = mixture_of().partial_fit(buffer, sample_weight=own)
    buffer[:] = 0.0
    if own is not None:
        own[:] = 1.0
    mixture.partial_fit(X[100:200], None, None if weight is None else weight[100:200])
    expected = mixture_of().partial_fit(X[:200], None, None if weight is None else weight[:200])
    assert_same(mixture, expected)


def test_collected_rows_initialize_as_a_fit_would():
    mixture = mixture_of(learning_offset=0.0).partial_fit(X[:300])
    start = mixture_of(max_iter=0).fit(X[:300])
    once = one_em_step(mixture_of(), X[:300])
    assert_same(mixture, once)
    assert abs(mixture.means_ - start.means_).max() > 0


def test_nothing_is_collected_where_all_is_given():
    mixture = mixture_of(**given()).partial_fit(X[:1])
    assert mixture.n_steps_ == 1
    start = given()
    del start["weights_init"]
    assert mixture_of(**start).partial_fit(X[:1]).n_steps_ == 0
    uniform = mixture_of(**start, fixed_weights=True).partial_fit(X[:1])
    np.testing.assert_array_equal(uniform.weights_, np.full(3, 1 / 3))


def test_initial_parameters_are_checked_in_the_first_call():
    with pytest.raises(ValueError, match="means_init must have shape"):
        mixture_of(means_init=np.zeros((2, 2))).partial_fit(X[:5])


# After a fit, and before one


@all_types
@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_one_component_has_the_mean_of_all_rows(kind, first):
    """α = 1 without an offset weighs all rows alike, those of a fit too."""
    mixture = DifferentiableGaussianMixture(
        covariance_type=kind, learning_decay=1.0, learning_offset=0.0, n_jobs=1, reg_covar=0.125
    )
    getattr(mixture, first)(X[:300])
    stream(mixture, X[300:], 300)
    assert mixture.n_samples_seen_ == len(X)
    expected = clone(mixture).fit(X).parameters_
    assert naive.errors(mixture.parameters_, expected) < 1e-13


def test_a_fit_counts_as_steps_of_the_size_of_the_next_batch():
    fitted = mixture_of().fit(X)
    start = {"weights_init": fitted.weights_, "means_init": fitted.means_}
    start["precisions_init"] = np.linalg.inv(fitted.covariances_)
    # 1200 rows are 12 batches, on top of the offset of one
    again = mixture_of(**start, learning_offset=13.0).partial_fit(X[:100])
    fitted.partial_fit(X[:100])
    assert naive.errors(fitted.parameters_, again.parameters_) < 1e-12
    assert fitted.n_steps_ == 1 and fitted.n_samples_seen_ == 1300
    # and go on being so many
    again.partial_fit(X[100:150])
    fitted.partial_fit(X[100:150])
    assert naive.errors(fitted.parameters_, again.parameters_) < 1e-12


def test_a_stream_leaves_nothing_of_the_fit_before():
    with pytest.warns(ConvergenceWarning):
        mixture = mixture_of(e_step="sinkhorn", max_iter=3).fit(X)
    assert {"marginal_error_", "residual_", "lower_bounds_"} <= public(mixture)
    mixture.set_params(e_step="softmax").partial_fit(X[:100])
    assert public(mixture) == {
        "weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "converged_",
        "n_iter_", "lower_bound_", "n_steps_", "n_samples_seen_", "n_features_in_",
    }  # fmt: skip
    assert not mixture.converged_ and mixture.n_iter_ == mixture.n_steps_ == 1
    with pytest.raises(ValueError, match="no lower_bounds_"):
        ConvergenceDisplay.from_estimator(mixture)


@pytest.mark.parametrize("n_rows", [100, 600])
def test_a_fit_starts_anew(n_rows):
    mixture = stream(mixture_of(), X[:n_rows], 100).fit(X)
    fresh = mixture_of().fit(X)
    assert_same(mixture, fresh)
    assert vars(mixture).keys() == vars(fresh).keys()
    assert mixture.n_samples_seen_ == len(X)


def test_a_warm_start_goes_on_from_the_stream():
    mixture = stream(mixture_of(**given(), warm_start=True), X, 100)
    expected, _ = naive.em_step(X, mixture.parameters_, reg_covar=1e-6)
    assert naive.errors(one_em_step(mixture, X).parameters_, expected) < 1e-12


def test_given_parameters_begin_with_the_first_step():
    start = mixture_of(**given(), max_iter=0).fit(X)
    from_them = DifferentiableGaussianMixture.from_parameters(*start.parameters_, random_state=0)
    from_them.partial_fit(X[:100])
    other = mixture_of(**given(), learning_offset=10.0).partial_fit(X[:100])
    assert naive.errors(from_them.parameters_, other.parameters_) < 1e-12
    assert from_them.n_samples_seen_ == 100


def test_parameters_set_by_hand_are_gone_on_from():
    mixture = stream(mixture_of(**given()), X[:300], 100)
    untouched = pickle.loads(pickle.dumps(mixture)).partial_fit(X[:100])
    mixture.means_ = mixture.means_ + 1.0
    before = mixture.means_
    mixture.partial_fit(X[:100])
    assert abs(mixture.means_ - untouched.means_).max() > 0.1
    assert abs(mixture.means_ - before).max() < 1.0
    assert mixture.n_steps_ == 4


def test_reg_covar_may_be_changed_between_batches():
    mixture = stream(mixture_of(**given(), reg_covar=100.0, learning_offset=0.0), X[:300], 300)
    assert np.linalg.eigvalsh(mixture.covariances_).min() > 100
    mixture.set_params(reg_covar=0.0).partial_fit(X[:100])
    assert np.linalg.eigvalsh(mixture.covariances_).max() < 30


# What is refused


@pytest.mark.parametrize(
    "name, value, cure",
    [
        ("n_init", 2, "set n_init=1"),
        ("e_step", "sinkhorn", "use fit"),
        ("acceleration", "lbfgs", "acceleration='auto' or None"),
        ("acceleration", "newton", "acceleration='auto' or None"),
        ("acceleration", "anderson", "acceleration='auto' or None"),
    ],
)
def test_what_a_stream_lacks_is_refused(name, value, cure):
    with pytest.raises(ValueError, match=f"{name}='?{value}'? has no meaning.*{cure}"):
        mixture_of(**{name: value}).partial_fit(X)


def test_plain_steps_may_be_asked_for():
    assert_same(
        mixture_of(acceleration=None).partial_fit(X), mixture_of(acceleration="auto").partial_fit(X)
    )


@pytest.mark.parametrize("first", ["fit", "partial_fit", "collect"])
def test_other_features_are_refused(first):
    frame = pd.DataFrame(X, columns=["a", "b"])
    mixture = mixture_of()
    if first == "fit":
        mixture.fit(frame)
    else:
        mixture.partial_fit(frame[:20] if first == "collect" else frame)
    assert list(mixture.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        mixture.partial_fit(frame.assign(c=0.0))
    bare = clone(mixture).partial_fit(X)
    with pytest.raises(ValueError, match="X has 3 features, but"):
        bare.partial_fit(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="feature names"):
        mixture.partial_fit(frame.rename(columns={"a": "c"}))
    mixture.partial_fit(frame)
    assert mixture.n_steps_ == {"fit": 1, "partial_fit": 2, "collect": 1}[first]


def test_other_components_are_refused():
    mixture = mixture_of().partial_fit(X)
    with pytest.raises(ValueError, match="n_components was changed to 4, .* has 3 components"):
        mixture.set_params(n_components=4).partial_fit(X)
    with pytest.raises(ValueError, match="covariance_type was changed to 'diag'"):
        mixture.set_params(n_components=3, covariance_type="diag").partial_fit(X)


def test_squares_that_overflow_are_refused():
    mixture = mixture_of().partial_fit(X)
    with pytest.raises(ValueError, match="sums of squares overflow"):
        mixture.partial_fit(1e200 * X)
    with pytest.raises(CollapsedComponentError, match="is not finite"):
        mixture.partial_fit(np.full((3, 2), 1e200))


# Failures, and what is kept


def left_as_it_was(mixture, call, error, **match):
    """That the call fails, and leaves every attribute as it is."""
    before = dict(vars(mixture))
    with pytest.raises(error, **match):
        call()
    assert vars(mixture).keys() == before.keys()
    assert all(vars(mixture)[name] is value for name, value in before.items())


def test_a_collapse_names_the_component_and_leaves_the_mixture_as_it_was():
    theta = mixture_of(max_iter=0, **given()).fit(X).parameters_
    options = {"reg_covar": 0.0, "learning_offset": 0.0}
    mixture = DifferentiableGaussianMixture.from_parameters(*theta, **options)
    point = np.repeat(TRUTH.means[:1], 5, axis=0)
    left_as_it_was(
        mixture,
        lambda: mixture.partial_fit(point),
        CollapsedComponentError,
        match="component 0, 1, 2 is not positive definite",
    )
    unfitted = mixture_of(**given(), **options)
    left_as_it_was(unfitted, lambda: unfitted.partial_fit(point), CollapsedComponentError)
    # what is there already holds a component up
    mixture.partial_fit(X).partial_fit(point)


@pytest.mark.parametrize("n_rows", [20, 300], ids=["collecting", "following"])
def test_an_interrupt_leaves_the_stream_as_it_was(n_rows, monkeypatch):
    mixture = stream(mixture_of(), X[:n_rows], n_rows)
    same = pickle.loads(pickle.dumps(mixture))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skgmmot.estimators.online.lost_components", interrupted)
        left_as_it_was(mixture, lambda: mixture.partial_fit(X), KeyboardInterrupt)
    assert_same(mixture.partial_fit(X[:200]), same.partial_fit(X[:200]))


@all_types
@pytest.mark.parametrize("n_rows", [20, 300], ids=["collecting", "following"])
def test_a_pickle_goes_on_with_the_same_bits(kind, n_rows):
    mixture = stream(mixture_of(kind), X[:n_rows], n_rows, WEIGHT)
    read = pickle.loads(pickle.dumps(mixture))
    assert b"CentredStatistics" not in pickle.dumps(mixture)
    for part in (slice(300, 500), slice(500, 510)):
        mixture.partial_fit(X[part], sample_weight=WEIGHT[part])
        read.partial_fit(X[part], sample_weight=WEIGHT[part])
        assert_same(mixture, read)
    assert read.n_steps_ == mixture.n_steps_


def test_a_clone_has_parameters_alone():
    mixture = stream(mixture_of(learning_decay=0.6), X, 300)
    copy = clone(mixture)
    assert public(copy) == set() and copy.learning_decay == 0.6
    assert_same(stream(copy, X, 300), mixture)


def test_a_component_that_has_lost_all_is_warned_of():
    start = given()
    start["means_init"][1] = 1e6
    mixture = mixture_of(**start, learning_offset=0.0)
    with pytest.warns(ConvergenceWarning, match="Component 1 lost all its mass") as told:
        mixture.partial_fit(X)
    assert told[0].filename == __file__
    np.testing.assert_array_equal(mixture.means_[1], [1e6, 1e6])
    # it has not where something of it is left
    stream(mixture_of(**start), X, 300)


# With the rest of the package


def test_gradients_are_about_a_fixed_point_and_say_so():
    mixture = stream(mixture_of(**given()), X, 300)
    cotangent = (None, np.ones((3, 2)), None)
    with pytest.warns(ConvergenceWarning, match="differentiates a fixed point of EM"):
        gradient = mixture.gradient_wrt_data(X, cotangent)
    with pytest.raises(ValueError, match="found by partial_fit"):
        mixture.gradient_wrt_data(X, cotangent, mode="unrolled")
    same = DifferentiableGaussianMixture.from_parameters(*mixture.parameters_)
    with pytest.warns(ConvergenceWarning, match="differentiates a fixed point of EM"):
        np.testing.assert_allclose(gradient, same.gradient_wrt_data(X, cotangent), rtol=1e-9)
    np.testing.assert_allclose(
        mixture.gradient_wrt_data(X, cotangent, mode="one_step"),
        same.gradient_wrt_data(X, cotangent, mode="one_step"),
        rtol=1e-12,
    )


def test_scikit_learn_gets_the_mixture():
    mixture = stream(mixture_of(), X, 300)
    theirs = mixture.to_sklearn()
    np.testing.assert_allclose(theirs.score_samples(X), mixture.score_samples(X), rtol=1e-10)
    assert theirs.n_iter_ == 4 and theirs.lower_bound_ == mixture.lower_bound_


def test_weights_can_be_routed():
    with config_context(enable_metadata_routing=True):
        mixture = mixture_of().set_partial_fit_request(sample_weight=True)
        assert mixture.get_metadata_routing().partial_fit.requests == {"sample_weight": True}


def test_a_batch_is_in_memory():
    with pytest.raises(ValueError, match="X is ChunkedRows, .* Pass an array in memory"):
        mixture_of().partial_fit(ChunkedRows(X, chunk_size=100))
