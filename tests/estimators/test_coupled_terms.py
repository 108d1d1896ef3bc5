"""What the objective of a coupled fit is made of, sweep by sweep: printed, and kept."""

import re

import naive
import numpy as np
import pytest

from skgmmot import CoupledGMMFitter, mixture_transport


@pytest.fixture(scope="module")
def small():
    """Two clouds whose clusters overlap and have moved."""
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, 2, "full")
    return naive.sample(rng, theta, 600), naive.sample(rng, theta, 500) + [0.5, -1.0]


@pytest.mark.parametrize("init_size", [300, None])  # sweeps on some rows first, and on all at once
def test_verbose_prints_sweeps(small, init_size, capsys):
    fitter = CoupledGMMFitter(
        3, verbose=1, verbose_interval=1, init_size=init_size, random_state=0
    ).fit_pair(*small)
    numbers = r"(\d+): objective (\S+), .*log-likelihoods (\S+) and (\S+), transport (\S+)"
    found = np.array(re.findall("Sweep " + numbers, capsys.readouterr().out), dtype=float)
    assert len(found) >= 2 and found[-1, 0] == fitter.n_iter_
    for _, objective, source, target, transport in found:
        assert source + target - 0.01 * transport == pytest.approx(objective, abs=1e-5)
    terms = [*fitter.log_likelihoods_[-1], fitter.transport_values_[-1]]
    np.testing.assert_allclose(found[-1, 2:], terms, atol=1e-6)  # as printed


@pytest.mark.parametrize("variant", [{}, {"reg": 0.05, "reg_m": (1.0, 2.0)}, {"reg": 0.5}])
@pytest.mark.parametrize("init_size", [200, None])
def test_terms_of_the_objective_are_told_for_each_sweep(small, variant, init_size):
    fitter = CoupledGMMFitter(
        3, transport_weight=0.03, reg_covar=0.0, init_size=init_size, random_state=0, **variant
    ).fit_pair(*small)
    likelihoods, values = fitter.log_likelihoods_, fitter.transport_values_
    assert likelihoods.shape == (fitter.n_iter_ + 1, 2) and fitter.n_iter_ > 2
    np.testing.assert_allclose(
        likelihoods.sum(axis=1) - 0.03 * values, fitter.lower_bounds_, rtol=1e-13
    )
    pair = fitter.source_mixture_, fitter.target_mixture_
    scores = [mixture.score(X) for mixture, X in zip(pair, small, strict=True)]
    np.testing.assert_allclose(likelihoods[-1], scores, rtol=1e-12)
    # a plan that is a variable of the fit is optimal to the square of the residual, about
    assert values[-1] == pytest.approx(mixture_transport(*pair, **variant).value, rel=1e-8)
