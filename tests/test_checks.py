"""The structure that holds a mixture's parameters, and the reading of mixture-like objects."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import CoupledGMMFitter, mixture_wasserstein
from skgmmot.checks import as_cotangent, as_full, as_parameters, initial_parts
from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES, MixtureParameters

WEIGHTS = np.array([0.25, 0.75])
MEANS = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
COVARIANCES = {
    "full": np.stack([np.eye(3), 2 * np.eye(3)]),
    "tied": np.eye(3),
    "diag": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "spherical": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_type_is_read_from_the_shape(kind):
    parameters = MixtureParameters(WEIGHTS, MEANS, COVARIANCES[kind])
    assert parameters.covariance_type == kind
    assert (parameters.n_components, parameters.n_features) == (2, 3)
    assert COVARIANCES[kind].shape == FAMILIES[kind].shape(2, 3)


def test_parameters_unpack():
    weights, means, covariances = MixtureParameters(WEIGHTS, MEANS, COVARIANCES["full"])
    assert weights is WEIGHTS and means is MEANS and covariances is COVARIANCES["full"]


def test_square_covariances_leave_the_type_open():
    arguments = (WEIGHTS, MEANS[:, :2], np.eye(2))
    assert MixtureParameters(*arguments).covariance_type is None
    assert MixtureParameters(*arguments, "tied").covariance_type == "tied"
    with pytest.raises(ValueError, match=r"a: covariances of shape \(2, 2\) could be tied or diag"):
        as_parameters(arguments, "a")
    assert as_parameters(MixtureParameters(*arguments, "diag")).covariance_type == "diag"


def test_single_component_is_diag_where_it_could_be_tied():
    assert (
        MixtureParameters(np.ones(1), np.zeros((1, 1)), np.ones((1, 1))).covariance_type == "diag"
    )
    assert MixtureParameters(np.ones(1), np.zeros((1, 3)), np.eye(3)).covariance_type == "tied"


def test_cotangent_may_lack_parts():
    cotangent = MixtureParameters(None, MEANS, None)
    assert cotangent.covariance_type is None
    assert list(cotangent)[::2] == [None, None]


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_expanded_covariances(kind):
    matrices = FAMILIES[kind].matrices(COVARIANCES[kind], 2, 3)
    assert matrices.shape == (2, 3, 3)
    expected = {
        "full": COVARIANCES["full"],
        "tied": [np.eye(3), np.eye(3)],
        "diag": [np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 5.0, 6.0])],
        "spherical": [np.eye(3), 2 * np.eye(3)],
    }[kind]
    np.testing.assert_array_equal(matrices, expected)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_full_mixture_of_every_type(kind):
    full = as_full(MixtureParameters(WEIGHTS, MEANS, COVARIANCES[kind]))
    assert full.covariance_type == "full" and full.means is MEANS
    np.testing.assert_array_equal(
        full.covariances, FAMILIES[kind].matrices(COVARIANCES[kind], 2, 3)
    )


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_pull_is_the_transpose_of_expand(kind):
    rng = np.random.default_rng(0)
    covariances = rng.normal(size=FAMILIES[kind].shape(4, 3))
    matrices = rng.normal(size=(4, 3, 3))
    pulled = FAMILIES[kind].pull(matrices)
    assert pulled.shape == covariances.shape
    expanded = FAMILIES[kind].matrices(covariances, 4, 3)
    np.testing.assert_allclose((expanded * matrices).sum(), (covariances * pulled).sum())


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_reading_of_every_form(kind):
    X = np.random.default_rng(0).normal(size=(60, 3))
    mixture = GaussianMixture(2, covariance_type=kind, random_state=0).fit(X)
    parts = (mixture.weights_, mixture.means_, mixture.covariances_)
    for form in (mixture, parts, list(parts), MixtureParameters(*parts, kind)):
        parameters = as_parameters(form)
        assert parameters.covariance_type == kind
        for found, expected in zip(parameters, parts, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_lists_become_arrays():
    parameters = as_parameters(([1], [[0, 0]], [[1, 2]]))
    assert parameters.covariance_type == "diag"
    assert all(part.dtype == np.float64 for part in parameters)


@pytest.mark.parametrize(
    "given, asked, returned",
    [
        (np.float32, np.float64, np.float64),
        (np.float64, np.float32, np.float32),
        (np.float32, None, np.float32),
        (np.float64, None, np.float64),
        (np.int64, None, np.float64),
    ],
)
def test_dtype(given, asked, returned):
    parts = (np.ones(1, given), np.zeros((1, 2), given), np.ones((1, 2), given))
    assert {part.dtype for part in as_parameters(parts, dtype=asked)} == {np.dtype(returned)}


def test_rounding_of_single_precision_is_allowed_for():
    """A float32 fit is as symmetric as float32 sums are, in whatever type it is asked for."""
    covariance = np.array([[1.0, 0.5], [0.5 + 1e-5, 1.0]])
    double = (np.ones(1), np.zeros((1, 2)), covariance[None])
    single = tuple(part.astype(np.float32) for part in double)
    as_parameters(single)
    with pytest.raises(ValueError, match="must be symmetric"):
        as_parameters(double)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_singular_covariances_are_valid(kind):
    singular = [0 * COVARIANCES[kind]]
    if kind == "full":
        v = np.array([1.0, 2.0, 3.0]) / 7  # an outer product has eigenvalues -1e-17
        singular.append(np.stack([np.outer(v, v)] * 2))
    for covariances in singular:
        taken = as_parameters((WEIGHTS, MEANS, covariances))
        np.testing.assert_array_equal(taken.covariances, covariances)


def test_given_weights_are_scaled_to_one():
    """A sum that is one but for rounding, as they are accepted, would add up step by step."""
    weights, means, covariances = initial_parts([0.3, 0.7 + 5e-7], None, None, (2, 3), "full")
    assert weights.sum() == pytest.approx(1.0, abs=1e-15)
    assert weights[0] == pytest.approx(0.3 / (1 + 5e-7), rel=1e-15)
    assert means is None and covariances is None


INDEFINITE = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    "mixture, message",
    [
        (GaussianMixture(), "this GaussianMixture is not fitted; call fit first"),
        (np.zeros(3), "must be a fitted mixture, a MixtureParameters or a tuple"),
        ((WEIGHTS, MEANS), "must be a fitted mixture, a MixtureParameters or a tuple"),
        (MixtureParameters(WEIGHTS, MEANS, None), "the covariances contain NaN or infinity"),
        ((WEIGHTS, MEANS * np.nan, np.eye(3)), "the means contain NaN or infinity"),
        ((WEIGHTS, MEANS, [1.0, np.inf]), "the covariances contain NaN or infinity"),
        ((WEIGHTS[:1], MEANS, np.eye(3)), "weights must have shape"),
        ((WEIGHTS, MEANS[0], np.ones(2)), "weights must have shape"),
        (([], np.zeros((0, 2)), []), "weights must have shape"),
        ((WEIGHTS, MEANS, np.ones(3)), "spherical covariances of 2 components"),
        ((WEIGHTS, MEANS, np.ones((2, 3, 2))), "full covariances of 2 components"),
        ((WEIGHTS, MEANS, np.ones((3, 2))), "tied covariances of 2 components"),
        ((WEIGHTS - 0.1, MEANS, np.eye(3)), "sum to 1; got a minimum of 0.15 and a sum of 0.8"),
        (([-0.25, 1.25], MEANS, np.eye(3)), "non-negative and sum to 1; got a minimum of -0.25"),
        ((WEIGHTS, MEANS, np.triu(np.ones((3, 3)))), "the covariances must be symmetric"),
        ((WEIGHTS, MEANS, INDEFINITE), "semi-definite; the smallest eigenvalue is -1"),
        ((WEIGHTS, MEANS, -COVARIANCES["diag"]), "semi-definite; the smallest eigenvalue is -6"),
        ((WEIGHTS, MEANS, [1.0, -2.0]), "semi-definite; the smallest eigenvalue is -2"),
        (MixtureParameters(WEIGHTS, MEANS, np.eye(3), "round"), "covariance_type must be one of"),
    ],
)
def test_invalid_mixtures_are_refused_by_name(mixture, message):
    with pytest.raises(ValueError, match="^target.*" + message):
        as_parameters(mixture, "target")


X = np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 5.0] + [2.0, 3.0]


def searched(estimator, **options):
    prefix = "gaussianmixture__" if hasattr(estimator, "steps") else ""
    return GridSearchCV(estimator, {f"{prefix}n_components": [1, 2]}, cv=2, **options).fit(X)


@pytest.mark.parametrize("wrap", ["pipeline", "search", "search of a pipeline", "pipeline twice"])
def test_the_final_mixture_of_a_pipeline_or_search_is_taken(wrap):
    mixture = GaussianMixture(2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), mixture)
    fitted, inner = {
        "pipeline": lambda: (pipeline.fit(X), pipeline[-1]),
        "pipeline twice": lambda: (make_pipeline(pipeline).fit(X), pipeline[-1]),
        "search": lambda: (search := searched(mixture), search.best_estimator_),
        "search of a pipeline": lambda: (
            search := searched(pipeline),
            search.best_estimator_[-1],
        ),
    }[wrap]()
    for part, expected in zip(as_parameters(fitted), as_parameters(inner), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert mixture_wasserstein(fitted, inner) < 1e-12


@pytest.mark.parametrize(
    "estimator, message",
    [
        (make_pipeline(StandardScaler(), GaussianMixture()), "GaussianMixture is not fitted; call"),
        (GridSearchCV(GaussianMixture(), {}), "this GridSearchCV is not fitted; call fit first"),
        (searched(GaussianMixture(), refit=False), "keeps no fitted mixture; fit it with refit="),
        (KMeans(2, n_init=1, random_state=0).fit(X), "this KMeans is no Gaussian mixture: it has"),
        (
            make_pipeline(StandardScaler(), "passthrough").fit(X),
            "must be a fitted mixture.* str",
        ),
    ],
)
def test_an_estimator_without_a_mixture_is_refused_with_the_cure(estimator, message):
    with pytest.raises(ValueError, match="^target.*" + message):
        as_parameters(estimator, "target")


def test_two_coupled_mixtures_are_not_one():
    with pytest.raises(ValueError, match="^a: this CoupledGMMFitter holds two mixtures; pass its"):
        as_parameters(CoupledGMMFitter(random_state=0).fit_pair(X, X + 1), "a")


@pytest.mark.parametrize("part", ["weights", "means", "covariances"])
def test_complex_numbers_are_refused(part):
    theta = MixtureParameters(WEIGHTS, MEANS, COVARIANCES["diag"], "diag")
    message = f"the {part} must be real; got complex numbers"
    for imaginary in (0.0, 1.0):  # zero is no better: the type says what the caller holds
        mixture = replace(theta, **{part: getattr(theta, part) + 1j * imaginary})
        with pytest.raises(ValueError, match="^target: " + message):
            as_parameters(mixture, "target")
        with pytest.raises(ValueError, match="^cotangent: " + message):
            as_cotangent(tuple(mixture), theta)
    given = {"weights": WEIGHTS + 0j, "means": None, "covariances": None}
    with pytest.raises(ValueError, match="^weights_init must be real"):
        initial_parts(*given.values(), MEANS.shape, "diag")


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_cotangent_of_another_type_is_refused_also_where_its_shape_fits(kind):
    """Three components in three dimensions: tied and diag have one shape."""
    identity = {"full": np.stack([np.eye(3)] * 3), "spherical": np.ones(3)}.get(kind, np.eye(3))
    theta = MixtureParameters(np.ones(3) / 3, np.eye(3), identity, kind)
    matrices = np.random.default_rng(0).normal(size=(3, 3, 3))
    for other in COVARIANCE_TYPES:
        cotangent = MixtureParameters(None, None, FAMILIES[other].pull(matrices), other)
        if other in ("full", kind):
            found = as_cotangent(cotangent, theta).covariances
            expected = FAMILIES[kind].pull(matrices)
            if kind in ("full", "tied"):
                expected = (expected + np.swapaxes(expected, -1, -2)) / 2
            np.testing.assert_allclose(found, expected, rtol=1e-15)
        else:
            with pytest.raises(ValueError, match=f"are {other}, those of the mixture {kind}"):
                as_cotangent(cotangent, theta)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, None])
def test_parameters_have_arrays_of_their_own(dtype):
    parts = [WEIGHTS.copy(), MEANS.copy(), COVARIANCES["diag"].copy()]
    taken = as_parameters(tuple(parts), dtype=dtype)
    for part, own in zip(parts, taken, strict=True):
        assert not np.shares_memory(part, own)
