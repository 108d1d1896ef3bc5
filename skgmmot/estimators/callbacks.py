"""scikit-learn's fit callbacks (from 1.9), and the same names doing nothing before that."""

import time
from contextlib import contextmanager

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing to support."""

    def with_callbacks(method):
        return method


def has_callbacks(estimator):
    """Whether there is someone to call: registered on it, or on a meta-estimator above it."""
    return hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")


class FitTasks:
    """The tree of tasks of a fit: restarts, and EM steps in each, or other runs and steps.

    Does nothing unless callbacks are registered on the estimator, or handed down to it by a
    meta-estimator. The data are passed on to the callbacks, and ``names`` are what the runs and
    their steps are called.
    """

    def __init__(
        self,
        estimator,
        X,
        sample_weight,
        n_restarts,
        *,
        sample_domain=None,
        names=("restart", "EM step"),
    ):
        self.estimator, self.names = estimator, names
        metadata = {"sample_weight": sample_weight, "sample_domain": sample_domain}
        metadata = {name: value for name, value in metadata.items() if value is not None}
        self.arguments = {"estimator": estimator, "X": X, "metadata": metadata or None}
        self.root = None
        if has_callbacks(estimator):
            self.root = estimator._init_callback_context(max_subtasks=n_restarts)
            self.root.call_on_fit_task_begin(**self.arguments)

    @contextmanager
    def restart(self, max_iter, fitted_attributes):
        """One restart: yields an ``iterate`` callback, or None where there is none to call.

        ``fitted_attributes(theta)`` gives the attributes that make the estimator a fitted one.
        """
        if self.root is None:
            yield None
            return
        task = self.root.subcontext(task_name=self.names[0], max_subtasks=max_iter)
        task.call_on_fit_task_begin(**self.arguments)
        step = None

        def begin():
            nonlocal step
            step = task.subcontext(task_name=self.names[1])
            step.call_on_fit_task_begin(**self.arguments)

        def on_step(n_iter, theta, change, converged):
            nonlocal step
            if step is None:  # it had looked converged, and went on
                begin()
            stop = step.call_on_fit_task_end(
                **self.arguments, reconstruction_attributes=lambda: fitted_attributes(theta)
            )
            step = None
            if n_iter < max_iter and not converged and not stop:
                begin()
            return stop

        if max_iter:
            begin()
        yield on_step
        if step is not None:  # the restart failed in it
            step.call_on_fit_task_end(**self.arguments)
        task.call_on_fit_task_end(**self.arguments)

    def finish(self, attributes):
        """End the fit itself."""
        if self.root is not None:
            self.root.call_on_fit_task_end(**self.arguments, reconstruction_attributes=attributes)


def printing(verbose, interval, max_iter, on_step):
    """An ``iterate`` callback that prints some steps and the end, then calls ``on_step``."""
    if not verbose:
        return on_step
    started = time.perf_counter()

    def callback(n_iter, theta, change, converged):
        if n_iter % interval == 0:
            elapsed = time.perf_counter() - started
            more = f"\t time {elapsed:.5f}s\t gain {change:.5e}" if verbose > 1 else ""
            print(f"  Iteration {n_iter}{more}")
        if converged or n_iter == max_iter:
            print(f"Initialization converged: {converged}")
        return on_step is not None and on_step(n_iter, theta, change, converged)

    return callback
