"""Learning rate over the steps of one stage."""

import math

import keras
import tensorflow as tf


class WarmUpAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to the peak, then stays (`constant`) or falls to 0 along half a cosine (`cosine`).

    Cosine: Loshchilov & Hutter, "SGDR", ICLR 2017. Warm-up: Goyal et al., "Accurate, Large Minibatch SGD", 2017.

    Args:
        peak: highest learning rate.
        steps: updates in the stage.
        warmup: share of the steps in which it rises.
        shape: `cosine` or `constant`.
    """

    def __init__(self, *, peak: float, steps: int, warmup: float, shape: str) -> None:
        self.peak = peak
        self.steps = max(1, steps)
        self.rising = round(self.steps * warmup)
        self.shape = shape

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of update `step`, counted from 0."""
        done = tf.cast(step, tf.float32)
        rise = (done + 1.0) / max(1, self.rising)
        share = tf.clip_by_value((done - self.rising) / max(1, self.steps - self.rising), 0.0, 1.0)
        fall = 0.5 * (1.0 + tf.cos(math.pi * share)) if self.shape == "cosine" else tf.ones_like(share)
        return self.peak * tf.where(done < self.rising, rise, fall)

    def get_config(self) -> dict[str, object]:
        """Returns the constructor's arguments."""
        return {"peak": self.peak, "steps": self.steps, "warmup": self.rising / self.steps, "shape": self.shape}
