"""A mixture that follows a stream: `partial_fit`."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from ..checks import refuse_overflow
from ..em.adjoints import FitRecord
from ..em.fit import complaint_of_lost
from ..em.initialization import initial_parameters
from ..em.online import (
    batch_statistics,
    learning_rate,
    merged,
    parameters_of,
    statistics_of,
)
from ..families.base import lost_components
from ..numerics.threads import effective_n_threads
from ..samples import samples_of
from ..samples.device_arrays import module_of, on_host, taken
from .device_input import where_X_is
from .em_options import em_map_of, given_parts
from .input_rows import checked_rows, row_weights
from .state import forget_fit, keeping_last_fit, warn_of

_LEAST_ROWS = 50  # of a component, before k-means is asked where they are


class OnlineFit:
    """Online EM.

    Mixed into estimators that are a `MixtureDensity` and a `DifferentiableFit`, before these. What
    a stream leaves, beside the parameters: ``_statistics`` and ``_time``, the t of the last step;
    or ``_collected``, rows and their weights, before there are enough to initialize.
    """

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Update the mixture with a batch of rows, by a step of online EM.

        The mean statistics s of the rows so far become (1 - γ) s + γ ŝ, where ŝ are those of the
        batch in an E-step of the mixture so far, and the M-step of s is the new mixture (Cappé and
        Moulines 2009). In step t the rate is γ = (t + t_0)^(-α), with α = ``learning_decay`` and
        t_0 = ``learning_offset``. At γ = 1, in the first step without an offset, this is one step
        of EM on the batch.

        The first calls collect rows, until there are 50 for each component, or twice as many as
        features if that is more. These initialize the mixture, as they would in `fit`, and are the
        batch of the first step. Where initial weights, means and precisions are all given, nothing
        is collected. After `fit` the mixture goes on from there: n rows that it was fitted to count
        as n / m steps, m being the size of the next batch. One from given parameters begins with
        the first step.

        ``tol``, ``residual_tol``, ``max_iter``, ``warm_start`` and ``keep_path`` are about `fit`
        alone; of several temperatures the last one counts.

        If it raises, the estimator is what it was before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            A batch. How much it counts does not depend on its size, so pass batches of about
            one size. A single row will do.
        y : Ignored
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows within the batch: how much the batch counts does not
            depend on their sum. Rows of weight zero are left out. Skip a batch without weight.

        Returns
        -------
        self : DifferentiableGaussianMixture

        Raises
        ------
        ValueError
            If the batch cannot be used, or a component collapsed, which the message names; if the
            mixture has other components or features; and for what has no meaning on a stream:
            ``n_init`` more than 1, ``e_step="sinkhorn"``, and an ``acceleration`` that is asked for
            (under ``"auto"``, as under None, steps are plain).

        Warns
        -----
        ConvergenceWarning
            If a component lost all its mass.

        References
        ----------
        O. Cappé, E. Moulines. On-line expectation-maximization algorithm for latent data models.
        Journal of the Royal Statistical Society B 71(3), 2009.

        Examples
        --------
        >>> import numpy as np
        >>> from skgmmot import DifferentiableGaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> mixture = DifferentiableGaussianMixture(2, random_state=0)
        >>> for _ in range(50):
        ...     batch = rng.normal(size=(200, 1)) + rng.choice([-4.0, 4.0], size=(200, 1))
        ...     mixture = mixture.partial_fit(batch)
        >>> np.sort(mixture.means_.ravel()).round(1)
        array([-4.,  4.])
        >>> mixture.n_steps_, mixture.n_samples_seen_
        (50, 10000)
        """
        with keeping_last_fit(self):
            warn_of(self._partial_fit(X, sample_weight))
        return self

    @where_X_is
    @_fit_context(prefer_skip_nested_validation=True)
    def _partial_fit(self, X, sample_weight):
        """Make a step, and return what there is to warn of."""
        self._refuse_what_streams_lack()
        begins = not (hasattr(self, "weights_") or hasattr(self, "_collected"))
        X = checked_rows(self, X, reset=begins)
        if sample_weight is not None:
            if not np.any(taken(sample_weight)):
                raise ValueError("sample_weight: no row of this batch has weight. Skip the batch.")
            sample_weight = np.ldexp(*row_weights(sample_weight, X))
            X, sample_weight = X[sample_weight > 0], sample_weight[sample_weight > 0]
        n_seen = getattr(self, "n_samples_seen_", 0) + len(X)
        if not hasattr(self, "weights_"):
            X, sample_weight = self._with_collected(X, sample_weight)
            if len(X) < self._n_to_collect(X.shape[1]):
                # a stream may use its buffer again, and a pickle is to be read without a device
                weight = None if sample_weight is None else on_host(sample_weight)
                self._collected = on_host(X).copy(), weight
                self.n_samples_seen_, self.n_steps_ = n_seen, 0
                return []
        sample_weight, _ = row_weights(sample_weight, X)
        em_map = em_map_of(
            self,
            samples_of(X, sample_weight, effective_n_threads(self.n_jobs)),
            temperature=self._last_temperature,
        )
        return self._step_online(em_map, n_seen)

    def _step_online(self, em_map, n_seen):
        """Merge the statistics of a batch, keep their M-step, and return complaints."""
        refuse_overflow(em_map.data.summary)
        theta, statistics, time = self._state_of_stream(em_map)
        family, time, n_steps = em_map.family, time + 1, getattr(self, "n_steps_", 0) + 1
        new, lower_bound = batch_statistics(em_map, theta)
        rate = learning_rate(time, self.learning_decay, self.learning_offset)
        statistics = merged(family, statistics, new, rate)
        weights = theta.weights if self.fixed_weights else None
        theta = parameters_of(family, statistics, self.reg_covar, weights)
        forget_fit(self)
        self._set_parameters(theta, em_map.samples.dtype)
        self._record, self._statistics, self._time = FitRecord(theta), statistics, time
        self.n_steps_ = self.n_iter_ = n_steps
        self.n_samples_seen_, self.lower_bound_, self.converged_ = n_seen, lower_bound, False
        lost = lost_components(statistics.masses)
        return [] if lost is None else [complaint_of_lost(lost)]

    def _state_of_stream(self, em_map):
        """θ in float64, the statistics of which it is the M-step, and the t of the last step."""
        family, n_features = em_map.family, em_map.samples.shape[1]
        if not hasattr(self, "weights_"):
            theta = initial_parameters(
                em_map,
                self.n_components,
                self.init_params,
                self.init_size,
                check_random_state(self.random_state),
                given_parts(self, n_features),
            )
            return theta, statistics_of(family, theta, self.reg_covar), 0
        self._check_is_fitted()
        if len(self.weights_) != self.n_components:
            raise ValueError(
                f"n_components was changed to {self.n_components}, and the mixture so far has "
                f"{len(self.weights_)} components. Call fit to start anew, or set it back."
            )
        record = self._fit_record()
        if hasattr(self, "_statistics") and record is self._record:
            return record.end, self._statistics, self._time
        n_fitted = getattr(self, "n_samples_seen_", 0)
        time = getattr(self, "_time", n_fitted / em_map.samples.shape[0])
        return record.end, statistics_of(family, record.end, self.reg_covar), time

    def _refuse_what_streams_lack(self):
        for name, value, known, cure in (
            ("n_init", self.n_init, (1,), "A stream is seen once: set n_init=1"),
            ("e_step", self.e_step, ("softmax",), "Masses are balanced over all rows: use fit"),
            (
                "acceleration",
                self.acceleration,
                ("auto", None),
                "Steps of online EM are plain: set acceleration='auto' or None",
            ),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} has no meaning in partial_fit. {cure}.")

    # Before there is a mixture

    def _n_to_collect(self, n_features):
        """Number of rows to initialize from."""
        if all(part is not None for part in given_parts(self, n_features)):
            return 1
        return self.n_components * max(_LEAST_ROWS, 2 * n_features)

    def _with_collected(self, X, sample_weight):
        """The rows so far and these, with their weights or None."""
        if not hasattr(self, "_collected"):
            return X, sample_weight
        rows, weight = self._collected
        module = module_of(X)
        if weight is not None or sample_weight is not None:
            weight = np.ones(len(rows)) if weight is None else weight
            new = module.ones(len(X)) if sample_weight is None else sample_weight
            sample_weight = module.concatenate([module.asarray(weight), new])
        return module.concatenate([module.asarray(rows), X]), sample_weight

    def __sklearn_is_fitted__(self):
        return hasattr(self, "weights_")

    def _check_is_fitted(self):
        if hasattr(self, "_collected"):
            rows = self._collected[0]
            missing = max(1, self._n_to_collect(rows.shape[1]) - len(rows))
            raise NotFittedError(
                f"partial_fit has collected {len(rows)} rows and needs {missing} more to "
                "initialize. Call it with more rows, or pass weights_init, means_init and "
                "precisions_init."
            )
        super()._check_is_fitted()
