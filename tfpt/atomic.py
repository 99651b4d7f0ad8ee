"""Files that appear whole or not at all."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tfpt.errors import OutsideError, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a disk says that has no room, or fails."""


@contextlib.contextmanager
def atomic_text(path: str | Path, *, errors: str = "strict") -> Iterator[TextIO]:
    """Opens a UTF-8 text file under a temporary name in the same folder and renames it when the block ends well.

    Args:
        path: the file; an existing one is replaced.
        errors: what happens to characters that UTF-8 does not have, as for `open`.

    Raises:
        UserError: the file cannot be written.
        OutsideError: there is no room for it.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", errors=errors, newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        kind = OutsideError if error.errno in FULL else UserError
        raise kind(
            f"{path} cannot be written: {error.strerror or error}; check that the folder exists, that it is yours to "
            "write to and that the disk has room."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
