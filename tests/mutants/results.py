"""Mutants of what functions and estimators hand back."""

MUTANTS = {
    "results/transport_result.py": [
        (
            "masses by the posterior of what has left",
            "posterior = asking(responsibilities, doubles, source)",
            "moved = replace(source, weights=self._moved_mass.sum(axis=1))\n"
            "        posterior = asking(responsibilities, doubles, moved)",
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
