"""Metrics of a model on planned batches: statistics of every example, each exactly once."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.layers.lean import graph_that_stays_here
from tfpt.tasks import State, Task
from tfpt.training.interrupts import Pressed
from tfpt.training.kept_batches import KeptBatches
from tfpt.training.memory import AT_A_TIME, FittingBatches
from tfpt.training.side_by_side import side_by_side


def progress_evaluation(
    task: Task, state: State, model: Any, batches: tf.data.Dataset, *, at_a_time: int = AT_A_TIME
) -> "ProgressEvaluation":
    """Returns what evaluates a model as it is at the time.

    Args:
        task: computes loss, statistics and metrics.
        state: of the task.
        model: is evaluated in inference mode; a Keras model, or what stands in for one.
        batches: of an evaluation plan.
        at_a_time: how many of them go through the model side by side, once it is traced.
    """

    def step(batch: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor, dict[str, Any]]:
        with graph_that_stays_here():
            loss_sum, weight_sum, outputs = task.loss(model, batch, False)
        return loss_sum, weight_sum, task.statistics(outputs, batch, state)

    fitting = FittingBatches(step, batches.element_spec, what="validation")
    return ProgressEvaluation(task=task, state=state, batches=batches, fitting=fitting, at_a_time=at_a_time)


@dataclasses.dataclass(kw_only=True)
class ProgressEvaluation:
    """A model's metrics on a validation split, again and again.

    Attributes:
        task: computes metrics.
        state: of the task.
        batches: of an evaluation plan.
        fitting: makes sums of losses and of weights, and statistics, of a batch or its parts.
        at_a_time: how many batches go through it side by side, once it is traced.
        traced: whether it is.
    """

    task: Task
    state: State
    batches: tf.data.Dataset
    fitting: FittingBatches
    at_a_time: int
    traced: bool = False

    def __post_init__(self) -> None:
        self._kept = KeptBatches(self.batches)

    def of(self, batch: Any, console: Console) -> list[tuple[Any, Any]]:
        """Returns the parts of a batch, a single one where it fits into memory, each with what is made of it."""
        found = list(self.fitting(batch, console))
        self.traced = True
        return found

    def __call__(self, pressed: Pressed, console: Console) -> dict[str, float]:
        """Returns the task's metrics and `loss`, the mean.

        Args:
            pressed: returns what to raise where it is asked to stop.
            console: is told where a batch does not fit into memory.
        """
        loss = weight = 0.0
        gathered: list[dict[str, np.ndarray]] = []
        alone = not self.traced or bool(tf.config.list_physical_devices("GPU")) or tf.distribute.has_strategy()
        several = side_by_side(
            lambda batch: self.of(batch, console),
            _until(pressed, self._kept),
            at_a_time=1 if alone else self.at_a_time,
        )
        for _, parts in several:
            for part, (loss_sum, weight_sum, statistics) in parts:
                loss += float(loss_sum)
                weight += float(weight_sum)
                counts = part["weight"].numpy() > 0
                gathered.append({name: value.numpy()[counts] for name, value in statistics.items()})
        together = {name: np.concatenate([g[name] for g in gathered]) for name in gathered[0]}
        metrics = self.task.metrics(self.task.finish_statistics(together, self.state), self.state)
        return {"loss": loss / max(weight, 1e-12), **{name: float(value) for name, value in metrics.items()}}


def _until(pressed: Pressed, batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        if stop := pressed():
            raise stop
        yield batch
