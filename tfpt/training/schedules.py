"""Learning rate over the steps of one stage."""

import copy
import dataclasses
import math
from typing import Self

import keras
import tensorflow as tf

from tfpt.config import Optim


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate for each update; its fields are what it is made of."""

    peak: float
    """The highest learning rate."""

    def times(self, factor: float) -> Self:
        """Returns the schedule with all learning rates multiplied by a factor."""
        scaled = copy.copy(self)
        scaled.peak = self.peak * factor
        return scaled

    def get_config(self) -> dict[str, object]:
        """Returns the constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(kw_only=True, eq=False)
class WarmUpAndDecay(Schedule):
    """Rises linearly from 0 to the peak, then stays (`constant`) or falls.

    Warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017. `cosine` falls to 0 along half a cosine (Loshchilov &
    Hutter, "SGDR", ICLR 2017); `linear` in a straight line, as BERT was fine-tuned (Devlin et al., NAACL 2019); `step` is
    multiplied by a factor at some moments (Kolesnikov et al., "Big Transfer", ECCV 2020, appendix: by 0.1 at 30, 60 and
    90 %).

    Args:
        peak: highest learning rate.
        steps: updates in the stage.
        warmup: share of the steps in which it rises.
        shape: `cosine`, `linear`, `constant` or `step`.
        step_at: percent of the steps, for `step`.
        step_factor: for `step`.
    """

    peak: float
    steps: int
    warmup: float
    shape: str
    step_at: tuple[int, ...] = ()
    step_factor: float = 1.0

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of update `step`, counted from 0."""
        steps = max(1, self.steps)
        rising = round(steps * self.warmup)
        done = tf.cast(step, tf.float32)
        rise = (done + 1.0) / max(1, rising)
        share = tf.clip_by_value((done - rising) / max(1, steps - rising), 0.0, 1.0)
        if self.shape == "cosine":
            fall = 0.5 * (1.0 + tf.cos(math.pi * share))
        elif self.shape == "linear":
            fall = 1.0 - share
        elif self.shape == "step":
            moments = [percent / 100 * steps for percent in self.step_at]
            passed = sum((tf.cast(done >= moment, tf.float32) for moment in moments), start=tf.zeros_like(share))
            fall = tf.pow(self.step_factor, passed)
        else:
            fall = tf.ones_like(share)
        return self.peak * tf.where(done < rising, rise, fall)


@dataclasses.dataclass(kw_only=True, eq=False)
class Rise(Schedule):
    """Grows by the same factor in each update: the range test of Smith, "Cyclical Learning Rates", WACV 2017.

    Args:
        peak: the last learning rate.
        steps: updates from the first to the last.
        span: the last learning rate over the first.
    """

    peak: float
    steps: int
    span: float

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of update `step`, counted from 0."""
        share = tf.cast(step, tf.float32) / max(1, self.steps - 1)
        return self.peak * tf.pow(self.span, share - 1.0)


def schedule_of(options: Optim, *, learning_rate: float, steps: int) -> WarmUpAndDecay:
    """Returns the schedule that the settings ask for.

    Args:
        options: the optimizer's settings.
        learning_rate: the peak.
        steps: updates in the stage.
    """
    return WarmUpAndDecay(
        peak=learning_rate,
        steps=steps,
        warmup=options.warmup,
        shape=options.schedule,
        step_at=options.step_at,
        step_factor=options.step_factor,
    )
