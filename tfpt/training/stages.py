"""Head first, then unfreeze: the stages of a run, and what is carried from one to the next.

The head alone learns on features of the frozen backbone, which are computed once; then the chosen layers train with it.
The order keeps the pretrained features whole while the head is still random (Kumar et al., "Fine-Tuning can Distort
Pretrained Features and Underperform Out-of-Distribution", ICLR 2022).
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpt import registry
from tfpt.augment import Op
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.engines import _choice
from tfpt.errors import UserError
from tfpt.tasks import State, Task
from tfpt.training import checkpoints, freezing, init_from, lora, strategies
from tfpt.training.assembly import Assembly, copy_variables, seeded
from tfpt.training.averages import Averages
from tfpt.training.cached_features import CachedFeatures
from tfpt.training.checkpoints import Checkpoints, Saved
from tfpt.training.engine_evaluation import TENSORFLOW, EngineEvaluation
from tfpt.training.evaluate import ProgressEvaluation, progress_evaluation
from tfpt.training.exact_head import solve
from tfpt.training.feature_cache import FeatureCache, Wish
from tfpt.training.feature_key import Traced
from tfpt.training.feature_store import FeatureStore
from tfpt.training.loop import Hooks, Stage, is_better, train_stage
from tfpt.training.pipeline import Augmentation, Prepared, evaluation_batches, training_batches
from tfpt.training.plan import TrainingPlan, evaluation_plan
from tfpt.training.prefix import Cut, cut_all, cut_trunks
from tfpt.training.progress import Progress, to_progress
from tfpt.training.recipe import ADAPTERS, Part, recipe
from tfpt.training.strategies import synchronise_batch_norm
from tfpt.training.updates import Updates
from tfpt.weights.home import home

EVALUATION_BATCH = 64
EVALUATION_TOKENS = 2**13
"""Of texts more go at a time where they are short: weights are rounded to bfloat16 for each batch anew."""
CACHED_EVALUATION_BATCH = 1024
ANEW = "anew"
"""In place of an engine's name: what is frozen is computed in each step."""
_MODEL = "model"
"""Of validation: the model itself computes it."""


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
        labels: class of each example by its index; None where examples have no single class.
        digests: of the examples' contents by their index; None: what is frozen is not kept for later runs.
        engines: what computed the frozen part of each stage when it began, engine and precision, by the stage's name, and what
            computed validation, by that and ` validation`; of one that goes on, the same is taken.
        keep_engines: gets them when a stage begins.
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
    labels: np.ndarray | None = None
    digests: Sequence[bytes] | None = None
    engines: dict[str, str] = dataclasses.field(default_factory=dict)
    keep_engines: Callable[[dict[str, str]], None] = lambda engines: None

    def run(self) -> tuple[Progress, dict[str, float]]:
        """Trains all stages, going on from the last checkpoint if there is one.

        Returns:
            The progress at the end, and seconds by stage.
        """
        options = self.experiment.train
        saved = self.saver.latest(console=self.console)
        checkpoints.check_seen_by_all(saved, self.saver.folder)
        progress = to_progress(saved.state) if saved else Progress()
        self.prepared.failed.update(progress.failed)
        self.saver.forget_after(progress.order)
        self.hooks.begin(progress.history)
        timings: dict[str, float] = {}
        hooks = self._hooks_that_tell_the_first_step()
        if options.init_from:
            init_from.load(self.assembly, self.state, options.init_from, console=self.console)
        parts = self.parts()
        for number, part in enumerate(parts):
            if not part.epochs or progress.stage > number:
                continue
            if progress.stage < number:
                progress = progress.next_stage(number, epochs_before=sum(one.epochs for one in parts[:number]))
                saved = None
            steps = self._bounded(
                part.epochs * self._plan(frozen=part.frozen, lengths=self.prepared.lengths).steps, progress
            )
            if not steps:
                continue
            started = time.monotonic()
            if number and not saved:
                self.saver.save(progress.order, self._weights(), {}, name="carried")
            if number and saved:  # a checkpoint holds only what its own stage trains
                begun = self._carried(progress)
                if begun:
                    checkpoints.restore(begun.folder, self._weights())
            if part.unfreeze == ADAPTERS:
                with seeded(options.seed):
                    lora.add(self.assembly.trunks, options, console=self.console)
            stage, cached = self.make_stage(part, steps)
            progress.failed = sorted({*progress.failed, *self.prepared.failed})
            if saved:
                checkpoints.restore(saved.folder, stage.variables())
                self.console.say(f"Going on from step {progress.step} of {stage.steps} in stage {part.name}.")
            else:
                self.saver.save(progress.order, stage.variables(), dataclasses.asdict(progress))
            if part.frozen and options.head_solver == "exact" and progress.step < stage.steps:
                self._solve(stage, progress, cached)
            train_stage(stage, progress, options, self.saver, self.console, hooks)
            if stage.model is not self.assembly.model:
                copy_variables(self._around(stage.model).head_variables(), self.assembly.head_variables())
            lora.merge(self.assembly.trunks)
            self._keep_carried(progress, part)
            timings[part.name] = time.monotonic() - started
        return progress, timings

    def _hooks_that_tell_the_first_step(self) -> Hooks:
        told = False

        def status(progress: Progress) -> None:
            nonlocal told
            if not told:
                self.console.say(f"The first step was done {self.console.seconds():.1f} s after the start.")
            told = True
            self.hooks.status(progress)

        return dataclasses.replace(self.hooks, status=status)

    def parts(self) -> tuple[Part, ...]:
        """Returns the stages of the run.

        Raises:
            UserError: no layer can have the adapters that are wanted.
        """
        assembly, options = self.assembly, self.experiment.train
        if options.lora_rank:
            lora.targets(assembly.trunks, options)
        groups = [len(backbone.groups(assembly.trunks[name].network)) for name, backbone in assembly.backbones.items()]
        return recipe(options, groups=min(groups))

    def _solve(self, stage: Stage, progress: Progress, cached: CachedFeatures | None) -> None:
        if cached is None:
            raise UserError(
                "--train.head_solver=exact needs the features of all examples at once: write --input.feature_cache=on and "
                "--input.augment=none, or --train.head_solver=gradient."
            )
        seed = self.experiment.train.seed
        solve(stage, progress, cached, seed=seed, saver=self.saver, console=self.console, hooks=self.hooks)

    def _around(self, model: keras.Model) -> Assembly:
        return dataclasses.replace(self.assembly, model=model)

    def _weights(self) -> list[tf.Variable]:
        return [v.value for v in self.assembly.model.variables]

    def _keep_carried(self, progress: Progress, part: Part) -> None:
        """Goes back to the weights that the stage began with, if validation was better then."""
        primary, carried, best = self.task.primary_of(self.state), progress.carried, progress.best
        if not carried or not best or is_better(best, carried, primary):
            return
        saved = self._carried(progress)
        if saved:
            earlier = "The head alone" if part.name == "fine_tune" and progress.stage == 1 else "The stage before"
            self.console.say(
                f"{earlier} was better on validation ({primary.name} {carried[primary.name]:.4f} against "
                f"{best[primary.name]:.4f}): its weights are kept."
            )
            checkpoints.restore(saved.folder, self._weights())
            progress.best = carried

    def _carried(self, progress: Progress) -> Saved | None:
        """Returns the weights that the stage began with; those of no other stage, where they are damaged."""
        saved = self.saver.find((progress.stage, progress.total_steps - progress.step), name="carried")
        checkpoints.check_seen_by_all(saved, self.saver.folder)
        if saved is None:
            self.console.warn("The checkpoint of the weights that the stage began with is damaged and is not used.")
        return saved

    def _bounded(self, steps: int, progress: Progress) -> int:
        bound = self.experiment.train.steps
        return min(steps, max(0, bound - (progress.total_steps - progress.step))) if bound else steps

    def _plan(self, *, frozen: bool, lengths: np.ndarray | None = None) -> TrainingPlan:
        options = self.experiment
        if self.labels is None and options.input.sampling != "natural":
            raise UserError(
                f"--input.sampling={options.input.sampling}: the examples of --data={options.data} have no single class; write natural."
            )
        return TrainingPlan(
            examples=self.train,
            batch_size=options.train.batch_size,
            seed=options.train.seed,
            lengths=lengths if options.input.length_buckets == "auto" else None,
            tokens=0 if frozen else options.input.tokens_per_batch,
            multiple=options.train.accumulate,
            replicas=tf.distribute.get_strategy().num_replicas_in_sync,
            labels=self.labels,
            sampling=options.input.sampling,
        )

    def make_stage(self, part: Part, steps: int) -> tuple[Stage, CachedFeatures | None]:
        """Returns a stage of so many updates, and the features of what is frozen in it, where they are computed once."""
        options, optim, frozen = self.experiment.train, self.experiment.optim, part.frozen
        batch_norm = {
            "train": True,
            "frozen": False,
            "auto": options.batch_size // options.accumulate >= freezing.SMALLEST_BATCH_FOR_STATISTICS,
        }
        unfreeze = part.unfreeze
        freezing.set_trainable(self.assembly, unfreeze=unfreeze, train_batch_norm=batch_norm[options.batch_norm])
        changed = freezing.fit_batch_norm_momentum(self.assembly, steps=steps)
        if changed:
            self.console.say(
                f"Batch normalisation trains with momentum {changed[1]:.3f} instead of {changed[0]:.3f}, to fit {steps} updates."
            )
        ops = self._ops(part)
        cuts = self._cuts()
        cached = self._features(part, cuts, ops) if cuts else None
        if cached is None or not (frozen or cached.found) or self.prepared.failed:
            # What cannot be decoded is better found before a long training than after, and all of it at once. Where an earlier
            # run has left what is frozen, only examples to test with are not known to decode.
            self.prepared.complete(console=self.console, what="Preparing examples")
        failed = np.array(sorted(self.prepared.failed), np.int64)
        self.hooks.failed(failed)
        if np.isin(self.train, failed).all():
            raise UserError(f"None of the {len(self.train)} training examples can be decoded; mend them.")
        validation = self.validation[~np.isin(self.validation, failed)]
        model = self.assembly.model
        if cuts:
            with seeded(options.seed):
                model = self.task.build(cut_trunks(cuts, recompute=cached is None), self.state)
            copy_variables(self.assembly.head_variables(), self._around(model).head_variables())
        if self.ops and not ops and options.epochs and options.unfreeze != "none":
            self.console.say(
                "Random changes of examples start with the second stage: the head learns on features computed once."
            )
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            synchronise_batch_norm(model)
        multiplier = 1.0 if frozen else optim.head_multiplier
        groups = freezing.rate_groups(self._around(model), optim, unfreeze=unfreeze, head_multiplier=multiplier)
        updates = Updates(
            groups,
            optim,
            learning_rate=optim.head_learning_rate if frozen else optim.learning_rate,
            steps=steps,
            loss_scaling=self.precision == "float16",
        )
        plan = self._plan(frozen=frozen, lengths=self.prepared.lengths)
        return Stage(
            name=part.name,
            model=model,
            task=self.task,
            primary=self.task.primary_of(self.state),
            updates=updates,
            averages=Averages(model.variables, decay=options.ema) if options.ema else None,
            batches=lambda rows: self._training_batches(rows, cached, ops, plan.width),
            plan=plan,
            epochs=part.epochs,
            steps=steps,
            evaluate=self._evaluation(part, model, validation, cached, updates=steps, an_epoch=plan.steps)
            if len(validation)
            else None,
            faster_input=self._faster_input(cached, ops),
        ), cached

    def _evaluation(
        self,
        part: Part,
        model: keras.Model,
        validation: np.ndarray,
        cached: CachedFeatures | None,
        *,
        updates: int,
        an_epoch: int,
    ) -> ProgressEvaluation | EngineEvaluation:
        options = self.experiment.runtime
        plain = progress_evaluation(self.task, self.state, model, self._validation_batches(validation, cached))
        several = tf.distribute.has_strategy() or strategies.current().workers > 1
        only_head = cached is not None and part.frozen
        if options.engine == TENSORFLOW or only_head or several or tf.config.list_physical_devices("GPU"):
            return plain
        name = f"{part.name} validation"
        engine, _, precision = self.engines.get(name, "").partition(" ")
        as_asked = options.engine in ("auto", engine) and (
            engine == TENSORFLOW or options.engine_precision in ("auto", precision)
        )

        def keep(decided: str) -> None:
            self.engines[name] = decided
            self.keep_engines(self.engines)

        own = {id(v) for v in model.variables}
        return EngineEvaluation(
            plain,
            model,
            still=[v for v in self.assembly.model.variables if id(v) not in own],
            wanted=options.engine,
            precision=options.engine_precision,
            trained_in=self.precision,
            threads=options.threads,
            examples=len(validation),
            times=-(-updates // (self.experiment.train.evaluate_every or an_epoch)),
            begun=self.engines.get(name, "") if as_asked else "",
            keep=keep,
        )

    def _faster_input(self, cached: CachedFeatures | None, ops: tuple[Op, ...]) -> str:
        ways = ["lighten --input.augment"] if ops else []
        if cached is None and self.experiment.input.cache != "memory":
            ways.append("set --input.cache=memory, where that fits")
        return ", ".join([*ways, "or give it more CPU cores" if ways else "give it more CPU cores"])

    def _ops(self, part: Part) -> tuple[Op, ...]:
        """Returns the augmentation of a stage.

        A head that is only the first stage learns without, on features computed once. Where it is all there is, augmentation
        that was asked for is made, and `--input.augment=auto` asks for none. `--input.cached_views` asks for it everywhere.
        """
        options = self.experiment
        only = not options.train.epochs or options.train.unfreeze == "none"
        asked = options.input.cached_views or (only and options.input.augment != "auto")
        return () if part.frozen and not asked and self._may_cut() else self.ops

    def _may_cut(self) -> bool:
        return self.task.caches_features and self.experiment.input.views == 1

    def _cuts(self) -> dict[str, Cut] | None:
        """Returns where what is frozen now ends; None where there is nothing, or the task needs the trunks as they are."""
        return cut_all(self.assembly.trunks) if self._may_cut() else None

    def _features(self, part: Part, cuts: Mapping[str, Cut], ops: tuple[Op, ...]) -> CachedFeatures | None:
        options = self.experiment
        engine, precision = self._begun_with(part)
        if engine == ANEW and options.input.feature_cache == "auto":
            return None
        begun = engine not in ("", ANEW)
        asked = options.runtime.engine, options.runtime.engine_precision
        if strategies.current().workers > 1:  # their clocks would choose differently, and they share each batch
            asked = asked[0].replace("auto", "tensorflow"), asked[1].replace("auto", "float32")
        engine, precision = (engine, precision) if begun else asked
        name = f"{part.name} validation"
        measured = self.measuring is not None and (
            self.engines.get(name) == _MODEL if begun else self._only_tensorflow()
        )
        wish = Wish(
            policy=options.input.feature_cache,
            epochs=part.epochs,
            views=options.input.cached_views if ops else 0,
            ops=ops,
            seed=options.train.seed,
            engine=engine,
            precision=precision,
            exact_validation=options.runtime.engine_precision == "auto",
            measured=measured,
            begun=begun or strategies.current().workers > 1,
            threads=options.runtime.threads,
        )
        traces = self.measuring.traces if self.measuring else {}
        found = self._feature_cache(cuts, wish, traces).features(self.train, self.validation)
        self.engines[part.name] = f"{found.engine} {found.precision}" if found else ANEW
        if found and measured:
            self.engines[name] = _MODEL
        self.keep_engines(self.engines)
        return found

    @functools.cached_property
    def measuring(self) -> FeatureCache | None:
        """What computes, or finds, the features of the examples that measure the model, where its trunks stay as they are."""
        options, together = self.experiment, strategies.current()
        trains = options.train.epochs and options.train.unfreeze != "none"
        apart = together.replicas > 1 or together.workers > 1
        if trains or apart or self.precision != "float32" or options.input.feature_cache == "off":
            return None
        freezing.set_trainable(self.assembly, unfreeze="none", train_batch_norm=False)
        cuts = self._cuts()
        return self._feature_cache(cuts, Wish(epochs=1, threads=options.runtime.threads), {}) if cuts else None

    def _only_tensorflow(self) -> bool:
        """Tells whether validation runs on TensorFlow in float32 anyway: another engine is done with it before it is asked for."""
        asked = self.experiment.runtime
        alone = _choice.candidates(asked.engine, precision="float32") == [TENSORFLOW]
        return alone and asked.engine_precision != "bfloat16"

    def _feature_cache(self, cuts: Mapping[str, Cut], wish: Wish, traces: dict[str, Traced]) -> FeatureCache:
        return FeatureCache(
            cuts=cuts,
            prepared=self.prepared,
            digests=self.digests,
            task=self.task,
            state=self.state,
            wish=wish,
            store=FeatureStore(),
            memory=home() / "engines.json",
            console=self.console,
            traces=traces,
        )

    def _begun_with(self, part: Part) -> tuple[str, str]:
        """Returns the engine and the precision that computed the frozen part of a stage when it began; empty where that is not known,
        or something else is asked for."""
        engine, _, precision = self.engines.get(part.name, "").partition(" ")
        asked = self.experiment.runtime
        if asked.engine not in ("auto", engine) or asked.engine_precision not in ("auto", precision):
            return "", ""
        if engine not in ("", ANEW) and not registry.find("engine", engine).version():
            self.console.warn(
                f"The stage began with features that {engine} computed, which cannot run here; others differ by rounding."
            )
            return "", ""
        return engine, precision

    def _training_batches(
        self, rows: Any, cached: CachedFeatures | None, ops: tuple[Op, ...], width: int | None
    ) -> tf.data.Dataset:
        if cached:
            return cached.training_batches(rows, width=width)
        augmentation = Augmentation(ops=ops, views=self.experiment.input.views, seed=self.experiment.train.seed)
        return training_batches(
            self.prepared, rows, width=width, task=self.task, state=self.state, augmentation=augmentation
        )

    def _validation_batches(self, validation: np.ndarray, cached: CachedFeatures | None) -> tf.data.Dataset:
        varies = self.prepared.lengths is not None and (cached is None or cached.train.varies)
        largest = CACHED_EVALUATION_BATCH if cached and cached.train.small else EVALUATION_BATCH
        if varies and self.prepared.lengths is not None:
            longest = int(self.prepared.lengths[validation].max())
            largest = max(EVALUATION_BATCH, min(EVALUATION_TOKENS // longest, 2 * EVALUATION_BATCH))
        batches = -(-len(validation) // largest)
        width = -(-len(validation) // batches)  # filled alike: else the last may be nearly empty
        rows = evaluation_plan(validation, batch_size=width, lengths=self.prepared.lengths)
        if cached:
            return cached.evaluation_batches(rows)
        return evaluation_batches(self.prepared, rows, task=self.task, state=self.state)
