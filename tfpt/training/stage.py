"""What trains for how long, on what, and whom the loop tells of it."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.tasks import Primary, Task
from tfpt.training.averages import Averages
from tfpt.training.interrupts import Pressed
from tfpt.training.plan import TrainingPlan
from tfpt.training.progress import Progress
from tfpt.training.updates import Updates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What trains for how long, on what.

    Attributes:
        name: `head` or `fine_tune`.
        model: the task's model, on trunks or on cached features.
        task: what is learned.
        primary: the metric that the best weights are chosen by.
        updates: applies gradients.
        averages: of the weights, or None.
        batches: makes the batches of a row iterator.
        plan: which examples are in which batch.
        epochs: how often each example is seen.
        steps: updates; fewer than the epochs' when `--train.steps` bounds them.
        evaluate: returns the metrics on validation, or raises what it is given where that asks it to stop, and tells a
            console of batches that do not fit; None without a validation split.
        faster_input: what to change where examples come too slowly, as half a sentence.
    """

    name: str
    model: keras.Model
    task: Task
    primary: Primary
    updates: Updates
    averages: Averages | None
    batches: Callable[[Callable[[], Iterator[tuple[int, np.ndarray]]]], tf.data.Dataset]
    plan: TrainingPlan
    epochs: int
    steps: int
    evaluate: Callable[[Pressed, Console], dict[str, float]] | None
    faster_input: str = "give it more CPU cores"

    def variables(self) -> list[tf.Variable]:
        """Everything that must be saved to go on exactly, seed generators included."""
        averages = self.averages.state if self.averages else []
        return [*(v.value for v in self.model.variables), *self.updates.state, *averages]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hooks:
    """What the loop reports to.

    Attributes:
        begin: gets the rows of history that a checkpoint knows, when training begins or goes on.
        row: gets each new row of history.
        status: gets the progress now and then, and at the end of each call.
        failed: gets the indices of examples that could not be decoded.
    """

    begin: Callable[[list[dict[str, Any]]], None]
    row: Callable[[dict[str, Any]], None]
    status: Callable[[Progress], None]
    failed: Callable[[np.ndarray], None]


def row_of(stage: Stage, progress: Progress, *, split: str, values: dict[str, Any]) -> dict[str, Any]:
    """Returns a row of history: where the stage stands, and values of a split."""
    return {
        "stage": stage.name,
        "epoch": round(progress.step / stage.plan.steps, 4),
        "step": progress.step,
        "total_steps": progress.total_steps,
        "split": split,
        **values,
        "learning_rate": float(stage.updates.schedule(max(0, progress.step - progress.skipped - 1))),
        "seconds": round(progress.seconds, 2),
    }
