"""What a coupled fit is given, as two clouds: one set of rows with domains, or two of them."""

import numpy as np
from sklearn.base import _fit_context

from ..checks import exponent_of
from ..numerics.threads import effective_n_threads
from ..samples.dask_chunks import DaskRows
from ..samples.device_arrays import module_of
from .coupled_starts import PAIR_DOMAINS, Cloud, rows_of
from .dask_input import warn_of_small_chunks
from .device_input import beside, where_X_is
from .domains import part_of, two_domains
from .input_rows import checked_rows, is_one_array, naming, row_weights, stacked


class CoupledInput:
    """The input of an estimator with the methods of `CoupledFit`."""

    @where_X_is
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_rows(self, X, y, sample_domain, sample_weight):
        X = checked_rows(self, X, reset=True, ensure_min_samples=2, or_chunks=True)
        domains, is_source = two_domains(sample_domain, y, X)
        weight, _ = row_weights(sample_weight, X)
        clouds = []
        for rows, label in zip((is_source, ~is_source), domains, strict=True):
            part, own = part_of(X, weight, rows)
            if own is not None:
                largest = float(own.max())
                if not largest > 0:
                    raise ValueError(
                        f"sample_weight: at least one weight of the domain {label!r} must be "
                        "positive."
                    )
                exponent = exponent_of(largest)  # of a unit of their own
                own = np.ldexp(own, -exponent) if exponent else own
            clouds.append(self._cloud(part, own, n_rows=int(np.count_nonzero(rows))))
        self._warn_of_chunks(X)

        def data():
            return stacked([X]), module_of(is_source).where(is_source, *domains), weight

        return self._fit_clouds(clouds, domains, data)

    @where_X_is
    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_arrays(self, X_source, X_target, weights):
        arrays = {"X_source": X_source, "X_target": X_target}
        shapes = [np.shape(array) for array in arrays.values()]
        if all(len(shape) == 2 for shape in shapes) and shapes[0][1] != shapes[1][1]:
            raise ValueError(
                f"X_source and X_target must have the same features; got {shapes[0][1]} and "
                f"{shapes[1][1]} of them."
            )
        checked = {
            name: self._checked_array(array, name, reset=name == "X_source")
            for name, array in arrays.items()
        }
        are_arrays = all(map(is_one_array, checked.values()))
        if are_arrays and len({X.dtype for X in checked.values()}) > 1:
            checked = {name: X.astype(np.float64, copy=False) for name, X in checked.items()}
        clouds = self._checked_clouds(checked, weights)
        self._warn_of_chunks(*checked.values())
        return self._fit_clouds(clouds, PAIR_DOMAINS, lambda: rows_of(clouds), as_pair=True)

    def _checked_array(self, X, name, *, reset=False):
        with naming(name):
            return checked_rows(self, X, reset=reset, ensure_min_samples=2, or_chunks=True)

    def _checked_clouds(self, checked, weights):
        """The clouds of arrays and of their weights, dictionaries by the names of arguments.

        The first look at rows that are not in memory is made here, where they have a name.
        """
        clouds = []
        (name_of_source, X_source), (name_of_target, X_target) = checked.items()
        beside(X_target, name_of_target, X_source, of=name_of_source)
        for (name, X), (name_of_weight, weight) in zip(
            checked.items(), weights.items(), strict=True
        ):
            if weight is not None:
                beside(weight, name_of_weight, X, of=name)
            with naming(name_of_weight):
                weight, _ = row_weights(weight, X)
            cloud = self._cloud(X, weight)
            if not cloud.samples.in_memory:
                with naming(name):
                    cloud.samples.summary()
            clouds.append(cloud)
        return clouds

    def _warn_of_chunks(self, *parts):
        n_components = int(np.max(self.n_components))
        for X in parts:
            if isinstance(X, DaskRows):
                warn_of_small_chunks(X, n_components, self.covariance_type)

    def _cloud(self, X, weight, n_rows=None):
        return Cloud(X, weight, effective_n_threads(self.n_jobs), n_rows)
