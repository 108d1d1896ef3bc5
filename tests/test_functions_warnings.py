"""What functions warn of, they warn of once and at the line that called them."""

import re
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import (
    CoupledGMMFitter,
    DifferentiableGaussianMixture,
    balanced_transport,
    mixture_barycenter,
    mixture_bridge,
    mixture_flow,
    mixture_transport,
    mixture_wasserstein,
    pairwise_mixture_wasserstein,
    pairwise_mixture_wasserstein_vjp,
)
from skgmmot.transport import bures_barycenter, interior_point, many, plans


def mixture(seed, n_components=9):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_components, 2, 4))
    means = rng.normal(size=(n_components, 2))
    return rng.dirichlet(np.full(n_components, 5.0)), means, roots @ roots.swapaxes(1, 2) / 2


A, B = mixture(0), mixture(1)
FAR = [0.3, 0.7], [[0.0], [1e8]], [1.0, 1.0]
X = np.random.default_rng(2).normal(size=(60, 2))


def told(call):
    """What a call warns of, at this file."""
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        call()
    for warning in record:
        assert warning.category is ConvergenceWarning and warning.filename == __file__
    return [str(warning.message) for warning in record]


def flow(**options):
    estimator = DifferentiableGaussianMixture(9, random_state=0)
    return mixture_flow(X, A, estimator=estimator, n_steps=2, **options)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mixture_transport(A, B), "moves .* POT says"),
        (lambda: mixture_transport(A, B, reg_m=0.1), "duality gap"),
        (lambda: mixture_transport(A, B, reg=1e-3), "marginals"),
        (lambda: mixture_bridge(A, B, epsilon=0.1, reg=1e-3), "marginals"),
        (lambda: balanced_transport([[0.0], [1e8]], FAR, epsilon=1e-9), "Column sums"),
        (lambda: mixture_wasserstein(A, B, reg_m=0.1), "duality gap"),
        (lambda: pairwise_mixture_wasserstein([A, B], reg_m=0.1), "duality gap"),
        (lambda: pairwise_mixture_wasserstein([A], [B]), "POT says"),
        (lambda: pairwise_mixture_wasserstein_vjp([A], [B], [[1.0]]), "POT says"),
        (lambda: pairwise_mixture_wasserstein_vjp([A], [B], [[1.0]], reg_m=0.1), "duality gap"),
        (
            lambda: mixture_barycenter([A, B], method="fixed_point", init=A, max_iter=1, tol=1.0),
            "POT says",
        ),
        (lambda: mixture_barycenter([A, A, B], method="fixed_point", max_iter=1), "Increase max"),
        (lambda: mixture_barycenter([A, mixture(2, 2), mixture(3, 2)]), "residual is .*reg_covar"),
        (lambda: flow(reg_m=0.1), "duality gap"),
    ],
)
def test_warnings_name_the_line_that_called(monkeypatch, call, words):
    monkeypatch.setattr(interior_point, "MAX_ITER", 2)
    monkeypatch.setattr(interior_point, "MAX_NEWTON", 1)
    monkeypatch.setattr(plans, "MAX_ITER", 1)
    for module in (plans, many):  # all problems are large ones, for POT
        monkeypatch.setattr(module, "LARGEST_COMPILED", 0)
    monkeypatch.setattr(bures_barycenter, "MAX_ITER", 2)
    texts = told(call)
    assert len(set(texts)) == len(texts)
    assert re.search(words, "\n".join(texts))


def test_many_pairs_warn_once_of_the_same(monkeypatch):
    """Equal pairs say the same; and nothing is said where all went well."""
    monkeypatch.setattr(interior_point, "MAX_ITER", 2)
    (only,) = told(lambda: pairwise_mixture_wasserstein([A, A], [B, B, B], reg_m=0.1))
    assert "duality gap" in only
    monkeypatch.undo()
    assert told(lambda: pairwise_mixture_wasserstein([A, A], [B, B, B], reg_m=0.1)) == []


def test_coupled_fits_tell_of_their_plans_at_the_line_that_called(monkeypatch):
    fitter = CoupledGMMFitter(3, reg_m=0.1, random_state=0, max_iter=5)
    told(lambda: fitter.fit_pair(X, X + 1.0))
    monkeypatch.setattr(interior_point, "MAX_ITER", 2)
    (only,) = told(lambda: fitter.inverse_transform(X))
    assert "duality gap" in only
    assert "duality gap" in "\n".join(told(lambda: fitter.fit_pair(X, X + 1.0)))
