"""Writes torch checkpoints without torch."""

import contextlib
import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tfpt.weights import catalogue, fetch

REAL_WEIGHTS = [name for name in catalogue.CATALOGUE if name.startswith(("efficientnet_lite:", "hf:"))]
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "b1": "BoolStorage"}


class View:
    """A tensor to be written: a part of a storage."""

    def __init__(self, storage, offset, shape, strides, dtype=None):
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.dtype = dtype or STORAGES[storage.dtype.str[1:]]

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Stored(self.storage, self.dtype), self.offset, self.shape, self.strides, False, OrderedDict())


class Stored:
    def __init__(self, array, dtype):
        self.array, self.dtype = array, dtype


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = {}

    def persistent_id(self, value):
        if not isinstance(value, Stored):
            return None
        key = str(id(value.array))
        self.storages[key] = value.array
        return ("storage", getattr(sys.modules["torch"], value.dtype), key, "cpu", value.array.size, None)


def as_view(value):
    if not isinstance(value, np.ndarray):
        return value
    flat = np.ascontiguousarray(value).reshape(-1)
    return View(flat, 0, value.shape, tuple(stride // value.itemsize for stride in value.strides))


@contextlib.contextmanager
def torch_names():
    """Modules with the names that a checkpoint mentions, while it is written: pickle looks them up."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("BFloat16Storage", *STORAGES.values()):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        raise AssertionError("only its name is written")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = inner
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", inner)
        yield


def pickled(root, file):
    pickler = Pickler(file)
    with torch_names():
        pickler.dump(OrderedDict((name, as_view(value)) for name, value in root.items()))
    return pickler.storages


@pytest.fixture
def write_legacy():
    def write(path, root):
        with path.open("wb") as file:
            for header in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
                pickle.dump(header, file, protocol=2)
            storages = pickled(root, file)
            pickle.dump(list(storages), file, protocol=2)
            for array in storages.values():
                file.write(array.size.to_bytes(8, "little") + array.tobytes())
        return path

    return write


@pytest.fixture
def write_zip():
    def write(path, root):
        data = io.BytesIO()
        storages = pickled(root, data)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", data.getvalue())
            archive.writestr("model/byteorder", "little")
            for key, array in storages.items():
                archive.writestr(f"model/data/{key}", array.tobytes())
        return path

    return write


@pytest.fixture
def view():
    return View


def _absent(item):
    names = getattr(item, "callspec", None) and item.callspec.params.get("cached_weights")
    return bool(names) and not fetch.location(catalogue.find(names)).exists()


def pytest_collection_modifyitems(config, items):
    """Deselects tests with real weights that are not in the cache: tests use no network; `make test` fetches lite0 first."""
    absent = [item for item in items if _absent(item)]
    if absent:
        items[:] = [item for item in items if not _absent(item)]
        config.hook.pytest_deselected(items=absent)


def pytest_report_collectionfinish(config):
    missing = [name for name in REAL_WEIGHTS if not fetch.location(catalogue.find(name)).exists()]
    return [f"not compared with torch: {name} (`tfpt fetch {name}` brings the weights)" for name in missing]
