"""Reads a .safetensors file: a length, a JSON header, and then the numbers.

Format: huggingface/safetensors, README.md, "Format".
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfpt.errors import UserError

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_LONGEST_HEADER = 100_000_000


class SafetensorsFile(Mapping[str, np.ndarray]):
    """The tensors of a file by name; each is read when it is asked for. bfloat16 becomes float32.

    Raises:
        UserError: the file is missing, cut off or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if length > min(_LONGEST_HEADER, size - 8):
                    raise ValueError("its header is longer than the file")
                header = json.loads(file.read(length))
            self._start = 8 + length
            self._entries: dict[str, Any] = {name: e for name, e in header.items() if name != "__metadata__"}
            for name, entry in self._entries.items():
                self._check(name, entry, size - self._start)
        except OSError as error:
            raise UserError(f"{path}: the weights cannot be read: {error.strerror or error}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: this is no safetensors file, or it is cut off ({error}); fetch it again."
            ) from error

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        begin, end = entry["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._start + begin)
            values = np.frombuffer(file.read(end - begin), _DTYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(entry["shape"])

    def __iter__(self) -> Any:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _check(self, name: str, entry: Mapping[str, Any], size: int) -> None:
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name} has the unknown type {entry['dtype']}")
        begin, end = entry["data_offsets"]
        length = np.dtype(_DTYPES[entry["dtype"]]).itemsize
        for side in entry["shape"]:
            length *= side
        if min(entry["shape"], default=0) < 0 or not 0 <= begin <= end <= size or end - begin != length:
            raise ValueError(f"{name} is not where the header says")
