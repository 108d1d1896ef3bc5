"""Coupled fits of arrays on a device, which stands on the host in tests, and what they answer."""

import pickle

import naive
import numpy as np
import pytest
from device_data import Foreign, close, fetched
from stand_ins import ShownRows

from skgmmot import ChunkedRows, CoupledGMMFitter
from skgmmot.metrics import bic_scorer
from skgmmot.parameters import COVARIANCE_TYPES

# How far the two may be apart: statistics to 1e-12, which some dozens of sweeps hand on.
FITTED, ANSWERED = 1e-8, 1e-10
PARTS = "weights_", "means_", "covariances_"
ANSWERS = (
    "transform",
    "inverse_transform",
    "mass_factors",
    "predict",
    "predict_proba",
    "score_samples",
)


def fitter(**options):
    defaults = {"n_components": (3, 2), "random_state": 0, "residual_tol": 1e-7, "tol": 1e-7}
    return CoupledGMMFitter(**defaults | options)


@pytest.fixture(scope="module")
def clouds():
    """Clear components, some of whose rows have no weight."""
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    X = np.repeat(centers, [100, 130, 90], axis=0) + rng.normal(size=(320, 2))
    Y = np.repeat(centers[:2] + [0.5, 1.0], [140, 120], axis=0) + rng.normal(size=(260, 2))
    weights = [rng.uniform(0.2, 2.0, len(rows)) for rows in (X, Y)]
    for weight in weights:
        weight[50:90:3] = 0.0
    return (X, Y), weights


def same_fits(device, host, tolerance=FITTED):
    """Two fits with the same parameters, all of which are on the host."""
    for name in ("source_mixture_", "target_mixture_"):
        pair = (getattr(own, name) for own in (device, host))
        close(*([getattr(mixture, part) for part in PARTS] for mixture in pair), tolerance)
    assert device.objective_ == pytest.approx(host.objective_, rel=tolerance)
    assert isinstance(device.transport_.plan, np.ndarray)


@pytest.mark.parametrize(
    "options",
    [
        *({"covariance_type": kind} for kind in COVARIANCE_TYPES),
        {"reg": 0.3, "reg_m": (1.0, 2.0), "transport_weight": 0.1},
        {"freeze_target": True, "fixed_weights": True},
        {"transport_weight": 0.0},
        {"init_size": 100},
        {"init_size": None, "init_params": "random_from_data"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_fits_are_those_of_the_host(device_cupy, clouds, options):
    (X, Y), (weight_X, weight_Y) = clouds
    there = [device_cupy.asarray(rows) for rows in (X, Y, weight_X, weight_Y)]
    host = fitter(**options).fit_pair(
        X, Y, sample_weight_source=weight_X, sample_weight_target=weight_Y
    )
    device = fitter(**options).fit_pair(
        *there[:2], sample_weight_source=there[2], sample_weight_target=there[3]
    )
    same_fits(device, host)
    for found, given in zip(there, (X, Y, weight_X, weight_Y), strict=True):
        np.testing.assert_array_equal(found.get(), given)


@pytest.fixture(scope="module")
def fitted(clouds):
    """Fitted on the host, with mass that changes."""
    return fitter(reg_m=2.0, transport_weight=0.1).fit_pair(*clouds[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_answers_are_those_of_the_host(device_cupy, clouds, fitted, dtype):
    X = np.concatenate(clouds[0]).astype(dtype)
    domain = np.repeat([1, -1], [len(rows) for rows in clouds[0]])[::-1]
    rows, labels = device_cupy.asarray(X), device_cupy.asarray(np.ascontiguousarray(domain))
    tolerance = ANSWERED if dtype == np.float64 else 1e-5
    for name in ANSWERS:
        for here, own in ((None, None), (-1, -1), (domain, labels)):
            expected = getattr(fitted, name)(X, sample_domain=here)
            found = getattr(fitted, name)(rows, sample_domain=own)
            close([fetched(device_cupy, found, expected)], [expected], tolerance)


def test_scores_are_those_of_the_host(device_cupy, clouds, fitted):
    X, weight = (np.concatenate(parts) for parts in clouds)
    domain = np.repeat([1, -1], [len(rows) for rows in clouds[0]])
    rows, labels, own = map(device_cupy.asarray, (X, domain, weight))
    for name in ("score", "aic", "bic", "icl"):
        for here, there in ((None, None), (weight, own)):
            expected = getattr(fitted, name)(X, domain, sample_weight=here)
            found = getattr(fitted, name)(rows, labels, sample_weight=there)
            assert isinstance(found, float) and found == pytest.approx(expected, rel=ANSWERED)


@pytest.mark.parametrize("labels", [(1, -1), (0, 7), (2.5, 0.5)])
def test_rows_with_domains(device_cupy, clouds, labels):
    (X, Y), weights = clouds
    order = np.random.default_rng(0).permutation(len(X) + len(Y))
    rows, weight = np.concatenate([X, Y])[order], np.concatenate(weights)[order]
    domain = np.repeat(labels, [len(X), len(Y)])[order]
    host = fitter(n_components=2).fit(rows, domain, sample_weight=weight)
    own = map(device_cupy.asarray, (rows, domain, weight))
    rows, domain, weight = own
    device = fitter(n_components=2).fit(rows, domain, sample_weight=weight)
    same_fits(device, host)
    assert device.domains_ == host.domains_
    moved = fitter(n_components=2).fit_transform(rows, sample_domain=domain, sample_weight=weight)
    expected = device.transform(rows, sample_domain=domain)
    np.testing.assert_array_equal(moved.get(), expected.get())


def test_precisions_of_both_clouds_are_one(device_cupy, clouds):
    X, Y = clouds[0]
    single = X.astype(np.float32)
    host = fitter().fit_pair(single, Y)
    device = fitter().fit_pair(device_cupy.asarray(single), device_cupy.asarray(Y))
    same_fits(device, host)
    assert device.source_mixture_.means_.dtype == np.float64


def test_a_warm_start_goes_on(device_cupy, clouds):
    rows = [device_cupy.asarray(cloud) for cloud in clouds[0]]
    host, device = (fitter(warm_start=True, max_iter=0) for _ in range(2))
    host.fit_pair(*clouds[0])
    assert device.fit_pair(*rows).n_iter_ == 0
    for fits in (host, device):
        fits.set_params(max_iter=1000)
    # a fit goes on where the last one has ended, wherever that was
    same_fits(device.fit_pair(*rows), host.fit_pair(*clouds[0]))
    assert host.fit_pair(*rows).n_iter_ < device.n_iter_


@pytest.mark.parametrize("mode", ["implicit", "one_step"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_the_host(device_cupy, clouds, mode, weighted):
    names = "sample_weight_source", "sample_weight_target"
    weights = dict(zip(names, clouds[1], strict=True)) if weighted else {}
    there = [device_cupy.asarray(rows) for rows in clouds[0]]
    own = {name: device_cupy.asarray(weight) for name, weight in weights.items()}
    host = fitter().fit_pair(*clouds[0], **weights)
    rng = np.random.default_rng(1)
    bars = [
        naive.random_cotangent(rng, getattr(host, name).parameters_)
        for name in ("source_mixture_", "target_mixture_")
    ]
    options = {"mode": mode, "tol": 1e-7}
    expected = host.gradient_wrt_data(*clouds[0], *bars, **weights, **options)
    found = host.gradient_wrt_data(*there, *bars, **own, **options)
    outs = [device_cupy.empty(rows.shape) for rows in there]
    given = dict(zip(("out_source", "out_target"), outs, strict=True))
    written = host.gradient_wrt_data(*there, *bars, **own, **options, **given)
    for part, out, like in zip(found, written, expected, strict=True):
        close([fetched(device_cupy, part, like)], [like], 1e-8)
        np.testing.assert_array_equal(out.get(), part.get())
    assert written[0] is outs[0] and written[1] is outs[1]


def test_nothing_of_the_size_of_the_data_goes_to_and_fro(device_cupy, device_traffic, clouds):
    """But the rows that k-means sees, at most init_size of each cloud."""
    there = [device_cupy.asarray(np.tile(rows, (20, 1))) for rows in clouds[0]]
    device_traffic.clear()
    device = fitter(init_size=100).fit_pair(*there)
    device.gradient_wrt_data(*there, (None, np.ones((3, 2)), None))
    for name in ANSWERS:
        getattr(device, name)(there[0])
    device.score(there[0])
    largest = 2 * 100 * 2 * 8  # of both clouds together
    assert max(size for _, size in device_traffic) <= largest < there[1].nbytes / 20


def test_arrays_of_another_library(device_cupy, clouds):
    there = [Foreign(device_cupy.asarray(rows)) for rows in clouds[0]]
    weight = Foreign(device_cupy.asarray(clouds[1][1]))
    host = fitter().fit_pair(*clouds[0], sample_weight_target=clouds[1][1])
    device = fitter().fit_pair(*there, sample_weight_target=weight)
    same_fits(device, host)
    expected = host.transform(clouds[0][0])
    found = device.transform(there[0])
    close([fetched(device_cupy, found, expected)], [expected], FITTED)
    cotangent = None, np.ones((3, 2)), None
    options = {"sample_weight_target": weight}
    found = device.gradient_wrt_data(*there, cotangent, mode="one_step", **options)
    options = {"sample_weight_target": clouds[1][1]}
    expected = device.gradient_wrt_data(*clouds[0], cotangent, mode="one_step", **options)
    for part, like in zip(found, expected, strict=True):
        close([fetched(device_cupy, part, like)], [like], 1e-8)


def test_pickles_hold_nothing_of_the_device(device_cupy, clouds):
    device = fitter().fit_pair(*map(device_cupy.asarray, clouds[0]))
    pickled = pickle.dumps(device)
    assert b"cupy" not in pickled and b"cuda_on_host" not in pickled
    same_fits(pickle.loads(pickled), device, 1e-15)


def test_callbacks_are_shown_rows_of_the_device(device_cupy, clouds):
    there = [device_cupy.asarray(rows) for rows in (*clouds[0], *clouds[1])]
    callback = ShownRows()
    weights = dict(zip(("sample_weight_source", "sample_weight_target"), there[2:], strict=True))
    fitter().set_callbacks(callback).fit_pair(*there[:2], **weights)
    X, metadata = callback.shown[0]
    np.testing.assert_array_equal(X.get(), np.concatenate(clouds[0]))
    expected = np.repeat([1, -1], [len(rows) for rows in clouds[0]])
    np.testing.assert_array_equal(metadata["sample_domain"].get(), expected)
    np.testing.assert_allclose(metadata["sample_weight"].get(), np.concatenate(clouds[1]))


def test_scorers_hand_rows_on(device_cupy, clouds, fitted):
    X, domain = np.concatenate(clouds[0]), np.repeat([1, -1], [len(rows) for rows in clouds[0]])
    there = device_cupy.asarray(X), device_cupy.asarray(domain)
    assert bic_scorer(fitted, *there) == pytest.approx(bic_scorer(fitted, X, domain), rel=ANSWERED)


@pytest.mark.parametrize(
    "fails, complaint",
    [
        (lambda f, X, there: f.fit_pair(there, X), "X_source is on.*X_target is not.*asarray"),
        (lambda f, X, there: f.fit_pair(X, there), "X_target is on.*X_source is not.*asnumpy"),
        (
            lambda f, X, there: f.fit_pair(there, ChunkedRows([X])),
            "X_source is on a CUDA device, X_target is not",
        ),
        (
            lambda f, X, there: f.fit_pair(there, there, sample_weight_target=X[:, 0]),
            "X_target is on a CUDA device, sample_weight_target is not",
        ),
        (
            lambda f, X, there: f.fit_pair(X, X, sample_weight_source=there[:, 0]),
            "sample_weight_source is on a CUDA device, X_source is not",
        ),
        (
            lambda f, X, there: f.fit(there, X[:, 0] > 1),
            "X is on a CUDA device, y is not. Pass cupy.asarray",
        ),
        (
            lambda f, X, there: f.fit(X, sample_domain=there[:, 0] > 1),
            "sample_domain is on a CUDA device, X is not",
        ),
        (
            lambda f, X, there: f.fit(there, there > 1),
            r"y must have shape \(n_samples,\)",
        ),
        (lambda f, X, there: f.fit(there, there[:, 0] > 99), "got 1 class: False"),
        (lambda f, X, there: f.fit(there, there[:9, 0] > 1), "inconsistent numbers of samples"),
        (lambda f, X, there: f.fit(there, there[:, 0] / 0.0), "y contains NaN or infinity"),
        (
            lambda f, X, there: f.transform(there, sample_domain=np.ones(len(X))),
            "X is on a CUDA device, sample_domain is not",
        ),
        (
            lambda f, X, there: f.transform(there, sample_domain=there[:, 0] > 1),
            "the label .* is not one of the fit",
        ),
        (
            lambda f, X, there: f.gradient_wrt_data(there, X),
            "X_source is on a CUDA device, X_target is not",
        ),
        (
            lambda f, X, there: f.gradient_wrt_data(there, there, out_source=X),
            "X_source is on a CUDA device, out_source is not",
        ),
        (
            lambda f, X, there: f.gradient_wrt_data(X, X, (None, there[:3], None)),
            "cotangent: the means must be on the host.*cupy.asnumpy",
        ),
        (lambda f, X, there: f.fit_pair(there / 0.0, there), "X_source: .*NaN or infinity"),
    ],
)
def test_what_is_on_two_sides_is_refused(device_cupy, clouds, fitted, fails, complaint):
    X = clouds[0][0]
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match=complaint):
        fails(fitted, X, device_cupy.asarray(X))
    assert vars(fitted) == before
