"""Constraints on parameters, in the words of scikit-learn, to whom True is a number."""

from numbers import Integral

import numpy as np
from sklearn.utils import _param_validation


class Interval(_param_validation.Interval):
    """An interval of numbers. Booleans, which Python takes for zero and one, are in none."""

    def is_satisfied_by(self, val):
        return not isinstance(val, bool) and super().is_satisfied_by(val)


N_JOBS = [Interval(Integral, None, None, closed="neither"), None]
RANDOM_STATE = [Interval(Integral, 0, 2**32 - 1, closed="both"), np.random.RandomState, None]
