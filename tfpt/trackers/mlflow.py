"""`--output.trackers=mlflow:URI`: a run of an MLflow tracking server, or of a database file."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tfpt.trackers import Followed, Row, Tracker, numbers

_EXPERIMENT = "tfpt"
_MOST_PARAMETERS, _LONGEST_PARAMETER = 100, 500
"""What a server takes in one request, and in one value, at least."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
_STATES = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Mlflow(Tracker):
    """MLflow: the argument is the tracking URI (http://host:5000, sqlite:///runs.db); without one, MLFLOW_TRACKING_URI.

    The run's settings are its parameters. MLFLOW_EXPERIMENT_NAME names the experiment; default: tfpt.
    """

    packages = ("mlflow",)
    extra = "mlflow"
    remote = True

    def start(self, run: Followed, history: Sequence[Row]) -> str:
        """Makes a run, or goes on with it."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        import mlflow
        from mlflow.entities import Param

        uri = self.argument or mlflow.get_tracking_uri()
        if run.offline and uri.startswith(("http:", "https:", "databricks")):
            raise ConnectionError(f"--offline, and {uri} is not on this machine; mlflow:sqlite:///FILE is")
        self._client: Any = mlflow.MlflowClient(tracking_uri=uri)
        self._told: dict[str, set[int]] = {}
        self._resumed = bool(run.identifier)
        self._id = run.identifier
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._client.create_run(self._experiment(), run_name=run.name).info.run_id
            given = [Param(flag, text[:_LONGEST_PARAMETER]) for flag, text in run.settings.items()]
            for first in range(0, len(given), _MOST_PARAMETERS):
                self._client.log_batch(self._id, params=given[first : first + _MOST_PARAMETERS])
        for row in history:
            self.add(row)
        return self._id

    def add(self, row: Row) -> None:
        """Logs those numbers of a row that the server does not have for this step."""
        from mlflow.entities import Metric

        step, now = int(row["total_steps"]), int(time.time() * 1000)
        fresh = {name: value for name, value in numbers(row).items() if step not in self._steps(name)}
        if fresh:
            self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in fresh.items()])
        for name in fresh:
            self._told[name].add(step)

    def finish(self, state: str, results: Mapping[str, float]) -> None:
        """Logs the results and ends the run."""
        for name, value in results.items():
            if not self._steps(name):
                self._client.log_metric(self._id, name, value)
                self._told[name].add(0)
        self._client.set_terminated(self._id, _STATES[state])

    def _steps(self, name: str) -> set[int]:
        """Returns the steps for which the server has a number."""
        if name not in self._told:
            there = self._client.get_metric_history(self._id, name) if self._resumed else ()
            self._told[name] = {metric.step for metric in there}
        return self._told[name]

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))
