"""The compiled part of training: batches in, updates made, loss sums out."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfpt.tasks import Task
from tfpt.training.averages import Averages
from tfpt.training.strategies import seeds_by_replica, slice_of_replica
from tfpt.training.updates import Updates

_KEPT = (tf.float32, tf.float32, tf.int64, tf.float64, tf.int64)
"""Of each batch: loss sum, weight sum, examples that failed, seconds waited, elements."""


def accumulated_gradients(
    task: Task, model: keras.Model, updates: Updates, *, accumulate: int
) -> Callable[[dict[str, Any]], tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]]:
    """Returns a function of a batch that gives the summed gradients of what trains, the loss sum and the weight sum.

    Args:
        task: has the loss.
        model: the task's.
        updates: knows what trains, and the loss scale.
        accumulate: in how many parts a batch goes through the model, one after the other.
    """
    values = [v.value for v in updates.trained]

    def gradients(part: dict[str, Any]) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for value in values:
                tape.watch(value)
            loss_sum, weight_sum, _ = task.loss(model, part, True)
            regularised = loss_sum
            if model.losses:
                regularised += tf.add_n(model.losses) * tf.stop_gradient(weight_sum)
            scaled = regularised * updates.scale
        found = tape.gradient(scaled, values, unconnected_gradients="zero")
        return [tf.convert_to_tensor(g) for g in found], loss_sum, weight_sum

    def accumulated(batch: dict[str, Any]) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        if accumulate == 1:
            return gradients(batch)
        sums: Any = None
        for i in range(accumulate):
            part = tf.nest.map_structure(lambda x, i=i: tf.split(x, accumulate)[i], batch)
            if sums is not None:  # one part after the other: the point is to hold only one in memory
                with tf.control_dependencies(tf.nest.flatten(sums)):
                    part = tf.nest.map_structure(tf.identity, part)
            new = gradients(part)
            sums = new if sums is None else tf.nest.map_structure(tf.add, sums, new)
        return sums

    return accumulated


def compiled_steps(
    task: Task, model: keras.Model, updates: Updates, averages: Averages | None, *, accumulate: int
) -> Callable[[Any, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns a compiled function `(iterator, count) -> (loss sums, weight sums, failed, waited, elements)` that trains `count`
    batches.

    Loss and weight sums are `[count]`; `failed` has an entry an example: its index where it could not be decoded, else -1.
    `waited` is `[count]`, the seconds until each batch was there, and `elements` `[count]`, the size of its first input.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    accumulated = accumulated_gradients(task, model, updates, accumulate=accumulate)

    def replica_step(batch: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        found, loss_sum, weight_sum = accumulated(batch)
        context = tf.distribute.get_replica_context()
        found, loss_sum, weight_sum = context.all_reduce(tf.distribute.ReduceOp.SUM, [found, loss_sum, weight_sum])
        applied = updates.apply(found, weight_sum=weight_sum)

        def follow() -> None:
            if averages is not None:
                averages.update()
            task.after_update(model, updates.optimizers[0].iterations)

        if updates.loss_scaling:
            tf.cond(applied, follow, lambda: None)
        else:
            follow()
        return loss_sum, weight_sum

    def one(iterator: Any) -> tuple[tf.Tensor, ...]:
        batch, waited = timed_next(iterator)
        example, ok = batch.pop("example"), batch.pop("ok")
        elements = tf.size(tf.nest.flatten(batch["inputs"])[0], tf.int64)
        with seeds_by_replica(replicas):
            sums = strategy.run(replica_step, args=(shared(batch),))
        loss_sum, weight_sum = (strategy.experimental_local_results(part)[0] for part in sums)  # all have the same
        return loss_sum, weight_sum, tf.where(ok, tf.constant(-1, tf.int64), example), waited, elements

    def timed_next(iterator: Any) -> tuple[dict[str, Any], tf.Tensor]:
        before = tf.timestamp()
        with tf.control_dependencies([before]):
            batch = iterator.get_next()
        with tf.control_dependencies(tf.nest.flatten(batch)):
            return batch, tf.timestamp() - before

    def shared(batch: dict[str, Any]) -> dict[str, Any]:
        if replicas == 1:
            return batch
        return strategy.experimental_distribute_values_from_function(
            lambda context: slice_of_replica(
                batch, context.replica_id_in_sync_group, replicas=replicas, parts=accumulate
            )
        )

    @tf.function(autograph=False)
    def call(iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kept = [tf.TensorArray(dtype, size=count, infer_shape=False) for dtype in _KEPT]

        def body(i: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
            return i + 1, [array.write(i, value) for array, value in zip(arrays, one(iterator), strict=True)]

        _, kept = tf.while_loop(lambda i, _: i < count, body, (tf.constant(0), kept))
        losses, weights, failed, waited, elements = kept
        # Batches may differ in length.
        return losses.stack(), weights.stack(), failed.concat(), waited.stack(), elements.stack()

    return call
