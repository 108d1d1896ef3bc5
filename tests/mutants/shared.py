"""Mutants of what all rooms share: checks of input, and parameters; and of the warm-up."""

MUTANTS = {
    "reprs.py": [
        (
            "arrays fill pages",
            "value, precision=4, threshold=_WHOLE, edgeitems=_EDGE,",
            "value, precision=4, threshold=10**9,",
            "test_reprs.py -k notebook",
        ),
        (
            "HTML not escaped",
            "<p><code>{escape(repr(result))}</code></p>",
            "<p><code>{repr(result)}</code></p>",
            "test_reprs.py -k notebook",
        ),
    ],
    "checks.py": [
        (
            "rows of a column are not mixtures",
            "mixture.dtype == object and mixture.size == 1:",
            "False:",
            "functions/test_distances_searches.py -k one_row",
        ),
        (
            "temperatures may rise",
            "if (np.diff(values) > 0).any():",
            "if False:",
            "estimators/test_mixture_temperature.py -k out_of_range",
        ),
        (
            "weights that are all zero pass",
            "    if not weight.any():",
            "    if False:",
            "estimators/test_mixture_weights.py -k mean_nothing",
            "scikit-learn 1.9 refuses such weights first; older versions do not",
        ),
        (
            "cotangents not made symmetric",
            "parts[2] = family.symmetrized(parts[2])",
            "pass",
            "estimators/test_derivatives.py -k symmetric_part",
        ),
        (
            "negative weights pass",
            "if weights.min() < 0 or abs(",
            "if abs(",
            "test_checks.py -k invalid",
        ),
        (
            "negative variances pass",
            "if (smallest < -rounding * scale).any():",
            "if False:",
            "test_checks.py -k invalid",
        ),
        (
            "asymmetric covariances pass",
            "if (covariances != transposed).any():",
            "if False:",
            "test_checks.py -k invalid",
        ),
        (
            "given weights not scaled to one",
            "        weights = weights / weights.sum()",
            "        pass",
            "test_checks.py -k given",
        ),
        (
            "tiny weights in their own unit",
            "if abs(exponent) <= _ORDINARY_EXPONENT:",
            "if exponent <= _ORDINARY_EXPONENT:",
            "estimators/test_mixture_weights.py -k proportions",
        ),
        (
            "huge weights in their own unit",
            "if abs(exponent) <= _ORDINARY_EXPONENT:",
            "if exponent >= -_ORDINARY_EXPONENT:",
            "estimators/test_prediction.py -k criteria or overflows",
        ),
        (
            "weights counted in another unit",
            "return np.ldexp(weight, -exponent), exponent",
            "return np.ldexp(weight, -exponent), 0",
            "estimators/test_prediction.py -k criteria",
        ),
        (
            "sums of weights overflow",
            "    if not np.isfinite(total):",
            "    if False:",
            "estimators/test_prediction.py -k criteria or overflows",
        ),
        (
            "mixtures of weight zero count",
            "if weight > 0]",
            "if weight >= 0]",
            "functions/test_barycenter.py -k weight_zero",
        ),
    ],
    "parameters.py": [
        (
            "data of a Pipeline not transformed for scores",
            "X = estimator[:-1].transform(X)",
            "pass",
            "functions/test_scorers.py -k pipeline",
        ),
        (
            "data of a Pipeline not transformed for displays",
            "X = estimator[:-1].transform(X)",
            "pass",
            "plotting/test_mixture_display.py -k pipeline_or_search",
        ),
        (
            "a Pipeline not opened",
            'isinstance(getattr(estimator, "steps", None), list)',
            "False",
            "test_checks.py -k final_mixture",
        ),
        (
            "a search not opened",
            'if hasattr(estimator, "best_estimator_"):',
            "if False:",
            "test_checks.py -k final_mixture",
        ),
        (
            "a single component has no type",
            "if n_components != n_features or n_components == 1:",
            "if n_components != n_features:",
            "test_checks.py -k single_component",
        ),
    ],
    "warm_up.py": [
        (
            "nothing compiled for float32",
            "for dtype in (np.float64, np.float32):",
            "for dtype in (np.float64,):",
            "test_warm_up.py -k left_to_compile",
        ),
        (
            "nothing compiled for e_step='sinkhorn'",
            'for e_step in ("softmax", "sinkhorn"):',
            'for e_step in ("softmax",):',
            "test_warm_up.py -k left_to_compile",
        ),
    ],
}
