"""Where EM starts: the responsibilities of a first M-step.

All ways but ``random`` say which component each of some chosen rows belongs to; the M-step
(`exponential_family.maximize`) makes parameters of that, as scikit-learn does.
"""

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.utils.random import sample_without_replacement

from ..kernels import cpu
from ..kernels.features import features_of
from ..kernels.threads import one_blas_thread
from ..parameters import MixtureParameters, covariance_shape
from .exponential_family import maximize
from .problem import second_moment

_CHUNK = 65_536  # rows of which responsibilities are in memory at a time


def initial_parameters(problem, n_components, init_params, init_size, random_state):
    """Parameters from which EM starts.

    Parameters
    ----------
    problem : EMProblem
    n_components : int
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}
    init_size : int or None
        k-means and k-means++ look at this many random rows; None: at all of them.
    random_state : RandomState

    Returns
    -------
    theta : MixtureParameters
    """
    X, weight = problem.X, problem.sample_weight
    n_samples = len(X)
    if init_params == "random":
        return _from_random_responsibilities(problem, n_components, random_state)
    if init_params == "random_from_data":
        p = None if weight is None else weight / weight.sum()
        rows = random_state.choice(n_samples, size=n_components, replace=False, p=p)
        return _from_seeds(problem, X, weight, X[rows])
    if init_size is not None and n_samples > max(init_size, n_components):
        size = max(init_size, n_components)
        rows = np.sort(sample_without_replacement(n_samples, size, random_state=random_state))
        X, weight = X[rows], None if weight is None else weight[rows]
    if init_params == "k-means++":
        _, rows = kmeans_plusplus(X, n_components, sample_weight=weight, random_state=random_state)
        return _from_seeds(problem, X, weight, X[rows])
    return _from_kmeans(problem, X, weight, n_components, random_state)


def _from_kmeans(problem, X, weight, n_components, random_state):
    kmeans = KMeans(n_components, n_init=1, random_state=random_state)
    # A team of OpenMP threads, once made, hangs in a forked child; one thread makes no team. And
    # threads of BLAS would go on spinning for a while where our own threads should run.
    with one_blas_thread("openmp"):
        kmeans.fit(X, sample_weight=weight)
    centers = kmeans.cluster_centers_.astype(np.float64)

    def one_hot(part):
        return kmeans.labels_[part, None] == np.arange(n_components)

    moment = None
    if problem.covariance_type == "tied":
        centers = problem.center[None]
        moment = second_moment(X, weight, problem.center, problem.n_threads)
    return _from_responsibilities(problem, X, weight, n_components, one_hot, centers, moment)


def _from_random_responsibilities(problem, n_components, random_state):
    def uniform(part):
        drawn = random_state.uniform(size=(len(problem.X[part]), n_components))
        drawn = drawn.astype(problem.X.dtype).astype(np.float64)
        return drawn / drawn.sum(axis=1, keepdims=True)

    return _from_responsibilities(
        problem,
        problem.X,
        problem.sample_weight,
        n_components,
        uniform,
        problem.center[None],
        problem.second_moment,
    )


def _from_seeds(problem, X, weight, seeds):
    """One row for each component, with equal weights.

    The tied covariance that scikit-learn makes of this is the second moment of all rows less that
    of the seeds, about the origin, divided by the number of seeds.
    """
    seeds = seeds.astype(np.float64)
    reference, moment = seeds, None
    if problem.covariance_type == "tied":
        reference = np.zeros((1, seeds.shape[1]))
        moment = second_moment(X, weight, reference[0], problem.n_threads)
    identity = np.eye(len(seeds))
    return _from_responsibilities(
        problem, seeds, None, len(seeds), lambda part: identity[part], reference, moment
    )


def _from_responsibilities(problem, X, weight, n_components, responsibilities, reference, moment):
    """M-step of ``responsibilities(part)``, asked for slices of the rows in turn."""
    n_features = X.shape[1]
    kind = problem.covariance_type
    features = features_of(kind, n_features)
    sums = 0.0
    for start in range(0, len(X), _CHUNK):
        part = slice(start, start + _CHUNK)
        sums = sums + cpu.assigned_statistics(
            X[part],
            None if weight is None else weight[part],
            responsibilities(part).astype(np.float64),
            reference,
            features,
            problem.n_threads,
        )
    shape = covariance_shape(kind, n_components, n_features)
    spread = problem.reach**2 + 1.0  # for a component without a single sample
    unknown = np.broadcast_to(
        {"full": np.diag(spread), "diag": spread}.get(kind, spread.mean()), shape
    )
    nothing = MixtureParameters(
        np.full(n_components, 1 / n_components),
        np.broadcast_to(problem.center, (n_components, n_features)),
        unknown,
        kind,
    )
    return maximize(
        sums,
        reference,
        nothing,
        reg_covar=problem.reg_covar,
        fixed_weights=False,
        second_moment=moment,
    )
