"""Moving, labelling and scoring samples of two domains, alone and in meta-estimators."""

from dataclasses import replace

import numpy as np
import pytest
import sklearn
from scipy.special import xlogy
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skgmmot import CoupledGMMFitter, mixture_transport
from skgmmot.parameters import MixtureParameters


@pytest.fixture(scope="module")
def data():
    """Rows of both domains, mixed up: two clusters, moved upwards in the target."""
    rng = np.random.default_rng(0)
    domain = rng.permutation(np.repeat([1, -1], [160, 140]))
    cluster = rng.integers(2, size=300)
    X = np.column_stack([8.0 * cluster, 3.0 * (domain < 0)]) + rng.normal(size=(300, 2))
    return X, domain, cluster


@pytest.fixture(scope="module")
def fitted(data):
    X, domain, _ = data
    return CoupledGMMFitter(2, random_state=0).fit(X, domain)


def test_fit_of_rows_is_fit_of_the_pair(data, fitted):
    X, domain, _ = data
    pair = CoupledGMMFitter(2, random_state=0).fit_pair(X[domain > 0], X[domain < 0])
    assert pair.lower_bounds_ == fitted.lower_bounds_
    assert fitted.domains_ == pair.domains_ == (1, -1)
    named = CoupledGMMFitter(2, random_state=0).fit(X, np.where(domain > 0, "a", "b"))
    assert named.lower_bounds_ == fitted.lower_bounds_ and named.domains_ == ("a", "b")
    by_keyword = CoupledGMMFitter(2, random_state=0).fit(X, X[:, 0], sample_domain=domain)
    assert by_keyword.lower_bounds_ == fitted.lower_bounds_


def test_transform_moves_the_source_and_keeps_the_order(data, fitted):
    X, domain, _ = data
    moved = fitted.transform(X, sample_domain=domain)
    np.testing.assert_array_equal(moved[domain < 0], X[domain < 0])
    shift = (moved - X)[domain > 0]
    np.testing.assert_allclose(shift.mean(axis=0), [0.0, 3.0], atol=0.3)
    np.testing.assert_array_equal(fitted.fit_transform(X, domain), moved)
    back = fitted.inverse_transform(moved, sample_domain=domain)
    # the clusters are far apart, so the map of each is undone
    np.testing.assert_allclose(back, X, atol=1e-3)


def test_the_way_back_has_the_plan_of_the_way_there(data):
    """The plan of the opposite problem, whose two penalties change places, is the transpose."""
    X, domain, _ = data
    X = X / [3.0, 1.0]  # clusters that overlap, for a map that depends on the plan
    fitter = CoupledGMMFitter(2, reg=0.5, reg_m=(0.3, 5.0), random_state=0).fit(X, domain)
    there = fitter.transport_
    back = replace(mixture_transport(there.target, there.source), plan=there.plan.T)
    # plans are found to 1e-10 of their marginals
    np.testing.assert_allclose(
        fitter.inverse_transform(X, sample_domain=fitter.domains_[0]), back.map(X), atol=1e-7
    )
    assert np.abs(back.map(X) - mixture_transport(there.target, there.source).map(X)).max() > 1e-2


def test_labels_and_likelihoods_are_those_of_the_own_mixture(data, fitted):
    X, domain, cluster = data
    labels = fitted.predict(X, sample_domain=domain)
    assert (labels == labels[cluster == 0][0]).tolist() == (cluster == 0).tolist()
    log_likelihood = fitted.score_samples(X, sample_domain=domain)
    for mixture, rows in (
        (fitted.source_mixture_, domain > 0),
        (fitted.target_mixture_, domain < 0),
    ):
        np.testing.assert_array_equal(labels[rows], mixture.predict(X[rows]))
        np.testing.assert_array_equal(log_likelihood[rows], mixture.score_samples(X[rows]))
    proba = fitted.predict_proba(X, sample_domain=domain)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_array_equal(proba.argmax(axis=1), labels)


def test_rows_without_labels_are_of_the_target(data, fitted):
    """skada's `check_X_domain`: what has no labels after the fit is of the target."""
    X, target = data[0], fitted.target_mixture_
    np.testing.assert_array_equal(fitted.transform(X), X)
    np.testing.assert_array_equal(fitted.inverse_transform(X), X)
    np.testing.assert_array_equal(fitted.predict(X), target.predict(X))
    np.testing.assert_array_equal(fitted.predict_proba(X), target.predict_proba(X))
    np.testing.assert_array_equal(fitted.score_samples(X), target.score_samples(X))
    assert fitted.score(X) == pytest.approx(target.score(X), rel=1e-14)


def test_after_fit_pair_what_is_moved_is_the_source(data):
    X, domain, _ = data
    source = X[domain > 0]
    pair = CoupledGMMFitter(2, random_state=0).fit_pair(source, X[domain < 0])
    moved = pair.transform(source, sample_domain=np.ones(len(source)))
    np.testing.assert_allclose((moved - source).mean(axis=0), [0.0, 3.0], atol=0.3)
    np.testing.assert_array_equal(pair.transform(source), moved)
    np.testing.assert_allclose(pair.inverse_transform(moved), source, atol=1e-3)
    np.testing.assert_array_equal(pair.predict(X), pair.target_mixture_.predict(X))
    pair.fit(X, domain)  # the last fit counts
    np.testing.assert_array_equal(pair.transform(source), source)


def test_mass_factors_are_those_of_the_source(data):
    X, domain, _ = data
    options = {"transport_weight": 0.1, "reg": 0.01, "reg_m": 0.2, "random_state": 0}
    fitter = CoupledGMMFitter(2, **options).fit(X, domain)
    found = fitter.mass_factors(X, sample_domain=domain)
    source = domain > 0
    np.testing.assert_array_equal(found[source], fitter.transport_.mass_factors(X[source]))
    assert np.abs(found[source] - 1).max() > 0.01
    np.testing.assert_array_equal(found[~source], 1.0)
    np.testing.assert_array_equal(fitter.mass_factors(X), 1.0)  # all rows are of the target
    pair = CoupledGMMFitter(2, **options).fit_pair(X[source], X[~source])
    np.testing.assert_allclose(pair.mass_factors(X[source]), found[source], rtol=1e-12)
    assert pair.mass_factors(X.astype(np.float32)).dtype == np.float32


def test_one_label_is_that_of_all_rows(data, fitted):
    X, domain, _ = data
    ones = np.ones(len(X), dtype=int)
    for label in (1, -1):
        for call in (fitted.transform, fitted.predict, fitted.score_samples):
            found, expected = (call(X, sample_domain=d) for d in (label, label * ones))
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="label 2 is not one of the fit"):
        fitted.transform(X, sample_domain=2)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_components_of_a_pair_have_the_same_number(data, fitted, order):
    """Those of the source go by those of a target that is given."""
    X, domain, _ = data
    weights, means, covariances = fitted.target_mixture_.parameters_
    target = MixtureParameters(weights[order], means[order], covariances[order])
    given = CoupledGMMFitter(2, freeze_target=target, random_state=0).fit(X, domain)
    np.testing.assert_array_equal(given.target_mixture_.means_, target.means)
    assert given.transport_.plan.argmax(axis=1).tolist() == [0, 1]
    # along the first feature the two domains are the same
    np.testing.assert_allclose(given.source_mixture_.means_[:, 0], target.means[:, 0], atol=1.0)


def test_score_is_the_mean_over_domains_without_penalty(data, fitted):
    X, domain, _ = data
    parts = [
        fitted.source_mixture_.score(X[domain > 0]),
        fitted.target_mixture_.score(X[domain < 0]),
    ]
    assert fitted.score(X, domain) == pytest.approx(np.mean(parts), rel=1e-14)
    assert fitted.score(X, sample_domain=domain) == fitted.score(X, domain)
    for label, part in zip((1, -1), parts, strict=True):
        rows = domain == label
        assert fitted.score(X[rows], domain[rows]) == pytest.approx(part, rel=1e-14)
        assert fitted.score(X, domain, sample_weight=rows) == pytest.approx(part, rel=1e-14)
        with pytest.raises(ValueError, match="each domain must be positive"):
            fitted.bic(X, domain, sample_weight=rows)
        with pytest.raises(ValueError, match="two distinct labels"):
            fitted.bic(X[rows], domain[rows])
    weight = np.where(X[:, 0] > 4, 2.0, 0.5)
    assert fitted.score(X, domain, sample_weight=weight) != fitted.score(X, domain)
    expected = sum(parts) - 0.01 * fitted.transport_.value
    assert fitted.objective_ == pytest.approx(expected, rel=1e-12)


def test_criteria_count_the_parameters_of_both(data, fitted):
    X, domain, _ = data
    log_likelihood = fitted.score_samples(X, sample_domain=domain).sum()
    n_parameters = 2 * (1 + 4 + 6)
    assert fitted.aic(X, domain) == pytest.approx(-2 * log_likelihood + 2 * n_parameters)
    assert fitted.bic(X, domain) == pytest.approx(-2 * log_likelihood + np.log(300) * n_parameters)
    frozen = CoupledGMMFitter(2, freeze_target=True, random_state=0).fit(X, domain)
    free = -2 * frozen.score_samples(X, sample_domain=domain).sum() + n_parameters
    assert frozen.aic(X, domain) == pytest.approx(free)


def test_icl_adds_twice_the_entropy_of_both(data, fitted):
    X, domain, _ = data
    X = 0.3 * (X - X.mean(axis=0)) + X.mean(axis=0)  # where components overlap
    weight = np.where(X[:, 0] > X[:, 0].mean(), 2.0, 0.5)
    gamma = fitted.predict_proba(X, sample_domain=domain)
    entropies = -xlogy(gamma, gamma).sum(axis=1)
    for w in (None, weight):
        entropy = entropies @ (np.ones(len(X)) if w is None else w)
        assert entropy > 1
        expected = fitted.bic(X, domain, sample_weight=w) + 2 * entropy
        assert fitted.icl(X, domain, sample_weight=w) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="two distinct labels"):
        fitted.icl(X, np.ones(len(X)))


def test_samples_come_from_the_domain_that_is_named(fitted):
    source, labels = fitted.sample(2000)
    target, _ = fitted.sample(2000, domain="target")
    assert source.shape == (2000, 2) and set(labels) == {0, 1}
    assert abs(source[:, 1].mean()) < 0.3 and abs(target[:, 1].mean() - 3.0) < 0.3
    np.testing.assert_array_equal(
        fitted.sample(5, domain=-1)[0], fitted.sample(5, domain="target")[0]
    )
    with pytest.raises(ValueError, match="domain must be one of"):
        fitted.sample(5, domain="other")


def test_unfitted_says_so(data):
    for call in ("transform", "inverse_transform", "predict", "predict_proba", "score_samples"):
        with pytest.raises(NotFittedError):
            getattr(CoupledGMMFitter(), call)(data[0])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda f, X, d: f.fit(X), "neither sample_domain nor y"),
        (lambda f, X, d: f.fit(X, np.ones(len(X))), "two distinct labels"),
        (lambda f, X, d: f.fit(X, np.arange(len(X)) % 3), "two distinct labels.*fit_pair"),
        (lambda f, X, d: f.fit(np.where(X > 5, np.nan, X), d), "NaN"),
        (lambda f, X, d: f.fit(X, d, sample_weight=-np.ones(len(X))), "[Nn]egative"),
        (lambda f, X, d: f.fit(X, d, sample_weight=(d > 0) * 1.0), "of the domain -1"),
        (lambda f, X, d: f.fit_pair(X, X[:, :1]), "same features; got 2 and 1"),
        (lambda f, X, d: f.fit_pair(X, X * np.nan), "X_target.*NaN"),
        (
            lambda f, X, d: f.fit_pair(X, X, sample_weight_target=-np.ones(len(X))),
            "sample_weight_target: Negative",
        ),
        (lambda f, X, d: f.fit_pair(X[:1], X), "X_source.*minimum of 2"),
        (
            lambda f, X, d: f.set_params(n_components=9).fit_pair(X, X[:5]),
            "target has n_samples = 5",
        ),
        (lambda f, X, d: f.set_params(n_components=(1, 2, 3)).fit(X, d), "pair of them"),
        (lambda f, X, d: f.set_params(n_components=0).fit(X, d), "n_components"),
        (lambda f, X, d: f.set_params(reg_m=(1.0, -1.0)).fit(X, d), "reg_m"),
        (lambda f, X, d: f.set_params(transport_weight=-1.0).fit(X, d), "transport_weight"),
        (lambda f, X, d: f.set_params(freeze_target=CoupledGMMFitter()).fit(X, d), "not fitted"),
        (
            lambda f, X, d: f.set_params(
                covariance_type="diag", freeze_target=([1.0], [[0.0, 0.0]], [1.0])
            ).fit(X, d),
            "spherical covariances",
        ),
    ],
)
def test_bad_input_is_refused_with_a_cure(data, call, words):
    X, domain, _ = data
    with pytest.raises(ValueError, match=words):
        call(CoupledGMMFitter(2), X, domain)


def test_labels_that_the_fit_has_not_seen_are_refused(data, fitted):
    with pytest.raises(ValueError, match="not one of the fit"):
        fitted.transform(data[0], sample_domain=2 * data[1])
    with pytest.raises(ValueError, match="^y: the label 0 is not one of the fit"):
        fitted.score(data[0], np.zeros(300, dtype=int))


# Meta-estimators


def test_grid_search_needs_no_configuration(data):
    X, domain, _ = data
    grid = {"n_components": [1, 2], "transport_weight": [0.0, 0.01, 1.0]}
    search = GridSearchCV(CoupledGMMFitter(random_state=0), grid, cv=StratifiedKFold(3))
    search.fit(X, domain)
    assert search.best_params_["n_components"] == 2
    assert search.best_params_["transport_weight"] < 1.0
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def sorted_by_domain(data):
    """The rows of the source, then those of the target: folds without shuffling are of one."""
    order = np.argsort(-data[1], kind="stable")
    return data[0][order], data[1][order]


def test_folds_of_one_domain_are_scored(data):
    """KFold(6): each fold but one is of one domain. The score is known from the parts."""
    X, domain = sorted_by_domain(data)
    cv = KFold(6)
    n_domains = [len(set(domain[test])) for _, test in cv.split(X)]
    assert sorted(n_domains) == [1, 1, 1, 1, 1, 2]
    search = GridSearchCV(CoupledGMMFitter(random_state=0), {"n_components": [1, 2]}, cv=cv)
    search.fit(X, domain)
    assert search.best_params_ == {"n_components": 2}
    for fold, (train, test) in enumerate(cv.split(X)):
        fitter = CoupledGMMFitter(2, random_state=0).fit(X[train], domain[train])
        mixtures = {1: fitter.source_mixture_, -1: fitter.target_mixture_}
        parts = [mixtures[d].score(X[test][domain[test] == d]) for d in set(domain[test])]
        found = search.cv_results_[f"split{fold}_test_score"][1]
        assert found == pytest.approx(np.mean(parts), rel=1e-12)


def test_training_folds_of_one_domain_are_refused_with_the_cv_to_take(data):
    X, domain = sorted_by_domain(data)
    search = GridSearchCV(CoupledGMMFitter(random_state=0), {"n_components": [1, 2]}, cv=KFold(2))
    rows = np.r_[:100, 200:300]  # as many of both
    with pytest.raises(ValueError, match=r"cv=StratifiedKFold\(\) where y tells the domains"):
        search.fit(X[rows], domain[rows])


def test_pipeline_with_a_classifier_labels_the_target(data):
    """Labels of the source alone; the clusters of the target are where the other ones were."""
    rng = np.random.default_rng(0)
    domain = np.repeat([1, -1], 200)
    label = rng.integers(2, size=400)
    X = np.column_stack([6.0 * label + 6.0 * (domain < 0), 0 * label])
    X += rng.normal(size=(400, 2))
    new = np.arange(400) % 2 == 0
    train = ~new
    with sklearn.config_context(enable_metadata_routing=True):
        fitter = CoupledGMMFitter(2, random_state=0)
        fitter.set_fit_request(sample_domain=True, sample_weight=False)
        fitter.set_transform_request(sample_domain=True)
        classifier = LogisticRegression().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(fitter, classifier)
        pipeline.fit(
            X[train],
            np.where(domain > 0, label, 1 - label)[train],  # those of the target play no part
            sample_domain=domain[train],
            sample_weight=(domain[train] > 0).astype(float),
        )
        test = new & (domain < 0)
        assert (pipeline.predict(X[test]) == label[test]).mean() > 0.95
        told = pipeline.predict(X[test], sample_domain=domain[test])
        np.testing.assert_array_equal(pipeline.predict(X[test]), told)
        # rows of the source go to the target first
        test = new & (domain > 0)
        told = pipeline.predict(X[test], sample_domain=domain[test])
        assert (told == label[test]).mean() > 0.95


def test_pipelines_take_the_domain_as_y(data):
    X, domain, _ = data
    pipeline = make_pipeline(StandardScaler(), PCA(2), CoupledGMMFitter(2, random_state=0))
    assert pipeline.fit(X, domain).score(X, domain) > -4.0
    assert pipeline.transform(X).shape == X.shape


def test_metadata_routing_brings_the_domain(data):
    X, domain, cluster = data
    with sklearn.config_context(enable_metadata_routing=True):
        fitter = CoupledGMMFitter(2, random_state=0)
        fitter.set_fit_request(sample_domain=True).set_transform_request(sample_domain=True)
        fitter.set_score_request(sample_domain=True)
        pipeline = make_pipeline(StandardScaler(), fitter)
        pipeline.fit(X, cluster, sample_domain=domain)
        moved = pipeline.transform(X, sample_domain=domain)
        scaled = pipeline[0].transform(X)
        np.testing.assert_allclose(moved[domain < 0], scaled[domain < 0])
        search = GridSearchCV(fitter, {"n_components": [1, 2]}, cv=2)
        search.fit(X, cluster, sample_domain=domain)
        assert search.best_params_ == {"n_components": 2}


def test_names_of_features_are_kept(data):
    pandas = pytest.importorskip("pandas")
    X, domain, _ = data
    frame = pandas.DataFrame(X, columns=["a", "b"])
    fitter = CoupledGMMFitter(2, random_state=0).set_output(transform="pandas").fit(frame, domain)
    moved = fitter.transform(frame, sample_domain=domain)
    assert moved.columns.tolist() == ["a", "b"]
    assert fitter.feature_names_in_.tolist() == ["a", "b"]
