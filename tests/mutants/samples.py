"""Mutants of the samples and of their loops."""

MUTANTS = {
    "samples/interface.py": [
        (
            "center outside the data",
            "np.clip(self.sums / self.total_weight, self.lowest, self.highest)",
            "self.sums / self.total_weight",
            "em/test_em_map.py -k constant_column",
        ),
    ],
    "samples/cpu.py": [
        (
            "groups that cut blocks",
            "bounds = BLOCK * (np.arange(n_groups + 1) * n_blocks // n_groups)",
            "bounds = self.shape[0] * np.arange(n_groups + 1) // n_groups",
            "samples/test_cpu.py -k groups",
        ),
        (
            "pairs where the pull-back takes fours",
            "TILE if n_apart else PAIR",
            "PAIR",
            "samples/test_cpu_derivatives.py -k vjp",
        ),
        (
            "BLAS keeps its threads",
            "one_blas_thread() if self.shape[1] >= LARGE else nullcontext()",
            "nullcontext()",
            "kernels/test_large.py -k one_thread",
        ),
        (
            "weights of the chosen rows left out",
            "weight = None if self.sample_weight is None else self.sample_weight[index]",
            "weight = None",
            "em/test_initialization.py -k weights_go",
        ),
        (
            "parts overlap",
            "slice(start, start + _CHUNK)",
            "slice(start, start + _CHUNK + 1)",
            "em/test_initialization.py -k in_parts",
        ),
        (
            "components stay in the kernels' order",
            "out[self.order] = values",
            "out[:] = values",
            "samples/test_cpu.py -k statistics",
        ),
        (
            "only the first segment counts",
            "sums[0] if len(sums) == 1 else sums.sum(axis=0)",
            "sums[0]",
            "samples/test_cpu.py -k segments_add_up",
        ),
        (
            "last block left out",
            "    bounds[-1] = n_samples",
            "    bounds[-1] = n_samples // BLOCK * BLOCK",
            "samples/test_cpu.py -k summary",
        ),
        (
            "diagonal of the overlaps counted twice",
            "np.tril(lower, -1).T",
            "np.tril(lower).T",
            "em/test_e_steps.py -k overlaps",
        ),
    ],
    "samples/pruning.py": [
        (
            "what lost too much is left as it is",
            "        if not failed.any():",
            "        if True:",
            "samples/test_pruning.py -k lost_too_much",
        ),
        (
            "components that overlap are pruned as well",
            "if len(active) > _LARGEST_SHARE * _PROBES * n_components:",
            "if False:",
            "samples/test_pruning.py -k such_that_overlap",
        ),
        (
            "nothing is pruned",
            "if len(active) > _LARGEST_SHARE * _PROBES * n_components:",
            "if True:",
            "samples/test_pruning.py -k test_statistics",
        ),
        (
            "lists of other logits",
            "return selection if same and not len(logits.apart) else None",
            "return selection",
            "samples/test_pruning.py -k earlier_calls",
        ),
        (
            "tangents of the data in the user's order",
            "return rows[self.order] if self.order.size else rows",
            "return rows",
            "samples/test_pruning.py -k derivatives",
        ),
        (
            "lists without their starts",
            "starts=ends[self.starts],",
            "starts=self.starts,",
            "samples/test_pruning.py -k derivatives",
        ),
    ],
    "samples/idle.py": [
        (
            "weights of idle rows have no gradient",
            "            if weight_bar is not None:",
            "            if False:",
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
        (
            "weights of idle rows do not move",
            "if weight_dot is not None and weight_dot[n:].any():",
            "if False:",
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
        (
            "rows without weight have no place",
            "n_samples, n_features = self._n_active + self._idle.shape[0]",
            "n_samples, n_features = self._n_active",
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
    ],
}
