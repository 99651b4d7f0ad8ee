"""The training loop: compiled calls of many steps, with evaluation, checkpoints and reports between them.

Nothing is fetched from the device inside a call. A call ends where something is due (a row of history, an evaluation, a
checkpoint, the end of an epoch) or after about half a second, so that Ctrl-C and progress never wait long. The steps are
the same however they are cut into calls.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.config import Train
from tfpt.console import Console
from tfpt.tasks import Primary
from tfpt.training import blow_up, checkpoints, flops
from tfpt.training.blow_up import BlowUpError
from tfpt.training.checkpoints import BEST, Checkpoints
from tfpt.training.going_back import Course, divide, recover
from tfpt.training.interrupts import Pressed, deferred_interrupts
from tfpt.training.machine import device_name
from tfpt.training.memory import OutOfMemoryError, no_memory
from tfpt.training.progress import Progress
from tfpt.training.stage import Hooks, Stage, row_of
from tfpt.training.steps import accumulated_gradients, compiled_steps
from tfpt.training.strategies import Together
from tfpt.training.throughput import Throughput

__all__ = ["Hooks", "Progress", "Stage", "compiled_steps", "is_better", "train_stage"]

SECONDS_A_CALL = 0.5
ROWS_AN_EPOCH = 10


def train_stage(
    stage: Stage, progress: Progress, options: Train, saver: Checkpoints, console: Console, hooks: Hooks
) -> None:
    """Trains a stage to its end from where `progress` stands; the model's weights end as they were at the best evaluation.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed or SIGTERM came; the state is saved.
        UserError: the loss blew up, and going back did not help; or a batch does not fit into memory.
    """
    together = Together(tf.distribute.get_strategy())
    course = Course(
        stage=stage,
        progress=progress,
        options=options,
        saver=saver,
        console=console,
        hooks=hooks,
        together=together,
    )
    if progress.rate_factor != 1:
        stage.updates.slow_down(progress.rate_factor)
    with (
        console.training(stage.name, epochs=stage.epochs, steps=stage.steps) as display,
        deferred_interrupts(quiet=not together.is_chief) as pressed,
    ):
        while True:
            try:
                _train(course, display, pressed)
                break
            except BlowUpError as found:
                together.wait()
                recover(found, course)
            except OutOfMemoryError:
                divide(course)
    together.wait()  # until the best weights are written
    _take_best(course)


def _train(course: Course, display: Any, pressed: Pressed) -> None:
    """Trains from where the progress stands to the end of the stage."""
    stage, progress, options, together = course.stage, course.progress, course.options, course.together
    parts = course.parts
    call = compiled_steps(stage.task, stage.model, stage.updates, stage.averages, accumulate=parts)
    batches = stage.batches(lambda: _rows(stage, progress, whole=parts * together.replicas))
    iterator = iter(batches)
    throughput = _throughput(stage, together, batches.element_spec, accumulate=parts)
    told = False
    an_epoch = stage.plan.steps
    row_every = max(1, an_epoch // ROWS_AN_EPOCH)
    evaluate_every = options.evaluate_every or an_epoch
    saved_at = time.monotonic()
    pace = 1
    stopped = _waited_enough(progress, options)

    def save() -> None:
        blow_up.check_weights(stage.variables(), progress)
        course.save()

    while not stopped:
        last = progress.step == stage.steps
        evaluating = _evaluation_is_due(stage, progress, evaluate_every)
        if evaluating:
            throughput.pause()
            try:
                stopped = _evaluate(course, pressed)
            except KeyboardInterrupt:  # nothing has changed since the last update
                save()
                raise
        elif last:
            break
        else:
            due = [row_every, evaluate_every, an_epoch, *filter(None, [options.checkpoint_steps])]
            count = min(pace, stage.steps - progress.step, *(every - progress.step % every for every in due))
            seconds = _advance(course, call, iterator, count, throughput)
            pace = max(1, min(2 * pace, int(SECONDS_A_CALL * count / seconds)))
            mean = sum(a for a, _ in progress.pending) / max(1e-12, sum(b for _, b in progress.pending))
            speed = count * len(stage.plan.examples) / an_epoch / seconds
            last = progress.step == stage.steps
            if progress.step % row_every == 0 or last:
                values = {"loss": mean, "examples_per_second": round(speed, 1)}
                _record(course, split="train", values=values)
                progress.pending = []
            primary, rate = stage.primary.name, throughput.rate()
            display.update(
                epoch=progress.step / an_epoch,
                step=progress.step,
                loss=mean,
                metric=(primary, progress.best[primary]) if progress.best else None,
                examples_per_second=speed,
                time=str(rate or ""),
            )
            if rate and rate.is_input_bound and not told:
                course.console.say(
                    f"Training waits for its examples {rate.input:.0%} of the time: {stage.faster_input}."
                )
                told = True
        timed = time.monotonic() - saved_at > 60 * options.checkpoint_minutes
        pace, timed, interrupted = together.agree(pace=pace, timed=timed, stop=pressed())
        counted = options.checkpoint_steps and progress.step % options.checkpoint_steps == 0
        ended = last or stopped or progress.step % an_epoch == 0
        before_evaluation = _evaluation_is_due(stage, progress, evaluate_every)
        if interrupted or timed or counted or (ended and not before_evaluation):
            save()
            saved_at = time.monotonic()
        course.hooks.status(progress)
        if interrupted:
            together.wait()  # until the chief has saved: whoever sees a worker leave may end the others
            raise interrupted


def _throughput(stage: Stage, together: Together, spec: Any, *, accumulate: int) -> Throughput:
    """Returns what measures the stage; operations are counted only where it is known what the device could do."""
    halves = {"bfloat16", "float16"} & {layer.compute_dtype for layer in stage.model._flatten_layers()}
    device = flops.peak(device_name(), precision=min(halves, default="float32"))
    if not device:
        return Throughput(replicas=together.replicas)
    lengths, local = stage.plan.lengths, together.replicas // together.workers
    an_element = flops.of_an_element(
        accumulated_gradients(stage.task, stage.model, stage.updates, accumulate=accumulate),
        spec,
        batch=accumulate,
        length=None if lengths is None else int(lengths[stage.plan.examples].mean()),
        replicas=local,
    )
    return Throughput(replicas=together.replicas, flops=an_element / together.workers, peak=device * local)


def _advance(course: Course, call: Callable[..., Any], iterator: Any, count: int, throughput: Throughput) -> float:
    """Makes so many updates; returns the seconds they took.

    Raises:
        BlowUpError: the loss is of no use any more.
        OutOfMemoryError: they did not fit.
    """
    stage, progress = course.stage, course.progress
    started = time.monotonic()
    try:
        losses, weights, failed, waited, elements = (t.numpy() for t in call(iterator, tf.constant(count, tf.int32)))
    except tf.errors.ResourceExhaustedError as error:
        raise no_memory(error) from None
    ended = time.monotonic()
    seconds = ended - started
    throughput.add(
        started=started,
        ended=ended,
        waited=float(waited.sum()),
        examples=count * len(stage.plan.examples) / stage.plan.steps,
        elements=int(elements.sum()),
    )
    progress.seconds += seconds
    failed = failed[failed >= 0]
    course.hooks.failed(failed)
    progress.failed = sorted({*progress.failed, *failed.tolist()})
    blow_up.check_losses(losses, weights, progress, spike=course.options.spike)
    progress.step += count
    progress.total_steps += count
    progress.pending += [(float(a), float(b)) for a, b in zip(losses, weights, strict=True)]
    return seconds


def _evaluation_is_due(stage: Stage, progress: Progress, every: int) -> bool:
    now = progress.step % every == 0 or progress.step == stage.steps
    return stage.evaluate is not None and progress.step > 0 and now and progress.evaluated < progress.total_steps


def _rows(stage: Stage, progress: Progress, *, whole: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields epoch and row from where the progress stands; rows of differing length are filled up to whole parts."""
    first, skip = divmod(progress.step, stage.plan.steps)
    for epoch in range(first, -(-stage.steps // stage.plan.steps)):
        number = progress.epochs_before + epoch
        for row in stage.plan.rows(number)[skip:]:
            missing = -len(row) % whole
            yield number, np.concatenate([row, np.full(missing, ~max(row))]) if missing else row
        skip = 0


def _record(course: Course, *, split: str, values: dict[str, Any]) -> None:
    row = row_of(course.stage, course.progress, split=split, values=values)
    course.progress.history.append(row)
    course.hooks.row(row)


def _evaluate(course: Course, pressed: Pressed) -> bool:
    """Evaluates, keeps the weights if they are the best of the stage, and tells whether to stop early."""
    stage, progress, together = course.stage, course.progress, course.together
    assert stage.evaluate is not None
    with stage.averages.swapped_in() if stage.averages else contextlib.nullcontext():
        started = time.monotonic()
        asked = pressed if together.workers == 1 else lambda: None
        metrics = together.of_chief(stage.evaluate(asked, course.console))
        seconds = time.monotonic() - started
        better = progress.best is None or is_better(metrics, progress.best, stage.primary)
        if better:
            course.saver.save(progress.order, [v.value for v in stage.model.variables], {}, name=BEST)
    values = {**metrics, "best": better, "evaluation_seconds": round(seconds, 3)}
    _record(course, split="validation", values=values)
    progress.evaluated = progress.total_steps
    if better:
        progress.best = {**metrics, "total_steps": progress.total_steps}
        progress.waited = 0
    else:
        progress.waited += 1
    return _waited_enough(progress, course.options)


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


def _take_best(course: Course) -> None:
    stage, progress = course.stage, course.progress
    if progress.best:
        saved = course.saver.find((progress.stage, progress.best["total_steps"]), name=BEST)
        checkpoints.check_seen_by_all(saved, course.saver.folder)
        if saved is None:
            course.console.warn("The checkpoint of the best weights is damaged; the stage's last weights are used.")
        else:
            checkpoints.restore(saved.folder, [v.value for v in stage.model.variables])
            return
    if stage.averages:
        for variable, average in zip(stage.averages.followed, stage.averages.averages, strict=True):
            variable.assign(average)
