"""Distances between Gaussian mixtures."""

from skgmmot.transport.mixture import mixture_transport


def mixture_wasserstein(a, b, *, squared=False):
    """Mixture-Wasserstein distance MW2 between two Gaussian mixtures.

    Parameters
    ----------
    a, b : estimator, MixtureParameters or tuple
        A fitted mixture (of this package or of scikit-learn), a `MixtureParameters`, or a
        tuple ``(weights, means, covariances)``. The numbers of components and the
        covariance types may differ.
    squared : bool, default=False
        Whether to return the squared distance.

    Returns
    -------
    distance : float
        Zero if and only if the mixtures are the same.

    Raises
    ------
    ValueError
        If a mixture is not fitted or not valid, or the numbers of features differ.

    See Also
    --------
    mixture_transport : The plan, the potentials and the gradient as well.

    References
    ----------
    .. [1] Delon, J., Desolneux, A., "A Wasserstein-type distance in the space of Gaussian
       mixture models", SIAM Journal on Imaging Sciences 13(2), 936-970, 2020.

    Examples
    --------
    >>> from skgmmot import mixture_wasserstein
    >>> a = ([1.0], [[0.0, 0.0]], [1.0])
    >>> b = ([0.5, 0.5], [[3.0, 4.0], [3.0, 4.0]], [1.0, 1.0])
    >>> mixture_wasserstein(a, b)
    5.0
    """
    transport = mixture_transport(a, b)
    return transport.value if squared else transport.distance
