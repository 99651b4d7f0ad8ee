"""CoNLL columns: sentences, splits, IOB1 and BIOES to IOB2, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from tfpt.config import Input
from tfpt.data.conll import Conll
from tfpt.errors import UserError
from tfpt.training.splits import split

DATA = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
German JJ B-NP B-MISC
# # O O

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""


def source(path, text, **config):
    path.write_text(text, "utf-8")
    return Conll(str(path), Conll.Config(**config))


def read(source):
    classes = source.info().classes
    dataset = tf.data.Dataset.range(source.info().size).map(source.example)
    assert dataset.element_spec == {"text": tf.TensorSpec([], tf.string), "tags": tf.TensorSpec([None], tf.int64)}
    return [(e["text"].decode(), [classes[t] for t in e["tags"]]) for e in dataset.as_numpy_iterator()]


def test_sentences(tmp_path):
    data = source(tmp_path / "a.txt", DATA)
    assert data.info().classes == ("O", "B-MISC", "B-ORG", "B-PER", "I-PER") and data.info().notes == ()
    assert read(data) == [
        ("EU rejects German #", ["B-ORG", "O", "B-MISC", "O"]),
        ("Peter Blackburn", ["B-PER", "I-PER"]),
    ]
    assert data.index().names == ["a.txt:3", "a.txt:10"] and data.index().labels is None
    assert len(set(data.digests())) == 2
    assert read(source(tmp_path / "b.txt", DATA.replace("\n", "\r\n").rstrip())) == read(data)


def test_columns(tmp_path):
    data = source(tmp_path / "a.txt", DATA, column="2")
    assert data.info().classes == ("#", "JJ", "NNP", "VBZ")
    tabs = source(tmp_path / "b.tsv", "1\tA\u00a0b\tB-X\n2\tc d\tI-X\n", token_column=2)
    assert read(tabs) == [("A\u00a0b c\u00a0d", ["B-X", "I-X"])]


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("I-A I-A O I-A", "B-A I-A O B-A"),
        ("I-A B-A I-A I-B", "B-A B-A I-A B-B"),
        ("B-A I-A B-A O", "B-A I-A B-A O"),
        ("S-A S-A B-A E-A", "B-A B-A B-A I-A"),
        ("B-A L-A I-A U-B", "B-A I-A B-A B-B"),
    ],
)
def test_entities_are_in_iob2(tmp_path, tags, wanted):
    text = "".join(f"w {tag}\n" for tag in tags.split())
    data = source(tmp_path / "a.txt", f"{text}\n{text}")
    assert [row[1] for row in read(data)] == [wanted.split()] * 2  # a sentence's end ends an entity
    assert len(data.info().notes) == (tags != wanted)


def test_names_of_the_original_files(tmp_path):
    for name, word in {"eng.train": "a", "eng.testa": "b", "eng.testb": "c"}.items():
        (tmp_path / name).write_text(f"{word} I-PER\nx O\n")
    data = Conll(str(tmp_path))
    assert data.index().splits == ["train", "validation", "test"] and data.index().names[1] == "eng.testa:1"
    splits = split(data.index(), data.digests(), Input(), classes=data.info().classes)
    assert np.concatenate([splits.train, splits.validation, splits.test]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "config", "message"),
    [
        ("", {}, "holds no sentences"),
        ("-DOCSTART- O\n\n", {}, "holds no sentences"),
        ("a O\nb\n", {}, "a.txt:2 has 1 columns where the first line has 2"),
        ("a\nb\n", {}, "a.txt:1 has 1 column, where a token and its tag"),
        ("a O\n", {"column": "3"}, "has 2 columns, where a token and its tag"),
    ],
)
def test_refused(tmp_path, text, config, message):
    with pytest.raises(UserError, match=message):
        source(tmp_path / "a.txt", text, **config).info()
    with pytest.raises(ValueError, match="column: first is not last or a number"):
        Conll.Config(column="first")
