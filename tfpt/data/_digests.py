"""Content hashes of files, remembered so that a second run need not read the data again."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tfpt.data._walk import shown
from tfpt.errors import UserError

_BYTES = 16


def file_digests(root: bytes, files: Sequence[bytes], *, cache: Path, threads: int = 8) -> list[bytes]:
    """Returns the BLAKE2b-128 (RFC 7693) of each file's content.

    A file whose size and time of change are as they were when it was last hashed is not read again.

    Args:
        root: absolute path of a folder.
        files: paths relative to it.
        cache: the folder that remembers; it is made when it is not there. One that cannot be written costs time only.
        threads: files read at once.

    Raises:
        UserError: a file cannot be read, or is gone.
    """
    memory = cache / f"{hashlib.blake2b(root, digest_size=_BYTES).hexdigest()}.json"
    known = _load(memory)

    def entry(file: bytes) -> tuple[int, int, str]:
        path = os.path.join(root, file)  # noqa: PTH118 - pathlib takes no bytes
        try:
            status = os.stat(path)  # noqa: PTH116 - before reading: a change meanwhile is seen the next time
            # The time of its last change of any kind: copying may give a file back an old time of its content.
            size, changed = status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)
            old = known.get(file.decode("latin-1"))
            if old and old[:2] == [size, changed]:
                return size, changed, old[2]
            with open(path, "rb") as content:
                return size, changed, hashlib.file_digest(content, _hash).hexdigest()
        except FileNotFoundError as error:
            raise UserError(
                f"{shown(path)} was there a moment ago and is gone; run again when the data is at rest."
            ) from error
        except OSError as error:
            raise UserError(
                f"{shown(path)} cannot be read: {error.strerror}; make it readable, or remove it."
            ) from error

    chunks = [files[k : k + 64] for k in range(0, len(files), 64)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            entries = [e for chunk in pool.map(lambda chunk: [entry(file) for file in chunk], chunks) for e in chunk]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    fresh = {file.decode("latin-1"): list(values) for file, values in zip(files, entries, strict=True)}
    if fresh != known:
        _save(memory, fresh)
    return [bytes.fromhex(digest) for _, _, digest in entries]


def _hash() -> Any:
    return hashlib.blake2b(digest_size=_BYTES)


def _load(path: Path) -> dict[str, list]:
    """Returns what was remembered; nothing where the file is missing or damaged."""
    try:
        values = json.loads(path.read_text("ascii"))
        return {k: v for k, v in values.items() if len(v) == 3 and len(bytes.fromhex(v[2])) == _BYTES}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _save(path: Path, values: dict[str, list]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(values), "ascii")
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
