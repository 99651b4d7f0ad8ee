import numpy as np
import pytest
import tensorflow as tf

from tfpt.backbones import CheckpointHead
from tfpt.data import DataSource, Index, Info
from tfpt.data.jsonl import Jsonl
from tfpt.errors import UserError
from tfpt.training.alignment import aligned, named

MODEL = {"labels": "single", "classes": ["ant", "bee", "cat"]}


class Labels(DataSource):
    """Two examples with one feature beside the text."""

    def __init__(self, feature, values, classes=()):
        super().__init__()
        self.feature, self.values, self.classes = feature, tf.constant(values), classes

    def info(self):
        return Info(features={"text": "text", self.feature: "label"}, classes=self.classes, size=2)

    def index(self):
        one = self.feature == "label"
        return Index(names=["x", "y"], labels=self.values.numpy() if one else None, splits=["", ""])

    def example(self, k):
        return {"text": tf.constant(b""), self.feature: tf.gather(self.values, k)}


def of_all(source, feature):
    found = tf.data.Dataset.range(2).map(lambda k: source.example(k)[feature])
    return found.element_spec.shape, [value.tolist() for value in found.as_numpy_iterator()]


def test_classes_are_matched_by_name():
    source = aligned(Labels("label", [0, 1], ("cat", "ant")), MODEL, data="d")
    assert source.info().classes == ("ant", "bee", "cat")
    np.testing.assert_array_equal(source.index().labels, [2, 0])
    assert of_all(source, "label") == ((), [2, 0])


def test_numbers_are_those_of_the_models_classes():
    source = aligned(Labels("label", [0, 1], ("0", "2")), MODEL, data="d")
    assert source.index().labels.tolist() == [0, 2]
    assert source.info().notes == ("The data's classes are taken as numbers of the model's: 0 is ant, 2 is cat.",)
    by_name = aligned(Labels("label", [0, 1], ("0", "2")), {**MODEL, "classes": ["2", "0", "1"]}, data="d")
    assert (by_name.index().labels.tolist(), by_name.info().notes) == ([1, 0], ())
    floats = aligned(Labels("label", [0, 1], ("0.0", "1.0")), {**MODEL, "classes": ["1", "0"]}, data="d")
    assert floats.index().labels.tolist() == [1, 0]
    for classes in (("0", "3"), ("0", "dog"), ("-1", "0"), ("1", "2")):  # counted from 1, perhaps
        with pytest.raises(UserError, match="the model does not know the class"):
            aligned(Labels("label", [0, 1], classes), MODEL, data="d")


def test_classes_without_names_are_those_of_the_data_in_their_order():
    counted = {**MODEL, "classes": ["LABEL_0", "LABEL_1"]}
    source = aligned(Labels("label", [1, 0], ("neg", "pos")), counted, data="d")
    assert source.index().labels.tolist() == [1, 0]
    said = "The model's classes have no names, so they are taken to be in the order of the data's: LABEL_0 is neg, LABEL_1 is pos; "
    assert source.info().notes == (said + "check that it is so.",)
    assert aligned(Labels("label", [1, 0], ("0", "1")), counted, data="d").index().labels.tolist() == [1, 0]
    with pytest.raises(UserError, match="does not know the classes neg, pos, so; it knows LABEL_0, LABEL_1"):
        aligned(Labels("label", [1, 0], ("neg", "pos", "so")), counted, data="d")
    head = CheckpointHead(layers=(), endpoint="pooled", classes=("LABEL_0", "LABEL_1"), problem="single")
    renamed, note = named(head, ("neg", "pos"))
    assert renamed.classes == ("neg", "pos") and note.startswith(said)
    assert named(renamed, ("a", "b")) == (renamed, "")


@pytest.mark.parametrize(
    ("own", "classes", "found"),
    [
        (("01", "1"), ["01", "1"], [0, 1]),
        (("1", "01"), ["01", "1"], [1, 0]),
        (("12345678901234567", "12345678901234568"), ["12345678901234568", "12345678901234567"], [1, 0]),
        (("2.0", "01"), ["1", "2"], [1, 0]),
    ],
)
def test_a_name_as_it_is_written_goes_before_the_number_it_stands_for(own, classes, found):
    source = aligned(Labels("label", [0, 1], own), {**MODEL, "classes": classes}, data="d")
    assert source.index().labels.tolist() == found


def test_tags_are_matched_by_name():
    source = aligned(Labels("tags", [[0, 1], [1, 1]], ("cat", "ant")), {"classes": ["ant", "bee", "cat"]}, data="d")
    assert of_all(source, "tags") == ((2,), [[2, 0], [0, 0]])


def test_columns_of_classes_are_matched_by_name():
    held = Labels("labels", [[1.0, 0.0], [1.0, 1.0]], ("cat", "ant"))
    source = aligned(held, {**MODEL, "labels": "multi"}, data="d")
    assert of_all(source, "labels") == ((3,), [[0, 0, 1], [1, 0, 1]])
    assert source.index().labels is None


def test_numbers_stay_as_they_are():
    source = Labels("target", [[1.0], [2.0]])
    assert aligned(source, {"labels": "values", "mean": [0.0], "spread": [1.0]}, data="d") is source


@pytest.mark.parametrize(
    ("source", "state", "sentence"),
    [
        (
            Labels("label", [0, 1], ("cat", "dog")),
            MODEL,
            "the model does not know the class dog; it knows ant, bee, cat",
        ),
        (Labels("label", [0, 1], ("cat",)), {**MODEL, "labels": "multi"}, "holds one class an example, and the model"),
        (
            Labels("labels", [[1.0]] * 2, ("cat",)),
            MODEL,
            "holds any number of classes an example, and the model answers",
        ),
        (Labels("other", [0, 1]), MODEL, "has no labels, and the model answers one class an example; `tfpt predict`"),
        (Labels("label", [0, 1]), {"classes": ["ant"]}, "has no classes to compare with"),
        (
            Labels("target", [[1.0, 2.0]] * 2),
            {"labels": "values", "mean": [0.0], "spread": [1.0]},
            "has 2 numbers an example, and the model answers 1",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(source, state, sentence):
    with pytest.raises(UserError) as error:
        aligned(source, state, data="d")
    assert sentence in str(error.value)


def test_vectors_with_a_single_one_each_are_read_as_several_classes_when_asked(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": [0, 1]}\n{"text": "b", "label": [1, 0]}\n')
    state = {"labels": "multi", "classes": ["0", "1"]}
    with pytest.raises(
        UserError, match=r"any number of classes an example; --data\.label_type=multi reads the labels so"
    ):
        aligned(Jsonl(str(tmp_path / "a.jsonl")), state, data="d")
    asked = Jsonl(str(tmp_path / "a.jsonl"), Jsonl.Config(label_type="multi"))
    assert of_all(aligned(asked, state, data="d"), "labels") == ((2,), [[0, 1], [1, 0]])
