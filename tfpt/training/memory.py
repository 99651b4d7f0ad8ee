"""When a batch does not fit into a device's memory: the same batch in twice as many parts."""

import tensorflow as tf

from tfpt.errors import UserError
from tfpt.training.plan import TrainingPlan


class OutOfMemoryError(Exception):
    """An update did not fit into the memory of a device."""


def no_memory(error: tf.errors.ResourceExhaustedError) -> OutOfMemoryError:
    """Returns what an update raises instead of TensorFlow's error, whose traceback would keep the memory."""
    return OutOfMemoryError(error.message.partition("\n")[0])


def parts_of(plan: TrainingPlan, *, wanted: int, least: int, replicas: int) -> int:
    """Returns in how many parts the batches of a plan go through the model.

    A run that did not fit on one device may go on on several, which cannot share as many parts and hold less each.

    Args:
        plan: of the stage.
        wanted: `least` doubled some times; 0: `least`.
        least: `--train.accumulate`, which divides the batch over the replicas.
        replicas: devices that share a part.
    """
    parts = wanted or least
    while parts > least and plan.width is not None and plan.width % (parts * replicas):
        parts //= 2
    return parts


def more_parts(plan: TrainingPlan, *, accumulate: int, replicas: int, workers: int) -> int:
    """Returns in how many parts the batches of a plan shall go through the model from now on.

    Args:
        plan: of the stage.
        accumulate: in how many they went.
        replicas: devices that share a part.
        workers: processes that share the replicas.

    Raises:
        UserError: no batch can be divided further, or the others of several workers would not know.
    """
    parts = 2 * accumulate
    if workers > 1:
        raise UserError(
            f"Out of memory with --train.accumulate={accumulate}: write --train.accumulate={parts}, which takes half the memory, on all workers."
        )
    if plan.width is not None and plan.width % (parts * replicas):
        smaller = max(1, plan.width // 2)
        raise UserError(
            f"Out of memory with --train.batch_size={plan.width} in {accumulate} parts, and {parts} do not divide it: write "
            f"--train.batch_size={smaller}, or a smaller --input.image_size or --input.max_length."
        )
    if plan.width is None and parts * replicas > plan.tokens:
        raise UserError(
            f"Out of memory with --input.tokens_per_batch={plan.tokens}: write a smaller one, or a smaller --input.max_length."
        )
    return parts
