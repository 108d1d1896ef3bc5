"""Where rows of an array lie, wherever the array does: in NumPy's memory or on a CUDA device."""

from .device_arrays import module_of


class RowBoxes:
    """Boxes of space, and rows brought closer.

    Mixed into `Samples` that hold their rows as one array ``X``, and are made of such an array.
    """

    def outside(self, lower, upper):
        """`Samples.outside`."""
        module = module_of(self.X)
        lower, upper = module.asarray(lower), module.asarray(upper)
        return ~((lower <= self.X) & (upper >= self.X)).all(axis=1)

    def shrunk(self, scale, center):
        """`Samples.shrunk`."""
        module = module_of(self.X)
        shift = module.asarray(center * scale)
        return type(self)(module.ascontiguousarray(self.X.astype("float64") * scale - shift))
