"""From a batch plan to batches: read, prepare, augment, batch. All randomness is a function of (seed, epoch, example, op)."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.console import Console
from tfpt.data import DataSource
from tfpt.preprocessors import Preprocessor
from tfpt.tasks import State, Task

Element = tuple[dict[str, Any], dict[str, Any], Any]
"""Features, frame and whether the example could be read and decoded."""


class Prepared:
    """The examples of a source after the host half: read on demand, or kept in memory.

    Args:
        source: the data.
        preprocessors: one a modality; each replaces its feature in the raw example.
        threads: how many examples are prepared at a time.
    """

    def __init__(self, source: DataSource, preprocessors: Sequence[Preprocessor], *, threads: int) -> None:
        self.source = source
        self.preprocessors = tuple(preprocessors)
        self.threads = threads
        self.failed: set[int] = set()
        """Examples that were met and could not be read or decoded."""
        self.lengths: np.ndarray | None = None
        """Length of each kept example by its index, where lengths vary."""
        self._slots: tf.Tensor | None = None
        self._kept: Any = None
        self._placeholder = tf.nest.map_structure(_zeros, self._specs)

    def bytes_per_example(self) -> int:
        """Returns the memory that one prepared example takes at most; a length that varies counts as the longest."""
        features, frame = self._specs
        longest = max((p.size for p in self.preprocessors), default=1)
        return sum(
            int(np.prod([d or longest for d in spec.shape])) * max(1, spec.dtype.size)
            for spec in tf.nest.flatten((features, frame))
        )

    def read(self, k: tf.Tensor) -> Element:
        """Returns example k; one that cannot be read or decoded is a placeholder of zeros and False.

        Once examples are kept, another than these is an error of the caller's, which surfaces as an index out of range.
        """
        if self._slots is not None:
            slot = tf.gather(self._slots, k)
            slot = tf.where(slot < 0, tf.size(self._slots, tf.int64) + 1, slot)
            return tf.nest.map_structure(lambda kept: kept.of(slot), self._kept)
        # ignore_errors is how tf.data catches what an op raises, without Python in the way.
        read = tf.data.Dataset.from_tensors(k).map(lambda i: (*self._prepare(i), True)).ignore_errors()
        return read.concatenate(tf.data.Dataset.from_tensors((*self._placeholder, False))).take(1).get_single_element()

    def keep(self, examples: np.ndarray, *, console: Console, what: str) -> None:
        """Prepares the examples once and keeps them in memory; from then on only these can be read.

        Afterwards `lengths` holds their lengths, where these vary.
        """
        examples = np.unique(examples)
        read = tf.data.Dataset.from_tensor_slices(examples).map(
            self.read, num_parallel_calls=self.threads, deterministic=True
        )
        specs = tf.nest.flatten(read.element_spec)
        parts: list[list[np.ndarray]] = [[] for _ in specs]
        with console.track(what, total=len(examples), unit="examples") as track:
            for batch in read.ragged_batch(64).prefetch(2):
                for part, value in zip(parts, tf.nest.flatten(batch), strict=True):
                    part.append(value)
                track.advance(int(tf.nest.flatten(batch)[-1].shape[0]))
        kept = [_Kept(values, spec) for values, spec in zip(parts, specs, strict=True)]
        self.failed.update(int(k) for k in examples[~kept[-1].values.numpy()])
        slots = np.full(int(examples[-1]) + 1, -1, np.int64)
        slots[examples] = np.arange(len(examples))
        with tf.device("CPU:0"):
            self._kept = tf.nest.pack_sequence_as((*self._placeholder, False), kept)
            self._slots = tf.constant(slots)
        lengths = next((part.lengths for part in kept if part.lengths is not None), None)
        if lengths is not None:
            self.lengths = np.zeros(len(slots), np.int64)
            self.lengths[examples] = lengths

    def _prepare(self, k: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        features = dict(self.source.example(k))
        frame = {}
        for preprocessor in self.preprocessors:
            name = preprocessor.feature
            value, framed = preprocessor.host(*(features.pop(raw) for raw in preprocessor.raw_features))
            # A placeholder must have the declared shapes, which tracing alone may not find out.
            features[name] = tf.ensure_shape(value, preprocessor.host_spec()[0])
            frame[name] = {part: tf.ensure_shape(framed[part], s) for part, (s, _) in preprocessor.frame_spec().items()}
        return features, frame

    @functools.cached_property
    def _specs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return tf.data.Dataset.range(1).map(self._prepare).element_spec


class _Kept:
    """One feature of all kept examples: an array, or, where the first dimension varies, one after the other."""

    def __init__(self, parts: Sequence[Any], spec: tf.TensorSpec) -> None:
        self.lengths: np.ndarray | None = None
        with tf.device("CPU:0"):
            if spec.shape.rank and spec.shape[0] is None:
                self.lengths = np.concatenate([part.row_lengths().numpy() for part in parts])
                self.values = tf.concat([part.values for part in parts], axis=0)
                self._starts = tf.constant(np.cumsum([0, *self.lengths]))
            else:
                self.values = tf.concat(parts, axis=0)

    def of(self, slot: tf.Tensor) -> tf.Tensor:
        """Returns the feature of one example."""
        if self.lengths is None:
            return self.values[slot]
        return self.values[self._starts[slot] : self._starts[slot + 1]]


def _zeros(spec: tf.TensorSpec) -> tf.Tensor:
    return tf.zeros([d or 0 for d in spec.shape], spec.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training examples only."""

    ops: tuple[Op, ...] = ()
    views: int = 1
    seed: int = 0


def training_batches(
    prepared: Prepared,
    rows: Callable[[], Iterator[tuple[int, np.ndarray]]],
    *,
    batch_size: int,
    task: Task,
    state: State,
    augmentation: Augmentation,
) -> tf.data.Dataset:
    """Returns the task's batches for the rows of a plan, in their order; each also holds `example` and `ok`.

    Args:
        prepared: the examples.
        rows: makes an iterator of (epoch, `[batch_size]` int64 row).
        batch_size: length of a row.
        task: makes the batch.
        state: of the task.
        augmentation: ops, views and seed.
    """
    signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((batch_size,), tf.int64))
    planned = tf.data.Dataset.from_generator(rows, output_signature=signature)
    singles = planned.flat_map(
        lambda epoch, row: tf.data.Dataset.from_tensor_slices((tf.fill([batch_size], epoch), row))
    )
    example_ops = [(p, op) for p, op in enumerate(augmentation.ops) if type(op).batch is Op.batch]
    batch_ops = [(p, op) for p, op in enumerate(augmentation.ops) if type(op).batch is not Op.batch]

    def example(epoch: tf.Tensor, k: tf.Tensor) -> Any:
        features, frame, k, ok = _weighed(prepared, k)
        views = [
            _augmented(features, _seed(augmentation.seed, epoch, k, v), example_ops) for v in range(augmentation.views)
        ]
        features = views[0] if len(views) == 1 else _stacked(features, views, prepared.preprocessors)
        return features, frame, {"example": k, "ok": ok}, _seed(augmentation.seed, epoch, k, 0)

    def batch(features: Any, frame: Any, origin: Any, seeds: tf.Tensor) -> dict[str, Any]:
        made = dict(task.batch(features, frame, state, True))
        for position, op in batch_ops:
            folded = tf.map_fn(lambda s, p=position: _fold(s, p), seeds)
            inputs, targets = op.batch(made["inputs"], made.get("targets"), folded)
            made |= {"inputs": inputs} if targets is None else {"inputs": inputs, "targets": targets}
        return {**made, **origin}

    batches = singles.map(example, num_parallel_calls=prepared.threads, deterministic=True)
    return _batched(batches, batch_size).map(batch).prefetch(2)


def evaluation_batches(prepared: Prepared, rows: np.ndarray, *, task: Task, state: State) -> tf.data.Dataset:
    """Returns the task's batches for the rows of an evaluation plan; each also holds `example`, `ok` and `frame`.

    Args:
        prepared: the examples.
        rows: `[steps, batch]` int64.
        task: makes the batch.
        state: of the task.
    """

    def example(k: tf.Tensor) -> Any:
        features, frame, k, ok = _weighed(prepared, k)
        return features, frame, {"example": k, "ok": ok}

    def batch(features: Any, frame: Any, origin: Any) -> dict[str, Any]:
        return {**task.batch(features, frame, state, False), **origin, "frame": frame}

    singles = tf.data.Dataset.from_tensor_slices(rows.reshape(-1))
    batches = singles.map(example, num_parallel_calls=prepared.threads, deterministic=True)
    return _batched(batches, rows.shape[1]).map(batch).prefetch(2)


def _batched(examples: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches examples; a dimension that varies is padded with zeros to the batch's longest."""
    if all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(examples.element_spec)):
        return examples.batch(size, drop_remainder=True)
    return examples.padded_batch(size, drop_remainder=True)


def _weighed(prepared: Prepared, planned: tf.Tensor) -> tuple[dict[str, Any], dict[str, Any], tf.Tensor, tf.Tensor]:
    k = tf.where(planned < 0, -planned - 1, planned)
    features, frame, ok = prepared.read(k)
    return {**features, "weight": tf.cast(ok & (planned >= 0), tf.float32)}, frame, k, ok


def _augmented(features: Mapping[str, Any], seed: tf.Tensor, ops: Sequence[tuple[int, Op]]) -> dict[str, Any]:
    changed = dict(features)
    for position, op in ops:
        changed = op.example(changed, _fold(seed, position))
    return changed


def _stacked(
    features: Mapping[str, Any], views: Sequence[Mapping[str, Any]], preprocessors: Sequence[Preprocessor]
) -> dict[str, Any]:
    """Stacks what a trunk sees, augmented or not, and what else an op changed, such as boxes."""
    changed = {name for name in views[0] if any(view[name] is not features.get(name) for view in views)}
    changed |= {preprocessor.feature for preprocessor in preprocessors}
    return {name: tf.stack([view[name] for view in views]) if name in changed else views[0][name] for name in views[0]}


def _seed(seed: int, epoch: tf.Tensor, k: tf.Tensor, view: int) -> tf.Tensor:
    return _fold(_fold(_fold(tf.constant([seed & 0x7FFFFFFF, 0], tf.int32), epoch), k), view)


def _fold(seed: tf.Tensor, number: Any) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, tf.cast(number, tf.int32))
