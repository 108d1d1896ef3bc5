"""Mutants of optimal transport between mixtures."""

MUTANTS = {
    "transport/many.py": [
        (
            "components without weight in the stack",
            "    if not live.all():",
            "    if False:",
            "transport/test_many.py -k single_pairs",
        ),
        (
            "mixtures too large for compiled code in the stack",
            "groups = [np.flatnonzero(group & small) for group",
            "groups = [np.flatnonzero(group) for group",
            "transport/test_many.py -k not_proven",
        ),
        (
            "values without proof believed",
            "            values[numbers] = found[certified]",
            "            values[block.source.numbers[block.pairs[:, 0]],\n"
            "                   block.target.numbers[block.pairs[:, 1]]] = found",
            "transport/test_many.py -k without_proof",
        ),
        (
            "costs out of range believed",
            "SMALLEST_COST, LARGEST_COST = 1e-100, 1e100",
            "SMALLEST_COST, LARGEST_COST = -1.0, np.inf",
            "transport/test_many.py -k not_proven",
        ),
        (
            "blocks without their last columns",
            "begin, end = columns[0], columns[-1] + 1",
            "begin, end = columns[0], max(columns[0] + 1, columns[-1])",
            "transport/test_many.py -k blocks",
        ),
    ],
    "transport/many_gradients.py": [
        (
            "gradients of distances as those of squares",
            "np.divide(0.5 * given, distances,",
            "np.divide(given, distances,",
            "functions/test_distance_gradients.py -k sums_of",
        ),
        (
            "slopes in the weights not of mean zero",
            "return potentials - np.repeat(means, sizes, axis=0)",
            "return potentials",
            "functions/test_distance_gradients.py -k sums_of",
        ),
        (
            "plans of the target not transposed",
            "target_sums, plans.T, target_means",
            "target_sums, plans.T * 2, target_means",
            "functions/test_distance_gradients.py -k derivatives",
        ),
        (
            "maps that were not found believed",
            "        return _zeros(source), _zeros(target), np.zeros(len(pairs), dtype=bool)",
            "        pass",
            "functions/test_distance_gradients.py -k without_proof",
        ),
        (
            "singular mixtures go the fast way",
            'regular = (np.einsum("kaa->ka", factors) > 0).all(axis=1)',
            "regular = np.ones(len(factors), dtype=bool)",
            "functions/test_distance_gradients.py -k take_others_along",
        ),
        (
            "weights of zero go the fast way",
            "return smooth & [mixture.weights.min() > EPS for mixture in mixtures]",
            "return smooth",
            "functions/test_distance_gradients.py -k no_fast_way",
        ),
        (
            "factors not brought to size one",
            "    factors, exponents = reduced(factors)\n    return factors,",
            "    _, exponents = reduced(factors)\n    return factors,",
            "functions/test_distance_gradients.py -k sums_of",
        ),
    ],
    "transport/costs.py": [
        (
            "norms that were not found stay",
            "np.argwhere(np.isnan(norms))",
            "np.argwhere(np.isinf(norms))",
            "transport/test_bures.py -k lapack",
        ),
        (
            "near Gaussians as far ones",
            "NEAR = 1e-4",
            "NEAR = 0.0",
            "transport/test_bures.py -k nearly_equal",
        ),
    ],
    "transport/bures.py": [
        (
            "rotation transposed",
            "return transposed(U @ Vt)",
            "return U @ Vt",
            "transport/test_bures.py -k map",
        ),
        (
            "missing derivative not told",
            "return maps, missed > rounding * target_traces",
            "return maps, missed > target_traces",
            "transport/test_bures.py -k refuses",
        ),
        (
            "missing derivative not told of diagonal covariances",
            "zero & (target_deviations > 0)",
            "zero & (target_deviations < 0)",
            "transport/test_bures.py -k refuses",
        ),
        (
            "rounding of singular covariances kept",
            "np.where(eigenvalues > rounding, eigenvalues, 0.0)",
            "np.maximum(eigenvalues, 0.0)",
            "transport/test_bures.py -k singular",
        ),
        (
            "a singular component takes the others along",
            "        singular = ~regular",
            "        singular = np.ones_like(regular)",
            "transport/test_bures.py -k depend",
        ),
        (
            "units of the features mixed",
            "    factors *= deviations\n",
            "    factors *= transposed(deviations)\n",
            "transport/test_bures.py -k costs",
        ),
    ],
    "transport/plans.py": [
        (
            "potentials centered too far",
            "(target_weights @ v - weights @ u) / 2",
            "target_weights @ v - weights @ u",
            "transport/test_plans.py -k plan_is_optimal",
        ),
        (
            "derivative in the weights without the entropy",
            "return -(penalty + reg) * np.expm1",
            "return -penalty * np.expm1",
            "transport/test_plans_variants.py -k mass_gradient",
        ),
        (
            "costs in their own unit",
            "scale = all_costs.max() or 1.0",
            "scale = 1.0",
            "transport/test_plans.py -k unit",
        ),
        (
            "divergence of no mass is nothing",
            "    terms = np.where(f == 0, g, terms)",
            "    terms = np.where(f == 0, 0.0, terms)",
            "transport/test_plans_variants.py -k divergence",
        ),
        (
            "constant of a tree from one side",
            "t = (mass - target_mass) / (rate[0] + rate[1])",
            "t = (mass - target_mass) / (2 * rate[0])",
            "transport/test_plans_variants.py -k optimal or vertex",
        ),
        (
            "potential of a vanishing weight without the penalty",
            "-sums / (1 / penalty + 1 / reg)",
            "-sums * reg",
            "transport/test_plans_variants.py -k weight_zero",
        ),
        (
            "entropic plans always converge",
            "converged = bool(residual <= MARGINAL_ERROR)",
            "converged = True",
            "transport/test_plans_variants.py -k running_out",
        ),
        (
            "vertices always converge",
            "converged = bool(gap <= GAP * value + SMALLEST_GAP * unit)",
            "converged = True",
            "transport/test_plans_variants.py -k running_out",
        ),
        (
            "balanced entropic potentials not centered",
            "    if penalties == BALANCED:",
            "    if False:",
            "transport/test_plans_variants.py -k balanced_entropic",
        ),
        (
            "plans of the kernel without proof",
            "    if not certified:",
            "    if False:",
            "transport/test_plans.py -k proven",
        ),
        (
            "masses not scaled",
            "return weights if mass == 1 else weights / mass",
            "return weights",
            "transport/test_plans.py -k scaled",
        ),
    ],
    "transport/interior_point.py": [
        (
            "infeasible start believed",
            "solution = tried if tried.residual < RESIDUAL else None",
            "solution = tried",
            "transport/test_plans_variants.py -k not_near",
        ),
        (
            "null vector of the balanced system with one sign",
            "np.r_[np.ones(len(rows)), -np.ones(len(columns))]",
            "np.r_[np.ones(len(rows)), np.ones(len(columns))]",
            "transport/test_plans_variants.py -k balanced_entropic",
        ),
        (
            "unaffordable mass moves",
            "plan = np.where(unaffordable, 0.0, solution.plan)",
            "plan = solution.plan",
            "transport/test_plans_variants.py -k afford",
        ),
        (
            "potentials in another unit",
            "(unit * u, unit * v)",
            "(unit * u, v)",
            "transport/test_plans_variants.py -k optimal",
        ),
    ],
    "transport/gaussian_bridges.py": [
        (
            "ends that are independent under noise",
            "2 * S, sums, out=np.ones_like(sums)",
            "0 * S, sums, out=np.ones_like(sums)",
            "transport/test_gaussian_bridges.py -k coupled or textbook",
        ),
        (
            "ends of no variance apart at no noise",
            "2 * S, sums, out=np.ones_like(sums)",
            "2 * S, sums, out=np.zeros_like(sums)",
            "transport/test_gaussian_bridges.py -k singular",
        ),
        (
            "no noise on the way",
            "noise = t * (1 - t) * bridges.epsilon**2",
            "noise = 0 * t * bridges.epsilon**2",
            "transport/test_gaussian_bridges.py -k coupled or textbook",
        ),
        (
            "drift without the noise's share",
            "K = _plus(K, -t * bridges.epsilon**2)",
            "K = _plus(K, 0 * t * bridges.epsilon**2)",
            "transport/test_gaussian_bridges.py -k follow",
        ),
        (
            "squares of small singular values lost",
            "np.hypot(2 * S, noise) + noise",
            "np.sqrt(4 * S * S + noise * noise) + noise",
            "transport/test_gaussian_bridges.py -k units",
        ),
    ],
    "transport/maps.py": [
        (
            "mass does not change on arriving",
            "_quotients(plan @ _quotients(target_weights, plan.sum(axis=0)), weights)",
            "_quotients(plan.sum(axis=1), weights)",
            "functions/test_mixture_transport_masses.py",
        ),
        (
            "pairs do not change their mass on leaving",
            "return leaving[:, None] * _quotients(",
            "return np.ones_like(leaving)[:, None] * _quotients(",
            "functions/test_mixture_transport_masses.py -k tutorial",
        ),
        (
            "images not divided by the mass",
            "plan @ target.means / scale[:, None]",
            "plan @ target.means",
            "transport/test_maps.py -k definition",
        ),
        (
            "rounding of masses moves",
            "return np.nonzero(plan > EPS)",
            "return np.nonzero(plan > 0)",
            "functions/test_mixture_transport.py -k rounding",
        ),
        (
            "pairs numbered by rows",
            "pairs[members] = k * L + drawn",
            "pairs[members] = k * K + drawn",
            "transport/test_maps.py -k sampled_map",
        ),
        (
            "shares left out on a device",
            "shared = (shares[:, None] * lifted)",
            "shared = (shares[:, None] * 0 + lifted)",
            "transport/test_maps_device.py -k those_of_the_host",
        ),
        (
            "samples not about the center",
            "means - center)",
            "means)",
            "transport/test_maps.py -k offset or definition",
        ),
    ],
    "transport/bures_barycenter.py": [
        (
            "many start from the first",
            "L[:, 0].copy() if L.shape[1] <= 2 else",
            "L[:, 0].copy() if L.shape[1] > 0 else",
            "transport/test_bures_barycenter.py -k order_of_singular",
        ),
        (
            "fixed point left early",
            "active = active[residuals[active] > TOL]",
            "active = active[residuals[active] > 1e-4]",
            "transport/test_bures_barycenter.py -k naive or identity",
        ),
        (
            "spread about the first",
            "(chosen - mean[:, None]) ** 2",
            "(chosen - chosen[:, :1]) ** 2",
            "transport/test_bures_barycenter.py -k weighted_mean or commuting",
        ),
    ],
}
