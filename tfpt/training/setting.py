"""Everything about an experiment that is known before anything is trained: components, the data's table, splits."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfpt import augment
from tfpt.backbones import Backbone, CheckpointHead
from tfpt.config import Experiment
from tfpt.console import Console
from tfpt.cores import cores
from tfpt.data import DataSource, Index
from tfpt.errors import UserError
from tfpt.preprocessors import Preprocessor, distinct
from tfpt.tasks import State, Task
from tfpt.training import data_record
from tfpt.training.alignment import aligned, named
from tfpt.training.intensity import with_intensity
from tfpt.training.pipeline import Prepared
from tfpt.training.splits import Splits, split
from tfpt.weights.fetch import fetch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that is known before anything is trained.

    Attributes:
        experiment: the settings.
        task: what is learned.
        state: of the task.
        head: what the checkpoint brought along and the task goes on with; None for a new head.
        source: the data.
        index: its table of examples.
        splits: which example is where.
        digests: `[examples]`, of their contents.
        backbones: by trunk name.
        preprocessors: by trunk name.
        prepared: the examples after the host half.
        ops: augmentation.
        data_record: what data.json holds.
        notes: what the user should know about the data.
    """

    experiment: Experiment
    task: Task
    state: State
    head: CheckpointHead | None
    source: DataSource
    index: Index
    splits: Splits
    digests: Sequence[bytes]
    backbones: Mapping[str, Backbone]
    preprocessors: Mapping[str, Preprocessor]
    prepared: Prepared
    ops: tuple[augment.Op, ...]
    data_record: dict[str, Any]
    notes: tuple[str, ...]


def set_up(experiment: Experiment, *, console: Console, offline: bool = False) -> Setting:
    """Makes the components and reads the data's table; loads no weights.

    Only what a trunk must read to say what it is, is fetched: the folder of a Hugging Face checkpoint.

    Raises:
        UserError: something does not fit.
    """
    task = experiment.task.make()
    backbones = {name: component.make() for name, component in experiment.backbone.items()}
    source = experiment.data.make()
    for file in source.data_files():
        fetch(file, offline=offline, console=console)
    info = source.info()
    preprocessors = {}
    for name, backbone in backbones.items():
        for file in backbone.spec_files():
            fetch(file, offline=offline, console=console)
        spec = backbone.spec()
        if spec.modality not in task.modalities:
            raise UserError(
                f"--backbone={experiment.backbone[name]} is for {spec.modality}, and --task={experiment.task} needs {' or '.join(task.modalities)}."
            )
        preprocessor = backbone.preprocessor(experiment.input)
        if name != preprocessor.feature and info.features.get(name) == spec.modality:
            preprocessor = preprocessor.reading(name)  # the data has a feature for this very trunk
        preprocessor = task.adapt_preprocessor(preprocessor.for_features(info.features))
        missing = [feature for feature in preprocessor.raw_features if feature not in info.features]
        if missing:
            raise UserError(
                f"--data={experiment.data} has no {missing[0]}, which --backbone={experiment.backbone[name]} reads; "
                f"it has {', '.join(info.features)}."
            )
        preprocessors[name] = preprocessor
    head, by_order = checkpoint_head(task, backbones), ""
    if head:
        head, by_order = named(head, info.classes)
        source = aligned(source, task.take_head(head), data=str(experiment.data))
        info = source.info()
    index = source.index()
    digests = source.digests()
    splits = split(index, digests, experiment.input, classes=info.classes)
    state = task.adapt(source, splits.train)
    if head:
        state = task.take_head(head, state)
    seen = {
        name: with_intensity(preprocessor, source, splits.train, experiment.input.intensity)
        for name, preprocessor in preprocessors.items()
    }
    preprocessors = {name: preprocessor for name, (preprocessor, _) in seen.items()}
    said = dict.fromkeys(note for note in (by_order, *(note for _, note in seen.values())) if note)
    notes = (*info.notes, *splits.notes, *said, *task.notes(state))
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
        state=state,
        head=head,
        source=source,
        index=index,
        splits=splits,
        digests=digests,
        backbones=backbones,
        preprocessors=preprocessors,
        prepared=Prepared(source, distinct(preprocessors), threads=experiment.runtime.threads or cores()),
        ops=_ops(wanted, info.features),
        data_record=data_record.describe(str(experiment.data), info, index, digests, splits, notes),
        notes=notes,
    )


def checkpoint_head(task: Task, backbones: Mapping[str, Backbone]) -> CheckpointHead | None:
    """Returns the head that the backbone's checkpoint brings along, where `--task.head=checkpoint` asks for it.

    Args:
        task: what is learned.
        backbones: by trunk name.

    Raises:
        UserError: there is none.
    """
    if getattr(task.config, "head", "new") != "checkpoint":
        return None
    head = next(iter(backbones.values())).head() if len(backbones) == 1 else None
    if head is None:
        names = ", ".join(
            f"{type(backbone).__module__.rpartition('.')[2]}:{backbone.argument}" for backbone in backbones.values()
        )
        raise UserError(
            f"--task.head=checkpoint: --backbone={names} brings no head; give the folder of a fine-tuned checkpoint (hf:), or "
            "leave --task.head=new."
        )
    return head


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
