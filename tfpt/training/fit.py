"""Trains one experiment: data, splits, model, stages; ends with the float32 model that is measured and exported."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfpt import augment
from tfpt.backbones import Backbone
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.data import DataSource, Index
from tfpt.errors import UserError
from tfpt.preprocessors import Preprocessor, distinct
from tfpt.tasks import State, Task
from tfpt.training.assembly import Assembly, assemble, copy_variables
from tfpt.training.checkpoints import Checkpoints, restore
from tfpt.training.interrupts import deferred_interrupts
from tfpt.training.loop import Hooks, Progress
from tfpt.training.pipeline import Prepared
from tfpt.training.precision import choose_precision
from tfpt.training.run_folder import RunFolder, data_digest
from tfpt.training.split_file import write_csv
from tfpt.training.splits import Splits, split
from tfpt.training.stages import Training, to_progress

SHARE_OF_MEMORY = 0.25
"""`--input.cache=auto` keeps prepared examples when they take less than this share of the memory that is free."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that is known before anything is trained.

    Attributes:
        experiment: the settings.
        task: what is learned.
        state: of the task.
        source: the data.
        index: its table of examples.
        splits: which example is where.
        digests: `[examples]`, of their contents.
        backbones: by trunk name.
        preprocessors: by trunk name.
        prepared: the examples after the host half.
        ops: augmentation.
        notes: what the user should know about the data.
    """

    experiment: Experiment
    task: Task
    state: State
    source: DataSource
    index: Index
    splits: Splits
    digests: Sequence[bytes]
    backbones: Mapping[str, Backbone]
    preprocessors: Mapping[str, Preprocessor]
    prepared: Prepared
    ops: tuple[augment.Op, ...]
    notes: tuple[str, ...]


def set_up(experiment: Experiment, *, console: Console) -> Setting:
    """Makes the components and reads the data's table; loads no weights.

    Raises:
        UserError: something does not fit.
    """
    task = experiment.task.make()
    backbones = {name: component.make() for name, component in experiment.backbone.items()}
    source = experiment.data.make()
    info = source.info()
    preprocessors = {}
    for name, backbone in backbones.items():
        spec = backbone.spec()
        if spec.modality not in task.modalities:
            raise UserError(
                f"--backbone={experiment.backbone[name]} is for {spec.modality}, and --task={experiment.task} needs {' or '.join(task.modalities)}."
            )
        preprocessor = backbone.preprocessor(experiment.input)
        if name != preprocessor.feature and info.features.get(name) == spec.modality:
            preprocessor = preprocessor.reading(name)  # the data has a feature for this very trunk
        preprocessor = preprocessor.for_features(info.features)
        missing = [feature for feature in preprocessor.raw_features if feature not in info.features]
        if missing:
            raise UserError(
                f"--data={experiment.data} has no {missing[0]}, which --backbone={experiment.backbone[name]} reads; "
                f"it has {', '.join(info.features)}."
            )
        preprocessors[name] = preprocessor
    index = source.index()
    digests = source.digests()
    splits = split(index, digests, experiment.input, classes=info.classes)
    notes = (*info.notes, *splits.notes)
    console.say(
        f"{info.size} examples{f' of {len(info.classes)} classes' if info.classes else ''}: {len(splits.train)} train, "
        f"{len(splits.validation)} validation, {len(splits.test)} test."
    )
    for note in notes:
        console.say(note)
    wanted = task.default_augment if experiment.input.augment == "auto" else experiment.input.augment
    return Setting(
        experiment=experiment,
        task=task,
        state=task.adapt(source, splits.train),
        source=source,
        index=index,
        splits=splits,
        digests=digests,
        backbones=backbones,
        preprocessors=preprocessors,
        prepared=Prepared(source, distinct(preprocessors), threads=experiment.runtime.threads or os.cpu_count() or 1),
        ops=_ops(wanted, info.features),
        notes=notes,
    )


def _ops(text: str, features: Mapping[str, str]) -> tuple[augment.Op, ...]:
    ops = augment.parse(text)
    geometry = {"image", "boxes", "masks"}
    for op in ops:
        if op.moves and not op.moves & set(features):
            raise UserError(
                f"--input.augment={text}: {type(op).__name__} changes {' or '.join(sorted(op.moves))}, which this data does "
                f"not have; it has {', '.join(features)}."
            )
        left = (geometry & set(features)) - op.moves if op.moves & geometry else set()
        if left:
            raise UserError(
                f"--input.augment={text}: {type(op).__name__} cannot move the {', '.join(sorted(left))} of this data."
            )
    return ops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """The outcome of training.

    Attributes:
        assembly: the float32 model with the best weights.
        progress: where training ended, with its history.
        timings: seconds by part of the run.
    """

    assembly: Assembly
    progress: Progress
    timings: dict[str, float]


def train(setting: Setting, folder: RunFolder, *, console: Console) -> Trained:
    """Trains from where the run folder stands, and returns the float32 model."""
    experiment = setting.experiment
    timings: dict[str, float] = {}
    _write_data(setting, folder)
    started = time.monotonic()
    keep_prepared(setting, console=console)
    timings["prepare data"] = time.monotonic() - started
    saver = Checkpoints(folder.path / "checkpoints", keep=experiment.train.keep_checkpoints)
    final = saver.latest(console=console, name="final")
    if final:
        assembly = _assemble(setting, "float32")
        restore(final.folder, [v.value for v in assembly.model.variables])
        return Trained(assembly=assembly, progress=to_progress(final.state["progress"]), timings=final.state["timings"])
    started = time.monotonic()
    precision, reason = choose_precision(experiment.train.precision)
    console.say(f"Training on {_device()} in {precision} ({reason}).")
    assembly = _assemble(setting, precision)
    timings["load backbone"] = time.monotonic() - started
    with deferred_interrupts() as interrupted:
        training = Training(
            experiment=experiment,
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
            hooks=_hooks(setting, folder, interrupted),
        )
        saved = saver.latest(console=console)
        folder.begin_history(saved.state["history"] if saved else [])
        progress, stages = training.run()
    timings |= stages
    setting.task.finish(assembly.model, setting.source)
    if precision != "float32":
        exact = _assemble(setting, "float32")
        copy_variables(assembly.model.variables, exact.model.variables)
        assembly = exact
    saver.save(
        progress.order,
        [v.value for v in assembly.model.variables],
        {"progress": dataclasses.asdict(progress), "timings": timings},
        name="final",
    )
    return Trained(assembly=assembly, progress=progress, timings=timings)


def keep_prepared(setting: Setting, *, console: Console) -> None:
    """Prepares all examples once and keeps them in memory, where the cache is on; finds those that do not decode."""
    splits, prepared = setting.splits, setting.prepared
    examples = np.concatenate([splits.train, splits.validation, splits.test])
    size = prepared.bytes_per_example() * len(examples)
    room = _free_memory() * SHARE_OF_MEMORY
    cache = setting.experiment.input.cache
    if cache == "off" or (cache == "auto" and size > room):
        console.say(
            f"Examples are prepared anew in each epoch: in memory they would take {size / 2**30:.1f} GiB"
            + (f", over a quarter of the {_free_memory() / 2**30:.1f} GiB that are free." if cache == "auto" else ".")
        )
        return
    prepared.keep(examples, console=console, what="Preparing examples")
    check_failed(setting)


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
    return assemble(
        setting.task,
        setting.state,
        setting.backbones,
        setting.preprocessors,
        precision=precision,
        seed=setting.experiment.train.seed,
    )


def _hooks(setting: Setting, folder: RunFolder, interrupted: Any) -> Hooks:
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

    return Hooks(row=folder.add_row, status=status, failed=failed, interrupted=interrupted)


def _write_data(setting: Setting, folder: RunFolder) -> None:
    splits, info = setting.splits, setting.source.info()
    write_csv(folder.path / "splits.csv", setting.index, setting.digests, splits, classes=info.classes)
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    labels = setting.index.labels
    counts = {name: len(examples) for name, examples in parts.items()}
    by_class = {
        name: {c: int(n) for c, n in zip(info.classes, np.bincount(labels[examples], minlength=len(info.classes)), strict=True)}
        for name, examples in parts.items()
    } if labels is not None else {}  # fmt: skip
    folder.write_json(
        "data.json",
        {
            "data": str(setting.experiment.data),
            "origin": info.origin,
            "examples": counts,
            "classes": by_class,
            "sha256": data_digest(setting.digests, range(len(setting.digests))),
            "notes": list(setting.notes),
        },
    )


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return f"{name}" if len(gpus) == 1 else f"one of {len(gpus)} {name}"
    return f"the CPU ({os.cpu_count()} cores)"


def _free_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
