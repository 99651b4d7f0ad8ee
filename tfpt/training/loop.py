"""The training loop: compiled calls of many steps, with evaluation, checkpoints and reports between them.

Nothing is fetched from the device inside a call. A call ends where something is due (a row of history, an evaluation, a
checkpoint, the end of an epoch) or after about half a second, so that Ctrl-C and progress never wait long. The steps are
the same however they are cut into calls.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt.config import Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.tasks import Primary, Task
from tfpt.training import checkpoints
from tfpt.training.averages import Averages
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.interrupts import Pressed, deferred_interrupts
from tfpt.training.plan import TrainingPlan
from tfpt.training.updates import Updates

SECONDS_A_CALL = 0.5
ROWS_AN_EPOCH = 10


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
        pending: loss sum and weight sum of each step since the last row.
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
    pending: list[tuple[float, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def order(self) -> tuple[int, int]:
        """Stage and updates in all: grows with time."""
        return self.stage, self.total_steps


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
        evaluate: returns the metrics on validation, or raises what it is given where that asks it to stop; None without a
            validation split.
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
    evaluate: Callable[[Pressed], dict[str, float]] | None

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


def train_stage(
    stage: Stage, progress: Progress, options: Train, saver: Checkpoints, console: Console, hooks: Hooks
) -> None:
    """Trains a stage to its end from where `progress` stands; the model's weights end as they were at the best evaluation.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed or SIGTERM came; the state is saved.
        UserError: the loss is not a number any more.
    """
    call = compiled_steps(stage.task, stage.model, stage.updates, stage.averages, accumulate=options.accumulate)
    iterator = iter(stage.batches(lambda: _rows(stage, progress)))
    an_epoch = stage.plan.steps
    row_every = max(1, an_epoch // ROWS_AN_EPOCH)
    evaluate_every = options.evaluate_every or an_epoch
    saved_at = time.monotonic()
    pace = 1
    stopped = _waited_enough(progress, options)
    with (
        console.training(stage.name, epochs=stage.epochs, steps=stage.steps) as display,
        deferred_interrupts() as pressed,
    ):
        while not stopped:
            last = progress.step == stage.steps
            evaluating = _evaluation_is_due(stage, progress, evaluate_every)
            if evaluating:
                try:
                    stopped = _evaluate(stage, progress, options, saver, hooks, pressed)
                except KeyboardInterrupt:  # nothing has changed since the last update
                    saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))
                    raise
            elif last:
                break
            else:
                due = [row_every, evaluate_every, an_epoch, *filter(None, [options.checkpoint_steps])]
                count = min(pace, stage.steps - progress.step, *(every - progress.step % every for every in due))
                seconds = _advance(stage, progress, call, iterator, count, hooks)
                pace = max(1, min(2 * pace, int(SECONDS_A_CALL * count / seconds)))
                mean = sum(a for a, _ in progress.pending) / max(1e-12, sum(b for _, b in progress.pending))
                speed = count * len(stage.plan.examples) / an_epoch / seconds
                last = progress.step == stage.steps
                if progress.step % row_every == 0 or last:
                    values = {"loss": mean, "examples_per_second": round(speed, 1)}
                    _record(stage, progress, hooks, split="train", values=values)
                    progress.pending = []
                primary = stage.primary.name
                display.update(
                    epoch=progress.step / an_epoch,
                    step=progress.step,
                    loss=mean,
                    metric=(primary, progress.best[primary]) if progress.best else None,
                    examples_per_second=speed,
                )
            interrupted = pressed()
            timed = time.monotonic() - saved_at > 60 * options.checkpoint_minutes
            counted = options.checkpoint_steps and progress.step % options.checkpoint_steps == 0
            ended = last or stopped or progress.step % an_epoch == 0
            before_evaluation = _evaluation_is_due(stage, progress, evaluate_every)
            if interrupted or timed or counted or (ended and not before_evaluation):
                saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))
                saved_at = time.monotonic()
            hooks.status(progress)
            if interrupted:
                raise interrupted
    _take_best(stage, progress, saver, console)


def _advance(
    stage: Stage, progress: Progress, call: Callable[..., Any], iterator: Any, count: int, hooks: Hooks
) -> float:
    """Makes so many updates; returns the seconds they took."""
    started = time.monotonic()
    losses, weights, failed = (t.numpy() for t in call(iterator, tf.constant(count, tf.int32)))
    seconds = time.monotonic() - started
    progress.step += count
    progress.total_steps += count
    progress.seconds += seconds
    progress.pending += [(float(a), float(b)) for a, b in zip(losses, weights, strict=True)]
    hooks.failed(failed[failed >= 0])
    if not np.all(np.isfinite(losses)):
        raise UserError(
            f"The loss became {losses[~np.isfinite(losses)][0]} in stage {stage.name} near step {progress.step}: "
            f"lower --optim.learning_rate={stage.updates.schedule.peak:g}, or keep --optim.clip_norm above 0."
        )
    return seconds


def _evaluation_is_due(stage: Stage, progress: Progress, every: int) -> bool:
    now = progress.step % every == 0 or progress.step == stage.steps
    return stage.evaluate is not None and progress.step > 0 and now and progress.evaluated < progress.total_steps


def _rows(stage: Stage, progress: Progress) -> Iterator[tuple[int, np.ndarray]]:
    first, skip = divmod(progress.step, stage.plan.steps)
    for epoch in range(first, -(-stage.steps // stage.plan.steps)):
        number = progress.epochs_before + epoch
        for row in stage.plan.rows(number)[skip:]:
            yield number, row
        skip = 0


def _record(stage: Stage, progress: Progress, hooks: Hooks, *, split: str, values: dict[str, Any]) -> None:
    row = {
        "stage": stage.name,
        "epoch": round(progress.step / stage.plan.steps, 4),
        "step": progress.step,
        "total_steps": progress.total_steps,
        "split": split,
        **values,
        "learning_rate": float(stage.updates.schedule(progress.step - 1)),
        "seconds": round(progress.seconds, 2),
    }
    progress.history.append(row)
    hooks.row(row)


def _evaluate(
    stage: Stage, progress: Progress, options: Train, saver: Checkpoints, hooks: Hooks, pressed: Pressed
) -> bool:
    """Evaluates, keeps the weights if they are the best of the stage, and tells whether to stop early."""
    assert stage.evaluate is not None
    with stage.averages.swapped_in() if stage.averages else contextlib.nullcontext():
        started = time.monotonic()
        metrics = stage.evaluate(pressed)
        seconds = time.monotonic() - started
        better = progress.best is None or is_better(metrics, progress.best, stage.primary)
        if better:
            saver.save(progress.order, [v.value for v in stage.model.variables], {}, name="best")
    _record(
        stage,
        progress,
        hooks,
        split="validation",
        values={**metrics, "best": better, "evaluation_seconds": round(seconds, 3)},
    )
    progress.evaluated = progress.total_steps
    if better:
        progress.best = {**metrics, "total_steps": progress.total_steps}
        progress.waited = 0
    else:
        progress.waited += 1
    return _waited_enough(progress, options)


def _waited_enough(progress: Progress, options: Train) -> bool:
    return bool(options.patience) and progress.waited >= options.patience


def is_better(metrics: dict[str, Any], best: dict[str, Any], primary: Primary) -> bool:
    """Tells whether metrics beat the best so far: by the primary metric, and by the loss where that is equal.

    What is not a number is worse than any number.
    """
    new, old = metrics[primary.name], best[primary.name]
    if math.isnan(new) or math.isnan(old):
        return not math.isnan(new)
    if new != old:
        return (new > old) == primary.higher_is_better
    return metrics["loss"] < best["loss"]


def _take_best(stage: Stage, progress: Progress, saver: Checkpoints, console: Console) -> None:
    if progress.best:
        saved = saver.find((progress.stage, progress.best["total_steps"]), name="best")
        if saved is None:
            console.warn("The checkpoint of the best weights is damaged; the stage's last weights are used.")
        else:
            checkpoints.restore(saved.folder, [v.value for v in stage.model.variables])
            return
    if stage.averages:
        for variable, average in zip(stage.averages.followed, stage.averages.averages, strict=True):
            variable.assign(average)


def compiled_steps(
    task: Task, model: keras.Model, updates: Updates, averages: Averages | None, *, accumulate: int
) -> Callable[[Any, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns a compiled function `(iterator, count) -> (loss sums, weight sums, failed)` that trains `count` batches.

    Loss and weight sums are `[count]`; `failed` has an entry an example: its index where it could not be decoded, else -1.
    """
    strategy = tf.distribute.get_strategy()
    trained = updates.trained
    values = [v.value for v in trained]

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

    def replica_step(batch: dict[str, Any]) -> tuple[tf.Tensor, tf.Tensor]:
        found, loss_sum, weight_sum = accumulated(batch)
        context = tf.distribute.get_replica_context()
        found, loss_sum, weight_sum = context.all_reduce(tf.distribute.ReduceOp.SUM, [found, loss_sum, weight_sum])
        applied = updates.apply([g / tf.maximum(weight_sum, 1e-12) for g in found])

        def follow() -> None:
            if averages is not None:
                averages.update()
            task.after_update(model, updates.optimizers[0].iterations)

        if updates.loss_scaling:
            tf.cond(applied, follow, lambda: None)
        else:
            follow()
        return loss_sum, weight_sum

    def one(iterator: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch = iterator.get_next()
        example, ok = batch.pop("example"), batch.pop("ok")
        loss_sum, weight_sum = strategy.run(replica_step, args=(batch,))
        return loss_sum, weight_sum, tf.where(ok, tf.constant(-1, tf.int64), example)

    @tf.function(autograph=False)
    def call(iterator: Any, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        kept = [tf.TensorArray(dtype, size=count, infer_shape=False) for dtype in (tf.float32, tf.float32, tf.int64)]

        def body(i: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
            return i + 1, [array.write(i, value) for array, value in zip(arrays, one(iterator), strict=True)]

        _, kept = tf.while_loop(lambda i, _: i < count, body, (tf.constant(0), kept))
        losses, weights, failed = kept
        return losses.stack(), weights.stack(), failed.concat()  # batches may differ in length

    return call
