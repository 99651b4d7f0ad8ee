import os
import pickle

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.weights import torch_checkpoint

TENSORS = {
    "weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "double": np.array([1.5, -2.5]),
    "half": np.array([0.5, 2], np.float16),
    "flags": np.array([True, False]),
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("written", ["write_legacy", "write_zip"])
def test_what_was_written_is_read(written, request, tmp_path):
    path = request.getfixturevalue(written)(tmp_path / "model.pth", TENSORS)
    read = torch_checkpoint.read(path)
    assert list(read) == list(TENSORS)
    for name, value in TENSORS.items():
        assert read[name].dtype == value.dtype
        assert read[name].flags.c_contiguous
        np.testing.assert_array_equal(read[name], value)


@pytest.mark.parametrize("written", ["write_legacy", "write_zip"])
def test_strides_offsets_and_shared_storage(written, request, tmp_path, view):
    storage = np.arange(12, dtype=np.float32)
    views = {"transposed": view(storage, 0, (3, 4), (1, 3)), "part": view(storage, 5, (2, 2), (4, 2))}
    read = torch_checkpoint.read(request.getfixturevalue(written)(tmp_path / "model.pth", views))
    np.testing.assert_array_equal(read["transposed"], storage.reshape(4, 3).T)
    np.testing.assert_array_equal(read["part"], [[5, 7], [9, 11]])
    read["part"][:] = 0  # its own memory
    assert read["transposed"][2, 1] == 5


def test_bfloat16_becomes_float32(write_legacy, tmp_path, view):
    numbers = np.array([1.0, -2.5, 3e38], np.float32)
    upper = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    path = write_legacy(tmp_path / "model.pth", {"x": view(upper, 0, (3,), (1,), dtype="BFloat16Storage")})
    read = torch_checkpoint.read(path)["x"]
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, numbers, rtol=2**-7)


def test_a_state_dictionary_inside_a_dictionary(write_legacy, tmp_path, view):
    inner = {"x": view(np.ones(2, np.float32), 0, (2,), (1,)), "note": "no tensor"}
    assert list(torch_checkpoint.read(write_legacy(tmp_path / "m.pth", {"epoch": 3, "state_dict": inner}))) == ["x"]


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("written", ["write_legacy", "write_zip"])
@pytest.mark.parametrize("function", [os.mkdir, eval, getattr])
def test_a_pickle_that_runs_something_is_refused(written, function, request, tmp_path):
    target = tmp_path / "was_run"
    argument = f"__import__('os').mkdir({str(target)!r})" if function is eval else str(target)
    root = {"weight": np.ones(2, np.float32), "bad": Runs(function, argument)}
    path = request.getfixturevalue(written)(tmp_path / "model.pth", root)
    with pytest.raises(UserError, match=r"model\.pth.*refused.*asks for"):
        torch_checkpoint.read(path)
    assert not target.exists()


def test_a_bare_pickle_is_refused(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(Runs(os.mkdir, str(tmp_path / "was_run"))))
    with pytest.raises(UserError, match="refused"):
        torch_checkpoint.read(path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("written", ["write_legacy", "write_zip"])
def test_cut_off_anywhere(written, request, tmp_path):
    whole = request.getfixturevalue(written)(tmp_path / "whole.pth", TENSORS).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pth"):
            torch_checkpoint.read(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(1, (4,), (1,)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (10**12,), (0,)), (0, (2, 2), (1,))],
)
def test_a_tensor_outside_its_storage(offset, shape, strides, write_legacy, tmp_path, view):
    path = write_legacy(tmp_path / "m.pth", {"x": view(np.ones(4, np.float32), offset, shape, strides)})
    with pytest.raises(UserError, match=r"m\.pth"):
        torch_checkpoint.read(path)


def test_missing_and_empty_of_tensors(write_legacy, tmp_path):
    with pytest.raises(UserError, match="No such file"):
        torch_checkpoint.read(tmp_path / "nowhere.pth")
    with pytest.raises(UserError, match="holds no tensors"):
        torch_checkpoint.read(write_legacy(tmp_path / "m.pth", {"epoch": 1}))
