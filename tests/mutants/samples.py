"""Mutants of the samples and of their loops."""

MUTANTS = {
    "samples/row_boxes.py": [
        (
            "rows with one feature inside are inside",
            ".all(axis=1)",
            ".any(axis=1)",
            "samples/test_row_boxes.py -k outside",
        ),
        (
            "shrunk rows keep their precision",
            'self.X.astype("float64") * scale',
            "self.X * scale",
            "samples/test_row_boxes.py -k shrunk",
        ),
    ],
    "samples/device_arrays.py": [
        (
            "arrays on a device go to the host",
            "    if lies_on_device(array):\n        raise",
            "    if False:\n        raise",
            "functions/test_validation_device.py -k refused",
        ),
        (
            "all arrays are on a device",
            "return kind()[0] in (_CUDA, _CUDA_MANAGED)",
            "return True",
            "estimators/test_device_input.py -k not_imported",
        ),
    ],
    "samples/cuda.py": [
        (
            "the common point is that of any component",
            "points[self.order[0]] if self.n_near and len(points) > 1 else points[0]",
            "points[0]",
            "samples/test_cuda.py -k sums",
        ),
        (
            "components stay in the order of the kernels",
            "        out[self.order] = values",
            "        out[:] = values",
            "samples/test_cuda.py -k sums",
        ),
        (
            "statistics about the reference all the same",
            "self.points if origin is None else self._points(origin)",
            "self.points",
            "samples/test_cuda.py -k sums",
        ),
        (
            "one way for all",
            "(Fused if Fused.fits(mixture) else Tiles)",
            "(Fused if True else Tiles)",
            "samples/test_cuda.py -k way_is",
        ),
    ],
    "samples/cuda_fused.py": [
        (
            "features are never kept",
            "for keeps in (True, False) if can_keep else (False,):",
            "for keeps in (False,):",
            "samples/test_cuda.py -k kept",
        ),
        (
            "shared memory without an end",
            "if shared <= SHARED and n_tasks <= n_threads:",
            "if n_tasks <= n_threads:",
            "samples/test_cuda.py -k way_is",
        ),
        (
            "more sums than threads",
            "if shared <= SHARED and n_tasks <= n_threads:",
            "if shared <= SHARED:",
            "samples/test_cuda.py -k way_is",
        ),
    ],
    "samples/cuda_tiles.py": [
        (
            "what the components pull back about the point is left out",
            "tables = self.mixture.direction[near], self.mixture.coefficients[near]",
            "tables = self.mixture.direction[near], 0.0 * self.mixture.coefficients[near]",
            "samples/test_cuda.py -k cotangents",
        ),
        (
            "movements take the place of forms",
            "rows_dot=self.rows_dot, adds=True",
            "rows_dot=self.rows_dot, adds=False",
            "samples/test_cuda.py -k tangents",
        ),
        (
            "one shape of blocks",
            "return min((2, 4, 8, 16, 32), key=",
            "return min((8,), key=",
            "samples/test_cuda.py -k every_shape",
            "slower, and as good",
        ),
    ],
    "samples/cuda_apart.py": [
        (
            "half a square is a square",
            "self._constants[batch] - 0.5 * Y.sum(axis=1)",
            "self._constants[batch] - Y.sum(axis=1)",
            "samples/test_cuda.py -k sums",
        ),
        (
            "one batch is all",
            "for start in range(0, self.n_components, step):",
            "for start in range(0, step, step):",
            "samples/test_cuda.py -k batches",
        ),
    ],
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
            "bounds = n_samples * np.arange(n_groups + 1) // n_groups",
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
        (
            "gradients of the rows in another order",
            "back = np.argsort(self.order)",
            "back = self.order",
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
        (
            "rows without weight come first",
            "np.concatenate([active, np.flatnonzero(weight == 0)])",
            'np.argsort(weight > 0, kind="stable")',
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
        (
            "tangents of the rows in another order",
            "            X_dot = None if X_dot is None else X_dot[self.order]",
            "            pass",
            "estimators/test_derivatives_modes.py -k zero_weights",
        ),
        (
            "gradients of weights in another unit",
            "weight_bar = np.ldexp(weight_bar, -self.exponent)",
            "pass",
            "estimators/test_derivatives_modes.py -k unit_they_have or zero_weights",
        ),
        (
            "tangents of weights in another unit",
            "weight_dot = np.ldexp(weight_dot, -self.exponent)",
            "pass",
            "estimators/test_derivatives_modes.py -k unit_they_have or zero_weights",
        ),
    ],
    "samples/__init__.py": [
        (
            "rows of weight zero stay",
            "if not with_zeros and sample_weight is not None and not sample_weight.all():",
            "if False:",
            "estimators/test_mixture_weights.py -k zero or too_few",
        ),
    ],
    "samples/chunks.py": [
        (
            "numbers that are not finite pass",
            "    refuse_nonfinite(chunk.X, chunk.first)\n",
            "",
            "samples/test_chunks.py -k finite",
        ),
        (
            "units of weights counted twice",
            "chunk.order._replace(exponent=0)",
            "chunk.order",
            "samples/test_chunks.py -k unit",
        ),
        (
            "the weights' common cotangent left out",
            "self._shift += amount",
            "pass",
            "samples/test_chunks.py -k sinkhorn",
        ),
        (
            "rows drawn by their place in the chunk",
            "index[chunks == number] - ends[number]",
            "index[chunks == number] - ends[0]",
            "samples/test_chunks.py -k drawn",
        ),
        (
            "chunks without weight read in each pass",
            "self._chunks.part(numbers).total(",
            "self._chunks.total(",
            "estimators/test_coupled_chunks.py -k not_read",
        ),
        (
            "whole chunks read for a few rows",
            "whole=question is not picked",
            "whole=True",
            "functions/test_flow_chunks.py -k memory_map",
        ),
    ],
    "samples/sums.py": [
        (
            "a tree that follows who comes first",
            "rest = [add_up([*level, *rest])]",
            "rest = [add_up(level)]",
            "samples/test_chunks.py -k tree",
        ),
    ],
    "samples/dask_chunks.py": [
        (
            "sums in the order in which chunks are done",
            "return self._computed(graph, [tree_sum(answers, add_up)])[0]",
            "return added(self._computed(graph, answers)[::-1])",
            "samples/test_dask_chunks.py -k bits",
        ),
        (
            "empty blocks are asked",
            "[place.number for place in self._places if place.n_rows]",
            "[place.number for place in self._places]",
            "samples/test_dask_chunks.py -k empty",
        ),
        (
            "empty blocks are computed for lazy answers",
            "task if place.n_rows else (partial(_empty, shapes, dtype),)",
            "task",
            "samples/test_dask_chunks.py -k empty",
        ),
        (
            "copies are kept",
            "if not plain or not all(X.flags.c_contiguous for X, *_ in blocks):",
            "if not plain:",
            "samples/test_dask_chunks.py -k take_memory",
        ),
        (
            "nothing is kept",
            "self._held = self._kept(graph, made) or (graph, made)",
            "self._held = graph, made",
            "samples/test_dask_chunks.py -k are_kept",
        ),
        (
            "blocks of other shapes pass",
            "if len(block) != self.n_rows:",
            "if False:",
            "samples/test_dask_chunks.py -k as_they_say",
        ),
        (
            "blocks that raise are not named",
            "            self._note_block(error)\n",
            "",
            "samples/test_dask_chunks.py -k error_of_a_block",
        ),
        (
            "chunks that raise are not named",
            "with naming_chunk(self.number, self.rows):",
            "if True:",
            "samples/test_dask_chunks.py -k names_its_chunk",
        ),
        (
            "the whole gradient is computed before it is written",
            "graph, n_blocks = _graph_of(array), _n_at_once(array)",
            "graph, n_blocks = _graph_of(array), len(self._places)",
            "samples/test_dask_chunks.py -k block_by_block",
        ),
        (
            "large questions travel with the graph",
            "if len(dumps(question)) < _LARGE:",
            "if True:",
            "estimators/test_dask_input_cluster.py -k sent_ahead",
        ),
    ],
    "samples/rows.py": [
        (
            "arrays on a device pass",
            "            if lies_on_device(array):",
            "            if False:",
            "estimators/test_device_input.py -k chunks_are_on_the_host",
        ),
        (
            "an array is made of chunks, a row at a time",
            "    def __array__(self",
            "    def _array(self",
            "functions/test_flow_chunks.py -k cure",
        ),
        (
            "small arrays are chunks of their own",
            "if is_small and joined and joined + n_rows <= size:",
            "if False:",
            "samples/test_rows.py -k small",
        ),
        (
            "chunks cut across the storage",
            "if isinstance(stored, Integral) and stored < size and not whole:",
            "if False:",
            "samples/test_rows.py -k storage",
        ),
        (
            "private pages given back",
            ' or array.mode == "c"',
            "",
            "samples/test_rows.py -k private",
        ),
    ],
}
