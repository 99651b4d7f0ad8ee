"""Frozen means computed once: what a frozen trunk makes of each example, kept in memory."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.layers.trunk import CachedTrunk, Trunk
from tfpt.tasks import State, Task
from tfpt.training.machine import free_memory
from tfpt.training.pipeline import Prepared, evaluation_batches
from tfpt.training.plan import evaluation_plan

SHARE_OF_MEMORY = 0.5
"""Cached features may take this share of the memory that is free."""


@dataclasses.dataclass(frozen=True)
class CachedFeatures:
    """Batches of cached examples; `kept` holds by slot what the task's batches hold, with endpoints as `inputs`."""

    kept: Mapping[str, Any]
    slots: tf.Tensor
    names: tuple[str, ...]

    def batch(self, row: tf.Tensor) -> dict[str, Any]:
        """Returns the batch of a plan's row."""
        k = tf.where(row < 0, -row - 1, row)
        slot = tf.gather(self.slots, k)
        batch = tf.nest.map_structure(lambda values: tf.gather(values, slot), dict(self.kept))
        batch["weight"] *= tf.cast(row >= 0, batch["weight"].dtype)
        return {**batch, "example": k, "ok": tf.ones_like(k, tf.bool)}

    def training_batches(
        self, rows: Callable[[], Iterator[tuple[int, np.ndarray]]], *, batch_size: int
    ) -> tf.data.Dataset:
        """Returns the batches of a plan's rows, in their order."""
        signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((batch_size,), tf.int64))
        planned = tf.data.Dataset.from_generator(rows, output_signature=signature)
        return planned.map(lambda epoch, row: self.batch(row)).prefetch(2)

    def evaluation_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the batches of an evaluation plan's rows."""
        return tf.data.Dataset.from_tensor_slices(rows).map(self.batch).prefetch(2)

    def trunks(self) -> dict[str, CachedTrunk]:
        """Returns stand-ins for the frozen trunks, to build the head on."""
        inputs = self.kept["inputs"]
        if len(self.names) == 1:
            return {self.names[0]: CachedTrunk(_shapes(inputs), name=self.names[0])}
        return {name: CachedTrunk(_shapes(inputs[name]), name=name, prefix=f"{name}_") for name in self.names}


def _shapes(endpoints: Mapping[str, tf.Tensor]) -> dict[str, tuple[int | None, ...]]:
    return {endpoint: tuple(values.shape[1:]) for endpoint, values in endpoints.items()}


def cache_features(
    trunks: Mapping[str, Trunk],
    prepared: Prepared,
    examples: np.ndarray,
    *,
    batch_size: int,
    task: Task,
    state: State,
    console: Console,
) -> CachedFeatures | None:
    """Runs the frozen trunks once over the examples, in inference mode.

    Returns None, and says why, where what they make does not fit into memory or differs in length between examples.

    Args:
        trunks: by name.
        prepared: the examples.
        examples: `[examples]` int64.
        batch_size: of this pass.
        task: makes the batches.
        state: of the task.
        console: shows progress.
    """
    examples = np.unique(examples)
    if prepared.lengths is not None:
        examples = examples[np.argsort(prepared.lengths[examples], kind="stable")]
    rows = evaluation_plan(examples, batch_size=min(batch_size, len(examples)))

    batches = evaluation_batches(prepared, rows, task=task, state=state)

    @tf.function(autograph=False, input_signature=[batches.element_spec["inputs"]])  # one trace, whatever the lengths
    def endpoints(inputs: Any) -> Any:
        of_trunks = task.trunk_inputs(inputs, list(trunks))
        made = {name: trunk(of_trunks[name], training=False) for name, trunk in trunks.items()}
        return made if len(made) > 1 else made.popitem()[1]

    kept: list[np.ndarray] | None = None
    structure: Any = None
    done = 0
    with console.track("Running the frozen backbone once", total=len(examples), unit="examples") as track:
        for batch in batches:
            fresh = min(rows.shape[1], len(examples) - done)
            prepared.failed.update(int(k) for k in batch["example"].numpy()[~batch["ok"].numpy()])
            values = {name: value for name, value in batch.items() if name not in ("example", "ok", "frame")}
            values["inputs"] = endpoints(batch["inputs"])
            structure = tf.nest.map_structure(lambda t: None, values)
            flat = [t.numpy()[:fresh] for t in tf.nest.flatten(values)]
            if kept is None:
                size, free = sum(part[:1].nbytes for part in flat) * len(examples), free_memory()
                if size > SHARE_OF_MEMORY * free:
                    console.say(
                        f"The frozen backbone's outputs would take {size / 2**30:.1f} GiB, over half of the "
                        f"{free / 2**30:.1f} GiB that are free: they are computed anew in each epoch."
                    )
                    return None
                kept = [np.empty((len(examples), *part.shape[1:]), part.dtype) for part in flat]
            if any(whole.shape[1:] != part.shape[1:] for whole, part in zip(kept, flat, strict=True)):
                console.say("The frozen backbone's outputs differ in length: they are computed anew in each epoch.")
                return None
            for whole, part in zip(kept, flat, strict=True):
                whole[done : done + fresh] = part
            done += fresh
            track.advance(fresh)
    assert kept is not None, "cache_features() needs at least one example"
    slots = np.zeros(int(examples.max()) + 1, np.int64)
    slots[examples] = np.arange(len(examples))
    with tf.device("CPU:0"):
        tensors = [tf.constant(part) for part in kept]
        return CachedFeatures(tf.nest.pack_sequence_as(structure, tensors), tf.constant(slots), tuple(trunks))


def head_on_cached(task: Task, state: State, cached: CachedFeatures) -> keras.Model:
    """Builds the task's model on cached endpoints; its variables are those of the full model outside the trunks."""
    return task.build(cached.trunks(), state)
