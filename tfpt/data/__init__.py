"""Where raw examples come from, one file each. This file holds the signature every data source has."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What a source holds, known without reading every example.

    Attributes:
        features: feature name -> what it is: `image` (encoded bytes), `text`, `class` (an index into `classes`), ...
        classes: class names in index order, NFC; empty when there is no class feature.
        size: number of examples.
        origin: where the data comes from, for the report.
        notes: sentences for the user: ignored litter, files outside class folders, merged names.
    """

    features: Mapping[str, str]
    classes: tuple[str, ...] = ()
    size: int = 0
    origin: str = ""
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Index:
    """One row an example, in the source's order, without the examples themselves.

    Attributes:
        names: what the user calls each example (a path relative to the folder, a line number); unique.
        labels: class index of each example, `[examples]` int64; None when there are no classes.
        splits: the split that the data itself gives each example (`train`, `validation`, `test`), or `""` where it
            gives none.
        held: which classes each example has, `[examples, classes]` bool, where it may have any number of them; else None.
        together: a key each example; examples of one key are never on both sides of a split, as questions about one text are
            not. None: only equal contents are kept together.
        truth: bytes each example, which differ where the numbers, tags or answers that belong to it do; None where `labels` or
            `held` say it all.
    """

    names: Sequence[str]
    labels: "np.ndarray | None"
    splits: Sequence[str]
    held: "np.ndarray | None" = None
    together: Sequence[bytes] | None = None
    truth: Sequence[bytes] | None = None


class DataSource:
    """An indexed source: example k can be produced on its own, so batches are planned and resume is exact."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        """Flags of the group `data`."""

    def __init__(self, argument: str = "", config: Any = None) -> None:
        self.argument = argument
        self.config: Any = config if config is not None else self.Config()

    def data_files(self) -> Sequence[str]:
        """Returns the names, in the catalogue, of what must be fetched; `tfpt fetch --flagfile` brings it."""
        return ()

    def info(self) -> Info:
        """Returns what the source holds.

        Raises:
            UserError: there is nothing there, or it cannot be read.
        """
        raise NotImplementedError

    def index(self) -> Index:
        """Returns the table of examples."""
        raise NotImplementedError

    def digests(self) -> Sequence[bytes]:
        """Returns a content hash of each example, from which splits are made: the same content is always in the same
        split, whatever it is called."""
        raise NotImplementedError

    def example(self, k: Any) -> dict[str, Any]:
        """Returns raw example k with TensorFlow ops; runs in the input pipeline.

        Args:
            k: scalar int64 tensor.

        Returns:
            Feature name -> tensor: encoded bytes or text as scalar strings, `label` as scalar int64, targets as they are.
        """
        raise NotImplementedError
