"""Content hashes of texts, and of pictures that a table points to."""

import hashlib
import os
from collections.abc import Sequence

from tfpt.data._digests import file_digests
from tfpt.weights.home import home

DIGEST = 16
"""Bytes of a content hash."""


def content_hash(*texts: bytes) -> bytes:
    """Returns one hash of several texts (BLAKE2b-128, RFC 7693); each counts with its length, so none runs into the next."""
    found = hashlib.blake2b(digest_size=DIGEST)
    for text in texts:
        found.update(len(text).to_bytes(8, "little"))
        found.update(text)
    return found.digest()


def picture_digests(paths: Sequence[bytes]) -> list[bytes]:
    """Returns the content hash of each picture; of the path where there is none, which the pipeline will report."""
    by_folder: dict[bytes, set[bytes]] = {}
    found: dict[bytes, bytes] = {}
    for path in set(paths):
        folder, name = os.path.split(path)
        if os.path.isfile(path):  # noqa: PTH113 - bytes
            by_folder.setdefault(folder, set()).add(name)
        else:
            found[path] = content_hash(b"missing", path)
    for folder, names in by_folder.items():
        files = sorted(names)
        for name, digest in zip(files, file_digests(folder, files, cache=home() / "digests"), strict=True):
            found[os.path.join(folder, name)] = digest  # noqa: PTH118 - bytes
    return [found[path] for path in paths]
