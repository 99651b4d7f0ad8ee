"""Saved states of training: a folder each, complete or not there at all."""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfpt.console import Console

if TYPE_CHECKING:
    from tfpt.training.remote import Remote

STATE_FILE = "state.txt"
"""A line of JSON and a line with its SHA-256."""


@dataclasses.dataclass(frozen=True)
class Saved:
    """A checkpoint on disk.

    Attributes:
        folder: where it is.
        state: the plain values that were saved with the variables.
    """

    folder: Path
    state: dict[str, Any]


class Checkpoints:
    """Writes and finds checkpoints in a folder.

    Args:
        folder: made when first needed.
        keep: how many of the newest to keep.
        writes: whether this process is the one that writes; the others only find.
        remote: where the folder is a copy of one on an object store.
    """

    def __init__(self, folder: Path, *, keep: int, writes: bool = True, remote: "Remote | None" = None) -> None:
        self.folder = folder
        self.keep = keep
        self.writes = writes
        self.remote = remote

    def save(
        self, order: tuple[int, int], variables: Sequence[tf.Variable], state: dict[str, Any], *, name: str = "step"
    ) -> Path:
        """Saves variables and plain values under a temporary name, then renames.

        Args:
            order: stage and updates in all; a checkpoint with a higher one is newer.
            variables: in an order that `restore` repeats.
            state: JSON values.
            name: of the series; each series is counted for itself.

        Returns:
            The checkpoint's folder.
        """
        final = self._folder(name, order)
        if not self.writes:
            return final
        partial = self.folder / f".partial-{final.name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _write(partial, variables, state)
        except BaseException:  # on a full disk, half a checkpoint must not take the last room
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(final, ignore_errors=True)  # only a repeated run saves the same moment again, with equal values
        partial.rename(final)
        _sync(self.folder)
        for old in self._all(name)[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        if self.remote:
            self.remote.push()
        return final

    def latest(self, *, console: Console, name: str = "step") -> Saved | None:
        """Returns the newest undamaged checkpoint of a series; damaged ones are reported and passed over."""
        self._look_again()
        for folder in reversed(self._all(name)):
            try:
                return read(folder)
            except (OSError, ValueError) as error:
                console.warn(f"The checkpoint {folder} is damaged ({error}) and is not used.")
        return None

    def find(self, order: tuple[int, int], *, name: str) -> Saved | None:
        """Returns the checkpoint of exactly this moment; None when it is not there or damaged."""
        self._look_again()
        try:
            return read(self._folder(name, order))
        except (OSError, ValueError):
            return None

    def forget_after(self, order: tuple[int, int]) -> None:
        """Deletes checkpoints of every series that are newer: they belong to a course that is not gone on with; and those that
        were not written to their end."""
        if not self.writes:
            return
        bound = _suffix(order)
        for folder in self.folder.glob(".partial-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self.folder.glob("*-*") if self.folder.is_dir() else ():
            if folder.name[-len(bound) :] > bound:
                shutil.rmtree(folder, ignore_errors=True)

    def _look_again(self) -> None:
        """Gets what another process has written since."""
        if self.remote and not self.writes:
            self.remote.pull()

    def _folder(self, name: str, order: tuple[int, int]) -> Path:
        return self.folder / f"{name}{_suffix(order)}"

    def _all(self, name: str) -> list[Path]:
        return (
            sorted(f for f in self.folder.glob(f"{name}-??-??????????") if f.is_dir()) if self.folder.is_dir() else []
        )


def read(folder: Path) -> Saved:
    """Reads a checkpoint's plain values and checks its files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not what was written.
    """
    text, _, digest = (folder / STATE_FILE).read_text(encoding="utf-8").partition("\n")
    if digest != f"{hashlib.sha256(text.encode()).hexdigest()}\n":
        raise ValueError(f"{STATE_FILE} is not what was written")
    values = json.loads(text)
    for name, digest in values["files"].items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    return Saved(folder, values["state"])


def restore(folder: Path, variables: Sequence[tf.Variable]) -> None:
    """Puts a checkpoint's values into variables, given in the order of `Checkpoints.save`."""
    reader = tf.train.Checkpoint(variables=list(variables))
    reader.read(str(folder / "variables")).assert_consumed()


def _write(folder: Path, variables: Sequence[tf.Variable], state: dict[str, Any]) -> None:
    tf.train.Checkpoint(variables=list(variables)).write(str(folder / "variables"))
    files = {f.name: _digest(f) for f in sorted(folder.iterdir())}
    text = json.dumps({"state": state, "files": files})
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / STATE_FILE).write_text(f"{text}\n{digest}\n", encoding="utf-8")
    for file in folder.iterdir():
        _sync(file)


def _suffix(order: tuple[int, int]) -> str:
    return f"-{order[0]:02d}-{order[1]:010d}"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
