"""`--data=hf:NAME`: a data set of the Hugging Face hub, or a folder or format that its datasets library can load."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfpt.config import check, setting
from tfpt.data._arrow_rows import ArrowRows
from tfpt.data._files import Files
from tfpt.data._split_choice import HELP, check_choice, chosen_splits, named_splits
from tfpt.data._table import TableFile
from tfpt.data._tagged_table import TaggedColumnsConfig, TaggedTableSource
from tfpt.errors import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow

_ROWS = 1024
"""Rows that are read at a time."""
_PATIENCE = 10.0
"""Seconds that the hub has to say whether it has the data set."""


class Hf(TaggedTableSource):
    """A data set by its name on the Hugging Face hub, kept in the cache of the datasets library; needs `tfpt[hf]`.

    What is in the cache is used as it is, without the network. No code of a data set is run.
    """

    name = "hf"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TaggedColumnsConfig):
        """Flags of the group `data`."""

        subset: str = setting("", "Which of the data set's configurations, such as sst2 of nyu-mll/glue.")
        revision: str = setting("", "Branch, tag or commit on the hub; default: its newest, or what is in the cache.")
        split: tuple[str, ...] = setting(("auto",), HELP)

        def __post_init__(self) -> None:
            super().__post_init__()
            if isinstance(self.split, str):
                object.__setattr__(self, "split", tuple(part.strip() for part in self.split.split(",")))
            problem = check_choice(self.split)
            check(not problem, problem)

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--data=hf needs a name; write --data=hf:ORGANISATION/NAME, as on the hub.")

    def find(self) -> Files:
        """Returns the data set's splits."""
        if self.config.split == ("auto",):
            return named_splits(list(self._loaded), root=Path(self.argument), where=self._where)
        return Files(
            files=tuple((Path(self.argument) / name, split) for name, split in chosen_splits(self.config.split))
        )

    def origin(self) -> str:
        """Returns the name, and which part."""
        return " ".join(filter(None, ("hf", self.argument, self.config.subset, self.config.revision)))

    def open(self, path: Path) -> TableFile:
        """Opens one split."""
        rows = self._loaded[path.name].with_format("arrow")

        def batches(columns: Sequence[str]) -> "Iterator[pyarrow.RecordBatch]":
            for table in rows.select_columns(list(columns)).iter(_ROWS):
                yield from table.to_batches()

        return ArrowRows(str(path), rows.column_names, batches, rows.features.to_dict())

    @property
    def _where(self) -> str:
        return f"--data=hf:{self.argument}"

    @functools.cached_property
    def _loaded(self) -> "Mapping[str, datasets.Dataset]":
        """Split, or part of one -> its rows, from the cache if they are there."""
        try:
            import datasets
        except ImportError as error:
            raise UserError("--data=hf needs datasets; install it with pip install 'tfpt[hf]'.") from error
        offline = os.environ.get("TFPT_OFFLINE", "0") not in ("", "0")
        try:
            with _without_network(datasets):
                return self._load(datasets)
        except Exception as error:  # the library raises what its readers and its transport raise
            if offline and isinstance(error, ConnectionError):
                raise UserError(
                    f"{self._where} is not in the cache of the datasets library, and --offline forbids to fetch it; run once with a "
                    "network."
                ) from error
            if offline or Path(self.argument).exists():
                raise self._unusable(error) from error
        try:
            self._ask_the_hub()
        except Exception as error:
            raise UserError(
                f"{self._where} is no folder, is not in the cache of the datasets library, and the hub did not give it "
                f"({_reason(error)})."
            ) from error
        try:
            return self._load(datasets)
        except Exception as error:
            raise self._unusable(error) from error

    def _load(self, datasets: Any) -> "Mapping[str, datasets.Dataset]":
        options = {"name": self.config.subset or None, "revision": self.config.revision or None}
        if self.config.split == ("auto",):
            return datasets.load_dataset(self.argument, **options)
        parts = [expression for expression, _ in chosen_splits(self.config.split)]
        return dict(zip(parts, datasets.load_dataset(self.argument, split=parts, **options), strict=True))

    def _ask_the_hub(self) -> None:
        """Asks for the data set once: the library itself would try for half a minute where there is no network."""
        import huggingface_hub

        api = huggingface_hub.HfApi()
        api.dataset_info(self.argument, revision=self.config.revision or None, timeout=_PATIENCE)

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"{self._where} cannot be loaded ({_reason(error)}); --data.subset and --data.split choose a part of it."
        )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"


@contextlib.contextmanager
def _without_network(datasets: Any) -> Iterator[None]:
    """Has the datasets library use its cache only; it reads the environment just once, so this is set where it looks."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
