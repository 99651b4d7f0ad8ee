"""tf_model.h5 gives the tensors that torch's file gives.

Names and layout are those of real files that transformers 4.49 wrote of TFBertForSequenceClassification and TFGPT2Model.
"""

import h5py
import numpy as np
import pytest
from toys import transformers_folder

from tfpt.backbones.hf import Hf
from tfpt.errors import UserError
from tfpt.weights.tensor_folder import TensorFolder
from tfpt.weights.transformers_h5 import TransformersH5


def tensorflow_name(name):
    """Returns where Transformers' TensorFlow class keeps a tensor of torch's name."""
    *parts, last = name.split(".")
    path = "/".join(parts).replace("layer/", "layer_._")
    norm, table = parts[-1] == "LayerNorm", parts[-1].endswith("_embeddings")
    if last == "weight":
        last = "gamma" if norm else "weight" if parts[-1] == "word_embeddings" else "embeddings" if table else "kernel"
    elif norm:
        last = "beta"
    return f"{parts[0]}/tf_bert_for_sequence_classification/{path}/{last}:0"


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            stored = tensorflow_name(name)
            file[stored] = values.T if stored.endswith("/kernel:0") else values
        file.create_group("dropout_37")


def test_a_bert_with_its_head(tmp_path):
    arrays = transformers_folder.tensors("bert")
    folder = transformers_folder.write_folder(tmp_path / "bert", "bert")
    expected = Hf(str(folder))
    outputs = expected.build(8).get_weights()
    (folder / "model.safetensors").unlink()
    write(folder / "tf_model.h5", arrays)
    with h5py.File(folder / "tf_model.h5") as file:
        assert "bert/tf_bert_for_sequence_classification/bert/encoder/layer_._0/attention/self/query/kernel:0" in file
    backbone = Hf(str(folder))
    for ours, theirs in zip(backbone.build(8).get_weights(), outputs, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(backbone.head().layers, expected.head().layers, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert (backbone.loaded.missing, sorted(backbone.loaded.ignored)) == ([], ["classifier.bias", "classifier.weight"])
    assert "left out" not in backbone.loading_notes()[0]


def test_gpt2_has_rows_for_biases(tmp_path):
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["transformer/tfgpt2_model/transformer/h_._0/attn/c_attn/bias:0"] = np.arange(3.0)[None]
        file["transformer/tfgpt2_model/transformer/h_._0/attn/c_attn/weight:0"] = np.ones((2, 3))
        file["transformer/tfgpt2_model/transformer/wte/embeddings:0"] = np.ones((5, 2))
    folder = TensorFolder(tmp_path)
    assert folder.get_tensor("h.0.attn.c_attn.bias").tolist() == [0, 1, 2]
    assert folder.get_tensor("h.0.attn.c_attn.weight").shape == (2, 3)
    assert folder.get_tensor("wte.weight").shape == (5, 2)


def test_what_is_no_such_file(tmp_path):
    (tmp_path / "tf_model.h5").write_bytes(b"no numbers")
    with pytest.raises(UserError, match="no HDF5 file"):
        TransformersH5(tmp_path / "tf_model.h5")


def test_links_to_other_files_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["a/b/c/kernel:0"] = np.ones((2, 2))
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["outside"] = h5py.ExternalLink("secret.h5", "/a")
    assert len(TransformersH5(tmp_path / "tf_model.h5")) == 0
