"""Callbacks of scikit-learn: what they see of a fit, and how they stop it."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skgmmot import CoupledGMMFitter, DifferentiableGaussianMixture

callback = pytest.importorskip(
    "sklearn.callback", reason="scikit-learn has callbacks from version 1.9"
)


def clouds(n_samples=200):
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
    return corners[rng.integers(3, size=n_samples)] + rng.normal(size=(n_samples, 2))


def mixture_of(**params):
    options = {"residual_tol": np.inf, "tol": 1e-4, "max_iter": 300, "random_state": 0}
    return DifferentiableGaussianMixture(3, **(options | params))


class Recorder:
    """Keeps what it is told, and stops after ``stop_after`` EM steps of each restart."""

    def __init__(self, stop_after=np.inf):
        self.stop_after = stop_after
        self.begun, self.ended, self.calls = [], [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, metadata=None):
        self.begun.append((context, X, metadata))

    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        self.ended.append((context, X, metadata, fitted_estimator))
        return context.task_name == "EM step" and context.task_id + 1 >= self.stop_after

    def tasks(self, name):
        return [entry for entry in self.ended if entry[0].task_name == name]


@pytest.mark.parametrize("n_init", [1, 3])
@pytest.mark.parametrize("max_iter", [1, 4, 300])
def test_one_task_for_each_restart_and_each_step(n_init, max_iter):
    recorder, X = Recorder(), clouds()
    options = {"n_init": n_init, "max_iter": max_iter, "init_params": "random_from_data"}
    mixture = mixture_of(**options).set_callbacks(recorder)
    if max_iter < 5:
        with pytest.warns(ConvergenceWarning, match="did not converge"):
            mixture.fit(X)
    else:
        mixture.fit(X)
    restarts = recorder.tasks("restart")
    assert [context.task_id for context, *_ in restarts] == list(range(n_init))
    n_steps = [
        sum(step.parent is restart for step, *_ in recorder.tasks("EM step"))
        for restart, *_ in restarts
    ]
    assert mixture.n_iter_ in n_steps
    if max_iter < 5:
        assert n_steps == [max_iter] * n_init
    assert all(context.max_subtasks == max_iter for context, *_ in restarts)
    assert recorder.calls == ["setup", "teardown"]
    (root,) = recorder.tasks("fit")
    assert root[0].max_subtasks == n_init
    assert recorder.ended[-1] is root
    # every task that began has ended
    assert {id(entry[0]) for entry in recorder.begun} == {id(entry[0]) for entry in recorder.ended}
    assert len(recorder.begun) == len(recorder.ended)


def test_fit_of_no_steps_has_no_steps():
    recorder = Recorder()
    mixture_of(max_iter=0).set_callbacks(recorder).fit(clouds())
    assert not recorder.tasks("EM step")
    assert len(recorder.tasks("restart")) == len(recorder.tasks("fit")) == 1


def test_fitted_estimator_after_each_step():
    recorder, X = Recorder(), clouds()
    mixture = mixture_of().set_callbacks(recorder).fit(X)
    shown = [fitted for *_, fitted in recorder.tasks("EM step")]
    assert all(fitted is not None for fitted in shown)
    scores = [fitted.score(X) for fitted in shown]
    # step t shows θ_t, whose bound step t + 1 finds
    np.testing.assert_allclose(scores[:-1], mixture.lower_bounds_[1:], rtol=1e-13)
    np.testing.assert_allclose(scores[-1], mixture.score(X), rtol=1e-13)
    np.testing.assert_array_equal(shown[-1].predict(X), mixture.predict(X))
    (root,) = recorder.tasks("fit")
    np.testing.assert_array_equal(root[-1].means_, mixture.means_)
    np.testing.assert_array_equal(root[-1].predict(X), mixture.predict(X))


def test_data_and_weights_are_shown():
    recorder, X = Recorder(), clouds()
    weight = np.random.default_rng(0).exponential(size=len(X))
    mixture = mixture_of().set_callbacks(recorder)
    mixture.fit(X, sample_weight=weight)
    for _, data, metadata, *_ in [*recorder.begun, *recorder.ended]:
        np.testing.assert_array_equal(data, X)
        np.testing.assert_array_equal(metadata["sample_weight"], weight)


def test_callbacks_change_nothing():
    X = clouds()
    with_one = mixture_of(n_init=3).set_callbacks(Recorder()).fit(X)
    without = mixture_of(n_init=3).fit(X)
    assert with_one.lower_bounds_ == without.lower_bounds_
    np.testing.assert_array_equal(with_one.means_, without.means_)
    np.testing.assert_array_equal(with_one.covariances_, without.covariances_)


@pytest.mark.parametrize("n_init", [1, 2])
def test_callback_stops_a_restart(n_init):
    recorder, X = Recorder(stop_after=4), clouds()
    mixture = mixture_of(n_init=n_init, tol=0).set_callbacks(recorder)
    with pytest.warns(ConvergenceWarning, match="did not converge in 4 steps"):
        mixture.fit(X)
    assert mixture.n_iter_ == 4 and not mixture.converged_
    assert len(recorder.tasks("EM step")) == 4 * n_init
    limited = mixture_of(n_init=n_init, tol=0, max_iter=4)
    with pytest.warns(ConvergenceWarning, match="did not converge in 4 steps"):
        limited.fit(X)
    np.testing.assert_array_equal(mixture.means_, limited.means_)


def test_tasks_end_though_a_restart_fails():
    recorder = Recorder()
    X = np.repeat([[0.0, 0.0], [4.0, 4.0], [0.0, 4.0]], 10, axis=0)
    mixture = mixture_of(reg_covar=0, n_init=2).set_callbacks(recorder)
    with pytest.raises(ValueError, match="not positive definite"):
        mixture.fit(X)
    assert len(recorder.tasks("restart")) == 2
    begun, ended = ([id(entry[0]) for entry in some] for some in (recorder.begun, recorder.ended))
    root = id(recorder.begun[0][0])  # the fit itself ends with the error
    assert set(begun) - set(ended) == {root}
    assert recorder.calls == ["setup", "teardown"]
    # and the estimator can be fitted again
    mixture.set_params(reg_covar=1e-3).fit(clouds())
    assert recorder.calls == ["setup", "teardown"] * 2


def test_error_in_a_callback_reaches_the_caller():
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("no more")

    failing = Failing()
    with pytest.raises(RuntimeError, match="no more"):
        mixture_of().set_callbacks(failing).fit(clouds())
    assert failing.calls == ["setup", "teardown"]


def test_warm_start_is_one_restart():
    X, recorder = clouds(), Recorder()
    mixture = mixture_of(warm_start=True, n_init=3).fit(X)
    mixture.set_callbacks(recorder).fit(X)
    assert len(recorder.tasks("restart")) == 1


def test_fit_predict_calls_back():
    recorder = Recorder()
    mixture_of().set_callbacks(recorder).fit_predict(clouds())
    assert recorder.tasks("fit") and recorder.calls == ["setup", "teardown"]


def test_progress_bar_runs(capsys):
    pytest.importorskip("rich", reason="the progress bar is drawn by rich")
    mixture = mixture_of(n_init=2).set_callbacks(callback.ProgressBar())
    mixture.fit(clouds())
    printed = capsys.readouterr().out
    assert "DifferentiableGaussianMixture" in printed and "restart" in printed
    np.testing.assert_array_equal(mixture.means_, mixture_of(n_init=2).fit(clouds()).means_)


def test_progress_bar_of_a_grid_search(capsys):
    """Callbacks handed down by a meta-estimator."""
    pytest.importorskip("rich", reason="the progress bar is drawn by rich")
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(mixture_of(), {"covariance_type": ["full", "diag"]}, cv=2)
    if not hasattr(search, "set_callbacks"):
        pytest.skip("this GridSearchCV hands no callbacks down")
    search.set_callbacks(callback.ProgressBar()).fit(clouds())
    assert "restart" in capsys.readouterr().out


def test_scoring_monitor_runs():
    """It has no scores of what has no y, but an entry for each step."""
    monitor = callback.ScoringMonitor(scoring=lambda fitted, X, y: fitted.score(X))
    mixture = mixture_of().set_callbacks(monitor).fit(clouds())
    steps = [entry for entry in monitor.get_logs().data if entry["task_name"] == "EM step"]
    assert [entry["task_id"] for entry in steps] == list(range(mixture.n_iter_))


# Coupled fits


def pair_of_clouds():
    return clouds(200), clouds(150) * 1.2 + [0.5, 0.0]


def rows_with_domains():
    X, Y = pair_of_clouds()
    return np.concatenate([X, Y]), np.repeat([1, -1], [len(X), len(Y)])


class SweepRecorder(Recorder):
    def on_fit_task_end(self, estimator, context, *, X=None, metadata=None, fitted_estimator=None):
        super().on_fit_task_end(
            estimator, context, X=X, metadata=metadata, fitted_estimator=fitted_estimator
        )
        return context.task_name == "sweep" and context.task_id + 1 >= self.stop_after


def coupled(**params):
    return CoupledGMMFitter(3, **({"random_state": 0} | params))


@pytest.mark.parametrize("n_init", [1, 2])
def test_coupled_fit_has_a_task_for_each_run_and_each_sweep(n_init):
    recorder = SweepRecorder()
    fitter = coupled(n_init=n_init).set_callbacks(recorder).fit_pair(*pair_of_clouds())
    assert recorder.calls == ["setup", "teardown"]
    runs = recorder.tasks("run")
    assert [context.task_id for context, *_ in runs] == list(range(1 + 2 * n_init))
    n_sweeps = [
        sum(sweep.parent is run for sweep, *_ in recorder.tasks("sweep")) for run, *_ in runs
    ]
    # the best of the starts, and then the last run, which went on from there
    assert fitter.n_iter_ - n_sweeps[-1] in n_sweeps[:-1]
    assert recorder.ended[-1][0].task_name == "fit"
    begun, ended = ({id(entry[0]) for entry in some} for some in (recorder.begun, recorder.ended))
    assert begun == ended and len(recorder.begun) == len(recorder.ended)


def test_coupled_fit_shows_fitted_estimators():
    recorder, (X, y) = SweepRecorder(), rows_with_domains()
    fitter = coupled().set_callbacks(recorder).fit(X, y)
    shown = [fitted for *_, fitted in recorder.tasks("sweep")]
    objectives = [fitted.objective_ for fitted in shown]
    last = recorder.tasks("run")[-1][0]
    own = [
        fitted.objective_
        for (context, *_, fitted) in recorder.tasks("sweep")
        if context.parent is last
    ]
    assert len(set(objectives)) > 1
    np.testing.assert_allclose(own, fitter.lower_bounds_[-len(own) :], atol=1e-4)  # reg_covar
    np.testing.assert_array_equal(shown[-1].transform(X), fitter.transform(X))
    (root,) = recorder.tasks("fit")
    assert root[-1].objective_ == fitter.objective_
    np.testing.assert_array_equal(root[-1].predict(X), fitter.predict(X))


@pytest.mark.parametrize("as_pair", [False, True])
def test_coupled_fit_shows_rows_domains_and_weights(as_pair):
    recorder, (X, y) = SweepRecorder(), rows_with_domains()
    weight = np.random.default_rng(0).exponential(size=len(X))
    fitter = coupled().set_callbacks(recorder)
    if as_pair:
        is_source = y == 1
        fitter.fit_pair(
            X[is_source],
            X[~is_source],
            sample_weight_source=weight[is_source],
            sample_weight_target=weight[~is_source],
        )
    else:
        fitter.fit(X, y, sample_weight=weight)
    for _, data, metadata, *_ in [*recorder.begun, *recorder.ended]:
        np.testing.assert_array_equal(data, X)
        np.testing.assert_array_equal(metadata["sample_domain"], y)
        np.testing.assert_array_equal(metadata["sample_weight"], weight)


def test_callbacks_change_nothing_in_a_coupled_fit():
    pair = pair_of_clouds()
    with_one = coupled().set_callbacks(SweepRecorder()).fit_pair(*pair)
    without = coupled().fit_pair(*pair)
    assert with_one.lower_bounds_ == without.lower_bounds_
    np.testing.assert_array_equal(with_one.transport_.plan, without.transport_.plan)


def test_callback_stops_the_runs_of_a_coupled_fit():
    recorder = SweepRecorder(stop_after=2)
    fitter = coupled().set_callbacks(recorder)
    with pytest.warns(ConvergenceWarning, match="did not converge in 4 sweeps"):
        fitter.fit_pair(*pair_of_clouds())
    assert len(recorder.tasks("sweep")) == 3 * 2  # two starts, and the better of them again


def test_warm_started_coupled_fit_is_one_run():
    recorder, pair = SweepRecorder(), pair_of_clouds()
    fitter = coupled(warm_start=True).fit_pair(*pair)
    fitter.set_callbacks(recorder).fit_pair(*pair)
    assert len(recorder.tasks("run")) == 1


def test_progress_bar_of_a_coupled_fit(capsys):
    pytest.importorskip("rich", reason="the progress bar is drawn by rich")
    coupled().set_callbacks(callback.ProgressBar()).fit_pair(*pair_of_clouds())
    printed = capsys.readouterr().out
    assert "CoupledGMMFitter" in printed and "run" in printed
