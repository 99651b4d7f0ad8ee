"""A model in other file formats: each file is proven in a fresh process against the SavedModel."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpt import formats
from tfpt.config import Export, Input
from tfpt.console import Console
from tfpt.errors import UserError
from tfpt.formats import _fresh_process, _numbers, _written
from tfpt.registry import find
from tfpt.serving import bundle
from tfpt.serving.servable import Servable
from tfpt.training.assembly import assemble

TEXTS = [b"a word", b"", b"many more words than that, and then some", b"one"]


def saved(folder, *, task, argument, options):
    """Saves a small model whose head is random."""
    backbone = find("backbone", "tiny")(argument)
    preprocessors = {"trunk": backbone.preprocessor(options)}
    task, state = find("task", task)(), {"classes": ["a", "b", "c"]}
    made = assemble(task, state, {"trunk": backbone}, preprocessors, precision="float32", seed=0)
    servable = Servable.of(task=task, state=state, model=made.model, trunks=made.trunks, preprocessors=preprocessors)
    head = made.model.get_layer("head")
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    bundle.save(servable, folder, model_name="m")
    return servable, folder


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("pictures") / "1"
    raw = [{"image": file.read_bytes()} for file in sorted(pictures.rglob("*.png"))[:5]]
    return *saved(folder, task="image_classification", argument="conv", options=Input(image_size=16)), raw


@pytest.fixture(scope="module")
def of_texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "1"
    raw = [{"text": text} for text in TEXTS]
    return *saved(folder, task="text_classification", argument="transformer", options=Input(max_length=24)), raw


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("of_pictures", ("saved_model", "litert", "onnx", "keras")),
        ("of_texts", ("litert", "onnx")),
        pytest.param("of_texts", ("keras",), marks=pytest.mark.slow),
    ],
)
def test_a_file_answers_as_the_saved_model_in_a_fresh_process(request, model, names, tmp_path):
    servable, folder, raw = request.getfixturevalue(model)
    copy = Path(shutil.copytree(folder, tmp_path / "1"))
    found = _written.write(names, servable, copy, raw, console=Console(quiet=True))["formats"]
    there = copy / "assets.extra" / "formats"
    assert {file.name for file in there.iterdir()} == {f"model.{e}" for e in _endings(names)} | {"formats.json"}
    assert json.loads((there / "formats.json").read_text()) == found
    for name in set(names) - {"saved_model"}:
        assert found[name]["examples"] == len(raw)
        assert 0 <= found[name]["max_difference"] <= 1e-4
        assert found[name]["bytes"] == (there / found[name]["file"]).stat().st_size


def _endings(names):
    return [{"litert": "tflite"}.get(name, name) for name in names if name != "saved_model"]


def test_scores_come_beside_the_logits_and_pictures_are_rounded_as_the_host_half_does(of_pictures, tmp_path):
    servable, folder, raw = of_pictures
    file = tmp_path / "model.tflite"
    form = formats.find("litert")
    form.write(servable, folder, file)
    pixels = _written.host_outputs(servable, raw)["inputs"]
    run = form.open(file, threads=1)
    answer = run({"inputs": pixels.astype(np.float32) + 0.4})
    expected = servable.predict({"image": [one["image"] for one in raw]})
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-5)
    single = run({"inputs": pixels[:1]})
    np.testing.assert_allclose(single["outputs"], answer["outputs"][:1], atol=1e-4)


def test_training_publishes_the_formats_that_are_asked_for(fit, pictures, tmp_path):
    run = fit(tmp_path, data=f"folder:{pictures}", epochs=0, export={"formats": ("saved_model", "litert")})
    assert (run.model_folder / "assets.extra" / "formats" / "model.tflite").is_file()
    assert run.metrics["formats"]["litert"]["max_difference"] <= 1e-4
    assert 0 < run.metrics["formats"]["litert"]["examples"] <= 36


def test_a_file_that_answers_otherwise_is_refused(of_pictures, tmp_path, monkeypatch):
    servable, _, raw = of_pictures
    (tmp_path / "assets.extra").mkdir()
    there = {"outputs": np.full((len(raw), 3), 3.2, np.float32)}
    fresh = _fresh_process.answers

    def answers(name, *rest, **more):
        return there if name == "saved_model" else fresh(name, *rest, **more)

    monkeypatch.setattr(_fresh_process, "answers", answers)
    found = _written.write(("toys.toy_format",), servable, tmp_path, raw, console=Console(quiet=True))
    assert found["formats"]["toys.toy_format"]["max_difference"] == pytest.approx(0.2 / 3.2, rel=1e-3)
    there["outputs"] = there["outputs"] * 3
    (tmp_path / "assets.extra" / "formats" / "model.txt").unlink()
    (tmp_path / "assets.extra" / "formats" / "formats.json").unlink()
    (tmp_path / "assets.extra" / "formats").rmdir()
    with pytest.raises(
        UserError,
        match=r"formats=toys.toy_format: model\.txt does not answer what the SavedModel does, an output differs by 0\.69 and "
        r"0\.\d+ is allowed; nothing was published; leave toys.toy_format out of --export\.formats\.$",
    ):
        _written.write(("toys.toy_format",), servable, tmp_path, raw, console=Console(quiet=True))


def test_a_file_that_cannot_be_read_in_a_fresh_process_is_refused(of_pictures, tmp_path, monkeypatch):
    servable, _, raw = of_pictures
    (tmp_path / "assets.extra").mkdir()
    fresh = _fresh_process.answers

    def answers(name, file, *rest, **more):
        if name == "saved_model":
            return {}
        file.write_text("no number")
        return fresh(name, file, *rest, **more)

    monkeypatch.setattr(_fresh_process, "answers", answers)
    with pytest.raises(
        UserError, match=r"process that read model\.txt failed: .*; leave toys.toy_format out of --export\.formats"
    ):
        _written.write(("toys.toy_format",), servable, tmp_path, raw, console=Console(quiet=True))


def test_times_are_of_single_runs(tmp_path):
    (tmp_path / "model.txt").write_text("1")
    took = _fresh_process.times(
        "toys.toy_format", tmp_path / "model.txt", {"inputs": np.zeros((2, 1))}, batch_size=4, threads=1, seconds=0.01
    )
    assert len(took) >= _fresh_process.FEWEST and (took > 0).all()


def test_differences():
    a = {"outputs": np.array([[1.0, 200.0], [np.nan, 0.0]])}
    off = np.array([[0.0, 2.0], [0.0, 0.005]])
    assert _written.largest_difference(a, {"outputs": a["outputs"] + off}) == pytest.approx(0.01)
    assert _written.largest_difference(a, {"outputs": np.nan_to_num(a["outputs"])}) == np.inf
    assert _written.largest_difference(a, {"scores": a["outputs"]}) == np.inf
    longer = np.zeros((2, 5, 3), np.float32)
    longer[:, 4:] = 7.0
    assert _written.largest_difference({"outputs": np.zeros((2, 4, 3))}, {"outputs": longer}) == 0.0


def test_a_format_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="formats: tflite is none of keras, litert, onnx, saved_model"):
        Export(formats=("saved_model", "tflite"))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    formats.check_installed(("saved_model", "keras"))
    with pytest.raises(UserError, match=r"onnx needs tf2onnx: pip install 'tfpt\[onnx\]'"):
        formats.check_installed(("onnx",))


@pytest.mark.parametrize("task", ["token_classification", "question_answering"])
def test_answers_that_need_more_than_the_outputs_are_left_out(task):
    made = find("task", task)()
    state = {"classes": ["O", "B-PER", "I-PER"], "unanswerable": False, "threshold": 0.0}
    servable = Servable(task=made, state=state, preprocessors={}, outputs=lambda x: x, answer=lambda **raw: raw)
    assert _numbers._answers(servable, {"outputs": tf.zeros([1, 4, 3])}) == {}
