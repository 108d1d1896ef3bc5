"""Mutants of the kernels. Each compiles what its tests need: name few of them."""

MUTANTS = {
    "kernels/blocks.py": [
        (
            "log of the sum without the largest term",
            "log_sum[i] = top[i] + log(total[i])",
            "log_sum[i] = log(total[i])",
            "samples/test_cpu.py -k densities",
        ),
        (
            "rows beyond the last count",
            "    weight[count:] = 0.0",
            "    weight[count:] = 1.0",
            "samples/test_cpu.py -k segments_add_up",
        ),
        (
            "squares not halved",
            "squares[i] = constant - 0.5 * squares[i]",
            "squares[i] = constant - squares[i]",
            "samples/test_cpu.py -k densities",
        ),
        (
            "only one factor of a feature pulled back",
            "            rows_bar[second, i] += g * x",
            "            pass",
            "samples/test_cpu_derivatives.py -k all_inputs",
        ),
        (
            "squared norm moves half",
            "norm_dot[i] += 2.0 * rows[a, i]",
            "norm_dot[i] += rows[a, i]",
            "samples/test_cpu_derivatives.py -k statistics_jvp",
        ),
        (
            "two sums of a tile exchanged",
            "s[1, 2] += s12",
            "s[1, 2] += s21",
            "samples/test_cpu.py -k assigned_statistics",
        ),
    ],
    "kernels/large.py": [
        (
            "rows beyond the last are not left out",
            "        Z[a, count:] = 0.0",
            "        pass",
            "kernels/test_large.py -k far_rows",
        ),
        (
            "a product of one column too few",
            "columns = np.ascontiguousarray(factor[:end, a:end])",
            "columns = np.ascontiguousarray(factor[:end, a:end])\n        columns[end - 1] = 0.0",
            "kernels/test_large.py -k logits_and_statistics",
        ),
        (
            "the last entry of a row of sums left out",
            "            for b in range(p + 1):",
            "            for b in range(p):",
            "kernels/test_large.py -k loses_digits",
        ),
        (
            "the diagonal counted once in the symmetric product",
            "row[a] *= 2.0",
            "row[a] *= 1.0",
            "kernels/test_large.py -k test_vjp",
        ),
        (
            "logits pulled back with the wrong sign",
            "rows_bar[1 + a + p, i] -= weights[i] * out[p, i]",
            "rows_bar[1 + a + p, i] += weights[i] * out[p, i]",
            "kernels/test_large.py -k test_vjp",
        ),
        (
            "only one factor of a square moves",
            "_add_triangle(_weighted(weights, Z, W), Z_dot, sums)",
            "pass",
            "kernels/test_large.py -k test_jvp",
        ),
        (
            "a product of what stands beyond the block",
            "        W[a, BLOCK:] = 0.0",
            "        W[a, BLOCK:] = np.nan",
            "kernels/test_large.py -k logits_and_statistics",
        ),
    ],
    "kernels/compiled.py": [
        (
            "entropy of the first component alone",
            "log(max(own[i], _TINY))",
            "log(max(gamma[0, i], _TINY))",
            "samples/test_cpu.py -k densities",
        ),
        (
            "log-likelihood without weights",
            "total += weight[i] * log_density[i]",
            "total += log_density[i]",
            "samples/test_cpu.py -k segments_add_up",
        ),
        (
            "checks do not depend on the row",
            "factor[i] = weight[i] * (1.0 + (((start + i) * 2654435761) & 0xFFFF))",
            "factor[i] = weight[i]",
            "samples/test_cpu.py -k summary",
        ),
        (
            "rows beyond the last are in the extent",
            "x[count:] = x[0]",
            "x[count:] = 0.0",
            "samples/test_cpu.py -k summary",
        ),
        (
            "the last component is never chosen",
            "for k in range(1, n_components):",
            "for k in range(1, n_components - 1):",
            "samples/test_cpu.py -k densities",
        ),
    ],
    "kernels/compiled_derivatives.py": [
        (
            "responsibilities of near components do not pull",
            "n_parts = 2 if n_apart else 1",
            "n_parts = 1",
            "samples/test_cpu_derivatives.py -k statistics_vjp",
        ),
        (
            "forms not centered",
            "forms[row, i] -= mean[i]",
            "forms[row, i] -= 0.5 * mean[i]",
            "samples/test_cpu_derivatives.py -k statistics_jvp",
        ),
        (
            "cotangents of weights overwritten",
            "order[start + i]] += mean[i]",
            "order[start + i]] = mean[i]",
            "samples/test_cpu_derivatives.py -k all_inputs",
        ),
        (
            "tangents of weights left out",
            "gamma[row, i] * (moved[i] + weight[i] * form[row, i])",
            "gamma[row, i] * weight[i] * form[row, i]",
            "samples/test_cpu_derivatives.py -k statistics_jvp",
        ),
    ],
    "kernels/pruned.py": [
        (
            "covariances lose what masses do not",
            "limit - log(max(1.0, 2.0 * (peaks[k] - lowest[k]))))",
            "limit)",
            "samples/test_pruning.py -k certificate",
        ),
        (
            "the certificate knows nothing of the bounds",
            "certificate[k] += exp(difference - cut)",
            "pass",
            "samples/test_pruning.py -k certificate",
        ),
        (
            "the certificate knows nothing of the logits",
            "certificate[members[j]] += exp(below[0] - cut)",
            "pass",
            "samples/test_pruning.py -k certificate",
        ),
        (
            "bounds without gradients",
            "differences[k] += abs(g[k] - own) * width",
            "pass",
            "samples/test_pruning.py -k certificate",
        ),
        (
            "bounds without the curvature of the best component",
            "base = logit[j] - squares[j]",
            "base = logit[j]",
            "samples/test_pruning.py -k certificate",
        ),
        (
            "members without mass for the sums",
            "limit = differences[k], log_limits[k] - log_weight",
            "limit = differences[k], np.inf",
            "samples/test_pruning.py -k tiny",
        ),
        (
            "halves in no order",
            "    _select(keys, index, widest, first, last, cut)",
            "    pass",
            "samples/test_pruning.py -k each_row_once",
        ),
    ],
    "kernels/small_matrices.py": [
        (
            "singular matrices pass",
            "if not 0.0 < s < math.inf:",
            "if s < 0.0:",
            "kernels/test_small_matrices.py -k first_matrix",
        ),
        (
            "reg_covar left out",
            "            covariance[a, a] += reg_covar",
            "            pass",
            "kernels/test_small_matrices.py -k maximization",
        ),
        (
            "lost components are not told of",
            "any_lost, mass = True, 1.0",
            "mass = 1.0",
            "kernels/test_small_matrices.py -k without_mass",
        ),
        (
            "the first variance stands for all",
            "limit * covariances[k, a, a]",
            "limit * covariances[k, 0, 0]",
            "kernels/test_small_matrices.py -k exceeds",
        ),
        (
            "shift pulled back twice",
            "half[a] = bar[1 + a] - 0.5 * bar[0] * shift[a]",
            "half[a] = bar[1 + a] - bar[0] * shift[a]",
            "kernels/test_small_matrices.py -k pull_back",
        ),
    ],
    "kernels/elementary.py": [
        (
            "low part of ln 2 with the wrong sign",
            "(clipped - n * _LN2_HIGH) - n * _LN2_LOW",
            "(clipped - n * _LN2_HIGH) + n * _LN2_LOW",
            "kernels/test_elementary.py -k exp",
        ),
        (
            "logarithm without its correction",
            "(half_square + z * series) + n * _LN2_LOW",
            "(half_square + z * series)",
            "kernels/test_elementary.py -k log",
        ),
        (
            "exp is zero too early",
            "return 0.0 if x < -708.0 else",
            "return 0.0 if x < -700.0 else",
            "kernels/test_elementary.py -k exp",
        ),
    ],
    "kernels/compilation.py": [
        (
            "cache named after the version alone",
            'sorted(here.glob("*.py"))',
            "[]",
            "kernels/test_compilation.py -k any_source",
        ),
    ],
}
