"""From a batch plan to batches: read, prepare, augment, batch. All randomness is a function of (seed, epoch, example, op)."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.console import Console
from tfpt.preprocessors import Preprocessor
from tfpt.tasks import State, Task
from tfpt.training.from_generator import from_generator
from tfpt.training.plan import evaluation_plan
from tfpt.training.prepared import Prepared, as_written
from tfpt.untuned import untuned

_ROWS_A_CALL = 64
_MEASURED_BATCH = 64


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
    width: int | None,
    task: Task,
    state: State,
    augmentation: Augmentation,
) -> tf.data.Dataset:
    """Returns the task's batches for the rows of a plan, in their order; each also holds `example` and `ok`.

    Args:
        prepared: the examples.
        rows: makes an iterator of (epoch, `[batch]` int64 row).
        width: length of every row; None where it differs.
        task: makes the batch.
        state: of the task.
        augmentation: ops, views and seed.
    """
    planned = planned_rows(rows, width)
    example_ops = [(p, op) for p, op in enumerate(augmentation.ops) if type(op).batch is Op.batch]
    batch_ops = [(p, op) for p, op in enumerate(augmentation.ops) if type(op).batch is not Op.batch]

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        return as_written(function, prepared.source, *prepared.preprocessors, task, *augmentation.ops)

    def example(epoch: tf.Tensor, k: tf.Tensor) -> Any:
        features, frame, k, ok = _weighed(prepared, k)
        views = [
            _augmented(features, _seed(augmentation.seed, epoch, k, v), example_ops) for v in range(augmentation.views)
        ]
        features = views[0] if len(views) == 1 else _stacked(features, views, prepared.preprocessors)
        return features, frame, {"example": k, "ok": ok}, _seed(augmentation.seed, epoch, k, 0)

    def batch(features: Any, frame: Any, origin: Any, seeds: tf.Tensor) -> dict[str, Any]:
        made = dict(task.batch(features, frame, state, True))
        if batch_ops:  # a placeholder must not be mixed into other examples: a good one takes its place, without weight
            ok = origin["ok"]
            instead = tf.where(ok, tf.range(tf.size(ok)), tf.argmax(ok, output_type=tf.int32))
            there = {name: made[name] for name in ("inputs", "targets") if name in made}
            made |= tf.nest.map_structure(lambda values: tf.gather(values, instead), there)
        for position, op in batch_ops:
            folded = tf.map_fn(lambda s, p=position: _fold(s, p), seeds)
            inputs, targets = op.batch(made["inputs"], made.get("targets"), folded)
            made |= {"inputs": inputs} if targets is None else {"inputs": inputs, "targets": targets}
        return _padded({**made, **origin}, prepared.shapes.get("training"))

    def singles(epoch: tf.Tensor, row: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((tf.fill(tf.shape(row), epoch), row))

    if width:
        examples = planned.flat_map(plain(singles)).map(
            plain(example), num_parallel_calls=prepared.threads, deterministic=True
        )
        batches = _batched(examples, width)
    else:
        batches = planned.map(
            plain(
                lambda epoch, row: _batched(
                    singles(epoch, row).map(example), tf.size(row, tf.int64)
                ).get_single_element()
            ),
            num_parallel_calls=prepared.threads,
            deterministic=True,
        )
    return untuned(batches.map(plain(batch)).prefetch(2))


def planned_rows(rows: Callable[[], Iterator[tuple[int, np.ndarray]]], width: int | None) -> tf.data.Dataset:
    """Returns (epoch, `[batch]` int64 row) as tensors.

    Args:
        rows: makes an iterator of them.
        width: length of every row; None where it differs.
    """
    if width is None:
        signature = (tf.TensorSpec((), tf.int64), tf.TensorSpec((None,), tf.int64))
        return from_generator(rows, signature)

    def blocks() -> Iterator[tuple[list[int], np.ndarray]]:  # one call of Python for many rows
        waiting = iter(rows())
        while block := list(itertools.islice(waiting, _ROWS_A_CALL)):
            yield [epoch for epoch, _ in block], np.stack([row for _, row in block])

    several = (tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None, width), tf.int64))
    return from_generator(blocks, several).unbatch()


def evaluation_batches(prepared: Prepared, rows: np.ndarray, *, task: Task, state: State) -> tf.data.Dataset:
    """Returns the task's batches for the rows of an evaluation plan; each also holds `example`, `ok` and `frame`.

    Args:
        prepared: the examples.
        rows: `[steps, batch]` int64.
        task: makes the batch.
        state: of the task.
    """

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        return as_written(function, prepared.source, *prepared.preprocessors, task)

    def example(k: tf.Tensor) -> Any:
        features, frame, k, ok = _weighed(prepared, k)
        return features, frame, {"example": k, "ok": ok}

    def batch(features: Any, frame: Any, origin: Any) -> dict[str, Any]:
        made = {**task.batch(features, frame, state, False), **origin, "frame": frame}
        return _padded(made, prepared.shapes.get("evaluation"))

    singles = tf.data.Dataset.from_tensor_slices(rows.reshape(-1))
    batches = singles.map(plain(example), num_parallel_calls=prepared.threads, deterministic=True)
    return untuned(_batched(batches, rows.shape[1]).map(plain(batch)).prefetch(2))


def give_one_shape(
    prepared: Prepared, examples: np.ndarray, *, task: Task, state: State, views: int, console: Console
) -> None:
    """Makes all batches of these examples have one shape from now on: what varies is padded with zeros to the largest there is.

    What is measured is what the task makes of the examples: of long pairs, the number of their windows.

    Args:
        prepared: the examples; batches that are made of them later are padded.
        examples: `[examples]` int64, all that batches will be made of.
        task: makes the batch.
        state: of the task.
        views: of each example in training.
        console: shows progress.
    """
    rows = evaluation_plan(examples, batch_size=min(_MEASURED_BATCH, len(examples)), lengths=prepared.lengths)
    kinds = {
        "training": training_batches(
            prepared,
            lambda: iter([(0, row) for row in rows]),
            width=rows.shape[1],
            task=task,
            state=state,
            augmentation=Augmentation(views=views),
        ),
        "evaluation": evaluation_batches(prepared, rows, task=task, state=state),
    }
    varying = {kind: batches for kind, batches in kinds.items() if not _is_static(batches)}
    if not varying:
        return
    with console.track("Measuring lengths", total=len(varying) * len(rows), unit="batches") as track:
        for kind, batches in varying.items():
            largest: Any = None
            for shapes in untuned(batches.map(_shapes)).as_numpy_iterator():
                largest = shapes if largest is None else tf.nest.map_structure(np.maximum, largest, shapes)
                track.advance(1)
            prepared.shapes[kind] = largest


@tf.autograph.experimental.do_not_convert
def _shapes(batch: Any) -> Any:
    return tf.nest.map_structure(lambda values: tf.shape(values)[1:], batch)


def _padded(batch: dict[str, Any], shapes: Any) -> dict[str, Any]:
    """Pads every tensor of a batch with zeros to its shape; as it is where there are none.

    Args:
        batch: `[batch, ...]` each.
        shapes: nested alike, without the batch dimension.
    """
    if shapes is None:
        return batch
    size = batch["ok"].shape[0]

    def padded(values: tf.Tensor, shape: np.ndarray) -> tf.Tensor:
        missing = tf.pad(shape - tf.shape(values)[1:], [[1, 0]])  # none in the batch dimension
        return tf.ensure_shape(tf.pad(values, tf.stack([tf.zeros_like(missing), missing], axis=1)), [size, *shape])

    return tf.nest.map_structure(padded, batch, shapes)


def _is_static(batches: tf.data.Dataset) -> bool:
    return all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(batches.element_spec))


def _batched(examples: tf.data.Dataset, size: int | tf.Tensor) -> tf.data.Dataset:
    """Batches examples; a dimension that varies is padded with zeros to the batch's longest."""
    if _is_static(examples):
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
