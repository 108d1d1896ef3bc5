"""That nothing is left to compile after `skgmmot.warm_up`."""

import subprocess
import sys

import skgmmot.warm_up

SCRIPT = """
import importlib
import pkgutil

import numpy as np

import skgmmot.kernels
from skgmmot import (
    CoupledGMMFitter, DifferentiableGaussianMixture, MixtureParameters, fit_mixtures, mixture_flow,
    pairwise_mixture_wasserstein, pairwise_mixture_wasserstein_vjp, semirelaxed_transport,
)
from skgmmot.kernels.compilation import _Cache
from skgmmot.warm_up import warm_up

modules = [f"skgmmot.kernels.{m.name}" for m in pkgutil.iter_modules(skgmmot.kernels.__path__)]
kernels = {
    f"{module}.{name}": value
    for module in modules
    for name, value in vars(importlib.import_module(module)).items()
    if isinstance(getattr(value, "_cache", None), _Cache)
}


def compiled():
    return {(name, str(s)) for name, kernel in kernels.items() for s in kernel.signatures}


assert len(kernels) > 20 and not compiled()
warm_up()
ready = compiled()
assert {name for name, _ in ready} == kernels.keys(), kernels.keys() - {name for name, _ in ready}

rng = np.random.default_rng(0)
weight = rng.uniform(0.5, 2.0, 300)
for dtype in (np.float64, np.float32):
    X = (rng.normal(size=(300, 3)) + 4.0 * rng.integers(3, size=(300, 1))).astype(dtype)
    means = np.ones((3, 3))
    for kind in ("full", "tied", "diag", "spherical"):
        for options in (
            {"acceleration": "newton"}, {"acceleration": None, "temperature": 2.0},
            {"e_step": "sinkhorn", "init_params": "random"},
        ):
            mixture = DifferentiableGaussianMixture(
                3, covariance_type=kind, residual_tol=1e-2, random_state=0, **options
            ).fit(X, sample_weight=weight)
            mixture.predict_proba(X)
            mixture.icl(X, sample_weight=weight)
            mixture.vjp(X, (None, means, None), mode="one_step", sample_weight=weight)
            mixture.jvp(X, X, mode="one_step", sample_weight=weight, sample_weight_tangent=weight)
        CoupledGMMFitter(3, covariance_type=kind, residual_tol=1e-2, random_state=0).fit_pair(
            X, X + 1
        ).gradient_wrt_data(X, X + 1, (None, means, None), mode="one_step")
        mixture_flow(X, mixture, n_steps=2, random_state=0)
        semirelaxed_transport(X, mixture).column_sums
        for weights in (None, [weight, weight]):
            fits = fit_mixtures(
                [X, X + 9], 2, sample_weight=weights, covariance_type=kind, acceleration=None
            )
            for mode in ("implicit", "unrolled", "one_step"):
                fits.vjp((None, fits.means, None), mode=mode)
        pairwise_mixture_wasserstein([mixture, mixture], [mixture], reg_m=1.0)
        weights, centers, covariances = mixture.parameters_
        frozen = MixtureParameters(weights, np.asfortranarray(centers), covariances, kind)
        for part in frozen:
            part.flags.writeable = False
        pairwise_mixture_wasserstein_vjp([frozen, mixture], None, np.ones((2, 2)))
    wide = np.repeat(X, 70, axis=1) + rng.normal(size=(300, 210)).astype(dtype)
    mixture = DifferentiableGaussianMixture(2, reg_covar=1e-2, random_state=0).fit(wide)
    mixture.gradient_wrt_data(wide, (None, np.ones((2, 210)), None), mode="one_step")
assert compiled() == ready, compiled() - ready
print("nothing was left")
"""


def test_nothing_is_left_to_compile():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "nothing was left"


def test_command_says_where_kernels_are(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(skgmmot.warm_up, "warm_up", lambda: calls.append(None))
    monkeypatch.setattr(skgmmot.warm_up, "FOLDERS", ["one", "two"])
    skgmmot.warm_up.main()
    assert capsys.readouterr().out.endswith("and kept in one or two.\n")
    monkeypatch.setattr(skgmmot.warm_up, "FOLDERS", [])
    skgmmot.warm_up.main()
    assert "not kept" in capsys.readouterr().out
    assert len(calls) == 2
