"""The EM fits of a flow, one after the other, and their gradients."""

import numpy as np

from ..checks import as_cotangent
from ..em.adjoints import ADJOINTS, FitRecord
from ..em.fit import Stopping, complaints_of
from ..estimators.em_options import em_map_of, fit_by_em
from ..numerics.threads import effective_n_threads
from ..parameters import in_dtype
from ..samples import samples_of
from ..samples.idle import within

# Accuracy asked of mode='implicit', as by the methods of DifferentiableGaussianMixture.
TOL = 1e-6
_NOT_OF_CONVERGENCE = Stopping(0, 0.0, np.inf)


class FlowFits:
    """EM fits with the parameters of an estimator, one after the other."""

    def __init__(self, estimator, dtype, follows, name="the flow"):
        estimator._validate_params()
        self.estimator, self.dtype, self.follows = estimator, dtype, follows
        self.name = name  # in warnings
        self.n_threads = effective_n_threads(estimator.n_jobs)
        self.theta = self.best = self.em_map = None
        self.told = []
        self.n_fits = self.n_failures = 0
        self.residual = 0.0

    def start_from_the_last(self):
        """From now on; where the flow follows the points, with a single step."""
        self.estimator.set_params(warm_start=True)
        if self.follows:
            self.estimator.set_params(max_iter=1)

    def fit(self, X):
        """Fit to points; ``theta`` is then the mixture, in their dtype."""
        self.fit_samples(self.samples_of(X))

    def samples_of(self, X):
        """`Samples` of rows in memory or in chunks, for the threads of the estimator."""
        return samples_of(X, None, self.n_threads)

    def fit_samples(self, samples):
        """The same of `Samples`."""
        last, last_bound = None, -np.inf
        if self.estimator.warm_start and self.theta is not None:
            last, last_bound = in_dtype(self.theta, np.float64), self.best.lower_bound
        self.em_map = em_map_of(self.estimator, samples)
        self.best = fit_by_em(self.estimator, self.em_map, last=last, last_bound=last_bound)
        result = self.best.result
        self.theta = in_dtype(result.parameters, self.dtype)
        if not all(np.isfinite(part).all() for part in self.theta):
            raise ValueError(f"X: the mixture is beyond the range of {self.dtype}. Scale X.")
        self.told += complaints_of(self.best, _NOT_OF_CONVERGENCE)  # once, below
        self.n_fits += 1
        if not result.converged:
            self.n_failures += 1
            self.residual = max(self.residual, result.residual)

    def pulled_back(self, cotangent, mode):
        """The gradient of a loss with respect to the points of the last fit."""
        record = FitRecord.of(self.best.result, self.em_map)
        if not self.estimator.keep_path:
            record = record.without_steps()
        adjoint = ADJOINTS[mode]
        adjoint.check(record, self.estimator.acceleration)
        cotangent = as_cotangent(cotangent, self.theta)
        with np.errstate(over="ignore", invalid="ignore"):  # the adjoint refuses what overflows
            gradient, complaints = adjoint.vjp(
                self.em_map.at(record.temperature), record, cotangent, tol=TOL, wrt_weight=False
            )
        self.told += complaints
        return within(gradient.data, self.dtype)

    def mixture(self):
        """The estimator, fitted."""
        self.estimator._keep(self.best, self.em_map, self.dtype)
        self.estimator.n_features_in_ = self.theta.n_features
        return self.estimator

    def complaints(self):
        """What there is to warn of, each once, as the keys of a dict."""
        found = []
        if self.n_failures and not self.follows:
            found.append(
                f"EM did not converge in {self.n_failures} of {self.n_fits} fits of {self.name}: "
                f"the largest residual is {self.residual:.3g}. Increase max_iter or residual_tol "
                "of the estimator, or let mode='one_step' with warm_start=True follow the points."
            )
        return dict.fromkeys([*found, *self.told])
