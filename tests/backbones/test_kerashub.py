"""Every family that the tables of `kerashub:` name, at toy size: saved as a preset, loaded, fed."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones._token_network import FAMILIES
from tfpt.backbones.kerashub import _IMAGES, Kerashub
from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.layers.lean_last_block import keep_first_token
from tfpt.layers.trunk import Trunk

SIZES = {"vocabulary_size": 300, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 12}
LENGTH = {"max_sequence_length": 32}
TEXT = {
    "Albert": ("unigram", {**SIZES, **LENGTH, "embedding_dim": 4}),
    "Bart": ("bytes", {**SIZES, **LENGTH}),
    "Bert": ("words", {**SIZES, **LENGTH}),
    "DebertaV3": ("unigram", {**SIZES, **LENGTH, "bucket_size": 4}),
    "DistilBert": ("words", {**SIZES, **LENGTH}),
    "Electra": (
        "words",
        {**{k: v for k, v in SIZES.items() if k != "vocabulary_size"}, **LENGTH, "vocab_size": 300, "embedding_dim": 8},
    ),
    "FNet": ("unigram", {**{k: v for k, v in SIZES.items() if k != "num_heads"}, **LENGTH}),
    "GPT2": ("bytes", {**SIZES, **LENGTH}),
    "OPT": ("bytes", {**SIZES, **LENGTH}),
    "Roberta": ("bytes", {**SIZES, **LENGTH}),
    "T5": ("unigram", SIZES),
    "XLMRoberta": ("unigram", {**SIZES, **LENGTH}),
    "XLNet": ("unigram", SIZES),
}
VISION = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8}
IMAGE = {
    "DINOV2": {**VISION, "intermediate_dim": 12},
    "DINOV3": {**VISION, "intermediate_dim": 12},
    "DeiT": {**VISION, "intermediate_dim": 12},
    "EfficientNet": {
        "stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [1, 2], "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16], "stackwise_expansion_ratios": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.25, 0.25], "stackwise_strides": [1, 2], "stackwise_block_types": ["v1", "v1"],
        "stackwise_force_input_filters": [0, 0], "stackwise_nores_option": [False, False],
        "width_coefficient": 1.0, "depth_coefficient": 1.0,
    },
    "MiT": {
        "layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.0, "layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2],
        "image_shape": (32, 32, 3), "hidden_dims": [8, 16],
    },
    "MobileNet": {
        "stackwise_expansion": [[16], [32, 32]], "stackwise_num_blocks": [1, 2], "stackwise_num_filters": [[16], [16, 16]],
        "stackwise_kernel_size": [[3], [3, 3]], "stackwise_num_strides": [[2], [2, 1]],
        "stackwise_se_ratio": [[0.25], [None, 0.25]], "stackwise_activation": [["relu"], ["relu", "hard_swish"]],
        "stackwise_padding": [[1], [1, 1]], "output_num_filters": 32, "input_activation": "hard_swish",
        "output_activation": "hard_swish", "input_num_filters": 16, "depthwise_filters": 8, "depthwise_stride": 2,
        "depthwise_residual": False, "last_layer_filter": 32, "squeeze_and_excite": 0.5,
    },
    "DenseNet": {"stackwise_num_repeats": [1, 1], "compression_ratio": 0.5, "growth_rate": 4},
    "ResNet": {
        "input_conv_filters": [64], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64, 64],
        "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "block_type": "basic_block",
    },
    "SigLIP": {},
    "SwinTransformer": {
        "image_shape": (32, 32, 3), "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4,
    },
    "VGG": {"stackwise_num_repeats": [1, 1, 1], "stackwise_num_filters": [8, 8, 8]},
    "ViT": {**VISION, "mlp_dim": 12},
}  # fmt: skip
SENTENCES = [
    "the cat sat on the mat",
    "a dog, and two birds",
    "naïve café 中文 👍🏽",
    "one more sentence to learn from",
]


def write_tokenizer(folder, name, kind):
    """Writes a tokenizer as KerasHub's classes for presets write it."""
    assets = folder / "assets" / "tokenizer"
    assets.mkdir(parents=True)
    if kind == "words":
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "a"]
        (assets / "vocabulary.txt").write_text("".join(f"{p}\n" for p in pieces), encoding="utf-8")
        config = {"suffix_indicator": "##", "lowercase": True, "oov_token": "[UNK]"}
    elif kind == "bytes":
        from tfpt.layers.byte_pairs import byte_characters

        pieces = ["<s>", "<pad>", "</s>", "<|endoftext|>", *byte_characters(), "th", "the"]
        (assets / "vocabulary.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
        (assets / "merges.txt").write_text("t h\nth e\n")
        config = {"unsplittable_tokens": ["<s>"], "add_prefix_space": False}
    else:
        import sentencepiece

        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES * 20),
            model_writer=written,
            vocab_size=90,
            hard_vocab_limit=False,
            minloglevel=2,
            user_defined_symbols=["<cls>", "<sep>"] if name == "XLNet" else ["[CLS]", "[SEP]"],
            control_symbols=["[MASK]"],
        )
        (assets / "vocabulary.spm").write_bytes(written.getvalue())
        config = {"proto": None}
    content = {"class_name": f"{name}Tokenizer", "config": config}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def save(folder, name, settings):
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    if name == "SigLIP":
        size = {"hidden_dim": 8, "num_layers": 2, "num_heads": 2, "intermediate_dim": 12}
        settings = {
            "vision_encoder": keras_hub.models.SigLIPVisionEncoder(patch_size=8, image_shape=(32, 32, 3), **size),
            "text_encoder": keras_hub.models.SigLIPTextEncoder(vocabulary_size=64, embedding_dim=8, **size),
        }
    backbone = getattr(keras_hub.models, f"{name}Backbone")(**settings)
    backbone.save_to_preset(str(folder))
    return backbone


def test_every_family_of_texts_is_tested():
    assert {f"{name}Backbone" for name in TEXT} == set(FAMILIES)


@pytest.mark.parametrize("name", sorted(TEXT))
def test_a_text_family(name, tmp_path):
    kind, settings = TEXT[name]
    saved = save(tmp_path / name, name, settings)
    write_tokenizer(tmp_path / name, name, kind)
    backbone = Kerashub(str(tmp_path / name))
    spec = backbone.spec()
    assert (spec.modality, spec.endpoints) == ("text", {"pooled": (8,), "sequence": (None, 8)})
    preprocessor = backbone.preprocessor(Input(max_length=24))
    network = backbone.build(24)
    shape, dtype = preprocessor.host_spec()
    trunk = Trunk(network, preprocessor.device(), endpoints=("pooled", "sequence"), shape=shape, dtype_in=dtype)

    texts = ["the cat", "a dog, and two birds with a long tail", ""]
    together, frame = preprocessor.host_batch(tf.constant(texts))
    outputs = trunk(together)
    assert outputs["sequence"].shape == (3, together.shape[1], 8)
    assert int(frame["tokens"][2]) == {"T5": 1}.get(name, 2)
    if name != "FNet":  # its Fourier transform runs over the padding, too
        for k, text in enumerate(texts):
            alone, _ = preprocessor.host_batch(tf.constant([text]))
            np.testing.assert_allclose(outputs["pooled"][k], trunk(alone)["pooled"][0], atol=2e-5)
    assert np.isfinite(outputs["pooled"]).all()

    grouped = [id(layer) for group in backbone.groups(network) for layer in group]
    assert sorted(grouped) == sorted(id(layer) for layer in network.layers if layer.weights)
    names = [[layer.name for layer in group] for group in backbone.groups(network)]
    assert any("embedding" in layer for layer in names[0])
    assert len(names) >= (2 if name == "Albert" else 3)
    table = next(v for v in saved.variables if "embedding" in v.path)
    assert any(v.shape == table.shape and np.array_equal(v, table) for v in network.variables)

    pair = preprocessor.for_features({"text", "text_pair"})
    values, _ = pair.host_batch(tf.constant(texts), tf.constant(texts[::-1]))
    pooled = trunk(values)["pooled"]
    assert np.isfinite(pooled).all()

    first = Trunk(keep_first_token(network), pair.device(), endpoints=("pooled",), shape=shape, dtype_in=dtype)
    np.testing.assert_allclose(first(values)["pooled"], pooled, atol=2e-5)
    alone = name in {"Bert", "DistilBert", "Electra", "Roberta", "XLMRoberta"}
    assert ("sequence" in first.network.output) != alone


def test_every_family_of_pictures_is_tested():
    assert {f"{name}Backbone" for name in IMAGE} == set(_IMAGES)


@pytest.mark.parametrize("name", sorted(IMAGE))
def test_an_image_family(name, tmp_path):
    import keras_hub

    saved = save(tmp_path / name, name, IMAGE[name])
    saved = getattr(saved, "vision_encoder", saved)
    converter = keras_hub.layers.ImageConverter(image_size=(32, 32), scale=1 / 127.5, offset=[-1.0, -1.0, -0.5])
    converter.save_to_preset(str(tmp_path / name))
    backbone = Kerashub(str(tmp_path / name))
    spec = backbone.spec()
    assert spec.modality == "image"
    np.testing.assert_allclose(spec.value_range, (-1.0, 1.5), atol=1e-6)
    preprocessor = backbone.preprocessor(Input(image_size=32))
    assert (preprocessor.size, preprocessor.offset) == (32, (-1.0, -1.0, -0.5))
    network = backbone.build(32)
    assert network.input_shape == (None, 32, 32, 3)
    assert network.count_params() == spec.parameters == saved.count_params()
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    outputs = network(pictures)
    assert set(outputs) == set(spec.endpoints)
    assert outputs["pooled"].shape == (2, *spec.endpoints["pooled"])
    theirs = saved({next(iter(saved.input)): pictures} if isinstance(saved.input, dict) else pictures)
    kind = _IMAGES[f"{name}Backbone"]
    axes = {"cls": (), "map": (1, 2), "mean": (1,), "tower": ()}[kind]
    expected = theirs[:, 0] if kind == "cls" else np.mean(theirs, axis=axes)
    np.testing.assert_allclose(outputs["pooled"], expected, atol=1e-5)
    weights = [id(v) for group in backbone.groups(network) for layer in group for v in layer.weights]
    assert sorted(weights) == sorted(id(v) for v in network.weights)
    assert len(backbone.groups(network)) >= 2
    if kind != "map" or name == "MiT":
        with pytest.raises(UserError, match="32 x 32 pixels only"):
            backbone.build(40)


def test_mistakes_are_one_sentence(tmp_path):
    def message(make):
        with pytest.raises(UserError) as raised:
            make()
        assert "\n" not in str(raised.value)
        assert str(raised.value).count("kerashub:") == 1
        return str(raised.value)

    assert "no such folder" in message(lambda: Kerashub(str(tmp_path / "absent")).spec())
    (tmp_path / "empty").mkdir()
    assert "no config.json" in message(lambda: Kerashub(str(tmp_path / "empty")).spec())
    save(tmp_path / "Bert", "Bert", TEXT["Bert"][1])
    bert = Kerashub(str(tmp_path / "Bert"))
    assert "no tokenizer.json" in message(lambda: bert.preprocessor(Input()))
    assert "32 positions" in message(lambda: bert.preprocessor(Input(max_length=33)))
    config = json.loads((tmp_path / "Bert" / "config.json").read_text())
    for foreign in ({**config, "registered_name": "builtins>Evil"}, {"x": 1}):
        (tmp_path / "Bert" / "config.json").write_text(json.dumps(foreign))
        assert "kerashub:" in message(lambda: Kerashub(str(tmp_path / "Bert")).spec())


def test_a_preset_that_cannot_be_had(monkeypatch):
    from keras_hub.src.utils import preset_utils

    def refuse(*_):
        raise ConnectionError("the network is away.\nand more")

    monkeypatch.setattr(preset_utils, "get_file", refuse)
    with pytest.raises(UserError, match=r"bert_tiny.*cannot be had \(the network is away\)") as raised:
        Kerashub("bert_tiny_en_uncased").spec()
    assert "\n" not in str(raised.value)


def test_offline_only_what_is_kept_is_read(monkeypatch, tmp_path):
    import kagglehub
    from keras_hub.src.utils import preset_utils

    monkeypatch.setenv("TFPT_OFFLINE", "1")
    monkeypatch.setattr(kagglehub.config, "get_cache_folder", lambda: str(tmp_path))
    monkeypatch.setattr(kagglehub, "model_download", lambda *_: pytest.fail("the network was used"))
    with pytest.raises(UserError, match=r"config.json is not on this machine.*TFPT_OFFLINE"):
        Kerashub("bert_tiny_en_uncased").spec()
    save(tmp_path / "Bert", "Bert", TEXT["Bert"][1])
    handle = preset_utils.BUILTIN_PRESETS["bert_tiny_en_uncased"]["kaggle_handle"].removeprefix("kaggle://")
    folder = tmp_path / "models" / handle
    folder.parent.mkdir(parents=True)
    (tmp_path / "Bert").rename(folder)
    assert Kerashub("bert_tiny_en_uncased").spec().endpoints == Kerashub(str(folder)).spec().endpoints
    assert Kerashub("bert_tiny_en_uncased").build(16).count_params() > 0
