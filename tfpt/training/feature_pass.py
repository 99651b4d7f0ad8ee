"""One pass over a list of examples that makes what is at the cut, or only what else their batches hold."""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.engines import Run, _choice
from tfpt.tasks import State, Task
from tfpt.training.feature_key import feature_key, trace
from tfpt.training.feature_rows import Layout, Recorder
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import evaluation_plan
from tfpt.training.prefix import Cut, still_function

_OWN = ("example", "ok")
"""What batches hold for the loop."""


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
        """The task's batches, view after view."""
        if not self.training:
            return evaluation_batches(self.prepared, self._rows, task=self.task, state=self.state)
        return training_batches(
            self.prepared,
            lambda: iter([(view, row) for view in range(self.views) for row in self._rows]),
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
    def function(self) -> Any:
        """The graph from the task's inputs to what is at the cuts."""
        return still_function(self.cuts, self.task)

    @functools.cached_property
    def still(self) -> Any:
        """Shapes and dtypes of what is at the cuts."""
        specs = {
            name: {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in one.specs().items()}
            for name, one in self.cuts.items()
        }
        return specs if len(specs) > 1 else specs.popitem()[1]

    @functools.cached_property
    def rest(self) -> dict[str, Any]:
        """Shapes and dtypes of what else a batch holds."""
        return {name: spec for name, spec in self.batches.element_spec.items() if name not in (*_OWN, "inputs")}

    @functools.cached_property
    def layouts(self) -> list[Layout] | None:
        """How what is at the cuts is kept; None where it cannot be."""
        return _layouts(self.still)

    @functools.cached_property
    def rest_layouts(self) -> list[Layout] | None:
        """How the rest of a batch is kept; None where it cannot be."""
        return _layouts(self.rest)

    @property
    def size(self) -> int:
        """Bytes that what is at the cuts takes, about: padding is not counted."""
        lengths = self.prepared.lengths
        mean = float(lengths[self.examples].mean()) if lengths is not None else self.prepared.preprocessors[0].size
        return int(self.count * sum(one.item_bytes * (mean if one.varies else 1) for one in self.layouts or ()))

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
            variables=[v for one in self.cuts.values() for v in one.before.variables],
            ops=self.ops,
            seed=self.seed,
            views=self.views,
            engine=engine,
        )

    @functools.cached_property
    def graph_digest(self) -> str:
        """A digest of the graph up to the cuts."""
        return trace(self.function, self.inputs)[0]

    def graph(self) -> Any:
        """Returns the function as a graph whose weights are constants."""
        return _choice.freeze(self.function, self.inputs)

    def sample(self) -> list[np.ndarray]:
        """Returns the inputs of a batch from the middle, flattened: a usual one, where lengths differ."""
        (batch,) = self.batches.skip(len(self._rows) // 2).take(1)
        return [t.numpy() for t in tf.nest.flatten(batch["inputs"])]

    def seconds_an_example(self, run: Run, *, batches: int) -> float:
        """Returns how long reading and running an example takes, from a few batches after the first."""
        times = []
        for batch in self.batches.take(1 + batches):
            run([t.numpy() for t in tf.nest.flatten(batch["inputs"])])
            times.append(time.perf_counter())
        return (times[-1] - times[0]) / max((len(times) - 1) * self.batch_size, 1)

    def run(self, engine: Run | None, still: Sequence[Recorder], rest: Sequence[Recorder]) -> Iterator[int]:
        """Goes through the batches.

        Args:
            engine: makes what is at the cuts; None: it is known.
            still: take what is at the cuts.
            rest: take what else a batch holds.

        Yields:
            How many examples were done with a batch.
        """
        for number, batch in enumerate(self.batches):
            fresh = min(self.batch_size, len(self.examples) - number % len(self._rows) * self.batch_size)
            self.prepared.failed.update(int(k) for k in batch["example"].numpy()[~batch["ok"].numpy()])
            for recorder, value in zip(rest, tf.nest.flatten({name: batch[name] for name in self.rest}), strict=True):
                recorder.add(value.numpy()[:fresh])
            if engine is not None:
                made = engine([t.numpy() for t in tf.nest.flatten(batch["inputs"])])
                for recorder, value in zip(still, made, strict=True):
                    recorder.add(value[:fresh])
            yield fresh

    def pack(self, flat: Sequence[Any]) -> dict[str, Any]:
        """Gives a flat batch, what is at the cuts first, its structure."""
        split = len(self.layouts or ())
        made = tf.nest.pack_sequence_as(self.rest, list(flat[split:]))
        return {**made, "inputs": tf.nest.pack_sequence_as(self.still, list(flat[:split]))}

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        return evaluation_plan(self.examples, batch_size=self.batch_size)

    @functools.cached_property
    def _graphs(self) -> list[str] | None:
        features, frame, _ = tf.data.Dataset.range(1).map(self.prepared.read).element_spec
        given = tf.nest.map_structure(
            lambda spec: tf.TensorSpec((None, *spec.shape), spec.dtype),
            ({**features, "weight": tf.TensorSpec((), tf.float32)}, frame),
        )
        made, read = trace(lambda f, r: self.task.batch(f, r, self.state, self.training)["inputs"], *given)
        names = [name for name in sorted(given[0]) for _ in tf.nest.flatten(given[0][name])]
        others = {name for name, needed in zip(names, read, strict=False) if needed}
        if others - {p.feature for p in self.prepared.preprocessors}:
            return None  # labels and the like have no digest
        return [made, self.graph_digest]


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
