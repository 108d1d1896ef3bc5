"""Where EM starts: the responsibilities of a first M-step.

All ways but ``random`` say which component each of some chosen rows belongs to; the M-step
(`families.base.Family.maximize`) makes parameters of that, as scikit-learn does.
"""

import warnings

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.utils.random import sample_without_replacement

from ..families import FULL, SPHERICAL
from ..numerics.threads import one_blas_thread
from ..parameters import MixtureParameters
from ..samples import ChunkedSamples, samples_of
from .data import second_moment

# Offsets this many times larger than the extent of the data hide it in squares about the origin.
_FAR = 1e3
_LOST = 1e-12  # eigenvalue of a correlation
_STARTS_OF_KMEANS = 10  # on a part of the rows …
_ROWS_OF_A_CLUSTER = 50  # … that holds so many of each, or there are fewer


def initial_parameters(
    em_map, n_components, init_params, init_size, random_state, given=(None, None, None)
):
    """Parameters from which EM starts.

    Parameters
    ----------
    em_map : EMMap
    n_components : int
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
    init_size : int or None
        k-means and k-means++ look at this many random rows; None: at all of them. Where samples are
        not in memory all ways do.
    random_state : RandomState
    given : tuple (weights, means, covariances)
        What is not None takes the place of what is found.

    Returns
    -------
    theta : MixtureParameters
    """
    if any(part is None for part in given):
        found = _STARTS[init_params](em_map, n_components, init_size, random_state)
        given = (own if part is None else part for own, part in zip(found, given, strict=True))
    return MixtureParameters(*given, em_map.family.name)


def _some_samples(em_map, n_components, init_size, random_state):
    """At most so many samples, at least as many as components, in memory."""
    samples = em_map.samples
    n_samples = samples.shape[0]
    if init_size is None and isinstance(samples, ChunkedSamples):
        raise ValueError(
            "init_size=None initializes on all rows at once, but X is read in chunks. Pass the "
            "number of random rows to look at, or initial weights, means and precisions."
        )
    if init_size is None or n_samples <= max(init_size, n_components):
        return samples if samples.in_memory else samples.subset(slice(None))
    size = max(init_size, n_components)
    index = np.sort(sample_without_replacement(n_samples, size, random_state=random_state))
    return samples.subset(index)


def _rows_to_draw_from(em_map, *options):
    """All samples, or where they are not in memory some of them."""
    return em_map.samples if em_map.samples.in_memory else _some_samples(em_map, *options)


def _from_kmeans(em_map, n_components, init_size, random_state):
    samples = _some_samples(em_map, n_components, init_size, random_state)
    X, weight = samples.rows()
    seeds = "k-means++"
    # A team of OpenMP threads, once made, hangs in a forked child; one thread makes no team. And
    # threads of BLAS would go on spinning for a while where our own threads should run.
    with one_blas_thread("openmp"):
        if samples.shape[0] < em_map.samples.shape[0]:
            seeds = _best_seeds(X, weight, n_components, random_state)
        kmeans = KMeans(n_components, init=seeds, n_init=1, random_state=random_state)
        kmeans.fit(X, sample_weight=weight)

    def one_hot(part):
        return (kmeans.labels_[part, None] == np.arange(n_components)).astype(np.float64)

    centers = kmeans.cluster_centers_.astype(np.float64)
    return _maximized(em_map, samples, one_hot, centers, n_components)


def _best_seeds(X, weight, n_components, random_state):
    """Centers of the best of several k-means on a part of the rows; together as long as one on all.

    One k-means often ends with two centers in a cluster and one between two others, where EM needs
    hundreds of steps to find no more than that.
    """
    stride = min(_STARTS_OF_KMEANS, len(X) // (_ROWS_OF_A_CLUSTER * n_components))
    if stride < 2:
        return "k-means++"
    part = slice(None, None, stride)
    kmeans = KMeans(n_components, n_init=stride, random_state=random_state)
    with warnings.catch_warnings():
        # the k-means that follows tells of fewer rows that differ than centers
        warnings.simplefilter("ignore")
        kmeans.fit(X[part], sample_weight=None if weight is None else weight[part])
    return kmeans.cluster_centers_


def _from_seeds(em_map, samples, rows):
    """One row for each component, with equal weights.

    The tied covariance that scikit-learn makes of this is the second moment of all rows less that
    of the seeds, about the origin, divided by the number of seeds. Here it is about the center
    where the origin is so far away that nothing else would be seen.
    """
    seeds = samples.rows()[0][rows].astype(np.float64)
    reference, moment = seeds, None
    if em_map.family.is_shared:
        center, reach = em_map.data.center, em_map.data.summary.reach
        near = np.abs(center) <= _FAR * reach
        reference = np.where(near, 0.0, center)[None]
        moment = second_moment(samples, reference[0])
    identity = np.eye(len(seeds))
    theta = _maximized(
        em_map, samples_of(seeds), identity.__getitem__, reference, len(seeds), moment
    )
    if em_map.family.is_shared and _is_lost(theta.covariances):
        return _from_nearest(em_map, samples, seeds)
    return theta


def _is_lost(covariance):
    """Whether what clusters hold is rounding next to their distances."""
    variances = np.diagonal(covariance)
    if not (variances > 0).all():
        return True
    deviations = np.sqrt(variances)
    correlation = covariance / deviations / deviations[:, None]
    return not np.linalg.eigvalsh(correlation)[0] > _LOST


def _from_nearest(em_map, samples, seeds):
    """Each row to the seed that is nearest to it."""
    uniform = np.full(len(seeds), 1.0 / len(seeds))
    variances = np.full(len(seeds), (em_map.data.summary.reach**2).mean())
    equal = MixtureParameters(uniform, seeds, variances, SPHERICAL.name)
    labels = samples.labels(SPHERICAL.natural(equal))

    def one_hot(part):
        return (labels[part, None] == np.arange(len(seeds))).astype(np.float64)

    return _maximized(em_map, samples, one_hot, seeds, len(seeds))


def _from_plus_plus(em_map, n_components, init_size, random_state):
    samples = _some_samples(em_map, n_components, init_size, random_state)
    X, weight = samples.rows()
    _, rows = kmeans_plusplus(X, n_components, sample_weight=weight, random_state=random_state)
    return _from_seeds(em_map, samples, rows)


def _from_random_rows(em_map, n_components, init_size, random_state):
    samples = _rows_to_draw_from(em_map, n_components, init_size, random_state)
    X, weight = samples.rows()
    p = None if weight is None else weight / weight.sum()
    rows = random_state.choice(len(X), size=n_components, replace=False, p=p)
    return _from_seeds(em_map, samples, rows)


def _from_random_responsibilities(em_map, n_components, init_size, random_state):
    samples = _rows_to_draw_from(em_map, n_components, init_size, random_state)
    X, _ = samples.rows()

    def uniform(part):
        drawn = random_state.uniform(size=(len(X[part]), n_components))
        drawn = drawn.astype(X.dtype).astype(np.float64)
        return drawn / drawn.sum(axis=1, keepdims=True)

    center = em_map.data.center[None]
    moment = second_moment(samples, center[0]) if em_map.family.is_shared else None
    return _maximized(em_map, samples, uniform, center, n_components, moment)


_STARTS = {
    "kmeans": _from_kmeans,
    "k-means++": _from_plus_plus,
    "random": _from_random_responsibilities,
    "random_from_data": _from_random_rows,
}


def _maximized(em_map, samples, responsibilities, reference, n_components, moment=None):
    """M-step of ``responsibilities(part)``, asked for slices of the rows in turn.

    For tied covariances either about one point, with the second moment about it, or about a point
    near each component, from which nothing cancels.
    """
    family, data = em_map.family, em_map.data
    n_features = samples.shape[1]
    features = family.features(n_features)
    if family.is_shared and moment is None:
        features = FULL.features(n_features)
    sums = samples.assigned_statistics(responsibilities, reference, features)
    nothing = MixtureParameters(  # for a component without a single sample
        np.full(n_components, 1 / n_components),
        np.broadcast_to(data.center, (n_components, n_features)),
        family.of_variances(data.summary.reach**2 + 1.0, n_components),
        family.name,
    )
    return family.maximize(
        sums,
        reference,
        nothing,
        reg_covar=em_map.reg_covar,
        fixed_weights=False,
        second_moment=moment,
    )
