import json

import numpy as np
import pytest

from tfpt.errors import UserError
from tfpt.weights.safetensors_file import SafetensorsFile
from tfpt.weights.tensor_folder import TensorFolder

TENSORS = {
    "bert.pooler.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "LayerNorm.gamma": np.ones(2, np.float32),
}


def write_safetensors(path, entries, data):
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize("write", ["write_zip", "write_legacy"])
def test_a_torch_checkpoint(write, request, tmp_path):
    request.getfixturevalue(write)(tmp_path / "pytorch_model.bin", TENSORS)
    folder = TensorFolder(tmp_path)
    np.testing.assert_array_equal(folder.get_tensor("pooler.weight"), TENSORS["bert.pooler.weight"])
    assert folder.find("LayerNorm.weight") == "LayerNorm.weight"
    assert folder.ignored == ["LayerNorm.weight"]
    with pytest.raises(KeyError):
        folder.get_tensor("absent")


def test_every_way_to_write_a_number(tmp_path):
    data = np.float16(1.5).tobytes() + b"\xc0\x3f" + np.float64(-2).tobytes() + np.int64([[3], [4]]).tobytes()
    entries = {"half": entry("F16", [], 0, 2), "brain": entry("BF16", [1], 2, 4), "double": entry("F64", [1], 4, 12)}
    entries |= {"whole": entry("I64", [2, 1], 12, 28), "nothing": entry("F32", [0, 5], 28, 28)}
    file = SafetensorsFile(write_safetensors(tmp_path / "x.safetensors", {"__metadata__": {}, **entries}, data))
    assert {name: values.tolist() for name, values in file.items()} == {
        "half": 1.5,
        "brain": [1.5],
        "double": [-2.0],
        "whole": [[3], [4]],
        "nothing": [],
    }


@pytest.mark.parametrize(
    "bad",
    [
        entry("F32", [2], 0, 4),
        entry("F32", [1], 4, 8),
        entry("F32", [1], -4, 0),
        entry("F99", [1], 0, 4),
        entry("F32", [-1, -1], 0, 4),
        {"dtype": "F32"},
        [],
    ],
)
def test_a_header_that_lies(bad, tmp_path):
    path = write_safetensors(tmp_path / "x.safetensors", {"a": bad}, b"\0" * 4)
    with pytest.raises(UserError, match="no safetensors file"):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\x05" + b"\0" * 7 + b"[1,2]", b"\x02" + b"\0" * 7 + b"{x"])
def test_what_is_no_such_file(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="no safetensors file"):
        SafetensorsFile(tmp_path / "x.safetensors")


def test_an_index_stays_in_its_folder(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../elsewhere"}}))
    with pytest.raises(UserError, match="outside its folder"):
        TensorFolder(tmp_path)


def test_no_weights_at_all(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors, pytorch_model\.bin or tf_model\.h5"):
        TensorFolder(tmp_path)
