"""`--output.trackers=wandb:PROJECT`: a run of Weights & Biases."""

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from tfpt.trackers import Followed, Row, Tracker, numbers

_PROJECT = "tfpt"


class Wandb(Tracker):
    """Weights & Biases: the argument is the project, `tfpt` without one. Offline (--offline, WANDB_MODE=offline) everything is in
    the run folder, for `wandb sync`.
    """

    packages = ("wandb",)
    extra = "wandb"
    remote = True

    def start(self, run: Followed, history: Sequence[Row]) -> str:
        """Makes a run, or goes on with it."""
        import wandb

        offline = run.offline or os.environ.get("WANDB_MODE") == "offline"
        if not offline and not wandb.login(prompt=False):  # it would ask for a key, and nobody may be there
            raise PermissionError("there is no API key; run `wandb login`, or set WANDB_MODE=offline")
        if offline:  # what a killed run wrote cannot be gone on with, so it is written anew
            for old in (run.folder / "wandb").glob("offline-run-*"):
                shutil.rmtree(old, ignore_errors=True)
        self._run: Any = wandb.init(
            project=self.argument or _PROJECT,
            id=run.identifier or uuid.uuid4().hex[:8],
            resume="allow",
            reinit="create_new",
            name=run.name,
            config=dict(run.settings),
            dir=str(run.folder),
            mode="offline" if offline else "online",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("*", step_metric="total_steps")
        # Each row is one step of theirs, so what they have is counted by it.
        self._there, self._seen = int(self._run.step), 0
        for row in history:
            self.add(row)
        return str(self._run.id)

    def add(self, row: Row) -> None:
        """Logs a row, unless it is one of those that they have."""
        self._seen += 1
        if self._seen > self._there:
            self._run.log({**numbers(row), "total_steps": row["total_steps"]})

    def finish(self, state: str, results: Mapping[str, float]) -> None:
        """Puts the results into the summary and ends the run."""
        for name, value in results.items():
            self._run.summary[name] = value
        self._run.finish(exit_code=0 if state == "finished" else 1)
