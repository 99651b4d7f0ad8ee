"""Frozen means computed once: what is at the cut, for each example, and batches of it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.console import Console
from tfpt.engines import Run, _choice
from tfpt.errors import UserError
from tfpt.tasks import State, Task
from tfpt.training.feature_pass import FeaturePass, in_order, slots_of
from tfpt.training.feature_rows import Recorder, Rows
from tfpt.training.feature_store import FeatureStore
from tfpt.training.machine import free_memory
from tfpt.training.pipeline import Prepared
from tfpt.training.prefix import Cut

SHARE_OF_MEMORY = 0.5
"""Kept features may take this share of the memory that is free; what is larger is mapped from disk."""
PASS_BATCH = 32
"""Examples at a time in the one pass."""
DISK_BYTES_A_SECOND = 200e6
"""What mapped features are expected to be read at, out of order."""
_MEASURED = 4
"""Batches that are timed to predict how long a pass takes."""
_WORTH_MEASURING = 10 * _MEASURED
"""Shorter passes are just done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wish:
    """What of `--input` and `--runtime` concerns features.

    Attributes:
        policy: `auto`, `on` or `off`.
        epochs: how often each training example will be seen.
        views: augmented views to keep of each; 0: examples are not augmented.
        ops: augmentation.
        seed: of the augmentation.
        engine: name or `auto`.
        precision: of the engine.
        threads: CPU threads; 0: one a core.
    """

    policy: str = "auto"
    epochs: int
    views: int = 0
    ops: tuple[Op, ...] = ()
    seed: int = 0
    engine: str = "auto"
    precision: str = "float32"
    threads: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """A list of examples, in one or several views.

    Attributes:
        rows: the tensors of a batch, flattened.
        pack: gives a flat batch its structure.
        slots: `[examples]` int64 by an example's index: where it is within a view.
        views: how often the list is there.
    """

    rows: Sequence[Rows]
    pack: Callable[[Sequence[Any]], dict[str, Any]]
    slots: np.ndarray
    views: int

    def batches(self, rows: Callable[[], Iterator[tuple[int, np.ndarray]]], width: int | None) -> tf.data.Dataset:
        """Returns the batches of a plan's rows, in their order; epoch e gets view e, in turn.

        Args:
            rows: makes an iterator of (epoch, `[batch]` int64 row).
            width: length of every row; None where it differs.
        """
        own = (tf.TensorSpec((), tf.int64), tf.TensorSpec((width,), tf.int64))
        size = len(self.rows[0]) // self.views
        mapped = [k for k, one in enumerate(self.rows) if not one.in_memory]
        specs = tuple(tf.TensorSpec((width, *self.rows[k].layout.shape), self.rows[k].layout.dtype) for k in mapped)

        def read() -> Iterator[Any]:
            for epoch, row in rows():
                slots = self.slots[np.where(row < 0, ~row, row)] + epoch % self.views * size
                yield (epoch, row), tuple(self.rows[k].read(slots) for k in mapped)

        def batch(planned: tuple[tf.Tensor, tf.Tensor], found: Sequence[tf.Tensor]) -> dict[str, Any]:
            epoch, row = planned
            example = tf.where(row < 0, -row - 1, row)
            slot = tf.gather(slots, example) + epoch % self.views * size
            from_disk = dict(zip(mapped, found, strict=True))
            made = self.pack([from_disk[k] if k in from_disk else one.gather(slot) for k, one in enumerate(self.rows)])
            made["weight"] *= tf.cast(row >= 0, made["weight"].dtype)
            return {**made, "example": example, "ok": tf.ones_like(example, tf.bool)}

        with tf.device("CPU:0"):
            slots = tf.constant(self.slots)
        planned = tf.data.Dataset.from_generator(read, output_signature=(own, specs))
        return planned.map(batch).prefetch(2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CachedFeatures:
    """Training and validation examples from the cut on."""

    train: Kept
    validation: Kept | None

    @property
    def largest_row(self) -> int:
        """Bytes of an example, or of one of its places."""
        return max(rows.layout.item_bytes for rows in self.train.rows)

    def training_batches(
        self, rows: Callable[[], Iterator[tuple[int, np.ndarray]]], *, width: int | None
    ) -> tf.data.Dataset:
        """Returns the batches of a plan's rows, in their order."""
        return self.train.batches(rows, width)

    def whole(self, examples: np.ndarray) -> dict[str, Any]:
        """Returns training examples as one batch, of the first view."""
        (batch,) = self.train.batches(lambda: iter([(0, np.asarray(examples))]), len(examples))
        return batch

    def evaluation_batches(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the batches of an evaluation plan's rows."""
        assert self.validation is not None, "there are no validation examples"
        return self.validation.batches(lambda: iter([(0, row) for row in rows]), rows.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """Computes, or finds, what is at the cuts of a task's trunks.

    Attributes:
        cuts: by trunk name.
        prepared: the examples.
        digests: of the examples' contents by their index; None: nothing is kept for later runs.
        task: makes the batches.
        state: of the task.
        wish: what is asked for.
        store: for later runs.
        memory: the file that remembers which engine is fastest.
        console: hears what was decided, with the numbers.
    """

    cuts: Mapping[str, Cut]
    prepared: Prepared
    digests: Sequence[bytes] | None
    task: Task
    state: State
    wish: Wish
    store: FeatureStore
    memory: Path
    console: Console

    def features(self, train: np.ndarray, validation: np.ndarray) -> CachedFeatures | None:
        """Returns the features of training and validation examples, or None, and says why, where keeping does not pay.

        Args:
            train: `[examples]` int64.
            validation: `[examples]` int64; may be empty.

        Raises:
            UserError: `--input.feature_cache=on`, and they cannot be kept; or the engine that was asked for is not there.
        """
        if self.wish.policy == "off":
            return None
        if self.wish.ops and not self._views_can_be_kept():
            return None
        passes = self._passes(train, validation)
        if any(one.layouts is None or one.rest_layouts is None for one in passes):
            self._refuse("examples differ in more than one length")
            return None
        most_in_memory = int(SHARE_OF_MEMORY * free_memory())
        size = sum(one.size for one in passes)
        kept = self._found(passes, most_in_memory)
        if kept is None:
            mapped = size > most_in_memory
            if mapped and (size > self.store.free() or not all(self._key(one, "") for one in passes)):
                self._refuse(f"that takes {_amount(size)}, over half of the free memory and of the free disk")
                return None
            choice = self._engine(passes)
            if self.wish.policy == "auto" and not self._pays(passes, choice.run, size if mapped else 0):
                return None
            kept = [self._computed(one, choice, mapped=mapped) for one in passes]
        return CachedFeatures(train=kept[0], validation=kept[1] if len(kept) > 1 else None)

    def _views_can_be_kept(self) -> bool:
        wish = self.wish
        if any(type(op).batch is not Op.batch for op in wish.ops):
            self._refuse("an augmentation that mixes the examples of a batch leaves nothing that could be kept")
            return False
        if not wish.views:
            self._refuse(
                f"examples are augmented anew, so it runs {wish.epochs} times; --input.cached_views=4 would keep 4 views of each "
                "example and run it 4 times"
            )
        return bool(wish.views)

    def _passes(self, train: np.ndarray, validation: np.ndarray) -> list[FeaturePass]:
        views = min(self.wish.views, self.wish.epochs)
        size = min(PASS_BATCH, max(len(train), len(validation)))
        made: dict[str, Any] = {"cuts": self.cuts, "prepared": self.prepared, "task": self.task, "state": self.state}
        augmented: dict[str, Any] = {"ops": self.wish.ops, "views": views, "seed": self.wish.seed} if views else {}
        return [
            FeaturePass(
                examples=in_order(examples, self.prepared.lengths),
                training=examples is train,
                batch_size=size,
                **made,
                **(augmented if examples is train else {}),
            )
            for examples in (train, validation)
            if len(examples)
        ]

    def _refuse(self, why: str) -> None:
        if self.wish.policy == "on":
            raise UserError(f"--input.feature_cache=on: what is frozen cannot be kept: {why}; write auto.")
        self.console.say(f"What is frozen is computed anew in each epoch: {why}.")

    def _key(self, one: FeaturePass, engine: str) -> str | None:
        return one.key(self.digests, engine) if self.digests is not None else None

    def _found(self, passes: Sequence[FeaturePass], most_in_memory: int) -> list[Kept] | None:
        """Returns what an earlier run has left, by any engine that may run."""
        for name in _choice.candidates(self.wish.engine, precision=self.wish.precision):
            entries = []
            for one in passes:
                key = self._key(one, _choice.label(name, self.wish.precision))
                found = key and self.store.find(key, one.layouts or [], count=one.count, most_in_memory=most_in_memory)
                if not found:
                    break
                entries.append(found)
                most_in_memory -= sum(rows.values.nbytes for rows in found if rows.in_memory)
            if len(entries) == len(passes):
                size = sum(rows.values.nbytes for entry in entries for rows in entry)
                self.console.say(f"What is frozen was computed before, on {name}: {_amount(size)}.")
                return [self._kept(one, entry) for one, entry in zip(passes, entries, strict=True)]
        return None

    def _engine(self, passes: Sequence[FeaturePass]) -> _choice.Choice:
        choice = _choice.choose(
            passes[0].graph(),
            passes[0].sample(),
            wanted=self.wish.engine,
            precision=self.wish.precision,
            threads=self.wish.threads,
            batches=sum(one.steps for one in passes),
            key=passes[0].graph_digest,
            memory=self.memory,
            console=self.console,
        )
        if choice.why:
            self.console.say(f"What is frozen runs on {choice.name} ({choice.why}).")
        return choice

    def _pays(self, passes: Sequence[FeaturePass], run: Run, mapped: int) -> bool:
        """Predicts from a few batches whether keeping is faster than computing anew in each epoch, and says it.

        Args:
            passes: of training and validation.
            run: the engine.
            mapped: bytes that will be read from disk in each epoch.
        """
        once, epochs = sum(one.count for one in passes), self.wish.epochs
        anew = epochs * sum(len(one.examples) for one in passes)
        if sum(one.steps for one in passes) < _WORTH_MEASURING:
            return anew >= once
        seconds = passes[0].seconds_an_example(run, batches=_MEASURED)
        kept = once * seconds + epochs * mapped / DISK_BYTES_A_SECOND
        size = sum(one.size for one in passes)
        self.console.say(
            f"What is frozen takes {seconds * 1e3:.3g} ms an example: {kept:,.0f} s if it is computed once and kept ({_amount(size)} "
            f"{'on disk' if mapped else 'in memory'}), {anew * seconds:,.0f} s in {epochs} epochs without."
        )
        return kept <= anew * seconds

    def _computed(self, one: FeaturePass, choice: _choice.Choice, *, mapped: bool) -> Kept:
        """Runs what is frozen; what does not stay in memory is read from disk, and what does is also left there."""
        key = self._key(one, _choice.label(choice.name, self.wish.precision))
        layouts = one.layouts or []
        if not mapped:
            still = [Recorder(layout) for layout in layouts]
            kept = self._kept(one, still, choice.run)
            if key:
                try:
                    self.store.save(key, kept.rows[: len(layouts)])
                except OSError as error:
                    self.console.warn(
                        f"What is frozen is not kept for later runs: {self.store.folder}: {error.strerror}."
                    )
            return kept
        try:
            with self.store.writing(key or "", layouts, count=one.count, size=one.size) as recorders:
                kept = self._kept(one, recorders, choice.run)
        except OSError as error:
            raise UserError(
                f"{self.store.folder} cannot be written ({error.strerror}); make room, set TFPT_HOME to another folder, or give "
                "--input.feature_cache=off."
            ) from error
        found = self.store.find(key or "", layouts, count=one.count, most_in_memory=0)
        return dataclasses.replace(kept, rows=[*(found or []), *kept.rows])

    def _kept(self, one: FeaturePass, still: Sequence[Any], run: Run | None = None) -> Kept:
        """Goes through the batches.

        Args:
            one: the pass.
            still: what is at the cuts, or what records it.
            run: the engine; None where it is there already.
        """
        rest = [Recorder(layout) for layout in one.rest_layouts or []]
        track: Any = contextlib.nullcontext()
        if run:
            track = self.console.track("Computing what is frozen once", total=one.count, unit="examples")
        with track as shown:
            for fresh in one.run(run, still, rest):
                if shown:
                    shown.advance(fresh)
        recorded = [part for part in (*still, *rest) if not isinstance(part, Recorder) or part.file is None]
        rows = [part.rows() if isinstance(part, Recorder) else part for part in recorded]
        return Kept(rows=rows, pack=one.pack, slots=slots_of(one.examples), views=one.views)


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
