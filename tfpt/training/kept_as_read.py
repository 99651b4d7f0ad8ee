"""Room for prepared examples of one shape: each is made when it is first read, and is there from then on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


class KeptAsRead:
    """Tensors of many examples, in memory that is taken as they come.

    Args:
        specs: shapes and dtypes of one example, nested; all of fixed shape.
        count: how many examples there may be.
    """

    def __init__(self, specs: Any, count: int) -> None:
        self.count = count
        with tf.device("CPU:0"):
            self._room = tf.nest.map_structure(lambda spec: _room(count, spec), specs)
            self._there = tf.Variable(tf.zeros([count], tf.bool), trainable=False)

    def read(self, slot: tf.Tensor, make: Callable[[], Any]) -> Any:
        """Returns the example in a slot, with TensorFlow ops, one that is not there yet from `make`."""

        def kept() -> Any:
            return tf.nest.map_structure(lambda room: room.sparse_read(slot), self._room)

        def first() -> Any:
            made = make()
            written = [
                tf.raw_ops.ResourceScatterUpdate(resource=room.handle, indices=slot, updates=value)
                for room, value in zip(tf.nest.flatten(self._room), tf.nest.flatten(made), strict=True)
            ]
            with tf.control_dependencies(written):  # who reads it on another thread finds it whole
                known = tf.raw_ops.ResourceScatterUpdate(resource=self._there.handle, indices=slot, updates=True)
            with tf.control_dependencies([known]):
                return tf.nest.map_structure(tf.identity, made)

        return tf.cond(self._there.sparse_read(slot), kept, first)

    def where_last_is_false(self) -> np.ndarray:
        """Returns the slots that are not empty and whose last value, a flag, is not set, `[slots]` int64."""
        return np.flatnonzero(self._there.numpy() & ~tf.nest.flatten(self._room)[-1].numpy())

    def missing(self) -> np.ndarray:
        """Returns the slots that are empty, `[slots]` int64."""
        return np.flatnonzero(~self._there.numpy())


def can_keep(specs: Any) -> bool:
    """Tells whether examples of these shapes and dtypes can be kept this way."""
    return all(
        spec.shape.is_fully_defined() and (spec.dtype.is_bool or spec.dtype.is_integer or spec.dtype.is_floating)
        for spec in tf.nest.flatten(specs)
    )


def _room(count: int, spec: tf.TensorSpec) -> tf.Variable:
    # Not zeros: memory that is not written to is not taken.
    empty = tf.raw_ops.Empty(shape=[count, *spec.shape], dtype=spec.dtype, init=False)
    return tf.Variable(empty, trainable=False)
