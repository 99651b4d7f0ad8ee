"""A task of which a compression changes a method or two, in training; what is published afterwards is the task itself."""

import copy
from collections.abc import Callable
from typing import Any

from tfpt.tasks import Task


def with_methods(task: Task, **methods: Callable[..., Any]) -> Task:
    """Returns a copy of a task that has these methods instead of its own; they get no `self`."""
    changed = copy.copy(task)
    vars(changed).update(methods)
    return changed


def as_sum(values: Any, batch: Any, weights: Any) -> Any:
    """Returns a term of the loss, the mean of an example's values times the sum of weights of the loss that it is added to.

    So replicas and accumulation add up.
    """
    import tensorflow as tf

    weight = tf.cast(batch["weight"], tf.float32)
    return tf.reduce_sum(values * weight) * weights / tf.maximum(tf.reduce_sum(weight), 1e-12)
