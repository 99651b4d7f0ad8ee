"""`--data=tfds:NAME`: a data set that TensorFlow Datasets has prepared on this machine."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data._files import Files
from tfpt.data._record_source import RecordSource
from tfpt.data._records import Stretch
from tfpt.data._split_choice import HELP, check_choice, chosen_splits, named_splits
from tfpt.data._tagged_table import TaggedColumnsConfig
from tfpt.errors import UserError


class Tfds(RecordSource):
    """A prepared data set of TensorFlow Datasets: NAME, NAME/CONFIG, NAME:VERSION, or its folder; needs `tfpt[tfds]`.

    Nothing is downloaded and no code of a data set is run: `tfds build NAME` prepares one. Its files must be TFRecord files, which is
    what is written unless another format is asked for.
    """

    name = "tfds"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TaggedColumnsConfig):
        """Flags of the group `data`; columns are the names of the features."""

        split: tuple[str, ...] = setting(("auto",), HELP)
        folder: str = setting("", "Where data sets are prepared; default: TFDS_DATA_DIR, or ~/tensorflow_datasets.")

        def __post_init__(self) -> None:
            super().__post_init__()
            if isinstance(self.split, str):
                object.__setattr__(self, "split", tuple(part.strip() for part in self.split.split(",")))
            problem = check_choice(self.split)
            check(not problem, problem)

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError("--data=tfds needs a name; write --data=tfds:NAME, such as tfds:mnist, or tfds:FOLDER.")

    def find(self) -> Files:
        """Returns the data set's splits."""
        root = Path(self._builder.info.full_name)
        if self.config.split == ("auto",):
            return named_splits(list(self._builder.info.splits), root=root, where=self._where)
        return Files(files=tuple((root / part, split) for part, split in chosen_splits(self.config.split)))

    def origin(self) -> str:
        """Returns the name with configuration and version."""
        return f"tfds {self._builder.info.full_name}"

    def stretches(self, path: Path) -> Sequence[Stretch]:
        """Returns the records of a split, or of a part of one."""
        splits = self._builder.info.splits
        try:
            instructions = splits[path.name].file_instructions
        except (ValueError, KeyError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200].rstrip(".")
            raise UserError(
                f"{self._where}: --data.split={path.name} is not a part of it ({reason}); it has {', '.join(splits)}."
            ) from error
        return [Stretch(file=one.filename, skip=one.skip, take=one.take) for one in instructions]

    def class_names(self, key: str) -> Sequence[str] | None:
        """Returns the names of a feature's classes, where the data set has them."""
        features = self._builder.info.features
        feature = features[key] if key in features.keys() else None  # noqa: SIM118 - it is no dictionary
        feature = getattr(feature, "feature", feature)  # of a sequence, what it is made of
        return getattr(feature, "names", None)

    @property
    def _where(self) -> str:
        return f"--data=tfds:{self.argument}"

    @functools.cached_property
    def _builder(self) -> Any:
        try:
            import tensorflow_datasets as tfds
            from tensorflow_datasets.core import read_only_builder
        except ImportError as error:
            raise UserError(
                "--data=tfds needs tensorflow-datasets; install it with pip install 'tfpt[tfds]'."
            ) from error
        folder, given = Path(self.argument).expanduser(), self.config.folder or None
        try:
            if (folder / "dataset_info.json").is_file():
                builder = tfds.builder_from_directory(folder)
            else:
                builder = read_only_builder.builder_from_files(self.argument, data_dir=given)
        except tfds.core.DatasetNotFoundError as error:
            where = given or "TFDS_DATA_DIR or ~/tensorflow_datasets"
            raise UserError(
                f"{self._where} is not prepared in {where}; prepare it once with `tfds build {self.argument}`, or name the folder with "
                "--data.folder."
            ) from error
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise UserError(f"{self._where} cannot be read ({reason}).") from error
        form = builder.info.file_format
        if form is not None and form.value != "tfrecord":
            raise UserError(
                f"{self._where} is prepared as {form.value}; prepare it with `tfds build --file_format=tfrecord`."
            )
        return builder
