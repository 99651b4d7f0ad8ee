"""One pass over a list of examples that makes what is at the cut, or only what else their batches hold."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.engines import Run
from tfpt.tasks import State, Task
from tfpt.training.feature_key import Traced, feature_key
from tfpt.training.feature_rows import Layout, Recorder, Rows
from tfpt.training.pipeline import Augmentation, evaluation_batches, training_batches
from tfpt.training.plan import evaluation_plan
from tfpt.training.prefix import Cut, still_function
from tfpt.training.prepared import Prepared, Trusting, WithoutHost
from tfpt.training.side_by_side import side_by_side
from tfpt.untuned import untuned

_OWN = ("example", "ok")
"""What batches hold for the loop."""
_FRAME = "frame"
READ_AHEAD = 2**28
"""Bytes that may be decoded while the graph is frozen and compiled, which mostly keeps one core busy."""
_OK = Layout((), np.dtype(bool))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FeaturePass:
    """A list of examples, in one or several augmented views, and how its batches are made.

    Attributes:
        examples: `[examples]` int64, unique; those of like length stand together.
        views: how often the list is gone through.
        batch_size: of the pass.
        training: whether the batches are those that are trained on.
        cuts: by trunk name.
        prepared: reads the examples.
        task: makes the batches.
        state: of the task.
        ops: augmentation.
        seed: of the augmentation.
        traces: graphs up to the cuts by their inputs; passes with the same cuts may share them.
    """

    examples: np.ndarray
    views: int = 1
    batch_size: int
    training: bool
    cuts: Mapping[str, Cut]
    prepared: Prepared
    task: Task
    state: State
    ops: tuple[Op, ...] = ()
    seed: int = 0
    traces: dict[str, Traced] = dataclasses.field(default_factory=dict)
    _begun: list[tuple[Any, Iterator[Any]]] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """How many examples come out, views counted."""
        return len(self.examples) * self.views

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return self.views * len(self._rows)

    @functools.cached_property
    def batches(self) -> tf.data.Dataset:
        """The task's batches, view after view; an example that cannot be read or decoded raises."""
        return self._batches(Trusting(self.prepared))

    def _batches(self, prepared: Prepared, *, start: int = 0) -> tf.data.Dataset:
        if not self.training:
            return evaluation_batches(prepared, self._rows[start:], task=self.task, state=self.state)
        return training_batches(
            prepared,
            lambda: iter([(view, row) for view in range(self.views) for row in self._rows][start:]),
            width=self.batch_size,
            task=self.task,
            state=self.state,
            augmentation=Augmentation(ops=self.ops, seed=self.seed),
        )

    @property
    def inputs(self) -> Any:
        """Shapes and dtypes of the task's inputs."""
        return self.batches.element_spec["inputs"]

    @functools.cached_property
    def still(self) -> Any:
        """Shapes and dtypes of what is at the cuts."""
        specs = {
            name: {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in one.specs().items()}
            for name, one in self.cuts.items()
        }
        return specs if len(specs) > 1 else specs.popitem()[1]

    @functools.cached_property
    def frame(self) -> dict[str, Any]:
        """Shapes and dtypes of what a batch holds of the host half, beside the inputs: evaluation may read it."""
        return {name: spec for name, spec in self.batches.element_spec.items() if name == _FRAME}

    @functools.cached_property
    def rest(self) -> dict[str, Any]:
        """Shapes and dtypes of what else a batch holds."""
        return {name: spec for name, spec in self.batches.element_spec.items() if name not in (*_OWN, "inputs", _FRAME)}

    @functools.cached_property
    def layouts(self) -> list[Layout] | None:
        """How what is at the cuts is kept; None where it cannot be."""
        return _layouts(self.still)

    @functools.cached_property
    def rest_layouts(self) -> list[Layout] | None:
        """How the rest of a batch is kept; None where it cannot be."""
        return _layouts(self.rest)

    @functools.cached_property
    def frame_layouts(self) -> list[Layout] | None:
        """How the frame is kept; None where it cannot be."""
        return _layouts(self.frame)

    @property
    def can_be_kept(self) -> bool:
        """Whether everything that a batch holds can be kept."""
        return None not in (self.layouts, self.frame_layouts, self.rest_layouts)

    @property
    def stored(self) -> list[Layout]:
        """What is kept for later runs: what is at the cuts, the frame, and whether the example could be decoded."""
        return [*(self.layouts or ()), *(self.frame_layouts or ()), _OK]

    @property
    def size(self) -> int:
        """Bytes that what is stored takes, about: padding is not counted."""
        lengths = self.prepared.lengths
        mean = float(lengths[self.examples].mean()) if lengths is not None else self.prepared.preprocessors[0].size
        return int(self.count * sum(one.item_bytes * (mean if one.varies else 1) for one in self.stored))

    def key(self, digests: Sequence[bytes], engine: str) -> str | None:
        """Returns the key of what is at the cuts in the store; None where it depends on more than contents.

        Args:
            digests: of all examples' contents by their index.
            engine: what computes, and in which precision.
        """
        found = self._graphs
        if found is None:
            return None
        return feature_key(
            digests=[digests[int(k)] for k in self.examples],
            preprocessors=self.prepared.preprocessors,
            graphs=found,
            variables=[v for one in self.cuts.values() for v in (*one.trunk.device.variables, *one.before.variables)],
            ops=self.ops,
            seed=self.seed,
            views=self.views,
            examples=self.examples,
            engine=engine,
        )

    @property
    def traced(self) -> Traced:
        """The graph up to the cuts."""
        key = repr(self.inputs)
        if key not in self.traces:
            self.traces[key] = Traced.of(still_function(self.cuts, self.task), self.inputs)
        return self.traces[key]

    def graph(self) -> Any:
        """Returns the graph up to the cuts with its weights as constants."""
        return self.traced.frozen

    def sample(self) -> list[np.ndarray]:
        """Returns the inputs of a batch, flattened: a usual one, where lengths differ."""
        if self._begun:
            ((batch, _),) = self._begun
        elif self.prepared.lengths is None:
            batch = next(self._readable())
        else:
            (batch,) = self.batches.skip(len(self._rows) // 2).take(1)
        return [t.numpy() for t in tf.nest.flatten(batch["inputs"])]

    def read_ahead(self) -> None:
        """Reads and decodes in the background from now on, for the `run` that follows; not where examples differ in size."""
        specs = tf.nest.flatten(self.batches.element_spec)
        if self.prepared.lengths is not None or not all(spec.shape.is_fully_defined() for spec in specs):
            return
        size = sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)
        batches = iter(untuned(self.batches.prefetch(max(1, min(self.steps, READ_AHEAD // size)))))
        with contextlib.suppress(tf.errors.OpError):  # `run` meets it again
            self._begun.append((next(batches), batches))  # the first starts the background

    def run(
        self, engine: Run, still: Sequence[Recorder], rest: Sequence[Recorder], *, at_a_time: int = 1
    ) -> Iterator[int]:
        """Goes through the batches.

        Args:
            engine: makes what is at the cuts.
            still: take what is kept for later runs: see `stored`.
            rest: take what else a batch holds.
            at_a_time: how many batches the engine works on side by side.

        Yields:
            How many examples were done with a batch.
        """

        def of(counted: tuple[int, Any]) -> Any:
            return engine([t.numpy() for t in tf.nest.flatten(counted[1]["inputs"])])

        for (fresh, batch), made in side_by_side(of, self._counted(self._readable()), at_a_time=at_a_time):
            ok = batch["ok"].numpy()
            self.prepared.failed.update(int(k) for k in batch["example"].numpy()[~ok])
            frame = [t.numpy() for t in tf.nest.flatten({name: batch[name] for name in self.frame})]
            for recorder, value in zip(still, [*made, *frame, ok], strict=True):
                recorder.add(value[:fresh])
            self._add_rest(rest, batch, fresh)
            yield fresh

    def run_rest(self, rest: Sequence[Recorder], *, failed: Collection[int]) -> None:
        """Goes through the batches for what they hold beside what is at the cuts; decodes nothing where that needs none.

        Args:
            rest: take it.
            failed: examples that cannot be decoded.
        """
        self.prepared.failed.update(failed)
        without = not self.ops and self.prepared.can_keep_as_read and not self._rest_needs_host
        batches = self._batches(WithoutHost(self.prepared, failed) if without else self.prepared)
        for fresh, batch in self._counted(batches.map(lambda batch: {name: batch[name] for name in self.rest})):
            self._add_rest(rest, batch, fresh)

    def failed_of(self, stored: Sequence[Rows]) -> set[int]:
        """Returns the examples that could not be decoded when what is stored was made."""
        ok = np.asarray(stored[-1].values).reshape(self.views, -1).all(axis=0)
        return {int(k) for k in self.examples[~ok]}

    def can_be_read(self, examples: Collection[int]) -> bool:
        """Tells whether any of these examples can be read and decoded now."""
        return any(bool(self.prepared.read(tf.constant(k, tf.int64))[2]) for k in examples)

    def _readable(self) -> Iterator[Any]:
        """Returns the batches; from the first on in which an example cannot be read, such examples are zeros and not `ok`."""
        done = 0
        try:
            for batch in self._taken():
                yield batch
                done += 1
        except tf.errors.OpError:
            yield from self._batches(self.prepared, start=done)

    def _taken(self) -> Iterable[Any]:
        if not self._begun:
            return self.batches
        first, others = self._begun.pop()
        return itertools.chain([first], others)

    def _counted(self, batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Returns batches, each with how many of its examples are no fillers."""
        for number, batch in enumerate(batches):
            yield min(self.batch_size, len(self.examples) - number % len(self._rows) * self.batch_size), batch

    def _add_rest(self, rest: Sequence[Recorder], batch: Mapping[str, Any], fresh: int) -> None:
        for recorder, value in zip(rest, tf.nest.flatten({name: batch[name] for name in self.rest}), strict=True):
            recorder.add(value.numpy()[:fresh])

    def pack(self, flat: Sequence[Any]) -> dict[str, Any]:
        """Gives a flat batch its structure: what is at the cuts, the frame, the rest."""
        flat = list(flat)
        one = len(self.layouts or ())
        two = one + len(self.frame_layouts or ())
        made = {"inputs": tf.nest.pack_sequence_as(self.still, flat[:one])}
        return (
            made | tf.nest.pack_sequence_as(self.frame, flat[one:two]) | tf.nest.pack_sequence_as(self.rest, flat[two:])
        )

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        return evaluation_plan(self.examples, batch_size=self.batch_size)

    def _traced(self, part: Callable[[Mapping[str, Any]], Any]) -> tuple[str, set[str], bool]:
        """Traces a part of the task's batches.

        Returns:
            Its digest, the features that it is made from, and whether it is made from frames.
        """
        features, frame = self.prepared.specs
        given = tf.nest.map_structure(
            lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype),
            ({**features, "weight": tf.TensorSpec((), tf.float32)}, frame),
        )
        traced = Traced.of(lambda f, r: part(self.task.batch(f, r, self.state, self.training)), *given)
        names = [name for name in sorted(given[0]) for _ in tf.nest.flatten(given[0][name])]
        used = {name for name, needed in zip(names, traced.read, strict=False) if needed}
        return traced.digest, used, any(traced.read[len(names) :])

    @functools.cached_property
    def _rest_needs_host(self) -> bool:
        _, used, frames = self._traced(lambda batch: {name: batch[name] for name in self.rest})
        return frames or bool(used & {p.feature for p in self.prepared.preprocessors})

    @functools.cached_property
    def _graphs(self) -> list[str] | None:
        digest, used, _ = self._traced(lambda batch: batch["inputs"])
        if used - {p.feature for p in self.prepared.preprocessors}:
            return None  # labels and the like have no digest
        return [digest, self.traced.digest]


def in_order(examples: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
    """Returns the examples once each, those of like length together."""
    examples = np.unique(examples)
    return examples if lengths is None else examples[np.argsort(lengths[examples], kind="stable")]


def slots_of(examples: np.ndarray) -> np.ndarray:
    """Returns the place of each example by its index."""
    slots = np.zeros(int(examples.max()) + 1, np.int64)
    slots[examples] = np.arange(len(examples))
    return slots


def _layouts(specs: Any) -> list[Layout] | None:
    found = [Layout.of(spec) for spec in tf.nest.flatten(specs)]
    return None if None in found else [one for one in found if one is not None]
