"""What a fit leaves: warnings, and on its estimator all attributes or those of the last fit.

An estimator names the attributes that a fit of it sets as ``_of_fit``.
"""

import warnings
from contextlib import contextmanager

from sklearn.exceptions import ConvergenceWarning

_OF_INPUT = ("n_features_in_", "feature_names_in_")  # set by scikit-learn's validation


@contextmanager
def keeping_last_fit(estimator):
    """Bring the attributes of the last fit back if what is done here raises, whatever it raises.

    Where there was no last fit the estimator is an unfitted one again.
    """
    names = (*estimator._of_fit, *_OF_INPUT)
    before = {name: vars(estimator)[name] for name in names if name in vars(estimator)}
    try:
        yield
    except BaseException:
        _forget(estimator, names)
        vars(estimator).update(before)
        raise


def forget_fit(estimator):
    """Take off what the last fit left, so that nothing of it outlives the next one.

    Only where `keeping_last_fit` can bring it back. What is known of the input stays.
    """
    _forget(estimator, estimator._of_fit)


def refuse_other_fit(found, expected):
    """Refuse to go on from a solution of other components, features or covariance type."""
    if found != expected:
        raise ValueError(
            f"warm_start: the last solution has components, features and covariance type {found}, "
            f"this fit needs {expected}. Set warm_start=False to start anew."
        )


def warn_of(complaints, stacklevel=3):
    """Warn of each; at first sight the caller of the public method that calls this."""
    for complaint in complaints:
        warnings.warn(complaint, ConvergenceWarning, stacklevel=stacklevel)


def _forget(estimator, names):
    for name in names:
        vars(estimator).pop(name, None)
