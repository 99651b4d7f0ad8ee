"""File formats that a model can be written in beside its SavedModel, one file each. This file holds the signature.

A file holds the model from behind the host half on: numbers in, numbers out. What comes before (decoding, turning upright and
resizing a picture; splitting a text into tokens) is the reader's, or stays with the SavedModel.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tfpt import registry
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from tfpt.serving.servable import Servable

Run = Callable[[Mapping[str, "np.ndarray"]], "dict[str, np.ndarray]"]
"""From the inputs of a batch by name to its outputs by name."""


class Format:
    """Writes a model to a file and reads it again."""

    file: ClassVar[str]
    """The file's name; empty where the bundle itself is the file."""
    tolerance: ClassVar[float]
    """The largest difference of an output from the SavedModel's; beyond 1 as a share of it."""
    packages: ClassVar[Sequence[str]] = ()
    """Modules that it takes beside TensorFlow."""
    extra: ClassVar[str] = ""
    """The extra of tfpt that installs them."""
    alone: ClassVar[bool] = True
    """Whether the file is read without TensorFlow."""
    of_bundle: ClassVar[bool] = True
    """Whether a bundle is all that it takes to write the file; else the Keras model is needed, which only the run has."""

    @classmethod
    def check_installed(cls) -> None:
        """Raises UserError where a package is missing."""
        missing = [package for package in cls.packages if importlib.util.find_spec(package) is None]
        if missing:
            name = cls.__module__.rpartition(".")[2]
            raise UserError(f"The format {name} needs {missing[0]}: pip install 'tfpt[{cls.extra}]'.")

    def write(self, servable: "Servable", bundle: Path, file: Path) -> None:
        """Writes the file.

        Args:
            servable: the model; its Keras model is there when it was built here.
            bundle: its version folder.
            file: where to.

        Raises:
            UserError: the model cannot be written in this format.
        """
        raise NotImplementedError

    def open(self, file: Path, *, threads: int) -> Run:
        """Returns the function that the file is.

        Args:
            file: that `write` wrote.
            threads: CPU threads.
        """
        raise NotImplementedError


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError where a format's packages are missing."""
    for name in names:
        registry.find("format", name).check_installed()


def check_of_bundle(names: Sequence[str]) -> None:
    """Raises UserError where a format cannot be written of a bundle alone."""
    for name in names:
        if not registry.find("format", name).of_bundle:
            raise UserError(
                f"--export.formats={name}: an exported model holds no Keras model; export the run that made it, with its "
                "--flagfile in place of --model."
            )


def find(name: str) -> Any:
    """Returns a format, an object."""
    return registry.find("format", name)()
