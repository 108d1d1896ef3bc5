"""What points flow to: mixtures that are given, or the mixture of samples, a batch at a time."""

import math

import numpy as np
from sklearn.utils.random import sample_without_replacement

from ..checks import as_parameters, checked_mixtures
from ..estimators.input_rows import naming
from ..parameters import MixtureParameters, in_dtype
from ..results.transport_result import transport_between
from ..samples import ChunkedSamples

_BLOCK = 2**20


def size_of_batch(fraction, n_rows, name, least=2):
    """Number of rows of a batch, that it can be fitted."""
    size = math.ceil(fraction * n_rows)
    if size < least:
        raise ValueError(f"{name}: a batch must have {least} points at least; it has {size}.")
    return size


def batch_of(n_rows, size, rng):
    """Indices of a batch, drawn without replacement; of all rows a slice, without a draw."""
    return slice(None) if size == n_rows else rng.choice(n_rows, size, replace=False)


def ordered_batch_of(n_rows, size, rng):
    """The same in increasing order, of more rows than may have numbers in memory.

    Block by block: how many rows of the batch a block has is hypergeometric.
    """
    rows, left = [], size
    for start in range(0, n_rows, _BLOCK):
        n = min(_BLOCK, n_rows - start)
        later = n_rows - start - n
        count = rng.hypergeometric(n, later, left) if later and left else left
        rows.append(start + np.sort(sample_without_replacement(n, count, random_state=rng)))
        left -= count
    return np.concatenate(rows)


class GivenTargets:
    """Mixtures μ_j with weights λ_j, the same in every step."""

    def __init__(self, target, target_weights, n_features):
        several = isinstance(target, list)
        if target_weights is not None and not several:
            raise ValueError("target_weights are for a list of targets; target is not a list.")
        targets = target if several else [as_parameters(target, "target")]
        names = ("target", "target_weights")
        self.mixtures, self.weights = checked_mixtures(targets, target_weights, names=names)
        if self.mixtures[0].n_features != n_features:
            raise ValueError(
                f"target must have the {n_features} features of X; it has "
                f"{self.mixtures[0].n_features}."
            )

    def start(self, warm_start):
        pass

    def draw(self, rng):
        pass

    def take_all(self):
        pass

    def complaints(self):
        return {}


class SampledTarget:
    """The mixture ν of samples Y: of a batch of them, drawn anew in each step, or of all.

    Y may be read in chunks. All of them are read for the first fit, and then those that a batch has
    rows of.
    """

    weights = np.ones(1)

    def __init__(self, Y, fits, batch_size):
        self.samples, self.fits, self.batch_size = fits.samples_of(Y), fits, batch_size

    def start(self, warm_start):
        """Fit all samples: what the flow ends at, and where fits of batches start."""
        if not self.samples.in_memory:
            with naming("target_samples"):
                self.samples.summary()  # the first look
        self.fits.fit_samples(self.samples)
        self.whole = self.mixtures = [in_dtype(self.fits.theta, np.float64)]
        if warm_start:
            self.fits.start_from_the_last()

    def draw(self, rng):
        """From now on the mixture of another batch; of all samples it stays what it is."""
        n_rows = self.samples.shape[0]
        if self.batch_size < n_rows:
            if isinstance(self.samples, ChunkedSamples):
                batch = self.samples.subset(ordered_batch_of(n_rows, self.batch_size, rng))
            else:
                batch = self.samples.picked(batch_of(n_rows, self.batch_size, rng))
            self.fits.fit_samples(batch)
            self.mixtures = [in_dtype(self.fits.theta, np.float64)]

    def take_all(self):
        self.mixtures = self.whole

    def complaints(self):
        return self.fits.complaints()


def loss_of(theta, targets, reg, reg_m):
    """Σ_j λ_j MW2²(θ, μ_j), or its variant, its cotangent of θ, and what there is to warn of."""
    loss, parts, complaints = 0.0, (0.0, 0.0, 0.0), []
    for target, weight in zip(targets.mixtures, targets.weights, strict=True):
        transport, words = transport_between(theta, target, reg, reg_m)
        complaints += words
        loss += float(weight) * transport.value
        gradient = transport.gradient("source")
        parts = [total + weight * part for total, part in zip(parts, gradient, strict=True)]
    return loss, MixtureParameters(*parts, theta.covariance_type), complaints
