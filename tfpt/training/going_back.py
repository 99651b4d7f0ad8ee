"""Back to the last checkpoint: past batches on which the loss blew up, or in smaller parts where one did not fit."""

import dataclasses

from tfpt.config import Train
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import blow_up, checkpoints
from tfpt.training.blow_up import BlowUpError
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.memory import more_parts, parts_of
from tfpt.training.progress import Progress, to_progress
from tfpt.training.stage import Hooks, Stage, row_of
from tfpt.training.strategies import Together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Course:
    """The way of one stage through its updates.

    Attributes:
        stage: what is trained.
        progress: where it stands; changes.
        options: of the training.
        saver: writes checkpoints.
        console: talks to the user.
        hooks: what is reported to.
        together: the devices and processes.
    """

    stage: Stage
    progress: Progress
    options: Train
    saver: Checkpoints
    console: Console
    hooks: Hooks
    together: Together

    def save(self) -> None:
        """Writes a checkpoint of where it stands."""
        self.saver.save(self.progress.order, self.stage.variables(), dataclasses.asdict(self.progress))

    @property
    def parts(self) -> int:
        """In how many parts batches go through the model."""
        wanted, least = self.progress.accumulate, self.options.accumulate
        return parts_of(self.stage.plan, wanted=wanted, least=least, replicas=self.together.replicas)


def recover(found: BlowUpError, course: Course) -> None:
    """Goes back to the last good checkpoint of the stage, past the batches between, with a lower learning rate.

    Raises:
        UserError: there is no such checkpoint, or the loss blew up too often.
    """
    stage, progress = course.stage, course.progress
    saved = course.saver.latest(console=course.console)
    good = saved is not None and saved.state["stage"] == progress.stage
    after = blow_up.skip_past(found, progress, saved.state, course.options) if saved and good else None
    if saved is None or after is None:
        often = f" again, after {progress.recoveries} recoveries," if progress.recoveries else ""
        raise UserError(
            f"{found.reason[0].upper()}{found.reason[1:]}{often} in stage {stage.name} near step {found.step}: "
            f"lower --optim.learning_rate={stage.updates.schedule.peak:g}, or keep --optim.clip_norm above 0."
        )
    checkpoints.restore(saved.folder, stage.variables())
    course.together.wait()  # all have read it before the first one removes what is not kept
    stage.updates.slow_down(blow_up.RATE_FACTOR)
    back_to = saved.state["step"]
    progress.become(after)
    course.saver.forget_after((progress.stage, saved.state["total_steps"]))
    row = row_of(stage, progress, split="recovery", values={"reason": found.reason, "back_to": back_to})
    progress.history.append(row)
    course.hooks.begin(progress.history)  # the rows of what is undone are gone
    course.console.warn(blow_up.recovery_notes([row])[0])
    course.save()


def divide(course: Course) -> None:
    """Goes back to the last checkpoint, from where each batch goes through the model in twice as many parts.

    Raises:
        UserError: it cannot be divided further.
    """
    stage, progress, together = course.stage, course.progress, course.together
    parts = more_parts(stage.plan, accumulate=course.parts, replicas=together.replicas, workers=together.workers)
    saved = course.saver.latest(console=course.console)
    if saved is None or saved.state["stage"] != progress.stage:
        raise UserError(f"Out of memory: write --train.accumulate={parts}.")
    checkpoints.restore(saved.folder, stage.variables())
    progress.become(to_progress(saved.state))
    progress.accumulate = parts
    course.saver.forget_after(progress.order)
    course.hooks.begin(progress.history)
    course.console.warn(
        f"Out of memory: each batch goes through the model in {parts} parts from here. Updates stay the same (but for batch "
        f"normalisation that trains, which sees a part at a time); --train.accumulate={parts} says so from the start."
    )
    course.save()
