"""Mutants of the covariance types, and of the coordinates for solvers."""

MUTANTS = {
    "families/pooling.py": [
        (
            "what one part alone has is rounded",
            "alone = has_mass.sum(axis=0) == 1",
            "alone = has_mass.sum(axis=0) < 0",
            "em/test_online.py -k bit_by_bit or without_mass",
        ),
        (
            "shared covariances of one part are rounded",
            "elif whole and own.any():",
            "elif False:",
            "em/test_online.py -k bit_by_bit",
        ),
        (
            "means of parts about zero",
            "phi = _features_of(means - origin, features)",
            "phi, origin = _features_of(means, features), np.zeros(origin.shape)",
            "families/test_pooling.py -k cancels",
        ),
        (
            "covariances of parts left out",
            "phi[..., 1 + n_features :] += moments",
            "pass",
            "families/test_pooling.py -k m_step_of_all",
        ),
        (
            "components without mass divided by it",
            "has_mass = mass > LOST_SHARE * mass.sum()",
            "has_mass = mass > -1.0",
            "families/test_pooling.py -k m_step_of_all",
        ),
    ],
    "families/covariances.py": [
        (
            "retraction with twice the second order",
            "0.5 * second",
            "1.0 * second",
            "em/test_solvers.py -k geodesic",
        ),
    ],
    "families/full.py": [
        (
            "off-diagonals count once",
            "[:, packed] * np.sqrt(-2.0 * scale)",
            "[:, packed]",
            "families/test_fisher.py",
        ),
        (
            "cotangents of off-diagonals halved",
            "weighed[:, packed] * (-2.0 * scale), None",
            "weighed[:, packed], None",
            "families/test_base_derivatives.py -k maximize",
        ),
    ],
    "families/fisher.py": [
        (
            "covariances without mass move",
            "                spread[frozen] = 0.0",
            "                pass",
            "families/test_fisher.py",
        ),
        (
            "temperature left out of the weights",
            "self._weight_root = self._root / np.sqrt(temperature)",
            "self._weight_root = self._root",
            "families/test_fisher.py",
        ),
        (
            "less than enough is enough",
            "    if moved >= enough:",
            "    if moved >= 0.5 * enough:",
            "em/test_fit.py -k enough",
        ),
        (
            "spherical change counted once",
            "spread = spread * family.multiplicity(step.shape[1])",
            "spread = spread.max()",
            "em/test_fit.py -k change or counts",
        ),
    ],
    "families/base.py": [
        (
            "tangent of lost means not zeroed",
            "    shift_dot[lost] = 0.0",
            "    pass",
            "families/test_base_derivatives.py -k without_mass",
        ),
        (
            "tangent of lost covariances not zeroed",
            "        sigma_dot[lost] = 0.0",
            "        pass",
            "families/test_base_derivatives.py -k without_mass",
        ),
        (
            "cotangent of lost statistics not zeroed",
            "            sums_bar[lost] = 0.0",
            "            pass",
            "families/test_base_derivatives.py -k without_mass",
        ),
        (
            "constant moves against the means",
            "- (linear * means_dot).sum(axis=1)",
            "+ (linear * means_dot).sum(axis=1)",
            "families/test_base_derivatives.py -k natural",
        ),
        (
            "tangents ignore the temperature",
            "    out /= temperature",
            "    pass",
            "em/test_em_map_temperature.py -k jvp",
        ),
        (
            "weights gain the total mass",
            "(mass_dot - mass / total * mass_dot.sum()) / total",
            "mass_dot / total",
            "families/test_base_derivatives.py -k maximize",
        ),
        (
            "mean's square pulled back once",
            "shift_bar = means_bar - 2.0 * pulled",
            "shift_bar = means_bar - pulled",
            "families/test_base_derivatives.py -k maximize",
        ),
        (
            "quotient by a weight of zero",
            "np.zeros(len(weights)), where=weights > 0",
            "np.zeros(len(weights)), where=weights >= 0",
            "families/test_base_derivatives.py -k zero",
        ),
        (
            "tiny masses are lost",
            "LOST_SHARE = 1e-280",
            "LOST_SHARE = 1e-20",
            "families/test_base.py -k mass",
        ),
        (
            "lost components move",
            "    means[lost] = previous.means[lost]",
            "    pass",
            "families/test_base.py -k mass",
        ),
        (
            "fixed weights move",
            "        if fixed_weights:\n            weights",
            "        if False:\n            weights",
            "families/test_base.py -k maximize",
        ),
        (
            "factors divided by the temperature itself",
            "factors / math.sqrt(temperature)",
            "factors / temperature",
            "em/test_em_map_temperature.py -k definition",
        ),
    ],
    "families/diagonal.py": [
        (
            "spherical variance counted once",
            "sigma_bar -= 0.5 * self.multiplicity(n_features) * constant_bar * inverses",
            "sigma_bar -= 0.5 * constant_bar * inverses",
            "families/test_base_derivatives.py -k natural",
        ),
        (
            "shift moves once",
            "- 2 * self.fold(moments.shift * shift_dot)",
            "- self.fold(moments.shift * shift_dot)",
            "families/test_base_derivatives.py -k maximize_jvp",
        ),
        (
            "moment about the mean",
            " * central + self.fold(moments.shift**2)",
            " * central",
            "families/test_base_derivatives.py -k maximize",
        ),
        (
            "variances not divided by their number of features",
            "self.unbatch(moved / self.multiplicity(shift_dot.shape[1]))",
            "self.unbatch(moved)",
            "families/test_base_derivatives.py -k maximize_jvp",
        ),
    ],
    "families/tied.py": [
        (
            "tied means pulled without their share",
            "pulled = pulled * (mass[:, None] / total)",
            "pulled = pulled / len(mass)",
            "families/test_base_derivatives.py -k maximize",
        ),
        (
            "tied quadratic part left out of the magnitude",
            "return 0.5 * largest_form",
            "return 0.0 * largest_form",
            "em/test_em_map_accuracy.py -k collinear",
        ),
        (
            "cotangent of a tied covariance averaged",
            "return matrices.sum(axis=0)",
            "return matrices.mean(axis=0)",
            "test_checks.py -k pull",
        ),
        (
            "mass gained is no loss",
            "grown = scatter(moments) * mass_dot.sum()",
            "grown = 0.0",
            "families/test_base_derivatives.py -k maximize_jvp",
        ),
    ],
    "families/spherical.py": [
        (
            "squared norm read from the wrong row",
            "(n_features + 1,), (0,)",
            "(n_features,), (0,)",
            "families/test_base_features.py",
        ),
        (
            "squares averaged and not summed",
            "return values.sum(axis=1, keepdims=True)",
            "return values.mean(axis=1, keepdims=True)",
            "families/test_base_derivatives.py -k maximize",
        ),
        (
            "a variance stands for one feature",
            "        return n_features\n",
            "        return 1\n",
            "families/test_base_derivatives.py -k natural",
        ),
    ],
}
