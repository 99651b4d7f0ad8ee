"""Whole runs on modules: trained, exported, proven equal in a fresh process, and trained again from the export."""

import pytest
import tensorflow as tf
from toys import hub_modules

from tfpt.serving.servable import Servable


def variables(folder):
    return {v.name: v.numpy() for v in tf.saved_model.load(str(folder)).variables}


def trunk_of(run):
    loaded = tf.saved_model.load(str(run.model_folder / "assets.extra" / "trunk"))
    return {f"{path}:0": v.numpy() for path, v in loaded.variables_by_name.items()}


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    return hub_modules.pictures(tmp_path_factory.mktemp("module") / "m")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A CSV file in which one word decides."""
    rows = [f"a {'very ' * (k % 3)}{word} film {k},{word}" for k in range(40) for word in ("good", "bad")]
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


def moved(before, after):
    assert set(before) == set(after)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def test_a_frozen_run_leaves_every_byte_and_its_export_trains_on(fit, pictures, module, tmp_path):
    options = {"data": f"folder:{pictures}", "batch_size": 16, "epochs": 0}
    run = fit(tmp_path, backbone=f"tfhub:{module}", **options)
    assert run.metrics["parity"]["passed"]
    before, after = variables(module), trunk_of(run)
    assert moved(before, after) == set()

    options |= {"epochs": 2, "unfreeze": "all"}
    again = fit(tmp_path / "again", backbone=f"saved_model:{run.model_folder.parent}", **options)
    assert again.metrics["parity"]["passed"]
    assert moved(after, trunk_of(again)) == set(before)


@pytest.mark.parametrize("kind", ["tokens", "strings"])
def test_texts_learn_and_are_served_raw(fit, sentences, kind, tmp_path):
    if kind == "tokens":
        folder = hub_modules.encoder(tmp_path / "encoder")
        preprocessor = hub_modules.preprocessor(tmp_path / "preprocessor")
        options = {"backbone_options": {"preprocessor": preprocessor}, "epochs": 8}
    else:
        folder, options = hub_modules.sentences(tmp_path / "sentences"), {"epochs": 0}
    run = fit(
        tmp_path / "run",
        task="text_classification",
        data=f"csv:{sentences}",
        backbone=f"tfhub:{folder}",
        head_epochs=15,
        learning_rate=0.03,
        head_learning_rate=0.1,
        **options,
    )
    assert run.metrics["parity"]["passed"]
    if kind == "tokens":
        assert moved(variables(folder), trunk_of(run)) == set(variables(folder))
    assert run.metrics["test"]["accuracy"]["value"] >= 0.9
    answer = Servable.load(run.model_folder).predict({"text": [b"a very good film", b"a bad film"]})
    assert answer["label"].tolist() == [b"good", b"bad"]
