"""What stands in tests for a file, and for a callback of scikit-learn; both remember."""


class OnDisk:
    """Rows that have to be read, as of h5py and zarr, and which were asked for, in order."""

    def __init__(self, X, chunks=None):
        self._X, self.chunks, self.asked = X, chunks, []
        self.shape, self.dtype = X.shape, X.dtype

    def __getitem__(self, rows):
        self.asked.append((rows.start, rows.stop))
        return self._X[rows].copy()

    @property
    def starts(self):
        """The first rows of what was asked for."""
        return [start for start, _ in self.asked]


class ShownRows:
    """A callback, and the rows and metadata that it was shown when tasks began."""

    max_estimator_depth = 0

    def __init__(self):
        self.shown = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, *, X=None, metadata=None):
        self.shown.append((X, metadata))

    def on_fit_task_end(self, estimator, context, **arguments):
        pass
