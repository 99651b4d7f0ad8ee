"""Metrics of a model on planned batches: statistics of every example, each exactly once."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt.tasks import State, Task
from tfpt.training.interrupts import Pressed


def progress_evaluation(
    task: Task, state: State, model: keras.Model, batches: tf.data.Dataset
) -> Callable[[Pressed], dict[str, float]]:
    """Returns a function that evaluates the model as it is now: the task's metrics and `loss`, the mean.

    It raises what it is given where that asks it to stop.

    Args:
        task: computes loss, statistics and metrics.
        state: of the task.
        model: is evaluated in inference mode.
        batches: of an evaluation plan.
    """

    @tf.function(autograph=False, input_signature=[batches.element_spec])  # one trace, whatever the lengths
    def step(batch: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor, dict[str, Any]]:
        loss_sum, weight_sum, outputs = task.loss(model, batch, False)
        return loss_sum, weight_sum, task.statistics(outputs, batch, state)

    def evaluate(pressed: Pressed) -> dict[str, float]:
        loss = weight = 0.0
        gathered: list[dict[str, np.ndarray]] = []
        for batch in batches:
            if stop := pressed():
                raise stop
            loss_sum, weight_sum, statistics = step(batch)
            loss += float(loss_sum)
            weight += float(weight_sum)
            counts = batch["weight"].numpy() > 0
            gathered.append({name: value.numpy()[counts] for name, value in statistics.items()})
        together = {name: np.concatenate([g[name] for g in gathered]) for name in gathered[0]}
        metrics = task.metrics(task.finish_statistics(together, state), state)
        return {"loss": loss / max(weight, 1e-12), **{name: float(value) for name, value in metrics.items()}}

    return evaluate
