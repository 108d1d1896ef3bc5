"""What scikit-learn's own estimators have beside their methods: versions in pickles, and links."""

import warnings

from sklearn.exceptions import InconsistentVersionWarning

from ..about import DOCUMENTATION, __version__

_VERSION = "_skgmmot_version"


class OtherVersionWarning(InconsistentVersionWarning):
    """A pickle is of another version of this package; scikit-learn's warning, in its words."""

    def __init__(self, name, pickled, current):
        super().__init__(
            estimator_name=name, current_sklearn_version=None, original_sklearn_version=None
        )
        self.pickled_version, self.current_version = pickled, current

    def __str__(self):
        return (
            f"This {self.estimator_name} was pickled by skgmmot {self.pickled_version} and is read "
            f"by skgmmot {self.current_version}. It may not work, or give other results. Fit it "
            "again, or install the version that it is of."
        )


class PackageManners:
    """Pickles that know their version, and the link to the page in displays of an estimator.

    Attributes named in ``_as_dict`` are named tuples of classes of ours. They go into a pickle as
    dictionaries: the next version may have them elsewhere, or with other fields.
    """

    _doc_link_module = "skgmmot"
    _doc_link_template = DOCUMENTATION + "/generated/skgmmot.{estimator_name}.html"
    _as_dict: dict = {}

    def __getstate__(self):
        state = {**super().__getstate__(), _VERSION: __version__}
        for name in self._as_dict.keys() & state.keys():
            state[name] = state[name]._asdict()
        return state

    def __setstate__(self, state):
        state = dict(state)
        version = state.pop(_VERSION, "pre-0.1")
        if version != __version__:
            name = type(self).__name__
            warnings.warn(OtherVersionWarning(name, version, __version__), stacklevel=2)
        for name in self._as_dict.keys() & state.keys():
            if isinstance(state[name], dict):
                state[name] = self._as_dict[name](**state[name])
        super().__setstate__(state)
