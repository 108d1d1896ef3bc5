"""EM with the parameters of an estimator, which it leaves as it is, on data that were checked."""

from contextlib import contextmanager
from functools import partial

import numpy as np
from sklearn.utils import check_random_state

from ..checks import checked_temperatures, initial_parts, refuse_overflow
from ..em.e_steps import E_STEPS
from ..em.em_map import EMMap
from ..em.fit import Stopping, fit
from ..em.initialization import initial_parameters
from ..em.solvers import solver_of
from .callbacks import FitTasks, printing, with_callbacks


def em_map_of(estimator, samples, temperature=1.0):
    """The EM map of `Samples`."""
    return EMMap.of(
        samples,
        estimator.covariance_type,
        e_step=E_STEPS[estimator.e_step],
        temperature=temperature,
        reg_covar=estimator.reg_covar,
        fixed_weights=estimator.fixed_weights,
    )


def stopping_of(estimator):
    """When its runs have ended."""
    return Stopping(estimator.max_iter, estimator.tol, estimator.residual_tol)


@with_callbacks
def fit_by_em(estimator, em_map, *, last=None, last_bound=-np.inf, keep=None):
    """The best of the runs that an estimator asks for, as a `Fit`.

    Parameters
    ----------
    estimator : DifferentiableGaussianMixture
        Its callbacks are called.
    em_map : EMMap
        On the data, at the temperature one.
    last, last_bound : MixtureParameters and float
        θ_0 of a warm start, and the lower bound there. By default EM starts from an initialization.
    keep : callable, default=None
        Called with the `Fit`, before callbacks are told of the end.
    """
    X, sample_weight = em_map.samples.rows()
    n_components, max_iter = estimator.n_components, estimator.max_iter
    n_samples, n_features = em_map.samples.shape
    if n_samples < n_components:
        raise ValueError(
            f"Expected at least n_components={n_components} samples (of positive weight); got "
            f"n_samples = {n_samples}. Decrease n_components."
        )
    given = given_parts(estimator, n_features)
    refuse_overflow(em_map.data.summary)
    temperatures = checked_temperatures(estimator.temperature)
    random_state = check_random_state(estimator.random_state)
    n_restarts = estimator.n_init if last is None else 1
    tasks = FitTasks(estimator, X, sample_weight, n_restarts)

    def start():
        if last is not None:
            return last
        return initial_parameters(
            em_map, n_components, estimator.init_params, estimator.init_size, random_state, given
        )

    @contextmanager
    def watching(restart):
        if estimator.verbose:
            print(f"Initialization {restart}")
        attributes = partial(estimator._parameter_attributes, dtype=X.dtype)
        with tasks.restart(max_iter, attributes) as on_step:
            yield printing(estimator.verbose, estimator.verbose_interval, max_iter, on_step)

    stopping = stopping_of(estimator)
    best = fit(
        em_map,
        [start] * n_restarts,
        stopping,
        temperatures if last is None else temperatures[-1:],
        watching=watching,
        previous_bound=last_bound,
        solver=solver_of(estimator.acceleration, estimator.anderson_depth, stopping),
    )
    if keep is not None:
        keep(best)
    tasks.finish(lambda: estimator._parameter_attributes(best.result.parameters, X.dtype))
    return best


def given_parts(estimator, n_features):
    """Weights, means and covariances to start from, None for what is not given."""
    weights, *others = initial_parts(
        estimator.weights_init,
        estimator.means_init,
        estimator.precisions_init,
        (estimator.n_components, n_features),
        estimator.covariance_type,
    )
    if estimator.fixed_weights and weights is None:
        weights = np.full(estimator.n_components, 1.0 / estimator.n_components)
    return weights, *others
