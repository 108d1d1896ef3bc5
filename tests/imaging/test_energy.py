"""The energy against finite differences, and against the same steps by public functions."""

import dataclasses
import re

import numpy as np
import pytest

from skgmmot import DifferentiableGaussianMixture, MixtureParameters, mixture_transport
from skgmmot.imaging.energy import EnergyTerm, MixtureEnergy

TARGETS = [
    MixtureParameters(
        np.array([0.4, 0.6]),
        np.array([[0.5, 0.0, 0.2], [-0.5, 0.3, 0.1]]),
        np.array([0.1, 0.3])[:, None, None] * np.eye(3),
    ),
    MixtureParameters(np.ones(1), np.full((1, 2), 0.3), 0.2 * np.eye(2)[None]),
]


def bent(n_features, seed):
    """A feature map that is neither linear nor one feature for each number of x."""
    A = np.random.default_rng(seed).normal(size=(n_features, 2))

    def extract(x):
        rows = np.tanh(x.reshape(-1, 2) @ A.T)

        def vjp(cotangent):
            return (((1 - rows**2) * cotangent) @ A).reshape(x.shape).astype(x.dtype)

        return rows.astype(x.dtype), vjp

    return extract


def image(seed=3, shape=(5, 12, 2)):
    return np.random.default_rng(seed).normal(size=shape)


def terms(**options):
    """Two terms, whose EM starts at given parameters: the energy is then a function of x."""
    estimators = [
        DifferentiableGaussianMixture(
            target.n_components,
            means_init=0.5 * target.means,
            weights_init=target.weights,
            precisions_init=np.repeat(np.eye(target.n_features)[None], target.n_components, axis=0),
            reg_covar=1e-3,
            **{"max_iter": 0, **options},
        )
        for target in TARGETS
    ]
    return [
        EnergyTerm(bent(target.n_features, seed), target, estimator, weight)
        for seed, (target, estimator, weight) in enumerate(
            zip(TARGETS, estimators, (1.0, 2.5), strict=True)
        )
    ]


def test_gradient_is_that_of_one_step_from_where_the_mixtures_were():
    """``max_iter=0`` holds where the step starts, so that differences are of the same function."""
    x = image()
    direction = np.random.default_rng(0).normal(size=x.shape)
    at = MixtureEnergy(terms())(x)
    h = 1e-5
    ahead, behind = (MixtureEnergy(terms())(x + sign * h * direction) for sign in (1, -1))
    slope = (ahead.value - behind.value) / (2 * h)
    np.testing.assert_allclose(np.vdot(at.gradient, direction), slope, rtol=1e-7)
    assert at.gradient.shape == x.shape


def test_value_is_the_weighted_sum_of_its_parts():
    at = MixtureEnergy(terms())(image())
    assert at.parts.shape == (2,)
    np.testing.assert_allclose(at.value, at.parts @ [1.0, 2.5], rtol=1e-12)
    alone = [MixtureEnergy([term])(image()) for term in terms()]
    np.testing.assert_allclose(at.parts, [one.parts[0] for one in alone], rtol=1e-12)
    np.testing.assert_allclose(at.gradient, sum(one.gradient for one in alone), rtol=1e-9)


def test_mixtures_follow_by_single_steps():
    """The first call fits, each later one makes a step from there: by methods of the estimator."""
    term = terms(max_iter=100)[0]
    energy, mixture = MixtureEnergy([term]), DifferentiableGaussianMixture()
    mixture.set_params(**term.estimator.get_params()).fit(term.extract(image())[0])
    mixture.set_params(warm_start=True, max_iter=1, tol=1e9, residual_tol=np.inf)
    for move in (0.0, 0.1, 0.2):
        x = image() + move
        rows, vjp = term.extract(x)
        transport = mixture_transport(mixture.fit(rows), term.target)
        gradient = mixture.gradient_wrt_data(rows, transport.gradient(), mode="one_step")
        at = energy(x)
        np.testing.assert_allclose(at.value, transport.value, rtol=1e-10)
        np.testing.assert_allclose(at.gradient, vjp(gradient), rtol=1e-8, atol=1e-12)
        np.testing.assert_array_equal(energy.mixtures[0].means, mixture.means_)


def test_precision_is_that_of_the_array():
    single, double = (MixtureEnergy(terms())(image().astype(t)) for t in (np.float32, float))
    assert single.gradient.dtype == np.float32 and double.gradient.dtype == np.float64
    np.testing.assert_allclose(single.gradient, double.gradient, atol=1e-5)  # of float32


def test_estimators_of_terms_stay_as_they_are():
    given = terms()
    before = [term.estimator.get_params() for term in given]
    MixtureEnergy(given)(image())
    assert [str(term.estimator.get_params()) for term in given] == list(map(str, before))
    assert not any(hasattr(term.estimator, "means_") for term in given)


def test_what_fits_have_to_tell_is_told_once():
    """Two components for one point: one of them loses its mass."""

    def extract(x):
        return x.reshape(-1, 1), lambda cotangent: cotangent.reshape(x.shape)

    estimator = DifferentiableGaussianMixture(3, means_init=[[0.0], [1e3], [5e8]])
    target = MixtureParameters(np.full(2, 0.5), np.array([[0.0], [1.0]]), np.ones(2), "spherical")
    energy = MixtureEnergy([EnergyTerm(extract, target, estimator)])
    assert not energy.complaints()
    x = np.append(image().ravel(), 1e3)
    energy(x), energy(x)
    (words,) = energy.complaints()
    assert re.search("lost all its mass", words)


def test_features_that_cannot_be_fitted_are_an_error():
    with pytest.raises(ValueError, match="n_components=2"):
        MixtureEnergy(terms())(image(shape=(1, 1, 2)))


def test_one_pass_for_all_terms_is_as_good_as_one_for_each():
    apart = terms()
    cotangents_seen = []

    def extract(x):
        features, pull_backs = zip(*(term.extract(x) for term in apart), strict=True)

        def vjp(cotangents):
            cotangents_seen.append([cotangent.shape for cotangent in cotangents])
            return sum(f(bar) for f, bar in zip(pull_backs, cotangents, strict=True))

        return list(features), vjp

    together = MixtureEnergy([dataclasses.replace(term, extract=None) for term in apart], extract)
    one, other = MixtureEnergy(apart)(image()), together(image())
    np.testing.assert_array_equal(one.parts, other.parts)
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-12)
    assert cotangents_seen == [[(60, 3), (60, 2)]]
