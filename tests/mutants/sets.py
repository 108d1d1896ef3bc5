"""Mutants of what fits many sets at once; see run.py."""

MUTANTS = {
    "kernels/sets.py": [
        (
            "constants of the common point also about the means",
            "            apart[:, 0] = constants[s]\n            points",
            "            apart[:, 0] = coefficients[s, :, 0]\n            points",
            "em/test_sets_map.py -k about_their_means",
        ),
        (
            "no set goes about its means",
            "centered[s] = mark_outweighed(*own, limit, marks)",
            "centered[s] = mark_outweighed(*own, 1e300, marks)",
            "em/test_sets_map.py -k about_their_means",
        ),
        (
            "linear coefficients of the common point pulled back",
            "apart[:, 0], apart[:, 1 : 1 + n_features] = constants[s], 0.0",
            "apart[:, 0] = constants[s]",
            "em/test_sets_map.py -k about_their_means",
        ),
        (
            "rows of the next set read",
            "        part[:] = 0.0\n        statistics(\n            X[: bounds[s, 1]],",
            "        part[:] = 0.0\n        statistics(\n            X,",
            "em/test_sets_map.py -k a_step_of_all_sets",
        ),
        (
            "centers without weights",
            "center[a] += weight * x",
            "center[a] += x",
            "em/test_sets_map.py -k far_from_the_origin",
            "centers need not be the means: sums about any point are the same but for rounding",
        ),
    ],
    "em/sets_map.py": [
        (
            "shared covariances with equal shares",
            'np.einsum("sk,skab->sab", shares, covariances)',
            "covariances.mean(axis=1)",
            "em/test_sets_map.py -k a_step_of_all_sets",
        ),
        (
            "shared covariances ask nothing of masses",
            "shares_bar = shares_bar + gained",
            "pass",
            "em/test_sets_map.py -k a_step_of_all_sets",
        ),
        (
            "weights that are fixed do not stay in the cotangent",
            "weights = weights + cotangent.weights",
            "pass",
            "em/test_sets_map.py -k a_step_of_all_sets",
        ),
        (
            "components that are lost are forgotten",
            "theta_bar.means[lost] += flat_bar.means[lost]",
            "pass",
            "em/test_sets_map.py -k lost_its_mass",
        ),
        (
            "components that come to lie far away are not taken again",
            "again = np.flatnonzero(marks.reshape(shape[:2]).any(axis=1))",
            "again = np.flatnonzero(marks[:0])",
            "em/test_sets_map.py -k far_away",
        ),
    ],
    "em/sets_fit.py": [
        (
            "the gain alone ends a fit",
            "settled &= (residuals < residual_tol) | (residual_tol == np.inf)",
            "pass",
            "em/test_sets_map.py -k fit_of_all_sets",
        ),
        (
            "the last step converges always",
            "settled[done], residuals[done]",
            "True, residuals[done]",
            "em/test_sets_map.py -k fit_of_all_sets",
        ),
        (
            "θ_{T-1} is θ_T",
            "_put(fit.previous, own, taken(theta, done))",
            "_put(fit.previous, own, taken(step.parameters, done))",
            "em/test_sets_map.py -k fit_of_all_sets",
        ),
    ],
    "em/sets_adjoints.py": [
        (
            "all sets unrolled for as long as the longest",
            "theta = taken(theta, n_iter[alive] > t + 1)",
            "theta = taken(theta, n_iter[alive] > -1)",
            "em/test_sets_map.py -k those_of_each_set",
        ),
        (
            "sets that have not settled are not looked at again",
            "sharp = solved & (sets_map.changes(step) <= tol)",
            "sharp = solved",
            "em/test_sets_map.py -k implicit_complains",
        ),
        (
            "systems that were not solved are taken for solved",
            "solved = regular & (np.sqrt((left * left).sum(axis=1)) <= tol * scale)",
            "solved = regular",
            "em/test_sets_map.py -k one_by_one",
        ),
    ],
    "functions/mixture_fits.py": [
        (
            "parameters of sets that failed",
            "part[self.failed] = np.nan",
            "pass",
            "functions/test_fit_mixtures.py -k cannot_be_fitted",
        ),
        (
            "the unit of weights forgotten",
            "np.ldexp(weight_bar, -self._exponent)",
            "weight_bar",
            "functions/test_fit_mixtures.py -k the_unit_of_weights",
        ),
        (
            "cotangents of covariances not made symmetric",
            "parts[2] = family_of(self._start).symmetrized(parts[2])",
            "pass",
            "functions/test_fit_mixtures.py -k those_of_the_estimator",
        ),
    ],
    "functions/layer_sets.py": [
        (
            "sets of an annealed layer fitted together",
            "and layer.temperatures == [1.0]",
            "and layer.temperatures",
            "functions/test_layer_sets.py -k only_the_estimator_knows",
        ),
        (
            "restarts forgotten",
            "and options.n_init == 1",
            "and options.n_init > 0",
            "functions/test_layer_sets.py -k only_the_estimator_knows",
        ),
        (
            "no set is fitted together with others",
            "alone[_fit_together(layer, X, sample_weight, initial, out)] = False",
            "pass",
            "functions/test_layer_sets.py -k ordinary_sets",
        ),
        (
            "steps of one fit are made again for each cotangent",
            "if _is_for_sets(layer, X) and X.strides[0]:",
            "if _is_for_sets(layer, X):",
            "functions/test_layer_sets.py -k steps_that_it_kept",
        ),
        (
            "records begin where they end",
            "mixtures = (*fit.parameters, *fit.previous, *start)",
            "mixtures = (*fit.parameters, *fit.previous, *fit.parameters)",
            "functions/test_layer_sets.py -k few_steps",
        ),
    ],
    "functions/fit_mixtures.py": [
        (
            "a seed goes on from set to set",
            "        rng = check_random_state(random_state)\n        em_map,",
            "        rng = random_state = check_random_state(random_state)\n        em_map,",
            "functions/test_fit_mixtures.py -k a_seed_is_that",
        ),
        (
            "rows of weight zero count",
            "np.count_nonzero(weight[first:last]) for",
            "len(weight[first:last]) for",
            "functions/test_fit_mixtures.py -k weight_zero_do_not_count",
        ),
        (
            "sets of equal sizes one row too long",
            "np.stack([first, first + n_samples], axis=1)",
            "np.stack([first, first + n_samples - 1], axis=1)",
            "functions/test_fit_mixtures.py -k forms_in_which_sets",
        ),
    ],
}
