"""`--data=npz:FILE`: arrays of pictures or texts with labels, as `numpy.savez` writes them."""

import dataclasses
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfpt.config import setting
from tfpt.data._arrays import ArraysConfig, ArraySource, Part
from tfpt.data._files import find_files, split_of
from tfpt.errors import UserError

_INPUTS = frozenset(("x", "image", "images", "text", "texts", "data"))
_LABELS = frozenset(("y", "label", "labels", "target", "targets"))


class Npz(ArraySource):
    """A .npz file with x_train, y_train, x_test, y_test, or train_images, train_labels, ..., or x and y alone.

    Nothing is unpickled. All arrays are in memory while they are read.
    """

    name = "npz"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(ArraysConfig):
        """Flags of the group `data`."""

        inputs: str = setting(
            "auto", "Name of the array of pictures or texts. auto: a name for each split, such as x_train, or x."
        )
        labels: str = setting("auto", "Name of the array of labels. auto: such as y_train, or y; none: no labels.")

    def parts(self) -> Sequence[Part]:
        """Returns the arrays by the words in their names."""
        import numpy as np

        ((path, _),) = find_files(self.argument, source=self.name, endings=("npz",)).files[:1]
        try:
            file = np.load(path, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is a single array; save pictures and labels with numpy.savez.")
            with file:
                return [
                    Part(split=split, inputs=file[x], labels=file[y] if y else None, where=f"{path}: {x}")
                    for split, x, y in self._names(file.files, path)
                ]
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            reason = (
                "it holds Python objects, which are not read; save texts with dtype=str"
                if "pickle" in str(error)
                else error
            )
            raise UserError(f"{path} cannot be read: {reason}.") from error

    def _names(self, names: Sequence[str], path: Path) -> list[tuple[str, str, str]]:
        """Returns split, array of inputs and array of labels (`""`: none)."""
        wanted: tuple[Any, Any] = (self.config.inputs, self.config.labels)
        for flag, name in zip(("inputs", "labels"), wanted, strict=True):
            if name not in ("auto", "none", *names):
                raise UserError(f"{path}: --data.{flag}={name} is not in it; it holds {', '.join(names)}.")
        labels = {split_of(name): name for name in names if _LABELS & _words(name)}
        if wanted[1] != "auto":
            labels = {split_of(wanted[1]): "" if wanted[1] == "none" else wanted[1]}
        inputs = {split_of(name): name for name in names if _INPUTS & _words(name) and name not in labels.values()}
        if wanted[0] != "auto":
            inputs = {split_of(wanted[0]): wanted[0]}
        if len(inputs) == 1 and len(labels) == 1:
            labels = dict.fromkeys(inputs, *labels.values())
        if not inputs or (wanted[1] == "auto" and not labels):
            raise UserError(
                f"{path}: which array is what? It holds {', '.join(names)}; write --data.inputs=NAME and --data.labels=NAME (or none)."
            )
        return [(split, x, labels.get(split, "")) for split, x in inputs.items()]


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))
