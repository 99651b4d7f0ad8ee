"""Data whose classes are in another order, or fewer, than a model's: matched by name."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource, Index, Info
from tfpt.errors import UserError

_WORDS = {
    "label": "one class an example",
    "labels": "any number of classes an example",
    "tags": "a class for each word",
    "target": "numbers",
}
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
        raise UserError(
            f"--data={data} {found}, and the model answers {_WORDS[wanted]}; `tfpt predict` answers examples without labels."
        )
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
        unknown = [name for name in own if name not in self.classes]
        if unknown:
            raise UserError(
                f"--data: the model does not know the class{'es' if len(unknown) > 1 else ''} {', '.join(unknown[:5])}"
                f"{', ...' if len(unknown) > 5 else ''}; it knows {', '.join(self.classes[:20])}{', ...' if len(self.classes) > 20 else ''}."
            )
        self.to_model = np.array([self.classes.index(name) for name in own], np.int64)

    def info(self) -> Info:
        """Returns the source's info with the model's classes."""
        return dataclasses.replace(self.source.info(), classes=self.classes)

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


def _numbers(source: DataSource) -> int:
    """Returns how many numbers an example's target has; nothing is read."""
    import tensorflow as tf

    spec = tf.data.Dataset.range(1).map(lambda k: source.example(k)["target"]).element_spec
    return spec.shape[0] if spec.shape.rank else 1
