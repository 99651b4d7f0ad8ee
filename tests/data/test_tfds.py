"""Data sets as TensorFlow Datasets prepares them: made here by its own writer, read without its readers."""

import time

import numpy as np
import pytest
import tensorflow as tf

from tfpt.data.tfds import Tfds
from tfpt.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets, of the extra [tfds], is not installed")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two data sets: pictures of four classes in two splits, and texts."""
    folder = tmp_path_factory.mktemp("prepared")
    pictures = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 1)),
            "label": tfds.features.ClassLabel(names=["oak", "elm", "ash", "fir"]),
        }
    )
    tagged = tfds.features.FeaturesDict(
        {
            "tokens": tfds.features.Sequence(tfds.features.Text()),
            "ner": tfds.features.Sequence(tfds.features.ClassLabel(names=["O", "B-X"])),
        }
    )
    asked = tfds.features.FeaturesDict(
        {
            **dict.fromkeys(("question", "context"), tfds.features.Text()),
            "answers": tfds.features.Sequence({"text": tfds.features.Text(), "answer_start": np.int32}),
        }
    )
    questions = [
        {"question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}},
        {"question": "r", "context": "a b", "answers": {"text": [], "answer_start": []}},
    ]
    texts = tfds.features.FeaturesDict({"sentence": tfds.features.Text(), "score": np.float32, "idx": np.int64})

    def shades(start, count):
        return [(k, {"image": np.full((4, 4, 1), k, np.uint8), "label": k % 4}) for k in range(start, start + count)]

    for name, features, splits in (
        ("shades", pictures, {"train": shades(0, 40), "test": shades(40, 8)}),
        ("scores", texts, {"train": [(k, {"sentence": f"s{k}", "score": k / 2, "idx": k}) for k in range(10)]}),
        ("tagged", tagged, {"train": [(0, {"tokens": ["a", "b"], "ner": [1, 0]}), (1, {"tokens": ["c"], "ner": [0]})]}),
        ("asked", asked, {"train": list(enumerate(questions))}),
    ):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name, version="1.0.0", features=features, split_datasets=splits, data_dir=folder, config="small"
        )
    return folder


def source(prepared, name, **settings):
    return Tfds(name, Tfds.Config(folder=str(prepared), **settings))


def read(data):
    return list(tf.data.Dataset.range(data.info().size).map(data.example).as_numpy_iterator())


def test_the_examples_are_those_that_the_library_reads(prepared):
    data = source(prepared, "shades/small")
    before = sorted(prepared.rglob("*"))
    assert data.info().classes == ("ash", "elm", "fir", "oak") and data.info().origin == "tfds shades/small/1.0.0"
    assert data.index().splits == ["train"] * 40 + ["test"] * 8 and data.index().names[40] == "test:1"
    own = [(int(tf.io.decode_image(row["image"])[0, 0, 0]), data.info().classes[row["label"]]) for row in read(data)]
    names = ("oak", "elm", "ash", "fir")
    for part, mine in (("train", own[:40]), ("test", own[40:])):
        theirs = tfds.load("shades/small", split=part, data_dir=prepared, download=False).as_numpy_iterator()
        assert mine == [(int(row["image"][0, 0, 0]), names[row["label"]]) for row in theirs]
    assert sorted(prepared.rglob("*")) == before and len(set(data.digests())) == 48


@pytest.mark.parametrize("part", ["train[:10]", "train[-5:]", "train[25%:50%]", "train[:2]+test"])
def test_parts_are_those_of_the_library(prepared, part):
    data = source(prepared, "shades", split=part)
    theirs = tfds.load("shades/small", split=part, data_dir=prepared, download=False).as_numpy_iterator()
    assert [int(tf.io.decode_image(row["image"])[0, 0, 0]) for row in read(data)] == [
        row["image"][0, 0, 0] for row in theirs
    ]
    assert set(data.index().splits) == {""} and data.index().names[0] == f"{part}:1"


def test_named_parts_and_a_folder(prepared):
    data = Tfds(
        str(prepared / "shades" / "small" / "1.0.0"), Tfds.Config(split="train=train[:30],validation=train[30:]")
    )
    assert data.index().splits == ["train"] * 30 + ["validation"] * 10


def test_texts_and_numbers(prepared):
    data = source(prepared, "scores/small:1.0.0", label=("score",))
    assert data.info().features == {"text": "text", "target": "number"}
    assert {(row["text"].decode(), float(row["target"][0])) for row in read(data)} == {
        (f"s{k}", k / 2) for k in range(10)
    }
    with pytest.raises(UserError, match=r"which column is the label.*idx, score, sentence"):
        source(prepared, "scores").info()


def test_tags_and_answers(prepared):
    data = source(prepared, "tagged", tokens="tokens", tags="ner")
    assert data.info().classes == ("O", "B-X")
    assert {(row["text"], *row["tags"]) for row in read(data)} == {(b"a b", 1, 0), (b"c", 0)}
    found = {(row["question"], row["answer_text"], int(row["answer_start"])) for row in read(source(prepared, "asked"))}
    assert found == {(b"q", b"b", 2), (b"r", b"", -1)}


def test_refused(prepared):
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"^--data=tfds:mnist is not prepared in .*`tfds build mnist`"):
        source(prepared, "mnist").info()
    assert time.perf_counter() - start < 5
    with pytest.raises(UserError, match=r"--data\.split=dev is not a part of it .*; it has train, test\."):
        source(prepared, "shades", split="dev").info()
    with pytest.raises(UserError, match=r"--data=tfds needs a name"):
        Tfds("")
    with pytest.raises(ValueError, match="does not say once for each part"):
        Tfds.Config(split="train,test")
