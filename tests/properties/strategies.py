"""What the properties are about: clouds, weights and mixtures, gentle and hostile, and outcomes.

What is drawn is small: a few numbers and words, whose repr is all that it takes to make the arrays
again. `outcome` runs a call the way every property does: it succeeds, or raises a clear error.
"""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning

from skgmmot.families.covariances import CollapsedComponentError
from skgmmot.parameters import MixtureParameters

TYPES = ("full", "tied", "diag", "spherical")
seeds = st.integers(0, 2**16)
kinds = st.sampled_from(TYPES)

# Two to these powers is about 1e-150 and 1e150, whose squares are still numbers.
FARTHEST = 498


def budget(share):
    """Settings with this share of the examples of the profile."""
    return settings(max_examples=max(1, round(share * settings.default.max_examples)))


# Clouds


@dataclass(frozen=True)
class Cloud:
    """A recipe for samples, in the units of a cluster's standard deviation but for ``power``.

    ties : one of `TIES`
    far : how far away the first row is, 0 for nowhere
    power : all is multiplied by two to this power
    """

    seed: int
    n: int
    d: int
    clusters: int = 2
    distance: float = 5.0
    ties: str = "none"
    far: float = 0.0
    offset: float = 0.0
    power: int = 0
    dtype: str = "float64"

    @property
    def scale(self):
        return 2.0**self.power

    @cached_property
    def _raw(self):
        rng = np.random.default_rng(self.seed)
        centers = self.distance * rng.normal(size=(self.clusters, self.d))
        labels = rng.integers(self.clusters, size=self.n)
        X = centers[labels] + rng.normal(size=(self.n, self.d))
        if self.ties == "rounded":
            X = np.round(X)
        elif self.ties == "repeated":
            X = X[rng.integers(max(1, self.n // 3), size=self.n)]
        elif self.ties == "constant feature":
            X[:, -1] = 1.0
        elif self.ties == "collinear":
            X[:, -1] = X[:, 0]
        elif self.ties == "all equal":
            X[:] = X[0]
        if self.far:
            far = min(self.far, 1e9) if self.dtype == "float32" else self.far
            X[0] = far * rng.choice([-1.0, 1.0], size=self.d)
        # a grid of 2^-20, on which offsets by powers of two are exact
        return np.round(X * 2**20) / 2**20 if abs(X).max() < 2**20 else X

    @property
    def X(self):
        return ((self._raw + self.offset) * self.scale).astype(self.dtype)


TIES = ("none", "rounded", "repeated", "constant feature", "collinear", "all equal")


@st.composite
def clouds(draw):
    """Any cloud: tiny and huge, tied and collinear, fewer rows than features, one row far away."""
    dtype = draw(st.sampled_from(["float64", "float64", "float32"]))
    farthest = FARTHEST if dtype == "float64" else 50
    return Cloud(
        seed=draw(seeds),
        n=draw(st.integers(2, 40)),
        d=draw(st.sampled_from([1, 2, 2, 3, 5, 9])),
        clusters=draw(st.integers(1, 4)),
        distance=draw(st.sampled_from([5.0, 0.0, 1e3, 1e6])),
        ties=draw(st.sampled_from(("none", *TIES))),
        far=draw(st.sampled_from([0.0, 0.0, 1e3, 1e9, 1e30, 1e100])),
        offset=draw(st.sampled_from([0.0, 0.0, 1e3, 1e8])),
        power=draw(st.just(0) | st.integers(-farthest, farthest)),
        dtype=dtype,
    )


@st.composite
def gentle_clouds(draw, **fixed):
    """A cloud on which EM is well conditioned, of any scale if ``power`` is not fixed."""
    recipe = {
        "seed": draw(seeds),
        "n": draw(st.integers(15, 40)),
        "d": draw(st.sampled_from([1, 2, 3, 5])),
        "clusters": draw(st.integers(1, 3)),
        "distance": draw(st.sampled_from([5.0, 2.0, 1e3])),
    }
    return Cloud(**recipe | fixed)


def sample_weights(cloud, spread):
    """Weights of the rows of a cloud, of a kind among `SPREADS`; None: no weights."""
    rng = np.random.default_rng(cloud.seed + 1)
    n = cloud.n
    if spread == "none":
        return None
    if spread == "tame":
        return rng.uniform(0.5, 2.0, n)
    if spread == "counts":
        return rng.integers(0, 4, n).astype(float) + (np.arange(n) < 2)
    if spread == "300 decades":
        return 10.0 ** rng.uniform(-300, 0, n)
    if spread == "huge":
        return rng.uniform(0.5, 1.0, n) * 1e306
    if spread == "tiny":
        return rng.uniform(0.5, 1.0, n) * 1e-306
    if spread == "denormal":
        return rng.integers(1, 9, n) * 5e-324
    return 10.0 ** rng.uniform(-150, 150, n)


SPREADS = ("none", "tame", "counts", "300 decades", "huge", "tiny", "denormal", "1e±150")


def start_of(cloud, n_components, kind, *, scale=None):
    """weights_init, means_init and precisions_init for the cloud as it is offset and scaled."""
    rng = np.random.default_rng(cloud.seed + 2)
    scale = cloud.scale if scale is None else scale
    d = cloud.d
    weights = rng.uniform(0.5, 1.5, n_components)
    means = cloud._raw[rng.choice(cloud.n, n_components, replace=False)] + cloud.offset
    precisions = {
        "full": np.stack([np.eye(d)] * n_components),
        "tied": np.eye(d),
        "diag": np.ones((n_components, d)),
        "spherical": np.ones(n_components),
    }[kind]
    return {
        "weights_init": weights / weights.sum(),
        "means_init": means * scale,
        "precisions_init": 0.25 * precisions / scale**2,
    }


# Mixtures


@dataclass(frozen=True)
class Mixture:
    """A recipe for mixture parameters.

    zeros : whether a component has weight zero
    flat : ratio of the largest to the smallest standard deviation, infinite for singular
    """

    seed: int
    n: int
    d: int
    kind: str = "full"
    flat: float = 1.0
    zeros: bool = False
    spread: float = 3.0
    offset: float = 0.0
    power: int = 0

    @property
    def scale(self):
        return 2.0**self.power

    @property
    def parameters(self):
        return self.at(self.scale)

    def at(self, scale, shift=0.0):
        """The mixture at another scale, moved by ``shift`` in its own units."""
        rng = np.random.default_rng(self.seed)
        weights = rng.dirichlet(np.full(self.n, 2.0))
        if self.zeros and self.n > 1:
            weights[0] = 0.0
            weights /= weights.sum()
        means = self.spread * rng.normal(size=(self.n, self.d)) + self.offset
        n_matrices = 1 if self.kind == "tied" else self.n
        smallest = 0.0 if self.flat == np.inf else 1 / self.flat
        if self.kind in ("full", "tied"):
            deviations = np.exp(rng.uniform(-0.5, 0.5, (n_matrices, self.d)))
            deviations[:, 0] *= smallest
            frames = np.linalg.qr(rng.normal(size=(n_matrices, self.d, self.d)))[0]
            roots = frames * deviations[:, None]
            covariances = roots @ roots.transpose(0, 2, 1)
            covariances = 0.5 * (covariances + covariances.transpose(0, 2, 1))
        else:
            covariances = np.exp(rng.uniform(-1, 1, (n_matrices, self.d)))
            covariances[:, 0] *= smallest**2
        if self.kind == "tied":
            covariances = covariances[0]
        elif self.kind == "spherical":
            covariances = covariances[:, 0]
        return MixtureParameters(
            weights, (means + shift) * scale, covariances * scale**2, self.kind
        )


@st.composite
def mixtures(draw, d=None, power=None, **fixed):
    """Any mixture with ``d`` features."""
    recipe = {
        "seed": draw(seeds),
        "n": draw(st.integers(1, 5)),
        "d": draw(st.sampled_from([1, 2, 3, 5])) if d is None else d,
        "kind": draw(kinds),
        "flat": draw(st.sampled_from([1.0, 1.0, 1e3, 1e6, np.inf])),
        "zeros": draw(st.booleans()),
        "spread": draw(st.sampled_from([3.0, 0.0, 1e4])),
        "offset": draw(st.sampled_from([0.0, 1e3])),
        "power": draw(powers) if power is None else power,
    }
    return Mixture(**recipe | fixed)


# a mixture's means are up to 1e5 of its units from zero, and standard deviations down to 1e-6
powers = st.just(0) | st.integers(-480, 480)


# Outcomes

# Words of which an error or a warning has to hold one: what the caller passed, or can change.
NAMES = """
X reg_covar n_components n_samples sample_weight weights_init means_init precisions_init temperature
features cotangent tangent tol max_iter residual_tol init_params acceleration reg reg_m epsilon a:
b: mixture covariances weights means learning_rate mode transport_weight n_init float64 y
sample_domain freeze_target
"""


class Refused(Exception):
    """A call ended in a clear error."""


def outcome(call):
    """What the call returns, and the messages of its ConvergenceWarnings.

    Raises
    ------
    Refused
        If the call raises a ValueError that names an argument.
    AssertionError
        If it raises or warns anything else.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = call()
        except (ValueError, RuntimeError) as error:
            # LinAlgError is a ValueError, and tells the caller nothing
            if type(error) not in (ValueError, CollapsedComponentError) and not (
                type(error) is RuntimeError and "mode=" in str(error) or "EM failed" in str(error)
            ):
                raise
            if not names_an_argument(str(error)):
                raise AssertionError(f"an error that names no argument: {error}") from error
            raise Refused(str(error)) from error
    messages = [str(warning.message) for warning in told]
    for warning, message in zip(told, messages, strict=True):
        assert issubclass(warning.category, ConvergenceWarning), warning
        assert names_an_argument(message) or "distinct clusters" in message, message  # of KMeans
    return result, messages


def result_or_none(call):
    """What the call returns; None if it ended in a clear error."""
    try:
        return outcome(call)[0]
    except Refused:
        return None


def names_an_argument(message):
    words = message.replace("(", " ").replace("=", " ").replace("'", " ").replace(",", " ")
    words = words.replace(".", " ").replace(":", ": ").replace("`", " ").split()
    return any(name in words or f"{name}:" in words for name in NAMES.split())


class Untouched:
    """Arrays that a call must leave as they are."""

    def __init__(self, *arrays):
        self.arrays = [array for array in arrays if array is not None]
        self.copies = [array.copy() for array in self.arrays]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None or kind is Refused:
            for array, copy in zip(self.arrays, self.copies, strict=True):
                assert array.tobytes() == copy.tobytes(), "an input array was written to"


def assert_finite(*arrays):
    for array in arrays:
        assert np.isfinite(array).all(), array


def expanded(parameters):
    """Covariance matrices (K, d, d)."""
    from skgmmot.checks import as_full

    return as_full(parameters).covariances


def are_apart(mixture):
    """Whether all components have mass, and no two of them have merged.

    Where some have, the derivative of the fixed point is singular: it is not defined, or loses as
    many digits as the components have in common.
    """
    theta = mixture.parameters_
    deviations = np.sqrt(np.einsum("kaa->ka", expanded(theta)))
    gaps = np.abs(theta.means[:, None] - theta.means) / deviations
    gaps = gaps.max(axis=2) + np.abs(np.log(deviations[:, None] / deviations)).max(axis=2)
    return theta.weights.min() > 1e-6 and (gaps + np.eye(len(gaps)) > 1e-3).all()


def assert_same_mixture(actual, expected, *, scale=1.0, rtol=1e-9, atol_weights=None):
    """Parameters equal: means and covariances relative to what is large among them."""
    names = "weights", "means", "covariances"
    units = 1.0, scale, scale**2
    for name, unit, one, other in zip(names, units, actual, expected, strict=True):
        one, other = np.asarray(one, float) / unit, np.asarray(other, float) / unit
        size = max(1.0, np.abs(other).max()) if name != "weights" else 1.0
        np.testing.assert_allclose(one, other, rtol=0, atol=rtol * size, err_msg=name)
