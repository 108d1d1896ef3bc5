"""Flows of points, against the same steps written by hand and against what is known to happen."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skgmmot import (
    DifferentiableGaussianMixture,
    MixtureFlow,
    mixture_barycenter,
    mixture_flow,
    mixture_transport,
    mixture_wasserstein,
)
from skgmmot.parameters import MixtureParameters

TARGET = MixtureParameters(
    np.array([0.4, 0.6]),
    np.array([[6.0, 0.0], [6.0, 5.0]]),
    np.array([[1.0, 0.5], [0.3, 1.0]])[:, :, None] * np.eye(2),
)


def clusters(n=120, seed=0, centers=((0.0, 0.0), (0.0, 6.0))):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(centers)
    return np.array(centers)[labels] + rng.normal(size=(n, 2)) * [0.5, 1.0]


def estimator(n_components=2, **options):
    defaults = {"random_state": 0, "reg_covar": 1e-4}
    return DifferentiableGaussianMixture(n_components, **(defaults | options))


def by_hand(X, target, *, rate, n_steps, mode, warm, adam):
    """The loop of a flow on all points, with the formulas of Kingma and Ba."""
    X = X.copy()
    mixture = estimator()
    if warm:
        mixture.fit(X).set_params(warm_start=True)
        if mode == "one_step":
            mixture.set_params(max_iter=1)
    mean, square, losses = np.zeros(X.shape), np.zeros(X.shape), []
    for step in range(1, n_steps + 1):
        transport = mixture_transport(mixture.fit(X), target)
        losses.append(transport.value)
        gradient = len(X) * mixture.gradient_wrt_data(X, transport.gradient(), mode=mode)
        if adam:
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            corrected = square / (1 - 0.999**step)
            X -= rate * mean / (1 - 0.9**step) / (np.sqrt(corrected) + rate)
        else:
            X -= rate * gradient
    losses.append(mixture_wasserstein(mixture.fit(X), target, squared=True))
    return X, losses


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize(
    "mode, warm",
    [("one_step", True), ("one_step", False), ("implicit", True), ("unrolled", False)],
)
def test_against_the_loop_by_hand(optimizer, mode, warm):
    X = clusters()
    options = {"rate": 0.1, "n_steps": 4, "mode": mode, "warm": warm}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of single EM steps
        moved, losses = by_hand(X, TARGET, adam=optimizer == "adam", **options)
    flow = mixture_flow(
        X,
        TARGET,
        estimator=estimator(),
        optimizer=optimizer,
        learning_rate=0.1,
        n_steps=4,
        mode=mode,
        warm_start=warm,
    )
    assert type(flow) is MixtureFlow
    np.testing.assert_allclose(flow.X, moved, atol=1e-12)
    np.testing.assert_allclose(flow.losses, losses, rtol=1e-11)


@pytest.mark.filterwarnings("ignore:EM did not converge:sklearn.exceptions.ConvergenceWarning")
def test_unrolled_makes_plain_steps_where_nothing_else_is_asked_for():
    """EM is slow here, and would not stay plain."""
    X = np.random.default_rng(0).normal(size=(200, 2))
    given = {"random_state": 0, "reg_covar": 1e-3, "max_iter": 60, "residual_tol": 1e-3}
    options = {"mode": "unrolled", "warm_start": False, "n_steps": 2, "learning_rate": 0.1}
    auto, plain = (
        DifferentiableGaussianMixture(2, acceleration=a, **given) for a in ("auto", None)
    )
    assert not clone(auto).fit(X)._record.path.is_plain
    flows = [mixture_flow(X, TARGET, estimator=own, **options) for own in (auto, plain)]
    np.testing.assert_array_equal(flows[0].X, flows[1].X)
    assert auto.acceleration == "auto"
    with pytest.raises(ValueError, match="acceleration=None"):
        newton = DifferentiableGaussianMixture(2, acceleration="newton", **given)
        mixture_flow(X, TARGET, estimator=newton, **options)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_defaults_reach_the_target(optimizer):
    X = clusters(centers=[(0.0, 0.0), (0.0, 0.0), (0.0, 6.0), (0.0, 6.0), (0.0, 6.0)])
    flow = mixture_flow(X, TARGET, optimizer=optimizer, random_state=0)
    assert flow.losses.shape == (201,)
    assert flow.losses[-1] < 1e-3 * flow.losses[0]
    # an estimator that knows nothing of the flow sees it too
    fitted = estimator(n_init=3).fit(flow.X)
    assert mixture_wasserstein(fitted, TARGET, squared=True) < 1e-3 * flow.losses[0]


@settings(derandomize=True, max_examples=10, deadline=None, database=None)
@given(exponent=st.integers(-6, 6), optimizer=st.sampled_from(["adam", "gd"]))
def test_default_rate_follows_the_units(exponent, optimizer):
    scale = 10.0**exponent
    target = MixtureParameters(
        TARGET.weights, scale * TARGET.means, scale**2 * TARGET.covariances, "full"
    )
    X = clusters()
    flows = [
        mixture_flow(points, goal, optimizer=optimizer, n_steps=5, random_state=0)
        for points, goal in ((X, TARGET), (scale * X, target))
    ]
    np.testing.assert_allclose(flows[1].X, scale * flows[0].X, atol=1e-6 * scale)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_number_of_points_does_not_matter(optimizer):
    """Every point given twice: the same motion."""
    X = clusters()
    options = {"optimizer": optimizer, "learning_rate": 0.1, "n_steps": 5}
    once, twice = (
        mixture_flow(points, TARGET, estimator=estimator(init_params="kmeans"), **options)
        for points in (X, np.concatenate([X, X]))
    )
    np.testing.assert_allclose(twice.X[: len(X)], once.X, atol=1e-6)
    np.testing.assert_allclose(twice.X[len(X) :], once.X, atol=1e-6)


@pytest.mark.parametrize("options", [{"reg": 0.5}, {"reg_m": 2.0}, {"reg_m": (4.0, 0.5)}])
def test_variants_of_the_loss(options):
    """The loss is that of the transport, and its gradient moves the points."""
    X, fitted = clusters(), []
    flow = mixture_flow(
        X,
        TARGET,
        estimator=estimator(),
        n_steps=2,
        callback=lambda step, X, mixture, loss: fitted.append(mixture.parameters_),
        **options,
    )
    expected = [mixture_transport(theta, TARGET, **options).value for theta in fitted]
    np.testing.assert_allclose(flow.losses[:2], expected, rtol=1e-12)
    plain = mixture_flow(X, TARGET, estimator=estimator(), n_steps=2)
    assert (np.abs(flow.losses - plain.losses) > 1e-3 * plain.losses).all()
    assert np.abs(flow.X - plain.X).max() > 1e-6


def test_half_is_the_whole_way_of_a_single_component():
    """The figure that learning_rate is explained by."""
    X = clusters()
    target = ([1.0], [[50.0, 0.0]], [1e6])
    flow = mixture_flow(
        X, target, estimator=estimator(1), optimizer="gd", learning_rate=0.5, n_steps=1
    )
    np.testing.assert_allclose(flow.X.mean(axis=0), [50.0, 0.0], atol=1e-9)


def test_several_targets_lead_to_their_barycenter():
    targets = [
        MixtureParameters(np.full(2, 0.5), np.array(means), np.array(variances), "spherical")
        for means, variances in (
            ([[8.0, 0.0], [8.0, 6.0]], [1.0, 4.0]),
            ([[-4.0, 0.0], [-4.0, 9.0]], [0.25, 1.0]),
        )
    ]
    lam = [0.25, 0.75]
    X = clusters(n=200)
    options = {"estimator": estimator(fixed_weights=True), "optimizer": "gd", "n_steps": 150}
    flow = mixture_flow(X, targets, target_weights=lam, **options)
    barycenter = mixture_barycenter(targets, lam)
    least = lam[0] * lam[1] * mixture_wasserstein(*targets, squared=True)  # on a geodesic
    assert mixture_wasserstein(flow.mixture, barycenter, squared=True) < 1e-3 * least
    np.testing.assert_allclose(flow.losses[-1], least, rtol=1e-3)
    # without weights they are all the same; a weight of one leaves the others out
    uniform = mixture_flow(X, targets, **options)
    middle = mixture_barycenter(targets)
    assert mixture_wasserstein(uniform.mixture, middle, squared=True) < 1e-3 * least
    first = mixture_flow(X, targets, target_weights=[1.0, 0.0], **options)
    np.testing.assert_array_equal(first.X, mixture_flow(X, targets[0], **options).X)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_batches(optimizer):
    """Only they move; the same seed moves the same; they arrive as well."""
    X = clusters()
    options = {"estimator": estimator(), "optimizer": optimizer, "batch_fraction": 0.25}
    first = mixture_flow(X, TARGET, n_steps=1, random_state=0, **options)
    assert (first.X != X).any(axis=1).sum() == 30
    other = mixture_flow(X, TARGET, n_steps=1, random_state=1, **options)
    assert (first.X != other.X).any()
    again = mixture_flow(X, TARGET, n_steps=1, random_state=np.random.RandomState(0), **options)
    np.testing.assert_array_equal(first.X, again.X)

    centers = [(0.0, 0.0), (0.0, 0.0), (0.0, 6.0), (0.0, 6.0), (0.0, 6.0)]
    flow = mixture_flow(
        clusters(n=400, centers=centers), TARGET, n_steps=500, random_state=0, **options
    )
    assert flow.losses[-1] < 0.02 * flow.losses[0]


def test_adam_counts_the_moves_of_each_point():
    """The first move of a point is a full one, whenever it comes."""
    X, positions = clusters(), []
    mixture_flow(
        X,
        TARGET,
        estimator=estimator(),
        learning_rate=1e-6,
        n_steps=12,
        batch_fraction=0.2,
        random_state=0,
        callback=lambda step, X, mixture, loss: positions.append(X.copy()),
    )
    for moves in np.diff(positions, axis=0).transpose(1, 0, 2):
        moves = moves[moves.any(axis=1)]
        if len(moves):
            np.testing.assert_allclose(np.abs(moves[0]), 1e-6, rtol=1e-3)


def test_callback_sees_every_step_and_can_stop():
    X, seen = clusters(), []

    def callback(step, points, mixture, loss):
        seen.append((step, points.copy(), mixture.means_, loss))
        with pytest.raises(ValueError, match="read-only"):
            points[0] = 0.0
        return step == 3

    options = {"estimator": estimator(), "optimizer": "gd", "learning_rate": 0.1}
    flow = mixture_flow(X, TARGET, n_steps=9, callback=callback, **options)
    assert [step for step, *_ in seen] == [0, 1, 2, 3]
    np.testing.assert_array_equal(seen[0][1], X)
    np.testing.assert_array_equal(flow.X, seen[3][1])
    np.testing.assert_array_equal(flow.X, mixture_flow(X, TARGET, n_steps=3, **options).X)
    assert flow.losses.shape == (4,)
    np.testing.assert_array_equal(flow.losses[:3], [loss for *_, loss in seen[:3]])
    assert (seen[0][2] != seen[3][2]).any()


@pytest.mark.parametrize("mode", ["one_step", "implicit"])
def test_warm_start_starts_from_the_last_mixture(mode):
    """A random initialization of its own in each step would show."""
    X, means = clusters(), []

    def keep(step, points, mixture, loss):
        means.append(mixture.means_)

    flow = mixture_flow(
        X,
        TARGET,
        estimator=estimator(init_params="random_from_data", random_state=np.random.RandomState(0)),
        optimizer="gd",
        learning_rate=0.01,
        n_steps=8,
        mode=mode,
        callback=keep,
    )
    assert np.abs(np.diff(means, axis=0)).max() < 0.5  # components would swap otherwise
    assert flow.mixture.n_iter_ == 1 if mode == "one_step" else flow.mixture.n_iter_ > 1


def test_nothing_of_the_user_changes():
    X = clusters()
    X.flags.writeable = False
    given = estimator(max_iter=50, warm_start=False, fixed_weights=True)
    before = given.get_params()
    flow = mixture_flow(X, TARGET, estimator=given, n_steps=2)
    assert given.get_params() == before and not hasattr(given, "means_")
    assert flow.mixture is not given and flow.mixture.get_params() == before
    np.testing.assert_array_equal(flow.mixture.weights_, [0.5, 0.5])  # its options were used


@pytest.mark.parametrize("kind", ["tied", "diag", "spherical"])
def test_covariance_types(kind):
    flow = mixture_flow(clusters(), TARGET, estimator=estimator(covariance_type=kind))
    assert flow.losses[-1] < 0.05 * flow.losses[0]
    assert flow.mixture.covariance_type == kind


def test_precision_is_that_of_the_points():
    X = clusters()
    single, double = (
        mixture_flow(X.astype(dtype), TARGET, n_steps=20, random_state=0, optimizer="gd")
        for dtype in (np.float32, np.float64)
    )
    assert single.X.dtype == single.mixture.means_.dtype == np.float32
    np.testing.assert_allclose(single.X, double.X, atol=1e-3)
    assert mixture_flow(X.astype(int), TARGET, n_steps=1, random_state=0).X.dtype == np.float64
    adam = mixture_flow(X.astype(np.float32), TARGET, n_steps=2, random_state=0)
    assert adam.X.dtype == np.float32


def test_default_estimator():
    """As many components as the largest target, and a regularization in its units."""
    one = ([1.0], [[6.0, 0.0]], [[[9.0, 0.0], [0.0, 1.0]]])
    flow = mixture_flow(clusters(), [one, TARGET], n_steps=1, random_state=0)
    mixture = flow.mixture
    assert mixture.n_components == 2 and mixture.covariance_type == "full"
    np.testing.assert_allclose(mixture.reg_covar, 9e-4)
    assert not mixture.fixed_weights
    points = (np.full(2, 0.5), TARGET.means, np.zeros(2))
    flow = mixture_flow(
        clusters(), MixtureParameters(*points, "spherical"), n_steps=200, random_state=0
    )
    assert flow.mixture.reg_covar > 0
    assert flow.losses[-1] < 1e-2 * flow.losses[0]


@pytest.mark.parametrize("learning_rate", [None, 0.1])
def test_points_at_the_target_stay(learning_rate):
    """Gradients that are rounding are not scaled up to whole steps."""
    X = clusters()
    target = estimator(1).fit(X)
    flow = mixture_flow(X, target, estimator=estimator(1), learning_rate=learning_rate, n_steps=5)
    np.testing.assert_allclose(flow.X, X, atol=1e-10)


def test_fits_that_do_not_converge_are_told_once():
    X = clusters()
    options = {"n_steps": 3, "estimator": estimator(max_iter=2, tol=0.0), "warm_start": False}
    with pytest.warns(ConvergenceWarning) as caught:
        mixture_flow(X, TARGET, **options)
    (only,) = caught
    assert re.search(
        r"in 4 of 4 fits of the flow.*residual is .*Increase max_iter", str(only.message)
    )
    assert only.filename == __file__


@pytest.mark.filterwarnings("ignore:overflow|invalid value:RuntimeWarning")
@pytest.mark.parametrize("learning_rate", [3.0, 30.0])
def test_points_that_run_away_are_an_error(learning_rate):
    with pytest.raises(RuntimeError, match="after .* steps of the flow.*decrease learning_rate"):
        mixture_flow(
            clusters(),
            TARGET,
            estimator=estimator(1),
            optimizer="gd",
            learning_rate=learning_rate,
            n_steps=1000,
        )


def test_what_led_to_an_error_is_told():
    """Fits that did not converge, before the callback stopped the flow with an error."""

    def stop(step, *_):
        if step == 2:
            raise InterruptedError

    options = {"estimator": estimator(max_iter=2, tol=0.0), "warm_start": False, "callback": stop}
    told = pytest.warns(ConvergenceWarning, match="in 3 of 3 fits of the flow")
    with told as caught, pytest.raises(InterruptedError):
        mixture_flow(clusters(), TARGET, **options)
    assert [warning.filename for warning in caught] == [__file__]


def test_what_cannot_be_fitted_at_the_start_is_the_estimators_own_error():
    with pytest.raises(ValueError, match="n_components=200"):
        mixture_flow(clusters(), TARGET, estimator=estimator(200))


def test_other_warnings_of_fits_are_passed_on():
    """Two components for one point: one of them loses its mass."""
    X = np.concatenate([clusters(), [[1e3, 1e3]]])
    near = ([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [1.0, 1.0])
    given = estimator(3, means_init=[[0.0, 3.0], [1e3, 1e3], [5e8, 5e8]])
    with pytest.warns(ConvergenceWarning, match="lost all its mass"):
        mixture_flow(X, MixtureParameters(*map(np.array, near)), estimator=given, n_steps=2)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"X": [[np.nan, 1.0], [0.0, 0.0]]}, "contains NaN"),
        ({"target": ([1.0], [[0.0]], [1.0])}, "target must have the 2 features of X; it has 1"),
        ({"target": GaussianMixture()}, "target: this GaussianMixture is not fitted"),
        ({"target": [TARGET, GaussianMixture()]}, "target[1]: this GaussianMixture is not"),
        ({"target": []}, "target must hold at least one"),
        ({"target_weights": [1.0]}, "target_weights are for a list of targets"),
        ({"target": [TARGET] * 2, "target_weights": [1.0]}, "target_weights must have shape (2,)"),
        ({"target": [TARGET], "target_weights": [0.5]}, "target_weights must be non-negative"),
        ({"estimator": GaussianMixture(2)}, "'estimator' parameter"),
        ({"optimizer": "sgd"}, "'optimizer' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"n_steps": 0}, "'n_steps' parameter"),
        ({"batch_fraction": 0.0}, "'batch_fraction' parameter"),
        ({"batch_fraction": 1.5}, "'batch_fraction' parameter"),
        ({"target_batch_fraction": 0.0}, "'target_batch_fraction' parameter"),
        ({"target_batch_fraction": 0.5}, "target_batch_fraction is for target_samples"),
        ({"target": None}, "needs a target, or target_samples; both are None"),
        ({"target_samples": clusters()}, "target_samples are instead of target"),
        ({"mode": "exact"}, "'mode' parameter"),
        ({"warm_start": "yes"}, "'warm_start' parameter"),
        ({"callback": 3}, "'callback' parameter"),
        ({"random_state": "x"}, "'random_state' parameter"),
    ],
)
def test_invalid_arguments_are_named(changes, message):
    arguments = {"X": clusters(), "target": TARGET} | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        mixture_flow(arguments.pop("X"), arguments.pop("target"), **arguments)


@pytest.mark.parametrize("batch_fraction", [1.0, 0.5])
def test_keep_path_keeps_what_a_callback_sees(batch_fraction):
    X = clusters()
    seen = []

    def watch(step, X, mixture, loss):
        seen.append((X.copy(), mixture.parameters_))
        return step == 4

    options = {"n_steps": 10, "batch_fraction": batch_fraction, "random_state": 0}
    flow = mixture_flow(X, TARGET, estimator=estimator(), callback=watch, keep_path=True, **options)
    seen[-1] = flow.X, flow.mixture.parameters_  # where it stopped, without a step
    assert len(flow.positions) == len(flow.path) == len(flow.losses) == len(seen) == 5
    for positions, path, (points, theta) in zip(flow.positions, flow.path, seen, strict=True):
        np.testing.assert_array_equal(positions, points)
        for part, expected in zip(path, theta, strict=True):
            np.testing.assert_array_equal(part, expected)
    without = mixture_flow(X, TARGET, estimator=estimator(), **(options | {"n_steps": 2}))
    assert without.positions is None and without.path is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"estimator": None}, "target_samples need an estimator, for its number of components"),
        ({"target_weights": [1.0]}, "target_samples are instead of target and target_weights"),
        ({"target_samples": np.zeros((9, 3))}, "must have the 2 features of X; they have 3"),
        ({"target_samples": [[np.nan, 0.0], [1.0, 1.0]]}, "target_samples contains NaN"),
        ({"target_batch_fraction": 0.005}, "target_batch_fraction: a batch must have 2 points"),
        (
            {"target_batch_fraction": 0.02, "estimator": estimator(4)},
            "target_batch_fraction: a batch must have 4 points at least; it has 3",
        ),
        (
            {"target_samples": clusters()[:3], "estimator": estimator(4)},
            "target_samples: a batch must have 4 points at least; it has 3",
        ),
    ],
)
def test_invalid_target_samples_are_named(changes, message):
    arguments = {"target_samples": clusters(), "estimator": estimator()} | changes
    with pytest.raises(ValueError, match=re.escape(message)):
        mixture_flow(clusters(), **arguments)


def target_points(n=150):
    return clusters(n, seed=1, centers=((6.0, 0.0), (6.0, 5.0), (6.0, 5.0)))


def test_target_samples_are_the_mixture_fitted_to_them():
    Y = target_points()
    options = {"estimator": estimator(), "optimizer": "gd", "n_steps": 5}
    given = mixture_flow(clusters(), estimator().fit(Y), **options)
    sampled = mixture_flow(clusters(), target_samples=Y, **options)
    np.testing.assert_array_equal(sampled.X, given.X)
    np.testing.assert_array_equal(sampled.losses, given.losses)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of single EM steps
@pytest.mark.parametrize(
    "mode, warm", [("one_step", True), ("one_step", False), ("implicit", True)]
)
def test_batches_of_the_target_against_the_loop_by_hand(mode, warm):
    """Fresh rows of both in each step, and fits that start where the last ones ended."""
    X, Y, rng = clusters(), target_points(), np.random.RandomState(3)
    source, target = estimator(), estimator()
    whole = target.fit(Y).parameters_
    if warm:
        source.fit(X)
        for mixture in (source, target):
            mixture.set_params(warm_start=True)
            if mode == "one_step":
                mixture.set_params(max_iter=1)
    moved, losses = X.copy(), []
    for _ in range(4):
        rows = rng.choice(len(X), 60, replace=False)
        others = rng.choice(len(Y), 50, replace=False)
        transport = mixture_transport(source.fit(moved[rows]), target.fit(Y[others]))
        losses.append(transport.value)
        gradient = source.gradient_wrt_data(moved[rows], transport.gradient(), mode=mode)
        moved[rows] -= 0.1 * 60 * gradient
    losses.append(mixture_wasserstein(source.fit(moved), whole, squared=True))
    flow = mixture_flow(
        X,
        target_samples=Y,
        estimator=estimator(),
        optimizer="gd",
        learning_rate=0.1,
        n_steps=4,
        batch_fraction=0.5,
        target_batch_fraction=1 / 3,
        mode=mode,
        warm_start=warm,
        random_state=3,
    )
    np.testing.assert_allclose(flow.X, moved, atol=1e-12)
    np.testing.assert_allclose(flow.losses, losses, rtol=1e-11)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
def test_batches_of_both_clouds_arrive(optimizer):
    """Uneven weights on both sides, the same ones."""
    X = clusters(n=300, centers=((0.0, 0.0), (0.0, 6.0), (0.0, 6.0)))
    flow = mixture_flow(
        X,
        target_samples=target_points(450),
        estimator=estimator(),
        optimizer=optimizer,
        n_steps=300,
        batch_fraction=0.5,
        target_batch_fraction=0.25,
        random_state=0,
    )
    assert flow.losses[-1] < 0.02 * flow.losses[0]


def test_expected_loss_of_batches_has_a_floor():
    """Where the points are the target's samples, batches differ and all of them do not."""
    X = clusters(n=400)
    options = {"estimator": estimator(), "learning_rate": 1e-9, "optimizer": "gd", "n_steps": 20}
    everything = mixture_flow(X, target_samples=X, **options)
    assert everything.losses.max() < 1e-6
    batches = mixture_flow(
        X,
        target_samples=X,
        batch_fraction=0.2,
        target_batch_fraction=0.2,
        random_state=0,
        **options,
    )
    assert batches.losses[:-1].min() > 1e-3  # an error of 1/√80 of means and weights, squared
    assert batches.losses[-1] < np.median(batches.losses)  # of all, a step after a batch


def test_what_target_fits_have_to_tell_names_the_target():
    given = estimator(max_iter=2, tol=0.0)
    with pytest.warns(ConvergenceWarning) as caught:
        mixture_flow(
            clusters(), target_samples=target_points(), estimator=given, n_steps=3,
            target_batch_fraction=0.5, warm_start=False,
        )  # fmt: skip
    words = [str(warning.message) for warning in caught]
    assert len(words) == 2 and "fits of the flow" in words[0]
    assert "in 4 of 4 fits of the target" in words[1]


def test_precision_of_the_points_is_kept_beside_target_samples():
    X = clusters().astype(np.float32)
    flow = mixture_flow(
        X, target_samples=target_points(), estimator=estimator(), n_steps=2, random_state=0,
        target_batch_fraction=0.5,
    )  # fmt: skip
    assert flow.X.dtype == np.float32
