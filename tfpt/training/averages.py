"""An exponential moving average of weights beside the raw ones, which stay as they are."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf


class Averages:
    """Keeps an average of each variable; batch normalisation's moving statistics are averaged with the weights.

    The decay starts low, min(decay, (1 + n) / (10 + n)) after n updates, so that early weights are forgotten (the rule of
    tf.train.ExponentialMovingAverage).

    Args:
        variables: floating-point variables to follow.
        decay: of the average, below 1.
    """

    def __init__(self, variables: Sequence[keras.Variable], *, decay: float) -> None:
        self.followed = [v.value for v in variables if tf.as_dtype(v.dtype).is_floating]
        self.decay = decay
        self.averages = [tf.Variable(v, trainable=False) for v in self.followed]
        self.updates = tf.Variable(0.0, trainable=False)

    @property
    def state(self) -> list[tf.Variable]:
        """Everything that must be saved to go on exactly."""
        return [*self.averages, self.updates]

    def update(self) -> None:
        """Moves the averages towards the variables; runs in the training graph."""
        decay = tf.minimum(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
        self.updates.assign_add(1.0)
        for average, variable in zip(self.averages, self.followed, strict=True):
            average.assign_sub((1.0 - decay) * (average - variable))

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Puts the averages into the variables while the block runs, then puts the raw values back."""
        raw = [tf.identity(v) for v in self.followed]
        for variable, average in zip(self.followed, self.averages, strict=True):
            variable.assign(average)
        try:
            yield
        finally:
            for variable, value in zip(self.followed, raw, strict=True):
                variable.assign(value)
