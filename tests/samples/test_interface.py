"""`Samples` is an interface: other holders of data go through all of EM as the engine does."""

from dataclasses import replace

import naive
import numpy as np
import pytest
from scipy.special import entr

from skgmmot.em.adjoints import ADJOINTS, FitRecord
from skgmmot.em.data import Data
from skgmmot.em.densities import (
    completed_log_density,
    labels,
    log_density,
    responsibilities,
)
from skgmmot.em.e_steps import E_STEPS
from skgmmot.em.em_map import EMMap
from skgmmot.em.fit import Stopping, fit
from skgmmot.em.initialization import initial_parameters
from skgmmot.em.solvers import solver_of
from skgmmot.families import FAMILIES
from skgmmot.parameters import COVARIANCE_TYPES
from skgmmot.samples.cpu import CpuSamples
from skgmmot.samples.interface import DataCotangent, DataTangent, Overlaps, Statistics, Summary

all_types = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
OF_ROWS = completed_log_density, log_density, responsibilities, labels


class NaiveSamples:
    """`Samples` by einsum, straight from the definitions, with all of γ and φ in memory."""

    in_memory = True

    def __init__(self, X, weight=None):
        self.X, self.weight = X, np.ones(len(X)) if weight is None else weight
        self.shape, self.dtype = X.shape, X.dtype

    def phi(self, features, points):
        """φ(x_i - point_k), (K or 1, n, p), and the rows that its pairs are of."""
        Z = self.X - points[:, None]
        rows = np.concatenate([np.ones((*Z.shape[:2], 1)), Z, (Z * Z).sum(-1)[..., None]], axis=-1)
        left, right = features.pairs
        return rows[..., left] * rows[..., right], rows

    def jacobian(self, features, points):
        """∂φ_f / ∂x_a, (K or 1, n, p, d)."""
        _, rows = self.phi(features, points)
        moves = np.zeros((*rows.shape, self.shape[1]))
        for a in range(self.shape[1]):
            moves[..., 1 + a, a] = 1.0
            moves[..., -1, a] = 2.0 * rows[..., 1 + a]
        (left, right), rows = features.pairs, rows[..., None]
        return moves[..., left, :] * rows[..., right, :] + rows[..., left, :] * moves[..., right, :]

    def forms(self, coefficients, phi):
        return np.einsum(
            "kf,kif->ik", coefficients, np.broadcast_to(phi, (len(coefficients), *phi.shape[1:]))
        )

    def joint(self, logits):
        return self.forms(logits.coefficients, self.phi(logits.features, logits.reference)[0])

    def log_densities(self, logits):
        return naive.log_density(self.joint(logits))

    def completed_log_densities(self, logits):
        gamma = self.responsibilities(logits)
        return self.log_densities(logits) - entr(gamma).sum(axis=1)

    def responsibilities(self, logits):
        return naive.responsibilities(self.joint(logits))

    def labels(self, logits):
        return self.joint(logits).argmax(axis=1)

    def sums(self, weights, phi):
        return np.einsum(
            "ik,kif->kf", weights, np.broadcast_to(phi, (weights.shape[1], *phi.shape[1:]))
        )

    def summary(self):
        sums, total = self.weight @ self.X, float(self.weight.sum())
        return Summary(len(self.X), total, sums, self.X.min(0), self.X.max(0), sums)

    def statistics(self, logits, *, origin=None):
        phi, _ = self.phi(logits.features, logits.reference if origin is None else origin)
        gamma = self.weight[:, None] * self.responsibilities(logits)
        return Statistics(self.sums(gamma, phi), float(self.weight @ self.log_densities(logits)))

    def overlaps(self, logits):
        gamma = self.responsibilities(logits)
        shared = np.einsum("i,ik,il->kl", self.weight, gamma, gamma)
        return Overlaps(
            shared, self.weight @ gamma, float(self.weight @ self.log_densities(logits))
        )

    def assigned_statistics(self, responsibilities, reference, features):
        gamma = self.weight[:, None] * responsibilities(slice(None))
        return self.sums(gamma, self.phi(features, reference)[0])

    def statistics_jvp(self, logits, coefficients_dot, *, origin=None, data_dot=None):
        origin = logits.reference if origin is None else origin
        phi, own = (self.phi(logits.features, points)[0] for points in (origin, logits.reference))
        gamma, X_dot = self.responsibilities(logits), np.zeros(self.shape)
        weight_dot, zeros = np.zeros(len(gamma)), np.zeros(logits.coefficients.shape)
        if data_dot is not None:
            X_dot = X_dot if data_dot.X is None else data_dot.X
            weight_dot = weight_dot if data_dot.sample_weight is None else data_dot.sample_weight
        moved, own_moved = (
            np.einsum("kifa,ia->kif", self.jacobian(logits.features, points), X_dot)
            for points in (origin, logits.reference)
        )
        u = self.forms(coefficients_dot + zeros, own) + self.forms(logits.coefficients, own_moved)
        gamma_dot = gamma * (u - (gamma * u).sum(axis=1, keepdims=True))
        weights = self.weight[:, None] * gamma_dot + weight_dot[:, None] * gamma
        return self.sums(weights, phi) + self.sums(self.weight[:, None] * gamma, moved)

    def statistics_vjp(self, logits, sums_bar, *, origin=None, wrt_logits=True, data_bar=None):
        origin = logits.reference if origin is None else origin
        gamma, K = self.responsibilities(logits), len(logits.coefficients)
        u = self.forms(sums_bar, self.phi(logits.features, origin)[0])
        mean = (gamma * u).sum(axis=1, keepdims=True)
        b = gamma * (u - mean)
        if data_bar is not None:
            for weights, coefficients, points in (
                (gamma, sums_bar, origin),
                (b, logits.coefficients, logits.reference),
            ):
                jacobian = self.jacobian(logits.features, points)
                jacobian = np.broadcast_to(jacobian, (K, *jacobian.shape[1:]))
                data_bar.X += np.einsum(
                    "i,ik,kf,kifa->ia", self.weight, weights, coefficients, jacobian
                )
            if data_bar.sample_weight is not None:
                data_bar.sample_weight += mean[:, 0]
        return self.sums(self.weight[:, None] * b, self.phi(logits.features, logits.reference)[0])

    def zero_cotangent(self, *, wrt_weight=False):
        weight_bar = np.zeros(len(self.X)) if wrt_weight else None
        return DataCotangent(np.zeros(self.shape), weight_bar)

    def rows(self):
        return self.X, self.weight

    def subset(self, index):
        return NaiveSamples(self.X[index], self.weight[index])

    def picked(self, index):
        return self.subset(index)

    def outside(self, lower, upper):
        return ~((lower <= self.X) & (upper >= self.X)).all(axis=1)

    def shrunk(self, scale, center):
        return NaiveSamples((self.X - center) * scale)

    def total(self, question):
        return question(self)

    def groups(self, n_groups):
        rows = np.array_split(np.arange(len(self.X)), min(n_groups, 2))
        return [NaiveSamples(self.X[part], self.weight[part]) for part in rows]


class JoinedSamples(NaiveSamples):
    """Two parts of the data, of which only sums are added up."""

    def __init__(self, *parts):
        self.parts = parts
        self.cut = parts[0].shape[0]
        X, weight = (np.concatenate(rows) for rows in zip(*(p.rows() for p in parts), strict=True))
        super().__init__(X, weight)

    def summary(self):
        one, other = (part.summary() for part in self.parts)
        return one + other

    def statistics(self, *args, **options):
        one, other = (part.statistics(*args, **options) for part in self.parts)
        return one + other

    def overlaps(self, logits):
        one, other = (part.overlaps(logits) for part in self.parts)
        return one + other

    def total(self, question):
        return sum(question(part) for part in self.parts)

    def assigned_statistics(self, responsibilities, *args):
        return sum(
            part.assigned_statistics(lambda rows, gamma=gamma: gamma[rows], *args)
            for part, gamma in zip(
                self.parts, np.split(responsibilities(slice(None)), [self.cut]), strict=True
            )
        )

    def statistics_jvp(self, logits, dot, *, data_dot=None, **options):
        sums = 0.0
        for part, rows in zip(self.parts, (slice(self.cut), slice(self.cut, None)), strict=True):
            own = data_dot and DataTangent(*(None if a is None else a[rows] for a in data_dot))
            sums = sums + part.statistics_jvp(logits, dot, data_dot=own, **options)
        return sums

    def statistics_vjp(self, logits, bar, *, data_bar=None, **options):
        sums = []
        for part, rows in zip(self.parts, (slice(self.cut), slice(self.cut, None)), strict=True):
            own = data_bar
            if data_bar is not None:
                weight_bar = data_bar.sample_weight
                own = DataCotangent(
                    data_bar.X[rows], None if weight_bar is None else weight_bar[rows]
                )
            sums.append(part.statistics_vjp(logits, bar, data_bar=own, **options))
        return None if sums[0] is None else sum(sums)

    def groups(self, n_groups):
        return list(self.parts)


def cases(kind):
    rng = np.random.default_rng(0)
    theta = naive.random_mixture(rng, 3, 2, kind, spread=2.5)
    X, weight = naive.sample(rng, theta, 300), rng.uniform(0.5, 2.0, 300)
    parts = (CpuSamples(X[part], weight[part]) for part in (slice(120), slice(120, None)))
    theta = replace(theta, means=theta.means + rng.normal(size=(3, 2)))
    return (
        theta,
        CpuSamples(X, weight),
        {
            "naive": NaiveSamples(X, weight),
            "joined": JoinedSamples(*parts),
        },
    )


@all_types
@pytest.mark.parametrize("e_step", ["softmax", "sinkhorn"])
@pytest.mark.parametrize("acceleration", [None, "anderson", "lbfgs", "newton"])
def test_other_samples_go_through_a_whole_fit(kind, e_step, acceleration):
    start, engine, others = cases(kind)
    rng = np.random.default_rng(1)
    X_dot, weight_dot = rng.normal(size=engine.shape), rng.normal(size=engine.shape[0])
    answers = []
    for samples in (engine, *others.values()):
        em_map = EMMap.of(samples, kind, e_step=E_STEPS[e_step], reg_covar=1e-6)
        assert isinstance(em_map.data, Data)

        stopping = Stopping(14, 0.0, 0.0)
        # four of them accelerated; mixing more differences would magnify rounding
        solver = solver_of(acceleration, 1, stopping)
        best = fit(em_map, [lambda: start], stopping, solver=solver)
        record = FitRecord.of(best.result, em_map)
        theta = best.result.parameters
        cotangent = naive.random_cotangent(np.random.default_rng(2), theta)
        found = [*theta, best.lower_bound]
        for mode in ["implicit", "one_step"] + ["unrolled"] * (acceleration is None):
            back, _ = ADJOINTS[mode].vjp(em_map, record, cotangent, tol=1e-6)
            forward, _ = ADJOINTS[mode].jvp(
                em_map, record, DataTangent(X_dot, weight_dot), tol=1e-6
            )
            found += [back.data, back.sample_weight, *forward]
        found += [function(em_map, theta) for function in OF_ROWS]
        answers.append(found)
    for other in answers[1:]:
        for actual, expected in zip(other, answers[0], strict=True):
            scale = max(np.abs(expected).max(), 1e-3)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * scale)


@all_types
@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_other_samples_start_where_the_engine_starts(kind, init_params):
    _, engine, others = cases(kind)
    first, *rest = (
        initial_parameters(EMMap.of(samples, kind), 3, init_params, None, np.random.RandomState(0))
        for samples in (engine, *others.values())
    )
    for theta in rest:
        for actual, expected in zip(theta, first, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * abs(expected).max())


@all_types
def test_groups_of_other_samples_make_the_step_of_the_engine(kind):
    """And sweeps that lead, through groups of their own, to the same place."""
    start, engine, others = cases(kind)
    ends = []
    for samples in (engine, *others.values()):
        em_map = EMMap.of(samples, kind, reg_covar=1e-6)
        solver = solver_of("incremental", 1, Stopping(50, 0.0, 0.0))()
        step = solver.step(em_map, start)
        assert naive.errors(step.parameters, em_map.step(start).parameters) < 1e-11
        theta, _ = solver.move(em_map, step, 3)
        ends.append(theta)
        assert solver.n_extra == 2
    for theta in ends[1:]:
        assert 1e-9 < max(naive.errors(theta, ends[0]).values()) < 0.3


def test_summaries_and_statistics_add_up():
    rng = np.random.default_rng(3)
    X, weight = rng.normal(size=(500, 3)), rng.uniform(0.5, 2.0, 500)
    theta = naive.random_mixture(rng, 4, 3, "full")
    logits = FAMILIES["full"].natural(theta, np.zeros(3))
    whole = CpuSamples(X, weight)
    one, other = CpuSamples(X[:200], weight[:200]), CpuSamples(X[200:], weight[200:])
    added, expected = one.summary() + other.summary(), whole.summary()
    for name in ("n_samples", "total_weight", "sums", "lowest", "highest", "center", "reach"):
        np.testing.assert_allclose(getattr(added, name), getattr(expected, name), rtol=1e-12)
    for method in ("statistics", "overlaps"):
        added = getattr(one, method)(logits) + getattr(other, method)(logits)
        for part, total in zip(added, getattr(whole, method)(logits), strict=True):
            np.testing.assert_allclose(part, total, rtol=1e-11, atol=1e-11)
