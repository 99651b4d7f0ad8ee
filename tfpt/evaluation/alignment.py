"""Data whose classes are in another order, or fewer, than a model's: matched by name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfpt.data import DataSource, Index, Info
from tfpt.errors import UserError


class Aligned(DataSource):
    """A source whose labels are indices into a model's classes.

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
        return dataclasses.replace(index, labels=None if index.labels is None else self.to_model[index.labels])

    def digests(self) -> Sequence[bytes]:
        """Returns the source's digests."""
        return self.source.digests()

    def example(self, k: Any) -> dict[str, Any]:
        """Returns the source's example with the model's label."""
        import tensorflow as tf

        example = self.source.example(k)
        return {**example, "label": tf.gather(tf.constant(self.to_model), example["label"])}
