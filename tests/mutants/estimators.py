"""Mutants of the estimators."""

MUTANTS = {
    "estimators/dask_input.py": [
        (
            "unknown sizes pass",
            "if np.isnan(np.concatenate([*array.chunks, [0.0]])).any():",
            "if False:",
            "estimators/test_dask_input.py -k cannot_be_used",
        ),
        (
            "masks are dropped",
            " or isinstance(array._meta, np.ma.MaskedArray)",
            "",
            "estimators/test_dask_input.py -k cannot_be_used",
        ),
        (
            "negative weights pass",
            "    if lowest < 0:",
            "    if False:",
            "estimators/test_dask_input.py -k weights_that_mean",
        ),
        (
            "extreme weights keep their unit",
            "np.ldexp(weight, -exponent) if exponent else weight, exponent",
            "weight, 0",
            "estimators/test_dask_input.py -k extreme",
        ),
        (
            "warning within the package",
            "frame, level = frame.f_back, level + 1",
            "frame = frame.f_back",
            "estimators/test_dask_input.py -k together",
        ),
        (
            "few chunks are warned of",
            "n_chunks <= _FEW_CHUNKS or ",
            "",
            "estimators/test_dask_input.py -k small_chunks",
        ),
    ],
    "estimators/coupled_prediction.py": [
        (
            "rows of the target change their mass",
            "factors[is_source] = self.transport_.mass_factors(rows[is_source])",
            "factors[:] = self.transport_.mass_factors(rows)",
            "estimators/test_coupled_prediction.py -k mass",
        ),
        (
            "penalties not exchanged on the way back",
            "there.reg_m[::-1]",
            "there.reg_m",
            "estimators/test_coupled_prediction.py -k way_back",
        ),
        (
            "score is a sum",
            "float(np.mean([mean for mean, *_ in likelihoods]))",
            "float(np.sum([mean for mean, *_ in likelihoods]))",
            "estimators/test_coupled_prediction.py -k score",
        ),
        (
            "parameters of a frozen target counted",
            "free = self._mixtures[:1] if self._target_is_frozen else self._mixtures",
            "free = self._mixtures",
            "estimators/test_coupled_prediction.py -k criteria",
        ),
        (
            "coupled ICL without its entropy",
            "X, y, sample_domain, sample_weight, density=completed_log_density",
            "X, y, sample_domain, sample_weight",
            "estimators/test_coupled_prediction.py -k icl",
        ),
        (
            "every row moves",
            "moved[is_source] = transport.map(X[is_source]",
            "moved[:] = transport.map(X",
            "estimators/test_coupled_prediction.py -k transform",
        ),
    ],
    "estimators/manners.py": [
        (
            "no version in a pickle",
            "state = {**super().__getstate__(), _VERSION: __version__}",
            "state = {**super().__getstate__()}",
            "estimators/test_manners.py -k version",
        ),
        (
            "other versions load in silence",
            "if version != __version__:",
            "if False:",
            "estimators/test_manners.py -k version",
        ),
        (
            "private tuples in a pickle",
            "state[name] = state[name]._asdict()",
            "pass",
            "estimators/test_manners.py -k public_classes",
        ),
        (
            "private tuples stay dictionaries",
            "if isinstance(state[name], dict):",
            "if False:",
            "estimators/test_manners.py -k come_back",
        ),
        (
            "the link is that of scikit-learn",
            '    _doc_link_module = "skgmmot"\n',
            "",
            "estimators/test_manners.py -k displays",
        ),
    ],
    "estimators/sklearn_exchange.py": [
        (
            "what they lack is dropped",
            "        self._refuse_what_they_lack()\n",
            "",
            "estimators/test_sklearn_exchange.py -k refused_with_the_cure",
        ),
        (
            "results stay behind",
            "        if hasattr(source, name):",
            "        if False:",
            "estimators/test_sklearn_exchange.py -k there_and_back",
        ),
        (
            "results are shared",
            "copy(getattr(source, name))",
            "getattr(source, name)",
            "estimators/test_sklearn_exchange.py -k there_and_back",
        ),
        (
            "fitted again it stops by its own rule",
            "**_AS_THEY_FIT | shared | params",
            "**shared | params",
            "estimators/test_sklearn_exchange.py -k same_steps",
        ),
        (
            "theirs are as many components as the parameter says",
            'params |= {"n_components": len(self.weights_)}  # of the fit',
            "pass",
            "estimators/test_sklearn_exchange.py -k number_of_components",
        ),
        (
            "other mixtures are read as theirs",
            "if not isinstance(theirs, GaussianMixture):",
            "if False:",
            "estimators/test_sklearn_exchange.py -k other_mixtures",
        ),
    ],
    "estimators/coupled_fit.py": [
        (
            "the last sweep of a start told twice",
            "known + result.history[bool(known) :]",
            "known + result.history",
            "estimators/test_coupled_terms.py -k verbose",
        ),
        (
            "MW2 of the variant",
            "if problem.reg > 0 or min(problem.penalties) < np.inf:",
            "if False:",
            "estimators/test_coupled.py -k tutorial",
        ),
        (
            "components not matched",
            "orders = matched_orders(evaluation.state.plan, keep_target=problem.freeze_target)",
            "orders = [np.arange(n) for n in evaluation.state.plan.shape]",
            "estimators/test_coupled_prediction.py -k same_number",
        ),
        (
            "plan reordered by the source only",
            "state.plan[np.ix_(source, target)]",
            "state.plan[source]",
            "estimators/test_coupled.py -k other_orders",
        ),
        (
            "a warm start starts anew",
            'warm = self.warm_start and hasattr(self, "_state")',
            "warm = False",
            "estimators/test_coupled.py -k warm_start",
        ),
    ],
    "estimators/coupled_starts.py": [
        (
            "the worst start kept",
            "objective > best.evaluation.objective + ",
            "objective < best.evaluation.objective - ",
            "estimators/test_coupled.py -k starts_from or no_independent or n_init",
        ),
        (
            "components matched at the least mass",
            "linear_sum_assignment(plan, maximize=True)",
            "linear_sum_assignment(plan, maximize=False)",
            "estimators/test_coupled.py estimators/test_coupled_prediction.py -k pair or labels",
        ),
        (
            "rows of weight zero stay",
            "if self.weight is None or self.weight.all():",
            "if True:",
            "estimators/test_coupled.py -k absent",
        ),
        (
            "weights of a pooled cloud left out",
            "if any(cloud.weight is not None for cloud in clouds):",
            "if False:",
            "estimators/test_callbacks.py -k shows_rows",
        ),
    ],
    "estimators/coupled_derivatives.py": [
        (
            "gradients of rows without weight in other places",
            "out[cloud.weight > 0] = rows",
            "out[: len(rows)] = rows",
            "estimators/test_coupled.py -k without_weight",
        ),
    ],
    "estimators/domains.py": [
        (
            "the negative label is the source",
            "and first < 0 <= second:",
            "and first < 0 > second:",
            "estimators/test_domains.py",
        ),
        (
            "zero counts as negative",
            "and first < 0 <= second:",
            "and first <= 0 <= second:",
            "estimators/test_domains.py",
        ),
        (
            "unknown labels pass",
            "if not (is_source | is_target).all():",
            "if False:",
            "estimators/test_domains.py",
        ),
        (
            "three domains pass",
            "if len(found) != 2:",
            "if len(found) < 2:",
            "estimators/test_domains.py",
        ),
    ],
    "estimators/em_options.py": [
        (
            "a warm start is heated again",
            "temperatures if last is None else temperatures[-1:]",
            "temperatures",
            "estimators/test_mixture_temperature.py -k stays_cold",
        ),
        (
            "fixed weights are those of the initialization",
            "if estimator.fixed_weights and weights is None:",
            "if False:",
            "estimators/test_mixture.py -k fixed_weights",
        ),
    ],
    "estimators/prediction.py": [
        (
            "overflow and underflow pass",
            "            if lost:\n",
            "            if False:\n",
            "estimators/test_mixture_failures.py -k single_precision",
        ),
        (
            "variances that vanish in single precision pass",
            "lost |= not (family.variances(cast[name]) > 0).all()",
            "pass",
            "estimators/test_mixture_failures.py -k single_precision",
        ),
        (
            "samples labeled by their order",
            "np.repeat(np.arange(len(counts)), counts)",
            "np.arange(n_samples) * len(counts) // n_samples",
            "estimators/test_prediction.py -k samples",
        ),
    ],
    "estimators/criteria.py": [
        (
            "held weights counted",
            ' or getattr(self, "e_step", "") == "sinkhorn"',
            "",
            "estimators/test_mixture_sinkhorn.py -k free_parameters",
        ),
        (
            "BIC with the penalty of AIC",
            "np.log(n) * self._n_parameters()\n\n    def icl(",
            "2 * self._n_parameters()\n\n    def icl(",
            "estimators/test_prediction.py -k criteria",
        ),
        (
            "entropy left out",
            "density=completed_log_density)",
            ")",
            "estimators/test_prediction.py -k icl",
        ),
        (
            "mean over samples without weights",
            "np.array([values @ weight, weight.sum()])",
            "np.array([values.sum(), len(values)])",
            "estimators/test_prediction.py -k icl",
        ),
        (
            "rows of weight zero in the mean",
            "        if not weight.all():",
            "        if False:",
            "em/test_densities.py -k left_out",
        ),
    ],
    "estimators/derivatives.py": [
        (
            "fixed point rounded to the data's precision",
            "return record if same else",
            "return",
            "estimators/test_derivatives_modes.py -k fixed_point_itself",
        ),
        (
            "fixed point rounded to single precision",
            "        return record if same else",
            '        rounded = (part.astype("f").astype("d") for part in record.end)\n'
            "        rounded = MixtureParameters(*rounded, record.end.covariance_type)\n"
            "        return record._replace(end=rounded, last=None) if same else",
            "estimators/test_derivatives_modes.py -k fixed_point_itself",
        ),
        (
            "directions that are not finite pass",
            "if in_memory and not np.isfinite(direction).all():",
            "if False:",
            "estimators/test_derivatives_modes.py -k wrong_arguments",
        ),
    ],
    "estimators/callbacks.py": [
        (
            "callbacks cannot stop",
            "            return stop",
            "            return None",
            "estimators/test_callbacks.py -k stops",
        ),
        (
            "a task too many",
            "if n_iter < max_iter and not converged and not stop:",
            "if n_iter <= max_iter and not converged and not stop:",
            "estimators/test_callbacks.py -k each",
        ),
        (
            "tasks of failed restarts do not end",
            "if step is not None:  # the restart failed in it",
            "if False:",
            "estimators/test_callbacks.py -k tasks_end",
        ),
        (
            "times without being asked",
            'if verbose > 1 else ""',
            'if verbose > 0 else ""',
            "estimators/test_mixture.py -k verbose",
        ),
    ],
}
