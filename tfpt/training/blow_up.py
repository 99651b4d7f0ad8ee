"""When the loss blows up: back to the last good checkpoint, past the batches between, at half the learning rate.

Skipping the batches around a spike after going back is what Chowdhery et al., "PaLM", 2022 (section 5.1) did by hand. All of
it is part of the progress that a checkpoint holds, so a run that is killed afterwards goes on exactly.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.config import Train
from tfpt.training.progress import Progress, to_progress

RATE_FACTOR = 0.5
"""What each recovery makes of the learning rate."""
RECENT = 20
"""A spike is told by the median loss of so many updates before it."""
ENOUGH = 5
"""With fewer of them nothing is called a spike."""


class BlowUpError(Exception):
    """The loss of an update, or the weights after it, are of no use.

    Args:
        reason: in words.
        step: updates of the stage up to and with the bad one.
    """

    def __init__(self, reason: str, *, step: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.step = step


def check_losses(losses: np.ndarray, weights: np.ndarray, progress: Progress, *, spike: float) -> None:
    """Looks at the updates that were just made, and remembers their losses.

    Args:
        losses: `[updates]`, sums.
        weights: `[updates]`, sums.
        progress: stands before these updates.
        spike: the largest ratio of a loss to the median before it; 0: any.

    Raises:
        BlowUpError: one is not a number, or above the bound.
    """
    for k, (loss, weight) in enumerate(zip(losses.tolist(), weights.tolist(), strict=True)):
        step = progress.step + k + 1
        if not np.isfinite(loss):
            raise BlowUpError(f"the loss became {loss}", step=step)
        if not spike or not weight:
            continue
        mean = loss / weight
        if len(progress.recent) >= ENOUGH and mean > spike * float(np.median(progress.recent)):
            ratio = mean / max(float(np.median(progress.recent)), 1e-12)
            raise BlowUpError(f"the loss {mean:.4g} is {ratio:.3g} times the median before it", step=step)
        progress.recent = [*progress.recent, mean][-RECENT:]


def check_weights(variables: Sequence[tf.Variable], progress: Progress) -> None:
    """Makes sure that a checkpoint will be good.

    Raises:
        BlowUpError: a value is not a number.
    """
    for variable in variables:
        if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
            raise BlowUpError("weights became no numbers", step=progress.step)


def skip_past(blow_up: BlowUpError, progress: Progress, saved: Mapping[str, Any], options: Train) -> Progress | None:
    """Returns where training goes on after a blow-up; None when it has happened too often.

    Args:
        blow_up: what happened.
        progress: where it happened.
        saved: the plain values of the checkpoint that is gone back to.
        options: how often is too often.
    """
    if progress.recoveries >= options.recoveries:
        return None
    good = to_progress(saved)
    passed = blow_up.step - good.step
    return dataclasses.replace(
        good,
        step=blow_up.step,
        total_steps=good.total_steps + passed,
        skipped=good.skipped + passed,
        recoveries=progress.recoveries + 1,
        rate_factor=progress.rate_factor * RATE_FACTOR,
        recent=[],
        seconds=progress.seconds,
    )


def recovery_notes(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a sentence for each recovery in a run's history, for the report."""
    return [
        f"Stage {row['stage']}: {row['reason']} at update {row['step']}; training went back to update {row['back_to']}, passed over the "
        f"batches between, and went on with a learning rate of {row['learning_rate']:.2g}."
        for row in history
        if row["split"] == "recovery"
    ]
