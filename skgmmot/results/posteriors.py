"""What a mixture answers about samples that a transport or a bridge moves."""

from contextlib import contextmanager

import numpy as np

from ..checks import checked_samples
from ..em.em_map import EMMap
from ..families.covariances import CollapsedComponentError
from ..samples.device_arrays import device_of, taken


@contextmanager
def given_samples(X, n_features):
    """Samples of a user, checked; the device that they are on, if they are, is the current one."""
    X = taken(X)
    with device_of(X):
        yield checked_samples(X, n_features)


def asking(
    question,
    X,
    theta,
    whose="of the source",
    cure="Regularize the covariances of the source (reg_covar).",
):
    """A function that answers a question about θ for slices of the rows of X.

    ``question`` is one of those of `em.densities`. Several threads may ask. Where a covariance of θ
    is singular there is no density to answer from: a ValueError that says whose, and the cure.
    """
    em_map = EMMap.on(X, covariance_type=theta.covariance_type)
    try:
        em_map.precisions(theta)
    except CollapsedComponentError as error:
        variances = em_map.family.matrices(theta.covariances, *theta.means.shape)
        singular = np.argmin(np.linalg.eigvalsh(variances)[:, 0])
        raise ValueError(
            f"The covariance of component {singular} {whose} is singular: it has no density, so no "
            f"sample can be told to belong to it. {cure}"
        ) from error
    return lambda rows: question(em_map.of_samples(em_map.samples.picked(rows)), theta)
