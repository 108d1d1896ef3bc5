"""Mutants of the maximization of a coupled objective, and of its derivatives."""

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
            "objective = sum(statistics.likelihoods) - tau * value",
            "objective = sum(statistics.likelihoods) + tau * value",
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
    "coupling/sweeps.py": [
        (
            "one tolerance is enough",
            "converged = gain < tol and residual < residual_tol",
            "converged = gain < tol or residual < residual_tol",
            "coupling/test_sweeps.py -k tolerances",
        ),
        (
            "plan left out of the residual",
            "max(coordinates.scaled_step(gradient), _weights_residual(problem, evaluation))",
            "coordinates.scaled_step(gradient)",
            "coupling/test_sweeps.py -k residual",
        ),
        (
            "zero entries of the plan have a residual",
            "np.maximum(state.plan + excess * curvature, 0.0)",
            "(state.plan + excess * curvature)",
            "coupling/test_sweeps.py -k no_sweep",
        ),
        (
            "entropic plans not lifted",
            "            evaluation = _lift(problem, evaluation)",
            "            pass",
            "coupling/test_sweeps.py -k diagonal",
        ),
        (
            "a sweep too many",
            "min(n_sweeps, max_iter + 1 - len(history))",
            "min(n_sweeps, max_iter + 2 - len(history))",
            "coupling/test_sweeps.py -k max_iter",
        ),
        (
            "callback cannot stop",
            "if settled or stopped:",
            "if settled:",
            "coupling/test_sweeps.py -k callback",
        ),
    ],
    "coupling/coupled_coordinates.py": [
        (
            "plan may be negative",
            "            lower[: self.n_plan] = 0.0",
            "            pass",
            "coupling/test_coupled_coordinates.py coupling/test_sweeps.py -k feasible or no_sweep",
        ),
        (
            "diagonal without the derivative of exp",
            "            spread_bar[:, on] *= np.exp(self.scale[:, on] * spread[:, on])",
            "            pass",
            "coupling/test_coupled_coordinates.py -k slope",
        ),
        (
            "pairs of components not joined in the Hessian",
            "products if i == j else -products",
            "products",
            "coupling/test_coupled_coordinates.py -k hessian",
        ),
        (
            "columns of a frozen plan not held",
            "masses.sum(axis=0)",
            "masses.sum(axis=0) * 0 + masses.sum()",
            "coupling/test_coupled_coordinates.py -k base or feasible",
        ),
        (
            "covariances relative to their roots",
            "np.where(self.rows == self.columns, 2.0, np.sqrt(2.0))",
            "1.0",
            "coupling/test_sweeps.py -k residual",
        ),
    ],
    "coupling/optimum_gradients.py": [
        (
            "entries of the plan looked at the wrong way",
            "plan < _UNDECIDED,",
            "plan > _UNDECIDED,",
            "coupling/test_optimum_gradients.py -k undecided or support",
        ),
        (
            "slopes of nearly zero are decided",
            "excess > -_UNDECIDED",
            "excess > _UNDECIDED",
            "coupling/test_optimum_gradients.py -k undecided",
        ),
        (
            "slopes compared with the wrong sign",
            "excess > -_UNDECIDED",
            "excess < -_UNDECIDED",
            "coupling/test_optimum_gradients.py -k undecided",
        ),
        (
            "frozen columns compared with all of the plan",
            "mean if problem.freeze_target else (plan * bar).sum()",
            "(plan * bar).sum()",
            "coupling/test_optimum_gradients.py -k undecided",
        ),
        (
            "no look at the optimum",
            "    if residual > tol:",
            "    if residual < -tol:",
            "coupling/test_optimum_gradients.py -k does_not_hold",
        ),
        (
            "copies of a tied factor all counted",
            "share = len(factors) // len(bar)",
            "share = 1",
            "coupling/test_optimum_gradients.py -k moved_data and tied",
        ),
        (
            "tempered weights do not follow the covariances",
            "pulled = 0.5 * cloud.reg_covar * bar.weights * theta.weights",
            "pulled = 0.0 * bar.weights",
            "coupling/test_optimum_gradients.py -k moved_data and full",
        ),
        (
            "idle directions left singular",
            "(out + self.idle.T @ (self.idle @ unit))",
            "out",
            "coupling/test_optimum_gradients.py -k moved_data and full",
        ),
    ],
}
