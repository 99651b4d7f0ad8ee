"""A bundle loads as the servable that was saved; code from outside tfpt only from packages that are trusted."""

import json
import shutil
import sys

import numpy as np
import pytest
from toys.toy_negative import ToyNegative

from tfpt.config import Input
from tfpt.errors import UserError
from tfpt.registry import find
from tfpt.serving import bundle
from tfpt.serving.servable import Servable, newest_version
from tfpt.tasks.image_classification import ImageClassification
from tfpt.training.assembly import assemble

STATE = {"classes": ["a", "b"]}


class Own(ImageClassification):
    """A task of a script's own: it cannot be found by name."""


def make(task, preprocessor):
    backbones, preprocessors = {"trunk": find("backbone", "tiny")()}, {"trunk": preprocessor}
    made = assemble(task, STATE, backbones, preprocessors, precision="float32", seed=0)
    made.model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(128, 2)))
    return Servable.of(task=task, state=STATE, model=made.model, trunks=made.trunks, preprocessors=preprocessors)


@pytest.fixture(scope="module")
def raw(pictures):
    return {"image": [next((pictures / name).iterdir()).read_bytes() for name in ("blue", "red")]}


@pytest.fixture(scope="module")
def plugged(tmp_path_factory, raw):
    """A bundle with a task and a preprocessor from outside tfpt, and the answers of the servable that was saved."""
    folder = tmp_path_factory.mktemp("plugged") / "1"
    settings = find("backbone", "tiny")().preprocessor(Input(image_size=8)).to_json()
    servable = make(Own(config=Own.Config(dropout=0.25)), ToyNegative.from_json(settings))
    bundle.save(servable, folder, model_name="m")
    return folder, servable.predict(raw)


@pytest.fixture
def copy(plugged, tmp_path):
    """A copy of the bundle that holds nothing but tfpt's own components."""
    shutil.copytree(plugged[0], tmp_path / "m" / "1")
    describe(tmp_path / "m" / "1", task="image_classification", preprocessor="image")
    return tmp_path / "m" / "1"


def describe(folder, *, task=None, preprocessor=None):
    file = folder / "assets.extra" / "tfpt.json"
    values = json.loads(file.read_text())
    values["task"]["name"] = task or values["task"]["name"]
    values["preprocessors"]["trunk"][0] = preprocessor or values["preprocessors"]["trunk"][0]
    file.write_text(json.dumps(values))


def assert_same(answers, wanted):
    assert answers.keys() == wanted.keys()
    np.testing.assert_array_equal(answers["label"], wanted["label"])
    np.testing.assert_allclose(answers["scores"], wanted["scores"], atol=1e-6)


def test_batches_of_all_sizes_are_answered_by_one_graph(raw, monkeypatch):
    decode, traced = Own.decode, []
    monkeypatch.setattr(Own, "decode", lambda *given: traced.append(given) or decode(*given))
    servable = make(Own(), find("backbone", "tiny")().preprocessor(Input(image_size=8)))
    for size in (1, 2, 3):
        assert len(servable.predict({"image": raw["image"][:1] * size})["label"]) == size
    assert len(traced) == 1


def test_a_preprocessor_of_a_trusted_package_comes_back(plugged, raw):
    folder, wanted = plugged
    loaded = Servable.load(folder, trust=["toys"], task=Own())
    assert loaded.preprocessors == {"trunk": ToyNegative.from_json(loaded.preprocessors["trunk"].to_json())}
    assert loaded.preprocessors["trunk"].size == 8
    assert_same(loaded.predict(raw), wanted)
    with pytest.raises(UserError, match=r"preprocessor toys.toy_negative from outside tfpt; add --trust=toys"):
        Servable.load(folder, task=Own())


def test_a_task_that_was_an_object_must_be_given_again(plugged):
    folder, _ = plugged
    module = Own.__module__
    with pytest.raises(UserError, match=rf"task {module}.Own from outside tfpt; add --trust={module.split('.')[0]}"):
        Servable.load(folder, trust=["toys"])
    with pytest.raises(UserError, match=rf"--task={module}.Own: there is no module"):
        Servable.load(folder, trust=["toys", module])
    task = Own()
    assert Servable.load(folder, trust=["toys"], task=task).task is task


@pytest.mark.parametrize("kind", ["task", "preprocessor"])
def test_a_bundle_imports_nothing_that_is_not_trusted(copy, kind, tmp_path, monkeypatch):
    package, trace = f"stranger_{kind}", tmp_path / "trace"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / package / "payload.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    describe(copy, **{kind: f"{package}.payload"})
    for trust in ((), ("toys", "payload", f"{package}.payload", "")):
        with pytest.raises(UserError, match=f"uses the {kind} {package}.payload from outside tfpt; add --trust="):
            Servable.load(copy, trust=trust)
    assert not trace.exists()
    assert not [name for name in sys.modules if name.startswith(package)]
    with pytest.raises(UserError, match="has no class Payload"):
        Servable.load(copy, trust=[package])
    assert trace.exists()  # so the module would have left its trace above


def test_a_folder_of_versions_stands_for_its_newest(copy, raw):
    for name in ("2", "10", "²", "next"):
        (copy.parent / name).mkdir()
    shutil.copytree(copy, copy.parent / "11")
    assert newest_version(copy.parent) == copy.parent / "11"
    loaded = Servable.load(copy.parent)
    assert loaded.folder == copy.parent / "11"
    assert type(loaded.task) is ImageClassification
    assert loaded.task.config.dropout == 0.25
    assert loaded.state == STATE


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("assets.extra/tfpt.json", None, "not one that tfpt exported"),
        ("assets.extra/tfpt.json", "{", "tfpt.json is damaged"),
        ("assets.extra/tfpt.json", "{}", "is damaged"),
        ("saved_model.pb", "no model", "is damaged"),
        ("variables/variables.index", "", "is damaged"),
    ],
)
def test_a_bundle_that_is_not_whole_is_said(copy, file, content, says):
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    with pytest.raises(UserError, match=rf"--model=.*{says}"):
        Servable.load(copy)


def test_a_folder_without_a_bundle_is_said(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        Servable.load(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no version folder"):
        Servable.load(tmp_path)
