"""When a batch does not fit into a device's memory: the same batch in twice as many parts."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training.plan import TrainingPlan
from tfpt.training.side_by_side import side_by_side

AT_A_TIME = 2
"""Batches that go through a model side by side on a CPU (MiniLM-L6, 2 cores, 128 sentences each: 826 a second instead of 689)."""


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


class FittingBatches:
    """A function that measures batches, compiled; what does not fit into memory goes through it in halves from then on.

    Args:
        function: of a batch; what it makes of an example does not depend on the others.
        spec: of the batches; nested, the examples are the first dimension of each, `weight` is `[batch]`.
        what: is done, as the subject of a sentence.
    """

    def __init__(self, function: Callable[[Any], Any], spec: Any, *, what: str) -> None:
        self._whole = tf.function(function, autograph=False, input_signature=[spec])  # one trace, whatever the lengths
        of_any_size = tf.nest.map_structure(lambda one: tf.TensorSpec([None, *one.shape[1:]], one.dtype), spec)
        self._part = tf.function(function, autograph=False, input_signature=[of_any_size])  # traced when first needed
        self._what = what
        self.largest: int | None = None
        """How many examples go through at a time since so many more did not fit; None: a whole batch."""

    def __call__(self, batch: Any, console: Console) -> Iterator[tuple[Any, Any]]:
        """Yields the batch and what the function makes of it, or its parts, in order, and what it makes of these.

        Args:
            batch: of the spec.
            console: is told when one does not fit.

        Raises:
            UserError: a single example does not fit.
        """
        size, start = len(batch["weight"]), 0
        while start < size:
            count = min(size - start, self.largest or size)
            part = batch
            if count < size:
                part = tf.nest.map_structure(lambda t, a=start, b=start + count: t[a:b], batch)
            try:
                found = self._part(part) if count < size else self._whole(part)
            except tf.errors.ResourceExhaustedError:
                found = None
            if found is None:  # the error's traceback is gone, and with it the memory that it held
                self._halve(count, console)
                continue
            yield part, found
            start += count

    def over(self, batches: Iterable[Any], console: Console) -> Iterator[tuple[Any, list[tuple[Any, Any]]]]:
        """Yields each batch and its parts as a call does; on a CPU two batches go through side by side, but for the first, which traces."""

        def parts(batch: Any) -> list[tuple[Any, Any]]:
            return list(self(batch, console))

        several, rest = 1 if tf.config.list_physical_devices("GPU") else AT_A_TIME, iter(batches)
        yield from side_by_side(parts, itertools.islice(rest, 1), at_a_time=1)
        yield from side_by_side(parts, rest, at_a_time=several)

    def _halve(self, count: int, console: Console) -> None:
        if count == 1:
            raise UserError(
                f"Out of memory: {self._what} does not fit with a single example; write a smaller --input.image_size or "
                "--input.max_length, or use a device with more memory."
            )
        if self.largest and self.largest < count:  # a batch that goes through beside this one has met it, too
            return
        self.largest = count // 2
        console.warn(f"Out of memory: {self._what} takes {self.largest} examples at a time from here.")
