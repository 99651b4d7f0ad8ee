"""What the host half made of texts, on disk: the same texts are tokenised once, whatever is trained on them."""

import contextlib
import dataclasses
import hashlib
import json
import uuid
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfpt import __version__
from tfpt.preprocessors import Preprocessor
from tfpt.weights.home import home

MOST_FILES = 20
"""Older files are removed: what they hold can be made again."""

Column = tuple[np.ndarray, np.ndarray | None]
"""Values of all examples, one after the other, and how many each has; None where each has one."""


@dataclasses.dataclass(frozen=True)
class PreparedStore:
    """A file in `TFPT_HOME/prepared`; its name is a hash of everything that its contents depend on."""

    file: Path

    @classmethod
    def of(cls, digests: Sequence[bytes], preprocessors: Sequence[Preprocessor]) -> "PreparedStore":
        """Returns the store for examples with these content hashes, in this order, made by these preprocessors."""
        made = [[type(p).__qualname__, p.to_json()] for p in preprocessors]
        key = hashlib.sha256(json.dumps([__version__, tf.__version__, made], sort_keys=True).encode())
        for digest in digests:
            key.update(len(digest).to_bytes(2, "little") + digest)
        return cls(home() / "prepared" / f"{key.hexdigest()[:32]}.npz")

    def read(self) -> list[Column] | None:
        """Returns the columns; None where there are none, or where the file is damaged."""
        try:
            with np.load(self.file, allow_pickle=False) as file:
                count = int(file["count"])
                return [(file[f"values{k}"], file.get(f"lengths{k}")) for k in range(count)]
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
            return None

    def write(self, columns: Sequence[Column]) -> None:
        """Writes the columns, whole or not at all; a folder that cannot be written costs time only."""
        arrays = {"count": np.array(len(columns))}
        for k, (values, lengths) in enumerate(columns):
            arrays[f"values{k}"] = values
            if lengths is not None:
                arrays[f"lengths{k}"] = lengths
        temporary = self.file.with_name(f".{uuid.uuid4().hex}.npz")
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            try:
                np.savez(temporary, **arrays)  # type: ignore[arg-type]
                temporary.replace(self.file)
            finally:
                temporary.unlink(missing_ok=True)
            files = sorted(self.file.parent.glob("[!.]*.npz"), key=lambda f: f.stat().st_mtime)
            for old in files[:-MOST_FILES]:
                old.unlink(missing_ok=True)
