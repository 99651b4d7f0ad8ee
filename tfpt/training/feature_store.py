"""Computed features on disk, by what they were computed from; for every later run, whatever its head.

An entry is a folder that is renamed into place when it is whole. Entries that were not used for longest go first when the
store is full.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfpt.training.feature_rows import Layout, Recorder, Rows, map_file
from tfpt.weights.home import home

MOST_BYTES = 50 * 2**30
"""The store never holds more."""
SHARE_OF_DISK = 0.5
"""Nor does a new entry take more than this share of what is free."""
_STALE_SECONDS = 24 * 3600
_ABOUT = "about.json"


class FeatureStore:
    """Features by key, in a folder.

    Args:
        folder: made when first needed; by default a folder of the cache, which TFPT_HOME moves.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home() / "features"

    def free(self) -> int:
        """Returns the bytes that a new entry may take."""
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return min(MOST_BYTES, int(shutil.disk_usage(there).free * SHARE_OF_DISK))

    def find(self, key: str, layouts: Sequence[Layout], *, count: int, most_in_memory: int) -> list[Rows] | None:
        """Returns an entry's tensors, or None when there is none that is whole.

        Args:
            key: of the entry.
            layouts: of its tensors.
            count: examples in it.
            most_in_memory: bytes up to which it is read into memory; a larger one is mapped.
        """
        folder = self.folder / key
        try:
            about = json.loads((folder / _ABOUT).read_text("utf-8"))
            if about["count"] != count or about["tensors"] != [_plain(layout) for layout in layouts]:
                return None
            if about["checksums"] != {name: _checksum(folder / name) for name in about["checksums"]}:
                return None
            small = self._size(folder) <= most_in_memory
            found = []
            for number, layout in enumerate(layouts):
                lengths = np.load(folder / f"{number}.lengths.npy", allow_pickle=False) if layout.varies else None
                found.append(map_file(folder / f"{number}.values", layout, lengths, count=count, in_memory=small))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(folder)  # when it was used last
        return found

    @contextlib.contextmanager
    def writing(self, key: str, layouts: Sequence[Layout], *, count: int, size: int) -> Iterator[list[Recorder]]:
        """Makes an entry of what the block records; nothing is left where the block fails.

        Args:
            key: of the entry; one that exists is replaced.
            layouts: of its tensors.
            count: examples.
            size: bytes that it will take, about; older entries make room.

        Raises:
            OSError: it cannot be written.
        """
        self._make_room(size)
        partial = self.folder / f".partial-{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            with contextlib.ExitStack() as files:
                recorders = [
                    Recorder(layout, files.enter_context((partial / f"{number}.values").open("xb")))
                    for number, layout in enumerate(layouts)
                ]
                yield recorders
                checksums = {}
                for number, recorder in enumerate(recorders):
                    if recorder.lengths is not None:
                        lengths = partial / f"{number}.lengths.npy"
                        np.save(lengths, recorder.lengths, allow_pickle=False)
                        checksums[lengths.name] = _checksum(lengths)
                    if recorder.file is not None:
                        recorder.file.flush()
                        os.fsync(recorder.file.fileno())
                        checksums[f"{number}.values"] = recorder.checksum
            about = {"count": count, "tensors": [_plain(layout) for layout in layouts], "checksums": checksums}
            (partial / _ABOUT).write_text(json.dumps(about), "utf-8")
            shutil.rmtree(self.folder / key, ignore_errors=True)
            try:
                partial.rename(self.folder / key)
            except OSError:
                if not (self.folder / key).is_dir():  # else another process has just made the same
                    raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def save(self, key: str, rows: Sequence[Rows]) -> None:
        """Makes an entry of tensors that are in memory.

        Raises:
            OSError: it cannot be written.
        """
        size = sum(one.values.nbytes for one in rows)
        with self.writing(key, [one.layout for one in rows], count=len(rows[0]), size=size) as recorders:
            for one, recorder in zip(rows, recorders, strict=True):
                recorder.take(one)

    def _make_room(self, size: int) -> None:
        if not self.folder.is_dir():
            return
        entries = sorted((p for p in self.folder.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
        for entry in entries:
            if entry.name.startswith(".partial-") and time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)  # of a process that was killed
        whole = [entry for entry in entries if not entry.name.startswith(".")]
        total = size + sum(map(self._size, whole))
        for entry in whole:
            if total <= MOST_BYTES:
                break
            total -= self._size(entry)
            shutil.rmtree(entry, ignore_errors=True)  # who has mapped its files keeps them

    @staticmethod
    def _size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.iterdir())


def _checksum(file: Path) -> int:
    """Returns the CRC-32 of a file: what a disk or a half-done copy has spoilt is not believed."""
    found = 0
    with file.open("rb") as opened:
        while part := opened.read(2**22):
            found = zlib.crc32(part, found)
    return found


def _plain(layout: Layout) -> list:
    return [list(layout.shape), layout.dtype.name]
