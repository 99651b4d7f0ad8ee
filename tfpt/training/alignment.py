"""Data whose classes are in another order, or fewer, than a model's: matched by name."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.backbones import CheckpointHead
from tfpt.data import DataSource, Index, Info
from tfpt.errors import UserError

_WORDS = {
    "label": "one class an example",
    "labels": "any number of classes an example",
    "tags": "a class for each word",
    "target": "numbers",
}
_LABEL_TYPES = {
    ("label", "labels"): "multi",
    ("label", "target"): "number",
    ("labels", "target"): "number",
    ("target", "label"): "class",
}
"""What --data.label_type makes of the first feature the second, where `auto` did not."""
_FEATURE = {"single": "label", "multi": "labels", "values": "target"}


def aligned(source: DataSource, state: Mapping[str, Any], *, data: str) -> DataSource:
    """Returns the data with labels as a model has them.

    Args:
        source: the data.
        state: of the model's task.
        data: what the user calls the data.

    Raises:
        UserError: it has no labels, labels of another kind, or a class that the model does not know.
    """
    info = source.info()
    there = [name for name in _WORDS if name in info.features]
    wanted = _FEATURE.get(state.get("labels", ""), "")
    if wanted and wanted not in there:
        found = f"holds {_WORDS[there[0]]}" if there else "has no labels"
        label_type = _LABEL_TYPES.get((there[0], wanted)) if there else None
        if label_type and getattr(source.config, "label_type", "") == "auto":
            way_out = f"--data.label_type={label_type} reads the labels so"
        else:
            way_out = "`tfpt predict` answers examples without labels"
        raise UserError(f"--data={data} {found}, and the model answers {_WORDS[wanted]}; {way_out}.")
    if "mean" in state:
        count = _numbers(source)
        if count != len(state["mean"]):
            raise UserError(
                f"--data={data} has {count} numbers an example, and the model answers {len(state['mean'])}."
            )
    if "classes" not in state:
        return source
    if not info.classes:
        raise UserError(
            f"--data={data} has no classes to compare with; `tfpt predict` answers examples without labels."
        )
    return Aligned(source, state["classes"])


class Aligned(DataSource):
    """A source whose labels are indices into a model's classes, or have a column for each of them.

    Args:
        source: the data.
        classes: of the model.

    Raises:
        UserError: the data has a class that the model does not know.
    """

    def __init__(self, source: DataSource, classes: Sequence[str]) -> None:
        super().__init__(source.argument, source.config)
        self.source = source
        self.classes = tuple(classes)
        own = source.info().classes
        numbers, self.note = _matched(own, self.classes)
        self.to_model = np.array(numbers, np.int64)

    def info(self) -> Info:
        """Returns the source's info with the model's classes, and a note where they were not matched by their names."""
        info = self.source.info()
        return dataclasses.replace(info, classes=self.classes, notes=(*info.notes, *([self.note] if self.note else [])))

    def index(self) -> Index:
        """Returns the source's table with the model's labels."""
        index = self.source.index()
        labels = None if index.labels is None else self.to_model[index.labels]
        held = None
        if index.held is not None:
            held = np.zeros((len(index.held), len(self.classes)), bool)
            held[:, self.to_model] = index.held
        return dataclasses.replace(index, labels=labels, held=held)

    def digests(self) -> Sequence[bytes]:
        """Returns the source's digests."""
        return self.source.digests()

    def example(self, k: Any) -> dict[str, Any]:
        """Returns the source's example with the model's `label`, `tags` or `labels`; classes that the data lacks are 0."""
        import tensorflow as tf

        example = self.source.example(k)
        for name in ("label", "tags"):
            if name in example:
                example = {**example, name: tf.gather(tf.constant(self.to_model), example[name])}
        if "labels" in example:
            columns = tf.constant(self.to_model[:, np.newaxis])
            placed = tf.scatter_nd(columns, example["labels"], [len(self.classes)])
            example = {**example, "labels": tf.ensure_shape(placed, [len(self.classes)])}
        return example


def named(head: CheckpointHead, classes: Sequence[str]) -> tuple[CheckpointHead, str]:
    """Gives the data's names to the classes of a head that only counts them: LABEL_0, LABEL_1, ...

    Args:
        head: what a checkpoint brings along.
        classes: of the data, in their order.

    Returns:
        The head, and a sentence that says which class got which name; empty where nothing changed.
    """
    if not _counted(head.classes) or len(classes) != len(head.classes):
        return head, ""
    return dataclasses.replace(head, classes=tuple(classes)), _by_order(head.classes, classes)


def _matched(own: Sequence[str], classes: Sequence[str]) -> tuple[list[int], str]:
    """Returns the model's number of each class of the data, and a sentence where their names do not say it.

    Raises:
        UserError: the model does not know one of them.
    """
    exact = {name: k for k, name in enumerate(classes)}
    numbers = {_number(name): k for name, k in exact.items() if _whole(name)}
    found = [exact.get(name, numbers.get(_number(name), -1) if _whole(name) else -1) for name in own]
    if -1 not in found:
        return found, ""
    if "0" in own and all(  # without a 0 they may be counted from 1
        number == -1 and name.isdecimal() and int(name) < len(classes) for name, number in zip(own, found, strict=True)
    ):
        pairs = _in_words([f"{name} is {classes[int(name)]}" for name in own])
        return [int(name) for name in own], f"The data's classes are taken as numbers of the model's: {pairs}."
    if _counted(classes) and len(own) == len(classes):
        return list(range(len(own))), _by_order(classes, own)
    unknown = [name for name, number in zip(own, found, strict=True) if number == -1]
    raise UserError(
        f"--data: the model does not know the class{'es' if len(unknown) > 1 else ''} {', '.join(unknown[:5])}"
        f"{', ...' if len(unknown) > 5 else ''}; it knows {_in_words(classes)}."
    )


def _whole(name: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9]+(\.0+)?", name))


def _number(name: str) -> str:
    """Returns a whole number as it is usually written: 1 for 01 and 1.0."""
    return str(int(name.partition(".")[0]))


def _counted(classes: Sequence[str]) -> bool:
    """Tells whether classes have the names that Transformers gives to those without any."""
    return tuple(classes) == tuple(f"LABEL_{k}" for k in range(len(classes)))


def _by_order(classes: Sequence[str], own: Sequence[str]) -> str:
    pairs = _in_words([f"{name} is {other}" for name, other in zip(classes, own, strict=True)])
    return f"The model's classes have no names, so they are taken to be in the order of the data's: {pairs}; check that it is so."


def _in_words(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _numbers(source: DataSource) -> int:
    """Returns how many numbers an example's target has; nothing is read."""
    import tensorflow as tf

    spec = tf.data.Dataset.range(1).map(lambda k: source.example(k)["target"]).element_spec
    return spec.shape[0] if spec.shape.rank else 1
