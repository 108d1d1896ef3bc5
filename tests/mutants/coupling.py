"""Mutants of coupled fits: the room `coupling` and the estimator above it."""

MUTANTS = {
    "coupling/objective.py": [
        (
            "target's means pushed away",
            "means_bar[n_source:] += np.einsum(",
            "means_bar[n_source:] -= np.einsum(",
            "coupling/test_objective.py -k gradient",
        ),
        (
            "entropy without its weight",
            "plan_bar - tau * problem.reg * _surprise(state)",
            "plan_bar - tau * _surprise(state)",
            "coupling/test_objective.py -k gradient",
        ),
        (
            "transport rewarded",
            "objective = statistics.likelihood - tau * value",
            "objective = statistics.likelihood + tau * value",
            "coupling/test_objective.py -k objective_is",
        ),
        (
            "reg_covar is no noise",
            "return self.transport_weight > 0 and self.source.reg_covar > 0",
            "return False",
            "coupling/test_objective.py -k noise or gradient",
        ),
        (
            "transposed rotation in the gradient of the target",
            "target_gaps = gaps @ np.swapaxes(rotations, -1, -2)",
            "target_gaps = gaps @ rotations",
            "coupling/test_objective.py -k gradient",
        ),
        (
            "gradient of the weights without the potentials",
            "ratio - tau * mass_gradient(potential, problem.reg, penalty)",
            "ratio",
            "coupling/test_objective.py -k gradient",
        ),
    ],
    "coupling/maximize.py": [
        (
            "one tolerance is enough",
            "converged = gain < tol and residual < residual_tol",
            "converged = gain < tol or residual < residual_tol",
            "coupling/test_maximize.py -k tolerances",
        ),
        (
            "plan left out of the residual",
            "max(coordinates.scaled_step(gradient), _weights_residual(problem, evaluation))",
            "coordinates.scaled_step(gradient)",
            "coupling/test_maximize.py -k residual",
        ),
        (
            "zero entries of the plan have a residual",
            "np.maximum(state.plan + excess * curvature, 0.0)",
            "(state.plan + excess * curvature)",
            "coupling/test_maximize.py -k no_sweep",
        ),
        (
            "entropic plans not lifted",
            "            evaluation = _lift(problem, evaluation)",
            "            pass",
            "coupling/test_maximize.py -k diagonal",
        ),
        (
            "a sweep too many",
            "min(n_sweeps, max_iter + 1 - len(objectives))",
            "min(n_sweeps, max_iter + 2 - len(objectives))",
            "coupling/test_maximize.py -k max_iter",
        ),
        (
            "callback cannot stop",
            "if settled or stopped:",
            "if settled:",
            "coupling/test_maximize.py -k callback",
        ),
    ],
    "coupling/coordinates.py": [
        (
            "plan may be negative",
            "            lower[: self.n_plan] = 0.0",
            "            pass",
            "coupling/test_coordinates.py coupling/test_maximize.py -k feasible or no_sweep",
        ),
        (
            "diagonal without the derivative of exp",
            "            spread_bar[:, on] *= np.exp(self.scale[:, on] * spread[:, on])",
            "            pass",
            "coupling/test_coordinates.py -k slope",
        ),
        (
            "pairs of components not joined in the Hessian",
            "products if i == j else -products",
            "products",
            "coupling/test_coordinates.py -k hessian",
        ),
        (
            "columns of a frozen plan not held",
            "masses.sum(axis=0)",
            "masses.sum(axis=0) * 0 + masses.sum()",
            "coupling/test_coordinates.py -k base or feasible",
        ),
        (
            "covariances relative to their roots",
            "np.where(self.rows == self.columns, 2.0, np.sqrt(2.0))",
            "1.0",
            "coupling/test_maximize.py -k residual",
        ),
    ],
    "coupling/gradients.py": [
        (
            "entries of the plan looked at the wrong way",
            "plan < _UNDECIDED,",
            "plan > _UNDECIDED,",
            "coupling/test_gradients.py -k undecided or support",
        ),
        (
            "slopes of nearly zero are decided",
            "excess > -_UNDECIDED",
            "excess > _UNDECIDED",
            "coupling/test_gradients.py -k undecided",
        ),
        (
            "slopes compared with the wrong sign",
            "excess > -_UNDECIDED",
            "excess < -_UNDECIDED",
            "coupling/test_gradients.py -k undecided",
        ),
        (
            "frozen columns compared with all of the plan",
            "mean if problem.freeze_target else (plan * bar).sum()",
            "(plan * bar).sum()",
            "coupling/test_gradients.py -k undecided",
        ),
        (
            "no look at the optimum",
            "    if residual > tol:",
            "    if residual < -tol:",
            "coupling/test_gradients.py -k does_not_hold",
        ),
        (
            "copies of a tied factor all counted",
            'share = len(factors) if theta.covariance_type == "tied" else 1',
            "share = 1",
            "coupling/test_gradients.py -k moved_data and tied",
        ),
        (
            "tempered weights do not follow the covariances",
            "pulled = 0.5 * cloud.reg_covar * bar.weights * theta.weights",
            "pulled = 0.0 * bar.weights",
            "coupling/test_gradients.py -k moved_data and full",
        ),
        (
            "idle directions left singular",
            "(out + self.idle.T @ (self.idle @ unit))",
            "out",
            "coupling/test_gradients.py -k moved_data and full",
        ),
    ],
    "coupled_density.py": [
        (
            "penalties not exchanged on the way back",
            "there.reg_m[::-1]",
            "there.reg_m",
            "test_coupled_density.py -k way_back",
        ),
        (
            "score is a sum",
            "float(np.mean([mean for mean, _ in likelihoods]))",
            "float(np.sum([mean for mean, _ in likelihoods]))",
            "test_coupled_density.py -k score",
        ),
        (
            "parameters of a frozen target counted",
            "free = self._mixtures[:1] if self._target_is_frozen else self._mixtures",
            "free = self._mixtures",
            "test_coupled_density.py -k criteria",
        ),
        (
            "every row moves",
            "moved[is_source] = transport.map(X[is_source]",
            "moved[:] = transport.map(X",
            "test_coupled_density.py -k transform",
        ),
    ],
    "coupled_fit.py": [
        (
            "MW2 of the variant",
            "            exact = mixture_transport(*pair)",
            "            pass",
            "test_coupled.py -k tutorial",
        ),
        (
            "components not matched",
            "orders = matched_orders(evaluation.state.plan, keep_target=problem.freeze_target)",
            "orders = [np.arange(n) for n in evaluation.state.plan.shape]",
            "test_coupled_density.py -k same_number",
        ),
        (
            "plan reordered by the source only",
            "state.plan[np.ix_(source, target)]",
            "state.plan[source]",
            "test_coupled.py -k other_orders",
        ),
        (
            "a warm start starts anew",
            'warm = self.warm_start and hasattr(self, "_state")',
            "warm = False",
            "test_coupled.py -k warm_start",
        ),
    ],
    "coupled_starts.py": [
        (
            "the worst start kept",
            "objective > best.evaluation.objective + ",
            "objective < best.evaluation.objective - ",
            "test_coupled.py -k starts_from or no_independent or n_init",
        ),
        (
            "components matched at the least mass",
            "linear_sum_assignment(plan, maximize=True)",
            "linear_sum_assignment(plan, maximize=False)",
            "test_coupled.py test_coupled_density.py -k pair or labels or matched",
        ),
        (
            "rows of weight zero stay",
            "if self.weight is None or self.weight.all():",
            "if True:",
            "test_coupled.py -k absent",
        ),
        (
            "weights of a pooled cloud left out",
            "if any(cloud.weight is not None for cloud in clouds):",
            "if False:",
            "test_callbacks.py -k shows_rows",
        ),
    ],
    "coupled_differentiable.py": [
        (
            "gradients of rows without weight in other places",
            "out[cloud.weight > 0] = rows",
            "out[: len(rows)] = rows",
            "test_coupled.py -k without_weight",
        ),
    ],
    "domains.py": [
        (
            "the negative label is the source",
            "and first < 0 <= second:",
            "and first < 0 > second:",
            "test_domains.py",
        ),
        (
            "zero counts as negative",
            "and first < 0 <= second:",
            "and first <= 0 <= second:",
            "test_domains.py",
        ),
        (
            "unknown labels pass",
            "if not (is_source | is_target).all():",
            "if False:",
            "test_domains.py",
        ),
        (
            "three domains pass",
            "if len(found) != 2:",
            "if len(found) < 2:",
            "test_domains.py",
        ),
    ],
}
