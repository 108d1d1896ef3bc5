"""Mutants of what functions and estimators hand back."""

MUTANTS = {
    "results/posteriors.py": [
        (
            "the device of samples is not the current one",
            "    with device_of(X):",
            "    with device_of(None):",
            "transport/test_maps_device.py -k memory",
        ),
    ],
    "results/bridge_result.py": [
        (
            "noise not of the step's length",
            "scale=self.epsilon * np.sqrt(h)",
            "scale=self.epsilon * h",
            "functions/test_mixture_bridge.py -k law",
        ),
        (
            "noise left out",
            "if self.epsilon:",
            "if self.epsilon < 0:",
            "functions/test_mixture_bridge.py -k law",
        ),
        (
            "drift of the start alone",
            "drift = (drift + self._drift(X + h * drift, t + h)) / 2",
            "drift = drift + 0 * self._drift(X + h * drift, t + h)",
            "functions/test_mixture_bridge.py -k suffice or goes_back",
        ),
        (
            "steps of equal length",
            "steps = s * (2 - s)",
            "steps = s",
            "functions/test_mixture_bridge.py -k suffice",
        ),
        (
            "the last step looks at the end",
            "if t + h < 1:",
            "if t + h <= 1:",
            "functions/test_mixture_bridge.py -k singular_target",
        ),
        (
            "steps after the last time asked for",
            "return steps[steps <= kept[-1]], kept",
            "return steps, kept",
            "functions/test_mixture_bridge.py -k times",
        ),
    ],
    "results/transport_result.py": [
        (
            "masses by the posterior of what has left",
            "rows.astype(np.float64, copy=False), source)",
            "rows.astype(np.float64, copy=False), replace(source, "
            "weights=self._moved_mass.sum(axis=1)))",
            "functions/test_mixture_transport_masses.py -k mean_over",
        ),
        (
            "gradient of the target with the source's penalty",
            "penalty = self.reg_m[side]",
            "penalty = self.reg_m[0]",
            "functions/test_mixture_transport_variants.py -k finite",
        ),
        (
            "covariances pushed apart",
            "matrices -= summed_maps(",
            "matrices += summed_maps(",
            "functions/test_mixture_transport.py -k finite",
        ),
        (
            "time runs backwards",
            "means = (1 - t) * source.means[rows] + t * target.means[columns]",
            "means = t * source.means[rows] + (1 - t) * target.means[columns]",
            "transport/test_maps.py -k geodesic",
        ),
        (
            "gradient of the weights without its mean taken off",
            "return slopes - slopes.mean()",
            "return slopes",
            "functions/test_mixture_transport.py -k automatic or consistent or weight_zero",
        ),
        (
            "a plan that moves nothing maps",
            "if not len(moving_pairs(self.plan)[0]):",
            "if False:",
            "transport/test_maps.py -k nothing",
        ),
        (
            "components count with their weights",
            "replace(source, weights=plan.sum(axis=1))",
            "source",
            "transport/test_maps.py -k definition or moves_nothing",
        ),
    ],
}
