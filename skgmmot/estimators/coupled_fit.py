"""How a coupled fit proceeds: from checked clouds to the fitted attributes."""

from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state

from ..checks import (
    EM_CONSTRAINTS,
    as_full,
    as_parameters,
    checked_regularization,
    refuse_overflow,
)
from ..coupling.objective import CoupledState, CouplingProblem, mixtures_of, starting_state
from ..coupling.sweeps import maximize
from ..em.em_map import EMMap
from ..em.fit import Stopping
from ..families import FULL, family_of
from ..families.covariances import CollapsedComponentError
from ..results.transport_result import MixtureTransport, transport_between
from .callbacks import FitTasks, has_callbacks, with_callbacks
from .coupled_starts import (
    best_of,
    independent_fit,
    matched_orders,
    seeds_of,
    starting_pairs,
    thinned,
)
from .mixture import DifferentiableGaussianMixture
from .state import forget_fit, refuse_other_fit

# Parameters that mixtures fitted for a start do not share with the coupled fit.
_OF_ITS_OWN = {"n_init", "random_state", "warm_start", "verbose", "verbose_interval"}


class CoupledFit:
    """The fit itself, of an estimator with the parameters of `CoupledGMMFitter`."""

    source_mixture_: DifferentiableGaussianMixture
    target_mixture_: DifferentiableGaussianMixture
    transport_: MixtureTransport
    objective_: float
    lower_bounds_: list[float]
    log_likelihoods_: NDArray[np.float64]
    transport_values_: NDArray[np.float64]
    mw2_: float
    reweighting_: tuple[NDArray[np.float64], NDArray[np.float64]]
    domains_: tuple[object, object]
    converged_: bool
    n_iter_: int
    residual_: float
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_clouds(self, clouds, domains, data, *, as_pair=False):
        """Fit, and return what there is to warn of.

        ``data()`` returns all rows, their domains and their weights, for callbacks.
        """
        frozen, n_components = self._checked_target(clouds[0].samples.shape[1])
        for cloud, n, side in zip(clouds, n_components, ("source", "target"), strict=True):
            n_rows = cloud.samples.shape[0]
            if n_rows < n or cloud.n_rows < 2:
                raise ValueError(
                    f"The {side} has n_samples = {n_rows} (of positive weight); it needs 2, and "
                    f"at least as many as components, here {n}. Decrease n_components, or pass "
                    "more rows of that domain."
                )
        problem = self._problem(clouds)
        warm = self.warm_start and hasattr(self, "_state")
        last = self._last_state(problem, frozen, n_components) if warm else None
        forget_fit(self)
        X, domain, weight = data() if has_callbacks(self) else (None, None, None)
        n_runs = 1 if warm else 1 + 2 * self.n_init  # unless the best start is good enough
        names = "run", "sweep"
        tasks = FitTasks(self, X, weight, n_runs, sample_domain=domain, names=names)
        self.domains_, self._fitted_as_pair = domains, as_pair
        self._target_is_frozen = problem.freeze_target
        dtype = np.result_type(*(cloud.samples.dtype for cloud in clouds))

        def sweeping(problem, max_iter):
            return tasks.restart(max_iter, lambda found: self._attributes(problem, found, dtype)[0])

        if warm and self.transport_weight:
            state, failures, known, used = last, [], [], 0
        else:
            best, failures, thin = self._start(
                clouds, problem, frozen, n_components, last, sweeping
            )
            state = best.evaluation.state
            known = [] if thin else best.history
            used = 0 if thin else len(known) - 1
        finished = used >= self.max_iter or not self.transport_weight
        if known and (finished or (best.converged and best.residual < self.residual_tol)):
            result = best
        else:
            with sweeping(problem, self.max_iter - used) as on_sweep:
                callback = self._printing(used, on_sweep) if self.verbose else on_sweep
                result = maximize(problem, state, self._stopping(self.max_iter - used), callback)
            result = result._replace(history=known + result.history[bool(known) :])
        attributes, complaints = self._attributes(problem, result.evaluation, dtype)
        vars(self).update(attributes)
        self.lower_bounds_ = result.objectives
        self.log_likelihoods_ = np.array([terms[1:3] for terms in result.history])
        self.transport_values_ = np.array([terms.transport for terms in result.history])
        self.n_iter_ = len(result.history) - 1
        self.converged_ = result.converged
        self.residual_ = result.residual
        tasks.finish(lambda: attributes)
        return self._complaints(failures) + complaints

    def _stopping(self, max_iter):
        return Stopping(max_iter, self.tol, self.residual_tol)

    def _checked_target(self, n_features):
        """The frozen target if one is given, and the numbers of components."""
        n = self.n_components
        pair = (n, n) if isinstance(n, Integral) else tuple(n)
        if len(pair) != 2 or not all(_is_positive_integer(part) for part in pair):
            raise ValueError(
                f"n_components must be a positive integer or a pair of them; got {n!r}."
            )
        if _is_bool(self.freeze_target):
            return None, pair
        frozen = as_parameters(self.freeze_target, "freeze_target")
        try:
            family_of(frozen).precisions(frozen.covariances, frozen.n_features)
        except CollapsedComponentError as error:
            raise ValueError(
                "freeze_target: a covariance of the mixture is not positive definite, so that "
                "samples have no density. Pass a mixture fitted with a larger reg_covar."
            ) from error
        if frozen.covariance_type != self.covariance_type and self.covariance_type == FULL.name:
            frozen = as_full(frozen)
        if frozen.covariance_type != self.covariance_type or frozen.n_features != n_features:
            raise ValueError(
                f"freeze_target: the mixture has {frozen.n_features} features and "
                f"{frozen.covariance_type} covariances; this fit has {n_features} features and "
                f"covariance_type={self.covariance_type!r}. Pass a mixture of that type."
            )
        if not isinstance(n, Integral) and pair[1] != frozen.n_components:
            raise ValueError(
                f"freeze_target: the mixture has {frozen.n_components} components, but "
                f"n_components={n!r}."
            )
        return frozen, (pair[0], frozen.n_components)

    def _problem(self, clouds):
        reg, penalties = checked_regularization(self.reg, self.reg_m)
        sides = [
            EMMap.of(cloud.samples, self.covariance_type, reg_covar=self.reg_covar)
            for cloud in clouds
        ]
        for side in sides:
            refuse_overflow(side.data.summary)
        return CouplingProblem(
            *sides,
            transport_weight=float(self.transport_weight),
            reg=reg,
            penalties=penalties,
            fixed_weights=self.fixed_weights,
            freeze_target=not _is_bool(self.freeze_target) or bool(self.freeze_target),
        )

    def _start(self, clouds, problem, frozen, n_components, last, sweeping):
        """The best of all starts after some sweeps, failures, and whether rows were left out.

        Where rows are read in chunks, starts look at rows in memory all the same: at some, or at
        all if they are few.
        With a last state, which is for fits without coupling, EM goes on from there.
        """
        coupled = problem.transport_weight > 0
        is_read = coupled and any(cloud.is_read for cloud in clouds)
        if is_read and self.init_size is None:
            raise ValueError(
                "init_size=None fits the starts to all rows at once, but some are read in chunks. "
                "Pass the number of random rows of each cloud to look at."
            )
        seeds = seeds_of(self.random_state, self.n_init if last is None else 1)
        shared = (name for name in EM_CONSTRAINTS if name not in _OF_ITS_OWN)
        options = {name: getattr(self, name) for name in shared}
        starts = (None, None) if last is None else mixtures_of(last, problem.family)
        if problem.freeze_target and frozen is None:
            frozen = starts[1] or independent_fit(clouds[1], n_components[1], options, seeds[0])
        size = self.init_size
        if size is not None:
            size = max(size, *n_components)
        thin = coupled and size is not None and max(c.samples.shape[0] for c in clouds) > size
        if thin or is_read:
            rng = check_random_state(seeds[0])
            clouds = [thinned(cloud, size, rng) for cloud in clouds]
            problem = self._problem(clouds)
        pairs = []
        for seed in seeds:
            pairs += starting_pairs(
                clouds, n_components, options, seed, frozen=frozen, coupled=coupled, starts=starts
            )
        best, failures = best_of(problem, pairs, sweeping, self._stopping(coupled * self.max_iter))
        return best, failures, thin

    def _last_state(self, problem, frozen, n_components):
        """The last solution, with the best plan of this fit's variant."""
        state = self._state
        expected = (*n_components, problem.source.samples.shape[1], self.covariance_type)
        found = (*state.plan.shape, state.means.shape[1], self.source_mixture_.covariance_type)
        refuse_other_fit(found, expected)
        source, target = mixtures_of(state, problem.family)
        return starting_state(problem, source, target if frozen is None else frozen)

    def _printing(self, used, on_sweep):
        def callback(n_iter, evaluation, gain, converged):
            if (used + n_iter) % self.verbose_interval == 0:
                objective, source, target, transport = evaluation.terms
                print(
                    f"  Sweep {used + n_iter}: objective {objective:.8f}, gain {gain:.3e}, "
                    f"log-likelihoods {source:.6f} and {target:.6f}, transport {transport:.6f}"
                )
            return on_sweep is not None and on_sweep(n_iter, evaluation, gain, converged)

        return callback

    def _attributes(self, problem, evaluation, dtype):
        """The fitted attributes that are functions of a state, and complaints of their plans."""
        orders = matched_orders(evaluation.state.plan, keep_target=problem.freeze_target)
        state = _reordered(evaluation.state, orders)
        pair = mixtures_of(state, problem.family)
        source, target = (self._mixture(theta, dtype) for theta in pair)
        transport, complaints = transport_between(*pair, problem.reg, problem.penalties)
        exact = transport
        if problem.reg > 0 or min(problem.penalties) < np.inf:
            exact, more = transport_between(*pair)
            complaints = complaints + more
        likelihood = sum(
            cloud.step(theta).lower_bound for cloud, theta in zip(problem.clouds, pair, strict=True)
        )
        masses = transport.plan.sum(axis=1), transport.plan.sum(axis=0)
        attributes = {
            "domains_": self.domains_,
            "_target_is_frozen": self._target_is_frozen,
            "_state": state,
            "source_mixture_": source,
            "target_mixture_": target,
            "transport_": transport,
            "mw2_": exact.distance,
            "objective_": likelihood - problem.transport_weight * transport.value,
            "reweighting_": tuple(
                np.divide(mass, theta.weights, out=np.ones_like(mass), where=theta.weights > 0)
                for mass, theta in zip(masses, pair, strict=True)
            ),
        }
        return attributes, complaints

    def _mixture(self, theta, dtype):
        weights, means, covariances = theta
        return DifferentiableGaussianMixture.from_parameters(
            weights,
            means.astype(dtype),
            covariances,
            covariance_type=self.covariance_type,
            reg_covar=self.reg_covar,
            fixed_weights=self.fixed_weights,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )

    def _complaints(self, failures):
        complaints = []
        if self.max_iter and not self.converged_:
            complaints.append(
                f"The coupled fit did not converge in {self.n_iter_} sweeps: the residual is "
                f"{self.residual_:.3g} (residual_tol={self.residual_tol:.3g}). Increase max_iter "
                "or residual_tol, or scale the features."
            )
        if failures:
            complaints.append(
                f"{len(failures)} of the starts failed and were skipped; the first because: "
                f"{failures[0]}"
            )
        return complaints


def _is_bool(value):
    return isinstance(value, (bool, np.bool_))


def _is_positive_integer(value):
    return isinstance(value, Integral) and not _is_bool(value) and value >= 1


def _reordered(state, orders):
    """The state with the components of both mixtures in other orders."""
    source, target = orders
    together = np.concatenate([source, len(source) + target])
    return CoupledState(
        (state.weights[0][source], state.weights[1][target]),
        state.means[together],
        state.factors[together],
        state.plan[np.ix_(source, target)],
    )
