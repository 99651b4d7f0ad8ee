"""Head first, then unfreeze: the stages of a run, and what is carried from one to the next.

The head alone learns on features of the frozen backbone, which are computed once; then the chosen layers train with it.
The order keeps the pretrained features whole while the head is still random (Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.augment import Op
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.tasks import State, Task
from tfpt.training import checkpoints, freezing
from tfpt.training.assembly import Assembly, copy_variables, seeded
from tfpt.training.averages import Averages
from tfpt.training.checkpoints import Checkpoints
from tfpt.training.evaluate import progress_evaluation
from tfpt.training.feature_cache import CachedFeatures, cache_features, head_on_cached
from tfpt.training.loop import Hooks, Progress, Stage, is_better, train_stage
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import evaluation_plan
from tfpt.training.updates import Updates

EVALUATION_BATCH = 64
CACHED_EVALUATION_BATCH = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What the stages train with.

    Attributes:
        experiment: the settings.
        task: what is learned.
        state: of the task.
        assembly: the model in training precision.
        prepared: the examples.
        train: `[examples]` int64.
        validation: `[examples]` int64; may be empty.
        ops: augmentation.
        precision: of the trunks.
        saver: writes checkpoints.
        console: talks to the user.
        hooks: what the loop reports to.
    """

    experiment: Experiment
    task: Task
    state: State
    assembly: Assembly
    prepared: Prepared
    train: np.ndarray
    validation: np.ndarray
    ops: tuple[Op, ...]
    precision: str
    saver: Checkpoints
    console: Console
    hooks: Hooks

    def run(self) -> tuple[Progress, dict[str, float]]:
        """Trains all stages, going on from the last checkpoint if there is one.

        Returns:
            The progress at the end, and seconds by stage.
        """
        options = self.experiment.train
        saved = self.saver.latest(console=self.console)
        progress = to_progress(saved.state) if saved else Progress()
        self.saver.forget_after(progress.order)
        self.hooks.begin(progress.history)
        timings: dict[str, float] = {}
        frozen_for_good = options.unfreeze == "none" or not options.epochs
        epochs = [
            options.head_epochs + (options.epochs if frozen_for_good else 0),
            0 if frozen_for_good else options.epochs,
        ]
        for number, (name, count) in enumerate(zip(("head", "fine_tune"), epochs, strict=True)):
            if not count or progress.stage > number:
                continue
            if progress.stage < number:
                progress = dataclasses.replace(
                    progress,
                    stage=number,
                    step=0,
                    best=None,
                    carried=progress.best,
                    waited=0,
                    pending=[],
                    epochs_before=epochs[0],
                )
                saved = None
            steps = self._bounded(count, progress)
            if not steps:
                continue
            started = time.monotonic()
            stage, cached = self._stage(name, count, steps, frozen=name == "head")
            if saved:
                checkpoints.restore(saved.folder, stage.variables())
                self.console.say(f"Going on from step {progress.step} of {stage.steps} in stage {name}.")
            elif number:
                self.saver.save(progress.order, self._weights(), {}, name="carried")
                self.saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))
            train_stage(stage, progress, options, self.saver, self.console, self.hooks)
            if cached:
                copy_variables(stage.model.variables, self.assembly.head_variables())
            self._keep_carried(progress)
            timings[name] = time.monotonic() - started
        return progress, timings

    def _weights(self) -> list[tf.Variable]:
        return [v.value for v in self.assembly.model.variables]

    def _keep_carried(self, progress: Progress) -> None:
        """Goes back to the weights that the stage began with, if validation was better then."""
        primary, carried, best = self.task.primary_of(self.state), progress.carried, progress.best
        if not carried or not best or is_better(best, carried, primary):
            return
        saved = self.saver.latest(console=self.console, name="carried")
        if saved:
            self.console.say(
                f"The head alone was better on validation ({primary.name} {carried[primary.name]:.4f} against "
                f"{best[primary.name]:.4f}): its weights are kept."
            )
            checkpoints.restore(saved.folder, self._weights())

    def _bounded(self, epochs: int, progress: Progress) -> int:
        options = self.experiment.train
        steps = epochs * -(-len(self.train) // options.batch_size)
        if not options.steps:
            return steps
        return min(steps, max(0, options.steps - (progress.total_steps - progress.step)))

    def _stage(self, name: str, epochs: int, steps: int, *, frozen: bool) -> tuple[Stage, bool]:
        options, optim = self.experiment.train, self.experiment.optim
        batch_norm = {
            "train": True,
            "frozen": False,
            "auto": options.batch_size // options.accumulate >= freezing.SMALLEST_BATCH_FOR_STATISTICS,
        }
        unfreeze = "none" if frozen else options.unfreeze
        freezing.set_trainable(self.assembly, unfreeze=unfreeze, train_batch_norm=batch_norm[options.batch_norm])
        changed = freezing.fit_batch_norm_momentum(self.assembly, steps=steps)
        if changed:
            self.console.say(
                f"Batch normalisation trains with momentum {changed[1]:.3f} instead of {changed[0]:.3f}, to fit {steps} updates."
            )
        cached = self._features() if frozen and self._may_cache() else None
        model = self.assembly.model
        if cached:
            if self.ops and options.epochs and options.unfreeze != "none":
                self.console.say(
                    "Random changes of examples start with the second stage: the head learns on features computed once."
                )
            with seeded(options.seed):
                model = head_on_cached(self.task, self.state, cached)
            copy_variables(self.assembly.head_variables(), model.variables)
            groups = [freezing.RateGroup(1.0, tuple(model.trainable_variables))]
        else:
            multiplier = 1.0 if frozen else optim.head_multiplier
            groups = freezing.rate_groups(self.assembly, optim, unfreeze=unfreeze, head_multiplier=multiplier)
        updates = Updates(
            groups,
            optim,
            learning_rate=optim.head_learning_rate if frozen else optim.learning_rate,
            steps=steps,
            loss_scaling=self.precision == "float16",
        )
        return Stage(
            name=name,
            model=model,
            task=self.task,
            primary=self.task.primary_of(self.state),
            updates=updates,
            averages=Averages(model.variables, decay=options.ema) if options.ema else None,
            batches=lambda rows: self._training_batches(rows, cached),
            examples=self.train,
            lengths=None if cached else self.prepared.lengths,
            batch_size=options.batch_size,
            epochs=epochs,
            steps=steps,
            evaluate=progress_evaluation(self.task, self.state, model, self._validation_batches(cached))
            if len(self.validation)
            else None,
        ), cached is not None

    def _may_cache(self) -> bool:
        """Tells whether nothing random touches what the frozen trunk sees.

        A head that is only the first stage learns without augmentation. Where it is all there is, augmentation that was
        asked for is made, and `--input.augment=auto` asks for none.
        """
        options = self.experiment
        only = not options.train.epochs or options.train.unfreeze == "none"
        random = options.input.views > 1 or (only and bool(self.ops) and options.input.augment != "auto")
        return self.task.caches_features and not random

    def _features(self) -> CachedFeatures | None:
        return cache_features(
            self.assembly.trunks,
            self.prepared,
            np.concatenate([self.train, self.validation]),
            batch_size=EVALUATION_BATCH,
            task=self.task,
            state=self.state,
            console=self.console,
        )

    def _training_batches(self, rows: Any, cached: CachedFeatures | None) -> tf.data.Dataset:
        batch_size = self.experiment.train.batch_size
        if cached:
            return cached.training_batches(rows, batch_size=batch_size)
        augmentation = Augmentation(ops=self.ops, views=self.experiment.input.views, seed=self.experiment.train.seed)
        return training_batches(
            self.prepared, rows, batch_size=batch_size, task=self.task, state=self.state, augmentation=augmentation
        )

    def _validation_batches(self, cached: CachedFeatures | None) -> tf.data.Dataset:
        largest = CACHED_EVALUATION_BATCH if cached else EVALUATION_BATCH
        lengths = None if cached else self.prepared.lengths
        rows = evaluation_plan(self.validation, batch_size=min(largest, len(self.validation)), lengths=lengths)
        if cached:
            return cached.evaluation_batches(rows)
        return evaluation_batches(self.prepared, rows, task=self.task, state=self.state)


def to_progress(state: Mapping[str, Any]) -> Progress:
    """Makes a Progress of a checkpoint's plain values."""
    return Progress(**{**state, "pending": [tuple(pair) for pair in state["pending"]]})
