"""`--data=idx:FOLDER`: pictures and labels in the IDX files of MNIST, Fashion-MNIST and EMNIST, packed with gzip or not."""

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfpt.data._arrays import ArraySource, Part
from tfpt.data._files import raise_missing, split_of
from tfpt.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_KINDS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Third byte of a file -> type of its numbers (LeCun, Cortes and Burges, the MNIST database)."""


class Idx(ArraySource):
    """A folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of t10k, with .gz or without."""

    name = "idx"

    def parts(self) -> Sequence[Part]:
        """Returns a part for each file of pictures; t10k is test."""
        where, folder = f"--data=idx:{self.argument}", Path(self.argument).expanduser().absolute()
        if not self.argument:
            raise UserError("--data=idx needs a folder; write --data=idx:FOLDER with the files of MNIST in it.")
        if folder.is_file():
            raise UserError(f"{where} is a file; give its folder, in which the file with the labels is as well.")
        if not folder.is_dir():
            raise_missing(where, folder)
        files = {file.name.removesuffix(".gz"): file for file in sorted(folder.iterdir(), reverse=True)}
        pictures = sorted(name for name in files if "images" in name and "idx" in name)
        if not pictures:
            raise UserError(
                f"{where} has no file such as train-images-idx3-ubyte; found: {', '.join(list(files)[:5]) or 'nothing'}."
            )
        parts = [_part(name, files, several=len(pictures) > 1) for name in pictures]
        splits = [part.split for part in parts]
        if len(set(splits)) < len(splits):
            raise UserError(
                f"{where} holds several data sets: {', '.join(pictures)}; put the files of one into a folder."
            )
        return parts


def _part(pictures: str, files: dict[str, Path], *, several: bool) -> Part:
    labels = pictures.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    if labels not in files:
        raise UserError(f"{files[pictures]} has no labels beside it; {labels} is missing.")
    split = "test" if "t10k" in pictures else split_of(pictures)
    read = [_read(files[name]) for name in (pictures, labels)]
    return Part(split=split if several else "", inputs=read[0], labels=read[1], where=str(files[pictures]))


def _read(path: Path) -> "np.ndarray":
    """Returns the array that a file holds.

    Raises:
        UserError: it cannot be read, is no IDX file, or is cut short.
    """
    import numpy as np

    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _KINDS:
        raise UserError(f"{path} is no IDX file: it does not begin with two zero bytes and the type of its numbers.")
    start = 4 + 4 * content[3]
    shape = [int.from_bytes(content[k : k + 4], "big") for k in range(4, start, 4)]
    kind = np.dtype(_KINDS[content[2]])
    if len(content) != start + math.prod(shape) * kind.itemsize:
        size = " x ".join(map(str, shape))
        raise UserError(f"{path} should hold {size} numbers, and its length is not theirs; copy or download it again.")
    values = np.frombuffer(content, kind, offset=start).reshape(shape)
    return values.astype(kind.newbyteorder("="))
