"""Mutants of images that descend energies."""

MUTANTS = {
    "imaging/energy.py": [
        (
            "weights of terms left out of the gradient",
            "cotangents.append(term.weight * cotangent)",
            "cotangents.append(cotangent)",
            "imaging/test_energy.py -k one_step",
        ),
        (
            "weights of terms left out of the value",
            "value = sum(term.weight * part",
            "value = sum(part",
            "imaging/test_energy.py -k weighted",
        ),
        (
            "each call fits anew",
            "            self._fits[index] = fits",
            "            pass",
            "imaging/test_energy.py -k single_steps",
        ),
        (
            "what plans tell and fits tell is kept silent",
            "return dict.fromkeys([*(words for told in of_fits for words in told), *self._told])",
            "return dict.fromkeys(self._told)",
            "imaging/test_energy.py -k told",
        ),
    ],
    "imaging/descent.py": [
        (
            "a floor that no unit has",
            "floor = learning_rate / x.size",
            "floor = 1e-20",
            "imaging/test_descent.py -k stays",
        ),
        (
            "the array of the caller moves",
            "    x = x.copy()",
            "    x = x.view()\n    x.flags.writeable = True",
            "imaging/test_descent.py -k arrives",
        ),
        (
            "callback may write",
            "shown.flags.writeable = False",
            "shown.flags.writeable = True",
            "imaging/test_descent.py -k callback",
        ),
    ],
    "imaging/patches.py": [
        (
            "channels of patches first",
            "windows = np.moveaxis(windows, 2, -1)",
            "windows = windows.copy()",
            "imaging/test_patches.py -k scikit_learn",
        ),
        (
            "patches put back one pixel off",
            "image[a : a + height, b : b + width] += parts[:, :, a, b]",
            "image[a : a + height, b : b + width] += parts[:, :, b, a]",
            "imaging/test_patches.py -k adjoints",
        ),
        (
            "pixels of blocks repeated, not shared",
            "return spread / factor**2",
            "return spread",
            "imaging/test_patches.py -k adjoints",
        ),
    ],
    "imaging/patch_terms.py": [
        (
            "weights of scales left out",
            "EnergyTerm(patch_features(options.size, factor), target, estimator, weight)",
            "EnergyTerm(patch_features(options.size, factor), target, estimator)",
            "imaging/test_synthesis.py -k weighted",
        ),
        (
            "a higher floor",
            "FLOOR = 1e-4",
            "FLOOR = 1e-2",
            "imaging/test_synthesis.py -k become",
        ),
        (
            "images leave [0, 1]",
            "image = np.clip(found.x, 0, 1)",
            "image = found.x",
            "imaging/test_synthesis.py -k become",
        ),
    ],
    "imaging/synthesis.py": [
        (
            "each channel has noise of its own strength",
            "spot /= np.sqrt(reference.shape[0] * reference.shape[1])",
            "spot /= np.sqrt(reference.size)",
            "imaging/test_synthesis.py -k field_has",
        ),
        (
            "a constant reference passes",
            "if not np.ptp(image, axis=(0, 1)).any():",
            "if False:",
            "imaging/test_synthesis.py -k invalid",
        ),
    ],
    "imaging/transfer.py": [
        (
            "strength does nothing",
            "    if strength < 1:",
            "    if False:",
            "imaging/test_transfer.py -k geodesic",
        ),
        (
            "the geodesic from the other end",
            "transport.interpolate(strength)",
            "transport.interpolate(1 - strength)",
            "imaging/test_transfer.py -k geodesic",
        ),
    ],
    "imaging/layer_features.py": [
        (
            "cotangents are not pulled back from the axes",
            "vjp([bar @ axes.T for bar",
            "vjp([bar @ axes.T * 0 for bar",
            "imaging/test_neural_style.py -k pair",
        ),
        (
            "axes of the smallest variances",
            "axes[:, ::-1][:, :n_axes]",
            "axes[:, :n_axes]",
            "imaging/test_neural_style.py -k principal",
        ),
    ],
    "imaging/neural_style.py": [
        (
            "weights of layers left out",
            "replace(term, weight=weight)",
            "replace(term, weight=1.0)",
            "imaging/test_neural_style.py -k weighted_sum",
        ),
        (
            "EM of the image starts anew",
            "            means_init=target.means,\n",
            "",
            "imaging/test_neural_style.py -k starts_at",
        ),
        (
            "a floor that has a unit",
            "(weights @ parts or 1.0)",
            "1.0",
            "imaging/test_neural_style.py -k scale_of",
        ),
        (
            "free weights",
            "fixed_weights=True",
            "fixed_weights=False",
            "imaging/test_neural_style.py -k on_its_axes",
        ),
    ],
}
