"""Mutants of the functions."""

MUTANTS = {
    "functions/distance_gradients.py": [
        (
            "entries below the diagonal left out",
            "off_diagonal = np.triu(off_diagonal + off_diagonal.T)",
            "off_diagonal = np.triu(off_diagonal)",
            "functions/test_distance_gradients.py -k within",
        ),
        (
            "diagonal of a list counts",
            "np.diag(np.diag(G)) * (reg > 0)",
            "np.diag(np.diag(G))",
            "functions/test_distance_gradients.py -k within",
        ),
        (
            "rates of distances in a loop not halved",
            "cotangent / (2 * transport.distance)",
            "cotangent / transport.distance",
            "functions/test_distance_gradients.py -k within",
        ),
        (
            "complaints kept silent",
            "        complaints |= dict.fromkeys(told)",
            "        pass",
            "functions/test_distance_gradients.py -k said",
        ),
    ],
    "functions/barycenter.py": [
        (
            "objective without the weights of the mixtures",
            "objective += weight * squared",
            "objective += squared",
            "functions/test_barycenter.py -k objective or starts",
        ),
        (
            "shares without the weights of the mixtures",
            "shares.append(weight * plan)",
            "shares.append(plan)",
            "functions/test_barycenter.py -k stationary or weights",
        ),
        (
            "distances do not matter for the draw",
            "chances = weights * nearest",
            "chances = weights",
            "functions/test_barycenter.py -k starts",
        ),
    ],
    "functions/scorers.py": [
        (
            "the smaller the better",
            "return -float(getattr(mixture, criterion)",
            "return float(getattr(mixture, criterion)",
            "functions/test_scorers.py -k searches_choose",
        ),
        (
            "weights of scores left out",
            'weights = {} if sample_weight is None else {"sample_weight": sample_weight}',
            "weights = {}",
            "functions/test_scorers.py -k minus",
        ),
    ],
    "functions/balanced.py": [
        (
            "potentials without epsilon",
            "potentials = self.epsilon * step.balance.potentials",
            "potentials = step.balance.potentials",
            "functions/test_balanced.py -k potentials",
        ),
        (
            "rows of equal mass",
            "return self.row_sums[:, None] * self",
            "return 1.0 / len(self.row_sums) * self",
            "functions/test_balanced.py -k pot",
        ),
        (
            "what is missed is kept silent",
            "        warn_of([complaint])",
            "        pass",
            "functions/test_balanced.py -k missed",
        ),
    ],
    "functions/semirelaxed.py": [
        (
            "value without epsilon",
            "self.value = -self.epsilon * float(",
            "self.value = -float(",
            "functions/test_semirelaxed.py -k value",
        ),
        (
            "rows of equal mass",
            "return self.row_sums[:, None] * resp",
            "return 1.0 / len(self.row_sums) * resp",
            "functions/test_semirelaxed.py -k value",
        ),
        (
            "objective at the last weights",
            "after_weights = _objective(plan, costs, a, weights, epsilon)",
            "after_weights = _objective(plan, costs, a, theta.weights, epsilon)",
            "functions/test_semirelaxed.py -k block",
        ),
        (
            "spherical variance of all features",
            " / family.multiplicity(n_features)",
            "",
            "functions/test_semirelaxed.py -k is_em",
        ),
        (
            "column sums without weights",
            "self.row_sums[part] @ responsibilities(",
            "np.full(chunk.shape[0], 1.0 / len(self.row_sums)) @ responsibilities(",
            "functions/test_semirelaxed.py -k value",
        ),
    ],
    "functions/mixture_bridge.py": [
        (
            "entropy of the plan left out",
            "checked_transport(a, b, reg, None)",
            "checked_transport(a, b, 0.0, None)",
            "functions/test_mixture_bridge.py -k options or geodesic",
        ),
    ],
    "functions/descents.py": [
        (
            "floors of Adam not corrected",
            "floors = module.asarray((floor * bias).astype(X.dtype))",
            "floors = module.asarray((floor + 0 * bias).astype(X.dtype))",
            "functions/test_flow.py -k by_hand",
        ),
        (
            "moves not counted",
            "        moves[rows] += 1",
            "        pass",
            "functions/test_flow.py -k by_hand or counts",
        ),
    ],
    "functions/flow.py": [
        (
            "what led to an error is not told",
            "    finally:  # of",
            "    except ZeroDivisionError:\n        raise\n    else:  # of",
            "functions/test_flow.py -k led_to_an_error",
        ),
        (
            "gradients of a batch as if of all points",
            "gradient *= batch_size",
            "gradient *= len(X)",
            "functions/test_flow.py -k batches",
        ),
        (
            "samples of the target on the other side",
            '        beside(Y, "target_samples", X)\n',
            "",
            "functions/test_flow_device.py -k refused",
        ),
        (
            "batches of the target not drawn",
            "                    targets.draw(rng)\n",
            "",
            "functions/test_flow.py -k batches_of",
        ),
        (
            "the end compared with a batch of the target",
            "                targets.take_all()\n",
            "",
            "functions/test_flow.py -k batches_of_the_target",
        ),
        (
            "path of a flow not copied",
            "positions.append(X.copy())",
            "positions.append(X)",
            "functions/test_flow.py -k keep_path",
        ),
        (
            "rate in the unit of the squared distance",
            "0.05 * (math.sqrt(loss) or 1.0)",
            "0.05 * (loss or 1.0)",
            "functions/test_flow.py -k default_rate",
        ),
        (
            "regularization ten times larger",
            "reg_covar=float(1e-4 * largest or",
            "reg_covar=float(1e-3 * largest or",
            "functions/test_flow.py -k default_estimator",
        ),
        (
            "callback may write",
            "shown.flags.writeable = False",
            "shown.flags.writeable = True",
            "functions/test_flow.py -k callback",
        ),
    ],
    "functions/flow_targets.py": [
        (
            "the first look at a target is nameless",
            'with naming("target_samples"):',
            "if True:",
            "functions/test_flow_chunks.py -k cure",
        ),
        (
            "early rows drawn too often",
            "later = n_rows - start - n",
            "later = (n_rows - start - n) // 2",
            "functions/test_flow_chunks.py -k each_once or numbers",
        ),
        (
            "rows drawn with replacement",
            "rng.choice(n_rows, size, replace=False)",
            "rng.choice(n_rows, size, replace=True)",
            "functions/test_flow.py -k batches",
        ),
        (
            "targets count alike",
            "loss += float(weight) * transport.value",
            "loss += transport.value",
            "functions/test_flow.py -k several or by_hand",
        ),
        (
            "fits of target batches start anew",
            "        if warm_start:\n            self.fits",
            "        if False:\n            self.fits",
            "functions/test_flow.py -k batches_of_the_target",
        ),
        (
            "batches of the target of a single point",
            "if size < least:",
            "if size < 1:",
            "functions/test_flow.py -k invalid_target_samples",
        ),
    ],
    "functions/distances.py": [
        (
            "any array is a list of mixtures",
            "if mixtures.dtype != object or not mixtures.ndim or mixtures.size != len(mixtures):",
            "if False:",
            "functions/test_distances_searches.py -k other_arrays",
        ),
        (
            "squared and not exchanged",
            "transport.value if squared else transport.distance",
            "transport.distance if squared else transport.value",
            "functions/test_distances.py -k distance_and",
        ),
        (
            "unequal penalties taken for symmetric",
            "symmetric = B is None and reg_m[0] == reg_m[1]",
            "symmetric = B is None",
            "functions/test_distances.py -k pairwise_is",
        ),
        (
            "entropic diagonal left at zero",
            "np.fill_diagonal(needed, reg > 0)",
            "np.fill_diagonal(needed, False)",
            "functions/test_distances.py -k pairwise_is",
        ),
        (
            "lower triangle left out",
            "        distances.T[needed] = distances[needed]",
            "        pass",
            "functions/test_distances.py -k pairwise_is",
        ),
    ],
}
