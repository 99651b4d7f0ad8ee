"""Where a run is: the plain values of a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class Progress:
    """Where a run is; plain values, saved with every checkpoint.

    Attributes:
        stage: index of the stage.
        step: updates done in this stage.
        total_steps: updates done in all stages.
        epochs_before: epochs in the stages before this one; plans count epochs over the whole run.
        history: rows of metrics.jsonl.
        best: metrics of the best evaluation of this stage, with its `total_steps`; None before the first.
        carried: `best` of the stage before.
        waited: evaluations since the best.
        evaluated: `total_steps` at the last evaluation.
        skipped: updates of this stage that were passed over after the loss blew up; they count as done.
        recoveries: how often the loss blew up in all stages.
        rate_factor: what that has made of this stage's learning rate.
        accumulate: in how many parts batches go through the model since one did not fit into memory; 0: as the flag says.
        recent: mean losses of the last updates, of which the bound of `--train.spike` is made.
        pending: loss sum and weight sum of each step since the last row.
        failed: indices of examples that could not be decoded, as far as that is known.
        seconds: spent in updates so far.
    """

    stage: int = 0
    step: int = 0
    total_steps: int = 0
    epochs_before: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] | None = None
    carried: dict[str, Any] | None = None
    waited: int = 0
    evaluated: int = 0
    skipped: int = 0
    recoveries: int = 0
    rate_factor: float = 1.0
    accumulate: int = 0
    recent: list[float] = dataclasses.field(default_factory=list)
    pending: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    failed: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def order(self) -> tuple[int, int]:
        """Stage and updates in all: grows with time."""
        return self.stage, self.total_steps

    def next_stage(self, stage: int, *, epochs_before: int) -> "Progress":
        """Returns the beginning of a later stage."""
        return Progress(
            stage=stage,
            total_steps=self.total_steps,
            epochs_before=epochs_before,
            history=self.history,
            carried=self.best,
            evaluated=self.evaluated,
            recoveries=self.recoveries,
            accumulate=self.accumulate,
            failed=self.failed,
            seconds=self.seconds,
        )

    def become(self, other: "Progress") -> None:
        """Takes over all values of another."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))


def to_progress(state: Mapping[str, Any]) -> Progress:
    """Makes a Progress of a checkpoint's plain values."""
    return Progress(**{**state, "pending": [tuple(pair) for pair in state["pending"]]})
