"""Mutants of the displays."""

MUTANTS = {
    "plotting/drawing.py": [
        (
            "axes of ellipses in the wrong order",
            "np.sqrt(np.maximum(variances, 0.0))[::-1]",
            "np.sqrt(np.maximum(variances, 0.0))",
            "plotting/test_mixture_display.py -k standard_deviations",
        ),
        (
            "components without weight drawn",
            "if weights[k] == 0:",
            "if False:",
            "plotting/test_mixture_display.py -k without_weight",
        ),
        (
            "opacity not by weight",
            "0.08 + 0.37 * weights / weights.max()",
            "0.08 + 0.37 * np.ones_like(weights)",
            "plotting/test_mixture_display.py -k opaque",
        ),
        (
            "one feature twice",
            "if pair[0] == pair[1]:",
            "if False:",
            "plotting/test_drawing.py -k wrong_features",
        ),
        (
            "labels overwritten",
            "if has_numbers and not axis.get_label_text():",
            "if has_numbers:",
            "plotting/test_drawing.py -k labels",
        ),
    ],
    "plotting/mixture_display.py": [
        (
            "density of probability turned round",
            "np.quantile(drawn, 1 - probabilities)",
            "np.quantile(drawn, probabilities)",
            "plotting/test_mixture_display.py -k contours_enclose",
        ),
        (
            "grid blind to small components",
            "[*about.ravel(), *np.linspace",
            "[*np.linspace",
            "plotting/test_mixture_display.py -k small_components",
        ),
    ],
    "plotting/transport_display.py": [
        (
            "zeros drawn",
            "np.nonzero(plan.round(decimals))",
            "np.nonzero(plan)",
            "plotting/test_transport_display.py -k zero_to_printing",
        ),
        (
            "all links alike",
            "link_width * plan[k, j]",
            "link_width * plan.max()",
            "plotting/test_transport_display.py -k as_wide",
        ),
        (
            "texts wherever",
            "places[key] = candidates[np.argmax(score)]",
            "places[key] = candidates[len(candidates) // 2]",
            "plotting/test_transport_display.py -k keep_clear",
        ),
    ],
    "plotting/flow_display.py": [
        (
            "all paths drawn",
            "n_paths = min(max_paths, n_samples)",
            "n_paths = n_samples",
            "plotting/test_flow_display.py -k max_paths",
        ),
        (
            "least not subtracted",
            "self.losses - least",
            "self.losses",
            "plotting/test_flow_display.py -k least",
        ),
    ],
    "plotting/simplex_display.py": [
        (
            "order of components ignored",
            "weights = np.take_along_axis(weights, np.array(orders), axis=1)",
            "pass",
            "plotting/test_simplex_display.py -k order",
        ),
    ],
    "plotting/convergence_display.py": [
        (
            "all fits marked as converged",
            '"x" if self.converged is False else "o"',
            '"o"',
            "plotting/test_convergence_display.py -k mark_at_the_end",
        ),
    ],
    "plotting/model_selection_display.py": [
        (
            "the least score is the best",
            "np.nanargmax(values) if self.higher_is_better else",
            "",
            "plotting/test_model_selection_display.py -k highest",
        ),
        (
            "the last of other parameters drawn",
            "if not mean <= means[place]:",
            "if True:",
            "plotting/test_model_selection_display.py -k other_parameters",
        ),
    ],
    "estimators/derivatives.py": [
        (
            "residuals on any data",
            "if not np.allclose(residuals[:1]",
            "if False and not np.allclose(residuals[:1]",
            "plotting/test_convergence_display.py -k cannot",
        ),
    ],
}
