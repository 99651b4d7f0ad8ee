"""A Hugging Face folder gives Transformers' numbers.

The golden values were made once with transformers 5.23 and torch 2.15 from the very folder that is written here.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from toys import transformers_folder
from toys.transformers_folder import write_safetensors

from tfpt.backbones.hf import Hf
from tfpt.config import Input
from tfpt.errors import UserError

WIDTH, LAYERS, WIDE, POSITIONS, WORDS = 8, 2, 12, 20, 14
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##c", "d", "é", "e", ",", "D", "##d", "x"]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "vocab_size": WORDS,
    "max_position_embeddings": POSITIONS,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": WIDE,
}
# The first four numbers of each pooled vector, of the texts of `test_a_made_up_bert_gives_transformers_numbers`.
GOLDEN = {
    "cls": [[-0.98113, -0.24596, 3.82129, -1.6757], [-0.87394, 0.75706, 3.84772, -1.40823]],
    "mean": [[-0.92728, 0.46412, 3.38404, -2.19001], [-0.86252, 0.86959, 3.64714, -1.39524]],
    "pooler": [[-0.99853, -0.99998, 0.99805, -0.99555], [-0.99952, -0.99993, 0.99863, -0.99095]],
}


def bert_tensors():
    def linear(name, outputs, inputs):
        yield f"{name}.weight", (outputs, inputs)
        yield f"{name}.bias", (outputs,)

    def norm(name):
        yield f"{name}.weight", (WIDTH,)
        yield f"{name}.bias", (WIDTH,)

    for table, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2)):
        yield f"embeddings.{table}_embeddings.weight", (rows, WIDTH)
    yield from norm("embeddings.LayerNorm")
    for k in range(LAYERS):
        layer = f"encoder.layer.{k}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", WIDE, WIDTH)
        yield from linear(f"{layer}.output.dense", WIDTH, WIDE)
        yield from norm(f"{layer}.output.LayerNorm")
    yield from linear("pooler.dense", WIDTH, WIDTH)


def made_up():
    tensors = {}
    for k, (name, shape) in enumerate(bert_tensors()):
        values = np.random.default_rng(k).standard_normal(shape) * 0.7
        tensors[name] = (values + ("LayerNorm.weight" in name)).astype(np.float32)
    return tensors


def write_folder(folder, *, lowercase=True, tensors=None, config=CONFIG):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf-8")
    if lowercase is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    write_safetensors(folder / "model.safetensors", made_up() if tensors is None else tensors)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "bert")


def pooled(folder, first, second, **config):
    backbone = Hf(str(folder), Hf.Config(**config))
    preprocessor = backbone.preprocessor(Input()).for_features({"text", "text_pair"})
    network = backbone.build(preprocessor.size)
    values, _ = preprocessor.host_batch(tf.constant(first), tf.constant(second))
    return network(preprocessor.device()(values))["pooled"].numpy(), backbone


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_a_made_up_bert_gives_transformers_numbers(folder, pooling):
    vectors, backbone = pooled(folder, ["A bc, d", "É"], ["d", "a b d e"], pooling=pooling)
    np.testing.assert_allclose(vectors[:, :4], GOLDEN[pooling], atol=1e-4)
    assert (backbone.loaded.missing, backbone.loaded.ignored) == ([], [])
    assert len(backbone.loaded.used) == len(made_up())


@pytest.mark.parametrize(
    ("files", "text", "tokens"),
    [
        ({"tokenizer_config.json": {"do_lower_case": True}}, "D É ab, bc", [7, 9, 1, 10, 5, 6]),
        ({"tokenizer_config.json": {"do_lower_case": False}}, "D É é bc", [11, 1, 8, 5, 6]),
        ({"tokenizer.json": {"normalizer": {"lowercase": False}}}, "D é", [11, 8]),
        ({"tokenizer.json": {"normalizer": {"lowercase": True}}}, "D é", [7, 9]),
        (
            {
                "tokenizer.json": {"normalizer": {"lowercase": True}},
                "tokenizer_config.json": {"do_lower_case": False},
            },
            "D",
            [11],
        ),
        ({}, "D É", [7, 9]),
    ],
)
def test_lower_case_is_what_the_folder_says(tmp_path, files, text, tokens):
    folder = write_folder(tmp_path / "bert", lowercase=None)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    values, frame = Hf(str(folder)).preprocessor(Input()).host(tf.constant(text))
    assert (values[:, 0] - 1).numpy().tolist() == [2, *tokens, 3]
    assert int(frame["tokens"]) == len(tokens) + 2


def test_vocabulary_from_tokenizer_json_alone(tmp_path):
    folder = write_folder(tmp_path / "bert")
    (folder / "vocab.txt").unlink()
    model = {"type": "WordPiece", "vocab": {piece: k for k, piece in enumerate(VOCABULARY)}}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))
    values, _ = Hf(str(folder)).preprocessor(Input()).host(tf.constant("bcd"))
    assert (values[:, 0] - 1).numpy().tolist() == [2, 5, 6, 12, 3]


def test_other_ways_of_keeping_the_tensors(folder, tmp_path):
    expected, _ = pooled(folder, ["a"], ["b"])
    tensors = made_up()
    # In two files, under a prefix, with a head that is not asked for, and TensorFlow's names.
    named = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): v for name, v in tensors.items()}
    named = {name.replace("LayerNorm.bias", "LayerNorm.beta"): v for name, v in named.items()}
    named["classifier.weight"] = np.zeros((2, WIDTH), np.float32)
    other = write_folder(tmp_path / "other")
    (other / "model.safetensors").unlink()
    names = list(named)
    files = {name: f"model-0000{1 + (k % 2)}-of-00002.safetensors" for k, name in enumerate(names)}
    for file in set(files.values()):
        write_safetensors(other / file, {name: named[name] for name in names if files[name] == file})
    (other / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    vectors, backbone = pooled(other, ["a"], ["b"])
    np.testing.assert_array_equal(vectors, expected)
    assert backbone.loaded.ignored == ["classifier.weight"]


def test_the_pooling_of_a_sentence_encoder(folder):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    by_itself, backbone = pooled(folder, ["a b"], ["d"])
    np.testing.assert_array_equal(by_itself, pooled(folder, ["a b"], ["d"], pooling="mean")[0])
    assert backbone.spec().size == 9
    assert backbone.preprocessor(Input(max_length=20)).size == 20


@pytest.mark.parametrize(
    ("says", "pooling"), [({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False}, "last"), ({}, "cls")]
)
def test_the_pooling_that_a_sentence_encoder_says(folder, says, pooling):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(says))
    assert Hf(str(folder))._pooling == pooling


@pytest.mark.parametrize("others", [["max_tokens"], ["cls_token", "mean_tokens"]])
def test_a_pooling_that_there_is_not_is_said(folder, others):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{name}": True for name in others}))
    with pytest.raises(
        UserError, match=rf"--backbone.pooling=auto: .*pooling_mode_{others[-1]}.* write cls, mean or last"
    ):
        Hf(str(folder)).build(8)


def test_groups_hold_each_layer_once(folder):
    backbone = Hf(str(folder))
    network = backbone.build(8)
    groups = backbone.groups(network)
    assert [group[0].name for group in groups] == ["token_embedding", "transformer_layer_0", "transformer_layer_1"]
    assert sorted(id(p) for g in groups for p in g) == sorted(id(layer) for layer in network.layers if layer.weights)


def test_mistakes_are_one_sentence(folder, tmp_path):
    def message(make):
        with pytest.raises(UserError) as raised:
            make()
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "there is no such folder" in message(lambda: Hf(str(tmp_path / "absent")).spec())
    assert "20 positions" in message(lambda: Hf(str(folder)).preprocessor(Input(max_length=21)))
    other = write_folder(tmp_path / "gpt9", config={**CONFIG, "model_type": "gpt9"})
    assert "gpt9" in message(lambda: Hf(str(other)).spec())
    lacks = {name: v for name, v in made_up().items() if not name.startswith("encoder.layer.1.")}
    assert "16 tensors are missing" in message(lambda: Hf(str(write_folder(tmp_path / "l", tensors=lacks))).build(8))
    misfits = {**made_up(), "embeddings.word_embeddings.weight": np.zeros((3, WIDTH), np.float32)}
    assert "does not fit" in message(lambda: Hf(str(write_folder(tmp_path / "m", tensors=misfits))).build(8))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    assert "cut off" in message(lambda: Hf(str(folder)).build(8))


def test_the_notes_on_loading(folder, tmp_path):
    backbone = Hf(str(folder))
    assert backbone.loading_notes() == ()
    backbone.build(8)
    assert backbone.loading_notes() == (f"hf:{folder}: 39 tensors loaded into the backbone.",)
    tensors = {name: values for name, values in made_up().items() if "pooler" not in name}
    tensors |= {f"cls.{k}": np.zeros(1, np.float32) for k in range(6)}
    other = Hf(str(write_folder(tmp_path / "other", tensors=tensors)))
    other.build(8)
    assert other.loading_notes() == (
        f"hf:{tmp_path / 'other'}: 37 tensors loaded into the backbone; there is no pooler.dense.weight, pooler.dense.bias, "
        "and nothing needs it; left out: cls.0, cls.1, cls.2, cls.3 and 2 more.",
    )


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size=3"),
        ("deberta-v2", {"pos_att_type": ["p2c"]}, "pos_att_type"),
        ("deberta-v2", {"position_biased_input": True}, "position_biased_input=True"),
        ("bert", {"hidden_act": "swiglu"}, "activation is swiglu"),
        ("electra", {"embedding_size": 5}, "does not fit"),
    ],
)
def test_networks_that_kerashub_cannot_be(kind, changes, says, tmp_path):
    folder = transformers_folder.write_folder(tmp_path / "x", kind, **changes)
    with pytest.raises(UserError, match=says):
        Hf(str(folder)).build(8)


def test_relu_is_not_taken_for_gelu(tmp_path):
    folders = [transformers_folder.write_folder(tmp_path / act, "bert", hidden_act=act) for act in ("relu", "gelu")]
    relu, gelu = (pooled(folder, ["a bc"], ["d"])[0] for folder in folders)
    assert np.abs(relu - gelu).max() > 1e-2


def test_a_checkpoint_without_pooler_is_one_where_none_is_asked_for(tmp_path):
    tensors = {name: values for name, values in made_up().items() if "pooler" not in name}
    folder = write_folder(tmp_path / "bert", tensors=tensors)
    _, backbone = pooled(folder, ["a"], ["b"])
    assert backbone.loaded.missing == ["pooler.dense.weight", "pooler.dense.bias"]
    with pytest.raises(UserError, match="pooler"):
        pooled(folder, ["a"], ["b"], pooling="pooler")
