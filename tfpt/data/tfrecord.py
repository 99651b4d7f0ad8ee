"""`--data=tfrecord:PATTERN`: TFRecord files of `tf.train.Example`, on this machine or where TensorFlow reads files (gs://)."""

import dataclasses
import functools
import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfpt.config import check, setting
from tfpt.data._files import Files, raise_missing, split_of
from tfpt.data._record_source import RecordSource
from tfpt.data._records import Stretch
from tfpt.data._tagged_table import TaggedColumnsConfig
from tfpt.data._utf8 import lines
from tfpt.errors import UserError

_SPLITS = ("train", "validation", "test")
_RECORDS = re.compile(r"\.tf_?rec(ord)?s?(-\d+-of-\d+)?$", re.IGNORECASE)
"""How the files of a folder end: .tfrecord, .tfrecords, .tfrec, .tfrecord-00000-of-00010."""


class Tfrecord(RecordSource):
    """TFRecord files: one, those of a folder, or those that a pattern matches; or a pattern for each split.

    Examples stay where they are. Compressed files are refused: no record in one can be found without reading all before it.
    """

    name = "tfrecord"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(TaggedColumnsConfig):
        """Flags of the group `data`; columns are the keys of the features."""

        train: str = setting(
            "", "Pattern of the files to train on, inside the folder; default: by the words in their names."
        )
        validation: str = setting("", "Pattern of the files of validation.")
        test: str = setting("", "Pattern of the files of test.")
        label_file: str = setting(
            "", "File with the names of the classes, one a line; a label is the number of its line, from 0."
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            given = [name for name in _SPLITS if getattr(self, name)]
            check("train" in given or not given, f"train: is empty, and --data.{given and given[0]} is given")

    def __init__(self, argument: str = "", config: Any = None) -> None:
        super().__init__(argument, config)
        if not argument:
            raise UserError(
                "--data=tfrecord needs files; write --data=tfrecord:PATTERN, a file, a folder or a pattern."
            )

    def find(self) -> Files:
        """Returns a table for each split; without splits there is one, called records."""
        return Files(
            files=tuple((Path(self._where) / (split or "records"), split) for split in self._files),
            notes=self._notes,
        )

    def origin(self) -> str:
        """Returns the pattern, absolute on this machine."""
        return f"tfrecord {self.argument if _is_remote(self.argument) else Path(self.argument).expanduser().absolute()}"

    def stretches(self, path: Path) -> Sequence[Stretch]:
        """Returns the files of a split, whole."""
        return [Stretch(file=file) for file in self._files["" if path.name == "records" else path.name]]

    def class_names(self, key: str) -> Sequence[str] | None:
        """Returns the names of --data.label_file, for any key that holds numbers."""
        return self._names

    @functools.cached_property
    def _names(self) -> Sequence[str] | None:
        if not self.config.label_file:
            return None
        names = [line.strip() for line in lines(Path(self.config.label_file).expanduser())]
        while names and not names[-1]:
            names.pop()
        if not all(names) or len(set(names)) < len(names) or not names:
            raise UserError(
                f"--data.label_file={self.config.label_file} is empty, or has an empty line or a name twice; write one name a line."
            )
        return names

    @property
    def _where(self) -> str:
        return f"--data=tfrecord:{self.argument}"

    @functools.cached_property
    def _files(self) -> Mapping[str, Sequence[str]]:
        """Split (`""`: none) -> its files, train first."""
        patterns = {split: getattr(self.config, split) for split in _SPLITS if getattr(self.config, split)}
        if patterns:
            found = {split: self._matched(pattern, split) for split, pattern in patterns.items()}
            every = [file for files in found.values() for file in files]
            twice = next((file for file in every if every.count(file) > 1), None)
            if twice:
                raise UserError(f"{self._where}: {twice} is in more than one split; make the patterns narrower.")
            return found
        files = _files_of(self.argument, self._where)
        splits = {file: split_of(file.rpartition("/")[2]) if len(files) > 1 else "" for file in files}
        said = [split for split in _SPLITS if split in splits.values()]
        return {split: [file for file in files if splits[file] == split] for split in said or [""]}

    @property
    def _notes(self) -> tuple[str, ...]:
        if self.config.train:
            return ()
        used = {file for files in self._files.values() for file in files}
        ignored = [file for file in _files_of(self.argument, self._where) if file not in used]
        return (f"Ignored, because their names say no split: {', '.join(ignored[:5])}.",) if ignored else ()

    def _matched(self, pattern: str, split: str) -> list[str]:
        inside = _is_remote(pattern) or pattern.startswith(("/", "~"))
        whole = pattern if inside else f"{self.argument.rstrip('/')}/{pattern}"
        return _files_of(whole, f"--data.{split}={pattern}")


def _is_remote(pattern: str) -> bool:
    return "://" in pattern


def _files_of(pattern: str, where: str) -> list[str]:
    """Returns the file, the TFRecord files of a folder, or the files that a pattern matches, sorted.

    Raises:
        UserError: there are none.
    """
    return _remote_files(pattern, where) if _is_remote(pattern) else _local_files(pattern, where)


def _local_files(pattern: str, where: str) -> list[str]:
    path = Path(pattern).expanduser().absolute()
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir() if file.is_file())
        return [str(path / name) for name in _records_among(names, where)]
    found = sorted(file for file in glob.glob(str(path)) if Path(file).is_file())  # noqa: PTH207 - a whole path
    if not found and glob.has_magic(pattern):
        raise UserError(f"{where} matches no file.")
    if not found:
        raise_missing(where, path)
    return found


def _remote_files(pattern: str, where: str) -> list[str]:
    import tensorflow as tf

    try:
        if tf.io.gfile.isdir(pattern):
            folder = pattern.rstrip("/")
            return [f"{folder}/{name}" for name in _records_among(sorted(tf.io.gfile.listdir(folder)), where)]
        found = sorted(tf.io.gfile.glob(pattern))
    except tf.errors.OpError as error:
        raise UserError(f"{where} cannot be read: {error.message.splitlines()[0].rstrip('.')}.") from error
    if not found:
        raise UserError(f"{where} matches no file.")
    return found


def _records_among(names: Sequence[str], where: str) -> list[str]:
    records = [name for name in names if _RECORDS.search(name)]
    if not records:
        shown = ", ".join(names[:5]) or "nothing"
        raise UserError(f"{where} has no file that ends with .tfrecord, .tfrecords or .tfrec; found: {shown}.")
    return records
