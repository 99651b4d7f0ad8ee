"""Runs of objects that were given in Python are told apart by what the objects hold."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pandas
import pytest

import tfpt
from tfpt.backbones.keras import Keras
from tfpt.config import Component
from tfpt.data._given import as_source
from tfpt.errors import UserError
from tfpt.given_objects import identified
from tfpt.tasks.image_classification import ImageClassification
from tfpt.tasks.text_classification import TextClassification
from tfpt.training.run_folder import RunFolder

FRAME = pandas.DataFrame({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "stars": [1.5, 2.0, 3.0]})
SENTENCES = pandas.DataFrame({"tokens": [["a", "b"], ["c"]], "tags": [["O", "B-PER"], ["O"]]})
QUESTIONS = pandas.DataFrame({"question": ["q", "r"], "context": ["a b", "a b"], "answers": ["a", "b"]})


def of(kind, thing, **options):
    return str(identified(Component.given(kind, as_source(thing, options) if kind == "data" else thing)))


def network(seed, *, start="he_normal"):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    dropped = keras.layers.Dropout(0.1)(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(2, 3, kernel_initializer=start)(dropped))


def test_equal_data_has_one_name_in_any_order():
    assert of("data", FRAME).startswith("object:GivenFrames@")
    assert of("data", FRAME) == of("data", FRAME.copy()) == of("data", FRAME[::-1])


@pytest.mark.parametrize(
    "other",
    [
        of("data", FRAME.assign(text=["a", "b", "d"])),
        of("data", FRAME.assign(label=["x", "y", "y"])),
        of("data", FRAME.assign(label=["x", "z", "x"])),
        of("data", FRAME, label="stars"),
        of("data", FRAME, label="stars", label_type="class"),
        of("data", FRAME.assign(stars=[1.5, 2.0, 3.5]), label="stars"),
        of("data", FRAME, label="none"),
    ],
)
def test_other_contents_labels_names_or_settings_have_another(other):
    assert other != of("data", FRAME)


def test_splits_count():
    one, other = FRAME[:2], FRAME[1:]
    assert of("data", {"train": one, "test": other}) != of("data", {"train": other, "test": one})


def test_numbers_tags_and_answers_count():
    stars = {"label": "stars"}
    assert of("data", FRAME.assign(stars=[1.5, 2.0, 3.5]), **stars) != of("data", FRAME, **stars)
    columns = {"tokens": "tokens", "tags": "tags"}
    other = SENTENCES.assign(tags=[["B-PER", "O"], ["O"]])
    assert of("data", SENTENCES, **columns) != of("data", other, **columns)
    assert of("data", QUESTIONS) != of("data", QUESTIONS.assign(answers=["a", "a b"]))


def test_models_are_told_apart_by_their_weights():
    assert of("backbone", Keras.from_model(network(1))) == of("backbone", Keras.from_model(network(1)))
    assert of("backbone", Keras.from_model(network(1))) != of("backbone", Keras.from_model(network(2)))


def test_settings_of_a_task_count():
    assert of("task", ImageClassification()) == "object:ImageClassification"
    dropout = TextClassification(config=TextClassification.Config(dropout=0.5))
    assert of("task", dropout).startswith("object:TextClassification@")
    named = Component.parse("task", "text_classification")
    assert identified(named) is named


def test_what_is_identified_again_keeps_its_name():
    once = identified(Component.given("data", as_source(FRAME, {})))
    assert identified(once) == once
    task = TextClassification(config=TextClassification.Config(dropout=0.5))
    own = Component(
        kind="task", name="object", argument="TextClassification+loss=mine@0123abcd", instance=TextClassification()
    )
    assert identified(own) == own
    own = identified(dataclasses.replace(own, instance=task))
    assert own.argument.startswith("TextClassification+loss=mine@0123abcd@") and identified(own) == own


def test_settings_without_a_default_count():
    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int

    one, same, other = (str(identified(Component.given("task", SimpleNamespace(config=Config(k))))) for k in (1, 1, 2))
    assert one.startswith("object:SimpleNamespace@") and one == same != other


def test_other_data_is_another_run(monkeypatch, tmp_path):
    monkeypatch.setattr("tfpt.run.fit_experiment", lambda experiment, console: experiment)

    def fit(frame, data_options=None, **options):
        made = {"task": "text_classification", "backbone": "tiny:transformer", "epochs": 1, **options}
        return tfpt.fit(data=frame, data_options=data_options or {}, **made)

    first, other = fit(FRAME), fit(FRAME, {"label": "stars"})
    assert first.output.run_dir == fit(FRAME.copy()).output.run_dir != other.output.run_dir
    output = {"run_dir": str(tmp_path / "run")}
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_experiment(fit(FRAME, output=output))
    folder.check_same(fit(FRAME, output=output))
    with pytest.raises(UserError, match=r"holds a run with other settings \(data\)"):
        folder.check_same(fit(FRAME[1:], output=output))
    pictures, labels = np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1]
    runs = [
        fit((pictures, labels), task="image_classification", backbone=network(seed)).output.run_dir
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1] != runs[2]
    with pytest.raises(UserError, match="backbone_options: backbone is an object"):
        fit((pictures, labels), task="image_classification", backbone=network(1), backbone_options={"x": 1})
