"""Trains one experiment; ends with the float32 model that is measured and exported."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.training import data_record, freezing, strategies, weights_record
from tfpt.training.assembly import Assembly, assemble, copy_variables
from tfpt.training.checkpoints import Checkpoints, restore
from tfpt.training.feature_cache import FeatureCache
from tfpt.training.loop import Hooks
from tfpt.training.machine import free_memory
from tfpt.training.pipeline import evaluation_batches, give_one_shape
from tfpt.training.plan import evaluation_plan
from tfpt.training.precision import choose_precision, measured_speedup
from tfpt.training.progress import Progress, to_progress
from tfpt.training.run_folder import RunFolder
from tfpt.training.setting import Setting
from tfpt.training.split_file import write_csv
from tfpt.training.stages import Training

WORTH_MEASURING = 100
"""With fewer updates after the head, measuring which precision is faster costs more than it can save."""
MEASURED_BATCH = 32
SHARE_OF_MEMORY = 0.25
"""`--input.cache=auto` keeps prepared examples when they take less than this share of the memory that is free."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The outcome of training.

    Attributes:
        assembly: the float32 model with the best weights.
        progress: where training ended, with its history.
        timings: seconds by part of the run.
        features: of the examples that measure the model, where its trunks stayed as they were.
    """

    assembly: Assembly
    progress: Progress
    timings: dict[str, float]
    features: FeatureCache | None = None


def train(setting: Setting, folder: RunFolder, *, console: Console) -> Trained:
    """Trains from where the run folder stands, and returns the float32 model.

    Raises:
        UserError: too many examples do not decode, or the model cannot be unfrozen as asked.
    """
    experiment = setting.experiment
    timings: dict[str, float] = {}
    classes = setting.source.info().classes
    if folder.writes:
        write_csv(folder.path / "splits.csv", setting.index, setting.digests, setting.splits, classes=classes)
    folder.write_json(data_record.FILE, setting.data_record)
    started = time.monotonic()
    keep_prepared(setting, folder, console=console)
    timings["prepare data"] = time.monotonic() - started
    saver = Checkpoints(
        folder.path / "checkpoints",
        keep=experiment.train.keep_checkpoints,
        writes=folder.writes,
        remote=folder.remote,
    )
    final = saver.latest(console=console, name="final")
    if final:
        assembly = _assemble(setting, "float32")
        restore(final.folder, [v.value for v in assembly.model.variables])
        progress = to_progress(final.state["progress"])
        setting.prepared.failed.update(progress.failed)
        features = _training(setting, folder, assembly, "float32", saver=saver, console=console).measuring
        return Trained(assembly=assembly, progress=progress, timings=final.state["timings"], features=features)
    together = strategies.current()
    started = time.monotonic()
    with together.chief_first():
        precision, reason = _precision(setting, folder)
    arithmetics = together.of_chief({name: name == precision for name in ("float32", "bfloat16", "float16")})
    precision = max(arithmetics, key=lambda name: arithmetics[name])  # another machine may have measured otherwise
    strategies.check(experiment.train, replicas=together.replicas, precision=precision)
    console.say(f"Training on {together.device_name()} in {precision} ({reason}).")
    with together.scope():
        assembly = _assemble(setting, precision)
        began_with = weights_record.describe(assembly, head=setting.head, init_from=experiment.train.init_from)
        weights_record.check_same(folder.path, began_with, console=console)
        folder.write_json(weights_record.FILE, {**began_with, weights_record.MACHINE: weights_record.where_made()})
        timings["load backbone"] = time.monotonic() - started
        for backbone in setting.backbones.values():
            for note in backbone.loading_notes():
                console.say(note)
        freezing.set_trainable(
            assembly, unfreeze=experiment.train.unfreeze, train_batch_norm=True
        )  # a mistake is told now
        momenta = freezing.batch_norm_momenta(assembly)
        training = _training(setting, folder, assembly, precision, saver=saver, console=console)
        progress, stages = training.run()
    timings |= stages
    setting.task.finish(assembly.model, setting.source)
    if precision != "float32" or together.replicas > 1:
        exact = _assemble(setting, "float32")
        copy_variables(assembly.model.variables, exact.model.variables)
        assembly = exact
        training = dataclasses.replace(training, assembly=exact, precision="float32")
    else:
        for layer, momentum in momenta:
            layer.momentum = momentum  # what whoever reuses the trunk expects
    saver.save(
        progress.order,
        [v.value for v in assembly.model.variables],
        {"progress": dataclasses.asdict(progress), "timings": timings},
        name="final",
    )
    return Trained(assembly=assembly, progress=progress, timings=timings, features=training.measuring)


def _training(
    setting: Setting, folder: RunFolder, assembly: Assembly, precision: str, *, saver: Checkpoints, console: Console
) -> Training:
    return Training(
        experiment=setting.experiment,
        task=setting.task,
        state=setting.state,
        assembly=assembly,
        prepared=setting.prepared,
        train=_decodable(setting, setting.splits.train),
        validation=_decodable(setting, setting.splits.validation),
        ops=setting.ops,
        precision=precision,
        saver=saver,
        console=console,
        hooks=_hooks(setting, folder),
        labels=setting.index.labels,
        digests=setting.digests,
        engines=folder.read_json("engines.json") or {},
        keep_engines=lambda engines: folder.write_json("engines.json", engines),
    )


def _precision(setting: Setting, folder: RunFolder) -> tuple[str, str]:
    """Chooses the precision; a run that goes on keeps what it began with."""
    options = setting.experiment.train
    decided = folder.read_json("precision.json")
    if decided and options.precision == "auto":
        return decided["precision"], decided["reason"]
    updates = options.epochs * len(setting.splits.train) // options.batch_size
    long = options.unfreeze != "none" and updates >= WORTH_MEASURING
    size = min(MEASURED_BATCH, max(1, options.batch_size // options.accumulate))
    key = f"step {size} {options.unfreeze} {sorted(map(str, setting.experiment.backbone.items()))} {setting.experiment.input}"

    def step(precision: str) -> Callable[[], Any]:
        assembly = _assemble(setting, precision)
        freezing.set_trainable(
            assembly, unfreeze=options.unfreeze, train_batch_norm=True
        )  # the others need no gradient
        model = assembly.model
        rows = evaluation_plan(setting.splits.train[:size], batch_size=size)
        batch = next(iter(evaluation_batches(setting.prepared, rows, task=setting.task, state=setting.state)))

        def gradients() -> Any:
            with tf.GradientTape() as tape:
                loss_sum, _, _ = setting.task.loss(model, batch, True)
            return tape.gradient(loss_sum, [v.value for v in model.trainable_variables], unconnected_gradients="zero")

        call = tf.function(gradients, autograph=False)
        return lambda: tf.convert_to_tensor(call()[0]).numpy()

    precision, reason = choose_precision(
        options.precision, speedup=(lambda: measured_speedup(step, key=key)) if long else None
    )
    folder.write_json("precision.json", {"precision": precision, "reason": reason})
    return precision, reason


def keep_prepared(setting: Setting, folder: RunFolder, *, console: Console) -> None:
    """Sees to it that examples are prepared once and kept in memory, where the cache is on.

    Texts are prepared here: batches of like lengths need their lengths. What all have one shape is prepared when it is first
    read, so that decoding goes along with the pass through what is frozen, and is not done at all where that was kept.

    Whether it is on is decided once a run and written down: batches are planned by what is known of the examples, so a
    resumed run must know the same.
    """
    splits, prepared, options = setting.splits, setting.prepared, setting.experiment.input
    if options.tokens_per_batch and any(getattr(p, "first_length", 0) for p in prepared.preprocessors):
        raise UserError(
            f"--input.tokens_per_batch={options.tokens_per_batch} counts the tokens of whole texts, and this task reads "
            "them in windows that overlap; leave it out, and choose --train.batch_size."
        )
    one_shape = options.pad_to == "data" or (options.pad_to == "auto" and strategies.current().is_tpu)
    if options.tokens_per_batch and one_shape:
        raise UserError(
            f"--input.tokens_per_batch={options.tokens_per_batch} makes batches of different shapes, and a TPU needs one; leave it out, and "
            "choose --train.batch_size."
        )
    examples = np.concatenate([splits.train, splits.validation, splits.test])
    cache = options.cache
    decided = folder.read_json("prepared.json") or {}
    keep = decided.get("kept", cache == "memory")
    if cache == "auto" and not decided:
        size, free = prepared.bytes_per_example() * len(examples), free_memory()
        keep = size <= free * SHARE_OF_MEMORY
        if not keep:
            console.say(
                f"Examples are prepared anew in each epoch: in memory they would take {size / 2**30:.1f} GiB, over a "
                f"quarter of the {free / 2**30:.1f} GiB that are free."
            )
    keep = bool(strategies.current().of_chief({"keep": keep})["keep"])
    if keep and prepared.can_keep_as_read:
        prepared.keep_as_read(examples)
    elif keep:
        prepared.keep(examples, console=console, what="Preparing examples", digests=setting.digests)
        check_failed(setting)
    if options.tokens_per_batch and prepared.lengths is None:
        way_out = (
            "write --input.cache=memory, or take fewer texts or a smaller --input.max_length"
            if cache == "auto" and not keep and not prepared.can_keep_as_read
            else "with pictures leave it out, with texts do not set --input.cache=off"
        )
        raise UserError(
            f"--input.tokens_per_batch={options.tokens_per_batch} needs texts that are kept in memory: {way_out}."
        )
    if options.tokens_per_batch and prepared.lengths is not None:
        lengths, parts = prepared.lengths[splits.train], setting.experiment.train.accumulate
        longer = np.count_nonzero(lengths * parts > options.tokens_per_batch)
        if longer:
            least = f" in each of --train.accumulate={parts} parts" if parts > 1 else ""
            console.warn(
                f"{longer} of {len(lengths)} training texts do not fit into --input.tokens_per_batch={options.tokens_per_batch}{least}, the "
                f"longest has {lengths.max()} tokens: none is left out, so such batches are larger."
            )
    truncated = decided["truncated"] if "truncated" in decided else prepared.truncated(examples)
    for name, share in truncated.items():
        if share:
            length = next(p.size for p in prepared.preprocessors if p.feature == name)
            console.say(
                f"{share:.1%} of the examples have a {name} longer than {length} tokens, which is cut (--input.max_length)."
            )
    folder.write_json("prepared.json", {"kept": keep, "truncated": truncated})
    if one_shape:
        give_one_shape(prepared, examples, task=setting.task, state=setting.state, views=options.views, console=console)


def check_failed(setting: Setting) -> None:
    """Stops when more examples than `--input.max_bad_fraction` could not be decoded.

    Raises:
        UserError: it names the first of them.
    """
    failed, total = setting.prepared.failed, len(setting.index.names)
    allowed = setting.experiment.input.max_bad_fraction
    if len(failed) > allowed * total:
        shown = ", ".join(setting.index.names[k] for k in sorted(failed)[:5])
        raise UserError(
            f"{len(failed)} of {total} examples cannot be decoded, more than --input.max_bad_fraction={allowed:g} allows: {shown}"
            f"{', ...' if len(failed) > 5 else ''}; mend or remove them, or allow more and they are left out."
        )


def _decodable(setting: Setting, examples: np.ndarray) -> np.ndarray:
    return examples[~np.isin(examples, sorted(setting.prepared.failed))]


def _assemble(setting: Setting, precision: str) -> Assembly:
    assembly = assemble(
        setting.task,
        setting.state,
        setting.backbones,
        setting.preprocessors,
        precision=precision,
        seed=setting.experiment.train.seed,
    )
    if setting.head:
        setting.head.load(assembly.model)
    return assembly


def _hooks(setting: Setting, folder: RunFolder) -> Hooks:
    last = 0.0

    def status(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > 5:
            folder.write_status("running", progress)
            last = time.monotonic()

    def failed(examples: np.ndarray) -> None:
        if len(examples):
            setting.prepared.failed.update(int(k) for k in examples)
            check_failed(setting)

    return Hooks(row=folder.add_row, begin=folder.begin_history, status=status, failed=failed)
