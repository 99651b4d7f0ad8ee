"""Whether results can be written where they are asked for: looked at before hours of work."""

import os
from pathlib import Path

from tfpt.errors import UserError


def check_folder(folder: Path, *, flag: str, way_out: str = "choose a folder that is yours") -> None:
    """Refuses a folder that cannot be made or written in.

    Args:
        folder: may not be there yet.
        flag: that names it.
        way_out: ends the sentence.

    Raises:
        UserError: it is one.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        problem = "is not a folder" if not there.is_dir() else "cannot be written"
        raise UserError(f"{flag}={folder}: {there} {problem}; {way_out}.")


def check_file(file: Path, *, flag: str) -> None:
    """Refuses a file in a folder that is not there or not to be written in, and a folder.

    Raises:
        UserError: it is one.
    """
    folder = file.absolute().parent
    if file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        problem = (
            f"{file} is a folder"
            if file.is_dir()
            else f"{folder} is not there"
            if not folder.exists()
            else f"{folder} cannot be written"
        )
        raise UserError(f"{flag}={file}: {problem}; choose a file in a folder that is yours.")
