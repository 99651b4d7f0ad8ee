"""A folder or an address of a reusable SavedModel becomes a trunk, or one sentence says why not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toys import hub_modules

from tfpt.backbones.tfhub import Tfhub
from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.training.assembly import assemble
from tfpt.training.freezing import batch_norm_momenta, rate_groups, set_trainable
from tfpt.weights import catalogue

PICTURES = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Modules by name."""
    tmp = tmp_path_factory.mktemp("modules")
    return {
        "pictures": hub_modules.pictures(tmp / "pictures"),
        "fixed": hub_modules.pictures(tmp / "fixed", side=16, nested=False),
        "encoder": hub_modules.encoder(tmp / "encoder"),
        "preprocessor": hub_modules.preprocessor(tmp / "preprocessor"),
        "whole": hub_modules.preprocessor(tmp / "whole", packs=False),
        "sentences": hub_modules.sentences(tmp / "sentences"),
    }


def encoder(made, preprocessor="preprocessor"):
    return Tfhub(made["encoder"], Tfhub.Config(preprocessor=made[preprocessor]))


def test_pictures(made):
    backbone = Tfhub(made["pictures"])
    spec = backbone.spec()
    assert (spec.modality, spec.size, spec.value_range) == ("image", 224, (0.0, 1.0))
    assert spec.endpoints["pooled"] == (5,)
    assert spec.endpoints["maps/stem"] == (None, None, 4)
    model = backbone.build(16)
    assert spec.parameters == model.count_params()
    loaded = tf.saved_model.load(made["pictures"])(PICTURES, training=False)
    outputs = model(PICTURES, training=False)
    assert set(outputs) == set(spec.endpoints)
    np.testing.assert_array_equal(outputs["pooled"], loaded["default"])
    np.testing.assert_array_equal(outputs["maps/block/0"], loaded["maps"]["block"][0])
    preprocessor = backbone.preprocessor(Input(image_size=16, resize="crop"))
    assert (preprocessor.size, preprocessor.resize) == (16, "crop")
    white = preprocessor.device()(np.full((1, 16, 16, 3), 255, np.uint8))
    np.testing.assert_allclose(white, 1.0, rtol=1e-6)


def test_a_map_is_averaged(made):
    backbone = Tfhub(made["pictures"], Tfhub.Config(output="maps/block/0"))
    assert backbone.spec().endpoints["pooled"] == (6,)
    outputs = backbone.build(16)(PICTURES, training=False)
    np.testing.assert_allclose(outputs["pooled"], np.mean(outputs["maps/block/0"], (1, 2)), rtol=1e-5, atol=1e-7)


def test_a_fixed_size_is_the_default_and_the_only_one(made):
    backbone = Tfhub(made["fixed"])
    assert backbone.spec().size == 16
    assert backbone.build(16)(PICTURES)["pooled"].shape == (2, 5)
    with pytest.raises(UserError, match=r"--input\.image_size=32.*16 pixels only"):
        backbone.build(32)


def test_texts(made):
    backbone = encoder(made)
    spec = backbone.spec()
    assert (spec.modality, spec.size) == ("text", 8)
    assert spec.endpoints["pooled"] == (3,)
    assert spec.endpoints["sequence"] == (None, 6)
    preprocessor = backbone.preprocessor(Input())
    texts = tf.constant(["a very good film", "bad", "", "no such words at all in there"])
    values, frame = preprocessor.host_batch(texts)
    assert (values.shape, values.dtype, frame) == ((4, 8, 3), tf.int32, {})
    assert preprocessor.host_spec() == ((None, 3), "int32")
    one, _ = preprocessor.host(tf.constant("bad"))
    assert one.shape == (3, 3)  # padding is cut off
    np.testing.assert_array_equal(one, values[1, :3])
    assert not np.any(values[1, 3:])
    loaded = tf.saved_model.load(made["encoder"])
    wanted = loaded(tf.saved_model.load(made["preprocessor"])(texts), training=False)
    outputs = backbone.build(8)(preprocessor.device()(values))
    np.testing.assert_array_equal(outputs["pooled"], wanted["pooled_output"])
    np.testing.assert_array_equal(outputs["sequence"], wanted["sequence_output"])
    alone = backbone.build(8)(preprocessor.device()(one[None]))
    np.testing.assert_allclose(alone["pooled"], wanted["pooled_output"][1:2], rtol=1e-5)


def test_another_length_and_pairs_are_packed(made):
    preprocessor = encoder(made).preprocessor(Input(max_length=6)).for_features({"text", "text_pair"})
    assert preprocessor.raw_features == ("text", "text_pair")
    values, _ = preprocessor.host_batch(tf.constant(["good"]), tf.constant(["bad film"]))
    named = {name: x.numpy().tolist() for name, x in preprocessor.device()(values).items()}
    assert named["input_word_ids"] == [[2, 4, 3, 5, 6, 3]]
    assert named["input_type_ids"] == [[0, 0, 0, 1, 1, 1]]
    assert named["input_mask"] == [[1] * 6]
    single = preprocessor.for_features({"text"})
    assert single.raw_features == ("text",)
    whole = encoder(made, "whole")
    assert whole.preprocessor(Input(max_length=8)).size == 8
    with pytest.raises(UserError, match=r"--input\.max_length=6.*makes 8 tokens only.*tokenize"):
        whole.preprocessor(Input(max_length=6))
    with pytest.raises(UserError, match="single texts"):
        whole.preprocessor(Input()).for_features({"text", "text_pair"})


def test_strings_become_vectors_in_the_pipeline(made):
    backbone = Tfhub(made["sentences"])
    spec = backbone.spec()
    assert (spec.modality, spec.endpoints, spec.parameters) == ("text", {"pooled": (16,)}, 0)
    assert "never trained" in spec.origin
    preprocessor = backbone.preprocessor(Input())
    texts = tf.constant(["a good film", "bad"])
    values, _ = preprocessor.host_batch(texts)
    assert values.dtype == tf.float32
    model = backbone.build(preprocessor.size)
    wanted = tf.saved_model.load(made["sentences"])(texts, training=False)
    np.testing.assert_array_equal(model(preprocessor.device()(values))["pooled"], wanted)
    assert not model.weights
    assert backbone.groups(model) == []


def test_ops_of_tensorflow_text_are_seen(made, tmp_path):
    import tensorflow_text

    tokenizer = tensorflow_text.WhitespaceTokenizer()
    table = tf.Variable(hub_modules.numbers([50, 4], 1), name="words/embeddings")

    def call(texts, training=False):
        words = tf.strings.to_hash_bucket_fast(tokenizer.tokenize(texts), 50)
        return tf.reduce_sum(tf.gather(table, words), 1)

    folder = hub_modules.save(tmp_path / "m", call, tf.TensorSpec([None], tf.string), [table], tokenizer=tokenizer)
    assert Tfhub(folder).preprocessor(Input()).libraries == ("tensorflow_text",)
    assert Tfhub(made["sentences"]).preprocessor(Input()).libraries == ()


def test_a_preprocessor_that_changed_is_refused(tmp_path):
    folder = hub_modules.preprocessor(tmp_path / "p")
    hub_modules.encoder(tmp_path / "e")
    backbone = Tfhub(str(tmp_path / "e"), Tfhub.Config(preprocessor=folder))
    preprocessor = backbone.preprocessor(Input())
    again = type(preprocessor).from_json(preprocessor.to_json())
    assert again == preprocessor
    (tmp_path / "p" / "assets" / "p.txt").write_text("other\nwords\n")
    with pytest.raises(UserError, match="not the SavedModel it was"):
        again.host_batch(tf.constant(["good"]))


@pytest.fixture
def assembly(made):
    from tfpt.registry import find

    task = find("task", "image_classification")()
    backbone = Tfhub(made["pictures"])
    preprocessor = backbone.preprocessor(Input(image_size=16))
    parts = {"trunk": backbone}, {"trunk": preprocessor}
    return assemble(task, {"classes": ["a", "b"]}, *parts, precision="float32", seed=0)


def trained(assembly):
    return sorted(v.path for v in assembly.trunks["trunk"].trainable_variables)


def test_groups_and_policies_go_by_the_names_of_variables(assembly):
    backbone, network = assembly.backbones["trunk"], assembly.trunks["trunk"].network
    names = [[scope.scope for scope in group] for group in backbone.groups(network)]
    assert names == [["net/stem", "net/stem/norm"], ["net/block_1/conv"], ["net/top"]]
    set_trainable(assembly, unfreeze="none", train_batch_norm=True)
    assert trained(assembly) == []
    set_trainable(assembly, unfreeze="last:1", train_batch_norm=True)
    assert trained(assembly) == ["net/top/bias", "net/top/kernel"]
    set_trainable(assembly, unfreeze="last:2", train_batch_norm=True)
    assert len(trained(assembly)) == 3
    set_trainable(assembly, unfreeze="all", train_batch_norm=False)
    assert trained(assembly) == ["net/block_1/conv/kernel", "net/stem/kernel", "net/top/bias", "net/top/kernel"]
    set_trainable(assembly, unfreeze="regex:kernel$", train_batch_norm=True)
    from tfpt.config import Optim

    groups = rate_groups(assembly, Optim(layer_decay=0.5), unfreeze="regex:kernel$", head_multiplier=1.0)
    rates = {v.path: group.multiplier for group in groups for v in group.variables if v.path.startswith("net")}
    assert rates == {"net/top/kernel": 0.5, "net/block_1/conv/kernel": 0.25, "net/stem/kernel": 0.125}
    with pytest.raises(UserError, match=r"last:4.*3 groups"):
        set_trainable(assembly, unfreeze="last:4", train_batch_norm=True)


def test_batch_normalisation_is_known_with_its_momentum(assembly):
    ((layer, momentum),) = batch_norm_momenta(assembly)
    assert layer.scope == "net/stem/norm"
    assert momentum == pytest.approx(hub_modules.MOMENTUM)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            [
                "r/conv1",
                "r/block1/unit_1/b_v2/conv1",
                "r/block1/unit_1/b_v2/conv2",
                "r/block1/unit_2/b_v2/conv1",
                "r/logits",
            ],
            [1, 2, 1, 1],
        ),
        (["M/Conv", "M/Conv/BatchNorm", "M/expanded_conv/expand", "M/expanded_conv_1/expand"], [2, 1, 1]),
        (["words", "norm", "transformer/layer_0/q", "transformer/layer_0/k", "transformer/layer_1/q"], [1, 1, 2, 1]),
        (["stem_conv", "stem_bn", "block1a_conv", "block1a_bn", "block2a_conv", "top"], [1, 1, 2, 1, 1]),
        ([""], [1]),
    ],
)
def test_names_of_known_kinds_of_modules(names, groups, tmp_path):
    kernels = [tf.Variable(tf.ones([3, 5]), name=f"{name}/kernel".strip("/")) for name in names]
    folder = hub_modules.save(
        tmp_path / "m",
        lambda x, training=False: tf.reduce_mean(x, [1, 2]) @ tf.add_n([k.read_value() for k in kernels]),
        tf.TensorSpec([None, 16, 16, 3]),
        kernels,
    )
    backbone = Tfhub(folder)
    assert [len(group) for group in backbone.groups(backbone.build(16))] == groups


def test_an_address_is_fetched_once_and_locked(made, tmp_path, monkeypatch):
    import shutil

    address = "https://hub.example/pictures/1"
    entry = catalogue.find(f"tfhub:{address}")
    shutil.copytree(made["pictures"], tmp_path / "mirror" / entry.filename)
    monkeypatch.setenv("TFPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFPT_OFFLINE", "1")
    monkeypatch.setenv("TFPT_WEIGHTS", str(tmp_path / "mirror"))
    backbone = Tfhub(address)
    assert backbone.weight_files() == (f"tfhub:{address}",)
    assert Tfhub(made["pictures"]).weight_files() == ()
    assert backbone.build(16)(PICTURES)["pooled"].shape == (2, 5)
    monkeypatch.delenv("TFPT_WEIGHTS")
    assert Tfhub(address).spec().endpoints["pooled"] == (5,)
    with pytest.raises(UserError, match=r"hub\.example/other/1.*--offline"):
        Tfhub("https://hub.example/other/1").spec()


def old(folder):
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"")
    (folder / "tfhub_module.pb").write_bytes(b"")


def version_1(folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 16, 16, 3])
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": tf.reduce_mean(x, [1, 2])})
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


def damaged(folder):
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\xff" * 50)


def served_only(folder):
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, keras.layers.Flatten()(inputs)).export(str(folder), verbose=False)


def numbers_only(folder):
    hub_modules.save(folder, lambda x, training=False: x, tf.TensorSpec([None, 7]), [])


def several(folder):
    kernels = [tf.Variable(tf.ones([3, k]), name=f"k{k}") for k in (2, 3)]

    def call(x, training=False):
        return {f"out{k}": tf.reduce_mean(x, [1, 2]) @ kernel for k, kernel in enumerate(kernels)}

    hub_modules.save(folder, call, tf.TensorSpec([None, 16, 16, 3]), kernels)


def python(folder):
    hub_modules.pictures(folder, op=lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), x.shape))


def reads(folder):
    hub_modules.pictures(
        folder, op=lambda x: x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
    )


def reads_inside(folder):
    def op(x):
        return tf.cond(
            tf.reduce_sum(x) > 1e9, lambda: x + tf.cast(tf.size(tf.io.matching_files("/*")), x.dtype), lambda: x
        )

    hub_modules.pictures(folder, op=op)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda folder: None, "there is no such folder"),
        (lambda folder: folder.mkdir(), "holds no saved_model.pb"),
        (old, "format of TensorFlow 1.*TF2 version"),
        (version_1, "format of TensorFlow 1.*TF2 version"),
        (damaged, "damaged"),
        (served_only, r"served but not called.*--backbone=keras:FILE\.keras"),
        (numbers_only, r"takes \[None, 7\] float32; a trunk takes"),
        (several, r"--backbone\.output=auto.*out0 \[None, 2\], out1 \[None, 3\]"),
        (hub_modules.encoder, r"--backbone\.preprocessor=FOLDER"),
        (python, r"EagerPyFunc.*--backbone\.trust=true"),
        (reads, "ReadFile"),
        (reads_inside, "MatchingFiles"),
    ],
)
def test_what_cannot_be_a_trunk_is_told_in_one_sentence(write, said, tmp_path):
    write(tmp_path / "m")
    with pytest.raises(UserError, match=said) as raised:
        Tfhub(str(tmp_path / "m")).spec()
    assert "\n" not in str(raised.value)


def test_trusted_code_and_chosen_outputs(tmp_path):
    several(tmp_path / "several")
    assert Tfhub(str(tmp_path / "several"), Tfhub.Config(output="out1")).spec().endpoints["pooled"] == (3,)
    with pytest.raises(UserError, match=r"--backbone\.output=out7"):
        Tfhub(str(tmp_path / "several"), Tfhub.Config(output="out7")).spec()
    reads(tmp_path / "reads")
    assert Tfhub(str(tmp_path / "reads"), Tfhub.Config(trust=True)).spec().endpoints["pooled"] == (5,)


def test_a_preprocessor_of_another_encoder_is_refused(made):
    with pytest.raises(UserError, match=r"--backbone\.preprocessor=.*does not make input_mask"):
        Tfhub(made["encoder"], Tfhub.Config(preprocessor=made["sentences"])).preprocessor(Input())
    with pytest.raises(UserError, match="name the folder"):
        Tfhub("")
