"""Reads tensors from a torch checkpoint without torch, and without running what a pickle may ask for.

A checkpoint is a pickle beside raw storages: in the legacy format five pickles and then the storages in one file, since
torch 1.6 a zip archive with `data.pkl` and a file for each storage. The pickle is read by an unpickler that knows a
handful of names (an ordered dictionary, a tensor, storages) and refuses every other one.

Format: the functions `_legacy_save` and `_save` of torch/serialization.py.
"""

import collections
import dataclasses
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfpt.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _RefusedError(Exception):
    """The file asks for something that a checkpoint of tensors does not need."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that makes nothing but containers, numbers, strings and `_Tensor`."""

    def find_class(self, module: str, name: str) -> Any:
        # The functions are made anew for each file: a pickle can set attributes on what it is given.
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _RefusedError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != "storage" or any(view) or dtype not in _DTYPES.values():
            raise _RefusedError(f"it holds a {kind} of an unknown kind")
        return _Storage(dtype, str(key), int(size))


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a torch checkpoint (`.pth`, `.pt`, `.bin`) by name.

    Args:
        path: a state dictionary, or a dictionary that holds one as `state_dict`; legacy or zip format.

    Returns:
        Name -> array in torch's own layout (convolutions are `[out, in, height, width]`), C order, own memory; bfloat16
        becomes float32. Entries that are no tensors are left out.

    Raises:
        UserError: the file is missing, cut off, no torch checkpoint, or asks for more than tensors.
    """
    try:
        with path.open("rb") as file:
            root, storages = _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        if isinstance(root, Mapping) and isinstance(root.get("state_dict"), Mapping):
            root = root["state_dict"]
        if not isinstance(root, Mapping):
            raise _RefusedError("it holds no dictionary of tensors")
        tensors = {str(name): _view(value, storages) for name, value in root.items() if isinstance(value, _Tensor)}
    except OSError as error:
        raise UserError(f"{path}: the checkpoint cannot be read: {error.strerror or error}.") from error
    except _RefusedError as error:
        raise UserError(f"{path}: this torch checkpoint is refused, {error}; only plain tensors are read.") from error
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{path}: this is no torch checkpoint, or it is cut off ({error}); fetch it again.") from error
    if not tensors:
        raise UserError(f"{path}: this torch checkpoint holds no tensors; give a state dictionary.")
    return tensors


def _read_legacy(file: IO[bytes]) -> tuple[Any, dict[str, np.ndarray]]:
    file.seek(0)
    if _TensorUnpickler(file).load() != _MAGIC or _TensorUnpickler(file).load() != _PROTOCOL:
        raise _RefusedError("it does not begin as a checkpoint does")
    if not _TensorUnpickler(file).load()["little_endian"]:
        raise _RefusedError("it was written on a big-endian machine")
    root, dtypes = _load_with_dtypes(file)
    storages = {}
    for key in _TensorUnpickler(file).load():
        size = int.from_bytes(_exactly(file, 8), "little")
        storages[str(key)] = _array(_exactly(file, size * _itemsize(dtypes[str(key)])), dtypes[str(key)])
    return root, storages


def _read_zip(file: IO[bytes]) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise _RefusedError("it was written on a big-endian machine")
        root, dtypes = _load_with_dtypes(io.BytesIO(archive.read(pickled)))
        return root, {key: _array(archive.read(f"{folder}data/{key}"), dtype) for key, dtype in dtypes.items()}


def _load_with_dtypes(file: IO[bytes]) -> tuple[Any, dict[str, str]]:
    """Returns the pickled object, and the dtype of each storage that it names."""
    dtypes: dict[str, str] = {}

    class Unpickler(_TensorUnpickler):
        def persistent_load(self, pid: Any) -> _Storage:
            storage = super().persistent_load(pid)
            dtypes[storage.key] = storage.dtype
            return storage

    return Unpickler(file).load(), dtypes


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError(f"{size} bytes were expected, {len(data)} are there")
    return data


def _itemsize(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _array(data: bytes, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, dtype)


def _view(tensor: _Tensor, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    storage = storages[tensor.storage.key]
    if len(tensor.shape) != len(tensor.strides) or min((tensor.offset, *tensor.shape, *tensor.strides)) < 0:
        raise ValueError("a tensor has an impossible shape")
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    elements = math.prod(tensor.shape)
    if elements > len(storage) or (elements and last >= len(storage)):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [stride * storage.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides, writeable=False).copy("C")
