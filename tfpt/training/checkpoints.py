"""Saved states of training: a folder each, complete or not there at all."""

import contextlib
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
from tfpt.training import strategies

if TYPE_CHECKING:
    from tfpt.training.remote import Remote

STATE_FILE = "state.txt"
"""A line of JSON and a line with its SHA-256."""
_STEPS = "step"
"""The series that a run goes on from."""
BEST = "best"
"""The series of the weights that were the best so far."""
_AGAIN = "-again"
"""Behind the name of a moment that is saved a second time: the state that is there stays until the new one is whole."""
_HIDDEN = ".partial-"
"""Before the name of what is being written, or removed."""


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
        self, order: tuple[int, int], variables: Sequence[tf.Variable], state: dict[str, Any], *, name: str = _STEPS
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
        places = self._places(name, order)
        final = next((place for place in places if not place.exists()), places[0])
        if not self.writes:
            return final
        partial = final.with_name(f"{_HIDDEN}{final.name}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            _write(partial, variables, state)
        except BaseException:  # on a full disk, half a checkpoint must not take the last room
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if final.exists():  # whoever saved this moment died before removing the earlier of two states; either will do
            self._remove(final)
        partial.rename(final)
        _sync(self.folder)
        for old in {*places} - {final}:
            self._remove(old)
        for old in self._superfluous(name):
            self._remove(old)
        if self.remote:
            self.remote.push()
        return final

    def latest(self, *, console: Console, name: str = _STEPS) -> Saved | None:
        """Returns the newest undamaged checkpoint of a series; damaged ones are reported and passed over."""
        self._look_again()
        found = self._all(name)
        for folder in reversed(found):
            try:
                return read(folder)
            except (OSError, ValueError) as error:
                console.warn(f"The checkpoint {folder} is damaged ({error}) and is not used.")
        if found and name == _STEPS:
            console.warn("No checkpoint is left to go on from.")
        return None

    def find(self, order: tuple[int, int], *, name: str) -> Saved | None:
        """Returns the checkpoint of exactly this moment; None when it is not there or damaged."""
        self._look_again()
        for place in reversed(self._places(name, order)):
            with contextlib.suppress(OSError, ValueError):
                return read(place)
        return None

    def forget_after(self, order: tuple[int, int]) -> None:
        """Deletes checkpoints of every series that are newer: they belong to a course that is not gone on with; and those that
        were not written to their end."""
        if not self.writes:
            return
        bound = _suffix(order)
        for folder in self.folder.glob(f"{_HIDDEN}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in sorted(self.folder.glob("*-*")):
            if folder.name.removesuffix(_AGAIN)[-len(bound) :] > bound:
                self._remove(folder)

    def _look_again(self) -> None:
        """Gets what another process has written since."""
        if self.remote and not self.writes:
            self.remote.pull()

    def _places(self, name: str, order: tuple[int, int]) -> tuple[Path, Path]:
        """Returns the two folders that a moment's state may be in."""
        place = self.folder / f"{name}{_suffix(order)}"
        return place, place.with_name(f"{place.name}{_AGAIN}")

    def _remove(self, folder: Path) -> None:
        """Removes a checkpoint; whoever dies meanwhile leaves no half one under its name."""
        hidden = folder.with_name(f"{_HIDDEN}old-{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def _superfluous(self, name: str) -> list[Path]:
        """Returns what is not kept of a series: all but the newest, and but the best weights that a checkpoint to go back to names."""
        needed: set[Path] = set()
        for folder in self._all(_STEPS) if name == BEST else []:
            with contextlib.suppress(OSError, ValueError):  # a damaged one is not gone back to
                state = _values(folder)["state"]
                if state.get("best"):
                    needed.update(self._places(name, (state["stage"], state["best"]["total_steps"])))
        return [folder for folder in self._all(name)[: -self.keep] if folder not in needed]

    def _all(self, name: str) -> list[Path]:
        """Returns the folders of a series, the oldest first."""
        moment = f"{name}-??-??????????"
        return sorted(f for end in ("", _AGAIN) for f in self.folder.glob(f"{moment}{end}") if f.is_dir())


def read(folder: Path) -> Saved:
    """Reads a checkpoint's plain values and checks its files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is not what was written.
    """
    values = _values(folder)
    for name, digest in values["files"].items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is not what was written")
    return Saved(folder, values["state"])


def check_seen_by_all(saved: Saved | None, folder: Path) -> None:
    """Refuses to go on where workers do not see the same checkpoint; each must ask at the same moment.

    Args:
        saved: what this process has found.
        folder: of the checkpoints.

    Raises:
        UserError: on all workers.
    """
    mark = (saved.folder / STATE_FILE).read_text(encoding="utf-8")[-65:] if saved else ""
    strategies.current().check_alike(
        mark,
        f"--output.run_dir={folder.parent}: the workers do not see the same checkpoint there; it must be a folder that all of them "
        "share, or on an object store.",
    )


def restore(folder: Path, variables: Sequence[tf.Variable]) -> None:
    """Puts a checkpoint's values into variables, given in the order of `Checkpoints.save`."""
    reader = tf.train.Checkpoint(variables=list(variables))
    reader.read(str(folder / "variables")).assert_consumed()


def _values(folder: Path) -> dict[str, Any]:
    text, _, digest = (folder / STATE_FILE).read_text(encoding="utf-8").partition("\n")
    if digest != f"{hashlib.sha256(text.encode()).hexdigest()}\n":
        raise ValueError(f"{STATE_FILE} is not what was written")
    values: dict[str, Any] = json.loads(text)
    return values


def _write(folder: Path, variables: Sequence[tf.Variable], state: dict[str, Any]) -> None:
    tf.train.Checkpoint(variables=list(variables)).write(str(folder / "variables"))
    files = {f.name: _digest(f) for f in sorted(folder.iterdir())}
    text = json.dumps({"state": state, "files": files})
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / STATE_FILE).write_text(f"{text}\n{digest}\n", encoding="utf-8")
    for file in [*folder.iterdir(), folder]:
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
