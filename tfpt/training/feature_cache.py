"""Frozen means computed once: what is at the cut, for each example, and batches of it."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.console import Console
from tfpt.engines import _choice
from tfpt.errors import UserError
from tfpt.tasks import State, Task
from tfpt.training.cached_features import CachedFeatures, Kept
from tfpt.training.feature_key import Traced
from tfpt.training.feature_pass import FeaturePass, in_order, slots_of
from tfpt.training.feature_rows import Recorder, Rows
from tfpt.training.feature_store import FeatureStore
from tfpt.training.machine import free_memory
from tfpt.training.prefix import Cut
from tfpt.training.prepared import Prepared

SHARE_OF_MEMORY = 0.4
"""Kept features may take this share of the memory that is free; what is larger is mapped from disk."""
PASS_BATCH = 32
"""Examples at a time in the one pass."""
SMALL_PASS_BATCH = 8
"""Of pictures on a CPU: what a small batch makes on its way stays in the caches (EfficientNet-Lite0: 261 a second by 8, 231 by 16)."""
DISK_BYTES_A_SECOND = 200e6
"""What mapped features are expected to be read at, out of order."""
MOST_WEIGHTS = 2 * 10**9
"""Bytes; the graph that engines get holds the weights, and is one protocol buffer."""
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
        precision: of the engine; `auto`: bfloat16 where it pays.
        threads: CPU threads; 0: one a core.
        exact_validation: whether validation is in float32 whatever the precision, as the exported model is.
        measured: whether validation is what the model is measured by in the end, too: the model itself makes it.
        begun: whether a run goes on that had its features kept; whether that pays is not asked again.
    """

    policy: str = "auto"
    epochs: int
    views: int = 0
    ops: tuple[Op, ...] = ()
    seed: int = 0
    engine: str = "auto"
    precision: str = "float32"
    threads: int = 0
    exact_validation: bool = False
    measured: bool = False
    begun: bool = False


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
        traces: graphs up to these cuts by their inputs.
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
    traces: dict[str, Traced] = dataclasses.field(default_factory=dict)

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
        try:
            return self._features(train, validation)
        finally:
            for traced in self.traces.values():
                traced.forget_frozen()  # it would stay in memory with the batches

    def _features(self, train: np.ndarray, validation: np.ndarray) -> CachedFeatures | None:
        apart = self.wish.measured and len(validation) > 0
        passes = self._passes(train, validation[:0] if apart else validation)
        weights = 4 * sum(one.before.count_params() for one in self.cuts.values())
        if weights > MOST_WEIGHTS:
            self._refuse(f"its weights take {_amount(weights)}, more than the 2 GiB that a frozen graph may have")
            return None
        if not all(one.can_be_kept for one in passes):
            self._refuse("examples differ in more than one length")
            return None
        most_in_memory = int(SHARE_OF_MEMORY * free_memory())
        size = sum(one.size for one in passes)
        found = before = self._found(passes, most_in_memory)
        if found is None:
            mapped = size > most_in_memory
            if mapped and (size > self.store.free() or not all(self._key(one, "") for one in passes)):
                self._refuse(
                    f"that takes {_amount(size)}, over {SHARE_OF_MEMORY:.0%} of the free memory and what the disk has room for"
                )
                return None
            choice = self._engine(passes)
            asked = self.wish.policy == "auto" and not self.wish.begun
            judge = self._judge(passes, size if mapped else 0) if asked else None
            try:
                runs = [self._of(choice, one, chosen_for=passes[0]) for one in passes]
                computed = [
                    self._computed(
                        one,
                        run,
                        key=self._key(one, _choice.label(run.name, run.precision)),
                        mapped=mapped,
                        judge=judge if one is passes[0] else None,
                    )
                    for one, run in zip(passes, runs, strict=True)
                ]
            except _NotWorthItError:
                return None
            found = choice.name, choice.precision, computed
        engine, precision, kept = found
        measured = self.exact(validation) if apart else kept[1] if len(kept) > 1 else None
        if apart and measured is None:
            self._refuse("those of validation fit neither into memory nor on the disk")
            return None
        return CachedFeatures(
            train=kept[0],
            validation=measured,
            engine=engine,
            precision=precision,
            found=before is not None,
        )

    def exact(self, examples: np.ndarray) -> Kept | None:
        """Returns what is at the cuts of examples, made by the model itself, with its variables and on no engine: of a float32 model
        what the exported one makes, but for rounding where batches differ. Those that cannot be decoded are zeros, and added to
        `prepared.failed`. None where it can be kept neither in memory nor on disk.

        Args:
            examples: `[examples]` int64, not empty.
        """
        one = self._pass_over(examples, training=False, batch_size=min(self._batch_size, len(examples)))
        if not one.can_be_kept:
            return None
        most_in_memory = int(SHARE_OF_MEMORY * free_memory())
        key, mapped = self._key(one, _exact_label()), one.size > most_in_memory
        found = key and self.store.find(key, one.stored, count=one.count, most_in_memory=most_in_memory)
        if found and not one.can_be_read(one.failed_of(found)):
            return self._again(one, found)
        if mapped and (not key or one.size > self.store.free()):
            return None
        concrete = one.traced.concrete

        def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            return [made.numpy() for made in tf.nest.flatten(concrete(*map(tf.constant, inputs)))]

        choice = _choice.chosen("tensorflow", "float32", run, threads=self.wish.threads)
        return self._computed(one, choice, key=key, mapped=mapped, judge=None)

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
        size = min(self._batch_size, max(len(train), len(validation)))
        augmented: dict[str, Any] = {"ops": self.wish.ops, "views": views, "seed": self.wish.seed} if views else {}
        return [
            self._pass_over(
                examples, training=examples is train, batch_size=size, **(augmented if examples is train else {})
            )
            for examples in (train, validation)
            if len(examples)
        ]

    def _pass_over(self, examples: np.ndarray, *, training: bool, batch_size: int, **augmented: Any) -> FeaturePass:
        return FeaturePass(
            examples=in_order(examples, self.prepared.lengths),
            training=training,
            batch_size=batch_size,
            cuts=self.cuts,
            prepared=self.prepared,
            task=self.task,
            state=self.state,
            traces=self.traces,
            **augmented,
        )

    @property
    def _batch_size(self) -> int:
        large = self.prepared.lengths is not None or bool(tf.config.list_physical_devices("GPU"))
        return PASS_BATCH if large else SMALL_PASS_BATCH

    def _refuse(self, why: str) -> None:
        if self.wish.policy == "on":
            raise UserError(f"--input.feature_cache=on: what is frozen cannot be kept: {why}; write auto.")
        self.console.say(f"What is frozen is computed anew in each epoch: {why}.")

    def _key(self, one: FeaturePass, engine: str) -> str | None:
        return one.key(self.digests, engine) if self.digests is not None else None

    def _found(self, passes: Sequence[FeaturePass], most_in_memory: int) -> tuple[str, str, list[Kept]] | None:
        """Returns what an earlier run has left, by any engine that may run; that engine, and its precision in training."""
        for name, precision in _choice.ways(self.wish.engine, precision=self.wish.precision):
            entries, room = [], most_in_memory
            for one in passes:
                key = self._key(one, _choice.label(name, self._precision(precision, one)))
                found = key and self.store.find(key, one.stored, count=one.count, most_in_memory=room)
                if not found or one.can_be_read(one.failed_of(found)):
                    break
                entries.append(found)
                room -= sum(rows.values.nbytes for rows in found if rows.in_memory)
            if len(entries) == len(passes):
                size = sum(rows.values.nbytes for entry in entries for rows in entry)
                rounded = "" if precision == "float32" else f" in {precision}"
                self.console.say(f"What is frozen was computed before, on {name}{rounded}: {_amount(size)}.")
                return name, precision, [self._again(one, entry) for one, entry in zip(passes, entries, strict=True)]
        return None

    def _engine(self, passes: Sequence[FeaturePass]) -> _choice.Choice:
        asked: dict[str, Any] = {
            "wanted": self.wish.engine,
            "precision": self.wish.precision,
            "threads": self.wish.threads,
            "key": passes[0].traced.digest,
            "memory": self.memory,
        }
        if _choice.is_known(**asked):
            passes[0].read_ahead()
        choice = _choice.choose(
            passes[0].graph(),
            passes[0].sample(),
            batches=sum(one.steps for one in passes),
            console=self.console,
            **asked,
        )
        if choice.why:
            rounded = "" if choice.precision == "float32" else f" in {choice.precision}"
            self.console.say(f"What is frozen runs on {choice.name}{rounded} ({choice.why}).")
        return choice

    def _precision(self, chosen: str, one: FeaturePass) -> str:
        return chosen if one.training or not self.wish.exact_validation else "float32"

    def _of(self, choice: _choice.Choice, one: FeaturePass, *, chosen_for: FeaturePass) -> _choice.Choice:
        """Returns the choice for a pass: what tells how good the model is is not rounded."""
        precision = self._precision(choice.precision, one)
        if precision == choice.precision:
            return choice
        run = choice.exact if one.traced is chosen_for.traced else None
        run = run or _choice.compiled(one.graph(), choice.name, precision, threads=self.wish.threads)
        return dataclasses.replace(choice, precision=precision, run=run)

    def _judge(self, passes: Sequence[FeaturePass], mapped: int) -> Callable[[float], None] | None:
        """Returns what tells from the seconds of an example whether keeping is faster than computing anew in each epoch.

        Args:
            passes: of training and validation.
            mapped: bytes that will be read from disk in each epoch.

        Raises:
            _NotWorthItError: it is not, and that is known already.
        """
        once, epochs = sum(one.count for one in passes), self.wish.epochs
        anew = epochs * sum(len(one.examples) for one in passes)
        if sum(one.steps for one in passes) < _WORTH_MEASURING:
            if anew < once:
                raise _NotWorthItError
            return None

        def judge(seconds: float) -> None:
            kept = once * seconds + epochs * mapped / DISK_BYTES_A_SECOND
            size = sum(one.size for one in passes)
            self.console.say(
                f"What is frozen takes {seconds * 1e3:.3g} ms an example: {kept:,.0f} s if it is computed once and kept "
                f"({_amount(size)} {'on disk' if mapped else 'in memory'}), {anew * seconds:,.0f} s in {epochs} epochs without."
            )
            if kept > anew * seconds:
                raise _NotWorthItError

        return judge

    def _computed(
        self,
        one: FeaturePass,
        choice: _choice.Choice,
        *,
        key: str | None,
        mapped: bool,
        judge: Callable[[float], None] | None,
    ) -> Kept:
        """Runs what is frozen; what does not stay in memory is read from disk, and what does is also left there."""
        if not mapped:
            still = [Recorder(layout) for layout in one.stored]
            rest = self._pass(one, choice, still, judge)
            rows = [recorder.rows() for recorder in still]
            if key and one.size <= self.store.free():
                try:
                    self.store.save(key, rows)
                except OSError as error:
                    self.console.warn(
                        f"What is frozen is not kept for later runs: {self.store.folder}: {error.strerror or error}."
                    )
            return self._kept(one, rows, rest)
        try:
            with self.store.writing(key or "", one.stored, count=one.count, size=one.size) as recorders:
                rest = self._pass(one, choice, recorders, judge)
        except OSError as error:
            raise UserError(
                f"{self.store.folder} cannot be written ({error.strerror or error}); make room, set TFPT_HOME to another folder, or give "
                "--input.feature_cache=off."
            ) from error
        found = self.store.find(key or "", one.stored, count=one.count, most_in_memory=0)
        if found is None:
            raise UserError(
                f"{self.store.folder}: what was just computed is gone; does another process clear it? Run again, or give "
                "--input.feature_cache=off."
            )
        return self._kept(one, found, rest)

    def _pass(
        self,
        one: FeaturePass,
        choice: _choice.Choice,
        still: Sequence[Recorder],
        judge: Callable[[float], None] | None,
    ) -> list[Recorder]:
        """Goes through the batches; returns what else they hold."""
        rest = [Recorder(layout) for layout in one.rest_layouts or []]
        # Batches come in waves of as many as are on their way: only whole waves tell the time of one.
        waves = -(-_MEASURED // choice.at_a_time)
        measured = min(waves * choice.at_a_time, one.steps - 1) if judge else 0
        started = 0.0
        with self.console.track("Computing what is frozen once", total=one.count, unit="examples") as track:
            for number, fresh in enumerate(one.run(choice.run, still, rest, at_a_time=choice.at_a_time)):
                track.advance(fresh)
                if number == 0:  # the first starts everything
                    started = time.perf_counter()
                elif judge and number == measured:
                    judge((time.perf_counter() - started) / (number * one.batch_size))
        return rest

    def _again(self, one: FeaturePass, rows: Sequence[Rows]) -> Kept:
        rest = [Recorder(layout) for layout in one.rest_layouts or []]
        one.run_rest(rest, failed=one.failed_of(rows))
        return self._kept(one, rows, rest)

    @staticmethod
    def _kept(one: FeaturePass, rows: Sequence[Rows], rest: Sequence[Recorder]) -> Kept:
        return Kept(
            rows=[*rows[:-1], *(recorder.rows() for recorder in rest)],
            pack=one.pack,
            slots=slots_of(one.examples),
            views=one.views,
        )


def _exact_label() -> str:
    """Returns what stands in a key in place of an engine's label where the model itself computes; GPUs round float32 to TF32."""
    gpu = bool(tf.config.list_physical_devices("GPU"))
    rounded = " TF32" if gpu and tf.config.experimental.tensor_float_32_execution_enabled() else ""
    return f"model on {'GPU' if gpu else 'CPU'}{rounded}"


class _NotWorthItError(Exception):
    """Computing anew is faster."""


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
