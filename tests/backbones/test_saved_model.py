"""The trunk of an exported model is a backbone again: fed the same, answering the same, every variable trainable."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from toys import hub_modules

from tfpt.backbones.saved_model import SavedModel
from tfpt.backbones.tfhub import Tfhub
from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.serving import bundle
from tfpt.serving.servable import Servable
from tfpt.training.assembly import assemble
from tfpt.training.freezing import batch_norm_momenta, set_trainable

PICTURES = tf.constant([hub_modules.png(seed) for seed in range(3)])
TEXTS = tf.constant(["a very good film", "bad", ""])


def export(folder, task, backbone, options, *, trunks=("trunk",)):
    """Writes a bundle of an untrained model; returns it and the model's parts."""
    task = find("task", task)()
    preprocessors = {name: backbone.preprocessor(options) for name in trunks}
    state = {"classes": ["a", "b"]}
    parts = assemble(task, state, dict.fromkeys(trunks, backbone), preprocessors, precision="float32", seed=3)
    servable = Servable.of(task=task, state=state, model=parts.model, trunks=parts.trunks, preprocessors=preprocessors)
    bundle.save(servable, folder, model_name="probe")
    return parts, preprocessors["trunk"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Kind -> folder, assembly, preprocessor and raw examples."""
    tmp = tmp_path_factory.mktemp("bundles")
    of_tiny, of_text = find("backbone", "tiny")("conv"), find("backbone", "tiny")("transformer")
    config = Tfhub.Config(preprocessor=hub_modules.preprocessor(tmp / "p"))
    of_hub = Tfhub(hub_modules.encoder(tmp / "e"), config)
    made = {
        "image": ("image_classification", of_tiny, Input(image_size=16, resize="crop"), PICTURES),
        "text": ("text_classification", of_text, Input(max_length=16), TEXTS),
        "hub_text": ("text_classification", of_hub, Input(), TEXTS),
    }
    return {
        kind: (tmp / kind / "1", *export(tmp / kind / "1", task, backbone, options), raw)
        for kind, (task, backbone, options, raw) in made.items()
    }


@pytest.mark.parametrize("kind", ["image", "text", "hub_text"])
def test_it_answers_as_the_trunk_did_and_trains_again(bundles, kind):
    folder, parts, before, raw = bundles[kind]
    backbone = SavedModel(str(folder.parent))
    preprocessor = backbone.preprocessor(Input())
    assert type(preprocessor) is type(before)
    assert preprocessor.size == before.size
    assert getattr(preprocessor, "resize", None) == getattr(before, "resize", None)
    task = find("task", "text_classification" if "text" in kind else "image_classification")()
    state = {"classes": ["a", "b", "c"]}
    again = assemble(task, state, {"trunk": backbone}, {"trunk": preprocessor}, precision="float32", seed=0)
    trunk = again.trunks["trunk"]
    values, _ = before.host_batch(raw)
    same, _ = preprocessor.host_batch(raw)
    np.testing.assert_array_equal(same, values)
    wanted = parts.trunks["trunk"](values)["pooled"]
    np.testing.assert_allclose(trunk(values)["pooled"], wanted, rtol=1e-5, atol=1e-6)  # one is lean, one is not

    spec = backbone.spec()
    assert spec.endpoints["pooled"] == tuple(wanted.shape[1:])
    assert spec.parameters == parts.trunks["trunk"].count_params()
    assert {v.path for v in trunk.variables} == {v.path for v in parts.trunks["trunk"].variables}
    set_trainable(again, unfreeze="all", train_batch_norm=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(trunk(values, training=True)["pooled"] ** 2)
    variables = trunk.trainable_variables
    gradients = tape.gradient(loss, [v.value for v in variables])
    assert len(variables) == len(parts.trunks["trunk"].trainable_variables)
    assert all(gradient is not None for gradient in gradients)
    assert [momentum for _, momentum in batch_norm_momenta(again)] == [0.9] * (6 if kind == "image" else 0)


def test_groups_are_those_of_the_network_that_was_exported(bundles):
    folder, parts, before, _ = bundles["image"]
    backbone = SavedModel(str(folder))
    groups = backbone.groups(backbone.build(16))
    wanted = parts.backbones["trunk"].groups(parts.trunks["trunk"].network)
    assert [{v.path for scope in group for v in scope.variables} for group in groups] == [
        {v.path for layer in group for v in layer.variables} for group in wanted
    ]
    assert backbone.preprocessor(Input(image_size=16)).size == before.size


def test_a_trunk_of_a_trunk(bundles, tmp_path):
    folder, _, before, raw = bundles["image"]
    parts, _ = export(tmp_path / "1", "image_classification", SavedModel(str(folder)), Input())
    backbone = SavedModel(str(tmp_path))
    values, _ = before.host_batch(raw)
    network, device = backbone.build(16), backbone.preprocessor(Input()).device()
    np.testing.assert_allclose(network(device(values))["pooled"], parts.trunks["trunk"](values)["pooled"], rtol=1e-6)


def test_other_sizes(bundles):
    with pytest.raises(UserError, match=r"--input\.image_size=32.*takes only 16"):
        SavedModel(str(bundles["image"][0])).preprocessor(Input(image_size=32))
    with pytest.raises(UserError, match=r"--input\.max_length=99.*takes at most 16"):
        SavedModel(str(bundles["text"][0])).preprocessor(Input(max_length=99))
    assert SavedModel(str(bundles["text"][0])).preprocessor(Input(max_length=9)).size == 9


def described(folder, change):
    """Returns a copy of a bundle whose description was changed."""

    def make(source):
        shutil.copytree(source, folder / "1")
        file = folder / "1" / "assets.extra" / "tfpt.json"
        values = json.loads(file.read_text())
        change(values["preprocessors"])
        file.write_text(json.dumps(values))
        return folder

    return make


def test_what_question_answering_asked_of_its_preprocessor_is_asked_of_no_other_task(bundles, tmp_path):
    def of_questions(preprocessors):
        kind, settings = preprocessors["trunk"]
        asked = {"features": ["question", "context"], "offsets": True, "words": True, "first_length": 9}
        preprocessors["trunk"] = [kind, {**settings, **asked}]

    folder = described(tmp_path, of_questions)(bundles["text"][0])
    made = SavedModel(str(folder)).preprocessor(Input())
    assert (made.offsets, made.words, made.first_length) == (False, False, 0)
    assert made.for_features({"text"}).features == ("text",)
    values, _ = made.for_features({"text", "text_pair"}).host(tf.constant("a " * 50), tf.constant("b " * 50))
    assert len(values) == made.size
    assert made.for_features({"question", "context"}).with_whole_second(first_length=5).first_length == 5


def test_nothing_that_a_bundle_names_is_imported(bundles, tmp_path):
    def foreign(preprocessors):
        preprocessors["trunk"][0] = "toys.toy_evil"

    folder = described(tmp_path, foreign)(bundles["image"][0])
    with pytest.raises(UserError, match=r"preprocessor toys\.toy_evil is not one of tfpt's"):
        SavedModel(str(folder)).spec()


def test_one_of_several_trunks_is_named(bundles, tmp_path):
    def two(preprocessors):
        preprocessors["left"] = preprocessors["right"] = preprocessors.pop("trunk")

    folder = described(tmp_path, two)(bundles["image"][0])
    (folder / "1" / "assets.extra" / "trunk").rename(folder / "1" / "assets.extra" / "trunk-right")
    with pytest.raises(UserError, match=r"the trunks left, right; name one of them with --backbone\.trunk"):
        SavedModel(str(folder)).spec()
    right = SavedModel(str(folder), SavedModel.Config(trunk="right"))
    assert right.build(16).output["pooled"].shape == (None, 128)


def test_what_is_no_bundle_is_told_in_one_sentence(bundles, tmp_path):
    damaged = described(tmp_path / "damaged", lambda preprocessors: preprocessors.clear())(bundles["image"][0])
    (tmp_path / "empty").mkdir()
    module = hub_modules.pictures(tmp_path / "module")
    for folder, said in (
        ("", "name a folder"),
        (str(tmp_path / "absent"), "is not there"),
        (str(tmp_path / "empty"), "holds no version folder"),
        (module, r"not exported by tfpt.*--backbone=tfhub:FOLDER"),
        (str(damaged), "damaged"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            SavedModel(folder).spec()
        assert "\n" not in str(raised.value)
