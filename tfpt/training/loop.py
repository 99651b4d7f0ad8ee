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
from tfpt.training import blow_up, checkpoints
from tfpt.training.averages import Averages
from tfpt.training.blow_up import BlowUpError
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.interrupts import Pressed, deferred_interrupts
from tfpt.training.plan import TrainingPlan
from tfpt.training.progress import Progress
from tfpt.training.steps import compiled_steps
from tfpt.training.strategies import Together
from tfpt.training.updates import Updates

__all__ = ["Hooks", "Progress", "Stage", "compiled_steps", "is_better", "train_stage"]

SECONDS_A_CALL = 0.5
ROWS_AN_EPOCH = 10


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
        UserError: the loss blew up, and going back did not help.
    """
    together = Together(tf.distribute.get_strategy())
    if progress.rate_factor != 1:
        stage.updates.slow_down(progress.rate_factor)
    with (
        console.training(stage.name, epochs=stage.epochs, steps=stage.steps) as display,
        deferred_interrupts() as pressed,
    ):
        while True:
            try:
                _train(stage, progress, options, saver, hooks, display, pressed, together)
                break
            except BlowUpError as found:
                together.wait()
                _recover(found, stage, progress, options, saver, console, hooks)
    together.wait()  # until the best weights are written
    _take_best(stage, progress, saver, console)


def _train(
    stage: Stage,
    progress: Progress,
    options: Train,
    saver: Checkpoints,
    hooks: Hooks,
    display: Any,
    pressed: Pressed,
    together: Together,
) -> None:
    """Trains from where the progress stands to the end of the stage."""
    call = compiled_steps(stage.task, stage.model, stage.updates, stage.averages, accumulate=options.accumulate)
    iterator = iter(stage.batches(lambda: _rows(stage, progress)))
    an_epoch = stage.plan.steps
    row_every = max(1, an_epoch // ROWS_AN_EPOCH)
    evaluate_every = options.evaluate_every or an_epoch
    saved_at = time.monotonic()
    pace = 1
    stopped = _waited_enough(progress, options)

    def save() -> None:
        blow_up.check_weights(stage.variables(), progress)
        saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))

    while not stopped:
        last = progress.step == stage.steps
        evaluating = _evaluation_is_due(stage, progress, evaluate_every)
        if evaluating:
            try:
                stopped = _evaluate(stage, progress, options, saver, hooks, pressed, together)
            except KeyboardInterrupt:  # nothing has changed since the last update
                save()
                raise
        elif last:
            break
        else:
            due = [row_every, evaluate_every, an_epoch, *filter(None, [options.checkpoint_steps])]
            count = min(pace, stage.steps - progress.step, *(every - progress.step % every for every in due))
            seconds = _advance(stage, progress, options, call, iterator, count, hooks)
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
        timed = time.monotonic() - saved_at > 60 * options.checkpoint_minutes
        pace, timed, interrupted = together.agree(pace=pace, timed=timed, stop=pressed())
        counted = options.checkpoint_steps and progress.step % options.checkpoint_steps == 0
        ended = last or stopped or progress.step % an_epoch == 0
        before_evaluation = _evaluation_is_due(stage, progress, evaluate_every)
        if interrupted or timed or counted or (ended and not before_evaluation):
            save()
            saved_at = time.monotonic()
        hooks.status(progress)
        if interrupted:
            raise interrupted


def _recover(
    found: BlowUpError,
    stage: Stage,
    progress: Progress,
    options: Train,
    saver: Checkpoints,
    console: Console,
    hooks: Hooks,
) -> None:
    """Goes back to the last good checkpoint of the stage, past the batches between, with a lower learning rate.

    Raises:
        UserError: there is no such checkpoint, or the loss blew up too often.
    """
    saved = saver.latest(console=console)
    good = saved is not None and saved.state["stage"] == progress.stage
    after = blow_up.skip_past(found, progress, saved.state, options) if saved and good else None
    if saved is None or after is None:
        often = f" again, after {progress.recoveries} recoveries," if progress.recoveries else ""
        raise UserError(
            f"{found.reason[0].upper()}{found.reason[1:]}{often} in stage {stage.name} near step {found.step}: "
            f"lower --optim.learning_rate={stage.updates.schedule.peak:g}, or keep --optim.clip_norm above 0."
        )
    checkpoints.restore(saved.folder, stage.variables())
    stage.updates.slow_down(blow_up.RATE_FACTOR)
    back_to = saved.state["step"]
    progress.become(after)
    saver.forget_after((progress.stage, saved.state["total_steps"]))
    values = {"reason": found.reason, "back_to": back_to}
    row = _row(stage, progress, split="recovery", values=values)
    progress.history.append(row)
    hooks.begin(progress.history)  # the rows of what is undone are gone
    console.warn(blow_up.recovery_notes([row])[0])
    saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))


def _advance(
    stage: Stage,
    progress: Progress,
    options: Train,
    call: Callable[..., Any],
    iterator: Any,
    count: int,
    hooks: Hooks,
) -> float:
    """Makes so many updates; returns the seconds they took.

    Raises:
        BlowUpError: the loss is of no use any more.
    """
    started = time.monotonic()
    losses, weights, failed = (t.numpy() for t in call(iterator, tf.constant(count, tf.int32)))
    seconds = time.monotonic() - started
    progress.seconds += seconds
    hooks.failed(failed[failed >= 0])
    blow_up.check_losses(losses, weights, progress, spike=options.spike)
    progress.step += count
    progress.total_steps += count
    progress.pending += [(float(a), float(b)) for a, b in zip(losses, weights, strict=True)]
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
    row = _row(stage, progress, split=split, values=values)
    progress.history.append(row)
    hooks.row(row)


def _row(stage: Stage, progress: Progress, *, split: str, values: dict[str, Any]) -> dict[str, Any]:
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


def _evaluate(
    stage: Stage,
    progress: Progress,
    options: Train,
    saver: Checkpoints,
    hooks: Hooks,
    pressed: Pressed,
    together: Together,
) -> bool:
    """Evaluates, keeps the weights if they are the best of the stage, and tells whether to stop early."""
    assert stage.evaluate is not None
    with stage.averages.swapped_in() if stage.averages else contextlib.nullcontext():
        started = time.monotonic()
        metrics = together.of_chief(stage.evaluate(pressed if together.workers == 1 else lambda: None))
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
